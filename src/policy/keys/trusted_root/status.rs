//! How old a trusted root is, and when its keys end.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{RootPart, RootPartKind, TrustedRoot};

impl TrustedRoot {
    /// When the next of its keys ends to be valid, after `now`; `None` if no end is known.
    pub fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.parts().iter().filter_map(|part| part.until).filter(|until| *until >= now).min()
    }

    /// The expired part that prevents the root from serving its purpose; `None` if there is none.
    pub fn ended(&self, now: Timestamp) -> Option<String> {
        if let Some(until) = self.until().filter(|until| *until < now) {
            return Some(format!("all of its keys have expired, the last at {until}; it verifies nothing"));
        }
        let kinds: BTreeSet<RootPartKind> = self.parts().iter().map(|part| part.kind).collect();
        let ended = kinds.into_iter().filter_map(|kind| {
            let until = self.last_of(kind)?;
            (until < now).then(|| format!("no {kind} is valid now: the last one expired at {until}"))
        });
        let ended: Vec<_> = ended.collect();
        (!ended.is_empty()).then(|| format!("{}; newer signatures cannot be verified with it", ended.join("; ")))
    }

    /// When the last part of a kind ends; `None` if one has no end.
    fn last_of(&self, kind: RootPartKind) -> Option<Timestamp> {
        let ends = self.parts().iter().filter(|part| part.kind == kind).map(|RootPart { until, .. }| *until);
        ends.max_by_key(|until| until.unwrap_or(Timestamp::MAX)).flatten()
    }

    /// Its age and its ends in one line, without its name.
    pub fn describe(&self, now: Timestamp) -> String {
        let mut text = match (self.ended(now), self.until()) {
            (Some(why), _) => format!("ENDED: {why}"),
            (None, Some(until)) => format!("ends at {until}, in {}", days(until, now)),
            (None, None) => "has no end".to_owned(),
        };
        if let Some(end) = self.next_end(now).filter(|end| Some(*end) != self.until()) {
            text.push_str(&format!("; its next key to expire ends at {end}, in {}", days(end, now)));
        }
        if let Some(from) = self.newest_key() {
            text.push_str(&format!("; its newest key is {} old", days(now, from)));
        }
        if let Some(written) = self.written() {
            text.push_str(&format!("; its file is {} old", days(now, written)));
        }
        text
    }
}

fn days(later: Timestamp, earlier: Timestamp) -> String {
    // The clock of the machine that wrote a file may be ahead.
    match later.duration_since(earlier).as_hours().max(0) / 24 {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use sigstore_verify::trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;

    use super::*;

    fn root(change: impl FnOnce(&mut Value)) -> TrustedRoot {
        let mut value: Value = serde_json::from_str(SIGSTORE_PRODUCTION_TRUSTED_ROOT).unwrap();
        change(&mut value);
        TrustedRoot::from_json("root", value.to_string().as_bytes()).unwrap()
    }

    fn end(value: &mut Value, list: &str, end: &str) {
        for one in value[list].as_array_mut().unwrap() {
            let owner = if one.get("publicKey").is_some() { &mut one["publicKey"] } else { one };
            owner["validFor"] = json!({"start": "2021-01-01T00:00:00Z", "end": end});
        }
    }

    #[test]
    fn expired_keys_are_reported() {
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let whole = root(|_| ());
        assert_eq!(whole.ended(now), None);
        // The certificates of its authorities end in 2031, although the file names no end.
        assert!(
            whole.describe(now).starts_with("has no end; its next key to expire ends at 2031-10-05"),
            "{}",
            whole.describe(now)
        );
        let partly = root(|value| end(value, "certificateAuthorities", "2025-01-01T00:00:00Z"));
        let why = partly.ended(now).unwrap();
        assert!(why.contains("no certificate authority is valid now") && !partly.has_expired(now), "{why}");
        assert!(partly.describe(now).starts_with("ENDED: no certificate authority"), "{}", partly.describe(now));
        let wholly = root(|value| {
            for list in ["tlogs", "ctlogs", "certificateAuthorities", "timestampAuthorities"] {
                end(value, list, "2025-01-01T00:00:00Z");
            }
        });
        assert!(wholly.ended(now).unwrap().contains("all of its keys have expired, the last at 2025-01-01T00:00:00Z"));
    }

    #[test]
    fn the_age_of_the_file_is_reported() {
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let written = "2026-05-31T00:00:00Z".parse().ok();
        assert!(!root(|_| ()).describe(now).contains("its file"));
        assert!(root(|_| ()).written_at(written).describe(now).ends_with("; its file is 1 day old"));
    }
}
