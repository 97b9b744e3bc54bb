//! Limits on requests to one upstream: concurrent requests, bandwidth, a pull budget, and back-off on request.
//!
//! All timing uses the runtime's clock, and every wait is bounded.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{HeaderMap, HeaderName};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Error;
use super::config::Config;
use super::headers::text;
use super::metrics::LimitMetrics;

/// The maximum back-off, whatever a registry asks for: Docker Hub counts over this period.
const MAX_HOLD: Duration = Duration::from_secs(6 * 3600);
/// How much unused bandwidth is carried over: timers are coarser than the data that a fast connection delivers between
/// two ticks.
const CREDIT: Duration = Duration::from_millis(100);
/// One in this many turns is reserved for requests other than blobs: downloads take long, and decisions must not wait
/// for them.
const SHARE_BESIDE_BLOBS: usize = 8;
/// One in this many turns is reserved for manifests and HEAD requests: lists of tags take as long as clients read them.
const SHARE_OF_MANIFESTS: usize = 16;
/// Lists get one in this many turns.
const SHARE_OF_LISTS: usize = 4;
/// The shortest time for which a blob waits for its turn: downloads take long, and its client has no better source.
const BLOB_PATIENCE: Duration = Duration::from_secs(120);

/// The maximum number of concurrent requests to one auxiliary service, such as a notary server.
const SERVICE_TURNS: usize = 8;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATE_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");

/// Kinds of requests that registries count and refuse separately.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RequestLane {
    /// The content of a blob.
    Blob,
    /// Tags and referrers.
    List,
    /// A HEAD request, which no registry counts as a pull.
    Look,
    /// The content of a manifest, which Docker Hub counts as a pull.
    Pull,
}

const LANES: usize = 4;

/// The limits of one upstream, and their current use.
pub(super) struct UpstreamLimits {
    host: String,
    turns: Arc<Semaphore>,
    blob_turns: Arc<Semaphore>,
    /// Those of blobs that are streamed to clients: they last as long as a client reads.
    relay_turns: Arc<Semaphore>,
    list_turns: Arc<Semaphore>,
    /// Those of blobs and lists together.
    long_turns: Arc<Semaphore>,
    /// How long a request waits for its turn, except for a blob.
    patience: Duration,
    /// What allows no more concurrent requests, for messages.
    bound: &'static str,
    pace: Option<Arc<Pace>>,
    pulls: Option<Budget>,
    /// The end of the back-off of each lane.
    holds: Mutex<[Option<Instant>; LANES]>,
    metrics: LimitMetrics,
    received: Counter,
}

impl UpstreamLimits {
    pub(super) fn new(config: &Config, metrics: LimitMetrics) -> Arc<Self> {
        let turns = config.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        let blob_turns = turns - turns / SHARE_BESIDE_BLOBS;
        metrics.begin(config.host.as_str());
        Arc::new(Self {
            host: config.host.to_string(),
            turns: Arc::new(Semaphore::new(turns)),
            blob_turns: Arc::new(Semaphore::new(blob_turns)),
            relay_turns: Arc::new(Semaphore::new((blob_turns / 2).max(1))),
            list_turns: Arc::new(Semaphore::new((turns / SHARE_OF_LISTS).max(1))),
            long_turns: Arc::new(Semaphore::new(turns - turns / SHARE_OF_MANIFESTS)),
            patience: config.header_timeout,
            bound: "max_connections",
            pace: config.max_bandwidth.map(|limit| Arc::new(Pace::new(limit))),
            pulls: config.pull_limit.map(|count| Budget::new(count, config.pull_limit_window)),
            holds: Mutex::default(),
            received: metrics.received(config.host.as_str()),
            metrics,
        })
    }

    /// The limits of an auxiliary service: a small number of separate turns, so that a service that does not answer
    /// takes none of the registry's, and a separate back-off. Bandwidth is limited together with the registry's.
    pub(super) fn of_service(&self) -> Arc<Self> {
        Arc::new(Self {
            host: self.host.clone(),
            turns: Arc::new(Semaphore::new(SERVICE_TURNS)),
            blob_turns: Arc::new(Semaphore::new(SERVICE_TURNS)),
            relay_turns: Arc::new(Semaphore::new(SERVICE_TURNS)),
            list_turns: Arc::new(Semaphore::new(SERVICE_TURNS)),
            long_turns: Arc::new(Semaphore::new(SERVICE_TURNS)),
            patience: self.patience,
            bound: "as many as one auxiliary service may get,",
            pace: self.pace.clone(),
            pulls: None,
            holds: Mutex::default(),
            metrics: self.metrics.clone(),
            received: self.received.clone(),
        })
    }

    /// The turns of blobs that are streamed to clients: half of those of all blobs.
    pub(super) fn relay_turns(&self) -> &Arc<Semaphore> {
        &self.relay_turns
    }

    /// Acquires the turn that a request needs to be sent. Waits, for a bounded time, while all are taken.
    pub(super) async fn turn(self: &Arc<Self>, lane: RequestLane) -> Result<Turn, Error> {
        self.refuse_held(lane)?;
        let patience = if lane == RequestLane::Blob { self.patience.max(BLOB_PATIENCE) } else { self.patience };
        let end = Instant::now() + patience;
        let needed: &[_] = match lane {
            RequestLane::Blob => &[&self.blob_turns, &self.long_turns, &self.turns],
            RequestLane::List => &[&self.list_turns, &self.long_turns, &self.turns],
            RequestLane::Look | RequestLane::Pull => &[&self.turns],
        };
        let mut permits = Vec::with_capacity(needed.len());
        for of in needed {
            permits.push(self.permit(of, patience, end).await?);
        }
        // The lane may have been refused to others in the meantime.
        self.refuse_held(lane)?;
        self.spend(lane)?;
        self.metrics.in_flight(&self.host, 1);
        Ok(Turn { limits: self.clone(), _permits: permits })
    }

    async fn permit(
        &self,
        of: &Arc<Semaphore>,
        patience: Duration,
        end: Instant,
    ) -> Result<OwnedSemaphorePermit, Error> {
        match timeout_at(end, of.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            // Nothing closes it.
            Ok(Err(_)) | Err(_) => {
                self.metrics.held(&self.host);
                let (host, limit, bound) = (&self.host, patience.as_secs_f32(), self.bound);
                Err(Error::Busy(format!("{host}: no turn within {limit} s: {bound} requests are in flight")))
            }
        }
    }

    fn refuse_held(&self, lane: RequestLane) -> Result<(), Error> {
        let until = self.holds()[lane as usize];
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            None | Some(Duration::ZERO) => Ok(()),
            Some(rest) => Err(self.limited(rest)),
        }
    }

    fn spend(&self, lane: RequestLane) -> Result<(), Error> {
        match &self.pulls {
            Some(budget) if lane == RequestLane::Pull => budget.spend().map_err(|rest| self.limited(rest)),
            _ => Ok(()),
        }
    }

    fn limited(&self, rest: Duration) -> Error {
        self.metrics.held(&self.host);
        Error::RateLimited { host: self.host.clone(), retry_after: Some(whole_seconds(rest)) }
    }

    /// Records that the registry refused a request, and for how long.
    pub(super) fn hold(&self, lane: RequestLane, wait: Duration) {
        let wait = wait.min(MAX_HOLD);
        tracing::warn!(upstream = %self.host, ?lane, seconds = wait.as_secs(), "the registry requested a back-off");
        let until = Instant::now() + wait;
        let mut holds = self.holds();
        let known = &mut holds[lane as usize];
        *known = Some(known.map_or(until, |known| known.max(until)));
    }

    /// Counts a request that the registry refused, whether it says for how long or not.
    pub(super) fn count_refusal(&self) {
        self.metrics.held(&self.host);
    }

    /// Ends the back-off after a success. Returns whether there was one.
    pub(super) fn lift(&self, lane: RequestLane) -> bool {
        self.holds()[lane as usize].take().is_some()
    }

    /// For how many seconds the longest back-off still lasts, if there is one.
    pub(super) fn rest(&self) -> Option<u64> {
        let until = self.holds().iter().flatten().max().copied()?;
        let rest = until.saturating_duration_since(Instant::now());
        (!rest.is_zero()).then(|| whole_seconds(rest))
    }

    /// Records the remaining quota reported by Docker Hub: `76;w=21600`.
    pub(super) fn note_quota(&self, headers: &HeaderMap) {
        let count = |name| text(headers, name)?.split(';').next()?.trim().parse::<u32>().ok();
        self.metrics.quota(&self.host, count(&RATE_REMAINING), count(&RATE_LIMIT));
    }

    fn holds(&self) -> MutexGuard<'_, [Option<Instant>; LANES]> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rounded up, so that a client that waits for the stated time is not too early.
fn whole_seconds(rest: Duration) -> u64 {
    rest.as_secs() + u64::from(rest.subsec_nanos() > 0)
}

/// The turn of one request, from before it is sent until its response is read or dropped.
pub(super) struct Turn {
    limits: Arc<UpstreamLimits>,
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Turn {
    /// Does not count the request as a pull: the registry has nothing to send, and counts what it sends. Otherwise a
    /// client that polls a missing tag would use up the pulls of all clients.
    pub(super) fn unspend(&self, lane: RequestLane) {
        if let Some(budget) = self.limits.pulls.as_ref().filter(|_| lane == RequestLane::Pull) {
            budget.unspend();
        }
    }

    /// Counts bytes that have arrived, and waits until the bandwidth limit allows them.
    pub(super) async fn pay(&self, bytes: usize) {
        self.limits.received.inc_by(bytes as u64);
        if let Some(pace) = &self.limits.pace {
            sleep_until(pace.take(bytes)).await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.limits.metrics.in_flight(&self.limits.host, -1);
    }
}

/// The bandwidth limit, in bytes per second for all bodies together. Chunks share one queue, so no body starves
/// another.
struct Pace {
    per_second: f64,
    /// The time up to which received bytes are accounted for.
    paid: Mutex<Instant>,
}

impl Pace {
    fn new(per_second: u64) -> Self {
        Self { per_second: per_second.max(1) as f64, paid: Mutex::new(Instant::now()) }
    }

    /// Accounts for these bytes, and returns the time from which more may be read.
    fn take(&self, bytes: usize) -> Instant {
        let now = Instant::now();
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let from = (*paid).max(now.checked_sub(CREDIT).unwrap_or(now));
        *paid = from + Duration::from_secs_f64(bytes as f64 / self.per_second);
        *paid
    }
}

/// Allows a number of pulls in any window of time, with a log of past pulls: a refilling bucket would allow twice as
/// many in the first window.
struct Budget {
    count: usize,
    window: Duration,
    spent: Mutex<VecDeque<Instant>>,
}

impl Budget {
    fn new(count: u32, window: Duration) -> Self {
        Self { count: count as usize, window, spent: Mutex::default() }
    }

    /// Uses one pull, or returns the time until one is available.
    fn spend(&self) -> Result<(), Duration> {
        let now = Instant::now();
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        while spent.front().is_some_and(|first| now.duration_since(*first) >= self.window) {
            spent.pop_front();
        }
        if spent.len() < self.count {
            spent.push_back(now);
            return Ok(());
        }
        Err(spent.front().map_or(self.window, |first| self.window.saturating_sub(now.duration_since(*first))))
    }

    /// Takes the latest pull back. With several at the same time, which one it was makes no difference that matters.
    fn unspend(&self) {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).pop_back();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;
    use crate::runtime::Metrics;

    fn limits(change: impl FnOnce(&mut Config)) -> Arc<UpstreamLimits> {
        let mut config = Config::new("a.test".parse().unwrap(), "http://a.test");
        change(&mut config);
        UpstreamLimits::new(&config, LimitMetrics::new(&Metrics::default()))
    }

    fn limited(seconds: u64) -> Option<Error> {
        Some(Error::RateLimited { host: "a.test".into(), retry_after: Some(seconds) })
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_turn_is_bounded() {
        let limits = limits(|config| config.max_connections = 1);
        let turn = limits.turn(RequestLane::Blob).await.unwrap();
        let began = Instant::now();
        let error = limits.turn(RequestLane::Pull).await.err().unwrap();
        assert!(matches!(&error, Error::Busy(why) if why.contains("max_connections")), "{error}");
        assert_eq!(began.elapsed(), Duration::from_secs(15), "header_timeout");
        let (waiting, ()) = tokio::join!(limits.turn(RequestLane::Look), async {
            advance(Duration::from_secs(1)).await;
            drop(turn);
        });
        waiting.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn some_turns_are_reserved_for_other_requests() {
        let limits = limits(|config| config.max_connections = 16);
        let mut turns = Vec::new();
        while let Ok(turn) = limits.turn(RequestLane::Blob).await {
            turns.push(turn);
        }
        assert_eq!(turns.len(), 14);
        turns.push(limits.turn(RequestLane::Pull).await.unwrap());
        turns.push(limits.turn(RequestLane::List).await.unwrap());
        assert!(limits.turn(RequestLane::Look).await.is_err());
    }

    /// A list of tags takes as long as its client reads it.
    #[tokio::test(start_paused = true)]
    async fn lists_and_blobs_leave_turns_to_manifests() {
        let limits = limits(|config| config.max_connections = 32);
        let mut turns = Vec::new();
        while let Ok(turn) = limits.turn(RequestLane::List).await {
            turns.push(turn);
        }
        assert_eq!(turns.len(), 8);
        while let Ok(turn) = limits.turn(RequestLane::Blob).await {
            turns.push(turn);
        }
        assert_eq!(turns.len(), 30);
        turns.push(limits.turn(RequestLane::Pull).await.unwrap());
        turns.push(limits.turn(RequestLane::Look).await.unwrap());
        assert!(limits.turn(RequestLane::Look).await.is_err());
    }

    /// Who wants a layer can only wait for it; who asks about an image wants an answer.
    #[tokio::test(start_paused = true)]
    async fn blobs_wait_longer_for_their_turn() {
        let limits = limits(|config| config.max_connections = 1);
        let turn = limits.turn(RequestLane::Blob).await.unwrap();
        let waited = async |lane| {
            let began = Instant::now();
            assert!(matches!(limits.turn(lane).await, Err(Error::Busy(_))));
            began.elapsed().as_secs()
        };
        let (blob, list, look, pull) = tokio::join!(
            waited(RequestLane::Blob),
            waited(RequestLane::List),
            waited(RequestLane::Look),
            waited(RequestLane::Pull)
        );
        assert_eq!((blob, list, look, pull), (120, 15, 15, 15));
        let (waiting, ()) = tokio::join!(limits.turn(RequestLane::Blob), async {
            advance(Duration::from_secs(100)).await;
            drop(turn);
        });
        waiting.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn services_do_not_use_the_registrys_turns() {
        let limits = limits(|config| config.max_connections = 1);
        let service = limits.of_service();
        let mut turns = Vec::new();
        for _ in 0..8 {
            turns.push(service.turn(RequestLane::List).await.unwrap());
        }
        let error = service.turn(RequestLane::List).await.err().unwrap();
        assert!(matches!(&error, Error::Busy(why) if why.contains("one auxiliary service")), "{error}");
        limits.turn(RequestLane::List).await.unwrap();
        limits.hold(RequestLane::List, Duration::from_secs(60));
        drop(turns);
        service.turn(RequestLane::List).await.expect("its back-off is separate");
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_the_bandwidth() {
        let limits = limits(|config| config.max_bandwidth = Some(1000));
        let (one, two) = (limits.turn(RequestLane::Blob).await.unwrap(), limits.turn(RequestLane::Pull).await.unwrap());
        let began = Instant::now();
        tokio::join!(
            async {
                for _ in 0..50 {
                    one.pay(100).await;
                }
            },
            async {
                for _ in 0..50 {
                    two.pay(100).await;
                }
            }
        );
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(9_900) && took <= Duration::from_millis(10_200), "{took:?}");
        // Unused bandwidth is carried over only for a moment.
        advance(Duration::from_secs(3600)).await;
        assert!(timeout(Duration::from_millis(800), one.pay(1000)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn only_pulls_are_counted_in_any_window() {
        let hour = Duration::from_secs(3600);
        let limits = limits(|config| (config.pull_limit, config.pull_limit_window) = (Some(2), hour));
        drop(limits.turn(RequestLane::Pull).await.unwrap());
        advance(Duration::from_millis(600_500)).await;
        drop(limits.turn(RequestLane::Pull).await.unwrap());
        assert_eq!(limits.turn(RequestLane::Pull).await.err(), limited(3000), "rounded up");
        for lane in [RequestLane::Blob, RequestLane::List, RequestLane::Look] {
            limits.turn(lane).await.unwrap();
        }
        advance(Duration::from_secs(3000)).await;
        let turn = limits.turn(RequestLane::Pull).await.unwrap();
        assert_eq!(limits.turn(RequestLane::Pull).await.err(), limited(600), "the second one's window");
        turn.unspend(RequestLane::Look);
        assert_eq!(limits.turn(RequestLane::Pull).await.err(), limited(600), "only pulls are counted");
        turn.unspend(RequestLane::Pull);
        limits.turn(RequestLane::Pull).await.expect("there was nothing to send");
    }

    #[tokio::test(start_paused = true)]
    async fn refused_lanes_back_off_for_the_requested_time() {
        let limits = limits(|_| {});
        limits.hold(RequestLane::Pull, Duration::from_secs(60));
        assert_eq!(limits.turn(RequestLane::Pull).await.err(), limited(60));
        for lane in [RequestLane::Blob, RequestLane::List, RequestLane::Look] {
            limits.turn(lane).await.unwrap();
        }
        limits.hold(RequestLane::Pull, Duration::from_secs(1));
        assert_eq!(
            limits.turn(RequestLane::Pull).await.err(),
            limited(60),
            "a shorter back-off does not end a longer one"
        );
        advance(Duration::from_secs(60)).await;
        limits.turn(RequestLane::Pull).await.unwrap();
        limits.hold(RequestLane::Look, Duration::MAX);
        assert_eq!(limits.turn(RequestLane::Look).await.err(), limited(6 * 3600), "back-off is bounded");
        limits.lift(RequestLane::Look);
        limits.turn(RequestLane::Look).await.unwrap();
    }
}
