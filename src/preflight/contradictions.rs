//! Settings that are valid but do not do what they are meant for.

use url::{Host, Url};

use super::PreflightFindings;
use crate::config::{Config, is_loopback, overlap};
use crate::markup::ProblemSeverity;
use crate::oci::{self, DOCKER_HUB_NAMES, Platform};
use crate::scope::Scope;
use crate::server::ProxyHeader;
use crate::upstream;
use crate::va;

/// Hosts of Docker Hub that the names of its images cannot have.
const HUB_SITES: [&str; 2] = ["hub.docker.com", "registry.hub.docker.com"];
/// Web sites of Docker Hub, which are not registries.
const WEB_SITES: [&str; 3] = ["docker.io", "hub.docker.com", "www.docker.com"];

pub(super) fn check(found: &mut PreflightFindings<'_>) {
    let config = found.config;
    for (index, listener) in config.listeners.iter().enumerate() {
        if listener.trusted_proxies.iter().any(|net| net.prefix_len() == 0) {
            let message = "every client can claim any address, in the audit file and for limits";
            let hint = "list only the addresses of the proxies";
            found.warn(&format!("listener[{index}].trusted_proxies"), message, Some(hint));
        }
        if listener.trusted_proxies.is_empty() && listener.proxy_header != ProxyHeader::default() {
            let message = match listener.proxy_header {
                ProxyHeader::ProxyProtocol => "no proxy is trusted, so every connection that begins with it is refused",
                ProxyHeader::Forwarded | ProxyHeader::XForwardedFor => "no proxy is trusted, so this header is ignored",
            };
            let hint = "list the addresses of the proxies in trusted_proxies";
            found.warn(&format!("listener[{index}].proxy_header"), message, Some(hint));
        }
    }
    let limits = &config.limits;
    if limits.max_connections_per_address.is_some_and(|most| most > limits.max_connections) {
        let message =
            format!("more than limits.max_connections, which is {}: it limits nothing", limits.max_connections);
        found.warn(
            "limits.max_connections_per_address",
            &message,
            Some("choose less, or raise limits.max_connections"),
        );
    }
    host_names(found, "admin.hosts", &config.admin.hosts);
    url_hosts(found, &config.gate.url_hosts);
    platforms(found, "gate.platforms", &config.gate.platforms);
    platforms(found, "prefetch.platforms", &config.prefetch.platforms);
    for (index, upstream) in config.upstreams.iter().enumerate() {
        self::upstream(found, &config.places.item("upstream", index), upstream);
    }
    if let Some(ibm) = &config.va.ibm {
        ibm_hosts(found, ibm);
    }
}

/// Notes that IBM is asked about no image.
fn ibm_hosts(found: &mut PreflightFindings<'_>, ibm: &va::ibm::Config) {
    // A host that cannot be read is a mistake that was reported.
    let is_reported = ibm.hosts.iter().any(|host| va::ibm::check_host(host).is_err());
    if is_reported || found.config.upstreams.iter().any(|upstream| ibm.serves(&upstream.host)) {
        return;
    }
    let which = match &ibm.hosts[..] {
        [] => "no host is named".to_owned(),
        hosts => format!("no [[upstream]] has one of these hosts ({})", hosts.join(", ")),
    };
    let message = format!("{which}, so IBM is asked about no image");
    let hint = "add an [[upstream]], such as icr.io, or correct the hosts";
    found.add(ProblemSeverity::Note, "va.ibm.hosts", &message, Some(hint));
}

fn upstream(found: &mut PreflightFindings<'_>, table: &str, upstream: &upstream::Config) {
    let config = found.config;
    let is_hub = upstream.host.is_docker_hub() || upstream.aliases.iter().any(oci::Host::is_docker_hub);
    if !is_hub && DOCKER_HUB_NAMES.iter().chain(&HUB_SITES).any(|name| *name == upstream.host.as_str()) {
        let message = format!("{} serves Docker Hub, whose images are called docker.io/…", upstream.host);
        let hint = "write host = \"docker.io\" and url = \"https://registry-1.docker.io\"";
        found.warn(&format!("{table}.host"), &message, Some(hint));
    }
    if !upstream.stale_for.is_zero() && upstream.stale_for <= upstream.tag_ttl {
        let message =
            "not longer than tag_ttl, so by the time that a tag is checked again it is already too old to be served";
        found.warn(
            &format!("{table}.stale_for"),
            message,
            Some("choose more, or 0s to serve no tag while the registry is down"),
        );
    }
    host_names(found, &format!("{table}.realms"), &upstream.realms);
    let url = Url::parse(&upstream.url).ok().filter(|_| !upstream.offline);
    if let Some(listener) = url.as_ref().and_then(|url| own_listener(config, url)) {
        let message = format!("this is listener[{listener}] of the gate itself, so its requests come back to it");
        found.warn(&format!("{table}.url"), &message, Some("write the address of the registry"));
    }
    if let Some((message, hint)) = url.as_ref().and_then(url_problem) {
        found.warn(&format!("{table}.url"), &message, Some(hint));
    }
    if upstream.serve_to.as_ref().is_some_and(|scopes| !has_any(config, scopes)) {
        let message = "no listener has one of these scopes, so no client can pull from this registry";
        let hint = "set `scope` of a listener, or `client_names` of its tls";
        found.warn(&format!("{table}.serve_to"), message, Some(hint));
    }
}

/// Reports what can never be the host of a URL.
fn host_names(found: &mut PreflightFindings<'_>, key: &str, names: &[String]) {
    for name in names.iter().filter(|name| !is_host(name)) {
        let hint = "write the host alone, without scheme, port, path and `*`, such as auth.acme.com";
        found.warn(key, &format!("{name:?} is not the name of a host, so it matches nothing"), Some(hint));
    }
}

fn is_host(name: &str) -> bool {
    !name.contains('*') && Host::parse(name).is_ok()
}

/// Reports values that can never equal the host and port of a URL, which are compared as written.
fn url_hosts(found: &mut PreflightFindings<'_>, names: &[String]) {
    let has_port =
        |name: &str| name.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok());
    for name in names.iter().filter(|name| !is_host(name) && !has_port(name)) {
        let hint = "write the host, and its port if the URL has one, without scheme, path and `*`: mcr.microsoft.com";
        found.warn("gate.url_hosts", &format!("{name:?} is not the name of a host, so it matches nothing"), Some(hint));
    }
}

/// Reports platforms that no image has.
fn platforms(found: &mut PreflightFindings<'_>, key: &str, platforms: &[Platform]) {
    for platform in platforms.iter().filter(|platform| !platform.is_of_go()) {
        let message = format!("no image is for {platform}: Go has no operating system or architecture of this name");
        found.warn(key, &message, Some("such as linux/amd64, linux/arm64, linux/arm/v7"));
    }
}

/// Why a registry will not answer at a URL as it should, and what to write.
fn url_problem(url: &Url) -> Option<(String, &'static str)> {
    let host = url.host_str()?;
    if WEB_SITES.contains(&host) {
        let message = format!("{host} is the website of Docker Hub, not its registry");
        return Some((message, "write url = \"https://registry-1.docker.io\""));
    }
    if matches!(url.path().trim_end_matches('/').rsplit('/').next(), Some("v1" | "v2")) {
        return Some(("the gate itself adds /v2/ to it".to_owned(), "write the URL without it"));
    }
    let is_local = is_loopback(&format!("{host}:1"));
    let message = "no TLS: anyone on the network path can change what tags mean and read the credentials";
    (url.scheme() == "http" && !is_local).then(|| (message.to_owned(), "use https:// if the registry offers it"))
}

/// The listener to which requests for an upstream would go, on this machine.
fn own_listener(config: &Config, url: &Url) -> Option<usize> {
    let address = format!("{}:{}", url.host_str()?, url.port_or_known_default()?);
    // Another machine may have the same port as a listener on all addresses.
    let is_own = |listener: &str| listener == address || is_loopback(&address) && overlap(listener, &address);
    config.listeners.iter().position(|listener| is_own(&listener.address))
}

/// Whether clients of some listener have one of these scopes.
fn has_any(config: &Config, scopes: &[Scope]) -> bool {
    config.listeners.iter().any(|listener| {
        let named = listener.tls.iter().flat_map(|tls| tls.client_names.values());
        listener.scope.iter().chain(named).any(|scope| scopes.contains(scope))
    })
}
