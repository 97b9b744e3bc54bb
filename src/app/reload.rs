//! Reloading what can change without a restart: the configuration, policies, certificates, and the audit file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use tokio::signal::unix::Signal;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::shutdown::SharedShutdown;
use super::summary::warn_of_audit_mode;
use crate::api::Reloaded;
use crate::audit::Audit;
use crate::config::{Config, content_now, read_bounded};
use crate::markup::{Problem, ProblemSeverity};
use crate::oci::Digest;
use crate::preflight::{self, PreflightDepth};
use crate::rulebook::{Directory, RuleInputs, Rulebook};
use crate::runtime::{Clock, Epoch, Metrics, Readiness, Tasks, notify_ready, notify_reloading, set_log_filter};
use crate::server::{Certificates, SharedLimits};
use crate::upstream::Upstreams;

/// The topic of the configuration in `/readyz`.
const TOPIC: &str = "configuration";
/// How often the file is read. It is compared by content, which detects the symlink swaps of a ConfigMap.
const WATCH_INTERVAL: Duration = Duration::from_secs(30);
/// How long the content must stay the same, so that a file is not read while it is being written.
const QUIET: Duration = Duration::from_secs(1);

/// Reloads what can change without a restart: the configuration, policies, certificates, the audit file. Cheap to
/// clone.
#[derive(Clone)]
pub struct Reload(Arc<ReloadState>);

/// What a reload changes.
pub(super) struct ReloadParts {
    pub(super) rulebook: Arc<Rulebook>,
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) certificates: Certificates,
    pub(super) limits: SharedLimits,
    pub(super) shutdown: SharedShutdown,
    pub(super) audit: Audit,
    pub(super) readiness: Readiness,
    pub(super) epoch: Epoch,
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
}

struct ReloadState {
    parts: ReloadParts,
    /// The configuration with which the process was started: what differs from it and cannot change needs a restart.
    started: Config,
    /// The configuration in use. Locked during a reload, so that the older of two versions is never used last.
    used: Mutex<Config>,
    /// The content that was read last: of the file, and of the keys and authorities that it names.
    seen: Mutex<Option<Digest>>,
    /// The files of keys and certificate authorities that the configuration in use names.
    named: Arc<ArcSwap<Vec<PathBuf>>>,
    reloads: Counter,
    failures: Counter,
}

impl Reload {
    pub(super) fn new(parts: ReloadParts, config: Config, metrics: &Metrics) -> Self {
        let reloads = "Changed configurations that were applied";
        let reloads = metrics.register("config_reloads", reloads, Counter::default());
        let failures = "Rejected configurations; the previous one stays in use";
        let failures = metrics.register("config_reload_failures", failures, Counter::default());
        parts.readiness.degraded(TOPIC, None);
        let (used, seen) = (Mutex::new(config.clone()), Mutex::new(config.places.content()));
        let named = Arc::new(ArcSwap::from_pointee(config.places.parts()));
        Self(Arc::new(ReloadState { parts, used, seen, named, started: config, reloads, failures }))
    }

    /// Starts [`all`](Self::all), and tells the service manager when it has ended.
    pub fn start(&self) -> JoinHandle<Reloaded> {
        let reload = self.clone();
        self.0.parts.tasks.spawn(async move {
            let reloaded = reload.all().await;
            reload.notify_ready();
            reloaded
        })
    }

    /// Reloads everything. A part that is refused keeps its last good version; the log and `/readyz` say so, too.
    pub async fn all(&self) -> Reloaded {
        let parts = &self.0.parts;
        let rules = parts.rulebook.fingerprint();
        let configuration = self.0.configuration().await;
        let reload = self.clone();
        let read = move || (reload.files(), reload.0.parts.rulebook.warnings());
        let read = parts.tasks.spawn_blocking(read).await;
        // A part that panics logs it and keeps its state.
        let broken = |_| {
            let failed = ("policy".to_owned(), "reading policies and certificates failed".to_owned());
            (BTreeMap::from([failed]), Vec::new())
        };
        let (mut refused, warnings) = read.unwrap_or_else(broken);
        let rules_changed = parts.rulebook.fingerprint() != rules;
        let mut reloaded = configuration.unwrap_or_else(|why| {
            refused.insert(TOPIC.to_owned(), why);
            Reloaded::default()
        });
        // A new configuration was compared with the policies, so it may have warned of the same.
        let known: BTreeSet<String> = reloaded.warnings.iter().cloned().collect();
        reloaded.warnings.extend(warnings.into_iter().filter(|warning| !known.contains(warning)));
        let certificates = parts.certificates.in_use();
        let certificates =
            certificates.into_iter().map(|(listener, until)| format!("{listener}, until {until}")).collect();
        Reloaded { rules_changed, certificates, ..reloaded }.refusing(refused)
    }

    /// Reloads the policies and certificates that the configuration in use names, and opens the audit file again. A
    /// part that fails keeps its last good version; returns these, with the reasons. Blocks.
    pub fn files(&self) -> BTreeMap<String, String> {
        let parts = &self.0.parts;
        let policy = parts.rulebook.reload().map(|why| ("policy", why));
        let lines = |errors: Vec<_>| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let certificates = parts.certificates.reload().err().map(|errors| ("certificates", lines(errors)));
        let audit = parts.audit.reopen().err().map(|why| ("audit", why));
        policy.into_iter().chain(certificates).chain(audit).map(|(part, why)| (part.to_owned(), why)).collect()
    }

    /// The configuration in use.
    pub(super) async fn used(&self) -> Config {
        self.0.used.lock().await.clone()
    }

    /// Reloads on SIGHUP, until shutdown.
    pub(super) async fn on_hangup(self, mut hangups: Signal) {
        loop {
            tokio::select! {
                _ = hangups.recv() => {
                    tracing::info!("SIGHUP: reloading configuration, policies and certificates, reopening the audit file");
                    notify_reloading();
                    let _ = self.start().await;
                }
                () = self.0.parts.tasks.stopping() => return,
            }
        }
    }

    /// Tells the service manager that the gate is serving, and what is wrong with it.
    pub(super) fn notify_ready(&self) {
        let report = self.0.parts.readiness.report();
        let first_line = |why: &String| why.lines().next().unwrap_or_default().to_owned();
        let problems: Vec<String> =
            report.degraded.iter().map(|(part, why)| format!("{part}: {}", first_line(why))).collect();
        notify_ready(&match (report.ready, problems.is_empty()) {
            (true, true) => "serving".to_owned(),
            (true, false) => format!("serving, but degraded: {}", problems.join("; ")),
            (false, _) => format!("serving, and not ready: {}", [report.awaited, problems].concat().join("; ")),
        });
    }

    /// Reloads when the file of the configuration has changed, until shutdown.
    pub(super) async fn watch(self) {
        let watched = self.0.watched();
        loop {
            tokio::select! {
                () = self.0.parts.tasks.stopping() => return,
                now = watched.changed(&self.0.seen) => {
                    // Also if the reload cannot read it: once is enough.
                    *self.0.seen.lock().await = Some(now);
                    tracing::info!(file = %self.0.file().display(), "the configuration file, or a file that it names, has changed");
                    let _ = self.start().await;
                }
            }
        }
    }
}

/// The file of the configuration, and the files of keys and authorities that it names.
struct WatchedFile {
    path: PathBuf,
    named: Arc<ArcSwap<Vec<PathBuf>>>,
    tasks: Tasks,
}

impl WatchedFile {
    /// The digest of the content; `None` if it cannot be read, for example while it is being replaced.
    async fn content(&self) -> Option<Digest> {
        let (path, named) = (self.path.clone(), self.named.load_full());
        let read = move || read_bounded(&path).map(|text| content_now(&text, &named));
        self.tasks.spawn_blocking(read).await.ok()?.ok()
    }

    /// Waits until the file differs from what was seen last, and is no longer being written. Returns its new digest. A
    /// reload by a command or a signal may see the new content first.
    async fn changed(&self, seen: &Mutex<Option<Digest>>) -> Digest {
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let Some(now) = self.content().await else { continue };
            if *seen.lock().await == Some(now) {
                continue;
            }
            tokio::time::sleep(QUIET).await;
            if self.content().await == Some(now) && *seen.lock().await != Some(now) {
                return now;
            }
        }
    }
}

impl ReloadState {
    fn file(&self) -> PathBuf {
        self.started.places.file().into()
    }

    fn watched(&self) -> WatchedFile {
        WatchedFile { path: self.file(), named: self.named.clone(), tasks: self.parts.tasks.clone() }
    }

    /// Reads the configuration again, and uses what can change without a restart: all of it, or nothing if anything is
    /// wrong.
    async fn configuration(self: &Arc<Self>) -> Result<Reloaded, String> {
        let mut used = self.used.lock().await;
        // Before it is read: a change in between is seen later.
        if let Some(content) = self.watched().content().await {
            *self.seen.lock().await = Some(content);
        }
        match self.replace(&used).await {
            Ok(new) => {
                self.parts.readiness.degraded(TOPIC, None);
                let (changed, removed, warnings) = if let Some(new) = new {
                    let changed = used.live_changes(&new);
                    let removed: Vec<_> = used.removed_upstreams(&new).into_iter().map(upstream_of).collect();
                    let warnings = new.warnings.iter().map(ToString::to_string).collect();
                    self.reloads.inc();
                    let (all, gone) = (changed.join(", "), removed.join(", "));
                    tracing::info!(changed = all, removed = gone, "the new configuration is in use");
                    self.named.store(Arc::new(new.places.parts()));
                    *self.seen.lock().await = new.places.content();
                    *used = new;
                    (changed, removed, warnings)
                } else {
                    // The files that it names may have changed.
                    (Vec::new(), Vec::new(), self.parts.upstreams.check_credentials().await)
                };
                let needs_restart = self.started.fixed_changes(&used);
                self.report(&needs_restart);
                Ok(Reloaded { changed, removed, needs_restart, warnings, ..Reloaded::default() })
            }
            Err(why) => {
                self.failures.inc();
                tracing::error!("new configuration rejected; the previous one stays in use: {why}");
                self.parts.readiness.degraded(TOPIC, Some(why.clone()));
                Err(why)
            }
        }
    }

    /// Reads the configuration again and applies it. `None` if it is the one in use.
    async fn replace(self: &Arc<Self>, used: &Config) -> Result<Option<Config>, String> {
        let file = self.file();
        let read = move || Config::examine(Some(&file), std::env::vars_os());
        let read = self.parts.tasks.spawn_blocking(read).await;
        let (config, problems) = read.map_err(|_| "reading the configuration failed".to_owned())?;
        let Some(config) = config else { return Err(lines(&problems)) };
        let is_wrong = problems.iter().any(|problem| problem.severity == ProblemSeverity::Error);
        if !is_wrong && config.equals(used) {
            return Ok(None);
        }
        let opened = preflight::open(config, problems, PreflightDepth::Reload, &self.parts.clock).await;
        let new = opened.map_err(|problems| lines(&problems))?;
        new.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let (state, config) = (self.clone(), new.clone());
        let applied = self.parts.tasks.spawn_blocking(move || state.apply(&config)).await;
        applied.unwrap_or_else(|_| Err("applying the configuration failed".to_owned()))?;
        // Report missing credentials in `/readyz` right after the reload.
        self.parts.upstreams.check_credentials().await;
        if new.gate.audit && !used.gate.audit {
            warn_of_audit_mode();
        }
        Ok(Some(new))
    }

    /// What can fail comes first, so that nothing changes if anything fails. Reads files, so it blocks.
    fn apply(&self, new: &Config) -> Result<(), String> {
        let parts = &self.parts;
        let upstreams = parts.upstreams.prepare(new.upstreams.clone(), new.default_upstream.as_ref());
        let upstreams = upstreams.map_err(|error| error.to_string())?;
        let certificates = parts.certificates.prepare(&new.listeners).map_err(|error| error.to_string())?;
        parts.rulebook.replace(rule_inputs(new)).map_err(|error| error.to_string())?;
        if parts.upstreams.replace(upstreams) {
            // No decision that was made with the old ones is repeated.
            parts.epoch.advance();
        }
        parts.certificates.replace(certificates);
        parts.limits.set(&new.limits);
        parts.shutdown.set(new);
        inform_of_mode(new, &parts.readiness);
        if let Err(error) = set_log_filter(&new.log.filter) {
            // It was parsed when the configuration was read.
            tracing::warn!(error, "cannot apply the log filter");
        }
        Ok(())
    }

    /// Says what is not in use yet.
    fn report(&self, needs_restart: &[String]) {
        let keys = needs_restart.join(", ");
        if !keys.is_empty() {
            tracing::warn!(keys, "these settings have changed and need a restart");
        }
        let fact = (!keys.is_empty()).then(|| format!("changed, and needs a restart: {keys}"));
        self.parts.readiness.inform(TOPIC, fact.into_iter().collect());
    }
}

fn upstream_of(host: &str) -> String {
    format!("upstream {host}")
}

/// What the rules of a configuration are made from.
pub(super) fn rule_inputs(config: &Config) -> RuleInputs {
    // Advisory databases may be imported while the gate runs, so what is known is asked for each time.
    let described = config.clone();
    RuleInputs {
        sources: vec![Box::new(Directory::new(&config.policy_dir))],
        settings: config.policy.clone(),
        audit: config.gate.audit,
        evidence: Box::new(move || preflight::evidence_sources(&described)),
    }
}

/// Says in `/readyz` whether denials are enforced.
pub(super) fn inform_of_mode(config: &Config, readiness: &Readiness) {
    let mode = if config.gate.audit { "audit: denials are recorded and not enforced" } else { "enforce" };
    readiness.inform("mode", vec![mode.to_owned()]);
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_file_that_was_read_at_the_start_has_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pullgate.toml");
        let text = "state_dir = \"state\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[policy]\ndir = \"policies\"\n\
            [[upstream]]\nhost = \"registry.test\"\n";
        std::fs::write(&path, text).unwrap();
        let known = Config::load(Some(&path), std::iter::empty()).unwrap().places.content();
        let watched = WatchedFile { path: path.clone(), named: Arc::default(), tasks: Tasks::new() };
        let hour = Duration::from_secs(3600);
        let seen = Mutex::new(known);
        assert!(tokio::time::timeout(hour, watched.changed(&seen)).await.is_err());
        let new = format!("{text}# new\n");
        std::fs::write(&path, &new).unwrap();
        let changed = tokio::time::timeout(hour, watched.changed(&seen)).await;
        assert_eq!(changed, Ok(content_now(new.as_bytes(), &[])));
        // `pullgate reload` has read it.
        *seen.lock().await = Some(content_now(new.as_bytes(), &[]));
        assert!(tokio::time::timeout(hour, watched.changed(&seen)).await.is_err());
        // The way back is a change, too.
        std::fs::write(&path, text).unwrap();
        let changed = tokio::time::timeout(hour, watched.changed(&seen)).await;
        assert_eq!(changed, Ok(content_now(text.as_bytes(), &[])));
    }

    /// A key that is no longer trusted must not count until somebody reloads.
    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_replaced_under_its_name_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let (path, key) = (folder.path().join("pullgate.toml"), folder.path().join("release.pub"));
        let new_key = || rcgen::KeyPair::generate().unwrap().public_key_pem();
        std::fs::write(&key, new_key()).unwrap();
        let text = "state_dir = \"state\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[policy]\ndir = \"policies\"\n\
            [[upstream]]\nhost = \"registry.test\"\n[trust.authority.release.cosign.key]\nfile = \"release.pub\"\n";
        std::fs::write(&path, text).unwrap();
        let config = Config::load(Some(&path), std::iter::empty()).unwrap();
        let named = config.places.parts();
        assert_eq!(named, std::slice::from_ref(&key));
        let seen = Mutex::new(config.places.content());
        let watched = WatchedFile { path, named: Arc::new(ArcSwap::from_pointee(named)), tasks: Tasks::new() };
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, watched.changed(&seen)).await.is_err());
        for change in [new_key(), "junk".to_owned()] {
            std::fs::write(&key, change).unwrap();
            let now = tokio::time::timeout(hour, watched.changed(&seen)).await.expect("it is a change");
            *seen.lock().await = Some(now);
        }
        std::fs::remove_file(&key).unwrap();
        assert!(tokio::time::timeout(hour, watched.changed(&seen)).await.is_ok(), "a missing key is a change, too");
    }
}
