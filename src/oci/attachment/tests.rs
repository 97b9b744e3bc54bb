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
    // 18([h'a10126', {1: [2, "x"]}, h'00', h'0102'])
    vec![0xd2, 0x84, 0x43, 0xa1, 0x01, 0x26, 0xa1, 0x01, 0x82, 0x02, 0x61, b'x', 0x41, 0x00, 0x42, 0x01, 0x02]
}

fn jws() -> String {
    use base64::Engine as _;
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    json!({"payload": part("{}"), "protected": part("{\"alg\":\"PS256\"}"), "signature": "AAAA", "header": {}})
        .to_string()
}

/// The configuration that cosign writes for one layer.
fn cosign_config(layer: &str) -> Value {
    json!({
        "architecture": "", "created": "0001-01-01T00:00:00Z", "history": [{"created": "0001-01-01T00:00:00Z"}], "os": "",
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(layer.as_bytes())]}, "config": {}
    })
}

#[test]
fn signatures_attestations_and_sboms_are_attachments() {
    let bundle = json!({"mediaType": BUNDLE, "verificationMaterial": {}, "dsseEnvelope": envelope(IN_TOTO)});
    let message = json!({"mediaType": BUNDLE, "verificationMaterial": {}, "messageSignature": {}});
    for (media_type, text) in [
        (SIMPLE_SIGNING, simple_signing(&Value::Null)),
        (DSSE, envelope(IN_TOTO).to_string()),
        (IN_TOTO, statement()),
        (BUNDLE, bundle.to_string()),
        (BUNDLE, message.to_string()),
        ("application/vnd.dev.sigstore.bundle+json;version=0.3", message.to_string()),
        ("application/spdx+json", json!({"spdxVersion": "SPDX-2.3", "SPDXID": "x"}).to_string()),
        ("application/vnd.cyclonedx+json", json!({"bomFormat": "CycloneDX", "specVersion": "1.6"}).to_string()),
        ("application/jose+json", jws()),
    ] {
        assert_eq!(layer(media_type, text.clone()), Ok(()), "{media_type}");
        let image_config = cosign_config(&text);
        assert_eq!(judge(image_config.to_string().as_bytes(), &[(media_type, text.into())]), Ok(()), "{media_type}");
    }
    assert_eq!(layer(COSE, cose()), Ok(()));
}

#[test]
fn layers_that_do_not_match_their_media_type_are_refused() {
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
        ("application/spdx+json", json!({"spdxVersion": "SPDX-2.3"}).to_string()),
        ("application/vnd.cyclonedx+json", json!({"bomFormat": "CycloneDX"}).to_string()),
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
    assert!(layer(COSE, [cose(), vec![0]].concat()).is_err(), "trailing data");
    let deep = [&[0xd2, 0x84][..], &[0x81; 100], &[0; 4]].concat();
    assert!(layer(COSE, deep).is_err(), "nested too deeply");
    assert!(layer(COSE, b"\xd2\x84\x9b\xff\xff\xff\xff\xff\xff\xff\xff").is_err(), "a length beyond the input");
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
    // The header is inside the payload, at offset 512.
    let cose_and_tar =
        [&[0xd2, 0x84, 0x43, 0xa1, 0x01, 0x26, 0xa0, 0x59, 0x03, 0xf6][..], &[0; 502], &archive[..512], &[0x41, 0]]
            .concat();
    assert!(cose::is_sign1(&cose_and_tar));
    assert!(matches!(layer(COSE, cose_and_tar), Err(NotAttachment::Archive(_, "tar"))));
}

/// A v7 tar header needs no NUL: its fields may be padded with spaces. It therefore fits into JSON text, and Go's
/// reader, which needs no trailing blocks, would accept it.
#[test]
fn a_json_document_that_is_also_a_tar_is_refused() {
    let start = r#"{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":""#;
    let polyglot = text_and_tar(start, "\",\"predicate\":{}}");
    assert!(Statement::parse(&polyglot).is_ok(), "it is a statement");
    assert_eq!(tar::Archive::new(&*polyglot).entries().unwrap().next().unwrap().unwrap().size(), 0, "and also a tar");
    assert!(matches!(layer(IN_TOTO, polyglot), Err(NotAttachment::Archive(_, "tar"))));
    let statement = || [(IN_TOTO, statement().into())];
    assert_eq!(judge(br#"{"name":"x"}"#, &statement()), Ok(()));
    let config = text_and_tar(r#"{"name":""#, "\"}");
    assert_eq!(judge(&config, &statement()), Err(NotAttachment::Config), "it is not a configuration either");
}

/// Text that is a tar header up to byte 512, with its own end after that.
fn text_and_tar(start: &str, end: &str) -> Vec<u8> {
    let mut header: Vec<u8> = start.into();
    header.resize(512, b'x');
    for (at, field) in
        [(100, "0000644 "), (108, "0000000 "), (116, "0000000 "), (124, "00000000000 "), (136, "00000000000 ")]
    {
        header[at..at + field.len()].copy_from_slice(field.as_bytes());
    }
    header[156] = b'0';
    let sum: u32 = header[..148].iter().chain(&header[156..]).map(|b| u32::from(*b)).sum::<u32>() + 256;
    header[148..156].copy_from_slice(format!("{sum:07o} ").as_bytes());
    [&header[..], end.as_bytes()].concat()
}

#[test]
fn all_blobs_of_the_manifest_are_required() {
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

#[test]
fn cose_items_must_have_the_right_types() {
    for (what, bytes) in [
        ("no payload", &b"\xd2\x84\x43\xa1\x01\x26\xa0\xf6\x41\0"[..]),
        ("additional labels", b"\xd2\x84\x47\xa2\x02\x81\x03\x01\x38\x24\xa0\xf6\x41\0"),
    ] {
        assert!(cose::is_sign1(bytes), "{what}");
    }
    for (what, bytes) in [
        ("the protected header is text", &b"\xd2\x84\x63\xa1\x01\x26\xa0\xf6\x41\0"[..]),
        ("the protected header is empty", b"\xd2\x84\x40\xa0\xf6\x41\0"),
        ("the protected header is not a map", b"\xd2\x84\x43abc\xa0\xf6\x41\0"),
        ("trailing data after the map", b"\xd2\x84\x44\xa1\x01\x26\0\xa0\xf6\x41\0"),
        ("no algorithm", b"\xd2\x84\x43\xa1\x02\x26\xa0\xf6\x41\0"),
        ("the algorithm is text", b"\xd2\x84\x44\xa1\x01\x61x\xa0\xf6\x41\0"),
        ("the unprotected header is an array", b"\xd2\x84\x43\xa1\x01\x26\x80\xf6\x41\0"),
        ("the payload is a number", b"\xd2\x84\x43\xa1\x01\x26\xa0\x00\x41\0"),
        ("the signature is null", b"\xd2\x84\x43\xa1\x01\x26\xa0\xf6\xf6"),
        ("the signature is empty", b"\xd2\x84\x43\xa1\x01\x26\xa0\xf6\x40"),
        ("another tag", b"\xd1\x84\x43\xa1\x01\x26\xa0\xf6\x41\0"),
    ] {
        assert!(!cose::is_sign1(bytes), "{what}");
    }
}

#[test]
fn runnable_configurations_are_refused() {
    let judge = |config: &Value| judge(config.to_string().as_bytes(), &[(IN_TOTO, statement().into())]);
    let cosign = cosign_config(&statement());
    let build_kit = json!({
        "architecture": "unknown", "os": "unknown", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(statement().as_bytes())]}
    });
    for config in [cosign.clone(), build_kit, json!({}), json!({"name": "chart", "Env": []})] {
        assert_eq!(judge(&config), Ok(()), "{config}");
    }
    for (key, value) in [
        ("architecture", json!("amd64")),
        ("os", json!("linux")),
        ("OS", json!("")),
        ("o\u{17f}", json!("linux")),
        ("config", json!({"Entrypoint": ["/x"]})),
        ("config", json!({"Env": ["PATH=/"]})),
        ("Config", json!({})),
        ("container_config", json!({"Cmd": ["x"]})),
        ("Cmd", json!(["x"])),
        ("entrypoint", json!(["x"])),
        ("User", json!("root")),
        ("WorKingDir", json!("/")),
        ("history", json!([{"created_by": "RUN x"}])),
        ("rootfs", json!({"type": "layers", "diff_ids": [Digest::sha256(b"other")]})),
        ("rootfs", json!({"type": "layers", "diff_ids": []  , "base_layer": "x"})),
        ("rootfs", json!("layers")),
        ("layers", json!([{"size": 1}])),
    ] {
        let mut config = cosign.clone();
        config[key] = value;
        assert_eq!(judge(&config), Err(NotAttachment::Config), "{config}");
    }
}

/// Files that cosign and BuildKit really wrote.
#[test]
fn recorded_attachments_are_accepted() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/cosign"));
    let mut passed = 0;
    for form in ["classic/tag", "bundle/manifest"] {
        for entry in std::fs::read_dir(folder.join(form)).unwrap() {
            let manifest = Manifest::parse(std::fs::read(entry.unwrap().path()).unwrap().into(), None).unwrap();
            let Content::Image { config, layers } = &manifest.content else { continue };
            let blobs = folder.join(form).parent().unwrap().join("blob");
            let blob = |d: &Descriptor| Bytes::from(std::fs::read(blobs.join(&d.digest.hex()[..12])).unwrap());
            let layers: Vec<_> = layers.iter().map(blob).collect();
            assert_eq!(is_attachment(&manifest, &blob(config), &layers), Ok(()));
            passed += 1;
        }
    }
    assert!(passed >= 4, "{passed}");
}
