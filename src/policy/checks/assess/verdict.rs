//! From assessments to verdicts.

use jiff::Timestamp;

use super::{AssessmentContext, MissingAssessment, VaAssessment, assess};
use crate::policy::checks::signed::has_ended;
use crate::policy::checks::verdict::Verdict;
use crate::policy::observed::Observed;
use crate::policy::rules::rule::Behaviour;
use crate::policy::rules::va_rule::{Unscanned, VaRule};
use crate::policy::vulnerability::{VaEvidence, VaStatus};

/// The verdict of the check of vulnerabilities.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::policy) struct VaVerdict {
    pub(in crate::policy) verdict: Verdict,
    /// Whether an assessment is under way or expected, so that a retry soon may help.
    pub(in crate::policy) is_pending: bool,
    /// Why the image is admitted only for now, if it is admitted.
    pub(in crate::policy) warnings: Vec<String>,
}

impl VaVerdict {
    /// A verdict without warnings about facts that no source is asked for now.
    pub(in crate::policy) fn settled(verdict: Verdict) -> Self {
        Self { verdict, is_pending: false, warnings: Vec::new() }
    }
}

/// The verdict of an assessment under its rule, and whether a retry soon may help.
pub fn assessment_verdict(rule: &VaRule, assessment: &VaAssessment) -> (Verdict, bool) {
    let VaVerdict { verdict, is_pending, .. } = assessed(rule, assessment.clone());
    (verdict, is_pending)
}

/// The verdict of an assessment under its rule.
pub(in crate::policy) fn assessed(rule: &VaRule, assessment: VaAssessment) -> VaVerdict {
    let why = assessment.why.as_deref();
    let missing = assessment.missing.and_then(|missing| of_missing(rule, missing, why));
    let VaAssessment { reasons, unknown, warnings, until, .. } = assessment;
    match (reasons.is_empty(), missing) {
        (false, missing) => {
            let others = missing.into_iter().flat_map(|missing| reasons_of(missing.verdict));
            VaVerdict::settled(Verdict::Fail(reasons.into_iter().chain(unknown).chain(others).collect()))
        }
        (true, Some(mut missing)) => {
            if let Verdict::Fail(reasons) | Verdict::Unknown { reasons, .. } = &mut missing.verdict {
                reasons.extend(unknown);
            }
            missing
        }
        (true, None) if !unknown.is_empty() => {
            VaVerdict::settled(Verdict::Unknown { reasons: unknown, temporary: false })
        }
        (true, None) => VaVerdict { verdict: Verdict::Pass(until), is_pending: false, warnings },
    }
}

impl MissingAssessment {
    /// IBM's status for it.
    pub(super) fn status(self) -> VaStatus {
        match self {
            Self::Incomplete | Self::Opaque => VaStatus::Incomplete,
            Self::Unsupported => VaStatus::Unsupported,
            Self::Pending | Self::Stale | Self::Unavailable | Self::Unscanned => VaStatus::Unscanned,
        }
    }

    /// Whether the rule denies the image only until there is a result.
    pub(super) fn is_denied_for_now(self, rule: &VaRule) -> bool {
        match self {
            Self::Pending | Self::Unavailable => rule.unavailable == Behaviour::Deny,
            Self::Stale | Self::Unscanned => rule.unscanned == Unscanned::Wait,
            Self::Incomplete | Self::Opaque | Self::Unsupported => false,
        }
    }
}

/// The verdict about an image without a complete assessment; `None` if the rule admits it.
fn of_missing(rule: &VaRule, missing: MissingAssessment, why: Option<&str>) -> Option<VaVerdict> {
    let (key, behaviour, release) = match missing {
        MissingAssessment::Incomplete => ("incomplete", rule.incomplete, "once everything can be assessed"),
        MissingAssessment::Opaque => ("opaque", rule.opaque, "once something is recognised in it"),
        MissingAssessment::Unsupported => ("unsupported", rule.unsupported, "by unsupported: allow"),
        MissingAssessment::Pending => ("unavailable", rule.unavailable, "once the assessment has ended"),
        MissingAssessment::Unavailable => ("unavailable", rule.unavailable, "once a source can assess it"),
        MissingAssessment::Unscanned => match rule.unscanned {
            Unscanned::Allow => ("unscanned", Behaviour::Allow, ""),
            Unscanned::Deny | Unscanned::Wait => ("unscanned", Behaviour::Deny, "once a report covers it"),
        },
        MissingAssessment::Stale => {
            ("unscanned", Behaviour::Deny, "by a newer report that is made with current databases")
        }
    };
    if behaviour == Behaviour::Allow {
        return None;
    }
    let why = why.filter(|why| !why.is_empty());
    let said = |word: &str| why.map_or_else(|| word.to_owned(), |why| format!("{word}: {why}"));
    if missing.is_denied_for_now(rule) {
        let is_waited_for = key == "unscanned";
        let text = said("no assessment yet");
        let word = if is_waited_for { "wait" } else { "deny" };
        let reasons = vec![released(rule, &text, &format!("{key}: {word}"), release)];
        let is_pending = is_waited_for || missing == MissingAssessment::Pending;
        let verdict = Verdict::Unknown { reasons, temporary: true };
        return Some(VaVerdict { verdict, is_pending, warnings: Vec::new() });
    }
    let text = said(missing.status().as_str());
    let text = released(rule, &text, &format!("{key}: deny"), release);
    Some(VaVerdict::settled(Verdict::Fail(vec![text])))
}

/// Why the rule denies an image for which this is missing, beside other reasons; nothing if it does not.
pub(super) fn missing_reasons(rule: &VaRule, missing: MissingAssessment, why: &str) -> Vec<String> {
    of_missing(rule, missing, Some(why)).map(|missing| reasons_of(missing.verdict)).unwrap_or_default()
}

/// A reason, with what in the rule denies and what releases the image. Documents of IBM do not have the keys.
fn released(rule: &VaRule, text: &str, key: &str, release: &str) -> String {
    match rule.is_ibm() {
        true => format!("{text} (released {release})"),
        false => format!("{text} ({key}; released {release})"),
    }
}

fn reasons_of(verdict: Verdict) -> Vec<String> {
    match verdict {
        Verdict::Fail(reasons) | Verdict::Unknown { reasons, .. } => reasons,
        Verdict::Pass(_) | Verdict::Skipped => Vec::new(),
    }
}

/// An assessment is valid no longer than its evidence.
pub(in crate::policy) fn observed_verdict(
    rule: &VaRule,
    evidence: &Observed<VaEvidence>,
    context: &AssessmentContext<'_>,
) -> VaVerdict {
    if has_ended(evidence, context.now) {
        let is_pending = matches!(evidence.value.of_sources(), VaEvidence::Pending { .. });
        let verdict = Verdict::Unknown { reasons: vec!["must be assessed again".into()], temporary: true };
        return VaVerdict { verdict, is_pending, warnings: Vec::new() };
    }
    let mut found = assessed(rule, assess(rule, &evidence.value, context));
    if let Verdict::Pass(until) = &mut found.verdict {
        *until = earliest(*until, evidence.until);
    }
    found
}

/// An index is denied when every relevant child is denied. Each child is judged again when it is pulled. The index
/// passes as long as at least one child passes.
pub(in crate::policy) fn index_verdict<'a>(children: impl Iterator<Item = (&'a str, VaVerdict)>) -> VaVerdict {
    let (mut passes, mut reasons, mut temporary, mut unknown) = (Vec::new(), Vec::new(), false, false);
    let (mut warnings, mut pending) = (Vec::new(), false);
    for (platform, child) in children {
        pending |= child.is_pending;
        warnings.extend(child.warnings.iter().map(|warning| format!("{platform}: {warning}")));
        match child.verdict {
            Verdict::Pass(until) => passes.push(until),
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
        return VaVerdict { verdict: Verdict::Pass(longest), is_pending: false, warnings };
    }
    let verdict = match (reasons.is_empty(), unknown) {
        (true, _) => Verdict::Fail(vec!["the index has no image for any platform that matters here".into()]),
        (false, true) => Verdict::Unknown { reasons, temporary },
        (false, false) => Verdict::Fail(reasons),
    };
    VaVerdict { verdict, is_pending: pending, warnings: Vec::new() }
}

/// The earlier of two times; `None` means never.
pub(in crate::policy) fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}
