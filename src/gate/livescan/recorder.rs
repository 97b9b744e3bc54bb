//! Records pulls of admitted images, and reports denied ones. A request only hands over what happened; it never waits.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::LiveRecords;
use crate::events::EventKind;
use crate::gate::request::Requester;
use crate::gate::{Answer, GateError, GateRequest};
use crate::oci::{Digest, Endpoint, ImageName, Reference};
use crate::policy::{Denial, DenialKind, Kind, Permit};
use crate::runtime::{Epoch, Moment, Tasks};
use crate::store::{
    AdmittedPull, RequestedImage, StoreError, StoredDecision, VerdictBasis, VerdictOutcome, VerdictStore,
};

/// How long records are gathered for a transaction.
const GATHER: Duration = Duration::from_millis(200);
/// The maximum number of records per transaction. One delays the rows of pulls by a few milliseconds.
const MAX_GATHERED: usize = 64;
/// After how many recorded pulls the queue of events is trimmed, and the tables are, if they may be full.
const TRIM_AFTER: u64 = 2000;
/// After how many pulls the tables are trimmed at the latest.
const MAX_ROOM: u64 = 5 * TRIM_AFTER;
/// The maximum number of denials that are reported per minute.
const MAX_DENIALS: usize = 60;

/// What a request hands over.
pub(super) enum LiveRecord {
    /// An admitted image was pulled, by a decision that began at this moment. Its basis is filled in later.
    Pull(Box<AdmittedPull>, Moment),
    /// An image was asked for, and not served.
    Asked(RequestedImage),
    /// A pull was denied.
    Denied(DeniedPull),
}

/// The data of the event `pull.denied`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeniedPull {
    image: String,
    namespace: String,
    stage: &'static str,
    document: Option<String>,
    rule: Option<String>,
    reasons: Vec<String>,
    client: String,
    client_name: Option<String>,
    #[serde(skip)]
    at: Timestamp,
}

impl LiveRecords {
    /// Notes an answer to a request for a manifest, which was decided at this moment.
    pub(in crate::gate) fn note(
        &self,
        request: &GateRequest,
        kind: Option<Kind>,
        has_checked_va: bool,
        answer: &Result<Answer, GateError>,
        moment: Moment,
    ) {
        match (answer, kind) {
            // Nothing is required of attachments, so their verdict never changes.
            (Ok(Answer::Manifest { .. }), Some(Kind::Attachment)) => {}
            (Ok(Answer::Manifest { manifest, permit, .. }), Some(kind)) => {
                let tag = match &request.endpoint {
                    Endpoint::Manifest { reference: Reference::Tag(tag), .. } => Some(tag),
                    _ => None,
                };
                let Requester { client, client_name, .. } = &request.requester;
                let key = (&request.scope, permit.name(), permit.digest(), tag, client, client_name);
                if !self.noted.is_new(&key) {
                    return;
                }
                let (decision, reason) = stored(permit);
                let copy = AdmittedPull::keeps_copy_of(manifest).then(|| manifest.clone());
                let pull = AdmittedPull {
                    scope: request.scope.clone(),
                    name: permit.name().clone(),
                    digest: permit.digest(),
                    tag: tag.cloned(),
                    kind,
                    outcome: VerdictOutcome { decision, reason, basis: VerdictBasis::default() },
                    has_checked_va,
                    until: permit.until(),
                    at: self.clock.now(),
                    client: client.clone(),
                    client_name: client_name.clone(),
                    manifest: copy,
                };
                self.send(LiveRecord::Pull(Box::new(pull), moment));
            }
            (Err(GateError::Denied(denial)), _) if denial.kind == DenialKind::Policy => self.denied(request, denial),
            _ => {}
        }
    }

    /// Notes the request for an image that is not served: the age of an image counts from the first request.
    pub(in crate::gate) fn note_asked(&self, name: &ImageName, digest: Digest) {
        if self.noted.is_new(&("asked", name, digest)) {
            self.send(LiveRecord::Asked(RequestedImage { name: name.clone(), digest, at: self.clock.now() }));
        }
    }

    /// Reports a denial, unless the same one was reported within the last hour.
    fn denied(&self, request: &GateRequest, denial: &Denial) {
        let key = (&request.scope, &denial.subject, denial.stage.as_str(), &denial.document);
        if !self.events.wants(EventKind::PullDenied) || !self.noted.is_new(&key) {
            return;
        }
        self.send(LiveRecord::Denied(DeniedPull {
            image: denial.subject.clone(),
            namespace: request.scope.to_string(),
            stage: denial.stage.as_str(),
            document: denial.document.as_deref().map(str::to_owned),
            rule: denial.rule.as_deref().map(str::to_owned),
            reasons: denial.reasons.clone(),
            client: request.requester.client.to_string(),
            client_name: request.requester.client_name.as_deref().map(str::to_owned),
            at: self.clock.now(),
        }));
    }

    fn send(&self, record: LiveRecord) {
        if self.sender.try_send(record).is_err() {
            self.metrics.unrecorded.inc();
            // So that the next pull of what was left out is recorded.
            self.noted.clear();
        }
    }
}

/// How an admission is stored, with the reason if it is only reported.
pub(super) fn stored(permit: &Permit) -> (StoredDecision, String) {
    match permit.only_reported() {
        Some(denial) => (StoredDecision::WouldDeny, denial.to_string()),
        None => (StoredDecision::Admit, String::new()),
    }
}

impl LiveRecords {
    /// Writes records until shutdown, and then those that wait.
    pub(super) async fn record_pulls(&self, tasks: &Tasks) {
        let taken = self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(mut waiting) = taken else { return };
        let (mut trimming, mut denials) = (Trimming::default(), DenialLimit::default());
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                () = tasks.stopping() => {
                    waiting.close();
                    while waiting.recv_many(&mut batch, MAX_GATHERED).await > 0 {
                        self.write(std::mem::take(&mut batch), &mut denials).await;
                    }
                    return;
                }
                _ = waiting.recv_many(&mut batch, MAX_GATHERED) => {}
            }
            gather(&mut waiting, &mut batch, tasks).await;
            let count = batch.len() as u64;
            self.write(batch, &mut denials).await;
            if let Err(error) = trimming.recorded(count, &self.store).await {
                self.store.note_failure(&error);
                tracing::warn!(%error, "cannot remove old verdicts");
            }
        }
    }

    async fn write(&self, batch: Vec<LiveRecord>, denials: &mut DenialLimit) {
        let (mut pulls, mut asked, mut events) = (Vec::new(), Vec::new(), Vec::new());
        let basis = self.basis.load_full();
        for record in batch {
            match record {
                LiveRecord::Pull(mut pull, moment) => {
                    pull.outcome.basis = match basis.as_deref() {
                        Some((at, basis)) if Epoch::are_alike(at, &moment) => basis.clone(),
                        // Something has changed since it was judged, so it is judged again.
                        Some((_, basis)) => VerdictBasis { databases: basis.databases.clone(), rules: String::new() },
                        None => VerdictBasis::default(),
                    };
                    pulls.push(*pull);
                }
                LiveRecord::Asked(image) => asked.push(image),
                LiveRecord::Denied(pull) if denials.allows() => {
                    events.extend(self.events.of(EventKind::PullDenied, &pull.image, pull.at, &pull));
                }
                LiveRecord::Denied(_) => {}
            }
        }
        if !events.is_empty() {
            self.queue(&events).await;
        }
        if !asked.is_empty()
            && let Err(error) = self.store.images_asked(&asked).await
        {
            self.store.note_failure(&error);
            tracing::warn!(%error, images = asked.len(), "cannot record when some images were first requested");
            self.noted.clear();
        }
        if pulls.is_empty() {
            return;
        }
        match self.store.record_pulls(&pulls, &|verdict| self.change_events(verdict)).await {
            Ok(changed) => self.changed(&changed),
            Err(error) => {
                self.store.note_failure(&error);
                self.metrics.unrecorded.inc_by(pulls.len() as u64);
                tracing::warn!(%error, pulls = pulls.len(), "cannot record some pulls; the next ones are tried again");
                self.noted.clear();
            }
        }
        // The basis now: if it changed while they were written, the judging that followed may have missed them.
        let current = self.basis.load_full();
        let current = current.as_deref().map(|(_, basis)| basis);
        if pulls.iter().any(|pull| Some(&pull.outcome.basis) != current) {
            self.outdated.notify_one();
        }
    }
}

/// Adds the records of the next moments.
async fn gather(waiting: &mut mpsc::Receiver<LiveRecord>, batch: &mut Vec<LiveRecord>, tasks: &Tasks) {
    let end = Instant::now() + GATHER;
    while batch.len() < MAX_GATHERED {
        let room = MAX_GATHERED - batch.len();
        tokio::select! {
            () = sleep_until(end) => return,
            () = tasks.stopping() => return,
            count = waiting.recv_many(batch, room) => if count == 0 { return },
        }
    }
}

/// When the tables are trimmed.
#[derive(Default)]
struct Trimming {
    /// The number of pulls until the queue of events and the issues of repositories are trimmed.
    events: u64,
    /// The number of pulls after which a table may be full. A pull adds a row to each; judging its image can add
    /// others.
    rows: u64,
}

impl Trimming {
    /// Trims what may be full after this number of further pulls.
    async fn recorded(&mut self, pulls: u64, store: &VerdictStore) -> Result<(), StoreError> {
        (self.events, self.rows) = (self.events.saturating_sub(pulls), self.rows.saturating_sub(pulls));
        if self.events > 0 {
            return Ok(());
        }
        self.events = TRIM_AFTER;
        // A pull can add any number of issues.
        store.trim_repositories().await?;
        let lost = store.trim_events().await?;
        if lost > 0 {
            tracing::error!(lost, "events were lost: too many are waiting to be delivered");
        }
        if self.rows == 0 {
            self.rows = store.trim().await?.min(MAX_ROOM);
        }
        Ok(())
    }
}

/// Limits how many denials are reported: clients can cause any number.
struct DenialLimit {
    minute: Instant,
    count: usize,
}

impl Default for DenialLimit {
    fn default() -> Self {
        Self { minute: Instant::now(), count: 0 }
    }
}

impl DenialLimit {
    fn allows(&mut self) -> bool {
        if self.minute.elapsed() >= Duration::from_secs(60) {
            *self = Self::default();
        }
        self.count += 1;
        self.count <= MAX_DENIALS
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::events::{self, Events};
    use crate::runtime::{Clock, Metrics};
    use crate::scope::Scope;
    use crate::store::Store;

    fn pull() -> LiveRecord {
        let outcome =
            VerdictOutcome { decision: StoredDecision::Admit, reason: String::new(), basis: VerdictBasis::default() };
        let pull = AdmittedPull {
            scope: Scope::CLUSTER,
            name: ImageName { host: "a.test".parse().unwrap(), repository: "team/app".parse().unwrap() },
            digest: Digest::sha256(b"manifest"),
            tag: None,
            kind: Kind::Image,
            outcome,
            has_checked_va: true,
            until: None,
            at: Timestamp::UNIX_EPOCH,
            client: "127.0.0.1".into(),
            client_name: None,
            manifest: None,
        };
        LiveRecord::Pull(Box::new(pull), Epoch::new().moment(()))
    }

    #[tokio::test]
    async fn what_was_written_while_the_basis_changed_is_judged_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let events = Events::new(&events::Config::default());
        let records = LiveRecords::new(store.verdicts.clone(), events, Clock::system(), &Metrics::default());
        let change = |rules: &str| {
            let basis = VerdictBasis { databases: String::new(), rules: rules.into() };
            records.basis.store(Some(Arc::new((Epoch::new().moment(()), basis))));
        };
        let mut denials = DenialLimit::default();
        change("before");
        records.write(vec![pull()], &mut denials).await;
        assert!(records.outdated.notified().now_or_never().is_none(), "nothing has changed");
        let mut writing = Box::pin(records.write(vec![pull()], &mut denials));
        assert!(futures_util::poll!(&mut writing).is_pending(), "the database has not answered yet");
        change("after");
        writing.await;
        assert!(records.outdated.notified().now_or_never().is_some());
    }
}
