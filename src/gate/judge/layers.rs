//! Blob checks of the gate: whether a layer belongs to an image, and whether a blob is a manifest.
//!
//! Both results depend only on verified bytes. Whether a layer belongs to an image is stored permanently by the layer's
//! digest, and applies to all manifests and repositories that name the layer.

use std::sync::Arc;

use super::kind::is_image_config;
use crate::cache::{BlobFinding, BlobReader, BlobReaders, CacheError, Opened};
use crate::gate::Target;
use crate::oci::{Descriptor, Digest, MAX_MANIFEST, looks_like_manifest, sniff};
use crate::runtime::{Bounded, Clock, Tasks, budget};
use crate::store::{FactStore, Memo};

/// Reads layers. Cheap to clone.
#[derive(Clone)]
pub(in crate::gate) struct Layers {
    readers: BlobReaders,
    clock: Clock,
    archives: Arc<Memo<BlobFinding<bool>>>,
    /// Blobs that were read and are not manifests.
    plain: Arc<Bounded<Digest, ()>>,
}

impl Layers {
    pub(in crate::gate) fn new(readers: BlobReaders, store: &FactStore, clock: &Clock, tasks: &Tasks) -> Self {
        Self {
            readers,
            archives: Arc::new(Memo::new("layer-of-image-1", store.clone(), clock.clone(), tasks.clone())),
            clock: clock.clone(),
            plain: Arc::new(Bounded::new(budget::LOOKED_INTO, |_, ()| 0)),
        }
    }

    /// The blob reader for the repository of a target.
    pub(super) fn reader(&self, target: &Target) -> BlobReader {
        self.readers.of(&target.name, &target.upstream)
    }

    /// Whether a layer is, or may be, an archive that some runtime unpacks, or is an image configuration.
    pub(super) async fn is_of_an_image(&self, reader: &BlobReader, layer: &Descriptor) -> Result<bool, CacheError> {
        let (bytes, blob, clock) = (reader.clone(), layer.clone(), self.clock.clone());
        let gather = || async move { BlobFinding::observed(sniff(&bytes, &blob).await, &clock) };
        let key = layer.digest.to_string().into();
        BlobFinding::known(self.archives.obtain_from(reader.name(), key, BlobFinding::is_known, gather).await)
    }

    /// The content that is about to be served as a blob; `None` if its bytes are a manifest, which must be served as a
    /// manifest or not at all. Whether the gate has already seen that manifest does not matter.
    pub(in crate::gate) async fn unless_manifest(
        &self,
        target: &Target,
        blob: Digest,
        content: Opened,
    ) -> Result<Option<Opened>, CacheError> {
        if content.size() > MAX_MANIFEST as u64 || self.plain.get(&blob).is_some() {
            return Ok(Some(content));
        }
        // Relayed content bypasses the disk and can be read only once, so all of it is kept.
        let is_relayed = matches!(content, Opened::Relayed(_));
        let bytes = start_of(&self.reader(target), &content, is_relayed).await?;
        if looks_like_manifest(&bytes) {
            return Ok(None);
        }
        self.plain.insert(blob, ());
        Ok(Some(if is_relayed { Opened::Memory(bytes.into()) } else { content }))
    }
}

async fn sniff(reader: &BlobReader, layer: &Descriptor) -> Result<bool, CacheError> {
    let mut prefix = Vec::with_capacity(sniff::SNIFF_LENGTH);
    let mut pieces = reader.open("sniff", layer).await?;
    // Read to the end although the first bytes decide: only the complete blob can be verified by its digest.
    while let Some(piece) = pieces.next().await? {
        let room = sniff::SNIFF_LENGTH - prefix.len();
        prefix.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    Ok(sniff::is_tar_like(&prefix) || is_image_config(&prefix))
}

/// The first piece of some content, or all of it if it may be a JSON object or if `all` is set.
async fn start_of(reader: &BlobReader, content: &Opened, all: bool) -> Result<Vec<u8>, CacheError> {
    let (mut pieces, mut bytes, mut turn) = (reader.pieces_of(content), Vec::new(), None);
    while all || may_be_object(&bytes) {
        // A single piece is read without a turn. More is held in memory, so a download is awaited before its turn is
        // taken.
        if turn.is_none() && (all || !bytes.is_empty()) {
            let is_on_disk = reader.complete(content).await?;
            turn = Some(reader.turn("manifest", is_on_disk).await);
        }
        let Some(piece) = pieces.next().await? else { break };
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Whether text with this beginning may be a JSON object.
fn may_be_object(start: &[u8]) -> bool {
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    text.is_empty() || text.starts_with(b"{") || b"\xef\xbb\xbf".starts_with(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_that_may_be_an_object_is_read_further() {
        for start in [&b""[..], b" \n", b"{", b" \t{\"a\"", b"\xef", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n{"] {
            assert!(may_be_object(start), "{}", start.escape_ascii());
        }
        for start in [&b"["[..], b"x{", b"\x1f\x8b{", b"\0{"] {
            assert!(!may_be_object(start), "{}", start.escape_ascii());
        }
    }
}
