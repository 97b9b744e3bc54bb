//! What a collection of garbage would remove now.
//!
//! It follows the steps of `collect` and `evict` with rows alone, and removes nothing. Content that is used or fetched
//! in the meantime changes the outcome.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::contents::ContentKind;
use super::evict::percent;
use super::{Cache, CacheError, CacheInner};
use crate::oci::Digest;
use crate::store::{ListedContent, NamedContent, StoreError, StoredContent};

/// The maximum number of manifests and blobs that are listed.
const MAX_LISTED: usize = 1000;
/// How many manifests are read at a time.
const PAGE: u32 = 500;
/// How often that is done at most.
const MAX_PAGES: usize = 100;

/// Why content would be removed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RemovalCause {
    /// It was not used for `cache.max_age`.
    Expired,
    /// It is among the least recently used, and the cache is too large or the disk too full.
    Space,
    /// No manifest on disk names it.
    Unnamed,
}

/// A manifest that would be removed, with the blobs that nothing else needs, or a blob that no manifest names.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ForecastContent {
    /// The digest of the manifest or of the blob.
    pub digest: Digest,
    /// What it is.
    pub kind: ContentKind,
    /// The size of everything that goes with it, in bytes.
    pub bytes: u64,
    /// A repository that delivered it, with its registry, if one is known.
    pub repository: Option<String>,
    /// When it was used last.
    pub used: Timestamp,
    /// Why it would be removed.
    pub cause: RemovalCause,
}

/// What a collection would remove.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Forecast {
    /// The number of files.
    pub files: u64,
    /// Their size in bytes.
    pub freed_bytes: u64,
    /// What would be removed, in this order: at most 1000.
    pub contents: Vec<ForecastContent>,
    /// Whether more would be removed than is listed.
    pub more: bool,
}

impl Cache {
    /// What [`collect`](Self::collect) would remove from disk. The facts that it would forget are not counted.
    ///
    /// # Errors
    /// The database failed.
    pub async fn forecast(&self) -> Result<Forecast, CacheError> {
        let inner = &self.inner;
        // It takes many queries, and anybody may ask.
        let _one = inner.forecasting.lock().await;
        {
            let _turn = inner.evicting.lock().await;
            inner.write_down_use().await.map_err(CacheError::store)?;
        }
        // Evictions do not wait for the rest, which any client may request.
        let mut forecast = DryRun::new(inner).run().await.map_err(CacheError::store)?;
        let digests: Vec<Digest> = forecast.contents.iter().map(|content| content.digest).collect();
        let repositories = inner.store.facts.repositories_of(&digests, 1).await.map_err(CacheError::store)?;
        for (content, mut known) in forecast.contents.iter_mut().zip(repositories) {
            content.repository = known.pop();
        }
        Ok(forecast)
    }
}

/// An index whose manifests are still there.
struct WaitingIndex {
    index: ListedContent,
    children: usize,
}

/// A collection that removes nothing.
struct DryRun<'a> {
    inner: &'a CacheInner,
    /// What was not used since then has expired.
    expiry: Option<Timestamp>,
    /// How many bytes must be freed.
    needed: u64,
    /// The manifests that would be gone.
    gone: HashSet<Digest>,
    /// How many of the manifests that name a blob would still be there, of blobs that several name.
    names: HashMap<Digest, u64>,
    waiting: Vec<WaitingIndex>,
    /// The waiting indexes that list a manifest.
    listing: HashMap<Digest, Vec<usize>>,
    found: Forecast,
}

impl<'a> DryRun<'a> {
    fn new(inner: &'a CacheInner) -> Self {
        let config = &inner.config;
        let expiry = config.max_age.map(|age| inner.clock.ago(age));
        let above_low = inner.usage.stored().saturating_sub(percent(config.max_size, config.low_watermark));
        let excess = inner.excess(0);
        let needed = above_low.max(if excess > 0 { excess + inner.slack() } else { 0 });
        Self {
            inner,
            expiry,
            needed,
            gone: HashSet::new(),
            names: HashMap::new(),
            waiting: Vec::new(),
            listing: HashMap::new(),
            found: Forecast::default(),
        }
    }

    async fn run(mut self) -> Result<Forecast, StoreError> {
        for blob in self.inner.store.node.unnamed_blobs(u32::MAX).await? {
            if !self.inner.is_in_use(&[blob]) {
                self.remove(&blob, ContentKind::Blob, &[blob], RemovalCause::Unnamed);
            }
        }
        let mut after = None;
        for _ in 0..MAX_PAGES {
            let page = self.inner.store.node.manifests_by_use(after, PAGE).await?;
            for (manifest, position) in &page {
                if self.cause(&manifest.content).is_none() {
                    return Ok(self.found);
                }
                after = Some(*position);
                self.consider(*manifest).await?;
            }
            if page.is_empty() {
                return Ok(self.found);
            }
        }
        self.found.more = true;
        Ok(self.found)
    }

    /// Why a manifest would be removed; `None` if it would stay.
    fn cause(&self, manifest: &StoredContent) -> Option<RemovalCause> {
        match self.expiry {
            Some(before) if manifest.used_at < before => Some(RemovalCause::Expired),
            _ => (self.found.freed_bytes < self.needed).then_some(RemovalCause::Space),
        }
    }

    /// Removes a manifest, and then the indexes that were only waiting for it, or lets it wait for what it lists.
    async fn consider(&mut self, manifest: ListedContent) -> Result<(), StoreError> {
        let mut next = vec![manifest];
        while let Some(manifest) = next.pop() {
            let (content, Some(cause)) = (manifest.content, self.cause(&manifest.content)) else { continue };
            let named = self.inner.store.node.named_by(content.digest).await?;
            let is_there = |one: &&NamedContent| one.content.is_manifest && !self.gone.contains(&one.content.digest);
            let children: Vec<Digest> = named.iter().filter(is_there).map(|one| one.content.digest).collect();
            if !children.is_empty() {
                let waiting = WaitingIndex { index: manifest, children: children.len() };
                children.into_iter().for_each(|child| self.listing.entry(child).or_default().push(self.waiting.len()));
                self.waiting.push(waiting);
                continue;
            }
            let blobs: Vec<NamedContent> = named.into_iter().filter(|one| !one.content.is_manifest).collect();
            let own = blobs.iter().filter(|blob| self.names_left(blob) <= 1).map(|blob| blob.content);
            let parts: Vec<StoredContent> = std::iter::once(content).chain(own).collect();
            if self.inner.is_in_use(&parts) {
                continue;
            }
            for blob in blobs.iter().filter(|blob| blob.names > 1) {
                let left = self.names_left(blob).saturating_sub(1);
                self.names.insert(blob.content.digest, left);
            }
            self.remove(&content, ContentKind::of(&content, manifest.is_index), &parts, cause);
            self.gone.insert(content.digest);
            for number in self.listing.remove(&content.digest).unwrap_or_default() {
                let waiting = &mut self.waiting[number];
                waiting.children -= 1;
                next.extend((waiting.children == 0).then_some(waiting.index));
            }
        }
        Ok(())
    }

    /// How many manifests that name a blob would still be there.
    fn names_left(&self, blob: &NamedContent) -> u64 {
        self.names.get(&blob.content.digest).copied().unwrap_or(blob.names)
    }

    fn remove(&mut self, what: &StoredContent, kind: ContentKind, parts: &[StoredContent], cause: RemovalCause) {
        let bytes: u64 = parts.iter().map(|part| part.size).sum();
        self.found.files += parts.len() as u64;
        self.found.freed_bytes += bytes;
        if self.found.contents.len() >= MAX_LISTED {
            self.found.more = true;
            return;
        }
        let StoredContent { digest, used_at, .. } = *what;
        self.found.contents.push(ForecastContent { digest, kind, bytes, repository: None, used: used_at, cause });
    }
}
