//! Builds the gate, the inspector, the operations and livescan from the components of the process.

use std::sync::Arc;

use super::inspector::Inspector;
use super::judge::ManifestJudge;
use super::judge::evidence::EvidenceGatherer;
use super::judge::history::Histories;
use super::judge::kind::Kinds;
use super::judge::layers::Layers;
use super::judge::origin::Origins;
use super::judge::platforms::Platforms;
use super::judge::weighing::OpinionWeigher;
use super::livescan::{LiveRecords, Livescan};
use super::operations::Operations;
use super::router::Router;
use super::serving::blob::{BlobJudge, absent_children};
use super::serving::listing::Listings;
use super::serving::metrics::GateMetrics;
use super::serving::recent::RecentAdmissions;
use super::serving::warm::WarmAnswers;
use super::{Config, ExemptionBook, Gate};
use crate::audit::Audit;
use crate::cache::{BlobReaders, Cache};
use crate::events::Events;
use crate::resolve::Resolver;
use crate::rulebook::Rulebook;
use crate::runtime::{Clock, Epoch, Metrics, Tasks};
use crate::store::{FactStore, VerdictStore};
use crate::trust::Trust;
use crate::upstream::Upstreams;
use crate::va::Va;

/// The components of the gate. Each is shared with the rest of the process, unless it says otherwise.
pub struct GateParts {
    /// The upstream registries. A reload replaces them in place, so the gate looks them up for each request.
    pub upstreams: Arc<Upstreams>,
    /// The rules, which a reload replaces as a whole.
    pub rulebook: Arc<Rulebook>,
    /// Resolves tags and loads manifests. Also answers in place of upstreams that are offline.
    pub resolver: Resolver,
    /// Checks signatures. Only the gate has it.
    pub trust: Trust,
    /// Provides vulnerability assessments. Only the gate has it.
    pub va: Va,
    /// The exemptions of vulnerabilities: those in documents and those that commands have added.
    pub exemptions: Arc<ExemptionBook>,
    /// The content that permits open.
    pub cache: Arc<Cache>,
    /// Where proofs about content are kept: kinds, layers and what images were built on.
    pub store: FactStore,
    /// Where verdicts on admitted images are kept until they are judged again.
    pub verdicts: VerdictStore,
    /// Makes the events about verdicts and databases, which the courier delivers.
    pub events: Events,
    /// Where decisions and the acts of operators are recorded, before they take effect if that is required.
    pub audit: Audit,
    /// Advanced when an input of decisions changes, so that no decision outlives what it was made from.
    pub epoch: Epoch,
    /// The time by which evidence is fresh and permits end. Tests set it.
    pub clock: Clock,
    /// The tasks that a shutdown waits for. Work that outlives its request runs on it.
    pub tasks: Tasks,
}

/// What this module offers to the process. All of them use one judge.
#[derive(Clone)]
pub struct GateServices {
    /// Serves content.
    pub gate: Arc<Gate>,
    /// Answers questions.
    pub inspector: Arc<Inspector>,
    /// Does what operators ask for.
    pub operations: Arc<Operations>,
    /// Judges again what was served.
    pub livescan: Arc<Livescan>,
}

impl GateServices {
    /// Makes all of them from the components of the process.
    pub fn new(config: &Config, parts: GateParts, metrics: &Metrics) -> Self {
        let GateParts { upstreams, rulebook, resolver, trust, va, exemptions, cache, store, .. } = parts;
        let GateParts { verdicts, events, audit, epoch, clock, tasks, .. } = parts;
        let (trust, va) = (Arc::new(trust), Arc::new(va));
        let platforms = Arc::new(Platforms::new(resolver.clone(), config.platforms.clone()));
        let layers = Layers::new(BlobReaders::new(cache.clone(), tasks.clone()), &store, &clock, &tasks);
        let kinds = Kinds::new(resolver.clone(), layers.clone(), config.attachment_limit, &store, &clock, &tasks);
        let evidence = Arc::new(EvidenceGatherer {
            resolver: resolver.clone(),
            trust: trust.clone(),
            origins: Origins::new(&resolver, &layers, &cache, &store, va.derived(), &clock),
            va: va.clone(),
            exemptions: exemptions.clone(),
            layers: layers.clone(),
            platforms: platforms.clone(),
            histories: Histories::new(verdicts.clone(), clock.clone()),
            clock: clock.clone(),
        });
        let weigher = OpinionWeigher::new(clock.clone(), tasks.clone());
        let (rules, facts, gathered, time) = (rulebook.clone(), resolver.clone(), evidence.clone(), clock.clone());
        let judge = ManifestJudge::new(rules, facts, kinds, gathered, config.url_hosts.clone(), weigher.clone(), time);
        let records = Arc::new(LiveRecords::new(verdicts, events, clock.clone(), metrics));
        let (router, judge) = (Router::new(upstreams), Arc::new(judge));
        let shared =
            SharedParts { router, judge, va, platforms, exemptions, rulebook, resolver, cache, audit, epoch, clock };
        Self {
            gate: Arc::new(shared.gate(config, layers, records.clone(), (tasks, metrics))),
            inspector: Arc::new(shared.inspector(evidence, weigher)),
            operations: Arc::new(shared.operations(trust)),
            livescan: Arc::new(shared.livescan(records)),
        }
    }
}

/// What several of the services have.
struct SharedParts {
    router: Router,
    judge: Arc<ManifestJudge>,
    va: Arc<Va>,
    platforms: Arc<Platforms>,
    exemptions: Arc<ExemptionBook>,
    rulebook: Arc<Rulebook>,
    resolver: Resolver,
    cache: Arc<Cache>,
    audit: Audit,
    epoch: Epoch,
    clock: Clock,
}

impl SharedParts {
    fn gate(
        &self,
        config: &Config,
        layers: Layers,
        livescan: Arc<LiveRecords>,
        (tasks, metrics): (Tasks, &Metrics),
    ) -> Gate {
        let (epoch, clock) = (&self.epoch, &self.clock);
        let blobs = BlobJudge {
            judge: self.judge.clone(),
            resolver: self.resolver.clone(),
            layers,
            recent: RecentAdmissions::new(epoch.clone(), clock.clone()),
            max_unseen_children: config.max_unseen_children,
            absent: absent_children(clock.clone()),
            epoch: epoch.clone(),
            clock: clock.clone(),
        };
        Gate {
            verdict_wait: config.verdict_wait,
            router: self.router.clone(),
            judge: self.judge.clone(),
            blobs,
            listings: Listings::new(self.rulebook.clone()),
            platforms: self.platforms.clone(),
            resolver: self.resolver.clone(),
            warm: WarmAnswers::new(self.cache.copies().clone(), tasks, epoch.clone(), clock.clone()),
            cache: self.cache.clone(),
            livescan,
            audit: self.audit.clone(),
            epoch: epoch.clone(),
            clock: clock.clone(),
            metrics: GateMetrics::new(metrics),
        }
    }

    fn inspector(&self, evidence: Arc<EvidenceGatherer>, weigher: OpinionWeigher) -> Inspector {
        Inspector {
            router: self.router.clone(),
            judge: self.judge.clone(),
            evidence,
            weigher,
            va: self.va.clone(),
            platforms: self.platforms.clone(),
            exemptions: self.exemptions.clone(),
            rulebook: self.rulebook.clone(),
            resolver: self.resolver.clone(),
            cache: self.cache.clone(),
            clock: self.clock.clone(),
        }
    }

    fn operations(&self, trust: Arc<Trust>) -> Operations {
        Operations {
            router: self.router.clone(),
            judge: self.judge.clone(),
            trust,
            va: self.va.clone(),
            exemptions: self.exemptions.clone(),
            resolver: self.resolver.clone(),
            cache: self.cache.clone(),
            audit: self.audit.clone(),
            epoch: self.epoch.clone(),
            clock: self.clock.clone(),
        }
    }

    fn livescan(&self, records: Arc<LiveRecords>) -> Livescan {
        Livescan {
            records,
            router: self.router.clone(),
            judge: self.judge.clone(),
            va: self.va.clone(),
            platforms: self.platforms.clone(),
            exemptions: self.exemptions.clone(),
            rulebook: self.rulebook.clone(),
            resolver: self.resolver.clone(),
            audit: self.audit.clone(),
            epoch: self.epoch.clone(),
            clock: self.clock.clone(),
        }
    }
}
