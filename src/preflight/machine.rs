//! What depends on this machine at this moment: directories, and ports.

use std::io;
use std::net::{TcpListener, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::Access;

use super::PreflightFindings;
use crate::markup::ProblemSeverity::{Error, Note};
use crate::server;
use crate::store::{self, StateDir};

/// The longest path of a Unix socket, in bytes: `sun_path` of unix(7) without its end.
const MAX_SOCKET: usize = 107;

pub(super) fn check(found: &mut PreflightFindings<'_>) {
    let config = found.config;
    let is_running = UnixStream::connect(&config.admin.socket).is_ok();
    if is_running {
        let message = format!("{}: a gate is running on this state directory", config.state_dir.display());
        found.machine(Note, "state_dir", &message, None);
    }
    let state =
        directory(&config.state_dir).and_then(|()| StateDir::check(&config.state_dir).map_err(|e| e.to_string()));
    if let Err(why) = &state {
        found.machine(Error, "state_dir", why, Some("give it a directory of its own that pullgate can write"));
    }
    // A name without a folder has an empty parent.
    let audit = config.audit.file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_elsewhere = !config.audit.file.starts_with(&config.state_dir);
    if config.audit.file.is_dir() {
        let message = format!("{} is a directory", config.audit.file.display());
        found.machine(Error, "audit.file", &message, Some("name a file"));
    } else if let Err(why) = directory(audit).and_then(|()| writable_file(&config.audit.file))
        && (is_elsewhere || state.is_ok())
    {
        found.machine(Error, "audit.file", &why, Some("pullgate must be able to write there"));
    }
    for (index, listener) in config.listeners.iter().enumerate() {
        port(found, &format!("listener[{index}].address"), &listener.address, is_running);
    }
    port(found, "admin.address", &config.admin.address, is_running);
}

/// The length of the path of the admin socket.
pub(super) fn socket(found: &mut PreflightFindings<'_>) {
    let path = &found.config.admin.socket;
    let length = path.as_os_str().len();
    if length > MAX_SOCKET {
        let key = if *path == found.config.state_dir.join("admin.sock") { "state_dir" } else { "admin.socket" };
        let message = format!(
            "{}: the path of the admin socket has {length} bytes, and {MAX_SOCKET} are possible",
            path.display()
        );
        found.error(key, &message, Some("choose a shorter path, or set admin.socket"));
    }
}

/// Whether a directory can be written, or created.
fn directory(path: &Path) -> Result<(), String> {
    let path = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
    for ancestor in path.ancestors() {
        let problem: io::Error = match ancestor.metadata() {
            Ok(metadata) if !metadata.is_dir() => io::ErrorKind::NotADirectory.into(),
            Ok(_) => match rustix::fs::access(ancestor, Access::WRITE_OK | Access::EXEC_OK) {
                Ok(()) => return Ok(()),
                Err(error) => error.into(),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => error,
        };
        let what = if ancestor == path { "cannot be written" } else { "cannot be created" };
        let at = if ancestor == path { String::new() } else { format!("{}: ", ancestor.display()) };
        return Err(format!("{}: the directory {what}: {at}{problem}", path.display()));
    }
    Ok(())
}

fn writable_file(path: &Path) -> Result<(), String> {
    match rustix::fs::access(path, Access::WRITE_OK) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(format!("{}: cannot be written: {error}", path.display())),
    }
}

/// Tries a port. If the gate of this state directory is running, it has the port.
fn port(found: &mut PreflightFindings<'_>, key: &str, address: &str, is_running: bool) {
    if address.ends_with(":0") {
        return;
    }
    let addresses = match address.to_socket_addrs() {
        Ok(addresses) => addresses.collect::<Vec<_>>(),
        // An address without a port is a mistake that was reported.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
        Err(error) => {
            let hint = "the host name does not resolve on this machine: write an IP address, or 0.0.0.0 for all";
            return found.machine(Error, key, &format!("{address}: {error}"), Some(hint));
        }
    };
    match TcpListener::bind(&*addresses) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_running => {
            found.machine(
                Note,
                key,
                &format!("{address} is in use, and the gate of this state directory is running"),
                None,
            );
        }
        Err(error) => {
            let hint = server::bind_hint(&error).trim_start_matches("; ");
            let hint = (!hint.is_empty()).then_some(hint);
            found.machine(Error, key, &format!("cannot listen on {address}: {error}"), hint);
        }
    }
}

/// Whether the database is of this version or of an older one.
pub(super) async fn check_schema(found: &mut PreflightFindings<'_>) {
    if let Err(error) = store::check_schema(&found.config.state_dir).await {
        let hint = "use the newer version, or another state_dir";
        found.machine(Error, "state_dir", &error.to_string(), Some(hint));
    }
}
