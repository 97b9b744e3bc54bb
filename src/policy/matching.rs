//! What decides whether a rule applies: the subject of a decision, and patterns of names.

pub(super) mod pattern;
pub(super) mod subject;
