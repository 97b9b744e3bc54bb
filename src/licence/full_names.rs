//! The full names of the licences in SPDX's list: `Microsoft Public License` is `MS-PL`.

use std::collections::HashMap;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, Match};
use spdx::License;
use spdx::flags::{IS_DEPRECATED, IS_GNU};
use spdx::identifiers::LICENSES;

use super::{pattern, short};

/// The endings of full names of Creative Commons licences, which are often left out.
const ENDS: [&str; 3] = [" Generic", " International", " Unported"];

/// Identifiers by full name; `None` if several licences have it.
type FullNames = HashMap<String, Option<&'static str>>;

/// The identifier of the licence with this full name. A single word may mean anything.
pub(super) fn find(name: &str) -> Option<&'static str> {
    static NAMES: LazyLock<FullNames> = LazyLock::new(table);
    is_name(name).then(|| NAMES.get(&key(name)).copied().flatten()).flatten()
}

/// The identifiers of the licences with this full name in any version: of `Elastic License`, `Elastic-2.0`.
pub(super) fn versions(name: &str) -> &'static [&'static str] {
    static VERSIONS: LazyLock<HashMap<String, Vec<&str>>> = LazyLock::new(|| {
        let version =
            pattern(r"(?i),? (?:version |v\.? ?)?\d[\d.]*(?: (?:generic|international|unported|universal))?$");
        let mut versions: HashMap<String, Vec<&str>> = HashMap::new();
        for license in known() {
            if let Some(found) = version.find(license.full_name) {
                versions.entry(key(&license.full_name[..found.start()])).or_default().push(license.name);
            }
        }
        versions
    });
    if is_name(name) { VERSIONS.get(&key(name)).map_or(&[], Vec::as_slice) } else { &[] }
}

/// The identifiers of the licences whose full names are in a text, in any case and with any spaces.
pub(super) fn mentioned(text: &str) -> Vec<&'static str> {
    static NAMES: LazyLock<(AhoCorasick, Vec<&str>)> = LazyLock::new(|| {
        // A single word may mean anything. Names of GNU licences contain each other.
        let is_name = |license: &&License| license.full_name.contains(' ') && license.flags & IS_GNU == 0;
        let licenses: Vec<&License> = known().filter(is_name).collect();
        let names = AhoCorasick::new(licenses.iter().map(|license| plain(license.full_name)));
        let names = names.expect("a few hundred names are not too many");
        (names, licenses.iter().map(|license| license.name).collect())
    });
    let (names, identifiers) = &*NAMES;
    let text = plain(text);
    let is_part = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    let is_whole = |found: &Match| {
        !is_part(text[..found.start()].chars().next_back()) && !is_part(text[found.end()..].chars().next())
    };
    let found = names.find_overlapping_iter(&text).filter(is_whole);
    found.filter_map(|found| identifiers.get(found.pattern().as_usize()).copied()).collect()
}

fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

fn is_name(text: &str) -> bool {
    text.trim().contains([' ', '-', '_'])
}

/// The licences with names of their own: the deprecated ones of GNU have those of others.
fn known() -> impl Iterator<Item = &'static License> {
    LICENSES.iter().filter(|license| license.flags & IS_GNU == 0 || !is_deprecated(license))
}

fn is_deprecated(license: &License) -> bool {
    license.flags & IS_DEPRECATED != 0
}

/// The key for look-ups in tables: [`short`], or the text in lower case if it has letters of other scripts.
fn key(name: &str) -> String {
    short(name).unwrap_or_else(|| name.trim().to_lowercase())
}

fn table() -> FullNames {
    let mut names = FullNames::new();
    for license in known().filter(|license| !is_deprecated(license)) {
        names.entry(key(license.full_name)).and_modify(|name| *name = None).or_insert(Some(license.name));
    }
    for license in known().filter(|license| is_deprecated(license)) {
        names.entry(key(license.full_name)).or_insert(Some(license.name));
    }
    for license in known() {
        for variant in variants(license.full_name) {
            names.entry(variant).or_insert(Some(license.name));
        }
    }
    names
}

/// Other forms of a full name.
fn variants(name: &str) -> impl Iterator<Item = String> {
    let without_end = ENDS.iter().find_map(|end| name.strip_suffix(end)).map(key);
    // As the licence itself is headed.
    let headed = name.starts_with("Creative Commons ").then(|| key(&format!("{name} Public License")));
    without_end.into_iter().chain(headed)
}

#[cfg(test)]
mod tests {
    use super::super::expression;
    use super::*;

    #[test]
    fn each_full_name_is_that_of_its_licence() {
        // Those of GNU have rules of their own, and several licences with one name.
        let others = LICENSES.iter().filter(|license| license.flags & IS_GNU == 0 && license.full_name.contains(' '));
        for license in others {
            let found = expression(license.full_name);
            let is_same = |one: &License| one.full_name == license.full_name && found.as_deref() == Some(one.name);
            assert!(LICENSES.iter().any(is_same), "{}: {found:?}", license.full_name);
        }
    }

    #[test]
    fn names_are_read_as_people_write_them() {
        for (written, expected) in [
            ("Elastic License v2", Some("Elastic-2.0")),
            ("the elastic licence, version 2.0", Some("Elastic-2.0")),
            ("Microsoft-Public-License", Some("MS-PL")),
            ("Common Public Attribution License Version 1.0", Some("CPAL-1.0")),
            ("BSD 4-Clause \"Original\" or \"Old\" License", Some("BSD-4-Clause")),
            ("Creative Commons Attribution-NonCommercial 4.0 International", Some("CC-BY-NC-4.0")),
            ("Creative Commons Attribution-NonCommercial 4.0 International Public License", Some("CC-BY-NC-4.0")),
            ("Creative Commons Attribution-ShareAlike 3.0", Some("CC-BY-SA-3.0")),
            ("Licence Libre du Québec – Permissive version 1.1", Some("LiLiQ-P-1.1")),
            ("Standard ML of New Jersey License", Some("SMLNJ")),
            ("GNU Free Documentation License v1.1 only - invariants", None),
            ("plot", None),
            ("Elastic License 3.0", None),
        ] {
            assert_eq!(find(written), expected, "{written}");
        }
    }

    #[test]
    fn texts_speak_of_licences_by_their_full_names() {
        for (text, expected) in [
            ("Licensed under the Elastic\n License 2.0; see LICENSE", &["Elastic-2.0"][..]),
            ("microsoft public license or else", &["MS-PL"]),
            ("Elastic License 2.01", &[]),
            ("xMicrosoft Public License", &[]),
            ("nothing of that kind", &[]),
        ] {
            assert_eq!(mentioned(text), expected, "{text}");
        }
    }

    #[test]
    fn a_name_without_a_version_is_each_of_them() {
        for (written, expected) in [
            ("Elastic License", &["Elastic-2.0"][..]),
            ("the PHP licence", &["PHP-3.0", "PHP-3.01"]),
            ("Reciprocal Public License", &["RPL-1.1", "RPL-1.5"]),
            ("Common-Public-Attribution-License", &["CPAL-1.0"]),
            ("Elastic", &[]),
            ("any License", &[]),
        ] {
            assert_eq!(versions(written), expected, "{written}");
        }
    }
}
