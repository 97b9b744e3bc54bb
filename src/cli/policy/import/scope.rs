//! The scopes of containers/image: parts of a policy that apply to a host, a namespace, a repository or one reference
//! (containers-policy.json(5), `docker:`).

use crate::oci::{DOCKER_HUB, DOCKER_HUB_NAMES, Host, is_registry};

/// A scope of the `docker` transport that matches something.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct DockerScope(String);

impl DockerScope {
    /// Reads a scope as written in a file.
    ///
    /// # Errors
    /// Why the scope matches no image, as the end of a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(domain) = text.strip_prefix("*.") {
            let is_domain = !domain.is_empty() && !domain.contains(['/', ':', '@', '*']);
            return if is_domain { Ok(Self(text.to_ascii_lowercase())) } else { Err("is not a wildcard for a domain") };
        }
        if text.contains('*') {
            return Err("has a * that is not the whole first label of a domain");
        }
        let (host, path) = text.split_once('/').map_or((text, None), |(host, path)| (host, Some(path)));
        if !is_registry(host) {
            return Err("does not begin with a registry's host; write names in full, as docker.io/library/busybox");
        }
        // They are Docker Hub for pullgate, but not for containers/image, which has scopes for `docker.io` only.
        if DOCKER_HUB_NAMES.iter().any(|name| *name != DOCKER_HUB && host.eq_ignore_ascii_case(name)) {
            return Err("is an alias of docker.io, which pullgate uses for all of its images");
        }
        let host: Host = host.parse().map_err(|_| "does not begin with the host of a registry")?;
        match path {
            None => Ok(Self(host.to_string())),
            Some(path) if host.is_docker_hub() && !path.contains('/') && path.contains([':', '@']) => {
                Err("is not the full name of an image on Docker Hub; write docker.io/library/NAME")
            }
            Some(path) => Ok(Self(format!("{host}/{path}"))),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The scope itself, and all wider ones, the most specific first (containers/image, `docker/policyconfiguration`).
    pub(super) fn lineage(&self) -> Vec<String> {
        let mut all = vec![self.0.clone()];
        if let Some(domain) = self.0.strip_prefix("*.") {
            all.extend(wildcards(domain));
            return all;
        }
        let mut name = self.repository();
        if name != self.0 {
            all.push(name.to_owned());
        }
        while let Some((parent, _)) = name.rsplit_once('/') {
            all.push(parent.to_owned());
            name = parent;
        }
        all.extend(wildcards(name.split(':').next().unwrap_or_default()));
        all
    }

    /// The scope without a tag and a digest.
    fn repository(&self) -> &str {
        let without_digest = self.0.split_once('@').map_or(&*self.0, |(name, _)| name);
        match without_digest.rsplit_once(':') {
            Some((name, tag)) if name.contains('/') && !tag.contains('/') => name,
            _ => without_digest,
        }
    }

    /// The names of entries that together match what the scope matches.
    pub(super) fn patterns(&self) -> Vec<String> {
        let scope = &self.0;
        if scope.starts_with("*.") {
            return vec![format!("{scope}/*"), format!("{scope}:*/*")];
        }
        match scope.split_once('/') {
            None => vec![format!("{scope}/*")],
            Some(_) if self.repository() != scope => vec![scope.clone()],
            // docker.io/NAME is a namespace; as an image it would be short for docker.io/library/NAME.
            Some(("docker.io", path)) if !path.contains('/') => vec![format!("{scope}/*")],
            Some(_) => vec![scope.clone(), format!("{scope}/*")],
        }
    }
}

/// `*.DOMAIN` for all domains above a host name.
fn wildcards(host: &str) -> impl Iterator<Item = String> {
    let parents = std::iter::successors(Some(host), |name| name.split_once('.').map(|(_, parent)| parent));
    parents.skip(1).map(|domain| format!("*.{domain}"))
}
