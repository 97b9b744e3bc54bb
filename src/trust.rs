//! Trust: who signed an image. Signatures are looked for in the image's own repository and verified offline.
//!
//! [`verify`] finds out and says what it found; it has no opinion, and no rule reaches it. It never asks a transparency
//! log, a certificate authority or any other service, and never reads another repository than the image's: a claim made
//! in one repository never speaks for another. A registry that does not answer is [`TrustOutcome::Unknown`], never
//! "unsigned".

mod cosign;
mod discovery;
mod memo;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::oci::{Digest, ImageName, Manifest, Page, Reference, Repository};
use crate::policy::{Authority, AuthorityId, Scheme, TrustOutcome};
use crate::runtime::Tasks;
use cosign::Judge;
use discovery::{Rest, Search};
pub use memo::{Config, Trust};

/// The longest that signatures of one image are looked for.
const MAX_TIME: Duration = Duration::from_secs(60);

/// What trust reads from a registry.
pub trait SignatureSource: Send + Sync {
    /// A manifest of at most [`crate::oci::MAX_MANIFEST`] bytes; `None` when the registry says 404.
    fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> impl Future<Output = Result<Option<FetchedManifest>, SourceError>> + Send;

    /// A blob of at most `limit` bytes, verified against its digest; `None` when the registry says 404.
    fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        limit: usize,
    ) -> impl Future<Output = Result<Option<Bytes>, SourceError>> + Send;

    /// One page of the referrers of a digest, and the page after it; `None` when the registry does not have the
    /// referrers API: 404 (distribution-spec, "Listing Referrers"), and what older registries say instead. Every other
    /// failure is an error. The body is read whatever its type.
    fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        page: &Page,
    ) -> impl Future<Output = Result<Option<(Bytes, Option<Page>)>, SourceError>> + Send;
}

/// A manifest as a registry sent it, not parsed yet.
#[derive(Clone, Debug)]
pub struct FetchedManifest {
    /// The body.
    pub bytes: Bytes,
    /// The `Content-Type` header, where there is one.
    pub content_type: Option<String>,
}

/// Why a registry gave no answer. This is never "there is no signature".
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{why}")]
pub struct SourceError {
    /// What happened, for people.
    pub why: String,
    /// Whether another attempt may succeed.
    pub temporary: bool,
    /// How many bytes may have come all the same: where there were more than the limit, the limit.
    pub received: usize,
}

impl SourceError {
    fn new(why: impl Into<String>, temporary: bool) -> Self {
        Self { why: why.into(), temporary, received: 0 }
    }
}

/// What each authority says about the image of this manifest, in the order of `authorities`.
///
/// Signatures are fetched once for all authorities, and verified as they come; the search ends with the first that leave
/// nothing to find out. One that verifies is enough; those that fail are named with the reason. Cosign by key is verified
/// by this version; every other scheme is `Unknown`, which denies.
pub async fn verify(
    source: &impl SignatureSource,
    tasks: &Tasks,
    image: &ImageName,
    manifest: &Manifest,
    authorities: &[Arc<Authority>],
) -> Vec<(AuthorityId, TrustOutcome)> {
    let mut judge = Judge::new(manifest.clone(), authorities.to_vec());
    let mut search = Search::new(source, &image.repository, manifest.digest);
    let end = tokio::time::Instant::now() + MAX_TIME;
    while !judge.is_settled() {
        let found = match tokio::time::timeout_at(end, search.next()).await {
            Ok(Some(found)) => found,
            Ok(None) => break,
            Err(_) => {
                let why = format!("after {} s the rest was not looked at", MAX_TIME.as_secs());
                search.rest.gaps.push(SourceError::new(why, true));
                break;
            }
        };
        let hear = move || {
            judge.hear(found);
            judge
        };
        judge = match tasks.spawn_blocking(hear).await {
            Ok(judge) => judge,
            Err(_) => return authorities.iter().map(|authority| (authority.id().clone(), interrupted())).collect(),
        };
    }
    let rest = search.rest;
    authorities.iter().map(|authority| (authority.id().clone(), outcome(authority, &judge, &rest))).collect()
}

fn outcome(authority: &Authority, judge: &Judge, rest: &Rest) -> TrustOutcome {
    match authority.scheme() {
        Scheme::CosignKey { .. } => judge.outcome(authority, rest),
        Scheme::CosignKeyless { .. } => unverified_scheme("a cosign keyless signature"),
        Scheme::Gpg { .. } => unverified_scheme("an OpenPGP simple signature"),
        Scheme::Notation { .. } => unverified_scheme("a Notary Project signature"),
        Scheme::Notary { .. } => unverified_scheme("Docker Content Trust"),
        Scheme::Unusable { why } => TrustOutcome::Unknown { why: why.clone(), temporary: false },
    }
}

fn unverified_scheme(what: &str) -> TrustOutcome {
    TrustOutcome::Unknown { why: format!("{what} is not verified by this version"), temporary: false }
}

fn interrupted() -> TrustOutcome {
    TrustOutcome::Unknown { why: "the verification was interrupted".into(), temporary: true }
}

/// A reason short enough to keep, whatever an attacker wrote into what it quotes.
fn clip(mut reason: String) -> String {
    const MAX_REASON: usize = 300;
    if reason.len() > MAX_REASON {
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        reason.push('…');
    }
    reason
}

#[cfg(test)]
mod tests;
