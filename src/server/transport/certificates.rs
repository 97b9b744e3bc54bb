//! The certificates of all listeners, reloaded on request and when their files change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

use super::listener::Config;
use super::tls::{CertificateValidity, LoadedTls, Tls, TlsConfig, TlsError};
use crate::runtime::{Clock, Metrics, Readiness, Tasks};

/// The topic of the certificates in `/readyz`.
const TOPIC: &str = "certificates";
/// How often the files are read. They are compared by content, which detects symlink swaps, copies that keep the
/// modification time, and changes on network file systems without change events.
const WATCH_INTERVAL: Duration = Duration::from_secs(30);

/// The certificates of all listeners. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Certificates {
    entries: Vec<(Arc<str>, Arc<Tls>)>,
    clock: Clock,
    readiness: Readiness,
    expiry: Family<ListenerLabel, Gauge>,
    start: Family<ListenerLabel, Gauge>,
    /// When the certificate in use ends, by listener.
    ends: Arc<Mutex<BTreeMap<String, Timestamp>>>,
    failures: Counter,
    turn: Arc<Mutex<()>>,
}

impl Certificates {
    pub(super) fn new(clock: &Clock, metrics: &Metrics, readiness: &Readiness) -> Self {
        let expiry = "First expiry in the certificate chain of a listener, in seconds since the epoch";
        let start = "Start of the validity of the certificate that expires first, in seconds since the epoch";
        let failures = "Failed certificate reloads; the old certificates stay in use";
        Self {
            entries: Vec::new(),
            clock: clock.clone(),
            readiness: readiness.clone(),
            expiry: metrics.register_with_unit(
                "certificate_expiry_timestamp",
                expiry,
                Unit::Seconds,
                Family::default(),
            ),
            start: metrics.register_with_unit("certificate_start_timestamp", start, Unit::Seconds, Family::default()),
            ends: Arc::default(),
            failures: metrics.register("certificate_reload_failures", failures, Counter::default()),
            turn: Arc::default(),
        }
    }

    pub(super) fn load(&mut self, listener: &str, config: TlsConfig, http2: bool) -> Result<Arc<Tls>, TlsError> {
        let (now, path) = (self.clock.now(), config.certificate.clone());
        let (tls, validity) = Tls::load(config, http2, now)?;
        let tls = Arc::new(tls);
        if let Err(error) = validity.check(&path, now) {
            tracing::error!(listener, %error, "serving with an expired certificate, which clients refuse");
            self.readiness.degraded(TOPIC, Some(error.to_string()));
        } else if self.entries.is_empty() {
            // Another listener may have been reported.
            self.readiness.degraded(TOPIC, None);
        }
        self.entries.push((listener.into(), tls.clone()));
        self.tell_expiry(listener, validity);
        Ok(tls)
    }

    /// Loads the files of other TLS settings, without using them yet. Settings of listeners that are not those in use
    /// load nothing: they need a restart.
    ///
    /// # Errors
    /// The files of a listener are invalid.
    pub fn prepare(&self, listeners: &[Config]) -> Result<PreparedCertificates, TlsError> {
        let with_tls = listeners.iter().filter_map(|listener| Some((&*listener.address, listener.tls.as_ref()?)));
        let wanted: Vec<(&str, &TlsConfig)> = with_tls.collect();
        if !wanted.iter().map(|(address, _)| *address).eq(self.entries.iter().map(|(name, _)| &**name)) {
            return Ok(PreparedCertificates(Vec::new()));
        }
        let mut prepared = Vec::new();
        for ((name, tls), (_, config)) in self.entries.iter().zip(wanted) {
            if let Some(loaded) = tls.prepare(config, self.clock.now())? {
                prepared.push((name.clone(), tls.clone(), loaded));
            }
        }
        Ok(PreparedCertificates(prepared))
    }

    /// Uses prepared files from the next handshake on.
    pub fn replace(&self, prepared: PreparedCertificates) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        for (listener, tls, loaded) in prepared.0 {
            let validity = tls.replace(loaded);
            tracing::info!(%listener, until = %validity.until, "certificate replaced");
            self.tell_expiry(&listener, validity);
        }
    }

    /// Reloads all files. New, valid certificates are used from the next handshake on. If a file is invalid, the old
    /// certificate stays in use, `/readyz` reports `degraded`, and the log explains the problem.
    ///
    /// # Errors
    /// One error for each listener whose files are invalid.
    pub fn reload(&self) -> Result<(), Vec<TlsError>> {
        // Held from before the files are read until they are in use: concurrent reloads could install the older version
        // last.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let errors: Vec<TlsError> = self.entries.iter().filter_map(|(name, tls)| self.reload_one(name, tls)).collect();
        let why: Vec<String> = errors.iter().map(ToString::to_string).collect();
        self.readiness.degraded(TOPIC, (!why.is_empty()).then(|| why.join("; ")));
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn reload_one(&self, listener: &str, tls: &Tls) -> Option<TlsError> {
        match tls.reload(self.clock.now()) {
            Ok(None) => None,
            Ok(Some(validity)) => {
                tracing::info!(listener, until = %validity.until, "certificate reloaded");
                self.tell_expiry(listener, validity);
                None
            }
            Err(error) => {
                tracing::error!(listener, %error, "cannot reload the certificate; the old one stays in use");
                self.failures.inc();
                Some(error)
            }
        }
    }

    /// The listeners with TLS, each with the end of the certificate in use.
    pub fn in_use(&self) -> Vec<(String, Timestamp)> {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.iter().map(|(listener, until)| (listener.clone(), *until)).collect()
    }

    /// Reads the files at an interval until shutdown.
    pub(super) async fn watch(self, tasks: Tasks) {
        if self.entries.is_empty() {
            return;
        }
        let stopping = tasks.stopping();
        let mut stopping = std::pin::pin!(stopping);
        while tokio::time::timeout(WATCH_INTERVAL, stopping.as_mut()).await.is_err() {
            let certificates = self.clone();
            let reload = tasks.spawn_blocking(move || certificates.reload().is_ok());
            // Errors have already been logged.
            let _ = reload.await;
        }
    }

    fn tell_expiry(&self, listener: &str, validity: CertificateValidity) {
        let label = ListenerLabel { listener: listener.to_owned() };
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).insert(listener.to_owned(), validity.until);
        self.expiry.get_or_create(&label).set(validity.first_end.as_second());
        self.start.get_or_create(&label).set(validity.first_start.as_second());
    }
}

/// TLS files that are loaded and not in use yet, for [`Certificates::replace`].
pub struct PreparedCertificates(Vec<(Arc<str>, Arc<Tls>, LoadedTls)>);

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ListenerLabel {
    listener: String,
}
