//! Parses one file of the reports directory into a structure common to all formats.
//!
//! The format is recognised by content, never by name. Everything that affects decisions is parsed strictly: a
//! truncated document, a value that should be a list, or an unknown format is an error, never an empty report. Values
//! that only people read, such as a title, are dropped if they are malformed, without losing the finding.

use std::collections::{HashMap, HashSet};
use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::added::AddedFindings;
use super::statement::VexStatement;
use super::{cyclonedx, details, encoding, grype, openvex, ratings, trivy};
use crate::oci::Digest;
use crate::policy::{AffectedPackage, Issue, IssueKind, PackageList, Severity};

/// The maximum number of findings in one report.
const MAX_FINDINGS: usize = 100_000;
/// The maximum number of names in all findings of one report. A scanner can list many names and many packages for one
/// issue, each of which is a finding with all of the names.
const MAX_NAMES: usize = 1_000_000;

/// Parses the content of a file.
///
/// # Errors
/// If it is not a complete JSON document, is not a report of a known format, or names no image.
pub(super) fn parse(bytes: &[u8]) -> Result<ReportFile, InvalidReport> {
    let text = encoding::text(bytes)?;
    let bytes = text.as_bytes();
    // serde also reads arrays into structs, but no known format starts with an array.
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
    } else if let Some(version) = probe.open_vex() {
        // Versions before 1.0 have one meaning; a later one may have another.
        match matches!(version, "" | "/") || version.starts_with("/v0.") {
            true => openvex::parse(bytes),
            false => Err(InvalidReport::new(format!("OpenVEX {} is not known", version.trim_start_matches('/')))),
        }
    } else {
        Err(InvalidReport::new("not a report of a known format (Trivy JSON, Grype JSON, CycloneDX JSON, OpenVEX)"))
    }
}

/// The content of a file, and the images that it is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ReportFile {
    /// The image that the report is about.
    pub(super) image: ImageNames,
    /// The report, if the file holds one.
    pub(super) assessment: Option<ScannerReport>,
    /// What the file adds to the reports on the image, if it holds none.
    pub(super) added: Option<AddedFindings>,
    /// VEX statements.
    pub(super) statements: Vec<VexStatement>,
    /// Parts of the file that have no effect, and why.
    pub(super) notes: Vec<String>,
}

/// The digests that identify the image of a report.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ImageNames {
    /// Digests of the image itself: of its configuration or its manifest.
    pub(super) own: Vec<Digest>,
    /// Digests under which registries are said to have the image (`RepoDigests`). A container engine collects these for
    /// as long as it keeps the image, so they prove less than the image's own digests.
    pub(super) listed: Vec<Digest>,
}

impl ImageNames {
    /// Reads digests, alone or after a name. Anything else is ignored.
    pub(super) fn new<'a>(
        own: impl IntoIterator<Item = &'a String>,
        listed: impl IntoIterator<Item = &'a String>,
    ) -> Self {
        let own: Vec<_> = own.into_iter().filter_map(|text| digest_of(text)).collect();
        let listed = listed.into_iter().filter_map(|text| digest_of(text)).filter(|digest| !own.contains(digest));
        Self { listed: listed.collect(), own }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.listed.is_empty()
    }
}

/// A scanner's report of one image.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ScannerReport {
    /// The scanner and its version.
    pub(super) source: String,
    /// When the report was made.
    pub(super) generated_at: Option<Timestamp>,
    /// The part of the image that was not assessed, if the report does not cover all of it.
    pub(super) incomplete: Option<String>,
    /// When the scanner's database was built, if the report states it: the scanner knew no newer issues.
    pub(super) data_of: Option<Timestamp>,
    /// One finding for each issue and package.
    pub(super) findings: Vec<ReportFinding>,
    /// All packages in the image, if the scanner lists them.
    pub(super) packages: Option<PackageList>,
    /// The system in the image.
    pub(super) system: ScannedSystem,
}

/// A report's statement about the system in an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ScannedSystem {
    /// The distribution and its release: `debian 12`. `None` if the report does not say.
    pub(super) distribution: Option<String>,
    /// Whether the support of the release has ended, so that newer issues are not known, and nothing else is missing.
    pub(super) is_past_support: bool,
    /// When the support of the release ends by the gate's own dates, if they list it.
    pub(super) support_ends: Option<Timestamp>,
}

impl ScannedSystem {
    /// The parts missing from a report: other gaps, or otherwise the advisories published since the support ended.
    pub(super) fn missing(&self, otherwise: Option<String>) -> Option<String> {
        let system = self.distribution.as_deref().unwrap_or("the system");
        let ended = || format!("{system} is past its end of support; newer issues are unknown");
        otherwise.or_else(|| self.is_past_support.then(ended))
    }

    /// When the support ends or has ended: by the gate's own dates, or by the time of a report that says that it has
    /// ended and not when. The earlier counts.
    pub(super) fn end_of_life(&self, reported: Timestamp) -> Option<Timestamp> {
        earliest(self.support_ends, self.is_past_support.then_some(reported))
    }
}

/// Checks how many findings a report has, from the numbers of findings and of names in each of its entries, before the
/// findings are made. Omitted findings might be those that deny an image, so a larger report is rejected.
pub(super) fn check_size(entries: impl Iterator<Item = (usize, usize)>) -> Result<(), InvalidReport> {
    let (mut findings, mut names) = (0_usize, 0_usize);
    for (of_entry, names_of_each) in entries {
        findings = findings.saturating_add(of_entry);
        names = names.saturating_add(of_entry.saturating_mul(names_of_each));
        if findings > MAX_FINDINGS || names > MAX_NAMES {
            return Err(InvalidReport(format!("more than {MAX_FINDINGS} findings, or {MAX_NAMES} names in them")));
        }
    }
    Ok(())
}

/// One issue in one package.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ReportFinding {
    /// The issue, with at most one package. It is exempt if VEX or the vendor says that the image is not affected.
    pub(super) issue: Issue,
    /// Whether the scanner was told to ignore the issue, which says nothing about the image.
    pub(super) ignored: bool,
    /// When the statement was made, if not with the report: [`Timestamp::MIN`] where a scanner applied VEX, of unknown
    /// time.
    pub(super) stated: Option<Timestamp>,
}

impl ReportFinding {
    pub(super) fn new(issue: Issue) -> Self {
        Self { issue: details::trimmed(issue), ignored: false, stated: None }
    }
}

/// Combines findings with the same identifier into one issue that affects several packages. The issue is exempt if all
/// its findings are; otherwise it lists only the packages that count. The worst issues come first.
pub(super) fn issues(findings: impl IntoIterator<Item = Issue>) -> Vec<Issue> {
    let mut issues: Vec<Issue> = Vec::new();
    let mut places: HashMap<(bool, String), usize> = HashMap::new();
    let mut packages: HashSet<(usize, bool, AffectedPackage)> = HashSet::new();
    for mut finding in findings {
        let key = (finding.kind == IssueKind::Vulnerability, finding.id.to_ascii_lowercase());
        let place = *places.entry(key).or_insert(issues.len());
        finding.packages.retain(|package| packages.insert((place, finding.exempt, package.clone())));
        match issues.get_mut(place) {
            Some(issue) => add(issue, finding),
            None => issues.push(finding),
        }
    }
    issues
        .sort_by(|a, b| (a.exempt, b.severity as u8).cmp(&(b.exempt, a.severity as u8)).then_with(|| a.id.cmp(&b.id)));
    issues
}

fn add(to: &mut Issue, finding: Issue) {
    if to.exempt != finding.exempt {
        if to.exempt {
            *to = finding;
        }
        return;
    }
    ratings::add(to, &finding);
    for alias in finding.aliases {
        if !to.is_called(&alias) {
            to.aliases.push(alias);
        }
    }
    if finding.severity as u8 > to.severity as u8 {
        (to.severity, to.severity_source) = (finding.severity, finding.severity_source);
    }
    to.title = to.title.take().or(finding.title);
    to.corrective_action = to.corrective_action.take().or(finding.corrective_action);
    to.published = earliest(to.published, finding.published);
    to.first_seen = earliest(to.first_seen, finding.first_seen);
    to.exempt_since = earliest(to.exempt_since, finding.exempt_since);
    to.score = match (to.score.take(), finding.score) {
        (Some(a), Some(b)) => Some(a.worse(b)),
        (a, b) => a.or(b),
    };
    details::add_references(&mut to.references, finding.references);
    to.packages.extend(finding.packages);
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

/// Why a file is not a report.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(super) struct InvalidReport(String);

impl InvalidReport {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Parses the structure of one format.
pub(super) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, InvalidReport> {
    serde_json::from_slice(bytes).map_err(|e| InvalidReport(e.to_string()))
}

/// The severity for a word. An unknown word is not treated as harmless.
pub(super) fn severity(word: Option<&str>) -> Severity {
    word.and_then(|word| word.trim().parse().ok()).unwrap_or(Severity::Unknown)
}

/// A text that is not blank.
pub(super) fn some(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

/// The digest in `name@sha256:…`, or in `sha256:…` alone.
pub(super) fn digest_of(text: &str) -> Option<Digest> {
    text.rsplit_once('@').map_or(text, |(_, digest)| digest).parse().ok()
}

/// The scanner's name and version.
pub(super) fn source(name: &str, version: Option<String>) -> String {
    match some(version) {
        Some(version) => format!("{name} {version}"),
        None => name.to_owned(),
    }
}

/// Parses an RFC 3339 time. Go's zero time and invalid values are unknown times.
pub(super) fn time(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok().filter(|at: &Timestamp| at.as_second() > 0)
}

/// For a field that does not affect decisions, or not if it is missing: any value but a string is read as absent.
pub(in crate::va) fn text_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    deserializer.deserialize_any(TextVisitor)
}

/// Reads a string, and anything else without keeping it: a report may contain very large values.
struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Option<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_seq(list).map(|_| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_map(map).map(|_| None)
    }
}

/// For a flag: absent and null mean the default.
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
    /// What follows the name of OpenVEX in the context: the version, if it is stated (`/v0.2.0`).
    fn open_vex(&self) -> Option<&str> {
        self.context.as_deref()?.strip_prefix("https://openvex.dev/ns")
    }
}
