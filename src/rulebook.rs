//! The current rules, from one or several sources of documents: parsed as a whole and replaced as a whole.
//!
//! A broken document keeps the last good rules, is reported in the log, and makes `/readyz` degraded. So does a file
//! that contained policies and is now empty, because an interrupted editor or a full disk must not expose a namespace
//! to the looser cluster-wide rules. To withdraw policies, remove the file. The last policy cannot be withdrawn in this
//! way: a directory that is suddenly empty usually results from a faulty script or mount, and would stop every pull. A
//! set without entries denies everything.

mod directory;
mod links;
mod source;
mod trusted_roots;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

pub use directory::{Directory, DirectoryError};
use source::ReadMaterials;
pub use source::{DocumentSource, DocumentSourceError, Snapshot};

use crate::markup::{Problem, ProblemSeverity};
use crate::oci::{Algorithm, Hasher};
use crate::policy::{Document, EvidenceSources, Parsed, ParsedFile, RuleSet, Settings};
use crate::runtime::{BlockReady, Clock, Epoch, Metrics, Readiness, Tasks};
use trusted_roots::RootReporter;

/// The topic of the rules in `/readyz`.
const TOPIC: &str = "policy";
/// The warning about rules that deny nothing of what they select.
pub const ONLY_AUDITED: &str = "all policies are in audit mode: WHAT THEY DENY IS SERVED, and recorded";

/// The inputs from which rules are made.
pub struct RuleInputs {
    /// Where documents come from.
    pub sources: Vec<Box<dyn DocumentSource>>,
    /// How documents are read.
    pub settings: Settings,
    /// Whether the whole gate is in audit mode: then every rule is.
    pub audit: bool,
    /// Says what the gate can find out about images at this moment. May read files.
    pub evidence: Box<dyn Fn() -> EvidenceSources + Send + Sync>,
}

/// The current rules.
pub struct Rulebook {
    rules: ArcSwap<RuleSet>,
    /// Identifies what the rules in use were read from.
    fingerprint: ArcSwap<String>,
    /// Locked from before documents are read until their rules are in use.
    basis: Mutex<RuleBasis>,
    changed: Arc<Notify>,
    readiness: Readiness,
    epoch: Epoch,
    reloads: Counter,
    failures: Counter,
    audit_mode: Gauge,
    roots: RootReporter,
}

/// The inputs of the rules, and the state that the last reading left behind.
struct RuleBasis {
    inputs: RuleInputs,
    watching: Option<Watching>,
    /// The documents that hold the policies in use.
    holding: BTreeSet<String>,
    /// Whether the documents were refused, so that the rules in use are older.
    was_refused: bool,
    /// Keeps the gate from becoming ready while there is no policy.
    without_policy: Option<BlockReady>,
}

/// Notices changes of the sources. They are watched from before they are read, so that no change is missed.
struct Watching {
    /// The tasks of the process.
    process: Tasks,
    /// Those of them that watch.
    part: Tasks,
}

impl Watching {
    fn start(inputs: &RuleInputs, process: &Tasks, changed: &Arc<Notify>) -> Self {
        let part = process.part();
        inputs.sources.iter().for_each(|source| source.watch(&part, changed.clone()));
        Self { process: process.clone(), part }
    }
}

impl Rulebook {
    /// Reads the sources for the first time, and has them watched by `tasks` from before that, if given. Blocks.
    ///
    /// # Errors
    /// If a source cannot be read or a document has an error: a gate does not start with rules that it does not
    /// understand.
    pub fn load(
        inputs: RuleInputs,
        tasks: Option<&Tasks>,
        readiness: Readiness,
        epoch: Epoch,
        clock: Clock,
        metrics: &Metrics,
    ) -> Result<Self, RulebookError> {
        let changed = Arc::default();
        let watching = tasks.map(|tasks| Watching::start(&inputs, tasks, &changed));
        let ParsedRules { rules, files, fingerprint } = parse(&inputs)?;
        let holding = holding(files);
        let basis = RuleBasis { inputs, watching, holding, was_refused: false, without_policy: None };
        let reloads = metrics.register("policy_reloads", "Changed rules that were applied", Counter::default());
        let failures = "Policy documents that were refused; the previous rules stay in use";
        let failures = metrics.register("policy_reload_failures", failures, Counter::default());
        let audit_mode = "Whether the whole gate or every policy is in audit mode, so that no policy denies";
        let audit_mode = metrics.register("audit_mode", audit_mode, Gauge::default());
        let roots = RootReporter::new(clock, readiness.clone(), metrics);
        let (rules, fingerprint) = (ArcSwap::from_pointee(rules), ArcSwap::from_pointee(fingerprint));
        let basis = Mutex::new(basis);
        let loaded =
            Self { rules, fingerprint, basis, changed, readiness, epoch, reloads, failures, audit_mode, roots };
        loaded.report(&mut loaded.basis(), None);
        Ok(loaded)
    }

    /// The rules at this moment.
    pub fn rules(&self) -> arc_swap::Guard<Arc<RuleSet>> {
        self.rules.load()
    }

    /// Identifies the rules in use: different rules have different fingerprints, even across processes. It is taken
    /// from the text of the documents and of the files that they or the settings name, so a new comment changes it too.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.load().as_ref().clone()
    }

    /// Reads the sources again; a broken version keeps the rules in use. Blocks. Reloads run one after the other,
    /// because two at once could take the older version into use last. Returns why the rules in use are older.
    pub fn reload(&self) -> Option<String> {
        let mut basis = self.basis();
        let refused = match parse_again(&basis.inputs, &basis.holding, &self.rules.load()) {
            Ok(parsed) => {
                if self.apply(&mut basis, parsed) {
                    self.useless(&basis).iter().for_each(|problem| tracing::warn!("{problem}"));
                } else if basis.was_refused {
                    tracing::info!(sources = basis.inputs.names(), "policy is valid again; it equals the rules in use");
                }
                None
            }
            Err(error) => {
                let sources = basis.inputs.names();
                tracing::error!(sources, "new policy rejected; the previous rules stay in use: {error}");
                self.failures.inc();
                Some(error.to_string())
            }
        };
        self.report(&mut basis, refused.clone());
        refused
    }

    /// What is probably not intended: no policy is in use, every one is in audit mode, or entries can only deny or
    /// decide about no image. Blocks.
    pub fn warnings(&self) -> Vec<String> {
        let (basis, rules) = (self.basis(), self.rules.load());
        let no_policy = basis.inputs.no_policy(&rules);
        let audited = rules.is_only_audited().then(|| ONLY_AUDITED.to_owned());
        let useless = self.useless(&basis).into_iter().map(|problem| problem.to_string());
        no_policy.into_iter().chain(audited).chain(useless).collect()
    }

    /// The warnings about the rules in use that depend on what the gate can find out.
    fn useless(&self, basis: &RuleBasis) -> Vec<Problem> {
        let (rules, sources) = (self.rules.load(), (basis.inputs.evidence)());
        let mut problems = [rules.unselected(&sources), rules.problems_with(&sources)].concat();
        problems.retain(|problem| problem.severity == ProblemSeverity::Warning);
        problems
    }

    /// Makes the rules from something else from now on. Reads no documents if the inputs are the ones in use. Blocks.
    ///
    /// # Errors
    /// If a source cannot be read or a document has an error. The rules then stay as they are.
    pub fn replace(&self, inputs: RuleInputs) -> Result<(), RulebookError> {
        let mut basis = self.basis();
        if basis.inputs.is_like(&inputs) {
            basis.inputs.evidence = inputs.evidence;
            return Ok(());
        }
        let moved = basis.watching.as_ref().filter(|_| basis.inputs.names() != inputs.names());
        let moved = moved.map(|watching| Watching::start(&inputs, &watching.process, &self.changed));
        let parsed = parse_again(&inputs, &basis.holding, &self.rules.load()).inspect_err(|_| {
            moved.iter().for_each(|watching| watching.part.stop());
        })?;
        basis.inputs = inputs;
        if let Some(old) = moved.and_then(|moved| basis.watching.replace(moved)) {
            old.part.stop();
        }
        self.apply(&mut basis, parsed);
        self.report(&mut basis, None);
        Ok(())
    }

    /// Returns whether the rules differ from those in use until now.
    fn apply(&self, basis: &mut RuleBasis, parsed: ParsedRules) -> bool {
        let ParsedRules { rules, files, fingerprint } = parsed;
        basis.holding = holding(files);
        let is_changed = *self.rules.load_full() != rules;
        if is_changed {
            tracing::info!(sources = basis.inputs.names(), "policy changed; the new rules are in use");
            if rules.is_only_audited() {
                tracing::warn!("{ONLY_AUDITED}");
            }
            self.rules.store(Arc::new(rules));
            self.fingerprint.store(Arc::new(fingerprint));
            self.epoch.advance();
            self.reloads.inc();
        }
        is_changed
    }

    /// Updates readiness. A gate without a policy is not ready: it would deny every image, or in audit mode judge none.
    fn report(&self, basis: &mut RuleBasis, refused: Option<String>) {
        let rules = self.rules.load();
        let no_policy = basis.inputs.no_policy(&rules);
        basis.was_refused = refused.is_some();
        if let Some(effect) = &no_policy {
            tracing::error!("{effect}");
        }
        basis.without_policy = match (no_policy.is_some(), basis.without_policy.take()) {
            (false, _) => None,
            (true, Some(block)) => Some(block),
            (true, None) => Some(self.readiness.block(TOPIC)),
        };
        self.audit_mode.set((basis.inputs.audit || rules.is_only_audited()).into());
        self.readiness.inform(TOPIC, audited(&rules).into_iter().collect());
        self.readiness.degraded(TOPIC, refused.or(no_policy));
        self.roots.report(&rules);
    }

    fn basis(&self) -> MutexGuard<'_, RuleBasis> {
        self.basis.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reloads after every change of a source, until shutdown. Sources that were not watched since they were read are
    /// read once more at the beginning.
    pub fn watch(self: &Arc<Self>, tasks: &Tasks) {
        let mut basis = self.basis();
        if basis.watching.is_none() {
            basis.watching = Some(Watching::start(&basis.inputs, tasks, &self.changed));
            self.changed.notify_one();
        }
        drop(basis);
        let (rulebook, stop) = (self.clone(), tasks.clone());
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.stopping() => return,
                    () = rulebook.changed.notified() => {}
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

impl RuleInputs {
    fn is_like(&self, other: &Self) -> bool {
        self.names() == other.names() && self.settings == other.settings && self.audit == other.audit
    }

    fn names(&self) -> String {
        self.sources.iter().map(|source| source.name()).collect::<Vec<_>>().join(", ")
    }

    /// The warning that these rules have no policy, if that is so.
    fn no_policy(&self, rules: &RuleSet) -> Option<String> {
        let effect = effect_of_no_policy(self.audit);
        let warning = || format!("no policy is loaded: {effect}; add policy documents to {}", self.names());
        (rules.documents() == 0).then(warning)
    }
}

/// The effect of having no policy, for a gate that is in audit mode or not.
pub fn effect_of_no_policy(is_audit: bool) -> &'static str {
    if is_audit { "every image is admitted without being judged" } else { "every image is denied" }
}

/// How much of the rules is in audit mode, if anything is.
fn audited(rules: &RuleSet) -> Option<String> {
    let (audited, all) = (rules.audited_len(), rules.len());
    let are = if audited == 1 { "is" } else { "are" };
    let some = || (audited > 0).then(|| format!("{audited} of {all} entries {are} in audit mode"));
    if rules.is_only_audited() { Some(ONLY_AUDITED.to_owned()) } else { some() }
}

/// Reads the sources, and refuses documents that lost their policies, and sources that lost the last one.
fn parse_again(inputs: &RuleInputs, known: &BTreeSet<String>, used: &RuleSet) -> Result<ParsedRules, RulebookError> {
    let parsed = parse(inputs)?;
    let is_emptied = |file: &&ParsedFile| file.documents == 0 && known.contains(&file.path);
    let emptied: Vec<String> = parsed.files.iter().filter(is_emptied).map(|file| file.path.clone()).collect();
    if !emptied.is_empty() {
        return Err(RulebookError::Emptied(emptied));
    }
    if parsed.rules.documents() == 0 && used.documents() > 0 {
        return Err(RulebookError::NoneLeft(inputs.names(), effect_of_no_policy(inputs.audit)));
    }
    Ok(parsed)
}

/// The rules of all sources.
struct ParsedRules {
    rules: RuleSet,
    files: Vec<ParsedFile>,
    fingerprint: String,
}

fn parse(RuleInputs { sources, settings, audit, .. }: &RuleInputs) -> Result<ParsedRules, RulebookError> {
    let snapshots: Vec<Snapshot> = sources.iter().map(|source| source.snapshot()).collect::<Result<_, _>>()?;
    let Snapshot { documents, materials, warnings } = Snapshot::merge(snapshots);
    let materials = ReadMaterials::new(&*materials);
    let Parsed { rules, problems, files } = RuleSet::parse(&documents, &materials, settings);
    let found = problems.iter().filter(|problem| problem.severity == ProblemSeverity::Warning);
    for problem in found.chain(&warnings) {
        tracing::warn!("{problem}");
    }
    let rules = rules.ok_or(RulebookError::Documents(problems))?;
    let fingerprint = fingerprint(&documents, &materials, &rules, settings, *audit);
    Ok(ParsedRules { rules: if *audit { rules.in_audit_mode() } else { rules }, files, fingerprint })
}

/// Covers the text of documents, the files that they and the settings name, such as keys and ignore files, and the
/// authorities of the configuration.
fn fingerprint(
    documents: &[Document],
    materials: &ReadMaterials<'_>,
    rules: &RuleSet,
    settings: &Settings,
    audit: bool,
) -> String {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for Document { path, text } in documents {
        hasher.update(format!("{} {path}\n{} {text}\n", path.len(), text.len()).as_bytes());
    }
    materials.update(&mut hasher);
    for authority in rules.authorities() {
        hasher.update(authority.id().to_string().as_bytes());
    }
    hasher.update(&[u8::from(audit)]);
    hasher.update(&settings.encode());
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
    #[error("{}: is empty but contained policies; remove the file if that is intended", .0.join(", "))]
    Emptied(Vec<String>),
    /// The sources contained policies but no longer do. The second string describes the consequence after the next
    /// start.
    #[error(
        "{0}: no policy is left; the previous policies stay in use until the gate ends, and after the next start {1}. \
         To deny every image now, write a policy with `repositories: []`"
    )]
    NoneLeft(String, &'static str),
}

fn errors(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.severity == ProblemSeverity::Error);
    errors.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
