//! A bundle that lies.

use super::*;

/// What a later version may add.
const NEWER_PART: &str = "application/vnd.pullgate.advisories.v2.tar";

/// An index of this many bundles in a format.
fn of_format(format: &str, count: usize) -> Vec<u8> {
    let kind = format!("application/vnd.pullgate.bundle.{format}");
    let entry = json!({"digest": Digest::sha256(b"x"), "artifactType": kind});
    json!({"manifests": vec![entry; count]}).to_string().into_bytes()
}

#[allow(clippy::too_many_lines, reason = "a table")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_lies_brings_nothing() {
    let (registry, nowhere, folder) = (TestRegistry::start().await, TestRegistry::start().await, temp_dir());
    let (app, evil) = (simple("app"), simple("evil"));
    registry.push("library/app", Some("1"), &app);
    registry.push("library/evil", Some("1"), &evil);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let file = folder.path().join("bundle.tar");
    let done = export(&gate, &file, &[&name("library/app", "1"), &name("library/evil", "1")]).await;
    assert!(done.status.success(), "{}", text(&done));
    let rules = policy("  - {name: \"*/library/app\", policy: {}}\n");
    let gate = offline(&nowhere, &gate, &rules).await;
    let good = files(&file);
    let lie = folder.path().join("lie.tar");
    let blob_of = |digest: Digest| blob(&json!(digest));
    let with = |name: String, bytes: Vec<u8>| {
        let mut files = good.clone();
        files.insert(name, bytes);
        files
    };
    let mut wrong_layer = good[&blob_of(app.layers[0])].clone();
    wrong_layer[0] ^= 1;
    let without = |name: String| {
        let mut files = good.clone();
        files.remove(&name);
        files
    };
    let evil_manifest = |image: &Value| image["images"][1]["manifests"][0].clone();
    let cases: Vec<(&str, Files, &str)> = vec![
        ("a layer with other bytes", with(blob_of(app.layers[0]), wrong_layer), "do not have the digest"),
        ("a layer with another size", with(blob_of(app.layers[0]), b"x".to_vec()), "bytes instead of"),
        ("no layer", without(blob_of(app.layers[0])), "it has no blobs/sha256/"),
        (
            "a manifest with other bytes",
            with(blob_of(app.root), b"{}".to_vec()),
            "does not match the digest in its name",
        ),
        ("no manifest", without(blob_of(app.root)), "it has no blobs/sha256/"),
        ("no index", without("index.json".into()), "it has no index.json"),
        (
            "another version of the layout",
            with("oci-layout".into(), b"{\"imageLayoutVersion\":\"2.0.0\"}".to_vec()),
            "image layout \"2.0.0\"",
        ),
        ("no version of the layout", with("oci-layout".into(), b"{}".to_vec()), "oci-layout cannot be read"),
        ("another index", with("index.json".into(), b"{\"manifests\":[]}".to_vec()), "not a bundle of pullgate"),
        ("another format", with("index.json".into(), of_format("v2", 1)), "of the format \"v2\", but this version"),
        ("two bundles", with("index.json".into(), of_format("v1", 2)), "more than one bundle"),
        ("a newer part", with_layer(&good, NEWER_PART, "x", b"x"), "this version of pullgate does not read"),
        ("a huge index", with("index.json".into(), vec![b' '; 17 << 20]), "at most"),
        (
            "another image's digest",
            with_document(&good, |document| document["images"][0]["digest"] = json!(evil.root)),
            "neither part of the image nor listed",
        ),
        (
            "a manifest of no part of the image",
            with_document(&good, |document| {
                let other = evil_manifest(document);
                document["images"][0]["manifests"].as_array_mut().unwrap().push(other);
            }),
            "neither part of the image nor listed",
        ),
        (
            "an image as an attachment",
            with_document(&good, |document| {
                let mut other = evil_manifest(document);
                other["is_attached"] = json!(true);
                document["images"][0]["manifests"].as_array_mut().unwrap().push(other);
            }),
            "neither part of the image nor listed",
        ),
        (
            "a manifest's size",
            with_document(&good, |document| document["images"][0]["manifests"][0]["size"] = json!(1)),
            "with the size that its manifest states",
        ),
        (
            "a list about another image",
            with_document(&good, |document| document["images"][0]["attached"][0]["subject"] = json!(evil.root)),
            "neither part of the image nor listed",
        ),
        (
            "an upstream that is not here",
            with_document(&good, |document| document["images"][0]["name"]["host"] = json!("other.test")),
            "other.test is not an upstream",
        ),
        ("a newer schema", with_document(&good, |document| document["schema"] = json!(2)), "has schema 2"),
        ("an unknown member", with_document(&good, |document| document["x"] = json!(2)), "unknown field"),
    ];
    for (what, files, why) in cases {
        write(&lie, &files);
        let done = import(&gate, &lie, &[]).await;
        assert_eq!(done.status.code(), Some(1), "{what}: {}", text(&done));
        assert!(text(&done).contains(why), "{what}: {}", text(&done));
        let got = gate.get("/library/app/manifests/1").await;
        assert_eq!(got.status, 404, "{what}: {}", got.text());
    }
    // The denied image is not available under the name of the admitted one either, and its layers open nowhere.
    let renamed = with_document(&good, |document| document["images"].as_array_mut().unwrap().truncate(1));
    write(&lie, &renamed);
    assert!(import(&gate, &lie, &[]).await.status.success());
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    assert_eq!(gate.get(&format!("/library/app/manifests/{}", evil.root)).await.status, 404);
    assert_eq!(gate.get(&format!("/library/app/blobs/{}", evil.layers[0])).await.status, 404);
    // A time in the future is not a way to keep a tag forever.
    let future = with_document(&renamed, |document| document["images"][0]["seen"] = json!("9000-01-01T00:00:00Z"));
    write(&lie, &future);
    assert!(import(&gate, &lie, &[]).await.status.success());
    assert_eq!(nowhere.requests().len(), 0);
}
