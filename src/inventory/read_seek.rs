//! The content of a file in a layer, as analysers see it.

use std::io::{Read, Seek};

/// The content of a file, in memory or in a temporary file.
pub trait ReadSeek: Read + Seek {}

impl<T: Read + Seek + ?Sized> ReadSeek for T {}
