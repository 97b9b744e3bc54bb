//! The report of Harbor's pluggable scanner API (goharbor/pluggable-scanner-spec, `HarborVulnerabilityReport`), in its
//! versions 1.0 and 1.1.
//!
//! It does not say which packages were examined, or which distribution was recognised.

use serde::{Deserialize, Deserializer};

use super::details::{self, FixedVersion, Lenient, PackageDetails};
use super::document::{
    InvalidReport, ReportFinding, ScannedSystem, ScannerReport, check_size, read, severity, some, source,
    text_or_nothing, time,
};
use super::letter_case::KnownKeys;
use crate::oci::Digest;
use crate::policy::{CvssScore, Issue, IssueKind, Severity};
use crate::va::{UNNAMED, one_line};

static KEYS: KnownKeys = KnownKeys {
    plain: &["generated_at", "severity"],
    objects: &[("artifact", &ARTIFACT), ("scanner", &SCANNER), ("vulnerabilities", &VULNERABILITY)],
    maps: &[],
};
static ARTIFACT: KnownKeys = KnownKeys::flat(&["digest"]);
static SCANNER: KnownKeys = KnownKeys::flat(&["name", "version"]);
static VULNERABILITY: KnownKeys = KnownKeys {
    plain: &["description", "fix_version", "id", "links", "package", "severity", "version"],
    objects: &[("preferred_cvss", &SCORES)],
    maps: &[],
};
static SCORES: KnownKeys = KnownKeys::flat(&["score_v2", "score_v3", "vector_v2", "vector_v3"]);

/// Parses a report. Returns the digest of the image that it is about, and the report.
pub(super) fn parse(bytes: &[u8]) -> Result<(Digest, ScannerReport), InvalidReport> {
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(InvalidReport::new("not a JSON object"));
    }
    let report: HarborReport = read(bytes)?;
    KEYS.check(bytes)?;
    let listed = report.vulnerabilities.unwrap_or_default();
    let overall = severity(report.severity.as_deref());
    if listed.is_empty() && !matches!(overall, Severity::Unknown | Severity::Negligible) {
        return Err(InvalidReport::new(format!("it lists nothing, and has the severity {}", overall.as_str())));
    }
    check_size(listed.iter().map(|_| (1, 1)))?;
    let findings = listed.into_iter().map(HarborVulnerability::finding).collect::<Result<_, _>>()?;
    let assessment = ScannerReport {
        source: source(&report.scanner.name, report.scanner.version),
        generated_at: time(report.generated_at.as_deref()),
        incomplete: None,
        data_of: None,
        findings,
        packages: None,
        system: ScannedSystem::default(),
    };
    Ok((report.artifact.digest, assessment))
}

#[derive(Deserialize)]
struct HarborReport {
    #[serde(default, deserialize_with = "text_or_nothing")]
    generated_at: Option<String>,
    artifact: HarborArtifact,
    scanner: HarborScanner,
    #[serde(default, deserialize_with = "text_or_nothing")]
    severity: Option<String>,
    /// Go writes an empty list as null. It is never left out.
    #[serde(deserialize_with = "present")]
    vulnerabilities: Option<Vec<HarborVulnerability>>,
}

fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

#[derive(Deserialize)]
struct HarborArtifact {
    digest: Digest,
}

#[derive(Deserialize)]
struct HarborScanner {
    name: String,
    #[serde(default, deserialize_with = "text_or_nothing")]
    version: Option<String>,
}

#[derive(Deserialize)]
struct HarborVulnerability {
    id: String,
    #[serde(default, deserialize_with = "text_or_nothing")]
    package: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    version: Option<String>,
    #[serde(default)]
    fix_version: FixedVersion,
    #[serde(default, deserialize_with = "text_or_nothing")]
    severity: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    description: Option<String>,
    #[serde(default)]
    links: Lenient<Vec<Lenient<String>>>,
    #[serde(default)]
    preferred_cvss: Lenient<HarborScores>,
}

#[derive(Clone, Debug, Deserialize)]
struct HarborScores {
    score_v3: Option<f64>,
    score_v2: Option<f64>,
    vector_v3: Option<String>,
    vector_v2: Option<String>,
}

impl HarborScores {
    /// The score of version 3, or else that of version 2, which is recognised by its vector.
    fn score(&self) -> Option<CvssScore> {
        let third = self.score_v3.and_then(|score| CvssScore::new("preferred", score, self.vector_v3.as_deref()));
        third.or_else(|| CvssScore::new("preferred", self.score_v2?, Some(self.vector_v2.as_deref()?)))
    }
}

impl HarborVulnerability {
    fn finding(self) -> Result<ReportFinding, InvalidReport> {
        if self.id.trim().is_empty() {
            return Err(InvalidReport::new("a vulnerability has no identifier"));
        }
        let fixed = self.fix_version.with(None);
        // Without a package there would be no fix.
        let name = some(self.package).or_else(|| fixed.is_some().then(|| UNNAMED.to_owned()));
        let package = name.map(|name| PackageDetails::default().of(name, some(self.version), fixed));
        let issue = Issue {
            packages: package.into_iter().collect(),
            title: one_line(self.description),
            score: self.preferred_cvss.0.as_ref().and_then(HarborScores::score),
            references: details::references(self.links.entries().cloned()),
            ..Issue::new(self.id, IssueKind::Vulnerability, severity(self.severity.as_deref()))
        };
        Ok(ReportFinding::new(issue))
    }
}
