//! Reads blobs for judging, without a permit. The bytes go only to a judge and never to a client.
//!
//! Reads go through the cache, so the pull that follows finds the content and nothing is downloaded twice. A running
//! download is followed. All bytes are verified, and the time is limited. Reads wait for their turn (`turns.rs`), so
//! that a slow registry does not delay the images of others.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use self::turns::{ReadTurn, Turns};
use super::{Cache, CacheError, ContentBody, Opened, Transfer};
use crate::oci::{Descriptor, Digest, Hasher, ImageName};
use crate::policy::Observed;
use crate::runtime::{Clock, Tasks};
use crate::store::Evidence;
use crate::upstream::{self, Upstream};

mod place;
mod turns;

/// The time limit for one read.
const MAX_TIME: Duration = Duration::from_secs(300);
/// The maximum number of pieces queued between the cache and the thread that processes them.
const QUEUE: usize = 4;

/// Creates blob readers for judges. Cheap to clone; clones share their turns.
#[derive(Clone)]
pub struct BlobReaders {
    cache: Arc<Cache>,
    tasks: Tasks,
    turns: Turns,
}

impl BlobReaders {
    /// Creates readers on a cache.
    pub fn new(cache: Arc<Cache>, tasks: Tasks) -> Self {
        Self { cache, tasks, turns: Turns::default() }
    }

    /// The reader for one repository at one upstream.
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
    /// The repository.
    pub fn name(&self) -> &ImageName {
        &self.name
    }

    /// Whether a blob is in the cache.
    pub fn has(&self, blob: &Descriptor) -> bool {
        self.readers.cache.inner.is_here(blob.digest)
    }

    /// Waits for a turn for work of one kind on a blob that is on disk, or that is read from the registry. Turns of
    /// different kinds do not wait for each other.
    pub async fn turn(&self, kind: &'static str, is_on_disk: bool) -> ReadTurn {
        match is_on_disk {
            true => self.readers.turns.on_disk(kind, self.upstream.host()).await,
            false => self.readers.turns.at_registry(kind, &self.name).await,
        }
    }

    /// Opens a blob, in a turn for reads of this kind. The turn ends with the returned value.
    ///
    /// # Errors
    /// If the blob cannot be read, or its size differs from the descriptor.
    pub async fn open(&self, kind: &'static str, blob: &Descriptor) -> Result<BlobPieces, CacheError> {
        Ok(self.open_content(kind, blob).await?.1)
    }

    /// The same, with the content from which the pieces are read.
    async fn open_content(&self, kind: &'static str, blob: &Descriptor) -> Result<(Opened, BlobPieces), CacheError> {
        // It is kept, so that what is on disk now is not evicted before its turn.
        let on_disk = self.readers.cache.inner.opened(blob.digest).await;
        let turn = self.turn(kind, on_disk.is_some()).await;
        let end = Instant::now() + MAX_TIME;
        let opening = self.readers.cache.open_for_judging(&self.name, &self.upstream, blob.digest, blob.size);
        let opened = self.before(end, opening).await??;
        // A file may have been damaged since it was verified. All others verify what they deliver, and never deliver
        // the last byte of anything else.
        let is_file = matches!(opened, Opened::File(_));
        let hasher = is_file.then(|| (Hasher::new(blob.digest.algorithm()), blob.digest));
        let body = opened.read(0, blob.size, Transfer::Copied);
        Ok((opened, BlobPieces { reader: self.clone(), body, hasher, end, _turn: Some(turn) }))
    }

    /// The pieces of content that is already open. The cache has verified it.
    pub fn pieces_of(&self, content: &Opened) -> BlobPieces {
        let body = content.read(0, content.size(), Transfer::Copied);
        BlobPieces { reader: self.clone(), body, hasher: None, end: Instant::now() + MAX_TIME, _turn: None }
    }

    /// Waits until a download is complete, so that the rest of the content is read from disk. Returns whether it is.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn complete(&self, content: &Opened) -> Result<bool, CacheError> {
        match content {
            Opened::File(_) | Opened::Memory(_) => Ok(true),
            // If it fails, the pieces say why.
            Opened::Filling(follower) => {
                let finished = follower.finished(|_| {});
                Ok(self.before(Instant::now() + MAX_TIME, finished).await?.is_ok())
            }
            Opened::Relayed(_) => Ok(false),
        }
    }

    async fn before<T>(&self, end: Instant, read: impl Future<Output = T>) -> Result<T, CacheError> {
        let late = || upstream::Error::Unavailable(format!("{}: reading a layer takes too long", self.upstream.host()));
        timeout_at(end, read).await.map_err(|_| late().into())
    }

    /// Reads a small blob completely and verifies it. The caller must limit its size.
    ///
    /// # Errors
    /// If the blob cannot be read completely.
    pub async fn whole(&self, blob: &Descriptor) -> Result<Bytes, CacheError> {
        let mut pieces = self.open("whole", blob).await?;
        let mut whole = Vec::with_capacity(usize::try_from(blob.size).unwrap_or_default());
        while let Some(piece) = pieces.next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.into())
    }

    /// Reads a blob completely and passes it to `work` on a separate thread, as decoders require. `None` if `work`
    /// panicked.
    ///
    /// The result counts only if the whole blob was verified: until then, the bytes that `work` sees may be wrong.
    ///
    /// # Errors
    /// If the blob cannot be read completely, regardless of the result of `work`.
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
                // If `work` has ended early, the rest is read anyway: the pull needs it.
                Ok(Some(piece)) => match self.before(pieces.end, sender.send(Ok(piece))).await {
                    Ok(_) => {}
                    Err(error) => break Err(error),
                },
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if read.is_err() {
            // A partial blob must not look complete.
            let _ = sender.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
        }
        drop(sender);
        let done = working.await.ok();
        read.map(|()| done)
    }
}

/// A blob that is read piece by piece.
pub struct BlobPieces {
    reader: BlobReader,
    body: ContentBody,
    /// The hasher and the expected digest; `None` if nothing is left to verify.
    hasher: Option<(Hasher, Digest)>,
    end: Instant,
    _turn: Option<ReadTurn>,
}

impl BlobPieces {
    /// The next piece; `None` at the end, when the whole blob is verified.
    ///
    /// # Errors
    /// If the rest cannot be read, exceeds the time limit, or does not match its digest.
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

/// An interrupted download may succeed on a retry; one with other content will not.
fn broken(error: &io::Error) -> CacheError {
    let why = error.to_string();
    match error.kind() {
        io::ErrorKind::InvalidData => upstream::Error::Digest(why).into(),
        _ => upstream::Error::Unavailable(why).into(),
    }
}

/// The pieces of a blob as a [`Read`] implementation, for decoders on separate threads.
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

/// A judge's finding in verified bytes, in the form that is stored. It never expires, unless the bytes could not be
/// read.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum BlobFinding<T> {
    /// Found in verified bytes.
    Known(T),
    /// The bytes could not be read now.
    #[serde(skip)]
    Unread(CacheError),
}

impl<T> Evidence for BlobFinding<T> {
    /// A finding follows from the bytes; a failure to read them does not.
    fn is_negative(&self) -> bool {
        matches!(self, Self::Unread(_))
    }
}

impl<T: Clone> BlobFinding<T> {
    /// The finding with its expiry: bytes that could not be read are read again next time.
    pub fn observed(read: Result<T, CacheError>, clock: &Clock) -> Observed<Self> {
        let at = clock.now();
        match read {
            Ok(value) => Observed { value: Self::Known(value), at, until: None },
            Err(error) => Observed { value: Self::Unread(error), at, until: Some(at) },
        }
    }

    /// Whether the finding may be stored.
    pub fn is_known(&self) -> bool {
        matches!(self, Self::Known(_))
    }

    /// The result of a memo lookup. `None` means that the computation failed.
    ///
    /// # Errors
    /// If the bytes could not be read.
    pub fn known(found: Option<Arc<Observed<Self>>>) -> Result<T, CacheError> {
        match found.map(|found| found.value.clone()) {
            Some(Self::Known(value)) => Ok(value),
            Some(Self::Unread(error)) => Err(error),
            None => Err(CacheError::Busy),
        }
    }
}
