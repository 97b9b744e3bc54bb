//! Keys and signatures.

use std::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use x509_cert::Certificate;
use x509_cert::der::{DecodePem, Encode};

use super::canonical::canonical;
use super::envelope::InvalidDocument;
use crate::oci::Digest;
use crate::x509::canonical_public_key;

/// The kinds of keys.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub(super) enum KeyType {
    /// ECDSA, as a SubjectPublicKeyInfo.
    #[serde(rename = "ecdsa")]
    Ecdsa,
    /// ECDSA, as an X.509 certificate.
    #[serde(rename = "ecdsa-x509")]
    EcdsaX509,
    /// Ed25519, as 32 bytes.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// RSA, as a SubjectPublicKeyInfo.
    #[serde(rename = "rsa")]
    Rsa,
    /// RSA, as an X.509 certificate.
    #[serde(rename = "rsa-x509")]
    RsaX509,
}

impl KeyType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ecdsa => "ecdsa",
            Self::EcdsaX509 => "ecdsa-x509",
            Self::Ed25519 => "ed25519",
            Self::Rsa => "rsa",
            Self::RsaX509 => "rsa-x509",
        }
    }
}

/// A public key of a document.
#[derive(Clone)]
pub struct TufKey {
    kind: KeyType,
    id: String,
    /// The SubjectPublicKeyInfo; for Ed25519 the raw key.
    public: Vec<u8>,
    fingerprint: Digest,
    certificate: Option<Box<Certificate>>,
}

impl fmt::Debug for TufKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {}", self.kind.as_str(), self.id)
    }
}

#[derive(Deserialize)]
pub(super) struct WireKey {
    keytype: KeyType,
    keyval: WireKeyValue,
}

#[derive(Deserialize)]
struct WireKeyValue {
    public: String,
}

impl TufKey {
    /// Reads a key, and computes its ID.
    pub(super) fn read(wire: &WireKey) -> Result<Self, InvalidDocument> {
        let kind = wire.keytype;
        let wrong = |what: &str| InvalidDocument::new(format!("a key of type {} {what}", kind.as_str()));
        let bytes = STANDARD.decode(&wire.keyval.public).map_err(|_| wrong("is not base64"))?;
        let value = json!({"keytype": kind.as_str(), "keyval": {"private": null, "public": wire.keyval.public}});
        let id = Digest::sha256(&canonical(&value)?).hex().to_string();
        let (public, certificate) = match kind {
            KeyType::Ecdsa | KeyType::Rsa => (bytes, None),
            KeyType::Ed25519 if bytes.len() == 32 => (bytes, None),
            KeyType::Ed25519 => return Err(wrong("does not have 32 bytes")),
            KeyType::EcdsaX509 | KeyType::RsaX509 => {
                let certificate = leaf(&bytes).ok_or_else(|| wrong("is not a certificate in PEM"))?;
                let public = certificate.tbs_certificate.subject_public_key_info.to_der();
                (public.map_err(|_| wrong("cannot be encoded"))?, Some(Box::new(certificate)))
            }
        };
        let fingerprint = match kind {
            KeyType::Ed25519 => Digest::sha256(&ed25519_spki(&public)),
            _ => Digest::sha256(&canonical_public_key(&public).unwrap_or_else(|| public.clone())),
        };
        Ok(Self { kind, id, public, fingerprint, certificate })
    }

    /// The ID: the SHA-256 digest of the key in canonical form, as hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The SHA-256 digest of the SubjectPublicKeyInfo, the same for every encoding of a key and every certificate of
    /// it.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// The certificate, if the key is one.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }

    /// Verifies a signature. The method must be one for this kind of key.
    pub(super) fn verify(&self, method: &str, message: &[u8], bytes: &[u8]) -> Result<(), &'static str> {
        const FAILED: &str = "the signature does not verify";
        let with = |algorithm: &'static dyn VerificationAlgorithm, bytes: &[u8]| {
            let key = ParsedPublicKey::new(algorithm, &self.public).map_err(|_| "the key cannot be used")?;
            key.verify_sig(message, bytes).map_err(|_| FAILED)
        };
        match (self.kind, method) {
            (KeyType::Ed25519, "eddsa") => {
                UnparsedPublicKey::new(&signature::ED25519, &self.public).verify(message, bytes).map_err(|_| FAILED)
            }
            (KeyType::Rsa | KeyType::RsaX509, "rsapss") => with(&signature::RSA_PSS_2048_8192_SHA256, bytes),
            (KeyType::Rsa | KeyType::RsaX509, "rsapkcs1v15") => with(&signature::RSA_PKCS1_2048_8192_SHA256, bytes),
            (KeyType::Ecdsa | KeyType::EcdsaX509, "ecdsa") => {
                let der = asn1(bytes).ok_or(FAILED)?;
                match bytes.len() {
                    64 => with(&signature::ECDSA_P256_SHA256_ASN1, &der),
                    96 => with(&signature::ECDSA_P384_SHA256_ASN1, &der),
                    132 => with(&signature::ECDSA_P521_SHA256_ASN1, &der),
                    _ => Err(FAILED),
                }
            }
            _ => Err("the method of the signature is not one for this kind of key"),
        }
    }
}

/// The first certificate of a PEM text. Intermediates may follow.
fn leaf(pem: &[u8]) -> Option<Certificate> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = std::str::from_utf8(pem).ok()?;
    let end = text.find(END)? + END.len();
    Certificate::from_pem(text[..end].trim_start()).ok()
}

/// The SubjectPublicKeyInfo of an Ed25519 key (RFC 8410, section 4).
fn ed25519_spki(raw: &[u8]) -> Vec<u8> {
    [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], raw].concat()
}

/// An ECDSA signature of two numbers of equal length, as ASN.1 (RFC 3279, section 2.2.3). Notary uses SHA-256 on every
/// curve, which aws-lc-rs offers for signatures in ASN.1 only.
fn asn1(raw: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = raw.split_at_checked(raw.len() / 2).filter(|(r, s)| r.len() == s.len() && r.len() <= 66)?;
    let integer = |number: &[u8]| {
        let first = number.iter().position(|byte| *byte != 0)?;
        let digits = &number[first..];
        let padding: &[u8] = if digits[0] >= 0x80 { &[0] } else { &[] };
        let length = u8::try_from(digits.len() + padding.len()).ok()?;
        Some([&[0x02, length], padding, digits].concat())
    };
    let body = [integer(r)?, integer(s)?].concat();
    let length = u8::try_from(body.len()).ok()?;
    let header = if length < 0x80 { vec![0x30, length] } else { vec![0x30, 0x81, length] };
    Some([header, body].concat())
}
