//! What decides whether a rule applies and whether a value meets it: the subject of a decision, patterns of names, and
//! conditions in CEL.

pub(super) mod condition;
pub(super) mod pattern;
pub(super) mod subject;
