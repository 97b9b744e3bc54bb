//! The current rules, from one or several sources of documents: parsed as a whole and replaced as a whole.
//!
//! A broken document keeps the last good rules, is reported in the log, and makes `/readyz` degraded. So does a file that
//! held policies and is empty now, because an interrupted editor or a full disk must not leave a namespace to the looser
//! rules of the cluster. To withdraw policies, remove the file.

mod directory;
mod source;
mod trusted_roots;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;

pub use directory::Directory;
pub use source::{DocumentSource, DocumentSourceError, Snapshot};

use crate::markup::{Problem, ProblemSeverity};
use crate::oci::{Algorithm, Hasher};
use crate::policy::{Document, Parsed, ParsedFile, RuleSet, Settings};
use crate::runtime::{BlockReady, Clock, Epoch, Metrics, Readiness, Tasks};
use trusted_roots::RootReporter;

/// The topic of the rules in `/readyz`.
const TOPIC: &str = "policy";

/// The current rules.
pub struct Rulebook {
    sources: Vec<Box<dyn DocumentSource>>,
    settings: Settings,
    /// Whether the whole gate is in audit mode: then every rule is.
    audit: bool,
    rules: ArcSwap<RuleSet>,
    /// Identifies what the rules in use were read from.
    fingerprint: ArcSwap<String>,
    /// Locked from before documents are read until their rules are in use.
    last: Mutex<LastRead>,
    readiness: Readiness,
    epoch: Epoch,
    reloads: Counter,
    failures: Counter,
    roots: RootReporter,
}

/// What the last reading of the documents left behind.
#[derive(Debug, Default)]
struct LastRead {
    /// The documents that hold the policies in use.
    holding: BTreeSet<String>,
    /// Whether the documents were refused, so that the rules in use are older.
    was_refused: bool,
    /// Keeps the gate from becoming ready while there is no policy.
    without_policy: Option<BlockReady>,
}

impl Rulebook {
    /// Reads the sources for the first time. Blocks.
    ///
    /// # Errors
    /// If a source cannot be read or a document has an error: a gate does not start with rules that it does not
    /// understand.
    pub fn load(
        sources: Vec<Box<dyn DocumentSource>>,
        settings: Settings,
        audit: bool,
        readiness: Readiness,
        epoch: Epoch,
        clock: Clock,
        metrics: &Metrics,
    ) -> Result<Self, RulebookError> {
        let ParsedRules { rules, files, fingerprint } = parse(&sources, &settings, audit)?;
        let last = LastRead { holding: holding(files), ..LastRead::default() };
        let reloads = metrics.register("policy_reloads", "Rule sets taken into use", Counter::default());
        let failures = "Policy documents that were refused; the previous rules stay in use";
        let failures = metrics.register("policy_reload_failures", failures, Counter::default());
        let roots = RootReporter::new(clock, readiness.clone(), metrics);
        let (rules, fingerprint) = (ArcSwap::from_pointee(rules), ArcSwap::from_pointee(fingerprint));
        let last = Mutex::new(last);
        let loaded =
            Self { sources, settings, audit, rules, fingerprint, last, readiness, epoch, reloads, failures, roots };
        loaded.report(&mut loaded.last(), None);
        Ok(loaded)
    }

    /// The rules at this moment.
    pub fn rules(&self) -> arc_swap::Guard<Arc<RuleSet>> {
        self.rules.load()
    }

    /// Identifies the rules in use: other rules have another fingerprint, also in another process. It is taken from the text of
    /// the documents, so a new comment changes it too.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.load().as_ref().clone()
    }

    /// Reads the sources again; a broken version keeps the rules in use. Blocks. Reloads run one after the other, because
    /// two at once could take the older version into use last.
    pub fn reload(&self) {
        let mut last = self.last();
        let refused = match self.parse(&mut last.holding) {
            Ok((rules, fingerprint)) => {
                if *self.rules.load_full() != rules {
                    tracing::info!(sources = self.names(), "policy changed; the new rules are in use");
                    self.rules.store(Arc::new(rules));
                    self.fingerprint.store(Arc::new(fingerprint));
                    self.epoch.advance();
                    self.reloads.inc();
                } else if last.was_refused {
                    tracing::info!(sources = self.names(), "policy is valid again; it equals the rules in use");
                }
                None
            }
            Err(error) => {
                tracing::error!(sources = self.names(), "new policy rejected; the previous rules stay in use: {error}");
                self.failures.inc();
                Some(error.to_string())
            }
        };
        self.report(&mut last, refused);
        if last.without_policy.is_some() {
            tracing::error!(sources = self.names(), "{}", self.no_policy());
        }
    }

    /// Updates readiness. A gate without a policy is not ready: it would deny every image, or in audit mode judge none.
    fn report(&self, last: &mut LastRead, refused: Option<String>) {
        let rules = self.rules.load();
        let has_policy = rules.documents() > 0;
        last.was_refused = refused.is_some();
        last.without_policy = match last.without_policy.take() {
            _ if has_policy => None,
            Some(block) => Some(block),
            None => Some(self.readiness.block(TOPIC)),
        };
        let why = refused.or_else(|| (!has_policy).then(|| self.no_policy()));
        self.readiness.degraded(TOPIC, why);
        self.roots.report(&rules);
    }

    fn no_policy(&self) -> String {
        let effect = if self.audit { "every image is admitted without being judged" } else { "every image is denied" };
        format!("no policy is loaded: {effect}; add policy documents to {}", self.names())
    }

    fn last(&self) -> MutexGuard<'_, LastRead> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> String {
        self.sources.iter().map(|source| source.name()).collect::<Vec<_>>().join(", ")
    }

    /// Reads the sources, and refuses documents that lost their policies.
    fn parse(&self, known: &mut BTreeSet<String>) -> Result<(RuleSet, String), RulebookError> {
        let ParsedRules { rules, files, fingerprint } = parse(&self.sources, &self.settings, self.audit)?;
        let emptied: Vec<_> =
            files.iter().filter(|file| file.documents == 0 && known.contains(&file.path)).cloned().collect();
        if !emptied.is_empty() {
            return Err(RulebookError::Emptied(emptied.into_iter().map(|file| file.path).collect()));
        }
        *known = holding(files);
        Ok((rules, fingerprint))
    }

    /// Reloads after every change of a source, until shutdown; also once at the beginning, because a source may have
    /// changed since [`load`](Self::load).
    pub fn watch(self: &Arc<Self>, tasks: &Tasks) {
        let changed = Arc::new(Notify::new());
        self.sources.iter().for_each(|source| source.watch(tasks, changed.clone()));
        changed.notify_one();
        let (rulebook, stop) = (self.clone(), tasks.clone());
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.stopping() => return,
                    () = changed.notified() => {}
                }
                let reloading = rulebook.clone();
                // A panic while parsing is a broken version like any other.
                if stop.spawn_blocking(move || reloading.reload()).await.is_err() {
                    rulebook.failures.inc();
                    rulebook.readiness.degraded(TOPIC, Some("reading the policy documents failed".into()));
                }
            }
        });
    }
}

/// The rules of all sources.
struct ParsedRules {
    rules: RuleSet,
    files: Vec<ParsedFile>,
    fingerprint: String,
}

fn parse(sources: &[Box<dyn DocumentSource>], settings: &Settings, audit: bool) -> Result<ParsedRules, RulebookError> {
    let snapshots: Vec<Snapshot> = sources.iter().map(|source| source.snapshot()).collect::<Result<_, _>>()?;
    let Snapshot { documents, materials, warnings } = Snapshot::merge(snapshots);
    let Parsed { rules, problems, files } = RuleSet::parse(&documents, &*materials, settings);
    let found = problems.iter().filter(|problem| problem.severity == ProblemSeverity::Warning);
    for problem in found.chain(&warnings) {
        tracing::warn!("{problem}");
    }
    let rules = rules.ok_or(RulebookError::Documents(problems))?;
    let fingerprint = fingerprint(&documents, &rules, settings, audit);
    Ok(ParsedRules { rules: if audit { rules.in_audit_mode() } else { rules }, files, fingerprint })
}

/// The text of documents, and the keys of the authorities that they name. The files of keys are not part of the text.
fn fingerprint(documents: &[Document], rules: &RuleSet, settings: &Settings, audit: bool) -> String {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for Document { path, text } in documents {
        hasher.update(format!("{} {path}\n{} {text}\n", path.len(), text.len()).as_bytes());
    }
    for authority in rules.authorities() {
        hasher.update(authority.id().to_string().as_bytes());
    }
    hasher.update(format!("{audit} {settings:?}").as_bytes());
    hasher.finish().short()
}

fn holding(files: Vec<ParsedFile>) -> BTreeSet<String> {
    files.into_iter().filter(|file| file.policies > 0).map(|file| file.path).collect()
}

/// Why the rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulebookError {
    /// A source cannot be read.
    #[error(transparent)]
    Source(#[from] DocumentSourceError),
    /// Documents have errors.
    #[error("{}", errors(.0))]
    Documents(Vec<Problem>),
    /// Files that held policies are empty.
    #[error("{}: empty, and it held policies; remove the file if that is intended", .0.join(", "))]
    Emptied(Vec<String>),
}

fn errors(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.severity == ProblemSeverity::Error);
    errors.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
