//! What a signature claims, read strictly before any key is tried.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sigstore_types::bundle::{MediaType, VerificationMaterialContent};
use sigstore_types::{Bundle, SignatureContent};

use super::layers::Form;
use crate::oci::payload::{IN_TOTO, SimpleSigning, Statement, pae};
use crate::oci::{Algorithm, Digest, Manifest, json};

/// The predicate type of cosign's image signatures, as opposed to attestations about the image.
const SIGNATURE_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// The keys of a Sigstore bundle (protobuf-specs, sigstore_bundle.proto) that matter here.
const BUNDLE_KEYS: &[&str] = &[
    "certificate",
    "digest",
    "dsseEnvelope",
    "mediaType",
    "messageDigest",
    "messageSignature",
    "payload",
    "payloadType",
    "publicKey",
    "sig",
    "signature",
    "signatures",
    "verificationMaterial",
    "x509CertificateChain",
];

/// The largest payload of a signature, in bytes; real ones have a few hundred. Every key hashes it.
const MAX_PAYLOAD: usize = 256 * 1024;

/// A signature whose statement names the image. Whether it is valid is decided with a key.
pub(super) struct SignatureClaim {
    /// What was signed.
    pub(super) message: Bytes,
    /// The signature's bytes.
    pub(super) signature: Vec<u8>,
    /// `classic` or `bundle`.
    pub(super) form: &'static str,
    /// The name under which a classic signature was made.
    pub(super) reference: Option<String>,
}

/// Reads a claim about the manifest.
///
/// # Errors
/// Why it is not an image signature of this manifest.
pub(super) fn read(bytes: &Bytes, form: Form<'_>, manifest: &Manifest) -> Result<SignatureClaim, String> {
    match form {
        Form::Classic { signature } => classic(bytes, signature, manifest),
        Form::Bundle => bundle(bytes, manifest),
    }
}

fn classic(payload: &Bytes, signature: Option<&str>, manifest: &Manifest) -> Result<SignatureClaim, String> {
    let encoded = signature.ok_or("its annotation with the signature is missing")?;
    let signature = STANDARD.decode(encoded).map_err(|_| "its signature is not base64")?;
    check_size(payload)?;
    let payload_says = SimpleSigning::parse(payload).map_err(|e| e.to_string())?;
    if !is_digest_of(&payload_says.digest, manifest) {
        return Err(format!("is for another image, {}", payload_says.digest));
    }
    let reference = Some(payload_says.reference);
    Ok(SignatureClaim { message: payload.clone(), signature, form: "classic", reference })
}

fn bundle(bytes: &Bytes, manifest: &Manifest) -> Result<SignatureClaim, String> {
    let value = json::parse(bytes, BUNDLE_KEYS, &[]).map_err(|e| format!("is not strict JSON: {e}"))?;
    if value.get("messageSignature").is_some() && value.get("dsseEnvelope").is_some() {
        return Err("holds two signatures".into());
    }
    let bundle: Bundle = serde_json::from_value(value).map_err(|e| format!("is no Sigstore bundle: {e}"))?;
    if bundle.media_type() != MediaType::Bundle0_3 {
        return Err(format!("is of an old version, {}", bundle.media_type()));
    }
    if !matches!(bundle.verification_material.content, VerificationMaterialContent::PublicKey(_)) {
        return Err("was made with a certificate (keyless), not with a key".into());
    }
    let (message, signature) = signed(&bundle.content, manifest)?;
    Ok(SignatureClaim { message, signature, form: "bundle", reference: None })
}

fn signed(content: &SignatureContent, manifest: &Manifest) -> Result<(Bytes, Vec<u8>), String> {
    match content {
        SignatureContent::MessageSignature(message) => {
            let digest = message.message_digest.as_ref().map(|digest| digest.digest.as_bytes());
            if digest.is_some_and(|digest| !is_hash_of(digest, manifest)) {
                return Err("is over other bytes than this manifest".into());
            }
            Ok((manifest.bytes.clone(), message.signature.as_bytes().to_vec()))
        }
        SignatureContent::DsseEnvelope(envelope) => {
            if envelope.payload_type != IN_TOTO {
                return Err(format!("its payload is {:?}, not an in-toto statement", envelope.payload_type));
            }
            check_statement(envelope.payload.as_bytes(), manifest)?;
            let message = pae(&envelope.payload_type, envelope.payload.as_bytes());
            Ok((message.into(), envelope.signature.sig.as_bytes().to_vec()))
        }
        _ => Err("holds a kind of signature that is not known".into()),
    }
}

/// An attestation about the image, such as provenance, is signed too but is not a signature of the image.
fn check_statement(payload: &[u8], manifest: &Manifest) -> Result<(), String> {
    check_size(payload)?;
    let statement = Statement::parse(payload).map_err(|e| e.to_string())?;
    if statement.predicate_type != SIGNATURE_PREDICATE {
        return Err(format!("is an attestation of {:?}, not a signature", statement.predicate_type));
    }
    if !statement.subjects.iter().any(|digest| is_digest_of(digest, manifest)) {
        return Err("is for another image".into());
    }
    Ok(())
}

fn check_size(payload: &[u8]) -> Result<(), &'static str> {
    if payload.len() > MAX_PAYLOAD { Err("its payload is larger than 256 KiB") } else { Ok(()) }
}

/// Whether the digest, of either algorithm, is that of the manifest's own bytes.
fn is_digest_of(digest: &Digest, manifest: &Manifest) -> bool {
    Digest::of(digest.algorithm(), &manifest.bytes) == *digest
}

fn is_hash_of(hash: &[u8], manifest: &Manifest) -> bool {
    [Algorithm::Sha256, Algorithm::Sha512].iter().any(|a| Digest::of(*a, &manifest.bytes).as_bytes() == hash)
}
