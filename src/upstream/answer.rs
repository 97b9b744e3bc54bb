//! Bounded reading of responses: bodies, encodings, error messages, lists and the links between their pages.

pub(super) mod body;
pub(super) mod encoding;
pub(super) mod link;
pub(super) mod tags;
pub(super) mod words;
