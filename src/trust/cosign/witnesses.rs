//! Verifies the evidence for a signature other than a key: certificates of Fulcio, entries in Rekor's logs and RFC 3161
//! time stamps, all offline, against pinned trusted roots.

use jiff::Timestamp;
use sigstore_verify::types::bundle::{
    PublicKeyIdentifier, Rfc3161Timestamp, TimestampVerificationData, VerificationMaterialContent,
};
use sigstore_verify::types::{Bundle, DerPublicKey, SignatureBytes, SignatureContent};
use sigstore_verify::{Policy, PublicKeyVerificationPolicy, VerificationPolicy};

use super::certificate::CertificateClaims;
use super::claim::Witnesses;
use crate::policy::{Keyless, PublicKey, RootPartKind, TransparencyLog, TrustedRoot};
use crate::x509::X509Certificate;

/// A signer whose certificate was verified and matches what a policy wants.
pub(super) struct CertifiedSigner {
    /// Who signed.
    pub(super) identity: String,
    /// Who vouches for the identity.
    pub(super) issuer: String,
    /// The earliest time at which a log or a time-stamping authority saw the signature.
    pub(super) signed_at: Option<Timestamp>,
}

impl Witnesses {
    /// Verifies a signature by certificate. One root must vouch for all of it: the certificate, the log and the time.
    ///
    /// The certificate must have been valid, with its issuers, at every time at which the signature was seen. There is
    /// always such a time, from a log or from a time-stamping authority, and never the time of the verification.
    ///
    /// # Errors
    /// Why it does not count, for each root.
    pub(super) fn certified(
        &self,
        wanted: &Keyless,
        log: TransparencyLog,
        roots: &[TrustedRoot],
    ) -> Result<CertifiedSigner, String> {
        let bundle = self.bundle.as_ref().map_err(Clone::clone)?;
        let certificate =
            bundle.signing_certificate().ok_or("was made with a key, not with a certificate (keyless)")?;
        // Cheap, and the best explanation where it applies. Its certificate is not verified yet.
        let claims = CertificateClaims::read(certificate.as_bytes())?;
        claims.check(wanted)?;
        self.check_proofs(bundle, log)?;
        let signed_at = for_any(roots, |root| {
            // Without certificate logs in the root there is nothing that could verify a certificate's log entry.
            let has_certificate_log = root.parts().iter().any(|part| part.kind == RootPartKind::CertificateLog);
            let mut policy = VerificationPolicy::any_identity();
            if !has_certificate_log {
                policy = policy.skip_sct();
            }
            if log == TransparencyLog::Ignore {
                policy = policy.skip_tlog_unsafe();
            }
            let bundle = of_root(root, bundle);
            let verified = root.verifier().verify(&*self.artifact, &bundle, &policy).map_err(|e| explain(&e))?;
            let is_complete = verified.certificate_verified()
                && verified.sct_verified() == has_certificate_log
                && verified.tlog_verified() == (log == TransparencyLog::Require);
            if !is_complete {
                return Err("was not verified completely".into());
            }
            Ok(verified.verified_timestamps().iter().min().copied())
        })?;
        let CertificateClaims { identity, issuer, .. } = claims;
        Ok(CertifiedSigner { identity, issuer, signed_at })
    }

    /// Verifies that a signature by this key is in a log. Returns the earliest time at which it was seen, if one is
    /// known.
    ///
    /// A classic signature may carry a certificate although it was made with a key (`cosign sign --key --certificate`).
    /// The key decides, and the certificate is not verified. The entry in the log must be for the key, as current
    /// cosign demands, or for that certificate if it holds the key, as cosign wrote it: either names the key that
    /// signed.
    ///
    /// # Errors
    /// Why it does not count, for each root.
    pub(super) fn logged(&self, key: &PublicKey, roots: &[TrustedRoot]) -> Result<Option<Timestamp>, String> {
        let bundle = self.bundle.as_ref().map_err(Clone::clone)?;
        self.check_proofs(bundle, TransparencyLog::Require)?;
        let by_key = PublicKeyVerificationPolicy::new(DerPublicKey::new(key.to_der().to_vec()));
        // The chain is not needed: the key comes from the policy.
        let by_certificate = VerificationPolicy::any_identity().skip_certificate_chain();
        let holds_key = |certificate: &[u8]| {
            X509Certificate::from_der(certificate).is_ok_and(|one| one.subject_public_key_info() == key.to_der())
        };
        for_any(roots, |root| {
            let bundle = of_root(root, bundle);
            let verify = |bundle: &Bundle, policy: &dyn Policy| {
                let verified = root.verifier().verify(&*self.artifact, bundle, policy).map_err(|e| explain(&e))?;
                if !verified.tlog_verified() {
                    return Err("was not verified completely".into());
                }
                Ok(verified.verified_timestamps().iter().min().copied())
            };
            let Some(certificate) = bundle.signing_certificate() else { return verify(&bundle, &by_key) };
            let mut without = bundle.clone();
            without.verification_material.content =
                VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new(""));
            match verify(&without, &by_key) {
                Err(why) if holds_key(certificate.as_bytes()) => verify(&bundle, &by_certificate)
                    .map_err(|with_certificate| format!("{why}; with its certificate: {with_certificate}")),
                result => result,
            }
        })
    }

    /// When a signature that this key has made was first seen by a log or a time-stamping authority of a root. `None`
    /// if nothing proves a time.
    pub(super) fn seen(&self, key: &PublicKey, roots: &[TrustedRoot]) -> Option<Timestamp> {
        let logged = self.logged(key, roots).ok().flatten();
        logged.into_iter().chain(self.stamped(roots)).min()
    }

    fn stamped(&self, roots: &[TrustedRoot]) -> Option<Timestamp> {
        let bundle = self.bundle.as_ref().ok()?;
        let signature = signature(bundle)?;
        let stamps = &bundle.verification_material.timestamp_verification_data.rfc3161_timestamps;
        let time = |stamp: &Rfc3161Timestamp| {
            roots.iter().filter_map(|root| root.stamped_at(&stamp.signed_timestamp, signature)).min()
        };
        stamps.iter().filter_map(time).min()
    }

    /// A log entry with a promise alone may never have been logged. Bundles of version 0.1 allow it, and the version is
    /// not signed: a newer bundle must not gain anything by being called an older one.
    fn check_proofs(&self, bundle: &Bundle, log: TransparencyLog) -> Result<(), String> {
        let entries = &bundle.verification_material.tlog_entries;
        if log == TransparencyLog::Ignore {
            return Ok(());
        }
        if entries.is_empty() {
            return Err("is not in a transparency log, which this authority requires".into());
        }
        let has_proof = |proof: &sigstore_verify::types::InclusionProof| !proof.checkpoint.is_empty();
        if self.needs_proofs && !entries.iter().all(|entry| entry.inclusion_proof.as_ref().is_some_and(has_proof)) {
            return Err("has a log entry without a proof of inclusion".into());
        }
        Ok(())
    }
}

/// The library's error, or plain words for those whose text is made for programmers.
fn explain(error: &sigstore_verify::Error) -> String {
    const PLAIN: [(&str, &str); 7] = [
        ("CertExpired", "its certificate had expired when it was signed"),
        ("CertNotValidYet", "its certificate was not yet valid when it was signed"),
        ("UnknownIssuer", "its certificate was not issued by an authority of the trusted root"),
        ("got CERTIFICATE", "its log entry is for a certificate, not for the key"),
        ("got PUBLIC KEY", "its log entry is for a key, not for its certificate"),
        ("RequiredEkuNotFound", "its certificate is not for signing code"),
        ("No log key valid", "its log is not one of the trusted root, or its key was not valid at that time"),
    ];
    let text = error.to_string();
    PLAIN.iter().find(|(part, _)| text.contains(part)).map_or(text.clone(), |(_, plain)| (*plain).to_owned())
}

/// The first success, or all failures.
fn for_any<T>(roots: &[TrustedRoot], verify: impl Fn(&TrustedRoot) -> Result<T, String>) -> Result<T, String> {
    let mut failures = Vec::new();
    for root in roots {
        match verify(root) {
            Ok(verified) => return Ok(verified),
            Err(why) if roots.len() == 1 => failures.push(why),
            Err(why) => failures.push(format!("{}: {why}", root.name())),
        }
    }
    Err(failures.join("; "))
}

/// The bundle as this root judges it: without time stamps that no authority of it has issued, as in sigstore-go,
/// because they prove nothing, and a signature does not become worse by having them; and without any certificate but
/// the signer's. Only the root says which authorities are between a signer and an anchor, and for how long, also as in
/// sigstore-go (`FulcioCertificateAuthority.Verify`), which cosign uses with a trusted root. A retired authority would
/// otherwise come back in a signature, because the anchor above it still vouches for it.
fn of_root(root: &TrustedRoot, bundle: &Bundle) -> Bundle {
    let mut bundle = bundle.clone();
    let Some(signature) = signature(&bundle).cloned() else { return bundle };
    let material = &mut bundle.verification_material;
    if let VerificationMaterialContent::X509CertificateChain { certificates } = &mut material.content {
        // The first certificate is the signer's.
        certificates.truncate(1);
    }
    let timestamps = std::mem::take(&mut material.timestamp_verification_data).rfc3161_timestamps;
    let ours =
        timestamps.into_iter().filter(|stamp| root.stamped_at(&stamp.signed_timestamp, &signature).is_some()).collect();
    material.timestamp_verification_data = TimestampVerificationData::new(ours);
    bundle
}

/// What a bundle has signed with.
fn signature(bundle: &Bundle) -> Option<&SignatureBytes> {
    match &bundle.content {
        SignatureContent::MessageSignature(message) => Some(&message.signature),
        SignatureContent::DsseEnvelope(envelope) => Some(&envelope.signature.sig),
        _ => None,
    }
}
