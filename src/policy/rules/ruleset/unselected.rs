//! Registries of which no entry selects an image, so that all of their images are denied.

use std::collections::BTreeSet;

use super::RuleSet;
use super::unmet::{EvidenceSources, some};
use crate::markup::{Problem, ProblemSeverity};
use crate::oci::Host;
use crate::scope::Scope;

/// What a problem has as its file: the entry is missing from all documents.
const PLACE: &str = "policies";

impl RuleSet {
    /// A warning if no entry selects an image of any registry, or none does for the clients of a namespace with entries
    /// of its own; a note for each other registry of which no image is selected. Rules without entries deny everything
    /// as written.
    ///
    /// Call it only for all documents of a gate: one alone need not be for all registries.
    pub fn unselected(&self, sources: &EvidenceSources) -> Vec<Problem> {
        if self.is_empty() || sources.registries.is_empty() {
            return Vec::new();
        }
        let hosts: Vec<&Host> = sources.registries.iter().map(|known| &known.host).collect();
        // There may be clients without a namespace, whatever the listeners say.
        let cluster = Scope::CLUSTER;
        let scopes = || sources.scopes.iter().chain([&cluster]);
        let is_selected = |host: &&Host| scopes().any(|scope| self.may_select(scope, host));
        let (selected, others): (Vec<&Host>, Vec<&Host>) = hosts.iter().copied().partition(is_selected);
        if selected.is_empty() {
            return vec![sources.unselected(&others, None, ProblemSeverity::Warning)];
        }
        let note = |host| sources.unselected(&[host], None, ProblemSeverity::Note);
        let is_idle =
            |scope: &&Scope| self.has_entries(scope) && !hosts.iter().any(|host| self.may_select(scope, host));
        let idle: BTreeSet<&Scope> = sources.scopes.iter().filter(is_idle).collect();
        let of_scope = |scope: &Scope| sources.unselected(&hosts, scope.name(), ProblemSeverity::Warning);
        others.into_iter().map(note).chain(idle.into_iter().map(of_scope)).collect()
    }

    /// Whether clients of this scope can have an image of this registry, as far as the names of entries say it.
    fn may_select(&self, scope: &Scope, host: &Host) -> bool {
        let applying = [self.enforced(scope), self.audited(scope)].into_iter().flatten();
        applying.flat_map(|entries| &entries.by_weight).any(|entry| entry.pattern.may_match(host))
    }

    /// Whether a namespace has entries of its own.
    fn has_entries(&self, scope: &Scope) -> bool {
        let Some(name) = scope.name() else { return false };
        self.layers().filter_map(|layer| layer.namespaces.get(name)).any(|entries| !entries.by_weight.is_empty())
    }
}

impl EvidenceSources {
    /// The problem that no entry selects an image of these registries, for the clients of a namespace or for all.
    fn unselected(&self, hosts: &[&Host], namespace: Option<&str>, severity: ProblemSeverity) -> Problem {
        let names: Vec<&str> = hosts.iter().map(|host| host.as_str()).collect();
        let (policy, clients) = match namespace {
            Some(name) => (format!("no policy of the namespace {name:?}"), " to its clients"),
            None => ("no policy".to_owned(), ""),
        };
        let which = if names.len() == self.registries.len() { "every image" } else { "every image of it" };
        // What is only recorded keeps nobody from a pull.
        let (severity, effect) =
            if self.audit { (ProblemSeverity::Note, "would be denied") } else { (severity, "is denied") };
        let message = format!("{policy} selects an image of {}: {which} {effect}{clients}", some(&names));
        let hint = names.first().map(|host| format!("add an entry, such as \"{host}/*\""));
        Problem::of_file(severity, PLACE, message, hint.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Document, EvidencedRegistry, NoMaterials, Settings};

    /// A document of the cluster, or of a namespace, with these entries.
    fn document(namespace: &str, mode: &str, names: &[&str]) -> String {
        let (kind, namespace) = match namespace {
            "" => ("ClusterImagePolicy", String::new()),
            name => ("ImagePolicy", format!(", namespace: {name}")),
        };
        let entries: Vec<String> = names.iter().map(|name| format!("{{name: '{name}', policy: {{}}}}")).collect();
        let entries = entries.join(", ");
        format!(
            "apiVersion: pullgate.io/v1\nkind: {kind}\nmetadata: {{name: d{namespace}}}\nspec:\n  mode: {mode}\n  \
             repositories: [{entries}]\n---\n"
        )
    }

    /// What is found by a gate with these registries, whose clients have these namespaces. Names are separated by
    /// spaces.
    fn unselected(text: &str, hosts: &str, scopes: &str, audit: bool) -> Vec<String> {
        let registry = |host: &str| EvidencedRegistry {
            host: host.parse().unwrap(),
            aliases: vec![format!("alias.{host}").parse().unwrap()],
            path: None,
            has_va: true,
            has_notary: true,
        };
        let scopes = scopes.split_whitespace().map(|scope| scope.parse().unwrap()).collect();
        let registries = hosts.split_whitespace().map(registry).collect();
        let sources = EvidenceSources { registries, scopes, audit, ..EvidenceSources::default() };
        let documents = [Document { path: "p.yaml".into(), text: text.into() }];
        let parsed = RuleSet::parse(&documents, &NoMaterials, &Settings::default());
        let rules = parsed.rules.unwrap_or_else(|| panic!("{:?}", parsed.problems));
        rules.unselected(&sources).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn registries_of_which_nothing_is_selected_are_named() {
        let cluster = |names: &[&str]| document("", "enforce", names);
        let own = |names: &[&str]| document("ci", "enforce", names);
        let (one, two) = ("reg.test", "reg.test docker.io");
        let none = "policies: warning: no policy selects an image of reg.test: every image is denied (hint: add an entry, such \
                    as \"reg.test/*\")";
        let neither = "policies: warning: no policy selects an image of reg.test, docker.io: every image is denied (";
        let note = "policies: note: no policy selects an image of reg.test: every image of it is denied (";
        let of_clients = "policies: warning: no policy of the namespace \"ci\" selects an image of reg.test: every image is \
                          denied to its clients (";
        for (text, hosts, scopes, wanted) in [
            (cluster(&["other.test/*"]), one, "", Some(none)),
            (cluster(&["alias.reg.test/*"]), one, "", Some(none)),
            (document("", "audit", &["other.test/*"]), one, "", Some(none)),
            (cluster(&["other.test/*", "reg.tset/*"]), two, "", Some(neither)),
            (own(&["other.test/*"]), one, "ci", Some(none)),
            // No client has this namespace.
            (own(&["*"]), one, "team", Some(none)),
            (cluster(&["library/*"]), two, "", Some(note)),
            (cluster(&["*"]) + &own(&["other.test/*"]), one, "ci", Some(of_clients)),
            (cluster(&["*"]), two, "ci", None),
            (cluster(&["reg.test/app:v1", "nginx"]), two, "", None),
            (cluster(&["other.test/*"]) + &own(&["reg.test/*"]), one, "ci", None),
            (own(&["*"]), two, "ci", None),
            (document("", "audit", &["*"]), two, "", None),
            (cluster(&["*"]) + &document("ci", "audit", &["other.test/*"]), one, "ci", None),
            // As it is written.
            (cluster(&[]), one, "", None),
            (cluster(&["*"]) + &own(&[]), one, "ci", None),
            (cluster(&["other.test/*"]), "", "", None),
        ] {
            let found = unselected(&text, hosts, scopes, false);
            let is_it = |line: &String| wanted.is_some_and(|wanted| line.starts_with(wanted));
            assert!(found.len() == usize::from(wanted.is_some()) && found.iter().all(is_it), "{text} {found:#?}");
        }
        let found = unselected(&cluster(&["other.test/*"]), one, "", true);
        assert!(found[0].contains("note: no policy selects an image of reg.test: every image would be denied ("));
    }
}
