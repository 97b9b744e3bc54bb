//! The `images` command: the tags that the gate knows.

use serde::{Deserialize, Serialize};

use super::security_status::security_status;
use crate::gate::KnownTag;
use crate::oci::Digest;

/// One known tag, in the columns of `ibmcloud cr images`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ImageAnswer {
    /// Upstream and repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The digest that the tag resolves to.
    pub digest: Digest,
    /// The namespace in IBM's sense: the first component of the repository.
    pub namespace: String,
    /// When the image was created according to its configuration (RFC 3339); `None` if unknown.
    pub created: Option<String>,
    /// The total size of all layers in bytes; `None` if unknown.
    pub size: Option<u64>,
    /// What is known about the image's vulnerabilities: `No Issues`, `3 Issues`, `Scanning`, `Not Scanned`.
    pub security_status: String,
}

impl From<KnownTag> for ImageAnswer {
    fn from(known: KnownTag) -> Self {
        let namespace = known.name.repository.as_str().split('/').next().unwrap_or_default().to_owned();
        let assessed = known.assessment.map(|evidence| security_status(&evidence.value));
        Self {
            repository: known.name.to_string(),
            tag: known.tag.to_string(),
            digest: known.digest,
            namespace,
            created: known.created,
            size: known.size,
            security_status: assessed.unwrap_or_else(|| "Not Scanned".into()),
        }
    }
}
