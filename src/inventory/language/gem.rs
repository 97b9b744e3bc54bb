//! Specifications of installed Ruby gems: `specifications/NAME-VERSION.gemspec`, including `specifications/default/`.
//!
//! A specification is a Ruby program. RubyGems writes it at installation, with one assignment of a literal
//! on each line. That form is read here, and also name and version as arguments of `new`.

use std::collections::BTreeSet;

use crate::inventory::Ecosystem;

use super::{LanguagePackages, split_path};

/// Whether this is the specification of an installed gem: in `specifications/`, or in `bundler/gems/NAME-COMMIT/` or up
/// to two directories below it, where Bundler writes those of gems from git.
pub(super) fn is_specification(path: &str) -> bool {
    let in_specifications = path.starts_with("specifications/") || path.contains("/specifications/");
    let from_git = || path.rsplit_once("/bundler/gems/").map(|(_, rest)| rest.split('/').count());
    path.ends_with(".gemspec") && (in_specifications || from_git().is_some_and(|parts| (2..=4).contains(&parts)))
}

/// Reads a specification. Fields that are not literals are taken from the name of the file. That name, and the line
/// `# stub: NAME VERSION` by which RubyGems lists gems, also count where they differ: Ruby may compute something else.
pub(super) fn read(path: &str, text: &str, found: &mut LanguagePackages) {
    read_in(path, path, text, found);
}

/// Reads the specification at `place` in the archive at `path`.
pub(super) fn read_in(path: &str, place: &str, text: &str, found: &mut LanguagePackages) {
    let mut variable = String::new();
    let (mut arguments, mut name, mut version, mut licenses) = (None, None, None, Vec::new());
    for line in text.lines().map(str::trim) {
        if let Some((_, rest)) = line.split_once("Gem::Specification.new") {
            variable = line.split('|').nth(1).unwrap_or_default().trim().to_owned();
            arguments = arguments.or_else(|| self::arguments(rest));
        }
        if variable.is_empty() {
            continue;
        }
        let Some((field, value)) = assignment(line, &variable) else { continue };
        match field {
            "name" if name.is_none() => name = literals(value).into_iter().next(),
            "version" if version.is_none() => version = literals(value).into_iter().next(),
            "license" | "licenses" if licenses.is_empty() => licenses = literals(value),
            _ => {}
        }
    }
    let stub = text.lines().find_map(|line| line.strip_prefix("# stub: "));
    let mut stub = stub.into_iter().flat_map(str::split_whitespace);
    let from_stub = stub.next().zip(stub.next());
    let (_, file) = split_path(place);
    let stem = file.strip_suffix(".gemspec").unwrap_or(file);
    let from_file = name_and_version(stem);
    // An assignment comes after `new`, and replaces its arguments.
    let (first, second) = arguments.unwrap_or_default();
    let name = name.or(first).or(from_file.map(|(name, _)| name.to_owned()));
    let version = version.or(second).or(from_file.map(|(_, version)| version.to_owned()));
    match (name, version) {
        (Some(name), Some(version)) => {
            let is_of_file =
                stem.strip_prefix(&*format!("{name}-{version}")).is_some_and(|p| p.is_empty() || p.starts_with('-'));
            let others = [from_file.filter(|_| !is_of_file), from_stub];
            let others: BTreeSet<_> =
                others.into_iter().flatten().filter(|other| *other != (&*name, &*version)).collect();
            for (name, version) in others {
                found.add(Ecosystem::Gem, name, version, &licenses, path);
            }
            found.add(Ecosystem::Gem, &name, &version, &licenses, path);
        }
        _ => found.problem("the specification states no name and version as text".to_owned()),
    }
}

/// The field and the value of `VARIABLE.FIELD = VALUE`.
fn assignment<'a>(line: &'a str, variable: &str) -> Option<(&'a str, &'a str)> {
    let (field, value) = line.strip_prefix(variable)?.strip_prefix('.')?.split_once('=')?;
    Some((field.trim(), value))
}

/// The name and the version as arguments of `new`, as far as they are literals: `("NAME", "VERSION") do |s|`.
fn arguments(text: &str) -> Option<(Option<String>, Option<String>)> {
    let text = text.trim_start();
    let (name, rest) = literal(text.strip_prefix('(').unwrap_or(text).trim_start())?;
    let version = rest.trim_start().strip_prefix(',').and_then(|rest| literal(rest.trim_start()));
    Some((Some(name.to_owned()), version.map(|(version, _)| version.to_owned())))
}

/// The text of the literal at the beginning, and what follows it: of `"x"`, `'x'`, `%q{x}`, `%Q<x>` and `%(x)`.
fn literal(text: &str) -> Option<(&str, &str)> {
    let percent = text.strip_prefix('%').map(|rest| rest.strip_prefix(['q', 'Q']).unwrap_or(rest));
    let mut rest = percent.unwrap_or(text).chars();
    let close = match rest.next()? {
        quote @ ('"' | '\'') => quote,
        '{' if percent.is_some() => '}',
        '(' if percent.is_some() => ')',
        '[' if percent.is_some() => ']',
        '<' if percent.is_some() => '>',
        other if percent.is_some() && other.is_ascii_punctuation() => other,
        _ => return None,
    };
    rest.as_str().split_once(close)
}

/// The contents of the literals in a line: of `["Ruby".freeze, 'BSDL'.freeze]` `Ruby` and `BSDL`.
fn literals(value: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut rest = value;
    while let Some(start) = rest.find(['"', '\'', '%']) {
        if let Some((text, after)) = literal(&rest[start..]) {
            if !text.is_empty() {
                all.push(text.to_owned());
            }
            rest = after;
        } else if rest[start..].starts_with('%') {
            rest = &rest[start + 1..];
        } else {
            break;
        }
    }
    all
}

/// Splits `NAME-VERSION` or `NAME-VERSION-PLATFORM`: the version is the first part such as `1.2`, else the first one
/// that starts with a digit.
fn name_and_version(stem: &str) -> Option<(&str, &str)> {
    let parts = || stem.match_indices('-').map(|(at, _)| (&stem[..at], stem[at + 1..].split('-').next().unwrap_or("")));
    let is_numbered = |version: &str| version.starts_with(|c: char| c.is_ascii_digit());
    let is_dotted = |version: &str| is_numbered(version) && version.contains('.');
    let split = parts().find(|(_, version)| is_dotted(version)).or_else(|| parts().find(|(_, v)| is_numbered(v)));
    split.filter(|(name, _)| !name.is_empty())
}
