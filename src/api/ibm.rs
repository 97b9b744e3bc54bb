//! Answers in the shapes of IBM's Vulnerability Advisor API, versions 3 and 4, which differ only in their paths
//! (cloud.ibm.com/apidocs/container-registry/va; IBM/container-registry-go-sdk, `vulnerabilityadvisorv4`).
//!
//! IBM's clients require every field, so none is left out. What is not known is an empty text or 0.

mod exemption;
mod report;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::policy::{ExemptStatus, VaStatus};
pub use exemption::{IbmDeletion, IbmExemption, IbmExemptionType};

/// The report on one image (`ScanReport`).
///
/// ```json
/// {"id": "us.icr.io/ns/app@sha256:…", "status": "FAIL", "scan_time": 1767225600,
///  "os_distribution": {"distribution_id": "debian", "version_id": "12", "version_code_name": "bookworm"},
///  "vulnerabilities": [{"cve_id": "CVE-2024-1", "cve_exempt": false, "exempt_status": "active", "summary": "…",
///    "security_notice_count": 1, "exempt_security_notice_count": 0, "total_security_notice_count": 1,
///    "security_notices": [{"notice_id": "DSA-5000-1", "notice": "https://…", "notice_exempt": false, "summary": "…",
///      "vulnerable_packages": [{"package_name": "openssl", "installed_version": "3.0.9", "fix_version": "3.0.11",
///        "description": "…", "corrective_action": "Upgrade openssl to 3.0.11"}]}]}],
///  "configuration_issues": [{"type": "application_configuration:nginx.ssl_protocols", "description": "…",
///    "corrective_action": "…", "exempt": false, "meta": {}}]}
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmScanReport {
    /// The identifier of the report: repository and digest of the image.
    pub id: String,
    /// The result.
    pub status: VaStatus,
    /// When the vulnerability data was made, in seconds since 1970; 0 if unknown.
    pub scan_time: i64,
    /// The distribution in the image.
    pub os_distribution: IbmDistribution,
    /// The vulnerabilities, worst first.
    pub vulnerabilities: Vec<IbmVulnerability>,
    /// The configuration issues, worst first.
    pub configuration_issues: Vec<IbmConfigurationIssue>,
    /// Why the image is denied. IBM's reports do not say it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// A distribution (`ScanReportOsDistribution`). The texts are empty if nothing was recognised.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmDistribution {
    /// `ID` of os-release: `debian`.
    pub distribution_id: String,
    /// `VERSION_ID`: `12`.
    pub version_id: String,
    /// `VERSION_CODENAME`: `bookworm`.
    pub version_code_name: String,
}

/// A vulnerability (`ScanresultCVE`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmVulnerability {
    /// Its identifier, by which it can be exempted.
    pub cve_id: String,
    /// Whether the vulnerability itself is exempt.
    pub cve_exempt: bool,
    /// `active`, `partial` if some of its notices are exempt, or `exempt`.
    pub exempt_status: ExemptStatus,
    /// The number of notices that are not exempt.
    pub security_notice_count: usize,
    /// The number of exempt notices.
    pub exempt_security_notice_count: usize,
    /// The number of all notices.
    pub total_security_notice_count: usize,
    /// A description of the vulnerability in one line.
    pub summary: String,
    /// The notices of vendors about it; if there is none, one with the identifier of the vulnerability.
    pub security_notices: Vec<IbmNotice>,
}

/// A security notice (`ScanresultSecurityNotice`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmNotice {
    /// Its identifier: `DSA-5000-1`, `RHSA-2024:1234`.
    pub notice_id: String,
    /// The address of the notice; empty if unknown.
    pub notice: String,
    /// Whether it is exempt.
    pub notice_exempt: bool,
    /// Its subject in one line.
    pub summary: String,
    /// The packages in the image to which it applies.
    pub vulnerable_packages: Vec<IbmPackageFix>,
}

/// A vulnerable package, and how to fix it (`ScanresultPackageFixes`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmPackageFix {
    /// The package.
    pub package_name: String,
    /// The version in the image.
    pub installed_version: String,
    /// The version with the fix; empty if there is none.
    pub fix_version: String,
    /// A description of the vulnerability in one line.
    pub description: String,
    /// What to do: `Upgrade openssl to 3.0.11: apt-get install …`.
    pub corrective_action: String,
}

/// A configuration issue (`ScanresultConfigurationIssue`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmConfigurationIssue {
    /// Its identifier: `application_configuration:mysql.ssl-ca`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The security practice.
    pub description: String,
    /// What to do.
    pub corrective_action: String,
    /// Whether it is exempt.
    pub exempt: bool,
    /// More about it: the file, under `file`.
    pub meta: BTreeMap<String, String>,
}

/// The result for an image in numbers (`ScanreportSummary`). An issue that is exempt counts only as exempt.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmSummary {
    /// The result.
    pub status: VaStatus,
    /// When the vulnerability data was made, in seconds since 1970; 0 if unknown.
    pub scan_time: i64,
    /// The number of issues.
    pub issue_count: usize,
    /// The number of exempt issues.
    pub exempt_issue_count: usize,
    /// The number of vulnerabilities.
    pub vulnerability_count: usize,
    /// The number of exempt vulnerabilities.
    pub exempt_vulnerability_count: usize,
    /// The number of configuration issues.
    pub configuration_issue_count: usize,
    /// The number of exempt configuration issues.
    pub exempt_configuration_issue_count: usize,
}

/// A summary with the name of its image (`ScanreportImageSummary`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmImageSummary {
    /// Registry, repository and tag.
    pub name: String,
    /// When the image was created, in seconds since 1970; 0 if unknown.
    pub created_time: i64,
    /// The summary.
    #[serde(flatten)]
    pub summary: IbmSummary,
}

/// Reports on several images (`ScanReportList`).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmReportList {
    /// The reports by the names of the images.
    pub assessments: BTreeMap<String, IbmScanReport>,
    /// The last image, if there are more: the value of `after` for the next page. IBM's API has no pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Summaries of several images (`ScanreportImageSummaryList`).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmSummaryList {
    /// The summaries, ordered by name.
    pub images: Vec<IbmImageSummary>,
    /// The last image, if there are more: the value of `after` for the next page. IBM's API has no pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An image in the JSON of `ibmcloud cr va`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmImageReport {
    /// The image as it was asked for.
    pub image: String,
    /// The vulnerabilities, worst first.
    pub vulnerabilities: Vec<IbmVulnerability>,
    /// The result.
    pub status: VaStatus,
    /// Why the image is denied. IBM's tool does not say it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// The answer of a call that failed, as IBM's API handbook defines it.
///
/// ```json
/// {"errors": [{"code": "BXNVA0009E", "message": "us.icr.io/ns/app:1 has not been scanned. Try again later."}],
///  "status_code": 404}
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmErrors {
    /// The error; one entry.
    pub errors: Vec<IbmError>,
    /// The HTTP status.
    pub status_code: u16,
}

/// One error of a call.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmError {
    /// A code for programs: `not_found`, or a code of Vulnerability Advisor.
    pub code: String,
    /// The error in words.
    pub message: String,
}

/// The code of Vulnerability Advisor for an image that has no report yet.
pub const NOT_SCANNED: &str = "BXNVA0009E";

/// What Vulnerability Advisor says about an image that has no report yet, without the code.
pub fn not_scanned(image: &str) -> String {
    format!("{image} has not been scanned. Try again later.")
}

#[cfg(test)]
mod tests;
