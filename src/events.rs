//! Events for other systems: made here, queued in the store, and sent to webhooks as CloudEvents.
//!
//! An event is queued in the transaction that changes what it is about. It is removed from the queue when the receiver
//! has accepted it, so it is delivered at least once, with the same `id` each time. Each receiver has its own task and
//! gets events in their order; a slow one delays neither pulls nor other receivers. docs/events.md describes the
//! format.

mod courier;
mod signature;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Notify;

pub use courier::{EventCourier, InvalidReceiver, check_secret};

use crate::oci::Digest;
use crate::store::NewEvent;

/// Where events are sent.
#[derive(Clone)]
pub struct Config {
    /// The receivers, `https://` or `http://` URLs. None: no events are made.
    pub urls: Vec<String>,
    /// Which events are sent.
    pub types: Vec<EventKind>,
    /// The `source` of the events, which tells gates apart.
    pub source: String,
    /// A file with the secret that signs events. It is read for each delivery.
    pub secret_file: Option<PathBuf>,
    /// A file with a bearer token for the receivers. It is read for each delivery.
    pub token_file: Option<PathBuf>,
    /// A PEM file with certificate authorities to trust besides those of the system.
    pub ca: Option<PathBuf>,
    /// The egress proxy, an `http://` URL. `None` uses the proxies of the environment, and an empty text uses no proxy.
    pub proxy: Option<String>,
    /// The time limit for one delivery.
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            types: vec![EventKind::VerdictChanged, EventKind::DatabaseUpdated, EventKind::DatabaseFailed],
            source: "pullgate".into(),
            secret_file: None,
            token_file: None,
            ca: None,
            proxy: None,
            timeout: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for Config {
    /// Omits URLs, which may contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("urls", &self.urls.len()).field("types", &self.types).finish_non_exhaustive()
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventKind {
    /// An advisory database cannot be fetched or used.
    DatabaseFailed,
    /// A new generation of the advisory databases is in use.
    DatabaseUpdated,
    /// A pull was denied by a policy.
    PullDenied,
    /// The decision about an image that was admitted before is another one now.
    VerdictChanged,
}

impl EventKind {
    /// The name in the configuration: `verdict.changed`. The `type` of the event has `io.pullgate.` before it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DatabaseFailed => "database.failed",
            Self::DatabaseUpdated => "database.updated",
            Self::PullDenied => "pull.denied",
            Self::VerdictChanged => "verdict.changed",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventKind {
    type Err = UnknownEvent;

    fn from_str(text: &str) -> Result<Self, UnknownEvent> {
        let kinds = [Self::DatabaseFailed, Self::DatabaseUpdated, Self::PullDenied, Self::VerdictChanged];
        kinds.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownEvent)
    }
}

/// The text is not the name of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an event is one of verdict.changed, pull.denied, database.updated, database.failed")]
pub struct UnknownEvent;

/// Makes events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events(Arc<EventSettings>);

#[derive(Debug)]
struct EventSettings {
    kinds: Vec<EventKind>,
    source: String,
    receivers: Vec<String>,
    /// Notified when there are new events.
    queued: Notify,
}

/// An event in the JSON format of CloudEvents 1.0 (section 3.1, "structured mode").
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
struct CloudEvent<'a, T> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: String,
    subject: &'a str,
    time: Timestamp,
    datacontenttype: &'static str,
    data: &'a T,
}

impl Events {
    /// Makes events for these receivers.
    pub fn new(config: &Config) -> Self {
        Self(Arc::new(EventSettings {
            kinds: config.types.clone(),
            source: config.source.clone(),
            receivers: config.urls.iter().map(|url| receiver_id(url)).collect(),
            queued: Notify::new(),
        }))
    }

    /// Whether anybody wants events of this kind.
    pub fn wants(&self, kind: EventKind) -> bool {
        !self.0.receivers.is_empty() && self.0.kinds.contains(&kind)
    }

    /// The event for each receiver; empty if nobody wants it. Its identifier follows from its content and time, so the
    /// same change always has the same one.
    pub fn of<T: Serialize>(&self, kind: EventKind, subject: &str, at: Timestamp, data: &T) -> Vec<NewEvent> {
        if !self.wants(kind) {
            return Vec::new();
        }
        // Texts, numbers and lists: nothing that JSON could refuse.
        let content = serde_json::to_string(data).unwrap_or_default();
        let id = Digest::sha256(format!("{kind}\n{subject}\n{at}\n{content}").as_bytes()).hex()[..32].to_owned();
        let event = CloudEvent {
            specversion: "1.0",
            id: &id,
            source: &self.0.source,
            kind: format!("io.pullgate.{kind}"),
            subject,
            time: at,
            datacontenttype: "application/json",
            data,
        };
        let body = serde_json::to_string(&event).unwrap_or_default();
        let event = |receiver: &String| NewEvent { id: id.clone(), receiver: receiver.clone(), body: body.clone(), at };
        self.0.receivers.iter().map(event).collect()
    }

    /// Must be called after events were queued.
    pub fn wake(&self) {
        self.0.queued.notify_waiters();
    }
}

/// Identifies a receiver in the queue. The URL itself may contain a secret.
fn receiver_id(url: &str) -> String {
    Digest::sha256(url.as_bytes()).short()
}

#[cfg(test)]
mod tests;
