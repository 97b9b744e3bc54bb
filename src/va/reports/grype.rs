//! Grype's JSON report (anchore/grype, `grype/presenter/models`).

use serde::Deserialize;

use super::document::{
    Assessment, Document, Finding, InvalidReport, digest_of, read, severity, some, source, text_or_nothing, time,
};
use super::purl::Purl;
use crate::policy::{AffectedPackage, IssueKind};
use crate::va::one_line;

/// Reads a report of an image: the one whose configuration is `source.target.imageID`, or that `manifestDigest` or
/// `repoDigests` name.
pub(super) fn parse(bytes: &[u8]) -> Result<Document, InvalidReport> {
    let report: Report = read(bytes)?;
    let about = report.source.filter(|about| about.kind == "image");
    let Some(about) = about else { return Err(InvalidReport::new("a Grype report that is not of an image")) };
    let target = Target::deserialize(about.target)
        .map_err(|e| InvalidReport::new(format!("source.target of a Grype report: {e}")))?;
    let digests = target.repo_digests.iter().flatten().chain(&target.image_id).chain(&target.manifest_digest);
    let subjects: Vec<_> = digests.filter_map(|text| digest_of(text)).collect();
    if subjects.is_empty() {
        return Err(InvalidReport::new("a Grype report that names no digest speaks of no image"));
    }
    let ignored = report.ignored_matches.into_iter().flatten();
    let findings = report.matches.into_iter().map(|m| (m, false)).chain(ignored.map(|m| (m, true)));
    let assessment = Assessment {
        source: source("grype", report.descriptor.version),
        generated_at: time(report.descriptor.timestamp.as_deref()),
        incomplete: None,
        findings: findings.flat_map(|(m, ignored)| m.findings(ignored)).collect(),
    };
    Ok(Document { subjects, assessment: Some(assessment), ..Document::default() })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    matches: Vec<Match>,
    ignored_matches: Option<Vec<Match>>,
    source: Option<Source>,
    descriptor: Descriptor,
}

#[derive(Deserialize)]
struct Source {
    #[serde(rename = "type")]
    kind: String,
    /// A text where a directory was scanned.
    target: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    #[serde(rename = "imageID")]
    image_id: Option<String>,
    manifest_digest: Option<String>,
    repo_digests: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Descriptor {
    version: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    timestamp: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Match {
    vulnerability: Vulnerability,
    related_vulnerabilities: Option<Vec<Related>>,
    artifact: Artifact,
}

#[derive(Deserialize)]
struct Vulnerability {
    id: String,
    severity: Option<String>,
    description: Option<String>,
    fix: Option<Fix>,
}

#[derive(Deserialize)]
struct Related {
    id: String,
}

#[derive(Deserialize)]
struct Fix {
    versions: Option<Vec<String>>,
    state: Option<String>,
}

impl Fix {
    fn version(self) -> Option<String> {
        let versions = self.versions.unwrap_or_default().join(", ");
        match (versions.is_empty(), self.state.as_deref()) {
            (false, _) => Some(versions),
            (true, Some("fixed")) => Some("a later version".into()),
            (true, _) => None,
        }
    }
}

#[derive(Deserialize)]
struct Artifact {
    name: String,
    version: Option<String>,
    purl: Option<String>,
}

impl Match {
    /// One finding, named by its CVE where it has one. An advisory that gathers several CVEs gives one finding for each,
    /// so that an exemption for one of them leaves the others.
    fn findings(self, ignored: bool) -> Vec<Finding> {
        let id = self.vulnerability.id;
        let is_cve = |id: &str| id.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("CVE-"));
        let mut cves: Vec<String> = Vec::new();
        let mut aliases: Vec<String> = Vec::new();
        for related in self.related_vulnerabilities.into_iter().flatten() {
            let list = if is_cve(&related.id) { &mut cves } else { &mut aliases };
            if related.id != id && !list.contains(&related.id) {
                list.push(related.id);
            }
        }
        let names = if is_cve(&id) || cves.is_empty() {
            vec![id]
        } else {
            aliases.push(id);
            cves
        };
        let finding = Finding {
            id: String::new(),
            aliases,
            kind: IssueKind::Vulnerability,
            severity: severity(self.vulnerability.severity.as_deref()),
            purl: self.artifact.purl.as_deref().and_then(Purl::parse),
            package: Some(AffectedPackage {
                name: self.artifact.name,
                installed: some(self.artifact.version),
                fixed: self.vulnerability.fix.and_then(Fix::version),
            }),
            exempt: ignored,
            title: one_line(self.vulnerability.description),
        };
        names.into_iter().map(|id| Finding { id, ..finding.clone() }).collect()
    }
}
