//! All rules in force, and which of them speaks for a subject.
//!
//! Scope and specificity are Portieris': a namespace with an ImagePolicy uses only its own; an entry equal to the name
//! wins, else the one with the most literal characters, else the first. Unlike Portieris, a name is tried in every
//! spelling that means the same image, and a digest reference as the bare repository and by the tags known for it.
//!
//! Entries in audit mode are a layer of their own. They are judged beside the others and never take their place: an
//! audited entry is not compared with an enforced one, and a namespace with audited documents alone stays under the
//! cluster's.

mod index;
mod listing;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::authority::Authority;
use super::decide::Selected;
use super::pattern::{Pattern, Spelling};
use super::rule::{Mode, Rule};
use super::subject::Subject;
use crate::oci::{ImageName, Reference, Tag};
use crate::scope::Scope;
use index::EntryIndex;

/// The namespace of documents that name none, and of the secrets that cluster-wide requests see.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// Every rule of every document, ready to be asked. Immutable: a change makes a new one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    enforced: RuleLayer,
    audited: RuleLayer,
    /// The mode of the whole gate.
    mode: Mode,
    documents: usize,
}

/// The entries of one mode.
#[derive(Clone, Debug, Default, PartialEq)]
struct RuleLayer {
    cluster: Entries,
    namespaces: BTreeMap<Arc<str>, Entries>,
}

/// What speaks for a subject.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// The entries that win, the most specific first. More than one of a mode only where an image asked for by digest is
    /// known by several names: it is admitted if one of them admits it.
    Entries {
        /// Those that decide.
        enforced: Vec<Selected>,
        /// Those that are only recorded.
        audited: Vec<Selected>,
    },
    /// No entry: denied, in Portieris' words.
    Deny(String),
}

impl RuleSet {
    /// The entries that speak for a subject.
    pub fn select(&self, subject: &Subject) -> Selection {
        let winners = |entries: Option<&Entries>| -> Vec<Selected> {
            let found = entries.map_or_else(Vec::new, |entries| entries.winners(subject));
            found.into_iter().map(|entry| entry.selected(&subject.scope)).collect()
        };
        let (enforced, audited) = (winners(self.enforced(&subject.scope)), winners(self.audited(&subject.scope)));
        if enforced.is_empty() && audited.is_empty() {
            return Selection::Deny(self.no_match_message(&subject.to_string(), &subject.scope));
        }
        Selection::Entries { enforced, audited }
    }

    /// Whether denials are carried out: the mode of the gate that uses these rules.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What Portieris says about an image that no entry matches.
    pub fn no_match_message(&self, image: &str, scope: &Scope) -> String {
        let own = scope.name().filter(|name| self.has_own(name));
        match (own, scope.name()) {
            (Some(_), _) => format!("Deny \"{image}\", no matching repositories in the ImagePolicies"),
            (None, _) if self.layers().all(|layer| layer.cluster.is_empty()) => {
                format!("Deny \"{image}\", no image policies or cluster polices")
            }
            (None, Some(name)) => format!(
                "Deny \"{image}\", no matching repositories in ClusterImagePolicy and no ImagePolicies in the \"{name}\" namespace"
            ),
            (None, None) => format!("Deny \"{image}\", no matching repositories in ClusterImagePolicy"),
        }
    }

    /// How many documents it was made of.
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// How many `repositories` entries it holds.
    pub fn len(&self) -> usize {
        self.all().map(|entries| entries.by_weight.len()).sum()
    }

    /// Whether it holds no entry, so that everything is denied.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every authority that some rule names, each once: what must be ready before the first pull.
    pub fn authorities(&self) -> Vec<Arc<Authority>> {
        let rules = self.all().flat_map(|entries| &entries.by_weight).flat_map(Entry::rules);
        let found: BTreeMap<_, _> =
            rules.flat_map(|rule| rule.authorities()).map(|authority| (authority.id().clone(), authority)).collect();
        found.into_values().collect()
    }

    fn layers(&self) -> impl Iterator<Item = &RuleLayer> {
        [&self.enforced, &self.audited].into_iter()
    }

    fn all(&self) -> impl Iterator<Item = &Entries> {
        self.layers().flat_map(|layer| layer.namespaces.values().chain([&layer.cluster]))
    }

    fn has_own(&self, namespace: &str) -> bool {
        self.layers().any(|layer| layer.namespaces.contains_key(namespace))
    }

    /// The namespace's own, where it has any enforced document; else the cluster's.
    fn enforced(&self, scope: &Scope) -> Option<&Entries> {
        let own = scope.name().and_then(|name| self.enforced.namespaces.get(name));
        own.or(Some(&self.enforced.cluster))
    }

    /// The namespace's own, where it has any document; else the cluster's. Enforced, they would speak for the same.
    fn audited(&self, scope: &Scope) -> Option<&Entries> {
        match scope.name().filter(|name| self.has_own(name)) {
            Some(name) => self.audited.namespaces.get(name),
            None => Some(&self.audited.cluster),
        }
    }
}

/// Collects entries in the order of the documents.
#[derive(Debug, Default)]
pub(super) struct RuleSetBuilder {
    enforced: LayerBuilder,
    audited: LayerBuilder,
    documents: usize,
}

#[derive(Debug, Default)]
struct LayerBuilder {
    cluster: Vec<Entry>,
    has_cluster: bool,
    namespaces: BTreeMap<Arc<str>, Vec<Entry>>,
}

impl RuleSetBuilder {
    /// Adds a document's entries, all of which have its mode; a namespace that has an enforced document without entries
    /// denies everything.
    pub(super) fn add(&mut self, namespace: Option<Arc<str>>, mode: Mode, entries: Vec<Entry>) {
        self.documents += 1;
        let layer = match mode {
            Mode::Audit => &mut self.audited,
            Mode::Enforce => &mut self.enforced,
        };
        match namespace {
            None => {
                layer.has_cluster = true;
                layer.cluster.extend(entries);
            }
            Some(namespace) => layer.namespaces.entry(namespace).or_default().extend(entries),
        }
    }

    pub(super) fn build(self) -> RuleSet {
        let (enforced, audited) = (self.enforced.build(), self.audited.build());
        RuleSet { enforced, audited, mode: Mode::Enforce, documents: self.documents }
    }
}

impl LayerBuilder {
    fn build(self) -> RuleLayer {
        RuleLayer {
            cluster: Entries { any_document: self.has_cluster, ..Entries::new(self.cluster) },
            namespaces: self.namespaces.into_iter().map(|(name, list)| (name, Entries::new(list))).collect(),
        }
    }
}

/// One `repositories` entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// Kind and name of the document.
    pub(super) document: Arc<str>,
    /// The pattern as written.
    pub(super) name: Arc<str>,
    pub(super) pattern: Pattern,
    /// `None` where there is no `policy`.
    pub(super) rule: Option<Arc<Rule>>,
    /// Where a cluster-wide entry names secrets of the namespace that asks: the rule for namespaces that have them.
    pub(super) by_namespace: BTreeMap<Arc<str>, Arc<Rule>>,
}

impl Entry {
    fn selected(&self, scope: &Scope) -> Selected {
        let own = self.by_namespace.get(scope.name().unwrap_or(DEFAULT_NAMESPACE));
        Selected {
            document: self.document.clone(),
            entry: self.name.clone(),
            rule: own.or(self.rule.as_ref()).cloned(),
        }
    }

    fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rule.iter().chain(self.by_namespace.values())
    }
}

/// The entries of one scope, ordered for a search that may stop at the first hit.
#[derive(Clone, Debug, Default)]
struct Entries {
    /// The most literal characters first, then as in the documents.
    by_weight: Vec<Entry>,
    /// Entries without `*`, by the only text that they equal.
    exact: HashMap<String, usize>,
    /// Where there are many.
    index: Option<EntryIndex>,
    any_document: bool,
}

/// The rest follows from the entries.
impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        self.any_document == other.any_document && self.by_weight == other.by_weight
    }
}

impl Entries {
    fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.pattern.literals()));
        let mut exact = HashMap::new();
        for (at, entry) in entries.iter().enumerate() {
            if let Some(text) = entry.pattern.exact() {
                exact.entry(text.to_owned()).or_insert(at);
            }
        }
        Self { index: EntryIndex::new(&entries), by_weight: entries, exact, any_document: true }
    }

    fn is_empty(&self) -> bool {
        !self.any_document
    }

    /// The winner for each name of the subject, each entry once, the most specific first.
    fn winners(&self, subject: &Subject) -> Vec<&Entry> {
        let mut found = Vec::new();
        let own = self.winner(&own_spellings(subject));
        found.extend(own);
        // An entry for exactly this content speaks alone: no tag can widen what it says.
        let exact = own.is_some_and(|hit| hit.exact && self.by_weight[hit.at].name.contains('@'));
        if subject.digest().is_some() && !exact {
            found.extend(subject.known_tags.iter().filter_map(|tag| self.winner(&tag_spellings(&subject.name, tag))));
        }
        found.sort_by_key(|hit| (!hit.exact, hit.at));
        let mut entries: Vec<&Entry> = Vec::new();
        for hit in found {
            let entry = &self.by_weight[hit.at];
            if !entries.iter().any(|known| std::ptr::eq(*known, entry)) {
                entries.push(entry);
            }
        }
        entries
    }

    fn winner(&self, spellings: &[Spelling]) -> Option<Hit> {
        let equal = spellings.iter().filter_map(|spelling| self.exact.get(spelling.as_str())).min();
        if let Some(&at) = equal {
            return Some(Hit { at, exact: true });
        }
        let matches = |at: &usize| spellings.iter().any(|spelling| self.by_weight[*at].pattern.matches(spelling));
        let first = match &self.index {
            Some(index) => index.candidates(spellings).into_iter().find(matches),
            None => (0..self.by_weight.len()).find(matches),
        };
        first.map(|at| Hit { at, exact: false })
    }
}

/// An entry that wins for a name.
#[derive(Clone, Copy)]
struct Hit {
    at: usize,
    exact: bool,
}

/// How the reference itself may be written. A digest is its repository's: no tag is implied.
fn own_spellings(subject: &Subject) -> Vec<Spelling> {
    match &subject.reference {
        Reference::Tag(tag) => tag_spellings(&subject.name, tag),
        Reference::Digest(digest) => spellings(&subject.name, &["", &format!("@{digest}")]),
    }
}

/// A name without a tag means `latest`.
fn tag_spellings(name: &ImageName, tag: &Tag) -> Vec<Spelling> {
    let suffix = format!(":{tag}");
    if *tag == Tag::latest() { spellings(name, &[&suffix, ""]) } else { spellings(name, &[&suffix]) }
}

fn spellings(name: &ImageName, suffixes: &[&str]) -> Vec<Spelling> {
    let names = name_spellings(name);
    suffixes.iter().flat_map(|suffix| names.iter().map(move |name| Spelling::new(format!("{name}{suffix}")))).collect()
}

/// A repository has one name, but Docker Hub's have several.
fn name_spellings(name: &ImageName) -> Vec<String> {
    if !name.host.is_docker_hub() {
        return vec![name.to_string()];
    }
    let full = name.repository.as_str();
    let short = full.strip_prefix("library/").filter(|rest| !rest.contains('/'));
    let paths = [Some(full), short];
    let hosts = ["docker.io/", "index.docker.io/", "registry-1.docker.io/"];
    let with_host = hosts.iter().flat_map(|host| paths.iter().flatten().map(move |path| format!("{host}{path}")));
    // Without its host, a path whose first component looks like a host would be another registry's name.
    let bare = paths.iter().flatten().filter(|path| !begins_like_a_host(path)).map(|path| (*path).to_owned());
    with_host.chain(bare).collect()
}

fn begins_like_a_host(path: &str) -> bool {
    path.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost")
}

#[cfg(test)]
mod tests;
