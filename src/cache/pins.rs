//! Pins: images that are never evicted.

use std::time::Duration;

use super::{Cache, CacheError};
use crate::oci::{Content, Digest, MAX_MANIFEST, Manifest};
use crate::store::PinnedImage;

/// How long a pin waits for blobs that were received and are about to get their names, in steps.
const STEPS: u32 = 100;
const STEP: Duration = Duration::from_millis(50);

/// Why an image was not pinned.
#[derive(Debug, thiserror::Error)]
pub enum NotPinned {
    /// The manifest, or the manifest of every platform, is not in the cache.
    #[error("its manifest {0} is not in the cache; fetch it first (`pullgate cache pin --fetch`)")]
    Manifest(Digest),
    /// Some of its blobs are not in the cache.
    #[error(
        "{missing} of its blobs are not in the cache, {first} among them; fetch them first (`pullgate cache pin --fetch`)"
    )]
    Blobs {
        /// How many.
        missing: usize,
        /// One of them.
        first: Digest,
    },
    /// The database cannot be read or written.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl Cache {
    /// Pins an image that is in the cache: its manifest, those of all its platforms, including platforms that are
    /// fetched later, and `attached` manifests. Every platform that is in the cache must be complete.
    ///
    /// # Errors
    /// See [`NotPinned`].
    pub async fn pin(&self, pin: &PinnedImage, attached: Vec<Digest>) -> Result<(), NotPinned> {
        let mut step = 0;
        loop {
            step += 1;
            // Nothing is evicted between the check and the row.
            let turn = self.inner.evicting.lock().await;
            let missing = match self.needs(pin.digest).await? {
                (mut manifests, missing) if missing.is_empty() => {
                    manifests.extend(attached);
                    return Ok(self.inner.store.node.pin(pin, &manifests).await.map_err(CacheError::store)?);
                }
                (_, missing) => missing,
            };
            drop(turn);
            let is_arriving = missing.iter().all(|blob| self.inner.fills.is_filled(*blob));
            if let Some(first) = missing.first().filter(|_| !is_arriving || step > STEPS) {
                return Err(NotPinned::Blobs { missing: missing.len(), first: *first });
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// The manifests of an image, and the blobs of those in the cache that are not on disk.
    async fn needs(&self, digest: Digest) -> Result<(Vec<Digest>, Vec<Digest>), NotPinned> {
        let root = self.read_manifest(digest).await.ok_or(NotPinned::Manifest(digest))?;
        let (mut manifests, mut images) = (vec![digest], Vec::new());
        for child in root.children() {
            manifests.push(child.digest);
            images.extend(self.read_manifest(child.digest).await);
        }
        match (&root.content, root.children().first()) {
            (Content::Index(_), Some(child)) if images.is_empty() => return Err(NotPinned::Manifest(child.digest)),
            (Content::Index(_), _) => {}
            (Content::Image { .. }, _) => images.push(root),
        }
        let blobs = images.iter().filter(|image| image.children().is_empty()).flat_map(Manifest::descriptors);
        let missing = blobs.map(|blob| blob.digest).filter(|blob| !self.inner.disk.has(*blob)).collect();
        Ok((manifests, missing))
    }

    async fn read_manifest(&self, digest: Digest) -> Option<Manifest> {
        let bytes = self.peek(digest, MAX_MANIFEST).await?;
        Manifest::parse(bytes, None).and_then(|manifest| manifest.named(digest)).ok()
    }

    /// All pins, each with the size in bytes of the content that it keeps.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn pins(&self) -> Result<Vec<(PinnedImage, u64)>, CacheError> {
        self.inner.store.node.pins().await.map_err(CacheError::store)
    }

    /// Removes a pin. Returns false if there is no pin with this name.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn unpin(&self, image: &str) -> Result<bool, CacheError> {
        self.inner.store.node.unpin(image).await.map_err(CacheError::store)
    }
}
