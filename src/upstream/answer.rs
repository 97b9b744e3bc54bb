//! Reading answers with bounds: bodies, encodings, error texts, lists and the links between their pages.

pub(super) mod body;
pub(super) mod encoding;
pub(super) mod link;
pub(super) mod tags;
pub(super) mod words;
