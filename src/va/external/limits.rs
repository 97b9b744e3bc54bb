//! The parts of an image that the gate itself could not examine, for reports of other scanners.
//!
//! Other scanners rarely say what they could not read. The gate reads all layers anyway, to prove that they are those of
//! the configuration. Parts that it could not read may hide packages from every scanner, so they make a report
//! incomplete.

use std::sync::Arc;

use super::no_report::NoReport;
use crate::inventory::Inventory;
use crate::policy::Report;
use crate::va::Scanner;

/// What the gate knows about the limits of a report.
#[derive(Debug, Default)]
pub(super) struct ReportLimits {
    /// What could not be examined, in words.
    gaps: Option<String>,
    /// Whether a report without issues needs packages that the gate recognises, and there are none.
    is_unproven: bool,
}

impl ReportLimits {
    /// The limits of a report on an image with this inventory. A service does not say what it examined, so for it the gate's
    /// advisories are asked, too: a distribution or an ecosystem that they do not know may be unknown to the service.
    ///
    /// # Errors
    /// If matching advisories ended abnormally.
    pub(super) async fn of(
        embedded: &Scanner,
        inventory: Arc<Inventory>,
        is_service: bool,
        is_trusted: bool,
    ) -> Result<Self, NoReport> {
        let is_unproven = is_service && inventory.is_opaque();
        let gaps = if is_trusted { None } else { embedded.gaps(inventory, is_service).await? };
        Ok(Self { gaps, is_unproven })
    }

    /// The report, incomplete if something was not examined. Its issues stay.
    pub(super) fn limit(self, report: Report) -> Report {
        let unproven = (self.is_unproven && report.issues.is_empty())
            .then(|| "nothing was found, and neither a distribution nor a package of the image was recognised".into());
        let is_only_past_support = report.is_only_past_support && unproven.is_none() && self.gaps.is_none();
        let all: Vec<String> = [report.incomplete, unproven, self.gaps].into_iter().flatten().collect();
        Report { incomplete: (!all.is_empty()).then(|| all.join("; ")), is_only_past_support, ..report }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_on_an_ended_release_lacks_more_if_the_image_was_not_examined() {
        let gap = Some("x".to_owned());
        for (gaps, is_unproven, expected) in [(None, false, true), (gap, false, false), (None, true, false)] {
            let report = Report { incomplete: Some("ended".into()), is_only_past_support: true, ..Report::default() };
            assert_eq!(ReportLimits { gaps, is_unproven }.limit(report).is_only_past_support, expected);
        }
    }
}
