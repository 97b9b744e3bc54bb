//! The signature algorithms of Notary Project signatures (signature-specification.md, "Signature Algorithm
//! Requirements"). The key of the signing certificate decides which one it is; a header only repeats it.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ParsedPublicKey,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, VerificationAlgorithm,
};

use crate::x509::{KeyAlgorithm, X509Certificate};

/// An algorithm, by its name in JWS (RFC 7518, section 3.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum EnvelopeAlgorithm {
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
}

/// Every algorithm with its name in JWS and its number in COSE (RFC 9053, section 2.1; RFC 8230, section 2).
const NAMES: [(EnvelopeAlgorithm, &str, i64); 6] = [
    (EnvelopeAlgorithm::Ps256, "PS256", -37),
    (EnvelopeAlgorithm::Ps384, "PS384", -38),
    (EnvelopeAlgorithm::Ps512, "PS512", -39),
    (EnvelopeAlgorithm::Es256, "ES256", -7),
    (EnvelopeAlgorithm::Es384, "ES384", -35),
    (EnvelopeAlgorithm::Es512, "ES512", -36),
];

impl EnvelopeAlgorithm {
    /// The algorithm of signatures by the key of a certificate; `None` for a key that is not allowed.
    pub(super) fn of(certificate: &X509Certificate) -> Option<Self> {
        match certificate.key_algorithm()? {
            KeyAlgorithm::Rsa(2048) => Some(Self::Ps256),
            KeyAlgorithm::Rsa(3072) => Some(Self::Ps384),
            KeyAlgorithm::Rsa(4096) => Some(Self::Ps512),
            KeyAlgorithm::P256 => Some(Self::Es256),
            KeyAlgorithm::P384 => Some(Self::Es384),
            KeyAlgorithm::P521 => Some(Self::Es512),
            KeyAlgorithm::Rsa(_) => None,
        }
    }

    pub(super) fn of_jws(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, jws, _)| *jws == name).map(|(algorithm, ..)| *algorithm)
    }

    pub(super) fn of_cose(number: i64) -> Option<Self> {
        NAMES.iter().find(|(.., cose)| *cose == number).map(|(algorithm, ..)| *algorithm)
    }

    /// The name in JWS.
    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(algorithm, ..)| *algorithm == self).map_or("", |(_, name, _)| name)
    }

    /// Whether the key of a certificate made a signature.
    pub(super) fn verify(self, certificate: &X509Certificate, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self {
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &RSA_PSS_2048_8192_SHA512,
            Self::Es256 => &ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &ECDSA_P384_SHA384_FIXED,
            Self::Es512 => &ECDSA_P521_SHA512_FIXED,
        };
        let key = ParsedPublicKey::new(algorithm, certificate.subject_public_key_info());
        key.is_ok_and(|key| key.verify_sig(message, signature).is_ok())
    }
}
