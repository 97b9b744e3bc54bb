//! Lists of what is attached to manifests, as they were imported for repositories of offline upstreams.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{FactStore, StoreError};
use crate::oci::{Digest, ImageName, parse_referrers};
use crate::policy::Observed;

/// The topic of the rows.
const TOPIC: &str = "attached";

/// The attachments of a manifest as the repository listed them at some time.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AttachedList {
    /// All referrers, as an OCI index; `None` if the registry did not list them.
    pub referrers: Option<String>,
    /// The tags that were asked for, by their end after `sha256-HEX`: `.sig`. The digest is `None` if there was no such
    /// tag.
    pub tags: BTreeMap<String, Option<Digest>>,
}

impl AttachedList {
    /// The manifests that are attached.
    pub fn digests(&self) -> BTreeSet<Digest> {
        let referrers = self.referrers.as_deref().map(|list| parse_referrers(list.as_bytes()));
        let referrers = referrers.and_then(Result::ok).unwrap_or_default();
        let tags = self.tags.values().flatten().copied();
        referrers.iter().map(|entry| entry.digest).chain(tags).collect()
    }
}

impl FactStore {
    /// Records a list, unless a newer one is recorded.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn record_attached(
        &self,
        name: &ImageName,
        subject: Digest,
        list: &AttachedList,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let value = super::json(list);
        self.record_evidence(TOPIC, &key(name, subject), Observed { value, at, until: None }).await
    }

    /// The list for a manifest, if there is one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn attached_list(&self, name: &ImageName, subject: Digest) -> Result<Option<AttachedList>, StoreError> {
        let row = self.evidence(TOPIC, &key(name, subject), Timestamp::MAX).await?;
        row.map(|row| serde_json::from_str(&row.value).map_err(|_| StoreError::Row("an invalid list"))).transpose()
    }
}

/// The form of subjects of evidence, so that the row is kept as long as the content of the manifest.
fn key(name: &ImageName, subject: Digest) -> String {
    format!("{name}@{subject} attached")
}
