//! Grype's JSON report (anchore/grype, `grype/presenter/models`).

mod distro;
mod keys;
mod matched;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::document::{
    ImageNames, InvalidReport, ReportFile, ReportFinding, ScannedSystem, ScannerReport, check_size, read, source,
    text_or_nothing, time,
};
use distro::Distro;
pub(super) use distro::{major_and_minor, unknown_to_grype};
use matched::{GrypeArtifact, GrypeMatch};

/// The reasons of Grype's own rules, which are based on the data of a distribution or an ecosystem.
const OWN_REASONS: [&str; 3] = ["Distro Fixed", "Distro Not Vulnerable", "UnaffectedPackageEntry"];

/// Parses a report on an image. `source.target.imageID` is the digest of its configuration and `manifestDigest` that of
/// its manifest, and `userInput` may contain a digest. Digests in `repoDigests` only count as listed.
pub(super) fn parse(bytes: &[u8]) -> Result<ReportFile, InvalidReport> {
    let report: GrypeReport = read(bytes)?;
    keys::REPORT.check(bytes)?;
    let Some(about) = report.source.as_ref().filter(|about| about.kind == "image") else {
        return Err(InvalidReport::new("a Grype report that is not of an image"));
    };
    let target = GrypeTarget::deserialize(&about.target)
        .map_err(|e| InvalidReport::new(format!("source.target of a Grype report: {e}")))?;
    let own = target.image_id.iter().chain(&target.manifest_digest).chain(&target.user_input);
    let image = ImageNames::new(own, target.repo_digests.iter().flatten());
    if image.is_empty() {
        return Err(InvalidReport::new("a Grype report that names no digest identifies no image"));
    }
    let (missing, data_of) = (report.missing(), report.descriptor.built());
    let program = report.descriptor.version.as_deref();
    let distribution = report.distro.as_ref().filter(|distro| distro.is_recognised(program)).map(Distro::text);
    let system = ScannedSystem {
        distribution,
        is_past_support: missing.is_none() && report.alerts().any(is_about_end_of_life),
        support_ends: report.distro.as_ref().and_then(Distro::support_ends),
    };
    let incomplete = system.missing(missing);
    let ignored = || report.ignored_matches.iter().flatten().map(|ignored| &ignored.matched);
    check_size(report.matches.iter().chain(ignored()).map(GrypeMatch::size))?;
    let matches = report.matches.into_iter().flat_map(|m| m.findings(false, false));
    let ignored = report.ignored_matches.into_iter().flatten().flat_map(Ignored::findings);
    let assessment = ScannerReport {
        source: source("grype", report.descriptor.version),
        generated_at: time(report.descriptor.timestamp.as_deref()),
        incomplete,
        data_of,
        findings: matches.chain(ignored).collect(),
        packages: None,
        system,
    };
    Ok(ReportFile { image, assessment: Some(assessment), ..ReportFile::default() })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GrypeReport {
    matches: Vec<GrypeMatch>,
    ignored_matches: Option<Vec<Ignored>>,
    #[serde(default)]
    alerts_by_package: Value,
    source: Option<GrypeSource>,
    distro: Option<Distro>,
    descriptor: GrypeDescriptor,
}

impl GrypeReport {
    /// What was not assessed. The report contains only packages with issues, not all packages. If no system was
    /// recognised and no package outside of a system matched, nothing shows that anything was assessed.
    fn missing(&self) -> Option<String> {
        self.not_recognised().or_else(|| self.descriptor.left_out()).or_else(|| self.alert())
    }

    fn not_recognised(&self) -> Option<String> {
        let (distro, program) = (self.distro.as_ref(), self.descriptor.version.as_deref());
        if distro.is_some_and(|distro| distro.is_recognised(program)) {
            return None;
        }
        let ignored = self.ignored_matches.iter().flatten().map(|ignored| &ignored.matched);
        let mut artifacts = self.matches.iter().chain(ignored).map(|matched| &matched.artifact).peekable();
        match distro.and_then(|distro| distro.unknown(program)) {
            Some(why) => Some(why),
            None if artifacts.peek().is_none() => {
                Some("nothing was assessed: the scanner found no system that it knows and matched no package".into())
            }
            None if artifacts.any(GrypeArtifact::is_of_system) => {
                Some("the packages of the system were not assessed: the scanner does not know it".into())
            }
            None => None,
        }
    }

    /// Grype's other warnings about packages of systems, which are separate from the matches.
    fn alert(&self) -> Option<String> {
        let kind = self.alerts().find(|kind| kind.starts_with("distro") && !is_about_end_of_life(kind))?;
        let system = self.distro.as_ref().map(Distro::text).unwrap_or_default();
        Some(format!("the scanner warns of {system}: {kind}"))
    }

    /// The kinds of Grype's warnings about packages.
    fn alerts(&self) -> impl Iterator<Item = &str> {
        let packages = self.alerts_by_package.as_array().into_iter().flatten();
        let alerts = packages.filter_map(|package| package.get("alerts")?.as_array()).flatten();
        alerts.filter_map(|alert| alert.get("type")?.as_str())
    }
}

/// Whether a warning is that the support of the system has ended (`distro-eol`).
fn is_about_end_of_life(kind: &str) -> bool {
    kind.contains("eol")
}

#[derive(Deserialize)]
struct GrypeSource {
    #[serde(rename = "type")]
    kind: String,
    /// A string if a directory was scanned.
    target: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GrypeTarget {
    #[serde(rename = "imageID")]
    image_id: Option<String>,
    manifest_digest: Option<String>,
    repo_digests: Option<Vec<String>>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    user_input: Option<String>,
}

#[derive(Deserialize)]
struct GrypeDescriptor {
    #[serde(default, deserialize_with = "text_or_nothing")]
    version: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    timestamp: Option<String>,
    #[serde(default)]
    configuration: Value,
    #[serde(default)]
    db: Value,
}

impl GrypeDescriptor {
    fn status(&self) -> &Value {
        self.db.get("status").unwrap_or(&self.db)
    }

    /// When the database was built.
    fn built(&self) -> Option<Timestamp> {
        time(self.status().get("built").and_then(Value::as_str))
    }

    /// What Grype was told to exclude or could not look up. Filters by fix state or by rules only move matches to
    /// `ignoredMatches`, where they are read.
    fn left_out(&self) -> Option<String> {
        let globs = self.configuration.get("exclude").and_then(Value::as_array).into_iter().flatten();
        if let Some(first) = globs.filter_map(Value::as_str).next() {
            return Some(format!("the scanner was told to leave out {first}"));
        }
        let status = self.status();
        let error = status.get("error").and_then(Value::as_str).filter(|error| !error.is_empty());
        let invalid = status.get("valid").is_some_and(|valid| valid.as_bool() != Some(true) && !valid.is_null());
        (error.is_some() || invalid).then(|| "the scanner's database was not valid".into())
    }
}

/// A match that a rule removed from the list.
#[derive(Deserialize)]
struct Ignored {
    #[serde(flatten)]
    matched: GrypeMatch,
    #[serde(rename = "appliedIgnoreRules")]
    rules: Option<Vec<IgnoreRule>>,
}

impl Ignored {
    /// A finding is exempt if VEX or the scanner itself says that the image is not affected. A finding that a user's
    /// rule excludes (by fix state, identifier or package) still counts as affected.
    fn findings(self) -> Vec<ReportFinding> {
        let exempt = self.rules.iter().flatten().any(IgnoreRule::exempts);
        self.matched.findings(exempt, true)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct IgnoreRule {
    #[serde(default, deserialize_with = "text_or_nothing")]
    vex_status: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    reason: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    match_type: Option<String>,
    package: Option<IgnoredPackage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct IgnoredPackage {
    #[serde(default, deserialize_with = "text_or_nothing")]
    upstream_name: Option<String>,
}

impl IgnoreRule {
    fn exempts(&self) -> bool {
        let by_vex = matches!(self.vex_status.as_deref(), Some("not_affected" | "fixed"));
        let by_scanner = self.reason.as_deref().is_some_and(|reason| OWN_REASONS.contains(&reason));
        by_vex || by_scanner || self.is_of_kernel_headers()
    }

    /// Kernel headers are not a kernel. This is Grype's own rule for matches that are based only on the name of the
    /// source package.
    fn is_of_kernel_headers(&self) -> bool {
        let upstream = self.package.as_ref().and_then(|package| package.upstream_name.as_deref());
        matches!(upstream, Some("kernel" | "linux")) && self.match_type.as_deref() == Some("exact-indirect-match")
    }
}
