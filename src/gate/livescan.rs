//! Livescan: whatever was admitted is judged again when the advisory databases, the rules, the exemptions or the files
//! in the directories of reports change.
//!
//! Pulls of admitted images are recorded in the background (`recorder.rs`). After a change, every recorded verdict is
//! judged again (`rematch.rs`), from what is known: nothing is downloaded. Images with packages in changed advisories
//! come first, then the most recently pulled ones (`order.rs`). A verdict that changed is logged, counted, stored and
//! sent as an event.
//!
//! A verdict is judged again when its basis is not the current one ([`VerdictBasis`]). The basis is stored with each
//! verdict, so a restart continues where the process ended, and of two changes in a row only the last one counts.

mod change;
mod databases;
mod order;
mod recorder;
mod rematch;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, mpsc};

use super::judge::ManifestJudge;
use super::judge::exemptions::ExemptionBook;
use super::judge::platforms::Platforms;
use super::router::Router;
use crate::audit::Audit;
use crate::events::Events;
use crate::oci::{Algorithm, Hasher};
use crate::resolve::Resolver;
use crate::rulebook::Rulebook;
use crate::runtime::{Clock, Epoch, Metrics, Moment, Noted, Tasks, budget};
use crate::store::{StoreError, VerdictBasis, VerdictFilter, VerdictList, VerdictStore};
use crate::va::Va;
use recorder::LiveRecord;

/// The maximum number of records that wait to be written. Further ones are dropped, and recorded at the next pull.
const MAX_WAITING: usize = 512;

/// The stored verdicts, and those that wait to be stored.
pub(super) struct LiveRecords {
    store: VerdictStore,
    events: Events,
    clock: Clock,
    /// What was recorded or reported recently.
    noted: Noted,
    sender: mpsc::Sender<LiveRecord>,
    /// Until the recorder takes it.
    waiting: std::sync::Mutex<Option<mpsc::Receiver<LiveRecord>>>,
    /// The current basis, and the moment before it was read.
    basis: ArcSwapOption<(Moment, VerdictBasis)>,
    /// Notified when there are verdicts that must be judged again.
    outdated: Notify,
    metrics: LiveMetrics,
}

struct LiveMetrics {
    changes: Family<[(&'static str, &'static str); 1], Counter>,
    judged: Counter,
    waiting: Gauge,
    unrecorded: Counter,
}

impl LiveRecords {
    pub(super) fn new(store: VerdictStore, events: Events, clock: Clock, metrics: &Metrics) -> Self {
        let (sender, waiting) = mpsc::channel(MAX_WAITING);
        let metrics = LiveMetrics {
            changes: metrics.register(
                "verdict_changes",
                "Verdicts on admitted images that changed, by the new decision",
                Family::default(),
            ),
            judged: metrics.register("verdicts_rejudged", "Verdicts that were judged again", Counter::default()),
            waiting: metrics.register("verdicts_outdated", "Verdicts that must be judged again", Gauge::default()),
            unrecorded: metrics.register(
                "pulls_unrecorded",
                "Pulls that were not recorded because too many waited or the database failed",
                Counter::default(),
            ),
        };
        Self {
            store,
            events,
            clock,
            noted: Noted::new(budget::NOTED_CLIENTS),
            sender,
            waiting: Some(waiting).into(),
            basis: ArcSwapOption::empty(),
            outdated: Notify::new(),
            metrics,
        }
    }
}

/// Remembers verdicts and judges them again.
pub struct Livescan {
    pub(super) records: Arc<LiveRecords>,
    pub(super) router: Router,
    pub(super) judge: Arc<ManifestJudge>,
    pub(super) va: Arc<Va>,
    pub(super) platforms: Arc<Platforms>,
    pub(super) exemptions: Arc<ExemptionBook>,
    pub(super) rulebook: Arc<Rulebook>,
    pub(super) resolver: Resolver,
    pub(super) audit: Audit,
    pub(super) epoch: Epoch,
    pub(super) clock: Clock,
}

/// Verdicts, and how many are still being judged again.
#[derive(Clone, Debug, Default)]
pub struct ListedVerdicts {
    /// The verdicts, with the clients that pulled each image.
    pub list: VerdictList,
    /// How many verdicts are not judged yet under the current databases, rules and exemptions.
    pub outdated: u64,
}

impl Livescan {
    /// Starts to record pulls and to judge verdicts again, until shutdown.
    pub fn watch(self: &Arc<Self>, tasks: &Tasks) {
        let (recording, judging, following) = (self.records.clone(), self.clone(), self.clone());
        let (recorder, judge, follower) = (tasks.clone(), tasks.clone(), tasks.clone());
        tasks.spawn(async move { recording.record_pulls(&recorder).await });
        tasks.spawn(async move { judging.judge_again(&judge).await });
        tasks.spawn(async move { following.follow_databases(&follower).await });
    }

    /// Lists verdicts.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn verdicts(&self, filter: VerdictFilter) -> Result<ListedVerdicts, StoreError> {
        let basis = self.records.basis.load_full();
        let outdated = match &basis {
            Some(basis) => self.records.store.count_outdated(&basis.1).await?,
            None => 0,
        };
        Ok(ListedVerdicts { list: self.records.store.list(filter).await?, outdated })
    }

    /// The time that was so long ago, by the gate's clock.
    pub fn ago(&self, age: Duration) -> Timestamp {
        self.clock.ago(age)
    }

    /// The basis of decisions from now on. While the databases cannot be used, their last generation stays in it:
    /// images that depend on them cannot be judged then.
    fn read_basis(&self) -> Option<VerdictBasis> {
        let moment = self.epoch.moment(());
        let before = self.records.basis.load_full();
        let databases = match self.va.scanner().databases().generation() {
            Ok(generation) => generation,
            Err(_) => before.as_ref()?.1.databases.clone(),
        };
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let platforms: Vec<String> = self.platforms.configured().iter().map(ToString::to_string).collect();
        let (exemptions, reports) = (self.exemptions.fingerprint(), self.va.report_files());
        let (version, rules) = (env!("CARGO_PKG_VERSION"), self.rulebook.fingerprint());
        for part in [version, &rules, &platforms.join(" "), &exemptions, &reports] {
            hasher.update(format!("{} {part}\n", part.len()).as_bytes());
        }
        let basis = VerdictBasis { databases, rules: hasher.finish().short() };
        self.records.basis.store(Some(Arc::new((moment, basis.clone()))));
        Some(basis)
    }
}
