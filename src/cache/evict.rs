//! Eviction of whole images, least recently used first.
//!
//! An image consists of its manifest and the blobs that no other cached manifest names; it is kept or evicted as a
//! whole. Blobs that no manifest names are evicted first. Pinned images stay (`pins`). Content that is being read or
//! filled stays, and so does the image that it belongs to.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::disk::{FoundFile, Space};
use super::usage::Reservation;
use super::{CacheError, CacheInner};
use crate::oci::{Digest, Host, MAX_MANIFEST, Manifest};
use crate::store::{NewContent, StoreError, StoredContent};

/// The number of candidates examined at a time.
const BATCH: u32 = 64;
/// How often old facts are removed.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// How often recent use is recorded in the database, and expired content is looked for.
const TICK: Duration = Duration::from_secs(30);

impl CacheInner {
    /// Evicts content whenever space becomes scarce, until shutdown.
    pub(super) async fn evict_until_stop(self: Arc<Self>) {
        let mut forget = tokio::time::interval(FORGET_EVERY);
        loop {
            tokio::select! {
                () = self.scarce.notified() => {}
                () = self.store.facts.grown() => {}
                () = tokio::time::sleep(TICK) => {}
                _ = forget.tick() => self.forget_or_say().await,
                () = self.tasks.stopping() => break,
            }
            if let Err(error) = self.tidy().await {
                tracing::warn!(%error, "cannot evict content; will retry");
            }
        }
        // Recently used content must not be the first to be evicted after a restart.
        if let Err(error) = self.write_down_use().await {
            tracing::warn!(%error, "cannot record recent use");
        }
    }

    /// Wakes the evictor if it may be needed.
    pub(super) fn evict_soon(&self) {
        if self.excess(0) > 0 {
            self.scarce.notify_one();
        }
    }

    /// Evicts expired content and, if the high watermark is exceeded, enough to reach the low one.
    pub(super) async fn tidy(&self) -> Result<Freed, CacheError> {
        let _turn = self.evicting.lock().await;
        self.write_down_use().await.map_err(CacheError::store)?;
        let mut freed = Freed::default();
        if let Some(max_age) = self.config.max_age {
            let before = self.clock.ago(max_age);
            self.evict(u64::MAX, Some(before), &[], &mut freed).await.map_err(CacheError::store)?;
        }
        let excess = self.excess(0);
        if excess > 0 {
            let below = excess + self.slack();
            self.evict(below, None, &[], &mut freed).await.map_err(CacheError::store)?;
        }
        self.bound_facts(&mut freed).await.map_err(CacheError::store)?;
        self.report(&freed);
        Ok(freed)
    }

    /// Evicts expired content, content that no manifest names, and everything above the low watermark.
    pub(super) async fn collect(&self) -> Result<Freed, CacheError> {
        let mut freed = self.tidy().await?;
        let _turn = self.evicting.lock().await;
        for blob in self.store.node.unnamed_blobs(u32::MAX).await.map_err(CacheError::store)? {
            self.remove_together(&[blob], &mut freed).await.map_err(CacheError::store)?;
        }
        let above = self.usage.stored().saturating_sub(percent(self.config.max_size, self.config.low_watermark));
        let already = freed.bytes;
        if above > 0 {
            self.evict(above + already, None, &[], &mut freed).await.map_err(CacheError::store)?;
        }
        self.report(&freed);
        Ok(freed)
    }

    /// Reserves space in the cache, evicting the least recently used content if necessary.
    pub(super) async fn reserve(&self, bytes: u64) -> Result<Reservation, NoRoom> {
        if bytes > self.config.max_size {
            return Err(NoRoom::TooLarge);
        }
        if self.excess(bytes) == 0
            && let Some(reservation) = self.usage.reserve(bytes, self.config.max_size)
        {
            return Ok(reservation);
        }
        self.free(self.excess(bytes).max(1), &[]).await;
        match self.full_disk(bytes) {
            Some(full) => Err(full),
            None => self.usage.reserve(bytes, self.config.max_size).ok_or(NoRoom::InUse),
        }
    }

    /// Reserves space for content that is imported, which nobody can fetch again. It must fit below the high watermark,
    /// so that it is not evicted when the import has ended. Images of `spared` registries are not evicted for it.
    pub(super) async fn reserve_for_import(&self, bytes: u64, spared: &[Host]) -> Result<Reservation, NoRoom> {
        let limit = percent(self.config.max_size, self.config.high_watermark);
        if bytes > limit {
            return Err(NoRoom::TooLarge);
        }
        let reserve = || (self.excess(bytes) == 0).then(|| self.usage.reserve(bytes, limit)).flatten();
        if let Some(reservation) = reserve() {
            return Ok(reservation);
        }
        self.free(self.excess(bytes).max(1), spared).await;
        reserve().ok_or_else(|| self.full_disk(bytes).unwrap_or(NoRoom::Kept))
    }

    /// Frees at least this many bytes, if that is possible without images of `spared` registries.
    pub(super) async fn free(&self, bytes: u64, spared: &[Host]) {
        let _turn = self.evicting.lock().await;
        let mut freed = Freed::default();
        let evicted = async {
            self.write_down_use().await?;
            self.evict(bytes.saturating_add(self.slack()), None, spared, &mut freed).await
        };
        if let Err(error) = evicted.await {
            tracing::warn!(%error, "cannot free space in the cache");
        }
        self.report(&freed);
    }

    /// By how many bytes the cache would be too large with `more` additional bytes, given the high watermark and the
    /// free disk space.
    pub(super) fn excess(&self, more: u64) -> u64 {
        let high = percent(self.config.max_size, self.config.high_watermark);
        let taken = self.usage.stored().saturating_add(self.usage.reserved()).saturating_add(more);
        let missing =
            self.disk.space().map_or(0, |space| self.kept_free(space).saturating_add(more).saturating_sub(space.free));
        taken.saturating_sub(high).max(missing)
    }

    /// How much disk space must stay free, in bytes.
    pub(super) fn kept_free(&self, space: Space) -> u64 {
        self.config.min_free.min(space.total / 10)
    }

    /// The number of bytes between the high and the low watermark.
    pub(super) fn slack(&self) -> u64 {
        let Self { config, .. } = self;
        percent(config.max_size, config.high_watermark.saturating_sub(config.low_watermark))
            .min(self.usage.stored() / 10)
    }

    /// Records which manifests were used. If one was evicted in the meantime and yet used, its row is written again,
    /// because its blobs are about to be fetched again and belong to it.
    pub(super) async fn write_down_use(&self) -> Result<(), StoreError> {
        let used = self.touched.take();
        let times: Vec<_> = used.iter().map(|(digest, (at, _))| (*digest, *at)).collect();
        let absent = match self.store.node.touch_contents(&times).await {
            Ok(absent) => absent,
            // There is room when something has been evicted.
            Err(error) if self.is_disk_full() => {
                tracing::warn!(%error, "recent use cannot be recorded on a full disk; will retry");
                self.touched.put_back(used);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for digest in absent {
            let Some((used_at, bytes)) = used.get(&digest) else { continue };
            if self.disk.write(digest, bytes.clone()).await.is_ok() {
                self.stored(manifest_content(digest, bytes, *used_at), None).await;
            }
        }
        Ok(())
    }

    /// Evicts until this many bytes are freed or nothing more can be evicted; with `unused_since`, only content older
    /// than that; with `spared`, no image of these registries.
    pub(super) async fn evict(
        &self,
        bytes: u64,
        unused_since: Option<Timestamp>,
        spared: &[Host],
        freed: &mut Freed,
    ) -> Result<(), StoreError> {
        let is_old = |content: &StoredContent| unused_since.is_none_or(|since| content.used_at < since);
        let unnamed = self.store.node.unnamed_blobs(BATCH * 16).await?;
        for blob in unnamed.iter().filter(|blob| is_old(blob)) {
            if freed.bytes >= bytes {
                return Ok(());
            }
            self.remove_together(&[*blob], freed).await?;
        }
        let mut kept = 0;
        loop {
            let candidates = self.store.node.oldest_manifests(unused_since, kept, BATCH).await?;
            if candidates.is_empty() {
                return Ok(());
            }
            let digests: Vec<Digest> = candidates.iter().map(|manifest| manifest.digest).collect();
            let stay = match spared {
                [] => HashSet::new(),
                _ => self.store.facts.of_registries(&digests, spared).await?,
            };
            for manifest in candidates {
                if freed.bytes >= bytes {
                    return Ok(());
                }
                if stay.contains(&manifest.digest) {
                    kept += 1;
                    continue;
                }
                let parts = self.store.node.parts_of(manifest.digest).await?;
                if !self.remove_together(&parts, freed).await? {
                    kept += 1;
                }
            }
        }
    }

    /// Whether any of these is being read, filled or imported.
    pub(super) fn is_in_use(&self, parts: &[StoredContent]) -> bool {
        let now = self.clock.now();
        let in_use =
            |digest| self.readings.is_read(digest) || self.fills.is_filled(digest) || self.holds.is_held(digest, now);
        parts.iter().any(|part| in_use(part.digest))
    }

    /// Removes all of these files or, if one is in use, none. Returns false if they stay.
    pub(super) async fn remove_together(&self, parts: &[StoredContent], freed: &mut Freed) -> Result<bool, StoreError> {
        if parts.is_empty() || self.is_in_use(parts) {
            freed.in_use += parts.len() as u64;
            return Ok(false);
        }
        let digests: Vec<Digest> = parts.iter().map(|part| part.digest).collect();
        match self.store.node.forget_contents(&digests).await {
            Ok(()) => {}
            Err(_) if self.is_disk_full() => return self.remove_files_first(parts, freed).await,
            Err(error) => return Err(error),
        }
        let mut all_went = true;
        for part in parts {
            self.memory.remove(&part.digest);
            self.usage.removed(part.size);
            match self.readings.remove_unread(&self.disk, part.digest) {
                Ok(true) => {
                    freed.bytes += part.size;
                    freed.files += 1;
                }
                // A reader opened it in the meantime, so it stays.
                Ok(false) => {
                    self.stored(self.content(*part).await, None).await;
                    freed.in_use += 1;
                }
                Err(error) => {
                    tracing::warn!(content.digest = %part.digest, %error, "cannot remove evicted content");
                    self.stored(self.content(*part).await, None).await;
                    freed.failed += 1;
                    all_went = false;
                }
            }
        }
        Ok(all_went)
    }

    pub(super) fn report(&self, freed: &Freed) {
        if freed.files > 0 {
            self.metrics.evicted_files.inc_by(freed.files);
            self.metrics.evicted.inc_by(freed.bytes);
            tracing::info!(files = freed.files, bytes = freed.bytes, "evicted the least recently used content");
        }
        self.show_stored();
    }

    /// Reconciles rows and files in the background, one directory at a time: after a crash some files have no rows,
    /// after an upgrade none have.
    pub(super) async fn reconcile(self: Arc<Self>) {
        match self.adopt().await {
            Ok(adopted) if adopted > 0 => tracing::info!(adopted, "found unrecorded content on disk"),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot scan the cache directory"),
        }
        self.show_stored();
        self.evict_soon();
    }

    async fn adopt(self: &Arc<Self>) -> Result<u64, String> {
        let text = |error: io::Error| error.to_string();
        let mut adopted = 0;
        let inner = self.clone();
        let folders = super::disk::blocking(move || inner.disk.folders()).await.map_err(text)?;
        for folder in folders {
            let inner = self.clone();
            let found = super::disk::blocking(move || inner.disk.contents(&folder)).await.map_err(text)?;
            let digests: Vec<Digest> = found.iter().map(|file| file.digest).collect();
            let known = self.store.node.present(&digests).await.map_err(|error| error.to_string())?;
            for file in found {
                if self.tasks.is_stopping() {
                    return Ok(adopted);
                }
                if !known.contains(&file.digest) && !self.fills.is_filled(file.digest) {
                    self.stored(self.content_of_file(&file).await, None).await;
                    adopted += 1;
                }
            }
        }
        self.forget_absent().await.map_err(|error| error.to_string())?;
        Ok(adopted)
    }

    /// The record of a file that has none. Its bytes say whether it is a manifest: after a crash, nothing else may know
    /// it.
    async fn content_of_file(&self, file: &FoundFile) -> NewContent {
        let FoundFile { digest, size, modified } = *file;
        let used_at = Timestamp::try_from(modified).unwrap_or(Timestamp::UNIX_EPOCH);
        let bytes = self.disk.read(digest, MAX_MANIFEST).await.ok().flatten();
        let manifest = bytes.and_then(|bytes| manifest_in(digest, bytes));
        manifest.map_or_else(|| NewContent::blob(digest, size, used_at), |found| NewContent::manifest(&found, used_at))
    }

    /// The record of content on disk. A manifest's record says which parts it names.
    async fn content(&self, found: StoredContent) -> NewContent {
        let StoredContent { digest, size, is_manifest, used_at } = found;
        if !is_manifest {
            return NewContent::blob(digest, size, used_at);
        }
        match self.disk.read(digest, MAX_MANIFEST).await {
            Ok(Some(bytes)) => manifest_content(digest, &bytes, used_at),
            _ => NewContent::unreadable_manifest(digest, size, used_at),
        }
    }

    /// Removes rows whose files no longer exist.
    async fn forget_absent(&self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.store.node.contents_after(after, 500).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.digest);
            let absent: Vec<_> = page.into_iter().filter(|content| !self.disk.has(content.digest)).collect();
            if !absent.is_empty() {
                let digests: Vec<Digest> = absent.iter().map(|content| content.digest).collect();
                self.store.node.forget_contents(&digests).await?;
                self.usage.removed(absent.iter().map(|content| content.size).sum());
            }
        }
    }
}

/// The record of a manifest with these bytes. An unreadable one has no parts.
fn manifest_content(digest: Digest, bytes: &Bytes, used_at: Timestamp) -> NewContent {
    match manifest_in(digest, bytes.clone()) {
        Some(manifest) => NewContent::manifest(&manifest, used_at),
        None => NewContent::unreadable_manifest(digest, bytes.len() as u64, used_at),
    }
}

/// The manifest that these bytes are, if they are one.
fn manifest_in(digest: Digest, bytes: Bytes) -> Option<Manifest> {
    Manifest::parse(bytes, None).and_then(|manifest| manifest.named(digest)).ok()
}

/// The result of an eviction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Freed {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// The number of files that stay because they, or content that is removed only with them, are in use.
    pub(super) in_use: u64,
    /// The number of files that the disk did not remove.
    pub(super) failed: u64,
}

/// Why no space could be reserved.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoRoom {
    #[error("the disk cannot store it: {0}")]
    Disk(String),
    #[error("everything else in the cache is in use")]
    InUse,
    #[error(
        "not enough evictable content: the rest is pinned, in use, part of this import, or from an offline upstream, of which an \
         import evicts only with --evict; raise cache.max_size"
    )]
    Kept,
    #[error("it exceeds the maximum cache size (cache.max_size, and for an import cache.high_watermark of it)")]
    TooLarge,
}

pub(super) fn percent(of: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(of) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}
