//! What repositories said and delivered: exact in memory, durable in the store.
//!
//! This process is the only writer, so memory may hold what the store says for as long as it likes: each write
//! invalidates what it changes. While the store cannot be written, facts wait in memory, are answered from there, and
//! are written as soon as it can be: a full disk stops no pull.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::oci::{Content, Digest, ImageName, Manifest, Tag};
use crate::runtime::{Clock, Readiness, Tasks};
use crate::store::{Store, StoreError};

/// The name under which `/readyz` speaks of the database.
const TOPIC: &str = "database";
/// How often facts that wait are tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How many facts may wait; beyond it the oldest are forgotten, and asked for again.
const MAX_WAITING: usize = 10_000;
/// How long tags are remembered in memory as names of a digest; the window of `tag_memory` moves on meanwhile.
const TAGS_TTL: Duration = Duration::from_secs(60);

/// A member or a manifest of a repository.
type Key = (ImageName, Digest);

/// The facts.
pub(super) struct Facts {
    store: Store,
    clock: Clock,
    tasks: Tasks,
    readiness: Readiness,
    tag_memory: SignedDuration,
    /// Moved on by every write, so that what was read before it is not kept after it.
    generation: AtomicU64,
    tags: moka::sync::Cache<(ImageName, Tag), (Digest, Timestamp)>,
    /// The media type of a manifest that the repository delivered.
    media_types: moka::sync::Cache<Key, Option<Arc<str>>>,
    /// The manifests that name a digest.
    naming: moka::sync::Cache<Key, Arc<[Digest]>>,
    known_tags: moka::sync::Cache<Key, Arc<[Tag]>>,
    waiting: Mutex<Vec<Fact>>,
}

/// Something that is to be written down.
#[derive(Clone)]
enum Fact {
    Manifest { name: ImageName, manifest: Arc<Manifest>, at: Timestamp },
    Tag { name: ImageName, tag: Tag, digest: Digest, at: Timestamp },
}

impl Facts {
    pub(super) fn new(
        store: Store,
        clock: Clock,
        tasks: Tasks,
        readiness: Readiness,
        tag_memory: SignedDuration,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            tasks,
            readiness,
            tag_memory,
            generation: AtomicU64::new(0),
            tags: moka::sync::Cache::new(50_000),
            media_types: moka::sync::Cache::new(100_000),
            naming: moka::sync::Cache::new(100_000),
            known_tags: moka::sync::Cache::builder().max_capacity(50_000).time_to_live(TAGS_TTL).build(),
            waiting: Mutex::default(),
        })
    }

    /// Moves on with every fact that is learnt.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The media type under which the repository delivered a manifest; `None` when it never did.
    pub(super) async fn media_type(&self, name: &ImageName, digest: Digest) -> Result<Option<Arc<str>>, StoreError> {
        let key = (name.clone(), digest);
        if let Some(known) = self.media_types.get(&key) {
            return Ok(known);
        }
        let read = async {
            // What waits may be written at any moment, so it is looked at first.
            match self.waiting_manifests(name, |m| m.digest == digest).first() {
                Some(manifest) => Ok(Some(manifest.media_type.as_str().into())),
                None => Ok(self.store.manifest(name, digest).await?.map(Into::into)),
            }
        };
        Box::pin(self.exact(&self.media_types, key, read)).await
    }

    /// The manifests of the repository that name a digest: indexes for a manifest, images for a blob.
    pub(super) async fn naming(&self, name: &ImageName, member: Digest) -> Result<Arc<[Digest]>, StoreError> {
        let key = (name.clone(), member);
        if let Some(known) = self.naming.get(&key) {
            return Ok(known);
        }
        let read = async {
            let names = |manifest: &Manifest| manifest.descriptors().any(|named| named.digest == member);
            let mut naming: Vec<Digest> = self.waiting_manifests(name, names).iter().map(|m| m.digest).collect();
            naming.extend(self.store.naming(name, member).await?);
            Ok(naming.into())
        };
        Box::pin(self.exact(&self.naming, key, read)).await
    }

    /// The tags through which a digest is known, its own and those of indexes that list it.
    pub(super) async fn known_tags(&self, name: &ImageName, digest: Digest) -> Result<Arc<[Tag]>, StoreError> {
        let key = (name.clone(), digest);
        if let Some(known) = self.known_tags.get(&key) {
            return Ok(known);
        }
        let read = async {
            let since = self.clock.now().saturating_sub(self.tag_memory).unwrap_or(Timestamp::MIN);
            let mut tags = self.waiting_tags(name, digest);
            let stored = self.store.tags_of(name, digest, since).await?;
            tags.extend(stored.into_iter().filter(|tag| !tags.contains(tag)).collect::<Vec<_>>());
            Ok(tags.into())
        };
        Box::pin(self.exact(&self.known_tags, key, read)).await
    }

    /// What a tag meant when it was last looked up, and when that was.
    pub(super) async fn tag(&self, name: &ImageName, tag: &Tag) -> Result<Option<(Digest, Timestamp)>, StoreError> {
        let key = (name.clone(), tag.clone());
        if let Some(known) = self.tags.get(&key) {
            return Ok(Some(known));
        }
        let before = self.generation.load(Ordering::Acquire);
        let known = self.store.tag(name, tag).await?;
        if let Some(known) = known {
            self.insert(&self.tags, &key, known, before);
        }
        Ok(known)
    }

    /// Writes down a manifest that the repository delivered, and what it names.
    pub(super) async fn learn_manifest(self: &Arc<Self>, name: &ImageName, manifest: &Arc<Manifest>) {
        let at = self.clock.now();
        self.learn(Fact::Manifest { name: name.clone(), manifest: manifest.clone(), at }).await;
        self.media_types.invalidate(&(name.clone(), manifest.digest));
        for member in manifest.descriptors() {
            let key = (name.clone(), member.digest);
            self.naming.invalidate(&key);
            self.known_tags.invalidate(&key);
        }
    }

    /// Writes down what a tag means now.
    pub(super) async fn learn_tag(self: &Arc<Self>, name: &ImageName, tag: &Tag, manifest: &Manifest) {
        let (digest, at) = (manifest.digest, self.clock.now());
        self.learn(Fact::Tag { name: name.clone(), tag: tag.clone(), digest, at }).await;
        self.tags.insert((name.clone(), tag.clone()), (digest, at));
        self.known_tags.invalidate(&(name.clone(), digest));
        if let Content::Index(children) = &manifest.content {
            for child in children {
                self.known_tags.invalidate(&(name.clone(), child.digest));
            }
        }
    }

    /// Forgets what a tag means: the upstream says that it is gone.
    pub(super) async fn forget_tag(&self, name: &ImageName, tag: &Tag) -> Result<(), StoreError> {
        let is_other = |fact: &Fact| !matches!(fact, Fact::Tag { name: n, tag: t, .. } if (n, t) == (name, tag));
        self.waiting().retain(is_other);
        let forgotten = self.store.forget_tag(name, tag).await;
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.tags.invalidate(&(name.clone(), tag.clone()));
        forgotten
    }

    /// Reads what is not in memory. A value that a write has overtaken is given, and not kept.
    async fn exact<K, V>(
        &self,
        memory: &moka::sync::Cache<K, V>,
        key: K,
        read: impl Future<Output = Result<V, StoreError>>,
    ) -> Result<V, StoreError>
    where
        K: Clone + Eq + std::hash::Hash + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        let before = self.generation.load(Ordering::Acquire);
        let value = read.await?;
        self.insert(memory, &key, value.clone(), before);
        Ok(value)
    }

    /// Keeps what was read at a generation, unless that has passed: a write moves it on before it invalidates.
    fn insert<K, V>(&self, memory: &moka::sync::Cache<K, V>, key: &K, value: V, generation: u64)
    where
        K: Clone + Eq + std::hash::Hash + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        if self.generation.load(Ordering::Acquire) != generation {
            return;
        }
        memory.insert(key.clone(), value);
        if self.generation.load(Ordering::Acquire) != generation {
            memory.invalidate(key);
        }
    }

    async fn learn(self: &Arc<Self>, fact: Fact) {
        // In order: what waits was learnt before.
        let written = match self.write_waiting().await {
            Ok(()) => self.write(&fact).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            self.put_off(fact, &error);
        }
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    async fn write(&self, fact: &Fact) -> Result<(), StoreError> {
        match fact {
            Fact::Manifest { name, manifest, at } => self.store.record_manifest(name, manifest, *at).await,
            Fact::Tag { name, tag, digest, at } => self.store.record_tag(name, tag, *digest, *at).await,
        }
    }

    fn put_off(self: &Arc<Self>, fact: Fact, error: &StoreError) {
        tracing::error!(%error, "what a registry said cannot be written down; it is kept in memory and tried again");
        self.readiness.degraded(TOPIC, Some(error.to_string()));
        let mut waiting = self.waiting();
        let is_first = waiting.is_empty();
        if waiting.len() == MAX_WAITING {
            waiting.remove(0);
        }
        waiting.push(fact);
        drop(waiting);
        if is_first {
            self.tasks.spawn(self.clone().retry());
        }
    }

    async fn retry(self: Arc<Self>) {
        while !self.waiting().is_empty() {
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.tasks.stopping() => return,
            }
            // It is said already that it fails.
            let _ = self.write_waiting().await;
        }
    }

    /// Writes what waits, the oldest first.
    async fn write_waiting(&self) -> Result<(), StoreError> {
        loop {
            let Some(fact) = self.waiting().first().cloned() else { return Ok(()) };
            self.write(&fact).await?;
            let mut waiting = self.waiting();
            // Another writer may have been here; writing the same fact twice changes nothing.
            if waiting.first().is_some_and(|first| first.is_same(&fact)) {
                waiting.remove(0);
            }
            if waiting.is_empty() {
                self.readiness.degraded(TOPIC, None);
                tracing::info!("the database can be written again; nothing was lost");
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Fact>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Manifests of a repository that wait to be written, the newest first.
    fn waiting_manifests(&self, name: &ImageName, is_wanted: impl Fn(&Manifest) -> bool) -> Vec<Arc<Manifest>> {
        let waiting = self.waiting();
        let found = waiting.iter().rev().filter_map(|fact| match fact {
            Fact::Manifest { name: known, manifest, .. } if known == name && is_wanted(manifest) => {
                Some(manifest.clone())
            }
            _ => None,
        });
        found.collect()
    }

    /// Tags that wait to be written, of a digest or of an index that waits and lists it.
    fn waiting_tags(&self, name: &ImageName, digest: Digest) -> Vec<Tag> {
        let lists = |manifest: &Manifest| manifest.children().iter().any(|child| child.digest == digest);
        let indexes: Vec<Digest> = self.waiting_manifests(name, lists).iter().map(|m| m.digest).collect();
        let waiting = self.waiting();
        let found = waiting.iter().rev().filter_map(|fact| match fact {
            Fact::Tag { name: known, tag, digest: meant, .. }
                if known == name && (*meant == digest || indexes.contains(meant)) =>
            {
                Some(tag.clone())
            }
            _ => None,
        });
        found.collect()
    }
}

impl Fact {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Manifest { manifest: one, name: n, at: a }, Self::Manifest { manifest: two, name: m, at: b }) => {
                Arc::ptr_eq(one, two) && n == m && a == b
            }
            (Self::Tag { name: n, tag: t, digest: d, at: a }, Self::Tag { name: m, tag: u, digest: e, at: b }) => {
                n == m && t == u && d == e && a == b
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;

    async fn facts(dir: &std::path::Path) -> (Arc<Facts>, Store) {
        let store = Store::open(dir).await.unwrap();
        let day = SignedDuration::from_hours(24);
        (Facts::new(store.clone(), Clock::system(), Tasks::new(), Readiness::new(), day), store)
    }

    fn manifest() -> Arc<Manifest> {
        Arc::new(Manifest::parse(NAMES.as_bytes().to_vec().into(), None).unwrap())
    }

    #[tokio::test]
    async fn a_look_up_that_a_write_overtakes_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (facts, store) = facts(dir.path()).await;
        let (name, manifest): (ImageName, _) =
            (ImageName { host: "a.io".parse().unwrap(), repository: "x".parse().unwrap() }, manifest());
        let member = manifest.descriptors().next().unwrap().digest;
        // The look-up has read that nothing names it, and then the manifest comes.
        let (facts_too, name_too, written) = (facts.clone(), name.clone(), manifest.clone());
        let read = async {
            let empty: Arc<[Digest]> = store.naming(&name, member).await?.into();
            facts_too.learn_manifest(&name_too, &written).await;
            Ok(empty)
        };
        let stale = facts.exact(&facts.naming, (name.clone(), member), read).await.unwrap();
        assert!(stale.is_empty());
        assert_eq!(&*facts.naming(&name, member).await.unwrap(), [manifest.digest]);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_known_all_the_same_and_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let (facts, store) = facts(dir.path()).await;
        let name = ImageName { host: "a.io".parse().unwrap(), repository: "x".parse().unwrap() };
        let (manifest, tag): (_, Tag) = (manifest(), "1".parse().unwrap());
        let member = manifest.descriptors().next().unwrap().digest;
        assert!(facts.naming(&name, member).await.unwrap().is_empty());
        store.forbid_writing(true).await;
        facts.learn_manifest(&name, &manifest).await;
        facts.learn_tag(&name, &tag, &manifest).await;
        assert!(facts.readiness.report().degraded.contains_key(TOPIC));
        assert_eq!(&*facts.naming(&name, member).await.unwrap(), [manifest.digest]);
        assert!(facts.media_type(&name, manifest.digest).await.unwrap().is_some());
        assert_eq!(&*facts.known_tags(&name, manifest.digest).await.unwrap(), std::slice::from_ref(&tag));
        assert!(store.tag(&name, &tag).await.unwrap().is_none());
        store.forbid_writing(false).await;
        facts.write_waiting().await.unwrap();
        assert!(facts.readiness.report().degraded.is_empty());
        assert_eq!(store.tag(&name, &tag).await.unwrap().unwrap().0, manifest.digest);
        assert_eq!(store.naming(&name, member).await.unwrap(), [manifest.digest]);
    }
}
