//! Whether the user of a service can read what root can: `config check` is often run by root.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// The user and the group who run the gate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ServiceUser {
    uid: u32,
    gid: u32,
}

impl ServiceUser {
    /// The owner of the lock, which the gate has made, or of the state directory before the first start, if this process is root
    /// and the owner is not.
    pub(super) fn of_state(state: &Path) -> Option<Self> {
        let owned = state.join("lock").metadata().or_else(|_| state.metadata());
        let metadata = owned.ok().filter(|_| rustix::process::geteuid().is_root())?;
        Some(Self { uid: metadata.uid(), gid: metadata.gid() }).filter(|user| user.uid != 0)
    }

    pub(super) fn uid(self) -> u32 {
        self.uid
    }

    /// Whether the modes of a file or folder, and of the folders above it, let this user read it. Other groups of the user and
    /// access lists are not known. True if nothing is there, which is another mistake.
    pub(super) fn can_read(self, path: &Path) -> bool {
        let Ok(path) = path.canonicalize() else { return true };
        path.ancestors().all(|at| at.metadata().is_ok_and(|metadata| self.may(&metadata, at == path)))
    }

    /// Whether this user may read a file, list a folder, or pass a folder.
    fn may(self, metadata: &Metadata, is_read: bool) -> bool {
        let wanted = match (metadata.is_dir(), is_read) {
            (true, true) => 0o5,
            (true, false) => 0o1,
            (false, _) => 0o4,
        };
        let class = match (metadata.uid() == self.uid, metadata.gid() == self.gid) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        (metadata.permissions().mode() >> class) & wanted == wanted
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[test]
    fn modes_decide_what_a_user_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let own = file.metadata().unwrap();
        let is_readable = |mode: u32, uid: u32, gid: u32| {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            ServiceUser { uid, gid }.may(&file.metadata().unwrap(), true)
        };
        let (uid, gid) = (own.uid(), own.gid());
        assert!(is_readable(0o400, uid, gid) && !is_readable(0o044, uid, gid), "the class of the owner comes first");
        assert!(is_readable(0o040, uid + 1, gid) && !is_readable(0o604, uid + 1, gid));
        assert!(is_readable(0o004, uid + 1, gid + 1) && !is_readable(0o660, uid + 1, gid + 1));
        // The folder of the test is closed to others.
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        assert!(!ServiceUser { uid: uid + 1, gid: gid + 1 }.can_read(&file));
        assert!(ServiceUser { uid: uid + 1, gid: gid + 1 }.can_read(&dir.path().join("absent")));
        let folder = dir.path().metadata().unwrap();
        assert!(
            ServiceUser { uid, gid }.may(&folder, true)
                && !ServiceUser { uid: uid + 1, gid: gid + 1 }.may(&folder, false)
        );
    }
}
