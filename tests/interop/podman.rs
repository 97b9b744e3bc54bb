//! podman, with every form of `registries.conf` that can point to a gate. CRI-O and buildah read the same file with the
//! same code.

use std::fs;
use std::path::PathBuf;

use crate::harness::{Client, FALLBACK_PATH, Finished, Image, PAYLOAD, Program, World, assert_reason, hostile};

/// podman with separate storage and a `registries.conf`.
pub(crate) struct Podman {
    registries: PathBuf,
    storage: PathBuf,
}

impl Podman {
    fn with(world: &World, registries: &str) -> Self {
        let home = world.new_dir("podman");
        let file = home.join("registries.conf");
        fs::write(&file, registries).expect("registries.conf");
        fs::write(home.join("policy.json"), r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)
            .expect("policy.json");
        Self { registries: file, storage: home.join("storage") }
    }

    /// The recommended form: the location is the gate, so there is no fallback.
    pub(crate) fn relocated(world: &World) -> Self {
        let (fallback, gate) = (world.fallback.address(), world.gate.address());
        Self::with(
            world,
            &format!("[[registry]]\nprefix = \"{fallback}\"\nlocation = \"{gate}/{FALLBACK_PATH}\"\ninsecure = true\n"),
        )
    }

    /// The gate as a mirror of a registry, which is blocked or not.
    fn mirrored(world: &World, blocked: bool) -> Self {
        let (fallback, gate) = (world.fallback.address(), world.gate.address());
        Self::with(
            world,
            &format!(
                "[[registry]]\nlocation = \"{fallback}\"\nblocked = {blocked}\ninsecure = true\n
[[registry.mirror]]\nlocation = \"{gate}/{FALLBACK_PATH}\"\ninsecure = true\n"
            ),
        )
    }

    /// The path of a pulled image's file system; the storage driver used needs no unmounting.
    pub(crate) fn mount(&self, world: &World, image: &Image) -> PathBuf {
        let mount = ["image", "mount", &world.fallback_reference(image)];
        PathBuf::from(self.program(world).args(mount).run().text())
    }

    fn program(&self, world: &World) -> Program {
        let home = world.dir().join("podman");
        let (root, run) = (self.storage.join("root"), self.storage.join("run"));
        let global = ["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none", "--root"];
        Program::new("podman", &home).env("CONTAINERS_REGISTRIES_CONF", &self.registries).args(global).args([
            root.as_os_str(),
            "--runroot".as_ref(),
            run.as_os_str(),
        ])
    }
}

impl Client for Podman {
    fn pull(&self, world: &World, image: &Image) -> Finished {
        let policy = world.dir().join("podman/policy.json").display().to_string();
        let pull = ["pull", "--signature-policy", &policy, &world.fallback_reference(image)];
        self.program(world).args(pull).run()
    }

    fn content(&self, world: &World, image: &Image) -> (Vec<u8>, Option<String>) {
        let reference = world.fallback_reference(image);
        let payload = fs::read(self.mount(world, image).join(PAYLOAD)).expect("the payload");
        let digest = self.program(world).args(["image", "inspect", "--format", "{{.Digest}}", &reference]).run().text();
        (payload, Some(digest))
    }
}

#[test]
fn with_the_gate_as_location() {
    let mut world = World::new();
    let podman = Podman::relocated(&world);
    world.enforces(&podman);
}

#[test]
fn with_the_gate_as_mirror_of_a_blocked_registry() {
    let mut world = World::new();
    let podman = Podman::mirrored(&world, true);
    world.enforces(&podman);
}

/// Shows why the documentation warns about plain mirrors, and that this suite would detect a client that uses the
/// fallback: podman pulls the denied image from there.
#[test]
fn denials_are_not_final_if_the_gate_is_only_a_mirror() {
    let mut world = World::new();
    let podman = Podman::mirrored(&world, false);
    podman.pull(&world, &world.denied).bytes();
    assert!(!world.fallback.requests().is_empty());
}

/// By the gate's own name, without any podman configuration.
#[test]
fn by_path_prefix() {
    let mut world = World::new();
    let podman = Podman::with(&world, "");
    let pull = |world: &World, image: &Image| {
        let reference = world.gate.reference(&image.name());
        podman.program(world).args(["pull", "--tls-verify=false", &reference]).run()
    };
    pull(&world, &world.admitted).bytes();
    assert_reason(&pull(&world, &world.denied).refusal(), &world.denied.name());
    world.assert_no_bypass();
}

/// Fetched directly, podman creates containers from both.
#[test]
fn mislabelled_images_are_denied() {
    let mut world = World::new();
    let podman = Podman::relocated(&world);
    for (image, check) in [(hostile::cose_and_tar(&world), "trust"), (hostile::artifact_of_schema_2(&world), "va")] {
        world.withholds(&podman, &image, check);
        let reference = world.direct_reference(&image);
        podman.program(&world).args(["pull", "--tls-verify=false", &reference]).run().bytes();
        let create = ["create", "--network=none", &reference, &format!("/{}", hostile::FILE)];
        let container = podman.program(&world).args(create).run().text();
        let root = podman.program(&world).args(["mount", &container]).run().text();
        let file = fs::read(PathBuf::from(root).join(hostile::FILE)).expect("the file");
        assert_eq!(file, hostile::SCRIPT.as_bytes());
    }
}
