//! Advisories of Red Hat: which of them hold for the products in an image.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::find::{AdvisorySearch, TRIVY};
use super::release::major;
use super::system::RowAdvisory;
use super::{TrivyRow, TrivyRows};
use crate::inventory::{InstalledPackage, RedHatBuild};
use crate::oci::Digest;
use crate::version::{VersionScheme, compare};

/// The products that the layers of an image belong to, as indexes of CPEs.
#[derive(Default)]
pub(super) struct Products {
    by_layer: HashMap<Option<Digest>, Arc<[u64]>>,
}

impl Products {
    /// The products that a package may belong to: those of the repositories that its layer was built from. Where Red
    /// Hat did not build the layer, those of the default repositories of the release.
    pub(super) fn cpes_of(
        &mut self,
        search: &mut AdvisorySearch<'_>,
        trivy: &dyn TrivyRows,
        package: &InstalledPackage,
    ) -> Arc<[u64]> {
        let build =
            package.layer.and_then(|layer| search.inventory.red_hat_builds.get(&layer).map(|build| (layer, build)));
        let layer = build.map(|(layer, _)| layer);
        if let Some(known) = self.by_layer.get(&layer) {
            return known.clone();
        }
        let cpes = look_up(search, trivy, build.map(|(_, build)| build));
        if cpes.is_empty() {
            search.gap("root/buildinfo", "trivy-db knows none of the packages' repositories".to_owned());
        }
        self.by_layer.entry(layer).or_insert_with(|| cpes.into()).clone()
    }
}

fn look_up(search: &mut AdvisorySearch<'_>, trivy: &dyn TrivyRows, build: Option<&RedHatBuild>) -> Vec<u64> {
    let version = search.inventory.distribution.as_ref().map_or("", |distribution| major(&distribution.version));
    let defaults = default_repositories(version);
    let repositories: Vec<&str> = match build {
        Some(build) => build.content_sets.iter().map(|set| without_suffix(set)).collect(),
        None => defaults.iter().map(String::as_str).collect(),
    };
    let mut cpes: Vec<u64> = Vec::new();
    for repository in repositories {
        let found = trivy.repository_cpes(repository);
        let found = search.readable(TRIVY, found).unwrap_or_default();
        if found.is_empty() && build.is_some() {
            search.gap("root/buildinfo", format!("trivy-db does not know the repository {repository}"));
        }
        cpes.extend(found);
    }
    for image in build.iter().flat_map(|build| &build.images) {
        let found = trivy.build_cpes(image);
        cpes.extend(search.readable(TRIVY, found).unwrap_or_default());
    }
    cpes.sort_unstable();
    cpes.dedup();
    cpes
}

/// The repositories that every installation of the release has.
fn default_repositories(version: &str) -> Vec<String> {
    match version {
        "6" | "7" => vec![format!("rhel-{version}-server-rpms"), format!("rhel-{version}-server-extras-rpms")],
        "8" | "9" => {
            vec![format!("rhel-{version}-for-x86_64-baseos-rpms"), format!("rhel-{version}-for-x86_64-appstream-rpms")]
        }
        _ => Vec::new(),
    }
}

/// Builds name some repositories with the release appended: `rhel-9-for-x86_64-baseos-rpms__9`.
fn without_suffix(repository: &str) -> &str {
    match repository.rsplit_once("__") {
        Some((name, suffix)) if !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => repository,
    }
}

/// The advisories for these products and this architecture: for each vulnerability the one with the latest fix.
pub(super) fn advisories<'r>(rows: &'r [(String, TrivyRow)], cpes: &[u64], architecture: &str) -> Vec<RowAdvisory<'r>> {
    let mut by_id: BTreeMap<&str, RowAdvisory<'r>> = BTreeMap::new();
    for (key, row) in rows {
        let of_product =
            row.entries.iter().filter(|entry| entry.cpes.iter().any(|cpe| cpes.binary_search(cpe).is_ok()));
        let everywhere = architecture == "noarch";
        let of_architecture = of_product.filter(|entry| {
            entry.arches.is_empty() || everywhere || entry.arches.iter().any(|arch| arch == architecture)
        });
        for entry in of_architecture {
            for cve in &entry.cves {
                let is_cve = key.starts_with("CVE-");
                let advisory = RowAdvisory {
                    id: if is_cve { key } else { &cve.id },
                    vendor_ids: if is_cve { &[] } else { std::slice::from_ref(key) },
                    fixed: &entry.fixed_version,
                    first_affected: "",
                    status: entry.status,
                    severity: Some((cve.severity, "redhat")),
                };
                by_id
                    .entry(advisory.id)
                    .and_modify(|known| {
                        if is_later(advisory.fixed, known.fixed) {
                            known.clone_from(&advisory);
                        }
                    })
                    .or_insert(advisory);
            }
        }
    }
    by_id.into_values().collect()
}

/// Whether a fixed version is later than another. A fix is later than none.
pub(super) fn is_later(version: &str, other: &str) -> bool {
    if version.is_empty() || other.is_empty() {
        return !version.is_empty() && other.is_empty();
    }
    compare(VersionScheme::Rpm, version, other).is_ok_and(std::cmp::Ordering::is_gt)
}
