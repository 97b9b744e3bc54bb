//! Fetches the documents of a repository and verifies them, from the root to the delegated roles (TUF specification,
//! "Detailed client workflow", in notary's form).

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;

use super::NotaryError;
use super::anchor::{TrustAnchor, VerifiedRoot, invalid, verify};
use super::client::NotaryClient;
use super::repository::{SignedRole, TrustedRepository, VerifiedBasis};
use crate::oci::Digest;
use crate::store::NotaryRole;
use crate::trust::source::SourceError;
use crate::tuf::{self, Delegation, FileMeta, Root, SignedDocument, Targets, TufSnapshot};

/// The largest root and timestamp, in bytes.
const MAX_SMALL: usize = 1024 * 1024;
/// The largest other document, in bytes.
const MAX_DOCUMENT: usize = 8 * 1024 * 1024;
/// The most roots that are fetched one after another.
const MAX_ROOTS: u64 = 64;
/// The most levels of delegations below `targets`.
const MAX_DEPTH: usize = 8;
/// The role that the docker command believes first.
const RELEASES: &str = "targets/releases";

/// What was verified before.
pub(super) struct Remembered {
    pub(super) root: Option<Bytes>,
    /// The newest version of each role.
    pub(super) versions: BTreeMap<String, u64>,
}

impl Remembered {
    pub(super) fn new(roles: Vec<NotaryRole>) -> Self {
        let (mut root, mut versions) = (None, BTreeMap::new());
        for NotaryRole { role, version, document } in roles {
            root = if role == "root" { document.map(Bytes::from) } else { root };
            versions.insert(role, version);
        }
        Self { root, versions }
    }
}

/// One update.
pub(super) struct Update<'a> {
    pub(super) client: &'a NotaryClient<'a>,
    pub(super) anchor: &'a TrustAnchor,
    pub(super) remembered: &'a Remembered,
    /// What the last update verified, if this process remembers it.
    pub(super) previous: Option<&'a TrustedRepository>,
    /// The roles of signers that are wanted in addition to those of the docker command.
    pub(super) signers: Vec<String>,
    pub(super) now: Timestamp,
    /// The versions that were verified in this update.
    pub(super) verified: BTreeMap<String, u64>,
    /// The earliest end of a document besides the timestamp.
    pub(super) until: Timestamp,
}

/// The outcome of an update, with the root for the store.
pub(super) struct Updated {
    pub(super) repository: TrustedRepository,
    pub(super) roles: Vec<NotaryRole>,
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
        let root = self.first_root().await?;
        let (root, repository) = match self.follow(&root).await {
            Ok(repository) => (root, repository),
            // Keys may have changed since: the root is renewed, once.
            Err(error @ NotaryError::Invalid(_)) => {
                let newer = self.newer_root(&root).await?;
                if newer.bytes == root.bytes {
                    return Err(error);
                }
                let repository = self.follow(&newer).await?;
                (newer, repository)
            }
            Err(error) => return Err(error),
        };
        let mut roles: Vec<_> =
            self.verified.into_iter().map(|(role, version)| NotaryRole { role, version, document: None }).collect();
        let document = Some(root.bytes.to_vec());
        roles.push(NotaryRole { role: "root".into(), version: root.root.version, document });
        Ok(Updated { repository, roles })
    }

    /// The newest root that is known to be trusted: the remembered one, the pinned one, or one that the anchor accepts.
    async fn first_root(&self) -> Result<VerifiedRoot, NotaryError> {
        let read = |bytes: &Bytes, what| VerifiedRoot::read(bytes.clone()).map_err(|error| invalid(what, &error));
        let remembered = self.remembered.root.as_ref().map(|bytes| read(bytes, "the remembered root")).transpose()?;
        let pinned = match self.anchor {
            TrustAnchor::Document(bytes) => Some(read(bytes, "the pinned root")?),
            TrustAnchor::Nothing => {
                let (gun, how) = (&self.client.gun, super::HOW_TO_PIN);
                return Err(NotaryError::Unconfigured(format!("no root is trusted for {gun}; {how}")));
            }
            TrustAnchor::Keys(_) | TrustAnchor::FirstUse => None,
        };
        if let Some(known) = remembered.into_iter().chain(pinned).max_by_key(|known| known.root.version) {
            if matches!(self.anchor, TrustAnchor::Document(_)) {
                known.check_name(&self.client.gun)?;
            }
            return Ok(known);
        }
        let bytes = self.client.current("root", MAX_SMALL).await?.ok_or_else(|| self.client.no_trust_data())?;
        let first = read(&bytes, "root")?;
        self.anchor.accept(&first, &self.client.gun, self.now)?;
        if matches!(self.anchor, TrustAnchor::FirstUse) {
            let keys: Vec<_> = first.root.root_keys().map(|key| key.fingerprint().to_string()).collect();
            tracing::warn!(
                repository = %self.client.place(), version = first.root.version, ?keys,
                "Docker Content Trust: the root was not known; it is trusted from now on, as first_use asks for"
            );
        }
        Ok(first)
    }

    /// The newest root that this one leads to.
    async fn newer_root(&self, root: &VerifiedRoot) -> Result<VerifiedRoot, NotaryError> {
        let mut newest = root.clone();
        while let Some(bytes) = self.client.root(newest.root.version.saturating_add(1), MAX_SMALL).await? {
            let next = VerifiedRoot::read(bytes).map_err(|error| invalid("root", &error))?;
            if next.root.version.checked_sub(1) != Some(newest.root.version) {
                return Err(NotaryError::Invalid(format!("root: version {} was asked for", newest.root.version + 1)));
            }
            newest.leads_to(&next, &self.client.gun, self.now)?;
            newest = next;
            if newest.root.version - root.root.version >= MAX_ROOTS {
                return Err(NotaryError::Invalid(format!("root: more than {MAX_ROOTS} versions follow the known one")));
            }
        }
        let Some(bytes) = self.client.current("root", MAX_SMALL).await? else { return Ok(newest) };
        let current = VerifiedRoot::read(bytes).map_err(|error| invalid("root", &error))?;
        match current.root.version.cmp(&newest.root.version) {
            std::cmp::Ordering::Less => Err(replayed("root", current.root.version, newest.root.version)),
            // The same root, perhaps in other words: the snapshot names its bytes.
            std::cmp::Ordering::Equal if current.envelope.message() == newest.envelope.message() => Ok(current),
            std::cmp::Ordering::Equal => Err(NotaryError::Invalid("root: two roots have the same version".into())),
            // Servers before notary 0.6 have no roots by version.
            std::cmp::Ordering::Greater => newest.leads_to(&current, &self.client.gun, self.now).map(|()| current),
        }
    }

    /// Timestamp, snapshot, targets and delegations under one root.
    async fn follow(&mut self, trusted: &VerifiedRoot) -> Result<TrustedRepository, NotaryError> {
        self.verified.clear();
        self.until = Timestamp::MAX;
        let root = &trusted.root;
        self.expires("root", root.expires)?;
        let timestamp = self.timestamp(root).await?;
        let named = timestamp.snapshot.sha256().map_err(|error| invalid("timestamp", &error))?;
        let basis = VerifiedBasis { root: Digest::sha256(&trusted.bytes), snapshot: named };
        let is_same = |one: &&TrustedRepository| one.basis == basis && one.content_until > self.now;
        if let Some(previous) = self.previous.filter(is_same) {
            // Nothing else can have changed: the snapshot names everything by its hash.
            return Ok(TrustedRepository { until: timestamp.expires.min(previous.content_until), ..previous.clone() });
        }
        self.until = root.expires;
        let snapshot = self.snapshot(root, &timestamp).await?;
        let meta = |role: &str| {
            let missing = || NotaryError::Invalid(format!("snapshot: it does not name {role}"));
            snapshot.meta.get(role).ok_or_else(missing)
        };
        if meta("root")?.check(&trusted.bytes).is_err() {
            return Err(NotaryError::Invalid("snapshot: it names another root than the one that is trusted".into()));
        }
        let envelope = self.named("targets", meta("targets")?).await?;
        verify("targets", &envelope, root, root.role("targets"))?;
        let keys = envelope.verify(&root.keys, root.role("targets")).map_err(|error| invalid("targets", &error))?;
        let targets = self.targets("targets", &envelope)?;
        let signed = SignedRole { targets: targets.targets.clone(), keys };
        let top = OpenRole { targets, signed };
        let releases = self.delegated(&top, &snapshot, RELEASES).await?;
        let mut signers = BTreeMap::new();
        for role in self.signers.clone() {
            if let Some(signed) = self.delegated(&top, &snapshot, &role).await? {
                signers.insert(role, signed);
            }
        }
        let until = self.until.min(timestamp.expires);
        Ok(TrustedRepository { targets: top.signed, releases, signers, basis, content_until: self.until, until })
    }

    async fn timestamp(&mut self, root: &Root) -> Result<tuf::Timestamp, NotaryError> {
        let bytes = self.client.current("timestamp", MAX_SMALL).await?.ok_or_else(|| self.client.no_trust_data())?;
        let envelope = SignedDocument::parse(&bytes).map_err(|error| invalid("timestamp", &error))?;
        verify("timestamp", &envelope, root, root.role("timestamp"))?;
        let timestamp = tuf::Timestamp::read(&envelope).map_err(|error| invalid("timestamp", &error))?;
        self.version("timestamp", timestamp.version, timestamp.expires)?;
        Ok(timestamp)
    }

    async fn snapshot(&mut self, root: &Root, timestamp: &tuf::Timestamp) -> Result<TufSnapshot, NotaryError> {
        let envelope = self.named("snapshot", &timestamp.snapshot).await?;
        verify("snapshot", &envelope, root, root.role("snapshot"))?;
        let snapshot = TufSnapshot::read(&envelope).map_err(|error| invalid("snapshot", &error))?;
        self.version("snapshot", snapshot.version, snapshot.expires)?;
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
            let Some(meta) = snapshot.meta.get(role) else { return Ok(None) };
            let envelope = self.named(role, meta).await?;
            let keys = envelope.verify(&parent.keys, &delegation.keys).map_err(|error| invalid(role, &error))?;
            allowed.push(delegation.clone());
            let targets = self.targets(role, &envelope)?;
            let may = |name: &str| allowed.iter().all(|level| level.allows(name));
            let own = targets.targets.iter().filter(|(name, _)| may(name));
            let signed = SignedRole { targets: own.map(|(name, one)| (name.clone(), one.clone())).collect(), keys };
            below = Some(OpenRole { targets, signed });
        }
        Ok(below.map(|role| role.signed))
    }

    fn targets(&mut self, role: &str, envelope: &SignedDocument) -> Result<Targets, NotaryError> {
        let targets = Targets::read(envelope, role).map_err(|error| invalid(role, &error))?;
        self.version(role, targets.version, targets.expires)?;
        Ok(targets)
    }

    /// A document that another one names, by its hash.
    async fn named(&self, role: &str, meta: &FileMeta) -> Result<SignedDocument, NotaryError> {
        let limit = usize::try_from(meta.length).unwrap_or(usize::MAX);
        if limit > MAX_DOCUMENT {
            return Err(NotaryError::Invalid(format!("{role}: it is larger than {MAX_DOCUMENT} bytes")));
        }
        let hash: Digest = meta.sha256().map_err(|error| invalid(role, &error))?;
        let Some(bytes) = self.client.by_hash(role, &hash, MAX_DOCUMENT).await? else {
            let why = format!("{role}.json: the server does not have the document that it names");
            return Err(NotaryError::Unavailable(SourceError::new(why, true)));
        };
        meta.check(&bytes).map_err(|error| invalid(role, &error))?;
        SignedDocument::parse(&bytes).map_err(|error| invalid(role, &error))
    }

    /// Checks that a document is not older than one that was verified before, and has not expired.
    fn version(&mut self, role: &str, version: u64, expires: Timestamp) -> Result<(), NotaryError> {
        if let Some(newest) = self.remembered.versions.get(role).filter(|newest| version < **newest) {
            return Err(replayed(role, version, *newest));
        }
        self.expires(role, expires)?;
        self.verified.insert(role.to_owned(), version);
        Ok(())
    }

    fn expires(&mut self, role: &str, expires: Timestamp) -> Result<(), NotaryError> {
        if expires <= self.now {
            let why = format!("{role}: it expired at {expires}; publish the repository again with its keys");
            return Err(NotaryError::Invalid(why));
        }
        self.until = self.until.min(expires);
        Ok(())
    }
}

fn replayed(role: &str, version: u64, newest: u64) -> NotaryError {
    let why = format!("version {version} is older than version {newest}, which was verified before");
    NotaryError::Invalid(format!("{role}: an old document is replayed: {why}"))
}
