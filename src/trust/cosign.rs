//! Verifies cosign signatures by public key: classic ones and Sigstore bundles.
//!
//! An authority with keys requires no transparency log and no time stamp: the key alone decides. Log entries in a bundle
//! are neither needed nor read, so nothing can be gained by relabelling or dropping them.

mod claim;
mod layers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::Config;
use super::notes::{Notes, clip};
use super::scheme::{Attached, Origin, SignatureScheme, Sought, Verification};
use crate::oci::{Digest, Manifest};
use crate::policy::{Authority, PublicKey, Scheme, Signatory, SignatureFinding, TrustOutcome};
use claim::SignatureClaim;
use layers::Form;

const NAME: &str = "cosign";
/// cosign with public keys.
pub(super) struct Cosign;

impl SignatureScheme for Cosign {
    fn name(&self) -> &'static str {
        NAME
    }

    fn tag_suffixes(&self) -> &'static [&'static str] {
        &[".sig"]
    }

    fn expects(&self, artifact_type: &str) -> bool {
        artifact_type.starts_with("application/vnd.dev.")
    }

    fn select(&self, attached: &Manifest, origin: Origin) -> Result<Vec<usize>, String> {
        layers::select(attached, origin)
    }

    fn verification(&self, image: &Arc<Manifest>, sought: &[Sought]) -> Box<dyn Verification> {
        Box::new(ByKey::new(image.clone(), sought))
    }
}

/// The signatures of one image, verified with the keys of several authorities.
struct ByKey {
    image: Arc<Manifest>,
    parts: Vec<Part>,
    seen: Vec<SeenSignature>,
}

/// A signature that was read.
struct SeenSignature {
    place: Arc<str>,
    /// Its form and the beginning of its digest.
    form: String,
    /// The keys that were tried, by fingerprint, and whether each verified it; or why it makes no claim about the image.
    tried: Result<BTreeMap<Digest, bool>, String>,
}

/// One authority.
struct Part {
    authority: Arc<Authority>,
    /// Its keys that have not verified anything.
    silent: Vec<PublicKey>,
    signed: Vec<Signatory>,
}

impl ByKey {
    fn new(image: Arc<Manifest>, sought: &[Sought]) -> Self {
        let part = |Sought { authority, known }: &Sought| {
            let mut others: BTreeSet<_> = known.iter().map(|signatory| signatory.id.clone()).collect();
            let is_silent = |key: &&PublicKey| others.insert(key.fingerprint().to_string());
            let silent = keys(authority).iter().filter(is_silent).cloned().collect();
            Part { authority: authority.clone(), silent, signed: known.clone() }
        };
        Self { image, parts: sought.iter().map(part).collect(), seen: Vec::new() }
    }
}

impl Verification for ByKey {
    fn read(&mut self, found: &[Attached]) {
        for Attached { layer, bytes, place } in found {
            let Some(form) = Form::of(layer) else { continue };
            let tried = claim::read(bytes, form, &self.image).map_err(clip).map(|claim| {
                // A key that several authorities have is tried once.
                let mut tried = BTreeMap::new();
                self.parts.iter_mut().for_each(|part| part.read(&claim, &mut tried));
                tried
            });
            let form = format!("{} {}", form.name(), layer.digest.short());
            self.seen.push(SeenSignature { place: place.clone(), form, tried });
        }
    }

    fn signed(&self, authority: usize) -> Vec<Signatory> {
        self.parts[authority].signed.clone()
    }

    fn possible(&self, authority: usize) -> BTreeSet<String> {
        self.parts[authority].authority.signers()
    }

    fn found(&self, authority: usize) -> Vec<SignatureFinding> {
        let keys = keys(&self.parts[authority].authority);
        self.seen.iter().filter_map(|seen| seen.finding(keys)).collect()
    }

    fn outcome(&self, authority: usize, notes: &Notes) -> TrustOutcome {
        if keys(&self.parts[authority].authority).is_empty() {
            return TrustOutcome::unknown("the authority has no key", false);
        }
        notes.outcome(self.signed(authority), self.found(authority))
    }

    /// A signature by a key holds for as long as the authority has the key.
    fn verified_until(&self, _: usize, _: &Config, _: Timestamp) -> Option<Timestamp> {
        None
    }
}

impl SeenSignature {
    /// The result for an authority with these keys. `None` if not all of them were tried, because the others had already
    /// verified another signature.
    fn finding(&self, keys: &[PublicKey]) -> Option<SignatureFinding> {
        let Self { place, form, tried } = self;
        let refused = |why: &str| SignatureFinding::refused(&**place, form, why);
        let tried = match tried {
            Ok(tried) => tried,
            Err(why) => return Some(refused(why)),
        };
        let made_it = |key: &&PublicKey| tried.get(&key.fingerprint()) == Some(&true);
        if let Some(key) = keys.iter().find(made_it) {
            return Some(SignatureFinding::verified(&**place, form, key.fingerprint().to_string()));
        }
        let hint = "sign with a key of this authority, or add the signer's key to it";
        let not_ours = || refused(&format!("was not made by {}", describe(keys))).with_hint(hint);
        keys.iter().all(|key| tried.contains_key(&key.fingerprint())).then(not_ours)
    }
}

impl Part {
    /// Tries the keys that have not verified anything; one that has needs no other signature. `tried` holds the results
    /// for this claim, by the key's fingerprint.
    fn read(&mut self, claim: &SignatureClaim, tried: &mut BTreeMap<Digest, bool>) {
        let signed = &mut self.signed;
        self.silent.retain(|key| {
            let verify = || key.verify(&claim.message, &claim.signature);
            let made_it = *tried.entry(key.fingerprint()).or_insert_with(verify);
            if made_it {
                signed.push(signatory(key, claim));
            }
            !made_it
        });
    }
}

fn keys(authority: &Authority) -> &[PublicKey] {
    match authority.scheme() {
        Scheme::CosignKey { keys } => keys,
        _ => &[],
    }
}

fn signatory(key: &PublicKey, claim: &SignatureClaim) -> Signatory {
    let description = match &claim.reference {
        // Not compared: a mirror's name differs from the one at signing, and only this repository was read.
        Some(reference) => clip(format!("{key} ({}, signed as {reference:?})", claim.form)),
        None => format!("{key} ({})", claim.form),
    };
    Signatory::of_key(key, description)
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
    use crate::oci::{Content, Descriptor, media_type};

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
            let sought = Sought { authority, known: Vec::new() };
            let mut verification = Cosign.verification(&artifact_manifest(artifact).into(), &[sought]);
            verification.read(&[Attached { layer: bundle_layer(&bundle), bytes: bundle, place: "a test".into() }]);
            if matches!(verification.outcome(0, &Notes::default()), TrustOutcome::Verified { .. }) {
                verified.push(case.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
        verified.sort();
        assert_eq!(verified, ["managed-key-and-trusted-root", "managed-key-happy-path"]);
    }

    fn bundle_layer(bytes: &Bytes) -> Descriptor {
        Descriptor {
            media_type: "application/vnd.dev.sigstore.bundle.v0.3+json".into(),
            digest: Digest::sha256(bytes),
            size: bytes.len() as u64,
            platform: None,
            artifact_type: None,
            urls: Vec::new(),
            has_data: false,
            annotations: Vec::new(),
        }
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
