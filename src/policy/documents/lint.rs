//! Names of entries that do not mean what they seem to.

use std::collections::HashMap;

use super::fields::Fields;
use crate::policy::pattern::MAX_PATTERN;
use crate::policy::problem::{ProblemSeverity, Reporter};
use crate::policy::yaml::{Node, Position, Value};

/// Checks the names of a document's entries. `severity` is for what keeps its meaning in the IBM dialects, because
/// policies in use must go on working, and is not accepted in ours.
pub(super) fn names(list: &[Node], report: Reporter<'_>, severity: ProblemSeverity) {
    let mut seen: HashMap<&str, Position> = HashMap::new();
    for (at, name) in list.iter().filter_map(|node| node.find("name")).filter_map(|n| Some((n.at, n.as_text()?))) {
        if name.len() > MAX_PATTERN {
            report.error(at, format!("a name is longer than {MAX_PATTERN} bytes"));
            continue;
        }
        if let Some(first) = seen.get(name) {
            let hint = "remove one of them";
            report.say(
                severity,
                at,
                format!("{name:?} stands already in line {}: this entry is never used", first.line),
                Some(hint.into()),
            );
        } else {
            seen.insert(name, at);
        }
        open_host(name, at, report, severity);
        never_matches(name, at, report, severity);
    }
}

/// `policy:` with nothing after it is `{}`: easily an indentation that went wrong.
pub(super) fn null_policy(fields: &Fields<'_>) {
    let empty = |entry: &&crate::policy::yaml::Entry| entry.key == "policy" && entry.node.value == Value::Null;
    if let Some(entry) = fields.entries().iter().find(empty) {
        fields.report.warn(entry.at, "policy is empty: no check", "write policy: {} if that is meant");
    }
}

/// A host that ends in `*` reaches hosts of others: `test.com*` matches `test.com.evil.io/a`. So does one that begins
/// with a `*` that no dot follows: `*icr.io` matches `evilicr.io`.
fn open_host(name: &str, at: Position, report: Reporter<'_>, severity: ProblemSeverity) {
    let host = name.split('/').next().unwrap_or_default();
    let bare = host.trim_matches('*');
    if bare.is_empty() {
        return;
    }
    if host.ends_with('*') {
        let message =
            format!("the host of {name:?} ends in *, so it matches hosts that others can own: {bare}.evil.io");
        let hint = format!("write {bare}/* for all of that host");
        report.say(severity, at, message, Some(hint));
    } else if host.starts_with('*') && !bare.starts_with(['.', ':']) {
        let message = format!("{name:?} matches hosts that others can own: evil{bare}");
        report.warn(at, message, format!("write *.{bare}"));
    }
}

/// Characters that no reference has, so that the entry is dead.
fn never_matches(name: &str, at: Position, report: Reporter<'_>, severity: ProblemSeverity) {
    let why = if name.contains("://") {
        "it has a scheme; a name begins with the host"
    } else if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        "it has white space"
    } else if !name.is_ascii() || name.contains(['?', '[', ']', '\\', '"', '{', '}', '%']) && !name.starts_with('[') {
        "it has characters that no image reference has; the only wildcard is *"
    } else if repository(name).bytes().any(|c| c.is_ascii_uppercase()) {
        "a repository is lower case"
    } else {
        return;
    };
    report.say(severity, at, format!("{name:?} can match nothing: {why}"), None);
}

/// What stands between the host and the tag or digest.
fn repository(name: &str) -> &str {
    let path = name.split_once('/').map_or("", |(_, path)| path);
    path.split([':', '@']).next().unwrap_or_default()
}
