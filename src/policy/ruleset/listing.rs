//! What concerns a whole repository or all rules: lists, and the gate's audit mode.

use std::sync::Arc;

use super::super::pattern::Spelling;
use super::super::rule::{Mode, Rule};
use super::super::subject::Scope;
use super::{Entries, Entry, RuleSet, Selection, name_spellings};
use crate::oci::ImageName;

impl RuleSet {
    /// The entries that speak for a repository or for anything in it, whatever its tag or digest. Opens lists of names,
    /// and no content.
    pub fn select_repository(&self, name: &ImageName, scope: &Scope) -> Selection {
        let names = name_spellings(name);
        let entries = self.entries(scope).map_or(&[][..], |entries| &entries.by_weight);
        let selected: Vec<_> =
            entries.iter().filter(|entry| reaches_into(entry, &names)).map(|entry| entry.selected(scope)).collect();
        if selected.is_empty() {
            return Selection::Deny(self.no_match_message(&name.to_string(), scope));
        }
        Selection::Entries(selected)
    }

    /// The same rules, with every denial said and not carried out.
    #[must_use]
    pub fn in_audit_mode(mut self) -> Self {
        let scopes = self.namespaces.values_mut().chain([&mut self.cluster]);
        scopes.flat_map(|entries: &mut Entries| &mut entries.by_weight).for_each(|entry| {
            entry.rule.iter_mut().chain(entry.by_namespace.values_mut()).for_each(audit);
        });
        self
    }
}

fn audit(rule: &mut Arc<Rule>) {
    *rule = Arc::new(Rule { mode: Mode::Audit, ..Rule::clone(rule) });
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
