//! What feeds say about the issues in reports of other sources: which are known to be exploited (KEV), and how probable
//! exploitation is (EPSS). The gate's own scanner does the same while it matches.

use jiff::Timestamp;

use crate::advisories::{self, Databases};
use crate::policy::{Epss, Feeds, Report, VaEvidence};

/// When the feeds were published that are in use.
pub(super) fn of(databases: &Databases) -> Feeds {
    Feeds { kev: published(databases, "kev"), epss: published(databases, "epss") }
}

fn published(databases: &Databases, name: &str) -> Option<Timestamp> {
    databases.status().iter().find(|status| status.source == name)?.generation.as_ref().map(|used| used.built)
}

/// Whether the evidence is a report that lacks what the feeds say.
pub(super) fn lacks(databases: &Databases, evidence: &VaEvidence) -> bool {
    let feeds = of(databases);
    matches!(evidence, VaEvidence::Report(report) if feeds != Feeds::default() && report.image.feeds != feeds)
}

/// The report with what the feeds say. A feed that is damaged makes it incomplete.
pub(super) fn add(databases: &Databases, mut report: Report) -> Report {
    let feeds = of(databases);
    report.image.feeds =
        Feeds { kev: feeds.kev.or(report.image.feeds.kev), epss: feeds.epss.or(report.image.feeds.epss) };
    for issue in &mut report.issues {
        let names = std::iter::once(&*issue.id).chain(issue.aliases.iter().map(|alias| &**alias));
        match advisories::rate(databases, names) {
            Ok(rating) => {
                issue.exploited |= rating.exploited;
                issue.epss = issue.epss.max(rating.epss.and_then(Epss::new));
            }
            Err(gap) => report.incomplete = Some(format!("{}: {}", gap.place, gap.problem)),
        }
    }
    report
}
