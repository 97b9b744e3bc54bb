//! Restarts the real program under load, and no pull fails: by a new process that takes over from the old one, and by
//! socket activation. Also: what the program tells the service manager, and that it starts on the state of the first schema and
//! refuses that of a newer one.
//!
//! `PULLGATE_RESTARTS` sets the number of take-overs under load.

#![allow(clippy::unwrap_used, reason = "a failure of the test itself may panic")]

#[path = "gate/harness.rs"]
mod harness;
#[path = "support/program.rs"]
mod program;
#[path = "support/mod.rs"]
mod support;
#[path = "restart/systemd.rs"]
mod systemd;
#[path = "restart/take_over.rs"]
mod take_over;
#[path = "restart/upgrade.rs"]
mod upgrade;

use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use pullgate::oci::{Algorithm, Digest};
use pullgate::runtime::{Clock, Tasks};
use pullgate::sample::image::{Built, Image, Layer, noise};
use pullgate::sample::{Fault, On};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType, bind, listen,
    sendmsg, socket,
};
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, SqlSafeStr as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixDatagram, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use harness::{ALLOW_ALL, HOST, TestGate};
use program::Program;
use support::{Exchange, TestRegistry, request, soon};

/// `tests/run --long` sets 100.
const RESTARTS: u64 = 20;
/// Restarts by socket activation.
const ACTIVATED: u64 = 5;
const CLIENTS: u64 = 4;
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Clients that pull without a pause.
struct Load {
    stop: Arc<AtomicBool>,
    pulls: Arc<AtomicU64>,
    pulled: Arc<Notify>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// `url` is that of the gate.
    fn start(url: &str, images: &Arc<Vec<Built>>) -> Self {
        let (stop, pulls, pulled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::default());
        let client = |number: u64| {
            let (stop, pulls, pulled) = (stop.clone(), pulls.clone(), Arc::<Notify>::clone(&pulled));
            let (url, images) = (url.to_owned(), images.clone());
            Tasks::new().spawn(async move {
                let (mut rng, mut failures) = (fastrand::Rng::with_seed(number), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let index = rng.usize(..images.len());
                    failures.extend(pull(&url, index, &images[index]).await.err());
                    pulls.fetch_add(1, Ordering::Relaxed);
                    pulled.notify_one();
                }
                failures
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { stop, pulls, pulled, clients }
    }

    /// Waits until more images were pulled.
    async fn more(&self) {
        let enough = self.pulls.load(Ordering::Relaxed) + CLIENTS;
        let more = async {
            while self.pulls.load(Ordering::Relaxed) < enough {
                self.pulled.notified().await;
            }
        };
        soon(more).await;
    }

    /// Ends the load. Returns the number of pulls, and those that failed.
    async fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for client in self.clients {
            failures.extend(soon(client).await.expect("a client does not panic"));
        }
        (self.pulls.load(Ordering::Relaxed), failures)
    }
}

/// Pulls a whole image by its tag, each request on a new connection.
async fn pull(url: &str, index: usize, image: &Built) -> Result<(), String> {
    let repository = format!("{url}/v2/{HOST}/library/app-{index}");
    let manifest = request("GET", &format!("{repository}/manifests/1"), &[]).await;
    if manifest.status != 200 || manifest.body != image.manifest().bytes {
        return Err(format!("manifest: {} {}", manifest.status, manifest.text()));
    }
    for (digest, bytes) in &image.blobs {
        let blob = request("GET", &format!("{repository}/blobs/{digest}"), &[]).await;
        if blob.status != 200 || !blob.complete || Digest::of(Algorithm::Sha256, &blob.body) != *digest {
            return Err(format!("blob: {} {} of {} bytes: {}", blob.status, blob.body.len(), bytes.len(), blob.text()));
        }
    }
    Ok(())
}

fn push(registry: &TestRegistry) -> Arc<Vec<Built>> {
    let image = |index: u64| {
        let layers = (0..3).map(|layer| Layer::of(LAYER, noise(20_000 << layer, 10 * index + layer)));
        let image = layers.fold(Image::linux_amd64(), Image::layer).build();
        registry.push(&format!("library/app-{index}"), Some("1"), &image);
        image
    };
    Arc::new((0..8).map(image).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pull_fails_while_gates_take_over_from_each_other() {
    let restarts = std::env::var("PULLGATE_RESTARTS").map_or(RESTARTS, |text| text.parse().expect("a number"));
    let registry = TestRegistry::start().await;
    let images = push(&registry);
    let made = TestGate::new(&registry, ALLOW_ALL);
    let mut running = Program::start(&made).await;
    let url = running.registry_url().to_owned();
    let load = Load::start(&url, &images);
    let began = Instant::now();
    for restart in 0..restarts {
        load.more().await;
        let next = Program::take_over(&made, restart).await;
        assert_eq!(next.registry_url(), url, "the port stays the same");
        let status = running.ended().await;
        assert!(status.success(), "{restart}: {status}: {}", running.log());
        running = next;
    }
    load.more().await;
    let (pulls, failures) = load.end().await;
    println!("{pulls} pulls in {restarts} restarts, {:?}", began.elapsed());
    assert_eq!(failures, Vec::<String>::new(), "{}", running.log());
    assert!(running.stop().await.success());
}

/// What a process started by systemd with these sockets is told, as commands of the shell.
fn activation(sockets: &[(&dyn AsDescriptor, &str)]) -> String {
    let mut script = "export LISTEN_PID=$$".to_owned();
    for (index, (socket, _)) in sockets.iter().enumerate() {
        script.push_str(&format!("; exec {}<&{}", index + 3, socket.number()));
    }
    let names: Vec<&str> = sockets.iter().map(|(_, name)| *name).collect();
    format!("{script}; export LISTEN_FDS={} LISTEN_FDNAMES='{}'", sockets.len(), names.join(":"))
}

trait AsDescriptor {
    fn number(&self) -> i32;
}

impl<T: AsFd> AsDescriptor for T {
    /// Its number, high enough to be in nobody's way, inherited by child processes.
    fn number(&self) -> i32 {
        let copy = rustix::io::fcntl_dupfd_cloexec(self.as_fd(), 100).expect("a descriptor");
        fcntl_setfd(&copy, FdFlags::empty()).expect("a descriptor");
        let number = copy.as_raw_fd();
        // It stays open as long as the test.
        std::mem::forget(copy);
        number
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pull_fails_while_an_activated_gate_restarts() {
    let registry = TestRegistry::start().await;
    let images = push(&registry);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let made = TestGate::new(&registry, ALLOW_ALL).address(&address.to_string());
    let script = activation(&[(&socket, "pullgate.socket")]);
    let mut running = Program::start_after(&made, &script, "log", &[]).await;
    let load = Load::start(&format!("http://{address}"), &images);
    for _ in 0..ACTIVATED {
        load.more().await;
        let status = running.stop().await;
        assert!(status.success(), "{status}");
        running = Program::start_after(&made, &script, "log", &[]).await;
    }
    load.more().await;
    let (pulls, failures) = load.end().await;
    println!("{pulls} pulls in {ACTIVATED} restarts");
    assert_eq!(failures, Vec::<String>::new(), "{}", running.log());
    assert!(running.stop().await.success());
}

#[tokio::test]
async fn sockets_are_found_by_name_or_address_and_an_unused_one_is_refused() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &Image::linux_amd64().layer(Layer::of(LAYER, noise(1000, 1))).build());
    let bind = |address: &str| TcpListener::bind(address).unwrap();
    // The addresses of the configuration are others.
    let (second, admin, sixth) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"), bind("[::1]:0"));
    let at = |socket: &TcpListener| socket.local_addr().unwrap();
    let made = TestGate::new(&registry, ALLOW_ALL)
        .with(&format!("[[listener]]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"{}\"\n", at(&sixth)));
    let path = made.path().join("state/admin.sock");
    std::fs::create_dir(made.path().join("state")).unwrap();
    let unix = UnixListener::bind(&path).unwrap();
    let script = activation(&[(&sixth, ""), (&second, "listener[1]"), (&admin, "admin"), (&unix, "x")]);
    let running = Program::start_after(&made, &script, "log", &[]).await;
    for address in [at(&second), at(&sixth)] {
        let url = format!("http://{address}/v2/{HOST}/library/app/manifests/1");
        assert_eq!(request("GET", &url, &[]).await.status, 200, "{url}");
    }
    assert_eq!(request("GET", &format!("http://{}/livez", at(&admin)), &[]).await.status, 200);
    assert!(UnixStream::connect(&path).await.is_ok());
    running.assert_children_inherit_nothing();
    assert!(running.stop().await.success());
    assert!(path.exists(), "the file of the socket belongs to the service manager");
    let other = bind("127.0.0.1:0");
    let script = activation(&[(&sixth, ""), (&unix, "x"), (&other, "listener[7]")]);
    let refused = Program::refused(&made, &script, &[]).await;
    assert!(refused.contains(&format!("no listener has the address of {}", at(&other))), "{refused}");
    // The port of the listener is in use by a socket for all addresses, which systemd makes of `ListenStream=PORT`.
    let all = bind("[::]:0");
    let port = at(&all).port();
    let elsewhere =
        TestGate::new(&registry, ALLOW_ALL).with(&format!("[[listener]]\naddress = \"127.0.0.1:{port}\"\n"));
    elsewhere.config();
    let refused = Program::refused(&elsewhere, &activation(&[(&all, "pullgate.socket")]), &[]).await;
    assert!(refused.contains(&format!("no listener has the address of {}", at(&all))), "{refused}");
    // Variables that are meant for another process are ignored.
    let own = script.replace("LISTEN_PID=$$", "LISTEN_PID=1");
    drop(sixth);
    std::fs::remove_file(&path).unwrap();
    let plain = TestGate::new(&registry, ALLOW_ALL);
    assert!(Program::start_after(&plain, &own, "log", &[]).await.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_transfer_continues_while_the_next_process_serves() {
    let registry = TestRegistry::start().await;
    let images = push(&registry);
    let made = TestGate::new(&registry, ALLOW_ALL);
    let mut old = Program::start(&made).await;
    assert_eq!(old.get("/library/app-0/manifests/1").await.status, 200);
    let layer = images[0].layers[2];
    let stalled = registry.inject(On::blobs().times(1), Fault::Stall(40_000));
    let mut transfer = Exchange::start("GET", &old.url(&format!("/library/app-0/blobs/{layer}")), &[]).await;
    assert_eq!(transfer.read(1000).await.len(), 1000);
    let next = Program::take_over(&made, 0).await;
    assert_eq!(pull(next.registry_url(), 1, &images[1]).await, Ok(()));
    next.assert_children_inherit_nothing();
    stalled.release();
    let answer = transfer.finish().await;
    assert!(answer.complete, "{}", old.log());
    let status = old.ended().await;
    assert!(status.success(), "{status}: {}", old.log());
    assert_eq!(pull(next.registry_url(), 0, &images[0]).await, Ok(()));
    assert!(next.stop().await.success());
}

/// A process that cannot start leaves the old one serving: if it fails before it takes over, and if it fails after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_fails_leaves_the_old_one_serving() {
    let registry = TestRegistry::start().await;
    let images = push(&registry);
    let made = TestGate::new(&registry, ALLOW_ALL);
    let running = Program::start(&made).await;
    let load = Load::start(running.registry_url(), &images);
    let text = std::fs::read_to_string(made.path().join("pullgate.toml")).unwrap();
    // Before: a listener whose port is taken.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let held = TcpListener::bind(taken).unwrap();
    let file = made.path().join("before.toml");
    std::fs::write(&file, format!("{text}[[listener]]\naddress = \"{taken}\"\n")).unwrap();
    let refused = Program::refused_with(&file, "true", &["--take-over"]).await;
    assert!(refused.contains("cannot listen on"), "{refused}");
    load.more().await;
    assert!(!running.log().contains("takes over"), "{}", running.log());
    // After: it ends when the state directory is released.
    let mut next = UnixStream::connect(made.path().join("state/next.sock")).await.unwrap();
    let mut labels = vec![0; 4096];
    assert!(soon(next.read(&mut labels)).await.unwrap() > 0);
    next.write_all(b"!").await.unwrap();
    let mut released = [0];
    soon(next.read_exact(&mut released)).await.unwrap();
    assert_eq!(&released, b".");
    drop(next);
    load.more().await;
    assert!(running.log().contains("this one is serving again"), "{}", running.log());
    let (_, failures) = load.end().await;
    assert_eq!(failures, Vec::<String>::new(), "{}", running.log());
    // It can still pass on its listeners.
    drop(held);
    let next = Program::take_over(&made, 1).await;
    assert_eq!(next.registry_url(), running.registry_url());
    assert!(next.stop().await.success());
    assert!(!made.path().join("state/admin.sock").exists() && !made.path().join("state/next.sock").exists());
}

/// Nobody would serve while a process that takes over is stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_does_not_continue_leaves_the_old_one_serving() {
    let registry = TestRegistry::start().await;
    let images = push(&registry);
    let made = TestGate::new(&registry, ALLOW_ALL);
    let mut running = Program::start(&made).await;
    let load = Load::start(running.registry_url(), &images);
    let mut next = UnixStream::connect(made.path().join("state/next.sock")).await.unwrap();
    assert!(soon(next.read(&mut vec![0; 4096])).await.unwrap() > 0);
    next.write_all(b"!").await.unwrap();
    let mut released = [0];
    soon(next.read_exact(&mut released)).await.unwrap();
    assert_eq!(&released, b".");
    // It has everything, is alive, and does nothing.
    soon(next.read_exact(&mut released)).await.unwrap();
    assert_eq!(&released, b"-", "it is told that it must not go on");
    load.more().await;
    assert!(running.log().contains("does not go on; this one is serving again"), "{}", running.log());
    // It goes on, but too late.
    let _ = next.write_all(b"+").await;
    load.more().await;
    // Another process can take over.
    let after = Program::take_over(&made, 1).await;
    let status = running.ended().await;
    assert!(status.success(), "{status}: {}", running.log());
    load.more().await;
    let (_, failures) = load.end().await;
    assert_eq!(failures, Vec::<String>::new(), "{}", after.log());
    assert!(after.stop().await.success());
}
