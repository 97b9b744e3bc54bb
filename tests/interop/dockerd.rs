//! dockerd with its classic image store: with path prefixes, and with a `registry-mirrors` entry, which cannot enforce
//! policy.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::harness::{
    Client, DOCKER_HUB, Daemon, Finished, Image, PAYLOAD, Program, Setup, World, file_of_tar, hostile,
};

/// A separate dockerd, with the containerd that it starts.
struct Dockerd {
    daemon: Daemon,
    socket: String,
    /// The prefix of image names.
    prefix: String,
}

impl Dockerd {
    fn start(world: &World, prefix: &str, options: &[&str], proxy: Option<&str>) -> Self {
        let home = world.new_dir("docker");
        let socket = format!("unix://{}/sock", home.display());
        let path = |name: &str| home.join(name).display().to_string();
        let (configuration, data, exec, pid) = (path("daemon.json"), path("data"), path("exec"), path("pid"));
        fs::write(&configuration, "{}").expect("dockerd's configuration");
        let paths = ["--config-file", &configuration, "--data-root", &data, "--exec-root", &exec, "--pidfile", &pid];
        let network =
            ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"];
        let mut program = Program::daemon("dockerd", &home).args(paths).args(network).args(options);
        program = program.args(["--storage-driver=vfs", "--host", &socket]);
        if let Some(proxy) = proxy {
            program = program.env("HTTPS_PROXY", proxy).env("NO_PROXY", "127.0.0.1");
        }
        let daemon = Daemon::start("dockerd", program, &home.join("log"), None);
        let mut started = Self { daemon, socket, prefix: prefix.to_owned() };
        started.await_socket(&home);
        started
    }

    fn await_socket(&mut self, home: &Path) {
        let socket = self.socket.clone();
        let version = || Program::new("docker", home).args(["--host", &socket, "version"]).run();
        self.daemon.wait_for(|| version().succeeded().then_some(()));
    }

    fn docker(&self, world: &World) -> Program {
        Program::new("docker", &world.dir().join("docker")).args(["--host", &self.socket])
    }

    /// Reads a file of an image. Creates a container, without running it, to copy the file.
    fn file(&self, world: &World, reference: &str, path: &str) -> Vec<u8> {
        let container = self.docker(world).args(["create", "--network=none", reference, "/none"]).run().text();
        let tar = self.docker(world).args(["cp", &format!("{container}:/{path}"), "-"]).run().bytes();
        file_of_tar(tar.as_slice(), path.rsplit('/').next().expect("a file name"))
    }
}

impl Client for Dockerd {
    fn pull(&self, world: &World, image: &Image) -> Finished {
        self.docker(world).args(["pull", &format!("{}{}", self.prefix, image.name())]).run()
    }

    fn content(&self, world: &World, image: &Image) -> (Vec<u8>, Option<String>) {
        let reference = format!("{}{}", self.prefix, image.name());
        let inspect = ["image", "inspect", "--format", "{{index .RepoDigests 0}}", &reference];
        let digest = self.docker(world).args(inspect).run().text();
        (self.file(world, &reference, PAYLOAD), digest.rsplit('@').next().map(str::to_owned))
    }
}

#[test]
fn by_path_prefix() {
    let mut world = World::new();
    let dockerd = Dockerd::start(&world, &world.gate.reference(""), &[], None);
    world.enforces(&dockerd);
}

/// The limits of `registry-mirrors`. Admitted images are served by their plain names, but a denial is not final: the
/// daemon falls back to Docker Hub, and the user sees Docker Hub's message instead of the gate's. Here a proxy closes
/// the daemon's way out, and records where it wanted to go.
#[test]
fn denials_are_not_final_with_registry_mirrors() {
    let mut world = World::with(&Setup { default_upstream: Some(DOCKER_HUB), ..Setup::default() });
    let (proxy, asked) = closed_proxy();
    let mirror = ["--registry-mirror".to_owned(), world.gate.url()];
    let dockerd = Dockerd::start(&world, "", &[&mirror[0], &mirror[1]], Some(&proxy));
    world.admits(&dockerd, &world.admitted.clone());
    let output = dockerd.pull(&world, &world.denied).refusal();
    assert!(!output.contains("pullgate"), "the reason is shown after all: update the documentation\n{output}");
    let destination = asked.recv_timeout(std::time::Duration::from_secs(30)).expect("where the daemon turned to");
    assert_eq!(destination, "registry-1.docker.io:443");
    world.assert_no_bypass();
}

/// Fetched directly, the daemon unpacks it.
#[test]
fn mislabelled_images_are_denied() {
    let mut world = World::new();
    let dockerd = Dockerd::start(&world, &world.gate.reference(""), &[], None);
    let image = hostile::artifact_of_docker(&world);
    world.withholds(&dockerd, &image, "va");
    let reference = world.direct_reference(&image);
    dockerd.docker(&world).args(["pull", &reference]).run().bytes();
    assert_eq!(dockerd.file(&world, &reference, hostile::FILE), hostile::SCRIPT.as_bytes());
}

/// A proxy that refuses every CONNECT, and reports its target.
fn closed_proxy() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let (sender, asked) = channel();
    // The thread ends with the test process, because nothing else can stop an accept loop.
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            if let Some(destination) = refuse(&connection)
                && sender.send(destination).is_err()
            {
                return;
            }
        }
    });
    (url, asked)
}

fn refuse(mut connection: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next()?.ok()?;
    let destination = first.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    while !lines.next()?.ok()?.is_empty() {}
    connection.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
    Some(destination)
}
