//! What a signature claims, read strictly before any key is tried.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;
use sigstore_verify::types::bundle::{MediaType, VerificationMaterialContent};
use sigstore_verify::types::{Bundle, SignatureContent};

use super::convert::{self, MAX_CERTIFICATE, MAX_CHAIN, MAX_TIME_STAMP};
use super::layers::{ClassicAnnotations, Form};
use crate::oci::payload::{Envelope, IN_TOTO, SimpleSigning, Statement, pae};
use crate::oci::{Algorithm, Digest, Manifest, json as strict_json};
use crate::trust::scheme::{LARGEST_SIGNATURE, larger_than_signatures};

/// The predicate type of cosign's image signatures, as opposed to attestations about the image.
const SIGNATURE_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// The keys of a Sigstore bundle (protobuf-specs, sigstore_bundle.proto, sigstore_rekor.proto) that matter here.
const BUNDLE_KEYS: &[&str] = &[
    "canonicalizedBody",
    "certificate",
    "certificates",
    "checkpoint",
    "digest",
    "dsseEnvelope",
    "envelope",
    "hashes",
    "inclusionPromise",
    "inclusionProof",
    "integratedTime",
    "kind",
    "kindVersion",
    "logId",
    "logIndex",
    "mediaType",
    "messageDigest",
    "messageSignature",
    "payload",
    "payloadType",
    "publicKey",
    "rawBytes",
    "rfc3161Timestamps",
    "rootHash",
    "sig",
    "signature",
    "signatures",
    "signedEntryTimestamp",
    "signedTimestamp",
    "timestampVerificationData",
    "tlogEntries",
    "treeSize",
    "verificationMaterial",
    "version",
    "x509CertificateChain",
];

/// The members of a bundle.
const BUNDLE_MEMBERS: &[&str] = &["dsseEnvelope", "mediaType", "messageSignature", "verificationMaterial"];

/// The largest payload of a signature, in bytes; real ones have a few hundred. Every key hashes it.
pub(super) const MAX_PAYLOAD: usize = 256 * 1024;
/// The maximum number of log entries and of time stamps of one signature, as in sigstore-go (CVE-2024-45395).
const MAX_WITNESSES: usize = 32;

/// A signature whose statement names the image. Whether it is valid is decided with a key or a certificate.
pub(super) struct SignatureClaim {
    /// What was signed.
    pub(super) message: Bytes,
    /// The signature's bytes.
    pub(super) signature: Vec<u8>,
    /// The form in which it is stored.
    pub(super) form: ClaimForm,
    /// The name under which a classic signature was made.
    pub(super) reference: Option<String>,
    /// The annotations that were signed.
    pub(super) annotations: BTreeMap<String, String>,
    /// The type of the predicate, if a statement was signed.
    pub(super) predicate_type: Option<String>,
    /// The statement, if one was signed.
    pub(super) statement: Option<Bytes>,
    /// Certificates, log entries and time stamps.
    pub(super) witnesses: Witnesses,
}

/// The name of a [`Form`], for messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ClaimForm {
    /// An envelope with an attestation.
    Attestation,
    /// A Sigstore bundle.
    Bundle,
    /// A payload whose signature is an annotation.
    Classic,
}

impl fmt::Display for ClaimForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attestation => "classic attestation",
            Self::Bundle => "bundle",
            Self::Classic => "classic",
        })
    }
}

/// The evidence for a signature other than a key: certificates, log entries and time stamps. None of it is verified
/// yet.
pub(super) struct Witnesses {
    /// The bundle, or why the annotations of a classic signature do not make one.
    pub(super) bundle: Result<Bundle, String>,
    /// The signed content: the manifest, or the payload of a classic signature.
    pub(super) artifact: Bytes,
    /// Whether the form of the signature has room for proofs of inclusion. A bundle must bring them whatever version it
    /// says it has, because that is not signed. Classic signatures cannot.
    pub(super) needs_proofs: bool,
}

impl SignatureClaim {
    /// Whether it is a signature of the image.
    ///
    /// # Errors
    /// It is an attestation about the image, such as provenance. That is signed too, but is not a signature of the
    /// image.
    pub(super) fn check_is_signature(&self) -> Result<(), String> {
        match &self.predicate_type {
            Some(other) if other != SIGNATURE_PREDICATE => {
                Err(format!("is an attestation of {other:?}, not a signature"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it was made with a certificate, whose key is not kept.
    pub(super) fn has_certificate(&self) -> bool {
        self.witnesses.bundle.as_ref().is_ok_and(|bundle| bundle.signing_certificate().is_some())
    }
}

/// Reads a claim about the manifest: a signature of it, or a statement about it of at most `limit` bytes.
///
/// # Errors
/// Why it makes no claim about this manifest.
pub(super) fn read(bytes: &Bytes, form: Form<'_>, manifest: &Manifest, limit: usize) -> Result<SignatureClaim, String> {
    // Another authority of the same question may read a layer that is larger than any signature.
    if bytes.len() > limit.max(LARGEST_SIGNATURE) {
        return Err(larger_than_signatures());
    }
    match form {
        Form::Classic(annotations) => classic(bytes, &annotations, manifest),
        Form::Attestation(annotations) => attestation(bytes, &annotations, manifest, limit),
        Form::Bundle => bundle(bytes, manifest, limit),
    }
}

fn classic(
    payload: &Bytes,
    annotations: &ClassicAnnotations<'_>,
    manifest: &Manifest,
) -> Result<SignatureClaim, String> {
    let encoded = annotations.signature.ok_or("its annotation with the signature is missing")?;
    let signature = STANDARD.decode(encoded).map_err(|_| "its signature is not base64")?;
    check_size(payload, MAX_PAYLOAD)?;
    let payload_says = SimpleSigning::parse(payload).map_err(|e| e.to_string())?;
    if !own_digests(manifest).contains(&payload_says.digest) {
        return Err(format!("is for another image, {}", payload_says.digest));
    }
    let digest = json!({"algorithm": "SHA2_256", "digest": STANDARD.encode(Digest::sha256(payload).as_bytes())});
    let content = json!({"messageDigest": digest, "signature": encoded});
    let bundle = convert::bundle(("messageSignature", content), annotations);
    Ok(SignatureClaim {
        message: payload.clone(),
        signature,
        form: ClaimForm::Classic,
        reference: Some(payload_says.reference),
        annotations: payload_says.annotations,
        predicate_type: None,
        statement: None,
        witnesses: Witnesses { bundle, artifact: payload.clone(), needs_proofs: false },
    })
}

/// A classic attestation: the layer is the envelope, which holds the signature.
fn attestation(
    bytes: &Bytes,
    annotations: &ClassicAnnotations<'_>,
    manifest: &Manifest,
    limit: usize,
) -> Result<SignatureClaim, String> {
    let value = strict_json::parse_members(bytes, Envelope::KEYS, &[], Envelope::MEMBERS)
        .map_err(|e| format!("is not strict JSON: {e}"))?;
    let envelope = Envelope::from_json(&value).map_err(|e| e.to_string())?;
    if envelope.payload_type != IN_TOTO {
        return Err(format!("its payload is {:?}, not an in-toto statement", envelope.payload_type));
    }
    let signature = match value["signatures"].as_array().map(Vec::as_slice) {
        Some([only]) => {
            STANDARD.decode(only["sig"].as_str().unwrap_or_default()).map_err(|_| "its signature is not base64")?
        }
        _ => return Err("must have exactly one signature".into()),
    };
    let (predicate_type, subject_annotations) = statement(&envelope.payload, manifest, limit)?;
    let bundle = convert::bundle(("dsseEnvelope", value), annotations);
    Ok(SignatureClaim {
        message: pae(&envelope.payload_type, &envelope.payload).into(),
        signature,
        form: ClaimForm::Attestation,
        reference: None,
        annotations: subject_annotations,
        predicate_type: Some(predicate_type),
        statement: Some(envelope.payload.into()),
        witnesses: Witnesses { bundle, artifact: manifest.bytes.clone(), needs_proofs: false },
    })
}

fn bundle(bytes: &Bytes, manifest: &Manifest, limit: usize) -> Result<SignatureClaim, String> {
    let value = strict_json::parse_members(bytes, BUNDLE_KEYS, &[], BUNDLE_MEMBERS)
        .map_err(|e| format!("is not strict JSON: {e}"))?;
    if value.get("messageSignature").is_some() && value.get("dsseEnvelope").is_some() {
        return Err("holds two signatures".into());
    }
    let bundle: Bundle = serde_json::from_value(value).map_err(|e| format!("is not a Sigstore bundle: {e}"))?;
    let material = &bundle.verification_material;
    let is_by_key = matches!(material.content, VerificationMaterialContent::PublicKey(_));
    if is_by_key && bundle.media_type() != MediaType::Bundle0_3 {
        return Err(format!("is of an old version, {}", bundle.media_type()));
    }
    let timestamps = material.timestamp_verification_data.rfc3161_timestamps.len();
    if material.tlog_entries.len().max(timestamps) > MAX_WITNESSES {
        return Err(format!("has more than {MAX_WITNESSES} log entries or time stamps"));
    }
    check_certificates(&material.content)?;
    if material
        .timestamp_verification_data
        .rfc3161_timestamps
        .iter()
        .any(|one| one.signed_timestamp.as_bytes().len() > MAX_TIME_STAMP)
    {
        return Err(format!("has a time stamp of more than {} KiB", MAX_TIME_STAMP >> 10));
    }
    let (message, signature, statement) = signed(&bundle.content, manifest, limit)?;
    let (predicate_type, annotations) = statement.unzip();
    let statement = match &bundle.content {
        SignatureContent::DsseEnvelope(envelope) => Some(Bytes::copy_from_slice(envelope.payload.as_bytes())),
        _ => None,
    };
    let witnesses = Witnesses { bundle: Ok(bundle), artifact: manifest.bytes.clone(), needs_proofs: true };
    let annotations = annotations.unwrap_or_default();
    let (form, reference) = (ClaimForm::Bundle, None);
    Ok(SignatureClaim { message, signature, form, reference, annotations, predicate_type, statement, witnesses })
}

/// The type of a predicate, and the annotations of the image.
type StatementParts = (String, BTreeMap<String, String>);

fn signed(
    content: &SignatureContent,
    manifest: &Manifest,
    limit: usize,
) -> Result<(Bytes, Vec<u8>, Option<StatementParts>), String> {
    match content {
        SignatureContent::MessageSignature(message) => {
            let digest = message.message_digest.as_ref().map(|digest| digest.digest.as_bytes());
            let is_own = |digest: &[u8]| own_digests(manifest).iter().any(|own| own.as_bytes() == digest);
            if digest.is_some_and(|digest| !is_own(digest)) {
                return Err("signs a different manifest".into());
            }
            Ok((manifest.bytes.clone(), message.signature.as_bytes().to_vec(), None))
        }
        SignatureContent::DsseEnvelope(envelope) => {
            if envelope.payload_type != IN_TOTO {
                return Err(format!("its payload is {:?}, not an in-toto statement", envelope.payload_type));
            }
            let statement = statement(envelope.payload.as_bytes(), manifest, limit)?;
            let message = pae(&envelope.payload_type, envelope.payload.as_bytes());
            Ok((message.into(), envelope.signature.sig.as_bytes().to_vec(), Some(statement)))
        }
        _ => Err("contains an unknown kind of signature".into()),
    }
}

/// What a statement says about this image.
fn statement(payload: &[u8], manifest: &Manifest, limit: usize) -> Result<StatementParts, String> {
    check_size(payload, limit)?;
    let Statement { predicate_type, subjects } = Statement::parse(payload).map_err(|e| e.to_string())?;
    // Hashing the manifest for each subject would take as long as an attacker likes.
    let own = own_digests(manifest);
    let is_ours = |digests: &[Digest]| digests.iter().any(|digest| own.contains(digest));
    let ours = subjects.into_iter().find(|subject| is_ours(&subject.digests)).ok_or("is for another image")?;
    Ok((predicate_type, ours.annotations))
}

/// Checks that certificates are few and small before anything parses them: sorting what is in one takes quadratic time.
fn check_certificates(material: &VerificationMaterialContent) -> Result<(), String> {
    let sizes: Vec<usize> = match material {
        VerificationMaterialContent::Certificate(leaf) => vec![leaf.raw_bytes.as_bytes().len()],
        VerificationMaterialContent::X509CertificateChain { certificates } => {
            certificates.iter().map(|one| one.raw_bytes.as_bytes().len()).collect()
        }
        VerificationMaterialContent::PublicKey(_) => Vec::new(),
        _ => return Err("has an unknown kind of certificate".into()),
    };
    if sizes.len() > MAX_CHAIN {
        return Err(format!("has more than {MAX_CHAIN} certificates"));
    }
    if sizes.iter().any(|size| *size > MAX_CERTIFICATE) {
        return Err(format!("has a certificate of more than {} KiB", MAX_CERTIFICATE >> 10));
    }
    Ok(())
}

fn check_size(payload: &[u8], limit: usize) -> Result<(), String> {
    if payload.len() > limit { Err(format!("its payload is larger than {} KiB", limit >> 10)) } else { Ok(()) }
}

/// The digests of a manifest's own bytes, by every algorithm.
pub(super) fn own_digests(manifest: &Manifest) -> [Digest; 2] {
    [Algorithm::Sha256, Algorithm::Sha512].map(|algorithm| Digest::of(algorithm, &manifest.bytes))
}
