//! Content of this node.

use super::*;

#[tokio::test]
async fn content_is_new_once_and_is_deleted_with_its_references() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (config, other) = (Digest::sha256(b"config"), Digest::sha256(b"other"));
    let (image, again) = (manifest("config", config), manifest("config", other));
    assert!(store.node.record(NewContent::manifest(&image, at(1))).await.unwrap());
    assert!(!store.node.record(NewContent::manifest(&image, at(2))).await.unwrap());
    for blob in [config, other] {
        assert!(store.node.record(NewContent::blob(blob, 7, at(1))).await.unwrap());
    }
    let digests = |found: Vec<StoredContent>| found.into_iter().map(|content| content.digest).collect::<Vec<_>>();
    assert_eq!(digests(store.node.unnamed_blobs(10).await.unwrap()), [other]);
    assert_eq!(store.node.parts_of(image.digest).await.unwrap().len(), 2);
    assert_eq!(
        store.node.touch_contents(&[(image.digest, at(5)), (again.digest, at(5))]).await.unwrap(),
        [again.digest]
    );
    assert_eq!(store.node.oldest_manifests(Some(at(5)), 0, 10).await.unwrap(), []);
    store.node.forget_contents(&[image.digest]).await.unwrap();
    assert_eq!(
        store.node.unnamed_blobs(10).await.unwrap().len(),
        2,
        "no manifest references the configuration anymore"
    );
    let totals = ContentTotals { blobs: 2, blob_bytes: 14, manifests: 0, manifest_bytes: 0 };
    assert_eq!(store.node.content_totals().await.unwrap(), totals);
}

#[tokio::test]
async fn content_is_listed_with_its_repositories_and_pins() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (shared, lone) = (Digest::sha256(b"shared"), Digest::sha256(b"lone"));
    let image = manifest("config", shared);
    let text =
        format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"{shared}","size":1}},"layers":[],"x":1}}"#);
    let other = Manifest::parse(Bytes::from(text), None).unwrap();
    let index = manifest("manifests", image.digest);
    for blob in [shared, lone] {
        store.node.record(NewContent::blob(blob, 7, at(1))).await.unwrap();
    }
    for (manifest, seconds) in [(&index, 4), (&image, 2), (&other, 3)] {
        store.node.record(NewContent::manifest(manifest, at(seconds))).await.unwrap();
    }
    store.node.pin(&pinned("a", index.digest), &[index.digest, image.digest]).await.unwrap();
    let mut listed = store.node.listed_contents(None, 2).await.unwrap();
    assert_eq!(listed.len(), 2, "a page");
    listed.extend(store.node.listed_contents(Some(listed[1].content.digest), 10).await.unwrap());
    let about = |digest: Digest| {
        let found = listed.iter().find(|one| one.content.digest == digest).unwrap();
        (found.content.used_at, found.is_index, found.is_pinned)
    };
    assert_eq!(listed.len(), 5);
    assert_eq!(about(index.digest), (at(4), true, true));
    assert_eq!(about(image.digest), (at(2), false, true));
    assert_eq!(about(other.digest), (at(3), false, false));
    assert_eq!(about(shared), (at(3), false, true), "it was used when a manifest was that names it");
    assert_eq!(about(lone), (at(1), false, false));

    let digests = |found: Vec<StoredContent>| found.iter().map(|one| one.digest).collect::<HashSet<_>>();
    let whole = async |digest| digests(store.node.whole(digest).await.unwrap());
    assert_eq!(
        whole(index.digest).await,
        HashSet::from([index.digest, image.digest]),
        "another manifest needs the blob"
    );
    assert_eq!(whole(other.digest).await, HashSet::from([other.digest]));
    assert_eq!(whole(lone).await, HashSet::from([lone]));
    assert_eq!(whole(Digest::sha256(b"absent")).await, HashSet::new());
    assert_eq!(store.node.pins_keeping(&[shared]).await.unwrap(), ["a"]);
    assert_eq!(store.node.pins_keeping(&[image.digest, index.digest]).await.unwrap(), ["a"]);
    assert_eq!(store.node.pins_keeping(&[other.digest, lone]).await.unwrap(), Vec::<String>::new());
    let named = store.node.named_by(image.digest).await.unwrap();
    assert_eq!(named.iter().map(|one| (one.content.digest, one.names)).collect::<Vec<_>>(), [(shared, 2)]);
    store.node.forget_contents(&[other.digest]).await.unwrap();
    assert_eq!(whole(index.digest).await, HashSet::from([index.digest, image.digest, shared]));
}

#[tokio::test]
async fn manifests_are_listed_in_the_order_of_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let manifests: Vec<_> = (0..4_u8).map(|n| manifest("config", Digest::sha256(&[n]))).collect();
    for (manifest, seconds) in manifests.iter().zip([2, 1, 2, 3]) {
        store.node.record(NewContent::manifest(manifest, at(seconds))).await.unwrap();
    }
    store.node.pin(&pinned("a", manifests[3].digest), &[manifests[3].digest]).await.unwrap();
    let (mut after, mut found) = (None, Vec::new());
    while let Some((listed, position)) = store.node.manifests_by_use(after, 1).await.unwrap().pop() {
        found.push(listed.content.digest);
        after = Some(position);
    }
    assert_eq!(found, [1, 0, 2].map(|n: usize| manifests[n].digest), "without those that are pinned");
}

#[tokio::test]
async fn the_repositories_of_content_are_those_that_delivered_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let other = ImageName { repository: "library/other".parse().unwrap(), ..name() };
    let (blob, nothing) = (Digest::sha256(b"blob"), Digest::sha256(b"nothing"));
    let image = manifest("config", blob);
    for name in [&name(), &other] {
        store.facts.record(NewFacts::new(at(1)).link(name, blob, 4, at(1))).await.unwrap();
    }
    store.facts.record(NewFacts::new(at(1)).manifest(&name(), &image, at(1))).await.unwrap();
    let found = store.facts.repositories_of(&[image.digest, nothing, blob], 10).await.unwrap();
    let (nginx, other) = ("docker.io/library/nginx", "docker.io/library/other");
    assert_eq!(found, [vec![nginx], vec![], vec![nginx, other]]);
    assert_eq!(store.facts.repositories_of(&[blob], 1).await.unwrap()[0].len(), 1);
}
