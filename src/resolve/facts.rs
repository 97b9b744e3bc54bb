//! Facts about what repositories reported and delivered: consistent in memory, durable in the store.
//!
//! This process is the only writer, so memory can keep values from the store without a time limit. Each write
//! invalidates the values that it changes, and so does the deletion of facts in the store. Facts about a manifest stay
//! in bounded memory (`recent`) until a request is admitted to the manifest, and are then written. While the store
//! cannot be written, facts wait there too and are written as soon as possible. A disk that is full or hangs therefore
//! does not stop pulls.

mod images;
mod import;
mod naming;
mod signed;
mod tag_filter;
mod writing;

use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::memory::{MemberKey, Memory};
use super::recent::Recent;
use crate::oci::{Content, Digest, ImageName, Manifest, Tag};
use crate::runtime::{Bounded, Clock, Epoch, LogLimit, Moment, Readiness, Tasks};
use crate::store::{FactStore, StoreError, StoredTag};
pub(super) use tag_filter::TagFilter;

/// The known facts about repositories.
pub(super) struct Facts {
    store: FactStore,
    clock: Clock,
    tasks: Tasks,
    readiness: Readiness,
    epoch: Epoch,
    tag_memory: Duration,
    /// Every write advances this before it invalidates memory, so that a value that was read before a write is not kept
    /// after it.
    writes: Epoch,
    /// The count of deletions in the store that memory reflects.
    followed: AtomicU64,
    memory: Memory,
    recent: Mutex<Recent>,
    /// Whether a task is retrying to write the waiting facts.
    is_retrying: Mutex<bool>,
    /// Each request can cause a failure.
    failures: LogLimit,
    /// Whether the store has not answered a write in time.
    hangs: AtomicBool,
}

/// The state of the store at the time of a read.
struct ReadAt {
    writes: Moment,
    forgettings: u64,
}

/// A manifest that the repository delivered.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) media_type: Arc<str>,
    /// Whether this fact is in the store.
    is_stored: bool,
}

/// The digest of an index, followed by a child in it that was never fetched.
pub(super) type UnseenChild = (Digest, Digest);

impl Facts {
    pub(super) fn new(
        store: FactStore,
        clock: Clock,
        tasks: Tasks,
        readiness: Readiness,
        epoch: Epoch,
        tag_memory: Duration,
    ) -> Arc<Self> {
        readiness.degraded(writing::TOPIC, None);
        let facts = Arc::new(Self {
            followed: AtomicU64::new(store.forgettings()),
            store,
            clock,
            tasks,
            readiness,
            epoch,
            tag_memory,
            writes: Epoch::new(),
            memory: Memory::new(),
            recent: Mutex::default(),
            is_retrying: Mutex::default(),
            failures: LogLimit::new(5, Duration::from_secs(60)),
            hangs: AtomicBool::new(false),
        });
        facts.tasks.spawn(facts.clone().read_tags());
        facts
    }

    /// The current state, for the facts of a repository.
    fn now(&self, name: &ImageName) -> ReadAt {
        ReadAt { writes: self.writes.moment(name), forgettings: self.store.forgettings() }
    }

    fn is_now(&self, at: &ReadAt) -> bool {
        self.writes.is_now(&at.writes) && self.store.forgettings() == at.forgettings
    }

    /// The memory, after removing everything if the store has deleted facts.
    fn memory(&self) -> &Memory {
        let forgettings = self.store.forgettings();
        if self.followed.load(Ordering::Acquire) != forgettings {
            self.memory.clear();
            self.followed.store(forgettings, Ordering::Release);
        }
        &self.memory
    }

    /// The known facts about a manifest that the repository delivered; `None` if it never delivered the manifest.
    pub(super) async fn manifest(&self, name: &ImageName, digest: Digest) -> Result<Option<Known>, StoreError> {
        let (memory, key) = (self.memory(), (name.clone(), digest));
        if let Some(known) = memory.manifests.get(&key) {
            return Ok(known);
        }
        let read = async {
            // A fact that is being written leaves `recent` only after the write, so `recent` is checked first.
            if let Some(entry) = self.recent().get(name, digest) {
                let media_type = entry.manifest.media_type.as_str().into();
                return Ok(Some(Known { media_type, is_stored: entry.is_stored }));
            }
            let stored = self.store.manifest(name, digest).await?;
            Ok(stored.map(|media_type| Known { media_type: media_type.into(), is_stored: true }))
        };
        Box::pin(self.exact(&memory.manifests, name, key, read)).await
    }

    /// The known tags of a digest: its own tags and those of the indexes that list it.
    pub(super) async fn known_tags(&self, name: &ImageName, digest: Digest) -> Result<Arc<[Tag]>, StoreError> {
        let (memory, key) = (self.memory(), (name.clone(), digest));
        if let Some(known) = memory.known_tags(&key) {
            return Ok(known);
        }
        let read = async {
            let since = self.clock.ago(self.tag_memory);
            let mut tags = self.recent().tags_of(name, digest);
            let stored = self.store.tags_of(name, digest, since).await?;
            tags.extend(stored.into_iter().filter(|tag| !tags.contains(tag)).collect::<Vec<_>>());
            Ok((tags.into(), Instant::now()))
        };
        Ok(Box::pin(self.exact(&memory.known_tags, name, key, read)).await?.0)
    }

    /// The digest of a tag in its last lookup, and the time of that lookup.
    pub(super) async fn tag(&self, name: &ImageName, tag: &Tag) -> Result<Option<(Digest, Timestamp)>, StoreError> {
        // Taken first, because what is learned after memory was searched must not be overwritten.
        let before = self.now(name);
        if let Some(known) = self.tag_in_memory(name, tag) {
            return Ok(Some(known));
        }
        if !self.memory.tag_filter.may_have(name, tag) {
            return Ok(None);
        }
        let (memory, key) = (self.memory(), (name.clone(), tag.clone()));
        // Also keeps the facts about the manifest, which are requested next.
        let Some(StoredTag { digest, checked_at, media_type }) = Box::pin(self.store.tag(name, tag)).await? else {
            return Ok(None);
        };
        self.insert(&memory.tags, &key, (digest, checked_at), &before);
        if let Some(media_type) = media_type {
            let known = Some(Known { media_type: media_type.into(), is_stored: true });
            self.insert(&memory.manifests, &(name.clone(), digest), known, &before);
        }
        Ok(Some((digest, checked_at)))
    }

    /// The same without reading the store: `None` for a tag that is only there.
    pub(super) fn tag_in_memory(&self, name: &ImageName, tag: &Tag) -> Option<(Digest, Timestamp)> {
        let (memory, key) = (self.memory(), (name.clone(), tag.clone()));
        if let Some(known) = memory.tags.get(&key) {
            return Some(known);
        }
        let before = self.now(name);
        let known = self.recent().tag(name, tag)?;
        self.insert(&memory.tags, &key, known, &before);
        Some(known)
    }

    /// The children of an index that were served here, in the order of the index.
    pub(super) async fn pulled_children(&self, name: &ImageName, index: &Manifest) -> Result<Vec<Digest>, StoreError> {
        let (memory, before) = (self.memory(), self.now(name));
        let children = || index.children().iter().map(|child| child.digest);
        let is_open = |child: &Digest| memory.pulled.get(&(name.clone(), *child)).is_none();
        let open: Vec<Digest> = children().filter(is_open).collect();
        let mut pulled: Vec<Digest> = Vec::new();
        if !open.is_empty() {
            let stored = Box::pin(self.store.manifests_among(name, &open)).await?;
            for child in open {
                let in_store = stored.iter().any(|(digest, is_pulled)| *is_pulled && *digest == child);
                let is_pulled = in_store || self.recent().get(name, child).is_some_and(|entry| entry.pulled.is_some());
                self.insert(&memory.pulled, &(name.clone(), child), is_pulled, &before);
                pulled.extend(is_pulled.then_some(child));
            }
        }
        let is_pulled =
            |child: &Digest| pulled.contains(child) || memory.pulled.get(&(name.clone(), *child)).unwrap_or_default();
        Ok(children().filter(is_pulled).collect())
    }

    /// Children that indexes of the repository list and that were never fetched, newest index first, at most `limit`.
    pub(super) async fn unseen_children(&self, name: &ImageName, limit: u32) -> Result<Arc<[UnseenChild]>, StoreError> {
        let (memory, key) = (self.memory(), name.clone());
        if let Some((of, known)) = memory.unseen.get(&key)
            && of == limit
        {
            return Ok(known);
        }
        let read = async {
            let mut unseen = self.unseen_of_recent(name, limit as usize).await?;
            // Some children that are unknown to the store are in memory.
            let in_memory = u32::try_from(self.recent().manifests(name, |_| true).len()).unwrap_or(u32::MAX);
            for (index, child) in self.store.unseen_children(name, limit.saturating_add(in_memory)).await? {
                let is_new = !unseen.contains(&(index, child)) && self.recent().get(name, child).is_none();
                unseen.extend(is_new.then_some((index, child)));
            }
            unseen.truncate(limit as usize);
            Ok((limit, unseen.into()))
        };
        Ok(Box::pin(self.exact(&memory.unseen, name, key, read)).await?.1)
    }

    /// Unseen children of indexes that are not in the store.
    async fn unseen_of_recent(&self, name: &ImageName, limit: usize) -> Result<Vec<UnseenChild>, StoreError> {
        let indexes = self.recent().manifests(name, |manifest| !manifest.children().is_empty());
        let mut unseen = Vec::new();
        for index in indexes {
            let children: Vec<Digest> = index.children().iter().map(|child| child.digest).collect();
            let stored = self.store.manifests_among(name, &children).await?;
            let recent = self.recent();
            for child in children {
                let is_seen = stored.iter().any(|(digest, _)| *digest == child) || recent.get(name, child).is_some();
                unseen.extend((!is_seen).then_some((index.digest, child)));
                if unseen.len() == limit {
                    return Ok(unseen);
                }
            }
        }
        Ok(unseen)
    }

    /// Learns that the repository delivered a manifest, and which digests it references. These facts stay in memory
    /// until a request is [admitted](Self::admitted) to the manifest. If they are in the store already, because only
    /// the content was missing, they are written again then: rarer than new manifests, for which the question would be
    /// vain.
    pub(super) fn learn_manifest(&self, name: &ImageName, manifest: &Arc<Manifest>) {
        self.recent().note(name, manifest, self.clock.now(), |_| {});
        self.learnt(name, manifest);
    }

    /// Writes the references of a manifest, because a request was admitted to it, and with them that it was pulled, if
    /// `is_pull`. Costs only a lookup if all of this was already written. A pull alone does not delay the request.
    pub(super) async fn admitted(self: &Arc<Self>, name: &ImageName, manifest: &Arc<Manifest>, is_pull: bool) {
        let is_waiting = || self.recent().get(name, manifest.digest).is_some_and(|entry| entry.is_due);
        let is_pull = is_pull && self.memory().pulls.is_new(&(name, manifest.digest));
        if !self.is_stored(name, manifest.digest).await && !is_waiting() {
            let at = is_pull.then(|| self.clock.now());
            self.keep(name, manifest, false, |entry| entry.pulled = entry.pulled.max(at)).await;
        } else if is_pull {
            let (facts, name, manifest) = (self.clone(), name.clone(), manifest.clone());
            self.tasks.spawn(async move { facts.note_pull(&name, &manifest).await });
        }
    }

    /// Learns the current digest of a tag. It is written together with its manifest. `is_known` is whether the tag had
    /// a digest before.
    pub(super) async fn learn_tag(
        self: &Arc<Self>,
        name: &ImageName,
        tag: &Tag,
        manifest: &Arc<Manifest>,
        is_known: bool,
    ) {
        let (digest, at) = (manifest.digest, self.clock.now());
        self.recent().forget_tag(name, tag);
        if self.is_stored(name, digest).await {
            self.keep(name, manifest, true, |entry| entry.tag(tag, at)).await;
        } else {
            self.recent().note(name, manifest, at, |entry| entry.tag(tag, at));
            self.learnt(name, manifest);
            if is_known && let Err(error) = self.move_tag(name, tag, digest, at).await {
                tracing::warn!(%error, "the digest of a tag cannot be written; it is kept only in memory");
            }
        }
        self.memory().tags.insert((name.clone(), tag.clone()), (digest, at));
        self.epoch.advance_part(name);
    }

    /// Records that a manifest was served.
    pub(super) async fn note_pull(self: &Arc<Self>, name: &ImageName, manifest: &Arc<Manifest>) {
        let at = self.clock.now();
        let is_stored = self.is_stored(name, manifest.digest).await;
        self.keep(name, manifest, is_stored, |entry| entry.pulled = Some(at)).await;
    }

    /// Forgets the digest of a tag, because the upstream reports that the tag does not exist.
    pub(super) async fn forget_tag(self: &Arc<Self>, name: &ImageName, tag: &Tag) -> Result<(), StoreError> {
        self.recent().forget_tag(name, tag);
        let (facts, of, gone, now) = (self.clone(), name.clone(), tag.clone(), self.clock.now());
        let write = async move {
            let forgotten = facts.store.forget_tag(&of, &gone, now).await;
            // Even if no caller is waiting any more: data read before the write must not stay in memory.
            facts.forgot_tag(&of, &gone);
            forgotten
        };
        let forgotten = self.in_time(write).await;
        self.forgot_tag(name, tag);
        forgotten.unwrap_or(Err(writing::late()))
    }

    fn forgot_tag(&self, name: &ImageName, tag: &Tag) {
        self.writes.advance_part(name);
        self.memory().tags.remove(&(name.clone(), tag.clone()));
        self.epoch.advance_part(name);
    }

    /// Whether the store contains the fact that the repository delivered a manifest. If it cannot be read, the fact is
    /// written again.
    async fn is_stored(&self, name: &ImageName, digest: Digest) -> bool {
        self.manifest(name, digest).await.ok().flatten().is_some_and(|known| known.is_stored)
    }

    /// Invalidates memory after a change: affected values are removed, and values that were read before the change are
    /// not kept.
    fn learnt(&self, name: &ImageName, manifest: &Manifest) {
        self.writes.advance_part(name);
        let (memory, own) = (&self.memory, (name.clone(), manifest.digest));
        memory.manifests.remove(&own);
        memory.known_tags.remove(&own);
        memory.pulled.remove(&own);
        memory.unseen.remove(name);
        let is_index = matches!(manifest.content, Content::Index(_));
        for member in manifest.descriptors() {
            let key: MemberKey = (name.clone(), member.digest);
            memory.naming.remove(&key);
            if is_index {
                memory.known_tags.remove(&key);
            }
        }
        self.epoch.advance_part(name);
    }

    /// Reads a value that is not in memory. If a write has happened since the start of the read, the value is returned
    /// but not kept.
    async fn exact<K, V>(
        &self,
        memory: &Bounded<K, V>,
        name: &ImageName,
        key: K,
        read: impl Future<Output = Result<V, StoreError>>,
    ) -> Result<V, StoreError>
    where
        K: Clone + Eq + Hash,
        V: Clone,
    {
        let before = self.now(name);
        let value = read.await?;
        self.insert(memory, &key, value.clone(), &before);
        Ok(value)
    }

    /// Keeps a value unless a write has happened since it was read. A write advances the epoch before it invalidates
    /// memory.
    fn insert<K, V>(&self, memory: &Bounded<K, V>, key: &K, value: V, read: &ReadAt)
    where
        K: Clone + Eq + Hash,
        V: Clone,
    {
        if !self.is_now(read) {
            return;
        }
        memory.insert(key.clone(), value);
        if !self.is_now(read) {
            memory.remove(key);
            // A decision that began after the write may have read the old value in the meantime.
            self.epoch.advance();
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
