//! Licences that free text speaks of: `released under the Affero GPL, see COPYING`.

use std::sync::LazyLock;

use regex::Regex;

use super::{full_names, pattern};

/// How many characters of a text are read: a name is at the beginning, and the text of a licence also mentions others.
const MAX_READ: usize = 1000;

/// The start of the identifiers of a family, and how texts speak of it.
const MENTIONS: &[(&str, &str)] = &[
    ("AGPL", r"\baffero\b(?:[\s_-]+(?:gnu\s+)?(?:general\s+public|a?gpl))?|\bagpl"),
    ("BUSL", r"\bbusiness\s+source\b|\bbusl"),
    ("CDDL", r"\bcommon\s+development\s+and\s+distribution\b|\bcddl"),
    ("EPL", r"\beclipse\s+public\b|\bepl"),
    ("EUPL", r"\beuropean\s+union\s+public\b|\beupl"),
    ("GFDL", r"\bfree\s+documentation\b|\bg?fdl"),
    ("GPL", r"(?:\b(?P<other>affero|lesser|library)[\s_-]+)?(?:gnu\s+)?\b(?:general\s+public\b|gpl)"),
    ("LGPL", r"\b(?:lesser|library)[\s_-]+(?:gnu\s+)?(?:general\s+public|gpl)\b|\blgpl"),
    ("MPL", r"\bmozilla\s+public\b|\bmpl"),
    ("OSL", r"\bopen\s+software\s+licen[cs]e\b|\bosl"),
    ("SSPL", r"\bserver\s+side\s+public\b|\bsspl"),
];

/// What may follow the name: the first number of a version, or what says that it is another licence.
const END: &str =
    r"(?:[\s_-]+licen[cs]e)?[\s,_(-]*(?:version|ver\.?|v\.?)?[\s_-]*(?:(?P<major>\d)|(?P<apart>compatib)|\b)";

/// The identifiers of the licences that the beginning of a text may speak of: those of the version that it names, or of
/// all.
pub(crate) fn mentioned(text: &str) -> Vec<&'static str> {
    static PATTERNS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
        MENTIONS.iter().map(|(family, name)| (*family, pattern(&format!("(?i)(?:{name}){END}")))).collect()
    });
    let end = text.char_indices().nth(MAX_READ).map_or(text.len(), |(end, _)| end);
    let mut found = Vec::new();
    for (family, pattern) in PATTERNS.iter() {
        let mut majors = Vec::new();
        for mention in pattern.captures_iter(&text[..end]) {
            let major = mention.name("major").map(|major| major.as_str());
            if mention.name("other").is_none() && mention.name("apart").is_none() && !majors.contains(&major) {
                majors.push(major);
                found.extend(of_family(family, major).filter(|id| !found.contains(id)).collect::<Vec<_>>());
            }
        }
    }
    let of_names = full_names::mentioned(&text[..end]).into_iter().filter(|id| !found.contains(id));
    found.extend(of_names.collect::<Vec<_>>());
    found
}

fn of_family<'a>(family: &'a str, major: Option<&'a str>) -> impl Iterator<Item = &'static str> + 'a {
    let all = spdx::identifiers::LICENSES.iter().map(|license| license.name);
    all.filter(move |id| {
        let version = id.strip_prefix(family).and_then(|rest| rest.strip_prefix('-'));
        version.is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
            && major.is_none_or(|major| version.is_some_and(|version| version.starts_with(major)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_licences() {
        for (family, _) in MENTIONS {
            assert!(of_family(family, None).count() > 0, "{family}");
            assert!(mentioned(&format!("under {family}")).iter().all(|id| id.starts_with(family)), "{family}");
            assert_eq!(mentioned(family), of_family(family, None).collect::<Vec<_>>(), "{family}");
        }
    }

    #[test]
    fn free_text_speaks_of_licences() {
        for (text, expected) in [
            ("Affero GPL", "AGPL"),
            ("released under the GNU Affero GPL, see COPYING", "AGPL"),
            ("dual: AGPLv3 or commercial", "AGPL-3"),
            ("Affero General Public License, version 3 or any later version", "AGPL-3"),
            ("Affero-GPL-3", "AGPL-3"),
            ("See the Lesser General Public License", "LGPL"),
            ("LGPL v2.1 for the library", "LGPL-2"),
            ("the GNU General Public License v3 (GPLv3)", "GPL-3"),
            ("GPL_2", "GPL-2"),
            ("some Mozilla Public License 2.0 code", "MPL-2"),
            ("Server Side Public License", "SSPL"),
            ("Business Source License 1.1", "BUSL-1"),
            ("GPL-compatible, GPL compatible", ""),
            ("nothing of that kind: gplus, xagpl, mplayer, eplus", ""),
            ("European Public", ""),
        ] {
            let found = mentioned(text);
            assert_eq!(found.is_empty(), expected.is_empty(), "{text}: {found:?}");
            assert!(
                found
                    .iter()
                    .all(|id| id.starts_with(&format!("{expected}-")) || id.starts_with(&format!("{expected}."))),
                "{text}: {found:?}"
            );
        }
        let far = format!("{}AGPL", "x ".repeat(MAX_READ));
        assert!(mentioned(&far).is_empty(), "the text of a licence");
    }
}
