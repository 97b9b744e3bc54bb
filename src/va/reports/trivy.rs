//! Trivy's JSON report, schema 2 (aquasecurity/trivy, `pkg/types/report.go`).

mod keys;
mod os;
mod vulnerability;

use jiff::Timestamp;
use serde::Deserialize;

use super::details::Lenient;
use super::document::{
    ImageNames, InvalidReport, ReportFile, ReportFinding, ScannedSystem, ScannerReport, check_size, read, severity,
    some, source, text_or_nothing, time,
};
use super::packages;
use crate::policy::{AffectedPackage, Issue, IssueKind, OWN_CHECKS, PackageList};
use crate::va::{all_lines, one_line};
use os::Os;
pub(super) use os::unknown_to_trivy;
use vulnerability::{ScannedPackages, TrivyPackage, TrivyVulnerability};

/// Parses a report on a container image. `Metadata.ImageID` is the digest of its configuration, or of its manifest if
/// the image is in a containerd store; `ArtifactName` may contain a digest. Digests in `RepoDigests` only count as
/// listed. The digest of an index there identifies no image of a platform, so it matches none.
pub(super) fn parse(bytes: &[u8]) -> Result<ReportFile, InvalidReport> {
    let report: TrivyReport = read(bytes)?;
    keys::REPORT.check(bytes)?;
    if report.schema_version != 2 {
        return Err(InvalidReport::new(format!("Trivy schema {} is not known", report.schema_version)));
    }
    match report.artifact_type.as_deref() {
        Some("container_image") => {}
        Some(other) => return Err(InvalidReport::new(format!("a Trivy report of a {other}, not of an image"))),
        None => return Err(InvalidReport::new("a Trivy report that does not say what it is about")),
    }
    let metadata = report.metadata.unwrap_or_default();
    let own = metadata.image_id.iter().chain(&report.artifact_name);
    let image = ImageNames::new(own, metadata.repo_digests.iter().flatten());
    if image.is_empty() {
        return Err(InvalidReport::new("a Trivy report with neither ImageID nor RepoDigests identifies no image"));
    }
    let results = report.results.unwrap_or_default();
    let os = metadata.os.unwrap_or_default();
    let missing = missing(&os, &results);
    let system = ScannedSystem {
        distribution: os.is_found().then(|| os.name()),
        is_past_support: missing.is_none() && os.eosl,
        support_ends: os.support_ends(),
    };
    let unassessed = report.not_assessed.filter(|listed| !listed.is_empty()).map(|listed| {
        let first = one_line(listed.into_iter().next()).unwrap_or_default();
        format!("its scanner says that not all was assessed: {first}")
    });
    let incomplete = system.missing(missing).or(unassessed);
    check_size(results.iter().map(|result| (result.findings(), 1)))?;
    let packages = packages(&results);
    let mut findings = Vec::new();
    for result in results {
        result.collect(&mut findings)?;
    }
    let name = source("trivy", report.trivy.and_then(|trivy| trivy.version));
    let generated_at = time(report.created_at.as_deref());
    let assessment =
        ScannerReport { source: name, generated_at, incomplete, data_of: None, findings, packages, system };
    Ok(ReportFile { image, assessment: Some(assessment), ..ReportFile::default() })
}

/// What was not assessed. Trivy writes a result for the system's packages and one for those of each language, even if
/// it found no issues. If it found a system but wrote no result for it, Trivy was told to exclude it (`--scanners
/// secret`, `--pkg-types library`), does not know it, or found no packages of it.
///
/// For an image without a system, only the language results count (a static binary on `scratch`). Without these as
/// well, nothing was assessed. This is also the case if the author of an image removed the files by which scanners
/// recognise a system.
fn missing(os: &Os, results: &[ScanResult]) -> Option<String> {
    let lists_packages = results.iter().any(|result| result.packages.is_some());
    let assessed = |class: &str| {
        results.iter().any(|result| result.class.as_deref() == Some(class) && result.is_of_packages(lists_packages))
    };
    let of_system = results.iter().filter(|result| result.class.as_deref() == Some("os-pkgs"));
    let mut kinds = of_system.filter_map(|result| result.kind.as_deref());
    if let Some(why) = os.unknown() {
        return Some(why);
    }
    if let Some(other) = kinds.find(|kind| !os.may_be_called(kind)) {
        return Some(format!("what was assessed is of {other}, but the system is {}", os.name()));
    }
    match (os.is_found(), assessed("os-pkgs")) {
        (true, false) => Some(format!("the packages of {} were not assessed", os.name())),
        (false, true) if !os.is_unsaid() => {
            Some("the packages of the system were not assessed: the scanner does not know it".into())
        }
        (false, false) if !assessed("lang-pkgs") => {
            Some("nothing was assessed: the scanner found neither a system that it knows nor a package".into())
        }
        _ => None,
    }
}

/// All packages, if every result about packages lists them (`--list-all-pkgs`).
fn packages(results: &[ScanResult]) -> Option<PackageList> {
    let is_of_packages = |result: &&ScanResult| matches!(result.class.as_deref(), Some("os-pkgs" | "lang-pkgs"));
    let mut listed = Vec::new();
    for result in results.iter().filter(is_of_packages) {
        listed.push(result.packages.as_ref()?);
    }
    if listed.is_empty() {
        return None;
    }
    let versions = listed.iter().copied().flatten().map(|package| package.0.as_ref().map(TrivyPackage::version));
    let versions: Vec<Option<String>> = versions.collect();
    let listed = listed.into_iter().flatten().zip(&versions);
    packages::all(listed.map(|(package, version)| package.0.as_ref()?.listed(version.as_deref())))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyReport {
    schema_version: u64,
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    artifact_name: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    created_at: Option<String>,
    trivy: Option<TrivyProgram>,
    metadata: Option<TrivyReportMetadata>,
    results: Option<Vec<ScanResult>>,
    /// The parts that `pullgate va --output trivy` reports as not assessed.
    not_assessed: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyProgram {
    #[serde(default, deserialize_with = "text_or_nothing")]
    version: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyReportMetadata {
    #[serde(rename = "OS")]
    os: Option<Os>,
    #[serde(rename = "ImageID")]
    image_id: Option<String>,
    repo_digests: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ScanResult {
    #[serde(default, deserialize_with = "text_or_nothing")]
    target: Option<String>,
    class: Option<String>,
    #[serde(rename = "Type", default, deserialize_with = "text_or_nothing")]
    kind: Option<String>,
    packages: Option<Vec<Lenient<TrivyPackage>>>,
    vulnerabilities: Option<Vec<TrivyVulnerability>>,
    misconfigurations: Option<Vec<Misconfiguration>>,
    secrets: Option<Vec<TrivySecret>>,
    experimental_modified_findings: Option<Vec<Modified>>,
}

impl ScanResult {
    /// Whether packages were assessed. Only a report that lists packages can show that there were none.
    fn is_of_packages(&self, lists_packages: bool) -> bool {
        !lists_packages
            || self.packages.as_ref().is_some_and(|packages| !packages.is_empty())
            || self.vulnerabilities.as_ref().is_some_and(|vulnerabilities| !vulnerabilities.is_empty())
    }

    /// The number of findings.
    fn findings(&self) -> usize {
        let lengths = [
            self.vulnerabilities.as_ref().map(Vec::len),
            self.misconfigurations.as_ref().map(Vec::len),
            self.secrets.as_ref().map(Vec::len),
            self.experimental_modified_findings.as_ref().map(Vec::len),
        ];
        lengths.into_iter().flatten().sum()
    }

    /// All listed findings count, regardless of the result's class, except licences, which are not security issues.
    fn collect(self, findings: &mut Vec<ReportFinding>) -> Result<(), InvalidReport> {
        let target = self.target.unwrap_or_default();
        let packages = self.packages.unwrap_or_default();
        let packages = ScannedPackages::new(self.kind.as_deref(), &packages);
        findings.extend(self.vulnerabilities.into_iter().flatten().map(|found| found.finding(&packages)));
        findings.extend(self.misconfigurations.into_iter().flatten().filter_map(|m| m.finding(&target)));
        findings.extend(self.secrets.into_iter().flatten().map(|secret| secret.finding(&target)));
        for modified in self.experimental_modified_findings.into_iter().flatten() {
            let why = |e: serde_json::Error| InvalidReport::new(format!("ExperimentalModifiedFindings: {e}"));
            findings.extend(modified.finding(&target, &packages).map_err(why)?);
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Misconfiguration {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "AVDID")]
    avd_id: Option<String>,
    /// [`OWN_CHECKS`] in what `pullgate va --output trivy` writes.
    #[serde(default, deserialize_with = "text_or_nothing")]
    namespace: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    title: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    resolution: Option<String>,
    status: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    severity: Option<String>,
}

impl Misconfiguration {
    fn finding(self, target: &str) -> Option<ReportFinding> {
        if self.status.as_deref() == Some("PASS") {
            return None;
        }
        // An exception is defined by the user of the scanner.
        let ignored = self.status.as_deref() == Some("EXCEPTION");
        let aliases = some(self.avd_id).filter(|alias| *alias != self.id).into_iter().collect();
        let is_own = self.namespace.as_deref() == Some(OWN_CHECKS) && self.id.starts_with("application_configuration:");
        let mut finding = configuration(self.id, aliases, self.severity.as_deref(), self.title, target, ignored);
        finding.issue.severity_source = is_own.then(|| OWN_CHECKS.to_owned());
        finding.issue.corrective_action = all_lines(self.resolution);
        Some(finding)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivySecret {
    #[serde(rename = "RuleID")]
    rule_id: String,
    #[serde(default, deserialize_with = "text_or_nothing")]
    severity: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    title: Option<String>,
}

impl TrivySecret {
    fn finding(self, target: &str) -> ReportFinding {
        configuration(self.rule_id, Vec::new(), self.severity.as_deref(), self.title, target, false)
    }
}

/// A secret in an image is a configuration issue, in terms of IBM's two classes.
fn configuration(
    id: String,
    aliases: Vec<String>,
    word: Option<&str>,
    text: Option<String>,
    target: &str,
    ignored: bool,
) -> ReportFinding {
    let place = AffectedPackage { name: target.to_owned(), ..AffectedPackage::default() };
    let issue = Issue {
        aliases,
        packages: if target.is_empty() { Vec::new() } else { vec![place] },
        title: one_line(text),
        ..Issue::new(id, IssueKind::Configuration, severity(word))
    };
    ReportFinding { ignored, ..ReportFinding::new(issue) }
}

/// A finding that `.trivyignore`, a Rego policy or VEX removed from the report (`--show-suppressed`). Without that
/// option, the report does not show that anything was removed.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Modified {
    #[serde(rename = "Type")]
    kind: Option<String>,
    status: Option<String>,
    finding: serde_json::Value,
}

impl Modified {
    fn finding(self, target: &str, packages: &ScannedPackages<'_>) -> serde_json::Result<Option<ReportFinding>> {
        let kind = self.kind.map(|kind| kind.to_ascii_lowercase());
        let finding = match kind.as_deref() {
            Some("vulnerability") => Some(TrivyVulnerability::deserialize(self.finding)?.finding(packages)),
            Some("misconfiguration") => Misconfiguration::deserialize(self.finding)?.finding(target),
            Some("secret") => Some(TrivySecret::deserialize(self.finding)?.finding(target)),
            // A vulnerability is never dropped, whatever its type is called.
            _ if self.finding.get("VulnerabilityID").is_some() => {
                Some(TrivyVulnerability::deserialize(self.finding)?.finding(packages))
            }
            _ => None,
        };
        // VEX makes a statement about the image; `ignored` only means that the user of the scanner excluded the
        // finding.
        let exempt = matches!(self.status.as_deref(), Some("not_affected" | "fixed"));
        let ignored = self.status.as_deref() == Some("ignored");
        Ok(finding.map(|mut finding| {
            if exempt && !finding.issue.exempt {
                finding.issue.exempt = true;
                finding.stated = Some(Timestamp::MIN);
            }
            finding.ignored |= ignored;
            finding
        }))
    }
}
