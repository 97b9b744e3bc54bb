//! The contents of the cache: the calls that list and remove them.

use super::query::{encode, limit, parameter};
use crate::cache::{Cache, CacheError, CachedContent, RemovedContent};
use crate::gate::{Operations, RemovalFailure, RemovalTarget};
use crate::oci::Digest;

/// The maximum number of contents in one answer.
const MAX_CONTENTS: u32 = 1000;

/// Which contents are listed, in the order of their digests.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ContentListRequest {
    /// Only those after this one.
    pub after: Option<Digest>,
    /// At most as many, and never more than 1000.
    pub limit: Option<u32>,
}

impl ContentListRequest {
    /// The URL query of this request.
    pub fn to_query(&self) -> String {
        let after = self.after.map(|after| format!("after={after}"));
        let limit = self.limit.map(|limit| format!("limit={limit}"));
        after.into_iter().chain(limit).collect::<Vec<_>>().join("&")
    }

    /// Parses the query of a URL.
    ///
    /// # Errors
    /// A message, if `after` is not a digest or `limit` is not a number from 1.
    pub fn from_query(query: &str) -> Result<Self, String> {
        let after = parameter(query, "after").map(|text| text.parse().map_err(|_| "after must be a digest".to_owned()));
        Ok(Self { after: after.transpose()?, limit: limit(query)? })
    }
}

/// What is removed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RemovalRequest {
    /// An image as users write it, or a digest.
    pub name: String,
    /// Also what is pinned or of an offline upstream.
    pub force: bool,
}

impl RemovalRequest {
    /// The URL query of this request.
    pub fn to_query(&self) -> String {
        format!("name={}{}", encode(&self.name), if self.force { "&force=true" } else { "" })
    }

    /// Parses the query of a URL. `None` if there is no name.
    pub fn from_query(query: &str) -> Option<Self> {
        let force = parameter(query, "force").as_deref() == Some("true");
        parameter(query, "name").map(|name| Self { name, force })
    }
}

/// The contents of the cache.
///
/// # Errors
/// The database cannot be read.
pub async fn contents(cache: &Cache, wanted: &ContentListRequest) -> Result<Vec<CachedContent>, CacheError> {
    cache.contents(wanted.after, wanted.limit.map_or(MAX_CONTENTS, |limit| limit.min(MAX_CONTENTS))).await
}

/// Removes content from the cache. `caller` is for the audit record.
///
/// # Errors
/// See [`RemovalFailure`].
pub async fn remove_content(
    operations: &Operations,
    wanted: &RemovalRequest,
    caller: &str,
) -> Result<RemovedContent, RemovalFailure> {
    let target = match wanted.name.parse() {
        Ok(digest) => RemovalTarget::Digest(digest),
        Err(_) => RemovalTarget::Image(operations.image(&wanted.name)?),
    };
    operations.remove_content(&target, wanted.force, caller).await
}
