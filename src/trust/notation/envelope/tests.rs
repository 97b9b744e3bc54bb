use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coset::cbor::Value as Cbor;
use coset::{CborSerializable, Label, TaggedCborSerializable};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::chain::{self, ChainPurpose};
use super::super::tests::made::{Making, RSA_2048, rsa_key, sign};
use super::*;
use crate::x509::tests::{MadeCertificate, end_entity, key};

const CRITICAL: &str = "io.cncf.notary.signingScheme";

/// A signer, and a root that issued its certificate.
fn signer_and_root() -> Vec<MadeCertificate> {
    let root = MadeCertificate::root("O=root");
    vec![root.issue(end_entity("O=signer"), key(&rcgen::PKCS_ECDSA_P256_SHA256)), root]
}

fn open(making: &Making) -> Result<SignatureEnvelope, String> {
    SignatureEnvelope::open(making.form, &making.bytes())
}

/// Everything that both forms refuse, signed by the signer as it is.
#[test]
fn signed_attributes_that_are_refused_in_both_forms() {
    type Change = fn(Making) -> Making;
    let changes: [(Change, &str); 16] = [
        (|m| m.header("alg", json!("none")), "names the algorithm another one"),
        (
            |m| m.header("alg", json!("ES384")),
            "names the algorithm ES384, but the key of its certificate requires ES256",
        ),
        (|m| m.header("alg", json!("PS256")), "names the algorithm PS256"),
        (|m| m.header("alg", json!("HS256")), "names the algorithm another one"),
        (|m| m.header("cty", json!("application/json")), "its content type is not"),
        (|m| m.header("cty", Value::Null), "its content type is not"),
        (|m| m.header(CRITICAL, Value::Null), "its signing scheme is not supported"),
        (|m| m.header(CRITICAL, json!("notary.x509.other")), "its signing scheme is not supported"),
        (|m| m.header(SIGNING_TIME, Value::Null), "has no time of signing"),
        (|m| m.header(AUTHENTIC_SIGNING_TIME, json!("2026-01-01T00:00:00Z")), "does not belong to its signing scheme"),
        (|m| m.header(EXPIRY, json!("2027-01-01T00:00:00Z")), "does not mark \"io.cncf.notary.expiry\" as critical"),
        (|m| m.expiry("2026-02-01T00:00:00Z"), "ends before it was made"),
        (|m| m.critical(CRITICAL), "names the critical attribute"),
        (|m| m.critical("com.example.unknown"), "has a critical attribute that pullgate does not understand"),
        (|m| m.critical("io.cncf.notary.expiry"), "has a critical attribute that pullgate does not understand"),
        (
            |m| m.header(VERIFICATION_PLUGIN, json!("com.example.plugin")).critical(VERIFICATION_PLUGIN),
            "can only be verified by a plugin",
        ),
    ];
    let chain = signer_and_root();
    for form in [EnvelopeForm::Jws, EnvelopeForm::Cose] {
        assert!(open(&Making::new(&chain).form(form)).is_ok());
        for (change, part) in changes {
            let error = open(&change(Making::new(&chain).form(form))).unwrap_err();
            assert!(error.contains(part), "{form:?} {part}: {error}");
        }
        // A time of signing that belongs to the other scheme, and one that is not critical.
        let authority = |m: Making| m.form(form).signing_authority("2026-03-01T00:00:00Z");
        assert!(open(&authority(Making::new(&chain))).is_ok());
        let both = authority(Making::new(&chain)).header(SIGNING_TIME, json!("2026-03-01T00:00:00Z"));
        assert!(open(&both).unwrap_err().contains("does not belong"));
        let mut unmarked = authority(Making::new(&chain));
        unmarked.protected.insert("crit".into(), json!([CRITICAL]));
        assert!(open(&unmarked).unwrap_err().contains("does not mark"));
        let unnamed = open(&Making::new(&chain).form(form).header("alg", Value::Null));
        assert!(unnamed.is_err(), "{form:?}");
        // An attribute that is not critical is ignored.
        assert!(open(&Making::new(&chain).form(form).header("com.example.note", json!("x"))).is_ok());
    }
}

/// A signature by another key, of another kind, or over something else.
#[test]
fn signatures_that_the_certificate_does_not_verify() {
    let chain = signer_and_root();
    let rsa = chain[1].issue(end_entity("O=signer"), rsa_key(RSA_2048));
    for form in [EnvelopeForm::Jws, EnvelopeForm::Cose] {
        let signed = |by: &MadeCertificate, shown: &MadeCertificate| {
            let mut making = Making::new(&[by.clone(), chain[1].clone()]).form(form);
            let bytes = match form {
                EnvelopeForm::Jws => {
                    let mut envelope: Value = serde_json::from_slice(&making.bytes()).unwrap();
                    let shown = Making::new(&[shown.clone(), chain[1].clone()]);
                    let shown: Value = serde_json::from_slice(&shown.bytes()).unwrap();
                    envelope["header"]["x5c"] = shown["header"]["x5c"].clone();
                    envelope.to_string().into_bytes()
                }
                EnvelopeForm::Cose => {
                    let mut message = making.cose();
                    making.chain[0] = shown.clone();
                    message.unprotected = making.cose().unprotected;
                    message.to_tagged_vec().unwrap()
                }
            };
            SignatureEnvelope::open(form, &bytes).unwrap_err()
        };
        let other = chain[1].issue(end_entity("O=other"), key(&rcgen::PKCS_ECDSA_P256_SHA256));
        assert!(signed(&chain[0], &other).contains("was not made by the key of its certificate"));
        // An RSA key shown for an EC signature, and the other way round: the header names what the key does not allow.
        assert!(
            signed(&chain[0], &rsa)
                .contains("names the algorithm ES256, but the key of its certificate requires PS256")
        );
        assert!(
            signed(&rsa, &chain[0])
                .contains("names the algorithm PS256, but the key of its certificate requires ES256")
        );
    }
}

#[test]
fn jws_that_could_be_read_in_two_ways_is_refused() {
    let good = String::from_utf8(Making::new(&signer_and_root()).bytes()).unwrap();
    let value: Value = serde_json::from_str(&good).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = value.clone();
        change(&mut value);
        value.to_string()
    };
    let protected = URL_SAFE_NO_PAD.decode(value["protected"].as_str().unwrap()).unwrap();
    let protected = String::from_utf8(protected).unwrap();
    let twice = protected.replacen('{', "{\"alg\":\"ES256\",", 1);
    let payload = value["payload"].as_str().unwrap();
    let signature = value["signature"].as_str().unwrap();
    for (text, part) in [
        (String::new(), "is not strict JSON"),
        ("[]".into(), "is not a JSON object"),
        (format!("{good} {good}"), "is not strict JSON: trailing"),
        (good.replacen('{', "{\"payload\":\"eA\",", 1), "duplicate key \"payload\""),
        (good.replacen("\"payload\"", "\"Payload\"", 1), "as \"payload\", and others do not"),
        (with(&|v| v["protected"] = json!(URL_SAFE_NO_PAD.encode(&twice))), "duplicate key \"alg\""),
        (with(&|v| v["protected"] = json!(format!("{}=", v["protected"].as_str().unwrap()))), "is not base64url"),
        (with(&|v| v["signatures"] = json!([])), "has a member that a flattened JWS does not have"),
        (with(&|v| v["payload"] = json!("")), "has no payload"),
        (
            with(&|v| v["payload"] = json!(format!("{}e30", &payload[..payload.len() / 4 * 4]))),
            "was not made by the key",
        ),
        (with(&|v| v["signature"] = json!(format!("{signature}="))), "signature is not base64url"),
        (with(&|v| v["signature"] = json!("AAAA")), "was not made by the key"),
        (with(&|v| v["header"] = Value::Null), "has no header"),
        (with(&|v| v["header"]["x5c"] = Value::Null), "has no certificates"),
        (with(&|v| v["header"]["x5c"] = json!([])), "must have 1 to 16 certificates, and has 0"),
        (with(&|v| v["header"]["x5c"][0] = json!("AA")), "a certificate is not base64"),
        (with(&|v| v["header"]["x5c"][1] = json!("AAAA")), "certificate 2: not an X.509 certificate"),
        (with(&|v| v["header"]["alg"] = json!("none")), "has \"alg\" in its unprotected header"),
        (with(&|v| v["header"][EXPIRY] = json!("2030-01-01T00:00:00Z")), "in its unprotected header"),
        (with(&|v| v["header"][TIMESTAMP] = json!(1)), "its timestamp is not base64"),
    ] {
        let error = SignatureEnvelope::open(EnvelopeForm::Jws, text.as_bytes()).unwrap_err();
        assert!(error.contains(part), "{part}: {error}\n{text}");
    }
}

/// The text of a COSE header is CBOR, of which there are many encodings.
#[test]
fn cose_that_is_not_exactly_one_tagged_message_is_refused() {
    let chain = signer_and_root();
    let making = Making::new(&chain).form(EnvelopeForm::Cose);
    let good = making.bytes();
    let message = making.cose();
    let untagged = message.clone().to_vec().unwrap();
    let other_tag = [&[0xd1][..], &good[1..]].concat();
    let indefinite = [&[0xd2, 0x9f][..], &good[2..], &[0xff]].concat();
    let twice_tagged = [&[0xd2][..], &good].concat();
    for (bytes, what) in [
        (untagged, "untagged"),
        (other_tag, "COSE_Mac0"),
        (indefinite, "an array of indefinite length"),
        (twice_tagged, "tagged twice"),
        ([&good[..], &[0]].concat(), "trailing bytes"),
        (good[..good.len() - 1].to_vec(), "truncated"),
        (b"{}".to_vec(), "JSON"),
        (vec![], "nothing"),
    ] {
        let error = SignatureEnvelope::open(EnvelopeForm::Cose, &bytes).unwrap_err();
        assert!(error.contains("is not one tagged COSE_Sign1"), "{what}: {error}");
    }
    let with = |change: &dyn Fn(&mut coset::CoseSign1)| {
        let mut message = message.clone();
        change(&mut message);
        SignatureEnvelope::open(EnvelopeForm::Cose, &message.to_tagged_vec().unwrap()).unwrap_err()
    };
    let text = |name: &str| Label::Text(name.into());
    for (error, part) in [
        (with(&|m| m.payload = None), "has no payload"),
        (with(&|m| m.payload = Some(b"x".to_vec())), "was not made by"),
        (with(&|m| m.unprotected.rest.clear()), "has no list of certificates"),
        (with(&|m| m.unprotected.rest[0].1 = Cbor::Bytes(vec![1])), "has no list of certificates"),
        (with(&|m| m.unprotected.rest[0].1 = Cbor::Array(vec![Cbor::Null])), "a certificate is not a byte string"),
        (with(&|m| m.unprotected.alg.clone_from(&m.protected.header.alg)), "has signed headers in its unprotected"),
        (with(&|m| m.unprotected.rest.push((text(EXPIRY), Cbor::Null))), "in its unprotected header"),
        (with(&|m| m.unprotected.rest.push((text(TIMESTAMP), Cbor::Null))), "its timestamp is not a byte string"),
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

/// These messages are signed as they are.
#[test]
fn cose_with_a_time_that_is_not_tagged_seconds_is_refused() {
    let chain = signer_and_root();
    let message = Making::new(&chain).form(EnvelopeForm::Cose).cose();
    let text = |name: &str| Label::Text(name.into());
    let signed = |change: &dyn Fn(&mut coset::Header)| {
        let mut header = message.protected.header.clone();
        change(&mut header);
        let rebuilt = coset::CoseSign1Builder::new()
            .protected(header)
            .unprotected(message.unprotected.clone())
            .payload(message.payload.clone().unwrap())
            .create_signature(&[], |message| sign(&chain[0], message))
            .build();
        SignatureEnvelope::open(EnvelopeForm::Cose, &rebuilt.to_tagged_vec().unwrap())
    };
    assert!(signed(&|_| {}).is_ok());
    let untagged_time = signed(&|header| {
        let time = header.rest.iter_mut().find(|(label, _)| *label == text(SIGNING_TIME)).unwrap();
        time.1 = Cbor::Integer(1.into());
    });
    assert!(untagged_time.unwrap_err().contains("is not a tagged time in seconds"));
    let float_time = signed(&|header| {
        let time = header.rest.iter_mut().find(|(label, _)| *label == text(SIGNING_TIME)).unwrap();
        time.1 = Cbor::Tag(1, Box::new(Cbor::Float(1.5)));
    });
    assert!(float_time.unwrap_err().contains("is not a tagged time in seconds"));
}

/// coset refuses to write a duplicate header, so the bytes are made by hand.
#[test]
fn cose_with_a_duplicate_header_is_refused() {
    let mut bytes = Making::new(&signer_and_root()).form(EnvelopeForm::Cose).bytes();
    // The protected header is a byte string whose content begins with the head of a map.
    let begin = bytes.iter().position(|byte| byte & 0xe0 == 0xa0).unwrap();
    let length = usize::from(bytes[begin - 1]);
    bytes[begin] += 1;
    bytes.splice(begin + length..begin + length, [0x01, 0x26]);
    bytes[begin - 1] += 2;
    let error = SignatureEnvelope::open(EnvelopeForm::Cose, &bytes).unwrap_err();
    assert!(error.contains("duplicate map key") || error.contains("DuplicateMapKey"), "{error}");
}

proptest! {
    /// No change of a byte is a valid signature, or makes the parsers panic.
    #[test]
    fn every_byte_counts(at in 0usize..4000, bit in 0u8..8) {
        static MADE: std::sync::LazyLock<[Vec<u8>; 2]> = std::sync::LazyLock::new(|| {
            let chain = signer_and_root();
            [EnvelopeForm::Jws, EnvelopeForm::Cose].map(|form| Making::new(&chain).form(form).bytes())
        });
        for (form, made) in [EnvelopeForm::Jws, EnvelopeForm::Cose].into_iter().zip(&*MADE) {
            let mut changed = made.clone();
            let at = at % changed.len();
            changed[at] ^= 1 << bit;
            if let Ok(envelope) = SignatureEnvelope::open(form, &changed) {
                // Only what the envelope does not sign: the name of the signing agent, and certificates, which do not
                // make a chain then.
                let signed = SignatureEnvelope::open(form, made).unwrap();
                prop_assert_eq!(&envelope.payload, &signed.payload);
                let is_chain = chain::check(&envelope.chain, ChainPurpose::CodeSigning).is_ok();
                prop_assert!(!is_chain || envelope.chain == signed.chain);
            }
        }
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for form in [EnvelopeForm::Jws, EnvelopeForm::Cose] {
            prop_assert!(SignatureEnvelope::open(form, &bytes).is_err());
        }
        let tagged = [&[0xd2, 0x84, 0x58][..], &bytes].concat();
        prop_assert!(SignatureEnvelope::open(EnvelopeForm::Cose, &tagged).is_err());
    }
}
