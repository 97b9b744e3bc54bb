//! The parts of an image that the gate itself could not examine, for reports of other scanners.
//!
//! Other scanners rarely say what they could not read. The gate reads all layers anyway, to prove that they are those
//! of the configuration. Parts that it could not read may hide packages from every scanner, so they make a report
//! incomplete.

use std::sync::Arc;

use super::no_report::NoReport;
use crate::advisories;
use crate::inventory::{Inventory, LinuxDistribution};
use crate::policy::{ImageFacts, Report};
use crate::va::Scanner;
use crate::va::end_of_support::release_name;

/// What the gate knows about the limits of a report.
#[derive(Debug, Default)]
pub(super) struct ReportLimits {
    /// What could not be examined, in words.
    gaps: Option<String>,
    /// Whether a report without issues needs packages that the gate recognises, and there are none.
    is_unproven: bool,
    /// The distribution that the gate itself has found in the image.
    distribution: Option<LinuxDistribution>,
}

impl ReportLimits {
    /// The limits of a report on an image with this inventory. A service does not say what it examined, so for it the
    /// gate's advisories are asked, too: a distribution or an ecosystem that they do not know may be unknown to the
    /// service.
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
        let distribution = inventory.distribution.clone();
        let gaps = if is_trusted { None } else { embedded.gaps(inventory, is_service).await? };
        Ok(Self { gaps, is_unproven, distribution })
    }

    /// The report, incomplete if something was not examined. Its issues stay.
    pub(super) fn limit(self, report: Report) -> Report {
        let unproven = (self.is_unproven && report.issues.is_empty())
            .then(|| "nothing was found, and neither a distribution nor a package of the image was recognised".into());
        let is_only_past_support = report.is_only_past_support && unproven.is_none() && self.gaps.is_none();
        let all: Vec<String> = [report.incomplete, unproven, self.gaps].into_iter().flatten().collect();
        let image = with_distribution(report.image, self.distribution.as_ref());
        Report { incomplete: (!all.is_empty()).then(|| all.join("; ")), is_only_past_support, image, ..report }
    }
}

/// The facts with the end of support of the distribution in the image, if that is known. It replaces the one that
/// follows from what the report calls the distribution, because scanners do not say everything that it depends on. If
/// the report says that the support has ended, the time of the report still counts.
fn with_distribution(image: ImageFacts, found: Option<&LinuxDistribution>) -> ImageFacts {
    let Some(found) = found else { return image };
    let said = image.end_of_life.filter(|_| image.has_ended_before);
    let end_of_life = match advisories::support_ends(found) {
        Some(end) => Some(said.map_or(end, |said| said.min(end))),
        None => image.end_of_life,
    };
    ImageFacts { end_of_life, distribution: image.distribution.or_else(|| Some(release_name(found))), ..image }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_on_an_ended_release_lacks_more_if_the_image_was_not_examined() {
        let gap = Some("x".to_owned());
        for (gaps, is_unproven, expected) in [(None, false, true), (gap, false, false), (None, true, false)] {
            let report = Report { incomplete: Some("ended".into()), is_only_past_support: true, ..Report::default() };
            let limits = ReportLimits { gaps, is_unproven, distribution: None };
            assert_eq!(limits.limit(report).is_only_past_support, expected);
        }
    }

    /// Adapters do not say which distribution an image has, and other scanners not whether its support is extended.
    #[test]
    fn the_end_of_support_is_that_of_the_distribution_in_the_image() {
        let system = |id: &str, version: &str, extended_support| {
            let (id, version) = (id.to_owned(), version.to_owned());
            Some(LinuxDistribution { id, version, extended_support, ..LinuxDistribution::default() })
        };
        let (regular, extended) = ("2023-05-31T23:59:59Z", "2028-03-31T23:59:59Z");
        let (debian, reported) = ("2022-06-30T23:59:59Z", "2026-01-01T00:00:00Z");
        for (stated, says_ended, distribution, expected) in [
            (None, false, None, None),
            (None, false, system("debian", "9", false), Some(debian)),
            (None, false, system("wolfi", "", false), None),
            (Some(regular), false, system("ubuntu", "18.04", false), Some(regular)),
            (Some(regular), false, system("ubuntu", "18.04", true), Some(extended)),
            (Some(regular), false, system("wolfi", "", false), Some(regular)),
            (Some(reported), true, system("ubuntu", "18.04", true), Some(reported)),
            (Some(reported), true, system("debian", "9", false), Some(debian)),
            (Some(reported), true, None, Some(reported)),
        ] {
            let end_of_life = stated.map(|at: &str| at.parse().unwrap());
            let image = ImageFacts { end_of_life, has_ended_before: says_ended, ..ImageFacts::default() };
            let limits = ReportLimits { gaps: None, is_unproven: false, distribution };
            let image = limits.limit(Report { image, ..Report::default() }).image;
            assert_eq!(image.end_of_life.map(|at| at.to_string()).as_deref(), expected);
            assert_eq!(image.has_ended_before, says_ended);
        }
    }
}
