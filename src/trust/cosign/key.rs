//! Public keys, and the algorithms with which cosign uses them.

use std::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use ed25519_dalek::{Signature, VerifyingKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest as _, Sha512};

use crate::oci::Digest;

/// How each kind of key signs. The hash follows from nothing that is signed: cosign 2.4 and before hashed with SHA-256
/// whatever the key, cosign 2.6 and 3 hash as the curve asks, and `--signature-digest-algorithm` overrides both. All of
/// these hashes are sound, so each is tried.
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
        "RSA",
        &[
            &signature::RSA_PKCS1_2048_8192_SHA256,
            &signature::RSA_PKCS1_2048_8192_SHA384,
            &signature::RSA_PKCS1_2048_8192_SHA512,
        ],
    ),
    (ED25519, &[&signature::ED25519]),
];

const ED25519: &str = "Ed25519";

/// The most keys of one PEM text.
const MAX_KEYS: usize = 64;

/// A public key, ready to verify.
pub(super) struct Key {
    kind: &'static str,
    fingerprint: Digest,
    verifiers: Vec<ParsedPublicKey>,
    /// The same Ed25519 key for Ed25519ph (RFC 8032, section 5.1), which cosign 2.6 and 3 sign with.
    prehash: Option<VerifyingKey>,
}

impl fmt::Display for Key {
    /// The kind and the beginning of the SHA-256 fingerprint of the SubjectPublicKeyInfo.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {}", self.kind, self.fingerprint.short())
    }
}

impl Key {
    /// Whether this key made the signature of the message, under any algorithm that cosign uses with such a key.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifiers.iter().any(|verifier| verifier.verify_sig(message, signature).is_ok())
            || self.prehash.is_some_and(|key| verify_prehashed(&key, message, signature))
    }

    fn from_spki(der: &[u8]) -> Option<Self> {
        let parse = |algorithms: &'static [&'static dyn VerificationAlgorithm]| {
            algorithms.iter().map(|algorithm| ParsedPublicKey::new(*algorithm, der)).collect::<Result<Vec<_>, _>>()
        };
        let (kind, verifiers) = ALGORITHMS.iter().find_map(|(kind, all)| Some((*kind, parse(all).ok()?)))?;
        // The key is the end of the SubjectPublicKeyInfo (RFC 8410, section 4).
        let prehash = der.last_chunk().filter(|_| kind == ED25519).and_then(|raw| VerifyingKey::from_bytes(raw).ok());
        Some(Self { kind, fingerprint: Digest::sha256(der), verifiers, prehash })
    }
}

fn verify_prehashed(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    let Ok(signature) = Signature::from_slice(signature) else { return false };
    key.verify_prehashed_strict(Sha512::new_with_prefix(message), None, &signature).is_ok()
}

/// All keys of these PEM texts, and why others are of no use.
pub(super) fn parse_all(texts: &[String]) -> (Vec<Key>, Vec<String>) {
    let (mut keys, mut unusable) = (Vec::new(), Vec::new());
    for (text, number) in texts.iter().zip(1..) {
        match parse(text) {
            Ok(parsed) => keys.extend(parsed),
            Err(why) => unusable.push(format!("public key {number} {why}")),
        }
    }
    (keys, unusable)
}

fn parse(text: &str) -> Result<Vec<Key>, &'static str> {
    let parse = |der: SubjectPublicKeyInfoDer<'_>| {
        Key::from_spki(&der).ok_or("is neither ECDSA P-256, P-384, P-521, RSA nor Ed25519")
    };
    let blocks = SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes()).take(MAX_KEYS);
    let keys = blocks.map(|der| der.map_err(|_| "is not valid PEM").and_then(parse)).collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() { Err("is no PEM of type PUBLIC KEY") } else { Ok(keys) }
}

#[cfg(test)]
mod tests;
