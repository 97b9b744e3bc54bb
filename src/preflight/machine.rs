//! Checks that depend on the current state of this machine: directories and ports.

use std::fmt::Display;
use std::io;
use std::net::{TcpListener, ToSocketAddrs as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::Access;

use super::holder::{is_of_systemd, is_systemd};
use super::{PreflightDepth, PreflightFindings, disk};
use crate::config::overlap;
use crate::markup::ProblemSeverity::{Error, Note, Warning};
use crate::runtime::{is_descriptor, parent_folder, resolved_path};
use crate::server;
use crate::store::{self, StateDir, StoreError};

/// The longest path of a Unix socket, in bytes: `sun_path` of unix(7) without its end.
const MAX_SOCKET: usize = 107;
/// The magic number of sysfs in statfs(2).
const SYSFS: rustix::fs::FsWord = 0x6265_6572;

pub(super) fn check(found: &mut PreflightFindings<'_>) {
    let config = found.config;
    let is_running = StateDir::is_in_use(&config.state_dir);
    if is_running {
        let message = format!("{}: a gate is running on this state directory", config.state_dir.display());
        found.machine(Note, "state_dir", &message, None);
    }
    let is_of_other_user = is_of_other_user(&config.state_dir, rustix::process::geteuid().as_raw());
    let hint = match is_of_other_user {
        true => "it belongs to another user: run this as that user, if it is the gate's, or as root",
        false => "give it a separate directory that pullgate can write to",
    };
    let state = directory(&config.state_dir).map_err(|why| (why, hint));
    let state = state.and_then(|()| state_files(&config.state_dir));
    let state = state.and_then(|()| StateDir::check(&config.state_dir).map_err(|error| (error.to_string(), hint)));
    match &state {
        Ok(true) => {
            let message = format!("{}: its mode will be changed to 0700", config.state_dir.display());
            found.machine(Note, "state_dir", &message, None);
        }
        Ok(false) => {}
        Err((why, hint)) => found.machine(Error, "state_dir", why, Some(*hint)),
    }
    disk::check(found);
    audit(found, state.is_ok());
    let mut ports = TestedPorts { is_running, is_hidden: is_of_other_user, open: Vec::new() };
    for (index, listener) in config.listeners.iter().enumerate() {
        ports.test(found, &format!("listener[{index}].address"), &listener.address);
    }
    ports.test(found, "admin.address", &config.admin.address);
}

/// Whether a directory belongs to another user than this one, which is not root.
fn is_of_other_user(path: &Path, user: u32) -> bool {
    user != 0 && path.metadata().is_ok_and(|metadata| metadata.uid() != user)
}

fn audit(found: &mut PreflightFindings<'_>, state_is_usable: bool) {
    let config = found.config;
    let file = &config.audit.file;
    // The state directory, where a relative path begins, may not exist yet.
    let (there, state) = (resolved_path(file), resolved_path(&config.state_dir));
    let folder = resolved_path(parent_folder(file));
    let is_elsewhere = !folder.starts_with(&state);
    let is_link = file.file_name().is_some_and(|name| folder.join(name).is_symlink());
    match there.metadata() {
        _ if is_descriptor(file) => {
            let message = format!("{} is a file that a process has open, which cannot be rotated", file.display());
            found.error(
                "audit.file",
                &message,
                Some("name a file; a program such as `tail -F` can copy it to standard output"),
            );
        }
        _ if there == state => {
            found.error("audit.file", &format!("{} is the state directory", there.display()), Some("name a file"));
        }
        Ok(metadata) if metadata.is_dir() => {
            found.machine(Error, "audit.file", &format!("{} is a directory", file.display()), Some("name a file"));
        }
        _ if is_named_as_folder(file) => {
            found.error("audit.file", &format!("{} is a directory", file.display()), Some("name a file"));
        }
        Ok(metadata) if !metadata.is_file() && !metadata.file_type().is_char_device() => {
            let message = format!("{} is neither a regular file nor a character device", there.display());
            found.error("audit.file", &message, Some("name a file that pullgate can append to and rotate"));
        }
        // A gate creates its own directories, and none that a link leads to.
        _ if is_link && !parent_folder(&there).is_dir() => {
            let message = format!("{} is a link into a directory that does not exist", file.display());
            found.machine(Error, "audit.file", &message, Some("create the directory, or name another file"));
        }
        _ => {
            if is_elsewhere && !folder.exists() {
                found.machine(
                    Note,
                    "audit.file",
                    &format!("{}: this directory will be created", folder.display()),
                    None,
                );
            }
            let writable = directory(&folder).and_then(|()| writable_file(&there));
            if let Err(why) = writable
                && (is_elsewhere || state_is_usable)
            {
                found.machine(Error, "audit.file", &why, Some("pullgate must be able to write there"));
            }
        }
    }
}

/// Whether the system treats a path as that of a directory, whatever exists there: `log/`, `log/.`, `log/..`.
fn is_named_as_folder(path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    matches!(path.rsplit(|byte| *byte == b'/').next(), Some(b"" | b"." | b".."))
}

/// The path of the admin socket.
pub(super) fn socket(found: &mut PreflightFindings<'_>) {
    let path = &found.config.admin.socket;
    let length = path.as_os_str().len();
    let is_default = *path == found.config.state_dir.join("admin.sock");
    let key = if is_default { "state_dir" } else { "admin.socket" };
    if is_named_as_folder(path) {
        return found.error(key, &format!("{} is a directory", path.display()), Some("name a file"));
    }
    if length > MAX_SOCKET {
        let message = format!(
            "{}: the path of the admin socket has {length} bytes; at most {MAX_SOCKET} are possible",
            path.display()
        );
        return found.error(key, &message, Some("choose a shorter path, or set admin.socket"));
    }
    if path.symlink_metadata().is_ok_and(|metadata| !metadata.file_type().is_socket()) {
        let message = format!("{}: a file that is not a socket is where the admin socket must be", path.display());
        return found.machine(Error, key, &message, Some("remove it, or set admin.socket to another path"));
    }
    // A gate that runs on this state directory, and one that reloads, listens on it itself.
    if found.depth != PreflightDepth::Reload
        && let Ok(stream) = UnixStream::connect(path)
        && !StateDir::is_in_use(&found.config.state_dir)
    {
        if is_systemd(&stream) {
            return found.machine(Note, key, &held_by_systemd(&path.display()), None);
        }
        let message = format!("{}: another process listens on this socket", path.display());
        return found.machine(Error, key, &message, Some("stop it, or set admin.socket to another path"));
    }
    // The state directory is created. Others are not.
    let folder = parent_folder(path);
    if is_default || folder == found.config.state_dir {
        return;
    }
    let usable = match folder.metadata() {
        Ok(_) => directory(folder),
        Err(error) => Err(format!("{}: {error}", folder.display())),
    };
    if let Err(why) = usable {
        found.machine(Error, key, &why, Some("create the directory of the socket, and make it writable for pullgate"));
    }
}

/// Whether what the state directory has under the names of pullgate's own files is of the right kind. The error is what
/// is not, and a hint.
fn state_files(state: &Path) -> Result<(), (String, &'static str)> {
    for (name, is_folder) in [("blobs", true), ("advisories", true), ("lock", false), ("pullgate.db", false)] {
        let path = state.join(name);
        let Ok(metadata) = path.metadata() else { continue };
        if is_folder && !metadata.is_dir() {
            let hint = "move it away; pullgate creates the directory";
            return Err((format!("{}: this must be a directory", path.display()), hint));
        }
        if !is_folder && !metadata.is_file() {
            let hint = "move it away; pullgate creates the file";
            return Err((format!("{}: this must be a regular file", path.display()), hint));
        }
    }
    Ok(())
}

/// Whether a directory can be written, or created.
fn directory(path: &Path) -> Result<(), String> {
    let path = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
    for ancestor in path.ancestors() {
        let problem: io::Error = match ancestor.metadata() {
            Ok(metadata) if !metadata.is_dir() => io::ErrorKind::NotADirectory.into(),
            Ok(_) => match can_write(ancestor) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => match ancestor.symlink_metadata() {
                Ok(_) => {
                    io::Error::other("it is a symbolic link to something that does not exist; is a disk not mounted?")
                }
                Err(_) => continue,
            },
            Err(error) => error,
        };
        let what = if ancestor == path { "cannot be written" } else { "cannot be created" };
        let at = if ancestor == path { String::new() } else { format!("{}: ", ancestor.display()) };
        return Err(format!("{}: the directory {what}: {at}{problem}", path.display()));
    }
    Ok(())
}

/// Whether files can be created in a directory.
fn can_write(folder: &Path) -> io::Result<()> {
    rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)?;
    // According to access(2), root may write everywhere, even where no file can be created.
    match rustix::fs::statfs(folder)?.f_type {
        rustix::fs::PROC_SUPER_MAGIC | SYSFS => Err(io::ErrorKind::PermissionDenied.into()),
        _ => Ok(()),
    }
}

fn writable_file(path: &Path) -> Result<(), String> {
    match rustix::fs::access(path, Access::WRITE_OK) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(format!("{}: cannot be written: {error}", path.display())),
    }
}

/// Ports that were found free. They stay open until all were tested, so that two listeners of the configuration cannot
/// have the same one.
struct TestedPorts {
    /// Whether the gate of this state directory is running: then it has the ports.
    is_running: bool,
    /// Whether this user cannot find out whether it is.
    is_hidden: bool,
    /// The key of each listener, its address as text, and its socket.
    open: Vec<(String, String, TcpListener)>,
}

impl TestedPorts {
    fn test(&mut self, found: &mut PreflightFindings<'_>, key: &str, address: &str) {
        // Addresses that overlap are a mistake that was reported where it is written.
        if self.open.iter().any(|(_, other, _)| overlap(other, address)) {
            return;
        }
        let addresses = match address.to_socket_addrs() {
            Ok(addresses) => addresses.collect::<Vec<_>>(),
            // An address without a port, or with a zone that is not a number, is a mistake that was reported.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput || address.contains('%') => return,
            Err(error) => {
                let hint = "the host name does not resolve on this machine: write an IP address, or 0.0.0.0 for all";
                return found.machine(Error, key, &format!("{address}: {error}"), Some(hint));
            }
        };
        match TcpListener::bind(&*addresses) {
            // The system chooses another port when the gate starts.
            Ok(_) if address.ends_with(":0") => {}
            Ok(listener) => self.open.push((key.to_owned(), address.to_owned(), listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => self.in_use(found, key, address, &error),
            Err(error) => found.machine(Error, key, &format!("cannot listen on {address}: {error}"), hint(&error)),
        }
    }

    fn in_use(&self, found: &mut PreflightFindings<'_>, key: &str, address: &str, error: &io::Error) {
        let port = |address: &str| address.rsplit_once(':').map(|(_, port)| port.to_owned());
        let own = self.open.iter().find(|(_, other, _)| port(other) == port(address));
        if let Some((other, at, _)) = own {
            let message = format!("cannot listen on {address}: {other} = {at:?} has this port already");
            found.machine(Error, key, &message, Some("give each listener its own port or IP address"));
        } else if self.is_running {
            let message = format!("{address} is in use, and the gate of this state directory is running");
            found.machine(Note, key, &message, None);
        } else if self.is_hidden {
            let message =
                format!("{address} is in use, which is right if the gate is running: this user cannot see that");
            found.machine(Note, key, &message, None);
        } else if port(address).and_then(|port| port.parse().ok()).is_some_and(is_of_systemd) {
            found.machine(Note, key, &held_by_systemd(&address), None);
        } else {
            found.machine(Error, key, &format!("cannot listen on {address}: {error}"), hint(error));
        }
    }
}

/// The note about a socket that systemd holds. A socket does not show to which unit it belongs.
fn held_by_systemd(socket: &dyn Display) -> String {
    format!(
        "systemd listens on {socket}: this is right if a socket unit of this gate holds it; otherwise, the gate cannot \
         start"
    )
}

fn hint(error: &io::Error) -> Option<&'static str> {
    Some(server::bind_hint(error).trim_start_matches("; ")).filter(|hint| !hint.is_empty())
}

/// Whether the database is of this version or of an older one. `config check` reads the whole file, and says if it has
/// lost its content; a gate that starts warns of that itself.
pub(super) async fn check_database(found: &mut PreflightFindings<'_>) {
    let (config, is_whole) = (found.config, found.depth == PreflightDepth::Everything);
    let state = &config.state_dir;
    let mut checked = store::check_schema(state).await;
    if checked.is_ok() && is_whole {
        checked = store::check_pages(state).await;
    }
    if let Err(error) = checked {
        let hint = match &error {
            StoreError::Newer { .. } => "use the newer version, or another state_dir",
            StoreError::Damaged { .. } => "check whether its disk has failed",
            _ => {
                "check whether its disk has failed; a start without this file loses cache, pins, exemptions and history"
            }
        };
        found.machine(Error, "state_dir", &error.to_string(), Some(hint));
    } else if is_whole && let Some((why, exists)) = store::lost_content(state).await {
        let hint = "check whether its disk was full or a copy was not complete; a gate can start without the file";
        found.machine(if exists { Error } else { Warning }, "state_dir", &why, Some(hint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Root sees what a gate of any user does.
    #[test]
    fn a_directory_of_another_user_hides_whether_its_gate_runs() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().metadata().unwrap().uid();
        for (path, user, wanted) in [
            (dir.path(), own, false),
            (dir.path(), own + 1, true),
            (dir.path(), 0, false),
            (&dir.path().join("x"), 1, false),
        ] {
            assert_eq!(is_of_other_user(path, user), wanted, "{user}");
        }
    }
}
