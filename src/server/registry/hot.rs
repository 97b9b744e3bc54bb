//! Responses that one processor core sends again and again.
//!
//! A repeated decision is shared by all cores. Counting references to it, to its headers and to its body would make
//! every core write to the same memory on every request, so each core keeps copies of the few responses that it sends
//! most.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::Response;
use quick_cache::unsync::Cache;

use crate::gate::WarmAnswer;
use crate::runtime::{BusyCounter, Sharded};

/// How many responses a core keeps.
const KEPT: usize = 128;
/// The largest body that is kept, in bytes: copies must not take much memory, and of a larger body the rest costs more
/// than counting references.
const MAX_BODY: usize = 16 * 1024;

/// A repeated decision as it goes to clients.
pub(super) struct HotResponse {
    pub(super) warm: Arc<WarmAnswer>,
    /// Without what differs from request to request.
    pub(super) response: Response<Bytes>,
    /// Counts the GET requests that get it.
    pub(super) gets: BusyCounter,
    /// Counts the HEAD requests that get it.
    pub(super) heads: BusyCounter,
}

/// The responses, by the key of the request.
#[derive(Default)]
pub(super) struct HotResponses(Sharded<Mutex<HotCache>>);

struct HotCache(Cache<String, HotResponse>);

impl Default for HotCache {
    fn default() -> Self {
        Self(Cache::new(KEPT))
    }
}

impl HotResponses {
    /// Uses this core's response to a request, where it has one. The lock is never contended: each core has its own.
    pub(super) fn with<T>(&self, key: &str, send: impl FnOnce(&HotResponse) -> T) -> Option<T> {
        let kept = self.0.mine().lock().unwrap_or_else(PoisonError::into_inner);
        kept.0.get(key).map(send)
    }

    /// Keeps a copy of a response for this core, unless it is large.
    pub(super) fn keep(&self, key: &str, hot: HotResponse) {
        if hot.response.body().len() > MAX_BODY {
            return;
        }
        let hot = HotResponse { response: hot.response.map(|bytes| Bytes::copy_from_slice(&bytes)), ..hot };
        let mut kept = self.0.mine().lock().unwrap_or_else(PoisonError::into_inner);
        kept.0.insert(key.to_owned(), hot);
    }
}
