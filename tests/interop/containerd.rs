//! containerd with its `ctr`, configured by the `hosts.toml` in the documentation.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Client, Daemon, Finished, Image, PAYLOAD, Program, Setup, World, file_of_layer, hostile};

/// A containerd with separate root, state, socket and hosts directory.
pub(crate) struct Containerd {
    daemon: Daemon,
    socket: String,
    hosts: PathBuf,
}

impl Containerd {
    /// Starts containerd; `hosts` is the `hosts.toml` for the fallback registry.
    pub(crate) fn start(world: &World, hosts: &str) -> Self {
        let home = world.new_dir("containerd");
        let socket = home.join("sock").display().to_string();
        let configuration = home.join("config.toml");
        let (root, state) = (home.join("root"), home.join("state"));
        // The CRI plugin would need a network configuration.
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

    /// Removes a mount and its snapshot.
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

/// The configuration that makes a denial final on every version: the gate is the server, and is also listed as a host,
/// because versions up to 1.7.31 cannot parse a file without hosts and fall back to the original registry.
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

/// Shows why the documentation warns about plain mirrors, and that this suite would detect a client that uses the
/// fallback: containerd pulls the denied image from there.
#[test]
fn denials_are_not_final_if_the_gate_is_only_a_mirror() {
    let mut world = World::new();
    let (server, gate) = (world.fallback.url(), world.gate.url());
    let hosts = format!("server = \"{server}\"\n[host.\"{gate}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
    let containerd = Containerd::start(&world, &hosts);
    containerd.pull(&world, &world.denied).bytes();
    assert!(!world.fallback.requests().is_empty());
}

/// Fetched directly, the image is stored by containerd, although containerd unpacks no layer of such a type.
#[test]
fn mislabelled_images_are_denied() {
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
