use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use jiff::SignedDuration;

use super::*;
use crate::policy::Observed;
use crate::runtime::{Clock, Tasks};

fn name() -> ImageName {
    ImageName { host: "docker.io".parse().unwrap(), repository: "library/nginx".parse().unwrap() }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn manifest(key: &str, member: Digest) -> Manifest {
    let descriptor = format!(r#"{{"mediaType":"x","digest":"{member}","size":1}}"#);
    let text = match key {
        "manifests" => format!(r#"{{"schemaVersion":2,"manifests":[{descriptor}]}}"#),
        _ => format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[]}}"#),
    };
    Manifest::parse(Bytes::from(text), None).unwrap()
}

#[tokio::test]
async fn tags_and_their_history() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (old, new, tag) = (Digest::sha256(b"old"), Digest::sha256(b"new"), Tag::latest());
    store.record_tag(&name(), &tag, old, at(1)).await.unwrap();
    store.record_tag(&name(), &tag, new, at(5)).await.unwrap();
    assert_eq!(store.tag(&name(), &tag).await.unwrap(), Some((new, at(5))));
    assert_eq!(store.tags_of(&name(), old, at(1)).await.unwrap(), [Tag::latest()]);
    assert_eq!(store.tags_of(&name(), old, at(2)).await.unwrap(), []);
    store.forget_tag(&name(), &tag).await.unwrap();
    assert_eq!(store.tag(&name(), &tag).await.unwrap(), None);
}

#[tokio::test]
async fn a_child_is_known_by_the_tags_of_its_index() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let blob = Digest::sha256(b"blob");
    let image = manifest("config", blob);
    let index = manifest("manifests", image.digest);
    store.record_manifest(&name(), &index, at(1)).await.unwrap();
    assert_eq!(store.unseen_children(&name(), 10).await.unwrap(), [(index.digest, image.digest)]);
    store.record_manifest(&name(), &image, at(2)).await.unwrap();
    assert_eq!(store.unseen_children(&name(), 10).await.unwrap(), []);
    store.record_tag(&name(), &Tag::latest(), index.digest, at(3)).await.unwrap();
    assert_eq!(store.tags_of(&name(), image.digest, at(0)).await.unwrap(), [Tag::latest()]);
    assert_eq!(store.tags_of(&name(), blob, at(0)).await.unwrap(), [], "a blob has no tags");
    assert_eq!(store.naming(&name(), image.digest).await.unwrap(), [index.digest]);
    assert_eq!(store.naming(&name(), blob).await.unwrap(), [image.digest]);
    assert_eq!(store.pulled_children(&name(), index.digest).await.unwrap(), []);
    store.record_pull(&name(), image.digest, at(4)).await.unwrap();
    assert_eq!(store.pulled_children(&name(), index.digest).await.unwrap(), [image.digest]);
}

#[tokio::test]
async fn another_repository_knows_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let other = ImageName { repository: "library/other".parse().unwrap(), ..name() };
    let blob = Digest::sha256(b"blob");
    store.record_link(&name(), blob, 4, at(1)).await.unwrap();
    store.record_manifest(&name(), &manifest("config", blob), at(1)).await.unwrap();
    assert!(store.has_link(&name(), blob).await.unwrap());
    assert!(!store.has_link(&other, blob).await.unwrap());
    assert_eq!(store.naming(&other, blob).await.unwrap(), []);
}

#[tokio::test]
async fn memoised_evidence_is_gathered_once_ends_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let clock = Clock::manual(at(1000));
    let gathered = std::sync::Arc::new(AtomicUsize::new(0));
    let ask = async |store: &Store| {
        let memo = Memo::new("test", 10, store.clone(), clock.clone(), Tasks::new());
        let (counter, now) = (gathered.clone(), clock.now());
        let gather = || async move {
            let value = counter.fetch_add(1, Ordering::SeqCst);
            Observed { value, at: now, until: Some(now + SignedDuration::from_secs(60)) }
        };
        memo.obtain("subject".into(), |_| true, gather).await.unwrap().value
    };
    assert_eq!(ask(&store).await, 0);
    store.close().await;
    let store = Store::open(dir.path()).await.unwrap();
    assert_eq!(ask(&store).await, 0, "the row survived");
    clock.advance(SignedDuration::from_secs(61));
    assert_eq!(ask(&store).await, 1, "it had ended");
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    sqlx::query("UPDATE _sqlx_migrations SET version = 99 WHERE version = 1").execute(&store.pool).await.unwrap();
    store.close().await;
    let error = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { version: 99, .. }), "{error}");
    std::fs::write(dir.path().join("pullgate.db"), "this is no database at all, but it is long enough").unwrap();
    assert!(matches!(Store::open(dir.path()).await, Err(StoreError::Open { .. } | StoreError::Migrate { .. })));
}

#[test]
fn the_state_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let first = StateDir::open(dir.path()).unwrap();
    assert!(matches!(StateDir::open(dir.path()), Err(StateDirError::Locked(_))));
    drop(first);
    StateDir::open(dir.path()).unwrap();
}
