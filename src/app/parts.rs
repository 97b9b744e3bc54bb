//! Builds the components of a gate in the order of their dependencies.

use std::sync::Arc;
use std::time::Duration;

use super::BuildError;
use super::reload::{self, ReloadParts, rule_inputs};
use super::shutdown::SharedShutdown;
use crate::audit::Audit;
use crate::cache::Cache;
use crate::config::Config;
use crate::events::{EventCourier, Events};
use crate::gate::{self, ExemptionBook, GateServices};
use crate::prefetch::Prefetcher;
use crate::resolve::Resolver;
use crate::rulebook::Rulebook;
use crate::runtime::{Clock, Epoch, Metrics, Readiness, Tasks};
use crate::server::BoundListeners;
use crate::store::{StateDir, Store};
use crate::trust::{RevocationChecker, Trust, TrustServices};
use crate::upstream::{OfflineContent, Upstreams};
use crate::va::{Va, VaServices};

/// How long the database may take to be closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// All components of a gate.
pub(super) struct RunningParts {
    pub(super) services: GateServices,
    pub(super) cache: Arc<Cache>,
    pub(super) prefetcher: Arc<Prefetcher>,
    pub(super) rulebook: Arc<Rulebook>,
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
    pub(super) tasks: Tasks,
    pub(super) courier: EventCourier,
    pub(super) upstreams: Arc<Upstreams>,
    epoch: Epoch,
    audit: Audit,
    store: Store,
    /// The lock on the state directory, held until everything else has ended.
    state: StateDir,
}

/// The parts that need no state directory, which another process may still have.
pub(super) struct PreparedParts {
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
    pub(super) clock: Clock,
    rulebook: Arc<Rulebook>,
    upstreams: Arc<Upstreams>,
    epoch: Epoch,
    tasks: Tasks,
}

impl PreparedParts {
    /// Reads the policies, and creates the clients of the upstreams.
    pub(super) fn new(config: &Config, clock: Clock) -> Result<Self, BuildError> {
        let (tasks, metrics, epoch) = (Tasks::new(), Metrics::default(), Epoch::new());
        let readiness = Readiness::measured(&metrics);
        reload::inform_of_mode(config, &readiness);
        let rulebook = rulebook(config, &tasks, &readiness, &epoch, &clock, &metrics)?;
        let (configs, default) = (config.upstreams.clone(), config.default_upstream.as_ref());
        let upstreams = Arc::new(Upstreams::new(configs, default, (&tasks, &clock), &metrics, &readiness)?);
        Ok(Self { metrics, readiness, clock, rulebook, upstreams, epoch, tasks })
    }
}

impl RunningParts {
    /// Builds all components; some begin to work in the background. `announce` gets the size of the content on disk, in
    /// bytes, before any of them can log what it finds.
    pub(super) async fn build(
        config: &Config,
        state: StateDir,
        prepared: PreparedParts,
        announce: impl FnOnce(&Rulebook, u64),
    ) -> Result<Self, BuildError> {
        let PreparedParts { metrics, readiness, clock, rulebook, upstreams, epoch, tasks } = &prepared;
        let store = Store::open(state.path()).await?.with_epoch(epoch.clone());
        tasks.spawn(store.clone().copy_journal_until_stop(tasks.clone()));
        let (cache, path) = (config.cache.clone(), state.path());
        let cache = Cache::new(cache, path, store.clone(), tasks.clone(), clock.clone(), readiness.clone(), metrics);
        let cache = Arc::new(cache.await?);
        announce(rulebook, cache.stored_bytes());
        let audit = Audit::new(&config.audit, metrics, readiness).await?;
        let (events, queue, receivers) = (Events::new(&config.events), store.verdicts.clone(), &config.events);
        let courier = EventCourier::new(receivers, events.clone(), queue, clock.clone(), (metrics, readiness))?;
        let resolver = resolver(config, &cache, &store, &prepared);
        let offline: Arc<dyn OfflineContent> = Arc::new(resolver.clone());
        upstreams.set_offline_content(&offline);
        let exemptions = ExemptionBook::open(&store.exemptions, rulebook, &audit, epoch, clock, tasks).await?;
        exemptions.show_in(metrics);
        let parts = gate::GateParts {
            upstreams: upstreams.clone(),
            rulebook: rulebook.clone(),
            resolver,
            trust: trust(config, &store, &prepared)?,
            va: va(config, &store, &prepared).await?,
            exemptions,
            cache: cache.clone(),
            store: store.facts.clone(),
            verdicts: store.verdicts.clone(),
            events,
            audit: audit.clone(),
            epoch: epoch.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
        };
        // Up to this point, the whole database may have been read from a slow disk.
        store.limit_reads(readiness);
        let services = GateServices::new(&config.gate, parts, metrics);
        let prefetcher = Arc::new(Prefetcher::new(services.gate.clone(), services.inspector.clone()));
        let PreparedParts { metrics, readiness, clock: _, rulebook, upstreams, epoch, tasks } = prepared;
        Ok(Self {
            services,
            cache,
            prefetcher,
            rulebook,
            metrics,
            readiness,
            tasks,
            courier,
            upstreams,
            epoch,
            audit,
            store,
            state,
        })
    }

    /// What a reload changes.
    pub(super) fn reload(&self, listeners: &BoundListeners, shutdown: &SharedShutdown, clock: &Clock) -> ReloadParts {
        ReloadParts {
            rulebook: self.rulebook.clone(),
            upstreams: self.upstreams.clone(),
            certificates: listeners.certificates(),
            limits: listeners.limits(),
            shutdown: shutdown.clone(),
            audit: self.audit.clone(),
            readiness: self.readiness.clone(),
            epoch: self.epoch.clone(),
            clock: clock.clone(),
            tasks: self.tasks.clone(),
        }
    }

    /// Writes pending data, and releases the state directory. The tasks have ended. A disk that hangs does not hold
    /// this up.
    pub(super) async fn close(self) {
        let Self { services, prefetcher, cache, audit, store, state, .. } = self;
        drop((services, prefetcher, cache));
        audit.close().await;
        if tokio::time::timeout(CLOSE_TIMEOUT, store.close()).await.is_err() {
            // What was committed is in the journal of the database.
            tracing::error!("the disk that holds the state directory does not answer; the database is not closed");
        }
        drop(state);
    }
}

fn rulebook(
    config: &Config,
    tasks: &Tasks,
    readiness: &Readiness,
    epoch: &Epoch,
    clock: &Clock,
    metrics: &Metrics,
) -> Result<Arc<Rulebook>, BuildError> {
    let (inputs, readiness, epoch, clock) = (rule_inputs(config), readiness.clone(), epoch.clone(), clock.clone());
    Ok(Arc::new(Rulebook::load(inputs, Some(tasks), readiness, epoch, clock, metrics)?))
}

/// What verifies signatures.
fn trust(config: &Config, store: &Store, prepared: &PreparedParts) -> Result<Trust, BuildError> {
    let PreparedParts { clock, tasks, upstreams, .. } = prepared;
    let upstreams = upstreams.clone();
    let services = TrustServices {
        store: store.facts.clone(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        upstreams: Arc::new(move |host| upstreams.by_host(host)),
        revocation: RevocationChecker::new(&config.revocation, clock.clone(), tasks)?,
    };
    Ok(Trust::new(config.trust, services))
}

/// What knows about vulnerabilities.
async fn va(config: &Config, store: &Store, prepared: &PreparedParts) -> Result<Va, BuildError> {
    let services = VaServices {
        store: store.facts.clone(),
        upstreams: Some(prepared.upstreams.clone()),
        tasks: prepared.tasks.clone(),
        clock: prepared.clock.clone(),
        readiness: prepared.readiness.clone(),
        epoch: prepared.epoch.clone(),
        metrics: prepared.metrics.clone(),
    };
    Ok(Va::new(config.va.clone(), services).await?)
}

fn resolver(config: &Config, cache: &Arc<Cache>, store: &Store, prepared: &PreparedParts) -> Resolver {
    let PreparedParts { clock, tasks, readiness, epoch, .. } = prepared;
    let (facts, clock, tag_memory) = (store.facts.clone(), clock.clone(), config.gate.tag_memory);
    Resolver::new(cache.clone(), facts, clock, tasks, readiness.clone(), epoch.clone(), tag_memory)
}
