//! Traces of requests for an OpenTelemetry collector, by OTLP over HTTP in its JSON encoding.
//!
//! A request's spans are made from what was learned about it when it has ended, queued without waiting and sent in
//! batches by one task. If the collector does not keep up, traces are dropped and counted: a pull never waits for it.

mod encode;
mod settings;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Request;
use http::header;
use http_body_util::Full;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::http_client::{HttpClient, HttpSettings, Network, Reach};
use crate::runtime::{Clock, Learned, LogLimit, Metrics, SpanContext, Tasks};
use encode::encode;
pub use settings::{Config, InvalidTracing};
use settings::{Sampler, TraceCollector};

/// How many traces wait at most.
const QUEUE: usize = 2048;
/// How many traces are sent together at most.
const BATCH: usize = 256;
/// How long a trace waits for others before it is sent.
const GATHER: Duration = Duration::from_secs(2);
/// The maximum size of the collector's answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// How long sending may take after the listeners have begun to stop. They wait one second.
const LAST: Duration = Duration::from_millis(800);
/// How often failures are logged.
static FAILURES: LogLimit = LogLimit::new(1, Duration::from_secs(60));

/// Sends traces. Cheap to clone. The sending task ends when all clones are dropped.
#[derive(Clone, Debug)]
pub struct TraceExporter {
    clock: Clock,
    queue: mpsc::Sender<RequestSpan>,
    sampler: Sampler,
    counts: TraceCounts,
}

/// A request that has ended.
#[derive(Debug)]
pub struct RequestSpan {
    /// What is known about it. Without a span in it, nothing is sent.
    pub learned: Learned,
    /// The span of the client, if it sent one.
    pub parent: Option<SpanContext>,
    /// The name: `GET /v2/{name}/manifests/{reference}`.
    pub name: String,
    /// When it began, by the clock of the system and by the one that measured the phases.
    pub started: (SystemTime, std::time::Instant),
    /// The time to the end of its response.
    pub took: Duration,
    /// The status of the response; 0 if there was none.
    pub status: u16,
    /// Attributes by the semantic conventions of OpenTelemetry.
    pub attributes: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug)]
struct TraceCounts(Family<OutcomeLabels, Counter>);

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OutcomeLabels {
    outcome: &'static str,
}

impl TraceCounts {
    fn add(&self, outcome: &'static str, traces: usize) {
        self.0.get_or_create(&OutcomeLabels { outcome }).inc_by(traces as u64);
    }
}

/// Checks the configuration and the variables of the environment. Returns a warning, if they ask for a protocol that
/// pullgate does not have.
///
/// # Errors
/// They cannot be used.
pub fn check(config: &Config) -> Result<Option<String>, InvalidTracing> {
    let variable = |name: &str| std::env::var(name).ok();
    Ok(settings::read(config, variable)?.and_then(|_| settings::other_protocol(variable)))
}

impl TraceExporter {
    /// Starts the export; `None` if no endpoint is configured, neither in the file nor in the environment.
    ///
    /// # Errors
    /// The configuration or a variable of the environment cannot be used.
    pub fn start(
        config: &Config,
        clock: &Clock,
        tasks: &Tasks,
        metrics: &Metrics,
    ) -> Result<Option<Self>, InvalidTracing> {
        let help = "Traces of requests by outcome: sent, failed, dropped";
        let counts = TraceCounts(metrics.register("traces", help, Family::default()));
        let Some((collector, sampler)) = settings::read(config, |name| std::env::var(name).ok())? else {
            return Ok(None);
        };
        let settings = HttpSettings {
            ca: config.ca.clone(),
            needs_roots: collector.url.scheme() == "https",
            ..HttpSettings::within(collector.timeout, collector.timeout)
        };
        let client = HttpClient::new(&settings, &Network::default());
        let client = client.map_err(|error| InvalidTracing::new(error.to_string()))?;
        tracing::info!(endpoint = %collector.place(), "traces are sent");
        let (queue, traces) = mpsc::channel(QUEUE);
        let sending = Sending { client, collector, counts: counts.clone(), tasks: tasks.clone() };
        tasks.spawn(sending.run(traces));
        Ok(Some(Self { clock: clock.clone(), queue, sampler, counts }))
    }

    /// The current time, at which a request begins.
    pub fn now(&self) -> SystemTime {
        self.clock.now().into()
    }

    /// The span of a request with this `traceparent` header, and the span of the client.
    pub fn begin(&self, traceparent: Option<&str>) -> (SpanContext, Option<SpanContext>) {
        match traceparent.and_then(SpanContext::parse) {
            Some(parent) => (parent.child(), Some(parent)),
            None => (SpanContext::root(self.sampler.samples()), None),
        }
    }

    /// Queues the trace of a request, if it is sampled and there is room.
    pub fn finish(&self, span: RequestSpan) {
        let is_sampled = span.learned.span.is_some_and(|context| context.is_sampled);
        if is_sampled && self.queue.try_send(span).is_err() {
            self.counts.add("dropped", 1);
        }
    }
}

/// Sends what is queued.
struct Sending {
    client: HttpClient,
    collector: TraceCollector,
    counts: TraceCounts,
    tasks: Tasks,
}

impl Sending {
    /// Runs until the last exporter is dropped and everything is sent.
    async fn run(self, mut traces: mpsc::Receiver<RequestSpan>) {
        while let Some(first) = traces.recv().await {
            let (mut batch, end) = (vec![first], Instant::now() + GATHER);
            while batch.len() < BATCH
                && let Ok(Some(next)) = timeout_at(end, traces.recv()).await
            {
                batch.push(next);
            }
            let outcome = tokio::select! {
                outcome = self.send(&batch) => outcome,
                () = self.too_late() => Err("the process stops".to_owned()),
            };
            self.counts.add(if outcome.is_ok() { "sent" } else { "failed" }, batch.len());
            if let Err(why) = outcome
                && let Some(omitted) = FAILURES.admit()
            {
                tracing::warn!(endpoint = %self.collector.place(), %why, omitted, "traces cannot be sent");
            }
        }
    }

    /// Resolves when shutdown does not wait any longer.
    async fn too_late(&self) {
        self.tasks.stopping().await;
        tokio::time::sleep(LAST).await;
    }

    async fn send(&self, batch: &[RequestSpan]) -> Result<(), String> {
        let TraceCollector { url, headers, timeout, resource } = &self.collector;
        let body = encode(batch, resource).to_string();
        let mut request = Request::post(url.as_str()).header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
        let answer = self.client.fetch(Reach::Configured, request, MAX_ANSWER, *timeout).await;
        match answer.map_err(|error| error.to_string())? {
            (status, _) if status.is_success() => Ok(()),
            (status, _) => Err(format!("the collector answered {status}")),
        }
    }
}

#[cfg(test)]
mod tests;
