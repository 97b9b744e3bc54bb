//! Facts about a request that are collected on its way through the gate, for its log line, `Server-Timing` and its
//! trace.
//!
//! It belongs to the task that serves the request, so that what happens deep in the gate can be noted without a
//! parameter in every call. Work that the request starts and shares with others ([`super::Flights`]) carries it on.
//! Where no request is followed, such as in prefetch, nothing is noted.

mod span;

use std::fmt::Write as _;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;

pub use span::SpanContext;

tokio::task_local! {
    static CURRENT: RequestTrace;
}

/// What is learned about one request. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RequestTrace(Arc<Mutex<Learned>>);

/// What the gate says about a request.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    /// The image, with its registry.
    pub image: String,
    /// The host of the upstream; empty if none was found.
    pub upstream: String,
    /// The decision, as in audit records; empty if there was none.
    pub decision: &'static str,
    /// The reasons for the decision; empty for an admission.
    pub reason: String,
    /// Where the content is from.
    pub source: Option<ContentSource>,
    /// Whether a manifest was fetched from the upstream since this was last reset.
    pub has_fetched: bool,
    /// The phases in the order of their ends. A phase may occur several times.
    pub phases: Vec<PhaseTime>,
    /// The span of the request, if it is part of a distributed trace.
    pub span: Option<SpanContext>,
    /// Requests to upstreams, if the span is sampled.
    pub calls: Vec<UpstreamCall>,
}

/// Where content is from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ContentSource {
    /// The cache.
    Hit,
    /// A download that another request started.
    Fill,
    /// The upstream.
    Miss,
    /// The cache, while the upstream does not answer.
    Stale,
}

impl ContentSource {
    /// The name in log lines and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Fill => "fill",
            Self::Miss => "miss",
            Self::Stale => "stale",
        }
    }
}

/// A step on the way of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Selecting the policy entries that apply.
    Select,
    /// Finding out which digest content trust has signed for a tag.
    Pin,
    /// Resolving a tag and loading the manifest.
    Resolve,
    /// Finding out what the manifest is.
    Classify,
    /// Gathering signatures and vulnerabilities.
    Evidence,
    /// Weighing the evidence.
    Decide,
    /// Writing what was learned to the database of the gate.
    Record,
    /// Opening the content of a blob.
    Open,
}

impl Phase {
    /// All phases, in the order in which they usually occur.
    const ALL: [Self; 8] = [
        Self::Select,
        Self::Pin,
        Self::Resolve,
        Self::Classify,
        Self::Evidence,
        Self::Decide,
        Self::Record,
        Self::Open,
    ];

    /// The name in `Server-Timing` and in traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Pin => "pin",
            Self::Resolve => "resolve",
            Self::Classify => "classify",
            Self::Evidence => "evidence",
            Self::Decide => "decide",
            Self::Record => "record",
            Self::Open => "open",
        }
    }
}

/// When a phase took place.
#[derive(Clone, Copy, Debug)]
pub struct PhaseTime {
    /// The phase.
    pub phase: Phase,
    /// When it began.
    pub started: Instant,
    /// How long it took.
    pub took: Duration,
    /// Whether it was finished; otherwise the request ended before it.
    pub is_complete: bool,
}

/// A request to an upstream, as a part of a trace.
#[derive(Clone, Debug)]
pub struct UpstreamCall {
    /// The span of the request.
    pub span: SpanContext,
    /// The host and the method.
    pub target: (String, String),
    /// The status of the response, if there was one.
    pub status: Option<u16>,
    /// When it was sent.
    pub started: Instant,
    /// The time to the headers of the response.
    pub took: Duration,
}

impl RequestTrace {
    /// Runs the work of the request.
    pub async fn follow<F: Future>(&self, work: F) -> F::Output {
        CURRENT.scope(self.clone(), work).await
    }

    /// The request that this task serves.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Notes something about the request that this task serves, if it serves one.
    pub fn note(change: impl FnOnce(&mut Learned)) {
        // Outside of a request there is nothing to note.
        let _ = CURRENT.try_with(|trace| change(&mut trace.learned()));
    }

    /// Notes where the content is from.
    pub fn note_source(source: ContentSource) {
        Self::note(|learned| learned.source = Some(source));
    }

    /// Runs a phase of the request that this task serves, and measures it, also if it is given up.
    pub async fn phase<F: Future>(phase: Phase, work: F) -> F::Output {
        let mut measured = MeasuredPhase { phase, started: Instant::now(), is_complete: false };
        let done = work.await;
        measured.is_complete = true;
        done
    }

    /// Begins a request to an upstream. `None` if it is not part of a distributed trace.
    pub fn call(host: &str, method: &str) -> Option<CallInProgress> {
        let trace = Self::current()?;
        let span = trace.learned().span?.child();
        let (target, started) = ((host.to_owned(), method.to_owned()), Instant::now());
        let call = UpstreamCall { span, target, status: None, started, took: Duration::ZERO };
        Some(CallInProgress { trace, call })
    }

    /// What is known so far.
    pub fn learned(&self) -> MutexGuard<'_, Learned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request to an upstream that has no response yet. It is noted when this is dropped.
#[derive(Debug)]
pub struct CallInProgress {
    trace: RequestTrace,
    call: UpstreamCall,
}

impl CallInProgress {
    /// The value of the `traceparent` header of the request.
    pub fn traceparent(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.call.span.to_string()).ok()
    }

    /// Notes the status of the response.
    pub fn answered(mut self, status: Option<u16>) {
        self.call.status = status;
    }
}

impl Drop for CallInProgress {
    fn drop(&mut self) {
        if self.call.span.is_sampled {
            let call = UpstreamCall { took: self.call.started.elapsed(), ..self.call.clone() };
            self.trace.learned().calls.push(call);
        }
    }
}

/// Notes a phase when it is dropped.
struct MeasuredPhase {
    phase: Phase,
    started: Instant,
    is_complete: bool,
}

impl Drop for MeasuredPhase {
    fn drop(&mut self) {
        let Self { phase, started, is_complete } = *self;
        let time = PhaseTime { phase, started, took: started.elapsed(), is_complete };
        RequestTrace::note(|learned| learned.phases.push(time));
    }
}

impl Learned {
    /// Whether the request ended while a phase was running.
    pub fn was_given_up(&self, phase: Phase) -> bool {
        self.phases.iter().any(|time| time.phase == phase && !time.is_complete)
    }

    /// The phases for a `Server-Timing` header (W3C), in milliseconds: `select;dur=0.1, resolve;dur=23.5`.
    pub fn server_timing(&self) -> String {
        let mut text = String::new();
        for phase in Phase::ALL {
            let mut times = self.phases.iter().filter(|time| time.phase == phase).map(|time| time.took).peekable();
            if times.peek().is_some() {
                let took: Duration = times.sum();
                // Writing to a string cannot fail.
                let _ = write!(text, "{};dur={:.1}, ", phase.as_str(), took.as_secs_f64() * 1000.0);
            }
        }
        text.truncate(text.len().saturating_sub(2));
        text
    }
}

/// Carries the request that this task serves into work that runs in another task.
pub(super) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let trace = RequestTrace::current();
    async move {
        match trace {
            Some(trace) => trace.follow(work).await,
            None => work.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Flights, Tasks};

    #[tokio::test]
    async fn shared_work_notes_for_the_request_that_started_it() {
        let (trace, other) = (RequestTrace::default(), RequestTrace::default());
        let flights = Flights::new(Tasks::new());
        let work = || async {
            RequestTrace::note_source(ContentSource::Miss);
            RequestTrace::phase(Phase::Resolve, tokio::task::yield_now()).await;
        };
        let (one, two) = tokio::join!(
            trace.follow(flights.join(1, work)),
            other.follow(flights.join(1, || async { unreachable!("it is shared") })),
        );
        assert_eq!((one, two), (Some(()), Some(())));
        let learned = trace.learned();
        assert_eq!((learned.source, learned.phases.len()), (Some(ContentSource::Miss), 1));
        assert!(other.learned().phases.is_empty());
        assert!(RequestTrace::current().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_phase_that_is_given_up_is_noted() {
        let trace = RequestTrace::default();
        let endless = RequestTrace::phase(Phase::Evidence, std::future::pending::<()>());
        trace.follow(tokio::time::timeout(Duration::from_secs(1), endless)).await.unwrap_err();
        assert_eq!(trace.learned().phases[0].phase, Phase::Evidence);
        assert!(trace.learned().was_given_up(Phase::Evidence) && !trace.learned().was_given_up(Phase::Resolve));
        trace.follow(RequestTrace::phase(Phase::Resolve, std::future::ready(()))).await;
        assert!(!trace.learned().was_given_up(Phase::Resolve));
    }

    #[test]
    fn server_timing_sums_each_phase() {
        let time = |phase, took| PhaseTime {
            phase,
            started: Instant::now(),
            took: Duration::from_micros(took),
            is_complete: true,
        };
        let phases = vec![time(Phase::Open, 12_340), time(Phase::Select, 100), time(Phase::Select, 50)];
        let learned = Learned { phases, ..Learned::default() };
        assert_eq!(learned.server_timing(), "select;dur=0.1, open;dur=12.3");
        assert_eq!(Learned::default().server_timing(), "");
    }
}
