//! Text files of untrusted size and encoding.

/// The lines of a text, without line ends. Bytes that are not UTF-8 are replaced.
pub(super) fn lines(content: &[u8]) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
    content.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)))
}
