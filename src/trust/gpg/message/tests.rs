mod ends;

use std::io::Write;

use proptest::prelude::*;
use sequoia_openpgp::cert::{CertBuilder, CertRevocationBuilder, SubkeyRevocationBuilder};
use sequoia_openpgp::packet::key::{Key4, SecretParts, UnspecifiedRole};
use sequoia_openpgp::packet::prelude::*;
use sequoia_openpgp::packet::signature::subpacket::NotationDataFlags;
use sequoia_openpgp::serialize::stream::{Armorer, Compressor, Encryptor, LiteralWriter, Message, Recipient, Signer};
use sequoia_openpgp::serialize::{Serialize, SerializeInto};
use sequoia_openpgp::types::{
    CompressionAlgorithm, Curve, HashAlgorithm, KeyFlags, ReasonForRevocation, SignatureType,
};

use super::super::sample::*;
use super::*;

const PAYLOAD: &[u8] = b"{\"critical\": {}}";

fn judge_at(message: &[u8], ring: &[&Cert], now: Timestamp) -> Result<SignedMessage, String> {
    verify(message, ring.iter().copied(), now).map_err(|refused| refused.why)
}

fn judge(message: &[u8], ring: &[&Cert]) -> Result<SignedMessage, String> {
    judge_at(message, ring, day(2))
}

#[track_caller]
fn refused(message: &[u8], ring: &[&Cert], reason: &str) {
    let error = judge(message, ring).unwrap_err();
    assert!(error.contains(reason), "{error:?} does not contain {reason:?}");
}

/// The message that an expression writes.
macro_rules! written {
    (|$message:ident| $write:expr) => {{
        let mut out = Vec::new();
        {
            let $message = Message::new(&mut out);
            $write;
        }
        out
    }};
}

fn literal<'a>(message: Message<'a>, payload: &[u8]) {
    let mut message = LiteralWriter::new(message).build().unwrap();
    message.write_all(payload).unwrap();
    message.finalize().unwrap();
}

fn zip(message: Message<'_>) -> Message<'_> {
    Compressor::new(message).algo(CompressionAlgorithm::Zip).build().unwrap()
}

fn signer<'a>(message: Message<'a>, cert: &Cert) -> Message<'a> {
    Signer::with_template(message, pair(cert), template()).unwrap().creation_time(system(day(1))).build().unwrap()
}

#[test]
fn signed_messages_are_accepted() {
    let (cert, other) = (key(), key());
    let plain = written!(|message| literal(signer(message, &cert), PAYLOAD));
    for message in [sign(&cert, PAYLOAD), plain] {
        let signed = judge(&message, &[&other, &cert]).unwrap();
        assert_eq!(signed.payload, PAYLOAD);
        assert_eq!(signed.signer.fingerprint, cert.fingerprint().to_hex());
        assert_eq!(signed.signer.user.as_deref(), Some("Release <release@example.com>"));
        assert_eq!(signed.signer.id, KeyRing::signer(&cert));
        assert_eq!(signed.signer.until, None);
    }
}

/// PGP 2 wrote the signature before what it signs. GnuPG still verifies that, and never writes it.
#[test]
fn detached_signatures_are_refused_with_and_without_their_content() {
    let cert = key();
    let detached = written!(|message| {
        let signer = Signer::with_template(message, pair(&cert), template()).unwrap().detached();
        let mut signer = signer.creation_time(system(day(1))).build().unwrap();
        signer.write_all(PAYLOAD).unwrap();
        signer.finalize().unwrap();
    });
    let message = [detached.clone(), written!(|message| literal(message, PAYLOAD))].concat();
    refused(&message, &[&cert], "PGP 2");
    refused(&detached, &[&cert], "detached");
}

#[test]
fn what_is_not_one_signed_message_is_refused() {
    let (cert, other) = (key(), key());
    let message = sign(&cert, PAYLOAD);
    let nested = written!(|message| literal(signer(signer(message, &other), &cert), PAYLOAD));
    let twice = written!(|message| {
        let both = Signer::with_template(message, pair(&cert), template()).unwrap().add_signer(pair(&other)).unwrap();
        literal(both.build().unwrap(), PAYLOAD);
    });
    let armored = written!(|message| literal(signer(Armorer::new(message).build().unwrap(), &cert), PAYLOAD));
    let cleartext = written!(|message| {
        let signer = Signer::with_template(message, pair(&cert), SignatureBuilder::new(SignatureType::Text));
        let mut signer = signer.unwrap().cleartext().build().unwrap();
        signer.write_all(PAYLOAD).unwrap();
        signer.finalize().unwrap();
    });
    let literal_packet = written!(|message| literal(message, PAYLOAD));
    for (message, reason) in [
        (literal_packet.clone(), "is not signed"),
        (written!(|message| literal(zip(message), PAYLOAD)), "is not signed"),
        (written!(|message| literal(signer(zip(zip(message)), &cert), PAYLOAD)), "compressed more than once"),
        (nested, "more than one signature"),
        (twice, "more than one signature"),
        (armored, "ASCII-armoured"),
        (cleartext, "cleartext signature"),
        ([&*message, &message].concat(), "is more than one message"),
        ([&*message, &literal_packet].concat(), "is more than one message"),
        ([&*literal_packet, &message].concat(), "is more than one message"),
        ([&*message, b"{}"].concat(), "a packet that cannot be read"),
        ([&*message, &[0xd0, 1, 0]].concat(), "packet"),
        (message[..message.len() - 1].to_vec(), ""),
        (b"{\"critical\": {}}".to_vec(), "is not an OpenPGP message"),
        (b"<html>not found</html>".to_vec(), "is not an OpenPGP message"),
        (Vec::new(), "contains nothing that is signed"),
    ] {
        refused(&message, &[&cert, &other], reason);
    }
}

#[test]
fn encrypted_messages_are_refused() {
    let cert = builder().add_signing_subkey().add_transport_encryption_subkey().generate().unwrap().0;
    let policy = StandardPolicy::new();
    let recipients = || {
        let keys = cert.keys().with_policy(&policy, system(day(0))).supported().alive().for_transport_encryption();
        keys.map(Into::<Recipient<'_>>::into).collect::<Vec<_>>()
    };
    let signed = written!(|message| {
        literal(signer(Encryptor::for_recipients(message, recipients()).build().unwrap(), &cert), PAYLOAD);
    });
    let unsigned =
        written!(|message| literal(Encryptor::for_recipients(message, recipients()).build().unwrap(), PAYLOAD));
    let password = written!(|message| {
        literal(Encryptor::with_passwords(message, ["p"]).build().unwrap(), PAYLOAD);
    });
    for message in [signed, unsigned, password] {
        refused(&message, &[&cert], "is encrypted");
    }
}

/// A few kilobytes that expand to many megabytes, as content and as packets.
#[test]
fn decompression_is_bounded() {
    let cert = key();
    for size in [MAX_PAYLOAD + 1, 40 * 1024 * 1024] {
        let bomb = sign(&cert, &vec![b' '; size]);
        assert!(bomb.len() < MAX_MESSAGE, "{}", bomb.len());
        refused(&bomb, &[&cert], "payload is larger than 262144 bytes");
    }
    let plain = written!(|message| literal(signer(message, &cert), PAYLOAD));
    let announcement = &plain[..plain.len() - sign_length(&plain)];
    let mut packets = Vec::new();
    let zip = Compressor::new(Message::new(&mut packets)).algo(CompressionAlgorithm::Zip).build();
    let mut zip = zip.unwrap();
    for _ in 0..200_000 {
        zip.write_all(announcement).unwrap();
    }
    zip.finalize().unwrap();
    assert!(packets.len() < MAX_MESSAGE, "{}", packets.len());
    refused(&packets, &[&cert], "packets");
    refused(&sign(&cert, &incompressible(MAX_MESSAGE)), &[&cert], "is larger than 65536 bytes");
}

/// The length of everything after the first packet, which announces the signature.
fn sign_length(message: &[u8]) -> usize {
    message.len() - 2 - usize::from(message[1])
}

fn incompressible(size: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..size).map(next).collect()
}

#[test]
fn the_key_must_be_in_the_ring() {
    let (cert, other) = (key(), key());
    let message = sign(&cert, PAYLOAD);
    refused(&message, &[&other], "which is not in the key ring");
    refused(&message, &[], "which is not in the key ring");
}

#[test]
fn signatures_of_every_kind_of_key_are_verified() {
    use sequoia_openpgp::cert::CipherSuite;
    for suite in [CipherSuite::RSA2k, CipherSuite::RSA3k, CipherSuite::P256, CipherSuite::P384, CipherSuite::P521] {
        let cert = builder().set_cipher_suite(suite).add_signing_subkey().generate().unwrap().0;
        judge(&sign(&cert, PAYLOAD), &[&cert]).unwrap();
    }
    let primary = CertBuilder::new()
        .set_creation_time(system(day(0)))
        .set_primary_key_flags(KeyFlags::empty().set_certification().set_signing());
    let cert = primary.generate().unwrap().0;
    assert_eq!(judge(&sign(&cert, PAYLOAD), &[&cert]).unwrap().signer.user, None);
}

/// A signature packet of version 3 (RFC 4880, section 5.2.2), as GnuPG 2.0 writes it with `--force-v3-sigs`.
#[test]
fn signatures_of_version_3_are_verified() {
    let cert = builder()
        .set_cipher_suite(sequoia_openpgp::cert::CipherSuite::RSA2k)
        .add_signing_subkey()
        .generate()
        .unwrap()
        .0;
    let message = |kind: SignatureType, hash: HashAlgorithm| {
        let mut pair = pair(&cert);
        let made = u32::try_from(day(1).as_second()).unwrap().to_be_bytes();
        let hashed = [&[u8::from(kind)][..], &made].concat();
        let mut context = hash.context().unwrap().for_digest();
        context.update(PAYLOAD);
        context.update(&hashed);
        let digest = context.into_digest().unwrap();
        let values = sequoia_openpgp::crypto::Signer::sign(&mut pair, hash, &digest).unwrap();
        let values = sequoia_openpgp::serialize::MarshalInto::to_vec(&values).unwrap();
        let key = pair.public().keyid();
        let algorithms: [u8; 2] = [pair.public().pk_algo().into(), hash.into()];
        let body = [&[3, 5][..], &hashed, key.as_bytes(), &algorithms, &digest[..2], &values].concat();
        let [public_key, hashed_with] = algorithms;
        let mut packets = [&[0xc4, 13, 3, u8::from(kind), hashed_with, public_key][..], key.as_bytes(), &[1]].concat();
        packets.extend(written!(|message| literal(message, PAYLOAD)));
        packets.extend([0xc2, 0xff]);
        packets.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        packets.extend(body);
        packets
    };
    let signed = judge(&message(SignatureType::Binary, HashAlgorithm::SHA512), &[&cert]).unwrap();
    assert_eq!((&*signed.payload, signed.signer.id), (PAYLOAD, KeyRing::signer(&cert)));
    refused(&message(SignatureType::Binary, HashAlgorithm::SHA1), &[&cert], "SHA1");
    refused(&message(SignatureType::GenericCertification, HashAlgorithm::SHA512), &[&cert], "");
    refused(&message(SignatureType::Binary, HashAlgorithm::SHA512), &[&key()], "which is not in the key ring");
}

/// Keys that only certify, authenticate or encrypt sign nothing.
#[test]
fn the_key_must_be_for_signing() {
    let cert = builder().add_authentication_subkey().generate().unwrap().0;
    for key in cert.keys().unencrypted_secret() {
        let pair = key.key().clone().into_keypair().unwrap();
        refused(&sign_as(pair, template(), day(1), PAYLOAD), &[&cert], "key is not signing capable");
    }
}

/// A key packet next to a certificate, without a binding signature by its primary key.
#[test]
fn an_unbound_subkey_does_not_count() {
    let cert = key();
    let stranger: Key<SecretParts, UnspecifiedRole> = Key4::generate_ecc(true, Curve::Ed25519).map(Key::from).unwrap();
    let mut stranger = stranger;
    stranger.set_creation_time(system(day(0))).unwrap();
    let public = stranger.clone().take_secret().0.role_into_subordinate();
    let mixed = cert.clone().insert_packets(Packet::from(public.clone())).unwrap().0;
    let packets = [cert.to_vec().unwrap(), Packet::from(public).to_vec().unwrap()].concat();
    let parsed = Cert::from_bytes(&packets).unwrap();
    let message = sign_as(stranger.into_keypair().unwrap(), template(), day(1), PAYLOAD);
    for ring in [mixed, parsed] {
        let error = judge(&message, &[&ring]).unwrap_err();
        assert!(error.contains("is not a valid key of") || error.contains("not in the key ring"), "{error}");
    }
}

#[test]
fn unknown_critical_notations_do_not_count() {
    let cert = key();
    let with = |critical| {
        let flags = NotationDataFlags::empty().set_human_readable();
        let template = template().set_notation("only-for@example.com", b"x", flags, critical).unwrap();
        sign_as(pair(&cert), template, day(1), PAYLOAD)
    };
    assert_eq!(judge(&with(false), &[&cert]).unwrap().payload, PAYLOAD);
    refused(&with(true), &[&cert], "ritical notation");
}

#[test]
fn weak_hashes_do_not_count() {
    let cert = key();
    let with = |hash| {
        written!(|message| {
            let signer = Signer::with_template(message, pair(&cert), template()).unwrap().hash_algo(hash).unwrap();
            literal(signer.creation_time(system(day(1))).build().unwrap(), PAYLOAD);
        })
    };
    for (hash, reason) in [(HashAlgorithm::SHA1, "SHA1"), (HashAlgorithm::RipeMD, "RipeMD")] {
        refused(&with(hash), &[&cert], reason);
    }
    for hash in [HashAlgorithm::SHA384, HashAlgorithm::SHA512] {
        judge(&with(hash), &[&cert]).unwrap();
    }
}

/// A signature over other things than data: a certification or a time stamp of a key owner is not one of an image.
#[test]
fn signatures_of_other_types_do_not_count() {
    let cert = key();
    for kind in [
        SignatureType::Binary,
        SignatureType::Standalone,
        SignatureType::Timestamp,
        SignatureType::Confirmation,
        SignatureType::GenericCertification,
        SignatureType::DirectKey,
    ] {
        let mut packets = Vec::new();
        let mut hash = HashAlgorithm::SHA512.context().unwrap().for_signature(4);
        hash.update(PAYLOAD);
        let signature = SignatureBuilder::new(kind).set_signature_creation_time(system(day(1))).unwrap();
        let signature = signature.set_hash_algo(HashAlgorithm::SHA512).sign_hash(&mut pair(&cert), hash).unwrap();
        let ops = OnePassSig3::try_from(&signature).unwrap();
        Packet::from(OnePassSig::from(ops)).serialize(&mut packets).unwrap();
        packets.extend(written!(|message| literal(message, PAYLOAD)));
        Packet::from(signature).serialize(&mut packets).unwrap();
        let judged = judge(&packets, &[&cert]);
        assert_eq!(judged.is_ok(), kind == SignatureType::Binary, "{kind}: {judged:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A changed byte either invalidates a message or leaves its meaning as it is.
    #[test]
    fn changed_messages_never_say_something_else(at in any::<prop::sample::Index>(), change in 1u8..) {
        let cert = key();
        let mut message = sign(&cert, PAYLOAD);
        let at = at.index(message.len());
        message[at] ^= change;
        if let Ok(signed) = judge(&message, &[&cert]) {
            prop_assert_eq!(signed.payload, PAYLOAD);
        }
    }

    #[test]
    fn no_bytes_make_the_verifier_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), tag in 0u8..64) {
        let cert = key();
        prop_assert!(judge(&bytes, &[&cert]).is_err());
        prop_assert!(judge(&[&[0xc0 | tag][..], &bytes].concat(), &[&cert]).is_err());
    }
}
