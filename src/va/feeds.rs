//! Adds data from feeds to the issues in reports of other sources: known exploitation (KEV), and its probability
//! (EPSS). The gate's own scanner does the same while it matches.

use crate::advisories::{self, Databases};
use crate::inventory::Gap;
use crate::policy::{Epss, Feeds, Report};

/// When the feeds were published that are in use. One that could not be read, as a gap says, counts as missing.
pub(super) fn of(databases: &Databases, gaps: &[Gap]) -> Feeds {
    let published = |name: &str| {
        let status = databases.status().iter().find(|status| status.source == name)?;
        let is_read = gaps.iter().all(|gap| gap.place != name);
        status.generation.as_ref().filter(|_| is_read).map(|used| used.built)
    };
    Feeds { kev: published("kev"), epss: published("epss") }
}

/// Whether a report lacks what the feeds say. Issues that were added to it lack it.
pub(super) fn are_missing(databases: &Databases, report: &Report, has_additions: bool) -> bool {
    let feeds = of(databases, &[]);
    feeds != Feeds::default() && (has_additions || report.image.feeds != feeds)
}

/// The report with the data of the feeds. A damaged feed makes it incomplete.
pub(super) fn add(databases: &Databases, mut report: Report) -> Report {
    let mut gaps = Vec::new();
    for issue in &mut report.issues {
        let names = std::iter::once(&*issue.id).chain(issue.aliases.iter().map(|alias| &**alias));
        let rating = advisories::rate(databases, names, &mut gaps);
        issue.exploited |= rating.exploited;
        issue.epss = issue.epss.max(rating.epss.and_then(Epss::new));
    }
    let feeds = of(databases, &gaps);
    report.image.feeds.kev = feeds.kev.or(report.image.feeds.kev);
    report.image.feeds.epss = feeds.epss.or(report.image.feeds.epss);
    if let Some(Gap { place, problem }) = gaps.first() {
        let other = report.incomplete.take().filter(|_| !report.is_only_past_support);
        report.incomplete = Some(other.unwrap_or_else(|| format!("{place}: {problem}")));
        report.is_only_past_support = false;
    }
    report
}
