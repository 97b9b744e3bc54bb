//! Blobs read in order to judge, without a permit: what is read here goes to a judge and never to a client.
//!
//! Reading goes through the cache, so the pull that follows finds the content and nothing is downloaded twice. A fill that
//! is under way is followed. All bytes are verified, time is limited, and each upstream has its own turns, so a slow one
//! delays no other.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use super::{Cache, CacheError, ContentBody, Opened, Transfer};
use crate::oci::{Descriptor, Digest, Hasher, Host, ImageName};
use crate::policy::Observed;
use crate::runtime::{Clock, Tasks};
use crate::store::Evidence;
use crate::upstream::{self, Upstream};

/// How long one read may take.
const MAX_TIME: Duration = Duration::from_secs(300);
/// How many reads of one kind run at one upstream at the same time.
const TURNS: usize = 4;
/// Pieces on their way from the cache to the thread that works on them.
const QUEUE: usize = 4;

/// Makes readers for judges. Cheap to clone; clones share their turns.
#[derive(Clone)]
pub struct BlobReaders {
    cache: Arc<Cache>,
    tasks: Tasks,
    turns: Turns,
}

impl BlobReaders {
    /// Readers on a cache.
    pub fn new(cache: Arc<Cache>, tasks: Tasks) -> Self {
        Self { cache, tasks, turns: Turns::default() }
    }

    /// The reader of one repository at one upstream.
    pub fn of(&self, name: &ImageName, upstream: &Arc<Upstream>) -> BlobReader {
        BlobReader { readers: self.clone(), name: name.clone(), upstream: upstream.clone() }
    }
}

/// Reads blobs of one repository for a judge. Cheap to clone.
#[derive(Clone)]
pub struct BlobReader {
    readers: BlobReaders,
    name: ImageName,
    upstream: Arc<Upstream>,
}

impl BlobReader {
    /// Waits for a turn at the upstream for work of one kind. Turns of different kinds do not wait for each other.
    pub async fn turn(&self, kind: &'static str) -> Option<OwnedSemaphorePermit> {
        self.readers.turns.take(kind, self.upstream.host()).await
    }

    /// Opens a blob, in a turn for reads of this kind. The turn ends with the returned value.
    ///
    /// # Errors
    /// When the blob cannot be had, or has another size than the descriptor says.
    pub async fn open(&self, kind: &'static str, blob: &Descriptor) -> Result<BlobPieces, CacheError> {
        let turn = self.turn(kind).await;
        let end = Instant::now() + MAX_TIME;
        let opening = self.readers.cache.open_for_judging(&self.name, &self.upstream, blob.digest, blob.size);
        let opened = self.before(end, opening).await??;
        let hasher = Some((Hasher::new(blob.digest.algorithm()), blob.digest));
        Ok(BlobPieces {
            reader: self.clone(),
            body: opened.read(0, blob.size, Transfer::Copied),
            hasher,
            end,
            _turn: turn,
        })
    }

    /// The pieces of content that is open already, and so verified by the cache.
    pub fn pieces_of(&self, content: &Opened) -> BlobPieces {
        let body = content.read(0, content.size(), Transfer::Copied);
        BlobPieces { reader: self.clone(), body, hasher: None, end: Instant::now() + MAX_TIME, _turn: None }
    }

    async fn before<T>(&self, end: Instant, read: impl Future<Output = T>) -> Result<T, CacheError> {
        let late = || upstream::Error::Unavailable(format!("{}: reading a layer takes too long", self.upstream.host()));
        timeout_at(end, read).await.map_err(|_| late().into())
    }

    /// A small blob, whole and verified. The caller bounds its size.
    ///
    /// # Errors
    /// When the blob cannot be read to its end.
    pub async fn whole(&self, blob: &Descriptor) -> Result<Bytes, CacheError> {
        let mut pieces = self.open("whole", blob).await?;
        let mut whole = Vec::with_capacity(usize::try_from(blob.size).unwrap_or_default());
        while let Some(piece) = pieces.next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.into())
    }

    /// Reads a blob to its end, and has `work` read it on a thread of its own, as decoders do. `None` if `work` panicked.
    ///
    /// The result counts only if the whole blob was verified: bytes that `work` saw may be wrong until then.
    ///
    /// # Errors
    /// When the blob cannot be read to its end, whatever `work` made of the part that it saw.
    pub async fn read_with<T: Send + 'static>(
        &self,
        kind: &'static str,
        blob: &Descriptor,
        work: impl FnOnce(BlobRead) -> T + Send + 'static,
    ) -> Result<Option<T>, CacheError> {
        let mut pieces = self.open(kind, blob).await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let reader = BlobRead { receiver, piece: Bytes::new() };
        let working = self.readers.tasks.spawn_blocking(move || work(reader));
        let read = loop {
            match pieces.next().await {
                // Work that ended early takes no more pieces. The rest is read all the same: the pull needs it.
                Ok(Some(piece)) => match self.before(pieces.end, sender.send(Ok(piece))).await {
                    Ok(_) => {}
                    Err(error) => break Err(error),
                },
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if read.is_err() {
            // Half a blob must not pass for a whole one.
            let _ = sender.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
        }
        drop(sender);
        let done = working.await.ok();
        read.map(|()| done)
    }
}

/// A blob that is read to its end, piece by piece.
pub struct BlobPieces {
    reader: BlobReader,
    body: ContentBody,
    /// With the digest that is expected; `None` where nothing is left to verify.
    hasher: Option<(Hasher, Digest)>,
    end: Instant,
    _turn: Option<OwnedSemaphorePermit>,
}

impl BlobPieces {
    /// The next piece; `None` at the end, when all of it is verified.
    ///
    /// # Errors
    /// When the rest cannot be had, comes too late, or has another digest.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CacheError> {
        let frame = self.reader.before(self.end, self.body.frame()).await?;
        if let Some(frame) = frame {
            let piece = frame.map_err(|error| broken(&error))?.into_data().unwrap_or_default();
            self.hasher.iter_mut().for_each(|(hasher, _)| hasher.update(&piece));
            return Ok(Some(piece));
        }
        let expected = self.hasher.take().map(|(hasher, digest)| (hasher.finish(), digest));
        match expected {
            Some((found, digest)) if found != digest => {
                Err(upstream::Error::Digest(format!("the bytes are not those of {digest}")).into())
            }
            _ => Ok(None),
        }
    }
}

/// A download that broke off may succeed the next time; one that brought other content will not.
fn broken(error: &io::Error) -> CacheError {
    let why = error.to_string();
    match error.kind() {
        io::ErrorKind::InvalidData => upstream::Error::Digest(why).into(),
        _ => upstream::Error::Unavailable(why).into(),
    }
}

/// The pieces of a blob as a reader, for decoders on a thread of their own.
pub struct BlobRead {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for BlobRead {
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

/// What a judge found in verified bytes, as it is remembered: it holds for ever, unless the bytes could not be read.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum BlobFinding<T> {
    /// Found in verified bytes.
    Known(T),
    /// The bytes could not be read now.
    #[serde(skip)]
    Unread(CacheError),
}

impl<T> Evidence for BlobFinding<T> {
    /// What was found follows from the bytes; that they could not be read does not.
    fn is_negative(&self) -> bool {
        matches!(self, Self::Unread(_))
    }
}

impl<T: Clone> BlobFinding<T> {
    /// The finding with its end: bytes that could not be read are read again the next time.
    pub fn observed(read: Result<T, CacheError>, clock: &Clock) -> Observed<Self> {
        let at = clock.now();
        match read {
            Ok(value) => Observed { value: Self::Known(value), at, until: None },
            Err(error) => Observed { value: Self::Unread(error), at, until: Some(at) },
        }
    }

    /// Whether it may be stored.
    pub fn is_known(&self) -> bool {
        matches!(self, Self::Known(_))
    }

    /// What a memo gave; `None` is work that broke down.
    ///
    /// # Errors
    /// When the bytes could not be read.
    pub fn known(found: Option<Arc<Observed<Self>>>) -> Result<T, CacheError> {
        match found.map(|found| found.value.clone()) {
            Some(Self::Known(value)) => Ok(value),
            Some(Self::Unread(error)) => Err(error),
            None => Err(CacheError::Busy),
        }
    }
}

/// Who may read now, by kind of read and upstream. The number of upstreams is that of the configuration.
#[derive(Clone, Default)]
struct Turns(Arc<Mutex<TurnsByUpstream>>);

type TurnsByUpstream = HashMap<(&'static str, Host), Arc<Semaphore>>;

impl Turns {
    async fn take(&self, kind: &'static str, host: &Host) -> Option<OwnedSemaphorePermit> {
        let turns = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry((kind, host.clone())).or_insert_with(|| Arc::new(Semaphore::new(TURNS))).clone()
        };
        // The semaphore is never closed.
        turns.acquire_owned().await.ok()
    }
}
