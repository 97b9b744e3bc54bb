//! Puts blobs into directories, for programs that read images from files.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::{BlobPieces, BlobReader};
use crate::cache::disk::blocking;
use crate::cache::{CacheError, Opened};
use crate::oci::{Descriptor, Digest};

/// How often a file that has no name yet is looked for again.
const SHARE_TRIES: u32 = 10;
/// How long to wait before that.
const SHARE_WAIT: Duration = Duration::from_millis(100);

impl BlobReader {
    /// Puts a verified blob at `target`, which must not exist yet. A file in the cache is shared rather than copied if
    /// the target is on the same file system. The target may be another name of the cached file, so it must not be
    /// changed.
    ///
    /// # Errors
    /// If the blob cannot be read completely, or the file cannot be created.
    pub async fn place(&self, kind: &'static str, blob: &Descriptor, target: PathBuf) -> Result<(), CacheError> {
        let (content, mut pieces) = self.open_content(kind, blob).await?;
        if !matches!(content, Opened::File(_) | Opened::Filling(_)) {
            return write(&mut pieces, &target).await;
        }
        // The last byte is released when the content is verified, and the file gets its name after that.
        while pieces.next().await?.is_some() {}
        let shared = self.share(blob.digest, &target).await;
        // Until now, the content must not be evicted.
        drop((content, pieces));
        match shared {
            Ok(()) => Ok(()),
            // The download went past a failing disk, or the file system takes long to name the file.
            Err(error) => {
                tracing::debug!(content.digest = %blob.digest, %error, "cached content cannot be shared; it is copied");
                let _ = tokio::fs::remove_file(&target).await;
                write(&mut self.open(kind, blob).await?, &target).await
            }
        }
    }

    /// Shares the file of a blob; waits a while for a download that has just ended to name its file.
    async fn share(&self, digest: Digest, target: &Path) -> io::Result<()> {
        let mut tries = 0;
        loop {
            let (disk, place) = (self.readers.cache.inner.disk.clone(), target.to_owned());
            match blocking(move || disk.share(digest, &place)).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < SHARE_TRIES => tries += 1,
                shared => return shared,
            }
            tokio::time::sleep(SHARE_WAIT).await;
        }
    }
}

async fn write(pieces: &mut BlobPieces, target: &Path) -> Result<(), CacheError> {
    let failed = |error: io::Error| CacheError::Disk(format!("{}: {error}", target.display()));
    let mut file = File::create_new(target).await.map_err(failed)?;
    while let Some(piece) = pieces.next().await? {
        file.write_all(&piece).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)
}
