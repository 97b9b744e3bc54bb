//! Public keys and the algorithms that cosign uses with them.

use std::fmt;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha512};

use super::pem::{self, InvalidPem};
use crate::oci::Digest;
use crate::x509::canonical_public_key;

/// The signature algorithms for each kind of key. The signed data does not name the hash: cosign up to 2.4 uses SHA-256
/// for every key, cosign 2.6 and 3 use the hash that fits the curve, and `--signature-digest-algorithm` overrides both.
/// All of these hashes are secure, so each of them is tried.
const ALGORITHMS: &[(&str, &[&dyn VerificationAlgorithm])] = &[
    (
        "ECDSA P-256",
        &[&signature::ECDSA_P256_SHA256_ASN1, &signature::ECDSA_P256_SHA384_ASN1, &signature::ECDSA_P256_SHA512_ASN1],
    ),
    (
        "ECDSA P-384",
        &[&signature::ECDSA_P384_SHA384_ASN1, &signature::ECDSA_P384_SHA256_ASN1, &signature::ECDSA_P384_SHA512_ASN1],
    ),
    (
        "ECDSA P-521",
        &[&signature::ECDSA_P521_SHA512_ASN1, &signature::ECDSA_P521_SHA256_ASN1, &signature::ECDSA_P521_SHA384_ASN1],
    ),
    (
        RSA,
        &[
            &signature::RSA_PKCS1_2048_8192_SHA256,
            &signature::RSA_PKCS1_2048_8192_SHA384,
            &signature::RSA_PKCS1_2048_8192_SHA512,
        ],
    ),
    (ED25519, &[&signature::ED25519]),
];

const ED25519: &str = "Ed25519";
const RSA: &str = "RSA";
const LABEL: &str = "PUBLIC KEY";

/// A public key, ready for verification. Two keys are equal regardless of their encodings.
#[derive(Clone)]
pub struct PublicKey {
    kind: &'static str,
    /// The SubjectPublicKeyInfo in a canonical encoding.
    spki: Vec<u8>,
    fingerprint: Digest,
    verifiers: Vec<ParsedPublicKey>,
    /// The same Ed25519 key for Ed25519ph (RFC 8032, section 5.1), which cosign 2.6 and 3 use to sign.
    prehash: Option<VerifyingKey>,
}

impl fmt::Display for PublicKey {
    /// Writes the kind and the beginning of the fingerprint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {}", self.kind, self.fingerprint.short())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {}", self.kind, self.fingerprint)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for PublicKey {}

/// Why a text does not contain a usable public key. Messages never quote the text.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidKey {
    /// The text contains something other than a public key.
    #[error("it holds a {0} block, and a PUBLIC KEY block is expected{hint}", hint = hint(.0))]
    Label(String),
    /// The text contains no block.
    #[error("no PUBLIC KEY block in it")]
    Missing,
    /// A block that cannot be read.
    #[error("{0}")]
    Pem(String),
    /// The text contains a private key.
    #[error("it holds a private key, which does not belong here")]
    Private,
    /// The text contains several blocks.
    #[error("more than one block in it; list several keys one by one")]
    Several,
    /// An RSA key of an insecure or unsupported size.
    #[error("an RSA key must have 2048 to 8192 bits")]
    Size,
    /// The kind of key is not supported.
    #[error("it is neither an ECDSA key on P-256, P-384 or P-521, nor RSA, nor Ed25519")]
    Unsupported,
}

/// How to extract a public key from a block with this label.
fn hint(label: &str) -> &'static str {
    match label {
        "CERTIFICATE" => "; `openssl x509 -noout -pubkey` prints that of a certificate",
        "RSA PUBLIC KEY" => "; `openssl rsa -RSAPublicKey_in -pubout` converts it",
        _ => "",
    }
}

impl From<InvalidPem> for InvalidKey {
    fn from(invalid: InvalidPem) -> Self {
        Self::Pem(invalid.to_string())
    }
}

impl PublicKey {
    /// Reads a PEM text with one `PUBLIC KEY` block (SubjectPublicKeyInfo, RFC 5280 section 4.1.2.7).
    ///
    /// # Errors
    /// The text is not a public key, or the key cannot be used to verify signatures.
    pub fn from_pem(text: &str) -> Result<Self, InvalidKey> {
        if text.contains("PRIVATE KEY") {
            return Err(InvalidKey::Private);
        }
        match &*pem::blocks(text)? {
            [] => Err(InvalidKey::Missing),
            [only] if only.label == LABEL => Self::from_spki(&only.decode()?),
            [other] => Err(InvalidKey::Label(other.label.chars().take(40).collect())),
            _ => Err(InvalidKey::Several),
        }
    }

    /// Reads a SubjectPublicKeyInfo in any encoding and stores it in a canonical encoding. A key with a compressed
    /// curve point or with explicit curve parameters is the same key.
    pub(in crate::policy) fn from_spki(der: &[u8]) -> Result<Self, InvalidKey> {
        let parse = |der: &[u8], algorithms: &'static [&'static dyn VerificationAlgorithm]| {
            algorithms.iter().map(|algorithm| ParsedPublicKey::new(*algorithm, der)).collect::<Result<Vec<_>, _>>()
        };
        let found = ALGORITHMS.iter().find_map(|(kind, all)| Some((*kind, parse(der, all).ok()?)));
        let (kind, verifiers) = found.ok_or(InvalidKey::Unsupported)?;
        let first = verifiers.first().ok_or(InvalidKey::Unsupported)?;
        let spki = first.as_der().map_err(|_| InvalidKey::Unsupported)?.as_ref().to_vec();
        if kind == RSA {
            let bits = PublicEncryptingKey::from_der(&spki).map_or(0, |key| key.key_size_bits());
            (2048..=8192).contains(&bits).then_some(()).ok_or(InvalidKey::Size)?;
        }
        // The raw key is at the end of the SubjectPublicKeyInfo (RFC 8410, section 4).
        let prehash = spki.last_chunk().filter(|_| kind == ED25519).and_then(|raw| VerifyingKey::from_bytes(raw).ok());
        Ok(Self { kind, fingerprint: Digest::sha256(&spki), spki, verifiers, prehash })
    }

    /// The SHA-256 digest of the SubjectPublicKeyInfo, the same for every encoding of the key.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// The key in PEM format.
    #[cfg(test)]
    pub(crate) fn to_pem(&self) -> String {
        use x509_cert::der::pem::{LineEnding, encode_string};
        encode_string(LABEL, LineEnding::LF, &self.spki).unwrap()
    }

    /// The SubjectPublicKeyInfo in DER, in a canonical encoding.
    pub fn to_der(&self) -> &[u8] {
        &self.spki
    }

    /// Whether this key signed the message, with any algorithm that cosign uses for such a key.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifiers.iter().any(|verifier| verifier.verify_sig(message, signature).is_ok())
            || self.prehash.is_some_and(|key| verify_prehashed(&key, message, signature))
    }

    /// Derives an Ed25519 key from a name.
    #[cfg(test)]
    pub(crate) fn for_test(name: &str) -> Self {
        use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
        let pair = Ed25519KeyPair::from_seed_unchecked(Digest::sha256(name.as_bytes()).as_bytes()).unwrap();
        Self::from_spki(pair.public_key().as_der().unwrap().as_ref()).unwrap()
    }
}

/// The fingerprint of a key from its SubjectPublicKeyInfo, the same for every encoding: the SHA-256 digest of the
/// canonical one. It identifies a signer in every scheme. For kinds of keys that no scheme here supports, the digest
/// covers the unchanged bytes.
pub fn fingerprint(spki: &[u8]) -> Digest {
    canonical_public_key(spki).map_or_else(|| Digest::sha256(spki), |canonical| Digest::sha256(&canonical))
}

fn verify_prehashed(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    let Ok(signature) = Signature::from_slice(signature) else { return false };
    key.verify_prehashed_strict(Sha512::new_with_prefix(message), None, &signature).is_ok()
}

#[cfg(test)]
mod tests;
