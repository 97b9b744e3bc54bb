//! Hashes of the content of a file in an archive: of all of it, and of its chunks.

use crate::oci::{Algorithm, Digest, Hasher};

/// The size of the chunks into which writers of eStargz and zstd:chunked divide files, in bytes, unless they are told
/// otherwise or divide by content (stargz-snapshotter, estargz/estargz.go, `chunkSize`).
pub(super) const CHUNK: u64 = 4 << 20;

/// The hashes of a file's content.
pub(super) struct ContentHashes {
    pub(super) whole: Digest,
    /// Those of its chunks, each of [`CHUNK`] bytes except the last. None if the whole file is no larger than one.
    pub(super) chunks: Vec<Digest>,
}

/// Computes the hashes of a file while it is read.
pub(super) struct ContentHash {
    whole: Hasher,
    /// The chunk that is being read, how many bytes of it are missing, and those before it. `None` if the file is no
    /// larger than a chunk.
    chunk: Option<(Hasher, u64)>,
    chunks: Vec<Digest>,
}

impl Default for ContentHashes {
    fn default() -> Self {
        ContentHash::new(0).finish()
    }
}

impl ContentHash {
    pub(super) fn new(size: u64) -> Self {
        let chunk = (size > CHUNK).then(|| (Hasher::new(Algorithm::Sha256), CHUNK));
        Self { whole: Hasher::new(Algorithm::Sha256), chunk, chunks: Vec::new() }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        let Some((hasher, missing)) = &mut self.chunk else { return };
        while !bytes.is_empty() {
            let (own, rest) = bytes.split_at(usize::try_from(*missing).unwrap_or(usize::MAX).min(bytes.len()));
            hasher.update(own);
            *missing -= own.len() as u64;
            bytes = rest;
            if *missing == 0 {
                let full = std::mem::replace(hasher, Hasher::new(Algorithm::Sha256));
                self.chunks.push(full.finish());
                *missing = CHUNK;
            }
        }
    }

    pub(super) fn finish(self) -> ContentHashes {
        let Self { whole, chunk, mut chunks } = self;
        chunks.extend(chunk.filter(|(_, missing)| *missing < CHUNK).map(|(hasher, _)| hasher.finish()));
        ContentHashes { whole: whole.finish(), chunks }
    }
}
