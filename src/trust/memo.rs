//! Signature evidence, memoised by repository, digest and authorities.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::cosign::is_settled;
use super::{FetchedManifest, SignatureSource, SourceError, verify};
use crate::oci::{Digest, ImageName, MAX_MANIFEST, Manifest, Page, Reference, Repository};
use crate::policy::{Authority, Observed, Scheme, TrustEvidence, TrustOutcome};
use crate::runtime::{Clock, Tasks};
use crate::store::{Memo, Store};
use crate::upstream::{self, Upstream};

/// How long evidence holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// How long it is relied on that no signature was found: a new one is seen after that.
    pub negative_ttl: SignedDuration,
    /// How long a signature whose validity does not follow from bytes and keys alone is relied on.
    pub ttl: SignedDuration,
}

impl Default for Config {
    fn default() -> Self {
        Self { negative_ttl: SignedDuration::from_secs(60), ttl: SignedDuration::from_hours(24) }
    }
}

/// How long a registry that did not answer is left alone.
const TROUBLE_TTL: SignedDuration = SignedDuration::from_secs(2);

/// Asks authorities about manifests, and remembers what they say.
pub struct Trust {
    config: Config,
    memo: Memo<Outcomes>,
    clock: Clock,
    tasks: Tasks,
}

/// What each authority says, by its identity. A row of a version that wrote it otherwise cannot be read, so it is
/// gathered again.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
struct Outcomes(BTreeMap<String, TrustOutcome>);

impl Outcomes {
    fn is_known(&self) -> bool {
        !self.0.values().any(|outcome| matches!(outcome, TrustOutcome::Unknown { temporary: true, .. }))
    }
}

impl Trust {
    /// A front of the verifiers.
    pub fn new(config: Config, store: Store, clock: Clock, tasks: Tasks) -> Self {
        let memo = Memo::new("trust", store, clock.clone(), tasks.clone());
        Self { config, memo, clock, tasks }
    }

    /// What the authorities say about a manifest of this repository. Asked for by many at once, it is found out once.
    pub async fn evidence(
        &self,
        upstream: &Arc<Upstream>,
        image: &ImageName,
        manifest: &Arc<Manifest>,
        authorities: &[Arc<Authority>],
    ) -> TrustEvidence {
        let mut evidence = TrustEvidence::default();
        if authorities.is_empty() {
            return evidence;
        }
        let (config, clock, tasks) = (self.config, self.clock.clone(), self.tasks.clone());
        let (upstream, name, subject, asked) =
            (upstream.clone(), image.clone(), manifest.clone(), authorities.to_vec());
        let gather = || async move {
            let found = verify(&*upstream, &tasks, &name, &subject, &asked).await;
            let now = clock.now();
            let until = holds_until(&config, &asked, found.iter().map(|(_, outcome)| outcome), now);
            let outcomes = found.into_iter().map(|(id, outcome)| (id.to_string(), outcome)).collect();
            Observed { value: Outcomes(outcomes), at: now, until }
        };
        let key = key(image, manifest.digest, authorities);
        let observed = self.memo.obtain(key.into(), Outcomes::is_known, gather).await;
        for authority in authorities {
            let known = observed.as_ref().and_then(|observed| observed.value.0.get(&authority.id().to_string()));
            let value = known.cloned().unwrap_or_else(|| TrustOutcome::Unknown {
                why: "the verification broke down".into(),
                temporary: true,
            });
            let (at, until) = observed.as_ref().map_or((self.clock.now(), None), |o| (o.at, o.until));
            evidence.insert(authority.id().clone(), Observed { value, at, until });
        }
        evidence
    }
}

/// The repository is part of the key: a claim made in one never speaks for another. So is each authority's identity,
/// which covers its keys: evidence for an old key never speaks for a new one.
fn key(image: &ImageName, digest: Digest, authorities: &[Arc<Authority>]) -> String {
    let mut ids: Vec<String> = authorities.iter().map(|authority| authority.id().to_string()).collect();
    ids.sort();
    format!("{image}@{digest} {}", ids.join(" "))
}

/// A signature by a key, once verified, holds as long as the key is trusted; everything else is looked for again.
fn holds_until<'a>(
    config: &Config,
    authorities: &[Arc<Authority>],
    outcomes: impl Iterator<Item = &'a TrustOutcome>,
    now: Timestamp,
) -> Option<Timestamp> {
    let outcomes: Vec<_> = outcomes.collect();
    let all_by_key = authorities.iter().all(|authority| matches!(authority.scheme(), Scheme::CosignKey { .. }));
    let ttl = if outcomes.iter().any(|outcome| matches!(outcome, TrustOutcome::Unknown { temporary: true, .. })) {
        TROUBLE_TTL
    } else if !outcomes.iter().all(|outcome| matches!(outcome, TrustOutcome::Verified { .. })) {
        config.negative_ttl
    } else if !all_by_key {
        config.ttl
    } else if is_settled(authorities, outcomes.iter().map(|outcome| signers(outcome))) {
        return None;
    } else {
        // Somebody else's signature may still come, and a threshold may wait for it.
        config.negative_ttl
    };
    Some(now.saturating_add(ttl).unwrap_or(Timestamp::MAX))
}

fn signers(outcome: &TrustOutcome) -> BTreeSet<String> {
    match outcome {
        TrustOutcome::Verified { by, .. } => by.iter().map(|signatory| signatory.id.clone()).collect(),
        _ => BTreeSet::new(),
    }
}

impl SignatureSource for Upstream {
    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<FetchedManifest>, SourceError> {
        let fetched = found(Self::manifest(self, repository, reference).await, MAX_MANIFEST)?;
        Ok(fetched.map(|fetched| FetchedManifest { bytes: fetched.bytes, content_type: fetched.content_type }))
    }

    async fn blob(&self, repository: &Repository, digest: &Digest, limit: usize) -> Result<Option<Bytes>, SourceError> {
        found(self.blob_bytes(repository, digest, limit).await, limit)
    }

    async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        page: &Page,
    ) -> Result<Option<(Bytes, Option<Page>)>, SourceError> {
        let list = found(Self::referrers(self, repository, digest, page).await, 0)?;
        Ok(list.map(|list| (list.bytes, list.next)))
    }
}

/// 404 is an answer; everything else that is not one leaves the question open. `limit` is in bytes.
fn found<T>(result: Result<T, upstream::Error>, limit: usize) -> Result<Option<T>, SourceError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(upstream::Error::NotFound) => Ok(None),
        Err(error) => {
            let received = if matches!(error, upstream::Error::TooLarge(_)) { limit } else { 0 };
            Err(SourceError { received, ..SourceError::new(error.to_string(), error.may_pass()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{PublicKey, Signatory};

    /// A row of version 0.1.0 named no keys: it must not speak for a threshold.
    #[test]
    fn rows_in_the_old_form_are_gathered_again() {
        let old = r#"{"8a":{"Verified":{"signer":"ECDSA P-256 key sha256:0123 (bundle)"}}}"#;
        assert!(serde_json::from_str::<Outcomes>(old).is_err());
        let new = Outcomes([("8a".to_owned(), verified(&["k"]))].into());
        let read: Outcomes = serde_json::from_str(&serde_json::to_string(&new).unwrap()).unwrap();
        assert_eq!(read.0, new.0);
    }

    /// As the resolver has it: what is no answer of a registry says nothing of signatures.
    #[test]
    fn trouble_that_may_pass_leaves_the_question_open_for_now() {
        use upstream::Error;
        let text = String::new;
        for (error, temporary) in [
            (Error::Protocol(text()), true),
            (Error::Digest(text()), true),
            (Error::Unavailable(text()), true),
            (Error::Forbidden(text()), false),
            (Error::TooLarge(text()), false),
        ] {
            let told = found::<()>(Err(error.clone()), 1).unwrap_err();
            assert_eq!(told.temporary, temporary, "{error:?}");
        }
        assert_eq!(found::<()>(Err(Error::NotFound), 1), Ok(None));
    }

    fn id(key: &str) -> String {
        PublicKey::for_test(key).fingerprint().to_string()
    }

    fn verified(keys: &[&str]) -> TrustOutcome {
        let by = keys.iter().map(|key| Signatory { id: id(key), description: "d".into() }).collect();
        TrustOutcome::Verified { by, unseen: None }
    }

    fn authority(name: &str, keys: &[&str]) -> Arc<Authority> {
        let keys = keys.iter().map(|key| PublicKey::for_test(key)).collect();
        Arc::new(Authority::new(name, Scheme::CosignKey { keys }))
    }

    /// Signatures by keys hold for ever, but who else signed is looked for again where that may matter.
    #[test]
    fn how_long_evidence_holds() {
        let config = Config::default();
        let soon = Some(Timestamp::UNIX_EPOCH + config.negative_ttl);
        let unsigned = || TrustOutcome::Unverified { found: Vec::new() };
        for (authorities, outcomes, until) in [
            (vec![authority("a", &["k", "l"])], vec![verified(&["k"])], None),
            (vec![authority("a", &["k"]), authority("b", &["k"])], vec![verified(&["k"]), verified(&["k"])], None),
            (vec![authority("a", &["k", "l"]), authority("b", &["k"])], vec![verified(&["k"]), verified(&["k"])], soon),
            (vec![authority("a", &["k"]), authority("b", &["l"])], vec![verified(&["k"]), unsigned()], soon),
        ] {
            assert_eq!(
                holds_until(&config, &authorities, outcomes.iter(), Timestamp::UNIX_EPOCH),
                until,
                "{outcomes:?}"
            );
        }
    }
}
