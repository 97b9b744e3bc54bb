//! Determines which token services belong to a registry.

use std::net::IpAddr;

/// Whether two hosts belong to the same site: they are equal, one is a parent domain of the other, or they are siblings
/// under a domain that is not open to public registration. This is conservative; the operator lists other hosts in
/// `realms`. The public suffix list was considered: it is far larger than this, and would only add trust that `realms`
/// can grant by name.
pub(in crate::upstream) fn is_same_site(registry: &str, realm: &str) -> bool {
    let (registry, realm) = (registry.to_ascii_lowercase(), realm.to_ascii_lowercase());
    if registry == realm {
        return true;
    }
    if [&registry, &realm].iter().any(|host| host.starts_with('[') || host.parse::<IpAddr>().is_ok()) {
        return false;
    }
    let parent = |host: &str| host.split_once('.').map(|(_, parent)| parent.to_owned()).unwrap_or_default();
    let site = if parent(&registry) == parent(&realm) {
        parent(&registry)
    } else if parent(&registry) == realm {
        realm
    } else if parent(&realm) == registry {
        registry
    } else {
        return false;
    };
    site.contains('.') && !is_shared(&site)
}

/// Domains whose subdomains belong to different owners: country second-level domains, hosting services, cluster
/// services.
fn is_shared(site: &str) -> bool {
    let labels: Vec<&str> = site.split('.').collect();
    let is_country = matches!(&*labels, [second, country] if country.len() == 2 && SECOND_LEVELS.contains(second));
    let is_hosting =
        |known: &&str| site.strip_suffix(*known).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    is_country || HOSTING.iter().any(is_hosting)
}

const SECOND_LEVELS: [&str; 22] = [
    "ac", "co", "com", "ed", "edu", "gob", "go", "gov", "gouv", "gv", "id", "in", "ltd", "me", "mil", "ne", "net",
    "nom", "or", "org", "plc", "web",
];

const HOSTING: [&str; 32] = [
    "aliyuncs.com",
    "amazonaws.com",
    "appspot.com",
    "azurecr.io",
    "azurefd.net",
    "azurewebsites.net",
    "cloudapp.azure.com",
    "cloudapp.net",
    "cloudfront.net",
    "cluster.local",
    "digitaloceanspaces.com",
    "duckdns.org",
    "fastly.net",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "herokuapp.com",
    "jfrog.io",
    "myqcloud.com",
    "netlify.app",
    "ngrok.app",
    "ngrok.io",
    "nip.io",
    "onrender.com",
    "pages.dev",
    "r2.dev",
    "run.app",
    "sslip.io",
    "vercel.app",
    "web.app",
    "windows.net",
    "workers.dev",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites() {
        for (registry, realm, same) in [
            ("registry-1.docker.io", "auth.docker.io", true),
            ("ghcr.io", "ghcr.io", true),
            ("registry.gitlab.com", "gitlab.com", true),
            ("us.icr.io", "icr.io", true),
            ("GHCR.io", "ghcr.IO", true),
            ("registry.acme.com", "auth.acme.com", true),
            ("registry.acme.com", "evil.com", false),
            ("registry.acme.com", "acme.com.evil.io", false),
            ("registry.acme.com", "xacme.com", false),
            ("registry.acme.com", "com", false),
            ("a.b.acme.com", "acme.com", false),
            ("acme.com", "evil.com", false),
            ("acme.co.uk", "evil.co.uk", false),
            ("acme.co.uk", "co.uk", false),
            ("one.azurecr.io", "two.azurecr.io", false),
            ("a.s3.amazonaws.com", "b.s3.amazonaws.com", false),
            ("registry.a.svc.cluster.local", "auth.a.svc.cluster.local", false),
            ("10.0.0.1", "10.0.0.2", false),
            ("1.2.3.4", "2.3.4", false),
            ("[::1]", "[::2]", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("localhost", "other", false),
            ("docker.io", "docker.io.", false),
        ] {
            assert_eq!(is_same_site(registry, realm), same, "{registry} {realm}");
        }
    }
}
