//! Times, durations and issues in messages.

use jiff::{SignedDuration, Timestamp};

use crate::policy::vulnerability::Issue;

/// A time in whole seconds, not earlier than the exact one: `2026-11-28T10:00:00Z`.
pub(super) fn time(at: Timestamp) -> String {
    let seconds = at.as_second().saturating_add(i64::from(at.subsec_nanosecond() > 0));
    Timestamp::from_second(seconds).unwrap_or(at).to_string()
}

/// A duration in its largest whole unit: `3 days`, `1 hour`.
pub(super) fn length(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((1, "second"));
    match seconds / size {
        1 => format!("1 {unit}"),
        count => format!("{count} {unit}s"),
    }
}

/// Time after a start; the latest time if there is none.
pub(super) fn after(start: Timestamp, length: SignedDuration) -> Timestamp {
    start.saturating_add(length).unwrap_or(Timestamp::MAX)
}

/// The worst of several issues and how many others there are: `CVE-2024-1 critical openssl fixed in 3.0.11; +2`.
pub(super) fn worst(issues: &[&Issue]) -> String {
    let Some(worst) = issues.iter().rev().max_by_key(|issue| issue.severity as u8) else { return String::new() };
    let mut text = issue(worst);
    if issues.len() > 1 {
        text.push_str(&format!("; +{}", issues.len() - 1));
    }
    text
}

/// An issue with its severity and the package that can be fixed, if one can.
pub(super) fn issue(issue: &Issue) -> String {
    let mut text = format!("{} {}", issue.id, issue.severity.as_str());
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
        [first, others @ ..] => format!("{first}; +{}", others.len()),
    }
}
