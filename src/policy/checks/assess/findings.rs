//! What the conditions of a rule find.

use jiff::Timestamp;

use super::VaAssessment;
use super::verdict::earliest;
use crate::policy::vulnerability::{Issue, VaStatus};

/// What the conditions of a rule find.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) blocking: Vec<Issue>,
    /// The identifiers of issues that will count, and from when.
    pub(super) later: Vec<(String, Timestamp)>,
    pub(super) exempt: usize,
    /// Why the rule denies, one reason for each condition.
    pub(super) reasons: Vec<String>,
    /// Conditions that cannot be evaluated, and what is missing.
    pub(super) unknown: Vec<String>,
    /// Why the image is admitted only for now.
    pub(super) warnings: Vec<String>,
    until: Option<Timestamp>,
}

impl Findings {
    /// The result of a condition changes at this time.
    pub(super) fn changes_at(&mut self, at: Timestamp) {
        self.until = earliest(self.until, Some(at));
    }

    /// The assessment with this status.
    pub(super) fn with_status(self, status: VaStatus) -> VaAssessment {
        let Self { blocking, later, exempt, reasons, unknown, warnings, until } = self;
        VaAssessment { status, blocking, later, exempt, why: None, reasons, warnings, until, unknown, missing: None }
    }
}
