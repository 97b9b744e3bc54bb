//! What the gate itself could not examine in an image that another scanner reports on.
//!
//! Other scanners rarely say what they could not read. The gate reads all layers anyway, to prove that they are those of
//! the configuration. What it could not read there may hide packages from every scanner, so it makes a report incomplete.

use crate::policy::Report;
use crate::va::{Scanner, VaSubject};

/// What the gate knows about the limits of a report.
#[derive(Debug, Default)]
pub(super) struct ReportLimits {
    /// What could not be examined, in words.
    gaps: Option<String>,
    /// Whether a report without issues needs packages that the gate recognises, and there are none.
    is_unproven: bool,
}

impl ReportLimits {
    /// Examines an image. A service does not say what it examined, so for it the gate's advisories are asked, too: a
    /// distribution or an ecosystem that they do not know may be unknown to the service.
    ///
    /// # Errors
    /// If the image cannot be examined in its repository.
    pub(super) async fn of(
        embedded: &Scanner,
        subject: &VaSubject,
        is_service: bool,
        is_trusted: bool,
    ) -> Result<Self, String> {
        if is_trusted && !is_service {
            return Ok(Self::default());
        }
        let inventory = match embedded.inventory(subject).await {
            Ok(Some(inventory)) => inventory,
            Ok(None) => return Err("the image may not be read now".into()),
            Err(error) if error.is_temporary() => return Err(format!("the image cannot be read now: {error}")),
            Err(error) => return Err(format!("what the image contains cannot be read: {error}")),
        };
        let is_unproven = is_service && inventory.is_opaque();
        let gaps = if is_trusted { None } else { embedded.gaps(inventory, is_service).await? };
        Ok(Self { gaps, is_unproven })
    }

    /// The report, incomplete if something was not examined. Its issues stay.
    pub(super) fn limit(self, report: Report) -> Report {
        let unproven = (self.is_unproven && report.issues.is_empty())
            .then(|| "nothing was found, and the image has no distribution and no package that is recognised".into());
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
