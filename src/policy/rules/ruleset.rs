//! All rules in force, and the selection of the rules that apply to a subject.
//!
//! Scope and specificity follow Portieris. A namespace that has an ImagePolicy uses only its own entries. An entry that
//! equals the name wins; otherwise the entry with the most literal characters wins, and among equals the first one, by
//! the names of the documents.
//! Unlike in Portieris, a name is tried in every spelling of the same image, and a digest reference is tried as the
//! bare repository and with its known tags.
//!
//! Entries in audit mode form a separate layer. They are evaluated in addition to the enforced entries and never
//! replace them: an audited entry is not compared with an enforced one, and a namespace that has only audited documents
//! still uses the enforced entries of the cluster.

mod index;
mod listing;
mod unmatched;
mod unmet;
mod unselected;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::exemption::ExemptionSet;
use super::rule::{Mode, Rule, Selected};
use crate::oci::{DOCKER_HUB_NAMES, ImageName, Reference, Tag, is_registry};
use crate::policy::keys::trusted_root::TrustedRoot;
use crate::policy::matching::pattern::{Pattern, Spelling};
use crate::policy::matching::subject::Subject;
use crate::policy::signatures::authority::Authority;
use crate::scope::Scope;
use index::EntryIndex;
pub(in crate::policy) use unmet::EntryPlace;
pub use unmet::{EvidenceSources, EvidencedRegistry};

/// The namespace of documents that do not name one, and of the secrets that apply to cluster-wide requests.
pub(in crate::policy) const DEFAULT_NAMESPACE: &str = "default";

/// All rules of all documents, ready for queries. Immutable: a change creates a new rule set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    enforced: RuleLayer,
    audited: RuleLayer,
    /// The mode of the whole gate.
    mode: Mode,
    documents: usize,
    exemptions: ExemptionSet,
}

/// The entries of one mode.
#[derive(Clone, Debug, Default, PartialEq)]
struct RuleLayer {
    cluster: Entries,
    namespaces: BTreeMap<Arc<str>, Entries>,
}

impl RuleLayer {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.namespaces.values().chain([&self.cluster]).flat_map(|entries| &entries.by_weight)
    }
}

/// The entries that apply to a subject.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// The entries that win, the most specific first. There is more than one entry of a mode only if an image is
    /// requested by digest and has several known names. One entry that admits it is sufficient.
    Entries {
        /// The entries that decide.
        enforced: Vec<Selected>,
        /// The entries whose results are only recorded.
        audited: Vec<Selected>,
    },
    /// No entry applies: the request is denied with the message that Portieris uses.
    Deny(String),
}

impl RuleSet {
    /// Selects the entries that apply to a subject.
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

    /// The mode of the gate that uses these rules: whether denials are enforced.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The message of Portieris for an image that no entry matches.
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

    /// The exemptions of the documents.
    pub fn exemptions(&self) -> &ExemptionSet {
        &self.exemptions
    }

    /// The number of documents that the rules come from.
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// The number of `repositories` entries.
    pub fn len(&self) -> usize {
        self.entries().count()
    }

    /// How many of the entries are in audit mode, so that what they deny is only recorded.
    pub fn audited_len(&self) -> usize {
        self.audited.entries().count()
    }

    /// Whether there are no entries, so that everything is denied.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there are documents and all of them are in audit mode: their denials are only recorded.
    pub fn is_only_audited(&self) -> bool {
        let is_enforced = self.enforced.cluster.any_document || !self.enforced.namespaces.is_empty();
        self.documents > 0 && !is_enforced
    }

    /// All authorities that the rules name, without duplicates. Their material must be ready before the first pull.
    pub fn authorities(&self) -> Vec<Arc<Authority>> {
        let rules = self.entries().flat_map(Entry::rules);
        let found: BTreeMap<_, _> =
            rules.flat_map(|rule| rule.authorities()).map(|authority| (authority.id().clone(), authority)).collect();
        found.into_values().collect()
    }

    /// The trusted roots that these authorities rely on, without duplicates, in the order of their names.
    pub fn trusted_roots(&self) -> Vec<TrustedRoot> {
        let mut roots = BTreeMap::new();
        for authority in self.authorities() {
            let own = authority.scheme().trusted_roots().iter();
            roots.extend(own.map(|root| ((root.name().to_owned(), root.fingerprint()), root.clone())));
        }
        roots.into_values().collect()
    }

    fn layers(&self) -> impl Iterator<Item = &RuleLayer> {
        [&self.enforced, &self.audited].into_iter()
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.layers().flat_map(RuleLayer::entries)
    }

    fn has_own(&self, namespace: &str) -> bool {
        self.layers().any(|layer| layer.namespaces.contains_key(namespace))
    }

    /// The entries of the namespace if it has any enforced document; otherwise those of the cluster.
    fn enforced(&self, scope: &Scope) -> Option<&Entries> {
        let own = scope.name().and_then(|name| self.enforced.namespaces.get(name));
        own.or(Some(&self.enforced.cluster))
    }

    /// The entries of the namespace if it has any document; otherwise those of the cluster. The same entries would
    /// apply if they were enforced.
    fn audited(&self, scope: &Scope) -> Option<&Entries> {
        match scope.name().filter(|name| self.has_own(name)) {
            Some(name) => self.audited.namespaces.get(name),
            None => Some(&self.audited.cluster),
        }
    }
}

/// Collects entries in the order of the documents' names.
#[derive(Debug, Default)]
pub(in crate::policy) struct RuleSetBuilder {
    enforced: LayerBuilder,
    audited: LayerBuilder,
    documents: usize,
    exemptions: ExemptionSet,
}

#[derive(Debug, Default)]
struct LayerBuilder {
    cluster: Vec<Entry>,
    has_cluster: bool,
    namespaces: BTreeMap<Arc<str>, Vec<Entry>>,
}

impl RuleSetBuilder {
    /// Adds the entries of a document, all of which have its mode. A namespace with an enforced document that has no
    /// entries denies everything.
    pub(in crate::policy) fn add(&mut self, namespace: Option<Arc<str>>, mode: Mode, entries: Vec<Entry>) {
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

    /// Sets the exemptions of all documents.
    pub(in crate::policy) fn exempt(&mut self, exemptions: ExemptionSet) {
        self.exemptions = exemptions;
    }

    pub(in crate::policy) fn build(self) -> RuleSet {
        let Self { enforced, audited, documents, exemptions } = self;
        RuleSet { enforced: enforced.build(), audited: audited.build(), mode: Mode::Enforce, documents, exemptions }
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
pub(in crate::policy) struct Entry {
    /// Kind and name of the document.
    pub(in crate::policy) document: Arc<str>,
    /// The pattern as written.
    pub(in crate::policy) name: Arc<str>,
    pub(in crate::policy) at: EntryPlace,
    pub(in crate::policy) pattern: Pattern,
    /// `None` if there is no `policy`.
    pub(in crate::policy) rule: Option<Arc<Rule>>,
    /// For a cluster-wide entry that refers to secrets of the requesting namespace: the rules of the namespaces that
    /// have these secrets.
    pub(in crate::policy) by_namespace: BTreeMap<Arc<str>, Arc<Rule>>,
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

/// The entries of one scope, in an order that allows a search to stop at the first match.
#[derive(Clone, Debug, Default)]
struct Entries {
    /// The entries with the most literal characters first, then in the order of the documents.
    by_weight: Vec<Entry>,
    /// Entries without `*`, by the only text that they match.
    exact: HashMap<String, usize>,
    /// Present only if there are many entries.
    index: Option<EntryIndex>,
    any_document: bool,
}

/// The other fields are derived from the entries.
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

    /// The winner for each name of the subject, without duplicates, the most specific first.
    fn winners(&self, subject: &Subject) -> Vec<&Entry> {
        let mut found = Vec::new();
        let own = self.winner(&own_spellings(subject));
        found.extend(own);
        // An entry for exactly this digest applies alone, so a tag cannot make it less strict.
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

/// The spellings of the reference itself. A digest belongs to its repository, so no tag is implied.
pub(super) fn own_spellings(subject: &Subject) -> Vec<Spelling> {
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

/// The spellings of a repository name. Only names on Docker Hub have more than one.
fn name_spellings(name: &ImageName) -> Vec<String> {
    if !name.host.is_docker_hub() {
        return vec![name.to_string()];
    }
    let full = name.repository.as_str();
    let short = full.strip_prefix("library/").filter(|rest| !rest.contains('/'));
    let paths = [Some(full), short];
    let with_host =
        DOCKER_HUB_NAMES.iter().flat_map(|host| paths.iter().flatten().map(move |path| format!("{host}/{path}")));
    // Without the Docker Hub host, a path whose first component looks like a host would name a different registry.
    let bare = paths.iter().flatten().filter(|path| !begins_like_a_host(path)).map(|path| (*path).to_owned());
    with_host.chain(bare).collect()
}

fn begins_like_a_host(path: &str) -> bool {
    path.split_once('/').is_some_and(|(first, _)| is_registry(first))
}

#[cfg(test)]
mod tests;
