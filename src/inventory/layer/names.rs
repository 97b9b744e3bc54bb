//! The names of the files in a layer while it is read. If several entries have the same path, the last one counts.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::BuildHasher as _;

use super::LayerInventory;
use crate::inventory::language::is_known_by_place;
use crate::inventory::paths::{PathSet, beneath, follow_links, parent, self_and_ancestors};
use crate::inventory::system_file::is_part_of_system_file;

/// The kind of a path in the layer, except for directories and for files that cannot state anything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Named {
    /// A file that states something, by its index.
    File(u32),
    /// A symbolic link, with its target.
    Link(String),
    /// Anything else that replaces a file of the layers below. A file that was read and states nothing.
    Other,
}

#[derive(Default)]
pub(super) struct LayerNames {
    map: BTreeMap<String, Named>,
    /// Hashes of the directories that have an entry.
    directories: HashSet<u64>,
    hasher: RandomState,
    /// Files that are elsewhere if a directory above them is a link of a lower layer, and that may be read there.
    undeclared: BTreeSet<String>,
    /// Paths that a whiteout deletes after the layer itself has put something there: some runtimes apply it at once.
    deleted: BTreeSet<String>,
    /// Directories without an entry so far, above files that state something.
    implied: PathSet,
    /// The total length of the paths and targets, in bytes.
    length: usize,
}

impl LayerNames {
    pub(super) fn get(&self, path: &str) -> Option<&Named> {
        self.map.get(path)
    }

    /// The total length of what is kept, in bytes.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn insert(&mut self, path: String, named: Named) {
        if let Named::File(_) = named {
            self.note_implied(&path);
        }
        self.deleted.remove(&path);
        self.length += path.len() + if let Named::Link(target) = &named { target.len() } else { 0 };
        self.map.insert(path, named);
    }

    /// Notes the deletion of a path.
    pub(super) fn note_deleted(&mut self, path: &str) {
        let is_there = self.map.contains_key(path) || self.map.range(beneath(path)).next().is_some();
        if is_there && self.deleted.insert(path.to_owned()) {
            self.length += path.len();
        }
    }

    /// Notes the directories of a file that have no entries.
    fn note_implied(&mut self, path: &str) {
        for above in self_and_ancestors(parent(path)) {
            if !self.directories.contains(&self.hasher.hash_one(above)) && self.implied.insert(above) {
                self.length += size_of::<u128>();
            }
        }
    }

    /// Removes a file or link, or a directory with its content, that an entry with the same path replaces.
    pub(super) fn remove_tree(&mut self, path: &str) {
        self.map.remove(path);
        let beneath: Vec<String> = self.map.range(beneath(path)).map(|(path, _)| path.clone()).collect();
        for path in beneath {
            self.map.remove(&path);
        }
    }

    /// Notes a directory, which replaces a file or link.
    pub(super) fn directory(&mut self, path: &str) {
        self.map.remove(path);
        self.directories.insert(self.hasher.hash_one(path));
    }

    /// Notes an entry whose directories have no entries, if it may be read elsewhere.
    pub(super) fn note_undeclared(&mut self, path: &str) {
        let is_declared = |above: &str| self.directories.contains(&self.hasher.hash_one(above));
        if may_be_read_elsewhere(path) && !self_and_ancestors(parent(path)).all(is_declared) {
            self.length += path.len();
            self.undeclared.insert(path.to_owned());
        }
    }

    /// The path with the links in its directories followed, as far as this layer contains them, and why some runtime
    /// may unpack the entry elsewhere.
    pub(super) fn resolve(&self, path: String) -> (String, Option<&'static str>) {
        let is_deleted = Cell::new(false);
        let link_at = |above: &str| match self.map.get(above) {
            Some(Named::Link(target)) => {
                let is_marked = |path: &str| self.deleted.contains(path);
                is_deleted.set(is_deleted.get() || self_and_ancestors(above).any(is_marked));
                Some(target.as_str())
            }
            _ => None,
        };
        match follow_links(&path, link_at) {
            Ok(resolved) if is_deleted.get() => {
                (resolved, Some("a path leads through a link that the same layer deletes"))
            }
            Ok(resolved) => {
                let is_beneath_file = self_and_ancestors(parent(&resolved)).any(|above| self.map.contains_key(above));
                (resolved, is_beneath_file.then_some("a path leads through a file"))
            }
            Err(problem) => (path, Some(problem)),
        }
    }

    /// Adds the names of files, the links, and all other paths that replace something.
    pub(super) fn finish(self, layer: &mut LayerInventory) {
        layer.undeclared = self.undeclared;
        layer.implied = self.implied;
        for (path, named) in self.map {
            match named {
                Named::File(index) => drop(layer.names.insert(path, index)),
                Named::Link(target) => drop(layer.links.insert(path, target)),
                Named::Other => drop(layer.replaced.insert(&path)),
            }
        }
    }
}

/// Whether a file with the last parts of this path can be one that is read because of its place.
fn may_be_read_elsewhere(path: &str) -> bool {
    path.rsplit('/').take(2).any(|part| is_part_of_system_file(part) || is_known_by_place(part))
}
