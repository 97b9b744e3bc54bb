//! Many exemptions, found by scope and issue.

use std::collections::HashMap;
use std::sync::Arc;

use super::record::ExemptionRecord;
use super::scope::ExemptionScope;
use crate::oci::{Digest, ImageName, Reference, Tag};
use crate::policy::matching::subject::Subject;
use crate::policy::rules::banned::key;
use crate::policy::vulnerability::AffectedPackage;

/// The exemptions of one origin: of the documents, of the store, or of ignore files.
///
/// Finding those of an image takes one look-up for each scope that contains the image, however many exemptions there
/// are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExemptionSet {
    scopes: HashMap<ExemptionScope, Arc<ScopeExemptions>>,
    len: usize,
    has_digests: bool,
}

impl ExemptionSet {
    /// All exemptions, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ExemptionRecord>> {
        self.scopes.values().flat_map(|scope| scope.iter())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether any exemption applies to one digest only.
    pub fn has_digests(&self) -> bool {
        self.has_digests
    }

    pub(super) fn of_scope(&self, scope: &ExemptionScope) -> Option<&Arc<ScopeExemptions>> {
        self.scopes.get(scope)
    }
}

/// Accepts records and shared records.
impl<R: Into<Arc<ExemptionRecord>>> FromIterator<R> for ExemptionSet {
    fn from_iter<I: IntoIterator<Item = R>>(records: I) -> Self {
        let mut scopes: HashMap<ExemptionScope, ScopeExemptions> = HashMap::new();
        let (mut len, mut has_digests) = (0, false);
        for record in records {
            let record = record.into();
            len += 1;
            has_digests |= record.scope.is_digest();
            scopes.entry(record.scope.clone()).or_default().add(record);
        }
        Self { scopes: scopes.into_iter().map(|(scope, all)| (scope, Arc::new(all))).collect(), len, has_digests }
    }
}

/// The image that exemptions are wanted for.
#[derive(Clone, Debug)]
pub struct ExemptedImage<'a> {
    /// Upstream and repository.
    pub name: &'a ImageName,
    /// Its tags: the tag as requested; for a request by digest, those that are known for the digest.
    pub tags: &'a [Tag],
    /// Its digest, that of the request, and those of the indexes that list it.
    pub digests: Vec<Digest>,
    /// For an index, the digests of its children.
    pub children: Vec<Digest>,
}

impl<'a> ExemptedImage<'a> {
    /// The image that was judged for a subject.
    pub fn new(subject: &'a Subject, digest: Digest) -> Self {
        let tags = match &subject.reference {
            Reference::Tag(tag) => std::slice::from_ref(tag),
            Reference::Digest(_) => &subject.known_tags,
        };
        let digests = subject.digest().into_iter().filter(|asked| *asked != digest).chain([digest]).collect();
        Self { name: &subject.name, tags, digests, children: Vec::new() }
    }
}

/// The exemptions of one scope.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ScopeExemptions {
    /// By the issue in lower case.
    by_issue: HashMap<String, Vec<Arc<ExemptionRecord>>>,
    /// Those of whole packages, by the name of the package, in the form in which all its spellings are equal.
    by_package: HashMap<String, Vec<Arc<ExemptionRecord>>>,
}

impl ScopeExemptions {
    fn add(&mut self, record: Arc<ExemptionRecord>) {
        let list = match (&record.issue_id, &record.package) {
            (Some(id), _) => self.by_issue.entry(id.to_ascii_lowercase()).or_default(),
            (None, package) => {
                let name = package.as_ref().map(|package| key(package.name())).unwrap_or_default();
                self.by_package.entry(name).or_default()
            }
        };
        list.push(record);
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<ExemptionRecord>> {
        self.by_issue.values().chain(self.by_package.values()).flatten()
    }

    /// Those of an issue, whose identifier is in lower case.
    pub(super) fn of_issue(&self, id: &str) -> &[Arc<ExemptionRecord>] {
        self.by_issue.get(id).map_or(&[], Vec::as_slice)
    }

    /// Those that may be about a package.
    pub(super) fn of_package(&self, package: &AffectedPackage) -> impl Iterator<Item = &Arc<ExemptionRecord>> {
        let own = key(&package.name);
        let of_purl = package.purl.as_ref().map(|purl| key(purl.name())).filter(|name| *name != own);
        let source = package.source_name().map(key).filter(|name| *name != own && Some(name) != of_purl.as_ref());
        [Some(own), of_purl, source].into_iter().flatten().filter_map(|name| self.by_package.get(&name)).flatten()
    }
}
