//! One file of the reports directory, read into what all formats have in common.
//!
//! The format is told by content, never by name. What decides is read strictly: a truncated document, a list that is none
//! or a format that is not known is an error, never an empty report. What only people read, such as a title, is dropped
//! where it is not as it should be: no finding is lost to it.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};

use super::purl::Purl;
use super::{cyclonedx, encoding, grype, openvex, trivy};
use crate::oci::Digest;
use crate::policy::{AffectedPackage, Issue, IssueKind, Severity};

/// Reads a file's content.
///
/// # Errors
/// When it is no complete JSON document, no report of a known format, or speaks of no image.
pub(crate) fn parse(bytes: &[u8]) -> Result<Document, InvalidReport> {
    let text = encoding::text(bytes)?;
    let bytes = text.as_bytes();
    // serde reads arrays into structs too; no known format begins with one.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(InvalidReport::new("not a JSON object"));
    }
    let probe: Probe = read(bytes)?;
    if probe.schema_version.is_some() && (probe.artifact_type.is_some() || probe.artifact_name.is_some()) {
        trivy::parse(bytes)
    } else if probe.matches.is_some() && probe.descriptor.is_some() {
        grype::parse(bytes)
    } else if probe.bom_format.as_deref() == Some("CycloneDX") {
        cyclonedx::parse(bytes)
    } else if probe.is_open_vex() {
        openvex::parse(bytes)
    } else {
        Err(InvalidReport::new("no report of a known format (Trivy JSON, Grype JSON, CycloneDX JSON, OpenVEX)"))
    }
}

/// What a file says, and of which images.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Document {
    /// The image that the report is about.
    pub(crate) image: Names,
    /// The report, where the file holds one.
    pub(crate) assessment: Option<Assessment>,
    /// VEX statements.
    pub(crate) statements: Vec<Statement>,
    /// What the file holds that has no effect, and why.
    pub(crate) notes: Vec<String>,
}

/// The digests by which a report names its image.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Names {
    /// Those of the image itself: of its configuration or of its manifest.
    pub(crate) own: Vec<Digest>,
    /// Those under which registries are said to have it (`RepoDigests`). A container engine collects them for as long as
    /// it has the image, so they are less than the image's own.
    pub(crate) listed: Vec<Digest>,
}

impl Names {
    /// Reads digests, bare or after a name. What is no digest names nothing.
    pub(crate) fn new<'a>(
        own: impl IntoIterator<Item = &'a String>,
        listed: impl IntoIterator<Item = &'a String>,
    ) -> Self {
        let own: Vec<_> = own.into_iter().filter_map(|text| digest_of(text)).collect();
        let listed = listed.into_iter().filter_map(|text| digest_of(text)).filter(|digest| !own.contains(digest));
        Self { listed: listed.collect(), own }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.listed.is_empty()
    }
}

/// A scanner's report of one image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Assessment {
    /// The scanner and its version.
    pub(crate) source: String,
    /// When the report was made.
    pub(crate) generated_at: Option<Timestamp>,
    /// What of the image was not assessed, where the report does not cover all of it.
    pub(crate) incomplete: Option<String>,
    /// When the scanner's database was built, where the report says so: nothing newer was known.
    pub(crate) data_of: Option<Timestamp>,
    /// One for each issue and package.
    pub(crate) findings: Vec<Finding>,
}

/// One issue in one package.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    pub(crate) id: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) kind: IssueKind,
    pub(crate) severity: Severity,
    pub(crate) package: Option<AffectedPackage>,
    pub(crate) purl: Option<Purl>,
    /// Whether the image is not affected, as VEX or the vendor says.
    pub(crate) exempt: bool,
    /// Whether whoever ran the scanner told it to ignore this, which says nothing of the image.
    pub(crate) ignored: bool,
    pub(crate) title: Option<String>,
}

/// What a VEX document says of one vulnerability.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Statement {
    /// The vulnerability's identifiers, all of them.
    pub(crate) ids: Vec<String>,
    /// The images it is about; empty: any image that holds one of the packages.
    pub(crate) images: Vec<NamedImage>,
    /// The packages it is about; empty: the whole of the images.
    pub(crate) packages: Vec<Purl>,
    /// When it was made: of two that contradict each other the later holds.
    pub(crate) at: Option<Timestamp>,
    /// Whether the image is not affected, as opposed to affected or under investigation.
    pub(crate) suppresses: bool,
}

/// An image, or all images of an index, as a VEX statement names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NamedImage {
    pub(crate) digest: Digest,
    /// One platform is named. Where the digest is an index's, which of its images that is cannot be told.
    pub(crate) of_platform: bool,
}

/// The digests by which statements name an image.
pub(crate) struct ImageDigests<'a> {
    /// The image's own: of its manifest, and of its configuration.
    pub(crate) own: &'a [Digest],
    /// Those of the indexes that list it.
    pub(crate) parents: &'a [Digest],
}

impl ImageDigests<'_> {
    fn has(&self, named: &NamedImage) -> bool {
        self.own.contains(&named.digest) || (!named.of_platform && self.parents.contains(&named.digest))
    }
}

impl Statement {
    /// Whether the statement is about this finding in this image.
    pub(crate) fn is_about(&self, finding: &Finding, image: &ImageDigests<'_>) -> bool {
        let in_package = |purl: &Purl| self.packages.iter().any(|package| package.covers(purl));
        self.is_of_issue(finding)
            && (self.images.is_empty() || self.images.iter().any(|named| image.has(named)))
            && (self.packages.is_empty() || finding.purl.as_ref().is_some_and(in_package))
    }

    /// Advisories gather several CVEs, so that where both sides name CVEs these alone tell. To exempt a finding a
    /// statement must name all of its CVEs.
    fn is_of_issue(&self, finding: &Finding) -> bool {
        let names = |id: &str| self.ids.iter().any(|own| own.eq_ignore_ascii_case(id));
        let cves = finding.cves();
        if cves.is_empty() || !self.ids.iter().any(|id| is_cve(id)) {
            return names(&finding.id) || finding.aliases.iter().any(|alias| names(alias));
        }
        if self.suppresses { cves.into_iter().all(names) } else { cves.into_iter().any(names) }
    }
}

impl Finding {
    /// Its CVEs: its own identifier, or else those among its aliases.
    fn cves(&self) -> Vec<&str> {
        if is_cve(&self.id) {
            return vec![&self.id];
        }
        self.aliases.iter().map(String::as_str).filter(|alias| is_cve(alias)).collect()
    }
}

/// Whether an identifier is a CVE's.
pub(super) fn is_cve(id: &str) -> bool {
    id.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("CVE-"))
}

/// Findings of the same identifier become one issue that affects several packages. It is exempt when every one of its
/// findings is; else it lists the packages that count. Worst first.
pub(crate) fn issues(findings: impl IntoIterator<Item = Finding>) -> Vec<Issue> {
    let mut issues: Vec<Issue> = Vec::new();
    let mut places: HashMap<(bool, String), usize> = HashMap::new();
    for finding in findings {
        let key = (finding.kind == IssueKind::Vulnerability, finding.id.to_ascii_lowercase());
        match places.get(&key) {
            Some(&place) => add(&mut issues[place], finding),
            None => {
                places.insert(key, issues.len());
                issues.push(issue(finding));
            }
        }
    }
    issues
        .sort_by(|a, b| (a.exempt, b.severity as u8).cmp(&(b.exempt, a.severity as u8)).then_with(|| a.id.cmp(&b.id)));
    issues
}

fn issue(finding: Finding) -> Issue {
    Issue {
        id: finding.id,
        aliases: finding.aliases,
        kind: finding.kind,
        severity: finding.severity,
        packages: finding.package.into_iter().collect(),
        exempt: finding.exempt,
        title: finding.title,
    }
}

fn add(to: &mut Issue, finding: Finding) {
    if to.exempt != finding.exempt {
        if to.exempt {
            *to = issue(finding);
        }
        return;
    }
    for alias in finding.aliases {
        if !to.is_called(&alias) {
            to.aliases.push(alias);
        }
    }
    if finding.severity as u8 > to.severity as u8 {
        to.severity = finding.severity;
    }
    to.title = to.title.take().or(finding.title);
    if let Some(package) = finding.package
        && !to.packages.contains(&package)
    {
        to.packages.push(package);
    }
}

/// Why a file is no report.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidReport(String);

impl InvalidReport {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Reads a format's own types.
pub(super) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, InvalidReport> {
    serde_json::from_slice(bytes).map_err(|e| InvalidReport(e.to_string()))
}

/// The severity that a word means. A word that is not known is not harmless.
pub(super) fn severity(word: Option<&str>) -> Severity {
    word.and_then(|word| word.trim().parse().ok()).unwrap_or(Severity::Unknown)
}

/// A text that says something.
pub(super) fn some(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

/// The digest in `name@sha256:…` or in a bare `sha256:…`.
pub(super) fn digest_of(text: &str) -> Option<Digest> {
    text.rsplit_once('@').map_or(text, |(_, digest)| digest).parse().ok()
}

/// The scanner's name with its version.
pub(super) fn source(name: &str, version: Option<String>) -> String {
    match some(version) {
        Some(version) => format!("{name} {version}"),
        None => name.to_owned(),
    }
}

/// An RFC 3339 time. Go's zero time and anything else mean that the time is not known.
pub(super) fn time(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok().filter(|at: &Timestamp| at.as_second() > 0)
}

/// For what does not decide, or decides nothing where it is missing: anything but a text is nothing.
pub(super) fn text_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(value.as_ref().and_then(serde_json::Value::as_str).map(str::to_owned))
}

/// For a flag: absent and null are the default.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[derive(Deserialize)]
struct Probe {
    #[serde(rename = "SchemaVersion")]
    schema_version: Option<IgnoredAny>,
    #[serde(rename = "ArtifactName")]
    artifact_name: Option<IgnoredAny>,
    #[serde(rename = "ArtifactType")]
    artifact_type: Option<IgnoredAny>,
    matches: Option<IgnoredAny>,
    descriptor: Option<IgnoredAny>,
    #[serde(rename = "bomFormat")]
    bom_format: Option<String>,
    #[serde(rename = "@context", default, deserialize_with = "text_or_nothing")]
    context: Option<String>,
}

impl Probe {
    fn is_open_vex(&self) -> bool {
        self.context.as_deref().is_some_and(|context| context.starts_with("https://openvex.dev/ns"))
    }
}
