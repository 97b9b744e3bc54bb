//! Verifies cosign signatures by public key: classic ones and Sigstore bundles.
//!
//! A key authority asks for no transparency log and no time stamp: the key alone speaks. Log entries in a bundle are
//! therefore neither needed nor read, so that nothing can be gained by relabelling or dropping them.

mod claim;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::discovery::{Attached, Rest};
use super::{SourceError, clip};
use crate::oci::{Digest, Manifest};
use crate::policy::{Authority, PublicKey, Scheme, Signatory, TrustOutcome, Unseen, distinct};
use claim::Claim;

/// The most reasons that are kept; whoever may push could make any number of them.
const MAX_REASONS: usize = 20;

/// Says who signed, as signatures come in.
pub(super) struct Judge {
    manifest: Manifest,
    authorities: Vec<Arc<Authority>>,
    /// The keys of all authorities that have verified nothing yet, each once.
    silent: Vec<PublicKey>,
    signed: BTreeMap<Digest, Signatory>,
    /// What came, by name, and why it is no claim about the manifest.
    seen: Vec<(String, Result<(), String>)>,
}

impl Judge {
    pub(super) fn new(manifest: Manifest, authorities: Vec<Arc<Authority>>) -> Self {
        let mut silent: Vec<PublicKey> = Vec::new();
        for key in authorities.iter().flat_map(|authority| keys(authority)) {
            if !silent.contains(key) {
                silent.push(key.clone());
            }
        }
        Self { manifest, authorities, silent, signed: BTreeMap::new(), seen: Vec::new() }
    }

    /// Asks all keys about what may be signatures. A key that has verified one needs no other.
    pub(super) fn hear(&mut self, found: Vec<Attached>) {
        for Attached { name, bytes, form } in found {
            let claim = claim::read(&bytes, &form, &self.manifest).map_err(clip);
            if let Ok(claim) = &claim {
                let signed = &mut self.signed;
                self.silent.retain(|key| {
                    let made_it = key.verify(&claim.message, &claim.signature);
                    made_it.then(|| signed.insert(key.fingerprint(), signatory(key, claim)));
                    !made_it
                });
            }
            self.seen.push((name, claim.map(drop)));
        }
    }

    /// Whether no other signature can change what any requirement of these authorities makes of the outcomes.
    ///
    /// That is so when as many authorities as ever can have a signer of their own. Proof, by König's theorem: a vertex
    /// cover as small as that number holds some authorities and some keys. All its keys have signed, and all its
    /// authorities have signers outside of those keys; every other authority has keys of the cover alone, so everything
    /// is known about it.
    pub(super) fn is_settled(&self) -> bool {
        let signed = self.authorities.iter().map(|authority| self.signers(authority));
        is_settled(&self.authorities, signed)
    }

    fn signers(&self, authority: &Authority) -> BTreeSet<String> {
        self.of(authority).map(|signatory| signatory.id.clone()).collect()
    }

    fn of(&self, authority: &Authority) -> impl Iterator<Item = &Signatory> {
        keys(authority).iter().filter_map(|key| self.signed.get(&key.fingerprint()))
    }

    /// What an authority by key says, at the end of the search.
    pub(super) fn outcome(&self, authority: &Authority, rest: &Rest) -> TrustOutcome {
        if keys(authority).is_empty() {
            return TrustOutcome::Unknown { why: "the authority has no key".into(), temporary: false };
        }
        let by: Vec<_> = self.of(authority).cloned().collect();
        let unseen = unseen(if self.is_settled() { &[] } else { &rest.gaps });
        match (by.is_empty(), unseen) {
            (false, unseen) => TrustOutcome::Verified { by, unseen },
            // "Not signed" is said only when everything was asked and everything was looked at.
            (true, None) => TrustOutcome::Unverified { found: self.reasons(authority, rest) },
            (true, Some(unseen)) => {
                let why = [vec![unseen.why], self.reasons(authority, rest)].concat().join("; ");
                TrustOutcome::Unknown { why, temporary: unseen.temporary }
            }
        }
    }

    fn reasons(&self, authority: &Authority, rest: &Rest) -> Vec<String> {
        let keys = describe(keys(authority));
        let refused = self.seen.iter().map(|(name, claim)| match claim {
            Ok(()) => format!("{name}: was not made by {keys}"),
            Err(why) => format!("{name}: {why}"),
        });
        let mut reasons: Vec<_> = refused.chain(rest.broken.iter().cloned()).take(MAX_REASONS).collect();
        let left = (self.seen.len() + rest.broken.len()).saturating_sub(MAX_REASONS);
        if left > 0 {
            reasons.push(format!("{left} more that do not count"));
        }
        reasons
    }
}

/// See [`Judge::is_settled`]; `signed` says who signed for each authority.
pub(super) fn is_settled(authorities: &[Arc<Authority>], signed: impl Iterator<Item = BTreeSet<String>>) -> bool {
    let by_key = |authority: &&Arc<Authority>| !keys(authority).is_empty();
    let all: Vec<_> = authorities.iter().filter(by_key).map(|authority| authority.signers()).collect();
    distinct(&signed.collect::<Vec<_>>()) >= distinct(&all)
}

fn keys(authority: &Authority) -> &[PublicKey] {
    match authority.scheme() {
        Scheme::CosignKey { keys } => keys,
        _ => &[],
    }
}

fn unseen(gaps: &[SourceError]) -> Option<Unseen> {
    let why: Vec<&str> = gaps.iter().take(MAX_REASONS).map(|gap| &*gap.why).collect();
    let temporary = gaps.iter().any(|gap| gap.temporary);
    (!gaps.is_empty()).then(|| Unseen { why: why.join("; "), temporary })
}

fn signatory(key: &PublicKey, claim: &Claim) -> Signatory {
    let description = match &claim.reference {
        // Not compared: a mirror's name differs from the one at signing, and only this repository was read.
        Some(reference) => clip(format!("{key} ({}, signed as {reference:?})", claim.form)),
        None => format!("{key} ({})", claim.form),
    };
    Signatory { id: key.fingerprint().to_string(), description }
}

fn describe(keys: &[PublicKey]) -> String {
    match keys {
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} or {} more", rest.len()),
        [] => "any key".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use bytes::Bytes;

    use super::*;
    use crate::oci::{Content, media_type};
    use crate::trust::discovery::Form;

    /// The cases of sigstore-conformance. A manifest stands for the artifact, whose bytes the cases sign.
    #[test]
    #[ignore = "reads ../shared"]
    fn sigstore_conformance() {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors/sigstore-conformance");
        let cases = std::fs::read_dir(root.join("bundle-verify")).unwrap();
        let mut verified = Vec::new();
        for case in cases.map(|case| case.unwrap().path()).filter(|case| case.join("bundle.sigstore.json").exists()) {
            let read = |name: &str| std::fs::read(case.join(name)).ok();
            let bundle = Bytes::from(read("bundle.sigstore.json").unwrap());
            let artifact = read("artifact").unwrap_or_else(|| std::fs::read(root.join("a.txt")).unwrap());
            // A case without a key, or with one that cannot be read, has no key that could verify it.
            let key = read("key.pub").and_then(|key| PublicKey::from_pem(&String::from_utf8(key).unwrap()).ok());
            let keys = key.into_iter().collect();
            let authority = Arc::new(Authority::new("a", Scheme::CosignKey { keys }));
            let mut judge = Judge::new(artifact_manifest(artifact), vec![authority.clone()]);
            judge.hear(vec![Attached { name: "bundle".into(), bytes: bundle, form: Form::Bundle }]);
            if matches!(judge.outcome(&authority, &Rest::default()), TrustOutcome::Verified { .. }) {
                verified.push(case.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
        verified.sort();
        assert_eq!(verified, ["managed-key-and-trusted-root", "managed-key-happy-path"]);
    }

    fn artifact_manifest(bytes: Vec<u8>) -> Manifest {
        Manifest {
            digest: Digest::sha256(&bytes),
            bytes: bytes.into(),
            media_type: media_type::OCI_INDEX.into(),
            content: Content::Index(Vec::new()),
            subject: None,
            artifact_type: None,
        }
    }
}
