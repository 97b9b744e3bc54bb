//! Assesses what is known about an image under a rule, with IBM's status values.
//!
//! Each module is about one kind of condition. A condition adds to the [`Findings`]: reasons to deny, what is not
//! known, and when its result changes by itself.

mod age;
mod findings;
mod image;
mod issues;
mod packages;
mod text;
mod verdict;
mod when;

use jiff::Timestamp;

use crate::policy::rules::exemption::VaExemptions;
use crate::policy::rules::rule::Behaviour;
use crate::policy::rules::va_rule::{Unscanned, VaRule};
use crate::policy::vulnerability::history::ImageHistory;
use crate::policy::vulnerability::{ImageFacts, Issue, PackageList, Report, VaEvidence, VaStatus};
use findings::Findings;
pub use verdict::assessment_verdict;
use verdict::missing_reasons;
pub(in crate::policy) use verdict::{VaVerdict, assessed, earliest, index_verdict, observed_verdict};
pub use when::{asks_for_configuration, condition as when_condition};

/// The inputs of an assessment besides the rule and the evidence.
#[derive(Clone, Copy, Debug)]
pub struct AssessmentContext<'a> {
    /// The exemptions that apply to the image in addition to those that the sources include in their reports.
    pub exemptions: &'a VaExemptions,
    /// What the gate remembers about the image.
    pub history: &'a ImageHistory,
    /// The time of the decision.
    pub now: Timestamp,
}

/// An assessment under a rule, with IBM's status.
#[derive(Clone, Debug, PartialEq)]
pub struct VaAssessment {
    /// IBM's status.
    pub status: VaStatus,
    /// The issues that count under the rule and are not exempt.
    pub blocking: Vec<Issue>,
    /// The identifiers of the issues that will count under the rule, and from when.
    pub later: Vec<(String, Timestamp)>,
    /// The number of exempt issues. The source, the rule or an exemption can make an issue exempt.
    pub exempt: usize,
    /// The reason why there is no assessment, if there is none.
    pub why: Option<String>,
    /// Why the rule denies, one reason for each condition that is not met.
    pub reasons: Vec<String>,
    /// Why the image is admitted only for now, if it is admitted.
    pub warnings: Vec<String>,
    /// When the result changes by itself: a report becomes too old, an exemption or a grace ends. It changes sooner if
    /// the evidence does.
    pub until: Option<Timestamp>,
    /// Conditions that cannot be evaluated, and what is missing.
    unknown: Vec<String>,
    missing: Option<MissingAssessment>,
}

/// Why there is no complete assessment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum MissingAssessment {
    Incomplete,
    Opaque,
    Pending,
    /// There is a report, but the rule does not accept its age.
    Stale,
    Unavailable,
    Unscanned,
    Unsupported,
}

const NO_REPORT: &str = "no report covers this image";

/// Assesses the evidence about an image under a rule.
pub fn assess(rule: &VaRule, evidence: &VaEvidence, context: &AssessmentContext<'_>) -> VaAssessment {
    let mut findings = Findings::default();
    image::cool_down(rule, evidence, context, &mut findings);
    let found = of_evidence(rule, evidence, &ImageFacts::default(), context, findings);
    match evidence.image().and_then(|image| image::unknown_bases(rule, image)) {
        Some(why) if found.reasons.is_empty() => VaAssessment {
            status: VaStatus::Unscanned,
            why: Some(why.to_owned()),
            missing: Some(MissingAssessment::Unavailable),
            ..found
        },
        _ => found,
    }
}

/// Whether the rule denies the image until a source answers, whatever else is found out about it.
pub fn is_denied_until_answered(rule: &VaRule, evidence: &VaEvidence) -> bool {
    evidence.is_unanswered() && MissingAssessment::Unavailable.is_denied_for_now(rule)
}

/// `image` is what the gate itself knows about an image without a report.
fn of_evidence(
    rule: &VaRule,
    evidence: &VaEvidence,
    image: &ImageFacts,
    context: &AssessmentContext<'_>,
    mut findings: Findings,
) -> VaAssessment {
    let (missing, why) = match evidence {
        VaEvidence::Report(report) => return of_report(rule, report, context, findings),
        VaEvidence::Opaque { why, issues, image } => return of_opaque(rule, why, (issues, image), context, findings),
        VaEvidence::WithOrigin { evidence, image } => {
            image::base(rule, image, &mut findings);
            return of_evidence(rule, evidence, image, context, findings);
        }
        VaEvidence::Unscanned => (MissingAssessment::Unscanned, NO_REPORT.to_owned()),
        VaEvidence::NoReport { why, issues } => {
            let (missing, why) = (MissingAssessment::Unscanned, format!("{NO_REPORT}: {why}"));
            if !issues.is_empty() && !rule.is_ibm() {
                return of_issues_alone(rule, (missing, &why), (issues, image), context, findings);
            }
            (missing, why)
        }
        VaEvidence::Unreadable { problems } => {
            let files = if *problems == 1 { "file" } else { "files" };
            let why = format!("{NO_REPORT}, and {problems} report {files} cannot be read (/readyz says which)");
            (MissingAssessment::Unscanned, why)
        }
        VaEvidence::Incomplete { why } => (MissingAssessment::Incomplete, why.clone()),
        // The tools of IBM admit such an image whatever is listed.
        VaEvidence::Unsupported { why, issues } if !issues.is_empty() && !rule.is_ibm() => {
            let missing = (MissingAssessment::Unsupported, &**why);
            return of_issues_alone(rule, missing, (issues, image), context, findings);
        }
        VaEvidence::Unsupported { why, .. } => (MissingAssessment::Unsupported, why.clone()),
        VaEvidence::Unavailable { why } => (MissingAssessment::Unavailable, why.clone()),
        VaEvidence::Pending { why } => (MissingAssessment::Pending, why.clone()),
    };
    // A condition on what is not known yet must not make a denial final that ends once there is a result.
    if !missing.is_denied_for_now(rule) {
        when::without_report(rule, image, None, context, &mut findings);
    }
    without(missing, &why, findings)
}

/// The assessment if there is no report. Conditions that need one are not evaluated: the rule determines whether such
/// an image is admitted.
fn without(missing: MissingAssessment, why: &str, findings: Findings) -> VaAssessment {
    VaAssessment { why: Some(why.to_owned()), missing: Some(missing), ..findings.with_status(missing.status()) }
}

/// Assesses an image without a report in which something was found nevertheless: by a source that cannot assess it, or
/// by a document that is not the report of a scanner. That denies, also where a rule admits what has no report.
fn of_issues_alone(
    rule: &VaRule,
    (missing, why): (MissingAssessment, &str),
    (issues, image): (&[Issue], &ImageFacts),
    context: &AssessmentContext<'_>,
    findings: Findings,
) -> VaAssessment {
    let mut findings = findings;
    let report = Report { issues: issues.to_vec(), image: image.clone(), ..Report::default() };
    let open = issues::assess(rule, &report, context, &mut findings);
    if !missing.is_denied_for_now(rule) {
        when::without_report(rule, image, Some(&open), context, &mut findings);
    }
    let status = if findings.reasons.is_empty() { missing.status() } else { VaStatus::Fail };
    VaAssessment { status, ..without(missing, why, findings) }
}

/// Assesses an image in which nothing was recognised. Unsafe files and conditions on the image can still deny it. It
/// has no packages.
fn of_opaque(
    rule: &VaRule,
    why: &str,
    (issues, image): (&[Issue], &ImageFacts),
    context: &AssessmentContext<'_>,
    findings: Findings,
) -> VaAssessment {
    let mut findings = findings;
    let packages = Some(PackageList::default());
    let report = Report { issues: issues.to_vec(), image: image.clone(), packages, ..Report::default() };
    let open = issues::assess(rule, &report, context, &mut findings);
    age::of_feeds(rule, &report, context, &mut findings);
    image::end_of_life(rule, image, context, &mut findings);
    image::base(rule, image, &mut findings);
    when::assess(rule, &report, &open, context, &mut findings);
    with_missing(rule, findings, std::iter::once((MissingAssessment::Opaque, why.to_owned())))
}

/// Assesses a report. Its findings deny even if it is incomplete or too old.
fn of_report(rule: &VaRule, report: &Report, context: &AssessmentContext<'_>, findings: Findings) -> VaAssessment {
    let mut findings = findings;
    let open = issues::assess(rule, report, context, &mut findings);
    issues::check_source(rule, report, &mut findings);
    age::of_feeds(rule, report, context, &mut findings);
    image::end_of_life(rule, &report.image, context, &mut findings);
    image::base(rule, &report.image, &mut findings);
    packages::licences(rule, report, &mut findings);
    packages::banned(rule, report, &mut findings);
    packages::cool_down(rule, report, context, &mut findings);
    when::assess(rule, report, &open, context, &mut findings);
    // Where images without a report are admitted, one that is too old is judged all the same: a limit must not admit
    // what would be denied without it.
    let stale = age::of_report(rule, report, context, &mut findings).err();
    let stale = stale.filter(|_| rule.unscanned != Unscanned::Allow).map(|why| (MissingAssessment::Stale, why));
    // That newer issues are not known is what `endOfLife` is about.
    let is_judged = match rule.end_of_life {
        Behaviour::Allow => !rule.is_ibm(),
        Behaviour::Deny => !findings.reasons.is_empty(),
    };
    let incomplete = report.incomplete.clone().filter(|_| !(report.covers_image() && is_judged));
    let incomplete = incomplete.map(|why| (MissingAssessment::Incomplete, why));
    with_missing(rule, findings, stale.into_iter().chain(incomplete))
}

/// The assessment of evidence that lacks this. A denial for another reason names it as well, so that it lists
/// everything that must change.
fn with_missing(
    rule: &VaRule,
    mut findings: Findings,
    mut missing: impl Iterator<Item = (MissingAssessment, String)>,
) -> VaAssessment {
    let first = if findings.reasons.is_empty() { missing.next() } else { None };
    for (other, why) in missing {
        let reasons = missing_reasons(rule, other, &why);
        if first.is_some() { findings.unknown.extend(reasons) } else { findings.reasons.extend(reasons) }
    }
    match (first, findings.exempt) {
        (Some((missing, why)), _) => without(missing, &why, findings),
        _ if !findings.reasons.is_empty() => findings.with_status(VaStatus::Fail),
        _ if !findings.unknown.is_empty() => findings.with_status(VaStatus::Incomplete),
        (None, 1..) => findings.with_status(VaStatus::Warn),
        (None, 0) => findings.with_status(VaStatus::Ok),
    }
}
