//! What concerns a whole repository or all rules: lists, and the gate's audit mode.

use super::super::pattern::Spelling;
use super::super::rule::Mode;
use super::{Entries, Entry, RuleSet, Selection, name_spellings};
use crate::oci::ImageName;
use crate::scope::Scope;

impl RuleSet {
    /// The entries that speak for a repository or for anything in it, whatever its tag or digest. Opens lists of names,
    /// and no content.
    pub fn select_repository(&self, name: &ImageName, scope: &Scope) -> Selection {
        let names = name_spellings(name);
        let selected = |entries: Option<&Entries>| -> Vec<_> {
            let entries = entries.map_or(&[][..], |entries| &entries.by_weight);
            entries.iter().filter(|entry| reaches_into(entry, &names)).map(|entry| entry.selected(scope)).collect()
        };
        let (enforced, audited) = (selected(self.enforced(scope)), selected(self.audited(scope)));
        if enforced.is_empty() && audited.is_empty() {
            return Selection::Deny(self.no_match_message(&name.to_string(), scope));
        }
        Selection::Entries { enforced, audited }
    }

    /// The same rules, with denials reported and not carried out.
    #[must_use]
    pub fn in_audit_mode(self) -> Self {
        Self { mode: Mode::Audit, ..self }
    }
}

/// Whether the pattern matches the repository itself, or it with the tag or digest that the pattern has.
fn reaches_into(entry: &Entry, names: &[String]) -> bool {
    let last = entry.name.rfind('/').map_or(0, |at| at + 1);
    let suffix = entry.name[last..].find([':', '@']).map(|at| entry.name[last + at..].replace('*', ""));
    names.iter().any(|name| {
        let with_suffix = suffix.iter().map(|suffix| format!("{name}{suffix}"));
        let mut spellings = std::iter::once(name.clone()).chain(with_suffix);
        spellings.any(|text| entry.pattern.matches(&Spelling::new(text)))
    })
}
