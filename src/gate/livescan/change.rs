//! Verdicts that changed: the log, the metric and the event.

use jiff::Timestamp;
use serde::Serialize;

use super::LiveRecords;
use crate::events::EventKind;
use crate::oci::{Digest, Tag};
use crate::store::{NewEvent, StoredVerdict, VerdictOutcome};

/// The data of the event `verdict.changed`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangedVerdict<'a> {
    image: String,
    tag: Option<&'a str>,
    digest: Digest,
    kind: &'static str,
    namespace: String,
    cause: &'static str,
    from: ChangedOutcome<'a>,
    to: ChangedOutcome<'a>,
    last_pulled: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangedOutcome<'a> {
    decision: &'static str,
    reason: &'a str,
    databases: &'a str,
    rules: &'a str,
}

impl<'a> From<&'a VerdictOutcome> for ChangedOutcome<'a> {
    fn from(outcome: &'a VerdictOutcome) -> Self {
        let VerdictOutcome { decision, reason, basis } = outcome;
        Self { decision: decision.as_str(), reason, databases: &basis.databases, rules: &basis.rules }
    }
}

impl LiveRecords {
    /// The events of a verdict that changed.
    pub(super) fn change_events(&self, verdict: &StoredVerdict) -> Vec<NewEvent> {
        let Some((before, at)) = &verdict.change else { return Vec::new() };
        let data = ChangedVerdict {
            image: verdict.name.to_string(),
            tag: verdict.tag.as_ref().map(Tag::as_str),
            digest: verdict.digest,
            kind: verdict.kind.as_str(),
            namespace: verdict.scope.to_string(),
            cause: verdict.cause().unwrap_or_default(),
            from: before.into(),
            to: (&verdict.outcome).into(),
            last_pulled: verdict.pulled_at,
        };
        let subject = format!("{}@{}", verdict.name, verdict.digest);
        self.events.of(EventKind::VerdictChanged, &subject, *at, &data)
    }

    /// Reports verdicts that changed, after they were stored with their events.
    pub(super) fn changed(&self, verdicts: &[StoredVerdict]) {
        for verdict in verdicts {
            let Some((before, _)) = &verdict.change else { continue };
            let now = &verdict.outcome;
            tracing::warn!(
                image = %format_args!("{}@{}", verdict.name, verdict.digest),
                tag = verdict.tag.as_ref().map(Tag::as_str),
                namespace = %verdict.scope,
                from = before.decision.as_str(),
                to = now.decision.as_str(),
                databases.from = before.basis.databases,
                databases.to = now.basis.databases,
                reason = now.reason,
                "the verdict on an admitted image has changed"
            );
            self.metrics.changes.get_or_create(&[("decision", now.decision.as_str())]).inc();
        }
        if !verdicts.is_empty() {
            // The next pull of any of them is recorded, whoever pulls it.
            self.noted.clear();
            self.events.wake();
        }
    }

    /// Queues events that belong to no other change in the database.
    pub(super) async fn queue(&self, events: &[NewEvent]) {
        match self.store.queue_events(events).await {
            Ok(()) => self.events.wake(),
            Err(error) => tracing::error!(%error, "an event was lost: it cannot be queued"),
        }
    }
}
