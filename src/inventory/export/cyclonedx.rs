//! CycloneDX 1.6 as JSON (ECMA-424; cyclonedx.org/docs/1.6/json).

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::inventory::purl::split_epoch;
use crate::inventory::{Ecosystem, InstalledPackage, Inventory, LinuxDistribution};
use crate::licence;
use crate::oci::Digest;

/// The software bill of materials of an image. The same inventory yields the same document: its serial number is made
/// from its content, and its time is that at which the layers were read, which is kept with the inventory.
///
/// `image` is the name of the image, `digest` the digest of its manifest, and `read_at` the time at which the layers
/// were read, if it is known. `trivy sbom` finds source packages and paths by the properties named
/// `aquasecurity:trivy:…`. Gaps are properties of the image, and make its composition `incomplete`. The image depends
/// on its distribution and on the packages of languages, and the distribution on the packages of its package manager.
/// The dependencies of packages are not known, so packages have no entries there.
///
/// ```json
/// {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
///  "metadata": {"component": {"type": "container", "name": "docker.io/library/nginx", "version": "sha256:…"}},
///  "components": [{"type": "library", "name": "libssl3", "version": "3.0.11-1~deb12u2", "purl": "pkg:deb/debian/…"}]}
/// ```
pub fn cyclonedx(inventory: &Inventory, image: &str, digest: &Digest, read_at: Option<Timestamp>) -> Value {
    let image_ref = format!("{image}@{digest}");
    let gaps = inventory.gaps.iter();
    let gaps: Vec<_> = gaps.map(|gap| property("pullgate:gap", &format!("{}: {}", gap.place, gap.problem))).collect();
    let is_incomplete = !gaps.is_empty();
    let mut container = json!({
        "bom-ref": image_ref,
        "type": "container",
        "name": image,
        "version": digest.to_string(),
    });
    if is_incomplete {
        container["properties"] = Value::Array(gaps);
    }
    let mut components: Vec<_> = inventory.distribution.iter().map(operating_system).collect();
    let system = components.first().map(|system| system["bom-ref"].clone());
    let (mut of_image, mut of_system): (Vec<_>, Vec<_>) = (system.iter().cloned().collect(), Vec::new());
    let mut refs = HashMap::new();
    for package in &inventory.packages {
        let component = library(package, inventory.distribution.as_ref(), &mut refs);
        let is_of_system = system.is_some() && package.ecosystem.is_of_distribution();
        let needed_by = if is_of_system { &mut of_system } else { &mut of_image };
        needed_by.push(component["bom-ref"].clone());
        components.push(component);
    }
    let mut dependencies = vec![json!({"ref": image_ref, "dependsOn": of_image})];
    dependencies
        .extend(system.filter(|_| !of_system.is_empty()).map(|system| json!({"ref": system, "dependsOn": of_system})));
    let aggregate = if is_incomplete { "incomplete" } else { "unknown" };
    let mut document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {"components": [
                {"type": "application", "name": "pullgate", "version": env!("CARGO_PKG_VERSION")},
            ]},
            "component": container,
        },
        "components": components,
        "dependencies": dependencies,
        "compositions": [{"aggregate": aggregate, "assemblies": [image_ref]}],
    });
    if let Some(at) = read_at {
        document["metadata"]["timestamp"] = json!(at);
    }
    document["serialNumber"] = json!(serial_number(&document));
    document
}

/// A UUID of version 8 (RFC 9562), whose bits follow from the rest of the document.
fn serial_number(document: &Value) -> String {
    let hash = Digest::sha256(document.to_string().as_bytes());
    let hex = hash.hex();
    // The variant is in the first two bits of the fourth group.
    format!("urn:uuid:{}-{}-8{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

/// A licence: by its identifier if it is one of SPDX, or else by the text that the package states.
fn licence_of(written: &str) -> Value {
    let key = if licence::is_identifier(written) { "id" } else { "name" };
    json!({"license": {key: written}})
}

fn property(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value})
}

/// The component of the distribution.
fn operating_system(distribution: &LinuxDistribution) -> Value {
    let mut component = json!({
        "bom-ref": format!("os:{}-{}", distribution.id, distribution.version),
        "type": "operating-system",
        "name": distribution.family(),
        "properties": [
            property("aquasecurity:trivy:Class", "os-pkgs"),
            property("aquasecurity:trivy:Type", distribution.family()),
        ],
    });
    if !distribution.version.is_empty() {
        component["version"] = json!(distribution.version);
    }
    component
}

/// The component of a package. `refs` counts how often each reference was used: references must differ.
fn library(
    package: &InstalledPackage,
    distribution: Option<&LinuxDistribution>,
    refs: &mut HashMap<String, usize>,
) -> Value {
    let mut component = Map::new();
    let purl = package.purl(distribution);
    let mut reference = purl.clone().unwrap_or_else(|| format!("{}@{}", package.name, package.version));
    let count = refs.entry(reference.clone()).or_default();
    *count += 1;
    if *count > 1 {
        // The space keeps it apart from every package URL.
        reference = format!("{reference} {count}");
    }
    let (group, name) = match package.ecosystem {
        Ecosystem::Maven => package.name.rsplit_once(':'),
        Ecosystem::Composer | Ecosystem::Npm => package.name.rsplit_once('/'),
        _ => None,
    }
    .map_or((None, package.name.as_str()), |(group, name)| (Some(group), name));
    component.insert("bom-ref".to_owned(), json!(reference));
    component.insert("type".to_owned(), json!("library"));
    component.insert("name".to_owned(), json!(name));
    component.extend(group.map(|group| ("group".to_owned(), json!(group))));
    if !package.version.is_empty() {
        component.insert("version".to_owned(), json!(package.version));
    }
    component.extend(purl.map(|purl| ("purl".to_owned(), json!(purl))));
    let licenses: Vec<_> = package.licenses.iter().filter(|license| !license.is_empty()).collect();
    if !licenses.is_empty() {
        let licenses: Vec<_> = licenses.iter().map(|license| licence_of(license)).collect();
        component.insert("licenses".to_owned(), Value::Array(licenses));
    }
    component.insert("properties".to_owned(), Value::Array(properties(package, distribution)));
    Value::Object(component)
}

/// The properties of a package, as Trivy names them.
fn properties(package: &InstalledPackage, distribution: Option<&LinuxDistribution>) -> Vec<Value> {
    let kind = match package.ecosystem {
        Ecosystem::Bitnami => "bitnami",
        Ecosystem::Cargo => "rustbinary",
        Ecosystem::Composer => "composer-vendor",
        Ecosystem::Gem => "gemspec",
        Ecosystem::Go => "gobinary",
        Ecosystem::Maven => "jar",
        Ecosystem::Npm => "node-pkg",
        Ecosystem::NuGet => "dotnet-core",
        Ecosystem::PyPi => "python-pkg",
        Ecosystem::Apk | Ecosystem::Deb | Ecosystem::Rpm => distribution.map_or("", LinuxDistribution::family),
    };
    let own = (package.name.as_str(), package.version.as_str());
    let source = package.source.as_ref().map_or(own, |source| (source.name.as_str(), source.version.as_str()));
    let (epoch, version) = split_epoch(source.1);
    // Alpine's versions have no separate release.
    let (version, release) = match package.ecosystem {
        Ecosystem::Apk => (source.1, ""),
        _ => version.rsplit_once('-').unwrap_or((version, "")),
    };
    let layer = package.layer.map(|layer| layer.to_string()).unwrap_or_default();
    let of_distribution =
        |value: &str| if package.ecosystem.is_of_distribution() { value.to_owned() } else { String::new() };
    [
        ("FilePath", package.path.clone().unwrap_or_default()),
        ("LayerDiffID", layer),
        ("Modularitylabel", package.module.clone().unwrap_or_default()),
        ("PkgType", kind.to_owned()),
        ("SrcEpoch", of_distribution(epoch)),
        ("SrcName", of_distribution(source.0)),
        ("SrcRelease", of_distribution(release)),
        ("SrcVersion", of_distribution(version)),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| property(&format!("aquasecurity:trivy:{name}"), &value))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{Gap, SourcePackage};

    fn package(ecosystem: Ecosystem, name: &str, version: &str) -> InstalledPackage {
        InstalledPackage {
            ecosystem,
            name: name.to_owned(),
            version: version.to_owned(),
            source: None,
            architecture: String::new(),
            module: None,
            vendor: None,
            licenses: vec!["MIT".to_owned(), "GPL-2+".to_owned()],
            built: None,
            path: Some("usr/bin/a".to_owned()),
            layer: Some(Digest::sha256(b"layer")),
        }
    }

    fn inventory() -> Inventory {
        let (id, version) = ("debian".to_owned(), "12".to_owned());
        let mut openssl = package(Ecosystem::Deb, "libssl3", "1:3.0.11-1~deb12u2");
        openssl.source = Some(SourcePackage { name: "openssl".to_owned(), version: "1:3.0.11-1~deb12u2".to_owned() });
        let go = package(Ecosystem::Go, "golang.org/x/net", "v0.1.0");
        let packages =
            vec![openssl, go.clone(), go, package(Ecosystem::Maven, "org.a:b", ""), package(Ecosystem::Go, "./x", "")];
        Inventory {
            distribution: Some(LinuxDistribution { id, version, ..LinuxDistribution::default() }),
            packages,
            ..Inventory::default()
        }
    }

    #[test]
    fn an_inventory_as_cyclonedx() {
        let digest = Digest::sha256(b"manifest");
        let read_at = "2026-11-26T00:00:00Z".parse().ok();
        let document = cyclonedx(&inventory(), "docker.io/library/a", &digest, read_at);
        assert_eq!(document, cyclonedx(&inventory(), "docker.io/library/a", &digest, read_at));
        assert_eq!(document["metadata"]["timestamp"], "2026-11-26T00:00:00Z");
        let serial = |document: &Value| document["serialNumber"].as_str().expect("a text").to_owned();
        let uuid = regex::Regex::new("^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}$");
        assert!(uuid.expect("a pattern").is_match(&serial(&document)), "{document}");
        let other = Inventory { packages: Vec::new(), ..inventory() };
        assert_ne!(serial(&document), serial(&cyclonedx(&other, "docker.io/library/a", &digest, read_at)));
        assert_eq!(document["bomFormat"], "CycloneDX");
        assert_eq!(document["specVersion"], "1.6");
        assert_eq!(document["metadata"]["component"]["version"], digest.to_string());
        assert_eq!(document["compositions"][0]["aggregate"], "unknown");
        let components = document["components"].as_array().expect("components");
        assert_eq!(components[0]["type"], "operating-system");
        let layer = Digest::sha256(b"layer").to_string();
        let trivy = |name: &str, value: &str| property(&format!("aquasecurity:trivy:{name}"), value);
        assert_eq!(
            components[1],
            json!({
                "bom-ref": "pkg:deb/debian/libssl3@3.0.11-1~deb12u2?distro=debian-12&epoch=1",
                "type": "library",
                "name": "libssl3",
                "version": "1:3.0.11-1~deb12u2",
                "purl": "pkg:deb/debian/libssl3@3.0.11-1~deb12u2?distro=debian-12&epoch=1",
                "licenses": [{"license": {"id": "MIT"}}, {"license": {"name": "GPL-2+"}}],
                "properties": [
                    trivy("FilePath", "usr/bin/a"),
                    trivy("LayerDiffID", &layer),
                    trivy("PkgType", "debian"),
                    trivy("SrcEpoch", "1"),
                    trivy("SrcName", "openssl"),
                    trivy("SrcRelease", "1~deb12u2"),
                    trivy("SrcVersion", "3.0.11"),
                ],
            })
        );
        assert_eq!((&components[4]["group"], &components[4]["name"]), (&json!("org.a"), &json!("b")));
        assert!(components[5].get("purl").is_none());
    }

    /// The schema requires `type` and `name` of a component, and references that differ.
    #[test]
    fn every_component_has_a_type_a_name_and_its_own_reference() {
        let document = cyclonedx(&inventory(), "a", &Digest::sha256(b""), None);
        let components = document["components"].as_array().expect("components");
        let mut refs: Vec<_> =
            components.iter().map(|component| component["bom-ref"].as_str().expect("text")).collect();
        assert!(components.iter().all(|component| component["name"].is_string() && component["type"].is_string()));
        refs.sort_unstable();
        refs.dedup();
        assert_eq!(refs.len(), components.len());
    }

    #[test]
    fn the_image_depends_on_its_system_and_the_system_on_its_packages() {
        let document = cyclonedx(&inventory(), "a", &Digest::sha256(b""), None);
        let reference = |at: usize| document["components"][at]["bom-ref"].clone();
        let image = document["metadata"]["component"]["bom-ref"].clone();
        let of_image = [0, 2, 3, 4, 5].map(reference);
        let expected =
            json!([{"ref": image, "dependsOn": of_image}, {"ref": reference(0), "dependsOn": [reference(1)]}]);
        assert_eq!(document["dependencies"], expected);
        let bare = Inventory { distribution: None, ..inventory() };
        let document = cyclonedx(&bare, "a", &Digest::sha256(b""), None);
        assert_eq!(document["dependencies"][0]["dependsOn"].as_array().map(Vec::len), Some(bare.packages.len()));
        assert!(document["dependencies"].get(1).is_none());
    }

    #[test]
    fn gaps_make_the_document_incomplete() {
        let mut inventory = inventory();
        inventory.gaps.push(Gap { place: "a.jar".to_owned(), problem: "is encrypted".to_owned() });
        let document = cyclonedx(&inventory, "a", &Digest::sha256(b""), None);
        assert!(document["metadata"].get("timestamp").is_none());
        assert_eq!(document["compositions"][0]["aggregate"], "incomplete");
        let properties = &document["metadata"]["component"]["properties"];
        assert_eq!(properties, &json!([property("pullgate:gap", "a.jar: is encrypted")]));
    }
}
