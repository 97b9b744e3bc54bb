use proptest::prelude::*;
use rcgen::ExtendedKeyUsagePurpose;

use super::super::tests::made::{RSA_2048, rsa_key};
use super::*;
use crate::x509::tests::{MadeCertificate, key};

pub(in super::super) mod authority;

use authority::TimestampAuthority;

const SIGNATURE: &[u8] = b"a signature";

fn stored(made: &MadeCertificate) -> Vec<StoredCertificate> {
    vec![StoredCertificate { store: "tsa:acme".into(), certificate: made.certificate.clone() }]
}

fn check(authority: &TimestampAuthority, token: &[u8]) -> Result<VerifiedTimestamp, String> {
    verify(token, SIGNATURE, &stored(authority.root()))
}

#[test]
fn timestamps_by_rsa_and_ec_authorities_count() {
    for key in [rsa_key(RSA_2048), key(&rcgen::PKCS_ECDSA_P256_SHA256), key(&rcgen::PKCS_ECDSA_P384_SHA384)] {
        let authority = TimestampAuthority::new(key);
        let verified = check(&authority, &authority.token(SIGNATURE)).unwrap();
        let time: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        assert_eq!((verified.earliest, verified.latest), (time, time));
        assert_eq!(verified.chain.len(), 2);
    }
}

#[test]
fn the_accuracy_widens_the_time() {
    let base = TimestampAuthority::new(key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let accuracy = |seconds, millis, micros| Some(TimestampAccuracy { seconds, millis, micros });
    for (accuracy, policy, time, earliest, latest) in [
        (None, "1.2.3.4.1", "20260301000000Z", "2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        (None, "0.4.0.2023.1.1", "20260301000000Z", "2026-02-28T23:59:59Z", "2026-03-01T00:00:01Z"),
        (
            accuracy(Some(60), None, None),
            "1.2.3.4.1",
            "20260301000000Z",
            "2026-02-28T23:59:00Z",
            "2026-03-01T00:01:00Z",
        ),
        (
            accuracy(None, Some(500), Some(250)),
            "0.4.0.2023.1.1",
            "20260301000000.25Z",
            "2026-02-28T23:59:59.74975Z",
            "2026-03-01T00:00:00.75025Z",
        ),
    ] {
        let mut authority = base.clone();
        authority.info.accuracy = accuracy;
        authority.info.policy = ObjectIdentifier::new(policy).unwrap();
        authority.set_time(time);
        let verified = check(&authority, &authority.token(SIGNATURE)).unwrap();
        assert_eq!((verified.earliest, verified.latest), (earliest.parse().unwrap(), latest.parse().unwrap()));
    }
}

/// A token proves nothing unless every part of it fits.
#[test]
fn forged_timestamps_are_refused() {
    let base = TimestampAuthority::new(key(&rcgen::PKCS_ECDSA_P256_SHA256));
    type Change = fn(&mut TimestampAuthority);
    let changes: [(Change, &str); 12] = [
        (|a| a.signed_over = Some(b"another signature".to_vec()), "is for another signature"),
        (|a| a.info.version = 2, "its version is not supported"),
        (
            |a| a.info.message_imprint.hash_algorithm.oid = ObjectIdentifier::new_unwrap("1.3.14.3.2.26"),
            "its hash is not",
        ),
        (|a| a.set_time("20260301000000+0100"), "its time cannot be read"),
        (|a| a.set_time("202603010000Z"), "its time cannot be read"),
        (|a| a.set_time("20250301000000Z"), "was not valid at the time that it states"),
        (|a| a.content_type = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1"), "does not contain a timestamp"),
        (|a| a.without_signing_certificate = true, "has no signing-certificate-v2"),
        (|a| a.named_certificate = Some(vec![0; 32]), "does not contain the certificate of its signer"),
        (|a| a.signed_digest = Some(vec![0; 32]), "its signed digest is not that of its content"),
        (|a| a.without_attributes = true, "has no signed attributes"),
        (|a| a.break_signature = true, "its signature is not valid"),
    ];
    for (change, part) in changes {
        let mut authority = base.clone();
        change(&mut authority);
        let error = check(&authority, &authority.token(SIGNATURE)).unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
    }
    let token = base.token(SIGNATURE);
    for broken in [&token[..token.len() - 1], &[&token[..], &[0]].concat(), b"", &vec![0x30; MAX_TOKEN + 1][..]] {
        assert!(check(&base, broken).is_err());
    }
    let stranger = TimestampAuthority::new(key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let error = check(&stranger, &token).unwrap_err();
    assert!(error.contains("no certificate of a tsa trust store vouches"), "{error}");
    assert!(verify(&token, SIGNATURE, &[]).is_err());
}

#[test]
fn only_certificates_for_timestamps_make_them() {
    let with = |purposes: Vec<ExtendedKeyUsagePurpose>, critical: bool| {
        let authority = TimestampAuthority::with_purposes(key(&rcgen::PKCS_ECDSA_P256_SHA256), &purposes, critical);
        check(&authority, &authority.token(SIGNATURE)).map(|_| ())
    };
    assert_eq!(with(vec![ExtendedKeyUsagePurpose::TimeStamping], true), Ok(()));
    for (purposes, critical) in [
        (vec![ExtendedKeyUsagePurpose::TimeStamping], false),
        (vec![ExtendedKeyUsagePurpose::CodeSigning], true),
        (vec![ExtendedKeyUsagePurpose::TimeStamping, ExtendedKeyUsagePurpose::CodeSigning], true),
        (vec![], true),
    ] {
        let error = with(purposes, critical).unwrap_err();
        assert!(error.contains("its extended key usage must be critical, and only timeStamping"), "{error}");
    }
}

proptest! {
    /// A changed token is refused, or it says the same: nobody signs what surrounds the signed parts.
    #[test]
    fn every_byte_of_a_token_counts(at in 0usize..4000, bit in 0u8..8) {
        static MADE: std::sync::LazyLock<(TimestampAuthority, Vec<u8>)> = std::sync::LazyLock::new(|| {
            let authority = TimestampAuthority::new(key(&rcgen::PKCS_ECDSA_P256_SHA256));
            let token = authority.token(SIGNATURE);
            (authority, token)
        });
        let (authority, token) = &*MADE;
        let mut changed = token.clone();
        let at = at % changed.len();
        changed[at] ^= 1 << bit;
        if let Ok(verified) = check(authority, &changed) {
            let expected = check(authority, token).unwrap();
            prop_assert_eq!((verified.earliest, verified.latest), (expected.earliest, expected.latest));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(verify(&bytes, SIGNATURE, &[]).is_err());
    }
}
