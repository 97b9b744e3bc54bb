//! Verdicts, clients, histories and queued events as rows.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::oci::Manifest;
use crate::store::Store;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// These issues, which count from this time on if they are not known.
fn new<'a>(names: &[&'a str], second: i64) -> NewIssueTimes<'a> {
    names.iter().map(|name| (*name, at(second))).collect()
}

fn basis(databases: &str, rules: &str) -> VerdictBasis {
    VerdictBasis { databases: databases.into(), rules: rules.into() }
}

fn manifest(image: &str) -> Arc<Manifest> {
    let config = Digest::sha256(image.as_bytes());
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"{config}","size":1}},"layers":[],"annotations":{{"n":"{image}"}}}}"#
    );
    Arc::new(Manifest::parse(Bytes::from(text), None).unwrap())
}

/// A pull of an image, by tag unless the tag is empty, that was admitted under the generation `g1` and the rules `r1`.
fn pull(image: &str, tag: &str, client: &str, second: i64) -> AdmittedPull {
    let manifest = manifest(image);
    AdmittedPull {
        scope: Scope::CLUSTER,
        name: ImageName { host: "a.test".parse().unwrap(), repository: "team/app".parse().unwrap() },
        digest: manifest.digest,
        tag: (!tag.is_empty()).then(|| tag.parse().unwrap()),
        kind: Kind::Image,
        outcome: VerdictOutcome { decision: StoredDecision::Admit, reason: String::new(), basis: basis("g1", "r1") },
        has_checked_va: true,
        until: None,
        at: at(second),
        client: client.into(),
        client_name: None,
        manifest: Some(manifest),
    }
}

fn event(verdict: &StoredVerdict) -> Vec<NewEvent> {
    let (_, at) = verdict.change.as_ref().unwrap();
    vec![NewEvent { id: format!("{} {at}", verdict.digest), receiver: "r".into(), body: "{}".into(), at: *at }]
}

fn rejudged(before: StoredVerdict, decision: StoredDecision, basis: VerdictBasis) -> Rejudged {
    let reason = if decision == StoredDecision::Admit { "" } else { "CVE-1" };
    let now = Ok(VerdictOutcome { decision, reason: reason.into(), basis: basis.clone() });
    Rejudged { before, now, until: None, basis }
}

async fn store() -> (tempfile::TempDir, VerdictStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    (dir, store.verdicts)
}

async fn record(store: &VerdictStore, pulls: &[AdmittedPull]) -> Vec<StoredVerdict> {
    store.record_pulls(pulls, &event).await.unwrap()
}

async fn all_outdated(store: &VerdictStore, basis: &VerdictBasis, now: i64) -> Vec<StoredVerdict> {
    store.outdated(basis, at(now), &mut VerdictPage::default(), 100).await.unwrap()
}

#[tokio::test]
async fn outdated_verdicts_are_listed_hottest_first_and_judged_once() {
    let (_dir, store) = store().await;
    let pulls: Vec<_> = (0..5).map(|n| pull(&n.to_string(), "1", "10.0.0.1", 10 + n)).collect();
    assert!(record(&store, &pulls).await.is_empty());
    assert!(all_outdated(&store, &basis("g1", "r1"), 100).await.is_empty());
    let (next, mut page) = (basis("g2", "r1"), VerdictPage::default());
    assert_eq!(store.count_outdated(&next).await.unwrap(), 5);
    let first = store.outdated(&next, at(100), &mut page, 3).await.unwrap();
    assert_eq!(first.iter().map(|verdict| verdict.pulled_at).collect::<Vec<_>>(), [at(14), at(13), at(12)]);
    let denied = |verdict: &StoredVerdict| verdict.pulled_at == at(13);
    let decision = |verdict: &StoredVerdict| if denied(verdict) { StoredDecision::Deny } else { StoredDecision::Admit };
    let found: Vec<_> = first.into_iter().map(|v| rejudged(v.clone(), decision(&v), next.clone())).collect();
    let changed = store.store_rejudged(&found, at(50), &event).await.unwrap();
    assert_eq!(changed.len(), 1);
    let (before, when) = changed[0].change.clone().unwrap();
    assert_eq!((before.decision, before.basis, when), (StoredDecision::Admit, basis("g1", "r1"), at(50)));
    assert_eq!((changed[0].outcome.decision, &changed[0].outcome.basis), (StoredDecision::Deny, &next));
    assert_eq!(changed[0].cause(), Some("databases"));
    // After a restart, only the others are judged again.
    let rest = all_outdated(&store, &next, 100).await;
    assert_eq!(rest.iter().map(|verdict| verdict.pulled_at).collect::<Vec<_>>(), [at(11), at(10)]);
    assert_eq!(store.outdated(&next, at(100), &mut page, 3).await.unwrap(), rest, "the page goes on");
    // What was recorded again since it was read is not overwritten.
    let stale: Vec<_> = rest.into_iter().map(|v| rejudged(v, StoredDecision::Deny, next.clone())).collect();
    record(&store, &[pull("0", "1", "10.0.0.1", 60), pull("1", "1", "10.0.0.1", 61)]).await;
    assert!(store.store_rejudged(&stale, at(70), &event).await.unwrap().is_empty());
    let listed = store.list(VerdictFilter::ChangedSince(at(50))).await.unwrap();
    assert_eq!(listed.verdicts.len(), 1);
    assert!(store.list(VerdictFilter::ChangedSince(at(51))).await.unwrap().verdicts.is_empty());
    assert_eq!(store.count_events().await.unwrap(), 1, "queued with the change");
}

/// Whatever a reason or an event contains, and however many there are.
#[tokio::test]
async fn many_changes_are_stored_and_queued_together_in_the_order_of_the_verdicts() {
    let (_dir, store) = store().await;
    let pulls: Vec<_> = (0..300).map(|n| pull(&n.to_string(), "1", "10.0.0.1", 10 + n)).collect();
    record(&store, &pulls).await;
    let (next, reason, body) = (basis("g2", "r1"), "a \"reason\"\n\u{e9}\\", "{\"a\": \"\\n\"}");
    let verdicts = store.outdated(&next, at(1000), &mut VerdictPage::default(), 1000).await.unwrap();
    let denied: Vec<_> = verdicts
        .into_iter()
        .map(|verdict| {
            let now = VerdictOutcome { decision: StoredDecision::Deny, reason: reason.into(), basis: next.clone() };
            Rejudged { before: verdict, now: Ok(now), until: Some(at(2000)), basis: next.clone() }
        })
        .collect();
    let event = |verdict: &StoredVerdict| vec![NewEvent { body: body.into(), ..event(verdict).remove(0) }];
    let changed = store.store_rejudged(&denied, at(1000), &event).await.unwrap();
    assert_eq!(changed.iter().map(|v| v.pulled_at).collect::<Vec<_>>(), (10..310).rev().map(at).collect::<Vec<_>>());
    assert_eq!(changed[0].outcome, denied[0].now.clone().unwrap());
    assert_eq!(changed[0].change.as_ref().unwrap().0, denied[0].before.outcome);
    assert_eq!(store.next_end().await.unwrap(), Some(at(2000)));
    for verdict in &changed {
        let first = store.first_event("r").await.unwrap().unwrap();
        assert_eq!((first.id, &*first.body), (format!("{} {}", verdict.digest, at(1000)), body));
        store.remove_event(first.number).await.unwrap();
    }
    assert!(
        store.store_rejudged(&denied, at(1001), &event).await.unwrap().is_empty(),
        "they are not those that were read"
    );
    assert_eq!(store.count_events().await.unwrap(), 0);
}

#[tokio::test]
async fn a_verdict_that_cannot_be_judged_stays_and_one_that_ends_is_judged_again() {
    let (_dir, store) = store().await;
    record(&store, &[AdmittedPull { until: Some(at(40)), ..pull("a", "1", "10.0.0.1", 10) }]).await;
    let current = basis("g1", "r1");
    assert_eq!(store.next_end().await.unwrap(), Some(at(40)));
    assert!(all_outdated(&store, &current, 39).await.is_empty());
    let ended = all_outdated(&store, &current, 40).await.remove(0);
    let doubt = Rejudged { before: ended, now: Err("no answer".into()), until: None, basis: current.clone() };
    assert!(store.store_rejudged(&[doubt], at(41), &event).await.unwrap().is_empty());
    assert!(all_outdated(&store, &current, 50).await.is_empty(), "it is not tried forever");
    let verdict = all_outdated(&store, &basis("g2", "r1"), 50).await.remove(0);
    assert_eq!((verdict.outcome.decision, verdict.doubt.as_deref()), (StoredDecision::Admit, Some("no answer")));
}

/// Whoever asks what changed last night is not told what changed since.
#[tokio::test]
async fn the_cause_of_a_change_stays_whatever_changes_later() {
    let (_dir, store) = store().await;
    record(&store, &[pull("a", "1", "10.0.0.1", 10)]).await;
    let rejudge = async |decision, to: VerdictBasis, at_second| {
        let before = all_outdated(&store, &to, at_second).await.remove(0);
        let stored = store.store_rejudged(&[rejudged(before, decision, to)], at(at_second), &event).await.unwrap();
        stored.first().and_then(StoredVerdict::cause)
    };
    assert_eq!(rejudge(StoredDecision::Deny, basis("g1", "r2"), 30).await, Some("rules"));
    let listed = async || store.list(VerdictFilter::ChangedSince(at(0))).await.unwrap().verdicts.remove(0).0;
    assert_eq!(listed().await.cause(), Some("rules"));
    assert_eq!(rejudge(StoredDecision::Deny, basis("g2", "r2"), 40).await, None);
    let later = listed().await;
    assert_eq!(
        (later.cause(), later.changed_basis, later.outcome.basis),
        (Some("rules"), Some(basis("g1", "r2")), basis("g2", "r2"))
    );
    assert_eq!(rejudge(StoredDecision::Admit, basis("g3", "r2"), 50).await, Some("databases"));
    assert_eq!(listed().await.changed_basis, Some(basis("g3", "r2")));
    record(&store, &[pull("a", "1", "10.0.0.1", 60)]).await;
    assert_eq!(listed().await.cause(), Some("databases"));
}

#[tokio::test]
async fn a_pull_shows_that_a_denied_image_was_released() {
    let (_dir, store) = store().await;
    record(&store, &[pull("a", "1", "10.0.0.1", 10)]).await;
    let verdict = all_outdated(&store, &basis("g2", "r1"), 20).await.remove(0);
    store.store_rejudged(&[rejudged(verdict, StoredDecision::Deny, basis("g2", "r1"))], at(20), &event).await.unwrap();
    // The entries for the tag may be stricter than those for the digest.
    assert!(record(&store, &[pull("a", "", "10.0.0.1", 30)]).await.is_empty());
    let denied = store.list(VerdictFilter::DeniedPulledSince(at(30))).await.unwrap().verdicts.remove(0).0;
    assert_eq!((denied.outcome.decision, denied.tag.as_ref().map(Tag::as_str)), (StoredDecision::Deny, Some("1")));
    // Two pulls in one batch are one change.
    let changed = record(&store, &[pull("a", "1", "10.0.0.1", 40), pull("a", "1", "10.0.0.2", 40)]).await;
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].change.as_ref().unwrap().0.decision, StoredDecision::Deny);
    assert!(store.list(VerdictFilter::DeniedPulledSince(at(0))).await.unwrap().verdicts.is_empty());
    assert_eq!(store.count_events().await.unwrap(), 2);
}

#[tokio::test]
async fn rows_are_bounded() {
    let (_dir, store) = store().await;
    let clients = pulls::MAX_CLIENTS + 10;
    let many: Vec<_> = (0..clients).map(|n| pull("a", "1", &format!("10.0.0.{n}"), n)).collect();
    record(&store, &many).await;
    record(&store, &[pull("b", "", "10.0.0.1", 1000), pull("c", "", "10.0.0.1", 2000)]).await;
    let next = basis("g2", "r1");
    let verdicts = all_outdated(&store, &next, 3000).await;
    let denied: Vec<_> = verdicts.into_iter().map(|v| rejudged(v, StoredDecision::Deny, next.clone())).collect();
    store.store_rejudged(&denied, at(3000), &event).await.unwrap();
    let listed = store.list(VerdictFilter::DeniedPulledSince(at(0))).await.unwrap().verdicts;
    let (_, of_a) = &listed[2];
    assert_eq!(of_a.len(), pulls::MAX_CLIENTS as usize);
    assert_eq!(of_a[0].address, format!("10.0.0.{}", clients - 1), "those that pulled last are kept");
    let [c, b, a] = [0, 1, 2].map(|number| listed[number].0.id);
    assert_eq!(store.manifest_copy(a).await.unwrap().unwrap().0, manifest("a").bytes);
    assert_eq!(store.manifest_copy(c).await.unwrap().unwrap().0, manifest("c").bytes);
    assert_eq!((store.trim_to(7, 5).await.unwrap(), store.trim_events_to(3).await.unwrap()), (2, 0));
    assert_eq!(store.trim_to(3, 3).await.unwrap(), 0, "they are full");
    assert_eq!(store.trim_to(2, 2).await.unwrap(), 0);
    assert_eq!(store.trim_events_to(1).await.unwrap(), 2, "events are lost");
    let listed = store.list(VerdictFilter::DeniedPulledSince(at(0))).await.unwrap().verdicts;
    assert_eq!(listed.iter().map(|(verdict, _)| verdict.pulled_at).collect::<Vec<_>>(), [at(2000), at(1000)]);
    assert!(store.manifest_copy(a).await.unwrap().is_none());
    assert!(store.manifest_copy(b).await.unwrap().is_some());
    let name = &pull("a", "", "", 0).name;
    let times = store.image_times(name, manifest("a").digest, &Scope::CLUSTER, at(5000)).await.unwrap();
    assert_eq!(
        times,
        ImageTimes { known_since: at(5000), admitted_since: None, noted_since: None },
        "it was forgotten, so it counts as new"
    );
}

#[tokio::test]
async fn history_begins_with_the_first_sight_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (name, digest) = (pull("a", "", "", 0).name, manifest("a").digest);
    let times = |store: &VerdictStore, now| {
        let (store, name) = (store.clone(), name.clone());
        async move { store.image_times(&name, digest, &Scope::CLUSTER, at(now)).await.unwrap() }
    };
    assert_eq!(
        times(&store.verdicts, 10).await,
        ImageTimes { known_since: at(10), admitted_since: None, noted_since: None }
    );
    assert_eq!(times(&store.verdicts, 20).await.known_since, at(10));
    record(&store.verdicts, &[pull("a", "1", "c", 30)]).await;
    record(&store.verdicts, &[pull("a", "1", "c", 40)]).await;
    let issues = |store: &VerdictStore, names: &'static [&'static str], now| {
        let store = store.clone();
        async move { store.issue_times(digest, &new(names, now), at(now)).await.unwrap() }
    };
    assert_eq!(issues(&store.verdicts, &["CVE-1", "CVE-2"], 50).await["CVE-1"], at(50));
    store.close().await;
    let store = Store::open(dir.path()).await.unwrap();
    assert_eq!(
        times(&store.verdicts, 60).await,
        ImageTimes { known_since: at(10), admitted_since: Some(at(30)), noted_since: None }
    );
    let seen = issues(&store.verdicts, &["CVE-2", "CVE-3"], 60).await;
    assert_eq!((seen["CVE-1"], seen["CVE-2"], seen["CVE-3"]), (at(50), at(50), at(60)));
    // Under another name it was seen earlier; what is not known stays so, and no time becomes later.
    let earlier =
        IssueTimes::from([("CVE-3".to_owned(), at(50)), ("CVE-1".to_owned(), at(55)), ("CVE-9".to_owned(), at(1))]);
    store.verdicts.issues_seen_earlier(digest, &earlier).await.unwrap();
    let seen = store.verdicts.known_issues(digest).await.unwrap();
    assert_eq!((seen["CVE-1"], seen["CVE-3"], seen.get("CVE-9")), (at(50), at(50), None));
    // More issues than are kept: they do not look new.
    let many: Vec<String> = (0..20_000).map(|n| format!("CVE-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let seen = store.verdicts.issue_times(digest, &new(&many, 70), at(70)).await.unwrap();
    assert_eq!(seen.len(), 20_000);
    assert!(seen.values().filter(|seen| **seen == at(70)).count() < 10_001);
    assert!(seen.values().any(|seen| *seen == Timestamp::UNIX_EPOCH));
}

/// The store opened again, after statements that make its database one of an earlier version.
async fn reopened_after(store: Store, dir: &std::path::Path, statements: &[&'static str]) -> Store {
    for sql in statements {
        sqlx::query(*sql).execute(&store.database.writer).await.unwrap();
    }
    store.close().await;
    Store::open(dir).await.unwrap()
}

#[tokio::test]
async fn the_history_of_an_earlier_version_begins_with_what_it_knew() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let name = pull("a", "", "", 0).name;
    let facts = crate::store::NewFacts::new(at(9)).manifest(&name, &manifest("a"), at(5)).pull(
        &name,
        manifest("a").digest,
        at(7),
    );
    store.facts.record(facts).await.unwrap();
    let earlier = [
        "DELETE FROM _sqlx_migrations WHERE version = 8",
        "DROP TABLE image_history",
        "DROP TABLE issue_history",
        "DROP TABLE verdicts",
        "DROP TABLE verdict_manifests",
        "DROP TABLE verdict_clients",
        "DROP TABLE events",
        "DELETE FROM _sqlx_migrations WHERE version = 10",
        "DROP TABLE checked_admissions",
        "DELETE FROM _sqlx_migrations WHERE version = 11",
        "DROP TABLE judged_repositories",
        "DROP TABLE repository_issues",
        "DELETE FROM _sqlx_migrations WHERE version = 16",
    ];
    let store = reopened_after(store, dir.path(), &earlier).await;
    let times = store.verdicts.image_times(&name, manifest("a").digest, &Scope::CLUSTER, at(100)).await.unwrap();
    // Whether vulnerabilities were checked when it was admitted is not known.
    assert_eq!(times, ImageTimes { known_since: at(5), admitted_since: None, noted_since: None });
}

/// An image that a scope admitted without looking for vulnerabilities, or against its rules, was never found to be clean.
#[tokio::test]
async fn only_checked_admissions_to_the_same_scope_count() {
    let (_dir, store) = store().await;
    let (name, digest) = (pull("a", "", "", 0).name, manifest("a").digest);
    let scope = |name: &str| -> Scope { name.parse().unwrap() };
    let unchecked = AdmittedPull { has_checked_va: false, scope: scope("dev"), ..pull("a", "1", "c", 10) };
    let would_deny = VerdictOutcome { decision: StoredDecision::WouldDeny, ..pull("a", "1", "c", 0).outcome };
    let reported = AdmittedPull { outcome: would_deny, scope: scope("audit"), ..pull("a", "1", "c", 20) };
    let checked = AdmittedPull { scope: scope("prod"), ..pull("a", "1", "c", 30) };
    record(&store, &[unchecked, reported, checked]).await;
    for (of, admitted_since) in [("dev", None), ("audit", None), ("prod", Some(at(30))), ("", None)] {
        let times = store.image_times(&name, digest, &scope(of), at(50)).await.unwrap();
        assert_eq!(times, ImageTimes { known_since: at(10), admitted_since, noted_since: None }, "{of}");
    }
}

/// Another build of an image does not make its issues new, whoever built it and however it is called.
#[tokio::test]
async fn an_issue_is_as_old_in_a_repository_as_in_its_first_image() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let name = |repository: &str| ImageName { repository: repository.parse().unwrap(), ..pull("a", "", "", 0).name };
    let times = |store: &VerdictStore, repository: &str, issues: &'static [&'static str], now| {
        let (store, name) = (store.clone(), name(repository));
        async move {
            store.note_repository(&name, at(now)).await.unwrap();
            store.repository_issue_times(&name, &new(issues, now), at(now)).await.unwrap()
        }
    };
    assert_eq!(times(&store.verdicts, "team/app", &[], 5).await, IssueTimes::new());
    assert_eq!(times(&store.verdicts, "team/app", &["CVE-1", "CVE-2"], 10).await["CVE-1"], at(10));
    store.close().await;
    let store = Store::open(dir.path()).await.unwrap();
    let seen = times(&store.verdicts, "team/app", &["CVE-2", "CVE-3"], 20).await;
    assert_eq!((seen.len(), seen["CVE-2"], seen["CVE-3"]), (2, at(10), at(20)));
    assert_eq!(times(&store.verdicts, "team/other", &["CVE-2"], 30).await["CVE-2"], at(30));
    // Under another name it was seen earlier.
    let earlier =
        IssueTimes::from([("CVE-3".to_owned(), at(11)), ("CVE-2".to_owned(), at(12)), ("CVE-8".to_owned(), at(1))]);
    store.verdicts.repository_issues_seen_earlier(&name("team/app"), &earlier).await.unwrap();
    let seen = store.verdicts.known_in_repository(&name("team/app"), &["CVE-2", "CVE-3", "CVE-8"]).await.unwrap();
    assert_eq!(seen, IssueTimes::from([("CVE-2".to_owned(), at(10)), ("CVE-3".to_owned(), at(11))]));
    assert_eq!(times(&store.verdicts, "team/other", &["CVE-2"], 30).await["CVE-2"], at(30));
    // More than are kept: they do not look new.
    let many: Vec<String> = (0..30_000).map(|n| format!("CVE-9-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let seen = store.verdicts.repository_issue_times(&name("team/app"), &new(&many, 40), at(40)).await.unwrap();
    assert_eq!(seen.values().filter(|seen| **seen == at(40)).count(), 20_000 - 3);
    assert_eq!(seen.values().filter(|seen| **seen == Timestamp::UNIX_EPOCH).count(), 10_003);
    // The repository that was judged last is kept.
    let day = 24 * 60 * 60;
    assert_eq!(times(&store.verdicts, "team/other", &["CVE-2"], 30 + day).await["CVE-2"], at(30));
    store.verdicts.trim_repositories_to(20_000, 9).await.unwrap();
    assert_eq!(times(&store.verdicts, "team/other", &["CVE-2"], 40 + day).await["CVE-2"], at(30));
    assert_eq!(times(&store.verdicts, "team/app", &["CVE-1"], 50 + day).await["CVE-1"], at(50 + day));
    store.verdicts.trim_repositories_to(20_000, 1).await.unwrap();
    assert_eq!(times(&store.verdicts, "team/app", &["CVE-1"], 55 + day).await["CVE-1"], at(50 + day));
    assert_eq!(times(&store.verdicts, "team/other", &["CVE-2"], 60 + day).await["CVE-2"], at(60 + day), "forgotten");
}

#[tokio::test]
async fn noting_begins_once_in_a_repository_and_knows_what_was_there_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    assert!(!store.verdicts.notes_issues().await.unwrap());
    let old = pull("a", "1", "c", 30);
    record(&store.verdicts, std::slice::from_ref(&old)).await;
    let other = ImageName { repository: "team/other".parse().unwrap(), ..old.name.clone() };
    for (name, known_since) in [(&old.name, Some(at(30))), (&other, None)] {
        let supposed = store.verdicts.supposed_noting(name, at(50)).await.unwrap();
        assert_eq!(supposed, RepositoryNoting { noted_since: at(50), known_since }, "{name}");
        assert_eq!(store.verdicts.noted_repository(name).await.unwrap(), None, "nothing is written");
    }
    for (name, now, noted_since, known_since) in [
        (&old.name, 50, 50, Some(at(30))),
        (&other, 60, 60, None),
        (&old.name, 70 + 24 * 60 * 60, 50, Some(at(30))),
        (&other, 80 + 24 * 60 * 60, 60, None),
    ] {
        let noted = store.verdicts.note_repository(name, at(now)).await.unwrap();
        assert_eq!(noted, RepositoryNoting { noted_since: at(noted_since), known_since }, "{name} {now}");
    }
    assert!(store.verdicts.notes_issues().await.unwrap());
    let times = async || store.verdicts.known_image(&old.name, old.digest, &Scope::CLUSTER).await.unwrap().unwrap();
    assert_eq!(times().await.noted_since, None);
    store.verdicts.image_noted(&old.name, old.digest, at(51)).await.unwrap();
    assert_eq!(
        times().await,
        ImageTimes { known_since: at(30), admitted_since: Some(at(30)), noted_since: Some(at(51)) }
    );
}

#[tokio::test]
async fn what_an_earlier_version_saw_in_images_is_known_of_their_repositories() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (one, two) = (pull("a", "1", "c", 30), pull("b", "1", "c", 30));
    record(&store.verdicts, &[one.clone(), two.clone()]).await;
    for (image, issues, second) in [(&one, ["CVE-1", "CVE-2"], 50), (&two, ["CVE-2", "CVE-3"], 40)] {
        store.verdicts.issue_times(image.digest, &new(&issues, second), at(second)).await.unwrap();
    }
    let earlier = [
        "DELETE FROM _sqlx_migrations WHERE version = 11",
        "DROP TABLE judged_repositories",
        "DROP TABLE repository_issues",
        "DELETE FROM _sqlx_migrations WHERE version = 16",
        "ALTER TABLE image_history DROP COLUMN noted_since",
    ];
    let store = reopened_after(store, dir.path(), &earlier).await;
    let noted = store.verdicts.noted_repository(&one.name).await.unwrap();
    let expected = RepositoryNoting { noted_since: at(40), known_since: Some(at(30)) };
    assert_eq!(noted, Some(expected), "the images were admitted before their issues were noted");
    for (image, noted) in [(&one, 50), (&two, 40)] {
        let times = store.verdicts.known_image(&one.name, image.digest, &Scope::CLUSTER).await.unwrap().unwrap();
        assert_eq!(times.noted_since, Some(at(noted)));
    }
    let issues = ["CVE-1", "CVE-2", "CVE-3", "CVE-4"];
    let seen = store.verdicts.repository_issue_times(&one.name, &new(&issues, 90), at(90)).await.unwrap();
    assert_eq!(seen.into_values().collect::<Vec<_>>(), [at(50), at(40), at(40), at(90)]);
}
