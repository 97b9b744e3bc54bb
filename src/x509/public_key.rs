//! Public keys in one encoding, so that a key is recognised wherever it is used.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use der::asn1::{AnyRef, UintRef};
use der::{Encode, Tag};

/// One algorithm for each kind of key.
const KINDS: [&dyn VerificationAlgorithm; 5] = [
    &signature::ECDSA_P256_SHA256_ASN1,
    &signature::ECDSA_P384_SHA384_ASN1,
    &signature::ECDSA_P521_SHA512_ASN1,
    &signature::RSA_PKCS1_2048_8192_SHA256,
    &signature::ED25519,
];

/// The SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7) of a key in its canonical encoding. `bytes` are a
/// SubjectPublicKeyInfo in any encoding, for example with a compressed point or with explicit parameters of its curve;
/// or the key alone: a point (SEC 1), an `RSAPublicKey` (RFC 8017), or 32 bytes of Ed25519. `None` if it is a key of
/// another kind.
pub fn canonical_public_key(bytes: &[u8]) -> Option<Vec<u8>> {
    KINDS.iter().find_map(|kind| Some(ParsedPublicKey::new(*kind, bytes).ok()?.as_der().ok()?.as_ref().to_vec()))
}

/// The SubjectPublicKeyInfo of an RSA key in its canonical encoding. The numbers are in big-endian order.
pub fn canonical_rsa_key(modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    let numbers = [UintRef::new(modulus).ok()?.to_der().ok()?, UintRef::new(exponent).ok()?.to_der().ok()?].concat();
    canonical_public_key(&AnyRef::new(Tag::Sequence, &numbers).ok()?.to_der().ok()?)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaPublicKeyComponents};

    use super::*;

    #[test]
    fn every_encoding_of_a_key_gives_the_same() {
        for algorithm in [
            &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
            &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
        ] {
            let pair = EcdsaKeyPair::generate(algorithm).unwrap();
            let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
            assert_eq!(canonical_public_key(&spki), Some(spki.clone()));
            assert_eq!(canonical_public_key(pair.public_key().as_ref()), Some(spki.clone()));
            // The point is at the end. Compressed, it is the sign of y and x.
            let point = pair.public_key().as_ref();
            let (x, y) = point[1..].split_at(point.len() / 2);
            let compressed = [&[2 + (y[y.len() - 1] & 1)], x].concat();
            assert_eq!(canonical_public_key(&compressed), Some(spki));
        }
        let pair = Ed25519KeyPair::generate().unwrap();
        let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
        assert_eq!(canonical_public_key(&spki), Some(spki.clone()));
        assert_eq!(canonical_public_key(pair.public_key().as_ref()), Some(spki));
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
        let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        assert_eq!(canonical_public_key(&spki), Some(spki.clone()));
        assert_eq!(canonical_rsa_key(&n, &e), Some(spki));
    }

    #[test]
    fn non_keys_have_no_encoding() {
        for bytes in [&b""[..], b"key", &[0; 31], &[4; 65]] {
            assert_eq!(canonical_public_key(bytes), None, "{bytes:?}");
        }
        assert_eq!(canonical_rsa_key(&[], &[]), None);
    }
}
