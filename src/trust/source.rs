//! The requests of trust to a registry, and the reasons for missing answers.

use std::future::Future;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::oci::{Digest, Page, Reference, Repository};
use crate::upstream::{ServiceAddress, ServiceAnswer};

/// Documents outside the registry API: extensions of the image's registry, and services that belong to it. Requests
/// carry the credentials of the registry where these are meant for the service.
pub trait RegistryServices: Send + Sync {
    /// A document of at most `limit` bytes; `None` when the service answers 404. See
    /// [`Upstream::document`](crate::upstream::Upstream::document).
    fn document<'a>(
        &'a self,
        repository: &'a Repository,
        address: ServiceAddress<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<ServiceAnswer>, SourceError>>;

    /// The URL of the notary server of the registry, by its configuration or its name.
    fn notary_server(&self) -> Option<String> {
        None
    }
}

/// Where attached manifests and signatures are read from.
pub trait SignatureSource: RegistryServices {
    /// A manifest of at most [`crate::oci::MAX_MANIFEST`] bytes; `None` when the registry answers 404.
    fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> impl Future<Output = Result<Option<UnparsedManifest>, SourceError>> + Send;

    /// A blob of at most `limit` bytes, verified against its digest; `None` when the registry answers 404.
    fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        limit: usize,
    ) -> impl Future<Output = Result<Option<Bytes>, SourceError>> + Send;

    /// One page of the referrers of a digest, and the page after it. `None` when the registry does not have the
    /// referrers API: 404 (distribution-spec, "Listing Referrers"), or what older registries answer instead. Every
    /// other failure is an error. The body is read whatever its type.
    fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        page: &Page,
    ) -> impl Future<Output = Result<Option<(Bytes, Option<Page>)>, SourceError>> + Send;
}

/// A manifest as a registry sent it, not parsed yet.
#[derive(Clone, Debug)]
pub struct UnparsedManifest {
    /// The body.
    pub bytes: Bytes,
    /// The `Content-Type` header, where there is one.
    pub content_type: Option<String>,
}

/// Why a question was not answered. It never means that there is no signature.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{why}")]
pub struct SourceError {
    /// What happened, for messages.
    pub why: String,
    /// Whether another attempt may succeed.
    pub temporary: bool,
    /// How many bytes may have been received before the failure; the limit where the answer exceeded it.
    pub received: usize,
}

impl SourceError {
    /// A failure before anything was received.
    pub(super) fn new(why: impl Into<String>, temporary: bool) -> Self {
        Self { why: why.into(), temporary, received: 0 }
    }
}
