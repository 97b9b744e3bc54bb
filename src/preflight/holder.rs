//! Whether systemd holds a socket. It passes the socket to the service, so no other process is in the way.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::sockopt::socket_peercred;
use rustix::process::Pid;

/// The process ID of systemd, as it is written in `/proc`.
const SYSTEMD: &str = "1";
/// The state of a listening socket in `/proc/net/tcp` (proc_net_tcp(5)).
const LISTENING: &str = "0A";

/// Whether systemd listens on this TCP port. False if that cannot be found out: only root may see what it has.
pub(super) fn is_of_systemd(port: u16) -> bool {
    runs_systemd() && listens(SYSTEMD, port)
}

/// Whether systemd listens on the Unix socket that this is connected to. The kernel tells every user.
pub(super) fn is_systemd(stream: &UnixStream) -> bool {
    runs_systemd() && listener(stream).is_some_and(Pid::is_init)
}

fn runs_systemd() -> bool {
    let name = fs::read_to_string(format!("/proc/{SYSTEMD}/comm")).unwrap_or_default();
    name.trim_end() == "systemd"
}

/// The process that listens on the Unix socket that this is connected to.
pub(super) fn listener(stream: &UnixStream) -> Option<Pid> {
    socket_peercred(stream).ok().map(|peer| peer.pid)
}

/// Whether a process has a socket that listens on a port.
fn listens(process: &str, port: u16) -> bool {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let inodes: Vec<String> = tables.iter().flat_map(|table| listening(table, port)).collect();
    let Ok(open) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    let target = |path: &Path| fs::read_link(path).ok().map(|target| target.to_string_lossy().into_owned());
    let mut targets = open.flatten().filter_map(|entry| target(&entry.path()));
    targets.any(|target| inodes.iter().any(|inode| target == format!("socket:[{inode}]")))
}

/// The inodes of the sockets that listen on a port, from the text of `/proc/net/tcp`.
fn listening(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let of = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, ..] = fields[..] else { return None };
        let is_wanted = state == LISTENING && local.ends_with(&suffix);
        fields.get(9).filter(|_| is_wanted).map(|inode| (*inode).to_owned())
    };
    table.lines().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_holder_of_a_port_is_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n   \
            1: 0100007F:1388 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1\n";
        assert_eq!((listening(table, 5000), listening(table, 5001)), (vec!["4711".to_owned()], vec![]));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens("self", port));
        assert!(!listens("self", 0));
    }

    #[test]
    fn the_holder_of_a_unix_socket_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _listening = UnixListener::bind(&path).unwrap();
        let stream = UnixStream::connect(&path).unwrap();
        assert_eq!(listener(&stream), Some(rustix::process::getpid()));
        assert!(!is_systemd(&stream), "this is a test");
    }
}
