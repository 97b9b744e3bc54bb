//! The licences that packages may have: `licences` of a rule.
//!
//! Licences are SPDX expressions (spdx.org, annex B of the specification), parsed with the crate `spdx`. `OR` lets the
//! user of the package choose, so one acceptable alternative is enough; with `AND`, every part must be acceptable.

use std::fmt;

use spdx::expression::{ExprNode, Operator};
use spdx::{Expression, LicenseReq, ParseMode};

use super::rule::Behaviour;
use crate::licence;
use crate::policy::matching::pattern::Glob;
use crate::policy::vulnerability::DeclaredLicence;

/// The longest licence that is parsed, in bytes. A longer one is a licence text, and counts as unknown.
const MAX_EXPRESSION: usize = 4096;

/// The endings of the file names in addresses of licences.
const FILE_ENDINGS: [&str; 5] = [".txt", ".en.html", ".html", ".php", ".md"];

/// Deprecated identifiers are accepted in addition to correct expressions. Other spellings are read by [`licence`].
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

/// An SPDX identifier in which `*` matches any characters: `AGPL-*`. Case does not matter. Without `*`, any notation of
/// package managers is accepted: `GPLv3`.
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
        match text.contains('*') {
            true => text.starts_with('*') || self.is_of_references() || matches_some(),
            false => !identifiers(text).is_empty() || (self.is_of_references() && !text.contains(char::is_whitespace)),
        }
    }

    /// Whether the pattern is about references to texts that are not in SPDX's list.
    fn is_of_references(&self) -> bool {
        let text = self.text.trim().to_ascii_lowercase();
        ["licenseref-", "documentref-"].iter().any(|start| text.starts_with(start))
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

/// The identifiers that a pattern without `*` stands for. Empty if it is not a licence, or joins several.
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
pub(in crate::policy) enum LicenceProblem {
    /// The rule denies it.
    Denied,
    /// It is not among those that the rule allows.
    NotAllowed,
    /// The package states none.
    Missing,
    /// It is not an SPDX expression of licences that are known, or refers to a text that is not available here.
    Unreadable,
}

impl LicenceRule {
    /// Judges the licences of one package. All of them apply.
    ///
    /// # Errors
    /// The first licence that is not acceptable, as the package states it, and why.
    pub(in crate::policy) fn judge<'a>(
        &self,
        licences: &'a [DeclaredLicence],
    ) -> Result<(), (LicenceProblem, &'a str)> {
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
            let is_denied = self.denies_text(written) || self.denies_word_of(written) || self.denies_mention(written);
            return match (self.unknown, is_denied) {
                (_, true) => Err(LicenceProblem::Denied),
                (Behaviour::Deny, false) => Err(LicenceProblem::Unreadable),
                (Behaviour::Allow, false) => Ok(()),
            };
        };
        let is_choice = expression.iter().any(|node| matches!(node, ExprNode::Op(Operator::Or)));
        // An unclear part of a text that offers no choice may be a denied licence.
        let is_known = |licence: &LicenseReq| self.is_known(licence);
        let is_clear = expression.requirements().all(|part| is_known(&part.req));
        let denies_text = || self.denies_text(written) || (!is_clear && self.denies_mention(written));
        if (!is_choice && denies_text()) || self.denies(&expression) {
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

    /// Whether a word of free text is the identifier of a denied licence.
    fn denies_word_of(&self, text: &str) -> bool {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+')));
        let mut words = words.map(|word| word.trim_end_matches('.'));
        // The address of a licence ends with the name of a file, in any case: `www.gnu.org/licenses/agpl-3.0.txt`.
        let of_file = |word: &str| {
            let mut stems = FILE_ENDINGS.iter().filter_map(|ending| word.strip_suffix(ending));
            let is_of = |stem: &str| spdx::identifiers::LICENSES.iter().find(|one| one.name.eq_ignore_ascii_case(stem));
            stems.any(|stem| is_of(stem).is_some_and(|licence| self.denies_id(licence.name)))
        };
        words.any(|word| of_file(word) || std::iter::once(word).chain(word.split('+')).any(|id| self.denies_id(id)))
    }

    /// Whether free text speaks of a licence that is denied: `released under the Affero GPL`.
    fn denies_mention(&self, text: &str) -> bool {
        licence::mentioned(text).into_iter().any(|id| self.denies_id(id))
    }

    /// The first pattern by which a licence is denied, for messages.
    pub(in crate::policy) fn denying(&self, licence: &str) -> Option<&LicencePattern> {
        let declared = [DeclaredLicence::new(licence.to_owned())];
        let alone = |pattern: &&LicencePattern| {
            let rule = Self { allow: Vec::new(), deny: vec![(*pattern).clone()], unknown: Behaviour::Allow };
            matches!(rule.judge(&declared), Err((LicenceProblem::Denied, _)))
        };
        self.deny.iter().find(alone)
    }

    /// Whether no alternative is left without the denied licences. An unknown alternative does not count if it is the
    /// only one besides a denied one.
    fn denies(&self, expression: &Expression) -> bool {
        let is_left = |is_denied_left: bool, is_unknown_left: bool| {
            expression.evaluate(|licence| match (self.denies_one(licence), self.is_stated(licence)) {
                (true, _) => is_denied_left,
                (false, true) => true,
                (false, false) => is_unknown_left,
            })
        };
        !is_left(false, true) || (!is_left(false, false) && is_left(true, false))
    }

    fn denies_one(&self, licence: &LicenseReq) -> bool {
        matches(&self.deny, &names(licence))
            || self.candidates(licence).into_iter().any(|id| self.denies_id(id))
            || self.unclear(licence).is_some_and(|name| self.denies_mention(&name))
            || self.unnamed(licence).is_some_and(|name| licence::named_in(&name).iter().any(|id| self.denies_id(id)))
    }

    fn denies_id(&self, id: &str) -> bool {
        spdx::license_id(id).is_some_and(|id| matches(&self.deny, &names(&LicenseReq::from(id))))
    }

    /// Whether a licence is among those that the rule allows. An unclear name is, if all licences that it may mean are.
    fn allows(&self, licence: &LicenseReq) -> bool {
        let is_allowed =
            |id: &&str| spdx::license_id(id).is_some_and(|id| matches(&self.allow, &names(&LicenseReq::from(id))));
        let is_listed = || matches(&self.allow, &names(licence));
        match self.is_stated(licence) {
            true => is_listed(),
            // A reference has a name, which an entry such as `*` matches.
            false if self.unknown == Behaviour::Allow => self.unnamed(licence).is_none() || is_listed(),
            // A full name without a version may be of one that SPDX does not list.
            false if !licence::is_family(&licence.license.to_string()) => false,
            false => self.is_known(licence) && self.candidates(licence).iter().all(is_allowed),
        }
    }

    /// Whether this is a known licence. `NOASSERTION` means that it was not examined, and a reference (`LicenseRef-…`)
    /// names a text that this gate does not have: it is a licence only to a rule that allows it by its name.
    fn is_stated(&self, licence: &LicenseReq) -> bool {
        let name = licence.license.to_string();
        name != "NOASSERTION" && !licence::is_unknown(&name) && self.unnamed(licence).is_none()
    }

    /// The name in a reference that the rule does not allow by its name. An unclear part is not a reference, although
    /// the gate gives it a name of this form.
    fn unnamed(&self, licence: &LicenseReq) -> Option<String> {
        let name = licence.license.to_string();
        let referred = licence::referred(&name).filter(|_| !licence::is_unknown(&name))?;
        let is_named = |pattern: &LicencePattern| pattern.is_of_references() && pattern.matches(&name);
        (!self.allow.iter().any(is_named)).then(|| referred.to_owned())
    }

    /// Whether a licence is one, or one of several with the same name.
    fn is_known(&self, licence: &LicenseReq) -> bool {
        self.is_stated(licence) || !self.candidates(licence).is_empty()
    }

    /// The words of a part that is not known.
    fn unclear(&self, licence: &LicenseReq) -> Option<String> {
        let name = licence.license.to_string();
        (licence::is_unknown(&name) || self.unnamed(licence).is_some()).then(|| name.replace('-', " "))
    }

    /// The licences that an unclear name may mean.
    fn candidates(&self, licence: &LicenseReq) -> Vec<&'static str> {
        if self.is_stated(licence) { Vec::new() } else { licence::candidates(&licence.license.to_string()) }
    }
}

fn matches(patterns: &[LicencePattern], names: &[String]) -> bool {
    patterns.iter().any(|pattern| names.iter().any(|name| pattern.matches(name)))
}

/// The names by which patterns can refer to a licence: with its exception, without it, and without `+`, `-only` and
/// `-or-later`. An exception only permits more, so what applies to the licence applies to it with an exception. A
/// deprecated identifier also counts as its successor in SPDX.
fn names(licence: &LicenseReq) -> Vec<String> {
    let (whole, alone) = (licence.to_string(), licence.license.to_string());
    let base = ["+", "-only", "-or-later"].iter().find_map(|end| alone.strip_suffix(end)).unwrap_or(&alone).to_owned();
    // `GPL-2.0` is the deprecated name of `GPL-2.0-only`.
    let is_deprecated_gnu = licence.license.id().is_some_and(spdx::LicenseId::is_gnu) && base == alone;
    let only = is_deprecated_gnu.then(|| format!("{alone}-only"));
    let successors: Vec<String> = licence::successors(&alone).iter().map(|name| (*name).to_owned()).collect();
    [whole, alone, base].into_iter().chain(only).chain(successors).collect()
}

#[cfg(test)]
mod tests;
