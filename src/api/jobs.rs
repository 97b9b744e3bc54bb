//! Jobs: work that takes longer than a single call may take. One call starts a job, and further calls query its
//! progress.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The progress of a job, and its result.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct JobState {
    /// The job's number.
    pub id: u64,
    /// The number of bytes that are done.
    pub done_bytes: u64,
    /// The total number of bytes, as far as it is known.
    pub total_bytes: u64,
    /// What the job is working on.
    pub at: String,
    /// The result, once the job has succeeded.
    pub result: Option<Value>,
    /// Why the job failed.
    pub error: Option<String>,
}

impl JobState {
    /// Whether the job has ended.
    pub fn has_ended(&self) -> bool {
        self.result.is_some() || self.error.is_some()
    }
}

/// The images to fetch into the cache.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PrefetchRequest {
    /// The images as users write them.
    pub images: Vec<String>,
    /// The platforms to fetch; if empty, those of the gate's configuration or, without any, of its machine.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// The namespace whose rules apply; empty for the cluster-wide rules.
    #[serde(default)]
    pub namespace: String,
}

/// The result for one image of a [`PrefetchRequest`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PrefetchedImage {
    /// The image as the request named it.
    pub image: String,
    /// The number of its blobs in the cache.
    pub blobs: u64,
    /// The size of these blobs, in bytes.
    pub bytes: u64,
    /// Why the image was not fetched.
    pub error: Option<String>,
}
