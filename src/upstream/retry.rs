//! Retries: exponential back-off with jitter, and `Retry-After` (RFC 9110 §10.2.3).

use std::time::Duration;

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use tokio::time::Instant;

use super::Error;
use super::config::Config;
use crate::runtime::Clock;

/// The delay before the first retry; it doubles each time.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// 4xx statuses after which the same request may succeed.
const TOO_EARLY: &[StatusCode] = &[StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY];
/// 5xx statuses after which it will not: the registry, or a proxy in front of it, does not support the request or is
/// not configured for it (RFC 9110 §15.6, 2295, 5842, 2774, 6585).
const LASTING: &[StatusCode] = &[
    StatusCode::NOT_IMPLEMENTED,
    StatusCode::HTTP_VERSION_NOT_SUPPORTED,
    StatusCode::VARIANT_ALSO_NEGOTIATES,
    StatusCode::LOOP_DETECTED,
    StatusCode::NOT_EXTENDED,
    StatusCode::NETWORK_AUTHENTICATION_REQUIRED,
];

/// Whether the same request may succeed after this status.
pub(super) fn is_passing(status: StatusCode) -> bool {
    TOO_EARLY.contains(&status) || status.is_server_error() && !LASTING.contains(&status)
}

/// An error, and the back-off that the peer asked for.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) wait: Option<Duration>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let wait = match &error {
            Error::RateLimited { retry_after, .. } => retry_after.map(Duration::from_secs),
            _ => None,
        };
        Self { error, wait }
    }
}

/// How long all attempts of a request may take together, without what its body takes: containerd gives up after 30 s
/// without headers. Together with [`alternative_patience`], which may come before, this stays below that with the
/// default limits.
pub(super) fn whole_patience(config: &Config) -> Duration {
    config.header_timeout + config.header_timeout / 2
}

/// How long an attempt may take whose caller has an alternative.
pub(super) fn alternative_patience(config: &Config) -> Duration {
    config.header_timeout / 3
}

/// The remaining attempts of one request.
pub(super) struct Retries {
    tries: u32,
    /// The remaining total delay.
    budget: Duration,
    pause: Duration,
    /// How long all attempts may take together.
    patience: Duration,
    /// When that is over, once the first attempt has its turn.
    end: Option<Instant>,
}

impl Retries {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            tries: config.attempts.saturating_sub(1),
            budget: config.retry_budget,
            pause: FIRST_PAUSE,
            patience: whole_patience(config),
            end: None,
        }
    }

    /// When all attempts have to be over. The time begins with the first attempt, not while it waits for its turn.
    pub(super) fn begin(&mut self) -> Instant {
        *self.end.get_or_insert_with(|| Instant::now() + self.patience)
    }

    /// Moves the end by the time for which a later attempt has waited for its turn.
    pub(super) fn waited(&mut self, time: Duration) {
        self.end = self.end.map(|end| end + time);
    }

    /// The delay before the next attempt; `None` if there is none.
    pub(super) fn next(&mut self, failure: &Failure) -> Option<Duration> {
        // After too many requests, no more are sent at once, unless the registry says when.
        let is_limited = matches!(failure.error, Error::RateLimited { .. }) && failure.wait.is_none();
        // A request that got no turn in time has waited long enough: its client will retry sooner than it would get
        // one.
        let is_over = matches!(failure.error, Error::Busy(_)) || is_limited || !failure.error.is_temporary();
        if self.tries == 0 || is_over {
            return None;
        }
        let jitter = self.pause.mul_f64(fastrand::f64());
        // A peer may ask for any number of seconds, even one that overflows when added to.
        let pause = failure.wait.unwrap_or(self.pause / 2).saturating_add(jitter);
        if failure.wait.unwrap_or(pause) > self.budget {
            return None;
        }
        if self.end.is_some_and(|end| end.saturating_duration_since(Instant::now()) <= pause) {
            return None;
        }
        self.tries -= 1;
        self.budget = self.budget.saturating_sub(pause);
        self.pause *= 2;
        Some(pause)
    }
}

/// `Retry-After` in either form. A date is relative to the response's own `Date`, so that clocks need not agree;
/// without one, to `clock`.
pub(super) fn retry_after(headers: &HeaderMap, clock: &Clock) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = date(text)?;
    let now = own_date(headers, &header::DATE).unwrap_or_else(|| clock.now());
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

fn own_date(headers: &HeaderMap, name: &HeaderName) -> Option<Timestamp> {
    date(headers.get(name)?.to_str().ok()?)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7); obsolete formats are not supported.
fn date(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_parsed_in_both_forms() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let clock = Clock::manual("1994-11-06T08:49:40Z".parse().unwrap());
        for (value, date, wanted) in [
            ("7", None, Some(7)),
            ("0", None, Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", date, Some(10)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", date, Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", None, Some(7)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", None, Some(0)),
            ("-1", None, None),
            ("soon", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            date.map(|date| headers.insert(header::DATE, date.parse().unwrap()));
            assert_eq!(retry_after(&headers, &clock), wanted.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn attempts_and_budget_are_bounded() {
        let mut config = Config::new("a.io".parse().unwrap(), "https://a.io");
        config.attempts = 3;
        let failed = Failure::from(Error::Unavailable("x".into()));
        let mut retries = Retries::new(&config);
        let pauses: Vec<_> = std::iter::from_fn(|| retries.next(&failed)).collect();
        assert_eq!(pauses.len(), 2);
        assert!(pauses[0] >= FIRST_PAUSE / 2 && pauses[1] <= FIRST_PAUSE * 3);

        let limited = |seconds| Failure::from(Error::RateLimited { host: String::new(), retry_after: Some(seconds) });
        let mut retries = Retries::new(&config);
        assert!(retries.next(&limited(3600)).is_none());
        assert!(retries.next(&limited(5)).is_some());
        assert!(retries.next(&limited(5)).is_none(), "the budget is spent");
        assert!(Retries::new(&config).next(&Error::NOT_FOUND.into()).is_none());
        let mut retries = Retries { pause: Duration::from_secs(3600), ..Retries::new(&config) };
        for _ in 0..100 {
            assert!(retries.next(&limited(u64::MAX)).is_none(), "the jitter is added to the longest time");
        }
        assert!(Retries::new(&config).next(&Error::Busy("x".into()).into()).is_none(), "it has already waited");
    }

    /// A silent registry must not keep a client longer than the client waits.
    #[tokio::test(start_paused = true)]
    async fn all_attempts_share_one_deadline() {
        let config = Config::new("a.io".parse().unwrap(), "https://a.io");
        assert!(whole_patience(&config) + alternative_patience(&config) < Duration::from_secs(30), "containerd");
        let failed = Failure::from(Error::Unavailable("x".into()));
        let mut retries = Retries::new(&config);
        retries.waited(Duration::from_secs(30));
        let end = retries.begin();
        assert_eq!(end, Instant::now() + whole_patience(&config), "the first one waits before its time begins");
        tokio::time::advance(config.header_timeout).await;
        assert_eq!(retries.begin(), end, "it is the same for all");
        let waited = Duration::from_secs(30);
        tokio::time::advance(waited).await;
        retries.waited(waited);
        assert_eq!(retries.begin(), end + waited, "the time for a turn is not part of it");
        assert!(retries.next(&failed).is_some(), "there is time for another");
        tokio::time::advance(config.header_timeout / 2).await;
        assert!(retries.next(&failed).is_none(), "the time is over");
    }
}
