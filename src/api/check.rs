//! The `check` command: judges one image and returns all findings.

pub(super) mod authority;

use std::cmp::Ordering;
use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::counts::{AssessedIssues, AssessmentCounts};
use super::query::{encode, parameter};
use super::security_status::security_status;
use super::{ABNORMAL_END, ExemptionAnswer};
use crate::gate::{ExplainedDecision, ExplainedEntry, Explanation, GateError, Inspector, KnownAssessment};
use crate::oci::{Digest, ImageReference};
use crate::policy::{
    self, AssessmentContext, ChildFinding, Coverage, CvssScore, Denial, DenialKind, ExemptStatus, Issue, Kind,
    Observed, VaAssessment, VaEvidence, VaExemptions, VaFindings, VaRule, VaStatus, Verdict,
};
use crate::scope::Scope;
pub use authority::{AuthorityAnswer, SignatureAnswer, SignerAnswer};

/// The image to judge, and the namespace whose rules apply.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CheckRequest {
    /// The image as users write it: `nginx:1.27`, `icr.io/acme/app@sha256:…`.
    pub image: String,
    /// The namespace whose rules apply; empty for the cluster-wide rules.
    #[serde(default)]
    pub namespace: String,
}

impl CheckRequest {
    /// The URL query of this request.
    pub fn to_query(&self) -> String {
        format!("image={}&namespace={}", encode(&self.image), encode(&self.namespace))
    }

    /// The image and the scope.
    ///
    /// # Errors
    /// A message, if one of them is not a valid name.
    pub(super) fn parse(&self, inspector: &Inspector) -> Result<(ImageReference, Scope), String> {
        let Self { image, namespace } = self;
        let reference = inspector.image(image).map_err(|error| match error {
            GateError::Name(invalid) => format!("{image:?}: {invalid}"),
            unclear => unclear.to_string(),
        })?;
        let scope = namespace.parse().map_err(|error| format!("{namespace:?}: {error}"))?;
        Ok((reference, scope))
    }

    /// Parses the query of a URL; `None` if it names no image.
    pub fn from_query(query: &str) -> Option<Self> {
        let namespace = parameter(query, "namespace").unwrap_or_default();
        Some(Self { image: parameter(query, "image")?, namespace })
    }
}

/// Judges an image as the gate does for a request.
///
/// # Errors
/// A message, if the image or the namespace is not a valid name, or the image cannot be judged.
pub async fn check(inspector: &Inspector, request: &CheckRequest) -> Result<CheckAnswer, String> {
    let (reference, scope) = request.parse(inspector)?;
    let explained = async {
        let target = inspector.target_of(&reference, &scope)?;
        inspector.explain(&target, &reference.reference()).await
    };
    let explanation = explained.await.map_err(|error: GateError| error.to_string())?;
    let answer = inspector.answer_aside(move || CheckAnswer::from(explanation)).await;
    answer.ok_or_else(|| ABNORMAL_END.to_owned())
}

/// Everything that the gate knows about one image, and what it decides.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CheckAnswer {
    /// Upstream, repository and reference, with the upstream's own host name.
    pub image: String,
    /// The namespace whose rules apply; empty for the cluster-wide rules.
    pub namespace: String,
    /// The digest that was judged; `None` if nothing was resolved.
    pub digest: Option<Digest>,
    /// What the manifest is.
    pub kind: Option<Kind>,
    /// The checks that the deciding entry requires but that were skipped because of the kind: `trust`, `simple`, `va`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
    /// The decision.
    pub decision: Decision,
    /// The reason as a client receives it, without the name of the gate; empty if the image is admitted.
    pub message: String,
    /// Denials that are not enforced: those of a gate in audit mode, and those of audited documents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_deny: Vec<String>,
    /// Why the image is admitted only for now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Every entry that applies to the image, with its findings.
    pub rules: Vec<RuleAnswer>,
}

/// A decision about an image.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// The image is served.
    Admit,
    /// The image is served only because the gate is in audit mode.
    WouldDeny,
    /// The image is not served.
    Deny,
    /// The image is not served now, because evidence is still being gathered.
    Pending,
    /// The image is not served now, because something that the decision needs is unavailable.
    Unavailable,
}

impl Decision {
    /// The decision that a denial is.
    fn of(denial: &Denial) -> Self {
        match denial.kind {
            DenialKind::Policy => Self::Deny,
            DenialKind::Pending => Self::Pending,
            DenialKind::Unavailable => Self::Unavailable,
        }
    }

    /// The name in JSON and in audit records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::WouldDeny => "would-deny",
            Self::Deny => "deny",
            Self::Pending => "pending",
            Self::Unavailable => "unavailable",
        }
    }
}

/// One entry of a document, with its findings.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RuleAnswer {
    /// Kind and name of the document.
    pub document: String,
    /// The entry's pattern.
    pub rule: String,
    /// Whether the entry is in audit mode, in which denials are only recorded.
    #[serde(default)]
    pub audited: bool,
    /// Whether this entry admits the image.
    pub admits: bool,
    /// Why it does not admit the image.
    pub message: String,
    /// The result of every authority that the entry names.
    pub authorities: Vec<AuthorityAnswer>,
    /// Vulnerability assessments: one for an image, one for each relevant child of an index.
    pub assessments: Vec<AssessmentAnswer>,
}

/// One vulnerability assessment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct AssessmentAnswer {
    /// The image's digest.
    pub digest: Digest,
    /// The platform, if an index states it.
    pub platform: Option<String>,
    /// The status, in the terms of IBM's Vulnerability Advisor.
    pub status: VaStatus,
    /// The status as the list of images shows it: `No Issues`, `2 Issues`, `Unavailable`. `None` from an earlier
    /// version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_status: Option<String>,
    /// The scanner that made the report.
    pub source: Option<String>,
    /// Why there is no assessment.
    pub why: Option<String>,
    /// The decision of the rule about the image, apart from signatures. `None` from an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// If the image is admitted, when the decision is made again and may change: when a grace, an exemption or the
    /// support of the distribution ends, or the report becomes too old. `None` also from an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why the image is not admitted, a reason for each condition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// All issues of the report, most severe first; of the same severity, the highest score first.
    pub issues: Vec<IssueAnswer>,
}

/// One issue of a report.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct IssueAnswer {
    /// The issue.
    #[serde(flatten)]
    pub issue: Issue,
    /// Whether the issue counts under the rule.
    pub blocks: bool,
    /// When it will count under the rule, if it does not yet: at the end of a grace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts_from: Option<Timestamp>,
    /// Whether it is exempt: by its source, or by the exemptions below.
    #[serde(default)]
    pub exempt_status: ExemptStatus,
    /// The exemptions that apply to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exemptions: Vec<ExemptionAnswer>,
    /// Those that applied to it and have ended, if it is not exempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended_exemptions: Vec<ExemptionAnswer>,
}

impl IssueAnswer {
    /// An issue to which no exemptions apply, except those of its source.
    pub(super) fn new(issue: Issue, blocks: bool) -> Self {
        let said = if issue.exempt { ExemptStatus::Exempt } else { ExemptStatus::Active };
        let (exempt_status, exemptions) = (exempt_status(said, blocks), Vec::new());
        let issue = Issue { exempt: exempt_status == ExemptStatus::Exempt, ..issue };
        Self { issue, blocks, counts_from: None, exempt_status, exemptions, ended_exemptions: Vec::new() }
    }

    /// The same with what the exemptions say about it.
    fn with(self, Coverage { status, used, .. }: Coverage) -> Self {
        let exempt_status = match self.exempt_status {
            ExemptStatus::Active => exempt_status(status, self.blocks),
            by_source => by_source,
        };
        let issue = Issue { exempt: exempt_status == ExemptStatus::Exempt, ..self.issue };
        Self { issue, exempt_status, exemptions: used.iter().map(|record| (&**record).into()).collect(), ..self }
    }
}

/// Issues count unless they are exempt; malware counts until each of its `MAL-` identifiers is exempt.
fn exempt_status(said: ExemptStatus, blocks: bool) -> ExemptStatus {
    match said {
        ExemptStatus::Exempt if blocks => ExemptStatus::Partial,
        said => said,
    }
}

impl AssessmentAnswer {
    /// Whether the rule for vulnerabilities admits the image. The answer of an earlier version has no decision: then
    /// only the issues decide, although another condition, such as a banned package, may deny the image.
    pub fn is_admitted(&self) -> bool {
        self.decision.map_or_else(|| !self.issues.iter().any(|found| found.blocks), |found| found == Decision::Admit)
    }

    /// The assessment of an image under a rule, with all issues, most severe first.
    pub fn new(
        digest: Digest,
        platform: Option<String>,
        rule: &VaRule,
        evidence: &VaEvidence,
        context: &AssessmentContext<'_>,
    ) -> Self {
        let assessed = policy::assess(rule, evidence, context);
        let (decision, until, reasons) = match policy::assessment_verdict(rule, &assessed) {
            (Verdict::Pass(until), _) => (Decision::Admit, until, Vec::new()),
            (Verdict::Skipped, _) => (Decision::Admit, None, Vec::new()),
            (Verdict::Unknown { reasons, temporary: true }, true) => (Decision::Pending, None, reasons),
            (Verdict::Unknown { reasons, temporary: true }, false) => (Decision::Unavailable, None, reasons),
            (Verdict::Fail(reasons) | Verdict::Unknown { reasons, .. }, _) => (Decision::Deny, None, reasons),
        };
        let VaAssessment { status, blocking, later, why, .. } = assessed;
        let later: HashMap<&str, Timestamp> = later.iter().map(|(issue, at)| (&**issue, *at)).collect();
        let source = evidence.report().map(|report| report.source.clone());
        let mut issues = evidence.issues().to_vec();
        issues.sort_by(worst_first);
        let standing = AssessedIssues::new(rule, &blocking, context);
        let answer = |issue: Issue| {
            let (blocks, coverage) = (standing.blocks(&issue), standing.coverage(&issue));
            let ended = context.exemptions.ended(&issue, context.now);
            let ended_exemptions = ended.iter().map(|record| (&**record).into()).collect();
            let counts_from = later.get(&*issue.id).copied().filter(|_| !blocks);
            IssueAnswer { ended_exemptions, counts_from, ..IssueAnswer::new(issue, blocks).with(coverage) }
        };
        let (decision, issues) = (Some(decision), issues.into_iter().map(answer).collect());
        let mut assessment =
            Self { digest, platform, status, security_status: None, source, why, decision, until, reasons, issues };
        assessment.security_status = Some(security_status(evidence, &AssessmentCounts::from(&assessment)));
        assessment
    }

    /// What is known about an image of a known tag.
    pub(crate) fn known(known: &KnownAssessment) -> Self {
        let KnownAssessment { digest, evidence, applied, .. } = known;
        Self::new(*digest, None, &applied.rule, &evidence.value, &applied.context())
    }
}

fn worst_first(one: &Issue, other: &Issue) -> Ordering {
    let rank = |issue: &Issue| (issue.severity as u8, issue.score.as_ref().map_or(-1.0, CvssScore::value));
    let ((severity, score), (other_severity, other_score)) = (rank(one), rank(other));
    let worse = other_severity.cmp(&severity).then(other_score.total_cmp(&score));
    worse.then_with(|| one.id.cmp(&other.id))
}

impl From<Explanation> for CheckAnswer {
    fn from(explanation: Explanation) -> Self {
        let (decision, message) = match &explanation.decision {
            ExplainedDecision::Admitted => (Decision::Admit, String::new()),
            ExplainedDecision::OnlyReported(denial) => (Decision::WouldDeny, denial.to_string()),
            ExplainedDecision::Denied(denial) => (Decision::of(denial), denial.to_string()),
        };
        let rules = explanation.entries.iter().map(|entry| rule(entry, explanation.digest, explanation.at)).collect();
        Self {
            image: explanation.image,
            namespace: explanation.scope.to_string(),
            digest: explanation.digest,
            kind: explanation.kind,
            skipped: explanation.skipped.into_iter().map(|stage| stage.as_str().to_owned()).collect(),
            decision,
            message,
            would_deny: explanation.would_deny.iter().map(ToString::to_string).collect(),
            warnings: explanation.warnings,
            rules,
        }
    }
}

fn rule(entry: &ExplainedEntry, digest: Option<Digest>, now: Timestamp) -> RuleAnswer {
    let (selected, outcome) = (&entry.opinion.selected, &entry.opinion.outcome);
    let rule = selected.rule.as_deref();
    let va_rule = rule.and_then(|rule| rule.va.as_ref());
    RuleAnswer {
        document: selected.document.to_string(),
        rule: selected.entry.to_string(),
        audited: entry.is_audited,
        admits: outcome.is_ok(),
        message: outcome.as_ref().err().map(ToString::to_string).unwrap_or_default(),
        authorities: rule.map_or_else(Vec::new, |rule| authority::answers(rule, &entry.trust, now)),
        assessments: va_rule.map_or_else(Vec::new, |rule| assessments(rule, entry, digest, now)),
    }
}

fn assessments(rule: &VaRule, entry: &ExplainedEntry, digest: Option<Digest>, now: Timestamp) -> Vec<AssessmentAnswer> {
    let answer = |digest, platform, va: &Observed<VaEvidence>, exemptions: &VaExemptions| {
        let context = AssessmentContext { exemptions, history: &entry.history, now };
        AssessmentAnswer::new(digest, platform, rule, &va.value, &context)
    };
    match (&entry.va, digest) {
        (Some(VaFindings::Image(evidence)), Some(digest)) => vec![answer(digest, None, evidence, &entry.exemptions)],
        (Some(VaFindings::Children(children)), _) => {
            let of_child = |child: &ChildFinding| {
                let exemptions = entry.exemptions.for_child(child.digest);
                answer(child.digest, Some(child.platform.clone()), &child.evidence, &exemptions)
            };
            children.iter().map(of_child).collect()
        }
        (Some(VaFindings::Image(_)), None) | (None, _) => Vec::new(),
    }
}
