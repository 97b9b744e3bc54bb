//! The numbers of an assessment. Lists of thousands of images show no more, so no issue is copied for them.

use std::collections::HashMap;

use super::{AssessmentAnswer, ImageScan};
use crate::gate::KnownAssessment;
use crate::policy::{self, AssessmentContext, Coverage, ExemptStatus, Issue, IssueKind, VaRule, VaStatus};

/// The status of an image and the numbers of its issues.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AssessmentCounts {
    /// The status, in the terms of IBM's Vulnerability Advisor.
    pub status: VaStatus,
    /// Issues that are not exempt, and those that count nevertheless. Configuration issues that the gate itself finds
    /// are among them only if they count.
    pub open: usize,
    /// Vulnerabilities that are reported: those that are not exempt, and those that are.
    pub vulnerabilities: [usize; 2],
    /// Configuration issues that are reported, in the same way.
    pub configuration: [usize; 2],
}

impl AssessmentCounts {
    /// The numbers of what is known about an image of a known tag.
    pub fn known(known: &KnownAssessment) -> Self {
        let (applied, evidence) = (&known.applied, &known.evidence.value);
        let context = applied.context();
        let assessed = policy::assess(&applied.rule, evidence, &context);
        let standing = AssessedIssues::new(&applied.rule, &assessed.blocking, &context);
        let mut counts = Self::none(assessed.status);
        for issue in evidence.issues() {
            let blocks = standing.blocks(issue);
            let is_exempt = !blocks && (issue.exempt || standing.coverage(issue).status == ExemptStatus::Exempt);
            counts.add(issue, blocks, is_exempt);
        }
        counts
    }

    /// The worst assessment of a known tag; it decides for an index.
    pub(crate) fn worst_of(assessments: &[KnownAssessment]) -> Option<(&KnownAssessment, Self)> {
        let counted = assessments.iter().map(|known| (known, Self::known(known)));
        counted.max_by_key(|(_, counts)| counts.badness())
    }

    fn none(status: VaStatus) -> Self {
        Self { status, open: 0, vulnerabilities: [0; 2], configuration: [0; 2] }
    }

    fn add(&mut self, issue: &Issue, blocks: bool, is_exempt: bool) {
        let is_own_check = issue.is_own_check();
        self.open += usize::from(blocks || !(is_exempt || is_own_check));
        // One that the gate itself finds in a configuration is reported only if it counts under the rule.
        if blocks || is_exempt || !is_own_check {
            let of_kind = match issue.kind {
                IssueKind::Vulnerability => &mut self.vulnerabilities,
                IssueKind::Configuration => &mut self.configuration,
            };
            of_kind[usize::from(is_exempt)] += 1;
        }
    }

    /// How bad the result is. What was not assessed is worse than what IBM's clients admit.
    pub(crate) fn badness(&self) -> (u8, usize) {
        let rank = match self.status {
            VaStatus::Fail => 5,
            VaStatus::Incomplete => 4,
            VaStatus::Unscanned => 3,
            VaStatus::Unsupported => 2,
            VaStatus::Warn => 1,
            VaStatus::Ok => 0,
        };
        (rank, self.open)
    }
}

impl From<&AssessmentAnswer> for AssessmentCounts {
    fn from(answer: &AssessmentAnswer) -> Self {
        let mut counts = Self::none(answer.status);
        answer.issues.iter().for_each(|found| counts.add(&found.issue, found.blocks, found.issue.exempt));
        counts
    }
}

impl From<&ImageScan> for AssessmentCounts {
    fn from(scan: &ImageScan) -> Self {
        Self::from(&scan.assessment)
    }
}

/// How each issue of an assessment counts.
pub(super) struct AssessedIssues<'a> {
    rule: &'a VaRule,
    context: &'a AssessmentContext<'a>,
    blocking: HashMap<&'a str, Vec<&'a Issue>>,
}

impl<'a> AssessedIssues<'a> {
    /// The standing of issues under a rule by which some of them block.
    pub(super) fn new(rule: &'a VaRule, blocking: &'a [Issue], context: &'a AssessmentContext<'a>) -> Self {
        let mut by_id: HashMap<&str, Vec<&Issue>> = HashMap::new();
        blocking.iter().for_each(|issue| by_id.entry(&issue.id).or_default().push(issue));
        Self { rule, context, blocking: by_id }
    }

    /// Whether the issue counts under the rule.
    pub(super) fn blocks(&self, issue: &Issue) -> bool {
        self.blocking.get(&*issue.id).is_some_and(|same| same.contains(&issue))
    }

    /// What the rule and the exemptions say about it.
    pub(super) fn coverage(&self, issue: &Issue) -> Coverage {
        let by_rule = self.rule.ignore.coverage(issue, self.context.now);
        match by_rule.status {
            ExemptStatus::Exempt => by_rule,
            ExemptStatus::Partial | ExemptStatus::Active => self.context.exemptions.coverage(issue, self.context.now),
        }
    }
}
