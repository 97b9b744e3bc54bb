//! Documents of one repository on its notary server.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use url::Url;

use super::NotaryError;
use crate::oci::{Digest, ImageName};
use crate::policy::NotaryTrust;
use crate::trust::source::{RegistryServices, SourceError};
use crate::upstream::ServiceAddress;

/// The time limit for one document, with its token and all retries. A working server needs a fraction of it, and
/// requests wait for the document, so it must be well below `verdict_wait` of the gate.
pub(super) const DOCUMENT_TIME: Duration = Duration::from_secs(5);

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
        let known = trust.server.clone().or_else(|| services.notary_server());
        let Some(known) = known else {
            return Err(NotaryError::Unconfigured(format!(
                "Trust is not supported for images from this registry: no notary server is known for {}; set notary = \
                 \"https://HOST\" of the upstream, or server of the authority",
                name.host
            )));
        };
        let is_usable = |url: &Url| {
            let has_password = !url.username().is_empty() || url.password().is_some();
            url.has_host() && url.query().is_none() && !has_password
        };
        let server = Url::parse(&known).ok().filter(is_usable);
        // The text is not quoted, because it may contain a password.
        let wrong = || {
            let why = "the address of the notary server must be a URL such as https://HOST, without a user or a query";
            NotaryError::Unconfigured(why.into())
        };
        Ok(Self { services, name, server: server.ok_or_else(wrong)?, gun: name.to_string() })
    }

    /// Server and repository, for messages and as a key.
    pub(super) fn place(&self) -> String {
        format!("{}/v2/{}", self.server.as_str().trim_end_matches('/'), self.gun)
    }

    /// The server, as a key.
    pub(super) fn server(&self) -> String {
        self.server.origin().ascii_serialization()
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
        let late = |_| SourceError::new(format!("no answer within {} s", DOCUMENT_TIME.as_secs()), true);
        let answer = timeout(DOCUMENT_TIME, self.services.document(&self.name.repository, address, limit)).await;
        match answer.map_err(late).flatten() {
            Ok(answer) => Ok(answer.map(|answer| answer.bytes)),
            Err(SourceError { why, temporary, received }) => {
                let why = format!("{file}.json: {why}");
                Err(NotaryError::Unavailable(SourceError { why, temporary, received }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::ImageReference;
    use crate::trust::tests::Silent;

    #[test]
    fn addresses_with_passwords_are_refused_and_not_quoted() {
        let name = "registry.acme.com/app".parse::<ImageReference>().unwrap().name;
        let client = |server: &str| {
            let trust = NotaryTrust { server: Some(server.into()), ..NotaryTrust::default() };
            NotaryClient::new(&trust, &name, &Silent).map(|client| client.place())
        };
        let place = client("https://notary.acme.com").unwrap();
        assert_eq!(place, "https://notary.acme.com/v2/registry.acme.com/app");
        for server in ["https://user:secret@notary.acme.com", "https://secret@notary.acme.com", "secret"] {
            let error = client(server).unwrap_err().to_string();
            assert!(error.contains("https://HOST") && !error.contains("secret"), "{error}");
        }
    }
}
