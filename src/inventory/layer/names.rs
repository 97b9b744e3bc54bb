//! The names of the files in a layer while it is read. Of several entries with the same path, the last counts.

use std::collections::BTreeMap;

use super::PathSet;
use crate::inventory::paths::{parent, self_and_ancestors, target_of};

/// The maximum number of links that are followed, as in Linux.
const MAX_LINKS: usize = 40;

/// What a path of the layer is, apart from directories and files that cannot state anything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Named {
    /// A file that states something, by its index.
    File(u32),
    /// A symbolic link that decides which release file or database is read.
    Link(String),
    /// Anything else that replaces a file of the layers below. A file that was read and states nothing.
    Other,
}

#[derive(Default)]
pub(super) struct LayerNames {
    map: BTreeMap<String, Named>,
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
        self.length += path.len() + if let Named::Link(target) = &named { target.len() } else { 0 };
        self.map.insert(path, named);
    }

    /// Removes a file or link, or a directory with its content, that an entry with the same path replaces.
    pub(super) fn remove_tree(&mut self, path: &str) {
        self.map.remove(path);
        // `/` + 1 is `0`: all paths that begin with `path/`.
        let (from, to) = (format!("{path}/"), format!("{path}0"));
        let beneath: Vec<String> = self.map.range(from..to).map(|(path, _)| path.clone()).collect();
        for path in beneath {
            self.map.remove(&path);
        }
    }

    /// Removes a file or link that a directory replaces.
    pub(super) fn remove_file(&mut self, path: &str) {
        self.map.remove(path);
    }

    /// The path with the links in its directories followed, as far as this layer contains them.
    pub(super) fn resolve(&self, path: String) -> String {
        let mut path = path;
        for _ in 0..MAX_LINKS {
            let link = self_and_ancestors(parent(&path)).find_map(|above| match self.map.get(above) {
                Some(Named::Link(target)) => Some((above.len(), target_of(above, target))),
                _ => None,
            });
            let Some((length, target)) = link else { break };
            path = format!("{target}{}", &path[length..]).trim_start_matches('/').to_owned();
        }
        path
    }

    /// The names of files, the links, and all other paths that replace something.
    pub(super) fn finish(self) -> (BTreeMap<String, u32>, BTreeMap<String, String>, PathSet) {
        let (mut files, mut links, mut replaced) = (BTreeMap::new(), BTreeMap::new(), PathSet::default());
        for (path, named) in self.map {
            match named {
                Named::File(index) => drop(files.insert(path, index)),
                Named::Link(target) => drop(links.insert(path, target)),
                Named::Other => replaced.insert(&path),
            }
        }
        (files, links, replaced)
    }
}
