//! Attestations of BuildKit, which an index lists beside its images.

use pullgate::sample::image::attachment;

use super::*;

fn attestation(about: &Built) -> Built {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://slsa.dev/provenance/v0.2", "predicate": {},
        "subject": [{"name": "app", "digest": {"sha256": about.root.hex()}}]
    });
    attachment(&[Layer::of("application/vnd.in-toto+json", statement.to_string())])
}

/// The entry of an attestation, as BuildKit writes it.
fn entry(attestation: &Built, about: &Built) -> Value {
    let mut entry = attestation.plain_descriptor();
    entry["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    entry["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": about.root
    });
    entry
}

/// Those of the exported platforms are carried, whichever index lists them, and those that are not there are noted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attestations_of_the_exported_platforms_are_carried() {
    let (registry, nowhere, folder) = (TestRegistry::start().await, TestRegistry::start().await, temp_dir());
    let [ours, nested, lost, other] =
        ["linux/s390x", "linux/s390x/z13", "linux/s390x/z14", "linux/mips64le"].map(image_of);
    let [of_ours, of_nested, of_lost, of_other] = [&ours, &nested, &lost, &other].map(attestation);
    let inner = index(&[nested.descriptor(), entry(&of_nested, &nested)], &[&nested, &of_nested]);
    let entries = [
        ours.descriptor(),
        inner.plain_descriptor(),
        lost.descriptor(),
        other.descriptor(),
        entry(&of_ours, &ours),
        entry(&of_lost, &lost),
        entry(&of_other, &other),
    ];
    let root = index(&entries, &[&ours, &inner, &lost, &other, &of_ours, &of_lost, &of_other]);
    registry.push("library/app", Some("1"), &root);
    registry.delete_manifest("library/app", &of_lost.root);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    for signed in [&root, &inner] {
        gate.key().sign(&registry, "library/app", &format!("{HOST}/library/app"), signed.root).unwrap();
    }
    let file = folder.path().join("app.tar");
    let done = export(&gate, &file, &[&name("library/app", "1"), "--platform", "linux/s390x"]).await;
    assert!(done.status.success() && text(&done).contains("7 manifests, 2 attached"), "{}", text(&done));
    assert!(text(&done).contains(&format!("note: attestation {}: ", of_lost.root)), "{}", text(&done));

    let made = TestGate::new(&nowhere, &policy(SIGNED)).file("policies/release.pub", &gate.key().public_pem());
    let gate = made.with("[gate]\nplatforms = [\"linux/s390x\"]").upstream("offline = true").start().await;
    let done = import(&gate, &file, &[]).await;
    assert!(done.status.success() && !text(&done).contains("is not available"), "{}", text(&done));
    assert_eq!(gate.get("/library/app/manifests/1").await.body, root.manifest().bytes);
    for carried in [&of_ours, &of_nested] {
        let got = gate.get(&format!("/library/app/manifests/{}", carried.root)).await;
        assert_eq!((got.status, &got.body), (200, &carried.manifest().bytes), "{}", got.text());
        for (digest, bytes) in &carried.blobs {
            assert_eq!(gate.get(&format!("/library/app/blobs/{digest}")).await.body, *bytes);
        }
    }
    for missing in [&of_lost, &of_other] {
        assert_eq!(gate.get(&format!("/library/app/manifests/{}", missing.root)).await.status, 404);
    }
    assert_eq!(nowhere.requests().len(), 0);
}
