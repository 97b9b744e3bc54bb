//! The answer of one check.

use jiff::Timestamp;

/// The answer of one check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The check failed, for these reasons.
    Fail(Vec<String>),
    /// The check passed, and the verdict holds until this time; `None` is forever.
    Pass(Option<Timestamp>),
    /// The rule does not ask for it.
    Skipped,
    /// The answer could not be determined.
    Unknown {
        /// Why.
        reasons: Vec<String>,
        /// Whether a later check may find out.
        temporary: bool,
    },
}
