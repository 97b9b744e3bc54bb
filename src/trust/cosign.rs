//! Verifies cosign signatures by public key: classic ones and Sigstore bundles.
//!
//! A key authority asks for no transparency log and no time stamp: the key alone speaks. Log entries in a bundle are
//! therefore neither needed nor read, so that nothing can be gained by relabelling or dropping them.

mod claim;
mod key;

use super::clip;
use super::discovery::{Attached, Found};
use crate::oci::Manifest;
use crate::policy::TrustOutcome;
use claim::Claim;
use key::Key;

/// What was found, each read once for all authorities.
pub(super) struct Claims(Vec<(String, Result<Claim, String>)>);

impl Claims {
    /// Reads everything that was found as a claim about this manifest. No signature is verified yet.
    pub(super) fn read(found: &Found, manifest: &Manifest) -> Self {
        let read = |attached: &Attached| {
            (attached.name.clone(), claim::read(&attached.bytes, &attached.form, manifest).map_err(clip))
        };
        Self(found.signatures.iter().map(read).collect())
    }
}

/// Whether any of the keys made any of the signatures.
pub(super) fn by_key(keys: &[String], claims: &Claims, found: &Found) -> TrustOutcome {
    let (keys, unusable) = key::parse_all(keys);
    if keys.is_empty() {
        let why = if unusable.is_empty() { "the authority has no key".into() } else { unusable.join("; ") };
        return TrustOutcome::Unknown { why, temporary: false };
    }
    let mut reasons = Vec::new();
    for (name, claim) in &claims.0 {
        match claim {
            Err(why) => reasons.push(format!("{name}: {why}")),
            Ok(claim) => match keys.iter().find(|key| key.verify(&claim.message, &claim.signature)) {
                Some(key) => return TrustOutcome::Verified { signer: signer(key, claim) },
                None => reasons.push(format!("{name}: was not made by {}", describe(&keys))),
            },
        }
    }
    reasons.extend_from_slice(&found.broken);
    reasons.extend(unusable);
    not_verified(reasons, found)
}

/// "Not signed" is said only when everything was asked and everything was looked at.
fn not_verified(reasons: Vec<String>, found: &Found) -> TrustOutcome {
    if found.gaps.is_empty() && found.limits.is_empty() {
        return TrustOutcome::Unverified { found: reasons };
    }
    let gaps = found.gaps.iter().map(|gap| &*gap.why);
    let all: Vec<&str> = gaps.chain(found.limits.iter().map(|l| &**l)).chain(reasons.iter().map(|r| &**r)).collect();
    TrustOutcome::Unknown { why: all.join("; "), temporary: found.gaps.iter().any(|gap| gap.temporary) }
}

fn signer(key: &Key, claim: &Claim) -> String {
    match &claim.reference {
        // Not compared: a mirror's name differs from the one at signing, and only this repository was read.
        Some(reference) => clip(format!("{key} ({}, signed as {reference:?})", claim.form)),
        None => format!("{key} ({})", claim.form),
    }
}

fn describe(keys: &[Key]) -> String {
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
    use crate::oci::{Content, Digest, media_type};
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
            // A key that made none of the signatures stands for cases that bring none.
            let other = root.join("bundle-verify/managed-key-wrong-key_fail");
            let key = read("key.pub").unwrap_or_else(|| std::fs::read(other.join("key.pub")).unwrap());
            let claims =
                Claims(vec![("bundle".into(), claim::read(&bundle, &Form::Bundle, &artifact_manifest(artifact)))]);
            let outcome = by_key(&[String::from_utf8(key).unwrap()], &claims, &Found::default());
            if matches!(outcome, TrustOutcome::Verified { .. }) {
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
