//! Determines the upstream and repository of a request.
//!
//! The upstream is named by the `ns` parameter (containerd), or by the first component of the path: its host or its
//! `path` alias. All other paths belong to the default upstream.

use std::net::IpAddr;
use std::sync::Arc;

use super::{GateError, GateRequest};
use crate::oci::{Host, ImageName, ImageReference, Reference, Repository, RequestedName, docker_hub_repository};
use crate::policy::ExemptionScope;
use crate::scope::Scope;
use crate::upstream::{Upstream, Upstreams};

/// The upstream, repository and scope of a request.
#[derive(Clone)]
pub struct Target {
    /// The upstream registry.
    pub upstream: Arc<Upstream>,
    /// The image name with the upstream's own host name, which is the name that policies use.
    pub name: ImageName,
    /// The scope whose rules apply.
    pub scope: Scope,
    /// Whether only known facts count: no registry or service is asked, and no layers are read.
    pub(super) known_only: bool,
}

impl Target {
    /// The name of the requested reference, for messages.
    pub fn describe(&self, reference: &Reference) -> String {
        self.name.with_reference(reference)
    }
}

/// Determines the upstream and repository of requests. Cheap to clone.
#[derive(Clone)]
pub(super) struct Router {
    upstreams: Arc<Upstreams>,
}

impl Router {
    pub(super) fn new(upstreams: Arc<Upstreams>) -> Self {
        Self { upstreams }
    }

    /// The hosts of the upstreams that are offline.
    pub(super) fn offline_hosts(&self) -> Vec<Host> {
        self.upstreams.offline_hosts()
    }

    /// The target of a request.
    ///
    /// # Errors
    /// If the request names no configured upstream, or one that does not serve the scope.
    pub(super) fn target(&self, request: &GateRequest) -> Result<Target, GateError> {
        let name = request.endpoint.name();
        let (upstream, repository) = match &request.ns {
            Some(ns) => {
                let upstream = self.by_host(ns)?;
                let repository = without_own_prefix(name, &upstream);
                (upstream, repository)
            }
            None => self.by_path(name)?,
        };
        serve(upstream, repository.as_str(), &request.scope)
    }

    /// An image as an operator writes it.
    ///
    /// # Errors
    /// It is not a valid name, or clients mean another image by it: they write the `path` of an upstream where its host
    /// belongs.
    pub(super) fn image(&self, text: &str) -> Result<ImageReference, GateError> {
        let image: ImageReference = text.parse()?;
        let is_of_hub = image.name.host.is_docker_hub() && self.upstreams.by_host(&image.name.host).is_some();
        let Some((first, rest)) = text.split_once('/').filter(|_| is_of_hub) else { return Ok(image) };
        let by_path = self.upstreams.by_path(first).filter(|it| it.config().path.as_deref() == Some(first));
        let Some(upstream) = by_path else { return Ok(image) };
        let clients: ImageReference = format!("{}/{rest}", upstream.host()).parse()?;
        if clients.name == image.name {
            return Ok(image);
        }
        let (clients, short) = (clients.to_string(), image.to_string());
        Err(GateError::UnclearName { asked: text.to_owned(), clients, short })
    }

    /// The target of an image reference.
    ///
    /// # Errors
    /// If no such upstream is configured, or it does not serve the scope.
    pub(super) fn target_of(&self, image: &ImageReference, scope: &Scope) -> Result<Target, GateError> {
        serve(self.by_image(&image.name)?, image.name.repository.as_str(), scope)
    }

    /// The target of an image reference for an operator, who may name images of every upstream.
    ///
    /// # Errors
    /// If no such upstream is configured.
    pub(super) fn operator_target(&self, image: &ImageReference) -> Result<Target, GateError> {
        target(self.by_image(&image.name)?, image.name.repository.as_str(), &Scope::CLUSTER)
    }

    /// The target for judging an image again with what is known; `None` if the upstream is no longer configured.
    pub(super) fn known_target(&self, name: &ImageName, scope: &Scope) -> Option<Target> {
        let upstream = self.upstreams.by_host(&name.host)?;
        Some(Target { upstream, name: name.clone(), scope: scope.clone(), known_only: true })
    }

    /// A scope that names a registry must name it as policies do: by the host of an upstream, and not by an alias.
    ///
    /// # Errors
    /// A message with the right name.
    pub(super) fn check_scope(&self, scope: &ExemptionScope) -> Result<(), String> {
        let Some(asked) = scope.registry() else { return Ok(()) };
        let upstream = self.upstreams.by_host(asked).filter(|upstream| upstream.host() != asked);
        let Some(upstream) = upstream else { return Ok(()) };
        let ((_, rest), host) = (scope.first_and_rest(), upstream.host());
        Err(format!("{asked} is another name of {host}, by which policies and exemptions know it; write {host}/{rest}"))
    }

    /// A warning about a scope that may be a mistake: it names a registry that is not an upstream, or begins with the
    /// `path` of an upstream, which exemptions do not use.
    pub(super) fn doubt_about(&self, scope: &ExemptionScope) -> Option<String> {
        if let Some(asked) = scope.registry() {
            let is_unknown = self.upstreams.by_host(asked).is_none();
            return is_unknown.then(|| format!("{asked} is not an upstream of this gate"));
        }
        let (first, rest) = scope.first_and_rest();
        let upstream = self.upstreams.by_path(&first).filter(|upstream| upstream.host().as_str() != first)?;
        Some(format!(
            "it means the namespace {first} in every registry; for the upstream, write {}/{rest}",
            upstream.host()
        ))
    }

    /// The beginning of names of images, with an upstream's own host in place of an alias.
    pub(super) fn without_alias(&self, beginning: &str) -> String {
        let (first, rest) = beginning.split_at(beginning.find('/').unwrap_or(beginning.len()));
        let upstream = first.parse().ok().and_then(|host| self.upstreams.by_host(&host));
        upstream.map_or_else(|| beginning.to_owned(), |upstream| format!("{}{rest}", upstream.host()))
    }

    /// The upstream of an image that an operator names.
    fn by_image(&self, name: &ImageName) -> Result<Arc<Upstream>, GateError> {
        self.by_host(&name.host).map_err(|error| match self.meant_by(name) {
            near if near.is_empty() => error,
            near => GateError::UnknownUpstream { asked: name.host.to_string(), near },
        })
    }

    /// The names of images that may be meant by one whose registry is not an upstream, besides a misspelt host.
    ///
    /// Clients write the `path` of an upstream where its host belongs, and nothing for the default upstream; a name
    /// without a host is one of Docker Hub. Where names of clients are copied from, they begin with an address or a
    /// name of the gate.
    fn meant_by(&self, name: &ImageName) -> Vec<String> {
        let (host, repository) = (&name.host, name.repository.as_str());
        let of_client = host.is_docker_hub() || is_address(host);
        let full = |upstream: &Upstream, repository: &str| format!("{}/{repository}", upstream.host());
        if let Some((first, rest)) = repository.split_once('/')
            && let Some(upstream) = self.upstreams.by_path(first)
        {
            let is_host = first.parse().is_ok_and(|first| upstream.config().has_name(&first));
            // Otherwise, the host is more likely misspelt.
            let is_meant = of_client || is_host || self.upstreams.near(host.as_str()).is_empty();
            return if is_meant { vec![full(&upstream, rest)] } else { Vec::new() };
        }
        let Some(upstream) = self.upstreams.default_upstream().filter(|_| of_client) else { return Vec::new() };
        // As a short name, `app` is one of `library` at Docker Hub, and only there.
        let short = repository.strip_prefix("library/").filter(|rest| host.is_docker_hub() && !rest.contains('/'));
        short.into_iter().chain([repository]).map(|repository| full(&upstream, repository)).collect()
    }

    fn by_host(&self, host: &Host) -> Result<Arc<Upstream>, GateError> {
        self.upstreams.by_host(host).ok_or_else(|| {
            // The given name may be the `path` of an upstream, which is not one of its names here.
            let meant = self.upstreams.by_path(host.as_str()).map(|upstream| vec![upstream.host().to_string()]);
            let near = meant.unwrap_or_else(|| self.upstreams.near(host.as_str()));
            GateError::UnknownUpstream { asked: host.to_string(), near }
        })
    }

    /// For `/v2/HOST/NAME/…`, the upstream whose host or `path` alias is the first component; otherwise the default
    /// upstream.
    fn by_path(&self, name: &RequestedName) -> Result<(Arc<Upstream>, Repository), GateError> {
        let (first, rest) = name.as_str().split_once('/').unwrap_or((name.as_str(), ""));
        if let Some(upstream) = self.upstreams.by_path(first).filter(|_| !rest.is_empty()) {
            return Ok((upstream, rest.parse()?));
        }
        let upstream = self.upstreams.default_upstream();
        let upstream = upstream.ok_or_else(|| GateError::NoUpstream { near: self.upstreams.near(first) })?;
        Ok((upstream, name.as_repository().clone()))
    }
}

/// Whether this is an address, or a name of the same machine, and hardly that of a registry.
fn is_address(host: &Host) -> bool {
    let text = host.as_str();
    // An IPv6 address has colons of its own, and is in brackets.
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let name = bracketed.or_else(|| text.split_once(':')).map_or(text, |(name, _)| name);
    name == "localhost" || name.parse::<IpAddr>().is_ok()
}

fn serve(upstream: Arc<Upstream>, repository: &str, scope: &Scope) -> Result<Target, GateError> {
    if !upstream.serves(scope) {
        return Err(GateError::NotServed { upstream: upstream.host().to_string(), scope: scope.to_string() });
    }
    target(upstream, repository, scope)
}

fn target(upstream: Arc<Upstream>, repository: &str, scope: &Scope) -> Result<Target, GateError> {
    let host = upstream.host().clone();
    let repository = if host.is_docker_hub() { docker_hub_repository(repository) } else { repository.parse() }?;
    Ok(Target { upstream, name: ImageName { host, repository }, scope: scope.clone(), known_only: false })
}

/// With `override_path`, containerd also names the upstream in the path; any other path is the repository unchanged.
fn without_own_prefix(name: &RequestedName, upstream: &Arc<Upstream>) -> Repository {
    let rest = name.as_str().strip_prefix(upstream.host().as_str()).and_then(|rest| rest.strip_prefix('/'));
    rest.and_then(|rest| rest.parse().ok()).unwrap_or_else(|| name.as_repository().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_names_of_registries() {
        for (host, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1", true),
            ("127.0.0.1:5000", true),
            ("[::1]", true),
            ("[::1]:5000", true),
            ("[2001:db8::1]", true),
            ("[2001:db8::1]:443", true),
            ("localhost.corp.example", false),
            ("registry.corp.example:5000", false),
            ("docker.io", false),
            ("10.example", false),
        ] {
            assert_eq!(is_address(&host.parse().unwrap()), expected, "{host}");
        }
    }
}
