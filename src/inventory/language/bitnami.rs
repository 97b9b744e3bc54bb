//! Components of Bitnami's images: `/opt/bitnami/NAME/.spdx-NAME.spdx`, in the JSON form of SPDX 2. The package URLs
//! state what is installed: `pkg:bitnami/redis@7.2.4-0?arch=amd64&distro=debian-12`, and packages of programming
//! languages in it.

use serde::Deserialize;

use crate::inventory::Ecosystem;

use super::json::JsonList;
use super::sbom::{Listed, add, is_unstated};
use super::{LanguagePackages, split_path};

#[derive(Deserialize)]
struct SpdxDocument {
    packages: JsonList<SpdxPackage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpdxPackage {
    name: Option<String>,
    version_info: Option<String>,
    #[serde(default)]
    license_declared: String,
    #[serde(default)]
    external_refs: Vec<SpdxReference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpdxReference {
    #[serde(default)]
    reference_type: String,
    #[serde(default)]
    reference_locator: String,
}

/// Whether the file states a component of Bitnami and what it contains.
pub(super) fn is_list(path: &str) -> bool {
    let (folder, name) = split_path(path);
    format!("{folder}/").starts_with("opt/bitnami/") && name.starts_with(".spdx-") && name.ends_with(".spdx")
}

/// Reads the components, and what they contain.
pub(super) fn read(path: &str, text: &str, found: &mut LanguagePackages) {
    let Ok(SpdxDocument { packages: JsonList(packages) }) = serde_json::from_str(text) else {
        return found.problem("Bitnami's list of components is damaged".to_owned());
    };
    for package in &packages {
        let licence = &package.license_declared;
        let licences = if is_unstated(licence) { &[] } else { std::slice::from_ref(licence) };
        let purls = package.external_refs.iter().filter(|reference| reference.reference_type == "purl");
        for stated in purls.map(|reference| reference.reference_locator.as_str()) {
            let Some(purl) = stated.strip_prefix("pkg:bitnami/") else {
                let (name, version) = (package.name.clone(), package.version_info.as_deref());
                add(path, Listed { purl: stated, name, version, licences: licences.to_vec() }, found);
                continue;
            };
            let purl = purl.split(['?', '#']).next().unwrap_or_default();
            match purl.split_once('@') {
                Some((name, version)) if !name.is_empty() && !version.is_empty() && !purl.contains('%') => {
                    found.add(Ecosystem::Bitnami, name, version, licences, path);
                }
                _ => found.problem("a Bitnami component has no name or no version".to_owned()),
            }
        }
    }
}
