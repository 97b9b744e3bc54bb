//! The exemptions in force: those of the policy documents, and those that were added by commands.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use tokio::sync::Mutex;

use crate::audit::{Audit, RecordedDecision, RecordedEndpoint, RecordedMethod};
use crate::gate::operator::{NotRecorded, OperatorAct, by_whom};
use crate::oci::Digest;
use crate::policy::{
    ExemptedImage, ExemptionRecord, ExemptionScope, ExemptionSet, MAX_EXEMPTIONS, VaExemptions, expiry,
};
use crate::rulebook::Rulebook;
use crate::runtime::{Clock, Epoch, Metrics, Tasks, parse_duration, signed_duration};
use crate::store::{ExemptionStore, StoreError};

/// The exemptions of all origins, and changes of those that were added by commands. A change applies to the next
/// request.
pub struct ExemptionBook {
    store: ExemptionStore,
    rulebook: Arc<Rulebook>,
    /// What the store contains, in force.
    stored: ArcSwap<ExemptionSet>,
    /// The same by identifier. Locked during a change, so that changes come into force in the order of their rows.
    by_id: Mutex<BTreeMap<Arc<str>, Arc<ExemptionRecord>>>,
    audit: Audit,
    epoch: Epoch,
    clock: Clock,
    tasks: Tasks,
}

impl ExemptionBook {
    /// Reads the store.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn open(
        store: &ExemptionStore,
        rulebook: &Arc<Rulebook>,
        audit: &Audit,
        epoch: &Epoch,
        clock: &Clock,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, StoreError> {
        let records = store.all().await?.into_iter().map(Arc::new);
        let by_id: BTreeMap<_, _> = records.map(|record| (record.id.clone(), record)).collect();
        let stored = ArcSwap::from_pointee(by_id.values().cloned().collect());
        Ok(Arc::new(Self {
            store: store.clone(),
            rulebook: rulebook.clone(),
            stored,
            by_id: Mutex::new(by_id),
            audit: audit.clone(),
            epoch: epoch.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
        }))
    }

    /// Adds metrics about the exemptions.
    pub fn show_in(self: &Arc<Self>, metrics: &Metrics) {
        metrics.register_collector(Box::new(ExemptionCollector(Arc::downgrade(self))));
    }

    /// How many exemptions are in force, and when the next of them ends.
    fn in_force(&self) -> (usize, Option<Timestamp>) {
        let (now, stored, rules) = (self.clock.now(), self.stored.load_full(), self.rulebook.rules().clone());
        let all = stored.iter().chain(rules.exemptions().iter());
        let ends: Vec<Option<Timestamp>> =
            all.filter(|record| record.holds(now)).map(|record| record.expires).collect();
        (ends.len(), ends.into_iter().flatten().min())
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The end of a new exemption: a date, a time as in RFC 3339, or a duration from now such as `30d`.
    ///
    /// # Errors
    /// If the text is none of these.
    pub fn end_of(&self, text: &str) -> Result<Timestamp, ExemptionError> {
        if let Ok(duration) = parse_duration(text) {
            return Ok(self.clock.now().saturating_add(signed_duration(duration)).unwrap_or(Timestamp::MAX));
        }
        expiry(text)
            .map_err(|invalid| ExemptionError::Invalid(format!("{text:?}: {invalid}, or a duration such as 30d")))
    }

    /// All exemptions of a scope and of wider scopes; without a scope, all. Ordered by scope, type, issue and package.
    pub fn list(&self, scope: Option<&ExemptionScope>) -> Vec<Arc<ExemptionRecord>> {
        let (stored, rules) = (self.stored.load_full(), self.rulebook.rules().clone());
        let all = stored.iter().chain(rules.exemptions().iter());
        let mut listed: Vec<_> =
            all.filter(|record| scope.is_none_or(|scope| record.scope.contains(scope))).cloned().collect();
        listed.sort_by_cached_key(|record| (record.scope.to_string(), record.to_string(), record.document.clone()));
        listed
    }

    /// Adds exemptions whose scopes have been checked: see
    /// [`Operations::add_exemptions`](crate::gate::Operations::add_exemptions).
    pub(in crate::gate) async fn add(
        self: &Arc<Self>,
        records: Vec<ExemptionRecord>,
        caller: &str,
    ) -> Result<Vec<Arc<ExemptionRecord>>, ExemptionError> {
        let (book, caller) = (self.clone(), caller.to_owned());
        // A task, so that a caller that goes away does not leave rows that are not in force.
        let work = self.tasks.spawn(async move { book.put(records, &caller).await });
        work.await.map_err(|_| ExemptionError::Stopping)?
    }

    async fn put(
        &self,
        records: Vec<ExemptionRecord>,
        caller: &str,
    ) -> Result<Vec<Arc<ExemptionRecord>>, ExemptionError> {
        let now = self.clock.now();
        if let Some(end) = records.iter().filter_map(|record| record.expires).find(|end| *end <= now) {
            return Err(ExemptionError::Ended { end });
        }
        let dated = |record| ExemptionRecord { created: Some(now), document: None, ..record };
        let records: Vec<_> = records.into_iter().map(dated).collect();
        let mut by_id = self.by_id.lock().await;
        self.record(RecordedDecision::AddExemption, RecordedMethod::Post, &records.iter().collect::<Vec<_>>(), caller)
            .await?;
        if !self.store.put(&records, now).await? {
            return Err(ExemptionError::TooMany);
        }
        let records: Vec<_> = records.into_iter().map(Arc::new).collect();
        by_id.extend(records.iter().map(|record| (record.id.clone(), record.clone())));
        self.put_into_force(&by_id);
        for record in &records {
            tracing::info!(id = %record.id, exemption = %record, by = record.by, caller, "exemption added");
        }
        Ok(records)
    }

    /// Removes an exemption that was added by a command. It is no longer in force when this returns without an error.
    /// `caller` is for the audit record.
    ///
    /// # Errors
    /// If there is no such exemption, it is in a document, or the store or a required audit record cannot be written.
    pub async fn remove(self: &Arc<Self>, id: &str, caller: &str) -> Result<Arc<ExemptionRecord>, ExemptionError> {
        let (book, id, caller) = (self.clone(), id.to_owned(), caller.to_owned());
        let work = self.tasks.spawn(async move { book.delete(&id, &caller).await });
        work.await.map_err(|_| ExemptionError::Stopping)?
    }

    /// Removes all exemptions that were added by commands, and returns their number. `caller` is for the audit record.
    ///
    /// # Errors
    /// If the store or a required audit record cannot be written.
    pub async fn remove_all(self: &Arc<Self>, caller: &str) -> Result<usize, ExemptionError> {
        let (book, caller) = (self.clone(), caller.to_owned());
        let work = self.tasks.spawn(async move { book.delete_all(&caller).await });
        work.await.map_err(|_| ExemptionError::Stopping)?
    }

    async fn delete_all(&self, caller: &str) -> Result<usize, ExemptionError> {
        let mut by_id = self.by_id.lock().await;
        let records: Vec<_> = by_id.values().map(|record| &**record).collect();
        self.record(RecordedDecision::RemoveExemption, RecordedMethod::Post, &records, caller).await?;
        let ids: Vec<&str> = by_id.keys().map(|id| &**id).collect();
        self.store.remove(&ids).await?;
        let removed = std::mem::take(&mut *by_id).len();
        self.put_into_force(&by_id);
        tracing::info!(removed, caller, "removed all exemptions that are not in documents");
        Ok(removed)
    }

    async fn delete(&self, id: &str, caller: &str) -> Result<Arc<ExemptionRecord>, ExemptionError> {
        let mut by_id = self.by_id.lock().await;
        let Some(record) = by_id.get(id).cloned() else { return Err(self.unknown(id)) };
        self.record(RecordedDecision::RemoveExemption, RecordedMethod::Delete, &[&record], caller).await?;
        self.store.remove(&[id]).await?;
        by_id.remove(id);
        self.put_into_force(&by_id);
        tracing::info!(id = %record.id, exemption = %record, caller, "exemption removed");
        Ok(record)
    }

    /// Writes the audit record of a change before it is made: one for each exemption.
    async fn record(
        &self,
        decision: RecordedDecision,
        method: RecordedMethod,
        records: &[&ExemptionRecord],
        caller: &str,
    ) -> Result<(), ExemptionError> {
        for record in records {
            let texts = by_whom(record.by.as_deref(), record.reason.as_deref());
            let end = record.expires.map(|end| format!("until {end}"));
            let act = OperatorAct {
                endpoint: RecordedEndpoint::Exemptions,
                method,
                decision,
                image: record.scope.to_string(),
                reasons: [format!("{}: {record}", record.id)].into_iter().chain(end).chain(texts).collect(),
            };
            act.record(&self.audit, caller, self.clock.now()).await?;
        }
        Ok(())
    }

    fn unknown(&self, id: &str) -> ExemptionError {
        let rules = self.rulebook.rules();
        let of_document = rules.exemptions().iter().find(|record| *record.id == *id);
        match of_document.and_then(|record| record.document.clone()) {
            Some(document) => ExemptionError::InDocument { id: id.to_owned(), document },
            None => ExemptionError::Unknown { id: id.to_owned() },
        }
    }

    fn put_into_force(&self, by_id: &BTreeMap<Arc<str>, Arc<ExemptionRecord>>) {
        self.stored.store(Arc::new(by_id.values().cloned().collect()));
        self.epoch.advance();
    }

    /// Identifies the exemptions in force: different exemptions have different fingerprints, even across processes.
    pub(in crate::gate) fn fingerprint(&self) -> String {
        let (stored, rules) = (self.stored.load_full(), self.rulebook.rules().clone());
        let all = stored.iter().chain(rules.exemptions().iter());
        let mut texts: Vec<_> = all.map(|record| format!("{} {:?}\n", record.id, record.expires)).collect();
        texts.sort_unstable();
        Digest::sha256(texts.concat().as_bytes()).short()
    }

    /// Whether any exemption applies to one digest only.
    pub(super) fn has_digests(&self) -> bool {
        self.stored.load().has_digests() || self.rulebook.rules().exemptions().has_digests()
    }

    /// The exemptions that apply to an image.
    pub fn of_image(&self, image: &ExemptedImage<'_>) -> VaExemptions {
        let (stored, rules) = (self.stored.load(), self.rulebook.rules());
        VaExemptions::for_image(&[&stored, rules.exemptions()], image)
    }
}

/// Metrics about the exemptions. One ends without a change, so they are computed whenever metrics are rendered.
struct ExemptionCollector(Weak<ExemptionBook>);

impl fmt::Debug for ExemptionCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExemptionCollector")
    }
}

impl Collector for ExemptionCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(book) = self.0.upgrade() else { return Ok(()) };
        let (count, next_end) = book.in_force();
        let of = |number: i64| ConstGauge::new(number);
        let help = "Exemptions in force";
        let count = of(i64::try_from(count).unwrap_or(i64::MAX));
        count.encode(encoder.encode_descriptor("exemptions", help, None, MetricType::Gauge)?)?;
        let (name, help) = ("exemptions_next_end_timestamp", "When the next exemption in force ends, since the epoch");
        let end = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        next_end.map_or(Ok(()), |at| of(at.as_second()).encode(end))
    }
}

/// Why exemptions were not changed.
#[derive(Debug, thiserror::Error)]
pub enum ExemptionError {
    /// The audit record cannot be written, and the configuration requires it.
    #[error(transparent)]
    Audit(#[from] NotRecorded),
    /// The exemption would never apply.
    #[error("the exemption would have no effect: it ends on {end}")]
    Ended {
        /// When it ends.
        end: Timestamp,
    },
    /// A command cannot change documents.
    #[error("{id} is in {document}: remove it there")]
    InDocument {
        /// The identifier.
        id: String,
        /// The document.
        document: Arc<str>,
    },
    /// The request is not an exemption.
    #[error("{0}")]
    Invalid(String),
    /// The gate is shutting down.
    #[error("the gate is shutting down")]
    Stopping,
    /// The database cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Memory is limited.
    #[error("the limit of {MAX_EXEMPTIONS} exemptions is reached; remove those that have ended")]
    TooMany,
    /// There is no such exemption.
    #[error("there is no exemption {id}")]
    Unknown {
        /// The identifier.
        id: String,
    },
}
