//! Licences as SPDX expressions (spdx.github.io/spdx-spec, annex "SPDX license expressions"), where the text is clear.
//!
//! Package managers state licences in words of their own: `GPL-2+` (Debian), `ASL 2.0` (Fedora), `Apache License, Version 2.0`
//! (Maven). What names one licence of SPDX becomes its identifier. What does not (`BSD`, `GPL` without a version, `Public
//! Domain`) stays as it is written, because another licence must not be claimed.

use std::sync::LazyLock;

use regex::Regex;

/// Names in the short form of [`short`], and the identifiers that they stand for.
const NAMES: &[(&str, &str)] = &[
    ("0bsd", "0BSD"),
    ("apache1.1", "Apache-1.1"),
    ("apache2", "Apache-2.0"),
    ("apachesoftware2", "Apache-2.0"),
    ("artistic2", "Artistic-2.0"),
    ("asl1.1", "Apache-1.1"),
    ("asl2", "Apache-2.0"),
    ("blueoak1.0.0", "BlueOak-1.0.0"),
    ("boost1", "BSL-1.0"),
    ("boostsoftware1", "BSL-1.0"),
    ("bsd2clause", "BSD-2-Clause"),
    ("bsd3clause", "BSD-3-Clause"),
    ("bsd4clause", "BSD-4-Clause"),
    ("bsl1", "BSL-1.0"),
    ("cc01", "CC0-1.0"),
    ("cc01universal", "CC0-1.0"),
    ("ccby3", "CC-BY-3.0"),
    ("ccby4", "CC-BY-4.0"),
    ("ccbysa3", "CC-BY-SA-3.0"),
    ("ccbysa4", "CC-BY-SA-4.0"),
    ("cddl1", "CDDL-1.0"),
    ("cddl1.1", "CDDL-1.1"),
    ("curl", "curl"),
    ("eclipsepublic1", "EPL-1.0"),
    ("eclipsepublic2", "EPL-2.0"),
    ("epl1", "EPL-1.0"),
    ("epl2", "EPL-2.0"),
    ("eupl1.2", "EUPL-1.2"),
    ("expat", "MIT"),
    ("freebsd", "BSD-2-Clause"),
    ("hpnd", "HPND"),
    ("isc", "ISC"),
    ("mit", "MIT"),
    ("mit0", "MIT-0"),
    ("modifiedbsd", "BSD-3-Clause"),
    ("mozillapublic1.1", "MPL-1.1"),
    ("mozillapublic2", "MPL-2.0"),
    ("mpl1.1", "MPL-1.1"),
    ("mpl2", "MPL-2.0"),
    ("ncsa", "NCSA"),
    ("newbsd", "BSD-3-Clause"),
    ("ofl1.1", "OFL-1.1"),
    ("openssl", "OpenSSL"),
    ("php3.01", "PHP-3.01"),
    ("postgresql", "PostgreSQL"),
    ("psf2", "PSF-2.0"),
    ("python2", "Python-2.0"),
    ("revisedbsd", "BSD-3-Clause"),
    ("ruby", "Ruby"),
    ("silopenfont1.1", "OFL-1.1"),
    ("simplifiedbsd", "BSD-2-Clause"),
    ("unlicense", "Unlicense"),
    ("upl1", "UPL-1.0"),
    ("vim", "Vim"),
    ("w3c", "W3C"),
    ("wtfpl", "WTFPL"),
    ("x11", "X11"),
    ("zlib", "Zlib"),
    ("zliblibpng", "Zlib"),
    ("zpl2.1", "ZPL-2.1"),
];

/// A licence as an SPDX expression, or as it is written if a part of it is not clear.
pub(super) fn normalised(license: &str) -> String {
    static OPERATORS: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\s+(?:and/or|and|or|with)\s+|[()]"));
    static LATER: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?i)\s+or\s+(?:\(at your option\)\s+)?(?:any\s+)?(?:later|newer)(?:\s+version)?"));
    let written = license.trim();
    // A name is followed by its abbreviation: `GNU General Public License v3 (GPLv3)`.
    let without_abbreviation = written.strip_suffix(')').and_then(|rest| rest.rsplit_once(" (")).map(|(name, _)| name);
    let whole = LATER.replace_all(written, "+");
    let known =
        identifier(&whole).or_else(|| without_abbreviation.and_then(|name| identifier(&LATER.replace_all(name, "+"))));
    if let Some(known) = known {
        return known;
    }
    let (mut out, mut at, mut is_exception) = (String::new(), 0, false);
    for operator in OPERATORS.find_iter(&whole).map(Some).chain([None]) {
        let end = operator.map_or(whole.len(), |found| found.start());
        let term = whole[at..end].trim();
        match identifier(term) {
            Some(known) if !is_exception => out += &known,
            // A single word may be an identifier of SPDX that is not in the table.
            _ if !term.contains(char::is_whitespace) => out += term,
            _ => return written.to_owned(),
        }
        let Some(operator) = operator else { break };
        at = operator.end();
        let word = operator.as_str().trim().to_ascii_uppercase();
        is_exception = word == "WITH";
        out += &match &*word {
            "(" | ")" => word,
            "AND/OR" => " OR ".to_owned(),
            _ => format!(" {word} "),
        };
    }
    out
}

fn pattern(pattern: &str) -> Regex {
    // Patterns are constants, which the tests compile.
    Regex::new(pattern).expect("a valid pattern")
}

/// The identifier of SPDX that a name stands for.
fn identifier(name: &str) -> Option<String> {
    static FAMILY: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(gpl|lgpl|agpl|gfdl)(\d)(\.\d)?(\+?)$"));
    let short = short(name);
    if let Ok(index) = NAMES.binary_search_by(|(known, _)| (*known).cmp(&short)) {
        return Some(NAMES[index].1.to_owned());
    }
    let parts = FAMILY.captures(&short)?;
    let minor = parts.get(3).map_or(".0", |minor| minor.as_str());
    let suffix = if parts[4].is_empty() { "only" } else { "or-later" };
    Some(format!("{}-{}{minor}-{suffix}", parts[1].to_ascii_uppercase(), &parts[2]))
}

/// A name without what people write differently: case, spaces, `License`, `Version`, `v` before a number, `.0` at the end.
fn short(name: &str) -> String {
    let mut short: String = name
        .chars()
        .filter(|character| character.is_ascii_alphanumeric() || matches!(character, '.' | '+'))
        .map(|character| character.to_ascii_lowercase())
        .collect();
    if short == "unlicense" || short == "theunlicense" {
        return "unlicense".to_owned();
    }
    for (long, word) in [
        ("licence", ""),
        ("license", ""),
        ("version", ""),
        ("gnugeneralpublic", "gpl"),
        ("gnulessergeneralpublic", "lgpl"),
        ("gnulibrarygeneralpublic", "lgpl"),
        ("gnuafferogeneralpublic", "agpl"),
        ("gnufreedocumentation", "gfdl"),
        ("gnu", ""),
        ("orlater", "+"),
        ("2clausebsd", "bsd2clause"),
        ("3clausebsd", "bsd3clause"),
    ] {
        short = short.replace(long, word);
    }
    if let Some(rest) = short.strip_prefix("the") {
        short = rest.to_owned();
    }
    if let Some(rest) = short.strip_suffix("only") {
        short = rest.to_owned();
    }
    // `gplv2` and `gpl2`, `2.0` and `2`.
    if let Some(at) = short.find(|character: char| character.is_ascii_digit()).filter(|at| *at > 1)
        && short.as_bytes()[at - 1] == b'v'
    {
        short.remove(at - 1);
    }
    let (stem, plus) = short.strip_suffix('+').map_or((&*short, ""), |stem| (stem, "+"));
    match stem.strip_suffix(".0").filter(|stem| !stem.contains('.')) {
        Some(stem) => format!("{stem}{plus}"),
        None => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_short() {
        assert!(NAMES.is_sorted_by_key(|(name, _)| *name));
        for (name, _) in NAMES {
            assert_eq!(short(name), *name);
        }
    }

    #[test]
    fn clear_names_become_identifiers() {
        for (written, expected) in [
            // SPDX
            ("MIT", "MIT"),
            ("(MIT OR Apache-2.0)", "(MIT OR Apache-2.0)"),
            ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
            ("AGPL-3.0", "AGPL-3.0-only"),
            ("BSD-3-Clause AND Zlib", "BSD-3-Clause AND Zlib"),
            ("Python-2.0.1", "Python-2.0.1"),
            ("EPL-2.0 OR Unknown-1.0", "EPL-2.0 OR Unknown-1.0"),
            // Debian
            ("GPL-2+", "GPL-2.0-or-later"),
            ("LGPL-2.1+ and Expat", "LGPL-2.1-or-later AND MIT"),
            ("GPL-3", "GPL-3.0-only"),
            ("BSD-3-clause", "BSD-3-Clause"),
            // Fedora
            ("ASL 2.0", "Apache-2.0"),
            ("GPLv2+ and LGPLv2+ and MIT", "GPL-2.0-or-later AND LGPL-2.0-or-later AND MIT"),
            ("(GPLv3+ or LGPLv3) and MIT", "(GPL-3.0-or-later OR LGPL-3.0-only) AND MIT"),
            // PyPI, Maven, npm
            ("Apache License, Version 2.0", "Apache-2.0"),
            ("The Apache Software License, Version 2.0", "Apache-2.0"),
            ("Apache 2.0", "Apache-2.0"),
            ("The MIT License", "MIT"),
            ("GNU General Public License v2 or later (GPLv2+)", "GPL-2.0-or-later"),
            ("GNU Affero General Public License v3", "AGPL-3.0-only"),
            ("Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0"),
            ("ISC License (ISCL)", "ISC"),
            ("The Unlicense", "Unlicense"),
            ("Eclipse Public License - v 2.0", "EPL-2.0"),
            ("New BSD License", "BSD-3-Clause"),
            ("3-Clause BSD License", "BSD-3-Clause"),
            // Not clear
            ("BSD", "BSD"),
            ("BSD License", "BSD License"),
            ("GPL", "GPL"),
            ("Public Domain and MIT", "Public Domain and MIT"),
            ("SEE LICENSE IN LICENSE.md", "SEE LICENSE IN LICENSE.md"),
            ("", ""),
        ] {
            assert_eq!(normalised(written), expected, "{written}");
        }
    }
}
