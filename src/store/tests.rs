use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use jiff::SignedDuration;

use sqlx::Row;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tokio::sync::Notify;

use super::database::migrations;
use super::*;
use crate::oci::{ImageName, Manifest, Tag};
use crate::policy::Observed;
use crate::runtime::{Clock, Epoch, Tasks};

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

/// The digest that a tag refers to, and the time of the lookup.
async fn meaning(store: &Store, tag: &Tag) -> Option<(Digest, Timestamp)> {
    store.facts.tag(&name(), tag).await.unwrap().map(|found| (found.digest, found.checked_at))
}

fn pinned(image: &str, digest: Digest) -> PinnedImage {
    PinnedImage { image: image.into(), digest, reason: None, by: None, created: at(1) }
}

#[tokio::test]
async fn tags_and_their_history_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (old, new, tag) = (Digest::sha256(b"old"), Digest::sha256(b"new"), Tag::latest());
    store.facts.record(NewFacts::new(at(1)).tag(&name(), &tag, old, at(1))).await.unwrap();
    store.facts.record(NewFacts::new(at(5)).tag(&name(), &tag, new, at(5))).await.unwrap();
    assert_eq!(meaning(&store, &tag).await, Some((new, at(5))));
    assert_eq!(store.facts.tags_of(&name(), old, at(1)).await.unwrap(), [Tag::latest()]);
    assert_eq!(store.facts.tags_of(&name(), old, at(2)).await.unwrap(), []);
    store.facts.forget_tag(&name(), &tag, at(6)).await.unwrap();
    assert_eq!(meaning(&store, &tag).await, None);
}

#[tokio::test]
async fn names_of_all_tags_are_read_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let mut names = std::collections::BTreeSet::new();
    let mut facts = NewFacts::new(at(1));
    // Tags that begin alike, and repositories that do.
    for (host, repository) in [("a.io", "x"), ("a.io", "x/y"), ("a.io", "x-y"), ("b.io", "x")] {
        for tag in ["1", "1.0", "1-0", "1_0", "10", "A", "a", "latest"] {
            let name = ImageName { host: host.parse().unwrap(), repository: repository.parse().unwrap() };
            facts = facts.tag(&name, &tag.parse().unwrap(), Digest::sha256(b"x"), at(1));
            names.insert((host.to_owned(), repository.to_owned(), tag.to_owned()));
        }
    }
    store.facts.record(facts).await.unwrap();
    for limit in [1, 2, 3, 7, 100] {
        let (mut read, mut last) = (Vec::new(), None);
        loop {
            let page = store.facts.tag_names(last.as_ref(), limit).await.unwrap();
            let Some(end) = page.last() else { break };
            last = Some(end.last());
            let of = |names: &TagNames| {
                let named = |tag: &str| (names.host.clone(), names.repository.clone(), tag.to_owned());
                names.tags().map(named).collect::<Vec<_>>()
            };
            read.extend(page.iter().flat_map(of));
        }
        assert_eq!(read.len(), names.len(), "{limit}");
        assert!(read.iter().all(|name| names.contains(name)), "{limit}");
    }
}

#[tokio::test]
async fn a_child_is_known_by_the_tags_of_its_index() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let blob = Digest::sha256(b"blob");
    let image = manifest("config", blob);
    let index = manifest("manifests", image.digest);
    store.facts.record(NewFacts::new(at(1)).manifest(&name(), &index, at(1))).await.unwrap();
    assert_eq!(store.facts.unseen_children(&name(), 10).await.unwrap(), [(index.digest, image.digest)]);
    store.facts.record(NewFacts::new(at(2)).manifest(&name(), &image, at(2))).await.unwrap();
    assert_eq!(store.facts.unseen_children(&name(), 10).await.unwrap(), []);
    store.facts.record(NewFacts::new(at(3)).tag(&name(), &Tag::latest(), index.digest, at(3))).await.unwrap();
    assert_eq!(store.facts.tags_of(&name(), image.digest, at(0)).await.unwrap(), [Tag::latest()]);
    assert_eq!(store.facts.tags_of(&name(), blob, at(0)).await.unwrap(), [], "a blob has no tags");
    assert_eq!(store.facts.naming(&name(), image.digest, 100).await.unwrap(), [index.digest]);
    assert_eq!(store.facts.naming(&name(), blob, 100).await.unwrap(), [image.digest]);
    let among = [image.digest, blob];
    assert_eq!(store.facts.manifests_among(&name(), &among).await.unwrap(), [(image.digest, false)]);
    store.facts.record(NewFacts::new(at(4)).pull(&name(), image.digest, at(4))).await.unwrap();
    assert_eq!(store.facts.manifests_among(&name(), &among).await.unwrap(), [(image.digest, true)]);
}

#[tokio::test]
async fn facts_of_one_repository_are_not_visible_in_another() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let other = ImageName { repository: "library/other".parse().unwrap(), ..name() };
    let blob = Digest::sha256(b"blob");
    store.facts.record(NewFacts::new(at(1)).link(&name(), blob, 4, at(1))).await.unwrap();
    store.facts.record(NewFacts::new(at(1)).manifest(&name(), &manifest("config", blob), at(1))).await.unwrap();
    assert!(store.facts.has_link(&name(), blob).await.unwrap());
    assert!(!store.facts.has_link(&other, blob).await.unwrap());
    assert_eq!(store.facts.naming(&other, blob, 100).await.unwrap(), []);
}

/// A count, which is never evidence that something is absent.
impl Evidence for usize {
    fn is_negative(&self) -> bool {
        false
    }
}

/// The result of a search; `None` if nothing was found.
impl Evidence for Option<String> {
    fn is_negative(&self) -> bool {
        self.is_none()
    }
}

/// A signature that is added later is found, even if the evidence was created without an end.
#[tokio::test]
async fn negative_evidence_always_expires() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let clock = Clock::manual(at(1000));
    let memo = Memo::new("absent", store.facts.clone(), clock.clone(), Tasks::new());
    let gather = |value: Option<String>| {
        let at = clock.now();
        move || async move { Observed { value, at, until: None } }
    };
    let absent = memo.obtain("gathered".into(), |_| true, gather(None)).await.unwrap();
    let until = absent.until.unwrap();
    let remembered = Observed { value: None, at: clock.now(), until: None };
    assert_eq!(memo.remember("remembered".into(), remembered, |_| true).await.until, Some(until));
    let found = memo.obtain("found".into(), |_| true, gather(Some("x".into()))).await.unwrap();
    assert_eq!(found.until, None, "positive evidence needs no end");
    clock.advance(until.duration_since(clock.now()));
    for subject in ["gathered", "remembered"] {
        assert!(memo.known(&subject.into()).await.is_none(), "{subject}");
        let again = memo.obtain(subject.into(), |_| true, gather(Some("y".into()))).await.unwrap();
        assert_eq!(again.value.as_deref(), Some("y"));
    }
}

/// A repository that is slow, or does not have the bytes, does not decide for another one.
#[tokio::test]
async fn repositories_share_what_was_found_and_not_the_search() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let clock = Clock::manual(at(1000));
    let memo = Memo::new("test", store.facts.clone(), clock.clone(), Tasks::new());
    let slow = name();
    let other = ImageName { host: "other.io".parse().unwrap(), ..name() };
    let now = clock.now();
    let (begun, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (asked, opened) = (begun.clone(), gate.clone());
    let failing = || async move {
        asked.notify_one();
        opened.notified().await;
        Observed { value: 0, at: now, until: Some(now) }
    };
    let mut waiting = Box::pin(memo.obtain_from(&slow, "subject".into(), |value| *value > 0, failing));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    begun.notified().await;
    let found = || async move { Observed { value: 1, at: now, until: None } };
    assert_eq!(memo.obtain_from(&other, "subject".into(), |_| true, found).await.unwrap().value, 1);
    gate.notify_one();
    assert_eq!(waiting.await.unwrap().value, 0);
    assert_eq!(memo.recall(&"subject".into()).unwrap().value, 1, "the failure replaced what was found");
    assert!(memo.known(&"subject".into()).await.is_some());
}

#[tokio::test]
async fn memoised_evidence_is_gathered_once_expires_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let clock = Clock::manual(at(1000));
    let gathered = Arc::new(AtomicUsize::new(0));
    let ask = async |store: &Store| {
        let memo = Memo::new("test", store.facts.clone(), clock.clone(), Tasks::new());
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
    assert_eq!(ask(&store).await, 1, "the evidence had expired");
}

/// The number of rows of the kinds that peers cause.
async fn rows(store: &Store) -> i64 {
    let sql = "SELECT (SELECT COUNT(*) FROM manifests) + (SELECT COUNT(*) FROM members) \
               + (SELECT COUNT(*) FROM image_tops) + (SELECT COUNT(*) FROM tags) \
               + (SELECT COUNT(*) FROM tag_history) + (SELECT COUNT(*) FROM links) + (SELECT COUNT(*) FROM evidence)";
    sqlx::query(sql).fetch_one(&store.database.readers).await.unwrap().try_get(0).unwrap()
}

/// Adds one row of each kind, about a separate image.
async fn fill(store: &Store, number: i64) -> Manifest {
    let image = manifest("config", Digest::sha256(&number.to_be_bytes()));
    store.facts.record(NewFacts::new(at(number)).manifest(&name(), &image, at(number))).await.unwrap();
    store
        .facts
        .record(NewFacts::new(at(number)).tag(
            &name(),
            &format!("v{number}").parse().unwrap(),
            image.digest,
            at(number),
        ))
        .await
        .unwrap();
    store.facts.record(NewFacts::new(at(number)).link(&name(), image.digest, 1, at(number))).await.unwrap();
    let evidence = Observed { value: "x".repeat(2000), at: at(number), until: None };
    store.facts.record_evidence("trust", &format!("{}@{} key", name(), image.digest), evidence).await.unwrap();
    image
}

#[tokio::test]
async fn facts_are_forgotten_by_age_unless_content_needs_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (kept, gone, pulled) = (fill(&store, 1).await, fill(&store, 2).await, fill(&store, 3).await);
    store.node.record(NewContent::manifest(&kept, at(1))).await.unwrap();
    store.facts.record(NewFacts::new(at(50)).pull(&name(), pulled.digest, at(50))).await.unwrap();
    let before = store.facts.forgettings();
    assert_eq!(
        store.forget_before(at(10)).await.unwrap(),
        6 + 4,
        "all facts about one image, and the old facts about the pulled one"
    );
    assert_eq!(store.facts.forgettings(), before + 1);
    for (image, is_known) in [(&kept, true), (&gone, false), (&pulled, true)] {
        assert_eq!(store.facts.manifest(&name(), image.digest).await.unwrap().is_some(), is_known);
    }
    assert_eq!(rows(&store).await, 6 + 2);
    assert_eq!(store.forget_before(at(10)).await.unwrap(), 0);
    assert_eq!(store.facts.forgettings(), before + 1, "nothing was forgotten");
    assert_eq!(
        store.facts.drop_stale(at(60), at(60)).await.unwrap(),
        1,
        "the tag that was seen too long ago to be a name"
    );
}

/// The owners of copies of these rows must drop them, and no decision may be reused that depends on them.
#[tokio::test]
async fn deletions_before_a_database_failure_are_reported() {
    let (dir, epoch) = (tempfile::tempdir().unwrap(), Epoch::new());
    let store = Store::open(dir.path()).await.unwrap().with_epoch(epoch.clone());
    let image = fill(&store, 1).await;
    let (before, moment) = (store.facts.forgettings(), epoch.moment(name()));
    sqlx::query("DROP TABLE evidence").execute(&store.database.writer).await.unwrap();
    assert!(store.forget_before(at(10)).await.is_err());
    assert!(store.facts.manifest(&name(), image.digest).await.unwrap().is_none(), "it is gone");
    assert!(store.facts.forgettings() != before && !epoch.is_now(&moment));
}

#[tokio::test]
async fn least_recently_used_facts_are_deleted_until_the_rest_fits_and_the_file_shrinks() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (mut oldest, mut newest) = (None, None);
    for number in 0..300 {
        let image = fill(&store, number).await;
        oldest.get_or_insert(image.digest);
        newest = Some(image.digest);
    }
    let size = store.live_bytes().await.unwrap();
    let file = || std::fs::metadata(dir.path().join("pullgate.db")).unwrap().len();
    assert!(store.forget_least_used(size / 2, at(300)).await.unwrap() > 0);
    assert!(store.live_bytes().await.unwrap() <= size / 2);
    assert!(store.facts.manifest(&name(), oldest.unwrap()).await.unwrap().is_none());
    assert!(
        store.facts.manifest(&name(), newest.unwrap()).await.unwrap().is_some(),
        "no more rows are deleted than necessary"
    );
    assert!(store.shrink().await.unwrap() > 0);
    assert!(file() <= size / 2 + 64 * 1024, "{} of {size}", file());
    store.forget_least_used(0, at(300)).await.unwrap();
    assert_eq!(rows(&store).await, 0, "all rows that no content needs can be deleted");
}

/// One image with very many packages must not evict others.
#[tokio::test]
async fn large_evidence_is_forgotten_even_if_content_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let usual = fill(&store, 1).await;
    store.node.record(NewContent::manifest(&usual, at(1))).await.unwrap();
    let (before, large) = (store.live_bytes().await.unwrap(), usual.digest.to_string());
    let evidence = Observed { value: "x".repeat(2 << 20), at: at(1), until: None };
    store.facts.record_evidence("layer", &large, evidence).await.unwrap();
    assert_eq!(store.forget_least_used(before, at(2)).await.unwrap(), 0, "content needs it");
    assert_eq!(store.forget_largest(8 << 20).await.unwrap(), 0, "there is room");
    assert_eq!(store.forget_largest(0).await.unwrap(), 1);
    assert!(store.facts.evidence("layer", &large, at(2)).await.unwrap().is_none());
    let usual = format!("{}@{} key", name(), usual.digest);
    assert!(store.facts.evidence("trust", &usual, at(2)).await.unwrap().is_some(), "small rows stay");
}

#[tokio::test]
async fn database_of_an_earlier_version_keeps_its_rows_and_can_shrink() {
    let dir = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new().filename(dir.path().join("pullgate.db")).create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let mut first = migrations();
    first.migrations.to_mut().truncate(2);
    first.run(&pool).await.unwrap();
    sqlx::query("INSERT INTO tags VALUES ('docker.io', 'library/nginx', 'latest', ?1, 1000)")
        .bind(Digest::sha256(b"x").to_string())
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    let store = Store::open(dir.path()).await.unwrap();
    assert_eq!(meaning(&store, &Tag::latest()).await, Some((Digest::sha256(b"x"), at(1))));
    // A connection that was opened before the file was rewritten still has the old mode, so a new connection is used.
    store.close().await;
    let store = Store::open(dir.path()).await.unwrap();
    let mode: i64 =
        sqlx::query("PRAGMA auto_vacuum").fetch_one(&store.database.readers).await.unwrap().try_get(0).unwrap();
    assert_eq!(mode, 2, "incremental");
}

#[tokio::test]
async fn newer_database_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    sqlx::query("UPDATE _sqlx_migrations SET version = version + 97 WHERE version IN (1, 2)")
        .execute(&store.database.writer)
        .await
        .unwrap();
    store.close().await;
    let error = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { version: 99, .. }), "{error}");
    std::fs::write(dir.path().join("pullgate.db"), "this is no database at all, but it is long enough").unwrap();
    assert!(matches!(Store::open(dir.path()).await, Err(StoreError::Open { .. } | StoreError::Migrate { .. })));
    assert!(dir.path().join("pullgate.db-reserve").exists(), "the disk is not full: this is kept for when it is");
}

#[test]
fn only_one_process_can_open_the_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = StateDir::open(dir.path()).unwrap();
    assert!(matches!(StateDir::open(dir.path()), Err(StateDirError::Locked(_))));
    assert!(StateDir::is_in_use(dir.path()));
    drop(first);
    assert!(!StateDir::is_in_use(dir.path()));
    StateDir::open(dir.path()).unwrap();
}

#[tokio::test]
async fn other_users_cannot_access_files_left_by_a_crash() {
    use std::os::unix::fs::PermissionsExt as _;
    let (running, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _store = Store::open(running.path()).await.unwrap();
    let files = || std::fs::read_dir(crashed.path()).unwrap().map(|entry| entry.unwrap().path());
    for entry in std::fs::read_dir(running.path()).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), crashed.path().join(entry.unwrap().file_name()));
        std::fs::copy(from, &to).unwrap();
        std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    assert!(files().any(|path| path.to_string_lossy().ends_with("-wal")));
    let _again = Store::open(crashed.path()).await.unwrap();
    for path in files() {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}

/// Another gate may write the same facts, and facts that waited because the disk was full are written late.
#[tokio::test]
async fn newest_observation_wins_in_any_order_of_writing() {
    let (old, new, tag) = (Digest::sha256(b"old"), Digest::sha256(b"new"), Tag::latest());
    let facts = [
        NewFacts::new(at(9)).tag(&name(), &tag, old, at(1)).link(&name(), old, 1, at(1)),
        NewFacts::new(at(9)).tag(&name(), &tag, new, at(5)).link(&name(), old, 1, at(5)),
    ];
    let evidence = [("old", 1), ("new", 5)];
    for first in [0, 1] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        for number in [first, 1 - first] {
            store.facts.record(facts[number].clone()).await.unwrap();
            store.facts.record(facts[number].clone()).await.unwrap();
            let (value, seconds) = evidence[number];
            let observed = Observed { value: value.to_owned(), at: at(seconds), until: None };
            store.facts.record_evidence("topic", "subject", observed).await.unwrap();
        }
        assert_eq!(meaning(&store, &tag).await, Some((new, at(5))));
        assert_eq!(store.facts.evidence("topic", "subject", at(9)).await.unwrap().unwrap().value, "new");
        let seen: i64 = sqlx::query("SELECT seen_at FROM links")
            .fetch_one(store.facts.readers())
            .await
            .unwrap()
            .try_get(0)
            .unwrap();
        assert_eq!(seen, at(5).as_millisecond());
        store.facts.move_tag(&name(), &tag, old, at(4)).await.unwrap();
        store.facts.forget_tag(&name(), &tag, at(4)).await.unwrap();
        assert_eq!(meaning(&store, &tag).await, Some((new, at(5))), "learned after that");
        store.facts.forget_tag(&name(), &tag, at(5)).await.unwrap();
        assert_eq!(meaning(&store, &tag).await, None);
    }
}

/// Otherwise a tag could not move until the time that a wrong clock has recorded.
#[tokio::test]
async fn row_with_a_time_in_the_future_loses() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (ahead, now, tag) = (Digest::sha256(b"ahead"), Digest::sha256(b"now"), Tag::latest());
    store.facts.record(NewFacts::new(at(10_000)).tag(&name(), &tag, ahead, at(10_000))).await.unwrap();
    store.facts.record(NewFacts::new(at(1000)).tag(&name(), &tag, now, at(1000))).await.unwrap();
    assert_eq!(meaning(&store, &tag).await, Some((now, at(1000))));
}

#[tokio::test]
async fn rows_of_many_callers_are_committed_when_each_call_returns() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let link = |number: u32| {
        let digest = Digest::sha256(&number.to_be_bytes());
        (digest, NewFacts::new(at(1)).link(&name(), digest, 1, at(1)))
    };
    let record = async |number| {
        let (digest, facts) = link(number);
        store.facts.record(facts).await.unwrap();
        assert!(store.facts.has_link(&name(), digest).await.unwrap());
    };
    futures_util::future::join_all((0..300).map(record)).await;
    // The rows of a caller that is dropped are not lost.
    let (digest, facts) = link(1000);
    let held = store.hold_writes().await;
    {
        let mut left = Box::pin(store.facts.record(facts));
        assert!(futures_util::poll!(&mut left).is_pending());
    }
    drop(held);
    record(1001).await;
    assert!(store.facts.has_link(&name(), digest).await.unwrap());
    store.forbid_writing(true).await;
    let fails = async |number| store.facts.record(link(number).1).await.is_err();
    assert_eq!(futures_util::future::join_all((2000..2010).map(fails)).await, [true; 10]);
    store.forbid_writing(false).await;
    record(2000).await;
    // Nor are those that were left behind when the database is closed.
    let (digest, facts) = link(3000);
    let held = store.hold_writes().await;
    {
        let mut left = Box::pin(store.facts.record(facts));
        assert!(futures_util::poll!(&mut left).is_pending());
    }
    drop(held);
    store.close().await;
    let store = Store::open(dir.path()).await.unwrap();
    assert!(store.facts.has_link(&name(), digest).await.unwrap());
}

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
async fn content_is_listed_with_what_names_and_keeps_it() {
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

/// Facts can be moved to a shared database only if no statement reads them together with this node's rows.
#[test]
fn no_statement_reads_both_facts_and_content_of_this_node() {
    let facts = [
        include_str!("attached.rs"),
        include_str!("evidence.rs"),
        include_str!("facts.rs"),
        include_str!("forget.rs"),
        include_str!("new_facts.rs"),
        include_str!("tags.rs"),
    ];
    let reads = |source: &str, table: &str| {
        ["FROM", "INTO", "UPDATE", "JOIN"].iter().any(|word| source.contains(&format!("{word} {table}")))
    };
    let node = concat!(include_str!("contents.rs"), include_str!("node.rs"), include_str!("pins.rs"));
    for table in ["contents", "content_parts", "pins", "pinned_manifests"] {
        assert!(facts.iter().all(|source| !reads(source, table)), "{table}");
        assert!(reads(node, table), "{table} is another name now");
    }
    let verdicts = concat!(
        include_str!("verdicts.rs"),
        include_str!("verdicts/events.rs"),
        include_str!("verdicts/history.rs"),
        include_str!("verdicts/listing.rs"),
        include_str!("verdicts/pulls.rs"),
        include_str!("verdicts/rematch.rs"),
        include_str!("verdicts/repository_issues.rs")
    );
    for table in [
        "verdicts",
        "verdict_clients",
        "verdict_manifests",
        "image_history",
        "checked_admissions",
        "issue_history",
        "judged_repositories",
        "repository_issues",
        "events",
    ] {
        assert!(facts.iter().chain([&node]).all(|source| !reads(source, table)), "{table}");
    }
    assert!(["contents", "content_parts"].iter().all(|table| !reads(verdicts, table)));
    for table in ["manifests", "members", "image_tops", "tags", "tag_history", "links", "evidence"] {
        assert!(!reads(node, table) && !reads(verdicts, table), "{table}");
        assert!(facts.iter().any(|source| reads(source, table)), "{table} is another name now");
    }
}

#[tokio::test]
async fn content_that_turns_out_to_be_a_manifest_is_recorded_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let image = manifest("config", Digest::sha256(b"blob"));
    let manifests = async || store.node.oldest_manifests(None, 0, 9).await.unwrap().len();
    for (content, wanted) in [
        (NewContent::blob(image.digest, 1, at(1)), 0),
        (NewContent::manifest(&image, at(2)), 1),
        (NewContent::blob(image.digest, 1, at(3)), 1),
    ] {
        store.node.record(content).await.unwrap();
        assert_eq!(manifests().await, wanted);
    }
    let parts = store.node.parts_of(image.digest).await.unwrap();
    assert!(parts.iter().all(|part| part.digest == image.digest && part.is_manifest) && parts.len() == 1);
}

#[tokio::test]
async fn exemptions_are_stored_replaced_and_removed() {
    use crate::policy::{ExemptionRecord, ExemptionScope, IssueType, MAX_EXEMPTIONS};
    let record = |id: &str| ExemptionRecord::new(ExemptionScope::EVERYTHING, IssueType::Cve, Some(id), None).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let packages = |package: &str| {
        let scope = "us.icr.io/birds/bluebird:v1".parse().unwrap();
        ExemptionRecord::new(scope, IssueType::Package, None, Some(package.parse().unwrap())).unwrap()
    };
    let first = ExemptionRecord { created: Some(at(1)), expires: Some(at(9)), ..record("CVE-1") };
    let second = packages("pkg:deb/debian/openssl").explained(Some("ann"), Some("why")).unwrap();
    let second = ExemptionRecord { created: Some(at(2)), ..second };
    assert!(store.exemptions.put(&[first.clone(), second.clone()], at(3)).await.unwrap());
    assert_eq!(store.exemptions.all().await.unwrap(), [first.clone(), second.clone()]);
    let later = ExemptionRecord { created: Some(at(4)), expires: None, ..record("cve-1") };
    assert!(store.exemptions.put(std::slice::from_ref(&later), at(4)).await.unwrap());
    store.close().await;
    let store = Store::open(dir.path()).await.unwrap();
    assert_eq!(store.exemptions.all().await.unwrap(), [second.clone(), later.clone()]);
    store.exemptions.remove(&[&second.id]).await.unwrap();
    assert_eq!(store.exemptions.all().await.unwrap(), std::slice::from_ref(&later));
    // A row that was changed by hand is not another exemption.
    let change = "UPDATE exemptions SET scope = 'birds'";
    sqlx::query(change).execute(&store.database.writer).await.unwrap();
    assert_eq!(store.exemptions.all().await.unwrap(), []);
    let many: Vec<_> = (0..MAX_EXEMPTIONS).map(|n| record(&format!("CVE-2-{n}"))).collect();
    assert!(!store.exemptions.put(&many, at(5)).await.unwrap(), "one too many");
    assert!(store.exemptions.put(&many[1..], at(5)).await.unwrap());
}
