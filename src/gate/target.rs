//! Which upstream and repository a request refers to.

use std::sync::Arc;

use super::{Ask, Gate, GateError};
use crate::oci::{Endpoint, ImageName, ImageReference, Reference, Repository, docker_hub_repository};
use crate::scope::Scope;
use crate::upstream::Upstream;

/// The upstream and the repository that a request is about, and for whom.
#[derive(Clone)]
pub struct Target {
    /// The registry to ask.
    pub upstream: Arc<Upstream>,
    /// By the upstream's own name, which is the name for policy.
    pub name: ImageName,
    /// Whose rules apply.
    pub scope: Scope,
}

impl Target {
    /// The name of what is asked for, for messages.
    pub fn describe(&self, reference: &Reference) -> String {
        match reference {
            Reference::Digest(digest) => format!("{}@{digest}", self.name),
            Reference::Tag(tag) => format!("{}:{tag}", self.name),
        }
    }
}

impl Gate {
    pub(super) fn target(&self, ask: &Ask) -> Result<Target, GateError> {
        let name = match &ask.route.endpoint {
            Endpoint::Base => return Err(GateError::NoUpstream { served: self.upstreams.names() }),
            Endpoint::Blob { name, .. }
            | Endpoint::Manifest { name, .. }
            | Endpoint::Referrers { name, .. }
            | Endpoint::Tags { name, .. } => name,
        };
        let (upstream, repository) = match &ask.route.ns {
            Some(ns) => {
                let upstream = self.upstreams.by_host(ns);
                let upstream = upstream.ok_or_else(|| GateError::UnknownUpstream {
                    asked: ns.to_string(),
                    served: self.upstreams.names(),
                })?;
                (upstream, without_own_prefix(name, upstream))
            }
            None => self.by_path(name)?,
        };
        self.serve(upstream, repository.as_str(), &ask.scope)
    }

    /// The target that an image reference means, for commands.
    ///
    /// # Errors
    /// When no such upstream is configured, or it does not serve the scope.
    pub fn target_of(&self, image: &ImageReference, scope: &Scope) -> Result<Target, GateError> {
        let upstream = self.upstreams.by_host(&image.name.host).ok_or_else(|| GateError::UnknownUpstream {
            asked: image.name.host.to_string(),
            served: self.upstreams.names(),
        })?;
        self.serve(upstream, image.name.repository.as_str(), scope)
    }

    fn serve(&self, upstream: &Arc<Upstream>, repository: &str, scope: &Scope) -> Result<Target, GateError> {
        if !upstream.serves(scope) {
            return Err(GateError::NotServed { upstream: upstream.host().to_string(), scope: scope.to_string() });
        }
        let host = upstream.host().clone();
        let repository = if host.is_docker_hub() { docker_hub_repository(repository) } else { repository.parse() }?;
        Ok(Target { upstream: upstream.clone(), name: ImageName { host, repository }, scope: scope.clone() })
    }

    /// `/v2/HOST/NAME/…` where the first component is an upstream's host or `path` alias; else the default upstream.
    fn by_path(&self, name: &Repository) -> Result<(&Arc<Upstream>, Repository), GateError> {
        if let Some((first, rest)) = name.as_str().split_once('/')
            && let Some(upstream) = self.upstreams.by_path(first)
        {
            return Ok((upstream, rest.parse()?));
        }
        let upstream = self.upstreams.default_upstream();
        let upstream = upstream.ok_or_else(|| GateError::NoUpstream { served: self.upstreams.names() })?;
        Ok((upstream, name.clone()))
    }
}

/// containerd with `override_path` names the upstream in the path too; any other path is the repository as it stands.
fn without_own_prefix(name: &Repository, upstream: &Arc<Upstream>) -> Repository {
    let rest = name.as_str().strip_prefix(upstream.host().as_str()).and_then(|rest| rest.strip_prefix('/'));
    rest.and_then(|rest| rest.parse().ok()).unwrap_or_else(|| name.clone())
}
