//! How a scan becomes a report in IBM's shapes.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    IbmConfigurationIssue, IbmDistribution, IbmImageReport, IbmImageSummary, IbmNotice, IbmPackageFix, IbmScanReport,
    IbmSummary, IbmVulnerability,
};
use crate::api::remedy::{notice_link, notices, remedies, remedy, vendor_link};
use crate::api::{AssessmentAnswer, AssessmentCounts, ExemptionAnswer, ImageScan, IssueAnswer};
use crate::gate::KnownAssessment;
use crate::inventory::LinuxDistribution;
use crate::oci::ImageName;
use crate::policy::{AffectedPackage, Issue, IssueKind, IssueType, VaStatus, is_notice};

impl IbmScanReport {
    /// The report on a scanned image.
    pub fn new(scan: &ImageScan) -> Self {
        let distribution = os_distribution(scan.distribution.as_ref(), scan.reported_distribution.as_deref());
        Self::of(scan.id.clone(), &scan.assessment, scan.scanned_at(), distribution)
    }

    /// The report on an image of a known tag.
    pub fn known(name: &ImageName, known: &KnownAssessment) -> Self {
        let assessment = AssessmentAnswer::known(known);
        let reported = known.evidence.value.image().and_then(|image| image.distribution.as_deref());
        let distribution = os_distribution(known.distribution.as_ref(), reported);
        Self::of(format!("{name}@{}", known.digest), &assessment, Some(known.scanned_at()), distribution)
    }

    fn of(
        id: String,
        assessment: &AssessmentAnswer,
        made: Option<Timestamp>,
        os_distribution: IbmDistribution,
    ) -> Self {
        let issues = || assessment.issues.iter().filter(is_reported);
        let of_kind = |kind: IssueKind| issues().filter(move |found| found.issue.kind == kind);
        Self {
            id,
            status: assessment.status,
            scan_time: scan_time(assessment.status, made),
            os_distribution,
            vulnerabilities: of_kind(IssueKind::Vulnerability).map(vulnerability).collect(),
            configuration_issues: of_kind(IssueKind::Configuration).map(configuration_issue).collect(),
            reasons: assessment.reasons.clone(),
        }
    }
}

impl IbmImageReport {
    /// The report on an image that was asked for by this name.
    pub fn new(image: &str, scan: &ImageScan) -> Self {
        let IbmScanReport { vulnerabilities, status, reasons, .. } = IbmScanReport::new(scan);
        Self { image: image.to_owned(), vulnerabilities, status, reasons }
    }
}

impl IbmSummary {
    /// The summary of an assessment with data of this time.
    pub fn new(counts: &AssessmentCounts, scan_time: Option<Timestamp>) -> Self {
        let [vulnerability_count, exempt_vulnerability_count] = counts.vulnerabilities;
        let [configuration_issue_count, exempt_configuration_issue_count] = counts.configuration;
        Self {
            status: counts.status,
            scan_time: self::scan_time(counts.status, scan_time),
            issue_count: vulnerability_count + configuration_issue_count,
            exempt_issue_count: exempt_vulnerability_count + exempt_configuration_issue_count,
            vulnerability_count,
            exempt_vulnerability_count,
            configuration_issue_count,
            exempt_configuration_issue_count,
        }
    }

    /// The summary of an image that has not been assessed.
    pub fn unscanned() -> Self {
        Self {
            status: VaStatus::Unscanned,
            scan_time: 0,
            issue_count: 0,
            exempt_issue_count: 0,
            vulnerability_count: 0,
            exempt_vulnerability_count: 0,
            configuration_issue_count: 0,
            exempt_configuration_issue_count: 0,
        }
    }
}

impl From<&ImageScan> for IbmSummary {
    fn from(scan: &ImageScan) -> Self {
        Self::new(&scan.into(), scan.scanned_at())
    }
}

impl IbmImageSummary {
    /// The summary of an image; `created` is the time in its configuration.
    pub fn new(name: String, created: Option<&str>, summary: IbmSummary) -> Self {
        let created = created.and_then(|created| created.parse().ok());
        Self { name, created_time: seconds(created), summary }
    }
}

/// An image that was not scanned has no time.
fn scan_time(status: VaStatus, made: Option<Timestamp>) -> i64 {
    seconds(made.filter(|_| status != VaStatus::Unscanned))
}

fn seconds(time: Option<Timestamp>) -> i64 {
    time.map_or(0, Timestamp::as_second)
}

/// The distribution that the gate found in the image, or otherwise the one in the report: `debian 12`.
fn os_distribution(read: Option<&LinuxDistribution>, reported: Option<&str>) -> IbmDistribution {
    if let Some(LinuxDistribution { id, version, codename, .. }) = read {
        let [distribution_id, version_id, version_code_name] = [id, version, codename].map(String::clone);
        return IbmDistribution { distribution_id, version_id, version_code_name };
    }
    let reported = reported.unwrap_or_default();
    let (id, version) = reported.rsplit_once(' ').unwrap_or((reported, ""));
    IbmDistribution { distribution_id: id.to_owned(), version_id: version.to_owned(), ..IbmDistribution::default() }
}

fn vulnerability(found: &IssueAnswer) -> IbmVulnerability {
    let issue = &found.issue;
    let summary = issue.title.clone().unwrap_or_default();
    let fixes: Vec<IbmPackageFix> = issue.packages.iter().map(|package| fix(package, &summary)).collect();
    let named = notices(issue);
    let ids = if named.is_empty() { vec![issue.id.as_str()] } else { named };
    let notice = |id: &str| IbmNotice {
        notice_id: id.to_owned(),
        notice: notice_link(id).or_else(|| vendor_link(issue)).unwrap_or_default(),
        notice_exempt: issue.exempt || found.exemptions.iter().any(|exemption| is_of_notice(exemption, id)),
        summary: summary.clone(),
        vulnerable_packages: fixes.clone(),
    };
    let security_notices: Vec<IbmNotice> = ids.into_iter().map(notice).collect();
    let exempt = security_notices.iter().filter(|notice| notice.notice_exempt).count();
    IbmVulnerability {
        cve_id: issue.id.clone(),
        cve_exempt: issue.exempt && !is_exempt_by_notices(found),
        exempt_status: found.exempt_status,
        security_notice_count: security_notices.len() - exempt,
        exempt_security_notice_count: exempt,
        total_security_notice_count: security_notices.len(),
        summary,
        security_notices,
    }
}

/// Whether a vulnerability is exempt only because all its notices are.
fn is_exempt_by_notices(found: &IssueAnswer) -> bool {
    let is_of_another = |exemption: &ExemptionAnswer| {
        let is_it = exemption.issue_id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(&found.issue.id));
        let is_notice = exemption.issue_id.as_deref().is_some_and(is_notice);
        exemption.issue_type == IssueType::SecurityNotice && is_notice && !is_it
    };
    !found.exemptions.is_empty() && found.exemptions.iter().all(is_of_another)
}

/// Whether an exemption applies to a whole notice.
fn is_of_notice(exemption: &ExemptionAnswer, notice: &str) -> bool {
    let is_it = exemption.issue_id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(notice));
    exemption.issue_type == IssueType::SecurityNotice && exemption.package.is_none() && is_it
}

fn fix(package: &AffectedPackage, description: &str) -> IbmPackageFix {
    IbmPackageFix {
        package_name: package.name.clone(),
        installed_version: package.installed.clone().unwrap_or_default(),
        fix_version: package.fixed.clone().unwrap_or_default(),
        description: description.to_owned(),
        corrective_action: remedy(package),
    }
}

/// Whether a report contains the issue: one that the gate itself finds in a configuration only if it counts under the
/// rule.
fn is_reported(found: &&IssueAnswer) -> bool {
    found.blocks || found.issue.exempt || !found.issue.is_own_check()
}

fn configuration_issue(found: &IssueAnswer) -> IbmConfigurationIssue {
    let issue: &Issue = &found.issue;
    let file = issue.packages.first().map(|place| ("file".to_owned(), place.name.clone()));
    IbmConfigurationIssue {
        kind: issue.id.clone(),
        description: issue.title.clone().unwrap_or_default(),
        corrective_action: remedies(issue).join("\n"),
        exempt: issue.exempt,
        meta: BTreeMap::from_iter(file),
    }
}
