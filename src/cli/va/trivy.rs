//! A scan in the JSON format of Trivy (schema version 2), for tools that read Trivy's reports.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::{ImageScan, PackageAnswer, other_identifiers, remedies, vendor_link};
use crate::inventory::{Ecosystem, Gap};
use crate::oci::Digest;
use crate::policy::{AffectedPackage, Issue, IssueKind, OWN_CHECKS, Purl, Severity};

/// The report on one image. Fields are left out where Trivy leaves them out (`pkg/types/report.go`): when they are
/// empty.
pub(super) fn report(image: &str, scan: &ImageScan) -> Value {
    let assessment = &scan.assessment;
    let is_over = scan.end_of_life.zip(scan.observed_at).is_some_and(|(end, now)| end <= now);
    let os = scan
        .distribution
        .as_ref()
        .map(|os| json!({"Family": os.family(), "Name": os.full_version(), "EOSL": is_over, "extended": os.extended_support}));
    let mut results: BTreeMap<ResultGroup, GroupFindings<'_>> = BTreeMap::new();
    for found in &scan.packages {
        let group = ResultGroup::of(found.package.ecosystem, found.package.path.as_deref(), image, scan);
        results.entry(group).or_default().packages.push(found);
    }
    for issue in assessment.issues.iter().map(|found| &found.issue) {
        for (group, affected) in affected_groups(issue, image, scan) {
            results.entry(group).or_default().issues.push((issue, affected));
        }
    }
    let results: Vec<Value> = results.iter().map(|(group, findings)| result(group, findings, scan)).collect();
    let tag = Some(image).filter(|image| !image.contains('@') && name(image) != *image);
    without_empty(json!({
        "SchemaVersion": 2,
        "CreatedAt": scan.generated_at.or(scan.observed_at),
        "ArtifactName": image,
        "ArtifactType": "container_image",
        "Metadata": {
            "OS": os,
            "DiffIDs": scan.layers.iter().map(|layer| layer.diff_id.unwrap_or(layer.digest)).collect::<Vec<_>>(),
            "RepoTags": tag.into_iter().collect::<Vec<_>>(),
            "RepoDigests": [format!("{}@{}", name(image), assessment.digest)],
        },
        "Results": results,
        // Trivy has no such field: other readers ignore it, and pullgate treats the report as incomplete.
        "NotAssessed": not_assessed(scan),
    }))
}

/// What was not assessed, which Trivy's format has no field for.
pub(super) fn not_assessed(scan: &ImageScan) -> Vec<String> {
    let gaps = scan.gaps.iter().map(|gap| format!("{}: {}", gap.place, gap.problem));
    why_besides_gaps(scan).map(str::to_owned).into_iter().chain(gaps).collect()
}

/// Why the image was not assessed as a whole, unless that is the summary of the gaps, which are listed by themselves.
pub(super) fn why_besides_gaps(scan: &ImageScan) -> Option<&str> {
    let why = scan.assessment.why.as_deref()?;
    let is_first = |gap: &Gap| {
        let layer = gap.place.parse::<Digest>().ok();
        let place = layer.map_or_else(|| gap.place.clone(), |layer| format!("layer {}", layer.short()));
        why.starts_with(&format!("{place}: {}", gap.problem))
    };
    (!scan.gaps.iter().any(is_first)).then_some(why)
}

/// The value without what Go's `omitempty` and `omitzero` leave out: null, false, and empty texts, lists and objects.
fn without_empty(value: Value) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    match value {
        Value::Array(values) => Value::Array(values.into_iter().map(without_empty).collect()),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, without_empty(value)));
            Value::Object(fields.filter(|(_, value)| !is_empty(value)).collect())
        }
        other => other,
    }
}

/// What Trivy lists in one result.
#[derive(Default)]
struct GroupFindings<'a> {
    packages: Vec<&'a PackageAnswer>,
    issues: Vec<(&'a Issue, Option<&'a AffectedPackage>)>,
}

/// The name of an image without tag and digest.
fn name(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// The class of a result, in the order in which Trivy lists them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum ResultClass {
    Os,
    Languages,
    Configuration,
}

impl ResultClass {
    fn as_str(self) -> &'static str {
        match self {
            Self::Os => "os-pkgs",
            Self::Languages => "lang-pkgs",
            Self::Configuration => "config",
        }
    }
}

/// Packages that Trivy lists together.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct ResultGroup {
    class: ResultClass,
    kind: String,
    target: String,
}

impl ResultGroup {
    /// The result that lists packages of this kind at this path.
    fn of(ecosystem: Ecosystem, path: Option<&str>, image: &str, scan: &ImageScan) -> Self {
        let path = || path.unwrap_or_default().to_owned();
        let (kind, target) = match ecosystem {
            Ecosystem::Apk | Ecosystem::Deb | Ecosystem::Rpm => return Self::of_distribution(image, scan),
            Ecosystem::Bitnami => ("bitnami", path()),
            Ecosystem::Cargo => ("rustbinary", path()),
            Ecosystem::Composer => ("composer-vendor", path()),
            Ecosystem::Gem => ("gemspec", "Ruby".into()),
            Ecosystem::Go => ("gobinary", path()),
            Ecosystem::Maven => ("jar", "Java".into()),
            Ecosystem::Npm => ("node-pkg", "Node.js".into()),
            Ecosystem::NuGet => ("dotnet-core", path()),
            Ecosystem::PyPi => ("python-pkg", "Python".into()),
        };
        Self { class: ResultClass::Languages, kind: kind.into(), target }
    }

    fn of_distribution(image: &str, scan: &ImageScan) -> Self {
        let (id, version) = scan.distribution.as_ref().map_or(("unknown", ""), |os| (os.family(), os.full_version()));
        let target = format!("{image} ({})", format!("{id} {version}").trim_end());
        Self { class: ResultClass::Os, kind: id.to_owned(), target }
    }

    /// The result of a package that a report names and the inventory does not list.
    fn of_unlisted(affected: Option<&AffectedPackage>, image: &str, scan: &ImageScan) -> Self {
        match affected.and_then(ecosystem) {
            Some(ecosystem) => Self::of(ecosystem, affected.and_then(|package| package.path.as_deref()), image, scan),
            None => Self::of_distribution(image, scan),
        }
    }
}

/// The programming language of a package, by its package URL or the name of its type. `None` for anything else.
fn ecosystem(package: &AffectedPackage) -> Option<Ecosystem> {
    Ecosystem::of_purl_type(package.purl.as_ref().map(Purl::kind).or(package.ecosystem.as_deref())?)
}

/// How Trivy identifies a package in its report. Empty for kinds to which it gives no identifier.
fn package_id(ecosystem: Option<Ecosystem>, name: &str, version: &str) -> String {
    match ecosystem {
        Some(Ecosystem::Gem | Ecosystem::Maven | Ecosystem::PyPi) => String::new(),
        Some(Ecosystem::NuGet) => format!("{name}/{version}"),
        _ => format!("{name}@{version}"),
    }
}

/// The results that list an issue, with the package of each. No issue is left out: for one without a package, or with a
/// package that the inventory does not list, the report may be the only source.
fn affected_groups<'a>(
    issue: &'a Issue,
    image: &str,
    scan: &ImageScan,
) -> Vec<(ResultGroup, Option<&'a AffectedPackage>)> {
    if issue.kind == IssueKind::Configuration {
        let group = ResultGroup { class: ResultClass::Configuration, kind: "image".into(), target: image.to_owned() };
        return vec![(group, issue.packages.first())];
    }
    if issue.packages.is_empty() {
        return vec![(ResultGroup::of_distribution(image, scan), None)];
    }
    let group = |affected: &AffectedPackage| {
        let is_it = |found: &&PackageAnswer| {
            let own = &found.package;
            affected.name == own.name && affected.installed.as_ref() == Some(&own.version) && affected.path == own.path
        };
        match scan.packages.iter().find(is_it) {
            Some(found) => ResultGroup::of(found.package.ecosystem, found.package.path.as_deref(), image, scan),
            None => ResultGroup::of_unlisted(Some(affected), image, scan),
        }
    };
    issue.packages.iter().map(|affected| (group(affected), Some(affected))).collect()
}

/// The layer that a package is from, by its `diff_id`, with the digest that the manifest states.
fn layer(diff_id: Option<Digest>, scan: &ImageScan) -> Value {
    let Some(diff_id) = diff_id else { return Value::Null };
    let known = scan.layers.iter().find(|layer| layer.diff_id.unwrap_or(layer.digest) == diff_id);
    json!({"Digest": known.map(|layer| layer.digest), "DiffID": diff_id})
}

fn result(group: &ResultGroup, findings: &GroupFindings<'_>, scan: &ImageScan) -> Value {
    let packages: Vec<Value> = findings.packages.iter().map(|found| package(found, scan)).collect();
    let mut result = json!({
        "Target": group.target, "Class": group.class.as_str(), "Type": group.kind, "Packages": packages,
    });
    if group.class == ResultClass::Configuration {
        result["Misconfigurations"] = findings.issues.iter().map(|(issue, _)| misconfiguration(issue)).collect();
        return result;
    }
    // As Trivy lists what its ignore file names.
    let ignored = |finding: Value| json!({"Type": "vulnerability", "Status": "ignored", "Source": "pullgate", "Finding": finding});
    let (exempt, open): (Vec<_>, Vec<_>) = findings.issues.iter().partition(|(issue, _)| issue.exempt);
    let found = |(issue, affected): &(&Issue, Option<&AffectedPackage>)| vulnerability(issue, *affected, scan);
    result["Vulnerabilities"] = open.into_iter().map(found).collect();
    result["ExperimentalModifiedFindings"] = exempt.into_iter().map(found).map(ignored).collect();
    result
}

fn package(found: &PackageAnswer, scan: &ImageScan) -> Value {
    let package = &found.package;
    json!({
        "ID": package_id(Some(package.ecosystem), &package.name, &package.version),
        "Name": package.name,
        "Identifier": {"PURL": found.purl},
        "Version": package.version,
        "Arch": package.architecture,
        "SrcName": package.source.as_ref().map(|source| &source.name),
        "SrcVersion": package.source.as_ref().map(|source| &source.version),
    "Licenses": package.spdx_licenses(),
        "Maintainer": package.vendor,
        "Modularitylabel": package.module,
        "FilePath": package.path,
        "Layer": layer(package.layer, scan),
    })
}

/// A `DetectedVulnerability` (`pkg/types/vulnerability.go`).
fn vulnerability(issue: &Issue, affected: Option<&AffectedPackage>, scan: &ImageScan) -> Value {
    let nothing = AffectedPackage::default();
    let affected = affected.unwrap_or(&nothing);
    let id = affected.installed.as_ref().map(|version| package_id(ecosystem(affected), &affected.name, version));
    let (rated, source) = match affected.severity {
        Some(rated) => (rated, &affected.severity_source),
        None => (issue.severity, &issue.severity_source),
    };
    json!({
        "VulnerabilityID": issue.id,
        "VendorIDs": other_identifiers(issue).into_iter().filter(|id| *id != issue.id).collect::<Vec<_>>(),
        "PkgID": id,
        "PkgName": affected.name,
        "PkgPath": affected.path,
        "PkgIdentifier": {"PURL": affected.purl},
        "InstalledVersion": affected.installed,
        "FixedVersion": affected.fixed,
        "Status": affected.status,
        "Layer": layer(affected.layer, scan),
        "SeveritySource": source,
        "PrimaryURL": vendor_link(issue),
        "DataSource": {"ID": affected.database},
        "Severity": severity(rated),
        "Title": issue.title,
        "CVSS": cvss(issue),
        "PublishedDate": issue.published,
        "References": issue.references,
    })
}

/// A `DetectedMisconfiguration` (`pkg/types/misconfiguration.go`).
fn misconfiguration(issue: &Issue) -> Value {
    json!({
        "Type": "image",
        // By this, another gate knows that this is what a gate itself finds.
        "Namespace": issue.is_own_check().then_some(OWN_CHECKS),
        "ID": issue.id,
        "Title": issue.title,
        "Message": issue.title,
        "Resolution": remedies(issue).join("\n"),
        "Severity": severity(issue.severity),
        "References": issue.references,
        "Status": if issue.exempt { "EXCEPTION" } else { "FAIL" },
    })
}

fn severity(severity: Severity) -> String {
    match severity {
        Severity::Negligible => "LOW".into(),
        severity => severity.as_str().to_ascii_uppercase(),
    }
}

/// The score in the fields of its version, by its source.
fn cvss(issue: &Issue) -> Value {
    let Some(score) = &issue.score else { return Value::Null };
    let vector = score.vector().unwrap_or_default();
    let version = match vector {
        _ if vector.starts_with("CVSS:4") => "V40",
        _ if vector.starts_with("CVSS:3") || vector.is_empty() => "V3",
        _ => "V2",
    };
    let scores = json!({format!("{version}Vector"): vector, format!("{version}Score"): score.value()});
    json!({score.source(): scores})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_without_its_tag() {
        for (image, wanted) in [
            ("nginx", "nginx"),
            ("nginx:1.27", "nginx"),
            ("127.0.0.1:5000/nginx", "127.0.0.1:5000/nginx"),
            ("127.0.0.1:5000/nginx:1@sha256:aa", "127.0.0.1:5000/nginx"),
        ] {
            assert_eq!(name(image), wanted);
        }
    }

    #[test]
    fn a_row_has_the_severity_and_the_identifier_of_its_package() {
        let scan = crate::cli::va::tests::scan();
        let mut issue = Issue::new("GHSA-1".to_owned(), IssueKind::Vulnerability, Severity::Critical);
        (issue.severity_source, issue.aliases) = (Some("nvd".into()), vec!["CVE-1".into()]);
        let row = |kind: &str, severity: Option<Severity>| {
            let purl = Purl::parse(&format!("pkg:{kind}/x@1"));
            let source = severity.map(|_| "ghsa".to_owned());
            let (name, installed) = ("x".to_owned(), Some("1".to_owned()));
            let package = AffectedPackage {
                name,
                installed,
                purl,
                severity,
                severity_source: source,
                ..AffectedPackage::default()
            };
            let row = vulnerability(&issue, Some(&package), &scan);
            ["PkgID", "Severity", "SeveritySource"].map(|field| row[field].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!(row("npm", None), ["x@1", "CRITICAL", "nvd"]);
        assert_eq!(row("npm", Some(Severity::Low)), ["x@1", "LOW", "ghsa"]);
        assert_eq!(row("nuget", None)[0], "x/1");
        assert_eq!(["pypi", "gem"].map(|kind| row(kind, None)[0].clone()), [""; 2]);
        assert!(!vulnerability(&issue, None, &scan)["VendorIDs"].to_string().contains("GHSA-1"), "its own name");
    }
}
