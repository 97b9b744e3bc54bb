use serde_json::json;

use super::*;

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const DSSE: &str = "application/vnd.dsse.envelope.v1+json";
const COSE: &str = "application/cose";

fn judge(config: &[u8], layers: &[(&str, Vec<u8>)]) -> Result<(), NotAttachment> {
    let descriptor = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len()});
    let listed: Vec<Value> = layers.iter().map(|(media_type, bytes)| descriptor(media_type, bytes)).collect();
    let manifest = json!({
        "schemaVersion": 2, "config": descriptor(media_type::OCI_CONFIG, config), "layers": listed
    });
    let manifest = Manifest::parse(manifest.to_string().into(), None).unwrap();
    let layers: Vec<Bytes> = layers.iter().map(|(_, bytes)| bytes.clone().into()).collect();
    is_attachment(&manifest, config, &layers)
}

fn layer(media_type: &str, bytes: impl Into<Vec<u8>>) -> Result<(), NotAttachment> {
    judge(b"{}", &[(media_type, bytes.into())])
}

fn simple_signing(optional: &Value) -> String {
    json!({
        "critical": {
            "identity": {"docker-reference": "a"},
            "image": {"docker-manifest-digest": Digest::sha256(b"")},
            "type": "cosign container image signature"
        },
        "optional": optional
    })
    .to_string()
}

fn statement() -> String {
    json!({"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicateType": "p", "predicate": {}})
        .to_string()
}

fn envelope(payload_type: &str) -> Value {
    use base64::Engine as _;
    let payload = base64::engine::general_purpose::STANDARD.encode(statement());
    json!({"payload": payload, "payloadType": payload_type, "signatures": [{"sig": "AA=="}]})
}

fn cose() -> Vec<u8> {
    // 18([h'a0', {1: [2, "x"]}, h'00', h'0102'])
    vec![0xd2, 0x84, 0x41, 0xa0, 0xa1, 0x01, 0x82, 0x02, 0x61, b'x', 0x41, 0x00, 0x42, 0x01, 0x02]
}

#[test]
fn signatures_attestations_and_sboms_are_attachments() {
    let bundle = json!({"mediaType": BUNDLE, "verificationMaterial": {}, "dsseEnvelope": envelope(IN_TOTO)});
    let message = json!({"mediaType": BUNDLE, "verificationMaterial": {}, "messageSignature": {}});
    let image_config = json!({"architecture": "", "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(b"")]}});
    for (media_type, text) in [
        (SIMPLE_SIGNING, simple_signing(&Value::Null)),
        (DSSE, envelope(IN_TOTO).to_string()),
        (IN_TOTO, statement()),
        (BUNDLE, bundle.to_string()),
        (BUNDLE, message.to_string()),
        ("application/vnd.dev.sigstore.bundle+json;version=0.3", message.to_string()),
        ("application/spdx+json", json!({"spdxVersion": "SPDX-2.3"}).to_string()),
        ("application/vnd.cyclonedx+json", json!({"bomFormat": "CycloneDX"}).to_string()),
        ("application/jose+json", json!({"payload": "", "protected": "", "signature": "", "header": {}}).to_string()),
    ] {
        assert_eq!(layer(media_type, text.clone()), Ok(()), "{media_type}");
        assert_eq!(judge(image_config.to_string().as_bytes(), &[(media_type, text.into())]), Ok(()), "{media_type}");
    }
    assert_eq!(layer(COSE, cose()), Ok(()));
}

#[test]
fn what_is_not_what_its_media_type_claims_is_refused() {
    let other = json!({"verificationMaterial": {}, "dsseEnvelope": envelope("text/plain")});
    for (media_type, text) in [
        (SIMPLE_SIGNING, "{}".to_owned()),
        (SIMPLE_SIGNING, simple_signing(&Value::Null) + "x"),
        (DSSE, statement()),
        (DSSE, envelope("text/plain").to_string()),
        (IN_TOTO, "[]".to_owned()),
        (BUNDLE, json!({"verificationMaterial": {}}).to_string()),
        (BUNDLE, other.to_string()),
        ("application/spdx+json", "{}".to_owned()),
        ("application/vnd.cyclonedx+json", json!({"spdxVersion": "x"}).to_string()),
        ("application/jose+json", "{}".to_owned()),
        ("application/json", statement()),
        ("text/plain", statement()),
        (media_type::OCI_LAYER_GZIP, statement()),
        ("", statement()),
    ] {
        assert!(matches!(layer(media_type, text), Err(NotAttachment::Layer(..))), "{media_type}");
    }
    for cut in 0..cose().len() {
        assert!(layer(COSE, &cose()[..cut]).is_err(), "{cut}");
    }
    assert!(layer(COSE, [cose(), vec![0]].concat()).is_err(), "something follows");
    let deep = [&[0xd2, 0x84][..], &[0x81; 100], &[0; 4]].concat();
    assert!(layer(COSE, deep).is_err(), "nested too deep");
    assert!(layer(COSE, b"\xd2\x84\x9b\xff\xff\xff\xff\xff\xff\xff\xff").is_err(), "a length that is not there");
}

#[test]
fn a_tar_labelled_as_a_signature_is_refused() {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut tar::Header::new_gnu(), "x", &b""[..]).unwrap();
    let archive = builder.into_inner().unwrap();
    for media_type in [SIMPLE_SIGNING, DSSE, IN_TOTO, BUNDLE, COSE] {
        assert!(matches!(layer(media_type, archive.clone()), Err(NotAttachment::Archive(_, "tar"))), "{media_type}");
        assert!(matches!(layer(media_type, b"\x1f\x8b\x08\0"), Err(NotAttachment::Archive(_, "gzip"))), "{media_type}");
    }
    let (good, bad) = (simple_signing(&Value::Null), archive.clone());
    assert!(judge(b"{}", &[(SIMPLE_SIGNING, good.into()), (SIMPLE_SIGNING, bad)]).is_err());
    assert_eq!(judge(&archive, &[(IN_TOTO, statement().into())]), Err(NotAttachment::Config));
    let cose_and_tar = [&[0xd2, 0x84, 0x59, 0x03, 0xfb][..], &[0; 507], &archive[..512], &[0xa0, 0x40, 0x40]].concat();
    assert!(cbor::is_sign1(&cose_and_tar));
    assert!(matches!(layer(COSE, cose_and_tar), Err(NotAttachment::Archive(_, "tar"))));
}

/// A v7 tar header needs no NUL: its fields may be padded with spaces. So it fits into a JSON text, and Go's reader,
/// which wants no trailing blocks, would take it.
#[test]
fn json_that_is_a_tar_too_is_refused() {
    let mut text =
        format!(r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"{}"#, "x".repeat(400));
    text.truncate(512);
    let mut header: Vec<u8> = text.into_bytes();
    header.resize(512, b'x');
    for (at, field) in
        [(100, "0000644 "), (108, "0000000 "), (116, "0000000 "), (124, "00000000000 "), (136, "00000000000 ")]
    {
        header[at..at + field.len()].copy_from_slice(field.as_bytes());
    }
    header[156] = b'0';
    let sum: u32 = header[..148].iter().chain(&header[156..]).map(|b| u32::from(*b)).sum::<u32>() + 256;
    header[148..156].copy_from_slice(format!("{sum:07o} ").as_bytes());
    let polyglot = [&header[..], b"\",\"predicate\":{}}"].concat();
    assert!(Statement::parse(&polyglot).is_ok(), "it is a statement");
    assert_eq!(tar::Archive::new(&*polyglot).entries().unwrap().next().unwrap().unwrap().size(), 0, "and a tar");
    assert!(matches!(layer(IN_TOTO, polyglot), Err(NotAttachment::Archive(_, "tar"))));
}

#[test]
fn the_whole_manifest_is_needed() {
    assert_eq!(judge(b"{}", &[]), Err(NotAttachment::Layers));
    assert_eq!(judge(b"[]", &[(IN_TOTO, statement().into())]), Err(NotAttachment::Config));
    let manifest = json!({"schemaVersion": 2, "manifests": []}).to_string();
    let index = Manifest::parse(manifest.into(), None).unwrap();
    assert_eq!(is_attachment(&index, b"{}", &[]), Err(NotAttachment::Index));
    let descriptor = json!({"mediaType": IN_TOTO, "digest": Digest::sha256(b"y"), "size": 1});
    let config = json!({"mediaType": "", "digest": Digest::sha256(b"{}"), "size": 2});
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [descriptor]}).to_string();
    let manifest = Manifest::parse(manifest.into(), None).unwrap();
    assert_eq!(is_attachment(&manifest, b"{}", &[]), Err(NotAttachment::Layers));
    let other = [Bytes::from(statement())];
    assert!(matches!(is_attachment(&manifest, b"{}", &other), Err(NotAttachment::Bytes(_))));
    assert!(matches!(is_attachment(&manifest, b"{ }", &other), Err(NotAttachment::Bytes(_))));
}
