//! The `images` command: the tags that the gate knows.

use serde::{Deserialize, Serialize};

use super::AssessmentCounts;
use super::query::{encode, limit, parameter};
use super::security_status::{NOT_SCANNED, security_status};
use crate::gate::{ImageQuery, KnownTag};
use crate::oci::Digest;
use crate::store::TagPosition;

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
    /// What is known about the image's vulnerabilities: `No Issues`, `3 Issues`, `Denied`, `Incomplete`, `Not Scanned`.
    /// Empty if the request leaves it out.
    pub security_status: String,
}

impl ImageAnswer {
    /// The answer for a known tag; `without_va` leaves out its security status.
    pub fn new(known: &KnownTag, without_va: bool) -> Self {
        let namespace = known.name.repository.as_str().split('/').next().unwrap_or_default().to_owned();
        let assessed = AssessmentCounts::worst_of(&known.assessments);
        let assessed = assessed.map(|(known, counts)| security_status(&known.evidence.value, &counts));
        let unassessed = if without_va { "" } else { NOT_SCANNED };
        Self {
            repository: known.name.to_string(),
            tag: known.tag.to_string(),
            digest: known.digest,
            namespace,
            created: known.created.clone(),
            size: known.size,
            security_status: assessed.unwrap_or_else(|| unassessed.into()),
        }
    }
}

/// Which known tags are listed. Without any field: all of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ImageListRequest {
    /// Only repositories that start with this text, or that are or are below this namespace or repository.
    pub restrict: Option<String>,
    /// Only tags after this one, as `REPOSITORY:TAG`. The list is ordered by registry, repository and tag.
    pub after: Option<String>,
    /// The maximum number of tags. A list with a limit may also end earlier, after a few seconds; it has at least one
    /// tag unless none is left.
    pub limit: Option<usize>,
    /// Leave out the security status, which takes most of the time.
    pub without_va: bool,
}

impl ImageListRequest {
    /// The URL query of this request.
    pub fn to_query(&self) -> String {
        let Self { restrict, after, limit, without_va } = self;
        let limit = limit.map(|limit| limit.to_string());
        let texts = [("restrict", restrict.as_ref()), ("after", after.as_ref()), ("limit", limit.as_ref())];
        let mut pairs: Vec<String> =
            texts.into_iter().filter_map(|(key, text)| Some(format!("{key}={}", encode(text?)))).collect();
        pairs.extend(without_va.then(|| "va=false".to_owned()));
        pairs.join("&")
    }

    /// Parses the query of a URL.
    ///
    /// # Errors
    /// A message, if `limit` is not a number from 1 or `after` is not a tag of a repository.
    pub fn from_query(query: &str) -> Result<Self, String> {
        let request = Self {
            restrict: parameter(query, "restrict"),
            after: parameter(query, "after"),
            limit: limit(query)?,
            without_va: parameter(query, "va").as_deref() == Some("false"),
        };
        request.position()?;
        Ok(request)
    }

    /// The repository and the tag after which the list starts.
    fn position(&self) -> Result<Option<TagPosition>, String> {
        let split = |after: &String| {
            let (repository, tag) = after.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
            Some(TagPosition { repository: repository.to_owned(), tag: tag.to_owned() })
        };
        self.after
            .as_ref()
            .map(|after| split(after).ok_or_else(|| "after must be REPOSITORY:TAG".to_owned()))
            .transpose()
    }
}

impl From<&ImageListRequest> for ImageQuery {
    fn from(request: &ImageListRequest) -> Self {
        Self {
            restrict: request.restrict.clone(),
            after: request.position().unwrap_or_default(),
            limit: request.limit,
            within: request.limit.map(|_| PAGE_TIME),
            without_va: request.without_va,
            with_distribution: false,
        }
    }
}

/// How long one page is gathered and assessed.
const PAGE_TIME: std::time::Duration = std::time::Duration::from_secs(5);
