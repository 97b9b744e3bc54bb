//! Verifies cosign signatures, classic ones and Sigstore bundles: by public key, and by certificate (keyless).
//!
//! An authority with keys requires no transparency log and no time stamp unless its policy says so: the key alone
//! decides. Log entries in a bundle are neither needed nor read then, so nothing can be gained by relabelling or
//! dropping them.

mod certificate;
mod claim;
mod convert;
mod identity;
mod layers;
mod witnesses;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::Config;
use super::notes::{Notes, clip};
use super::scheme::{Attached, ImageSubject, LARGEST_SIGNATURE, Origin, SignatureScheme, Sought, Verification};
use crate::oci::payload::StatementBody;
use crate::oci::{Digest, Manifest};
use crate::policy::{
    AttestationRule, Authority, CosignAuthority, CosignSigners, KeyValidity, Keyless, PinnedKey, PublicKey, Scheme,
    Signatory, SignatureFinding, TransparencyLog, TrustOutcome, TrustedRoot, VerifiedStatement, known_time,
};
use claim::{ClaimForm, SignatureClaim};
use layers::{Form, Wanted};
use witnesses::CertifiedSigner;

const NAME: &str = "cosign";
const ATTESTATIONS: &str = "cosign attestations";

/// cosign, by key and keyless: either the signatures of images, or the attestations about them.
pub(super) struct Cosign {
    wanted: Wanted,
    /// The largest payload that is read, in bytes.
    limit: usize,
}

impl Cosign {
    /// For authorities that must sign the image.
    pub(super) fn signatures() -> Self {
        Self { wanted: Wanted::Signatures, limit: claim::MAX_PAYLOAD }
    }

    /// For authorities that must attest something about the image, in at most this many bytes.
    pub(super) fn attestations(limit: usize) -> Self {
        Self { wanted: Wanted::Attestations, limit }
    }
}

impl SignatureScheme for Cosign {
    fn name(&self) -> &'static str {
        match self.wanted {
            Wanted::Attestations => ATTESTATIONS,
            Wanted::Signatures => NAME,
        }
    }

    fn tag_suffixes(&self) -> &'static [&'static str] {
        match self.wanted {
            Wanted::Attestations => &[".att"],
            Wanted::Signatures => &[".sig"],
        }
    }

    fn largest_layer(&self) -> usize {
        self.limit.max(LARGEST_SIGNATURE)
    }

    fn expects(&self, artifact_type: &str) -> bool {
        artifact_type.starts_with("application/vnd.dev.")
    }

    fn select(&self, attached: &Manifest, origin: Origin) -> Result<Vec<usize>, String> {
        layers::select(attached, origin, self.wanted)
    }

    fn verification(&self, image: &ImageSubject, sought: &[Sought]) -> Box<dyn Verification> {
        let parts = sought.iter().map(|sought| Part::new(sought, image)).collect();
        Box::new(Signatures { image: image.clone(), parts, limit: self.limit })
    }
}

/// The signatures of one image, verified for several authorities.
struct Signatures {
    image: ImageSubject,
    parts: Vec<Part>,
    /// The largest payload that is read, in bytes.
    limit: usize,
}

/// One authority.
struct Part {
    authority: Arc<Authority>,
    cosign: CosignAuthority,
    /// Why nothing can be verified for it.
    unusable: Option<String>,
    /// Its keys that have not verified anything.
    silent: Vec<PublicKey>,
    signed: Vec<Signatory>,
    /// When the first of the attestations that count is too old, or must be judged again.
    until: Option<Timestamp>,
    found: Vec<SignatureFinding>,
}

/// Why a signature does not count.
struct Refusal {
    why: String,
    /// What its users can do about it.
    hint: Option<&'static str>,
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self { why, hint: None }
    }
}

/// Results for one claim, so that what several authorities have in common is verified once.
#[derive(Default)]
struct Tried {
    /// By the key's fingerprint.
    keys: BTreeMap<Digest, bool>,
}

impl Verification for Signatures {
    fn read(&mut self, found: &[Attached]) {
        for Attached { layer, bytes, place } in found {
            let Some(form) = Form::of(layer) else { continue };
            let claim = claim::read(bytes, form, &self.image.manifest, self.limit);
            let form = format!("{} {}", form.name(), layer.digest.short());
            let mut tried = Tried::default();
            for part in &mut self.parts {
                let result = match &claim {
                    Ok(_) if !part.is_open() => continue,
                    Ok(claim) => part.read(claim, &self.image, &mut tried),
                    Err(why) => Err(why.clone().into()),
                };
                part.found.push(match result {
                    Ok(by) => SignatureFinding::verified(&**place, &form, by),
                    Err(Refusal { why, hint }) => {
                        let refused = SignatureFinding::refused(&**place, &form, clip(why));
                        hint.map_or(refused.clone(), |hint| refused.with_hint(hint))
                    }
                });
            }
        }
    }

    fn signed(&self, authority: usize) -> Vec<Signatory> {
        self.parts[authority].signed.clone()
    }

    fn possible(&self, authority: usize) -> BTreeSet<String> {
        let Part { authority, unusable, .. } = &self.parts[authority];
        if unusable.is_some() { BTreeSet::new() } else { authority.signers() }
    }

    fn found(&self, authority: usize) -> Vec<SignatureFinding> {
        self.parts[authority].found.clone()
    }

    fn outcome(&self, authority: usize, notes: &Notes) -> TrustOutcome {
        match &self.parts[authority].unusable {
            Some(why) => TrustOutcome::unknown(why.clone(), false),
            None => notes.outcome(self.signed(authority), self.found(authority)),
        }
    }

    /// A signature by a key holds for as long as the authority has the key and the key is valid. What trusted roots
    /// vouch for is verified again from time to time, and once the roots end.
    fn verified_until(&self, authority: usize, config: &Config, now: Timestamp) -> Option<Timestamp> {
        let Part { cosign, until, .. } = &self.parts[authority];
        if !cosign.uses_roots() || cosign.roots.is_empty() {
            return *until;
        }
        let again = now.saturating_add(config.ttl).unwrap_or(Timestamp::MAX);
        let ends = cosign.roots.iter().filter_map(TrustedRoot::until).filter(|end| *end > now);
        Some(ends.chain(*until).fold(again, Timestamp::min))
    }
}

impl Part {
    fn new(Sought { authority, known }: &Sought, image: &ImageSubject) -> Self {
        let mut cosign = match authority.scheme() {
            Scheme::Cosign(cosign) => CosignAuthority::clone(cosign),
            _ => CosignAuthority::of_keys(Vec::new()),
        };
        let unusable = unusable(&cosign, image.now);
        cosign.roots.retain(|root| !root.has_expired(image.now));
        let mut others: BTreeSet<_> = known.iter().map(|signatory| signatory.id.clone()).collect();
        let id = |key: &PublicKey| identifier(&cosign, key.fingerprint().to_string());
        let is_silent = |key: &&PublicKey| others.insert(id(key));
        let silent = cosign.keys().iter().map(|pinned| &pinned.key).filter(is_silent).cloned().collect();
        Self {
            authority: authority.clone(),
            cosign,
            unusable,
            silent,
            signed: known.clone(),
            until: None,
            found: Vec::new(),
        }
    }

    /// Whether another signature can matter: one key needs no second signature.
    fn is_open(&self) -> bool {
        let may_sign = matches!(self.cosign.signers, CosignSigners::Keyless(_)) || !self.silent.is_empty();
        self.unusable.is_none() && may_sign
    }

    /// Who signed, by the identifier of the signer.
    fn read(&mut self, claim: &SignatureClaim, image: &ImageSubject, tried: &mut Tried) -> Result<String, Refusal> {
        self.check_conditions(claim, image)?;
        let (signatory, key_end) = self.verify(claim, image.now, tried)?;
        let statement_end = match &self.cosign.attestation {
            Some(rule) => attested(rule, claim, &signatory, image)?,
            None => None,
        };
        let id = identifier(&self.cosign, signatory.id.clone());
        if !self.signed.iter().any(|known| known.id == id) {
            let Self { cosign, silent, .. } = self;
            silent.retain(|key| identifier(cosign, key.fingerprint().to_string()) != id);
            self.until = self.until.into_iter().chain(key_end).chain(statement_end).min();
            self.signed.push(Signatory { id: id.clone(), ..signatory });
        }
        Ok(id)
    }

    /// Verifies who signed a claim, whatever it claims, and until when the signature counts.
    fn verify(
        &self,
        claim: &SignatureClaim,
        now: Timestamp,
        tried: &mut Tried,
    ) -> Result<(Signatory, Option<Timestamp>), Refusal> {
        match &self.cosign.signers {
            CosignSigners::Keys(keys) => self.verify_by_key(claim, keys, now, tried),
            CosignSigners::Keyless(wanted) => Ok((self.verify_by_certificate(claim, wanted)?, None)),
        }
    }

    /// What must be signed besides the digest.
    fn check_conditions(&self, claim: &SignatureClaim, image: &ImageSubject) -> Result<(), String> {
        match &self.cosign.attestation {
            None => claim.check_is_signature()?,
            Some(_) if claim.statement.is_some() => {}
            Some(rule) => return Err(format!("is a signature, not an attestation of {:?}", rule.predicate_type)),
        }
        for (key, wanted) in &self.cosign.annotations {
            match claim.annotations.get(key) {
                Some(value) if value == wanted => {}
                Some(value) => return Err(format!("its annotation {key:?} is {value:?}, not {wanted:?}")),
                None => return Err(format!("has no annotation {key:?}, which must be {wanted:?}")),
            }
        }
        self.cosign.identity.as_ref().map_or(Ok(()), |wanted| identity::check(wanted, claim, image))
    }

    fn verify_by_key(
        &self,
        claim: &SignatureClaim,
        keys: &[PinnedKey<PublicKey>],
        now: Timestamp,
        tried: &mut Tried,
    ) -> Result<(Signatory, Option<Timestamp>), Refusal> {
        if claim.form == ClaimForm::Bundle && claim.has_certificate() {
            return Err("was made with a certificate (keyless), not with a key".to_owned().into());
        }
        let made_it = |pinned: &&PinnedKey<PublicKey>| {
            let key = &pinned.key;
            let verify = || key.verify(&claim.message, &claim.signature);
            *tried.keys.entry(key.fingerprint()).or_insert_with(verify)
        };
        let PinnedKey { key, validity } = keys.iter().find(made_it).ok_or_else(|| Refusal {
            why: format!("was not made by {}", describe(keys)),
            hint: Some("sign with a key of this authority, or add the signer's key to it"),
        })?;
        let signed_at = match self.cosign.log {
            TransparencyLog::Require => claim.witnesses.logged(key, &self.cosign.roots)?,
            TransparencyLog::Ignore if validity.is_limited() => claim.witnesses.seen(key, &self.cosign.roots),
            TransparencyLog::Ignore => None,
        };
        let until = validity
            .check(signed_at.and_then(|at| known_time(at, now)), now)
            .map_err(|why| Refusal { why: format!("{why}; signed by {key}"), hint: Some(KeyValidity::HINT) })?;
        let description = match &claim.reference {
            // Not compared by default: a mirror's name differs from the one at signing, and only this repository was
            // read.
            Some(reference) => clip(format!("{key} ({}, signed as {reference:?})", claim.form)),
            None => format!("{key} ({})", claim.form),
        };
        Ok((Signatory { signed_at, ..Signatory::of_key(key, description) }, until))
    }

    fn verify_by_certificate(&self, claim: &SignatureClaim, wanted: &Keyless) -> Result<Signatory, Refusal> {
        let signer = claim.witnesses.certified(wanted, self.cosign.log, &self.cosign.roots)?;
        let CertifiedSigner { identity, issuer, signed_at } = signer;
        let description = clip(format!("{identity:?} (issuer {issuer:?}, {})", claim.form));
        Ok(Signatory { signed_at, ..Signatory::of_certificate(identity, issuer, description) })
    }
}

/// The identifier of a signer, as thresholds count it.
fn identifier(cosign: &CosignAuthority, id: String) -> String {
    match &cosign.attestation {
        Some(rule) => rule.signer(&id),
        None => id,
    }
}

/// Judges what a verified signer attests. Returns until when the result holds.
fn attested(
    rule: &AttestationRule,
    claim: &SignatureClaim,
    signer: &Signatory,
    image: &ImageSubject,
) -> Result<Option<Timestamp>, String> {
    let statement = claim.statement.as_ref().ok_or("is not an attestation")?;
    let body = StatementBody::parse(statement, &claim::own_digests(&image.manifest));
    let StatementBody { predicate, subject } = body.map_err(|error| error.to_string())?;
    let predicate_type = claim.predicate_type.as_deref().unwrap_or_default();
    let statement = VerifiedStatement { predicate_type, predicate: &predicate, subject: &subject, signer };
    rule.check(&statement, image.now)
}

/// Why nothing can be verified for an authority.
fn unusable(cosign: &CosignAuthority, now: Timestamp) -> Option<String> {
    match &cosign.signers {
        CosignSigners::Keys(keys) if keys.is_empty() => return Some("the authority has no key".into()),
        _ if !cosign.needs_root() => return None,
        CosignSigners::Keys(_) | CosignSigners::Keyless(_) => {}
    }
    let what = match cosign.signers {
        CosignSigners::Keys(_) => "a transparency log",
        CosignSigners::Keyless(_) => "a keyless signature",
    };
    if cosign.roots.is_empty() {
        return Some(format!("{what} cannot be verified without a trusted root, and none is configured"));
    }
    if !cosign.roots.iter().all(|root| root.has_expired(now)) {
        return None;
    }
    let ended = |root: &TrustedRoot| Some(format!("{} at {}", root.name(), root.until()?));
    let ended: Vec<_> = cosign.roots.iter().filter_map(ended).collect();
    Some(format!("the trusted root has expired ({}); get a new one with `pullgate trust update`", ended.join(", ")))
}

fn describe(keys: &[PinnedKey<PublicKey>]) -> String {
    match keys {
        [only] => only.key.to_string(),
        [first, rest @ ..] => format!("{} or {} more", first.key, rest.len()),
        [] => "any key".into(),
    }
}

#[cfg(test)]
mod conformance;
