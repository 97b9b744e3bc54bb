//! Applies the layers of an image, lowest first, as container runtimes do.
//!
//! What is deleted, hidden or replaced is gone where every runtime agrees. Where runtimes differ (a deletion through a
//! link of another layer, a hidden root), it is kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::distribution::distribution;
use super::language::language_file;
use super::layer::FileFacts;
use super::paths::{PathSet, follow_links, has_beneath, parent, self_and_ancestors};
use super::symlink::{is_alternative, is_in_alternatives, is_read_alike};
use super::system_file::{
    ANY_STATUS, DATABASES, RELEASES, SystemFile, database_of_journal, leads_to_system_file, root_of_other_system,
    usual_places,
};
use super::{Gap, Inventory, LayerInventory};
use crate::hardening::{self, FileObservation, HardeningFinding, ObservedFile, Superusers};
use crate::oci::Digest;
use aside::Aside;
use packages::licences;

mod aside;
mod packages;

/// The maximum number of parts of paths that are looked up to merge layers. An image with 40,000 packages in files
/// eight directories deep, in twenty layers, needs 6 million.
const MAX_WORK: usize = 20_000_000;
/// The maximum number of files with secrets that are kept although a layer deletes or replaces them.
const MAX_GONE: usize = 10_000;
/// How much is kept about files below links of lower layers, in bytes.
const MAX_ASIDE: usize = 32 << 20;

/// Merges layers into the inventory of the image that consists of them: each with its `diff_id`, lowest first.
pub fn merge(layers: &[(Digest, Arc<LayerInventory>)]) -> Inventory {
    let mut image = MergedImage::new(layers);
    for (index, (digest, layer)) in layers.iter().enumerate() {
        if !image.has_room_for(layer) {
            let problem = "the image exceeds the scanner's limits: this layer and those above it were not read".into();
            image.gaps.insert(Gap { place: digest.to_string(), problem });
            break;
        }
        image.apply(index, layer);
    }
    image.inventory()
}

/// The files of the layers so far that state something and still exist.
struct MergedImage<'a> {
    layers: &'a [(Digest, Arc<LayerInventory>)],
    /// The layer and the file, by path.
    names: BTreeMap<&'a str, (usize, u32)>,
    /// The files below links of lower layers, by the paths where the links lead.
    aside: BTreeMap<String, Aside>,
    /// How much may still be kept about them, in bytes.
    aside_left: usize,
    /// The targets of links that decide which release file, database or alternative is read, by path.
    links: BTreeMap<&'a str, &'a str>,
    /// The targets of all links of the layers so far, also of deleted ones.
    all_links: BTreeMap<&'a str, &'a str>,
    /// Files that runtimes put in different places.
    gaps: BTreeSet<Gap>,
    /// The layer of each file about which something was observed, by path.
    observed: BTreeMap<&'a str, usize>,
    /// Files with secrets that containers do not see: the path, the layer, and the layer that deletes or replaces it.
    gone: Vec<(&'a str, usize, usize)>,
    /// How much merging may still be done.
    work_left: usize,
    /// The hashes of paths and of the directories above them: computed once, and looked up in each layer.
    hashes: HashMap<&'a str, Vec<u128>>,
}

impl<'a> MergedImage<'a> {
    fn new(layers: &'a [(Digest, Arc<LayerInventory>)]) -> Self {
        let (names, hashes, gaps) = (BTreeMap::new(), HashMap::new(), BTreeSet::new());
        let (links, all_links) = (BTreeMap::new(), BTreeMap::new());
        let (observed, gone) = (BTreeMap::new(), Vec::new());
        let (aside, aside_left) = (BTreeMap::new(), MAX_ASIDE);
        Self { layers, names, aside, aside_left, links, all_links, gaps, observed, gone, work_left: MAX_WORK, hashes }
    }

    /// Whether the layer can be applied within what is left of [`MAX_WORK`]: each name is looked up in the layer with
    /// all directories above it, and each path of the layer is added.
    fn has_room_for(&mut self, layer: &LayerInventory) -> bool {
        let parts = |path: &str| path.split('/').count();
        let known = self.names.keys().chain(self.links.keys()).chain(self.observed.keys());
        let looked_up: usize = known.copied().chain(self.aside.keys().map(|path| &**path)).map(parts).sum();
        let files =
            layer.names.keys().chain(layer.links.keys()).chain(&layer.undeclared).chain(layer.observations.keys());
        let added: usize = files.map(|path| parts(path)).sum();
        let left = self.work_left.checked_sub(looked_up + added);
        self.work_left = left.unwrap_or(0);
        left.is_some()
    }

    fn apply(&mut self, index: usize, layer: &'a LayerInventory) {
        let elsewhere: Vec<Gap> = layer.undeclared.iter().filter_map(|path| self.elsewhere(path)).collect();
        self.gaps.extend(elsewhere);
        let below_links = self.below_links(layer);
        self.all_links.extend(layer.links.iter().map(|(path, target)| (&**path, &**target)));
        let links = || layer.links.iter().filter(|(path, _)| leads_to_system_file(path) || is_alternative(path));
        let hashes = &self.hashes;
        let is_gone_with = |path: &str, hashes: &[u128]| {
            let is_deleted = |path| layer.whiteouts.contains(path);
            let is_replaced = |path| layer.names.contains_key(path) || layer.links.contains_key(path);
            self_and_ancestors(path).any(|above| is_deleted(above) || is_replaced(above))
                || self_and_ancestors(parent(path)).any(|above| layer.opaque.contains(above))
                || layer.replaced.contains_any(hashes)
        };
        let is_gone = |path: &str| is_gone_with(path, hashes.get(path).map_or(&[], Vec::as_slice));
        let linked = self.linked(index, layer);
        self.names.retain(|path, _| !is_gone(path));
        self.links.retain(|path, _| !is_gone(path));
        self.aside.retain(|path, aside| !is_gone_with(path, &aside.hashes));
        let gone: Vec<(&str, usize)> = self.observed.extract_if(.., |path, _| is_gone(path)).collect();
        let has_secret = |path: &str, at: usize| self.observations(path, at).iter().any(FileObservation::is_secret);
        let secrets = gone.into_iter().filter(|(path, at)| has_secret(path, *at)).map(|(path, at)| (path, at, index));
        let secrets: Vec<_> = secrets.take(MAX_GONE.saturating_sub(self.gone.len())).collect();
        self.gone.extend(secrets);
        self.observed.extend(layer.observations.keys().map(|path| (&**path, index)));
        for path in layer.names.keys().chain(links().map(|(path, _)| path)).chain(layer.observations.keys()) {
            self.hashes.entry(path).or_insert_with(|| self_and_ancestors(path).map(PathSet::hash).collect());
        }
        self.names.extend(layer.names.iter().map(|(path, file)| (&**path, (index, *file))));
        self.add_aside(index, layer, below_links, &linked);
        for (path, file) in linked {
            match file {
                Some(file) => drop(self.names.insert(path, file)),
                None => drop(self.names.remove(path)),
            }
        }
        self.links.extend(links().map(|(path, target)| (&**path, &**target)));
    }

    /// The files of lower layers to which hard links of this layer give other names; `None` for those that state
    /// nothing. Runtimes that unpack a layer alone refuse such links.
    fn linked(&self, index: usize, layer: &'a LayerInventory) -> Vec<(&'a str, Option<(usize, u32)>)> {
        let is_examined = |path: &str| self.layers.iter().take(index).any(|(_, lower)| lower.replaced.contains(path));
        let is_deleted = |path: &str| {
            self_and_ancestors(path).any(|above| layer.whiteouts.contains(above))
                || self_and_ancestors(parent(path)).any(|above| layer.opaque.contains(above))
        };
        // A file that counts as a database only because of a link must have been read as that database. If a layer has
        // put a link there, the path leads to another file.
        let is_certain = |path: &str, target: &str| {
            is_read_alike(path, target)
                && SystemFile::behind_link(path) == SystemFile::behind_link(target)
                && !is_deleted(target)
                && !self_and_ancestors(target).any(|above| self.all_links.contains_key(above))
        };
        let file = |(path, file): (&'a String, &u32)| match layer.files.get(*file as usize) {
            Some(FileFacts::HardLink(target)) if is_certain(path, target) => {
                let found = self.names.get(&**target).copied();
                (found.is_some() || is_examined(target)).then_some((&**path, found))
            }
            _ => None,
        };
        layer.names.iter().filter_map(file).collect()
    }

    /// The gap for a file below a directory that is a link of a lower layer, if it may be read where the link leads.
    /// Some runtimes unpack a layer alone, so the directory replaces the link; others unpack it over the lower layers.
    fn elsewhere(&self, path: &str) -> Option<Gap> {
        let target = follow_links(path, |above| self.all_links.get(above).copied());
        let problem = match target {
            Ok(target) if target == path => return None,
            Ok(target) => {
                let is_read = SystemFile::at(&target).is_some() || leads_to_system_file(&target);
                if !is_read && language_file(&target, &[]) == language_file(path, &[]) {
                    return None;
                }
                format!("because of a link in a lower layer, some runtimes put the file at {target}")
            }
            Err(problem) => problem.to_owned(),
        };
        Some(gap(path, problem))
    }

    fn inventory(&self) -> Inventory {
        let mut inventory = Inventory::default();
        let mut gaps = self.gaps.clone();
        for (digest, layer) in self.layers {
            let gap = |problem: &String| Gap { place: digest.to_string(), problem: problem.clone() };
            gaps.extend(layer.problems.iter().map(gap));
        }
        let mut extended_support = false;
        let mut read = BTreeSet::new();
        for (path, at) in self.stated_files() {
            if let Some(root) = self.other_system(path, at) {
                gaps.insert(gap(path, format!("it belongs to another system in {root}, whose packages are not read")));
                continue;
            }
            match self.used_facts(path, at) {
                // A file with several names states its packages once.
                Some(FileFacts::Packages { packages, unnamed, problems }) if read.insert(at) => {
                    inventory.packages.extend(packages.iter().map(|package| self.placed(path, at.0, package)));
                    inventory.unnamed.extend(unnamed.iter().map(|archive| self.placed_archive(path, at.0, archive)));
                    gaps.extend(problems.iter().map(|problem| gap(path, problem.clone())));
                }
                Some(FileFacts::Alternative(target)) => gaps.extend(self.unread_alternative(path, target)),
                Some(FileFacts::HardLink(target)) => {
                    gaps.insert(gap(path, format!("the file is a hard link to {target}, which was not read")));
                }
                Some(FileFacts::Unreadable(problem)) => drop(gaps.insert(gap(path, problem.clone()))),
                Some(FileFacts::Journal)
                    if database_of_journal(path).is_some_and(|path| self.names.contains_key(path)) =>
                {
                    gaps.insert(gap(path, "the database has changes that are not written yet".into()));
                }
                Some(FileFacts::OtherPackages) => {
                    gaps.insert(gap(
                        parent(path),
                        "it contains packages of an unsupported package manager, which are not read".into(),
                    ));
                }
                Some(FileFacts::UbuntuPro) => extended_support = true,
                _ => {}
            }
        }
        let text = |path: &str| self.release(path);
        inventory.distribution = distribution(&text, extended_support);
        gaps.extend(self.unread_links(inventory.distribution.is_some()));
        inventory.gaps = gaps.into_iter().collect();
        self.find_origins(&mut inventory.packages);
        self.find_licenses(&mut inventory.packages);
        inventory.licences = licences(&inventory.packages).unwrap_or_else(|problem| {
            inventory.gaps.push(gap("the packages", problem));
            inventory.gaps.sort_unstable();
            BTreeMap::new()
        });
        inventory.sort_packages();
        inventory.unnamed.sort_unstable();
        inventory.red_hat_builds = self.red_hat_builds(&inventory.packages);
        (inventory.findings, inventory.superusers) = self.findings();
        inventory
    }

    /// What was observed about a file in one of the layers.
    fn observations(&self, path: &str, layer: usize) -> &'a [FileObservation] {
        self.layers.get(layer).and_then(|(_, layer)| layer.observations.get(path)).map_or(&[], Vec::as_slice)
    }

    /// The findings in files, and the accounts with the rights of the superuser.
    fn findings(&self) -> (Vec<HardeningFinding>, Superusers) {
        let digest = |layer: usize| self.layers.get(layer).map(|(digest, _)| *digest);
        let seen = self.observed.iter().map(|(path, layer)| (*path, *layer, None));
        let gone = self.gone.iter().map(|(path, layer, by)| (*path, *layer, Some(*by)));
        let files = seen.chain(gone).filter_map(|(path, layer, by)| {
            let observed = self.observations(path, layer);
            Some(ObservedFile { path, layer: digest(layer)?, observed, gone: by.and_then(digest) })
        });
        hardening::file_findings(&files.collect::<Vec<_>>())
    }

    fn facts(&self, (layer, file): (usize, u32)) -> Option<&'a FileFacts> {
        self.layers.get(layer).and_then(|(_, layer)| layer.files.get(file as usize))
    }

    /// The text of a release file, with links between release files followed.
    fn release(&self, path: &str) -> Option<&'a str> {
        match self.names.get(&*self.resolve(path)).and_then(|at| self.facts(*at)) {
            Some(FileFacts::Release(text)) => Some(text),
            _ => None,
        }
    }

    /// The path with links followed in all its parts; unchanged if they cannot be followed.
    fn resolve(&self, path: &str) -> String {
        // Only directories are followed, so the path becomes one.
        let followed = follow_links(&format!("{path}/."), |above| self.links.get(above).copied());
        followed.map_or_else(|_| path.to_owned(), |path| path.trim_end_matches("/.").to_owned())
    }

    /// The statement of a file. A database in another place counts only if a link in the usual place leads to it.
    fn used_facts(&self, path: &str, at: (usize, u32)) -> Option<&'a FileFacts> {
        match self.facts(at)? {
            FileFacts::Database(facts) => self.is_led_to(path).then_some(&**facts),
            facts => Some(facts),
        }
    }

    fn is_led_to(&self, path: &str) -> bool {
        usual_places(path).iter().any(|place| self.resolve(place) == path)
    }

    /// The root of the system whose database this is, if it is not the image's own: a program may run there
    /// (chroot(2)).
    fn other_system<'p>(&self, path: &'p str, at: (usize, u32)) -> Option<&'p str> {
        let is_unused = matches!(self.facts(at)?, FileFacts::Database(_)) && !self.is_led_to(path);
        root_of_other_system(path).filter(|_| is_unused)
    }

    /// Whether the file that a link in the place of a database leads to was read as this database, or there is none.
    fn is_database(&self, path: &str, target: &str) -> bool {
        let is_read = match self.names.get(target).and_then(|at| self.facts(*at)) {
            Some(facts) => matches!(facts, FileFacts::Database(_)),
            None => !self.layers.iter().any(|(_, layer)| layer.replaced.contains(target)),
        };
        let is_followed = !self_and_ancestors(target).any(|above| self.all_links.contains_key(above));
        is_read && is_followed && usual_places(target).iter().any(|place| place == path)
    }

    /// The gap of a link to an alternative, unless the links there lead to a file that is read under its own name for
    /// the same.
    fn unread_alternative(&self, path: &str, target: &str) -> Option<Gap> {
        let chosen = self.resolve(target);
        let is_read = !is_in_alternatives(&chosen) && is_read_alike(path, &chosen);
        let is_directory = has_beneath(&self.names, &chosen) || has_beneath(&self.all_links, &chosen);
        let is_there = self.names.contains_key(&*chosen) || is_directory;
        let is_missing = is_in_alternatives(&chosen) && !is_there;
        (!is_read && !is_missing)
            .then(|| gap(path, format!("it is a link to {chosen}, which is not read under this name")))
    }

    /// Databases and release files that are links to files that were not read. A release file matters only if nothing
    /// else names the distribution.
    fn unread_links(&self, is_distribution_known: bool) -> Vec<Gap> {
        let releases = RELEASES.iter().filter(|_| !is_distribution_known);
        let databases = DATABASES.iter().map(|(path, _)| path).chain([&ANY_STATUS]);
        let is_unread = |path: &&&str| {
            let target = self.resolve(path);
            let is_read = SystemFile::at(&target) == SystemFile::at(path) || self.is_database(path, &target);
            !self.names.contains_key(**path) && !is_read
        };
        let gap_of = |path: &&str| gap(path, format!("it is a link to {}, which is not read", self.resolve(path)));
        databases.chain(releases).filter(is_unread).map(gap_of).collect()
    }
}

fn gap(path: &str, problem: String) -> Gap {
    Gap { place: path.to_owned(), problem }
}

#[cfg(test)]
mod tests;
