use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn blob(media_type: &str, extra: &str) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{HEX}","size":0{extra}}}"#)
}

fn image_text(extra: &str) -> String {
    let (config, layer) = (blob(media_type::OCI_CONFIG, ""), blob(media_type::OCI_LAYER_GZIP, ""));
    format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]{extra}}}"#)
}

fn parse(text: &str) -> Result<Manifest, Refused> {
    Manifest::parse(Bytes::copy_from_slice(text.as_bytes()), None)
}

#[test]
fn images_and_indexes() {
    let manifest = parse(&image_text("")).unwrap();
    assert_eq!(manifest.media_type, media_type::OCI_MANIFEST);
    assert!(manifest.names_blob(&Digest::sha256(b"")));
    assert!(!manifest.names_blob(&Digest::sha256(b"x")));
    let child = blob(media_type::OCI_MANIFEST, r#","platform":{"os":"linux","architecture":"arm","variant":"v7"}"#);
    let index = parse(&format!(r#"{{"schemaVersion":2,"manifests":[{child}]}}"#)).unwrap();
    assert_eq!(index.media_type, media_type::OCI_INDEX);
    assert_eq!(index.children()[0].platform.as_ref().unwrap().to_string(), "linux/arm/v7");
    assert!(!index.names_blob(&Digest::sha256(b"")), "a child manifest is not a blob");
}

#[test]
fn null_fields_count_as_absent_as_in_go() {
    let text = image_text(r#","subject":null,"annotations":null,"artifactType":null"#);
    assert!(parse(&text).unwrap().subject.is_none());
}

#[test]
fn unacceptable_manifests_are_refused() {
    let embedded = blob(media_type::OCI_MANIFEST, r#","data":"e30=""#);
    for (text, part) in [
        ("[]".to_owned(), "not a JSON object"),
        ("{".to_owned(), "not JSON"),
        (r#"{"schemaVersion":2}"#.to_owned(), "neither manifests"),
        (r#"{"schemaVersion":2,"layers":[]}"#.to_owned(), "config is missing"),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "schema 1"),
        (image_text(r#","fsLayers":[]"#), "schema 1"),
        (image_text(r#","manifests":[]"#), "both an index and an image"),
        (image_text(r#","Layers":[]"#), "the key \"Layers\" as \"layers\""),
        (image_text(r#","layers":[]"#), "duplicate key"),
        (image_text(r#","mediaType":"application/vnd.oci.image.index.v1+json""#), "does not match"),
        (image_text("").replace("sha256:", "md5:"), "unknown digest algorithm"),
        (image_text("").replace("\"size\":0", "\"size\":-1"), "size"),
        (image_text("").replace("\"size\":0", "\"size\":1.5"), "size"),
        (image_text("").replace("\"size\":0", "\"size\":1e3"), "size"),
        (image_text("").replace("\"schemaVersion\":2", "\"schemaVersion\":3"), "schemaVersion"),
        (format!(r#"{{"schemaVersion":2,"manifests":[{embedded}]}}"#), "embeds a manifest"),
        (image_text(&format!(r#","subject":{embedded}"#)), "embeds a manifest"),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}\n{error}");
    }
    assert_eq!(Manifest::parse(Bytes::from(vec![b' '; MAX_MANIFEST + 1]), None).unwrap_err(), Refused::TooLarge);
}

#[test]
fn the_header_must_agree_with_the_body() {
    let parse = |text: &str, header| Manifest::parse(Bytes::copy_from_slice(text.as_bytes()), Some(header));
    let said = image_text(r#","mediaType":"application/vnd.docker.distribution.manifest.v2+json""#);
    assert_eq!(parse(&said, media_type::DOCKER_MANIFEST).unwrap().media_type, media_type::DOCKER_MANIFEST);
    assert_eq!(parse(&said, "application/json").unwrap().media_type, media_type::DOCKER_MANIFEST);
    assert!(matches!(parse(&said, media_type::OCI_MANIFEST), Err(Refused::ContentType(..))));
    // If the body names no type, its structure decides; the header counts only if it matches.
    for wrong in [media_type::OCI_INDEX, media_type::DOCKER_LIST] {
        assert_eq!(parse(&image_text(""), wrong).unwrap().media_type, media_type::OCI_MANIFEST);
    }
    let index = r#"{"schemaVersion":2,"manifests":[]}"#;
    assert_eq!(parse(index, media_type::DOCKER_MANIFEST).unwrap().media_type, media_type::OCI_INDEX);
    assert_eq!(parse(index, media_type::DOCKER_LIST).unwrap().media_type, media_type::DOCKER_LIST);
    let two = format!("{}, {}", media_type::DOCKER_MANIFEST, media_type::OCI_MANIFEST);
    assert!(matches!(parse(&image_text(""), &two), Err(Refused::ContentType(..))));
    assert_eq!(parse(&image_text(""), media_type::DOCKER_SCHEMA1_SIGNED).unwrap_err(), Refused::Schema1);
}

#[test]
fn headers_without_a_manifest_type_are_ignored() {
    let parse = |text: &str, header: &str| Manifest::parse(Bytes::copy_from_slice(text.as_bytes()), Some(header));
    let (silent, docker) = (image_text(""), media_type::DOCKER_MANIFEST);
    let said = image_text(&format!(r#","mediaType":"{docker}""#));
    let doubled = format!("{docker}, {docker}");
    for header in
        ["text/plain; charset=utf-8", "text/html", "text/json", "application/x-gzip", ",;,", "", "nonsense", &doubled]
    {
        assert_eq!(parse(&said, header).unwrap().media_type, docker, "{header}");
    }
    assert_eq!(parse(&silent, "text/html").unwrap().media_type, media_type::OCI_MANIFEST);
    assert_eq!(parse(&silent, &doubled).unwrap().media_type, docker);
    let schema1 = r#"{"schemaVersion":1,"fsLayers":[]}"#;
    assert_eq!(parse(schema1, "text/plain").unwrap_err(), Refused::Schema1);
    for header in [format!("{docker}, {}", media_type::OCI_MANIFEST), format!("text/html, {}", media_type::OCI_INDEX)] {
        assert!(matches!(parse(&said, &header), Err(Refused::ContentType(..))), "{header}");
    }
}

#[test]
fn pages_and_errors_are_not_reported_as_refused_manifests() {
    for text in
        ["<html>down</html>", "", "null", "[1]", "{}", r#"{"errors":[{"code":"DENIED"}]}"#, r#"{"schemaVersion":2}"#]
    {
        assert!(matches!(parse(text), Err(Refused::NoManifest(_))), "{text}");
    }
    for text in [
        r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
        image_text(r#","Layers":[]"#),
        r#"{"schemaVersion":2,"Manifests":[]}"#.to_owned(),
    ] {
        assert!(!matches!(parse(&text), Ok(_) | Err(Refused::NoManifest(_))), "{text}");
    }
}

#[test]
fn descriptor_platforms_are_normalised() {
    for (platform, wanted) in [
        (r#"{"os":"linux","architecture":"arm64","variant":"v8"}"#, Some("linux/arm64")),
        (r#"{"architecture":"x86_64"}"#, Some("linux/amd64")),
        (r#"{"os":"unknown","architecture":"unknown"}"#, Some("unknown/unknown")),
        (r#"{"os":"linux"}"#, None),
        ("{}", None),
        ("null", None),
    ] {
        let child = blob(media_type::OCI_MANIFEST, &format!(r#","platform":{platform}"#));
        let index = parse(&format!(r#"{{"schemaVersion":2,"manifests":[{child}]}}"#)).unwrap();
        let found = index.children()[0].platform.as_ref().map(ToString::to_string);
        assert_eq!(found.as_deref(), wanted, "{platform}");
    }
}

#[test]
fn urls_are_found_in_every_descriptor() {
    let text = image_text("").replacen("\"size\":0", r#""size":0,"urls":["https://evil.example/x"]"#, 1);
    let manifest = parse(&text).unwrap();
    assert_eq!(manifest.foreign_url(|_| false), Some("https://evil.example/x"));
    assert_eq!(manifest.foreign_url(|url| url.starts_with("https://evil.example/")), None);
}

#[test]
fn a_manifest_can_be_named_by_another_algorithm() {
    let manifest = parse(&image_text("")).unwrap();
    let sha512 = Digest::of(crate::oci::Algorithm::Sha512, &manifest.bytes);
    assert_eq!(manifest.clone().named(sha512).unwrap().digest, sha512);
    assert_eq!(manifest.named(Digest::sha256(b"other")).unwrap_err(), Refused::Digest);
}

/// The error of the strict parse is kept. The text is not parsed a second time.
#[test]
fn a_manifest_whose_values_take_much_memory_is_refused() {
    let chain = format!("{}0{}", "{\"\":".repeat(100), "}".repeat(100));
    let junk = format!(r#","x":[{}]"#, vec![&*chain; 6000].join(","));
    let error = parse(&image_text(&junk)).unwrap_err();
    assert!(matches!(error, Refused::Json(_)) && error.to_string().contains("too many values for its size"), "{error}");
}

#[test]
fn at_most_a_thousand_descriptors_are_accepted() {
    let of = |key: &str, count: usize| {
        let listed = vec![blob("x", ""); count].join(",");
        parse(&match key {
            "layers" => image_text("").replace(&blob(media_type::OCI_LAYER_GZIP, ""), &listed),
            _ => format!(r#"{{"schemaVersion":2,"manifests":[{listed}]}}"#),
        })
    };
    for key in ["layers", "manifests"] {
        assert!(of(key, 1000).is_ok(), "{key}");
        assert!(matches!(of(key, 1001), Err(Refused::Entries(refused)) if refused == key), "{key}");
    }
}
