//! The subject of a decision.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, ImageName, Reference, Tag};
use crate::scope::Scope;

/// The subject of a request, with the upstream's own names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subject {
    /// Upstream and repository.
    pub name: ImageName,
    /// The reference as requested: a tag or a digest.
    pub reference: Reference,
    /// The known tags of the digest: its own tags and those of the indexes that list it. They are used only if the
    /// image is requested by digest.
    pub known_tags: Vec<Tag>,
    /// The scope whose rules apply.
    pub scope: Scope,
}

impl Subject {
    /// Creates a subject from a tag or digest, without other known tags.
    pub fn new(name: ImageName, reference: Reference, scope: Scope) -> Self {
        Self { name, reference, known_tags: Vec::new(), scope }
    }

    /// The digest, if the request is by digest.
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

/// The kind of a manifest. It is derived from the content, never from a label.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Neither an image nor signatures: for example a chart or a model.
    Artifact,
    /// Signatures, attestations or SBOMs, without anything that can be run.
    Attachment,
    /// An image for one platform.
    Image,
    /// A list of manifests.
    Index,
}

impl Kind {
    /// The name in lower case, as in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Artifact => "artifact",
            Self::Attachment => "attachment",
            Self::Image => "image",
            Self::Index => "index",
        }
    }
}
