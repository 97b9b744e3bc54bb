//! Lists of referrers.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::oci::{Digest, json, media_type};

/// The maximum number of entries of a referrers list that are kept.
pub(super) const MAX_LISTED: usize = 10_000;
/// Manifests of signatures are smaller, in bytes; those with a larger stated size are opened later.
const SMALL: u64 = 64 * 1024;

/// An entry of a list of referrers. Everything in it is a hint: where to look, and in which order.
#[derive(Debug)]
pub(in crate::trust) struct ListedReferrer {
    pub(super) digest: Digest,
    artifact_type: Option<String>,
    is_large: bool,
}

impl ListedReferrer {
    fn read(entry: &RawValue) -> Option<Self> {
        let members = ["artifactType", "digest", "size"];
        let entry = json::parse_members(entry.get().as_bytes(), &[], &[], &members).ok()?;
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
        let mut found = None;
        json::each_member(bytes, |key, value| found = if key == "manifests" { Some(value) } else { found })
            .map_err(|error| format!("not a list of referrers: {error}"))?;
        let list = found.ok_or("not a list of referrers")?.get();
        // Go writes null for a list that was never allocated.
        let entries: Option<Vec<&RawValue>> = serde_json::from_str(list).map_err(|_| "not a list of referrers")?;
        let entries = entries.unwrap_or_default();
        let read: Vec<_> = entries.iter().take(MAX_LISTED).filter_map(|entry| ListedReferrer::read(entry)).collect();
        Ok(Self { unreadable: entries.len() - read.len(), entries: read })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> Result<(usize, usize), String> {
        ReferrersList::read(list.as_bytes()).map(|list| (list.entries.len(), list.unreadable))
    }

    #[test]
    fn a_bad_entry_spoils_only_itself() {
        let good = format!(r#"{{"digest":"{}","size":1,"artifactType":"a/b"}}"#, Digest::sha256(b"x"));
        // Parsed, this entry would take a hundred times its size.
        let chain = format!("{}0{}", "{\"\":".repeat(100), "}".repeat(100));
        let large = format!(r#"{{"digest":"{}","x":[{}]}}"#, Digest::sha256(b"x"), vec![&*chain; 1500].join(","));
        for (list, expected) in [
            (r#"{"manifests":null}"#.to_owned(), Ok((0, 0))),
            (format!(r#"{{"manifests":[{good}]}}"#), Ok((1, 0))),
            (format!(r#"{{"manifests":[{good},{{}},1,{good}]}}"#), Ok((2, 2))),
            (format!(r#"{{"manifests":[{good},{large}],"x":{chain}}}"#), Ok((2, 0))),
        ] {
            assert_eq!(read(&list), expected);
        }
        for list in ["{}", "[]", "1", r#"{"manifests":{}}"#, r#"{"manifests":1}"#, "<html>", ""] {
            assert!(read(list).unwrap_err().starts_with("not a list of referrers"), "{list}");
        }
    }
}
