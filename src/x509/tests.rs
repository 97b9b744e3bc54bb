use rcgen::{CrlDistributionPoint, CustomExtension, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256};

use super::*;

mod made;

pub(crate) use made::{
    MadeCertificate, authority, end_entity, key, ocsp_responder, revocation_list, signed_list, time_at,
};

#[test]
fn a_certificate_is_read_with_its_extensions() {
    let root = MadeCertificate::root("C=US,ST=WA,O=Acme,CN=root");
    let mut params = end_entity("C=US,ST=WA,O=Acme,CN=signer");
    params.crl_distribution_points = vec![
        CrlDistributionPoint { uris: vec!["http://a/1.crl".into(), "http://a/2.crl".into()] },
        CrlDistributionPoint { uris: vec!["http://b/3.crl".into()] },
    ];
    params.custom_extensions.push(ocsp_responder("http://ocsp/"));
    let leaf = root.issue(params, key(&PKCS_ECDSA_P256_SHA256)).certificate;
    let usage = leaf.usage();
    assert!(usage.basic_constraints.is_none() && !usage.is_authority() && usage.is_revocable());
    assert!(usage.key_usage.as_ref().is_some_and(|(critical, usage)| *critical && usage.digital_signature()));
    assert_eq!(usage.revocation_lists, ["http://a/1.crl", "http://a/2.crl", "http://b/3.crl"]);
    assert_eq!(usage.ocsp_responders, ["http://ocsp/"]);
    assert_eq!(usage.unknown_critical, None);
    assert_eq!(leaf.to_string(), "C=US,ST=WA,O=Acme,CN=signer");
    assert_eq!(leaf.key_algorithm(), Some(KeyAlgorithm::P256));
    assert!(root.certificate.usage().is_authority());
    assert_eq!((leaf.not_before(), leaf.not_after()), (time_at(2026, 1, 1), time_at(2027, 1, 1)));
    for (time, valid) in [
        (time_at(2025, 12, 31), false),
        (leaf.not_before(), true),
        (leaf.not_after(), true),
        (time_at(2027, 1, 2), false),
    ] {
        assert_eq!(leaf.is_valid_at(time), valid, "{time}");
    }
}

#[test]
fn only_the_named_issuer_with_its_key_issued_a_certificate() {
    let root = MadeCertificate::root("O=root");
    for other_key in [&PKCS_ECDSA_P384_SHA384, &PKCS_RSA_SHA256] {
        let leaf = root.issue(end_entity("O=leaf"), key(other_key)).certificate;
        assert!(leaf.is_issued_by(&root.certificate) && !leaf.is_self_signed());
        assert!(!leaf.is_issued_by(&leaf));
        // The same name with another key, and the same key with another name.
        assert!(!leaf.is_issued_by(&MadeCertificate::root("O=root").certificate));
        assert!(!leaf.is_issued_by(&root.renamed("O=other").certificate));
    }
    assert!(root.certificate.is_self_signed());
    let tampered = |at: usize| {
        let mut der = root.certificate.der().to_vec();
        der[at] ^= 1;
        X509Certificate::from_der(&der).is_ok_and(|tampered| tampered.is_issued_by(&root.certificate))
    };
    assert!(!(0..root.certificate.der().len()).any(tampered), "every byte is signed or part of the signature");
}

#[test]
fn what_is_not_exactly_one_certificate_is_refused() {
    let root = MadeCertificate::root("O=root");
    let der = root.certificate.der();
    assert_eq!(X509Certificate::from_der(&[der, &[0]].concat()), Err(InvalidX509::Encoding));
    assert_eq!(X509Certificate::from_der(&der[..der.len() - 1]), Err(InvalidX509::Encoding));
    assert_eq!(X509Certificate::from_der(&vec![0x30; MAX_CERTIFICATE + 1]), Err(InvalidX509::Size));
    let mut twice = end_entity("O=leaf");
    // A second key usage, which only a reader that takes the first or the last one accepts.
    twice.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![3, 2, 1, 6]));
    let made = root.try_issue(twice, key(&PKCS_ECDSA_P256_SHA256));
    assert!(made.is_err(), "a duplicate extension");
    let mut unknown = end_entity("O=leaf");
    let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    extension.set_criticality(true);
    unknown.custom_extensions.push(extension);
    let unknown = root.issue(unknown, key(&PKCS_ECDSA_P256_SHA256)).certificate;
    assert_eq!(unknown.usage().unknown_critical.map(|oid| oid.to_string()).as_deref(), Some("1.2.3.4"));
}
