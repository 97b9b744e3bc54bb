//! The versions of Go's toolchain and of main modules.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

/// The version of the standard library by that of the toolchain, in the form of a module's version: `v1.22.1` for
/// `go1.22.1`, `go1.22.1 X:boringcrypto`, `go1.26.1-X:jsonv2` and `go1.22.1 (Red Hat 1.22.1-1.el9)`.
pub(super) fn of_standard_library(toolchain: &str) -> String {
    let version = toolchain.strip_prefix("go").unwrap_or(toolchain);
    let version = version.split(' ').next().unwrap_or_default();
    format!("v{}", version.split("-X:").next().unwrap_or_default())
}

/// The version of a module, empty if it was built from a working directory.
pub(super) fn released(version: &str) -> &str {
    if version == "(devel)" { "" } else { version }
}

/// The version of the main module. Where Go states none, or one that it derived from a commit, a version that was set
/// at link time counts (`go build -ldflags '-X main.version=1.2.3'`), as it does for Trivy.
pub(super) fn of_main_module(module: &str, version: &str, flags: &str) -> String {
    if !version.is_empty() && !is_pseudo_version(version) {
        return version.to_owned();
    }
    linked_version(module, &unquoted(flags)).unwrap_or_else(|| version.to_owned())
}

/// Whether the version was derived from a commit: `v0.0.0-20230130190635-5e31092b0621` (go.dev/ref/mod,
/// "Pseudo-versions").
fn is_pseudo_version(version: &str) -> bool {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r"^v[0-9]+\.(0\.0-|[0-9]+\.[0-9]+-([^+]*\.)?0\.)[0-9]{14}-[A-Za-z0-9]+(\+.*)?$";
        Regex::new(pattern).expect("a valid pattern")
    });
    PATTERN.is_match(version)
}

/// Whether this is a semantic version, with or without `v`. The minor version and the patch may be missing, as for Go.
fn is_semantic_version(version: &str) -> bool {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
        let number = "(0|[1-9][0-9]*)";
        let suffix = r"(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?";
        let pattern = format!(r"^v?{number}(\.{number}(\.{number}{suffix})?)?$");
        Regex::new(&pattern).expect("a valid pattern")
    });
    PATTERN.is_match(version)
}

/// The value of Go's `build` line, which is quoted if it contains quotation marks or spaces.
fn unquoted(flags: &str) -> String {
    serde_json::from_str(flags).unwrap_or_else(|_| flags.trim_matches('`').to_owned())
}

/// The version among the values that were set at link time. Variables of a command of the module count first, then
/// those of a package with a usual name, then others. If variables of the same rank have several values, none counts.
fn linked_version(module: &str, flags: &str) -> Option<String> {
    let mut ranks: [Vec<String>; 3] = Default::default();
    for (key, value) in linked_values(flags) {
        let lower = key.to_ascii_lowercase();
        if (!lower.ends_with(".version") && !lower.ends_with(".ver")) || !is_semantic_version(&value) {
            continue;
        }
        let package = lower.rsplit('/').next().and_then(|name| name.split('.').next());
        let is_command = key.strip_prefix(module).is_some_and(|rest| rest.starts_with("/cmd/"));
        let rank = match package {
            _ if is_command => 0,
            Some("cmd" | "common" | "main" | "version") => 1,
            _ => 2,
        };
        ranks[rank].push(value);
    }
    let mut values = ranks.into_iter().find(|values| !values.is_empty())?;
    (values.len() == 1).then(|| values.remove(0))
}

/// The values that `-X KEY=VALUE` sets.
fn linked_values(flags: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let mut words = words(flags).into_iter();
    while let Some(word) = words.next() {
        let Some(rest) = word.strip_prefix("-X") else { continue };
        let assignment = match rest.strip_prefix('=').unwrap_or(rest) {
            "" => words.next().unwrap_or_default(),
            assignment => assignment.to_owned(),
        };
        if let Some((key, value)) = assignment.split_once('=') {
            let trim = |text: &str| text.trim_matches(['"', '\'']).to_owned();
            values.insert(trim(key), trim(value));
        }
    }
    values
}

/// Splits a command line at spaces outside of quotation marks.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}
