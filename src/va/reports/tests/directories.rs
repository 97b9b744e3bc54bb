//! Directories of reports, as they change.

use super::*;

async fn open(directories: &[&Path], tasks: &Tasks) -> Reports {
    open_with(directories, Duration::from_millis(300), tasks).await
}

async fn open_with(directories: &[&Path], rescan: Duration, tasks: &Tasks) -> Reports {
    let directories = directories.iter().map(|path| path.to_path_buf()).collect();
    let settings = ReportSettings { directories, rescan, honour_ignores: false };
    Reports::open(settings, tasks, Clock::system(), Readiness::new(), Epoch::new(), &Metrics::default()).await
}

fn found(reports: &Reports) -> Option<usize> {
    match &reports.lookup(&subject(MANIFEST, CONFIG)).unwrap()?.value {
        VaEvidence::Report(report) => Some(report.issues.len()),
        _ => None,
    }
}

async fn changed(reports: &Reports, seen: u64) {
    let mut scans = reports.0.scans.subscribe();
    while generation(reports) <= seen {
        scans.changed().await.unwrap();
    }
}

/// The number of changes.
fn generation(reports: &Reports) -> u64 {
    reports.0.index.load().generation
}

fn problems(reports: &Reports) -> Vec<String> {
    reports.0.index.load().problems.clone()
}

async fn change(reports: &Reports, act: impl FnOnce()) {
    let seen = generation(reports);
    act();
    tokio::time::timeout(Duration::from_secs(10), changed(reports, seen)).await.expect("no change was seen");
}

#[tokio::test]
async fn follows_the_directory() {
    let (tasks, root) = (Tasks::new(), tempfile::tempdir().unwrap());
    let at = |name: &str| root.path().join(name);
    fs::write(at("a.json"), TRIVY).unwrap();
    fs::write(at(".half-written.json"), TRIVY_CLEAN).unwrap();
    let reports = open(&[root.path()], &tasks).await;
    assert_eq!(found(&reports), Some(10));
    assert_eq!(problems(&reports), [""; 0]);
    let lookup = || reports.lookup(&subject(MANIFEST, CONFIG)).unwrap().unwrap();
    assert!(Arc::ptr_eq(&lookup(), &lookup()), "asking again copies nothing");

    change(&reports, || fs::write(at("a.json"), TRIVY_CLEAN).unwrap()).await;
    assert_eq!(found(&reports), Some(0));

    // The file is broken now: its earlier version is not used.
    change(&reports, || fs::write(at("a.json"), &TRIVY[..1000]).unwrap()).await;
    let evidence = &lookup().value;
    assert_eq!(*evidence, VaEvidence::Unreadable { problems: 1 });
    assert!(reports.0.readiness.report().degraded["va"].contains("a.json"));
    assert!(problems(&reports)[0].contains("a.json"), "{:?}", problems(&reports));

    // A subdirectory, added by one rename.
    let beside = tempfile::tempdir().unwrap();
    fs::create_dir(beside.path().join("new")).unwrap();
    fs::write(beside.path().join("new/report"), GRYPE).unwrap();
    change(&reports, || fs::rename(beside.path().join("new"), at("new")).unwrap()).await;
    assert_eq!(found(&reports), Some(7));

    change(&reports, || fs::remove_dir_all(at("new")).unwrap()).await;
    assert_eq!(found(&reports), None);
    assert!(tasks.drain(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn follows_a_config_map() {
    let (tasks, root) = (Tasks::new(), tempfile::tempdir().unwrap());
    let at = |name: &str| root.path().join(name);
    for (name, text) in [("..1", TRIVY), ("..2", TRIVY_CLEAN)] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("report.json"), text).unwrap();
    }
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, at(name)).unwrap();
    link("..1", "..data");
    link("..data/report.json", "report.json");
    let reports = open(&[root.path()], &tasks).await;
    assert_eq!(found(&reports), Some(10));
    link("..2", "..data_tmp");
    change(&reports, || fs::rename(at("..data_tmp"), at("..data")).unwrap()).await;
    assert_eq!(found(&reports), Some(0));
    tasks.stop();
}

#[tokio::test]
async fn a_missing_directory_makes_evidence_unavailable() {
    let (tasks, root) = (Tasks::new(), tempfile::tempdir().unwrap());
    let missing = root.path().join("later");
    let reports = open(&[&missing], &tasks).await;
    let evidence = reports.lookup(&subject(MANIFEST, CONFIG)).unwrap().unwrap();
    assert!(matches!(evidence.value, VaEvidence::Unavailable { .. }), "{evidence:?}");
    assert_eq!(problems(&reports).len(), 1);
    change(&reports, || {
        fs::create_dir(&missing).unwrap();
        fs::write(missing.join("r.json"), TRIVY).unwrap();
    })
    .await;
    while found(&reports) != Some(10) {
        changed(&reports, generation(&reports)).await;
    }
    tasks.stop();
}

/// Files that a command has written are found without waiting for the interval, and then the directory is followed.
#[tokio::test]
async fn a_new_directory_is_read_when_its_files_are_waited_for() {
    let (tasks, root) = (Tasks::new(), tempfile::tempdir().unwrap());
    let new = root.path().join("later");
    let reports = open_with(&[&new], Duration::from_secs(1800), &tasks).await;
    fs::create_dir(&new).unwrap();
    fs::write(new.join("report-1.json"), TRIVY).unwrap();
    let names = ["report-1.json".to_owned()];
    let waited = reports.await_files(&names);
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect("it is found at once").unwrap();
    assert_eq!(found(&reports), Some(10));
    change(&reports, || fs::write(new.join("report-1.json"), TRIVY_CLEAN).unwrap()).await;
    assert_eq!(found(&reports), Some(0));
    tasks.stop();
}

#[tokio::test]
async fn an_unchanged_file_is_not_read_again() {
    let (tasks, root) = (Tasks::new(), tempfile::tempdir().unwrap());
    fs::write(root.path().join("a.json"), TRIVY).unwrap();
    let reports = open(&[root.path()], &tasks).await;
    let before = reports.0.index.load_full();
    change(&reports, || fs::write(root.path().join("b.json"), TRIVY_CLEAN).unwrap()).await;
    let after = reports.0.index.load_full();
    let document = |index: &Index| index.files[&root.path().join("a.json")].content.clone().unwrap();
    assert!(Arc::ptr_eq(&document(&before), &document(&after)));

    // Two more rescans without differences change nothing.
    let (seen_generation, mut scans) = (generation(&reports), reports.0.scans.subscribe());
    let seen = *scans.borrow();
    scans.wait_for(|now| *now >= seen + 2).await.unwrap();
    assert_eq!(generation(&reports), seen_generation);
    tasks.stop();
}

#[test]
fn directories_that_are_read_twice_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["reports/team", "reports/.staged", "reports-b"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    std::os::unix::fs::symlink(path("reports"), path("link")).unwrap();
    for (names, wanted) in [
        (&["reports", "reports-b"][..], &[][..]),
        (&["reports", "reports"], &[("reports", "reports")]),
        (&["reports/team", "reports"], &[("reports/team", "reports")]),
        (&["reports", "link"], &[("link", "reports")]),
        (&["link/team", "reports-b/../reports"], &[("link/team", "reports-b/../reports")]),
        (&["reports", "reports/team", "reports"], &[("reports/team", "reports"), ("reports", "reports")]),
        // Hidden directories in another one are not read.
        (&["reports", "reports/.staged"], &[]),
        (&["absent", "absent/team"], &[("absent/team", "absent")]),
    ] {
        let directories: Vec<_> = names.iter().map(|name| path(name)).collect();
        let wanted: Vec<_> = wanted.iter().map(|(one, other)| (path(one), path(other))).collect();
        let found = read_twice(&directories);
        let found: Vec<_> = found.iter().map(|(one, other)| (one.to_path_buf(), other.to_path_buf())).collect();
        assert_eq!(found, wanted, "{names:?}");
    }
}
