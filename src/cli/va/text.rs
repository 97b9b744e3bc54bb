//! The report of `pullgate va` as text, with the sections and words of `ibmcloud cr va`.

use jiff::Timestamp;

use super::AskedImage;
use crate::api::ibm::{IbmSummary, NOT_SCANNED, not_scanned};
use crate::api::{
    Decision, ImageScan, IssueAnswer, PackageAnswer, PackageUpgrade, other_identifiers, remedies, upgrades, vendor_link,
};
use crate::cli::output::counted;
use crate::cli::table::{table, wrapped};
use crate::policy::{AffectedPackage, DatedDatabase, ExemptStatus, IssueKind, Purl, Severity, VaStatus, lists_cve};
use crate::runtime::printable;

/// How many packages of one issue are named, unless everything is asked for.
const MAX_NAMED: usize = 4;

/// What is shown.
pub(super) struct Show {
    /// All packages.
    pub(super) packages: bool,
    /// More about each issue.
    pub(super) extended: bool,
    /// Only issues of this kind.
    pub(super) only: Option<IssueKind>,
    /// The width of the terminal, in characters.
    pub(super) width: Option<usize>,
}

/// The reports on the images that one name means.
pub(super) fn describe(asked: &AskedImage, show: &Show) -> String {
    asked.scans.iter().map(|scan| describe_scan(&asked.image, scan, show)).collect::<Vec<_>>().join("\n")
}

fn describe_scan(image: &str, scan: &ImageScan, show: &Show) -> String {
    let mut text = heading(image, scan);
    text.push('\n');
    facts(&mut text, scan);
    let of = |kind: IssueKind| {
        let is_shown = show.only.is_none_or(|only| only == kind);
        let mut issues: Vec<&IssueAnswer> =
            scan.assessment.issues.iter().filter(|found| is_shown && found.issue.kind == kind).collect();
        issues.sort_by_key(|found| PolicyStanding::of(found));
        issues
    };
    let (configuration, vulnerabilities) = (of(IssueKind::Configuration), of(IssueKind::Vulnerability));
    if !configuration.is_empty() {
        text += &section("Configuration Issues Found");
        text += &configuration_table(&configuration, show);
    }
    if !vulnerabilities.is_empty() {
        text += &section("Vulnerable Packages Found");
        text += &to_resolve_all(&vulnerabilities);
        text += &vulnerability_table(&vulnerabilities, show);
        text += advice(&vulnerabilities);
    }
    if show.packages {
        text += &section("Installed Packages");
        text += &packages_table(scan);
    }
    text
}

/// Whether the image was scanned, and the number of issues.
fn heading(image: &str, scan: &ImageScan) -> String {
    let (image, assessment) = (printable(image), &scan.assessment);
    if assessment.status == VaStatus::Unscanned {
        return format!("{NOT_SCANNED}: {}\n", not_scanned(&image));
    }
    let at = scan.scanned_at().unwrap_or(Timestamp::UNIX_EPOCH);
    let mut text = format!("Image '{image}' was last scanned on {}\n", at.strftime("%a %b %e %H:%M:%S UTC %Y"));
    let count = IbmSummary::from(scan).issue_count;
    text += &match (assessment.status, count) {
        (VaStatus::Unsupported, _) => "The image cannot be scanned: Unsupported OS.\n".to_owned(),
        (VaStatus::Incomplete, 0) if assessment.why.is_some() || assessment.is_admitted() => {
            "The image could be scanned only in part; in that part no issue is known.\n".into()
        }
        (_, 0) if !assessment.is_admitted() && assessment.issues.is_empty() => {
            "No issue is known, but the policy denies the image.\n".into()
        }
        (_, 0) if !assessment.is_admitted() => "All issues are exempt, but the policy denies the image.\n".into(),
        (_, 0) => "The scan results show that NO ISSUES were found for the image.\n".to_owned(),
        (_, count) => {
            format!("The scan results show that {} found for the image.\n", counted(count, "ISSUE was", "ISSUES were"))
        }
    };
    if !assessment.issues.is_empty() {
        text += &by_severity(&assessment.issues);
    }
    text
}

/// The databases in which the packages of the image were looked up: `osv-pypi of 2024-10-10 (777 days old)`.
fn databases(scan: &ImageScan) -> Option<String> {
    let seen = scan.observed_at?;
    let described = scan.databases.iter().map(|DatedDatabase { source, built }| {
        let age = match seen.duration_since(*built).as_hours() / 24 {
            ..=0 => "less than a day old".to_owned(),
            days => format!("{} old", counted(days, "day", "days")),
        };
        format!("{source} of {} ({age})", built.strftime("%Y-%m-%d"))
    });
    let described: Vec<String> = described.collect();
    (!described.is_empty()).then(|| described.join(", "))
}

/// `2 critical, 1 low. 1 of them is not covered by the rule. 3 issues are exempt.`
fn by_severity(issues: &[IssueAnswer]) -> String {
    use Severity::{Critical, High, Low, Medium, Negligible, Unknown};
    let active = || issues.iter().filter(|found| !found.issue.exempt);
    let counts = [Unknown, Critical, High, Medium, Low, Negligible].map(|severity| {
        let count = active().filter(|found| found.issue.severity == severity).count();
        let word = if severity == Unknown { "of unknown severity" } else { severity.as_str() };
        (count > 0).then(|| format!("{count} {word}"))
    });
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    let is = |count: usize| if count == 1 { "is" } else { "are" };
    let mut sentences = Vec::new();
    if !counts.is_empty() {
        sentences.push(format!("{}.", counts.join(", ")));
    }
    let later = active().filter(|found| !found.blocks && found.counts_from.is_some()).count();
    if later > 0 {
        sentences.push(format!("{later} of them {} counted from a later time on.", is(later)));
    }
    let uncovered = active().filter(|found| !found.blocks && found.counts_from.is_none()).count();
    if uncovered > 0 {
        sentences.push(format!("{uncovered} of them {} not covered by the rule.", is(uncovered)));
    }
    let exempt = issues.iter().filter(|found| found.issue.exempt).count();
    if exempt > 0 {
        sentences.push(format!("{} exempt.", counted(exempt, "issue is", "issues are")));
    }
    format!("{}\n", sentences.join(" "))
}

/// What the image is, who judged it, and what could not be read.
fn facts(text: &mut String, scan: &ImageScan) {
    let assessment = &scan.assessment;
    let mut line = |label: &str, value: &str| *text += &format!("  {label:<14} {}\n", printable(value));
    line("status", assessment.status.as_str());
    // What is missing is also among the reasons of a denial.
    let why = assessment.why.iter().filter(|_| assessment.reasons.is_empty());
    why.for_each(|why| line("reason", why));
    let denied = match assessment.decision {
        Some(Decision::Pending | Decision::Unavailable) => "denied for now",
        _ => "denied",
    };
    assessment.reasons.iter().for_each(|reason| line(denied, reason));
    assessment.until.iter().for_each(|until| line("until", &until.to_string()));
    line("digest", &assessment.digest.to_string());
    assessment.platform.iter().for_each(|platform| line("platform", platform));
    if let Some(distribution) = &scan.distribution {
        let named = format!("{} {}", distribution.id, distribution.version);
        let pretty = &distribution.pretty_name;
        line("distribution", if pretty.is_empty() { named.trim_end() } else { pretty });
    }
    line("packages", &scan.packages.len().to_string());
    if let Some(source) = &assessment.source {
        // The results of the gate's own scanner are as old as the databases below.
        let made = scan.generated_at.filter(|_| !scan.is_own()).map(|at| format!(", of {at}")).unwrap_or_default();
        line("judged by", &format!("{source}{made}"));
        databases(scan).iter().for_each(|databases| line("databases", databases));
    }
    scan.gaps.iter().for_each(|gap| line("not read", &format!("{}: {}", gap.place, gap.problem)));
}

fn section(title: &str) -> String {
    format!("\n{title}\n{}\n\n", "=".repeat(title.len()))
}

fn configuration_table(issues: &[&IssueAnswer], show: &Show) -> String {
    let row = |found: &&IssueAnswer| {
        let issue = &found.issue;
        let practice = issue.title.clone().unwrap_or_default();
        let place = |package: &AffectedPackage| Some(format!("{}, {}", package.name, package.detail.as_ref()?));
        let most = if show.extended { usize::MAX } else { MAX_NAMED };
        let places = joined(issue.packages.iter().filter_map(place), "; ", most);
        let found_at = if places.is_empty() { String::new() } else { format!(" Found: {places}") };
        let resolve = format!("{}{found_at}", in_one_line(&remedies(issue)));
        vec![issue.id.clone(), PolicyStanding::words(found), practice, resolve]
    };
    let header = ["Configuration Issue ID", "Policy Status", "Security Practice", "How to Resolve"];
    wrapped(&header, &issues.iter().map(row).collect::<Vec<_>>(), show.width)
}

/// Lines of a text as one line. They may be sentences.
fn in_one_line(lines: &[String]) -> String {
    let mut text = String::new();
    for line in lines {
        let gap = if text.is_empty() || text.ends_with(['.', ':', ';', '!', '?']) { "" } else { ";" };
        text += &format!("{gap} {line}");
    }
    text.trim_start().to_owned()
}

fn vulnerability_table(issues: &[&IssueAnswer], show: &Show) -> String {
    let mut header = vec!["Vulnerability ID", "Policy Status", "Affected Packages", "Security Notice"];
    if show.extended {
        header.extend(["Score", "Published", "Source", "Summary"]);
    }
    header.push("How to Resolve");
    let row = |found: &&IssueAnswer| vulnerability_row(found, show);
    wrapped(&header, &issues.iter().map(row).collect::<Vec<_>>(), show.width)
}

fn vulnerability_row(found: &IssueAnswer, show: &Show) -> Vec<String> {
    let issue = &found.issue;
    let most = if show.extended { usize::MAX } else { MAX_NAMED };
    let affected = |package: &AffectedPackage| affected(package, show.extended);
    // `DEBIAN-CVE-2024-1` says no more than the CVE.
    let published = other_identifiers(issue).into_iter().filter(|id| !lists_cve(id));
    let mut row = vec![
        format!("{} ({})", issue.id, issue.severity.as_str()),
        PolicyStanding::words(found),
        joined(issue.packages.iter().map(affected), ", ", most),
        joined(published.map(str::to_owned).chain(vendor_link(issue)), " ", most),
    ];
    if show.extended {
        let score = issue.score.as_ref();
        row.push(score.map(|score| format!("{:.1} ({})", score.value(), score.source())).unwrap_or_default());
        row.push(issue.published.map(|at| at.strftime("%Y-%m-%d").to_string()).unwrap_or_default());
        row.push(joined(issue.packages.iter().filter_map(|package| package.database.clone()), ", ", most));
        row.push(issue.title.clone().unwrap_or_default());
    }
    row.push(joined(remedies(issue).into_iter(), "; ", most));
    row
}

/// `openssl 3.0.9 (fixed in 3.0.11)`.
fn affected(package: &AffectedPackage, with_path: bool) -> String {
    let mut text = package.name.clone();
    package.installed.iter().for_each(|version| text += &format!(" {version}"));
    package.fixed.iter().for_each(|version| text += &format!(" (fixed in {version})"));
    package.path.iter().filter(|_| with_path).for_each(|path| text += &format!(" in {path}"));
    text
}

/// The maximum number of versions of a package that are named if they cannot be compared.
const MAX_VERSIONS: usize = 5;

/// The upgrades that resolve what counts and has a fix: `To resolve all: Django 3.2.0 -> 3.2.25 (25 issues)`.
fn to_resolve_all(issues: &[&IssueAnswer]) -> String {
    let counting = || issues.iter().filter(|found| found.blocks).map(|found| &found.issue);
    let upgrades = upgrades(counting());
    let unfixed = counting().filter(|issue| !issue.is_fixable()).count();
    let rest = match unfixed {
        0 => String::new(),
        count => format!("\n{} without a published fix.", counted(count, "issue is", "issues are")),
    };
    if upgrades.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = upgrades.iter().map(upgrade).collect();
    format!("To resolve all: {}{rest}\n\n", lines.join("\n                "))
}

/// `Django 3.2.0 -> 3.2.25 (25 issues)`.
pub(super) fn upgrade(one: &PackageUpgrade) -> String {
    let issues = counted(one.issues, "issue", "issues");
    let (named, more) = one.fixed.split_at(one.fixed.len().min(MAX_VERSIONS));
    let mut versions = named.join(" or ");
    if !more.is_empty() {
        versions += &format!(" or {} more", more.len());
    }
    let unclear = if one.fixed.len() > 1 { "; it is unknown which of them resolves all" } else { "" };
    printable(&format!("{} {} -> {versions} ({issues}{unclear})", one.name, one.installed)).into_owned()
}

/// What resolves many issues at once.
fn advice(issues: &[&IssueAnswer]) -> &'static str {
    let of_distribution = |package: &AffectedPackage| {
        let kind = package.purl.as_ref().map(Purl::kind).or(package.ecosystem.as_deref());
        package.fixed.is_some() && matches!(kind, Some("apk" | "deb" | "rpm"))
    };
    match issues.iter().flat_map(|found| &found.issue.packages).any(of_distribution) {
        true => {
            "\nA newer base image usually has all packages of the distribution upgraded: rebuild the image from it.\n"
        }
        false => "",
    }
}

fn packages_table(scan: &ImageScan) -> String {
    let row = |found: &PackageAnswer| {
        let package = &found.package;
        let path = package.path.clone().unwrap_or_default();
        [package.name.clone(), package.version.clone(), found.purl.clone(), path]
    };
    table(["Package", "Version", "PURL", "Path"], scan.packages.iter().map(row))
}

/// A line for each image.
pub(super) fn overview(asked: &[AskedImage], show: &Show) -> String {
    let row = |asked: &AskedImage, scan: &ImageScan| {
        let summary = IbmSummary::from(scan);
        let image = match &scan.assessment.platform {
            Some(platform) => format!("{} {platform}", asked.image),
            None => asked.image.clone(),
        };
        let (configuration, vulnerabilities) = (summary.configuration_issue_count, summary.vulnerability_count);
        // A gate of an earlier version does not say it.
        let current = scan.assessment.security_status.clone().unwrap_or_else(|| "-".to_owned());
        vec![image, current, configuration.to_string(), vulnerabilities.to_string()]
    };
    let rows = asked.iter().flat_map(|asked| asked.scans.iter().map(move |scan| row(asked, scan)));
    let header = ["Image", "Current", "Configuration Issues", "Vulnerabilities"];
    format!("\n{}", wrapped(&header, &rows.collect::<Vec<_>>(), show.width))
}

/// Joins texts without repeating one, and counts those after the first ones.
fn joined(texts: impl Iterator<Item = String>, separator: &str, most: usize) -> String {
    let mut different: Vec<String> = Vec::new();
    for text in texts {
        if !different.contains(&text) {
            different.push(text);
        }
    }
    let more = different.len().saturating_sub(most);
    different.truncate(most);
    if more > 0 {
        different.push(format!("and {more} more"));
    }
    different.join(separator)
}

/// Whether an issue counts, in the words of IBM's console.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum PolicyStanding {
    Active,
    Partial,
    NotCovered,
    Exempt,
}

impl PolicyStanding {
    fn of(found: &IssueAnswer) -> Self {
        match (found.issue.exempt, found.blocks) {
            (true, _) => Self::Exempt,
            (false, true) if found.exempt_status == ExemptStatus::Partial => Self::Partial,
            (false, true) => Self::Active,
            (false, false) => Self::NotCovered,
        }
    }

    fn words(found: &IssueAnswer) -> String {
        match (Self::of(found), found.counts_from) {
            (Self::Active, _) => "Active".to_owned(),
            (Self::Partial, _) => "Partially exempt".to_owned(),
            (Self::NotCovered, Some(at)) => format!("Counts from {}", at.strftime("%Y-%m-%d %H:%M UTC")),
            (Self::NotCovered, None) => "Not covered by the rule".to_owned(),
            (Self::Exempt, _) => "Exempt".to_owned(),
        }
    }
}
