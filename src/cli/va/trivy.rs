//! A scan in the JSON format of Trivy (schema version 2), for tools that read Trivy's reports.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::{ImageScan, PackageAnswer};
use crate::inventory::Ecosystem;
use crate::policy::{AffectedPackage, Issue, Severity};

/// The report on one image.
pub(super) fn report(image: &str, scan: &ImageScan) -> Value {
    let assessment = &scan.assessment;
    let os = scan.distribution.as_ref().map(|os| json!({"Family": os.family(), "Name": os.version}));
    let mut results: BTreeMap<ResultGroup, Vec<&PackageAnswer>> = BTreeMap::new();
    for found in &scan.packages {
        results.entry(ResultGroup::of(found, image, scan)).or_default().push(found);
    }
    let results: Vec<Value> = results.iter().map(|(group, packages)| result(group, packages, scan)).collect();
    json!({
        "SchemaVersion": 2,
        "CreatedAt": scan.generated_at,
        "ArtifactName": image,
        "ArtifactType": "container_image",
        "Metadata": {"OS": os, "RepoDigests": [format!("{}@{}", name(image), assessment.digest)]},
        "Results": results,
    })
}

/// The name of an image without tag and digest.
fn name(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// Packages that Trivy lists together.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct ResultGroup {
    class: &'static str,
    kind: String,
    target: String,
}

impl ResultGroup {
    fn of(found: &PackageAnswer, image: &str, scan: &ImageScan) -> Self {
        let path = || found.package.path.clone().unwrap_or_default();
        let (kind, target) = match found.package.ecosystem {
            Ecosystem::Apk | Ecosystem::Deb | Ecosystem::Rpm => {
                let (id, version) =
                    scan.distribution.as_ref().map_or(("unknown", ""), |os| (os.family(), os.version.as_str()));
                let target = format!("{image} ({})", format!("{id} {version}").trim_end());
                return Self { class: "os-pkgs", kind: id.to_owned(), target };
            }
            Ecosystem::Cargo => ("rustbinary", path()),
            Ecosystem::Gem => ("gemspec", "Ruby".into()),
            Ecosystem::Go => ("gobinary", path()),
            Ecosystem::Maven => ("jar", "Java".into()),
            Ecosystem::Npm => ("node-pkg", "Node.js".into()),
            Ecosystem::PyPi => ("python-pkg", "Python".into()),
        };
        Self { class: "lang-pkgs", kind: kind.into(), target }
    }
}

fn result(group: &ResultGroup, packages: &[&PackageAnswer], scan: &ImageScan) -> Value {
    let listed: Vec<Value> = packages.iter().map(|found| package(found)).collect();
    let affects = |affected: &AffectedPackage, found: &&PackageAnswer| {
        let own = &found.package;
        affected.name == own.name && affected.installed.as_ref() == Some(&own.version) && affected.path == own.path
    };
    let mut vulnerabilities = Vec::new();
    for issue in scan.assessment.issues.iter().map(|found| &found.issue) {
        let here = issue.packages.iter().filter(|affected| packages.iter().any(|found| affects(affected, found)));
        vulnerabilities.extend(here.map(|affected| vulnerability(issue, affected)));
    }
    json!({
        "Target": group.target, "Class": group.class, "Type": group.kind,
        "Packages": listed, "Vulnerabilities": vulnerabilities,
    })
}

fn package(found: &PackageAnswer) -> Value {
    let package = &found.package;
    json!({
        "Name": package.name,
        "Identifier": {"PURL": found.purl},
        "Version": package.version,
        "Arch": Some(&package.architecture).filter(|architecture| !architecture.is_empty()),
        "SrcName": package.source.as_ref().map(|source| &source.name),
        "SrcVersion": package.source.as_ref().map(|source| &source.version),
        "Licenses": package.licenses,
        "FilePath": package.path,
        "Layer": {"DiffID": package.layer},
    })
}

fn vulnerability(issue: &Issue, affected: &AffectedPackage) -> Value {
    let severity = match issue.severity {
        Severity::Negligible => "LOW".into(),
        severity => severity.as_str().to_ascii_uppercase(),
    };
    json!({
        "VulnerabilityID": issue.id,
        "VendorIDs": issue.aliases,
        "PkgName": affected.name,
        "PkgPath": affected.path,
        "PkgIdentifier": {"PURL": affected.purl},
        "InstalledVersion": affected.installed,
        "FixedVersion": affected.fixed,
        "Status": affected.status,
        "Layer": {"DiffID": affected.layer},
        "SeveritySource": issue.severity_source,
        "DataSource": {"ID": affected.database},
        "Severity": severity,
        "Title": issue.title,
        "PublishedDate": issue.published,
        "References": issue.references,
    })
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
}
