//! Reusable buffers for pieces of content: allocating a new buffer of this size costs the kernel as much time as the
//! read.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// The number of bytes in one read. A body holds one or two pieces of this size until the client accepts them: for slow
/// clients, it is the memory of a connection or, with HTTP/2, of each request.
pub(super) const PIECE: usize = 64 * 1024;
/// The maximum number of spare buffers: 16 MiB in total.
const SPARE: usize = 256;

/// The spare buffers of a cache. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Box<[u8]>>>>);

/// A buffer of [`PIECE`] bytes that returns to the spare buffers when its last slice is dropped.
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
    /// The space for the bytes. It may still contain data from an earlier use.
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
    fn only_filled_bytes_are_visible() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take(10);
        buffer.bytes_mut().copy_from_slice(b"0123456789");
        let bytes = buffer.filled(4);
        assert_eq!(&bytes[..], b"0123");
        drop(bytes);
        assert_eq!(buffers.0.lock().unwrap().len(), 1, "the buffer is kept for reuse");
        assert_eq!(buffers.take(PIECE + 1).bytes_mut().len(), PIECE);
        assert_eq!(buffers.0.lock().unwrap().len(), 1, "it was reused and has returned");
    }
}
