//! The advisory databases in use: opened at start, and again whenever another process or an update changes them.

mod age;
mod expected;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;
use tokio::sync::watch;

use age::DatabaseAge;
pub use expected::ExpectedDatabases;

use super::fetch::DatabaseSources;
use crate::advisories::{AdvisoryStore, DatabaseKind, Databases, SourceState, SourceStatus, is_fetched};
use crate::policy::DatedDatabase;
use crate::runtime::{Clock, DirectoryWatch, Epoch, Metrics, Readiness, Tasks, rounded_duration};

/// The part that is degraded while a database cannot be used or is too old.
const TOPIC: &str = "advisories";
/// The part that is degraded while a source cannot be fetched.
const UPDATE_TOPIC: &str = "advisory-update";
/// The message if there are no databases.
const NO_DATABASE: &str = "there is no advisory database, so the gate's own scanner cannot judge images";
/// How often the directory is looked at even if the system reports no change.
const LOOK: Duration = Duration::from_secs(60);

/// Where the databases are, and how old they may be.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// The state directory, which contains `advisories`.
    pub state_dir: PathBuf,
    /// The greatest age of a database, from the time when its source built it. An older one is not used.
    pub max_age: Option<SignedDuration>,
    /// Where databases are fetched from.
    pub sources: DatabaseSources,
}

/// The advisory databases that are missing or too old.
pub struct DatabaseLack {
    /// The configured sources of which there is no database yet.
    pub missing: Vec<String>,
    /// The databases that are too old, with their ages.
    pub aged: Vec<(String, SignedDuration)>,
}

/// The configured sources of which there is no database yet, and the databases that are too old, with their ages. Reads
/// only the manifests of the databases, not the databases.
///
/// # Errors
/// The directory cannot be read, or a database cannot be used.
pub fn check_databases(config: &DatabaseConfig, now: Timestamp) -> Result<DatabaseLack, String> {
    let known = known(config)?;
    let configured = config.sources.advisories().into_iter();
    let missing = configured.filter(|(kind, from)| !is_fetched(&known, *kind, from)).map(|(_, from)| from).collect();
    let mut aged = Vec::new();
    for source in known {
        if let SourceState::Unusable { problem } = &source.state {
            return Err(format!("the advisory database {} cannot be used: {problem}", source.source));
        }
        let age = source.age(now).filter(|age| source.has_advisories() && config.max_age.is_some_and(|max| *age > max));
        aged.extend(age.map(|age| (source.source.clone(), age)));
    }
    Ok(DatabaseLack { missing, aged })
}

/// Each source of which there is a database, with its age, for people.
pub fn describe_databases(config: &DatabaseConfig, now: Timestamp) -> Vec<String> {
    let describe = |source: SourceStatus| match source.age(now) {
        Some(age) => format!("{} ({} old)", source.source, rounded_duration(age.try_into().unwrap_or_default())),
        None => format!("{} (cannot be used)", source.source),
    };
    known(config).map_or_else(|error| vec![error], |known| known.into_iter().map(describe).collect())
}

/// The status of the databases; empty if there are none yet.
fn known(config: &DatabaseConfig) -> Result<Vec<SourceStatus>, String> {
    let store = AdvisoryStore::open_existing(&config.state_dir).map_err(|error| error.to_string())?;
    store.map_or_else(|| Ok(Vec::new()), |store| store.status().map_err(|error| error.to_string()))
}

/// The current databases. Cheap to clone.
#[derive(Clone)]
pub struct AdvisoryDatabases(Arc<DatabasesState>);

struct DatabasesState {
    max_age: Option<SignedDuration>,
    /// The configured sources of advisories.
    configured: Vec<(DatabaseKind, String)>,
    current: ArcSwap<OpenState>,
    clock: Clock,
    readiness: Readiness,
    epoch: Epoch,
    gauges: DatabaseGauges,
    /// Whether they have been opened once.
    is_open: watch::Sender<bool>,
    news: watch::Sender<DatabaseNews>,
}

/// The status of the databases at one moment. Sent when it changes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DatabaseNews {
    /// The generation in use; empty if there is none, or none is open yet.
    pub generation: String,
    /// The sources in use, each with the time when it built its database.
    pub sources: Vec<(String, Timestamp)>,
    /// Why the databases, or one of them, cannot be used.
    pub problem: Option<String>,
    /// Why newer databases cannot be fetched.
    pub update_problem: Option<String>,
}

/// The result of opening the databases.
enum OpenState {
    /// They are being opened for the first time.
    Opening,
    /// The directory cannot be read.
    Failed(String),
    /// The databases; possibly none.
    Open(Arc<Databases>),
}

impl AdvisoryDatabases {
    /// Opens the databases in the background: that reads and verifies all of them.
    pub(super) fn open(
        config: Option<DatabaseConfig>,
        tasks: &Tasks,
        clock: Clock,
        readiness: Readiness,
        epoch: Epoch,
        metrics: &Metrics,
    ) -> Self {
        let (store, first) = match config.as_ref().map(|config| AdvisoryStore::open(&config.state_dir)) {
            None => (None, OpenState::Open(Arc::default())),
            Some(Ok(store)) => (Some(store), OpenState::Opening),
            Some(Err(error)) => (None, OpenState::Failed(format!("{error}; repair it and restart the gate"))),
        };
        if let Some(config) = &config {
            readiness.degraded(TOPIC, None);
            if config.sources.update.is_some() {
                readiness.degraded(UPDATE_TOPIC, None);
            }
        }
        let directory = config.as_ref().map(|config| config.state_dir.join("advisories"));
        let configured = config.as_ref().map(|config| config.sources.advisories()).unwrap_or_default();
        let max_age = config.and_then(|config| config.max_age);
        let databases = Self(Arc::new(DatabasesState {
            max_age,
            configured,
            current: ArcSwap::from_pointee(first),
            clock,
            readiness,
            epoch,
            gauges: DatabaseGauges::new(metrics),
            is_open: watch::Sender::new(store.is_none()),
            news: watch::Sender::default(),
        }));
        metrics.register_collector(Box::new(DatabaseAge(Arc::downgrade(&databases.0))));
        if let Some(store) = store {
            let changes = DirectoryWatch::new(directory.as_slice(), "advisory databases");
            tasks.spawn(databases.clone().follow(store, changes, tasks.clone()));
        } else if let OpenState::Failed(why) = &**databases.0.current.load() {
            // Nothing follows a directory that cannot be opened.
            tracing::error!("{why}");
            databases.report();
        }
        databases
    }

    /// Waits until the databases have been opened once, which is after the start of the process.
    pub async fn opened(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.is_open.subscribe().wait_for(|is_open| *is_open).await;
    }

    /// The databases that are open, whatever there is among them and however old; `None` if they cannot be used.
    pub(super) fn open_ones(&self) -> Option<Arc<Databases>> {
        match &**self.0.current.load() {
            OpenState::Open(databases) => Some(databases.clone()),
            OpenState::Opening | OpenState::Failed(_) => None,
        }
    }

    /// The databases to match against; `None` if there are none.
    ///
    /// # Errors
    /// Why the databases cannot be used: none is open yet, one is damaged, or all are too old.
    pub fn current(&self) -> Result<Option<Arc<Databases>>, String> {
        match &**self.0.current.load() {
            OpenState::Opening => Err("the advisory databases are being opened".into()),
            OpenState::Failed(why) => Err(why.clone()),
            OpenState::Open(databases) if !databases.has_advisories() => Ok(None),
            OpenState::Open(databases) => match self.problem(databases) {
                Some(why) => Err(why),
                None => Ok(Some(databases.clone())),
            },
        }
    }

    /// The generation to match against; empty if there are no databases.
    ///
    /// # Errors
    /// As [`current`](Self::current).
    pub fn generation(&self) -> Result<String, String> {
        Ok(self.current()?.map(|databases| databases.generation().to_owned()).unwrap_or_default())
    }

    /// Follows what is known about the databases.
    pub fn news(&self) -> watch::Receiver<DatabaseNews> {
        self.0.news.subscribe()
    }

    /// Reports whether newer databases could be fetched.
    pub(super) fn updated(&self, problem: Option<String>) {
        self.0.readiness.degraded(UPDATE_TOPIC, problem.clone());
        self.tell(|news| news.update_problem = problem);
    }

    fn tell(&self, change: impl FnOnce(&mut DatabaseNews)) {
        self.0.news.send_if_modified(|news| {
            let before = news.clone();
            change(news);
            *news != before
        });
    }

    /// The greatest age of a database in which packages of an image are looked up.
    pub(super) fn max_age(&self) -> Option<SignedDuration> {
        self.0.max_age
    }

    fn is_too_old(&self, database: &DatedDatabase, now: Timestamp) -> bool {
        self.0.max_age.and_then(|most| database.built.checked_add(most).ok()).is_some_and(|until| until <= now)
    }

    /// Follows changes until shutdown. A change is known by the names of the generations, which are cheap to read.
    async fn follow(self, store: AdvisoryStore, mut changes: DirectoryWatch, tasks: Tasks) {
        let mut known = None;
        loop {
            let found = look(&store, &tasks).await;
            if found.is_none() || found != known {
                known = found;
                self.load(store.clone(), &tasks).await;
            }
            // A database becomes too old without a change.
            self.report();
            tokio::select! {
                () = tasks.stopping() => return,
                () = changes.changed(LOOK) => {}
            }
        }
    }

    async fn load(&self, store: AdvisoryStore, tasks: &Tasks) {
        let loaded = tasks.spawn_blocking(move || store.load()).await;
        let opened = match loaded {
            Ok(Ok(mut databases)) => {
                databases.expect(&self.0.configured);
                OpenState::Open(Arc::new(databases))
            }
            Ok(Err(error)) => OpenState::Failed(error.to_string()),
            Err(_) => OpenState::Failed("opening the advisory databases ended abnormally".into()),
        };
        self.0.current.store(Arc::new(opened));
        self.0.epoch.advance();
        // Before anybody who waits for the databases sees them.
        self.report();
        self.0.is_open.send_replace(true);
    }

    /// Why the databases as a whole cannot be used. A source that is damaged makes all of them unusable: what it would
    /// list is not known. One that is too old concerns only the images with packages that it lists, unless all are.
    fn problem(&self, databases: &Databases) -> Option<String> {
        if let Some(SourceStatus { source, state: SourceState::Unusable { problem }, .. }) = databases.unusable().next()
        {
            return Some(format!("the advisory database {source} cannot be used: {problem}"));
        }
        let now = self.0.clock.now();
        databases.newest().filter(|newest| self.is_too_old(newest, now)).as_ref().map(too_old)
    }

    /// Why some images cannot be judged: a database is too old.
    fn some_too_old(&self, databases: &Databases) -> Option<String> {
        let now = self.0.clock.now();
        databases.advisories().find(|database| self.is_too_old(database, now)).as_ref().map(too_old)
    }

    /// Updates readiness and metrics.
    fn report(&self) {
        let state = self.0.current.load();
        let databases = match &**state {
            OpenState::Opening => return,
            OpenState::Failed(why) => {
                self.tell(|news| news.problem = Some(why.clone()));
                self.0.readiness.inform(TOPIC, Vec::new());
                return self.0.readiness.degraded(TOPIC, Some(why.clone()));
            }
            OpenState::Open(databases) => databases,
        };
        let degraded = |status: &SourceStatus| match &status.state {
            SourceState::Degraded { problem } => Some(format!(
                "the advisory database {} is damaged; the previous one is in use: {problem}",
                status.source
            )),
            SourceState::Unusable { problem } => Some(format!("{} cannot be used: {problem}", status.source)),
            SourceState::Ready => None,
        };
        let why = self.problem(databases).or_else(|| databases.status().iter().find_map(degraded));
        let why = why.or_else(|| self.some_too_old(databases));
        let lack = (!databases.has_advisories()).then(|| NO_DATABASE.to_owned());
        self.0.readiness.inform(TOPIC, lack.into_iter().collect());
        self.0.readiness.degraded(TOPIC, why.clone());
        self.tell(|news| {
            let built = |status: &SourceStatus| Some((status.source.clone(), status.generation.as_ref()?.built));
            // Unusable databases are not news; databases that were in use before may be used again.
            if self.problem(databases).is_none() {
                news.generation = databases.generation().to_owned();
                news.sources = databases.status().iter().filter_map(built).collect();
            }
            news.problem = why;
        });
        self.0.gauges.built.clear();
        self.0.gauges.generation.clear();
        for (status, generation) in databases.status().iter().filter_map(|one| Some((one, one.generation.as_ref()?))) {
            let source = [("source", status.source.clone())];
            self.0.gauges.built.get_or_create(&source).set(generation.built.as_second());
            let [source] = source;
            self.0.gauges.generation.get_or_create(&[source, ("generation", generation.id())]).set(1);
        }
        let count =
            databases.status().iter().filter(|status| status.has_advisories() && status.generation.is_some()).count();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.0.gauges.sources.set(count);
    }
}

/// Why images with packages that a database lists cannot be judged.
pub(super) fn too_old(database: &DatedDatabase) -> String {
    let DatedDatabase { source, built } = database;
    format!(
        "the advisory database {source} is older than va.max_db_age: it was built at {built}; run `pullgate db update`"
    )
}

/// The status of the databases. Waits for the lock of the directory, which another process may hold for long.
async fn look(store: &AdvisoryStore, tasks: &Tasks) -> Option<Vec<SourceStatus>> {
    let store = store.clone();
    tasks.spawn_blocking(move || store.status().ok()).await.ok().flatten()
}

struct DatabaseGauges {
    built: Family<[(&'static str, String); 1], Gauge>,
    generation: Family<[(&'static str, String); 2], Gauge>,
    sources: Gauge,
}

impl DatabaseGauges {
    fn new(metrics: &Metrics) -> Self {
        let gauge = |name, help| metrics.register(name, help, Gauge::default());
        Self {
            built: metrics.register_with_unit(
                "advisory_built_timestamp",
                "When the source of an advisory database built it, in seconds since the epoch",
                Unit::Seconds,
                Family::default(),
            ),
            generation: metrics.register(
                "advisory_generation",
                "1 for the generation of each advisory database that is in use",
                Family::default(),
            ),
            sources: gauge("advisory_sources", "Sources of advisories with a database"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::{FlockOperation, flock};

    use super::*;

    /// `config check` says the same before a start.
    #[tokio::test]
    async fn a_directory_that_cannot_be_opened_is_reported() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join("advisories"), "not a directory").unwrap();
        let config =
            DatabaseConfig { state_dir: state.path().to_owned(), max_age: None, sources: DatabaseSources::default() };
        let (tasks, clock, epoch, readiness) = (Tasks::new(), Clock::system(), Epoch::new(), Readiness::new());
        let databases =
            AdvisoryDatabases::open(Some(config), &tasks, clock, readiness.clone(), epoch, &Metrics::default());
        let why = readiness.report().degraded.get(TOPIC).cloned().unwrap_or_default();
        assert!(why.contains("advisories") && why.contains("not a directory"), "{why}");
        databases.opened().await;
        assert_eq!(databases.current().err(), Some(why.clone()));
        assert_eq!(databases.news().borrow().problem, Some(why));
    }

    /// On the only thread of this runtime, waiting for the lock would wait forever.
    #[tokio::test]
    async fn an_update_by_another_process_does_not_block_the_runtime() {
        let state = tempfile::tempdir().unwrap();
        AdvisoryStore::open(state.path()).unwrap();
        let updating = File::create(state.path().join("advisories/lock")).unwrap();
        flock(&updating, FlockOperation::LockExclusive).unwrap();
        let config =
            DatabaseConfig { state_dir: state.path().to_owned(), max_age: None, sources: DatabaseSources::default() };
        let (tasks, clock, epoch) = (Tasks::new(), Clock::system(), Epoch::new());
        let readiness = Readiness::new();
        let databases = AdvisoryDatabases::open(Some(config), &tasks, clock, readiness, epoch, &Metrics::default());
        let mut opened = Box::pin(databases.opened());
        for _ in 0..10 {
            assert!(futures_util::poll!(&mut opened).is_pending());
            tokio::task::yield_now().await;
        }
        drop(updating);
        opened.await;
        assert!(databases.current().unwrap().is_none(), "there are no databases");
        tasks.stop();
    }
}
