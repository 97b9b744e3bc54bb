//! Licences as SPDX expressions (spdx.github.io/spdx-spec, annex "SPDX license expressions").
//!
//! Each package manager names licences in its own way: `GPL-2+` (Debian), `ASL 2.0` (Fedora), `Apache License, Version
//! 2.0` (Maven). A name of exactly one SPDX licence becomes its identifier. Other names (`BSD`, `GPL` without a
//! version, `Public Domain`) stay unknown, because a wrong licence must not be claimed.
//!
//! An ambiguous text is read in the strictest way: licences listed with commas all apply, and
//! `A or B, and C` is `(A OR B) AND C`, as in Debian's copyright files (DEP-5).

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

mod full_names;
mod grammar;
mod mentions;
mod names;

use grammar::LicenceToken;
pub(crate) use mentions::mentioned;
use names::{DEPRECATED, EXCEPTIONS, FAMILIES, NAMES};

/// The longest text that is read, in bytes. A longer one is the text of a licence.
const MAX_TEXT: usize = 4096;
/// The start of the identifiers of unknown parts.
const UNKNOWN: &str = "LicenseRef-unknown-";
/// The start of the name of a text that is not in SPDX's list.
const REFERENCE: &str = "LicenseRef-";
/// The maximum number of parts in the name of a reference that are examined.
const MAX_PARTS: usize = 16;
/// The maximum number of characters of an unknown part in its identifier.
const MAX_UNKNOWN: usize = 64;

/// A licence as an SPDX expression, in which unknown parts are called `LicenseRef-unknown-…`: of `GPL-2+ with OpenSSL
/// exception` it is `GPL-2.0-or-later AND LicenseRef-unknown-with-OpenSSL-exception`. `None` if no part is known.
pub(crate) fn expression(written: &str) -> Option<String> {
    static LATER: LazyLock<Regex> = LazyLock::new(|| {
        pattern(r"(?i)[\s,]+or\s+(?:\(at your option\)\s+)?(?:any\s+)?(?:later|newer|greater)(?:\s+version)?")
    });
    // A comma before a version separates no licences.
    static VERSION: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?i),\s*((?:version|ver\.?|v\.?)[\s-]*\d|\d[\d.]*(?:[\s)]|$))"));
    let written = classified(written.trim());
    if written.len() > MAX_TEXT {
        return None;
    }
    let whole = LATER.replace_all(written, "+");
    let whole = VERSION.replace_all(&whole, " $1");
    if let Some(known) = identifier(&whole).or_else(|| abbreviated(&whole)) {
        return Some(known);
    }
    // The name of a family may contain `or`.
    if family(&whole).is_some() {
        return Some(unknown(&whole));
    }
    let tokens = grammar::tokens(&whole);
    let is_known = |token: &LicenceToken| match token {
        LicenceToken::Term(term) => !is_unknown(term) || !candidates(term).is_empty(),
        _ => false,
    };
    tokens.iter().any(is_known).then(|| grammar::expression(&tokens))
}

/// Whether a text is exactly an identifier of SPDX's list: `MIT`, and not `mit` or `MIT License`.
pub(crate) fn is_identifier(text: &str) -> bool {
    spdx::license_id(text).is_some_and(|known| known.name == text)
}

/// The name in a classifier of PyPI: `GPL` in `License :: OSI Approved :: GPL`.
fn classified(written: &str) -> &str {
    let rest = written.strip_prefix("License :: ");
    rest.map_or(written, |rest| rest.strip_prefix("OSI Approved :: ").unwrap_or(rest))
}

/// A licence as an SPDX expression, or as written if a part of it is unclear.
pub(crate) fn normalised(written: &str) -> String {
    expression(written).filter(|known| is_clear(known)).unwrap_or_else(|| written.trim().to_owned())
}

/// Whether all parts of an expression are known.
pub(crate) fn is_clear(expression: &str) -> bool {
    !expression.contains(UNKNOWN)
}

/// Whether the identifier is that of an unknown part of an expression.
pub(crate) fn is_unknown(identifier: &str) -> bool {
    identifier.starts_with(UNKNOWN)
}

/// The name in a reference to a text that is not in SPDX's list: `acme` of `LicenseRef-acme` and
/// `DocumentRef-x:LicenseRef-acme`. Its author chose the name, which says nothing reliable about the text.
pub(crate) fn referred(identifier: &str) -> Option<&str> {
    let own = identifier.strip_prefix("DocumentRef-").and_then(|rest| rest.split_once(':')).map(|(_, own)| own);
    own.unwrap_or(identifier).strip_prefix(REFERENCE)
}

/// The identifiers of SPDX in the name of a reference: `Elastic-2.0` in `scancode-elastic-2.0-modified`.
pub(crate) fn named_in(name: &str) -> Vec<String> {
    let parts: Vec<&str> = name.split('-').take(MAX_PARTS).collect();
    let ranges = (0..parts.len()).flat_map(|start| (start..parts.len()).map(move |end| start..=end));
    ranges.filter_map(|range| exact(&parts[range].join("-"))).collect()
}

/// SPDX's replacement for a deprecated identifier, and the licences in it.
pub(crate) fn successors(identifier: &str) -> &'static [&'static str] {
    DEPRECATED.iter().find(|(old, _)| *old == identifier).map_or(&[], |(_, new)| *new)
}

/// The identifiers of SPDX that an unclear name may stand for: for `BSD` those of all licences of that family. `name`
/// is a text, or the identifier of an unknown part. Empty if it may be anything.
pub(crate) fn candidates(name: &str) -> Vec<&'static str> {
    static END: LazyLock<Regex> = LazyLock::new(|| pattern(r"^-\d[\d.]*(?:-only|-or-later|-Clause)?$"));
    let name = name.strip_prefix(UNKNOWN).unwrap_or(name);
    let Some(family) = family(name) else { return full_names::versions(name).to_vec() };
    let all = spdx::identifiers::LICENSES.iter().map(|license| license.name);
    all.filter(|id| id.strip_prefix(family).is_some_and(|end| END.is_match(end))).collect()
}

/// Whether an unclear name is that of a family, such as `BSD`, all licences of which are known.
pub(crate) fn is_family(name: &str) -> bool {
    family(name.strip_prefix(UNKNOWN).unwrap_or(name)).is_some()
}

/// The identifier of an unknown part; for a name without a version, that of its family: `LicenseRef-unknown-BSD`.
fn unknown(text: &str) -> String {
    let character = |character: char| match character.is_ascii_alphanumeric() || character == '.' {
        true => character,
        false => '-',
    };
    let name = || text.trim().chars().map(character).take(MAX_UNKNOWN).collect();
    format!("{UNKNOWN}{}", family(text).map_or_else(name, str::to_owned))
}

fn pattern(pattern: &str) -> Regex {
    // Patterns are constants, which the tests compile.
    Regex::new(pattern).expect("a valid pattern")
}

/// The identifier of a name that is followed by its abbreviation: `GNU General Public License v3 (GPLv3)`.
fn abbreviated(text: &str) -> Option<String> {
    let (name, short) = text.strip_suffix(')')?.rsplit_once(" (")?;
    let known = identifier(name)?;
    let is_same = match identifier(short) {
        Some(other) => other == known,
        None => {
            family(short).is_some_and(|family| known.strip_prefix(family).is_some_and(|end| end.starts_with('-')))
                || is_abbreviation(short, name, &known)
        }
    };
    is_same.then_some(known)
}

/// Whether a text is the start of the identifier, or the initials of the name, with or without the version: `CPAL`,
/// `ELv2`.
fn is_abbreviation(text: &str, name: &str, identifier: &str) -> bool {
    let is_digit = |character: char| character.is_ascii_digit();
    let split = |text: &'_ str| text.find(is_digit).unwrap_or(text.len());
    let letters = |text: &str| text.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase();
    let ((written, version), (stem, own)) = (text.split_at(split(text)), identifier.split_at(split(identifier)));
    let written = letters(written);
    let written = if version.is_empty() { &*written } else { written.strip_suffix('v').unwrap_or(&written) };
    let is_version =
        |word: &str| matches!(word, "v" | "version" | "Version") || word.trim_start_matches('v').starts_with(is_digit);
    let words = name.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !is_version(word));
    let initials: String = words.filter_map(|word| word.chars().next()).collect();
    !written.is_empty()
        && own.starts_with(version)
        && (written == letters(stem) || written == initials.to_ascii_lowercase())
}

/// The identifier of SPDX that a name stands for.
fn identifier(name: &str) -> Option<String> {
    static GNU: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(gpl|lgpl|agpl|gfdl)(\d)(\.\d)?(\+?)$"));
    // `CC BY-NC 4.0`; but in `LicenseRef-acme AND MIT` only the first word is a reference.
    let joined = || name.split_whitespace().collect::<Vec<_>>().join("-");
    let of_words = || exact(&joined()).filter(|known| referred(known).is_none());
    if let Some(known) = exact(name).or_else(of_words) {
        return Some(known);
    }
    let of_tables = || {
        let short = short(name)?;
        if let Some(known) = find(NAMES, &short) {
            return Some(known.to_owned());
        }
        let parts = GNU.captures(&short)?;
        let minor = parts.get(3).map_or(".0", |minor| minor.as_str());
        let suffix = if parts[4].is_empty() { "only" } else { "or-later" };
        let known = format!("{}-{}{minor}-{suffix}", parts[1].to_ascii_uppercase(), &parts[2]);
        spdx::license_id(&known).map(|_| known)
    };
    of_tables().or_else(|| full_names::find(name).map(str::to_owned))
}

/// An identifier of SPDX in upper or lower case, or a reference. The deprecated ones of GNU licences are left out.
fn exact(name: &str) -> Option<String> {
    static LICENSES: LazyLock<HashMap<String, &str>> = LazyLock::new(|| {
        spdx::identifiers::LICENSES.iter().map(|license| (license.name.to_ascii_lowercase(), license.name)).collect()
    });
    let name = name.trim();
    if referred(name).is_some() {
        return spdx::Expression::parse(name).is_ok_and(|one| one.requirements().count() == 1).then(|| name.to_owned());
    }
    let (stem, plus) = name.strip_suffix('+').map_or((name, ""), |stem| (stem, "+"));
    let known = spdx::license_id(LICENSES.get(&stem.to_ascii_lowercase())?)?;
    let is_other = known.name.contains("-with-") || (known.is_gnu() && (known.is_deprecated() || !plus.is_empty()));
    (!is_other).then(|| format!("{}{plus}", known.name))
}

/// The identifier of an exception to a licence.
fn exception(name: &str, licence: &str) -> Option<&'static str> {
    let all = || spdx::identifiers::EXCEPTIONS.iter().map(|exception| exception.name);
    let exact = all().find(|known| known.eq_ignore_ascii_case(name.trim()));
    let version = licence.chars().find(char::is_ascii_digit);
    let named = || {
        let name = short(name)?;
        find(EXCEPTIONS, &name).or_else(|| find(EXCEPTIONS, &format!("{name}{}", version?)))
    };
    exact.or_else(named)
}

/// The start of the identifiers that a name without a version may stand for.
fn family(name: &str) -> Option<&'static str> {
    let without = name.trim().strip_suffix(')').and_then(|text| text.rsplit_once(" ("));
    let of = |name: &str| find(FAMILIES, &short(name)?);
    match without {
        Some((name, abbreviation)) => of(name).filter(|family| of(abbreviation) == Some(*family)),
        None => of(name),
    }
}

fn find(table: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    table.binary_search_by(|(known, _)| (*known).cmp(name)).ok().map(|index| table[index].1)
}

/// A name without what people write differently: case, spaces, `License`, `Version`, `v` before a number, `.0` at the
/// end. `None` for words in other scripts, which must not be left out.
fn short(name: &str) -> Option<String> {
    if name.chars().any(|character| !character.is_ascii() && character.is_alphanumeric()) {
        return None;
    }
    let mut short: String = name
        .chars()
        .filter(|character| character.is_ascii_alphanumeric() || matches!(character, '.' | '+'))
        .map(|character| character.to_ascii_lowercase())
        .collect();
    if short == "unlicense" || short == "theunlicense" {
        return Some("unlicense".to_owned());
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
        ("afferogeneralpublic", "agpl"),
        ("lessergeneralpublic", "lgpl"),
        ("librarygeneralpublic", "lgpl"),
        ("generalpublic", "gpl"),
        ("afferoagpl", "agpl"),
        ("afferogpl", "agpl"),
        ("lessergpl", "lgpl"),
        ("librarygpl", "lgpl"),
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
    // `gplv2` and `gpl2`, `v.2` and `v2`, `2.0` and `2`.
    if let Some(at) = short.find("v.").filter(|at| short[at + 2..].starts_with(|next: char| next.is_ascii_digit())) {
        short.remove(at + 1);
    }
    if let Some(at) = short.find(|character: char| character.is_ascii_digit()).filter(|at| *at > 1)
        && short.as_bytes()[at - 1] == b'v'
    {
        short.remove(at - 1);
    }
    let (stem, plus) = short.strip_suffix('+').map_or((&*short, ""), |stem| (stem, "+"));
    Some(match stem.strip_suffix(".0").filter(|stem| !stem.contains('.')) {
        Some(stem) => format!("{stem}{plus}"),
        None => short,
    })
}

#[cfg(test)]
mod tests;
