//! How much one upstream is asked for: turns, bandwidth, a budget of pulls, and rest where it asked for some.
//!
//! All of it is on the runtime's clock, and nothing waits without an end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{HeaderMap, HeaderName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Error;
use super::config::Config;
use super::headers::text;
use super::metrics::LimitMetrics;

/// The longest that a registry is left alone, whatever it asks for: Docker Hub counts over so long.
const MAX_HOLD: Duration = Duration::from_secs(6 * 3600);
/// So much that was not used counts for later: timers are coarser than what a fast line brings between two of them.
const CREDIT: Duration = Duration::from_millis(100);
/// One of so many turns is never a blob's: downloads are long, and verdicts must not wait behind them.
const SHARE_BESIDE_BLOBS: usize = 8;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATE_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");

/// What registries count, and refuse, apart from each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lane {
    /// A blob's content.
    Blob,
    /// Tags and referrers.
    List,
    /// A HEAD, which is no pull anywhere.
    Look,
    /// A manifest's content: what Docker Hub calls a pull.
    Pull,
}

const LANES: usize = 4;

/// The bounds of one upstream, and how far each is used.
pub(super) struct Limits {
    host: String,
    turns: Arc<Semaphore>,
    blob_turns: Arc<Semaphore>,
    /// How long a request waits for its turn.
    patience: Duration,
    pace: Option<Pace>,
    pulls: Option<Budget>,
    /// Until when each lane rests.
    holds: Mutex<[Option<Instant>; LANES]>,
    metrics: LimitMetrics,
}

impl Limits {
    pub(super) fn new(config: &Config, metrics: LimitMetrics) -> Arc<Self> {
        let turns = config.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            host: config.host.to_string(),
            turns: Arc::new(Semaphore::new(turns)),
            blob_turns: Arc::new(Semaphore::new(turns - turns / SHARE_BESIDE_BLOBS)),
            patience: config.header_timeout,
            pace: config.max_bandwidth.map(Pace::new),
            pulls: config.pull_limit.map(|count| Budget::new(count, config.pull_limit_window)),
            holds: Mutex::default(),
            metrics,
        })
    }

    /// The turn of one request: with it, it may be sent. Waits while others have all of them, for a bounded time.
    pub(super) async fn turn(self: &Arc<Self>, lane: Lane) -> Result<Turn, Error> {
        self.refuse_held(lane)?;
        let end = Instant::now() + self.patience;
        let blob = if lane == Lane::Blob { Some(self.permit(&self.blob_turns, end).await?) } else { None };
        let permit = self.permit(&self.turns, end).await?;
        // It may have been refused to others meanwhile.
        self.refuse_held(lane)?;
        self.spend(lane)?;
        self.metrics.in_flight(&self.host, 1);
        Ok(Turn { limits: self.clone(), _permits: (permit, blob) })
    }

    async fn permit(&self, of: &Arc<Semaphore>, end: Instant) -> Result<OwnedSemaphorePermit, Error> {
        match timeout_at(end, of.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            // Nobody closes it.
            Ok(Err(_)) | Err(_) => {
                self.metrics.held(&self.host);
                let (host, limit) = (&self.host, self.patience.as_secs_f32());
                Err(Error::Busy(format!("{host}: no turn within {limit} s: max_connections requests are under way")))
            }
        }
    }

    fn refuse_held(&self, lane: Lane) -> Result<(), Error> {
        let until = self.holds()[lane as usize];
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            None | Some(Duration::ZERO) => Ok(()),
            Some(rest) => Err(self.limited(rest)),
        }
    }

    fn spend(&self, lane: Lane) -> Result<(), Error> {
        match &self.pulls {
            Some(budget) if lane == Lane::Pull => budget.spend().map_err(|rest| self.limited(rest)),
            _ => Ok(()),
        }
    }

    fn limited(&self, rest: Duration) -> Error {
        self.metrics.held(&self.host);
        // Rounded up: who comes when it is said must not come too early.
        let seconds = rest.as_secs() + u64::from(rest.subsec_nanos() > 0);
        Error::RateLimited { retry_after: Some(seconds) }
    }

    /// The registry refused, and said for how long.
    pub(super) fn hold(&self, lane: Lane, wait: Duration) {
        let wait = wait.min(MAX_HOLD);
        tracing::warn!(upstream = %self.host, ?lane, seconds = wait.as_secs(), "the registry wants to be left alone");
        let until = Instant::now() + wait;
        let mut holds = self.holds();
        let known = &mut holds[lane as usize];
        *known = Some(known.map_or(until, |known| known.max(until)));
    }

    /// The registry gave what was asked for: whatever it said before has passed.
    pub(super) fn lift(&self, lane: Lane) {
        self.holds()[lane as usize] = None;
    }

    /// Takes down what Docker Hub says is left: `76;w=21600`.
    pub(super) fn note_quota(&self, headers: &HeaderMap) {
        let count = |name| text(headers, name)?.split(';').next()?.trim().parse::<u32>().ok();
        self.metrics.quota(&self.host, count(&RATE_REMAINING), count(&RATE_LIMIT));
    }

    fn holds(&self) -> MutexGuard<'_, [Option<Instant>; LANES]> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of one request, from before it is sent until its answer is read or given up.
pub(super) struct Turn {
    limits: Arc<Limits>,
    _permits: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

impl Turn {
    /// Waits as long as so many bytes, which have come, must be paid for.
    pub(super) async fn pay(&self, bytes: usize) {
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

/// Bytes per second for all bodies together. Each piece takes the next place in one queue, so no body starves another.
struct Pace {
    per_second: f64,
    /// Until when the bytes that have come are paid for.
    paid: Mutex<Instant>,
}

impl Pace {
    fn new(per_second: u64) -> Self {
        Self { per_second: per_second.max(1) as f64, paid: Mutex::new(Instant::now()) }
    }

    /// Books so many bytes, and gives the time from which more may be read.
    fn take(&self, bytes: usize) -> Instant {
        let now = Instant::now();
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let from = (*paid).max(now.checked_sub(CREDIT).unwrap_or(now));
        *paid = from + Duration::from_secs_f64(bytes as f64 / self.per_second);
        *paid
    }
}

/// So many in any window of time, as a log of when: a bucket that refills would let twice as many through the first one.
struct Budget {
    count: usize,
    window: Duration,
    spent: Mutex<VecDeque<Instant>>,
}

impl Budget {
    fn new(count: u32, window: Duration) -> Self {
        Self { count: count as usize, window, spent: Mutex::default() }
    }

    /// Spends one, or says how long it is until there is one.
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
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;
    use crate::runtime::Metrics;

    fn limits(change: impl FnOnce(&mut Config)) -> Arc<Limits> {
        let mut config = Config::new("a.test".parse().unwrap(), "http://a.test");
        change(&mut config);
        Limits::new(&config, LimitMetrics::new(&Metrics::default()))
    }

    fn limited(seconds: u64) -> Option<Error> {
        Some(Error::RateLimited { retry_after: Some(seconds) })
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_waited_for_and_not_for_ever() {
        let limits = limits(|config| config.max_connections = 1);
        let turn = limits.turn(Lane::Blob).await.unwrap();
        let began = Instant::now();
        let error = limits.turn(Lane::Pull).await.err().unwrap();
        assert!(matches!(&error, Error::Busy(why) if why.contains("max_connections")), "{error}");
        assert_eq!(began.elapsed(), Duration::from_secs(15), "header_timeout");
        let (waiting, ()) = tokio::join!(limits.turn(Lane::Look), async {
            advance(Duration::from_secs(1)).await;
            drop(turn);
        });
        waiting.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn blobs_leave_turns_to_the_rest() {
        let limits = limits(|config| config.max_connections = 16);
        let mut turns = Vec::new();
        while let Ok(turn) = limits.turn(Lane::Blob).await {
            turns.push(turn);
        }
        assert_eq!(turns.len(), 14);
        turns.push(limits.turn(Lane::Pull).await.unwrap());
        turns.push(limits.turn(Lane::List).await.unwrap());
        assert!(limits.turn(Lane::Look).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_the_bandwidth() {
        let limits = limits(|config| config.max_bandwidth = Some(1000));
        let (one, two) = (limits.turn(Lane::Blob).await.unwrap(), limits.turn(Lane::Pull).await.unwrap());
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
        // Time in which nothing came is not saved up beyond a moment.
        advance(Duration::from_secs(3600)).await;
        assert!(timeout(Duration::from_millis(800), one.pay(1000)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn pulls_are_counted_in_any_window_and_nothing_else_is() {
        let hour = Duration::from_secs(3600);
        let limits = limits(|config| (config.pull_limit, config.pull_limit_window) = (Some(2), hour));
        drop(limits.turn(Lane::Pull).await.unwrap());
        advance(Duration::from_millis(600_500)).await;
        drop(limits.turn(Lane::Pull).await.unwrap());
        assert_eq!(limits.turn(Lane::Pull).await.err(), limited(3000), "rounded up");
        for lane in [Lane::Blob, Lane::List, Lane::Look] {
            limits.turn(lane).await.unwrap();
        }
        advance(Duration::from_secs(3000)).await;
        limits.turn(Lane::Pull).await.unwrap();
        assert_eq!(limits.turn(Lane::Pull).await.err(), limited(600), "the second one's window");
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_is_left_alone_by_what_it_refused_for_as_long_as_it_asked() {
        let limits = limits(|_| {});
        limits.hold(Lane::Pull, Duration::from_secs(60));
        assert_eq!(limits.turn(Lane::Pull).await.err(), limited(60));
        for lane in [Lane::Blob, Lane::List, Lane::Look] {
            limits.turn(lane).await.unwrap();
        }
        limits.hold(Lane::Pull, Duration::from_secs(1));
        assert_eq!(limits.turn(Lane::Pull).await.err(), limited(60), "a shorter wait ends no longer one");
        advance(Duration::from_secs(60)).await;
        limits.turn(Lane::Pull).await.unwrap();
        limits.hold(Lane::Look, Duration::MAX);
        assert_eq!(limits.turn(Lane::Look).await.err(), limited(6 * 3600), "nobody shuts a gate for a year");
        limits.lift(Lane::Look);
        limits.turn(Lane::Look).await.unwrap();
    }
}
