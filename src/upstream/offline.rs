//! Upstreams that are never contacted: what an error says about a request that was not sent.

use super::client::UpstreamClient;
use super::exchange::{Call, TokenUse};

impl UpstreamClient {
    /// What a call would request: `registry.test/library/app:1`.
    pub(super) fn requested(&self, call: &Call) -> String {
        let name = format!("{}/{}", self.config().host, call.repository);
        let marker = format!("/v2/{}/", call.repository);
        let rest = call.url.path().rsplit_once(&*marker).map_or("", |(_, rest)| rest);
        match rest.split_once('/') {
            _ if call.tokens != TokenUse::Registry => format!("a document about {name}"),
            Some(("manifests", digest)) if digest.contains(':') => format!("{name}@{digest}"),
            Some(("manifests", tag)) => format!("{name}:{tag}"),
            Some(("blobs", digest)) => format!("the blob {digest} of {name}"),
            Some(("referrers", digest)) => format!("the list of what is attached to {name}@{digest}"),
            Some(("tags", _)) => format!("the list of the tags of {name}"),
            _ => format!("a document about {name}"),
        }
    }
}
