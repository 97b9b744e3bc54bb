//! Lists of texts, many of which are deflated together.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::super::{DamagedDatabase, IndexPart};
use super::encoding::{Decoder, Encoder};
use super::index::{MAX_READ, read};

/// The size at which a block is complete, in bytes.
const BLOCK: usize = 8 * 1024;

/// Where a list of texts is.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextsPlace {
    pub(super) block: IndexPart,
    /// The size of the block when it is unpacked, in bytes.
    pub(super) size: u64,
    /// Where the list begins in it.
    pub(super) start: u64,
}

/// A block that is being filled.
#[derive(Default)]
pub(super) struct TextsBlock(Encoder);

impl TextsBlock {
    /// Adds a list. Returns where it begins.
    pub(super) fn add(&mut self, texts: &[String]) -> u64 {
        let start = self.0.0.len() as u64;
        self.0.texts(texts);
        start
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.0.len() >= BLOCK
    }

    /// The size of the block, and its bytes as they are stored.
    pub(super) fn finish(self) -> io::Result<(u64, Vec<u8>)> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&self.0.0)?;
        Ok((self.0.0.len() as u64, encoder.finish()?))
    }
}

/// A list of texts in an index file.
#[derive(Debug)]
pub struct StoredTexts {
    pub(super) file: Arc<File>,
    pub(super) place: TextsPlace,
}

impl StoredTexts {
    /// Reads the list.
    ///
    /// # Errors
    /// The file is damaged.
    pub(in super::super) fn read(&self) -> Result<Vec<String>, DamagedDatabase> {
        let TextsPlace { block, size, start } = self.place;
        let compressed = read(&self.file, block)?;
        let mut texts = Vec::new();
        let inflated = DeflateDecoder::new(&compressed[..]).take(size.min(MAX_READ) + 1).read_to_end(&mut texts);
        inflated.map_err(|error| DamagedDatabase(error.to_string()))?;
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let list = texts.get(start..).ok_or_else(|| DamagedDatabase("a block of texts is too short".to_owned()))?;
        Decoder(list).texts()
    }
}
