mod links;
mod warnings;

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;

const CLUSTER: &str = "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: all}\n\
    spec: {repositories: [{name: \"*\", policy: {}}]}\n";
const OWN: &str = "apiVersion: pullgate.io/v1\nkind: ImagePolicy\nmetadata: {name: own, namespace: prod}\n\
    spec: {repositories: []}\n";

fn sources(folders: &[&Path]) -> Vec<Box<dyn DocumentSource>> {
    folders.iter().map(|folder| Box::new(Directory::new(*folder)) as Box<dyn DocumentSource>).collect()
}

/// The inputs of a gate that serves no registry.
fn inputs(sources: Vec<Box<dyn DocumentSource>>, settings: Settings, audit: bool) -> RuleInputs {
    RuleInputs { sources, settings, audit, evidence: Box::new(EvidenceSources::default) }
}

/// Loads rules whose sources are not watched yet.
fn load(
    sources: Vec<Box<dyn DocumentSource>>,
    settings: Settings,
    audit: bool,
    readiness: Readiness,
    epoch: Epoch,
    clock: Clock,
    metrics: &Metrics,
) -> Result<Rulebook, RulebookError> {
    Rulebook::load(inputs(sources, settings, audit), None, readiness, epoch, clock, metrics)
}

#[test]
fn a_file_that_lost_its_policies_is_broken_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("own.yaml");
    fs::write(dir.path().join("all.yaml"), CLUSTER).unwrap();
    fs::write(dir.path().join("notes.yaml"), "# nothing yet\n").unwrap();
    fs::write(&own, OWN).unwrap();
    let readiness = Readiness::new();
    let settings = Settings::default();
    let sources = sources(&[dir.path()]);
    let rulebook =
        load(sources, settings, false, readiness.clone(), Epoch::new(), Clock::system(), &Metrics::default()).unwrap();
    let state = || {
        rulebook.reload();
        (rulebook.rules().documents(), readiness.report().degraded.get(TOPIC).cloned().unwrap_or_default())
    };
    assert_eq!(state(), (2, String::new()), "a file that never held policies may be empty");
    for nothing in ["", "# prod\n", "---\n"] {
        fs::write(&own, nothing).unwrap();
        for _ in 0..2 {
            let (documents, why) = state();
            assert!(documents == 2 && why.contains("own.yaml: is empty"), "{nothing:?}: {documents} {why}");
        }
    }
    fs::write(&own, OWN).unwrap();
    assert_eq!(state(), (2, String::new()));
    fs::write(&own, "").unwrap();
    state();
    fs::remove_file(&own).unwrap();
    assert_eq!(state(), (1, String::new()), "removing the file withdraws its policies");
    fs::write(&own, "").unwrap();
    assert_eq!(state(), (1, String::new()), "a new file never held policies");
}

#[test]
fn a_gate_without_a_policy_is_not_ready() {
    for (audit, effect) in [(false, "every image is denied"), (true, "admitted without being judged")] {
        let dir = tempfile::tempdir().unwrap();
        let (readiness, metrics) = (Readiness::new(), Metrics::default());
        let (sources, settings) = (sources(&[dir.path()]), Settings::default());
        let (epoch, clock) = (Epoch::new(), Clock::system());
        let rulebook = load(sources, settings, audit, readiness.clone(), epoch, clock, &metrics).unwrap();
        let state = || {
            let report = readiness.report();
            (report.ready, report.degraded.get(TOPIC).cloned().unwrap_or_default())
        };
        let mode = format!("pullgate_audit_mode {}\n", u8::from(audit));
        assert!(metrics.render().contains(&mode), "{mode}");
        let (is_ready, why) = state();
        assert!(!is_ready && why.contains(effect) && why.contains(&*dir.path().to_string_lossy()), "{why}");
        assert_eq!(readiness.report().awaited, ["policy"]);
        let file = dir.path().join("all.yaml");
        fs::write(&file, "kind: [").unwrap();
        rulebook.reload();
        let (is_ready, why) = state();
        assert!(!is_ready && why.contains("all.yaml:"), "{why}");
        assert!(metrics.render().contains("pullgate_policy_reload_failures_total 1\n"));
        fs::write(&file, CLUSTER).unwrap();
        rulebook.reload();
        assert_eq!(state(), (true, String::new()));
    }
}

/// An empty directory is the mistake of a script or a mount, and would stop every pull.
#[test]
fn the_last_policy_stays_in_use_until_another_takes_its_place() {
    let (dir, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = dir.path().join("all.yaml");
    fs::write(&file, CLUSTER).unwrap();
    let (readiness, metrics, settings) = (Readiness::new(), Metrics::default(), Settings::default());
    let rulebook =
        load(sources(&[dir.path()]), settings, false, readiness.clone(), Epoch::new(), Clock::system(), &metrics);
    let rulebook = rulebook.unwrap();
    let fingerprint = rulebook.fingerprint();
    fs::remove_file(&file).unwrap();
    for round in 1..3 {
        let why = rulebook.reload().unwrap();
        assert!(why.contains("no policy is left") && why.contains(&*dir.path().to_string_lossy()), "{why}");
        let report = readiness.report();
        assert!(report.ready && report.degraded.get(TOPIC) == Some(&why), "{report:?}");
        assert_eq!((rulebook.rules().documents(), rulebook.fingerprint()), (1, fingerprint.clone()));
        let failures = format!("pullgate_policy_reload_failures_total {round}\n");
        assert!(metrics.render().contains(&failures), "{failures}");
    }
    let without = |audit| inputs(sources(&[empty.path()]), Settings::default(), audit);
    let why = rulebook.replace(without(false)).unwrap_err().to_string();
    assert!(why.contains("no policy is left") && why.contains(&*empty.path().to_string_lossy()), "{why}");
    assert_eq!(rulebook.rules().documents(), 1, "another folder without policies is refused, too");
    let why = rulebook.replace(without(true)).unwrap_err().to_string();
    assert!(why.contains("after the next start every image is admitted without being judged"), "{why}");
    fs::write(&file, CLUSTER.replace("[{name: \"*\", policy: {}}]", "[]")).unwrap();
    assert_eq!(rulebook.reload(), None, "a policy without entries denies everything, as it is written");
    assert_eq!((rulebook.rules().documents(), rulebook.rules().len()), (1, 0));
}

#[tokio::test]
async fn other_inputs_are_used_and_watched_or_change_nothing() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(first.path().join("all.yaml"), CLUSTER).unwrap();
    fs::write(second.path().join("all.yaml"), format!("{CLUSTER}---\n{OWN}")).unwrap();
    let (epoch, metrics, tasks) = (Epoch::new(), Metrics::default(), Tasks::new());
    let firsts = sources(&[first.path()]);
    let load = load(firsts, Settings::default(), false, Readiness::new(), epoch.clone(), Clock::system(), &metrics);
    let rulebook = Arc::new(load.unwrap());
    rulebook.watch(&tasks);
    let replace = |path: &Path, audit| rulebook.replace(inputs(sources(&[path]), Settings::default(), audit));
    let before = epoch.moment("a");
    replace(first.path(), false).unwrap();
    assert!(epoch.is_now(&before), "nothing has changed");
    assert!(replace(&first.path().join("missing"), false).is_err());
    assert_eq!(rulebook.rules().documents(), 1);
    replace(second.path(), true).unwrap();
    assert!(rulebook.rules().documents() == 2 && !epoch.is_now(&before));
    fs::remove_file(second.path().join("all.yaml")).unwrap();
    fs::write(second.path().join("own.yaml"), OWN).unwrap();
    let reread = async {
        while rulebook.rules().documents() != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reread).await.expect("the new directory is watched");
    assert!(tasks.drain(Duration::from_secs(5)).await);
}

/// A reload holds the lock from before it reads until its rules are in use, so no other can use newer ones meanwhile.
#[test]
fn a_reload_reads_nothing_while_another_one_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("all.yaml"), CLUSTER).unwrap();
    let (sources, metrics) = (sources(&[dir.path()]), Metrics::default());
    let load = load(sources, Settings::default(), false, Readiness::new(), Epoch::new(), Clock::system(), &metrics);
    let rulebook = Arc::new(load.unwrap());
    let other = rulebook.basis.lock().unwrap();
    let waiting = std::thread::spawn({
        let rulebook = rulebook.clone();
        move || rulebook.reload()
    });
    // The waiting reload must read only once it holds the lock. It is given time to read too early.
    std::thread::sleep(Duration::from_millis(100));
    fs::write(dir.path().join("own.yaml"), OWN).unwrap();
    assert_eq!(rulebook.rules().documents(), 1);
    drop(other);
    waiting.join().unwrap();
    assert_eq!(rulebook.rules().documents(), 2);
}

const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAgEM2qWKB9QksW74PHPVC+47Yf+x99A8y26pZBs6eDo0=\n-----END PUBLIC KEY-----\n";

/// Each document finds its key files in the source that it is from, and every document finds the secrets of all.
#[test]
fn several_sources_make_one_set_of_rules() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(first.path().join("all.yaml"), CLUSTER).unwrap();
    let signed = "apiVersion: pullgate.io/v1\nkind: ImagePolicy\nmetadata: {name: own, namespace: prod}\nspec:\n  \
        authorities:\n  - {name: a, cosign: {key: {file: a.pub}}}\n  - {name: b, cosign: {key: {secret: {name: s, key: k}}}}\n  \
        repositories: [{name: '*', policy: {trust: {anyOf: [a, b]}}}]\n";
    fs::write(second.path().join("own.yaml"), signed).unwrap();
    fs::write(second.path().join("a.pub"), PEM).unwrap();
    let secret = first.path().join("secrets/prod/s");
    fs::create_dir_all(&secret).unwrap();
    fs::write(secret.join("k"), PEM).unwrap();
    let load = || {
        let sources = sources(&[first.path(), second.path()]);
        load(sources, Settings::default(), false, Readiness::new(), Epoch::new(), Clock::system(), &Metrics::default())
    };
    assert_eq!(load().unwrap().rules().documents(), 2);
    fs::rename(second.path().join("a.pub"), first.path().join("a.pub")).unwrap();
    let error = load().err().unwrap().to_string();
    assert!(error.contains("own.yaml:6:") && error.contains("a.pub"), "{error}");
}

/// 10,000 entries are read and applied well within a second in release; this bound is for an unoptimised build on
/// a busy machine.
#[test]
fn ten_thousand_entries_are_reloaded_quickly() {
    let dir = tempfile::tempdir().unwrap();
    let (sources, metrics) = (sources(&[dir.path()]), Metrics::default());
    let head = "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\n";
    for (file, name) in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].into_iter().enumerate() {
        let mut text = format!("{head}metadata: {{name: {name}}}\nspec:\n  repositories:\n");
        for entry in 0..1000 {
            let name = format!("registry.acme.com/team-{file}/service-{entry}/*");
            text.push_str(&format!("  - {{name: '{name}', policy: {{trust: notary, va: {{severity: high}}}}}}\n"));
        }
        fs::write(dir.path().join(format!("{name}.yaml")), text).unwrap();
    }
    let load = load(sources, Settings::default(), false, Readiness::new(), Epoch::new(), Clock::system(), &metrics);
    let rulebook = load.unwrap();
    fs::remove_file(dir.path().join("j.yaml")).unwrap();
    let begin = std::time::Instant::now();
    rulebook.reload();
    let time = begin.elapsed();
    assert_eq!(rulebook.rules().len(), 9000);
    println!("9,000 of 10,000 entries reloaded in {time:?}");
    assert!(time < Duration::from_secs(10), "{time:?}");
}

/// `pullgate reload` tells by it whether rules have changed, and old verdicts say by it what they rely on.
#[test]
fn files_that_are_named_outside_of_documents_change_the_fingerprint() {
    let dir = tempfile::tempdir().unwrap();
    let ignored = dir.path().join("ignored.txt");
    fs::write(dir.path().join("all.yaml"), CLUSTER).unwrap();
    fs::write(&ignored, "CVE-2024-1\n").unwrap();
    let load = || {
        let settings = Settings { ignore_files: vec![ignored.display().to_string()], ..Settings::default() };
        let (readiness, metrics) = (Readiness::new(), Metrics::default());
        load(sources(&[dir.path()]), settings, false, readiness, Epoch::new(), Clock::system(), &metrics).unwrap()
    };
    let rulebook = load();
    let before = rulebook.fingerprint();
    assert_eq!(load().fingerprint(), before, "the same in another process");
    fs::write(&ignored, "CVE-2024-2\n").unwrap();
    rulebook.reload();
    assert_ne!(rulebook.fingerprint(), before);
    assert_eq!(load().fingerprint(), rulebook.fingerprint());
}

/// A source in memory, as one that watches an API would be.
struct InMemory {
    text: Arc<Mutex<Result<String, &'static str>>>,
    changed: Arc<Mutex<Option<Arc<Notify>>>>,
}

impl DocumentSource for InMemory {
    fn name(&self) -> String {
        "memory".into()
    }

    fn snapshot(&self) -> Result<Snapshot, DocumentSourceError> {
        let text = self.text.lock().unwrap().clone().map_err(DocumentSourceError::new)?;
        let documents = vec![Document { path: "memory/default/own".into(), text }];
        Ok(Snapshot { documents, materials: Box::new(crate::policy::NoMaterials), warnings: Vec::new() })
    }

    fn watch(&self, _: &Tasks, changed: Arc<Notify>) {
        *self.changed.lock().unwrap() = Some(changed);
    }
}

#[tokio::test]
async fn a_source_that_signals_a_change_is_read_again() {
    let text = Arc::new(Mutex::new(Ok(CLUSTER.to_owned())));
    let changed = Arc::new(Mutex::new(None));
    let source = Box::new(InMemory { text: text.clone(), changed: changed.clone() });
    let (readiness, metrics, tasks) = (Readiness::new(), Metrics::default(), Tasks::new());
    let load =
        load(vec![source], Settings::default(), false, readiness.clone(), Epoch::new(), Clock::system(), &metrics);
    let rulebook = Arc::new(load.unwrap());
    rulebook.watch(&tasks);
    let signal = changed.lock().unwrap().clone().unwrap();
    for (new, documents, is_degraded) in [
        (Ok(format!("{CLUSTER}---\n{OWN}")), 2, false),
        (Err("the API does not answer"), 2, true),
        (Ok("kind: [".to_owned()), 2, true),
        (Ok(OWN.to_owned()), 1, false),
    ] {
        *text.lock().unwrap() = new;
        signal.notify_one();
        let is_there = || {
            let degraded = readiness.report().degraded.contains_key(TOPIC);
            rulebook.rules().documents() == documents && degraded == is_degraded
        };
        let waited = async {
            while !is_there() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waited).await.expect("the change is in use");
    }
    assert!(tasks.drain(Duration::from_secs(5)).await);
}

/// The public root of Sigstore, with the validity of every key ending at this time.
fn trusted_root(end: &str) -> String {
    let text = sigstore_verify::trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;
    let mut root: serde_json::Value = serde_json::from_str(text).unwrap();
    let window = serde_json::json!({"start": "2021-01-01T00:00:00Z", "end": end});
    for list in ["tlogs", "ctlogs", "certificateAuthorities", "timestampAuthorities"] {
        for one in root[list].as_array_mut().unwrap() {
            let owner = if one.get("publicKey").is_some() { &mut one["publicKey"] } else { one };
            owner["validFor"] = window.clone();
        }
    }
    root.to_string()
}

const KEYLESS: &str = "apiVersion: pullgate.io/v1
kind: ClusterImagePolicy
metadata: {name: ci}
spec:
  authorities:
  - name: ci
    cosign:
      keyless:
        issuer: https://i
        identity: x
        trustedRoot: {file: roots/root.txt}
  repositories: [{name: \"*\", policy: {trust: ci}}]
";

#[test]
fn a_trusted_root_that_ends_is_reported_until_it_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("roots/root.txt");
    fs::create_dir(root.parent().unwrap()).unwrap();
    fs::write(&root, trusted_root("2026-06-01T00:00:00Z")).unwrap();
    fs::write(dir.path().join("ci.yaml"), KEYLESS).unwrap();
    let clock = Clock::manual("2026-05-31T00:00:00Z".parse().unwrap());
    let (readiness, metrics) = (Readiness::new(), Metrics::default());
    let settings = Settings::default();
    let (epoch, sources) = (Epoch::new(), sources(&[dir.path()]));
    let rulebook = load(sources, settings, false, readiness.clone(), epoch, clock.clone(), &metrics).unwrap();
    let state = || {
        let report = readiness.report();
        let ended = report.degraded.get("trusted roots").cloned().unwrap_or_default();
        (report.details["trusted roots"].join("\n"), ended)
    };
    let (details, ended) = state();
    assert!(details.starts_with("roots/root.txt: ends at 2026-06-01T00:00:00Z, in 1 day; its newest key"), "{details}");
    assert!(details.contains("its file is") && ended.is_empty(), "{details} {ended}");
    let measured = metrics.render();
    assert!(
        measured.contains("trusted_root_expiry_timestamp_seconds{root=\"roots/root.txt\"} 1780272000"),
        "{measured}"
    );
    assert!(measured.contains("trusted_root_written_timestamp_seconds{root=\"roots/root.txt\"}"), "{measured}");

    clock.advance(jiff::SignedDuration::from_hours(25));
    rulebook.reload();
    let (details, ended) = state();
    assert!(details.starts_with("roots/root.txt: ENDED"), "{details}");
    assert!(ended.starts_with("roots/root.txt: all of its keys have expired, the last at 2026-06-01"), "{ended}");

    fs::write(&root, trusted_root("2031-01-01T00:00:00Z")).unwrap();
    rulebook.reload();
    assert_eq!(state().1, "");
    fs::write(dir.path().join("ci.yaml"), CLUSTER).unwrap();
    rulebook.reload();
    assert!(readiness.report().details.is_empty());
    assert!(!metrics.render().contains("{root="), "a root that is not in use is not measured");
}

#[test]
fn a_missing_trusted_root_names_its_place() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ci.yaml"), KEYLESS).unwrap();
    let load = |settings| {
        let metrics = Metrics::default();
        let sources = sources(&[dir.path()]);
        let load = load(sources, settings, false, Readiness::new(), Epoch::new(), Clock::system(), &metrics);
        load.err().unwrap().to_string()
    };
    let why = load(Settings::default());
    assert!(why.contains("ci.yaml:11:") && why.contains("file \"roots/root.txt\": "), "{why}");
    let why = load(Settings { trusted_roots: vec!["/nowhere/root.json".into()], ..Settings::default() });
    assert!(why.contains("trust.trusted_roots: \"/nowhere/root.json\""), "{why}");
}
