//! Fetches the documents of a repository and verifies them, from the root to the delegated roles (TUF specification,
//! "Detailed client workflow", in notary's form).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use jiff::Timestamp;

use super::NotaryError;
use super::anchor::{VerifiedRoot, invalid};
use super::history::History;
use super::repository::{SignedRole, TrustedRepository, VerifiedBasis};
use super::roots::{MAX_SMALL, Roots};
use super::work::{RoleSigners, UnverifiedDocument};
use crate::oci::{Digest, Tag};
use crate::store::NotaryRecord;
use crate::trust::source::SourceError;
use crate::tuf::{self, Delegation, FileMeta, Targets, TufSnapshot};

/// The largest document besides root and timestamp, in bytes.
const MAX_DOCUMENT: usize = 8 * 1024 * 1024;
/// The maximum number of levels of delegations below `targets`.
const MAX_DEPTH: usize = 8;
/// The role that the docker command believes first.
const RELEASES: &str = "targets/releases";
/// The largest document that is requested before it is named, in bytes. Several are held in memory at the same time.
const MAX_AHEAD: usize = 1024 * 1024;
/// The maximum number of documents that are requested before another document names them. With root and timestamp, they
/// stay below the limit on concurrent requests to one service.
const MOST_AHEAD: usize = 5;

/// One update.
pub(super) struct Update<'a> {
    pub(super) roots: Roots<'a>,
    /// What the last update verified, if this process remembers it.
    pub(super) previous: Option<&'a TrustedRepository>,
    /// The roles of signers that are wanted in addition to those of the docker command.
    pub(super) signers: Vec<String>,
    /// What was verified before, and in this update.
    pub(super) history: History,
    /// The earliest end of a document besides the timestamp.
    pub(super) until: Timestamp,
    /// Current documents, by role, that were requested before anything named them. They count only if they have the
    /// hash that is named later.
    pub(super) ahead: BTreeMap<String, Bytes>,
}

/// The outcome of an update, with what to remember.
pub(super) struct Updated {
    pub(super) repository: TrustedRepository,
    pub(super) record: NotaryRecord,
}

/// A role whose delegations are followed.
struct OpenRole {
    targets: Targets,
    signed: SignedRole,
}

impl Update<'_> {
    /// # Errors
    /// See [`NotaryError`].
    pub(super) async fn run(mut self) -> Result<Updated, NotaryError> {
        let first = self.roots.first(self.history.root.as_ref());
        let ahead = async { Ok(self.documents_ahead().await) };
        let (root, timestamp, ahead) = tokio::try_join!(first, self.current_timestamp(), ahead)?;
        self.ahead = ahead;
        let (root, repository) = match self.follow(&root, timestamp).await {
            Ok(repository) => (root, repository),
            // Keys may have changed since: the root is renewed, once.
            Err(error @ NotaryError::Invalid(_)) => {
                let newer = self.roots.newest(&root).await?;
                if newer.bytes == root.bytes {
                    return Err(error);
                }
                let timestamp = self.current_timestamp().await?;
                let repository = self.follow(&newer, timestamp).await?;
                (newer, repository)
            }
            Err(error) => return Err(error),
        };
        Ok(Updated { repository, record: self.history.into_record(&root) })
    }

    /// Timestamp, snapshot, targets and delegations under one root.
    async fn follow(
        &mut self,
        trusted: &Arc<VerifiedRoot>,
        timestamp: Option<Bytes>,
    ) -> Result<TrustedRepository, NotaryError> {
        let root = &trusted.root;
        self.history.begin(root);
        self.until = Timestamp::MAX;
        self.expires("root", root.expires)?;
        let timestamp = timestamp.ok_or_else(|| self.roots.client.no_trust_data())?;
        let timestamp = self.timestamp(trusted, timestamp).await?;
        let named = timestamp.snapshot.sha256().map_err(|error| invalid("timestamp", &error))?;
        let basis = VerifiedBasis { root: Digest::sha256(&trusted.bytes), snapshot: named };
        let is_same = |one: &&TrustedRepository| one.basis == basis && one.content_until > self.roots.now;
        if let Some(previous) = self.previous.filter(is_same) {
            // The snapshot names everything by its hash, so nothing has changed. It may be an old one.
            self.history.check_again(&previous.verified)?;
            return Ok(TrustedRepository { until: timestamp.expires.min(previous.content_until), ..previous.clone() });
        }
        self.until = root.expires;
        let snapshot = self.snapshot(trusted, &timestamp).await?;
        let meta = |role: &str| {
            let missing = || NotaryError::Invalid(format!("snapshot: it does not name {role}"));
            snapshot.meta.get(role).ok_or_else(missing)
        };
        if meta("root")?.check(&trusted.bytes).is_err() {
            return Err(NotaryError::Invalid("snapshot: it names a root other than the trusted one".into()));
        }
        let document = self.named("targets", meta("targets")?, (&root.keys, root.role("targets"))).await?;
        let top = self.targets(document, |_| true).await?;
        let releases = self.delegated(&top, &snapshot, RELEASES).await?;
        let mut signers = BTreeMap::new();
        for role in self.signers.clone() {
            if let Some(signed) = self.delegated(&top, &snapshot, &role).await? {
                signers.insert(role, signed);
            }
        }
        let until = self.until.min(timestamp.expires);
        let verified = self.history.verified();
        Ok(TrustedRepository {
            targets: top.signed,
            releases,
            signers,
            basis,
            verified,
            first_use: trusted.first_use(self.roots.anchor),
            content_until: self.until,
            until,
        })
    }

    async fn current_timestamp(&self) -> Result<Option<Bytes>, NotaryError> {
        self.roots.client.current("timestamp", MAX_SMALL).await
    }

    /// The current documents of the roles that an update will need which begins with nothing, all at once. Which of
    /// them are needed, and with which hash, is known only after the documents above them were verified. Without one of
    /// them it is requested then.
    async fn documents_ahead(&self) -> BTreeMap<String, Bytes> {
        if self.previous.is_some() {
            return BTreeMap::new();
        }
        let client = self.roots.client;
        let roles = ["snapshot", "targets", RELEASES].into_iter().chain(self.signers.iter().map(String::as_str));
        let documents = roles.take(MOST_AHEAD).map(|role| async move {
            let document = client.current(role, MAX_AHEAD).await.ok().flatten()?;
            Some((role.to_owned(), document))
        });
        join_all(documents).await.into_iter().flatten().collect()
    }

    async fn timestamp(&mut self, trusted: &VerifiedRoot, bytes: Bytes) -> Result<tuf::Timestamp, NotaryError> {
        let root = &trusted.root;
        let document = UnverifiedDocument::new("timestamp", bytes, None, (&root.keys, root.role("timestamp")));
        let read = move || document.verify(|envelope, _| tuf::Timestamp::read(envelope));
        let (timestamp, _) = self.roots.work.run(read).await?;
        self.is_current("timestamp", timestamp.version, timestamp.expires)?;
        Ok(timestamp)
    }

    async fn snapshot(
        &mut self,
        trusted: &VerifiedRoot,
        timestamp: &tuf::Timestamp,
    ) -> Result<TufSnapshot, NotaryError> {
        let root = &trusted.root;
        let document = self.named("snapshot", &timestamp.snapshot, (&root.keys, root.role("snapshot"))).await?;
        let read = move || document.verify(|envelope, _| TufSnapshot::read(envelope));
        let (snapshot, _) = self.roots.work.run(read).await?;
        self.is_current("snapshot", snapshot.version, snapshot.expires)?;
        Ok(snapshot)
    }

    /// A role below `targets`, one level after another; `None` if it is not delegated to, or has signed nothing. Only
    /// what all levels may sign counts.
    async fn delegated(
        &mut self,
        top: &OpenRole,
        snapshot: &TufSnapshot,
        wanted: &str,
    ) -> Result<Option<SignedRole>, NotaryError> {
        let mut path: Vec<String> = Vec::new();
        for part in wanted.split('/') {
            path.push(path.last().map_or_else(|| part.to_owned(), |parent| format!("{parent}/{part}")));
        }
        if path.len() > MAX_DEPTH + 1 {
            return Err(NotaryError::Invalid(format!("{wanted}: more than {MAX_DEPTH} levels of delegations")));
        }
        let mut allowed: Vec<Delegation> = Vec::new();
        let mut below: Option<OpenRole> = None;
        for role in path.iter().skip(1) {
            let parent = &below.as_ref().unwrap_or(top).targets;
            let Some(delegation) = parent.delegations.iter().find(|one| one.name == *role) else { return Ok(None) };
            let Some(meta) = snapshot.meta.get(role) else {
                self.history.check_unlisted(role)?;
                return Ok(None);
            };
            let document = self.named(role, meta, (&parent.keys, &delegation.keys)).await?;
            allowed.push(delegation.clone());
            let may = |tag: &Tag| allowed.iter().all(|level| level.allows(tag));
            below = Some(self.targets(document, may).await?);
        }
        Ok(below.map(|role| role.signed))
    }

    /// Verifies a document of targets. Only tags that the role may sign count.
    async fn targets(
        &mut self,
        document: UnverifiedDocument,
        may: impl Fn(&Tag) -> bool + Send,
    ) -> Result<OpenRole, NotaryError> {
        let role = document.role.clone();
        let (targets, keys) = self.roots.work.run(move || document.verify(Targets::read)).await?;
        self.is_current(&role, targets.version, targets.expires)?;
        let own = targets.targets.iter().filter(|(tag, _)| may(tag));
        let signed = SignedRole { targets: own.map(|(tag, one)| (tag.clone(), one.clone())).collect(), keys };
        Ok(OpenRole { targets, signed })
    }

    /// The document of a role that another one names by its hash. It is not verified yet.
    async fn named(
        &self,
        role: &str,
        meta: &FileMeta,
        signers: RoleSigners<'_>,
    ) -> Result<UnverifiedDocument, NotaryError> {
        let limit = usize::try_from(meta.length).unwrap_or(usize::MAX);
        if limit > MAX_DOCUMENT {
            return Err(NotaryError::Invalid(format!("{role}: it is larger than {MAX_DOCUMENT} bytes")));
        }
        let hash: Digest = meta.sha256().map_err(|error| invalid(role, &error))?;
        let ahead = self.ahead.get(role).filter(|bytes| Digest::sha256(bytes) == hash).cloned();
        let document = match ahead {
            Some(document) => Some(document),
            None => self.roots.client.by_hash(role, &hash, MAX_DOCUMENT).await?,
        };
        let Some(bytes) = document else {
            let why = format!("{role}.json: the server does not have the document that it names");
            return Err(NotaryError::Unavailable(SourceError::new(why, true)));
        };
        Ok(UnverifiedDocument::new(role, bytes, Some(meta.clone()), signers))
    }

    /// Checks that a document is not older than one that was verified before, and has not expired.
    fn is_current(&mut self, role: &str, version: u64, expires: Timestamp) -> Result<(), NotaryError> {
        self.history.check(role, version)?;
        self.expires(role, expires)
    }

    fn expires(&mut self, role: &str, expires: Timestamp) -> Result<(), NotaryError> {
        if expires <= self.roots.now {
            let why = format!("{role}: it expired at {expires}; publish the repository again with its keys");
            return Err(NotaryError::Invalid(why));
        }
        self.until = self.until.min(expires);
        Ok(())
    }
}
