//! A match as Grype reports it (anchore/grype, `grype/presenter/models/{match,vulnerability,package}.go`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use crate::policy::{CvssScore, Issue, IssueKind, Severity, is_cve, is_of_distribution};
use crate::va::one_line;
use crate::va::reports::details::{self, Lenient, PackageDetails};
use crate::va::reports::document::{self, ReportFinding, some, text_or_nothing};
use crate::va::reports::ratings::rate;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GrypeMatch {
    vulnerability: GrypeVulnerability,
    related_vulnerabilities: Option<Vec<RelatedVulnerability>>,
    pub(super) artifact: GrypeArtifact,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GrypeVulnerability {
    id: String,
    #[serde(default, deserialize_with = "text_or_nothing")]
    severity: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    namespace: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    description: Option<String>,
    fix: Option<Fix>,
    #[serde(flatten)]
    details: VulnerabilityDetails,
}

#[derive(Deserialize)]
struct RelatedVulnerability {
    id: String,
    #[serde(default, deserialize_with = "text_or_nothing")]
    namespace: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    severity: Option<String>,
    #[serde(flatten)]
    details: VulnerabilityDetails,
}

/// Details that do not affect decisions.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VulnerabilityDetails {
    #[serde(default, deserialize_with = "text_or_nothing")]
    data_source: Option<String>,
    #[serde(default)]
    urls: Lenient<Vec<Lenient<String>>>,
    #[serde(default)]
    cvss: Lenient<Vec<Lenient<GrypeScore>>>,
}

impl VulnerabilityDetails {
    fn score(&self) -> Option<CvssScore> {
        self.cvss.entries().filter_map(GrypeScore::score).reduce(CvssScore::worse)
    }

    fn references(&self) -> impl Iterator<Item = String> {
        self.data_source.iter().chain(self.urls.entries()).cloned()
    }
}

/// Who publishes the vulnerabilities of a namespace such as `debian:distro:debian:12` or `nvd:cpe`, by the name that
/// Trivy uses.
fn publisher(namespace: Option<&str>) -> Option<String> {
    let first = namespace?.split(':').next().filter(|first| !first.is_empty())?;
    Some(if first == "github" { "ghsa".to_owned() } else { first.to_owned() })
}

#[derive(Deserialize)]
struct GrypeScore {
    source: Option<String>,
    vector: Option<String>,
    metrics: GrypeMetrics,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GrypeMetrics {
    base_score: f64,
}

impl GrypeScore {
    fn score(&self) -> Option<CvssScore> {
        let source = self.source.as_deref().filter(|source| !source.is_empty()).unwrap_or("unknown");
        CvssScore::new(source, self.metrics.base_score, self.vector.as_deref())
    }
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
            (true, Some("fixed")) => Some(details::A_LATER_VERSION.into()),
            (true, _) => None,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct GrypeArtifact {
    name: String,
    #[serde(default, deserialize_with = "text_or_nothing")]
    version: Option<String>,
    #[serde(rename = "type", default, deserialize_with = "text_or_nothing")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    purl: Option<String>,
    #[serde(default)]
    locations: Lenient<Vec<Lenient<Location>>>,
    #[serde(default)]
    upstreams: Lenient<Vec<Lenient<UpstreamPackage>>>,
}

/// The location of a package. A layer is identified by the digest of its uncompressed content.
#[derive(Deserialize)]
struct Location {
    path: Option<String>,
    #[serde(rename = "layerID")]
    layer_id: Option<String>,
}

#[derive(Deserialize)]
struct UpstreamPackage {
    name: Option<String>,
}

impl GrypeArtifact {
    pub(super) fn is_of_system(&self) -> bool {
        self.kind.as_deref().is_some_and(is_of_distribution)
    }

    fn details(&self) -> PackageDetails<'_> {
        let location = self.locations.entries().next();
        PackageDetails {
            purl: self.purl.as_deref(),
            kind: self.kind.as_deref(),
            source: self.upstreams.entries().next().and_then(|upstream| upstream.name.as_deref()),
            path: location.and_then(|location| location.path.as_deref()),
            layer: location.and_then(|location| location.layer_id.as_deref()),
        }
    }
}

impl GrypeMatch {
    /// The number of findings, at most, and of the names of each.
    pub(super) fn size(&self) -> (usize, usize) {
        let related = self.related_vulnerabilities.as_ref().map_or(0, Vec::len);
        (related.max(1), related + 1)
    }

    /// One finding, named by its CVE if it has one. An advisory that covers several CVEs results in one finding per
    /// CVE, so that an exemption for one CVE does not apply to the others.
    pub(super) fn findings(self, exempt: bool, ignored: bool) -> Vec<ReportFinding> {
        let GrypeVulnerability { id, severity: word, namespace, description, fix, details } = self.vulnerability;
        let id = id.trim().to_owned();
        let mut cves: Vec<String> = Vec::new();
        let mut aliases: Vec<String> = Vec::new();
        let related = self.related_vulnerabilities.unwrap_or_default();
        for other in related.iter().map(|related| related.id.trim()) {
            let list = if is_cve(other) { &mut cves } else { &mut aliases };
            if other != id && list.iter().all(|known| known != other) {
                list.push(other.to_owned());
            }
        }
        let names = if is_cve(&id) || cves.is_empty() {
            vec![id]
        } else {
            aliases.push(id);
            cves
        };
        let package = self.artifact.details().of(
            self.artifact.name.clone(),
            some(self.artifact.version.clone()),
            fix.and_then(Fix::version),
        );
        let issue = Issue {
            aliases,
            packages: vec![package],
            exempt,
            title: one_line(description),
            ..Issue::new("", IssueKind::Vulnerability, Severity::Unknown)
        };
        let severity = document::severity(word.as_deref());
        let named = |id: String| {
            // Details of another CVE of the same advisory do not apply to this one.
            let own = related.iter().filter(|related| related.id.trim() == id).map(|related| &related.details);
            let all = || std::iter::once(&details).chain(own.clone());
            let mut ratings = BTreeMap::new();
            for other in related.iter().filter(|related| related.id.trim() == id) {
                let publisher = publisher(other.namespace.as_deref()).unwrap_or_default();
                rate(&mut ratings, &publisher, document::severity(other.severity.as_deref()));
            }
            Issue {
                severity,
                severity_source: publisher(namespace.as_deref()),
                ratings,
                score: all().filter_map(VulnerabilityDetails::score).reduce(CvssScore::worse),
                references: details::references(all().flat_map(VulnerabilityDetails::references)),
                id,
                ..issue.clone()
            }
        };
        // Grype states no time of a VEX statement that it applied.
        let stated = exempt.then_some(Timestamp::MIN);
        names.into_iter().map(|id| ReportFinding { issue: named(id), ignored, stated }).collect()
    }
}
