//! The licences that packages may have: `licences` of a rule.
//!
//! Licences are SPDX expressions (spdx.org, annex B of the specification), parsed with the crate `spdx`. `OR` is a choice
//! of whoever uses the package, so one acceptable alternative is enough; of `AND`, each part must be acceptable.

use std::fmt;

use spdx::{Expression, LicenseReq, ParseMode};

use super::pattern::Glob;
use super::rule::Behaviour;

/// The longest licence that is parsed, in bytes. A longer one is a licence text, and counts as unknown.
const MAX_EXPRESSION: usize = 4096;

/// What is accepted besides correct expressions: other spellings (`Apache 2.0`, `GPLv2+`), `/` for `OR`.
const LAX: ParseMode = ParseMode { allow_unknown: false, ..ParseMode::LAX };

/// The licences that packages may have.
#[derive(Clone, Debug, PartialEq)]
pub struct LicenceRule {
    /// If not empty, the licence of each package must match one of these.
    pub allow: Vec<LicencePattern>,
    /// No package may have a licence that matches one of these, unless it is one of several to choose from.
    pub deny: Vec<LicencePattern>,
    /// The behaviour for a package whose licence is missing or cannot be parsed.
    pub unknown: Behaviour,
}

/// An SPDX identifier in which `*` matches any characters: `AGPL-*`. Case does not matter.
#[derive(Clone, PartialEq)]
pub struct LicencePattern {
    text: String,
    glob: Glob,
}

impl LicencePattern {
    /// Compiles a pattern. Every text is a valid pattern.
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), glob: Glob::new(&text.to_ascii_lowercase()) }
    }

    /// Whether the pattern can match a licence: it has a `*`, or is a licence with or without an exception.
    pub fn is_known(&self) -> bool {
        self.text.contains('*') || Expression::parse_mode(&self.text, LAX).is_ok_and(|e| e.requirements().count() == 1)
    }

    fn matches(&self, text: &str) -> bool {
        self.glob.matches_text(&text.to_ascii_lowercase())
    }
}

impl fmt::Debug for LicencePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// Why a licence is not acceptable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LicenceProblem {
    /// The rule denies it.
    Denied,
    /// It is not among those that the rule allows.
    NotAllowed,
    /// The package states none.
    Missing,
    /// It is not an SPDX expression.
    Unreadable,
}

impl LicenceRule {
    /// Judges the licences of one package. All of them apply.
    ///
    /// # Errors
    /// The first licence that is not acceptable, and why.
    pub(super) fn judge<'a>(&self, licences: &'a [String]) -> Result<(), (LicenceProblem, &'a str)> {
        if licences.iter().all(|licence| licence.trim().is_empty()) {
            return match self.unknown {
                Behaviour::Allow => Ok(()),
                Behaviour::Deny => Err((LicenceProblem::Missing, "")),
            };
        }
        licences
            .iter()
            .filter(|licence| !licence.trim().is_empty())
            .try_for_each(|licence| self.judge_one(licence.trim()).map_err(|problem| (problem, licence.trim())))
    }

    fn judge_one(&self, licence: &str) -> Result<(), LicenceProblem> {
        let parsed = (licence.len() <= MAX_EXPRESSION).then(|| Expression::parse_mode(licence, LAX).ok()).flatten();
        let Some(expression) = parsed else {
            // Free text can name a licence too.
            return match (self.unknown, matches(&self.deny, &[licence.to_owned()])) {
                (_, true) => Err(LicenceProblem::Denied),
                (Behaviour::Deny, false) => Err(LicenceProblem::Unreadable),
                (Behaviour::Allow, false) => Ok(()),
            };
        };
        if !expression.evaluate(|licence| !matches(&self.deny, &names(licence))) {
            return Err(LicenceProblem::Denied);
        }
        if self.unknown == Behaviour::Deny && !expression.evaluate(is_stated) {
            return Err(LicenceProblem::Unreadable);
        }
        let is_allowed = |licence: &LicenseReq| {
            let names = names(licence);
            let is_unknown = !is_stated(licence) && self.unknown == Behaviour::Allow;
            !matches(&self.deny, &names) && (is_unknown || is_stated(licence) && matches(&self.allow, &names))
        };
        if self.allow.is_empty() || expression.evaluate(is_allowed) { Ok(()) } else { Err(LicenceProblem::NotAllowed) }
    }
}

fn matches(patterns: &[LicencePattern], names: &[String]) -> bool {
    patterns.iter().any(|pattern| names.iter().any(|name| pattern.matches(name)))
}

/// Whether a licence is one. `NOASSERTION` says that nobody has looked.
fn is_stated(licence: &LicenseReq) -> bool {
    licence.license.to_string() != "NOASSERTION"
}

/// The names by which patterns can refer to a licence: with its exception, without it, and without `+`, `-only` and
/// `-or-later`. An exception only permits more, so what applies to the licence applies to it with an exception.
fn names(licence: &LicenseReq) -> Vec<String> {
    let (whole, alone) = (licence.to_string(), licence.license.to_string());
    let base = ["+", "-only", "-or-later"].iter().find_map(|end| alone.strip_suffix(end)).unwrap_or(&alone).to_owned();
    // `GPL-2.0` is the deprecated name of `GPL-2.0-only`.
    let is_deprecated_gnu = licence.license.id().is_some_and(spdx::LicenseId::is_gnu) && base == alone;
    let only = is_deprecated_gnu.then(|| format!("{alone}-only"));
    [whole, alone, base].into_iter().chain(only).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: &[&str], deny: &[&str]) -> LicenceRule {
        let patterns = |texts: &[&str]| texts.iter().map(|text| LicencePattern::new(text)).collect();
        let unknown = if allow.is_empty() { Behaviour::Allow } else { Behaviour::Deny };
        LicenceRule { allow: patterns(allow), deny: patterns(deny), unknown }
    }

    #[test]
    fn expressions_are_evaluated_as_spdx_defines_them() {
        use LicenceProblem::{Denied, Missing, NotAllowed, Unreadable};
        for (allow, deny, licences, expected) in [
            (&[][..], &["AGPL-*"][..], &["MIT"][..], None),
            (&[], &["AGPL-*"], &["AGPL-3.0-only"], Some(Denied)),
            (&[], &["agpl-*"], &["agpl-3.0-or-later"], Some(Denied)),
            (&[], &["AGPL-3.0"], &["AGPL-3.0-or-later"], Some(Denied)),
            (&[], &["AGPL-3.0-only"], &["AGPL-3.0"], Some(Denied)),
            (&[], &["AGPL-3.0-only"], &["AGPL-3.0-or-later"], None),
            (&[], &["AGPL-*"], &["MIT OR AGPL-3.0-only"], None),
            (&[], &["AGPL-*"], &["MIT AND AGPL-3.0-only"], Some(Denied)),
            (&[], &["AGPL-*"], &["MIT OR Apache-2.0 AND AGPL-3.0-only"], None),
            (&[], &["AGPL-*"], &["(MIT OR Apache-2.0) AND AGPL-3.0-only"], Some(Denied)),
            (&[], &["AGPL-*"], &["MIT", "AGPL-3.0-only"], Some(Denied)),
            (&[], &["GPL-*"], &["GPL-2.0-only WITH Classpath-exception-2.0"], Some(Denied)),
            (&[], &["GPL-*"], &["GPLv2+"], Some(Denied)),
            (&[], &["AGPL-*"], &[], None),
            (&[], &["AGPL-*"], &["see the file COPYING"], None),
            (&[], &["*affero*"], &["GNU Affero General Public License v3"], Some(Denied)),
            (&["MIT", "Apache-2.0"], &[], &["MIT/Apache-2.0"], None),
            (&["MIT"], &[], &["Apache-2.0"], Some(NotAllowed)),
            (&["MIT"], &[], &["MIT OR GPL-3.0-only"], None),
            (&["MIT"], &[], &["MIT AND GPL-3.0-only"], Some(NotAllowed)),
            (&["Apache-2.0"], &[], &["Apache-2.0 WITH LLVM-exception"], None),
            (&["GPL-2.0-only WITH Classpath-exception-2.0"], &[], &["GPL-2.0-only"], Some(NotAllowed)),
            (&["*"], &["GPL-*"], &["MIT AND GPL-2.0-only"], Some(Denied)),
            (&["GPL-*", "MIT"], &["GPL-3.0*"], &["MIT OR GPL-3.0-only"], None),
            (&["LicenseRef-acme"], &[], &["LicenseRef-acme"], None),
            (&["MIT"], &[], &[], Some(Missing)),
            (&["MIT"], &[], &[" "], Some(Missing)),
            (&["MIT"], &[], &["NOASSERTION"], Some(Unreadable)),
            (&["*"], &[], &["MIT AND NOASSERTION"], Some(Unreadable)),
            (&["MIT"], &[], &["MIT OR NOASSERTION"], None),
            (&["MIT"], &[], &["NONE"], Some(Unreadable)),
            (&["MIT"], &[], &["MIT with restrictions"], Some(Unreadable)),
            (&["MIT"], &[], &["MIT AND"], Some(Unreadable)),
        ] {
            let licences: Vec<String> = licences.iter().map(|text| (*text).to_owned()).collect();
            let found = rule(allow, deny).judge(&licences).err().map(|(problem, _)| problem);
            assert_eq!(found, expected, "{allow:?} {deny:?} {licences:?}");
        }
        let long = vec![format!("MIT{}", " OR MIT".repeat(MAX_EXPRESSION))];
        assert_eq!(rule(&["MIT"], &[]).judge(&long).unwrap_err().0, Unreadable);
    }

    #[test]
    fn patterns_that_match_no_licence_are_recognised() {
        for (text, is_known) in [
            ("MIT", true),
            ("AGPL-*", true),
            ("GPL-2.0", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("LicenseRef-acme", true),
            ("MTI", false),
            ("MIT OR Apache-2.0", false),
            ("", false),
        ] {
            assert_eq!(LicencePattern::new(text).is_known(), is_known, "{text}");
        }
    }
}
