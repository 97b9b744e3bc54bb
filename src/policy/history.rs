//! What the gate itself remembers about an image.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::vulnerability::Issue;

/// What the gate itself remembers about an image. Nobody else can state or change it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageHistory {
    /// When the digest was first asked for, whether or not it was admitted. `None` if that was not recorded.
    pub known_since: Option<Timestamp>,
    /// When the digest was first admitted. `None` if it never was.
    pub admitted_since: Option<Timestamp>,
    /// When each issue was first found in the image.
    pub first_seen: SeenIssues,
    /// When each issue was first found in any image of the repository.
    pub seen_in_repository: SeenIssues,
}

/// When issues were first seen, by each of their identifiers and aliases. A database may rename an issue, so an issue was
/// seen when it was first seen under any of its names. The case of names does not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeenIssues(BTreeMap<String, Timestamp>);

impl SeenIssues {
    /// When an issue was first seen under any of its names, of those times that count.
    pub(super) fn first(&self, issue: &Issue, counts: impl Fn(&Timestamp) -> bool) -> Option<Timestamp> {
        let times = issue.names().filter_map(|name| self.0.get(&name.to_ascii_lowercase()).copied());
        times.filter(counts).min()
    }
}

impl<T: AsRef<str>> Extend<(T, Timestamp)> for SeenIssues {
    fn extend<I: IntoIterator<Item = (T, Timestamp)>>(&mut self, times: I) {
        for (name, at) in times {
            let first = self.0.entry(name.as_ref().to_ascii_lowercase()).or_insert(at);
            *first = at.min(*first);
        }
    }
}

impl<T: AsRef<str>> FromIterator<(T, Timestamp)> for SeenIssues {
    fn from_iter<I: IntoIterator<Item = (T, Timestamp)>>(times: I) -> Self {
        let mut seen = Self::default();
        seen.extend(times);
        seen
    }
}
