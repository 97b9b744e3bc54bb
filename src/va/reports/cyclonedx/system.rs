//! The system in the image, and whether the tool knows its issues.
//!
//! A document states the system as a component (`operating-system`). Without one, the package URLs of its packages may
//! name it: as the qualifier `distro`, or at least by their namespace.

use std::collections::BTreeSet;

use super::{BomTool, Component};
use crate::policy::{Purl, is_of_distribution};
use crate::va::end_of_support::{end_of_support, system_id, system_names};
use crate::va::reports::document::ScannedSystem;
use crate::va::reports::grype::unknown_to_grype;
use crate::va::reports::trivy::unknown_to_trivy;

/// Namespaces of package URLs for systems that Trivy knows by another name.
const OTHER_NAMESPACES: [&str; 8] = ["almalinux", "amzn", "mariner", "ol", "opensuse", "rhel", "sle-micro", "suse"];
/// A version of Grype that knows all systems that any version knows.
const ANY_GRYPE: &str = "9999.0";

/// The name and the version of a system. The version is empty if none is stated.
type SystemName = (String, String);

/// The system that the components of a document name, and why its packages were not assessed, if they were not.
pub(super) fn system(tool: &BomTool, components: &[&Component]) -> (ScannedSystem, Option<String>) {
    let mut all = Vec::new();
    components.iter().for_each(|component| component.collect_all(&mut all));
    let is_system = |component: &&&Component| component.kind.as_deref() == Some("operating-system");
    let stated: Vec<SystemName> = all.iter().filter(is_system).map(|component| component.system_name()).collect();
    let packages: Vec<Purl> = all.iter().filter_map(|component| Purl::parse(component.purl.as_deref()?)).collect();
    let packages: Vec<&Purl> = packages.iter().filter(|purl| is_of_distribution(purl.kind())).collect();
    let is_recognised = |(name, _): &&SystemName| !matches!(&*name.to_ascii_lowercase(), "" | "none" | "unknown");
    let recognised: Vec<&SystemName> = stated.iter().filter(is_recognised).collect();
    let by_packages: BTreeSet<SystemName> = packages.iter().filter_map(|purl| distribution_of(purl)).collect();
    let names: Vec<&SystemName> = if stated.is_empty() { by_packages.iter().collect() } else { recognised };
    let missing = if !names.is_empty() {
        names.iter().find_map(|(name, version)| tool.not_assessed(name, version))
    } else if stated.is_empty() {
        packages.iter().find_map(|purl| tool.not_assessed_of(purl.namespace()?))
    } else {
        let unknown = "the packages of the system were not assessed: the scanner does not know it";
        (!packages.is_empty()).then(|| unknown.to_owned())
    };
    // Of several releases, the one whose support ends first.
    let ends = names.iter().filter_map(|named| Some((end_of_support(&named.0, &named.1, false)?, *named)));
    let first = ends.min();
    let named = first.map(|(_, named)| named).or(names.first().copied());
    let system = ScannedSystem {
        distribution: named.map(|(name, version)| format!("{name} {version}").trim_end().to_owned()),
        is_past_support: false,
        support_ends: first.map(|(end, _)| end),
    };
    (system, missing)
}

impl BomTool {
    /// Why the packages of this system were not assessed. An unknown tool is taken to know the systems that Trivy or
    /// Grype knows.
    fn not_assessed(&self, name: &str, version: &str) -> Option<String> {
        if self.is_called("trivy") {
            return unknown_to_trivy(name, version);
        }
        if self.is_called("grype") {
            return unknown_to_grype(name, version, self.version.as_deref());
        }
        // Other tools have other names for it, most of them those of os-release.
        let id = system_id(name);
        let id = id.strip_suffix("-stream").unwrap_or(&id);
        let is_known = std::iter::once(name).chain(system_names(id)).any(|name| {
            unknown_to_trivy(name, version).is_none() || unknown_to_grype(name, version, Some(ANY_GRYPE)).is_none()
        });
        if is_known { None } else { unknown_to_trivy(name, version) }
    }

    /// The same for a distribution of which only the namespace of its packages is known, if the tool knows no release
    /// of it.
    fn not_assessed_of(&self, namespace: &str) -> Option<String> {
        const SOME_RELEASE: &str = "1";
        self.not_assessed(namespace, SOME_RELEASE)?;
        let is_known = OTHER_NAMESPACES.contains(&namespace) && !self.is_called("grype");
        let why = format!("the packages of {namespace} were not assessed: the scanner knows no issues of it");
        (!is_known).then_some(why)
    }

    fn is_called(&self, name: &str) -> bool {
        self.name.to_ascii_lowercase().contains(name)
    }
}

/// The distribution and its release that the qualifier `distro` of a package URL names: `debian-12.5`, or `3.19.1`
/// alone. `None` for a name without a release (`jessie`), which says no more than the namespace.
fn distribution_of(purl: &Purl) -> Option<SystemName> {
    let distro = purl.qualifier("distro")?.trim();
    if distro.starts_with(|c: char| c.is_ascii_digit()) {
        return Some((purl.namespace()?.to_owned(), distro.to_owned()));
    }
    let regular = distro.strip_suffix("-ESM");
    let (name, version) = regular.unwrap_or(distro).rsplit_once('-')?;
    let version = if regular.is_some() { format!("{version}-ESM") } else { version.to_owned() };
    (!name.is_empty() && !version.is_empty()).then(|| (name.to_owned(), version))
}

impl Component {
    /// The component and those in it.
    fn collect_all<'a>(&'a self, into: &mut Vec<&'a Self>) {
        into.push(self);
        self.components.iter().flatten().for_each(|component| component.collect_all(into));
    }

    fn system_name(&self) -> SystemName {
        let text = |text: Option<&str>| text.unwrap_or_default().trim().to_owned();
        (text(self.name.as_deref()), text(self.version.as_deref()))
    }
}
