//! What was observed, and when: every kind of evidence is kept in this form.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// An observed value, with the time of the observation and the end of its validity.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Observed<T> {
    /// The observed value.
    pub value: T,
    /// The time of the observation.
    pub at: Timestamp,
    /// The end of its validity; `None` if the value depends only on bytes.
    pub until: Option<Timestamp>,
}

impl<T> Observed<T> {
    /// Whether the observation is still valid. An observation that has an end and a time in the future was made before
    /// the clock was set back. Its age is unknown, so it is not valid.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| self.at <= now && now < until)
    }
}

/// How far the clock of another system may be ahead of the local clock.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Returns a time that another system wrote, or `None` if it is more than five minutes in the future. Without this
/// limit, a time in the future would always be the newest and would never be too old.
pub fn known_time(at: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let latest = now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX);
    (at <= latest).then_some(at)
}
