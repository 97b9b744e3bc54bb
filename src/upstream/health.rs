//! Whether an upstream answers, and whether the gate has its credentials.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::metrics::UpFamily;
use crate::oci::Host;
use crate::runtime::Readiness;

/// An upstream is down after this many failures in a row.
const FAILURES: u32 = 3;

/// What is wrong with the credentials of an upstream.
#[derive(Clone, Default)]
struct CredentialState {
    /// Why there are none.
    missing: Option<String>,
    /// How the registry rejected them.
    rejected: Option<String>,
    /// How often in a row.
    rejections: u32,
    /// For how many checks they are not tried: many rejections lock the account at some registries.
    skipped_checks: u32,
}

/// The credentials are tried at least at each 30th check, which is every 15 minutes.
const MAX_SKIPPED_CHECKS: u32 = 29;

/// Counts the failures of one upstream since it answered last, and reports when it is down.
///
/// Any answer of the registry except 5xx is a success, even a refusal. Requests to other hosts (token services, the
/// storage behind redirects) do not count.
pub(super) struct UpstreamHealth {
    host: String,
    topic: String,
    credentials_topic: String,
    failures: AtomicU32,
    /// Whether a request that had the credentials was refused since they were tried last.
    doubted: AtomicBool,
    credentials: Mutex<CredentialState>,
    /// Whether it is reported: the state of a prepared or replaced upstream says nothing about the one in use.
    is_reported: AtomicBool,
    up: UpFamily,
    readiness: Readiness,
}

impl UpstreamHealth {
    pub(super) fn new(host: &Host, up: UpFamily, readiness: Readiness) -> Self {
        Self {
            host: host.to_string(),
            topic: format!("upstream {host}"),
            credentials_topic: format!("credentials {host}"),
            failures: AtomicU32::new(0),
            doubted: AtomicBool::new(false),
            credentials: Mutex::default(),
            is_reported: AtomicBool::new(false),
            up,
            readiness,
        }
    }

    /// Reports it from now on. An upstream counts as up until requests to it fail.
    pub(super) fn begin(&self) {
        self.up.set(&self.host, true);
        self.readiness.degraded(&self.topic, None);
        self.is_reported.store(true, Ordering::Release);
    }

    /// Stops reporting it.
    pub(super) fn retire(&self) {
        if self.is_reported.swap(false, Ordering::AcqRel) {
            self.up.remove(&self.host);
            self.readiness.forget(&self.topic);
            self.readiness.inform(&self.topic, Vec::new());
            self.readiness.forget(&self.credentials_topic);
        }
    }

    fn is_reported(&self) -> bool {
        self.is_reported.load(Ordering::Acquire)
    }

    /// Whether the last requests failed.
    pub(super) fn is_down(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= FAILURES
    }

    /// Records the outcome of a request to the registry: why it failed, if it did.
    pub(super) fn observe(&self, outcome: Result<(), String>) {
        let Err(why) = outcome else {
            // Almost always zero: then no other processor core's memory is written.
            if self.failures.load(Ordering::Relaxed) > 0 && self.failures.swap(0, Ordering::Relaxed) >= FAILURES {
                tracing::info!("{} answers again", self.topic);
                self.report(None);
            }
            return;
        };
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures == FAILURES {
            tracing::warn!("{} is down: {why}", self.topic);
        }
        if failures >= FAILURES {
            self.report(Some(format!("the last requests failed: {why}")));
        }
    }

    fn report(&self, why: Option<String>) {
        if self.is_reported() {
            self.up.set(&self.host, why.is_none());
            self.readiness.degraded(&self.topic, why);
        }
    }

    /// Reports whether there are credentials. An upstream without credentials never reports this.
    pub(super) fn credentials(&self, checked: Result<(), String>) {
        self.state().missing = checked.err();
        self.report_credentials();
    }

    /// Notes that a request that had the credentials was refused. That alone means little: the image may be one that
    /// nobody may pull, so the credentials are tried by themselves.
    pub(super) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    /// Whether the credentials are to be tried at this check.
    pub(super) fn take_doubt(&self) -> bool {
        if !self.doubted.load(Ordering::Relaxed) {
            return false;
        }
        let mut state = self.state();
        if let Some(rest) = state.skipped_checks.checked_sub(1) {
            state.skipped_checks = rest;
            return false;
        }
        self.doubted.store(false, Ordering::Relaxed);
        true
    }

    /// Notes that the registry has served something for an authorization: rejected credentials are tried again at the
    /// next check. That alone does not mean that they are accepted, because a token outlives the password.
    pub(super) fn note_served(&self) {
        if self.doubted.load(Ordering::Relaxed) {
            self.state().skipped_checks = 0;
        }
    }

    /// Reports that the registry rejects the credentials, or that it accepts them.
    pub(super) fn rejected(&self, why: Option<String>) {
        let mut state = self.state();
        state.rejections = if why.is_some() { state.rejections.saturating_add(1) } else { 0 };
        state.skipped_checks = match state.rejections {
            0..3 => 0,
            many => 1_u32.checked_shl(many - 3).unwrap_or(u32::MAX).min(MAX_SKIPPED_CHECKS),
        };
        let was = std::mem::replace(&mut state.rejected, why.clone());
        drop(state);
        match (was, why) {
            (None, Some(why)) => tracing::warn!("{} are rejected: {why}", self.credentials_topic),
            (Some(_), None) => tracing::info!("{} are accepted again", self.credentials_topic),
            _ => {}
        }
        self.report_credentials();
    }

    fn report_credentials(&self) {
        let CredentialState { missing, rejected, .. } = self.state().clone();
        if self.is_reported() {
            self.readiness.degraded(&self.credentials_topic, missing.or(rejected));
        }
    }

    fn state(&self) -> MutexGuard<'_, CredentialState> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says until when the registry asked the gate to wait, if it did.
    pub(super) fn held(&self, until: Option<Timestamp>) {
        if self.is_reported() {
            let fact = until.map(|until| format!("the registry asked the gate to wait until {until}"));
            self.readiness.inform(&self.topic, fact.into_iter().collect());
        }
    }
}
