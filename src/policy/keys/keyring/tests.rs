use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sequoia_openpgp::cert::CertBuilder;
use sequoia_openpgp::serialize::SerializeInto;

use super::*;

/// The identifier of the primary key, from its numbers.
fn primary_id(cert: &sequoia_openpgp::Cert) -> String {
    use sequoia_openpgp::crypto::mpi::PublicKey as Numbers;
    match cert.primary_key().key().mpis() {
        Numbers::EdDSA { q, .. } => crate::policy::keys::key::fingerprint(&q.value()[1..]).to_string(),
        other => panic!("{other:?}"),
    }
}

/// A public key without its secret parts, in binary, and its identifier.
fn key() -> (Vec<u8>, String) {
    let (cert, _) = CertBuilder::new().add_userid("a <a@example.com>").add_signing_subkey().generate().unwrap();
    (cert.to_vec().unwrap(), primary_id(&cert))
}

fn armor(body: &str) -> String {
    format!("-----BEGIN {LABEL}-----\n{body}\n-----END {LABEL}-----\n")
}

#[test]
fn rings_with_different_armour_but_equal_packets_are_equal() {
    let (packets, _) = key();
    let text = STANDARD.encode(&packets);
    let (left, right) = text.split_at(40);
    let read = |text: &str| KeyRing::from_bytes(text.as_bytes());
    let plain = read(&armor(&format!("\n{text}"))).unwrap();
    let dressed = format!("Version: GnuPG v2\nComment: a: b\n\n  {left}\r\n  {right}\n=abcd");
    assert_eq!(read(&armor(&dressed)).unwrap(), plain);
    assert_eq!(KeyRing::from_bytes(&packets).unwrap(), plain);
    assert_ne!(KeyRing::from_bytes(&key().0).unwrap(), plain);
}

#[test]
fn a_ring_has_every_key_of_all_its_blocks() {
    let ((one, first), (two, second)) = (key(), key());
    let ids = BTreeSet::from([first, second]);
    let block = |packets: &[u8]| armor(&format!("\n{}", STANDARD.encode(packets)));
    for ring in [
        [&*one, &*two].concat(),
        [&*two, &*one, &*two].concat(),
        format!("Two keys:\n{}and\n{}", block(&one), block(&two)).into_bytes(),
        block(&[&*one, &*two].concat()).into_bytes(),
    ] {
        assert_eq!(KeyRing::from_bytes(&ring).unwrap().signers(), ids);
    }
}

#[test]
fn non_public_key_rings_are_refused() {
    let (secret, _) = CertBuilder::new().add_userid("a").generate().unwrap();
    let (packets, _) = key();
    for (ring, expected) in [
        (secret.as_tsk().to_vec().unwrap(), "private key"),
        (b"x".to_vec(), "no PGP PUBLIC KEY BLOCK"),
        (b"".to_vec(), "no PGP PUBLIC KEY BLOCK"),
        (vec![0x20; 40], "no PGP PUBLIC KEY BLOCK"),
        (armor("\n?").into_bytes(), "not base64"),
        (armor(&format!("\n{}", STANDARD.encode([7; 60]))).into_bytes(), "not an OpenPGP key ring"),
        (packets[..packets.len() / 2].to_vec(), "not an OpenPGP key ring"),
        // The body of a literal data packet is not a key.
        (vec![0xcb, 3, b'b', 0, 0], "not an OpenPGP key ring"),
        (b"\0\0\0\x20\x01\x01\0\x02KBXf\0\0\0\0".to_vec(), "gpg --export"),
    ] {
        let error = KeyRing::from_bytes(&ring).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}, not {expected}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        drop(KeyRing::from_bytes(&bytes));
        drop(KeyRing::from_bytes(&[&[0x99, 0x01][..], &bytes].concat()));
    }
}
