//! Verdicts, clients, histories and queued events as rows.

mod seen;

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
