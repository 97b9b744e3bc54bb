//! Files below symbolic links of lower layers. Runtimes that unpack a layer over the lower ones put them where the
//! links lead. Those that unpack it alone replace the links by directories. What a later layer removes from one of the
//! places may therefore still be at the other one.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use super::{MergedImage, gap};
use crate::inventory::LayerInventory;
use crate::inventory::layer::FileFacts;
use crate::inventory::paths::{PathSet, follow_links, self_and_ancestors};

/// A file where links of lower layers lead.
pub(super) struct Aside {
    /// The layer and the file.
    file: (usize, u32),
    /// The hashes of the path there, and of the directories above it.
    pub(super) hashes: Vec<u128>,
}

impl<'a> MergedImage<'a> {
    /// The files of a layer below links of the layers so far: their paths in the layer, and where the links lead. Files
    /// whose place is not known are gaps.
    pub(super) fn below_links(&mut self, layer: &'a LayerInventory) -> Vec<(&'a str, String)> {
        let mut found = Vec::new();
        if layer.implied.is_empty() || self.all_links.is_empty() {
            return found;
        }
        let is_stated = |file: u32| layer.files.get(file as usize).is_some_and(states_packages);
        for (path, _) in layer.names.iter().filter(|(_, file)| is_stated(**file)) {
            match self.place_below_links(path, layer) {
                Ok(None) => {}
                Ok(Some(place)) => found.push((&**path, place)),
                Err(problem) => drop(self.gaps.insert(gap(path, problem.to_owned()))),
            }
        }
        found
    }

    /// The path, if it can be kept.
    fn counted(&mut self, path: String) -> Result<String, &'static str> {
        let length = path.len() + size_of::<u128>() * path.split('/').count();
        self.aside_left =
            self.aside_left.checked_sub(length).ok_or("too many files are below links of lower layers")?;
        Ok(path)
    }

    /// The path to which links of the layers so far redirect a path of a layer; `None` if no link is on it.
    fn place_below_links(&mut self, path: &str, layer: &LayerInventory) -> Result<Option<String>, &'static str> {
        if self.work_left == 0 {
            return Err("too much work is needed to follow the links of lower layers");
        }
        let (looked_up, has_own) = (Cell::new(0), Cell::new(false));
        let place = follow_links(path, |above| {
            looked_up.set(looked_up.get() + 1);
            let target = self.all_links.get(above).copied();
            let own = layer.links.get(above).map(String::as_str);
            has_own.set(has_own.get() || own.is_some() && own != target);
            // A directory that has an entry in the layer replaces the link.
            let is_above = path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'));
            target.filter(|_| !is_above || layer.implied.contains(above))
        });
        self.work_left = self.work_left.saturating_sub(looked_up.get());
        match place? {
            // Where it is depends on the order of the entries.
            _ if has_own.get() => Err("a path leads through a link of a lower layer and one of its own"),
            place if place == path => Ok(None),
            place => self.counted(place).map(Some),
        }
    }

    /// Adds the files of a layer that are below links. `linked` has the files of lower layers behind its hard links.
    pub(super) fn add_aside(
        &mut self,
        index: usize,
        layer: &LayerInventory,
        below_links: Vec<(&str, String)>,
        linked: &[(&str, Option<(usize, u32)>)],
    ) {
        let linked: BTreeMap<_, _> = linked.iter().copied().collect();
        for (path, place) in below_links {
            let own = layer.names.get(path).map(|file| (index, *file));
            let Some(file) = linked.get(path).copied().unwrap_or(own) else { continue };
            let hashes = self_and_ancestors(&place).map(PathSet::hash).collect();
            self.aside.insert(place, Aside { file, hashes });
        }
    }

    /// The files that are left: their paths, layers and numbers. Those below links are here if their other path is
    /// gone.
    pub(super) fn stated_files(&self) -> impl Iterator<Item = (&str, (usize, u32))> {
        let left: BTreeSet<_> = self.names.values().copied().collect();
        let aside = self.aside.iter().map(|(path, aside)| (&**path, aside.file));
        let aside = aside.filter(move |(_, file)| !left.contains(file));
        self.names.iter().map(|(path, file)| (*path, *file)).chain(aside)
    }
}

/// Whether a file states packages, or hides whether it does.
fn states_packages(facts: &FileFacts) -> bool {
    match facts {
        FileFacts::Packages { packages, unnamed, problems } => {
            !(packages.is_empty() && unnamed.is_empty() && problems.is_empty())
        }
        FileFacts::Database(_) | FileFacts::HardLink(_) | FileFacts::OtherPackages | FileFacts::Unreadable(_) => true,
        _ => false,
    }
}
