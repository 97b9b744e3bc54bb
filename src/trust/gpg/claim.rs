//! What a verified message claims: which image, and under which name.

use jiff::Timestamp;

use super::RefusedSignature;
use super::message::{self, MessageSigner};
use crate::oci::payload::SimpleSigning;
use crate::oci::{Digest, ImageName, Reference};
use crate::policy::{KeyRing, KeyValidity, Signatory, SignatoryKind, SimpleSigner};

/// The image that a signature must be for.
#[derive(Clone, Copy)]
pub(super) struct ClaimedImage<'a> {
    pub(super) name: &'a ImageName,
    /// The reference as it was pulled.
    pub(super) reference: &'a Reference,
    /// The bytes of the manifest.
    pub(super) manifest: &'a [u8],
}

/// A signature that counts.
#[derive(Debug)]
pub(super) struct CountedSignature {
    pub(super) signatory: Signatory,
    /// When the signature or its key expires.
    pub(super) until: Option<Timestamp>,
}

/// Verifies a signature, and that it is for this image under a name that the authority accepts. The payload is parsed
/// only after its signature was verified.
///
/// # Errors
/// Why the signature does not count.
pub(super) fn judge(
    bytes: &[u8],
    authority: &SimpleSigner,
    image: ClaimedImage<'_>,
    now: Timestamp,
) -> Result<CountedSignature, RefusedSignature> {
    let certificates = authority.keyrings.iter().flat_map(|ring| ring.key.certificates());
    let message = message::verify(bytes, certificates, now)?;
    let limit = valid_until(&message.signer, authority, now)?;
    let SimpleSigning { reference, digest, .. } =
        SimpleSigning::parse_openpgp(&message.payload).map_err(|error| error.to_string())?;
    if Digest::of(digest.algorithm(), image.manifest) != digest {
        return Err(format!("is for another image, {digest}").into());
    }
    if !authority.identity.accepts(&reference, image.name, image.reference) {
        let rule = &authority.identity;
        let why = format!("is for the name {reference:?}, which does not match signedIdentity ({rule})");
        return Err(RefusedSignature::with_hint(why, "sign the image under this name, or change signedIdentity"));
    }
    let until = message.signer.until.into_iter().chain(limit).min();
    Ok(CountedSignature { until, signatory: signatory(&message.signer, &reference) })
}

/// Until when the policy lets the key of a signer count; `None` means forever. A key in several rings counts while one
/// of them says so. The time in the signature is the signer's own, so it proves nothing.
///
/// # Errors
/// No ring with the key is valid now.
fn valid_until(
    signer: &MessageSigner,
    authority: &SimpleSigner,
    now: Timestamp,
) -> Result<Option<Timestamp>, RefusedSignature> {
    let has_key = |ring: &KeyRing| ring.certificates().iter().any(|one| KeyRing::signer(one) == signer.id);
    let rings = authority.keyrings.iter().filter(|ring| has_key(&ring.key));
    let (mut ends, mut refused) = (Vec::new(), Vec::new());
    for ring in rings {
        match ring.validity.check(None, now) {
            Ok(until) => ends.push(until),
            Err(why) => refused.push(why),
        }
    }
    let latest = ends.into_iter().max_by_key(|until| until.unwrap_or(Timestamp::MAX));
    latest.ok_or_else(|| RefusedSignature::with_hint(refused.join("; "), KeyValidity::HINT))
}

fn signatory(signer: &MessageSigner, reference: &str) -> Signatory {
    let user = signer.user.as_deref().map(|user| format!(" ({user})")).unwrap_or_default();
    let identity = format!("OpenPGP key {}{user}", signer.fingerprint);
    Signatory {
        id: signer.id.clone(),
        kind: SignatoryKind::Key,
        description: format!("{identity}, signed as {reference:?}"),
        identity,
        issuer: None,
        signed_at: None,
    }
}
