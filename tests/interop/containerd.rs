//! containerd with its `ctr`, by the `hosts.toml` that the documentation gives.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Client, Daemon, Finished, Image, PAYLOAD, Program, Setup, World, file_of_layer, hostile};

/// A containerd with root, state and socket of its own, and a hosts directory.
pub(crate) struct Containerd {
    daemon: Daemon,
    socket: String,
    hosts: PathBuf,
}

impl Containerd {
    /// Starts it; `hosts` is the `hosts.toml` for the registry that could be turned to instead.
    pub(crate) fn start(world: &World, hosts: &str) -> Self {
        let home = world.new_dir("containerd");
        let socket = home.join("sock").display().to_string();
        let configuration = home.join("config.toml");
        let (root, state) = (home.join("root"), home.join("state"));
        // The CRI plugin wants a network of its own.
        let text = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n
[grpc]\naddress = \"{socket}\"\n",
            root.display(),
            state.display()
        );
        fs::write(&configuration, text).expect("containerd's configuration");
        let directory = world.new_dir(&format!("hosts/{}", world.fallback.address()));
        fs::write(directory.join("hosts.toml"), hosts).expect("hosts.toml");
        let program = Program::daemon("containerd", &home).args(["--config".as_ref(), configuration.as_os_str()]);
        let daemon = Daemon::start("containerd", program, &home.join("log"), None);
        let mut started = Self { daemon, socket, hosts: world.dir().join("hosts") };
        started.await_socket(world);
        started
    }

    fn await_socket(&mut self, world: &World) {
        let socket = self.socket.clone();
        let version = || Program::new("ctr", world.dir()).args(["--address", &socket, "version"]).run();
        self.daemon.wait_for(|| version().succeeded().then_some(()));
    }

    /// Mounts the file system of a pulled image at `target`.
    pub(crate) fn mount(&self, world: &World, image: &Image, target: &Path) {
        let (reference, target) = (world.fallback_reference(image), target.display().to_string());
        self.ctr(world).args(["images", "mount", "--snapshotter=native", &reference, &target]).run().bytes();
    }

    /// Takes a mount away, and its snapshot.
    pub(crate) fn unmount(&self, world: &World, target: &Path) {
        let target = target.display().to_string();
        self.ctr(world).args(["images", "unmount", "--rm", "--snapshotter=native", &target]).run().bytes();
    }

    fn ctr(&self, world: &World) -> Program {
        Program::new("ctr", world.dir()).args(["--address", &self.socket, "--namespace", "interop"])
    }
}

impl Client for Containerd {
    fn pull(&self, world: &World, image: &Image) -> Finished {
        let hosts = self.hosts.display().to_string();
        let reference = world.fallback_reference(image);
        let pull = ["images", "pull", "--snapshotter=native", "--hosts-dir", &hosts, &reference];
        self.ctr(world).args(pull).run()
    }

    fn content(&self, world: &World, image: &Image) -> (Vec<u8>, Option<String>) {
        let reference = world.fallback_reference(image);
        let listed = self.ctr(world).args(["images", "list", &format!("name=={reference}")]).run().text();
        let digest = listed.split_whitespace().find(|word| word.starts_with("sha256:")).map(str::to_owned);
        let layer = image.blobs.last().expect("a layer");
        let layer = self.ctr(world).args(["content", "get", layer]).run().bytes();
        (file_of_layer(&layer, PAYLOAD), digest)
    }
}

/// The file that makes a denial final on every version: the gate is the server, and stands as a host as well, because
/// versions up to 1.7.31 do not read a file without one and go to the registry itself.
pub(crate) fn final_hosts(world: &World) -> String {
    let gate = world.gate.url();
    let ca = world.gate.ca().display();
    let ca = if gate.starts_with("https") { format!("ca = \"{ca}\"\n") } else { String::new() };
    let common = format!("capabilities = [\"pull\", \"resolve\"]\n{ca}");
    format!("server = \"{gate}\"\n{common}\n[host.\"{gate}\"]\n{common}")
}

#[test]
fn with_the_gate_as_server_and_host() {
    let mut world = World::new();
    let containerd = Containerd::start(&world, &final_hosts(&world));
    world.enforces(&containerd);
}

#[test]
fn with_the_gate_as_server_and_host_over_tls() {
    let mut world = World::with(&Setup { tls: true, ..Setup::default() });
    let containerd = Containerd::start(&world, &final_hosts(&world));
    world.enforces(&containerd);
}

/// Why the documentation warns of the plain mirror form, and the proof that this suite would see a client that turns to
/// the fallback: containerd pulls the denied image from there.
#[test]
fn with_the_gate_as_mere_mirror_a_denial_is_not_final() {
    let mut world = World::new();
    let (server, gate) = (world.fallback.url(), world.gate.url());
    let hosts = format!("server = \"{server}\"\n[host.\"{gate}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
    let containerd = Containerd::start(&world, &hosts);
    containerd.pull(&world, &world.denied).bytes();
    assert!(!world.fallback.requests().is_empty());
}

/// Fetched directly it is in containerd's content store, although containerd unpacks no layer of such a type.
#[test]
fn an_image_under_other_labels_is_denied() {
    let mut world = World::new();
    let containerd = Containerd::start(&world, &final_hosts(&world));
    let image = hostile::cose_and_tar(&world);
    let layer = image.blobs.last().expect("a layer");
    let kept = |world: &World| containerd.ctr(world).args(["content", "get", layer]).run();
    world.withholds(&containerd, &image, "trust");
    kept(&world).refusal();
    let fetch = ["content", "fetch", "--plain-http", &world.direct_reference(&image)];
    containerd.ctr(&world).args(fetch).run().bytes();
    kept(&world).bytes();
}
