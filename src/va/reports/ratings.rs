//! The severities that different sources give to one issue.

use std::collections::BTreeMap;

use crate::policy::{Issue, Severity};

/// The maximum number of sources that are kept for an issue. The ratings of further sources are ignored.
const MAX_SOURCES: usize = 32;
/// The longest name of a source, in bytes.
const MAX_NAME: usize = 64;

/// Adds the severity that a source gives, if it gives one. Of several by one source, the worst is kept.
pub(in crate::va) fn rate(ratings: &mut BTreeMap<String, Severity>, source: &str, severity: Severity) {
    let name = source.trim().to_ascii_lowercase();
    let has_room = ratings.len() < MAX_SOURCES || ratings.contains_key(&name);
    if severity == Severity::Unknown || name.is_empty() || name.len() > MAX_NAME || !has_room {
        return;
    }
    let kept = ratings.entry(name).or_insert(severity);
    if severity as u8 > *kept as u8 {
        *kept = severity;
    }
}

/// Adds the ratings of another finding of the same issue, before the worse of the two severities becomes that of the
/// issue: each source keeps its own.
pub(super) fn add(to: &mut Issue, finding: &Issue) {
    let stated = |issue: &Issue| Some((issue.severity_source.clone()?, issue.severity));
    let stated: Vec<_> = [stated(to), stated(finding)].into_iter().flatten().collect();
    let rated = finding.ratings.iter().map(|(source, severity)| (source.as_str(), *severity));
    for (source, severity) in stated.iter().map(|(source, severity)| (source.as_str(), *severity)).chain(rated) {
        rate(&mut to.ratings, source, severity);
    }
}
