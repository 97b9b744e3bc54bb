use rcgen::{CrlIssuingDistributionPoint, CrlScope, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, RevocationReason};

use super::super::tests::{MadeCertificate, end_entity, key, revocation_list, signed_list, time_at};
use super::*;

fn read(der: &[u8]) -> RevocationList {
    RevocationList::from_der(der).unwrap()
}

fn leaf(issuer: &MadeCertificate) -> MadeCertificate {
    issuer.issue(end_entity("O=leaf"), key(&PKCS_ECDSA_P256_SHA256))
}

#[test]
fn a_list_names_revoked_certificates_of_its_issuer() {
    let root = MadeCertificate::root("O=root");
    let (one, other) = (leaf(&root), leaf(&root));
    let list = read(&signed_list(&root, &revocation_list(1, &[(&one, RevocationReason::KeyCompromise)])));
    assert_eq!(list.find(&one.certificate).and_then(|entry| entry.reason), Some(CrlReason::KeyCompromise));
    assert_eq!(list.find(&other.certificate), None);
    assert_eq!(list.next_update(), time_at(2026, 12, 31));
    assert!(list.is_issued_by(&root.certificate) && !list.is_delta());
    assert!(!list.is_issued_by(&MadeCertificate::root("O=root").certificate), "another key of the same name");
    assert!(!list.is_issued_by(&root.renamed("O=other").certificate), "another name with the same key");
    let mut without = root.params.clone();
    without.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let without = MadeCertificate { certificate: root.certificate.clone(), params: without, key: root.key.clone() };
    let cannot =
        MadeCertificate::self_signed(without.params, rcgen::KeyPair::try_from(root.key.serialize_der()).unwrap());
    assert!(!list.is_issued_by(&cannot.certificate), "an issuer that may not sign lists");
}

#[test]
fn a_list_covers_the_certificates_that_it_states() {
    let root = MadeCertificate::root("O=root");
    let leaf = leaf(&root);
    for (scope, users, authorities) in
        [(None, true, true), (Some(CrlScope::UserCertsOnly), true, false), (Some(CrlScope::CaCertsOnly), false, true)]
    {
        let mut list = revocation_list(1, &[]);
        let distribution_point = rcgen::CrlDistributionPoint { uris: vec!["http://a/".into()] };
        list.issuing_distribution_point = Some(CrlIssuingDistributionPoint { distribution_point, scope });
        let list = read(&signed_list(&root, &list));
        assert_eq!((list.covers(&leaf.certificate), list.covers(&root.certificate)), (users, authorities));
    }
}

#[test]
fn what_is_not_exactly_one_list_is_refused() {
    let root = MadeCertificate::root("O=root");
    let der = signed_list(&root, &revocation_list(1, &[]));
    for broken in [&der[..der.len() - 1], &[&der[..], &[0]].concat(), root.certificate.der(), b""] {
        assert_eq!(RevocationList::from_der(broken), Err(InvalidRevocationList::Encoding));
    }
    let tampered = |at: usize| {
        let mut der = der.clone();
        der[at] ^= 1;
        RevocationList::from_der(&der).is_ok_and(|list| list.is_issued_by(&root.certificate))
    };
    assert!(!(0..der.len()).any(tampered), "every byte is signed or part of the signature");
}
