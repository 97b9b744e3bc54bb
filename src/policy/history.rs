//! What the gate itself remembers about an image.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::vulnerability::Issue;

/// The gate's own memory of an image. No one else can state or change it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageHistory {
    /// When the digest was first asked for, whether or not it was admitted. `None` if that was not recorded.
    pub known_since: Option<Timestamp>,
    /// When the digest was first admitted. `None` if it never was.
    pub admitted_since: Option<Timestamp>,
    /// When all issues of the image were first noted, if it was known before: issues found by then may have been there
    /// before, and are not new.
    pub noted_since: Option<Timestamp>,
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
/// any of its names. Otherwise, an issue that is renamed twice would look new once its first name is gone.
/// [`Timestamp::UNIX_EPOCH`] means that no time was noted.
pub fn seen_earlier<'a>(
    issues: &(impl Iterator<Item = &'a Issue> + Clone),
    times: &BTreeMap<String, Timestamp>,
) -> BTreeMap<String, Timestamp> {
    /// How many links between issues that share names are followed.
    const MAX_LINKS: usize = 8;
    let noted = times.iter().filter(|(_, at)| **at != Timestamp::UNIX_EPOCH);
    let mut seen: SeenIssues = noted.map(|(name, at)| (name, *at)).collect();
    for _ in 0..MAX_LINKS {
        let mut has_changed = false;
        for issue in issues.clone() {
            let Some(first) = seen.first(issue, |_| true) else { continue };
            for name in issue.names() {
                if let Some(at) = seen.0.get_mut(&name.to_ascii_lowercase()).filter(|at| first < **at) {
                    (*at, has_changed) = (first, true);
                }
            }
        }
        if !has_changed {
            break;
        }
    }
    // By the names as they are stored, whose case does not matter.
    let first = |name: &str| seen.0.get(&name.to_ascii_lowercase()).copied();
    times.iter().filter_map(|(name, at)| Some((name.clone(), first(name).filter(|first| first < at)?))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{IssueKind, Severity};

    #[test]
    fn an_issue_was_seen_when_any_of_its_names_was() {
        let issue = |id: &str, alias: &str| {
            let aliases = vec![alias.to_owned()];
            Issue { aliases, ..Issue::new(id, IssueKind::Vulnerability, Severity::High) }
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let times = [("A", 5), ("b", 7), ("C", 9), ("D", 3), ("E", 0)].map(|(name, time)| (name.to_owned(), at(time)));
        let issues = [issue("C", "B"), issue("B", "A"), issue("D", "X"), issue("E", "D")];
        let earlier = seen_earlier(&issues.iter(), &times.into());
        let expected = [("b", 5), ("C", 5)].map(|(name, time)| (name.to_owned(), at(time)));
        assert_eq!(earlier, expected.into(), "links are followed, whatever the case; 0 means that no time was noted");
    }
}
