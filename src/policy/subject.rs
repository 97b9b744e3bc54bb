//! What a decision is about.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::oci::{Digest, ImageName, Reference, Tag};

/// Whose rules apply: a Kubernetes namespace or any other named group of clients. Empty is cluster-wide.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Scope(Option<Arc<str>>);

impl Scope {
    /// No namespace: cluster-wide rules alone.
    pub const CLUSTER: Self = Self(None);

    /// The namespace's name; `None` for cluster-wide.
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    /// A DNS label, as Kubernetes namespaces are (RFC 1123); the empty text is cluster-wide.
    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        if text.is_empty() {
            return Ok(Self::CLUSTER);
        }
        let alphanumeric = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let inner = text.bytes().all(|c| alphanumeric(c) || c == b'-');
        let ends = text.bytes().next().is_some_and(alphanumeric) && text.bytes().last().is_some_and(alphanumeric);
        if inner && ends && text.len() <= 63 { Ok(Self(Some(text.into()))) } else { Err(InvalidScope) }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or_default())
    }
}

/// A text is no scope.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a scope is a namespace: at most 63 lower-case letters, digits and dashes, with none of the last at its ends")]
pub struct InvalidScope;

/// What a request is about, in the upstream's own names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subject {
    /// Upstream and repository.
    pub name: ImageName,
    /// As asked: a tag or a digest.
    pub reference: Reference,
    /// The tags through which the digest is known, its own and those of indexes that list it. Only read when the
    /// image is asked for by digest.
    pub known_tags: Vec<Tag>,
    /// Whose rules apply.
    pub scope: Scope,
}

impl Subject {
    /// Something asked for by tag or digest, with no tag known beyond that.
    pub fn new(name: ImageName, reference: Reference, scope: Scope) -> Self {
        Self { name, reference, known_tags: Vec::new(), scope }
    }

    /// The digest, when that is what was asked for.
    pub fn digest(&self) -> Option<Digest> {
        match self.reference {
            Reference::Digest(digest) => Some(digest),
            Reference::Tag(_) => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reference {
            Reference::Digest(digest) => write!(f, "{}@{digest}", self.name),
            Reference::Tag(tag) => write!(f, "{}:{tag}", self.name),
        }
    }
}
