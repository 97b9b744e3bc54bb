//! The root of a repository: where its verification begins, and how it is renewed.

use std::sync::Arc;

use jiff::Timestamp;

use super::NotaryError;
use super::anchor::{TrustAnchor, VerifiedRoot};
use super::client::NotaryClient;
use super::work::BlockingWork;

/// The largest root and timestamp, in bytes.
pub(super) const MAX_SMALL: usize = 1024 * 1024;
/// The maximum number of roots that are fetched one after another.
const MAX_ROOTS: u64 = 64;

/// The roots of one repository.
#[derive(Clone, Copy)]
pub(super) struct Roots<'a> {
    pub(super) client: &'a NotaryClient<'a>,
    pub(super) anchor: &'a TrustAnchor,
    pub(super) work: &'a BlockingWork,
    pub(super) now: Timestamp,
}

impl Roots<'_> {
    /// The newest root that is known to be trusted: the remembered one, the pinned one, or one that the anchor accepts.
    ///
    /// # Errors
    /// See [`NotaryError`].
    pub(super) async fn first(self, remembered: Option<&Arc<VerifiedRoot>>) -> Result<Arc<VerifiedRoot>, NotaryError> {
        let gun = self.client.gun.clone();
        let pinned = match self.anchor {
            TrustAnchor::Document { document, .. } => {
                let document = document.clone();
                let read = move || VerifiedRoot::read(document, "the pinned root");
                Some(self.work.run(read).await?)
            }
            TrustAnchor::Nothing => return Err(NotaryError::no_root(&gun)),
            TrustAnchor::Keys(_) | TrustAnchor::FirstUse => None,
        };
        let is_pinned = pinned.is_some();
        let known = remembered.cloned().into_iter().chain(pinned).max_by_key(|known| known.root.version);
        if let Some(known) = known {
            if is_pinned {
                known.check_name(&gun)?;
            }
            return Ok(known);
        }
        let bytes = self.client.current("root", MAX_SMALL).await?.ok_or_else(|| self.client.no_trust_data())?;
        let (anchor, now) = (self.anchor.clone(), self.now);
        let accept = move || {
            let first = VerifiedRoot::read(bytes, "root")?;
            anchor.accept(&first, &gun, now).map(|()| first)
        };
        let first = self.work.run(accept).await?;
        if matches!(self.anchor, TrustAnchor::FirstUse) {
            let keys: Vec<_> = first.root.root_keys().map(|key| key.fingerprint().to_string()).collect();
            tracing::warn!(
                repository = %self.client.place(), version = first.root.version, ?keys,
                "Docker Content Trust: the root was unknown; it is now trusted, as configured by first_use"
            );
        }
        Ok(first)
    }

    /// The newest root that this one leads to.
    ///
    /// # Errors
    /// See [`NotaryError`].
    pub(super) async fn newest(self, root: &Arc<VerifiedRoot>) -> Result<Arc<VerifiedRoot>, NotaryError> {
        let mut newest = root.clone();
        while let Some(bytes) = self.client.root(newest.root.version.saturating_add(1), MAX_SMALL).await? {
            let (before, gun, now) = (newest, self.client.gun.clone(), self.now);
            newest = self.work.run(move || before.next(bytes, &gun, now)).await?;
            if newest.root.version - root.root.version >= MAX_ROOTS {
                return Err(NotaryError::Invalid(format!("root: more than {MAX_ROOTS} versions follow the known one")));
            }
        }
        let Some(bytes) = self.client.current("root", MAX_SMALL).await? else { return Ok(newest) };
        let (gun, now) = (self.client.gun.clone(), self.now);
        self.work.run(move || newest.current(bytes, &gun, now)).await
    }
}
