//! The licences that packages may have: `licences` of a rule.
//!
//! Licences are SPDX expressions (spdx.org, annex B of the specification), parsed with the crate `spdx`. `OR` is a choice
//! of whoever uses the package, so one acceptable alternative is enough; of `AND`, each part must be acceptable.

use std::fmt;

use spdx::expression::{ExprNode, Operator};
use spdx::{Expression, LicenseReq, ParseMode};

use super::pattern::Glob;
use super::rule::Behaviour;
use super::vulnerability::DeclaredLicence;
use crate::licence;

/// The longest licence that is parsed, in bytes. A longer one is a licence text, and counts as unknown.
const MAX_EXPRESSION: usize = 4096;

/// What is accepted besides correct expressions: deprecated identifiers. Other spellings are read by [`licence`].
const SPDX: ParseMode = ParseMode { allow_deprecated: true, ..ParseMode::STRICT };

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

/// An SPDX identifier in which `*` matches any characters: `AGPL-*`. Case does not matter. Without `*`, it may be written in
/// any way in which package managers write licences: `GPLv3`.
#[derive(Clone, PartialEq)]
pub struct LicencePattern {
    text: String,
    /// The text, and the identifiers that it stands for.
    globs: Vec<Glob>,
}

impl LicencePattern {
    /// Compiles a pattern. Every text is a valid pattern.
    pub fn new(text: &str) -> Self {
        let texts = std::iter::once(text.trim().to_owned()).chain(identifiers(text.trim()));
        Self { text: text.to_owned(), globs: texts.map(|text| Glob::new(&text.to_ascii_lowercase())).collect() }
    }

    /// Whether the pattern can match a licence of SPDX. One that begins with `*` is meant for texts, too.
    pub fn is_known(&self) -> bool {
        let text = self.text.trim();
        let matches_some = || spdx::identifiers::LICENSES.iter().any(|license| self.matches(license.name));
        let is_reference = || ["LicenseRef-", "DocumentRef-"].iter().any(|start| text.starts_with(start));
        match text.contains('*') {
            true => text.starts_with('*') || is_reference() || matches_some(),
            false => !identifiers(text).is_empty(),
        }
    }

    fn matches(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        self.globs.iter().any(|glob| glob.matches_text(&text))
    }
}

impl fmt::Debug for LicencePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// The identifiers that a pattern without `*` stands for. Empty if it is no licence, or joins several.
fn identifiers(text: &str) -> Vec<String> {
    if text.contains('*') {
        return Vec::new();
    }
    let expression = licence::expression(text).filter(|expression| licence::is_clear(expression));
    let Some(id) = expression else { return licence::candidates(text).into_iter().map(str::to_owned).collect() };
    if [" AND ", " OR "].iter().any(|operator| id.contains(operator)) {
        return Vec::new();
    }
    // `GPLv3` says no more than the deprecated identifier `GPL-3.0`, which stands for both.
    let both = id.strip_suffix("-only").filter(|_| !text.to_ascii_lowercase().contains("only")).map(str::to_owned);
    std::iter::once(id).chain(both).collect()
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
    /// The first licence that is not acceptable, as the package states it, and why.
    pub(super) fn judge<'a>(&self, licences: &'a [DeclaredLicence]) -> Result<(), (LicenceProblem, &'a str)> {
        let stated = || licences.iter().filter(|licence| !licence.written.trim().is_empty());
        if stated().next().is_none() {
            return match self.unknown {
                Behaviour::Allow => Ok(()),
                Behaviour::Deny => Err((LicenceProblem::Missing, "")),
            };
        }
        stated().try_for_each(|licence| self.judge_one(licence).map_err(|problem| (problem, licence.written.trim())))
    }

    fn judge_one(&self, licence: &DeclaredLicence) -> Result<(), LicenceProblem> {
        let written = licence.written.trim();
        let text = licence.expression.as_deref().unwrap_or(written);
        let is_short = licence.expression.is_some() || text.len() <= MAX_EXPRESSION;
        let parsed = is_short.then(|| Expression::parse_mode(text, SPDX).ok()).flatten();
        let Some(expression) = parsed else {
            // Free text can name a licence too.
            return match (self.unknown, self.denies_text(written)) {
                (_, true) => Err(LicenceProblem::Denied),
                (Behaviour::Deny, false) => Err(LicenceProblem::Unreadable),
                (Behaviour::Allow, false) => Ok(()),
            };
        };
        let is_choice = expression.iter().any(|node| matches!(node, ExprNode::Op(Operator::Or)));
        if (!is_choice && self.denies_text(written)) || self.denies(&expression) {
            return Err(LicenceProblem::Denied);
        }
        if self.unknown == Behaviour::Deny && !expression.evaluate(is_known) {
            return Err(LicenceProblem::Unreadable);
        }
        let is_acceptable = |licence: &LicenseReq| !self.denies_one(licence) && self.allows(licence);
        if self.allow.is_empty() || expression.evaluate(is_acceptable) {
            Ok(())
        } else {
            Err(LicenceProblem::NotAllowed)
        }
    }

    /// Whether free text matches a denied licence, or may mean one.
    fn denies_text(&self, text: &str) -> bool {
        matches(&self.deny, &[text.to_owned()]) || licence::candidates(text).into_iter().any(|id| self.denies_id(id))
    }

    /// Whether no alternative is left without the denied licences. One that is unknown is none, where it is the only one
    /// besides a denied one.
    fn denies(&self, expression: &Expression) -> bool {
        let is_left = |is_denied_left: bool, is_unknown_left: bool| {
            expression.evaluate(|licence| match (self.denies_one(licence), is_stated(licence)) {
                (true, _) => is_denied_left,
                (false, true) => true,
                (false, false) => is_unknown_left,
            })
        };
        !is_left(false, true) || (!is_left(false, false) && is_left(true, false))
    }

    fn denies_one(&self, licence: &LicenseReq) -> bool {
        matches(&self.deny, &names(licence)) || candidates(licence).into_iter().any(|id| self.denies_id(id))
    }

    fn denies_id(&self, id: &str) -> bool {
        spdx::license_id(id).is_some_and(|id| matches(&self.deny, &names(&LicenseReq::from(id))))
    }

    /// Whether a licence is among those that the rule allows. An unclear name is, if all licences that it may mean are.
    fn allows(&self, licence: &LicenseReq) -> bool {
        let is_allowed =
            |id: &&str| spdx::license_id(id).is_some_and(|id| matches(&self.allow, &names(&LicenseReq::from(id))));
        match is_stated(licence) {
            true => matches(&self.allow, &names(licence)),
            false if self.unknown == Behaviour::Allow => true,
            false => is_known(licence) && candidates(licence).iter().all(is_allowed),
        }
    }
}

fn matches(patterns: &[LicencePattern], names: &[String]) -> bool {
    patterns.iter().any(|pattern| names.iter().any(|name| pattern.matches(name)))
}

/// Whether a licence is one. `NOASSERTION` says that nobody has looked.
fn is_stated(licence: &LicenseReq) -> bool {
    let name = licence.license.to_string();
    name != "NOASSERTION" && !licence::is_unknown(&name)
}

/// Whether a licence is one, or one of several with the same name.
fn is_known(licence: &LicenseReq) -> bool {
    is_stated(licence) || !candidates(licence).is_empty()
}

/// The licences that an unclear name may mean.
fn candidates(licence: &LicenseReq) -> Vec<&'static str> {
    if is_stated(licence) { Vec::new() } else { licence::candidates(&licence.license.to_string()) }
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
            let licences: Vec<_> = licences.iter().map(|text| DeclaredLicence::new((*text).to_owned())).collect();
            let found = rule(allow, deny).judge(&licences).err().map(|(problem, _)| problem);
            assert_eq!(found, expected, "{allow:?} {deny:?} {licences:?}");
        }
        let long = [DeclaredLicence::new(format!("MIT{}", " OR MIT".repeat(MAX_EXPRESSION)))];
        assert_eq!(rule(&["MIT"], &[]).judge(&long).unwrap_err().0, Unreadable);
    }

    #[test]
    fn licences_are_judged_as_package_managers_write_them() {
        use LicenceProblem::{Denied, NotAllowed, Unreadable};
        for (allow, deny, written, expected) in [
            (&[][..], &["GPL-2.0-only"][..], "GPL-2", Some(Denied)),
            (&[], &["GPL-2.0-only"], "GPLv2", Some(Denied)),
            (&[], &["GPL-2.0-only"], "GNU GPL v2", Some(Denied)),
            (&[], &["GPL-2.0*"], "GPL-2+ with OpenSSL exception", Some(Denied)),
            (&[], &["GPL-3.0*"], "MIT or GPL-3", None),
            (&[], &["GPL-3.0*"], "MIT, GPL-3", Some(Denied)),
            (&[], &["GPL-3.0*"], "MIT or Expat, and GPL-3", Some(Denied)),
            (&[], &["GPL-3.0*"], "Public Domain and GPL-3", Some(Denied)),
            (&[], &["GPL-3.0*"], "GPL-3 or something else", Some(Denied)),
            (&[], &["GPL-3.0*"], "(GPL-3 or MIT) and something else", None),
            (&[], &["GPL-3.0*"], "MIT (GPL-3)", Some(Denied)),
            (&[], &["GPL-3.0*"], "MIT BSD GPL3+", Some(Denied)),
            (&[], &["GPL-3.0*"], "GPL-3 (see COPYING", Some(Denied)),
            // A name without a version may mean any.
            (&[], &["GPL-3.0-only"], "GPL", Some(Denied)),
            (&[], &["BSD-4-Clause"], "BSD License", Some(Denied)),
            (&[], &["BSD-4-Clause"], "MIT AND BSD", Some(Denied)),
            (&[], &["GPL-3.0-only"], "BSD", None),
            (&["GPL-*"], &[], "GPL", None),
            (&["BSD-*"], &[], "BSD-style", None),
            (&["BSD-3-Clause"], &[], "BSD", Some(NotAllowed)),
            (&["MIT"], &[], "MIT/X11", None),
            (&["Apache-2.0"], &[], "Apache 2", None),
            (&["MIT"], &[], "MIT and something else", Some(Unreadable)),
            (&["MIT", "*"], &[], "something else", Some(Unreadable)),
            (&["*"], &[], "MIT AND something else", Some(Unreadable)),
            (&["*"], &[], "LicenseRef-unknown-x", Some(Unreadable)),
            // As it is written.
            (&[], &["Expat"], "Expat", Some(Denied)),
            (&[], &["*affero*"], "MIT and GNU Affero thing", Some(Denied)),
            (&[], &["*gpl*"], "MIT or GPL-3", None),
        ] {
            let found = rule(allow, deny).judge(&[DeclaredLicence::new(written.to_owned())]).err().map(|error| error.0);
            assert_eq!(found, expected, "{allow:?} {deny:?} {written:?}");
        }
    }

    /// A pattern is read as what is installed.
    #[test]
    fn patterns_may_be_written_as_package_managers_write_licences() {
        for (pattern, written, is_denied) in [
            ("GPL-3.0+", "GPL-3.0+", true),
            ("GPL-3.0+", "GPL-3.0-or-later", true),
            ("GPL-3.0+", "GPL-3.0-only", false),
            ("GPLv3+", "GPL-3.0-or-later", true),
            ("GPLv3", "GPL-3.0-only", true),
            ("GPLv3", "GPL-3+", true),
            ("AGPLv3", "AGPL-3.0-only", true),
            ("agpl-3.0-only", "AGPL-3.0", true),
            ("AGPL-3.0-only", "agpl-3.0-only", true),
            ("AGPL-3.0-only", "AGPL-3.0-or-later", false),
            ("AGPL", "AGPL-1.0-only", true),
            ("AGPL", "GPL-3.0-only", false),
            ("LGPL-2.1+", "LGPL-2.1-or-later", true),
            ("Apache 2.0", "Apache-2.0", true),
            ("Apache-2", "Apache License, Version 2.0", true),
            (" MIT ", "Expat", true),
            ("NOASSERTION", "NOASSERTION", true),
            ("Proprietary", "PROPRIETARY", true),
            // The parts of an expression, in any case and beside unknown ones.
            ("AGPL-*", "MIT AND agpl-3.0-only", true),
            ("AGPL-*", "mit and AGPL-3.0", true),
            ("AGPL-*", "MIT AND custom AND AGPL-3.0-only", true),
            ("AGPL-*", "MIT AND AGPL-3.0-only WITH Foo-exception", true),
            ("AGPL-*", "MIT; AGPL-3.0-only", true),
            ("AGPL-*", "(AGPL-3.0-only", true),
            ("AGPL-*", "GNU Affero General Public License v3", true),
            ("AGPL-*", "AGPL-3.0-only OR NOASSERTION", true),
            ("GPL-*", "GPL-2.0-or-later AND 0BSD AND Public-Domain AND LGPL-2.1-or-later", true),
            ("LGPL-*", "GPL-3.0-only", false),
        ] {
            let declared = [DeclaredLicence::new(written.to_owned())];
            let found = rule(&[], &[pattern]).judge(&declared).is_err();
            assert_eq!(found, is_denied, "{pattern:?} {written:?}");
        }
        let allowing = LicenceRule { unknown: Behaviour::Allow, ..rule(&["MIT", "Apache-2"], &[]) };
        for (written, is_allowed) in
            [("apache-2.0", true), ("GPL-3.0-only AND custom", false), ("MIT AND custom", true), ("custom", true)]
        {
            let declared = [DeclaredLicence::new(written.to_owned())];
            assert_eq!(allowing.judge(&declared).is_ok(), is_allowed, "{written:?}");
        }
    }

    #[test]
    fn patterns_that_match_no_licence_are_recognised() {
        for (text, is_known) in [
            ("gpl-3.0-only", true),
            ("GPLv3+", true),
            ("AGPL", true),
            ("*affero*", true),
            ("LicenseRef-*", true),
            ("AGPLv3*", false),
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
