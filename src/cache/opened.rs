//! Content that is opened, wherever it is.

use std::sync::Arc;

use bytes::Bytes;

use super::{ContentBody, Follower, Reading, Relay, Transfer};

/// Content that is opened.
#[derive(Clone)]
pub enum Opened {
    /// Complete, on disk.
    File(Arc<Reading>),
    /// On its way.
    Filling(Follower),
    /// Complete, in memory.
    Memory(Bytes),
    /// Past the disk, from the upstream.
    Relayed(Arc<Relay>),
}

impl Opened {
    /// The size of the whole content in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::File(reading) => reading.size(),
            Self::Filling(fill) => fill.size(),
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Relayed(relay) => relay.size(),
        }
    }

    /// Reads a part, from `start` to before `end`, both within the size.
    pub fn read(&self, start: u64, end: u64, transfer: Transfer) -> ContentBody {
        ContentBody::new(self, start, end, transfer)
    }
}
