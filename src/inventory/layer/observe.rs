//! What was observed about the files of a layer that may be unsafe, within limits.

use std::collections::BTreeMap;

use crate::hardening::FileObservation;
use crate::inventory::paths::beneath;

/// The maximum number of observations about one layer, and the total length of their texts and paths, in bytes.
const MAX_COUNT: usize = 2_000;
const MAX_BYTES: usize = 512 * 1024;

/// Observations by path.
#[derive(Default)]
pub(super) struct LayerObservations {
    map: BTreeMap<String, Vec<FileObservation>>,
    count: usize,
    bytes: usize,
    /// Where observations began to be left out.
    left_out_at: Option<String>,
}

impl LayerObservations {
    pub(super) fn add(&mut self, path: &str, observed: Vec<FileObservation>) {
        if observed.is_empty() {
            return;
        }
        let bytes = path.len() + observed.iter().map(FileObservation::text_bytes).sum::<usize>();
        if self.count + observed.len() > MAX_COUNT || self.bytes + bytes > MAX_BYTES {
            self.left_out_at.get_or_insert_with(|| path.to_owned());
            return;
        }
        self.count += observed.len();
        self.bytes += bytes;
        self.map.entry(path.to_owned()).or_default().extend(observed);
    }

    /// The observations about a file also apply to its other names.
    pub(super) fn add_name(&mut self, path: &str, target: &str) {
        if let Some(observed) = self.map.get(target).cloned() {
            self.add(path, observed);
        }
    }

    /// Forgets what was observed about a file and what is beneath its path, because another entry replaces them.
    pub(super) fn replace_tree(&mut self, path: &str) {
        let beneath: Vec<String> = self.map.range(beneath(path)).map(|(path, _)| path.clone()).collect();
        beneath.iter().for_each(|path| self.replace_file(path));
        self.replace_file(path);
    }

    /// Forgets what was observed about a file, because another entry of the layer replaces it. Secrets remain: they are
    /// still in the layer.
    pub(super) fn replace_file(&mut self, path: &str) {
        let Some(observed) = self.map.get_mut(path) else { return };
        observed.retain(FileObservation::is_secret);
        if observed.is_empty() {
            self.map.remove(path);
        }
    }

    /// The observations, without those that do not matter in files of the distribution's packages.
    pub(super) fn finish(self, is_packaged: impl Fn(&str) -> bool) -> BTreeMap<String, Vec<FileObservation>> {
        let Self { mut map, left_out_at, .. } = self;
        for (path, observed) in &mut map {
            if observed.iter().any(FileObservation::may_be_packaged) && is_packaged(path) {
                observed.retain(|one| !one.may_be_packaged());
            }
        }
        map.retain(|_, observed| !observed.is_empty());
        if let Some(path) = left_out_at {
            map.entry(path).or_default().push(FileObservation::left_out());
        }
        map
    }
}
