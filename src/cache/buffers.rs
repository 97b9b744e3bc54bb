//! Reusable buffers for content: allocating a buffer of this size costs the kernel as much as the read itself.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::body::PIECE;

/// The maximum number of spare buffers: 16 MiB in total.
const SPARE: usize = 64;

/// The spare buffers of a cache. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Box<[u8]>>>>);

/// A buffer of [`PIECE`] bytes that is returned to the spares when its last slice is dropped.
pub(super) struct Buffer {
    bytes: Option<Box<[u8]>>,
    length: usize,
    spares: Buffers,
}

impl Buffers {
    /// A buffer for `length` bytes, at most [`PIECE`].
    pub(super) fn take(&self, length: usize) -> Buffer {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = spare.unwrap_or_else(|| vec![0; PIECE].into_boxed_slice());
        Buffer { length: length.min(bytes.len()), bytes: Some(bytes), spares: self.clone() }
    }
}

impl Buffer {
    /// Takes a buffer for `length` bytes, at most [`PIECE`].
    pub(super) fn take(length: usize) -> Self {
        let spare = SPARES.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = spare.unwrap_or_else(|| vec![0; PIECE].into_boxed_slice());
        Self { length: length.min(bytes.len()), bytes: Some(bytes) }
    }

    /// The space for the data; it still contains earlier data.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let length = self.length;
        self.bytes.as_deref_mut().map(|bytes| &mut bytes[..length]).unwrap_or_default()
    }

    /// The first `length` bytes, which have been written.
    pub(super) fn filled(mut self, length: usize) -> Bytes {
        self.length = self.length.min(length);
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_deref().map(|bytes| &bytes[..self.length]).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut spares = self.spares.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < SPARE {
            spares.extend(self.bytes.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_written_bytes_are_visible() {
        let mut buffer = Buffer::take(10);
        buffer.bytes_mut().copy_from_slice(b"0123456789");
        let bytes = buffer.filled(4);
        assert_eq!(&bytes[..], b"0123");
        drop(bytes);
        assert_eq!(buffers.0.lock().unwrap().len(), 1, "the buffer is kept for reuse");
        assert_eq!(buffers.take(PIECE + 1).bytes_mut().len(), PIECE);
        assert_eq!(buffers.0.lock().unwrap().len(), 1, "it was reused and has returned");
    }
}
