//! Docker Content Trust: signatures of tags, which a notary server keeps alongside the registry.
//!
//! Everything that a server says is verified up to a root that the operator pinned, or that was remembered when it was
//! first seen, where that was asked for. A document older than a previously verified one is refused, even after a
//! restart. A tag means the digest that is signed for it: the role `targets/releases` takes precedence over `targets`,
//! as in the docker command. Signers that a policy names must all have signed the same digest with their pinned keys.

mod anchor;
mod client;
mod decide;
mod history;
mod remembered;
mod repository;
mod roots;
mod update;
mod work;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use super::pin::Pin;
use super::scheme::{AuthorityResult, Consultation, ForgottenVersion, PinQuestion, SignatureScheme};
use super::source::{RegistryServices, SourceError};
use super::{Config, TrustServices};
use crate::oci::ImageName;
use crate::policy::{Authority, NotaryTrust, Scheme, SignatureFinding, TrustOutcome};
use crate::store::{NotaryRole, StoreError};
use client::NotaryClient;
use decide::Limited;
pub use remembered::{RememberedRoot, remembered_roots};
use repository::{KnownRepository, Repositories, TrustedRepository};

const NAME: &str = "notary";
const HOW_TO_PIN: &str = "pin the root: notary: {root: {file: root.json}}, with the file that `notary` keeps in \
     ~/.notary/tuf/GUN/metadata or docker in ~/.docker/trust/tuf/GUN/metadata; or trust what is seen first: firstUse: \
     remember, or [trust] first_use = \"remember\"";

/// Why nothing is known about the signatures of a repository.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
enum NotaryError {
    /// The server's documents do not verify. The text names the role.
    #[error("{0}")]
    Invalid(String),
    /// The server has nothing about the repository.
    #[error("{host} does not have trust data for {gun}")]
    NoTrustData {
        /// The host of the server.
        host: String,
        /// The name of the repository.
        gun: String,
    },
    /// The server, or the store, does not answer.
    #[error("unable to reach trust server at this time: {0}")]
    Unavailable(SourceError),
    /// Nothing can be verified as configured. The text says what to configure.
    #[error("{0}")]
    Unconfigured(String),
}

impl NotaryError {
    /// No root is trusted for a repository.
    fn no_root(gun: &str) -> Self {
        Self::Unconfigured(format!("no root is trusted for {gun}; {HOW_TO_PIN}"))
    }
}

/// Docker Content Trust.
pub(super) struct Notary {
    repositories: Repositories,
}

impl Notary {
    pub(super) fn new(config: &Config, services: &TrustServices) -> Self {
        Self { repositories: Repositories::new(config, services) }
    }

    /// What is known about a repository for an authority.
    async fn repository(
        &self,
        authority: &Authority,
        name: &ImageName,
        services: &dyn RegistryServices,
    ) -> (Arc<KnownRepository>, String) {
        let client = trust(authority).and_then(|trust| NotaryClient::new(trust, name, services).map(|c| (trust, c)));
        match client {
            Ok((trust, client)) => {
                let place = client.place();
                (self.repositories.get(trust, &client).await, place)
            }
            Err(error) => (self.repositories.failed(error), name.to_string()),
        }
    }

    async fn outcome(&self, question: Consultation<'_>) -> AuthorityResult {
        let Consultation { authority, name, reference, image, services } = question;
        let (known, place) = self.repository(authority, name, services).await;
        let (now, mut until) = (self.repositories.now(), known.until);
        let refused = |why: String, hint: Option<&str>| {
            let finding = SignatureFinding::refused(&place, "Docker Content Trust", why);
            let finding = if let Some(hint) = hint { finding.with_hint(hint) } else { finding };
            TrustOutcome::Unverified { found: vec![finding] }
        };
        let outcome = match &known.result {
            Ok(repository) => match decide::signatories(repository, authority, reference, image, now) {
                Ok(Limited { value: by, until: limit }) => {
                    until = until.min(limit.unwrap_or(until));
                    let found = |one: &crate::policy::Signatory| {
                        SignatureFinding::verified(&place, "Docker Content Trust", &one.id)
                    };
                    TrustOutcome::Verified { found: by.iter().map(found).collect(), by, unseen: None }
                }
                Err(why) => refused(why, Some("sign the tag: docker trust sign REPOSITORY:TAG")),
            },
            Err(error @ NotaryError::NoTrustData { .. }) => {
                refused(error.to_string(), Some("sign the image: docker trust sign REPOSITORY:TAG"))
            }
            Err(NotaryError::Invalid(why)) => refused(why.clone(), None),
            Err(error @ NotaryError::Unavailable(source)) => TrustOutcome::unknown(error.to_string(), source.temporary),
            Err(NotaryError::Unconfigured(why)) => TrustOutcome::unknown(why, false),
        };
        AuthorityResult { outcome, until: Some(until) }
    }
}

impl SignatureScheme for Notary {
    fn name(&self) -> &'static str {
        NAME
    }

    fn is_attached(&self) -> bool {
        false
    }

    fn depends_on_reference(&self, _: &Authority) -> bool {
        true
    }

    fn consult<'a>(&'a self, question: Consultation<'a>) -> Option<BoxFuture<'a, AuthorityResult>> {
        Some(Box::pin(self.outcome(question)))
    }

    fn forget<'a>(&'a self, place: &'a str) -> BoxFuture<'a, Result<Vec<ForgottenVersion>, StoreError>> {
        let of_role = |NotaryRole { role, version, .. }| ForgottenVersion { part: role, version };
        Box::pin(async move { Ok(self.repositories.forget(place).await?.into_iter().map(of_role).collect()) })
    }

    fn pin<'a>(&'a self, question: PinQuestion<'a>) -> Option<BoxFuture<'a, Result<Option<Pin>, SourceError>>> {
        let PinQuestion { authority, name, tag, services } = question;
        Some(Box::pin(async move {
            let (known, _) = self.repository(authority, name, services).await;
            match &known.result {
                Ok(repository) => {
                    let now = self.repositories.now();
                    let signed = decide::signed_digest(repository, authority, tag, now).ok();
                    Ok(signed.map(|Limited { value: digest, until }| {
                        let until = known.until.min(until.unwrap_or(known.until));
                        Pin { digest, until }
                    }))
                }
                Err(NotaryError::Unavailable(error)) => Err(error.clone()),
                // Nothing is signed as far as can be known; the evidence says why.
                Err(_) => Ok(None),
            }
        }))
    }
}

fn trust(authority: &Authority) -> Result<&NotaryTrust, NotaryError> {
    match authority.scheme() {
        Scheme::Notary(trust) => Ok(trust),
        _ => Err(NotaryError::Unconfigured("the authority is not one of Docker Content Trust".into())),
    }
}

fn after(now: Timestamp, time: SignedDuration) -> Timestamp {
    now.saturating_add(time).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
