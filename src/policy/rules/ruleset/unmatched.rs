//! Entries that match no image of the gate's registries, often because they name the registry differently.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::unmet::{EvidenceSources, EvidencedRegistry};
use super::{Entries, Entry, RuleSet, begins_like_a_host};
use crate::markup::{Problem, ProblemSeverity, nearest};
use crate::policy::rules::exemption::ExemptionRecord;

impl RuleSet {
    /// A warning for each entry that names a registry in a way in which no image has it, so that another entry decides,
    /// and for each namespace that no client has; a note for every other entry that matches no image of any registry.
    /// The same for exemptions. Entries that match images of one registry, but seem to be for those of another one, are
    /// named, too.
    pub(super) fn unmatched(&self, sources: &EvidenceSources) -> Vec<Problem> {
        let entries: Vec<&Entry> = self.entries().collect();
        let registries = &sources.registries;
        let has_none = |entry: &&&Entry| !registries.iter().any(|known| entry.pattern.may_match(&known.host));
        // A host that has its own entry is not suggested: another entry with a similar name hardly means that host.
        let hosts = registries.iter().map(|known| known.host.as_str());
        let unnamed: Vec<&str> = hosts.filter(|host| !entries.iter().any(|one| one.names(host))).collect();
        let problem = |entry: &&Entry| {
            let name = &entry.name;
            let meant = registries.iter().find_map(|known| entry.meant(known));
            let severity = if meant.is_some() { ProblemSeverity::Warning } else { ProblemSeverity::Note };
            let (why, hint) = meant.unwrap_or_else(|| {
                // Policies are written for several gates: a similar name may be right.
                let near = entry.pattern.host().and_then(|host| nearest(host, &unnamed));
                let near = near.map(|near| format!("did you mean {near}?"));
                let advice = || "add an [[upstream]], or remove the entry".to_owned();
                ("no [[upstream]] has this host".to_owned(), near.unwrap_or_else(advice))
            });
            entry.at.problem(severity, format!("{name:?} matches no image that this gate serves: {why}"), &hint)
        };
        let mut found = self.without_clients(sources);
        if !registries.is_empty() {
            found.extend(entries.iter().filter(has_none).map(problem));
            let others = entries.iter().filter(|entry| !has_none(entry));
            found.extend(others.filter_map(|entry| entry.mistaken(registries)));
            let exemptions = self.exemptions().iter();
            let mut useless: Vec<Problem> =
                exemptions.filter_map(|record| without_images(record, registries)).collect();
            useless.sort_unstable_by(|one, other| one.file.cmp(&other.file));
            found.extend(useless);
        }
        found
    }

    /// A warning for each namespace that has policies and no clients.
    fn without_clients(&self, sources: &EvidenceSources) -> Vec<Problem> {
        let all: BTreeMap<&Arc<str>, &Entries> = self.layers().flat_map(|layer| &layer.namespaces).collect();
        let unknown = all.into_iter().filter(|(name, _)| !sources.has_clients(name));
        let problem = |(name, entries): (&Arc<str>, &Entries)| {
            let message = format!("no client has the namespace {name:?}, so its policies never apply");
            let hint = "set `scope` of a [[listener]], or `client_names` of its tls";
            Some(entries.by_weight.first()?.at.problem(ProblemSeverity::Warning, message, hint))
        };
        unknown.filter_map(problem).collect()
    }
}

/// The problem with the scope of an exemption in a document, if no image is in it. Its place is the document.
fn without_images(record: &ExemptionRecord, registries: &[EvidencedRegistry]) -> Option<Problem> {
    let (document, text) = (record.document.as_deref()?, record.scope.to_string());
    let (first, rest) = record.scope.first_and_rest();
    if registries.iter().any(|known| record.scope.registry() == Some(&known.host)) {
        return None;
    }
    let is_portless = |known: &&EvidencedRegistry| {
        record.scope.registry().is_some() && known.host.as_str().split_once(':').is_some_and(|(name, _)| name == first)
    };
    let (severity, why, hint) = if let Some(known) = registries.iter().find(|known| known.is_also(&first)) {
        let why = format!("{first} is another name of {}", known.host);
        // Without a registry, it may be the namespace of this name in any of them.
        let is_registry = record.scope.registry().is_some();
        let severity = if is_registry { ProblemSeverity::Warning } else { ProblemSeverity::Note };
        (severity, why, format!("write {}/{rest}", known.host))
    } else if let Some(known) = registries.iter().find(is_portless) {
        let why = format!("the registry's host is {}, with its port", known.host);
        (ProblemSeverity::Warning, why, format!("write {}/{rest}", known.host))
    } else {
        record.scope.registry()?;
        let hint = "add an [[upstream]], or remove the exemption".to_owned();
        (ProblemSeverity::Note, "no [[upstream]] has this host".to_owned(), hint)
    };
    Some(Problem::of_file(
        severity,
        document,
        format!("scope {text} contains no image that this gate serves: {why}"),
        Some(&hint),
    ))
}

impl EvidencedRegistry {
    /// Whether this is a name of the registry besides its host.
    fn is_also(&self, name: &str) -> bool {
        self.aliases.iter().any(|alias| alias.as_str() == name) || self.path.as_deref() == Some(name)
    }
}

impl Entry {
    fn names(&self, host: &str) -> bool {
        self.pattern.host() == Some(host)
    }

    /// What is said of an entry that matches images of a registry, but not of the one for which it seems to be.
    fn mistaken(&self, registries: &[EvidencedRegistry]) -> Option<Problem> {
        let first = self.pattern.host().unwrap_or_default();
        let other =
            registries.iter().find(|known| known.path.as_deref() == Some(first) && known.host.as_str() != first);
        if let Some(known) = other.filter(|_| !begins_like_a_host(&self.name)) {
            let host = &known.host;
            let message = format!(
                "{:?} is for the namespace {first} of Docker Hub: images that clients pull as GATE/{first}/… are {host}/…",
                self.name
            );
            // The path of Docker Hub itself may be one of its namespaces, too, such as library.
            let is_other = !host.is_docker_hub();
            let severity = if is_other { ProblemSeverity::Warning } else { ProblemSeverity::Note };
            let hint = format!("write {host}/…, or docker.io/{first}/… for the namespace");
            return Some(self.at.problem(severity, message, &hint));
        }
        // A pattern may match an alias of one registry and the host of another one.
        let is_missed = |known: &&EvidencedRegistry| !self.pattern.may_match(&known.host);
        let alias = |known: &EvidencedRegistry| {
            let alias = known.aliases.iter().find(|alias| self.pattern.may_match(alias))?;
            let message = format!(
                "{:?} matches no image of {}: {alias} is another name of it, and policies know images by the host",
                self.name, known.host
            );
            let hint = format!("add an entry for {}/…", known.host);
            Some(self.at.problem(ProblemSeverity::Note, message, &hint))
        };
        registries.iter().filter(is_missed).find_map(alias)
    }

    /// Why the entry does not match images of this registry, although it seems to be for them, and what to write.
    fn meant(&self, registry: &EvidencedRegistry) -> Option<(String, String)> {
        let (host, hint) = (&registry.host, format!("write {}/…", registry.host));
        if let Some(alias) = registry.aliases.iter().find(|alias| self.pattern.may_match(alias)) {
            return Some((format!("{alias} is another name of {host}, and policies know images by the host"), hint));
        }
        let first = self.pattern.host()?;
        let second = self.name.split('/').nth(1).unwrap_or_default();
        let why = if registry.is_also(first) {
            format!("{first} is another name of {host}, and policies know images by the host")
        } else if host.as_str().split_once(':').is_some_and(|(name, _)| name == first) {
            format!("the registry's host is {host}, with its port")
        } else if second == host.as_str() || registry.is_also(second) {
            "the name of the gate is not a part of the names of images".to_owned()
        } else {
            return None;
        };
        Some((why, hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Document, NoMaterials, Settings};

    fn registry(host: &str, alias: &str, path: &str) -> EvidencedRegistry {
        EvidencedRegistry {
            host: host.parse().unwrap(),
            aliases: vec![alias.parse().unwrap()],
            path: Some(path.to_owned()),
            has_va: true,
            has_notary: true,
        }
    }

    fn unmatched(names: &[&str]) -> Vec<String> {
        let registries = vec![registry("reg.test", "r.test", "reg"), registry("port.test:5000", "p.test", "port")];
        unmatched_by(registries, names)
    }

    fn unmatched_by(registries: Vec<EvidencedRegistry>, names: &[&str]) -> Vec<String> {
        let entries: String = names.iter().map(|name| format!("  - {{name: '{name}', policy: {{}}}}\n")).collect();
        let text = format!(
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: d}}\nspec:\n  repositories:\n{entries}"
        );
        let documents = [Document { path: "p.yaml".into(), text }];
        let parsed = RuleSet::parse(&documents, &NoMaterials, &Settings::default());
        let rules = parsed.rules.unwrap_or_else(|| panic!("{:?}", parsed.problems));
        let found = rules.unmatched(&EvidenceSources { registries, ..EvidenceSources::default() });
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn exemptions_without_images_are_reported() {
        let registries = vec![registry("reg.test:5000", "r.test", "hub")];
        let sources = EvidenceSources { registries, ..EvidenceSources::default() };
        for (scope, wanted) in [
            (
                "r.test/app",
                Some("warning: scope r.test/app contains no image that this gate serves: r.test is another name"),
            ),
            (
                "hub/app",
                Some(
                    "note: scope hub/app contains no image that this gate serves: hub is another name of reg.test:5000 (hint: \
                     write reg.test:5000/app)",
                ),
            ),
            (
                "reg.test/*",
                Some("warning: scope reg.test/* contains no image that this gate serves: the registry's host is"),
            ),
            (
                "elsewhere.test/app",
                Some("note: scope elsewhere.test/app contains no image that this gate serves: no [[up"),
            ),
            ("reg.test:5000/app", None),
            ("birds", None),
            ("'*'", None),
        ] {
            let text = format!(
                "apiVersion: pullgate.io/v1\nkind: Exemption\nmetadata: {{name: e}}\nspec: {{scope: {scope}, issueType: cve, \
                 issueId: CVE-2024-1}}\n"
            );
            let documents = [Document { path: "p.yaml".into(), text }];
            let parsed = RuleSet::parse(&documents, &NoMaterials, &Settings::default());
            let rules = parsed.rules.unwrap_or_else(|| panic!("{:?}", parsed.problems));
            let found: Vec<String> = rules.unmatched(&sources).iter().map(ToString::to_string).collect();
            assert_eq!(found.len(), usize::from(wanted.is_some()), "{scope} {found:?}");
            assert!(
                found.iter().all(|one| one.starts_with("Exemption/e: ") && one.contains(wanted.unwrap())),
                "{found:?}"
            );
        }
    }

    #[test]
    fn namespaces_without_clients_are_reported() {
        let text = "apiVersion: pullgate.io/v1\nkind: ImagePolicy\nmetadata: {name: d, namespace: ci}\nspec:\n  repositories:\n  \
                    - {name: '*', policy: {}}\n";
        let documents = [Document { path: "p.yaml".into(), text: text.into() }];
        let rules = RuleSet::parse(&documents, &NoMaterials, &Settings::default()).rules.unwrap();
        for (scope, is_told) in [("ci", false), ("team", true), ("", true)] {
            let sources = EvidenceSources { scopes: vec![scope.parse().unwrap()], ..EvidenceSources::default() };
            let found: Vec<String> = rules.unmatched(&sources).iter().map(ToString::to_string).collect();
            let is_it =
                |one: &String| one.starts_with("p.yaml:6:") && one.contains("no client has the namespace \"ci\"");
            assert!(found.len() == usize::from(is_told) && found.iter().all(is_it), "{scope} {found:?}");
        }
    }

    #[test]
    fn entries_that_name_a_registry_in_another_way_are_reported() {
        for (name, wanted) in [
            (
                "r.test/*",
                "warning: \"r.test/*\" matches no image that this gate serves: r.test is another name of reg.test",
            ),
            ("reg/*", "warning: \"reg/*\" matches no image that this gate serves: reg is another name of reg.test"),
            ("port.test/*", "the registry's host is port.test:5000, with its port"),
            ("gate.internal:5000/reg.test/*", "the name of the gate is not a part of the names of images"),
            (
                "reg.tset/*",
                "note: \"reg.tset/*\" matches no image that this gate serves: no [[upstream]] has this host (hint: did you mean",
            ),
            ("elsewhere.acme.com/*", "note: \"elsewhere.acme.com/*\" matches no image"),
            ("nginx", "note: \"nginx\" matches no image"),
        ] {
            let found = unmatched(&["*", name]);
            let is_told = |found: &String| found.starts_with("p.yaml:7:") && found.contains(wanted);
            assert!(found.len() == 1 && found.iter().all(is_told), "{name} {found:#?}");
        }
        let found = unmatched(&["reg.test/*", "reg.tset/*"]);
        assert!(found.len() == 1 && found[0].contains(": note: "), "{found:#?}");
        assert_eq!(unmatched(&["*", "reg.test/*", "*g.test/*", "port.test:5000/app:v1"]), [""; 0]);
    }

    /// Docker Hub makes any first component a namespace, so the entry does match something: not what was meant.
    #[test]
    fn entries_that_name_a_path_as_a_namespace_of_docker_hub_are_reported() {
        let registries = || {
            vec![
                registry("quay.io", "q.test", "quay"),
                registry("docker.io", "hub.test", "library"),
                registry("mirror.test:5000", "m.test", "mirror"),
            ]
        };
        for (name, wanted) in [
            (
                "quay/*",
                "warning: \"quay/*\" is for the namespace quay of Docker Hub: images that clients pull as GATE/quay/… are \
                 quay.io/… (hint: write quay.io/…, or docker.io/quay/… for the namespace)",
            ),
            ("quay/app:v1", "warning: \"quay/app:v1\" is for the namespace quay of Docker Hub"),
            ("Quay/team/*", "warning: \"Quay/team/*\" is for the namespace quay of Docker Hub"),
            ("mirror/*", "warning: \"mirror/*\" is for the namespace mirror of Docker Hub"),
            ("library/nginx", "note: \"library/nginx\" is for the namespace library of Docker Hub"),
        ] {
            let found = unmatched_by(registries(), &["*", name]);
            let is_told = |found: &String| found.starts_with("p.yaml:7:") && found.contains(wanted);
            assert!(found.len() == 1 && found.iter().all(is_told), "{name} {found:#?}");
        }
        let unambiguous = ["*", "quay.io/*", "docker.io/quay/*", "bitnami/*", "nginx", "mirror.test:5000/*", "q*y/*"];
        assert_eq!(unmatched_by(registries(), &unambiguous), [""; 0]);
    }

    #[test]
    fn patterns_that_match_an_alias_and_not_the_host_are_reported() {
        let corp = || registry("reg.test", "reg.corp", "reg");
        for name in ["*.corp/*", "reg.c*p/app", "*.corp/team/*:v1"] {
            let found = unmatched_by(vec![corp()], &["*", name]);
            let wanted =
                format!("warning: {name:?} matches no image that this gate serves: reg.corp is another name of reg");
            assert!(found.len() == 1 && found[0].contains(&wanted), "{found:#?}");
            let found = unmatched_by(vec![corp(), registry("reg.c.corp", "c.test", "c")], &["*", name]);
            let wanted = format!("note: {name:?} matches no image of reg.test: reg.corp is another name of it");
            assert!(found.len() == 1 && found[0].contains(&wanted), "{found:#?}");
        }
        assert_eq!(unmatched_by(vec![corp()], &["*", "*.test/*", "reg.t*t/*"]), [""; 0]);
    }
}
