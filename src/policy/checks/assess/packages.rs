//! Conditions on the packages of an image: `licences`, `bannedPackages`, and `coolDown` for their versions.

use std::collections::HashMap;

use super::AssessmentContext;
use super::findings::Findings;
use super::text::{after, elapsed, first, length, time};
use crate::policy::rules::banned::BannedPackage;
use crate::policy::rules::licence::LicenceProblem;
use crate::policy::rules::va_rule::VaRule;
use crate::policy::vulnerability::purl::Purl;
use crate::policy::vulnerability::{IssueKind, Report, ReportPackage};

pub(super) const NO_PACKAGES: &str =
    "the source of the report lists no packages; use one that does, such as the gate's own scanner";

pub(super) fn licences(rule: &VaRule, report: &Report, findings: &mut Findings) {
    let Some(rule) = &rule.licences else { return };
    let Some(packages) = &report.packages else {
        findings.unknown.push(format!("licences: {NO_PACKAGES}"));
        return;
    };
    let problem = |package: &ReportPackage| {
        let (problem, licence) = rule.judge(&package.licences).err()?;
        let package = named(package);
        Some(match problem {
            LicenceProblem::Denied => {
                let by = rule.denying(licence).map(|pattern| format!(" ({pattern:?})")).unwrap_or_default();
                format!("{package} is licensed {licence}, which the policy denies{by}")
            }
            LicenceProblem::NotAllowed => format!("{package} is licensed {licence}, which the policy does not allow"),
            LicenceProblem::Missing => format!("{package} states no licence (unknown: deny)"),
            LicenceProblem::Unreadable => {
                format!("{package} has the licence {licence:?}, which {}", unreadable(licence))
            }
        })
    };
    let problems: Vec<String> = packages.iter().filter_map(problem).collect();
    if !problems.is_empty() {
        findings.reasons.push(format!("licences: {}; replace the package", first(&problems)));
    }
}

pub(super) fn banned(rule: &VaRule, report: &Report, findings: &mut Findings) {
    if rule.banned_packages.is_empty() {
        return;
    }
    let Some(packages) = &report.packages else {
        findings.unknown.push(format!("bannedPackages: {NO_PACKAGES}"));
        return;
    };
    let mut by_name: HashMap<String, Vec<&BannedPackage>> = HashMap::new();
    for ban in &rule.banned_packages {
        by_name.entry(ban.key()).or_default().push(ban);
    }
    let ban = |package: &ReportPackage| {
        let mut bans = BannedPackage::keys_of(package).filter_map(|key| by_name.get(&key)).flatten();
        let ban = bans.find(|ban| ban.bans(package))?;
        Some(format!("the image contains {}, which {} bans", named(package), ban.written))
    };
    let mut banned: Vec<String> = packages.iter().filter_map(ban).collect();
    for found in affected(report) {
        let named = ban(&found).filter(|named| !banned.contains(named));
        banned.extend(named.filter(|_| !packages.iter().any(|listed| is_listed_as(listed, &found))));
    }
    if !banned.is_empty() {
        findings.reasons.push(format!("bannedPackages: {}; replace the package", first(&banned)));
    }
}

/// The packages that issues affect. They are in the image even if the list omits them, unless the source exempts the
/// issue: VEX makes such statements about packages that are absent. It also makes them about packages that are present,
/// and then only the list counts.
fn affected(report: &Report) -> impl Iterator<Item = ReportPackage> {
    let issues = report.issues.iter().filter(|issue| issue.kind == IssueKind::Vulnerability && !issue.exempt);
    issues.flat_map(|issue| &issue.packages).filter(|package| !package.name.is_empty()).map(|package| {
        let of_purl = package.purl.as_ref().and_then(Purl::version);
        ReportPackage {
            name: package.name.clone(),
            version: package.installed.as_deref().or(of_purl).unwrap_or_default().to_owned(),
            purl: package.purl.clone(),
            source_name: package.source.clone(),
            source_version: package.source_version.clone(),
            ..ReportPackage::default()
        }
    })
}

/// Whether the list has a package that an issue affects. It then knows more about the package than the issue does, such
/// as its type and the version of its source package.
fn is_listed_as(listed: &ReportPackage, found: &ReportPackage) -> bool {
    let types = listed.purl.as_ref().zip(found.purl.as_ref()).map(|(listed, found)| (listed.kind(), found.kind()));
    listed.name == found.name
        && (found.version.is_empty() || listed.version == found.version)
        && types.is_none_or(|(listed, found)| listed == found)
}

/// Only versions count whose date of publication is known. One that was published in the future is too young.
pub(super) fn cool_down(rule: &VaRule, report: &Report, context: &AssessmentContext<'_>, findings: &mut Findings) {
    let Some(minimum) = rule.cool_down.packages else { return };
    let Some(packages) = &report.packages else {
        if rule.cool_down.needs_packages {
            findings.unknown.push(format!("coolDown: {NO_PACKAGES}"));
        }
        return;
    };
    let now = context.now;
    let mut young: Vec<_> = packages
        .iter()
        .filter_map(|package| Some((package.published?, package)))
        .filter(|(published, _)| now < after(*published, minimum))
        .collect();
    young.sort_by_key(|(published, _)| std::cmp::Reverse(*published));
    let Some((youngest, _)) = young.first() else { return };
    let end = time(after(*youngest, minimum));
    let text = |(published, package): &(jiff::Timestamp, &ReportPackage)| {
        let (package, age) = (named(package), now.duration_since(*published));
        if age.is_negative() {
            return format!("{package} has a date of publication in the future, {}", time(*published));
        }
        format!("{package} was published {} ago", elapsed(age))
    };
    let texts: Vec<String> = young.iter().map(text).collect();
    let minimum = length(minimum);
    findings.reasons.push(format!("coolDown: {}; the policy requires {minimum}; admitted from {end}", first(&texts)));
}

/// Why a text does not say what the licence is.
fn unreadable(licence: &str) -> &'static str {
    match licence.contains("LicenseRef-") {
        true => "refers to a text that this gate does not have (unknown: deny): allow it by its name",
        false => "is not an SPDX expression (unknown: deny)",
    }
}

fn named(package: &ReportPackage) -> String {
    let version = package.version.as_str();
    if version.is_empty() { package.name.clone() } else { format!("{} {version}", package.name) }
}
