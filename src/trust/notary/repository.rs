//! Repositories whose documents were verified, kept until they must be asked about again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout};

use super::anchor::{TrustAnchor, VerifiedRoot};
use super::client::{DOCUMENT_TIME, NotaryClient};
use super::history::{History, VerifiedRoles};
use super::roots::Roots;
use super::update::{Update, Updated};
use super::work::BlockingWork;
use super::{NotaryError, after};
use crate::oci::{Digest, Tag};
use crate::policy::NotaryTrust;
use crate::runtime::{ALLOCATION, Bounded, Clock, budget};
use crate::store::{FactStore, NotaryRole, StoreError};
use crate::trust::source::SourceError;
use crate::trust::{Config, TROUBLE_TTL, TrustServices};
use crate::tuf::TufTarget;

/// The time limit for all documents of one repository. Pulls wait for them, so it must be well below `verdict_wait` of
/// the gate: what other authorities have signed is found out afterwards.
const UPDATE_TIME: Duration = Duration::from_secs(10);
/// How long a server is not asked again, about any repository, after it kept an update waiting without an answer.
const SILENCE_TTL: SignedDuration = SignedDuration::from_secs(10);

/// The signed content of a repository, as far as a policy asks for it.
#[derive(Clone, Debug)]
pub(super) struct TrustedRepository {
    /// The role `targets`.
    pub(super) targets: SignedRole,
    /// The role `targets/releases`, if there is one.
    pub(super) releases: Option<SignedRole>,
    /// The roles of signers that the policy names, if they exist.
    pub(super) signers: BTreeMap<String, SignedRole>,
    /// The basis of the verification.
    pub(super) basis: VerifiedBasis,
    /// The versions of its documents.
    pub(super) verified: VerifiedRoles,
    /// A note about its root, if nothing but its first use vouches for it.
    pub(super) first_use: Option<String>,
    /// The earliest end of a document besides the timestamp.
    pub(super) content_until: Timestamp,
    /// The earliest end of a document.
    pub(super) until: Timestamp,
}

/// The documents that decide about all others: while they are the same, everything is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct VerifiedBasis {
    /// The digest of the root.
    pub(super) root: Digest,
    /// The digest of the snapshot.
    pub(super) snapshot: Digest,
}

/// The content that one role has signed.
#[derive(Clone, Debug)]
pub(super) struct SignedRole {
    /// The target of each tag.
    pub(super) targets: BTreeMap<Tag, TufTarget>,
    /// The fingerprints of the keys whose signatures were verified.
    pub(super) keys: BTreeSet<Digest>,
}

/// The state of a repository, valid until a time.
#[derive(Clone, Debug)]
pub(super) struct KnownRepository {
    pub(super) result: Result<TrustedRepository, NotaryError>,
    pub(super) until: Timestamp,
}

/// All repositories.
pub(super) struct Repositories {
    refresh: SignedDuration,
    negative_ttl: SignedDuration,
    known: Bounded<String, Arc<KnownRepository>>,
    /// Repositories that are being updated: concurrent questions wait for one update.
    updating: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Servers that did not answer in time, and until when they are not asked.
    silent: Mutex<BTreeMap<String, Timestamp>>,
    store: FactStore,
    clock: Clock,
    work: BlockingWork,
}

impl Repositories {
    pub(super) fn new(config: &Config, services: &TrustServices) -> Self {
        let weight = |key: &String, known: &Arc<KnownRepository>| key.len() + known.weight();
        Self {
            refresh: config.notary_refresh,
            negative_ttl: config.negative_ttl,
            known: Bounded::new(budget::NOTARY, weight),
            updating: Mutex::default(),
            silent: Mutex::default(),
            store: services.store.clone(),
            clock: services.clock.clone(),
            work: BlockingWork(services.tasks.clone()),
        }
    }

    /// What is known about a repository; its documents are fetched if they must be. A server that does not answer
    /// counts as one that is down, after [`DOCUMENT_TIME`], and then at once for [`SILENCE_TTL`].
    pub(super) async fn get(&self, trust: &NotaryTrust, client: &NotaryClient<'_>) -> Arc<KnownRepository> {
        let anchor = TrustAnchor::new(trust);
        let signers: BTreeSet<_> = trust.signers.iter().map(|signer| format!("targets/{}", signer.name)).collect();
        let signers: Vec<_> = signers.into_iter().collect();
        let key = format!("{} {} {}", client.place(), anchor.key(), signers.join(" "));
        if let Some(known) = self.recall(&key) {
            return known;
        }
        if let Some(error) = self.silence(client) {
            return self.failed(error);
        }
        let pinned = anchor.clone();
        let id = match self.work.run(move || pinned.stored_key()).await {
            Ok(id) => id,
            Err(error) => return self.failed(error),
        };
        // The store knows the repository by this name.
        let stored = format!("{} {id}", client.place());
        let slot = self.slot(&stored);
        let _turn = slot.lock.lock().await;
        if let Some(known) = self.recall(&key) {
            return known;
        }
        if let Some(error) = self.silence(client) {
            return self.failed(error);
        }
        let previous = self.known.get(&key);
        let previous = previous.as_ref().and_then(|known| known.result.as_ref().ok());
        let began = Instant::now();
        let update = timeout(UPDATE_TIME, self.update(client, &anchor, (&stored, previous), signers)).await;
        let result = update.unwrap_or_else(|_| Err(too_slow(UPDATE_TIME)));
        self.note_silence(client, result.as_ref().err(), began.elapsed());
        let known = Arc::new(self.known(result));
        self.known.insert(key, known.clone());
        known
    }

    /// Forgets everything about a place, whatever its trust anchor.
    ///
    /// # Errors
    /// The store fails.
    pub(super) async fn forget(&self, place: &str) -> Result<Vec<NotaryRole>, StoreError> {
        let mut forgotten = Vec::new();
        for stored in self.store.notary_repositories(place).await? {
            // No update writes what is being forgotten.
            let slot = self.slot(&stored);
            let _turn = slot.lock.lock().await;
            forgotten.extend(self.store.forget_notary_roles(&stored).await?);
            self.known.clear();
        }
        Ok(forgotten)
    }

    /// Why a server is not asked now, if it did not answer a moment ago.
    fn silence(&self, client: &NotaryClient<'_>) -> Option<NotaryError> {
        let until = locked(&self.silent).get(&client.server()).copied()?;
        let why = format!("{} did not respond to a recent request", client.server());
        (self.clock.now() < until).then(|| NotaryError::Unavailable(SourceError::new(why, true)))
    }

    /// Remembers whether a server kept an update waiting that then failed.
    fn note_silence(&self, client: &NotaryClient<'_>, error: Option<&NotaryError>, took: Duration) {
        let now = self.clock.now();
        let mut silent = locked(&self.silent);
        silent.retain(|_, until| now < *until);
        if matches!(error, Some(NotaryError::Unavailable(error)) if error.temporary) && took >= DOCUMENT_TIME {
            silent.insert(client.server(), after(now, SILENCE_TTL));
        }
    }

    /// The turn of a repository: one update at a time.
    fn slot(&self, stored: &str) -> UpdateSlot<'_> {
        let lock = self.lock().entry(stored.to_owned()).or_default().clone();
        UpdateSlot { repositories: self, stored: stored.to_owned(), lock }
    }

    /// A failure, for as long as it holds.
    pub(super) fn failed(&self, error: NotaryError) -> Arc<KnownRepository> {
        Arc::new(self.known(Err(error)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<()>>>> {
        locked(&self.updating)
    }

    /// The current time.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn recall(&self, key: &str) -> Option<Arc<KnownRepository>> {
        self.known.get(key).filter(|known| self.clock.now() < known.until)
    }

    fn known(&self, result: Result<TrustedRepository, NotaryError>) -> KnownRepository {
        let now = self.clock.now();
        let until = match &result {
            Ok(repository) => repository.until.min(after(now, self.refresh)),
            Err(NotaryError::Unavailable(error)) if error.temporary => after(now, TROUBLE_TTL),
            Err(_) => after(now, self.negative_ttl),
        };
        KnownRepository { result, until }
    }

    async fn update(
        &self,
        client: &NotaryClient<'_>,
        anchor: &TrustAnchor,
        (stored, previous): (&str, Option<&TrustedRepository>),
        signers: Vec<String>,
    ) -> Result<TrustedRepository, NotaryError> {
        let roles = self.store.notary_roles(stored).await.map_err(|error| of_store(&error))?;
        let history = self.work.run(move || history(roles)).await?;
        let roots = Roots { client, anchor, work: &self.work, now: self.clock.now() };
        let update = Update { roots, previous, signers, history, until: Timestamp::MAX, ahead: BTreeMap::new() };
        let Updated { repository, record } = update.run().await?;
        // State that cannot be stored would allow a later replay.
        if !self.store.record_notary_roles(stored, &record).await.map_err(|error| of_store(&error))? {
            let why = "a newer root was verified at the same time";
            return Err(NotaryError::Unavailable(SourceError::new(why, true)));
        }
        Ok(repository)
    }
}

/// A place in the list of updates. It is given up even if the client leaves during the update.
struct UpdateSlot<'a> {
    repositories: &'a Repositories,
    stored: String,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl Drop for UpdateSlot<'_> {
    fn drop(&mut self) {
        let mut updating = self.repositories.lock();
        // This one and the map's own.
        if Arc::strong_count(&self.lock) <= 2 {
            updating.remove(&self.stored);
        }
    }
}

impl KnownRepository {
    fn weight(&self) -> usize {
        let Ok(TrustedRepository { targets, releases, signers, .. }) = &self.result else { return 8 * ALLOCATION };
        let role = |role: &SignedRole| -> usize {
            role.targets.keys().map(|tag| tag.as_str().len() + size_of::<TufTarget>() + 2 * ALLOCATION).sum()
        };
        8 * ALLOCATION + role(targets) + releases.as_ref().map_or(0, role) + signers.values().map(role).sum::<usize>()
    }
}

/// The history of a repository in the store.
fn history(roles: Vec<NotaryRole>) -> Result<History, NotaryError> {
    let root = roles.iter().find(|role| role.role == "root").and_then(|root| root.document.clone());
    let root = root.map(|document| VerifiedRoot::read(document.into(), "the remembered root")).transpose()?;
    Ok(History::new(roles, root))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn too_slow(limit: Duration) -> NotaryError {
    let why = format!("its documents did not arrive within {} s", limit.as_secs());
    NotaryError::Unavailable(SourceError::new(why, true))
}

fn of_store(error: &StoreError) -> NotaryError {
    NotaryError::Unavailable(SourceError::new(error.to_string(), true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::trust::tests::services;

    #[tokio::test]
    async fn abandoned_updates_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let repositories = Repositories::new(&Config::default(), &services(&store, &Clock::system()));
        let (first, second) = (repositories.slot("a"), repositories.slot("a"));
        assert!(Arc::ptr_eq(&first.lock, &second.lock), "both wait for the same update");
        drop(first);
        assert_eq!(repositories.lock().len(), 1);
        drop(second);
        assert!(repositories.lock().is_empty());
    }
}
