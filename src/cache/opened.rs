//! Opened content from any source.

use std::sync::Arc;

use bytes::Bytes;

use super::{ContentBody, Follower, Reading, Relay, Transfer};
use crate::runtime::ContentSource;

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
