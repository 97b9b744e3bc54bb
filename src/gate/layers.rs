//! Blobs read for proofs, through the cache: what is read here is found by the pull that follows, and never read twice.
//!
//! What is found depends on verified bytes alone, so it is remembered by the layer's digest for ever, for all manifests
//! and repositories that name the layer. Each upstream has turns of its own: a slow one holds up nobody else's.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::Target;
use super::kind::is_image_config;
use crate::cache::{Cache, CacheError, ContentBody, Opened, Transfer};
use crate::oci::{Algorithm, Descriptor, Digest, Hasher, Host, MAX_MANIFEST, looks_like_manifest, sniff, unpack};
use crate::policy::Observed;
use crate::runtime::{Clock, Tasks};
use crate::store::{Memo, Store};
use crate::upstream;

/// How long one read may take.
const MAX_TIME: Duration = Duration::from_secs(300);
/// How many reads of one kind run at one upstream at the same time.
const TURNS: usize = 4;
/// Pieces on their way from the cache to the thread that unpacks them.
const QUEUE: usize = 4;

/// Reads layers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Layers {
    cache: Arc<Cache>,
    tasks: Tasks,
    clock: Clock,
    archives: Arc<Memo<Found<bool>>>,
    unpacked: Arc<Memo<Found<Option<Digest>>>>,
    /// Blobs that were looked into and are no manifests.
    plain: moka::sync::Cache<Digest, ()>,
    turns: Turns,
}

/// What one read found.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) enum Found<T> {
    Known(T),
    /// The bytes could not be read now.
    #[serde(skip)]
    Unread(CacheError),
}

impl<T: Clone> Found<T> {
    /// Bytes that could not be read are asked for again the next time.
    pub(super) fn observed(read: Result<T, CacheError>, clock: &Clock) -> Observed<Self> {
        let at = clock.now();
        match read {
            Ok(value) => Observed { value: Self::Known(value), at, until: None },
            Err(error) => Observed { value: Self::Unread(error), at, until: Some(at) },
        }
    }

    pub(super) fn is_known(&self) -> bool {
        matches!(self, Self::Known(_))
    }

    /// What a memo gave; `None` is work that broke down.
    pub(super) fn known(found: Option<Arc<Observed<Self>>>) -> Result<T, CacheError> {
        match found.map(|found| found.value.clone()) {
            Some(Self::Known(value)) => Ok(value),
            Some(Self::Unread(error)) => Err(error),
            None => Err(CacheError::Busy),
        }
    }
}

impl Layers {
    pub(super) fn new(cache: Arc<Cache>, store: &Store, clock: &Clock, tasks: &Tasks) -> Self {
        Self {
            cache,
            archives: Arc::new(Memo::new("layer-of-image-1", store.clone(), clock.clone(), tasks.clone())),
            unpacked: Arc::new(Memo::new("layer-diff-id-1", store.clone(), clock.clone(), tasks.clone())),
            tasks: tasks.clone(),
            clock: clock.clone(),
            plain: moka::sync::Cache::new(50_000),
            turns: Turns::default(),
        }
    }

    /// A turn at this upstream for work of one kind. Turns of different kinds do not wait for each other.
    pub(super) async fn turn(&self, what: &'static str, target: &Target) -> Option<OwnedSemaphorePermit> {
        self.turns.take(what, target).await
    }

    /// A small blob, whole and verified. The caller bounds its size.
    pub(super) async fn whole(&self, target: &Target, blob: &Descriptor) -> Result<Bytes, CacheError> {
        let _turn = self.turns.take("whole", target).await;
        let read = async {
            let mut whole = Vec::with_capacity(usize::try_from(blob.size).unwrap_or_default());
            let mut pieces = self.open(target, blob).await?;
            while let Some(piece) = pieces.next().await? {
                whole.extend_from_slice(&piece);
            }
            Ok(whole.into())
        };
        in_time(target, read).await
    }

    /// Whether a layer is an archive that some runtime unpacks, or may be one, or an image's configuration.
    pub(super) async fn is_of_an_image(&self, target: &Target, layer: &Descriptor) -> Result<bool, CacheError> {
        let (layers, on, blob) = (self.clone(), target.clone(), layer.clone());
        let gather = || async move { Found::observed(layers.sniff(&on, &blob).await, &layers.clock) };
        Found::known(self.archives.obtain(layer.digest.to_string().into(), Found::is_known, gather).await)
    }

    async fn sniff(&self, target: &Target, layer: &Descriptor) -> Result<bool, CacheError> {
        let _turn = self.turns.take("sniff", target).await;
        let read = async {
            let mut prefix = Vec::with_capacity(sniff::SNIFF_LENGTH);
            let mut pieces = self.open(target, layer).await?;
            // To the end, although the first bytes decide: they alone have no digest.
            while let Some(piece) = pieces.next().await? {
                let room = sniff::SNIFF_LENGTH - prefix.len();
                prefix.extend_from_slice(&piece[..piece.len().min(room)]);
            }
            Ok(sniff::is_tar_like(&prefix) || is_image_config(&prefix))
        };
        in_time(target, read).await
    }

    /// The digest of what a layer unpacks to; `None` where it cannot be unpacked.
    pub(super) async fn diff_id(
        &self,
        target: &Target,
        layer: &Descriptor,
        algorithm: Algorithm,
    ) -> Result<Option<Digest>, CacheError> {
        let (layers, on, blob) = (self.clone(), target.clone(), layer.clone());
        let gather = || async move { Found::observed(layers.unpack(&on, &blob, algorithm).await, &layers.clock) };
        let key = format!("{} {}", layer.digest, algorithm.name()).into();
        Found::known(self.unpacked.obtain(key, Found::is_known, gather).await)
    }

    async fn unpack(
        &self,
        target: &Target,
        layer: &Descriptor,
        algorithm: Algorithm,
    ) -> Result<Option<Digest>, CacheError> {
        let _turn = self.turns.take("unpack", target).await;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let pieces = Pieces { receiver, piece: Bytes::new() };
        let limit = unpack::limit(layer.size);
        let unpacking = self.tasks.spawn_blocking(move || unpack::diff_id(pieces, algorithm, limit).ok());
        let read = in_time(target, async {
            let mut pieces = self.open(target, layer).await?;
            while let Some(piece) = pieces.next().await? {
                // A thread that cannot unpack it takes no more. The rest is read all the same: the pull wants it.
                let _ = sender.send(Ok(piece)).await;
            }
            Ok(())
        });
        let read = read.await;
        if read.is_err() {
            // Half a layer must not pass for a whole one.
            let _ = sender.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
        }
        drop(sender);
        let unpacked = unpacking.await.unwrap_or(None);
        read.map(|()| unpacked)
    }

    /// Content that is about to be served as a blob; `None` where its bytes are those of a manifest, which is served as
    /// one or not at all. It does not matter whether the gate has seen that manifest yet.
    pub(super) async fn unless_manifest(
        &self,
        target: &Target,
        blob: Digest,
        content: Opened,
    ) -> Result<Option<Opened>, CacheError> {
        if content.size() > MAX_MANIFEST as u64 || self.plain.contains_key(&blob) {
            return Ok(Some(content));
        }
        // Content past the disk comes once, so all of it is kept.
        let is_relayed = matches!(content, Opened::Relayed(_));
        let bytes = in_time(target, self.start_of(target, &content, is_relayed)).await?;
        if looks_like_manifest(&bytes) {
            return Ok(None);
        }
        self.plain.insert(blob, ());
        Ok(Some(if is_relayed { Opened::Memory(bytes.into()) } else { content }))
    }

    /// The first piece of some content, or all of it where that may be a JSON object or is wanted.
    async fn start_of(&self, target: &Target, content: &Opened, all: bool) -> Result<Vec<u8>, CacheError> {
        let (mut body, mut bytes, mut turn) = (content.read(0, content.size(), Transfer::Copied), Vec::new(), None);
        while all || may_be_object(&bytes) {
            // Whoever needs one piece alone waits for nobody who keeps more in memory.
            if turn.is_none() && (all || !bytes.is_empty()) {
                turn = self.turns.take("manifest", target).await;
            }
            let Some(frame) = body.frame().await else { break };
            bytes.extend_from_slice(&frame.map_err(|error| broken(&error))?.into_data().unwrap_or_default());
        }
        Ok(bytes)
    }

    async fn open(&self, target: &Target, blob: &Descriptor) -> Result<Reading, CacheError> {
        let opened = self.cache.open_for_judging(&target.name, &target.upstream, blob.digest, blob.size).await?;
        Ok(Reading {
            body: opened.read(0, blob.size, Transfer::Copied),
            hasher: Some(Hasher::new(blob.digest.algorithm())),
            digest: blob.digest,
        })
    }
}

/// A blob that is read to its end.
struct Reading {
    body: ContentBody,
    /// `None` once the end was reached.
    hasher: Option<Hasher>,
    digest: Digest,
}

impl Reading {
    /// The next piece; `None` at the end, when all of it is verified.
    async fn next(&mut self) -> Result<Option<Bytes>, CacheError> {
        if let Some(frame) = self.body.frame().await {
            let piece = frame.map_err(|error| broken(&error))?.into_data().unwrap_or_default();
            self.hasher.iter_mut().for_each(|hasher| hasher.update(&piece));
            return Ok(Some(piece));
        }
        match self.hasher.take().map(Hasher::finish) {
            Some(found) if found != self.digest => {
                Err(upstream::Error::Digest(format!("the bytes are not those of {}", self.digest)).into())
            }
            _ => Ok(None),
        }
    }
}

/// Whether text that begins so may be a JSON object.
fn may_be_object(start: &[u8]) -> bool {
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    text.is_empty() || text.starts_with(b"{") || b"\xef\xbb\xbf".starts_with(start)
}

async fn in_time<T>(target: &Target, read: impl Future<Output = Result<T, CacheError>>) -> Result<T, CacheError> {
    let late = || upstream::Error::Unavailable(format!("{}: a layer takes too long", target.upstream.host()));
    timeout(MAX_TIME, read).await.unwrap_or_else(|_| Err(late().into()))
}

/// A download that broke off may go on the next time; one that brought other content will not.
fn broken(error: &io::Error) -> CacheError {
    let why = error.to_string();
    match error.kind() {
        io::ErrorKind::InvalidData => upstream::Error::Digest(why).into(),
        _ => upstream::Error::Unavailable(why).into(),
    }
}

/// Who may read now, by kind of read and upstream. There is one of each for every upstream of the configuration.
#[derive(Clone, Default)]
struct Turns(Arc<Mutex<TurnsByUpstream>>);

type TurnsByUpstream = HashMap<(&'static str, Host), Arc<Semaphore>>;

impl Turns {
    async fn take(&self, what: &'static str, target: &Target) -> Option<OwnedSemaphorePermit> {
        let turns = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (what, target.upstream.host().clone());
            all.entry(key).or_insert_with(|| Arc::new(Semaphore::new(TURNS))).clone()
        };
        // Nobody closes it.
        turns.acquire_owned().await.ok()
    }
}

/// Pieces as a reader, for decoders.
struct Pieces {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let length = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_become_an_object_is_read_on() {
        for start in [&b""[..], b" \n", b"{", b" \t{\"a\"", b"\xef", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n{"] {
            assert!(may_be_object(start), "{}", start.escape_ascii());
        }
        for start in [&b"["[..], b"x{", b"\x1f\x8b{", b"\0{"] {
            assert!(!may_be_object(start), "{}", start.escape_ascii());
        }
    }
}
