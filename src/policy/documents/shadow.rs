//! Warns of entries that are never used because another one matches everything that they match and takes precedence.
//!
//! The entry with the most literal characters wins (`ruleset.rs`), so one that covers another can win for all of it
//! only with the same literal characters: it has stars wherever the other has them, and comes first. An entry of a
//! document in audit mode is judged in addition to those in force, so it hides only its own kind, and only its own kind
//! hides it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::envelope::{Dialect, PolicyObject};
use crate::markup::{Node, Place, Value};
use crate::oci::ImageReference;
use crate::policy::matching::pattern::Pattern;

/// An entry as far as it says when it is used.
struct Candidate<'a> {
    name: &'a str,
    literals: usize,
    /// The positions of the stars, as numbers of literal characters before them.
    stars: BTreeSet<usize>,
    /// Its document, by number; and its place.
    document: usize,
    at: Place,
}

impl Candidate<'_> {
    /// Whether this one, which wins a tie, matches everything that the other matches.
    fn covers(&self, other: &Self) -> bool {
        // A name without a star at the end also matches every tag, so an entry without any star loses only to an equal
        // one.
        self.stars.is_superset(&other.stars) && (self.stars.is_empty() || !other.stars.is_empty())
    }
}

/// What entries that may shadow each other have in common: the namespace, whether they are audited, and their literal
/// characters.
type Group = (Option<Arc<str>>, bool, String);

/// Checks the entries of all documents together.
pub(super) fn check(policies: &[PolicyObject<'_>]) {
    let mut groups: HashMap<Group, Vec<Candidate<'_>>> = HashMap::new();
    for (document, policy) in policies.iter().enumerate() {
        let group = (policy.namespace.clone(), is_audited(policy));
        for (name, at) in names(policy) {
            let (literals, stars) = shape(name);
            let candidate = Candidate { name, literals: Pattern::new(name).literals(), stars, document, at };
            groups.entry((group.0.clone(), group.1, literals)).or_default().push(candidate);
        }
    }
    groups.into_values().for_each(|group| check_group(group, policies));
}

/// Entries of one scope with the same literal characters.
fn check_group(mut group: Vec<Candidate<'_>>, policies: &[PolicyObject<'_>]) {
    // A Docker Hub name may be written longer or shorter: the longest wins. The sort is stable.
    group.sort_by_key(|candidate| std::cmp::Reverse(candidate.literals));
    let mut winners: Vec<Candidate<'_>> = Vec::new();
    for candidate in group {
        let Some(winner) = winners.iter().find(|winner| winner.covers(&candidate)) else {
            winners.push(candidate);
            continue;
        };
        // A duplicate name within one document is an error or a warning already.
        if winner.document == candidate.document && winner.name == candidate.name {
            continue;
        }
        let (file, line) = (policies[winner.document].problems.name(winner.at.file), winner.at.line);
        let message = format!(
            "{:?} is never used: {:?} at {file}:{line} matches everything that it matches and takes \
             precedence",
            candidate.name, winner.name
        );
        policies[candidate.document].problems.warn(candidate.at, message, "remove one of them");
    }
}

fn is_audited(policy: &PolicyObject<'_>) -> bool {
    let mode = policy.spec.as_ref().and_then(|spec| spec.get("mode")).and_then(Node::as_text);
    policy.dialect == Dialect::Pullgate && mode == Some("audit")
}

fn names<'a>(policy: &PolicyObject<'a>) -> Vec<(&'a str, Place)> {
    let list = policy.spec.as_ref().and_then(|spec| spec.get("repositories"));
    let nodes: &'a [Node] = match list.map(|node| &node.value) {
        Some(Value::List(nodes)) => nodes,
        _ => &[],
    };
    nodes.iter().filter_map(|node| node.find("name")).filter_map(|name| Some((name.as_text()?, name.at))).collect()
}

/// The literal characters, with the host in lower case, and where the stars between them are.
fn shape(name: &str) -> (String, BTreeSet<usize>) {
    let name = spelled_out(name);
    let host = name.find('/').unwrap_or(0);
    let (mut literals, mut stars) = (String::new(), BTreeSet::new());
    for (at, c) in name.char_indices() {
        match c {
            '*' => drop(stars.insert(literals.len())),
            c if at < host => literals.push(c.to_ascii_lowercase()),
            c => literals.push(c),
        }
    }
    (literals, stars)
}

/// A name without stars in one spelling: Docker Hub's have several. A tag or a digest stays as it is written.
fn spelled_out(name: &str) -> String {
    match name.parse::<ImageReference>() {
        Ok(ImageReference { name, tag: None, digest: None }) => name.to_string(),
        Ok(ImageReference { name, tag: Some(tag), digest: None }) => format!("{name}:{tag}"),
        Ok(ImageReference { name, tag: None, digest: Some(digest) }) => format!("{name}@{digest}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Document, NoMaterials, Settings};
    use crate::policy::RuleSet;

    fn warnings(documents: &[(&str, &[&str])]) -> Vec<String> {
        let document = |(number, (mode, names)): (usize, &(&str, &[&str]))| {
            let entries: String = names.iter().map(|name| format!("  - {{name: '{name}', policy: {{}}}}\n")).collect();
            let (kind, namespace) = match mode.split_once(' ') {
                Some((_, namespace)) => ("ImagePolicy", format!(", namespace: {namespace}")),
                None => ("ClusterImagePolicy", String::new()),
            };
            let mode = mode.split(' ').next().unwrap_or_default();
            let text = format!(
                "apiVersion: pullgate.io/v1\nkind: {kind}\nmetadata: {{name: d{number}{namespace}}}\nspec:\n  mode: \
                 {mode}\n  repositories:\n{entries}"
            );
            Document { path: format!("{number}.yaml"), text }
        };
        let sources: Vec<_> = documents.iter().enumerate().map(document).collect();
        let parsed = RuleSet::parse(&sources, &NoMaterials, &Settings::default());
        assert!(parsed.rules.is_some(), "{:?}", parsed.problems);
        parsed.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_entry_that_another_always_wins_over() {
        for (first, second, is_shadowed) in [
            ("icr.io/a", "icr.io/a", true),
            ("icr.io/a", "ICR.io/a", true),
            ("icr.io/*", "icr.io/**", true),
            ("icr.io/*/b*", "icr.io/*/b", true),
            ("icr.io/*/b", "icr.io/*/b*", false),
            ("icr.io/a*", "icr.io/a", false),
            ("icr.io/a", "icr.io/a*", false),
            ("icr.io/*", "icr.io/a", false),
            ("icr.io/a:v1", "icr.io/a", false),
            ("docker.io/library/nginx", "nginx", true),
            ("nginx", "docker.io/library/nginx", true),
            ("nginx:latest", "nginx", false),
            ("nginx:v1", "docker.io/nginx:v1", true),
            ("*", "**", true),
        ] {
            let found = warnings(&[("enforce", &[first]), ("enforce", &[second])]);
            assert_eq!(found.len(), usize::from(is_shadowed), "{first} {second}: {found:?}");
            assert!(found.iter().all(|warning| warning.contains("is never used")), "{found:?}");
        }
    }

    #[test]
    fn scopes_and_audited_documents_hide_nothing_from_each_other() {
        let names: &[&str] = &["icr.io/a"];
        assert_eq!(warnings(&[("enforce", names), ("audit", names)]), [""; 0]);
        assert_eq!(warnings(&[("enforce", names), ("enforce prod", names)]), [""; 0]);
        assert_eq!(warnings(&[("audit", names), ("audit", names)]).len(), 1);
        let found = warnings(&[("enforce prod", names), ("enforce prod", &["icr.io/b", "icr.io/a"])]);
        assert_eq!(
            found,
            [
                "1.yaml:8:12: warning: \"icr.io/a\" is never used: \"icr.io/a\" at 0.yaml:7 matches everything that it matches and \
              takes precedence (hint: remove one of them)"
            ]
        );
    }
}
