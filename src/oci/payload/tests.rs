use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn simple_signing() {
    // As cosign writes it.
    let text = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"a.b/c"}},"image":{{"docker-manifest-digest":"{DIGEST}"}},"type":"cosign container image signature"}},"optional":{{"tag":"v1"}}}}"#
    );
    let read = SimpleSigning::parse(text.as_bytes()).unwrap();
    assert_eq!((&*read.reference, read.digest), ("a.b/c", DIGEST.parse().unwrap()));
    for (from, to) in [
        (r#""optional":{"tag":"v1"}"#, r#""optional":{"tag":"v1","tag":"v2"}"#),
        (r#","optional":{"tag":"v1"}"#, ""),
        (r#""optional""#, r#""extra":1,"optional""#),
        ("a.b/c\"}", "a.b/c\",\"x\":1}"),
        ("\"a.b/c\"", "1"),
        ("cosign container", "Cosign container"),
        (DIGEST, "sha256:00"),
        ("critical", "Critical"),
        ("{\"critical", " x{\"critical"),
    ] {
        assert!(text.contains(from));
        assert!(SimpleSigning::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
    }
}

/// secure-systems-lab/dsse, protocol.md, "Test Vectors".
#[test]
fn pre_authentication_encoding() {
    let encoded = pae("http://example.com/HelloWorld", b"hello world");
    assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
}

#[test]
fn envelopes() {
    let text = r#"{"payloadType":"t","payload":"-_8=","signatures":[{"keyid":"","sig":"AA=="}]}"#;
    let read = Envelope::parse(text.as_bytes()).unwrap();
    assert_eq!((&*read.payload_type, &*read.payload), ("t", &[0xfb, 0xff][..]));
    for (from, to) in [
        ("-_8=", "-_"),
        ("[{\"keyid\":\"\",\"sig\":\"AA==\"}]", "[]"),
        ("\"sig\"", "\"Sig\""),
        ("AA==", "?"),
        ("\"payload\":", "\"payload\":\"\",\"payload\":"),
        ("\"t\"", "1"),
    ] {
        assert!(Envelope::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
    }
}

#[test]
fn statements() {
    let text = format!(
        r#"{{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"p","subject":[{{"name":"n","digest":{{"sha256":"{}","gitCommit":"00"}}}},{{"name":"m"}}],"predicate":{{"A":1,"a":2}}}}"#,
        &DIGEST[7..]
    );
    let read = Statement::parse(text.as_bytes()).unwrap();
    let digests: Vec<_> = read.subjects.iter().flat_map(|subject| subject.digests.clone()).collect();
    assert_eq!((&*read.predicate_type, &*digests), ("p", &[DIGEST.parse().unwrap()][..]));
    for (from, to) in [
        ("Statement/v0.1", "Statement/v9"),
        ("predicateType", "predicate_type"),
        ("\"subject\":[", "\"subject\":[],\"Subject\":["),
        ("\"subject\"", "\"object\""),
        ("\"a\":2", "\"A\":2"),
    ] {
        assert!(Statement::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
    }
}

#[test]
fn a_predicate_takes_memory_only_once_its_signature_was_verified() {
    let chain = format!("{}0{}", "{\"\":".repeat(100), "}".repeat(100));
    let text = format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"digest":{{"sha256":"{}"}}}}],"predicateType":"x","predicate":[{}]}}"#,
        DIGEST.trim_start_matches("sha256:"),
        vec![&*chain; 2000].join(",")
    );
    assert_eq!(Statement::parse(text.as_bytes()).unwrap().subjects.len(), 1);
    // Even a trusted signer's predicate has a limit.
    let error = StatementBody::parse(text.as_bytes(), &[DIGEST.parse().unwrap()]).unwrap_err().to_string();
    assert!(error.contains("too many values for its size"), "{error}");
}

#[test]
fn jws() {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let text = format!(
        r#"{{"payload":"{}","protected":"{}","header":{{"x5c":[]}},"signature":"AAAA"}}"#,
        encode(r#"{"targetArtifact":{}}"#),
        encode(r#"{"alg":"PS256"}"#)
    );
    assert_eq!(Jws::parse(text.as_bytes()).unwrap().protected["alg"], "PS256");
    for (from, to) in [
        (encode(r#"{"alg":"PS256"}"#), encode(r#"{"alg":1}"#)),
        (encode(r#"{"alg":"PS256"}"#), String::new()),
        (encode(r#"{"targetArtifact":{}}"#), encode("plain text")),
        (encode(r#"{"targetArtifact":{}}"#), "e30=".into()),
        ("AAAA".into(), "?".into()),
        ("\"header\"".into(), "\"more\"".into()),
        ("\"signature\"".into(), "\"Signature\"".into()),
    ] {
        assert!(Jws::parse(text.replacen(&from, &to, 1).as_bytes()).is_err(), "{to}");
    }
}
