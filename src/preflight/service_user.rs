//! Whether the user of a service can read what root can: `config check` is often run by root.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::holder::listener;

/// The user and the groups who run the gate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ServiceUser {
    uid: u32,
    groups: Vec<u32>,
}

impl ServiceUser {
    /// The owner of the lock, which the gate has made, or of the state directory before the first start, if this
    /// process is root and the owner is not. The groups are those of the system's files, and those of the gate if it is
    /// running.
    pub(super) fn of_state(state: &Path, socket: &Path) -> Option<Self> {
        let owned = state.join("lock").metadata().or_else(|_| state.metadata());
        let metadata = owned.ok().filter(|_| rustix::process::geteuid().is_root())?;
        let uid = Some(metadata.uid()).filter(|uid| *uid != 0)?;
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut groups = groups_of(uid, &read("/etc/passwd"), &read("/etc/group"));
        groups.push(metadata.gid());
        let running = UnixStream::connect(socket).ok().and_then(|stream| listener(&stream));
        let status = running.map(|pid| read(&format!("/proc/{}/status", pid.as_raw_nonzero()))).unwrap_or_default();
        groups.extend(groups_in(&status, uid));
        Some(Self { uid, groups })
    }

    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// Whether the modes of a file or directory and of its parents let this user read it. Access lists are not
    /// considered, nor are groups that a service manager or a directory service would give to the gate. True if the
    /// path does not exist, which is reported separately.
    pub(super) fn can_read(&self, path: &Path) -> bool {
        let Ok(path) = path.canonicalize() else { return true };
        path.ancestors().all(|at| at.metadata().is_ok_and(|metadata| self.may(&metadata, at == path)))
    }

    /// Whether this user may read a file, or list or traverse a directory.
    fn may(&self, metadata: &Metadata, is_read: bool) -> bool {
        let wanted = match (metadata.is_dir(), is_read) {
            (true, true) => 0o5,
            (true, false) => 0o1,
            (false, _) => 0o4,
        };
        let class = match (metadata.uid() == self.uid, self.groups.contains(&metadata.gid())) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        (metadata.permissions().mode() >> class) & wanted == wanted
    }
}

/// The groups of a user, from the text of `/etc/passwd` (passwd(5)) and `/etc/group` (group(5)).
fn groups_of(uid: u32, users: &str, groups: &str) -> Vec<u32> {
    fn fields(line: &str) -> Vec<&str> {
        line.split(':').collect()
    }
    let is_number = |text: &str, number: u32| text.parse::<u32>() == Ok(number);
    let user = users.lines().map(fields).find(|user| matches!(user[..], [_, _, id, _, ..] if is_number(id, uid)));
    let Some([name, _, _, own, ..]) = user.as_deref() else { return Vec::new() };
    let of = |group: Vec<&str>| match group[..] {
        [_, _, id, members] if members.split(',').any(|member| member == *name) => id.parse::<u32>().ok(),
        _ => None,
    };
    own.parse::<u32>().ok().into_iter().chain(groups.lines().map(fields).filter_map(of)).collect()
}

/// The groups of a process of this user, from the text of `/proc/PID/status` (proc_pid_status(5)); none of another
/// user's.
fn groups_in(status: &str, uid: u32) -> Vec<u32> {
    let of = |key: &str| -> Vec<u32> {
        let values = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        values.split_whitespace().filter_map(|value| value.parse().ok()).collect()
    };
    let is_own = of("Uid:").get(1) == Some(&uid);
    if is_own { [of("Gid:"), of("Groups:")].concat() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn modes_decide_what_a_user_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let own = file.metadata().unwrap();
        let is_readable = |mode: u32, uid: u32, gid: u32| {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            ServiceUser { uid, groups: vec![gid] }.may(&file.metadata().unwrap(), true)
        };
        let (uid, gid) = (own.uid(), own.gid());
        assert!(is_readable(0o400, uid, gid) && !is_readable(0o044, uid, gid), "the class of the owner comes first");
        assert!(is_readable(0o040, uid + 1, gid) && !is_readable(0o604, uid + 1, gid));
        assert!(is_readable(0o004, uid + 1, gid + 1) && !is_readable(0o660, uid + 1, gid + 1));
        // The directory of the test is closed to others.
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let stranger = ServiceUser { uid: uid + 1, groups: vec![gid + 1] };
        assert!(!stranger.can_read(&file));
        assert!(stranger.can_read(&dir.path().join("absent")));
        let folder = dir.path().metadata().unwrap();
        assert!(ServiceUser { uid, groups: vec![gid] }.may(&folder, true) && !stranger.may(&folder, false));
    }

    #[test]
    fn supplementary_groups_are_known() {
        let users = "root:x:0:0::/root:/bin/sh\npullgate:x:990:991::/:/bin/false\n";
        let groups = "root:x:0:\nssl-cert:x:120:postgres,pullgate\nother:x:121:pullgate2\npullgate:x:991:\n";
        assert_eq!(groups_of(990, users, groups), [991, 120]);
        assert_eq!(groups_of(5, users, groups), [0; 0]);
        let status = "Name:\tpullgate\nUid:\t990\t990\t990\t990\nGid:\t991\t991\t991\t991\nGroups:\t120 130 \n";
        assert_eq!(groups_in(status, 990), [991, 991, 991, 991, 120, 130]);
        assert_eq!((groups_in(status, 0), groups_in("", 990)), (vec![], vec![]));
    }
}
