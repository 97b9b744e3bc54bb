mod forgetting;
mod memoised;
mod node_contents;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use jiff::SignedDuration;

use sqlx::Row;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tokio::sync::Notify;

use super::database::migrations;
use super::node::ContentTotals;
use super::tags::TagNames;
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
    assert!(matches!(Store::open(dir.path()).await, Err(StoreError::Damaged { .. })));
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
