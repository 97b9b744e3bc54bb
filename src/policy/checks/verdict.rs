//! The result of one check.

use jiff::Timestamp;

/// The result of one check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The check failed, for these reasons.
    Fail(Vec<String>),
    /// The check passed, and the verdict is valid until this time; `None` means forever.
    Pass(Option<Timestamp>),
    /// The rule does not require this check.
    Skipped,
    /// The result could not be determined.
    Unknown {
        /// Why the result is unknown.
        reasons: Vec<String>,
        /// Whether a later check may succeed.
        temporary: bool,
    },
}
