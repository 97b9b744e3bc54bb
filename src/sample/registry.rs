//! The sample registry: its content, access rules, injected faults and request log.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use rustls::ServerConfig;
use tokio::net::TcpListener;

use super::image::{self, Built};
use crate::oci::{Digest, media_type};
use crate::runtime::Tasks;

mod access;
mod answer;
mod body;
mod content;
mod fault;
mod flush;
mod listen;
mod log;

pub use access::{Access, Credentials};
pub use fault::{Fault, Injected, On};
pub use listen::Listening;
pub use log::LoggedRequest;

/// An in-memory registry. Cheap to clone; all clones share the same content.
///
/// Repositories and tags are plain strings here: a name that the specification does not allow is stored but never
/// found.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<RegistryState>);

#[derive(Debug, Default)]
struct RegistryState {
    content: content::HeldContent,
    access: access::AccessRules,
    faults: fault::Faults,
    log: log::RequestJournal,
    /// Whether the referrers API is disabled.
    without_referrers: AtomicBool,
    /// The number of referrers per page; 0 for no limit.
    referrers_page: AtomicUsize,
}

impl Registry {
    /// Creates an empty registry with public access.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds all content of `built`, and points `tag` to its root.
    pub fn push(&self, repository: &str, tag: Option<&str>, built: &Built) {
        for manifest in &built.manifests {
            self.put_manifest_as(repository, manifest.digest, &manifest.media_type, manifest.bytes.clone());
        }
        for (digest, bytes) in &built.blobs {
            self.put_blob_as(repository, *digest, bytes.clone());
        }
        if let Some(tag) = tag {
            self.tag(repository, tag, built.root);
        }
    }

    /// Adds a manifest, and points `tag` to it. `media_type` is sent as `Content-Type`.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        self.put_manifest_as(repository, digest, media_type, bytes);
        if let Some(tag) = tag {
            self.tag(repository, tag, digest);
        }
        digest
    }

    /// Adds a manifest under an unchecked digest: one of another algorithm, or a wrong one.
    pub fn put_manifest_as(&self, repository: &str, digest: Digest, media_type: &str, bytes: impl Into<Bytes>) {
        self.0.content.edit(repository, |r| r.manifests.insert(digest, (media_type.into(), bytes.into())));
    }

    /// Adds a blob.
    pub fn put_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        self.put_blob_as(repository, digest, bytes);
        digest
    }

    /// Adds a blob under an unchecked digest.
    pub fn put_blob_as(&self, repository: &str, digest: Digest, bytes: impl Into<Bytes>) {
        self.0.content.edit(repository, |r| r.blobs.insert(digest, bytes.into()));
    }

    /// Adds an OpenPGP signature of a manifest. A registry with signatures announces that it serves them
    /// (containers/image, `docs/signature-protocols.md`).
    pub fn put_signature(&self, repository: &str, digest: Digest, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.0.content.edit(repository, |held| held.signatures.entry(digest).or_default().push(bytes));
    }

    /// Serves a document at a path that is not one of the registry API: `/v2/NAME/_trust/tuf/root.json`.
    pub fn put_document(&self, path: &str, bytes: Bytes) {
        self.0.content.put_document(path, bytes);
    }

    /// Points `tag` to a manifest, which need not exist.
    pub fn tag(&self, repository: &str, tag: &str, digest: Digest) {
        self.0.content.edit(repository, |r| r.tags.insert(tag.into(), digest));
    }

    /// Deletes a tag; the manifest stays.
    pub fn delete_tag(&self, repository: &str, tag: &str) {
        self.0.content.edit(repository, |r| r.tags.remove(tag));
    }

    /// Deletes a manifest; tags that point to it are then unknown.
    pub fn delete_manifest(&self, repository: &str, digest: &Digest) {
        self.0.content.edit(repository, |r| r.manifests.remove(digest));
    }

    /// Deletes a blob.
    pub fn delete_blob(&self, repository: &str, digest: &Digest) {
        self.0.content.edit(repository, |r| r.blobs.remove(digest));
    }

    /// Lists the referrers of `subject` under its referrers tag, as clients do if there is no referrers API
    /// (distribution-spec, "Referrers Tag Schema").
    pub fn push_referrers_tag(&self, repository: &str, subject: &Digest) {
        let referrers = self.0.content.referrers(repository, subject);
        let tag = image::attachment_tag(subject, "");
        let body = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": referrers,
        });
        self.put_manifest(repository, Some(&tag), media_type::OCI_INDEX, body.to_string());
    }

    /// Enables or disables the referrers API, which is enabled by default. If disabled, it returns 404, as older
    /// registries do.
    pub fn set_referrers_api(&self, on: bool) {
        self.0.without_referrers.store(!on, Ordering::Relaxed);
    }

    /// Sets the maximum number of referrers per page; 0 for no limit.
    pub fn set_referrers_page(&self, entries: usize) {
        self.0.referrers_page.store(entries, Ordering::Relaxed);
    }

    /// Sets who may pull from `repository`; `*` applies to `/v2/` and to every repository without a rule.
    pub fn set_access(&self, repository: &str, access: Access) {
        self.0.access.set(repository, access);
    }

    /// Names a token server other than this registry's own `/token` in challenges.
    pub fn set_token_realm(&self, url: &str) {
        self.0.access.set_realm(url);
    }

    /// Sets the lifetime, in seconds, that `/token` reports. Tokens are valid until
    /// [`revoke_tokens`](Self::revoke_tokens).
    pub fn set_token_lifetime(&self, seconds: u64) {
        self.0.access.set_lifetime(seconds);
    }

    /// Revokes all issued tokens.
    pub fn revoke_tokens(&self) {
        self.0.access.revoke();
    }

    /// Injects a fault into every request that matches `on`. For tests and the soak.
    pub fn inject(&self, on: On, fault: Fault) -> Injected {
        self.0.faults.add(on, fault)
    }

    /// Removes all faults. Held or stalled requests continue.
    pub fn clear_faults(&self) {
        self.0.faults.clear();
    }

    /// All requests since the start or the last [`clear_log`](Self::clear_log), in the order of arrival.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.0.log.read(<[_]>::to_vec)
    }

    /// The number of logged requests that match `predicate`.
    pub fn count(&self, predicate: impl Fn(&LoggedRequest) -> bool) -> usize {
        self.0.log.read(|log| log.iter().filter(|request| predicate(request)).count())
    }

    /// Clears the log.
    pub fn clear_log(&self) {
        self.0.log.clear();
    }

    /// Resolves as soon as `predicate` holds for the log; the caller sets a time limit.
    pub async fn wait_for(&self, predicate: impl FnMut(&[LoggedRequest]) -> bool) {
        self.0.log.wait_for(predicate).await;
    }

    /// Binds `address` and serves plain HTTP/1.1 there.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(&self, address: SocketAddr, tasks: &Tasks) -> io::Result<Listening> {
        self.serve(TcpListener::bind(address).await?, None, tasks)
    }

    /// Serves HTTP/1.1 on `listener`, over TLS if a configuration is given, until it or `tasks` is stopped.
    ///
    /// # Errors
    /// The address of the listener cannot be determined.
    pub fn serve(&self, listener: TcpListener, tls: Option<Arc<ServerConfig>>, tasks: &Tasks) -> io::Result<Listening> {
        listen::listen(self.clone(), listener, tls, tasks)
    }
}
