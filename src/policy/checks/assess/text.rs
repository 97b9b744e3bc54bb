//! Times, durations and issues in messages.

use jiff::{SignedDuration, Timestamp};

use crate::policy::vulnerability::issue_id::is_issue_id;
use crate::policy::vulnerability::severity::Severity;
use crate::policy::vulnerability::{AffectedPackage, FixStatus, Issue, IssueKind};

/// A time in whole seconds, not earlier than the exact one: `2026-11-28T10:00:00Z`.
pub(super) fn time(at: Timestamp) -> String {
    let seconds = at.as_second().saturating_add(i64::from(at.subsec_nanosecond() > 0));
    Timestamp::from_second(seconds).unwrap_or(at).to_string()
}

/// The units of durations, in seconds.
const UNITS: [(i64, &str); 4] = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];

/// A limit, exactly: `3 days`, `36 hours`.
pub(super) fn length(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let is_whole = |(size, _): &(i64, &str)| seconds >= *size && seconds % size == 0;
    in_unit(seconds, UNITS.into_iter().find(is_whole))
}

/// How much time has passed, in the largest whole unit: `3 days` for 3 days and an hour.
pub(super) fn elapsed(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    in_unit(seconds, UNITS.into_iter().find(|(size, _)| seconds >= *size))
}

fn in_unit(seconds: i64, unit: Option<(i64, &str)>) -> String {
    let (size, unit) = unit.unwrap_or((1, "second"));
    match seconds / size {
        1 => format!("1 {unit}"),
        count => format!("{count} {unit}s"),
    }
}

/// Time after a start; the latest time if there is none.
pub(super) fn after(start: Timestamp, length: SignedDuration) -> Timestamp {
    start.saturating_add(length).unwrap_or(Timestamp::MAX)
}

/// The worst of several issues and how many others there are: `CVE-2024-1 critical openssl fixed in 3.0.11; +2 more`.
/// `severity` returns the rating of an issue.
pub(super) fn worst(issues: &[&Issue], severity: impl Fn(&Issue) -> Severity) -> String {
    let Some(worst) = issues.iter().rev().max_by_key(|issue| severity(issue) as u8) else { return String::new() };
    let mut text = issue(worst, severity(worst));
    if issues.len() > 1 {
        text.push_str(&format!("; +{} more", issues.len() - 1));
    }
    text
}

/// An issue with its severity and the package that can be fixed, if one can.
pub(super) fn issue(issue: &Issue, severity: Severity) -> String {
    let mut text = format!("{} {}", issue.id, severity.as_str());
    // Alone, the word would be read as a part of the name of the package.
    if severity == Severity::Unknown {
        text.push_str(" severity (counts as the highest)");
    }
    if let Some(package) = issue.packages.iter().max_by_key(|package| package.fixed.is_some()) {
        if !package.name.is_empty() {
            text.push_str(&format!(" {}", package.name));
        }
        if let Some(fixed) = &package.fixed {
            text.push_str(&format!(" fixed in {fixed}"));
        }
    }
    text
}

/// How many issues the text about a release names.
const MAX_NAMED: usize = 3;

/// What releases an image with these issues. An update is named only if it resolves one of them in all of its packages,
/// or in those with a fix if the issue does not count in the others (`needs_fix`). No update of packages resolves a
/// configuration issue.
pub(super) fn release(issues: &[&Issue], needs_fix: bool) -> String {
    let is_check = |issue: &Issue| issue.kind == IssueKind::Configuration;
    // Malware counts without a fix.
    let is_resolved = |issue: &&Issue| {
        is_check(issue) || issue.is_fixable() && (needs_fix && !issue.is_malicious() || is_fixed(issue))
    };
    let (resolved, others): (Vec<&Issue>, Vec<&Issue>) = issues.iter().copied().partition(is_resolved);
    let has_check = issues.iter().any(|issue| is_check(issue));
    let change = if has_check { "a corrected image" } else { "an update" };
    match (resolved.is_empty(), others.is_empty()) {
        (false, true) if issues.iter().all(|issue| !is_check(issue) || can_be_exempt(issue)) => {
            format!("released by {change} or an exemption")
        }
        (false, true) => format!("released by {change}"),
        (false, false) => {
            let names = named(&others);
            format!("released by {change} and an exemption of {names}, which an update does not resolve")
        }
        (true, _) if others.iter().any(|issue| issue.is_fixable()) => {
            "a fix is published for a part of the packages; released by an exemption".to_owned()
        }
        (true, _) => "no fix is published; released by an exemption".to_owned(),
    }
}

/// Whether a fix is published for all packages that an issue affects.
fn is_fixed(issue: &Issue) -> bool {
    let is_fixed = |package: &AffectedPackage| package.fixed.is_some() || package.status == Some(FixStatus::Fixed);
    issue.packages.iter().all(is_fixed)
}

/// Whether an exemption can name the issue. A vulnerability can also be exempt by its package.
fn can_be_exempt(issue: &Issue) -> bool {
    issue.names().any(is_issue_id)
}

/// The first identifiers and how many others there are: `CVE-2024-1, CVE-2024-2`.
fn named(issues: &[&Issue]) -> String {
    let mut text = issues.iter().take(MAX_NAMED).map(|issue| &*issue.id).collect::<Vec<_>>().join(", ");
    if issues.len() > MAX_NAMED {
        text.push_str(&format!(", +{} more", issues.len() - MAX_NAMED));
    }
    text
}

/// `1 issue` or `3 issues`.
pub(super) fn count(number: usize) -> String {
    match number {
        1 => "1 issue".to_owned(),
        n => format!("{n} issues"),
    }
}

/// The first of several texts and how many others there are.
pub(super) fn first(texts: &[String]) -> String {
    match texts {
        [] => String::new(),
        [only] => only.clone(),
        [first, others @ ..] => format!("{first}; +{} more", others.len()),
    }
}
