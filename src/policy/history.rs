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

/// The times of names that are later than that of another name of their issue: an issue was seen when it was first seen under
/// any of its names. Without that, an issue that is renamed twice would be new when its first name is gone. What
/// is of [`Timestamp::UNIX_EPOCH`] was not noted.
pub fn seen_earlier<'a>(
    issues: &(impl Iterator<Item = &'a Issue> + Clone),
    times: &BTreeMap<String, Timestamp>,
) -> BTreeMap<String, Timestamp> {
    /// Of issues that are linked by names of others, so many links are followed.
    const MAX_LINKS: usize = 8;
    let mut earlier: BTreeMap<String, Timestamp> = BTreeMap::new();
    for _ in 0..MAX_LINKS {
        let mut has_changed = false;
        for issue in issues.clone() {
            let known = |name: &str| earlier.get(name).or_else(|| times.get(name)).copied();
            let noted = issue.names().filter_map(known).filter(|at| *at != Timestamp::UNIX_EPOCH);
            let Some(first) = noted.min() else { continue };
            let later: Vec<&str> = issue.names().filter(|name| known(name).is_some_and(|at| first < at)).collect();
            has_changed |= !later.is_empty();
            earlier.extend(later.into_iter().map(|name| (name.to_owned(), first)));
        }
        if !has_changed {
            break;
        }
    }
    earlier
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
