//! Operations on a whole repository or on all rules: listings and the audit mode of the gate.

use super::super::rule::Mode;
use super::{Entries, Entry, RuleSet, Selection, name_spellings};
use crate::oci::ImageName;
use crate::policy::matching::pattern::Spelling;
use crate::scope::Scope;

impl RuleSet {
    /// The entries that apply to a repository or to anything in it, with any tag or digest. They permit access to lists
    /// of names, but not to content.
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

    /// The same rules, but denials are only reported.
    #[must_use]
    pub fn in_audit_mode(self) -> Self {
        Self { mode: Mode::Audit, ..self }
    }
}

/// Whether the pattern matches the repository, either alone or with the tag or digest of the pattern appended.
fn reaches_into(entry: &Entry, names: &[String]) -> bool {
    let last = entry.name.rfind('/').map_or(0, |at| at + 1);
    let suffix = entry.name[last..].find([':', '@']).map(|at| entry.name[last + at..].replace('*', ""));
    names.iter().any(|name| {
        let with_suffix = suffix.iter().map(|suffix| format!("{name}{suffix}"));
        let mut spellings = std::iter::once(name.clone()).chain(with_suffix);
        spellings.any(|text| entry.pattern.matches(&Spelling::new(text)))
    })
}
