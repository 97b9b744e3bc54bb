//! The previously verified state of a repository: documents from a server must not be older.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::NotaryError;
use super::anchor::VerifiedRoot;
use crate::store::{NotaryRecord, NotaryRole};
use crate::tuf::Root;

/// The result of an update that later updates must not fall behind.
#[derive(Clone, Debug, Default)]
pub(super) struct VerifiedRoles {
    /// The versions of the roles besides `root`.
    versions: BTreeMap<String, u64>,
    /// Roles that are delegated to, and that the snapshot does not list.
    unlisted: BTreeSet<String>,
}

/// The newest versions that were verified before, and those of this update.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The newest root. The remembered versions were verified under it.
    pub(super) root: Option<Arc<VerifiedRoot>>,
    remembered: BTreeMap<String, u64>,
    /// Remembered roles that do not count under the root of this update.
    forgotten: BTreeSet<String>,
    verified: VerifiedRoles,
}

impl History {
    /// What the store has; `root` is the document of its row `root`.
    pub(super) fn new(roles: Vec<NotaryRole>, root: Option<Arc<VerifiedRoot>>) -> Self {
        let versions = roles.into_iter().filter(|role| role.role != "root").map(|role| (role.role, role.version));
        Self { root, remembered: versions.collect(), ..Self::default() }
    }

    /// Begins to verify documents under this root.
    ///
    /// An attacker with a stolen key could choose a version so high that no later one exceeds it, and so lock the
    /// repository forever (a fast-forward attack). So what was verified with keys that the root has replaced since is
    /// forgotten (TUF specification, 5.3.11). With the snapshot go the roles that it lists, as in the specification:
    /// their versions are part of the snapshot there. Nothing that the replaced keys have signed verifies again.
    pub(super) fn begin(&mut self, root: &Root) {
        self.verified = VerifiedRoles::default();
        let replaced = |role| self.root.as_ref().is_some_and(|before| before.root.has_replaced_keys(role, root));
        let [timestamp, snapshot, targets] = ["timestamp", "snapshot", "targets"].map(replaced);
        let is_forgotten = |role: &&String| match role.as_str() {
            "timestamp" => timestamp,
            "targets" => snapshot || targets,
            _ => snapshot,
        };
        self.forgotten = self.remembered.keys().filter(is_forgotten).cloned().collect();
    }

    /// Notes the version of a role that was verified.
    ///
    /// # Errors
    /// A newer one was verified before.
    pub(super) fn check(&mut self, role: &str, version: u64) -> Result<(), NotaryError> {
        if let Some(newest) = self.newest(role).filter(|newest| version < *newest) {
            return Err(replayed(role, version, newest));
        }
        self.verified.versions.insert(role.to_owned(), version);
        Ok(())
    }

    /// Notes that a snapshot does not list a role that is delegated to: nothing was published in it yet.
    ///
    /// # Errors
    /// The role has signed before. Otherwise, omitting a role from a snapshot could bring back a target that another
    /// role has signed.
    pub(super) fn check_unlisted(&mut self, role: &str) -> Result<(), NotaryError> {
        if let Some(newest) = self.newest(role) {
            return Err(NotaryError::Invalid(format!(
                "snapshot: it does not list {role}, which is delegated to, and of which version {newest} was verified \
                 before; publish the role again"
            )));
        }
        self.verified.unlisted.insert(role.to_owned());
        Ok(())
    }

    /// Checks again what an earlier update verified from the same snapshot: meanwhile, another gate that shares the
    /// store, or an update for other signers, may have seen something newer.
    ///
    /// # Errors
    /// It has.
    pub(super) fn check_again(&mut self, before: &VerifiedRoles) -> Result<(), NotaryError> {
        for (role, version) in before.versions.iter().filter(|(role, _)| *role != "timestamp") {
            self.check(role, *version)?;
        }
        before.unlisted.iter().try_for_each(|role| self.check_unlisted(role))
    }

    /// What this update verified.
    pub(super) fn verified(&self) -> VerifiedRoles {
        self.verified.clone()
    }

    /// What to remember.
    pub(super) fn into_record(self, root: &VerifiedRoot) -> NotaryRecord {
        let role = |(role, version)| NotaryRole { role, version, document: None };
        let mut roles: Vec<_> = self.verified.versions.into_iter().map(role).collect();
        let document = Some(root.bytes.to_vec());
        roles.push(NotaryRole { role: "root".into(), version: root.root.version, document });
        NotaryRecord { root_version: root.root.version, roles, forgotten: self.forgotten.into_iter().collect() }
    }

    /// The newest version of a role that was verified before, as far as it counts under the root of this update.
    fn newest(&self, role: &str) -> Option<u64> {
        self.remembered.get(role).filter(|_| !self.forgotten.contains(role)).copied()
    }
}

/// The error for a document that is older than the one that was verified before.
pub(super) fn replayed(role: &str, version: u64, newest: u64) -> NotaryError {
    let why = format!("version {version} is older than the previously verified version {newest}");
    NotaryError::Invalid(format!("{role}: replay of an old document: {why}"))
}
