//! Sends queued events to their receivers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use jiff::{SignedDuration, Timestamp};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use url::Url;

use super::signature::EventSecret;
use super::{Config, Events, receiver_id};
use crate::http_client::{HttpClient, HttpSettings, Network, Reach};
use crate::runtime::{Clock, Metrics, Readiness, Secret, Tasks};
use crate::store::{QueuedEvent, StoreError, VerdictStore};

/// The topic of events in `/readyz`.
const TOPIC: &str = "events";
/// The wait after the first failure. It doubles with each further one.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(1);
/// The longest wait between two attempts.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(10);
/// How many times an event is sent to a receiver that fails or does not answer: for about a week.
const MAX_ATTEMPTS: u32 = 1000;
/// How many times an event is sent to a receiver that rejects it: for about a quarter of an hour.
const MAX_REJECTED: u32 = 10;
/// How often the events that wait are counted: that reads the whole queue.
const COUNT: Duration = Duration::from_secs(1);
/// How often the queue is looked at without a notification.
const LOOK: Duration = Duration::from_secs(30);
/// The maximum number of bytes of an answer that are read.
const MAX_ANSWER: usize = 64 * 1024;

/// Delivers events.
pub struct EventCourier {
    events: Events,
    receivers: Vec<Receiver>,
    store: VerdictStore,
    clock: Clock,
    metrics: EventMetrics,
}

/// One receiver.
#[derive(Clone)]
struct Receiver {
    id: String,
    url: String,
    /// The host, for the log: the URL may contain a secret.
    host: String,
    client: HttpClient,
    secret_file: Option<PathBuf>,
    token: Option<Secret>,
    timeout: Duration,
    readiness: Readiness,
}

#[derive(Clone)]
struct EventMetrics {
    sent: Family<[(&'static str, &'static str); 1], Counter>,
    queued: Gauge,
}

/// Why an event was not accepted.
struct DeliveryFailure {
    why: String,
    /// Whether the receiver rejected the event itself.
    is_rejected: bool,
}

impl EventCourier {
    /// Prepares the delivery of events.
    ///
    /// # Errors
    /// A receiver cannot be used as configured.
    pub fn new(
        config: &Config,
        events: Events,
        store: VerdictStore,
        clock: Clock,
        (metrics, readiness): (&Metrics, &Readiness),
    ) -> Result<Self, InvalidReceiver> {
        let receivers =
            config.urls.iter().map(|url| Receiver::new(url, config, readiness)).collect::<Result<_, _>>()?;
        let metrics = EventMetrics {
            sent: metrics.register(
                "events",
                "Deliveries of events by outcome: delivered, failed, lost",
                Family::default(),
            ),
            queued: metrics.register("events_queued", "Events that wait for their delivery", Gauge::default()),
        };
        // The increase of a series that begins with its first event does not count that event.
        for outcome in ["delivered", "failed", "lost"] {
            drop(metrics.sent.get_or_create(&[("outcome", outcome)]));
        }
        Ok(Self { events, receivers, store, clock, metrics })
    }

    /// Starts the delivery, until shutdown.
    pub async fn start(&self, tasks: &Tasks) {
        let receivers: Vec<String> = self.receivers.iter().map(|receiver| receiver.id.clone()).collect();
        if let Err(error) = self.store.keep_receivers(&receivers).await {
            tracing::warn!(%error, "cannot remove events for receivers that are no longer configured");
        }
        for receiver in self.receivers.iter().cloned() {
            let (events, store, clock) = (self.events.clone(), self.store.clone(), self.clock.clone());
            let route = DeliveryRoute { receiver, events, store, clock, metrics: self.metrics.clone() };
            let stop = tasks.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.stopping() => {}
                    () = route.run() => {}
                }
            });
        }
    }
}

/// The way of events to one receiver.
struct DeliveryRoute {
    receiver: Receiver,
    events: Events,
    store: VerdictStore,
    clock: Clock,
    metrics: EventMetrics,
}

impl DeliveryRoute {
    /// Delivers events in their order, forever. While the first one cannot be delivered, the others wait.
    async fn run(self) {
        // Before the first event, so that a mistake is seen when it is made.
        if let Err(why) = self.receiver.secrets().await {
            tracing::warn!(receiver = self.receiver.host, why, "no event can be delivered");
        }
        let mut counted = None;
        loop {
            // Before the queue is read, so that no event is missed.
            let queued = self.events.0.queued.notified();
            let wait = match self.deliver_first(&mut counted).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::warn!(%error, "the queue of events cannot be read or written");
                    Some(LOOK)
                }
            };
            match wait {
                None => {}
                Some(wait) if wait < LOOK => tokio::time::sleep(wait).await,
                Some(_) => {
                    let _ = tokio::time::timeout(LOOK, queued).await;
                }
            }
        }
    }

    /// Sends the first event. Returns how long to wait until the queue is looked at again.
    async fn deliver_first(&self, counted: &mut Option<Instant>) -> Result<Option<Duration>, StoreError> {
        let first = self.store.first_event(&self.receiver.id).await?;
        if first.is_none() || counted.is_none_or(|counted| counted.elapsed() >= COUNT) {
            self.metrics.queued.set(i64::try_from(self.store.count_events().await?).unwrap_or(i64::MAX));
            *counted = Some(Instant::now());
        }
        let Some(event) = first else { return Ok(Some(LOOK)) };
        let now = self.clock.now();
        if event.next_at > now {
            let wait = event.next_at.duration_since(now).unsigned_abs();
            return Ok(Some(wait.min(LOOK.saturating_sub(Duration::from_millis(1)))));
        }
        let Err(DeliveryFailure { why, is_rejected }) = self.receiver.send(&event, now).await else {
            self.count("delivered");
            self.store.remove_event(event.number).await?;
            return Ok(None);
        };
        let (attempts, host) = (event.attempts.saturating_add(1), &self.receiver.host);
        if attempts >= if is_rejected { MAX_REJECTED } else { MAX_ATTEMPTS } {
            tracing::error!(receiver = host, event = event.id, why, attempts, "gave up on an event");
            self.count("lost");
            self.store.remove_event(event.number).await?;
            return Ok(None);
        }
        tracing::warn!(
            receiver = host,
            event = event.id,
            why,
            attempts,
            "an event cannot be delivered; it is sent again"
        );
        self.count("failed");
        self.store.postpone_event(event.number, attempts, next_attempt(now, attempts)).await?;
        Ok(None)
    }

    fn count(&self, outcome: &'static str) {
        self.metrics.sent.get_or_create(&[("outcome", outcome)]).inc();
    }
}

/// When an event is sent again after this number of failures.
fn next_attempt(now: Timestamp, attempts: u32) -> Timestamp {
    let doubled = FIRST_WAIT.checked_mul(1 << attempts.saturating_sub(1).min(20)).unwrap_or(LONGEST_WAIT);
    now.saturating_add(doubled.min(LONGEST_WAIT)).unwrap_or(now)
}

impl Receiver {
    fn new(url: &str, config: &Config, readiness: &Readiness) -> Result<Self, InvalidReceiver> {
        let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let parsed = parsed.ok_or(InvalidReceiver::Url)?;
        let settings = HttpSettings {
            proxy: config.proxy.clone(),
            ca: config.ca.clone(),
            needs_roots: parsed.scheme() == "https",
            ..HttpSettings::within(config.timeout, config.timeout)
        };
        let client = HttpClient::new(&settings, &Network::default());
        Ok(Self {
            id: receiver_id(url),
            url: parsed.to_string(),
            host: parsed.host_str().unwrap_or_default().to_owned(),
            client: client.map_err(|error| InvalidReceiver::Client(error.to_string()))?,
            secret_file: config.secret_file.clone(),
            token: config.token_file.clone().map(Secret::File),
            timeout: config.timeout,
            readiness: readiness.clone(),
        })
    }

    async fn send(&self, event: &QueuedEvent, now: Timestamp) -> Result<(), DeliveryFailure> {
        let request = self.request(event, now).await.map_err(|why| DeliveryFailure { why, is_rejected: false })?;
        let answer = self.client.fetch(Reach::Configured, request, MAX_ANSWER, self.timeout).await;
        let (status, _) = answer.map_err(|error| DeliveryFailure { why: error.to_string(), is_rejected: false })?;
        if status.is_success() {
            return Ok(());
        }
        let is_rejected = status.is_client_error()
            && !matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
        Err(DeliveryFailure { why: format!("the receiver answered {status}"), is_rejected })
    }

    async fn request(&self, event: &QueuedEvent, now: Timestamp) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
            .header("webhook-id", &event.id)
            .header("webhook-timestamp", now.as_second());
        let (secret, token) = self.secrets().await?;
        if let Some(secret) = secret {
            request = request.header("webhook-signature", secret.sign(&event.id, now.as_second(), &event.body));
        }
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        request.body(Full::new(Bytes::from(event.body.clone()))).map_err(|error| error.to_string())
    }
}

impl Receiver {
    /// The secret and the token for a delivery. While they cannot be used, the gate is degraded, because no event
    /// arrives.
    async fn secrets(&self) -> Result<(Option<EventSecret>, Option<String>), String> {
        let (secret, token) = (self.secret_file.clone(), self.token.clone());
        let reading = tokio::task::spawn_blocking(move || read_secrets(secret.as_deref(), token.as_ref()));
        let read = reading.await.unwrap_or_else(|error| Err(error.to_string()));
        self.readiness.degraded(TOPIC, read.as_ref().err().cloned());
        read
    }
}

/// Checks the file of the secret that signs events.
///
/// # Errors
/// It cannot be read, or is not a secret that can sign.
pub fn check_secret(path: &Path) -> Result<(), String> {
    read_secret(path).map(drop)
}

fn read_secret(path: &Path) -> Result<EventSecret, String> {
    let text = Secret::File(path.to_owned()).read()?;
    EventSecret::parse(&text).map_err(|why| format!("{}: {why}", path.display()))
}

fn read_secrets(
    secret: Option<&Path>,
    token: Option<&Secret>,
) -> Result<(Option<EventSecret>, Option<String>), String> {
    Ok((secret.map(read_secret).transpose()?, token.map(Secret::read_line).transpose()?))
}

/// Why a receiver cannot be used as configured.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidReceiver {
    /// The connection settings.
    #[error("{0}")]
    Client(String),
    /// The URL, which is not repeated because it may contain a secret.
    #[error("a receiver is an http:// or https:// URL with a host")]
    Url,
}
