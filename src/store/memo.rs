//! Memoised evidence: a bounded cache in memory in front of stored rows. Concurrent requests for the same evidence
//! share one gathering, unless they read it from different repositories.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{FactStore, StoreError};
use crate::oci::ImageName;
use crate::policy::Observed;
use crate::runtime::{Bounded, Clock, Flights, Tasks, budget};

/// The memory that evidence takes in addition to its subject and its length as JSON, in bytes.
const ENTRY_WEIGHT: usize = 256;
/// The maximum time for which an answer without a durable end is kept in memory. The row is kept.
const MEMORY_TTL: Duration = Duration::from_secs(3600);

/// The maximum validity of evidence that something is absent, if it has no earlier end.
const MAX_NEGATIVE: SignedDuration = SignedDuration::from_hours(1);

/// The properties of evidence that a memo needs.
pub trait Evidence {
    /// Whether the evidence says that something was absent: no signature, no report, no answer. The missing
    /// item can be added later, so such evidence always has an end. Evidence that follows only from verified bytes is
    /// not negative.
    fn is_negative(&self) -> bool;
}

/// Evidence of one topic, by subject. It survives restarts. Concurrent requests for it cause only one gathering, or one
/// for each repository from which it is read.
pub struct Memo<V> {
    topic: &'static str,
    memory: Arc<Bounded<Arc<str>, Kept<V>>>,
    flights: Flights<Gathering, Arc<Observed<V>>>,
    store: FactStore,
    clock: Clock,
    tasks: Tasks,
}

/// The evidence being gathered: the subject, and the repository from which it is read if that matters.
type Gathering = (Arc<str>, Option<ImageName>);

/// Evidence in memory, and its approximate size there in bytes.
#[derive(Clone)]
struct Kept<V> {
    evidence: Arc<Observed<V>>,
    weight: usize,
    /// The time when it was added to memory.
    since: Instant,
}

impl<V> Memo<V>
where
    V: Clone + DeserializeOwned + Evidence + Send + Serialize + Sync + 'static,
{
    /// Creates a memo that uses this store.
    pub fn new(topic: &'static str, store: FactStore, clock: Clock, tasks: Tasks) -> Self {
        let memory = Bounded::new(budget::EVIDENCE, |subject: &Arc<str>, kept: &Kept<V>| subject.len() + kept.weight);
        Self { topic, memory: Arc::new(memory), flights: Flights::new(tasks.clone()), store, clock, tasks }
    }

    /// The evidence about a subject: from memory, otherwise from the store, otherwise from `gather`, which continues if
    /// the caller is dropped. `None` if gathering ended abnormally.
    ///
    /// Evidence for which `is_durable` returns false (for example when an upstream did not answer) is kept only in
    /// memory.
    pub async fn obtain<F>(
        &self,
        subject: Arc<str>,
        is_durable: fn(&V) -> bool,
        gather: impl FnOnce() -> F,
    ) -> Option<Arc<Observed<V>>>
    where
        F: Future<Output = Observed<V>> + Send + 'static,
    {
        match self.recall(&subject) {
            Some(known) => Some(known),
            // Boxed, because this path is rare, so that the future of a request that finds everything in memory is
            // small.
            None => Box::pin(self.look_up((subject, None), is_durable, gather())).await,
        }
    }

    /// The same for evidence in bytes that `gather` reads from a repository. What is found counts for all repositories,
    /// but only requests for this one wait for the same gathering: that another repository does not have the bytes, or
    /// that its registry is slow, means nothing here.
    pub async fn obtain_from<F>(
        &self,
        repository: &ImageName,
        subject: Arc<str>,
        is_durable: fn(&V) -> bool,
        gather: impl FnOnce() -> F,
    ) -> Option<Arc<Observed<V>>>
    where
        F: Future<Output = Observed<V>> + Send + 'static,
    {
        match self.recall(&subject) {
            Some(known) => Some(known),
            None => Box::pin(self.look_up((subject, Some(repository.clone())), is_durable, gather())).await,
        }
    }

    /// The evidence about a subject from memory or from the store, without gathering.
    pub async fn known(&self, subject: &Arc<str>) -> Option<Arc<Observed<V>>> {
        if let Some(known) = self.recall(subject) {
            return Some(known);
        }
        let loaded = load(&self.store, self.topic, subject, &self.clock, &self.tasks).await?;
        Some(loaded.keep_in(&self.memory, subject))
    }

    /// The stored evidence about a subject as JSON, which [`parse`](Self::parse) reads, and whether anything of another
    /// topic is stored about it. Nothing is kept in memory: for work that goes through many subjects once.
    pub async fn stored_and(&self, subject: &str, other: &str) -> Option<(Observed<String>, bool)> {
        let row = self.store.evidence_and((self.topic, other), subject, self.clock.now()).await;
        readable(self.topic, row)
    }

    /// Reads evidence that was stored. `None` if it cannot be read; then it is gathered again when it is needed.
    pub fn parse(stored: &str) -> Option<V> {
        serde_json::from_str(stored).ok()
    }

    /// The evidence about a subject from memory, if it is still valid.
    pub fn recall(&self, subject: &Arc<str>) -> Option<Arc<Observed<V>>> {
        let known = self.memory.get(subject)?;
        let is_fresh = known.since.elapsed() < MEMORY_TTL && known.evidence.holds(self.clock.now());
        is_fresh.then_some(known.evidence)
    }

    /// Keeps evidence that the caller gathered: in memory, and in the store if `is_durable` returns true.
    pub async fn remember(
        &self,
        subject: Arc<str>,
        evidence: Observed<V>,
        is_durable: fn(&V) -> bool,
    ) -> Arc<Observed<V>> {
        let evidence = Arc::new(with_end(evidence));
        let text = keep(&self.memory, &subject, &evidence, &self.tasks).await;
        if let Some(text) = text.filter(|_| is_durable(&evidence.value)) {
            save(&self.store, self.topic, &subject, row(&evidence, text)).await;
        }
        evidence
    }

    async fn look_up<F>(&self, what: Gathering, is_durable: fn(&V) -> bool, gather: F) -> Option<Arc<Observed<V>>>
    where
        F: Future<Output = Observed<V>> + Send + 'static,
    {
        let (topic, memory) = (self.topic, self.memory.clone());
        let (store, clock, tasks) = (self.store.clone(), self.clock.clone(), self.tasks.clone());
        let key = what.0.clone();
        let work = move || async move {
            if let Some(loaded) = load(&store, topic, &key, &clock, &tasks).await {
                return loaded.keep_in(&memory, &key);
            }
            let evidence = Arc::new(with_end(gather.await));
            let text = keep(&memory, &key, &evidence, &tasks).await;
            if let Some(text) = text.filter(|_| is_durable(&evidence.value)) {
                save(&store, topic, &key, row(&evidence, text)).await;
            }
            evidence
        };
        self.flights.join(what, work).await
    }
}

/// Evidence from the store, and its length there as JSON.
struct Loaded<V> {
    evidence: Observed<V>,
    length: usize,
}

impl<V: Clone> Loaded<V> {
    fn keep_in(self, memory: &Bounded<Arc<str>, Kept<V>>, subject: &Arc<str>) -> Arc<Observed<V>> {
        let (evidence, weight) = (Arc::new(self.evidence), ENTRY_WEIGHT + self.length);
        memory.insert(subject.clone(), Kept { evidence: evidence.clone(), weight, since: Instant::now() });
        evidence
    }
}

/// Adds an end to evidence that something is absent, if it has none.
fn with_end<V: Evidence>(evidence: Observed<V>) -> Observed<V> {
    let latest = evidence.at.saturating_add(MAX_NEGATIVE).unwrap_or(evidence.at);
    let until = if evidence.value.is_negative() { evidence.until.or(Some(latest)) } else { evidence.until };
    Observed { until, ..evidence }
}

/// Adds evidence to memory unless it expires at once: a failure must not replace evidence found in another repository.
/// Returns it as JSON, which is written on a blocking thread, because the contents of a layer can have many megabytes.
async fn keep<V>(
    memory: &Bounded<Arc<str>, Kept<V>>,
    subject: &Arc<str>,
    evidence: &Arc<Observed<V>>,
    tasks: &Tasks,
) -> Option<String>
where
    V: Clone + Send + Serialize + Sync + 'static,
{
    let written = evidence.clone();
    let text = tasks.spawn_blocking(move || serde_json::to_string(&written.value).ok()).await.ok().flatten();
    let weight = ENTRY_WEIGHT + text.as_ref().map_or(0, String::len);
    if evidence.holds(evidence.at) {
        memory.insert(subject.clone(), Kept { evidence: evidence.clone(), weight, since: Instant::now() });
    }
    text
}

fn row<V>(evidence: &Observed<V>, text: String) -> Observed<String> {
    Observed { value: text, at: evidence.at, until: evidence.until }
}

/// Loads evidence, and reads its JSON on a blocking thread. A row that cannot be read is ignored, so the evidence is
/// gathered again.
async fn load<V: DeserializeOwned + Send + 'static>(
    store: &FactStore,
    topic: &str,
    subject: &str,
    clock: &Clock,
    tasks: &Tasks,
) -> Option<Loaded<V>> {
    let row = store.evidence(topic, subject, clock.now()).await;
    let Observed { value, at, until } = readable(topic, row)?;
    let length = value.len();
    let value = tasks.spawn_blocking(move || serde_json::from_str(&value).ok()).await.ok()??;
    Some(Loaded { evidence: Observed { value, at, until }, length })
}

/// What was read; nothing if it cannot be read.
fn readable<T>(topic: &str, row: Result<Option<T>, StoreError>) -> Option<T> {
    row.inspect_err(|error| tracing::warn!(topic, %error, "stored evidence cannot be read")).ok()?
}

/// Saves evidence. If this fails, the evidence is still valid and is lost only in a restart.
async fn save(store: &FactStore, topic: &'static str, subject: &str, row: Observed<String>) {
    if let Err(error) = store.record_evidence(topic, subject, row).await {
        tracing::warn!(topic, %error, "evidence cannot be stored; it will be gathered again after a restart");
    }
}
