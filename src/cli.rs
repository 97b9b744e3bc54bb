//! The command line: one file for each command.

/// `pullgate policy check|match|eval`.
pub mod policy;

/// How a command prints what it found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Output {
    /// One JSON object a line.
    Json,
    /// For people.
    #[default]
    Table,
}
