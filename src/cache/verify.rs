//! Going through everything on disk and hashing it again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Cache, CacheError, Inner};
use crate::oci::Digest;

/// What was found.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Verified {
    /// Files that were hashed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Content whose bytes were wrong or could not be read; all of it was dropped.
    pub wrong: Vec<Digest>,
}

impl Cache {
    /// Hashes everything on disk again, drops what is wrong, and tells after each file how many bytes of how many are
    /// done.
    ///
    /// # Errors
    /// When the folder or the database cannot be read.
    pub async fn verify(&self, mut tell: impl FnMut(u64, u64) + Send) -> Result<Verified, CacheError> {
        let inner = &self.inner;
        let mut verified = Verified::default();
        let failed = |error: std::io::Error| CacheError::Disk(error.to_string());
        let this = inner.clone();
        let folders = super::disk::blocking(move || this.disk.folders()).await.map_err(failed)?;
        for folder in folders {
            let this = inner.clone();
            let found = super::disk::blocking(move || this.disk.contents(&folder)).await.map_err(failed)?;
            for file in found {
                if !inner.is_intact(file.digest).await {
                    inner.drop_wrong(file.digest, file.size).await?;
                    verified.wrong.push(file.digest);
                }
                verified.files += 1;
                verified.bytes += file.size;
                tell(verified.bytes, inner.usage.stored().max(verified.bytes));
            }
        }
        Ok(verified)
    }
}

impl Inner {
    /// What cannot be read is as wrong as what has other bytes; what is gone is neither.
    async fn is_intact(self: &Arc<Self>, digest: Digest) -> bool {
        let inner = self.clone();
        let intact = super::disk::blocking(move || inner.disk.is_intact(digest)).await;
        let intact = intact.inspect_err(|error| tracing::error!(content.digest = %digest, %error, "cannot be read"));
        intact.is_ok_and(|intact| intact != Some(false))
    }

    async fn drop_wrong(&self, digest: Digest, size: u64) -> Result<(), CacheError> {
        tracing::error!(content.digest = %digest, "the disk changed this content; it is dropped and will be fetched again");
        self.memory.invalidate(&digest);
        self.store.forget_contents(&[digest]).await.map_err(CacheError::store)?;
        self.readings.remove_wrong(&self.disk, digest).map_err(|error| CacheError::Disk(error.to_string()))?;
        self.usage.removed(size);
        self.metrics.damaged.inc();
        Ok(())
    }
}
