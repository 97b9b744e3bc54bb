//! Simple signing with OpenPGP through the whole gate: stores, identities, secrets, indexes, and the end of a key.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::SignedDuration;
use pullgate::runtime::Clock;
use pullgate::sample::image::{Built, StoredManifest};
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::CertBuilder;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::SerializeInto;
use sequoia_openpgp::serialize::stream::{LiteralWriter, Message, Signer};
use serde_json::json;

use crate::harness::{Gate, HOST, TestGate};
use crate::pull::{multi, simple};
use crate::support::TestRegistry;

/// A store of signatures, and keys that sign.
struct Signing {
    folder: tempfile::TempDir,
    registry: TestRegistry,
    key: Cert,
}

impl Signing {
    async fn new() -> Self {
        let folder = crate::support::temp_dir();
        fs::create_dir(folder.path().join("store")).expect("a folder");
        Self { folder, registry: TestRegistry::start().await, key: key(None) }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// A gate with a document of this program: `gpg` completes the authority `release`.
    fn gate(&self, gpg: &str) -> TestGate {
        let document = format!(
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: default}}\nspec:\n  authorities:\n  \
             - {{name: release, gpg: {{keyring: {{file: release.gpg}}, {gpg}}}}}\n  repositories:\n  \
             - {{name: \"*\", policy: {{trust: release}}}}\n"
        );
        let gate = TestGate::new(&self.registry, &document);
        fs::write(gate.path().join("policies/release.gpg"), self.key.to_vec().expect("a key")).expect("a file");
        gate
    }

    /// A gate whose signatures are in the folder.
    async fn start(&self) -> Gate {
        self.gate(&format!("store: \"file://{}\"", self.store().display())).start().await
    }

    fn push(&self, tag: &str, built: &Built) {
        self.registry.push("library/app", Some(tag), built);
    }

    /// Stores a signature of an image of `library/app`.
    fn sign(&self, key: &Cert, manifest: &StoredManifest, reference: &str) {
        let digest = manifest.digest;
        let folder = self.store().join(format!("library/app@sha256={}", digest.hex()));
        fs::create_dir_all(&folder).expect("a folder");
        let number = fs::read_dir(&folder).expect("a folder").count() + 1;
        let payload = json!({
            "critical": {
                "identity": {"docker-reference": reference},
                "image": {"docker-manifest-digest": digest},
                "type": "atomic container signature"
            },
            "optional": {}
        });
        fs::write(folder.join(format!("signature-{number}")), signed(key, payload.to_string().as_bytes()))
            .expect("a file");
    }
}

/// A key that ends after some days, if at all.
fn key(days: Option<u32>) -> Cert {
    let day = Duration::from_secs(24 * 60 * 60);
    let builder = CertBuilder::new().add_userid("Release <release@example.com>").add_signing_subkey();
    let builder = builder.set_creation_time(SystemTime::from(Clock::system().now()) - day);
    builder.set_validity_period(days.map(|days| day * (days + 1))).generate().expect("a key").0
}

fn signed(key: &Cert, payload: &[u8]) -> Vec<u8> {
    let policy = StandardPolicy::new();
    let mut keys = key.keys().unencrypted_secret().with_policy(&policy, None).for_signing();
    let pair = keys.next().expect("a key").key().clone().into_keypair().expect("a key");
    let mut out = Vec::new();
    let message = Signer::new(Message::new(&mut out), pair).expect("a signer").build().expect("a signer");
    let mut message = LiteralWriter::new(message).build().expect("a message");
    message.write_all(payload).expect("a message");
    message.finalize().expect("a message");
    out
}

async fn assert_answer(gate: &Gate, reference: &str, status: u16, reason: &str) {
    let got = gate.get(&format!("/library/app/manifests/{reference}")).await;
    assert_eq!(got.status, status, "{reference}: {}", got.text());
    assert!(status == 200 || got.text().contains(reason), "{reference}: {}", got.text());
}

#[tokio::test]
async fn signed_images_are_admitted_by_tag_and_by_digest() {
    let world = Signing::new().await;
    let (good, moved, unsigned) = (simple("good"), simple("moved"), simple("unsigned"));
    for (tag, built) in [("1", &good), ("2", &good), ("3", &moved), ("4", &unsigned)] {
        world.push(tag, built);
    }
    world.sign(&world.key, good.manifest(), &format!("{HOST}/library/app:1"));
    world.sign(&world.key, moved.manifest(), "other.test/library/app:3");
    let gate = world.start().await;
    assert_answer(&gate, "1", 200, "").await;
    assert_answer(&gate, &good.manifest().digest.to_string(), 200, "").await;
    // The same image under a tag that is not signed; and again, from memory.
    for _ in 0..2 {
        assert_answer(&gate, "2", 403, "is for the name \\\"registry.test/library/app:1\\\"").await;
        assert_answer(&gate, "1", 200, "").await;
    }
    assert_answer(&gate, "3", 403, "is for the name \\\"other.test/library/app:3\\\"").await;
    assert_answer(&gate, "4", 403, "release: not signed").await;
}

#[tokio::test]
async fn signatures_by_others_are_denied_with_their_key() {
    let world = Signing::new().await;
    let (built, stranger) = (simple("app"), key(None));
    world.push("1", &built);
    world.sign(&stranger, built.manifest(), &format!("{HOST}/library/app:1"));
    let gate = world.start().await;
    assert_answer(&gate, "1", 403, "which is not in the key ring").await;
}

/// A store that does not answer is an error that passes, not a denial.
#[tokio::test]
async fn a_store_that_is_missing_is_unknown() {
    let world = Signing::new().await;
    world.push("1", &simple("app"));
    let gate = world.gate("store: \"file:///nonexistent/store\"").start().await;
    assert_answer(&gate, "1", 503, "/nonexistent/store").await;
}

/// podman signs the images of an index, and Portieris checks the index.
#[tokio::test]
async fn an_index_or_all_of_its_images_are_signed() {
    let world = Signing::new().await;
    let name = format!("{HOST}/library/app:1");
    let (whole, parts) = (multi("whole"), multi("parts"));
    world.push("1", &whole);
    world.push("2", &parts);
    world.sign(&world.key, whole.manifest(), &name);
    let gate = world.start().await;
    assert_answer(&gate, "1", 200, "").await;
    for manifest in &whole.manifests {
        assert_answer(&gate, &manifest.digest.to_string(), 200, "").await;
    }
    assert_answer(&gate, "2", 403, "not signed").await;
    for child in &parts.manifests[1..] {
        assert_answer(&gate, &child.digest.to_string(), 403, "not signed").await;
        world.sign(&world.key, child, &format!("{HOST}/library/app:2"));
    }
    let gate = world.start().await;
    assert_answer(&gate, "2", 200, "").await;
    for manifest in &parts.manifests {
        assert_answer(&gate, &manifest.digest.to_string(), 200, "").await;
    }
}

/// An admission ends with the key, although nothing else changes.
#[tokio::test]
async fn admissions_end_with_the_key() {
    let mut world = Signing::new().await;
    world.key = key(Some(5));
    let clock = Clock::manual(Clock::system().now());
    let built = simple("app");
    world.push("1", &built);
    world.sign(&world.key, built.manifest(), &format!("{HOST}/library/app:1"));
    let gate = world.gate(&format!("store: \"file://{}\"", world.store().display())).clock(&clock).start().await;
    assert_answer(&gate, "1", 200, "").await;
    clock.advance(SignedDuration::from_hours(4 * 24));
    assert_answer(&gate, "1", 200, "").await;
    clock.advance(SignedDuration::from_hours(2 * 24));
    assert_answer(&gate, "1", 403, "is not valid now").await;
}

/// A changed ring is judged again at once.
#[tokio::test]
async fn a_changed_ring_counts_at_once() {
    let world = Signing::new().await;
    let built = simple("app");
    world.push("1", &built);
    world.sign(&world.key, built.manifest(), &format!("{HOST}/library/app:1"));
    let gate = world.start().await;
    assert_answer(&gate, "1", 200, "").await;
    let policy = fs::read_to_string(gate.file("policies/default.yaml")).expect("the policy");
    fs::write(gate.file("policies/release.gpg"), key(None).to_vec().expect("a key")).expect("a file");
    gate.set_policy(&policy);
    crate::support::soon(async {
        while gate.get("/library/app/manifests/1").await.status == 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_answer(&gate, "1", 403, "which is not in the key ring").await;
}

/// `simple` of Portieris, with its secrets in the namespace of the request.
#[tokio::test]
async fn portieris_documents_work_unchanged() {
    let world = Signing::new().await;
    let (one, both) = (simple("one"), simple("both"));
    let other = key(None);
    for (tag, built, keys) in [("1", &one, vec![&world.key]), ("2", &both, vec![&world.key, &other])] {
        world.push(tag, built);
        keys.iter().for_each(|key| world.sign(key, built.manifest(), &format!("{HOST}/library/app:v9")));
    }
    let requirement =
        |secret: &str| format!("{{type: signedBy, keySecret: {secret}, signedIdentity: {{type: matchRepository}}}}");
    let document = format!(
        "apiVersion: portieris.cloud.ibm.com/v1\nkind: ClusterImagePolicy\nmetadata: {{name: default}}\nspec:\n  repositories:\n  \
         - name: \"*\"\n    policy:\n      simple:\n        storeURL: \"file://{}\"\n        requirements: [{{type: insecureAcceptAnything}}, {}, {}]\n",
        world.store().display(),
        requirement("one"),
        requirement("other")
    );
    let gate = TestGate::new(&world.registry, &document);
    for (name, key) in [("one", &world.key), ("other", &other)] {
        write_secret(&gate.path().join(format!("policies/secrets/default/{name}")), key);
    }
    let gate = gate.start().await;
    assert_answer(&gate, "1", 403, "other: signature-1: was made by the key").await;
    assert_answer(&gate, "2", 200, "").await;
}

fn write_secret(folder: &Path, key: &Cert) {
    fs::create_dir_all(folder).expect("a folder");
    fs::write(folder.join("key"), key.armored().to_vec().expect("a key")).expect("a file");
}

/// The registry's own signatures, as OpenShift's registry serves them.
#[tokio::test]
async fn signatures_of_the_registry_are_read() {
    let world = Signing::new().await;
    let (good, unsigned) = (simple("good"), simple("unsigned"));
    world.push("1", &good);
    world.push("2", &unsigned);
    world.sign(&world.key, good.manifest(), &format!("{HOST}/library/app:1"));
    let digest = good.manifest().digest;
    let file = world.store().join(format!("library/app@sha256={}/signature-1", digest.hex()));
    let gate = world.gate("signedIdentity: {type: matchExact}").start().await;
    assert_answer(&gate, "1", 403, "not signed").await;
    world.registry.put_signature("library/app", digest, fs::read(file).expect("a signature"));
    let gate = world.gate("signedIdentity: {type: matchExact}").start().await;
    assert_answer(&gate, "1", 200, "").await;
    assert_answer(&gate, "2", 403, "not signed").await;
}

/// A store that accepts connections and never answers does not delay an image that another authority has signed.
#[tokio::test]
async fn a_hanging_store_does_not_delay_an_image_that_another_signature_admits() {
    let world = Signing::new().await;
    let store = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", store.local_addr().expect("an address"));
    let document = |trust: &str| {
        format!(
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: default}}\nspec:\n  authorities:\n  \
             - {{name: key, cosign: {{key: {{file: release.pub}}}}}}\n  \
             - {{name: ring, gpg: {{keyring: {{file: release.gpg}}, store: {{url: \"{url}\", insecure: true}}}}}}\n  \
             repositories:\n  - {{name: \"*\", policy: {{trust: {trust}}}}}\n"
        )
    };
    let gate = TestGate::new(&world.registry, &document("{anyOf: [ring, key]}"));
    fs::write(gate.path().join("policies/release.gpg"), world.key.to_vec().expect("a key")).expect("a file");
    let image = simple("any");
    world.push("1", &image);
    gate.key.sign(&world.registry, "library/app", &format!("{HOST}/library/app"), image.root).expect("a signature");
    let gate = gate.start().await;
    let begun = std::time::Instant::now();
    assert_answer(&gate, "1", 200, "").await;
    assert_answer(&gate, &image.manifest().digest.to_string(), 200, "").await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(store);
}
