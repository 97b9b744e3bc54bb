//! Public keys of certificates, and the signatures that they verify.

use std::sync::LazyLock;

use aws_lc_rs::rsa::PublicEncryptingKey;
use der::Encode;
use der::oid::ObjectIdentifier;
use der::oid::db::rfc5912::{ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1, SECP_521_R_1};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::aws_lc_rs::default_provider;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

/// ECDSA, RSA (PKCS#1 and PSS, from 2048 bits) and Ed25519, with SHA-2.
static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> =
    LazyLock::new(|| default_provider().signature_verification_algorithms);

/// The kind and the size of a public key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyAlgorithm {
    /// RSA, with the bits of its modulus.
    Rsa(usize),
    /// A key on the curve P-256.
    P256,
    /// A key on the curve P-384.
    P384,
    /// A key on the curve P-521.
    P521,
}

impl KeyAlgorithm {
    pub(super) fn of(key: &SubjectPublicKeyInfoOwned, der: &[u8]) -> Option<Self> {
        match key.algorithm.oid {
            RSA_ENCRYPTION => PublicEncryptingKey::from_der(der).ok().map(|key| Self::Rsa(key.key_size_bits())),
            ID_EC_PUBLIC_KEY => match key.algorithm.parameters.as_ref()?.decode_as::<ObjectIdentifier>().ok()? {
                SECP_256_R_1 => Some(Self::P256),
                SECP_384_R_1 => Some(Self::P384),
                SECP_521_R_1 => Some(Self::P521),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Whether a key made a signature with an algorithm, both as X.509 names them. An algorithm that does not fit the key,
/// or that is not supported, has made none.
pub fn verify_signature(
    key: &SubjectPublicKeyInfoOwned,
    algorithm: &AlgorithmIdentifierOwned,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let (Some(key_algorithm), Some(algorithm)) = (content(&key.algorithm), content(algorithm)) else { return false };
    let Some(bits) = key.subject_public_key.as_bytes() else { return false };
    ALGORITHMS.all.iter().any(|one| {
        one.public_key_alg_id().as_ref() == key_algorithm
            && one.signature_alg_id().as_ref() == algorithm
            && one.verify_signature(bits, message, signature).is_ok()
    })
}

/// The content of an AlgorithmIdentifier, without the header of its SEQUENCE.
fn content(algorithm: &AlgorithmIdentifierOwned) -> Option<Vec<u8>> {
    let mut content = algorithm.oid.to_der().ok()?;
    if let Some(parameters) = &algorithm.parameters {
        content.extend(parameters.to_der().ok()?);
    }
    Some(content)
}
