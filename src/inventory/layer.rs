//! Reads a layer in one pass: its `diff_id`, and what its files state about packages.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::paths::PathSet;
use super::tar::Archive;
use super::{InstalledPackage, RedHatBuild};
use crate::oci::unpack::{self, UnpackedLayer};
use crate::oci::{Algorithm, Digest};

use collect::Collector;
use spool::Spool;

mod collect;
mod names;
mod owned;
mod spool;

/// The size of the buffer of unpacked bytes, in bytes.
const PIECE: usize = 128 * 1024;

/// How much of a layer is read. A limit that is hit is a gap.
#[derive(Clone, Copy, Debug)]
pub struct LayerLimits {
    /// The number of bytes that the layer may unpack to.
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
}

impl LayerLimits {
    /// The limits for a layer of `size` bytes, as it is transferred.
    pub fn of(size: u64) -> Self {
        Self {
            unpacked: unpack::limit(size),
            entries: 2_000_000,
            packages: 100_000,
            facts: 64 << 20,
            path: 4096,
            names: 64 << 20,
        }
    }
}

/// What reading a layer has yielded.
#[derive(Debug)]
pub struct LayerReading {
    /// The digest of the uncompressed content, or why the layer has none: it is damaged, or readers interpret it
    /// differently. Without it, `contents` has a gap, too.
    pub diff_id: Result<Digest, String>,
    /// What the layer contains.
    pub contents: LayerInventory,
}

/// What a layer contains, as far as inventories need it. It depends only on the bytes of the layer.
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
    /// Files below directories without an entry in this layer, whose names are those of files that state something. If a
    /// directory above is a link of a lower layer, runtimes put the file in different places.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) undeclared: BTreeSet<String>,
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
    /// Problems with the layer as a whole.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) problems: BTreeSet<String>,
}

/// What a file states.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FileFacts {
    /// Packages, and why there may be more.
    Packages {
        packages: Vec<InstalledPackage>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        problems: Vec<String>,
    },
    /// The text of a release file.
    Release(String),
    /// Ubuntu's extended support is enabled.
    UbuntuPro,
    /// How Red Hat built the layer.
    Build(RedHatBuild),
    /// Changes that are not in the database yet.
    Journal,
    /// The file may state something but could not be read.
    Unreadable(String),
}

impl FileFacts {
    /// The length of all texts, in bytes.
    fn text_bytes(&self) -> usize {
        let total = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
        match self {
            Self::Packages { packages, problems } => {
                packages.iter().map(InstalledPackage::text_bytes).sum::<usize>() + total(problems)
            }
            Self::Release(text) | Self::Unreadable(text) => text.len(),
            Self::Build(build) => total(&build.content_sets) + build.nvr.len() + build.architecture.len(),
            Self::UbuntuPro | Self::Journal => 0,
        }
    }
}

/// Reads a layer once, from its first byte to its last, in any supported compression.
///
/// `folder` is where files that are too large for memory are kept while they are read, without a name. `is_over` is asked
/// before each read of `compressed` and each entry, and ends the reading with [`io::ErrorKind::TimedOut`] when it returns true.
///
/// # Errors
/// `compressed` or a temporary file cannot be read or written, or the time is over. What is wrong with the layer itself is
/// no error: it is a gap, and the result may be kept.
pub fn read_layer(
    compressed: impl Read,
    algorithm: Algorithm,
    limits: &LayerLimits,
    folder: &Path,
    is_over: &dyn Fn() -> bool,
) -> io::Result<LayerReading> {
    let failure = Cell::new(None);
    let source = LayerSource { compressed, is_over, failure: &failure };
    let spool = Spool::new(folder);
    let mut collector = Collector::new(limits, &spool);
    let diff_id = UnpackedLayer::new(source, algorithm, limits.unpacked).and_then(|unpacked| {
        let mut archive = Archive::new(BufReader::with_capacity(PIECE, unpacked));
        let walked = collector.walk(&mut archive, is_over);
        let finished = archive.into_inner().into_inner().finish();
        match walked {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => failure.set(Some(error)),
            Err(error) => collector.problem(error.to_string()),
            Ok(()) => {}
        }
        finished
    });
    if let Some(error) = failure.take().or_else(|| spool.take_failure()) {
        return Err(error);
    }
    let diff_id = diff_id.map_err(|error| error.to_string());
    if let Err(problem) = &diff_id {
        collector.problem(problem.clone());
    }
    Ok(LayerReading { diff_id, contents: collector.finish() })
}

/// The error when the time is over.
fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "reading the layer took too long")
}

/// Tells errors of the source from those of the content.
struct LayerSource<'a, R> {
    compressed: R,
    is_over: &'a dyn Fn() -> bool,
    failure: &'a Cell<Option<io::Error>>,
}

impl<R: Read> Read for LayerSource<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let result = match (self.is_over)() {
            true => Err(too_late()),
            false => self.compressed.read(out),
        };
        result.map_err(|error| {
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
