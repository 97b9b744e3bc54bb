//! Upstreams that are never contacted: what answers in their place, and the errors for requests that were not sent.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::client::UpstreamClient;
use super::exchange::{Call, TokenUse};
use super::{Error, RawManifest, Upstream};
use crate::oci::{Digest, ImageName, Reference, Repository};

/// What is known on this machine about the repositories of an offline upstream.
pub trait OfflineContent: Send + Sync {
    /// A manifest that the repository delivered or that was imported for it.
    fn manifest<'a>(
        &'a self,
        name: &'a ImageName,
        reference: &'a Reference,
    ) -> BoxFuture<'a, OfflineAnswer<RawManifest>>;

    /// A blob of at most `limit` bytes that the repository delivered or that was imported for it.
    fn blob<'a>(&'a self, name: &'a ImageName, digest: Digest, limit: usize) -> BoxFuture<'a, OfflineAnswer<Bytes>>;

    /// The whole list of the referrers of a manifest, as an OCI index.
    fn referrers<'a>(&'a self, name: &'a ImageName, digest: Digest) -> BoxFuture<'a, OfflineAnswer<Bytes>>;
}

/// An answer in place of an offline upstream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OfflineAnswer<T> {
    /// The repository does not have it, according to a list that is here.
    Absent,
    /// It is here.
    Here(T),
    /// Nothing is known.
    Unknown,
}

impl<T> OfflineAnswer<T> {
    /// The answer of the upstream; `None` if the request must fail because the upstream is offline.
    fn into_result(self) -> Option<Result<T, Error>> {
        match self {
            Self::Absent => Some(Err(Error::NOT_FOUND)),
            Self::Here(found) => Some(Ok(found)),
            Self::Unknown => None,
        }
    }
}

impl Upstream {
    /// Sets who answers if the upstream is offline. The first call counts.
    pub(super) fn set_offline_content(&self, content: Arc<dyn OfflineContent>) {
        // Set once, when the gate is built.
        let _ = self.offline.set(content);
    }

    /// Who answers in place of an offline upstream, and the name of the repository.
    fn offline(&self, repository: &Repository) -> Option<(&dyn OfflineContent, ImageName)> {
        let content = self.offline.get().filter(|_| self.config().offline)?;
        Some((&**content, ImageName { host: self.host().clone(), repository: repository.clone() }))
    }

    pub(super) async fn offline_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Option<Result<RawManifest, Error>> {
        let (content, name) = self.offline(repository)?;
        content.manifest(&name, reference).await.into_result()
    }

    pub(super) async fn offline_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        limit: usize,
    ) -> Option<Result<Bytes, Error>> {
        let (content, name) = self.offline(repository)?;
        content.blob(&name, *digest, limit).await.into_result()
    }

    pub(super) async fn offline_referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Option<Result<Bytes, Error>> {
        let (content, name) = self.offline(repository)?;
        content.referrers(&name, *digest).await.into_result()
    }
}

impl UpstreamClient {
    /// Why a call has no answer: `registry.test/library/app:1 is not in the cache; …`.
    pub(super) fn lack(&self, call: &Call) -> String {
        let name = format!("{}/{}", self.config().host, call.repository);
        let marker = format!("/v2/{}/", call.repository);
        let rest = call.url.path().rsplit_once(&*marker).map_or("", |(_, rest)| rest);
        let what = match rest.split_once('/') {
            _ if call.tokens != TokenUse::Registry => format!("a document about {name}"),
            Some(("manifests", digest)) if digest.contains(':') => format!("{name}@{digest}"),
            Some(("manifests", tag)) => format!("{name}:{tag}"),
            Some(("blobs", digest)) => format!("the blob {digest} of {name}"),
            Some(("referrers", digest)) => format!("the list of what is attached to {name}@{digest}"),
            Some(("tags", _)) => {
                return format!("the tags of {name} cannot be listed: bundles contain no lists of tags");
            }
            _ => format!("a document about {name}"),
        };
        format!("{what} is not in the cache; import a bundle that contains it (`pullgate bundle import`)")
    }
}
