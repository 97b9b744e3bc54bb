//! Documents of one repository on its notary server.

use bytes::Bytes;
use url::Url;

use super::{NotaryError, server};
use crate::oci::{Digest, ImageName};
use crate::policy::NotaryTrust;
use crate::trust::source::{RegistryServices, SourceError};
use crate::upstream::ServiceAddress;

/// One repository on its server.
pub(super) struct NotaryClient<'a> {
    services: &'a dyn RegistryServices,
    name: &'a ImageName,
    server: Url,
    /// The name of the repository, "globally unique name": host and repository.
    pub(super) gun: String,
}

impl<'a> NotaryClient<'a> {
    /// # Errors
    /// No server is known, or its URL cannot be used.
    pub(super) fn new(
        trust: &NotaryTrust,
        name: &'a ImageName,
        services: &'a dyn RegistryServices,
    ) -> Result<Self, NotaryError> {
        let known = trust.server.clone().or_else(|| services.notary_server()).or_else(|| server::by_host(&name.host));
        let Some(known) = known else {
            return Err(NotaryError::Unconfigured(format!(
                "Trust is not supported for images from this registry: no notary server is known for {}; set notary = \
                 \"https://HOST\" of the upstream, or server of the authority",
                name.host
            )));
        };
        let server = Url::parse(&known).ok().filter(|url| url.has_host() && url.query().is_none());
        let wrong = || NotaryError::Unconfigured(format!("the notary server {known:?} is not a URL"));
        Ok(Self { services, name, server: server.ok_or_else(wrong)?, gun: name.to_string() })
    }

    /// Server and repository, for messages and as a key.
    pub(super) fn place(&self) -> String {
        format!("{}/v2/{}", self.server.as_str().trim_end_matches('/'), self.gun)
    }

    /// The error for a server that has nothing.
    pub(super) fn no_trust_data(&self) -> NotaryError {
        NotaryError::NoTrustData { host: self.server.host_str().unwrap_or_default().to_owned(), gun: self.gun.clone() }
    }

    /// The current document of a role, of at most `limit` bytes; `None` when the server does not have it.
    pub(super) async fn current(&self, role: &str, limit: usize) -> Result<Option<Bytes>, NotaryError> {
        self.get(role, limit).await
    }

    /// A root by its version.
    pub(super) async fn root(&self, version: u64, limit: usize) -> Result<Option<Bytes>, NotaryError> {
        self.get(&format!("{version}.root"), limit).await
    }

    /// The document of a role with this hash.
    pub(super) async fn by_hash(&self, role: &str, hash: &Digest, limit: usize) -> Result<Option<Bytes>, NotaryError> {
        match self.get(&format!("{role}.{}", hash.hex()), limit).await? {
            Some(bytes) => Ok(Some(bytes)),
            None => self.get(role, limit).await,
        }
    }

    async fn get(&self, file: &str, limit: usize) -> Result<Option<Bytes>, NotaryError> {
        let mut url = self.server.clone();
        url.set_path(&format!("{}/v2/{}/_trust/tuf/{file}.json", url.path().trim_end_matches('/'), self.gun));
        let address = ServiceAddress::Beside { url: &url, resource: &self.gun };
        match self.services.document(&self.name.repository, address, limit).await {
            Ok(answer) => Ok(answer.map(|answer| answer.bytes)),
            Err(SourceError { why, temporary, received }) => {
                let why = format!("{file}.json: {why}");
                Err(NotaryError::Unavailable(SourceError { why, temporary, received }))
            }
        }
    }
}
