//! Leaves out what the distribution's packages own, once all lists of the layer are known.

use super::Collector;
use crate::inventory::LayerInventory;
use crate::inventory::layer::FileFacts;
use crate::inventory::system_file::SystemFile;

impl Collector<'_> {
    /// What the layer contains.
    pub(in crate::inventory::layer) fn finish(self) -> LayerInventory {
        let Self { names, files, owned, checksums, observations, whiteouts, opaque, problems, .. } = self;
        let mut layer = LayerInventory { files, whiteouts, opaque, problems, ..LayerInventory::default() };
        names.finish(&mut layer);
        let (files, owned) = (&mut layer.files, owned.finish());
        layer.observations = observations.finish(|path| {
            // Lists of packages name `bin/su` where the archive has `usr/bin/su`.
            owned.contains(path) || path.strip_prefix("usr/").is_some_and(|path| owned.contains(path))
        });
        for (path, index) in layer.names.iter().filter(|(path, _)| SystemFile::at(path).is_none()) {
            let Some(facts) = files.get_mut(*index as usize) else { continue };
            if matches!(facts, FileFacts::Database(_)) {
                continue;
            }
            let is_owned = match checksums.get(index) {
                Some(checksums) => owned.contains_unchanged(path, checksums),
                // It was not read as a whole. Package managers of languages install no such files.
                None => owned.contains(path),
            };
            if is_owned {
                *facts = FileFacts::Packages { packages: Vec::new(), unnamed: Vec::new(), problems: Vec::new() };
            }
        }
        layer
    }
}
