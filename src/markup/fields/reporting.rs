//! How the mistakes in a mapping are reported.

use super::{Fields, Name, refuse_merge_key};
use crate::markup::problem::{ProblemKey, ProblemSeverity};
use crate::markup::spelling::nearest;
use crate::markup::tree::{Member, Place, Value};

impl Fields<'_> {
    /// Reports every key but these, because an unknown key may be a check that somebody relies on.
    pub fn only(&self, known: &[&str]) {
        self.members.iter().for_each(|member| self.known(member, known));
    }

    /// As [`Self::only`], without those that have been reported.
    pub fn only_besides(&self, known: &[&str], reported: &[&str]) {
        let others = self.members.iter().filter(|member| !reported.contains(&&*member.key));
        others.for_each(|member| self.known(member, known));
    }

    /// Reports the key unless it is one of these.
    pub fn known(&self, member: &Member, known: &[&str]) {
        if known.contains(&&*member.key) {
            return;
        }
        if let Some(why) = &member.merge {
            return refuse_merge_key(member.at, why, self.problems);
        }
        let meant = nearest(&member.key, known);
        let hint = match meant {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("known here: {}", known.join(", ")),
        };
        self.unknown(member.at, &member.key, meant, hint);
    }

    /// Reports a key that does not exist here, with what would help.
    pub fn report_unknown(&self, key: &str, hint: &str) {
        self.unknown(self.place_of(key), key, None, hint.to_owned());
    }

    fn unknown(&self, at: Place, key: &str, meant: Option<&str>, hint: String) {
        let message = match &self.name {
            Name::Kind(what) => format!("unknown key {key:?} in {what}"),
            Name::Path(_) => format!("{}: unknown key", self.name.path(key)),
        };
        let unknown = |known| ProblemKey { is_unknown: true, meant: meant.map(str::to_owned), ..known };
        let about = self.name.problem_key(key).map(unknown);
        self.problems.report_about(about, ProblemSeverity::Error, at, message, Some(hint));
    }

    /// Reports an error of the mapping as a whole.
    pub fn error(&self, message: impl Into<String>) {
        self.report(ProblemSeverity::Error, message.into(), None);
    }

    /// As [`Self::error`], with what would help.
    pub fn error_hint(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.report(ProblemSeverity::Error, message.into(), Some(hint.into()));
    }

    /// Reports what in the mapping may not mean what was meant.
    pub fn warn(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.report(ProblemSeverity::Warning, message.into(), Some(hint.into()));
    }

    /// Reports a problem of a key or its value; the message says by itself what it is about.
    pub fn report_key(&self, severity: ProblemSeverity, key: &str, message: &str, hint: Option<&str>) {
        let message = match &self.name {
            Name::Kind(_) => message.to_owned(),
            Name::Path(_) => format!("{}: {message}", self.name.path(key)),
        };
        self.report_at(key, severity, message, hint.map(str::to_owned));
    }

    /// Reports a problem of the mapping as a whole.
    fn report(&self, severity: ProblemSeverity, message: String, hint: Option<String>) {
        let (key, message) = match &self.name {
            Name::Path(path) if !path.is_empty() => (Some(ProblemKey::known(path)), format!("{path}: {message}")),
            Name::Path(_) | Name::Kind(_) => (None, message),
        };
        self.problems.report_about(key, severity, self.at, message, hint);
    }

    /// Reports a problem of a key, or of the mapping that lacks it.
    fn report_at(&self, key: &str, severity: ProblemSeverity, message: String, hint: Option<String>) {
        self.problems.report_about(self.name.problem_key(key), severity, self.place_of(key), message, hint);
    }

    /// Reports a value that is not what the key takes; the message is a sentence of its own.
    pub(super) fn unexpected(&self, key: &str, message: &str) {
        let message = match &self.name {
            Name::Kind(what) => format!("{key} of {what}: {message}"),
            Name::Path(_) => format!("{}: {message}", self.name.path(key)),
        };
        self.report_at(key, ProblemSeverity::Error, message, None);
    }

    /// Reports an error of a key; the message continues after the key's name.
    pub(super) fn wrong_key(&self, key: &str, message: &str) {
        self.report_at(key, ProblemSeverity::Error, format!("{}{message}", self.name.of_key(key)), None);
    }

    /// The place of a key, or of the mapping that lacks it.
    fn place_of(&self, key: &str) -> Place {
        self.members.iter().find(|member| member.key == key).map_or(self.at, |member| member.at)
    }

    pub(super) fn wrong<T>(&self, key: &str, wanted: &str, found: &Value) -> Option<T> {
        self.wrong_key(key, &format!("must be {wanted}, not {}", found.kind()));
        None
    }
}
