use std::fs::File;
use std::io::{PipeReader, Read as _};
use std::os::fd::OwnedFd;

use jiff::Timestamp;

use super::queue::TakenLines;
use super::record::SCHEMA;
use super::*;
use crate::oci::Digest;
use crate::policy::{Kind, Stage};

fn decided(image: &str) -> DecisionText {
    DecisionText::from(&Decided {
        kind: Some(Kind::Image),
        stage: Some(Stage::Policy),
        reasons: vec!["a \"quoted\"\nreason".into()],
        ..Decided::new(RecordedEndpoint::Manifest, image.into(), RecordedDecision::Deny)
    })
}

fn record(what: &DecisionText) -> Record<'_> {
    Record {
        what: what.parts(),
        method: RecordedMethod::Get,
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
    let audit = Audit::new(&config(dir.path(), false), &Metrics::default(), &Readiness::new()).await.unwrap();
    for n in 0..10 {
        audit.write_later(&record(&decided(&format!("image-{n}"))));
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
    let audit = Audit::new(&config, &Metrics::default(), &Readiness::new()).await.unwrap();
    assert!(audit.write(&record(&decided("first"))).await);
    std::fs::rename(&config.file, dir.path().join("moved")).unwrap();
    assert_eq!(audit.reopen(), Ok(()));
    assert!(audit.write(&record(&decided("second"))).await);
    assert!(std::fs::read_to_string(&config.file).unwrap().contains("second"));
    assert!(std::fs::read_to_string(dir.path().join("moved")).unwrap().contains("first"));
}

#[tokio::test]
async fn a_file_that_cannot_be_reopened_is_reported_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let (config, readiness) = (config(dir.path(), true), Readiness::new());
    let audit = Audit::new(&config, &Metrics::default(), &readiness).await.unwrap();
    let moved = dir.path().join("moved");
    std::fs::rename(&config.file, &moved).unwrap();
    std::fs::create_dir(&config.file).unwrap();
    let why = audit.reopen().unwrap_err();
    assert!(why.contains("records still go to the old one") && why.contains("audit.jsonl"), "{why}");
    assert_eq!(readiness.report().degraded[TOPIC], why);
    assert!(audit.write(&record(&decided("first"))).await);
    assert_eq!(readiness.report().degraded[TOPIC], why, "a record in the wrong file changes nothing");
    assert!(std::fs::read_to_string(&moved).unwrap().contains("first"));
    std::fs::remove_dir(&config.file).unwrap();
    assert_eq!(audit.reopen(), Ok(()));
    assert!(readiness.report().degraded.is_empty());
    audit.close().await;
    assert_eq!(audit.reopen(), Ok(()), "nothing is left to write");
}

/// The new file does not show that lines can be written.
#[tokio::test]
async fn reopening_does_not_hide_that_records_are_lost() {
    let config = Config { file: "/dev/full".into(), required: false, max_file_size: u64::MAX, keep: 1 };
    let readiness = Readiness::new();
    let audit = Audit::new(&config, &Metrics::default(), &readiness).await.unwrap();
    audit.write(&record(&decided("lost"))).await;
    while readiness.report().degraded.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(audit.reopen(), Ok(()));
    assert!(readiness.report().degraded[TOPIC].contains("cannot be recorded"));
}

#[tokio::test]
async fn required_records_that_cannot_be_written_are_reported() {
    let config = Config { file: "/dev/full".into(), required: true, max_file_size: u64::MAX, keep: 1 };
    let readiness = Readiness::new();
    let audit = Audit::new(&config, &Metrics::default(), &readiness).await.unwrap();
    assert_eq!(readiness.report().healthy, [TOPIC]);
    assert!(!audit.write(&record(&decided("lost"))).await);
    let why = readiness.report().degraded[TOPIC].clone();
    assert!(why.contains("No space left"), "{why}");
}

/// A gate that refuses every pull should get none; without requests, it has to find out by itself that it can go on.
#[tokio::test]
async fn a_gate_that_must_record_and_cannot_is_not_ready_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let config = |required| Config { file: path.clone(), required, max_file_size: 600, keep: 1 };
    let readiness = Readiness::new();
    let audit = Audit::new(&config(true), &Metrics::default(), &readiness).await.unwrap();
    assert!(readiness.report().ready);
    assert!(!audit.write(&record(&decided("lost"))).await);
    assert_eq!((readiness.report().ready, readiness.report().awaited), (false, vec![TOPIC.to_owned()]));
    assert_eq!(audit.reopen(), Ok(()));
    assert!(!readiness.report().ready);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(audit.reopen(), Ok(()));
    assert!(readiness.report().ready, "the file can be written");
    audit.close().await;
    assert!(readiness.report().ready, "{:?}", readiness.report());
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["audit.jsonl"], "a probe leaves nothing behind");
    assert_eq!(std::fs::read(&path).unwrap(), b"");

    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let readiness = Readiness::new();
    let audit = Audit::new(&config(false), &Metrics::default(), &readiness).await.unwrap();
    audit.write(&record(&decided("lost"))).await;
    audit.close().await;
    assert!(readiness.report().ready && readiness.report().degraded.contains_key(TOPIC), "pulls go on");
}

#[test]
fn a_probe_fails_where_writing_does() {
    let mut full = RotatingFile::open("/dev/full".into(), 600, 0).unwrap();
    assert!(full.probe().is_err());
    let dir = tempfile::tempdir().unwrap();
    let mut gone = RotatingFile::open(dir.path().join("sub/audit.jsonl"), 600, 0).unwrap();
    assert!(gone.probe().is_ok());
    std::fs::remove_dir_all(dir.path().join("sub")).unwrap();
    assert!(gone.probe().is_err());
}

#[tokio::test]
async fn try_add_never_waits() {
    let dir = tempfile::tempdir().unwrap();
    let required = Audit::new(&config(dir.path(), true), &Metrics::default(), &Readiness::new()).await.unwrap();
    assert!(!required.try_write(&record(&decided("required"))));
    let queue = Queue::default();
    let long = vec![b' '; 5_000_000];
    assert!(queue.try_add(&long), "the first one has room");
    assert!(!queue.try_add(&long), "the next one waits until it is taken");
    assert_eq!(queue.add(&long, None), Added::Queued, "a destructor cannot wait");
    let mut taken = TakenLines::default();
    queue.take(&mut taken);
    assert_eq!(taken.lines.len(), 2 * 5_000_000);
    assert!(queue.try_add(&long));
}

#[tokio::test]
async fn requests_wait_while_the_queue_is_full() {
    let queue = Queue::default();
    let full = vec![b' '; 5_000_000];
    queue.add(&full, None);
    let mut waiting = Box::pin(queue.wait_for_room());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    queue.take(&mut TakenLines::default());
    waiting.await;
}

#[tokio::test]
async fn requests_do_not_wait_for_room_while_the_disk_hangs() {
    let queue = Queue::default();
    queue.add(&[b' '; 5_000_000], None);
    let mut waiting = Box::pin(queue.wait_for_room());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    queue.set_hangs(true);
    waiting.await;
    queue.wait_for_room().await;
    queue.set_hangs(false);
    assert!(futures_util::poll!(std::pin::pin!(queue.wait_for_room())).is_pending());
}

/// The disk is a pipe that is full until it is read: the first write hangs.
fn on_a_disk_that_hangs(required: bool, metrics: &Metrics, readiness: &Readiness) -> (Audit, PipeReader) {
    let (pipe, writer) = io::pipe().unwrap();
    let file = RotatingFile::of(File::from(OwnedFd::from(writer)));
    let audit = Audit::start(file, required, metrics, readiness).unwrap();
    audit.queue.add(format!("{}\n", "x".repeat(1024 * 1024)).as_bytes(), None);
    (audit, pipe)
}

/// Lets the disk answer. From here on, time is not the test's: the writer needs some.
async fn answer(audit: &Audit, mut pipe: PipeReader) -> thread::JoinHandle<String> {
    tokio::time::resume();
    let text = thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    });
    while audit.queue.hangs() {
        tokio::task::yield_now().await;
    }
    text
}

#[tokio::test(start_paused = true)]
async fn required_records_are_refused_while_the_disk_hangs() {
    let (metrics, readiness) = (Metrics::default(), Readiness::new());
    let (audit, pipe) = on_a_disk_that_hangs(true, &metrics, &readiness);
    assert!(!audit.write(&record(&decided("waited"))).await, "a request does not wait forever");
    let report = readiness.report();
    assert_eq!((report.ready, report.awaited), (false, vec![TOPIC.to_owned()]));
    assert!(report.degraded[TOPIC].contains("does not answer"), "{:?}", report.degraded);
    assert!(!audit.write(&record(&decided("refused"))).await);
    assert!(metrics.render().contains("pullgate_audit_records_lost_total 1\n"), "{}", metrics.render());
    let written = answer(&audit, pipe).await;
    assert!(audit.write(&record(&decided("after"))).await, "it recovers by itself");
    let report = readiness.report();
    assert!(report.ready && report.degraded.is_empty(), "{report:?}");
    audit.close().await;
    let written = written.join().unwrap();
    let has = |image: &str| written.contains(&format!("\"image\":\"{image}\""));
    assert_eq!([has("waited"), has("refused"), has("after")], [true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn pulls_continue_while_the_disk_hangs_and_lost_records_are_counted() {
    let (metrics, readiness) = (Metrics::default(), Readiness::new());
    let (audit, pipe) = on_a_disk_that_hangs(false, &metrics, &readiness);
    audit.queue.hung().await;
    assert!(audit.write(&record(&decided("kept"))).await);
    while audit.queue.try_add(format!("{}\n", "x".repeat(1000)).as_bytes()) {}
    audit.wait_for_room().await;
    assert!(audit.write(&record(&decided("lost"))).await, "the pull is served");
    assert!(metrics.render().contains("pullgate_audit_records_lost_total 1\n"), "{}", metrics.render());
    let report = readiness.report();
    assert!(report.ready && report.degraded[TOPIC].contains("does not answer"), "{report:?}");
    let written = answer(&audit, pipe).await;
    audit.wait_for_room().await;
    assert!(audit.write(&record(&decided("after"))).await);
    audit.close().await;
    let written = written.join().unwrap();
    let has = |image: &str| written.contains(&format!("\"image\":\"{image}\""));
    assert_eq!([has("kept"), has("lost"), has("after")], [true, false, true]);
}

/// A process that cannot write must not take the place of one that serves.
#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), false);
    let (disk, hung) = mpsc::channel::<()>();
    let error = in_time(&config, move |_| hung.recv().map_err(io::Error::other)).await.unwrap_err();
    assert!(config.failed(&error).to_string().ends_with("its disk does not answer"), "{error}");
    drop(disk);
    tokio::time::resume();
    assert!(config.check_disk().await.is_ok());
    let full = Config { file: "/dev/full".into(), ..config };
    assert!(full.check_disk().await.is_ok(), "a full disk answers");
    let folder = Config { file: dir.path().into(), ..full };
    assert!(folder.check_disk().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_does_not_hold_up_the_end() {
    for required in [false, true] {
        let (audit, pipe) = on_a_disk_that_hangs(required, &Metrics::default(), &Readiness::new());
        // Without a limit, this test does not end.
        audit.close().await;
        drop(pipe);
    }
}

/// A record in which every field has a value.
fn complete() -> serde_json::Value {
    let denial =
        WouldDeny { document: Some("d".into()), rule: Some("r".into()), stage: Stage::Va, reasons: vec!["why".into()] };
    let exemption = UsedExemption {
        id: "1".into(),
        exempts: "cve CVE-2024-1, scope *".into(),
        reason: Some("why".into()),
        by: Some("ann".into()),
        document: Some("d".into()),
    };
    let decided = Decided {
        schema: SCHEMA,
        scope: "ci".into(),
        endpoint: RecordedEndpoint::Manifest,
        image: "a.test/b:1".into(),
        digest: Some(Digest::sha256(b"x")),
        until: Some(Timestamp::UNIX_EPOCH),
        kind: Some(Kind::Image),
        skipped: vec![Stage::Trust],
        exemptions: vec![exemption],
        would_deny: vec![denial],
        warnings: vec!["why".into()],
        decision: RecordedDecision::Admit,
        document: Some("d".into()),
        rule: Some("r".into()),
        stage: Some(Stage::Policy),
        reasons: Vec::new(),
        trust_age_seconds: Some(1),
        va_age_seconds: Some(1),
    };
    let text = DecisionText::from(&decided);
    let record = Record { client_name: Some("node"), ..record(&text) };
    serde_json::from_slice(&record.line().unwrap()).unwrap()
}

/// The two tables of docs/operating.md: the fields, and the decisions.
fn documentation() -> (&'static str, &'static str) {
    let page = include_str!("../../docs/operating.md");
    let section = page.split("\n## The audit file\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    section.split_once("| decision | endpoint |").unwrap()
}

/// The names in a cell of a table.
fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The decisions and the endpoints in the table of docs/operating.md are those that records can have.
#[test]
fn documented_decisions_and_endpoints_are_those_of_records() {
    let rows: Vec<Vec<&str>> =
        documentation().1.lines().filter(|row| row.starts_with("| `")).map(|row| row.split(" | ").collect()).collect();
    let documented = |column: usize| {
        let mut all: Vec<String> = rows.iter().flat_map(|row| names(row[column])).collect();
        all.sort();
        all
    };
    let decisions: Vec<&str> = RecordedDecision::ALL.iter().map(|decision| decision.as_str()).collect();
    let mut endpoints: Vec<&str> = RecordedEndpoint::ALL.iter().map(|endpoint| endpoint.as_str()).collect();
    endpoints.sort_unstable();
    assert_eq!(documented(0), decisions, "in the order of their names");
    assert_eq!(documented(1), endpoints);
    let methods: Vec<&str> = RecordedMethod::ALL.iter().map(|method| method.as_str()).collect();
    assert_eq!(methods, ["DELETE", "GET", "HEAD", "", "POST"]);
}

/// The fields in the table of docs/operating.md are those of a record.
#[test]
fn documented_fields_are_those_of_a_record() {
    let (section, _) = documentation();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let mut documented: Vec<String> = rows.flat_map(|row| names(row.split(" | ").next().unwrap())).collect();
    documented.sort();
    let record = complete();
    let mut fields: Vec<String> = record.as_object().unwrap().keys().cloned().collect();
    fields.sort();
    assert_eq!(documented, fields, "docs/operating.md lists exactly the fields of a record");
    for list in ["exemptions", "would_deny"] {
        for field in record[list][0].as_object().unwrap().keys() {
            let row = section.lines().find(|line| line.starts_with(&format!("| `{list}`"))).unwrap();
            assert!(row.contains(&format!("`{field}`")), "{list}: {field}");
        }
    }
}
