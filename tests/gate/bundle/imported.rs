//! What an import makes available, and what it evicts.

use super::*;

/// Where no entry matches, audit mode imports everything, and examines nothing: a signature is not called an image.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unexamined_manifests_are_not_called_images() {
    let (registry, nowhere, folder) = (TestRegistry::start().await, TestRegistry::start().await, temp_dir());
    let app = simple("app");
    registry.push("library/app", Some("1"), &app);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    gate.key().sign(&registry, "library/app", &format!("{HOST}/library/app"), app.root).unwrap();
    let file = folder.path().join("app.tar");
    let done = export(&gate, &file, &[&name("library/app", "1")]).await;
    assert!(done.status.success(), "{}", text(&done));
    let elsewhere = policy("  - {name: \"elsewhere.test/*\", policy: {trust: release}}\n");
    let made = TestGate::new(&nowhere, &elsewhere).upstream("offline = true").with("[gate]\nmode = \"audit\"");
    let gate = made.start().await;
    let done = import(&gate, &file, &[]).await;
    let said = text(&done);
    assert!(done.status.success() && said.contains("is judged when it is pulled"), "{said}");
    assert!(!said.contains("it is an image"), "{said}");
}

/// Its tag counts as seen when it is imported, and not for ever: the next bundle moves it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_of_a_gate_whose_clock_is_ahead_is_noted() {
    let (registry, nowhere, folder) = (TestRegistry::start().await, TestRegistry::start().await, temp_dir());
    let connected = TestGate::new(&registry, ALLOW_ALL).upstream("tag_ttl = \"0s\"").start().await;
    let gate = offline(&nowhere, &connected, ALLOW_ALL).await;
    let (file, ahead) = (folder.path().join("old.tar"), folder.path().join("ahead.tar"));
    registry.push("library/app", Some("1"), &simple("old"));
    assert!(export(&connected, &file, &[&name("library/app", "1")]).await.status.success());
    let changed =
        with_document(&files(&file), |document| document["images"][0]["seen"] = json!("2099-01-01T00:00:00Z"));
    write(&ahead, &changed);
    let done = import(&gate, &ahead, &[]).await;
    let wanted = "the tag 1 was seen on 2099-01-01T00:00:00Z, which is in the future";
    assert!(done.status.success() && text(&done).contains(wanted), "{}", text(&done));
    let (new, later) = (simple("new"), folder.path().join("new.tar"));
    registry.push("library/app", Some("1"), &new);
    assert!(export(&connected, &later, &[&name("library/app", "1")]).await.status.success());
    let done = import(&gate, &later, &[]).await;
    assert!(done.status.success() && !text(&done).contains("in the future"), "{}", text(&done));
    assert_eq!(gate.get("/library/app/manifests/1").await.body, new.manifest().bytes);
}

/// What is only listed as attached, or is an image, is left out. A dry run leaves nothing that a client can get.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_listed_as_attached_does_not_become_available() {
    let (registry, nowhere, folder) = (TestRegistry::start().await, TestRegistry::start().await, temp_dir());
    let (app, other) = (simple("app"), simple("other"));
    registry.push("library/app", Some("1"), &app);
    registry.push("library/app", Some("2"), &other);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let (file, changed) = (folder.path().join("app.tar"), folder.path().join("changed.tar"));
    let done = export(&gate, &file, &[&name("library/app", "1"), &name("library/app", "2")]).await;
    assert!(done.status.success(), "{}", text(&done));
    let hidden = with_document(&files(&file), |document| {
        let mut manifest = document["images"][1]["manifests"][0].clone();
        manifest["is_attached"] = json!(true);
        let list = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
            {"mediaType": manifest["media_type"], "digest": manifest["digest"], "size": manifest["size"]}
        ]});
        let images = document["images"].as_array_mut().expect("images");
        images.truncate(1);
        images[0]["manifests"].as_array_mut().expect("manifests").push(manifest);
        images[0]["attached"][0]["list"]["referrers"] = json!(list.to_string());
    });
    write(&changed, &hidden);
    let gate = offline(&nowhere, &gate, ALLOW_ALL).await;
    let is_absent = async |digest: Digest, layer: Digest| {
        let manifest = gate.get(&format!("/library/app/manifests/{digest}")).await;
        assert_eq!(manifest.status, 404, "{}", manifest.text());
        assert_eq!(gate.get(&format!("/library/app/blobs/{layer}")).await.status, 404);
    };
    let done = import(&gate, &changed, &["--dry-run"]).await;
    assert!(done.status.success() && text(&done).contains("it is left out"), "{}", text(&done));
    is_absent(app.root, app.layers[0]).await;
    is_absent(other.root, other.layers[0]).await;
    let done = import(&gate, &changed, &[]).await;
    assert!(done.status.success() && text(&done).contains("it is left out"), "{}", text(&done));
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    is_absent(other.root, other.layers[0]).await;
    // A list that no client could read is no evidence.
    let garbage = with_document(&files(&file), |document| {
        document["images"][0]["attached"][0]["list"]["referrers"] = json!("{\"manifests\": 1}");
    });
    write(&changed, &garbage);
    let done = import(&gate, &changed, &[]).await;
    assert!(!done.status.success() && text(&done).contains("is unacceptable"), "{}", text(&done));
    // Nothing to import is no success.
    let empty = with_document(&files(&file), |document| document["images"] = json!([]));
    write(&changed, &empty);
    let done = import(&gate, &changed, &[]).await;
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
    assert!(text(&done).contains("it has no images"), "{}", text(&done));
}

/// An image whose layer cannot be compressed.
fn incompressible(seed: u64) -> Built {
    Image::linux_amd64().layer(Layer::gzip(&Tree::new().file("noise", noise(700_000, seed)))).build()
}

/// An import that says that an image is imported has it complete, whatever the size of the cache; and what was imported
/// before stays, unless the operator gives it up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_evicts_nothing_that_only_an_import_can_bring() {
    let (registry, nowhere, folder) = (TestRegistry::start().await, TestRegistry::start().await, temp_dir());
    let images: Vec<Built> = (0..6).map(incompressible).collect();
    for (number, image) in images.iter().enumerate() {
        registry.push("library/app", Some(&number.to_string()), image);
    }
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let (all, last) = (folder.path().join("all.tar"), folder.path().join("last.tar"));
    let names: Vec<String> = (0..6).map(|number| name("library/app", &number.to_string())).collect();
    let words: Vec<&str> = names.iter().map(String::as_str).collect();
    let done = export(&gate, &all, &words).await;
    assert!(done.status.success(), "{}", text(&done));
    assert!(export(&gate, &last, &words[5..]).await.status.success());
    let made = TestGate::new(&nowhere, ALLOW_ALL).upstream("offline = true").with("[cache]\nmax_size = \"3MiB\"");
    let gate = made.start().await;
    let is_complete = async |number: usize| {
        let image = &images[number];
        let manifest = gate.get(&format!("/library/app/manifests/{number}")).await.status;
        let layer = gate.get(&format!("/library/app/blobs/{}", image.layers[0])).await.status;
        (manifest, layer)
    };
    let done = import(&gate, &all, &[]).await;
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
    assert!(text(&done).contains("no room in the cache"), "{}", text(&done));
    let said: Vec<bool> = names.iter().map(|name| text(&done).contains(&format!("{name}: imported"))).collect();
    let count = said.iter().filter(|said| **said).count();
    assert!(count > 0 && count < 6, "{}", text(&done));
    for (number, said) in said.iter().enumerate() {
        let expected = if *said { (200, 200) } else { (404, 404) };
        assert_eq!(is_complete(number).await, expected, "image {number}: {}", text(&done));
    }
    let done = import(&gate, &last, &[]).await;
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
    assert!(text(&done).contains("import evicts only with --evict"), "{}", text(&done));
    for number in (0..6).filter(|number| said[*number]) {
        assert_eq!(is_complete(number).await, (200, 200), "image {number}");
    }
    let done = import(&gate, &last, &["--evict"]).await;
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(is_complete(5).await, (200, 200));
}
