//! TOML and YAML (and with it JSON) as one tree of values, each with its place: file, line and column.
//!
//! The configuration and the policy documents are both read here, so that they share one syntax, one way to read a
//! mapping ([`Fields`]), and one way to report what is wrong ([`Problems`]).
//!
//! A mapping is read key by key, and what is wrong is reported with its place and a hint:
//!
//! ```text
//! default.yaml:12:7: error: unknown key "trusst" in policy (hint: did you mean "trust"?)
//! pullgate.toml:8:1: error: gate.mode: must be one of audit, enforce, not "warn"
//! environment variable PULLGATE__GATE__MODE: error: gate.mode: must be one of audit, enforce, not "warn"
//! ```

mod fields;
mod problem;
mod spelling;
mod text;
mod toml;
mod tree;
mod yaml;

pub use fields::{Fields, refuse_merge_keys, text_of};
pub use problem::{Problem, ProblemKey, ProblemSeverity, Problems};
pub use spelling::{distance, nearest};
pub use text::decode_text;
pub use toml::read_toml;
pub use tree::{Member, Node, Place, Value};
pub use yaml::read_yaml;

/// The largest file, in bytes.
pub const MAX_FILE: usize = 1024 * 1024;
