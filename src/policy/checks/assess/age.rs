//! `maxReportAge`, `maxDatabaseAge`, and whether the feeds that a rule needs are available.

use jiff::{SignedDuration, Timestamp};

use super::AssessmentContext;
use super::findings::Findings;
use super::text::{after, length, time};
use crate::policy::observed::known_time;
use crate::policy::rules::rule::Behaviour;
use crate::policy::rules::va_rule::VaRule;
use crate::policy::vulnerability::Report;

/// Compares the ages of a report and of the databases that it was made with.
///
/// # Errors
/// Why it counts as missing.
pub(super) fn of_report(
    rule: &VaRule,
    report: &Report,
    context: &AssessmentContext<'_>,
    findings: &mut Findings,
) -> Result<(), String> {
    let limits = [
        ("maxReportAge", rule.max_report_age, report.generated_at, "the report"),
        ("maxDatabaseAge", rule.max_database_age, report.image.database_built, "the report's advisory database"),
    ];
    let mut problems = Vec::new();
    for (key, limit, made, subject) in limits {
        let Some(limit) = limit else { continue };
        match end(made, limit, context.now) {
            Ok(end) if context.now < end => findings.changes_at(end),
            Ok(end) => {
                let (limit, end) = (length(limit), time(end));
                problems.push(format!("{subject} is older than the policy allows ({key} of {limit} ended at {end})"));
            }
            Err(AgeError::Unstated) => {
                problems.push(format!("{subject} has no date, and the policy limits its age ({key})"));
            }
            Err(AgeError::Future) => {
                problems.push(format!("{subject} has a date in the future, and the policy limits its age ({key})"));
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

/// Why something has no age.
enum AgeError {
    Unstated,
    Future,
}

fn end(made: Option<Timestamp>, limit: SignedDuration, now: Timestamp) -> Result<Timestamp, AgeError> {
    let made = made.ok_or(AgeError::Unstated)?;
    known_time(made, now).map(|made| after(made, limit)).ok_or(AgeError::Future)
}

/// Whether the feeds are imported and young enough that `exploited: deny` and `epss` need.
pub(super) fn of_feeds(rule: &VaRule, report: &Report, context: &AssessmentContext<'_>, findings: &mut Findings) {
    let feeds = [
        ("exploited", rule.exploited == Some(Behaviour::Deny), report.image.feeds.kev, "CISA's catalogue (KEV)"),
        ("epss", rule.epss.is_some(), report.image.feeds.epss, "FIRST's probabilities (EPSS)"),
    ];
    for (key, is_needed, published, name) in feeds {
        if !is_needed {
            continue;
        }
        let Some(published) = published else {
            findings.unknown.push(format!("{key}: the report was made without {name}; import the feed"));
            continue;
        };
        let Some(limit) = rule.max_database_age else { continue };
        match end(Some(published), limit, context.now) {
            Ok(end) if context.now < end => findings.changes_at(end),
            Err(_) => findings.unknown.push(format!("{key}: {name} is of {}, which is in the future", time(published))),
            Ok(_) => findings.unknown.push(format!(
                "{key}: {name} is of {}, older than the policy allows (maxDatabaseAge); update the feed",
                time(published)
            )),
        }
    }
}
