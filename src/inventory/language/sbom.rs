//! Lists of packages (SBOMs) in an image: SPDX 2 in JSON or tag-value form, and CycloneDX in JSON. The author of the
//! image writes them, so they only add packages.
//!
//! Packages are known by their package URLs. Those of distributions are left to the database of the package manager.

use std::str::FromStr as _;

use packageurl::PackageUrl;
use serde::Deserialize;

use crate::inventory::Ecosystem;

use super::json::JsonList;
use super::{LanguagePackages, split_path};

/// What is read of either format.
#[derive(Deserialize)]
struct SbomDocument {
    /// What the list of CycloneDX is about.
    metadata: Option<SbomMetadata>,
    /// The packages of SPDX.
    packages: Option<JsonList<SpdxEntry>>,
    /// The packages of CycloneDX.
    components: Option<JsonList<SbomComponent>>,
}

#[derive(Deserialize)]
struct SbomMetadata {
    component: Option<SbomComponent>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpdxEntry {
    name: Option<String>,
    version_info: Option<String>,
    license_declared: Option<String>,
    external_refs: Option<JsonList<ExternalReference>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExternalReference {
    reference_type: Option<String>,
    reference_locator: Option<String>,
}

#[derive(Deserialize)]
struct SbomComponent {
    group: Option<String>,
    name: Option<String>,
    version: Option<String>,
    purl: Option<String>,
    licenses: Option<JsonList<SbomLicenceChoice>>,
    components: Option<JsonList<Self>>,
}

#[derive(Deserialize)]
struct SbomLicenceChoice {
    license: Option<SbomLicence>,
    expression: Option<String>,
}

#[derive(Deserialize)]
struct SbomLicence {
    id: Option<String>,
    name: Option<String>,
}

/// A package as a list states it.
pub(super) struct Listed<'a> {
    pub(super) purl: &'a str,
    /// The name, which may have capital letters that the package URL has lost.
    pub(super) name: Option<String>,
    pub(super) version: Option<&'a str>,
    pub(super) licences: Vec<String>,
}

/// Whether the name is that of a list of packages, as tools name them.
pub(super) fn is_list(path: &str) -> bool {
    let (_, name) = split_path(path);
    [".spdx", ".spdx.json", ".cdx", ".cdx.json"].iter().any(|suffix| name.ends_with(suffix))
}

/// Reads the packages of programming languages. Text in another format states none.
pub(super) fn read(path: &str, text: &str, found: &mut LanguagePackages) {
    // An archive may follow the text.
    if text.contains('\0') {
        return found.problem("the list of packages is not text".to_owned());
    }
    if !text.trim_start().starts_with('{') {
        return read_tags(path, text, found);
    }
    // Text after the list is ignored, as by other readers.
    match SbomDocument::deserialize(&mut serde_json::Deserializer::from_str(text)) {
        Ok(SbomDocument { metadata, packages, components }) => {
            let root = metadata.and_then(|metadata| metadata.component);
            packages.iter().flat_map(|list| &list.0).for_each(|entry| add_spdx(path, entry, found));
            let all = root.iter().chain(components.iter().flat_map(|list| &list.0));
            all.for_each(|component| add_component(path, component, found));
        }
        Err(error) if is_claimed(text) => found.problem(format!("the list of packages is damaged: {error}")),
        Err(_) => {}
    }
}

/// Whether the text states that it has one of the formats.
fn is_claimed(text: &str) -> bool {
    ["\"bomFormat\"", "\"spdxVersion\"", "\"SPDXID\""].iter().any(|field| text.contains(field))
}

fn add_spdx(path: &str, entry: &SpdxEntry, found: &mut LanguagePackages) {
    let references = entry.external_refs.iter().flat_map(|list| &list.0);
    let is_purl = |reference: &&ExternalReference| reference.reference_type.as_deref() == Some("purl");
    for purl in references.filter(is_purl).filter_map(|reference| reference.reference_locator.as_deref()) {
        let licence = entry.license_declared.iter().filter(|licence| !is_unstated(licence));
        let (name, version) = (entry.name.clone(), entry.version_info.as_deref());
        add(path, Listed { purl, name, version, licences: licence.cloned().collect() }, found);
    }
}

fn add_component(path: &str, component: &SbomComponent, found: &mut LanguagePackages) {
    if let Some(purl) = &component.purl {
        let of_choice = |choice: &SbomLicenceChoice| {
            let named = choice.license.as_ref().and_then(|license| license.id.clone().or_else(|| license.name.clone()));
            choice.expression.clone().or(named)
        };
        let licences = component.licenses.iter().flat_map(|list| &list.0).filter_map(of_choice).collect();
        let name = match (&component.group, &component.name) {
            (Some(group), Some(name)) if !group.is_empty() => Some(format!("{group}/{name}")),
            (_, name) => name.clone(),
        };
        add(path, Listed { purl, name, version: component.version.as_deref(), licences }, found);
    }
    component.components.iter().flat_map(|list| &list.0).for_each(|inner| add_component(path, inner, found));
}

/// Reads SPDX's tag-value form (SPDX 2.3, section 7): a package begins with `PackageName`, and states
/// `ExternalRef: PACKAGE-MANAGER purl pkg:npm/ms@2.1.3`.
fn read_tags(path: &str, text: &str, found: &mut LanguagePackages) {
    let mut entry = TaggedEntry::default();
    for line in text.lines() {
        let Some((tag, value)) = line.trim().split_once(':') else { continue };
        let value = value.trim();
        match tag {
            "PackageName" => {
                std::mem::take(&mut entry).add(path, found);
                entry.name = Some(value);
            }
            "PackageVersion" => entry.version = Some(value),
            "PackageLicenseDeclared" => entry.licence = Some(value),
            "ExternalRef" => {
                let mut parts = value.split_whitespace();
                if let (Some(_), Some("purl"), Some(purl)) = (parts.next(), parts.next(), parts.next()) {
                    entry.purls.push(purl);
                }
            }
            _ => {}
        }
    }
    entry.add(path, found);
}

/// A package of the tag-value form.
#[derive(Default)]
struct TaggedEntry<'a> {
    name: Option<&'a str>,
    version: Option<&'a str>,
    licence: Option<&'a str>,
    purls: Vec<&'a str>,
}

impl TaggedEntry<'_> {
    fn add(self, path: &str, found: &mut LanguagePackages) {
        for purl in self.purls {
            let licence = self.licence.filter(|licence| !is_unstated(licence));
            let (name, licences) = (self.name.map(str::to_owned), licence.map(str::to_owned).into_iter().collect());
            add(path, Listed { purl, name, version: self.version, licences }, found);
        }
    }
}

/// Whether SPDX states no licence by this text (SPDX 2.3, section 7.15).
pub(super) fn is_unstated(licence: &str) -> bool {
    matches!(licence, "" | "NOASSERTION" | "NONE")
}

/// Adds a package of a programming language, if it is one and has a version.
pub(super) fn add(path: &str, listed: Listed<'_>, found: &mut LanguagePackages) {
    let Some(ecosystem) = ecosystem_of(listed.purl) else { return };
    let Ok(purl) = PackageUrl::from_str(listed.purl) else {
        return found.problem(format!("the package URL {:?} cannot be read", listed.purl));
    };
    let Some(version) = purl.version().or(listed.version).filter(|version| !version.is_empty()) else { return };
    let separator = if ecosystem == Ecosystem::Maven { ":" } else { "/" };
    let full = purl.namespace().map_or_else(
        || purl.name().to_owned(),
        |namespace| format!("{}{separator}{}", namespace.replace('/', separator), purl.name()),
    );
    let stated = listed.name.map(|name| name.replace('/', separator));
    let name = stated.filter(|name| name.eq_ignore_ascii_case(&full)).unwrap_or(full);
    found.add(ecosystem, &name, version, &listed.licences, path);
}

/// The ecosystem that the type of a package URL names. `None` for distributions and everything without advisories.
fn ecosystem_of(purl: &str) -> Option<Ecosystem> {
    let (kind, _) = purl.strip_prefix("pkg:")?.trim_start_matches('/').split_once('/')?;
    match kind.to_ascii_lowercase().as_str() {
        "gradle" => Some(Ecosystem::Maven),
        kind => Ecosystem::of_purl_type(kind),
    }
}
