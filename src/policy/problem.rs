//! What is wrong with a document, and where.

use std::cell::RefCell;
use std::fmt;

use super::yaml::Position;

/// The most problems that one reading reports; a file of nothing but mistakes need not fill the memory.
const MAX_PROBLEMS: usize = 1000;

/// Something to say about a document: `default.yaml:12:7: error: unknown key "trusst" (hint: did you mean "trust"?)`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// How bad it is.
    pub severity: ProblemSeverity,
    /// The file, as its [`Source`](super::Source) names it.
    pub file: String,
    /// The line, from 1; 0 where the problem has no place in a file.
    pub line: usize,
    /// The column in characters, from 1; 0 where the problem has no place in a file.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What would help.
    pub hint: Option<String>,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ProblemSeverity {
    /// The documents are not used.
    Error,
    /// They are used, but perhaps do not mean what their author thinks.
    Warning,
    /// Good to know.
    Note,
}

impl fmt::Display for ProblemSeverity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}: {}", self.severity, self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, " (hint: {hint})"))
    }
}

/// Collects the problems of all files.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Collected>);

#[derive(Debug, Default)]
struct Collected {
    list: Vec<Problem>,
    failed: bool,
}

impl Problems {
    /// Whether an error is among them.
    pub(super) fn any_error(&self) -> bool {
        self.0.borrow().failed
    }

    /// All of them, in the order of files and lines.
    pub(super) fn into_sorted(self) -> Vec<Problem> {
        let mut list = self.0.into_inner().list;
        list.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        list
    }

    fn push(&self, problem: Problem) {
        let mut collected = self.0.borrow_mut();
        let error = problem.severity == ProblemSeverity::Error;
        if collected.list.len() < MAX_PROBLEMS || (error && !collected.failed) {
            collected.list.push(problem);
        }
        collected.failed |= error;
    }
}

/// Says what is wrong in one file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reporter<'a> {
    file: &'a str,
    problems: &'a Problems,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(file: &'a str, problems: &'a Problems) -> Self {
        Self { file, problems }
    }

    /// The file's name.
    pub(super) fn file(self) -> &'a str {
        self.file
    }

    /// The documents cannot be used.
    pub(super) fn error(self, at: Position, message: impl Into<String>) {
        self.say(ProblemSeverity::Error, at, message.into(), None);
    }

    /// The documents cannot be used, and this would help.
    pub(super) fn error_hint(self, at: Position, message: impl Into<String>, hint: impl Into<String>) {
        self.say(ProblemSeverity::Error, at, message.into(), Some(hint.into()));
    }

    /// They may not mean what was meant.
    pub(super) fn warn(self, at: Position, message: impl Into<String>, hint: impl Into<String>) {
        self.say(ProblemSeverity::Warning, at, message.into(), Some(hint.into()));
    }

    /// Good to know.
    pub(super) fn note(self, at: Position, message: impl Into<String>) {
        self.say(ProblemSeverity::Note, at, message.into(), None);
    }

    /// As [`Self::error_hint`] or [`Self::warn`].
    pub(super) fn say(self, severity: ProblemSeverity, at: Position, message: String, hint: Option<String>) {
        let file = self.file.to_owned();
        self.problems.push(Problem { severity, file, line: at.line, column: at.column, message, hint });
    }
}
