//! What a decision is about.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, ImageName, Reference, Tag};
use crate::scope::Scope;

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

/// What the bytes of a manifest are, by content and never by label.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Neither an image nor signatures: a chart, a model.
    Artifact,
    /// Signatures, attestations or SBOMs, and nothing that can be run.
    Attachment,
    /// An image of one platform.
    Image,
    /// A list of manifests.
    Index,
}

impl Kind {
    /// Lower case, as in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Artifact => "artifact",
            Self::Attachment => "attachment",
            Self::Image => "image",
            Self::Index => "index",
        }
    }
}
