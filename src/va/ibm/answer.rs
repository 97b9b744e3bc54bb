//! The report of the service (`ScanReport` in IBM/container-registry-go-sdk, vulnerabilityadvisorv4).

use jiff::Timestamp;
use serde::Deserialize;

use crate::policy::{AffectedPackage, FixStatus, ImageFacts, Issue, IssueKind, Report, Severity, VaEvidence};
use crate::va::end_of_support::end_of_support;
use crate::va::reports::text_or_nothing;
use crate::va::{UNNAMED, all_lines, one_line};

/// Parses a response. An unknown status is an error.
pub(super) fn parse(bytes: &[u8]) -> Result<VaEvidence, String> {
    let report: IbmReport = serde_json::from_slice(bytes).map_err(|e| format!("the answer is not a report: {e}"))?;
    let system = report.system();
    match &*report.status {
        "OK" | "WARN" => Ok(VaEvidence::Report(report.into_report(false))),
        "FAIL" | "BLOCK" => Ok(VaEvidence::Report(report.into_report(true))),
        // A rule that is not IBM's weighs what is listed.
        "UNSUPPORTED" => Ok(VaEvidence::Unsupported {
            why: format!("IBM does not support {system}"),
            issues: report.into_report(false).issues,
        }),
        "INCOMPLETE" => {
            let why = format!("IBM assessed {system} in part");
            let report = report.into_report(false);
            // What it found denies all the same.
            Ok(match report.issues.is_empty() {
                true => VaEvidence::Incomplete { why },
                false => VaEvidence::Report(Report { incomplete: Some(why), ..report }),
            })
        }
        "UNSCANNED" => Ok(VaEvidence::Unscanned),
        other => Err(format!("the status {other:?} is not known")),
    }
}

#[derive(Deserialize)]
struct IbmReport {
    status: String,
    /// Seconds since 1970-01-01.
    scan_time: Option<i64>,
    os_distribution: Option<Distribution>,
    vulnerabilities: Option<Vec<Vulnerability>>,
    configuration_issues: Option<Vec<Configuration>>,
}

impl IbmReport {
    fn system(&self) -> String {
        let named = self.os_distribution.as_ref().map(Distribution::name).filter(|name| !name.is_empty());
        named.unwrap_or_else(|| "the image's system".into())
    }

    /// Converts the report. An image that the service fails must fail here too, so if no named issue counts, an issue
    /// for the failure itself is added. It fails only images for which there is a fix, so if no issue that counts
    /// states one, each gets one in an unstated version, so that they count even where only issues with a fix do.
    fn into_report(self, fails: bool) -> Report {
        let mut issues: Vec<_> = self.vulnerabilities.into_iter().flatten().map(Vulnerability::issue).collect();
        issues.extend(self.configuration_issues.into_iter().flatten().map(Configuration::issue));
        if fails && issues.iter().all(|issue| issue.exempt) {
            issues.push(unnamed());
        }
        if fails && !issues.iter().any(|issue| !issue.exempt && issue.is_fixable()) {
            issues.iter_mut().filter(|issue| !issue.exempt).for_each(fix_somewhere);
        }
        let generated_at = self.scan_time.filter(|seconds| *seconds > 0);
        let system = self.os_distribution.as_ref();
        let image = ImageFacts {
            distribution: system.map(|system| system.name().trim().to_owned()).filter(|name| !name.is_empty()),
            end_of_life: system.and_then(Distribution::support_ends),
            ..ImageFacts::default()
        };
        Report {
            source: "ibm-va-v4".into(),
            generated_at: generated_at.and_then(|seconds| Timestamp::from_second(seconds).ok()),
            issues,
            image,
            ..Report::default()
        }
    }
}

/// Notes that a fix is published, in a version that is not known.
fn fix_somewhere(issue: &mut Issue) {
    if issue.packages.is_empty() {
        issue.packages.push(AffectedPackage { name: UNNAMED.into(), ..AffectedPackage::default() });
    }
    issue.packages.iter_mut().for_each(|package| package.status = Some(FixStatus::Fixed));
}

fn unnamed() -> Issue {
    let title = "IBM's Vulnerability Advisor fails this image and names no issue that is not exempt";
    // Of the two kinds, this one counts regardless of whether a fix is published.
    let issue = Issue::new("IBM-VA-FAIL", IssueKind::Configuration, Severity::Unknown);
    Issue { title: Some(title.into()), ..issue }
}

#[derive(Deserialize)]
struct Distribution {
    distribution_id: Option<String>,
    version_id: Option<String>,
}

impl Distribution {
    fn name(&self) -> String {
        [&self.distribution_id, &self.version_id]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// When the support of the release ends, if that is known. The service does not say whether it is extended.
    fn support_ends(&self) -> Option<Timestamp> {
        end_of_support(self.distribution_id.as_deref()?, self.version_id.as_deref()?, false)
    }
}

#[derive(Deserialize)]
struct Vulnerability {
    cve_id: String,
    summary: Option<String>,
    cve_exempt: Option<bool>,
    exempt_status: Option<String>,
    security_notices: Option<Vec<Notice>>,
}

impl Vulnerability {
    /// The service states no severity. A `partial` exemption covers only some of the notices, so the issue still
    /// counts, and is exempt once the others are: only these are its aliases then. If one of them has no identifier, no
    /// exemption of the others covers the whole issue, so it has no aliases.
    fn issue(self) -> Issue {
        let exempt = match self.exempt_status.as_deref() {
            Some(status) => status == "exempt",
            None => self.cve_exempt == Some(true),
        };
        let notices = self.security_notices.unwrap_or_default();
        let is_open = |notice: &Notice| notice.notice_exempt != Some(true);
        let has_open = notices.iter().any(is_open);
        let named = notices.iter().filter(|notice| !has_open || is_open(notice));
        let aliases: Option<Vec<String>> =
            named.map(|notice| notice.notice_id.clone().filter(|id| !id.trim().is_empty())).collect();
        let references = notices.iter().filter_map(|notice| one_line(notice.notice.clone())).collect();
        let mut packages: Vec<AffectedPackage> = Vec::new();
        for package in notices.into_iter().flat_map(|notice| notice.vulnerable_packages.unwrap_or_default()) {
            let package = package.affected();
            if !packages.contains(&package) {
                packages.push(package);
            }
        }
        let issue = Issue::new(self.cve_id.trim(), IssueKind::Vulnerability, Severity::Unknown);
        let aliases = aliases.unwrap_or_default();
        Issue { aliases, packages, exempt, references, title: one_line(self.summary), ..issue }
    }
}

#[derive(Deserialize)]
struct Notice {
    notice_id: Option<String>,
    notice_exempt: Option<bool>,
    /// Where it is published.
    #[serde(default, deserialize_with = "text_or_nothing")]
    notice: Option<String>,
    vulnerable_packages: Option<Vec<IbmPackage>>,
}

#[derive(Deserialize)]
struct IbmPackage {
    package_name: String,
    installed_version: Option<String>,
    fix_version: Option<String>,
}

impl IbmPackage {
    fn affected(self) -> AffectedPackage {
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        AffectedPackage {
            name: self.package_name,
            installed: some(self.installed_version),
            fixed: some(self.fix_version),
            ..AffectedPackage::default()
        }
    }
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(rename = "type")]
    kind: String,
    description: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    corrective_action: Option<String>,
    exempt: Option<bool>,
    /// It may name the file.
    meta: Option<serde_json::Value>,
}

impl Configuration {
    fn issue(self) -> Issue {
        let issue = Issue::new(self.kind, IssueKind::Configuration, Severity::Unknown);
        let file = self.meta.as_ref().and_then(|meta| meta["file"].as_str()).map(str::to_owned);
        let place = |name| AffectedPackage { name, ..AffectedPackage::default() };
        Issue {
            exempt: self.exempt == Some(true),
            title: one_line(self.description),
            corrective_action: all_lines(self.corrective_action),
            packages: one_line(file).map(place).into_iter().collect(),
            ..issue
        }
    }
}
