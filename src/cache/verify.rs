//! Verifies all content on disk by hashing it again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Cache, CacheError, CacheInner};
use crate::oci::Digest;

/// The result of a verification.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Verified {
    /// The number of files hashed.
    pub files: u64,
    /// Their size, in bytes.
    pub bytes: u64,
    /// Content that was corrupt or unreadable; all of it was removed.
    pub wrong: Vec<Digest>,
}

impl Cache {
    /// Hashes all content on disk, removes what is corrupt, and reports after each file how many of how many bytes are
    /// done.
    ///
    /// # Errors
    /// The directory or the database cannot be read.
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

impl CacheInner {
    /// Unreadable content counts as corrupt; content that is gone does not.
    async fn is_intact(self: &Arc<Self>, digest: Digest) -> bool {
        let inner = self.clone();
        let intact = super::disk::blocking(move || inner.disk.is_intact(digest)).await;
        let intact =
            intact.inspect_err(|error| tracing::error!(content.digest = %digest, %error, "cannot read content"));
        intact.is_ok_and(|intact| intact != Some(false))
    }

    async fn drop_wrong(&self, digest: Digest, size: u64) -> Result<(), CacheError> {
        tracing::error!(content.digest = %digest, "content is corrupt on disk; it was removed and will be fetched again");
        self.memory.remove(&digest);
        self.store.node.forget_contents(&[digest]).await.map_err(CacheError::store)?;
        self.readings.remove_wrong(&self.disk, digest).map_err(|error| CacheError::Disk(error.to_string()))?;
        self.usage.removed(size);
        self.metrics.damaged.inc();
        Ok(())
    }
}
