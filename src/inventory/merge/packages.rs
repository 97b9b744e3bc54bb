//! Facts about the packages of an image beyond the files that state them: layers, paths, licences, and Red Hat's
//! builds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::MergedImage;
use crate::inventory::layer::FileFacts;
use crate::inventory::paths::follow_links;
use crate::inventory::system_file::DOCUMENTATION;
use crate::inventory::{Ecosystem, InstalledPackage, LayerInventory, RedHatBuild, UnnamedArchive};
use crate::licence;
use crate::oci::Digest;

/// The total length of different licences that are read as expressions, in bytes. Large images have some ten thousand.
const MAX_LICENCES: usize = 1 << 20;

impl MergedImage<'_> {
    /// A package with its place: packages of the distribution have a layer, all others also a path.
    pub(super) fn placed(&self, path: &str, layer: usize, package: &InstalledPackage) -> InstalledPackage {
        let mut package = package.clone();
        package.layer = self.layers.get(layer).map(|(digest, _)| *digest);
        if !package.ecosystem.is_of_distribution() {
            package.path.get_or_insert_with(|| path.to_owned());
        }
        package
    }

    /// An archive with its place.
    pub(super) fn placed_archive(&self, file: &str, layer: usize, archive: &UnnamedArchive) -> UnnamedArchive {
        let path = if archive.path.is_empty() { file } else { &archive.path };
        let layer = self.layers.get(layer).map(|(digest, _)| *digest);
        UnnamedArchive { path: path.to_owned(), file: file.to_owned(), layer, ..archive.clone() }
    }

    /// Sets the layer of each package of the distribution to the lowest layer that states it in this version: databases
    /// are replaced as a whole.
    pub(super) fn find_origins(&self, packages: &mut [InstalledPackage]) {
        let mut origins: HashMap<(Ecosystem, &str, &str, &str), Digest> = HashMap::new();
        for (digest, layer) in self.layers {
            for facts in &layer.files {
                let FileFacts::Packages { packages, .. } = facts else { continue };
                for package in packages.iter().filter(|package| package.ecosystem.is_of_distribution()) {
                    origins.entry(identity(package)).or_insert(*digest);
                }
            }
        }
        for package in packages.iter_mut().filter(|package| package.ecosystem.is_of_distribution()) {
            package.layer = origins.get(&identity(package)).copied().or(package.layer);
        }
    }

    /// Adds the licences of packages of dpkg. The directory of a package may be a link to that of another one.
    pub(super) fn find_licenses(&self, packages: &mut [InstalledPackage]) {
        for package in packages.iter_mut().filter(|package| package.ecosystem == Ecosystem::Deb) {
            let path = format!("{DOCUMENTATION}/{}/copyright/.", package.name);
            let followed = follow_links(&path, |above| self.all_links.get(above).copied()).unwrap_or(path);
            let found = self.names.get(followed.trim_end_matches("/.")).and_then(|at| self.facts(*at));
            if let Some(FileFacts::Licenses(licenses)) = found {
                package.licenses.clone_from(licenses);
            }
        }
    }

    /// The builds that apply to the layers of RPM packages: those of the layer itself, or else of the layer above the
    /// lowest one, or else of the closest layer below (as Trivy looks them up).
    pub(super) fn red_hat_builds(&self, packages: &[InstalledPackage]) -> BTreeMap<Digest, RedHatBuild> {
        let rpms = packages.iter().filter(|package| package.ecosystem == Ecosystem::Rpm);
        let wanted: BTreeSet<Digest> = rpms.filter_map(|package| package.layer).collect();
        let builds: Vec<_> = self.layers.iter().map(|(_, layer)| build_of(layer)).collect();
        let build = |index: usize| match (&builds[index], index) {
            (Some(build), _) => Some(build.clone()),
            (None, 0) => builds.get(1).cloned().flatten(),
            (None, _) => builds[..index].iter().rev().find_map(Clone::clone),
        };
        let layers = self.layers.iter().enumerate().filter(|(_, (digest, _))| wanted.contains(digest));
        layers.filter_map(|(index, (digest, _))| Some((*digest, build(index)?))).collect()
    }
}

/// The SPDX expressions of licences that are written differently.
pub(super) fn licences(packages: &[InstalledPackage]) -> Result<BTreeMap<String, String>, String> {
    let written: BTreeSet<&String> = packages.iter().flat_map(|package| &package.licenses).collect();
    if written.iter().map(|text| text.len()).sum::<usize>() > MAX_LICENCES {
        return Err("their licences are too long to be read".to_owned());
    }
    let expressions = written.into_iter().filter_map(|text| Some((text.clone(), licence::expression(text)?)));
    Ok(expressions.filter(|(text, expression)| text != expression).collect())
}

/// What the files of a layer state about its build: the repositories in some, the names of images in others. A layer
/// that was made of several has the files of all.
fn build_of(layer: &LayerInventory) -> Option<RedHatBuild> {
    let builds = layer.names.values().filter_map(|file| match layer.files.get(*file as usize) {
        Some(FileFacts::Build(build)) => Some(build.clone()),
        _ => None,
    });
    let joined = builds.reduce(|mut known, build| {
        known.content_sets.extend(build.content_sets);
        known.images.extend(build.images);
        known
    })?;
    let different = |texts: Vec<String>| texts.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    Some(RedHatBuild { content_sets: different(joined.content_sets), images: different(joined.images) })
}

fn identity(package: &InstalledPackage) -> (Ecosystem, &str, &str, &str) {
    (package.ecosystem, &package.name, &package.version, &package.architecture)
}
