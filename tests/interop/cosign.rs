//! cosign: it signs what the gate verifies, in both of its forms, and verifies through the gate.

use std::path::{Path, PathBuf};

use crate::crane::Crane;
use crate::harness::{Finished, Image, Program, Setup, UPSTREAM, World};
use tempfile::TempDir;

/// A key pair that cosign made.
struct Key {
    private: PathBuf,
    public: PathBuf,
}

/// How a signature is kept in the registry.
#[derive(Clone, Copy)]
enum Form {
    /// An attachment under the tag `sha256-….sig`.
    Classic,
    /// A Sigstore bundle that refers to the image.
    Bundle,
}

impl Key {
    fn generate(dir: &Path, name: &str) -> Self {
        let prefix = dir.join(name);
        cosign(dir)
            .args(["generate-key-pair".as_ref(), "--output-key-prefix".as_ref(), prefix.as_os_str()])
            .run()
            .bytes();
        Self { private: prefix.with_extension("key"), public: prefix.with_extension("pub") }
    }

    /// Signs an image in a registry, without any service.
    fn sign(&self, home: &Path, registry: &str, image: &Image, form: Form) {
        let reference = format!("{registry}/{}@{}", image.repository, image.digest);
        let offline = ["--yes", "--tlog-upload=false", "--use-signing-config=false"];
        let form = match form {
            Form::Classic => "--new-bundle-format=false",
            Form::Bundle => "--new-bundle-format=true",
        };
        let key = ["--key".as_ref(), self.private.as_os_str()];
        cosign(home).args(["sign", form]).args(offline).args(key).args([reference]).run().bytes();
    }

    /// Asks cosign to verify.
    fn verify(&self, home: &Path, reference: &str, form: Form) -> Finished {
        let form = match form {
            Form::Classic => "--new-bundle-format=false",
            Form::Bundle => "--new-bundle-format=true",
        };
        let key = ["--key".as_ref(), self.public.as_os_str()];
        cosign(home).args(["verify", form, "--insecure-ignore-tlog=true"]).args(key).args([reference]).run()
    }
}

/// cosign with a password of nothing, which it asks for otherwise.
fn cosign(home: &Path) -> Program {
    Program::new("cosign", home).env("COSIGN_PASSWORD", "")
}

/// A world in which `signed/*` needs the signature of a key that cosign made.
fn world() -> (World, Key, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let key = Key::generate(dir.path(), "release");
    let world = World::with(&Setup { release: Some(key.public.clone()), ..Setup::default() });
    (world, key, dir)
}

fn is_admitted_and_verifies_through_the_gate(form: Form) {
    let (mut world, key, _dir) = world();
    let image = Image::push(&world.store, world.dir(), "signed/app", "1");
    key.sign(world.dir(), world.store.address(), &image, form);
    world.admits(&Crane, &image);
    key.verify(world.dir(), &world.gate.reference(&image.name()), form).bytes();
    world.denies(&Crane, &world.denied.clone());
    world.assert_no_way_round();
}

#[test]
fn a_classic_signature_is_admitted_and_verifies_through_the_gate() {
    is_admitted_and_verifies_through_the_gate(Form::Classic);
}

#[test]
fn a_bundle_is_admitted_and_verifies_through_the_gate() {
    is_admitted_and_verifies_through_the_gate(Form::Bundle);
}

#[test]
fn what_nobody_signed_is_denied() {
    let (world, _key, _dir) = world();
    let image = Image::push(&world.store, world.dir(), "signed/nobody", "1");
    world.denies(&Crane, &image);
}

/// The signature is good, and of somebody else. Its owner can still look at it through the gate, to see why.
#[test]
fn what_somebody_else_signed_is_denied_and_the_signature_stays_readable() {
    let (world, _key, dir) = world();
    let other = Key::generate(dir.path(), "other");
    for (form, repository) in [(Form::Classic, "signed/other-classic"), (Form::Bundle, "signed/other-bundle")] {
        let image = Image::push(&world.store, world.dir(), repository, "1");
        other.sign(world.dir(), world.store.address(), &image, form);
        world.denies(&Crane, &image);
        let by_digest = format!("{}/{UPSTREAM}/{repository}@{}", world.gate.address(), image.digest);
        other.verify(world.dir(), &by_digest, form).bytes();
    }
}

/// A signature speaks for the digest that it names, and for no other under the same tag.
#[test]
fn what_replaced_a_signed_image_is_denied() {
    let (world, key, _dir) = world();
    let image = Image::push(&world.store, world.dir(), "signed/app", "1");
    key.sign(world.dir(), world.store.address(), &image, Form::Classic);
    let replacement = world.denied.name();
    let (from, to) =
        (format!("{}/{replacement}", world.store.address()), format!("{}/signed/app:1", world.store.address()));
    Program::new("crane", world.dir()).args(["copy", "--insecure", &from, &to]).run().bytes();
    world.denies(&Crane, &image);
}
