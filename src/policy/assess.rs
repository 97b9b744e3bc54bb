//! Assesses vulnerability evidence under a rule, with IBM's status values.

use jiff::Timestamp;

use super::evidence::{Observed, known_time};
use super::exemption::VaExemptions;
use super::rule::{Behaviour, VaRule};
use super::signed::has_ended;
use super::verdict::Verdict;
use super::vulnerability::{Issue, Report, VaEvidence, VaStatus};

/// An assessment under a rule, with IBM's status.
#[derive(Clone, Debug, PartialEq)]
pub struct VaAssessment {
    /// IBM's status.
    pub status: VaStatus,
    /// The issues that count under the rule and are not exempt.
    pub blocking: Vec<Issue>,
    /// The number of exempt issues. The source or an exemption can make an issue exempt.
    pub exempt: usize,
    /// The reason why there is no assessment, if there is none.
    pub why: Option<String>,
    /// The end of validity: the time when the report becomes too old or an exemption ends.
    pub until: Option<Timestamp>,
    /// If there is no assessment: whether a retry may help.
    temporary: bool,
}

/// Assesses vulnerability evidence under a rule, with the exemptions that apply to the image.
pub fn assess(rule: &VaRule, evidence: &VaEvidence, exemptions: &VaExemptions, now: Timestamp) -> VaAssessment {
    let without = |status, why: &str, temporary| VaAssessment {
        status,
        blocking: Vec::new(),
        exempt: 0,
        why: Some(why.to_owned()),
        until: None,
        temporary,
    };
    let report = match evidence {
        VaEvidence::Report(report) => report,
        VaEvidence::Unscanned => return without(VaStatus::Unscanned, NO_REPORT, false),
        VaEvidence::Unreadable { problems } => {
            let why = match problems {
                1 => format!("{NO_REPORT}, and 1 report file cannot be read (/readyz says which)"),
                n => format!("{NO_REPORT}, and {n} report files cannot be read (/readyz says which)"),
            };
            return without(VaStatus::Unscanned, &why, false);
        }
        VaEvidence::Incomplete { why } => return without(VaStatus::Incomplete, why, false),
        VaEvidence::Unsupported { why } => return without(VaStatus::Unsupported, why, false),
        VaEvidence::Unavailable { why } | VaEvidence::Pending { why } => {
            return without(VaStatus::Unscanned, why, true);
        }
    };
    match report_until(rule, report.generated_at, now) {
        Ok(until) if until.is_none_or(|until| now < until) => {
            let open = open_issues(rule, report, exemptions, now);
            weigh(report, open, until)
        }
        Ok(_) => without(VaStatus::Unscanned, "the report is older than the policy allows", false),
        Err(why) => without(VaStatus::Unscanned, why, false),
    }
}

const NO_REPORT: &str = "no report speaks of this image";

/// The issues of a report that remain after exempt issues are removed.
struct OpenIssues {
    /// The issues that count.
    blocking: Vec<Issue>,
    exempt: usize,
    /// The first end of an exemption after which an issue would count; [`Timestamp::MAX`] if no exemption ends.
    until: Timestamp,
}

fn open_issues(rule: &VaRule, report: &Report, exemptions: &VaExemptions, now: Timestamp) -> OpenIssues {
    let mut open = OpenIssues { blocking: Vec::new(), exempt: 0, until: Timestamp::MAX };
    for issue in &report.issues {
        let counts = counts(rule, issue);
        match (issue.exempt, exemptions.cover_until(issue, now)) {
            (true, _) => open.exempt += 1,
            (false, Some(end)) => {
                open.exempt += 1;
                open.until = if counts { open.until.min(end) } else { open.until };
            }
            (false, None) if counts => open.blocking.push(issue.clone()),
            (false, None) => {}
        }
    }
    open
}

/// Assesses a report that is not too old. An issue that was found fails the assessment even if the report is
/// incomplete.
fn weigh(report: &Report, open: OpenIssues, until: Option<Timestamp>) -> VaAssessment {
    let OpenIssues { blocking, exempt, until: exempt_until } = open;
    let status = match (blocking.is_empty(), &report.incomplete, exempt) {
        (false, ..) => VaStatus::Fail,
        (true, Some(_), _) => VaStatus::Incomplete,
        (true, None, 1..) => VaStatus::Warn,
        (true, None, 0) => VaStatus::Ok,
    };
    let why = report.incomplete.clone().filter(|_| status == VaStatus::Incomplete);
    let until = earliest(until, (exempt_until != Timestamp::MAX).then_some(exempt_until));
    VaAssessment { status, blocking, exempt, why, until, temporary: false }
}

fn report_until(
    rule: &VaRule,
    generated_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Timestamp>, &'static str> {
    match (rule.max_report_age, generated_at.map(|at| known_time(at, now))) {
        (None, _) => Ok(None),
        (Some(_), None) => Err("the report does not say when it was made, and the policy limits its age"),
        (Some(_), Some(None)) => Err("the report's time is still to come, and the policy limits its age"),
        (Some(age), Some(Some(at))) => Ok(Some(at.saturating_add(age).unwrap_or(Timestamp::MAX))),
    }
}

fn counts(rule: &VaRule, issue: &Issue) -> bool {
    rule.always_block.iter().any(|id| issue.is_called(id))
        || (issue.severity.counts_from(rule.severity) && (!rule.fixable_only || issue.is_fixable()))
}

pub(super) fn assessed(rule: &VaRule, assessment: &VaAssessment) -> Verdict {
    let why = |word: &str| {
        let why = assessment.why.as_deref().unwrap_or_default();
        vec![if why.is_empty() { word.to_owned() } else { format!("{word}: {why}") }]
    };
    let behaviour = match assessment.status {
        VaStatus::Ok | VaStatus::Warn => return Verdict::Pass(assessment.until),
        VaStatus::Fail => return Verdict::Fail(vec![describe(&assessment.blocking)]),
        VaStatus::Unscanned if assessment.temporary => rule.unavailable,
        VaStatus::Unscanned => rule.unscanned,
        VaStatus::Incomplete => rule.incomplete,
        VaStatus::Unsupported => rule.unsupported,
    };
    match behaviour {
        // An incomplete report ages like any other report.
        Behaviour::Allow => Verdict::Pass(assessment.until),
        Behaviour::Deny if assessment.temporary => {
            Verdict::Unknown { reasons: why("no assessment yet"), temporary: true }
        }
        Behaviour::Deny => Verdict::Fail(why(assessment.status.as_str())),
    }
}

/// Describes the issues, for example `3 issues not exempt (CVE-2024-1 critical openssl fixed in 3.0.11; +2)`. Only the
/// worst issue is shown in full.
fn describe(blocking: &[Issue]) -> String {
    let count = match blocking.len() {
        1 => "1 issue not exempt".to_owned(),
        n => format!("{n} issues not exempt"),
    };
    let Some(worst) = blocking.iter().rev().max_by_key(|issue| issue.severity as u8) else { return count };
    let mut text = format!("{count} ({} {}", worst.id, worst.severity.as_str());
    if let Some(package) = worst.packages.iter().max_by_key(|package| package.fixed.is_some()) {
        text.push_str(&format!(" {}", package.name));
        if let Some(fixed) = &package.fixed {
            text.push_str(&format!(" fixed in {fixed}"));
        }
    }
    if blocking.len() > 1 {
        text.push_str(&format!("; +{}", blocking.len() - 1));
    }
    text + ")"
}

/// An assessment is valid no longer than its evidence.
pub(super) fn observed_verdict(
    rule: &VaRule,
    evidence: &Observed<VaEvidence>,
    exemptions: &VaExemptions,
    now: Timestamp,
) -> Verdict {
    if has_ended(evidence, now) {
        return Verdict::Unknown { reasons: vec!["must be assessed again".into()], temporary: true };
    }
    match assessed(rule, &assess(rule, &evidence.value, exemptions, now)) {
        Verdict::Pass(until) => Verdict::Pass(earliest(until, evidence.until)),
        other => other,
    }
}

/// An index is denied when every relevant child is denied. Each child is judged again when it is pulled. The index
/// passes as long as at least one child passes.
pub(super) fn index_verdict<'a>(children: impl Iterator<Item = (&'a str, &'a Verdict)>) -> Verdict {
    let (mut passes, mut reasons, mut temporary, mut unknown) = (Vec::new(), Vec::new(), false, false);
    for (platform, verdict) in children {
        match verdict {
            Verdict::Pass(until) => passes.push(*until),
            Verdict::Skipped => passes.push(None),
            Verdict::Fail(why) => reasons.push(format!("{platform}: {}", why.join("; "))),
            Verdict::Unknown { reasons: why, temporary: may_help } => {
                unknown = true;
                temporary |= may_help;
                reasons.push(format!("{platform}: {}", why.join("; ")));
            }
        }
    }
    if let Some(longest) = passes.into_iter().max_by_key(|until| until.unwrap_or(Timestamp::MAX)) {
        return Verdict::Pass(longest);
    }
    match (reasons.is_empty(), unknown) {
        (true, _) => Verdict::Fail(vec!["the index has no image for any platform that matters here".into()]),
        (false, true) => Verdict::Unknown { reasons, temporary },
        (false, false) => Verdict::Fail(reasons),
    }
}

pub(super) fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}
