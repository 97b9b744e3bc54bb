//! Evidence that is remembered.

use super::*;

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
async fn repositories_share_findings_but_not_the_search() {
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

#[tokio::test]
async fn one_read_checks_whether_another_topic_knows_the_subject() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let clock = Clock::manual(at(1000));
    let memo: Memo<usize> = Memo::new("test", store.facts.clone(), clock.clone(), Tasks::new());
    let row = |until| Observed { value: "1".to_owned(), at: clock.now(), until };
    for (topic, subject, until) in [
        ("test", "both", None),
        ("other", "both", None),
        ("test", "one", None),
        ("other", "another", None),
        ("test", "ended", Some(clock.now())),
    ] {
        store.facts.record_evidence(topic, subject, row(until)).await.unwrap();
    }
    for (subject, known) in [("both", Some(true)), ("one", Some(false)), ("another", None), ("ended", None)] {
        let found = memo.stored_and(subject, "other").await;
        assert_eq!(
            found.map(|(row, known)| (row.value, known)),
            known.map(|known| ("1".to_owned(), known)),
            "{subject}"
        );
    }
}
