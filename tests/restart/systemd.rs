//! What the service manager is told.

use super::*;

/// Receives what the program tells the service manager.
struct Manager {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = support::temp_dir();
        Self { socket: UnixDatagram::bind(folder.path().join("notify")).unwrap(), folder }
    }

    fn script(&self) -> String {
        format!("export NOTIFY_SOCKET={} WATCHDOG_USEC=60000", self.folder.path().join("notify").display())
    }

    /// The next message that is no sign of life.
    async fn next(&self) -> String {
        loop {
            let message = self.any().await;
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }

    async fn any(&self) -> String {
        let mut message = [0; 4096];
        let length = soon(self.socket.recv(&mut message)).await.unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }
}

#[tokio::test]
async fn the_service_manager_is_told_the_state() {
    let (registry, manager) = (TestRegistry::start().await, Manager::new());
    let made = TestGate::new(&registry, ALLOW_ALL);
    let running = Program::start_after(&made, &manager.script(), "log", &[]).await;
    assert_eq!(manager.next().await, "READY=1\nSTATUS=serving\n");
    for _ in 0..3 {
        assert_eq!(manager.any().await, "WATCHDOG=1\n");
    }
    running.hang_up();
    let reloading = manager.next().await;
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.split_once('\n'));
    let (time, rest) = time.unwrap_or_else(|| panic!("{reloading}"));
    assert!(time.parse::<u64>().unwrap() > 0 && rest == "STATUS=reloading\n", "{reloading}");
    assert_eq!(manager.next().await, "READY=1\nSTATUS=serving\n");
    let file = made.path().join("pullgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n[nonsense]\n")).unwrap();
    running.hang_up();
    assert!(manager.next().await.starts_with("RELOADING=1\n"));
    let rejected = manager.next().await;
    assert!(rejected.starts_with("READY=1\nSTATUS=serving, but degraded: configuration: "), "{rejected}");
    assert!(rejected.contains("nonsense"), "{rejected}");
    let stopping = Program::stop(running);
    let (status, message) = tokio::join!(stopping, manager.next());
    assert_eq!(message, "STOPPING=1\nSTATUS=stopping: running transfers may finish\n");
    assert!(status.success());
}
