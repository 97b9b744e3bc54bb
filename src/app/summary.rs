//! What a gate says about itself when it starts.

use jiff::Timestamp;

use crate::config::Config;
use crate::rulebook::{ONLY_AUDITED, Rulebook};
use crate::runtime::rounded_size;
use crate::va;

/// How many upstreams are named; there may be hundreds.
const NAMED: usize = 10;

/// The log lines of a start, in a fixed order. Each is a separate event, readable as text and as JSON.
pub(super) struct StartSummary {
    file: String,
    state_dir: String,
    is_audit: bool,
    policy_dir: String,
    documents: usize,
    entries: usize,
    audited: usize,
    is_only_audited: bool,
    trusted_roots: Vec<String>,
    upstreams: Vec<String>,
    reports: Vec<String>,
    databases: Vec<String>,
    scanners: Vec<String>,
    has_ibm: bool,
    used: u64,
    max_size: u64,
}

impl StartSummary {
    /// `used` is the size of the content on disk, in bytes.
    pub(super) fn new(config: &Config, rulebook: &Rulebook, used: u64, now: Timestamp) -> Self {
        let rules = rulebook.rules();
        let absolute = |path: &std::path::Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let databases = config.va.databases.as_ref();
        Self {
            file: absolute(config.places.file().as_ref()).display().to_string(),
            state_dir: absolute(&config.state_dir).display().to_string(),
            is_audit: config.gate.audit,
            policy_dir: config.policy_dir.display().to_string(),
            documents: rules.documents(),
            entries: rules.len(),
            audited: rules.audited_len(),
            is_only_audited: rules.is_only_audited(),
            trusted_roots: config.policy.trusted_roots.clone(),
            upstreams: config.upstreams.iter().map(|upstream| upstream.host.to_string()).collect(),
            reports: config.va.reports.iter().map(|path| path.display().to_string()).collect(),
            databases: databases.map(|databases| va::describe_databases(databases, now)).unwrap_or_default(),
            scanners: config.va.scanners.iter().map(|scanner| scanner.name.clone()).collect(),
            has_ibm: config.va.ibm.is_some(),
            used,
            max_size: config.cache.max_size,
        }
    }

    /// Writes the lines to the log.
    pub(super) fn log(&self) {
        let mode = if self.is_audit { "audit" } else { "enforce" };
        let version = env!("CARGO_PKG_VERSION");
        tracing::info!(version, config = %self.file, state_dir = %self.state_dir, mode, "starting pullgate");
        if self.is_audit {
            warn_of_audit_mode();
        }
        let Self { documents, entries, audited, .. } = self;
        let roots = self.trusted_roots.join(", ");
        tracing::info!(dir = %self.policy_dir, documents, entries, audited, trusted_roots = %roots, "policies loaded");
        if self.is_only_audited {
            tracing::warn!("{ONLY_AUDITED}");
        }
        let (count, hosts) = (self.upstreams.len(), some(&self.upstreams));
        tracing::info!(count, hosts, "upstreams configured");
        let (reports, databases) = (self.reports.join(", "), some(&self.databases));
        let scanners = self.scanners.join(", ");
        tracing::info!(%reports, databases, %scanners, ibm = self.has_ibm, "vulnerability sources configured");
        tracing::info!(used = %rounded_size(self.used), max_size = %rounded_size(self.max_size), "cache opened");
    }
}

/// Says loudly that denials are not enforced.
pub(super) fn warn_of_audit_mode() {
    tracing::warn!("gate.mode is audit: NOTHING IS DENIED; denials are only recorded");
}

/// The first of a list, and how many more there are.
fn some(names: &[String]) -> String {
    let text = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMED) {
        Some(more @ 1..) => format!("{text} and {more} more"),
        _ => text,
    }
}
