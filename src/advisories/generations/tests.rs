use std::ops::ControlFlow;

use super::super::bolt::sample::SampleTree;
use super::super::osv::INDEX;
use super::super::trivy_db::{DATABASE, sample};
use super::super::{Databases, ImportOptions, SourceState, import};
use super::*;

const NOW: &str = "2026-06-01T00:00:00Z";

struct State {
    folder: tempfile::TempDir,
    store: AdvisoryStore,
}

impl State {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = AdvisoryStore::open(folder.path()).unwrap();
        Self { folder, store }
    }

    /// Imports a trivy-db that was built on a day of May 2026, and names the day in a row.
    fn import(&self, day: u8, force: bool) -> Result<InstalledGeneration, DatabaseError> {
        import_day(&self.store, day, force)
    }

    fn load(&self) -> Databases {
        self.store.load().unwrap()
    }

    fn generation(&self, which: &str) -> PathBuf {
        let kept = self.store.current("trivy-db").unwrap().unwrap();
        let name = if which == "current" { kept.current } else { kept.previous.unwrap() };
        self.store.folder("trivy-db", &name)
    }

    fn damage(&self, which: &str) {
        let path = self.generation(which).join(DATABASE);
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() - 100;
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    fn folders(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path().join("advisories/trivy-db")).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn import_day(store: &AdvisoryStore, day: u8, force: bool) -> Result<InstalledGeneration, DatabaseError> {
    let folder = tempfile::tempdir().unwrap();
    let mut tree: SampleTree = sample::rows();
    tree.put(&["debian 12", "day"], &format!("CVE-2026-{day}"), "{}");
    sample::write(folder.path(), &tree, &format!("2026-05-{day:02}T00:00:00Z"));
    let options = ImportOptions { force, ..ImportOptions::at(NOW.parse().unwrap()) };
    import(store, folder.path(), &options, &mut |_| ControlFlow::Continue(())).map(|mut installed| installed.remove(0))
}

fn day(databases: &Databases) -> Option<String> {
    let rows = databases.trivy()?.rows("debian 12", "day").unwrap();
    Some(rows[0].0.clone())
}

#[test]
fn the_newest_generation_is_in_use_and_one_more_is_kept() {
    let state = State::new();
    assert_eq!((day(&state.load()), state.load().generation().to_owned()), (None, String::new()));
    let mut seen = BTreeSet::new();
    for number in 1..=4 {
        let installed = state.import(number, false).unwrap();
        assert!(!installed.was_current);
        let databases = state.load();
        assert_eq!(day(&databases), Some(format!("CVE-2026-{number}")));
        assert!(seen.insert(databases.generation().to_owned()), "each generation has its own identifier");
        let status = &databases.status()[0];
        assert_eq!((&*status.source, &status.state), ("trivy-db", &SourceState::Ready));
        assert_eq!(status.generation.as_ref(), Some(&installed.manifest));
        assert_eq!(status.previous.is_some(), number > 1);
        assert_eq!(status.age(NOW.parse().unwrap()), Some(SignedDuration::from_hours(24 * (32 - i64::from(number)))));
        assert_eq!(state.folders().len(), 1 + usize::from(number).min(2), "{:?}", state.folders());
        assert_eq!(state.store.status().unwrap(), databases.status());
    }
    let again = state.import(4, false).unwrap();
    assert!(again.was_current);
    assert_eq!(state.load().status()[0].previous.as_ref().unwrap().built, "2026-05-03T00:00:00Z".parse().unwrap());
}

#[test]
fn an_older_database_is_refused_unless_forced() {
    let state = State::new();
    state.import(2, false).unwrap();
    state.import(3, false).unwrap();
    let error = state.import(2, false).unwrap_err();
    assert!(matches!(error, DatabaseError::Older { .. }) && error.to_string().contains("--force"), "{error}");
    assert_eq!(day(&state.load()).unwrap(), "CVE-2026-3");
    state.import(2, true).unwrap();
    let databases = state.load();
    assert_eq!(day(&databases).unwrap(), "CVE-2026-2");
    assert_eq!(databases.status()[0].previous.as_ref().unwrap().built, "2026-05-03T00:00:00Z".parse().unwrap());
}

#[test]
fn a_database_from_the_future_is_refused() {
    let state = State::new();
    let folder = tempfile::tempdir().unwrap();
    sample::write(folder.path(), &sample::rows(), "2026-06-03T00:00:00Z");
    let options = ImportOptions { force: true, ..ImportOptions::at(NOW.parse().unwrap()) };
    let error = import(&state.store, folder.path(), &options, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, DatabaseError::Future { .. }), "{error}");
    assert!(state.load().status().is_empty());
}

#[test]
fn a_damaged_generation_is_replaced_by_the_one_before_and_that_is_seen() {
    let state = State::new();
    state.import(1, false).unwrap();
    state.import(2, false).unwrap();
    let whole = state.load();
    state.damage("current");
    let degraded = state.load();
    assert_eq!(day(&degraded).unwrap(), "CVE-2026-1");
    assert_ne!(degraded.generation(), whole.generation());
    let SourceState::Degraded { problem } = &degraded.status()[0].state else { panic!("{:?}", degraded.status()) };
    assert!(problem.contains("sha256:"), "{problem}");
    assert_eq!(degraded.oldest(), Some("2026-05-01T00:00:00Z".parse().unwrap()));
    assert_eq!(day(&whole).unwrap(), "CVE-2026-2", "what is open stays open");
    // A damaged generation is not kept as the previous one.
    state.import(3, false).unwrap();
    assert_eq!(state.load().status()[0].previous.as_ref().unwrap().built, "2026-05-01T00:00:00Z".parse().unwrap());
    state.damage("current");
    state.damage("previous");
    let none = state.load();
    assert_eq!((day(&none), none.unusable().count()), (None, 1));
    assert!(none.generation().is_empty() && none.oldest().is_none());
    // The same database again repairs it.
    assert!(state.import(3, false).unwrap().was_current);
    assert_eq!((day(&state.load()).unwrap(), state.load().unusable().count()), ("CVE-2026-3".to_owned(), 0));
}

/// As after an upgrade of the program. Nothing is clean meanwhile, and everything that shows the source says what to
/// do.
#[test]
fn an_index_of_an_earlier_version_is_not_used_until_the_records_are_imported_again() {
    let state = State::new();
    let records = state.folder.path().join("records");
    fs::create_dir(&records).unwrap();
    let record = r#"{"id": "A-1", "modified": "2026-05-01T00:00:00Z", "affected": [{"package": {"ecosystem": "PyPI", "name": "x"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}]}"#;
    fs::write(records.join("a.json"), record).unwrap();
    let options = ImportOptions::at(NOW.parse().unwrap());
    let import = || import(&state.store, &records, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    let manifest = import().remove(0).manifest;
    // The same with the number of the version before, as the only generation.
    let index = state.store.folder("osv-pypi", &manifest.id()).join(INDEX);
    let mut bytes = fs::read(index).unwrap();
    assert_eq!(bytes[8], 3, "the version follows the magic number");
    bytes[8] = 2;
    let staging = state.store.stage().unwrap();
    let file = staging.write(INDEX, &mut &bytes[..], &mut |_| Ok(())).unwrap();
    let old = staging.complete(GenerationManifest { files: vec![file], ..manifest }).unwrap();
    let id = old.manifest.id();
    state.store.install(old, true, options.now).unwrap();
    let current = state.folder.path().join("advisories/osv-pypi").join(CURRENT);
    fs::write(current, format!("{{\"current\": \"{id}\", \"previous\": null}}")).unwrap();

    let databases = state.load();
    assert_eq!((databases.unusable().count(), databases.osv().count()), (1, 0));
    for status in [databases.status().to_vec(), state.store.status().unwrap()] {
        let SourceState::Unusable { problem } = &status[0].state else { panic!("{status:?}") };
        assert!(problem.contains("import the records again"), "{problem}");
    }
    assert!(!import()[0].was_current);
    let databases = state.load();
    assert_eq!((databases.unusable().count(), databases.osv().count()), (0, 1));
}

#[test]
fn a_source_without_a_usable_file_is_reported() {
    let state = State::new();
    state.import(1, false).unwrap();
    let path = state.folder.path().join("advisories/trivy-db/current");
    for text in ["", "{}", "{\"current\": \"../..\", \"previous\": null}", "{\"current\": \"x\", \"previous\": null}"] {
        fs::write(&path, text).unwrap();
        let databases = state.load();
        assert_eq!((day(&databases), databases.unusable().count()), (None, 1), "{text}");
    }
    state.import(1, false).unwrap();
    assert!(day(&state.load()).is_some());
}

/// Each state in which a crash can leave the directory.
#[test]
fn a_crash_leaves_one_whole_generation_in_use() {
    let state = State::new();
    state.import(1, false).unwrap();
    let pointer = fs::read(state.folder.path().join("advisories/trivy-db/current")).unwrap();
    state.import(2, false).unwrap();
    // The new generation has its name, `current` names the old one, and temporary files are there.
    fs::write(state.folder.path().join("advisories/trivy-db/current"), &pointer).unwrap();
    fs::write(state.folder.path().join("advisories/trivy-db/.current1"), "{").unwrap();
    let abandoned = state.folder.path().join("advisories/.staging-x");
    fs::create_dir(&abandoned).unwrap();
    fs::write(abandoned.join(DATABASE), "half").unwrap();
    assert_eq!(day(&state.load()).unwrap(), "CVE-2026-1");
    let used = state.store.stage().unwrap();
    assert!(!abandoned.exists(), "what a crashed process left behind is removed");
    state.import(2, false).unwrap();
    assert!(used.path().exists(), "what is in use is not");
    assert_eq!(day(&state.load()).unwrap(), "CVE-2026-2");
    // A directory that has its name, but not all of its content.
    fs::remove_file(state.generation("current").join(DATABASE)).unwrap();
    assert_eq!(day(&state.load()).unwrap(), "CVE-2026-1");
}

#[test]
fn updates_and_readers_at_the_same_time_see_whole_generations() {
    let state = State::new();
    state.import(1, false).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let store = state.store.clone();
            scope.spawn(move || {
                for number in 2..8 {
                    match import_day(&store, 3 * number + thread, false) {
                        Ok(_) | Err(DatabaseError::Older { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for _ in 0..20 {
            let databases = state.load();
            assert_eq!(databases.status()[0].state, SourceState::Ready);
            assert!(day(&databases).is_some());
        }
    });
    assert_eq!(day(&state.load()).unwrap(), "CVE-2026-23");
    assert_eq!(state.folders().len(), 3, "{:?}", state.folders());
}

/// An administrator imports as root, and the gate runs as another user.
#[test]
fn files_imported_by_root_belong_to_the_owner_of_the_state_directory() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can give files to another user");
        return;
    }
    let state = tempfile::tempdir().unwrap();
    lchown(state.path(), Some(12_345), Some(12_346)).unwrap();
    let store = AdvisoryStore::open(state.path()).unwrap();
    import_day(&store, 1, false).unwrap();
    import_day(&store, 2, false).unwrap();
    import_day(&store, 2, false).unwrap();
    let mut folders = vec![state.path().to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let owner = entry.metadata().unwrap();
            assert_eq!((owner.uid(), owner.gid()), (12_345, 12_346), "{}", entry.path().display());
            files += 1;
            folders.extend(owner.is_dir().then(|| entry.path()));
        }
    }
    // The directory of databases, its lock, a source, `current`, and two generations of a database, its metadata and a
    // manifest.
    assert_eq!(files, 4 + 2 * 4, "nothing was left out");
}

#[test]
fn databases_that_do_not_exist_are_not_created_by_looking() {
    let state = tempfile::tempdir().unwrap();
    assert!(AdvisoryStore::open_existing(state.path()).unwrap().is_none());
    assert!(AdvisoryStore::open_existing(&state.path().join("missing")).unwrap().is_none());
    // Nobody can look into such a path, as another user cannot into a state directory.
    assert!(AdvisoryStore::open_existing(&state.path().join("x".repeat(300))).is_err());
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    AdvisoryStore::open(state.path()).unwrap();
    assert!(AdvisoryStore::open_existing(state.path()).unwrap().is_some());
}
