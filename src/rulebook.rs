//! Where rules come from: a directory of documents, watched, parsed whole and swapped whole.
//!
//! A broken file keeps the last good set, says so in the log, and turns `/readyz` degraded.

mod directory;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use notify::{RecursiveMode, Watcher};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

pub use directory::{DirMaterials, Error as DirectoryError, read_dir};

use crate::policy::{Parsed, Problem, ProblemSeverity, RuleSet, Settings};
use crate::runtime::{Metrics, Readiness, Tasks};

/// The name under which `/readyz` speaks of the rules.
const TOPIC: &str = "policy";
/// Changes within this time are one change: editors and `kubectl` write several files.
const SETTLE: Duration = Duration::from_millis(200);
/// The directory is read again after this time even when no change was seen: some file systems report none.
const RESCAN: Duration = Duration::from_secs(60);

/// The current rules.
pub struct Rulebook {
    dir: PathBuf,
    settings: Settings,
    /// Whether the whole gate is in audit mode: then every rule is.
    audit: bool,
    rules: ArcSwap<RuleSet>,
    readiness: Readiness,
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
        metrics: &Metrics,
    ) -> Result<Self, RulebookError> {
        let rules = parse(&dir, &settings, audit)?;
        let reloads = metrics.register("policy_reloads", "Rule sets taken into use", Counter::default());
        Ok(Self { dir, settings, audit, rules: ArcSwap::from_pointee(rules), readiness, reloads })
    }

    /// The rules of this moment.
    pub fn rules(&self) -> arc_swap::Guard<Arc<RuleSet>> {
        self.rules.load()
    }

    /// Reads the directory again. A broken version keeps the one in use.
    pub fn reload(&self) {
        match parse(&self.dir, &self.settings, self.audit) {
            Ok(rules) => {
                if *self.rules.load_full() != rules {
                    tracing::info!(policy.dir = %self.dir.display(), "policy changed; the new rules are in use");
                    self.rules.store(Arc::new(rules));
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

    /// Watches the directory until shutdown.
    pub fn watch(self: &Arc<Self>, tasks: &Tasks) {
        let (changed, changes) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |_| {
            // One pending change stands for all.
            let _ = changed.try_send(());
        });
        let watched = watcher.and_then(|mut watcher| {
            watcher.watch(&self.dir, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        let watcher = watched
            .inspect_err(
                |error| tracing::warn!(%error, "the policy directory cannot be watched; it is read every minute"),
            )
            .ok();
        let (rulebook, stop) = (self.clone(), tasks.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = rulebook.follow(changes) => {}
                () = stop.stopping() => {}
            }
            drop(watcher);
        });
    }

    async fn follow(self: Arc<Self>, mut changes: mpsc::Receiver<()>) {
        loop {
            match tokio::time::timeout(RESCAN, changes.recv()).await {
                Ok(Some(())) => {
                    tokio::time::sleep(SETTLE).await;
                    while changes.try_recv().is_ok() {}
                }
                // Nobody watches.
                Ok(None) => tokio::time::sleep(RESCAN).await,
                Err(_) => {}
            }
            let rulebook = self.clone();
            // A panic while parsing is a broken version like any other.
            if tokio::task::spawn_blocking(move || rulebook.reload()).await.is_err() {
                self.readiness.degraded(TOPIC, Some("reading the policy directory failed".into()));
            }
        }
    }
}

fn parse(dir: &std::path::Path, settings: &Settings, audit: bool) -> Result<RuleSet, RulebookError> {
    let (sources, materials) = read_dir(dir)?;
    let Parsed { rules, problems } = RuleSet::parse(&sources, &materials, settings);
    for problem in problems.iter().filter(|problem| problem.severity == ProblemSeverity::Warning) {
        tracing::warn!("{problem}");
    }
    let rules = rules.ok_or(RulebookError::Documents(problems))?;
    Ok(if audit { rules.in_audit_mode() } else { rules })
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
}

fn errors(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.severity == ProblemSeverity::Error);
    errors.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
