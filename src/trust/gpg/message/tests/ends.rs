//! Signatures and keys have an end.

use super::*;

#[test]
fn signatures_have_an_end() {
    let cert = key();
    let brief = template().set_signature_validity_period(DAY * 10).unwrap();
    let message = sign_as(pair(&cert), brief, day(1), PAYLOAD);
    assert_eq!(judge_at(&message, &[&cert], day(10)).unwrap().signer.until, Some(day(11)));
    for (now, reason) in [(day(11), "xpired"), (day(12), "xpired"), (day(0), "ot live")] {
        let error = judge_at(&message, &[&cert], now).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

/// As in GnuPG, a signature that was made in time does not count any longer when its key has expired.
#[test]
fn keys_have_an_end() {
    let whole = builder().set_validity_period(DAY * 20).add_signing_subkey().generate().unwrap().0;
    let subkey = builder().add_subkey(KeyFlags::empty().set_signing(), DAY * 20, None).generate().unwrap().0;
    for cert in [whole, subkey] {
        let message = sign(&cert, PAYLOAD);
        assert_eq!(judge_at(&message, &[&cert], day(19)).unwrap().signer.until, Some(day(20)));
        let error = judge_at(&message, &[&cert], day(20)).unwrap_err();
        assert!(error.contains("is not valid now"), "{error}");
        // Signed after the key had expired.
        let late = sign_as(pair(&cert), template(), day(21), PAYLOAD);
        let error = judge_at(&late, &[&cert], day(22)).unwrap_err();
        assert!(error.contains("was not valid when it was made"), "{error}");
    }
}

/// The end of a message's validity is the first of all ends.
#[test]
fn the_first_end_counts() {
    let subkey = KeyFlags::empty().set_signing();
    let cert = builder().set_validity_period(DAY * 20).add_subkey(subkey, DAY * 15, None).generate().unwrap().0;
    let message = sign(&cert, PAYLOAD);
    assert_eq!(judge(&message, &[&cert]).unwrap().signer.until, Some(day(15)));
    let brief = template().set_signature_validity_period(DAY * 5).unwrap();
    let message = sign_as(pair(&cert), brief, day(1), PAYLOAD);
    assert_eq!(judge(&message, &[&cert]).unwrap().signer.until, Some(day(6)));
}

/// Whatever the reason for a revocation, and whether it came before or after the signature.
#[test]
fn revoked_keys_do_not_count() {
    let cert = key();
    let message = sign(&cert, PAYLOAD);
    let policy = StandardPolicy::new();
    let mut primary = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    for (reason, at) in [
        (ReasonForRevocation::KeyCompromised, day(0)),
        (ReasonForRevocation::KeyCompromised, day(5)),
        (ReasonForRevocation::KeyRetired, day(0)),
        (ReasonForRevocation::KeyRetired, day(5)),
        (ReasonForRevocation::KeySuperseded, day(5)),
        (ReasonForRevocation::Unspecified, day(5)),
    ] {
        let whole = CertRevocationBuilder::new().set_reason_for_revocation(reason, b"").unwrap();
        let whole = whole.set_signature_creation_time(system(at)).unwrap().build(&mut primary, &cert, None).unwrap();
        let subkey = cert.keys().subkeys().next().unwrap();
        let part = SubkeyRevocationBuilder::new().set_reason_for_revocation(reason, b"").unwrap();
        let part = part.set_signature_creation_time(system(at)).unwrap();
        let part = part.build(&mut primary, &cert, subkey.key(), None).unwrap();
        for revocation in [whole, part] {
            let revoked = cert.clone().insert_packets(revocation).unwrap().0;
            assert!(revoked.keys().with_policy(&policy, system(day(6))).revoked(true).next().is_some());
            let error = judge_at(&message, &[&revoked], day(6)).unwrap_err();
            assert!(error.contains("revoked"), "{error}");
        }
    }
}

/// A newer export that was appended to a ring, or is in another ring of the authority, revokes the key of the older
/// one.
#[test]
fn a_revocation_in_any_copy_of_a_key_counts() {
    let cert = key();
    let message = sign(&cert, PAYLOAD);
    let mut primary = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let revocation = CertRevocationBuilder::new().set_reason_for_revocation(ReasonForRevocation::KeyCompromised, b"");
    let revocation = revocation.unwrap().set_signature_creation_time(system(day(1))).unwrap();
    let revoked = cert.clone().insert_packets(revocation.build(&mut primary, &cert, None).unwrap()).unwrap().0;
    let minimal = revoked.clone().retain_subkeys(|_| false);
    for newer in [&revoked, &minimal] {
        for ring in [[&cert, newer], [newer, &cert]] {
            refused(&message, &ring, "revoked");
        }
    }
    judge(&message, &[&cert, &cert]).unwrap();
}

/// The evidence ends with a binding signature that expires, although the key does not.
#[test]
fn the_end_of_a_binding_counts() {
    let cert = builder().generate().unwrap().0;
    let mut primary = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let mut subkey: Key<SecretParts, UnspecifiedRole> =
        Key4::generate_ecc(true, Curve::Ed25519).map(Key::from).unwrap();
    subkey.set_creation_time(system(day(0))).unwrap();
    let pair = subkey.clone().into_keypair().unwrap();
    let subkey = subkey.take_secret().0.role_into_subordinate();
    let back = SignatureBuilder::new(SignatureType::PrimaryKeyBinding);
    let back = back.set_signature_creation_time(system(day(0))).unwrap();
    let back = back.sign_primary_key_binding(&mut pair.clone(), cert.primary_key().key(), &subkey).unwrap();
    let binding = SignatureBuilder::new(SignatureType::SubkeyBinding);
    let binding = binding.set_signature_creation_time(system(day(0))).unwrap();
    let binding = binding.set_signature_validity_period(DAY * 7).unwrap();
    let binding = binding.set_key_flags(KeyFlags::empty().set_signing()).unwrap();
    let binding = binding.set_embedded_signature(back).unwrap();
    let binding = subkey.bind(&mut primary, &cert, binding).unwrap();
    let cert = cert.insert_packets(vec![Packet::from(subkey), binding.into()]).unwrap().0;
    let message = sign_as(pair, template(), day(1), PAYLOAD);
    assert_eq!(judge_at(&message, &[&cert], day(6)).unwrap().signer.until, Some(day(7)));
    assert!(judge_at(&message, &[&cert], day(8)).is_err());
}
