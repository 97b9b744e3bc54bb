//! Builds the components of a gate in the order of their dependencies.

use std::sync::Arc;

use jiff::SignedDuration;

use super::{BuildError, Reload};
use crate::audit::Audit;
use crate::cache::Cache;
use crate::config::Config;
use crate::events::{EventCourier, Events};
use crate::gate::{self, ExemptionBook, Gate};
use crate::prefetch::Prefetcher;
use crate::resolve::Resolver;
use crate::rulebook::{Directory, DocumentSource, Rulebook};
use crate::runtime::{Clock, Epoch, Metrics, Readiness, Tasks};
use crate::server::Certificates;
use crate::store::{StateDir, Store};
use crate::trust::{RevocationChecker, Trust, TrustServices};
use crate::upstream::{OfflineContent, Upstreams};
use crate::va::{Va, VaServices};

/// All components of a gate.
pub(super) struct RunningParts {
    pub(super) gate: Arc<Gate>,
    pub(super) cache: Arc<Cache>,
    pub(super) prefetcher: Arc<Prefetcher>,
    pub(super) rulebook: Arc<Rulebook>,
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
    pub(super) tasks: Tasks,
    pub(super) courier: EventCourier,
    audit: Audit,
    store: Store,
    /// The lock on the state directory, held until everything else has ended.
    state: StateDir,
}

impl RunningParts {
    pub(super) async fn build(config: &Config, state: StateDir, clock: Clock) -> Result<Self, BuildError> {
        let (tasks, metrics, epoch) = (Tasks::new(), Metrics::default(), Epoch::new());
        let readiness = readiness(config, &metrics);
        let rulebook = rulebook(config, &readiness, &epoch, &clock, &metrics)?;
        let (configs, default) = (config.upstreams.clone(), config.default_upstream.as_ref());
        let upstreams = Upstreams::new(configs, default, &tasks, &metrics, &readiness)?;
        let store = Store::open(state.path()).await?.with_epoch(epoch.clone());
        let cache = config.cache.clone();
        let cache =
            Cache::new(cache, state.path(), store.clone(), tasks.clone(), clock.clone(), readiness.clone(), &metrics);
        let cache = Arc::new(cache.await?);
        let audit = Audit::new(&config.audit, &metrics, &readiness)?;
        let events = Events::new(&config.events);
        let (queue, receivers) = (store.verdicts.clone(), &config.events);
        let courier = EventCourier::new(receivers, events.clone(), queue, clock.clone(), &metrics)?;
        let upstreams = Arc::new(upstreams);
        let signature_upstreams = upstreams.clone();
        let va_services = VaServices {
            store: store.facts.clone(),
            upstreams: Some(upstreams.clone()),
            tasks: tasks.clone(),
            clock: clock.clone(),
            readiness: readiness.clone(),
            epoch: epoch.clone(),
            metrics: metrics.clone(),
        };
        let resolver = resolver(config, &cache, &store, &clock, &tasks, &readiness, &epoch);
        let offline: Arc<dyn OfflineContent> = Arc::new(resolver.clone());
        upstreams.set_offline_content(&offline);
        let exemptions = ExemptionBook::open(&store.exemptions, &rulebook, &audit, &epoch, &clock, &tasks).await?;
        let parts = gate::GateParts {
            upstreams,
            rulebook: rulebook.clone(),
            resolver,
            trust: Trust::new(
                config.trust,
                TrustServices {
                    store: store.facts.clone(),
                    clock: clock.clone(),
                    tasks: tasks.clone(),
                    upstreams: Arc::new(move |host| signature_upstreams.by_host(host).cloned()),
                    revocation: RevocationChecker::new(&config.revocation, clock.clone(), &tasks)?,
                },
            ),
            va: Va::new(config.va.clone(), va_services).await?,
            exemptions,
            cache: cache.clone(),
            store: store.facts.clone(),
            verdicts: store.verdicts.clone(),
            events,
            audit: audit.clone(),
            epoch,
            clock,
            tasks: tasks.clone(),
        };
        let gate = Arc::new(Gate::new(config.gate.clone(), parts, &metrics));
        let prefetcher = Arc::new(Prefetcher::new(gate.clone()));
        Ok(Self { gate, cache, prefetcher, rulebook, metrics, readiness, tasks, courier, audit, store, state })
    }

    pub(super) fn reload(&self, certificates: Certificates) -> Reload {
        let (rulebook, audit, tasks) = (self.rulebook.clone(), self.audit.clone(), self.tasks.clone());
        Reload { rulebook, certificates, audit, tasks }
    }

    /// Writes pending data, and releases the state directory. The tasks have ended.
    pub(super) async fn close(self) {
        let Self { gate, prefetcher, cache, audit, store, state, .. } = self;
        drop((gate, prefetcher, cache));
        audit.close().await;
        store.close().await;
        drop(state);
    }
}

fn readiness(config: &Config, metrics: &Metrics) -> Readiness {
    let readiness = Readiness::measured(metrics);
    let mode = if config.gate.audit { "audit: denials are recorded and not enforced" } else { "enforce" };
    readiness.inform("mode", vec![mode.to_owned()]);
    readiness
}

fn rulebook(
    config: &Config,
    readiness: &Readiness,
    epoch: &Epoch,
    clock: &Clock,
    metrics: &Metrics,
) -> Result<Arc<Rulebook>, BuildError> {
    let sources: Vec<Box<dyn DocumentSource>> = vec![Box::new(Directory::new(&config.policy_dir))];
    let (settings, audit) = (config.policy.clone(), config.gate.audit);
    let (readiness, epoch, clock) = (readiness.clone(), epoch.clone(), clock.clone());
    Ok(Arc::new(Rulebook::load(sources, settings, audit, readiness, epoch, clock, metrics)?))
}

fn resolver(
    config: &Config,
    cache: &Arc<Cache>,
    store: &Store,
    clock: &Clock,
    tasks: &Tasks,
    readiness: &Readiness,
    epoch: &Epoch,
) -> Resolver {
    let tag_memory = SignedDuration::try_from(config.gate.tag_memory).unwrap_or(SignedDuration::MAX);
    let (facts, clock) = (store.facts.clone(), clock.clone());
    Resolver::new(cache.clone(), facts, clock, tasks, readiness.clone(), epoch.clone(), tag_memory)
}
