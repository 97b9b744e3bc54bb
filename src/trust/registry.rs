//! A registry as a source of signatures.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::source::{RegistryServices, SignatureSource, SourceError, UnparsedManifest};
use crate::oci::{Digest, MAX_MANIFEST, Page, Reference, Repository};
use crate::upstream::{self, ServiceAddress, ServiceAnswer, Upstream};

impl RegistryServices for Upstream {
    fn document<'a>(
        &'a self,
        repository: &'a Repository,
        address: ServiceAddress<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<ServiceAnswer>, SourceError>> {
        Box::pin(async move { found(Self::document(self, repository, address, limit).await, limit) })
    }

    fn notary_server(&self) -> Option<String> {
        self.config().notary_server()
    }
}

impl SignatureSource for Upstream {
    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<UnparsedManifest>, SourceError> {
        let fetched = found(Self::manifest(self, repository, reference).await, MAX_MANIFEST)?;
        Ok(fetched.map(|fetched| UnparsedManifest { bytes: fetched.bytes, content_type: fetched.content_type }))
    }

    async fn blob(&self, repository: &Repository, digest: &Digest, limit: usize) -> Result<Option<Bytes>, SourceError> {
        found(self.blob_bytes(repository, digest, limit).await, limit)
    }

    async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        page: &Page,
    ) -> Result<Option<(Bytes, Option<Page>)>, SourceError> {
        let list = found(Self::referrers(self, repository, digest, page).await, 0)?;
        Ok(list.map(|list| (list.bytes, list.next)))
    }
}

/// A 404 is an answer; every other failure leaves the question open. `limit` is in bytes.
fn found<T>(result: Result<T, upstream::Error>, limit: usize) -> Result<Option<T>, SourceError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(upstream::Error::NotFound { .. }) => Ok(None),
        Err(error) => {
            let received = if matches!(error, upstream::Error::TooLarge(_)) { limit } else { 0 };
            Err(SourceError { received, ..SourceError::new(error.to_string(), error.may_pass()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in the resolver: a failure that is not an answer of the registry says nothing about signatures.
    #[test]
    fn temporary_failures_leave_the_question_open() {
        use upstream::Error;
        let text = String::new;
        for (error, temporary) in [
            (Error::Protocol(text()), true),
            (Error::Digest(text()), true),
            (Error::Unavailable(text()), true),
            (Error::Forbidden(text()), false),
            (Error::TooLarge(text()), false),
        ] {
            let failure = found::<()>(Err(error.clone()), 1).unwrap_err();
            assert_eq!(failure.temporary, temporary, "{error:?}");
        }
        assert_eq!(found::<()>(Err(Error::NOT_FOUND), 1), Ok(None));
    }
}
