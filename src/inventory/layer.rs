//! Reads a layer in one pass: its `diff_id`, and what its files state about packages.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::paths::PathSet;
use super::spool::{ReadingTime, Spool};
use super::tar::Archive;
use super::{InstalledPackage, RedHatBuild, UnnamedArchive};
use crate::hardening::FileObservation;
use crate::oci::unpack::{self, UnpackedLayer};
use crate::oci::{Algorithm, Digest};

use collect::Collector;
use table::FileListing;

mod collect;
mod names;
mod observe;
mod owned;
mod read_as;
mod table;

pub use table::LayerTable;

/// The size of the buffer of unpacked bytes, in bytes.
const PIECE: usize = 128 * 1024;

/// How much of a layer is read. Reaching a limit is a gap.
#[derive(Clone, Copy, Debug)]
pub struct LayerLimits {
    /// The number of bytes that the layer may unpack to, and that the archives among its files may unpack to.
    pub unpacked: u64,
    /// The number of entries of the archive.
    pub entries: u64,
    /// The number of packages that its files may state.
    pub packages: usize,
    /// The total length of the texts that its files state, in bytes.
    pub facts: usize,
    /// The length of a path or of a link's target, in bytes. Linux allows 4096.
    pub path: usize,
    /// The total length of the paths that are kept in memory while the layer is read, in bytes.
    pub names: usize,
    /// The time that reading may take, without the time that the bytes take to arrive.
    pub time: Duration,
    /// The largest window of zstd, in bytes.
    pub window: u64,
    /// Whether the files are compared with the table of contents that layers for lazy pulling have.
    pub compares_table: bool,
}

impl LayerLimits {
    /// The limits for a layer of `size` bytes, as it is transferred. The contents of a layer are kept in memory and in
    /// the database, however small the compressed layer is.
    pub fn of(size: u64) -> Self {
        Self {
            unpacked: unpack::limit(size),
            entries: 2_000_000,
            packages: 20_000,
            facts: 8 << 20,
            path: 4096,
            names: 64 << 20,
            time: Duration::from_secs(300),
            window: unpack::USUAL_WINDOW,
            compares_table: false,
        }
    }
}

/// The result of reading a layer.
#[derive(Debug)]
pub struct LayerReading {
    /// The digest of the uncompressed content, or why the layer has none: it is damaged, or readers interpret it
    /// differently. Without it, `contents` has a gap, too.
    pub diff_id: Result<Digest, String>,
    /// The contents of the layer.
    pub contents: LayerInventory,
    /// Hard links to files that were not read under these names. If there are any, a second pass can read them:
    /// [`read_layer_again`].
    pub unread: LinkedNames,
    /// Whether the time was over before everything was read. Another reading may get further, on a machine that is less
    /// busy. `contents` has a gap.
    pub ended_early: bool,
    /// The table of contents, if it was to be compared.
    pub table: Option<LayerTable>,
    /// Whether the layer can be read with a window of [`unpack::LARGE_WINDOW`] and could not with that of the limits.
    pub needs_window: bool,
}

/// Names that hard links give to files that are known by another one, by the path of the file in the layer.
pub type LinkedNames = BTreeMap<String, BTreeSet<String>>;

/// The contents of a layer, as far as inventories need them. It depends only on the bytes of the layer.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct LayerInventory {
    /// What files state. A file may have several names.
    pub(super) files: Vec<FileFacts>,
    /// The names of these files: indexes of `files` by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) names: BTreeMap<String, u32>,
    /// Symbolic links: their targets, by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) links: BTreeMap<String, String>,
    /// Files below directories without an entry in this layer, whose names are those of files that state something. If
    /// a directory above is a link of a lower layer, runtimes put the file in different places.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) undeclared: BTreeSet<String>,
    /// Directories without an entry in this layer, above files that state something.
    #[serde(default)]
    pub(super) implied: PathSet,
    /// Paths that are deleted from the layers below, with everything beneath.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) whiteouts: BTreeSet<String>,
    /// Directories that hide those of the layers below.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) opaque: BTreeSet<String>,
    /// Paths of other files that replace what the layers below have there: devices, executables, and files that
    /// could state packages but state none.
    #[serde(default)]
    pub(super) replaced: PathSet,
    /// Observations about files that may be unsafe, by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) observations: BTreeMap<String, Vec<FileObservation>>,
    /// Problems with the layer as a whole.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) problems: BTreeSet<String>,
}

/// What a file states.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FileFacts {
    /// Packages, Java archives that do not prove what they are, and why there may be more.
    Packages {
        packages: Vec<InstalledPackage>,
        /// The path is empty for the file itself.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unnamed: Vec<UnnamedArchive>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        problems: Vec<String>,
    },
    /// The text of a release file.
    Release(String),
    /// Ubuntu's extended support is enabled.
    UbuntuPro,
    /// How Red Hat built the layer.
    Build(RedHatBuild),
    /// Licences of the package of dpkg that the path names.
    Licenses(Vec<String>),
    /// Changes that are not in the database yet.
    Journal,
    /// A symbolic link to this path in the directory of alternatives, where other links decide which file it is: a link
    /// there may be of another layer.
    Alternative(String),
    /// A file in the directory of alternatives, which is not a link to another one.
    Chosen,
    /// The content of a database that counts only if a link in the usual place leads to it, which other layers
    /// determine.
    Database(Box<Self>),
    /// A hard link to a path that this layer does not have, so that only a layer below can.
    HardLink(String),
    /// Another package manager has packages in this directory, which are not read.
    OtherPackages,
    /// The file may state something but could not be read.
    Unreadable(String),
}

impl FileFacts {
    /// The length of all texts, in bytes.
    fn text_bytes(&self) -> usize {
        let total = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
        match self {
            Self::Packages { packages, unnamed, problems } => {
                let unnamed = unnamed.iter().map(UnnamedArchive::text_bytes).sum::<usize>();
                packages.iter().map(InstalledPackage::text_bytes).sum::<usize>() + unnamed + total(problems)
            }
            Self::Release(text) | Self::Alternative(text) | Self::HardLink(text) | Self::Unreadable(text) => text.len(),
            Self::Build(build) => total(&build.content_sets) + total(&build.images),
            Self::Licenses(licenses) => total(licenses),
            Self::Database(facts) => facts.text_bytes(),
            Self::Chosen | Self::UbuntuPro | Self::Journal | Self::OtherPackages => 0,
        }
    }
}

/// Reads a layer once, from its first byte to its last, in any supported compression.
///
/// `folder` is the directory for unnamed temporary files, for files that are too large for memory.
///
/// # Errors
/// `compressed` or a temporary file cannot be read or written. A defect of the layer itself is not an error
/// but a gap, and the result may be kept.
pub fn read_layer(
    compressed: impl Read,
    algorithm: Algorithm,
    limits: &LayerLimits,
    folder: &Path,
) -> io::Result<LayerReading> {
    read_layer_again(compressed, algorithm, limits, folder, &LinkedNames::new())
}

/// Reads a layer again, with the files that its hard links give other names: a file comes before its links.
///
/// # Errors
/// Those of [`read_layer`].
pub fn read_layer_again(
    compressed: impl Read,
    algorithm: Algorithm,
    limits: &LayerLimits,
    folder: &Path,
    linked: &LinkedNames,
) -> io::Result<LayerReading> {
    let (time, failure) = (ReadingTime::new(limits.time), Cell::new(None));
    let source = LayerSource { compressed, time: &time, failure: &failure };
    let spool = Spool::new(folder, &time, limits.unpacked);
    let mut collector = Collector::new(limits, &spool, linked);
    let mut listing = limits.compares_table.then(|| FileListing::new(limits));
    let mut needs_window = false;
    let end = UnpackedLayer::new(source, algorithm, limits.unpacked).and_then(|unpacked| {
        let unpacked = BufReader::with_capacity(PIECE, unpacked.with_max_window(limits.window));
        let mut archive = Archive::new(unpacked).hashing(limits.compares_table);
        if let Err(error) = collector.walk(&mut archive, &mut listing) {
            collector.problem(error.to_string());
            listing.iter_mut().for_each(FileListing::end_early);
        }
        let unpacked = archive.into_inner().into_inner();
        needs_window = unpacked.needs_window();
        match &mut listing {
            Some(listing) => unpacked.finish_with(Some(&mut |table: &mut dyn Read| listing.compare(table))),
            None => unpacked.finish_with(None),
        }
    });
    if let Some(error) = failure.take().or_else(|| spool.take_failure()) {
        return Err(error);
    }
    let footer = end.as_ref().ok().and_then(|(_, footer)| *footer);
    let table = listing.map(|listing| listing.finish(footer.as_ref()));
    let mut diff_id = end.map(|(diff_id, _)| diff_id).map_err(|error| error.to_string());
    if time.was_over() {
        diff_id = Err(format!("reading the layer took more than {} seconds", limits.time.as_secs()));
    }
    if let Err(problem) = &diff_id {
        collector.problem(problem.clone());
    }
    let (unread, ended_early) = (collector.take_unread(), time.was_over());
    Ok(LayerReading { diff_id, contents: collector.finish(), unread, ended_early, table, needs_window })
}

/// The error when the time is over.
fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the layer was not read to its end")
}

/// Distinguishes errors of the source from errors of the content.
struct LayerSource<'a, R> {
    compressed: R,
    time: &'a ReadingTime,
    failure: &'a Cell<Option<io::Error>>,
}

impl<R: Read> Read for LayerSource<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.time.is_over() {
            return Err(too_late());
        }
        self.time.waiting(|| self.compressed.read(out)).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failure.set(Some(error));
            }
            io::Error::from(kind)
        })
    }
}

#[cfg(test)]
mod tests;
