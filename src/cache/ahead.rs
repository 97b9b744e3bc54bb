//! Parts of a blob that are requested separately, because its download is far from reaching them.
//!
//! Lazy snapshotters (eStargz, SOCI, nydus) read the end of a layer before anything else. Such a part is small; it is
//! sent as it arrives from the registry, and compared with the verified content once the download is complete.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::buffers::PIECE;
use super::content_file::ContentFile;
use super::download::BlobSource;
use crate::oci::{Algorithm, Digest, Hasher};

/// How long a reader waits for the download to reach its part: most downloads are faster than a second request.
const PATIENCE: Duration = Duration::from_millis(250);
/// The largest part in bytes, which is held in memory.
const MAX_PART: u64 = 2 * 1024 * 1024;
/// The smallest distance in bytes between the download and a part.
const MIN_DISTANCE: u64 = 256 * 1024;
/// How many times its own length a part must be away, so that clients that download a blob in parts do not download it
/// twice.
const LENGTHS_AWAY: u64 = 4;
/// The number of parts of one blob that are compared. Readers of others wait for the download.
const MAX_PARTS: usize = 1024;
/// The number of parts that are requested or held in memory at the same time.
pub(super) const MAX_REQUESTS: usize = 16;

/// The parts of one blob that were sent before its download reached them.
pub(super) struct PartsAhead {
    /// `None` once the download is complete: its file is read instead.
    sent: Mutex<Option<Vec<SentPart>>>,
    requests: Arc<Semaphore>,
}

/// A part that a client received, and the digest of its bytes.
struct SentPart {
    range: Range<u64>,
    digest: Digest,
}

impl PartsAhead {
    /// `requests` limits the parts of all blobs that are requested at the same time.
    pub(super) fn new(requests: Arc<Semaphore>) -> Self {
        Self { sent: Mutex::new(Some(Vec::new())), requests }
    }

    /// Whether a part is small and far enough from what the download has written, in bytes.
    pub(super) fn is_worthwhile(part: &Range<u64>, written: u64) -> bool {
        let (length, distance) = (part.end - part.start, part.start.saturating_sub(written));
        length <= MAX_PART && distance >= MIN_DISTANCE.max(length * LENGTHS_AWAY)
    }

    /// Requests a part after a moment. `None` if the registry does not send it, or too many are requested: the reader
    /// then waits for the download.
    pub(super) async fn request(&self, source: &BlobSource, part: Range<u64>) -> Option<Bytes> {
        tokio::time::sleep(PATIENCE).await;
        let turn = self.requests.clone().try_acquire_owned().ok()?;
        let bytes = source.part(part.clone()).await;
        let failed =
            |error: &_| tracing::debug!(blob.digest = %source.digest, ?part, %error, "a part cannot be requested");
        let bytes = bytes.inspect_err(failed).ok()?;
        let is_noted = self.note(part, Digest::sha256(&bytes));
        is_noted.then(|| Bytes::from_owner(HeldPart { bytes, _turn: turn }))
    }

    /// Records what is about to be sent. `false` if it would not be compared.
    fn note(&self, part: Range<u64>, found: Digest) -> bool {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(parts) = sent.as_mut().filter(|parts| parts.len() < MAX_PARTS) else { return false };
        parts.push(SentPart { range: part, digest: found });
        true
    }

    /// Compares what was sent with the complete and verified file. Reads the disk.
    pub(super) fn compare(&self, file: &ContentFile, source: &BlobSource) {
        for part in self.differing(file) {
            let (first_byte, last_byte) = (part.start, part.end - 1);
            tracing::warn!(
                blob.digest = %source.digest, image.name = %source.name, first_byte, last_byte,
                "the upstream returned wrong bytes for a range request, and they were sent to a client"
            );
        }
    }

    /// The parts that were sent with other bytes than the file has.
    fn differing(&self, file: &ContentFile) -> Vec<Range<u64>> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A read error of the disk says nothing about the registry.
        let differs = |part: &SentPart| digest_of(file, &part.range).is_ok_and(|found| found != part.digest);
        sent.into_iter().flatten().filter(differs).map(|part| part.range).collect()
    }
}

/// A part in memory. It keeps its turn until the client has taken it, so that slow clients hold few of them.
struct HeldPart {
    bytes: Bytes,
    _turn: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for HeldPart {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The digest of a part of a file. One read returns a piece at most.
fn digest_of(file: &ContentFile, part: &Range<u64>) -> io::Result<Digest> {
    let (mut hasher, mut position) = (Hasher::new(Algorithm::Sha256), part.start);
    while position < part.end {
        let length = usize::try_from(part.end - position).unwrap_or(PIECE).min(PIECE);
        hasher.update(&file.read(position, length)?);
        position += length as u64;
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::super::content_file::FileMemory;
    use super::*;

    #[test]
    fn only_small_parts_that_are_far_away_are_requested() {
        const MIB: u64 = 1024 * 1024;
        for (part, written, wanted) in [
            (9_999_953..10_000_000, 0, true),
            (9_999_953..10_000_000, 9_900_000, false),
            (400_000..400_047, 0, true),
            (100_000..100_047, 0, false),
            (0..10_000, 0, false),
            (10 * MIB..12 * MIB, 0, true),
            (10 * MIB..12 * MIB, 3 * MIB, false),
            (10 * MIB..12 * MIB + 1, 0, false),
            (5..10, 10, false),
        ] {
            assert_eq!(PartsAhead::is_worthwhile(&part, written), wanted, "{part:?} at {written}");
        }
    }

    #[test]
    fn every_sent_part_is_compared() {
        let parts = PartsAhead::new(Arc::new(Semaphore::new(1)));
        assert!((0..MAX_PARTS).all(|_| parts.note(0..1, Digest::sha256(b"x"))));
        assert!(!parts.note(0..1, Digest::sha256(b"x")));
    }

    #[test]
    fn parts_are_compared_with_the_complete_file() {
        let content: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&content, 0).unwrap();
        let file = ContentFile::new(Arc::new(file), content.len() as u64, FileMemory::default());
        let parts = PartsAhead::new(Arc::new(Semaphore::new(1)));
        let mut wrong = content[8..150_001].to_vec();
        *wrong.last_mut().unwrap() ^= 1;
        for (part, sent) in [(8..150_000, &content[8..150_000]), (8..150_001, &wrong), (7..9, &content[7..9])] {
            assert!(parts.note(part, Digest::sha256(sent)));
        }
        assert!(parts.differing(&file).iter().eq([&(8..150_001)]));
        assert!(!parts.note(0..1, Digest::sha256(b"0")), "the file is complete");
    }

    #[test]
    fn a_part_keeps_its_turn_until_the_client_has_taken_it() {
        let requests = Arc::new(Semaphore::new(1));
        let turn = requests.clone().try_acquire_owned().unwrap();
        let part = Bytes::from_owner(HeldPart { bytes: Bytes::from_static(b"part"), _turn: turn });
        let rest = part.slice(2..);
        drop(part);
        assert_eq!((&*rest, requests.available_permits()), (&b"rt"[..], 0));
        drop(rest);
        assert_eq!(requests.available_permits(), 1);
    }
}
