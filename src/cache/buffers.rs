//! Buffers for pieces of content, used again and again: a fresh one of this size costs the kernel as much as the read.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::body::PIECE;

/// How many buffers wait for use at most: 16 MiB.
const SPARE: usize = 64;

static SPARES: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// A buffer of [`PIECE`] bytes that goes back to the others when the last slice of it is gone.
pub(super) struct Buffer {
    bytes: Option<Box<[u8]>>,
    length: usize,
}

impl Buffer {
    /// A buffer for so many bytes, at most [`PIECE`].
    pub(super) fn take(length: usize) -> Self {
        let spare = SPARES.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = spare.unwrap_or_else(|| vec![0; PIECE].into_boxed_slice());
        Self { length: length.min(bytes.len()), bytes: Some(bytes) }
    }

    /// The room for the bytes; what it holds is of another use.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let length = self.length;
        self.bytes.as_deref_mut().map(|bytes| &mut bytes[..length]).unwrap_or_default()
    }

    /// The first bytes, which have been written.
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
        let mut spares = SPARES.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < SPARE {
            spares.extend(self.bytes.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_filled_is_seen() {
        let mut buffer = Buffer::take(10);
        buffer.bytes_mut().copy_from_slice(b"0123456789");
        let bytes = buffer.filled(4);
        assert_eq!(&bytes[..], b"0123");
        drop(bytes);
        assert_eq!(Buffer::take(PIECE + 1).bytes_mut().len(), PIECE);
    }
}
