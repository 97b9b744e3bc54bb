//! What is wrong with a file, and where.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::tree::{FileId, Place};

/// The maximum number of problems reported for one reading, so that a file full of mistakes does not exhaust memory.
const MAX_PROBLEMS: usize = 1000;

/// A finding about a file: `default.yaml:12:7: error: unknown key "trusst" in policy (hint: did you mean "trust"?)`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// How serious it is.
    pub severity: ProblemSeverity,
    /// The file, or the environment variable. Empty if neither is known.
    pub file: String,
    /// The line, from 1; 0 if the problem has no place in the file.
    pub line: u32,
    /// The column in characters, from 1; 0 if the problem has no place in the file.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What would help.
    pub hint: Option<String>,
    /// The key that it is about, in a configuration.
    pub key: Option<Box<ProblemKey>>,
}

/// The key that a problem of a configuration is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProblemKey {
    /// The path from the root: `listener[0].address`.
    pub path: String,
    /// Whether there is no such key.
    pub is_unknown: bool,
    /// The key that is probably meant, if there is no such key.
    pub meant: Option<String>,
}

impl ProblemKey {
    /// A key that is known, or whose problem is another one.
    pub fn known(path: impl Into<String>) -> Self {
        Self { path: path.into(), is_unknown: false, meant: None }
    }
}

/// How serious a problem is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ProblemSeverity {
    /// The files are not used.
    Error,
    /// They are used, but may not mean what their author thinks.
    Warning,
    /// For information.
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

impl Problem {
    /// A problem of a file as a whole.
    pub fn of_file(
        severity: ProblemSeverity,
        file: impl Into<String>,
        message: impl Into<String>,
        hint: Option<&str>,
    ) -> Self {
        let (file, message, hint) = (file.into(), message.into(), hint.map(str::to_owned));
        Self { severity, file, line: 0, column: 0, message, hint, key: None }
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

/// Collects the problems of all files that are read together.
#[derive(Debug, Default)]
pub struct Problems(RefCell<CollectedProblems>);

#[derive(Debug, Default)]
struct CollectedProblems {
    files: Vec<Arc<str>>,
    list: Vec<Problem>,
    failed: bool,
}

impl Problems {
    /// Registers a file under the name that problems give it.
    pub fn file(&self, name: &str) -> FileId {
        let files = &mut self.0.borrow_mut().files;
        files.push(name.into());
        FileId(u32::try_from(files.len() - 1).unwrap_or(u32::MAX))
    }

    /// The name of a file; empty if it was never registered.
    pub fn name(&self, file: FileId) -> Arc<str> {
        let index = usize::try_from(file.0).unwrap_or(usize::MAX);
        self.0.borrow().files.get(index).cloned().unwrap_or_default()
    }

    /// Reports that the files cannot be used.
    pub fn error(&self, at: Place, message: impl Into<String>) {
        self.report(ProblemSeverity::Error, at, message.into(), None);
    }

    /// As [`Self::error`], with what would help.
    pub fn error_hint(&self, at: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.report(ProblemSeverity::Error, at, message.into(), Some(hint.into()));
    }

    /// Reports what may not mean what was meant.
    pub fn warn(&self, at: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.report(ProblemSeverity::Warning, at, message.into(), Some(hint.into()));
    }

    /// Reports something for information.
    pub fn note(&self, at: Place, message: impl Into<String>) {
        self.report(ProblemSeverity::Note, at, message.into(), None);
    }

    /// Reports a problem of any severity.
    pub fn report(&self, severity: ProblemSeverity, at: Place, message: String, hint: Option<String>) {
        self.report_about(None, severity, at, message, hint);
    }

    /// As [`Self::report`], about a key.
    pub fn report_about(
        &self,
        key: Option<ProblemKey>,
        severity: ProblemSeverity,
        at: Place,
        message: String,
        hint: Option<String>,
    ) {
        let file = self.name(at.file).as_ref().to_owned();
        let mut collected = self.0.borrow_mut();
        let error = severity == ProblemSeverity::Error;
        let key = key.map(Box::new);
        let problem = Problem { severity, file, line: at.line, column: at.column, message, hint, key };
        // A mistake behind an anchor is found again for each of its aliases.
        let has_room = collected.list.len() < MAX_PROBLEMS || (error && !collected.failed);
        if has_room && !collected.list.contains(&problem) {
            collected.list.push(problem);
        }
        collected.failed |= error;
    }

    /// Whether there is an error among them.
    pub fn any_error(&self) -> bool {
        self.0.borrow().failed
    }

    /// All of them, by file, line and column.
    pub fn into_sorted(self) -> Vec<Problem> {
        let mut list = self.0.into_inner().list;
        list.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        list
    }
}
