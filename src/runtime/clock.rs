//! A single source of the current time, which tests can set.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A source of the current time: the system clock, or a manual one for tests.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The system clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that only moves when told to. For tests.
    pub fn manual(now: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicI64::new(now.as_millisecond()))))
    }

    /// The current time.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's clock")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => Timestamp::now(),
            Some(millis) => Timestamp::from_millisecond(millis.load(Ordering::Relaxed)).unwrap_or(Timestamp::MAX),
        }
    }

    /// Whether a time is within this duration before now. A time in the future, before the clock was set back, is not.
    pub fn is_within(&self, at: Timestamp, duration: SignedDuration) -> bool {
        let age = self.now().duration_since(at);
        !age.is_negative() && age < duration
    }

    /// The time that was so long ago; the earliest possible time, if that was before it.
    pub fn ago(&self, age: Duration) -> Timestamp {
        self.now().saturating_sub(signed_duration(age)).unwrap_or(Timestamp::MIN)
    }

    /// Moves a manual clock forward. Has no effect on the system clock.
    pub fn advance(&self, by: SignedDuration) {
        if let Some(millis) = &self.0 {
            millis.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }
}

/// A duration of the configuration for arithmetic with times. One that is too long for that is the longest possible.
pub fn signed_duration(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_long_ago_are_the_earliest() {
        let clock = Clock::manual("2026-01-02T00:00:00Z".parse().unwrap());
        assert_eq!(clock.ago(Duration::from_secs(24 * 3600)), "2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(clock.ago(Duration::MAX), Timestamp::MIN);
    }
}
