//! Opened content from any source.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::blocking;
use super::{CacheError, CacheInner, ContentBody, Follower, Reading, Relay, Transfer};
use crate::oci::Digest;
use crate::runtime::{Bounded, ContentSource, Flights, Tasks, budget};

/// Opened content.
#[derive(Clone)]
pub enum Opened {
    /// Complete, on disk.
    File(Arc<Reading>),
    /// Being downloaded.
    Filling(Follower),
    /// Complete, in memory.
    Memory(Bytes),
    /// Streamed from the upstream without using the disk.
    Relayed(Arc<Relay>),
}

impl Opened {
    /// The size of the whole content, in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::File(reading) => reading.file().size(),
            Self::Filling(fill) => fill.size(),
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Relayed(relay) => relay.size(),
        }
    }

    /// Where content that was at hand is from.
    pub(super) fn source(&self) -> ContentSource {
        match self {
            Self::File(_) | Self::Memory(_) => ContentSource::Hit,
            Self::Filling(_) => ContentSource::Fill,
            Self::Relayed(_) => ContentSource::Miss,
        }
    }

    /// Reads the range from `start` to before `end`, which must be within the size.
    pub fn read(&self, start: u64, end: u64, transfer: Transfer) -> ContentBody {
        ContentBody::new(self, start, end, transfer)
    }
}

/// Files of this size in bytes whose size differs from the one that a manifest states, although their bytes are right:
/// the manifest is wrong.
pub(super) struct IntactFiles {
    known: Bounded<(Digest, u64), ()>,
    checks: Flights<Digest, bool>,
}

impl IntactFiles {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { known: Bounded::new(budget::INTACT, |_, ()| 0), checks: Flights::new(tasks) }
    }
}

impl CacheInner {
    /// Opens complete content, whatever size a manifest states. A file of another size is damaged, unless the manifest
    /// is wrong: a manifest of one repository must not decide about content that others use, so the bytes decide.
    ///
    /// # Errors
    /// If that cannot be found out.
    pub(super) async fn opened_whole(
        self: &Arc<Self>,
        digest: Digest,
        manifest: u64,
    ) -> Result<Option<Opened>, CacheError> {
        let Some(opened) = self.opened(digest).await else { return Ok(None) };
        let found = opened.size();
        if found == manifest {
            return Ok(Some(opened));
        }
        if let Opened::File(reading) = &opened
            && !self.is_intact_file(digest, found).await?
        {
            let why = format!("it has {found} bytes, but its manifest states {manifest}");
            if reading.discard(&io::Error::new(io::ErrorKind::InvalidData, why)) {
                self.metrics.damaged.inc();
            }
            return Ok(None);
        }
        Ok(Some(opened))
    }

    /// Whether a file has the bytes of its digest. It is read once for all requests, so that those for a wrong manifest
    /// cost little.
    async fn is_intact_file(self: &Arc<Self>, digest: Digest, size: u64) -> Result<bool, CacheError> {
        if self.intact.known.get(&(digest, size)).is_some() {
            return Ok(true);
        }
        let inner = self.clone();
        let work = || async move {
            let disk = inner.disk.clone();
            let intact = blocking(move || disk.is_intact(digest)).await;
            let is_intact = intact.is_ok_and(|intact| intact == Some(true));
            if is_intact {
                inner.intact.known.insert((digest, size), ());
            }
            is_intact
        };
        self.intact.checks.join(digest, work).await.ok_or(CacheError::Busy)
    }
}
