use super::*;

fn told(image: &str) -> DecisionText {
    DecisionText::from(&Decided {
        schema: SCHEMA,
        scope: String::new(),
        endpoint: "manifest",
        image: image.into(),
        digest: None,
        kind: Some("image"),
        skipped: Vec::new(),
        exemptions: Vec::new(),
        would_deny: Vec::new(),
        warnings: Vec::new(),
        decision: "deny",
        document: None,
        rule: None,
        stage: Some("policy"),
        reasons: vec!["a \"quoted\"\nreason".into()],
        trust_age_seconds: None,
        va_age_seconds: None,
    })
}

fn record(what: &DecisionText) -> Record<'_> {
    Record {
        what,
        method: "GET",
        time: Timestamp::from_second(1).unwrap(),
        request_id: "1",
        client: "127.0.0.1",
        client_name: None,
        duration_ms: 3,
    }
}

fn config(dir: &std::path::Path, required: bool) -> Config {
    Config { file: dir.join("sub/audit.jsonl"), required, max_file_size: 600, keep: 2 }
}

#[tokio::test]
async fn lines_are_whole_and_files_are_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::new(&config(dir.path(), false), &Metrics::default(), &Readiness::new()).unwrap();
    for n in 0..10 {
        audit.write_later(&record(&told(&format!("image-{n}"))));
    }
    audit.close().await;
    let mut files: Vec<_> = std::fs::read_dir(dir.path().join("sub")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 3, "the current file and two rotated ones: {files:?}");
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.len() <= 600);
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["schema"], 1);
            assert_eq!(value["reasons"][0], "a \"quoted\"\nreason");
            assert_eq!(value["time"], "1970-01-01T00:00:01Z");
            assert_eq!(value["duration_ms"], 3);
        }
    }
}

#[tokio::test]
async fn a_renamed_file_is_recreated_by_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), true);
    let audit = Audit::new(&config, &Metrics::default(), &Readiness::new()).unwrap();
    assert!(audit.write(&record(&told("first"))).await);
    std::fs::rename(&config.file, dir.path().join("moved")).unwrap();
    audit.reopen();
    assert!(audit.write(&record(&told("second"))).await);
    assert!(std::fs::read_to_string(&config.file).unwrap().contains("second"));
    assert!(std::fs::read_to_string(dir.path().join("moved")).unwrap().contains("first"));
}

#[tokio::test]
async fn required_records_that_cannot_be_written_are_reported() {
    let config = Config { file: "/dev/full".into(), required: true, max_file_size: u64::MAX, keep: 1 };
    let readiness = Readiness::new();
    let audit = Audit::new(&config, &Metrics::default(), &readiness).unwrap();
    assert_eq!(readiness.report().healthy, [TOPIC]);
    assert!(!audit.write(&record(&told("lost"))).await);
    let why = readiness.report().degraded[TOPIC].clone();
    assert!(why.contains("No space left"), "{why}");
}

#[tokio::test]
async fn try_add_never_waits() {
    let dir = tempfile::tempdir().unwrap();
    let required = Audit::new(&config(dir.path(), true), &Metrics::default(), &Readiness::new()).unwrap();
    assert!(!required.try_write(&record(&told("required"))));
    let queue = Queue::default();
    let long = vec![b' '; 5_000_000];
    assert!(queue.try_add(&long), "the first one has room");
    assert!(!queue.try_add(&long), "the next one waits until it is taken");
    assert!(queue.add(&long, None), "a destructor cannot wait");
    assert_eq!(queue.take().lines.len(), 2 * 5_000_000);
    assert!(queue.try_add(&long));
}

#[tokio::test]
async fn requests_wait_while_the_queue_is_full() {
    let queue = Queue::default();
    let full = vec![b' '; 5_000_000];
    queue.add(&full, None);
    let mut waiting = Box::pin(queue.wait_for_room());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    queue.take();
    waiting.await;
}
