//! When the keys of an authority may be used: `validFrom` and `validUntil`, for the rotation of keys.

use jiff::Timestamp;

use super::Canonical;

/// The time in which the signatures of a key count: from `from`, and before `until`. The default has no limits.
///
/// A signature is judged by the time at which it was made, if someone other than the signer vouches for that time: a
/// transparency log, or a time-stamping authority (RFC 3161). Otherwise the current time decides, because a signer can
/// write any time into a signature.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KeyValidity {
    /// The first time at which the key counts.
    pub from: Option<Timestamp>,
    /// The first time at which the key no longer counts.
    pub until: Option<Timestamp>,
}

impl KeyValidity {
    /// What helps if [`Self::check`] refuses a signature.
    pub const HINT: &'static str = "sign with a key that is valid now, or change validFrom and validUntil";

    /// Whether there is any limit.
    pub fn is_limited(self) -> bool {
        self != Self::default()
    }

    /// Whether no time is valid.
    pub fn is_empty(self) -> bool {
        self.from.zip(self.until).is_some_and(|(from, until)| until <= from)
    }

    /// Whether the end has passed.
    pub fn has_ended(self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Judges a signature. `signed_at` is the time of signing, if a third party vouches for it. Returns until when the
    /// result holds; `None` means forever.
    ///
    /// # Errors
    /// Why the signature does not count, as the end of a sentence whose subject is the signature.
    pub fn check(self, signed_at: Option<Timestamp>, now: Timestamp) -> Result<Option<Timestamp>, String> {
        let at = signed_at.unwrap_or(now);
        let time = || match signed_at {
            Some(at) => format!("it was signed at {at}"),
            None => "no log and no time stamp proves when it was signed, so the current time counts".to_owned(),
        };
        if let Some(from) = self.from.filter(|from| at < *from) {
            return Err(format!("its key is valid only from {from} (validFrom), and {}", time()));
        }
        if let Some(until) = self.until.filter(|until| *until <= at) {
            return Err(format!("its key was valid only until {until} (validUntil), and {}", time()));
        }
        Ok(if signed_at.is_some() { None } else { self.until })
    }
}

/// A key, or a ring of keys, and when it may be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PinnedKey<T> {
    /// The key.
    pub key: T,
    /// When it may be used.
    pub validity: KeyValidity,
}

impl<T> From<T> for PinnedKey<T> {
    /// A key that may be used at any time.
    fn from(key: T) -> Self {
        Self { key, validity: KeyValidity::default() }
    }
}

impl KeyValidity {
    /// The canonical encoding of a key with this validity. A key without limits is encoded as itself, so that the ID of
    /// an authority without limits is the same as before there were any.
    pub(super) fn encode(self, key: Vec<u8>) -> Vec<u8> {
        if !self.is_limited() {
            return key;
        }
        let Self { from, until } = self;
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
        Canonical::default().field("key", key).set("valid from", time(from)).set("valid until", time(until)).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn days(from: Option<u8>, until: Option<u8>) -> KeyValidity {
        let day = |day: u8| at(&format!("2026-01-{day:02}T00:00:00Z"));
        KeyValidity { from: from.map(day), until: until.map(day) }
    }

    #[test]
    fn the_start_is_included_and_the_end_is_not() {
        let (from, until) = (at("2026-01-02T00:00:00Z"), at("2026-01-04T00:00:00Z"));
        let limited = days(Some(2), Some(4));
        for (time, counts) in [
            ("2026-01-01T23:59:59.999Z", false),
            ("2026-01-02T00:00:00Z", true),
            ("2026-01-03T23:59:59.999Z", true),
            ("2026-01-04T00:00:00Z", false),
        ] {
            let time = at(time);
            assert_eq!(limited.check(None, time).is_ok(), counts, "now {time}");
            // Whatever the current time is.
            for now in [from, until, Timestamp::MAX] {
                assert_eq!(limited.check(Some(time), now).is_ok(), counts, "signed at {time}, now {now}");
            }
        }
    }

    #[test]
    fn only_a_result_that_depends_on_the_current_time_ends() {
        let (now, limited) = (at("2026-01-03T00:00:00Z"), days(Some(2), Some(4)));
        assert_eq!(limited.check(None, now), Ok(Some(at("2026-01-04T00:00:00Z"))));
        assert_eq!(limited.check(Some(now), Timestamp::MAX), Ok(None));
        assert_eq!(days(Some(2), None).check(None, now), Ok(None));
        assert_eq!(KeyValidity::default().check(None, now), Ok(None));
    }

    #[test]
    fn refusals_name_the_limit_and_the_time_that_counts() {
        let now = at("2026-01-09T00:00:00Z");
        let why = days(None, Some(4)).check(None, now).unwrap_err();
        assert!(why.contains("until 2026-01-04T00:00:00Z (validUntil)") && why.contains("current time"), "{why}");
        let why = days(Some(4), None).check(Some(at("2026-01-03T00:00:00Z")), now).unwrap_err();
        assert!(why.contains("from 2026-01-04T00:00:00Z (validFrom), and it was signed at 2026-01-03"), "{why}");
    }

    #[test]
    fn empty_windows_are_recognised() {
        for (from, until, empty) in [(2, 4, false), (4, 4, true), (4, 2, true)] {
            assert_eq!(days(Some(from), Some(until)).is_empty(), empty, "{from} to {until}");
        }
        assert!(!days(Some(4), None).is_empty() && !days(None, Some(4)).is_empty());
    }
}
