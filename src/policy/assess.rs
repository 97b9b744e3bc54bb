//! Vulnerability evidence weighed under a rule, in IBM's words.

use jiff::Timestamp;

use super::decide::Verdict;
use super::evidence::{Issue, VaEvidence, VaStatus};
use super::rule::{Behaviour, VaRule};

/// An assessment in IBM's words, under a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct VaAssessment {
    /// IBM's word.
    pub status: VaStatus,
    /// The issues that count under the rule and are not exempt.
    pub blocking: Vec<Issue>,
    /// Issues that are exempt.
    pub exempt: usize,
    /// Why there is no assessment, where there is none.
    pub why: Option<String>,
    /// Until when the report is young enough.
    pub until: Option<Timestamp>,
    /// Whether asking again may help, where there is no assessment.
    temporary: bool,
}

/// Weighs vulnerability evidence under a rule.
pub fn assess(rule: &VaRule, evidence: &VaEvidence, now: Timestamp) -> VaAssessment {
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
        VaEvidence::Unscanned => return without(VaStatus::Unscanned, "no report speaks of this image", false),
        VaEvidence::Incomplete { why } => return without(VaStatus::Incomplete, why, false),
        VaEvidence::Unsupported { why } => return without(VaStatus::Unsupported, why, false),
        VaEvidence::Unavailable { why } | VaEvidence::Pending { why } => {
            return without(VaStatus::Unscanned, why, true);
        }
    };
    let until = match report_until(rule, report.generated_at) {
        Ok(until) if until.is_none_or(|until| now < until) => until,
        Ok(_) => return without(VaStatus::Unscanned, "the report is older than the policy allows", false),
        Err(why) => return without(VaStatus::Unscanned, why, false),
    };
    let (exempt, open): (Vec<_>, Vec<_>) = report.issues.iter().partition(|issue| issue.exempt);
    let blocking: Vec<Issue> = open.into_iter().filter(|issue| counts(rule, issue)).cloned().collect();
    let status = match (blocking.is_empty(), exempt.is_empty()) {
        (false, _) => VaStatus::Fail,
        (true, false) => VaStatus::Warn,
        (true, true) => VaStatus::Ok,
    };
    VaAssessment { status, blocking, exempt: exempt.len(), why: None, until, temporary: false }
}

fn report_until(rule: &VaRule, generated_at: Option<Timestamp>) -> Result<Option<Timestamp>, &'static str> {
    match (rule.max_report_age, generated_at) {
        (None, _) => Ok(None),
        (Some(_), None) => Err("the report does not say when it was made, and the policy limits its age"),
        (Some(age), Some(at)) => Ok(Some(at.saturating_add(age).unwrap_or(Timestamp::MAX))),
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
        Behaviour::Allow => Verdict::Pass(None),
        Behaviour::Deny if assessment.temporary => {
            Verdict::Unknown { reasons: why("no assessment yet"), temporary: true }
        }
        Behaviour::Deny => Verdict::Fail(why(assessment.status.as_str())),
    }
}

/// `3 issues not exempt (CVE-2024-1 critical openssl fixed in 3.0.11; +2)`: the worst first, and only one in full.
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
