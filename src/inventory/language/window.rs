//! Access to parts of a file, by seeking. Every length that a file states is checked before anything is read or
//! allocated.

use std::io::{self, Read, Seek, SeekFrom};

use crate::inventory::ReadSeek;

/// A part of a file, treated as a separate file: an entry that an archive stores without compression, one of the
/// programs in a universal binary.
pub(super) struct Window<'a> {
    content: &'a mut dyn ReadSeek,
    start: u64,
    size: u64,
    position: u64,
}

impl<'a> Window<'a> {
    /// The part of `size` bytes at `start`. `None` if it does not lie inside of `content`, which has `content_size`
    /// bytes.
    pub(super) fn new(content: &'a mut dyn ReadSeek, content_size: u64, start: u64, size: u64) -> Option<Self> {
        let end = start.checked_add(size)?;
        (end <= content_size).then_some(Self { content, start, size, position: 0 })
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size.saturating_sub(self.position);
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        // The content may have been read through another window in between.
        self.content.seek(SeekFrom::Start(self.start + self.position))?;
        let read = self.content.read(&mut buffer[..wanted])?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

/// Reads `length` bytes at `offset`. `None` if there are fewer, or if they cannot be read. The caller bounds `length`,
/// which is allocated only as far as there is content.
pub(super) fn read_at(content: &mut dyn ReadSeek, offset: u64, length: u64) -> Option<Vec<u8>> {
    let bytes = read_up_to(content, offset, length)?;
    (bytes.len() as u64 == length).then_some(bytes)
}

/// Reads up to `length` bytes at `offset`. `None` if they cannot be read.
pub(super) fn read_up_to(content: &mut dyn ReadSeek, offset: u64, length: u64) -> Option<Vec<u8>> {
    content.seek(SeekFrom::Start(offset)).ok()?;
    let mut bytes = Vec::new();
    content.take(length).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Reads integers from bytes in the byte order of a file. `None` outside the bytes.
#[derive(Clone, Copy)]
pub(super) struct Integers<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) big_endian: bool,
}

impl Integers<'_> {
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    /// Two bytes at `at`.
    pub(super) fn u16(self, at: usize) -> Option<u16> {
        let bytes = self.array(at)?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    /// Four bytes at `at`.
    pub(super) fn u32(self, at: usize) -> Option<u32> {
        let bytes = self.array(at)?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// Eight bytes at `at`.
    pub(super) fn u64(self, at: usize) -> Option<u64> {
        let bytes = self.array(at)?;
        Some(if self.big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// An address or size at `at`: eight bytes if `wide`, else four.
    pub(super) fn word(self, wide: bool, at: usize) -> Option<u64> {
        if wide { self.u64(at) } else { self.u32(at).map(u64::from) }
    }
}
