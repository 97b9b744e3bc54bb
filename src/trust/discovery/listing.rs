//! Lists of referrers.

use serde_json::Value;

use crate::oci::{Digest, media_type};

/// The most entries of a referrers list that are kept.
pub(super) const MAX_LISTED: usize = 10_000;
/// Manifests of signatures are smaller, in bytes; those with a larger stated size are opened later.
const SMALL: u64 = 64 * 1024;

/// An entry of a list of referrers. Everything in it is a hint: where to look, and in which order.
#[derive(Debug)]
pub(super) struct ListedReferrer {
    pub(super) digest: Digest,
    artifact_type: Option<String>,
    is_large: bool,
}

impl ListedReferrer {
    fn read(entry: &Value) -> Option<Self> {
        let digest = entry.get("digest")?.as_str()?.parse().ok()?;
        let artifact_type = entry.get("artifactType").and_then(Value::as_str).map(str::to_owned);
        let is_large = entry.get("size").and_then(Value::as_u64).is_some_and(|size| size > SMALL);
        Some(Self { digest, artifact_type, is_large })
    }

    /// The order in which referrers are opened, lowest first. No type is left out: GHCR's referrers tags and some
    /// registries list bundles as `application/vnd.oci.empty.v1+json`.
    pub(super) fn priority(&self, is_expected: impl Fn(&str) -> bool) -> (u8, bool) {
        let by_type = match self.artifact_type.as_deref() {
            Some(named) if is_expected(named) => 0,
            None | Some(media_type::OCI_EMPTY) => 1,
            Some(_) => 2,
        };
        (by_type, self.is_large)
    }
}

/// A list of referrers: the API's, or that of the referrers tag.
#[derive(Debug)]
pub(super) struct ReferrersList {
    pub(super) entries: Vec<ListedReferrer>,
    /// How many entries name no digest that could be requested.
    pub(super) unreadable: usize,
}

impl ReferrersList {
    /// Reads a list, whatever the content type of the answer. It is never served as a manifest, so a bad entry spoils
    /// only itself.
    ///
    /// # Errors
    /// Why it is not a list.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let body: Value = serde_json::from_slice(bytes).map_err(|error| format!("no JSON: {error}"))?;
        let entries = match body.get("manifests") {
            Some(Value::Array(entries)) => &**entries,
            // How Go writes an empty list that nobody made.
            Some(Value::Null) => &[],
            _ => return Err("no list of referrers".into()),
        };
        let read: Vec<_> = entries.iter().take(MAX_LISTED).filter_map(ListedReferrer::read).collect();
        Ok(Self { unreadable: entries.len() - read.len(), entries: read })
    }
}
