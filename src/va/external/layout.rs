//! An image as a directory (OCI image layout), for programs that read images from files.

use std::io;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tempfile::TempDir;

use crate::cache::{BlobReader, CacheError};
use crate::oci::{Descriptor, Digest};
use crate::runtime::create_private_dir;
use crate::va::VaSubject;

/// How many blobs are put into the directory concurrently.
const AT_ONCE: usize = 4;

/// A private directory with an image, and one for temporary files. Both are removed with it.
pub(super) struct ImageLayout {
    folder: TempDir,
}

impl ImageLayout {
    /// Writes an image below `scratch`. Blobs that the cache has on disk are shared with it.
    ///
    /// # Errors
    /// If a blob cannot be read completely, or the directory cannot be written.
    pub(super) async fn write(scratch: &Path, reader: &BlobReader, subject: &VaSubject) -> Result<Self, CacheError> {
        let failed = |error: io::Error| CacheError::Disk(format!("{}: {error}", scratch.display()));
        let layout = Self::create(scratch).map_err(failed)?;
        layout.describe(subject).map_err(failed)?;
        let mut different: Vec<&Descriptor> = vec![subject.config()];
        for layer in subject.layers() {
            if !different.iter().any(|known| known.digest == layer.digest) {
                different.push(layer);
            }
        }
        // A manifest may name itself in no way, so its file does not exist yet.
        let places: Vec<(Descriptor, PathBuf)> = different
            .into_iter()
            .map(|blob| Ok((blob.clone(), layout.place(blob.digest)?)))
            .collect::<io::Result<_>>()
            .map_err(failed)?;
        let placed = places.into_iter().map(|(blob, place)| async move {
            let kind = if blob.digest == subject.config().digest { "configuration" } else { "layer" };
            reader.place("scan", &blob, place).await.map_err(|error| error.of(kind, blob.digest))
        });
        stream::iter(placed).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        Ok(layout)
    }

    fn create(scratch: &Path) -> io::Result<Self> {
        create_private_dir(scratch)?;
        let layout = Self { folder: tempfile::Builder::new().prefix("image-").tempdir_in(scratch)? };
        create_private_dir(&layout.image())?;
        create_private_dir(&layout.temporary())?;
        Ok(layout)
    }

    /// Writes the manifest and the files that name it (OCI image specification, image-layout.md).
    fn describe(&self, subject: &VaSubject) -> io::Result<()> {
        let manifest = subject.manifest();
        let named = json!({"mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.bytes.len()});
        let index = json!({"schemaVersion": 2, "manifests": [named]});
        std::fs::write(self.image().join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
        std::fs::write(self.image().join("index.json"), index.to_string())?;
        std::fs::write(self.place(manifest.digest)?, &manifest.bytes)
    }

    fn place(&self, digest: Digest) -> io::Result<PathBuf> {
        let folder = self.image().join("blobs").join(digest.algorithm().name());
        create_private_dir(&folder)?;
        Ok(folder.join(digest.hex()))
    }

    /// The directory of the image.
    pub(super) fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// An empty directory, also used as the working directory: scanners read settings from there.
    pub(super) fn temporary(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }
}
