//! Where rules come from: a directory of documents, watched, parsed whole and swapped whole.
//!
//! A broken file keeps the last good set, says so in the log, and turns `/readyz` degraded. So does a file that held
//! policies and is empty now: whoever means to take them back removes the file. An editor that was interrupted, or a disk
//! that was full, must not leave a namespace to the looser rules of the cluster.

mod directory;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;

pub use directory::{DirMaterials, Error as DirectoryError, read_dir};

use crate::markup::{Problem, ProblemSeverity};
use crate::policy::{Parsed, ParsedFile, RuleSet, Settings};
use crate::runtime::{DirectoryWatch, Epoch, Metrics, Readiness, Tasks};

/// The name under which `/readyz` speaks of the rules.
const TOPIC: &str = "policy";
/// The directory is read again after this time even when no change was seen: some file systems report none.
const RESCAN: Duration = Duration::from_secs(60);

/// The current rules.
pub struct Rulebook {
    dir: PathBuf,
    settings: Settings,
    /// Whether the whole gate is in audit mode: then every rule is.
    audit: bool,
    rules: ArcSwap<RuleSet>,
    /// The files that the policies in use are from. Locked from before files are read until their rules are in use.
    holding: Mutex<BTreeSet<String>>,
    readiness: Readiness,
    epoch: Epoch,
    reloads: Counter,
}

impl Rulebook {
    /// Reads the directory for the first time.
    ///
    /// # Errors
    /// When the directory cannot be read or a document in it is wrong: a gate does not start on rules that it does not
    /// understand.
    pub fn load(
        dir: PathBuf,
        settings: Settings,
        audit: bool,
        readiness: Readiness,
        epoch: Epoch,
        metrics: &Metrics,
    ) -> Result<Self, RulebookError> {
        let (rules, files) = parse(&dir, &settings, audit)?;
        let holding = Mutex::new(holding(files));
        let reloads = metrics.register("policy_reloads", "Rule sets taken into use", Counter::default());
        Ok(Self { dir, settings, audit, rules: ArcSwap::from_pointee(rules), holding, readiness, epoch, reloads })
    }

    /// The rules of this moment.
    pub fn rules(&self) -> arc_swap::Guard<Arc<RuleSet>> {
        self.rules.load()
    }

    /// Reads the directory again. A broken version keeps the one in use.
    /// Two at a time would be able to take the older version into use last, so one waits for the other. Blocks.
    pub fn reload(&self) {
        let mut holding = self.holding.lock().unwrap_or_else(PoisonError::into_inner);
        match self.parse(&mut holding) {
            Ok(rules) => {
                if *self.rules.load_full() != rules {
                    tracing::info!(policy.dir = %self.dir.display(), "policy changed; the new rules are in use");
                    self.rules.store(Arc::new(rules));
                    self.epoch.advance();
                    self.reloads.inc();
                }
                self.readiness.degraded(TOPIC, None);
            }
            Err(error) => {
                tracing::error!(policy.dir = %self.dir.display(), "the new policy is not used, the old one stays: {error}");
                self.readiness.degraded(TOPIC, Some(error.to_string()));
            }
        }
    }

    /// Reads the directory, and refuses what was lost and not taken back.
    fn parse(&self, known: &mut BTreeSet<String>) -> Result<RuleSet, RulebookError> {
        let (rules, files) = parse(&self.dir, &self.settings, self.audit)?;
        let emptied: Vec<_> =
            files.iter().filter(|file| file.documents == 0 && known.contains(&file.path)).cloned().collect();
        if !emptied.is_empty() {
            return Err(RulebookError::Emptied(emptied.into_iter().map(|file| file.path).collect()));
        }
        *known = holding(files);
        Ok(rules)
    }

    /// Reloads the rules after every change of the directory, until shutdown.
    pub fn watch(self: &Arc<Self>, tasks: &Tasks) {
        let watch = DirectoryWatch::new(&[&self.dir], "policies");
        let (rulebook, stop) = (self.clone(), tasks.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = rulebook.follow(watch, &stop) => {}
                () = stop.stopping() => {}
            }
        });
    }

    async fn follow(self: Arc<Self>, mut watch: DirectoryWatch, tasks: &Tasks) {
        loop {
            watch.changed(RESCAN).await;
            let rulebook = self.clone();
            // A panic while parsing is a broken version like any other.
            if tasks.spawn_blocking(move || rulebook.reload()).await.is_err() {
                self.readiness.degraded(TOPIC, Some("reading the policy directory failed".into()));
            }
        }
    }
}

fn parse(dir: &Path, settings: &Settings, audit: bool) -> Result<(RuleSet, Vec<ParsedFile>), RulebookError> {
    let (sources, materials) = read_dir(dir)?;
    let Parsed { rules, problems, files } = RuleSet::parse(&sources, &materials, settings);
    let warnings = problems.iter().filter(|problem| problem.severity == ProblemSeverity::Warning);
    for problem in warnings.chain(materials.problems()) {
        tracing::warn!("{problem}");
    }
    let rules = rules.ok_or(RulebookError::Documents(problems))?;
    Ok((if audit { rules.in_audit_mode() } else { rules }, files))
}

fn holding(files: Vec<ParsedFile>) -> BTreeSet<String> {
    files.into_iter().filter(|file| file.policies > 0).map(|file| file.path).collect()
}

/// Why the rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulebookError {
    /// The directory cannot be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Documents are wrong.
    #[error("{}", errors(.0))]
    Documents(Vec<Problem>),
    /// Files that held policies hold nothing.
    #[error("{}: empty, and it held policies; remove the file if they are to go", .0.join(", "))]
    Emptied(Vec<String>),
}

fn errors(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.severity == ProblemSeverity::Error);
    errors.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CLUSTER: &str = "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: all}\n\
        spec: {repositories: [{name: \"*\", policy: {}}]}\n";
    const OWN: &str = "apiVersion: pullgate.io/v1\nkind: ImagePolicy\nmetadata: {name: own, namespace: prod}\n\
        spec: {repositories: []}\n";

    #[test]
    fn a_file_that_lost_its_policies_is_broken_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own.yaml");
        fs::write(dir.path().join("all.yaml"), CLUSTER).unwrap();
        fs::write(dir.path().join("notes.yaml"), "# nothing yet\n").unwrap();
        fs::write(&own, OWN).unwrap();
        let readiness = Readiness::new();
        let settings = Settings::default();
        let path = dir.path().to_owned();
        let rulebook =
            Rulebook::load(path, settings, false, readiness.clone(), Epoch::new(), &Metrics::default()).unwrap();
        let state = || {
            rulebook.reload();
            (rulebook.rules().documents(), readiness.report().degraded.get(TOPIC).cloned().unwrap_or_default())
        };
        assert_eq!(state(), (2, String::new()), "a file that never held any may be empty");
        for nothing in ["", "# prod\n", "---\n"] {
            fs::write(&own, nothing).unwrap();
            for _ in 0..2 {
                let (documents, why) = state();
                assert!(documents == 2 && why.contains("own.yaml: empty"), "{nothing:?}: {documents} {why}");
            }
        }
        fs::write(&own, OWN).unwrap();
        assert_eq!(state(), (2, String::new()));
        fs::write(&own, "").unwrap();
        state();
        fs::remove_file(&own).unwrap();
        assert_eq!(state(), (1, String::new()), "who removes the file means it");
        fs::write(&own, "").unwrap();
        assert_eq!(state(), (1, String::new()), "a new file has lost nothing");
    }
    /// Whoever reads files holds the lock until their rules are in use, so nobody can take newer ones into use meanwhile.
    #[test]
    fn a_reload_reads_nothing_while_another_one_is_under_way() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("all.yaml"), CLUSTER).unwrap();
        let (path, metrics) = (dir.path().to_owned(), Metrics::default());
        let load = Rulebook::load(path, Settings::default(), false, Readiness::new(), Epoch::new(), &metrics);
        let rulebook = Arc::new(load.unwrap());
        let other = rulebook.holding.lock().unwrap();
        let waiting = std::thread::spawn({
            let rulebook = rulebook.clone();
            move || rulebook.reload()
        });
        // What the waiting one takes into use is what is there once it may begin. Before that it has time to read too early.
        std::thread::sleep(Duration::from_millis(100));
        fs::write(dir.path().join("own.yaml"), OWN).unwrap();
        assert_eq!(rulebook.rules().documents(), 1);
        drop(other);
        waiting.join().unwrap();
        assert_eq!(rulebook.rules().documents(), 2);
    }
}
