//! OCI image layouts (OCI image-spec, image-layout.md), as directories and as tar archives.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use super::super::DatabaseError;
use super::super::generations::{DatabaseKind, Staged, check_digest};
use super::super::meter::Meter;
use super::super::section::FileSection;
use super::ImportJob;
use super::trivy::{KINDS, source_of};
use crate::oci::{Content, Descriptor, Digest, Hasher, MAX_MANIFEST, Manifest};

/// The media types of the layer with the database: of trivy-db, and of the database of Java archives.
pub(super) const LAYER: &str = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip";
pub(super) const JAVA_LAYER: &str = "application/vnd.aquasec.trivy.javadb.layer.v1.tar+gzip";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The maximum number of files in an archive of a layout.
const MAX_FILES: usize = 10_000;

/// The files of a layout.
pub(super) trait Layout {
    /// Opens a file by its name in the layout.
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + '_>>;
}

/// A layout in a directory.
pub(super) struct Folder<'a>(pub(super) &'a Path);

impl Layout for Folder<'_> {
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(File::open(self.0.join(name))?))
    }
}

/// A layout in a tar archive.
pub(super) struct LayoutArchive {
    file: File,
    /// The offset and the size of each file.
    files: BTreeMap<String, (u64, u64)>,
}

impl LayoutArchive {
    pub(super) fn open(file: File, from: &str) -> Result<Self, DatabaseError> {
        let damaged = |error: io::Error| DatabaseError::unrecognised(from, error.to_string());
        let mut files = BTreeMap::new();
        let whole = FileSection { file: &file, at: 0, end: u64::MAX };
        let mut archive = tar::Archive::new(BufReader::new(whole));
        for entry in archive.entries().map_err(damaged)?.raw(true) {
            let entry = entry.map_err(damaged)?;
            if files.len() == MAX_FILES {
                return Err(DatabaseError::unrecognised(from, format!("it has more than {MAX_FILES} files")));
            }
            if entry.header().entry_type().is_file() {
                let size = entry.header().entry_size().map_err(damaged)?;
                files.insert(name_of(&entry), (entry.raw_file_position(), size));
            }
        }
        Ok(Self { file, files })
    }
}

impl Layout for LayoutArchive {
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + '_>> {
        let (at, size) = *self.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(FileSection { file: &self.file, at, end: at.saturating_add(size) }))
    }
}

/// The name of a file in an archive, without `./` at the beginning.
pub(super) fn name_of<R: Read>(entry: &tar::Entry<'_, R>) -> String {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    name.strip_prefix("./").unwrap_or(&name).to_owned()
}

impl ImportJob<'_> {
    /// Reads one of Trivy's databases from a layout.
    pub(super) fn layout(&self, layout: &dyn Layout, meter: &mut Meter<'_>) -> Result<Staged, DatabaseError> {
        let index = self.small(layout, "index.json")?;
        let index = self.manifest(index, Some(INDEX))?;
        let Content::Index(manifests) = index.content else {
            return Err(self.wrong("index.json is not an index"));
        };
        for descriptor in manifests {
            let name = descriptor.digest.layout_name();
            let bytes = self.small(layout, &name)?;
            check_digest(&name, descriptor.digest, Digest::of(descriptor.digest.algorithm(), &bytes))?;
            let manifest = self.manifest(bytes, None)?;
            for kind in KINDS {
                let Ok(layer) = self.database_layer(kind, &manifest) else { continue };
                let blob = layout.open(&layer.digest.layout_name());
                let mut blob = blob.map_err(|error| self.wrong(&format!("the database's blob: {error}")))?;
                return self.database(kind, &mut blob, &layer, meter);
            }
        }
        Err(self.wrong(&format!(
            "no manifest in it has a layer of type {LAYER} or {JAVA_LAYER}: it is not a trivy-db or trivy-java-db"
        )))
    }

    /// Parses a manifest of a layout or a registry.
    pub(super) fn manifest(&self, bytes: Bytes, media_type: Option<&str>) -> Result<Manifest, DatabaseError> {
        Manifest::parse(bytes, media_type).map_err(|refused| self.wrong(&refused.to_string()))
    }

    /// The only layer of a manifest, which must be a database of this kind.
    pub(super) fn database_layer(&self, kind: DatabaseKind, manifest: &Manifest) -> Result<Descriptor, DatabaseError> {
        let expected = if kind == DatabaseKind::JavaDb { JAVA_LAYER } else { LAYER };
        match &manifest.content {
            Content::Image { layers, .. } if layers.len() == 1 && layers[0].media_type == expected => {
                Ok(layers[0].clone())
            }
            Content::Image { .. } => Err(self.wrong(&format!("it does not have exactly one layer of type {expected}"))),
            Content::Index(_) => Err(self.wrong("it is an index; name the manifest of the database itself")),
        }
    }

    /// Unpacks the blob with the database, and verifies the blob's size and digest.
    pub(super) fn database(
        &self,
        kind: DatabaseKind,
        blob: &mut dyn Read,
        layer: &Descriptor,
        meter: &mut Meter<'_>,
    ) -> Result<Staged, DatabaseError> {
        meter.expect(layer.size)?;
        let mut verified = VerifiedRead {
            hasher: Hasher::new(layer.digest.algorithm()),
            // One byte more than expected is enough to notice that there are too many.
            input: blob.take(layer.size.saturating_add(1)),
            size: 0,
            counter: meter.counter(),
        };
        let unpacked = {
            let input = BufReader::with_capacity(128 * 1024, &mut verified);
            self.archive(&mut MultiGzDecoder::new(input), None, meter)
        };
        if let Err(error @ (DatabaseError::Cancelled | DatabaseError::TooLarge { .. })) = unpacked {
            return Err(error);
        }
        // The rest has no effect on the database, but belongs to the digest.
        let rest = io::copy(&mut verified, &mut io::sink());
        rest.map_err(|error| DatabaseError::Transport(format!("{}: {error}", self.from)))?;
        meter.read(0)?;
        let what = format!("the database of {}", self.from);
        if verified.size != layer.size {
            return Err(self.wrong(&format!("its blob has {} bytes instead of {}", verified.size, layer.size)));
        }
        check_digest(&what, layer.digest, verified.hasher.finish())?;
        let mut staged = unpacked?;
        match (staged.pop(), staged.is_empty()) {
            (Some(one), true) if one.manifest.kind == kind => Ok(one),
            _ => Err(self.wrong(&format!("its layer is not a {}", source_of(kind)))),
        }
    }

    fn small(&self, layout: &dyn Layout, name: &str) -> Result<Bytes, DatabaseError> {
        let mut bytes = Vec::new();
        let read = layout.open(name).and_then(|file| file.take(MAX_MANIFEST as u64 + 1).read_to_end(&mut bytes));
        read.map_err(|error| self.wrong(&format!("{name}: {error}")))?;
        Ok(bytes.into())
    }

    /// The content is not what is expected.
    pub(super) fn wrong(&self, problem: &str) -> DatabaseError {
        DatabaseError::unrecognised(self.from.clone(), problem)
    }
}

/// Computes the digest of what is read.
struct VerifiedRead<R> {
    input: R,
    hasher: Hasher,
    size: u64,
    counter: Rc<Cell<u64>>,
}

impl<R: Read> Read for VerifiedRead<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.hasher.update(&into[..read]);
        self.size += read as u64;
        self.counter.set(self.counter.get() + read as u64);
        Ok(read)
    }
}
