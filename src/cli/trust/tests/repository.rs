//! Trusted roots from a TUF repository that is made in the test, in the form that Sigstore's root-signing publishes.

mod over_http;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sigstore_tuf::Error;
use sigstore_tuf::transport::{FetchFuture, Repository};
use sigstore_verify::trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, SIGSTORE_STAGING_TRUSTED_ROOT};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::install::read;
use super::super::status::describe;
use super::super::*;
use crate::http_client::tests::ConnectProxy;
use crate::runtime::Tasks;
use crate::tuf::canonical;

const NOW: &str = "2026-06-01T00:00:00Z";
const MIRROR: &str = "https://tuf.test";
const TARGET: &str = "trusted_root.json";

/// A key of the repository, and how it is written.
enum TufSigner {
    Ed25519(Ed25519KeyPair),
    /// With its `keytype`: `ecdsa`, or `ecdsa-sha2-nistp256` in older roots.
    Ecdsa(EcdsaKeyPair, &'static str),
}

impl TufSigner {
    fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    fn ecdsa(kind: &'static str) -> Self {
        Self::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(), kind)
    }

    fn public(&self) -> Value {
        match self {
            Self::Ed25519(pair) => {
                let public = hex(pair.public_key().as_ref());
                json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}})
            }
            Self::Ecdsa(pair, kind) => {
                let der = pair.public_key().as_der().unwrap();
                let encoded = STANDARD.encode(der.as_ref());
                let (first, second) = encoded.split_at(64);
                let public = format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n");
                json!({
                    "keytype": kind, "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": public},
                    "x-tuf-on-ci-keyowner": "@somebody"
                })
            }
        }
    }

    fn id(&self) -> String {
        Digest::sha256(&canonical(&self.public()).unwrap()).hex().to_string()
    }

    fn sign(&self, message: &[u8]) -> String {
        match self {
            Self::Ed25519(pair) => hex(pair.sign(message).as_ref()),
            Self::Ecdsa(pair, _) => hex(pair.sign(&SystemRandom::new(), message).unwrap().as_ref()),
        }
    }
}

/// A repository: its keys, and the documents that it serves.
struct TufRepository {
    /// The keys of root and targets; both must sign.
    offline: Vec<Arc<TufSigner>>,
    /// The key of timestamp and snapshot.
    online: Arc<TufSigner>,
    root: u64,
    version: u64,
    /// When everything expires but the root.
    expires: &'static str,
    served: Served,
}

/// Documents by their paths.
#[derive(Clone, Default)]
struct Served(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Served {
    fn put(&self, path: &str, bytes: Vec<u8>) {
        self.0.lock().unwrap().insert(path.to_owned(), bytes);
    }

    fn change(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(self.0.lock().unwrap().get_mut(path).unwrap_or_else(|| panic!("{path}")));
    }

    fn all(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.lock().unwrap().clone()
    }

    fn get(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let found = self.0.lock().unwrap().get(path).cloned();
        match found {
            Some(bytes) if bytes.len() as u64 > limit => Err(Error::transport("larger than allowed")),
            found => Ok(found),
        }
    }
}

impl Repository for Served {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move { self.get(name, max_length) })
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move { self.get(&format!("targets/{path}"), max_length) })
    }
}

impl TufRepository {
    /// Version 1, with the trusted root of the public instance.
    fn new() -> Self {
        let offline = [TufSigner::ecdsa("ecdsa-sha2-nistp256"), TufSigner::ecdsa("ecdsa"), TufSigner::ed25519()];
        let mut repository = Self {
            offline: offline.into_iter().map(Arc::new).collect(),
            online: Arc::new(TufSigner::ecdsa("ecdsa")),
            root: 0,
            version: 0,
            expires: "2026-06-08T00:00:00Z",
            served: Served::default(),
        };
        repository.rotate(&[], "2027-01-01T00:00:00Z");
        repository.publish(SIGSTORE_PRODUCTION_TRUSTED_ROOT);
        repository
    }

    /// A new root for the current keys, signed by them and by earlier ones.
    fn rotate(&mut self, earlier: &[Arc<TufSigner>], expires: &str) {
        self.root += 1;
        let keys = self.offline.iter().chain([&self.online]).map(|key| (key.id(), key.public()));
        let keys: serde_json::Map<_, _> = keys.collect();
        let offline: Vec<_> = self.offline.iter().map(|key| key.id()).collect();
        let offline = json!({"keyids": offline, "threshold": 2});
        let online = json!({"keyids": [self.online.id()], "threshold": 1});
        let signed = json!({
            "_type": "root", "spec_version": "1.0.31", "version": self.root, "expires": expires,
            "consistent_snapshot": true, "keys": keys,
            "roles": {"root": offline, "targets": offline, "snapshot": online, "timestamp": online}
        });
        let signers: Vec<_> = self.offline.iter().chain(earlier).collect();
        self.served.put(&format!("{}.root.json", self.root), document(&signed, &signers));
    }

    /// A new version of everything below the root.
    fn publish(&mut self, trusted_root: &str) {
        self.version += 1;
        let (version, expires) = (self.version, self.expires);
        let file = |bytes: &[u8]| json!({"version": version, "length": bytes.len(), "hashes": {"sha256": Digest::sha256(bytes).hex()}});
        let common = |kind| json!({"_type": kind, "spec_version": "1.0.31", "version": version, "expires": expires});
        let target = trusted_root.as_bytes();
        let digest = Digest::sha256(target);
        self.served.put(&format!("targets/{}.{TARGET}", digest.hex()), target.to_vec());
        let mut targets = common("targets");
        targets["targets"] = json!({TARGET: {"length": target.len(), "hashes": {"sha256": digest.hex()}}});
        let targets = document(&targets, &self.offline.iter().take(2).collect::<Vec<_>>());
        let mut snapshot = common("snapshot");
        snapshot["meta"] = json!({"targets.json": file(&targets)});
        let snapshot = document(&snapshot, &[&self.online]);
        let mut timestamp = common("timestamp");
        timestamp["meta"] = json!({"snapshot.json": file(&snapshot)});
        self.served.put("timestamp.json", document(&timestamp, &[&self.online]));
        self.served.put(&format!("{version}.snapshot.json"), snapshot);
        self.served.put(&format!("{version}.targets.json"), targets);
    }

    fn document(&self, name: &str) -> Vec<u8> {
        self.served.all()[name].clone()
    }

    /// One run of the command, as if in a new process.
    async fn update(&self, to: &Path, root: Option<&[u8]>, now: &str) -> Result<String, String> {
        let request = fetch::RootRequest { mirror: MIRROR, root, target: TARGET };
        fetch_and_install(self.served.clone(), &request, to, now.parse().unwrap()).await
    }
}

fn document(signed: &Value, signers: &[&Arc<TufSigner>]) -> Vec<u8> {
    let message = canonical(signed).unwrap();
    let signatures = signers.iter().map(|signer| json!({"keyid": signer.id(), "sig": signer.sign(&message)}));
    json!({"signatures": signatures.collect::<Vec<_>>(), "signed": signed}).to_string().into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A repository whose trusted root was installed in a directory.
async fn installed() -> (tempfile::TempDir, PathBuf, TufRepository) {
    let folder = tempfile::tempdir().unwrap();
    let (to, repository) = (folder.path().join("root.json"), TufRepository::new());
    let first = repository.document("1.root.json");
    let done = repository.update(&to, Some(&first), NOW).await.unwrap();
    assert!(done.starts_with("wrote") && done.contains("(root 1, timestamp 1 of https://tuf.test)"), "{done}");
    (folder, to, repository)
}

#[tokio::test]
async fn the_current_root_is_installed_and_its_source_is_known() {
    let (_folder, to, mut repository) = installed().await;
    assert_eq!(std::fs::read_to_string(&to).unwrap(), SIGSTORE_PRODUCTION_TRUSTED_ROOT);
    let done = repository.update(&to, None, NOW).await.unwrap();
    assert!(done.contains("is up to date"), "{done}");
    repository.publish(SIGSTORE_STAGING_TRUSTED_ROOT);
    let done = repository.update(&to, None, "2026-06-03T00:00:00Z").await.unwrap();
    assert!(done.starts_with("replaced") && done.contains("timestamp 2"), "{done}");
    assert_eq!(std::fs::read_to_string(&to).unwrap(), SIGSTORE_STAGING_TRUSTED_ROOT);
    let source = state::record(&state::folder_of(&to)).unwrap();
    let text = describe(&read(&to).unwrap(), source.as_ref(), "2026-06-05T00:00:00Z".parse().unwrap());
    let expected = "fetched from https://tuf.test, last checked at 2026-06-03T00:00:00Z, 2 days ago; root 1 of";
    assert!(text.contains(expected), "{text}");
}

#[tokio::test]
async fn roots_are_followed_as_far_as_they_lead() {
    let (_folder, to, mut repository) = installed().await;
    // Two rotations between two updates. The second one replaces a key of the root and the online key.
    repository.rotate(&[], "2027-02-01T00:00:00Z");
    let earlier = repository.offline.clone();
    repository.offline[0] = Arc::new(TufSigner::ed25519());
    repository.offline[1] = Arc::new(TufSigner::ecdsa("ecdsa"));
    repository.online = Arc::new(TufSigner::ed25519());
    repository.rotate(&earlier[..2], "2027-03-01T00:00:00Z");
    repository.publish(SIGSTORE_STAGING_TRUSTED_ROOT);
    let done = repository.update(&to, None, NOW).await.unwrap();
    assert!(done.starts_with("replaced") && done.contains("(root 3, timestamp 2"), "{done}");
    // The chain goes on from the root that was reached, without the earlier ones.
    repository.served.0.lock().unwrap().retain(|name, _| name != "2.root.json" && name != "1.root.json");
    assert!(repository.update(&to, None, NOW).await.unwrap().contains("is up to date"));

    // A root by the new keys alone, and one that skips a version.
    let earlier = repository.offline.clone();
    repository.offline = vec![Arc::new(TufSigner::ed25519()), Arc::new(TufSigner::ed25519())];
    repository.rotate(&[], "2027-04-01T00:00:00Z");
    let why = repository.update(&to, None, NOW).await.unwrap_err();
    assert!(why.contains("threshold not met for role root") && why.contains("does not belong"), "{why}");
    repository.rotate(&earlier, "2027-04-01T00:00:00Z");
    let skipped = repository.document("5.root.json");
    repository.served.put("4.root.json", skipped);
    let why = repository.update(&to, None, NOW).await.unwrap_err();
    assert!(why.contains("root version must increment by one"), "{why}");
}

#[tokio::test]
async fn older_documents_than_before_are_refused() {
    let (_folder, to, mut repository) = installed().await;
    let old = repository.served.all();
    repository.publish(SIGSTORE_STAGING_TRUSTED_ROOT);
    repository.update(&to, None, NOW).await.unwrap();
    *repository.served.0.lock().unwrap() = old;
    let why = repository.update(&to, None, NOW).await.unwrap_err();
    assert!(why.contains("rollback detected for timestamp") && why.contains("a replay"), "{why}");
    assert_eq!(std::fs::read_to_string(&to).unwrap(), SIGSTORE_STAGING_TRUSTED_ROOT);

    // A damaged state would forget the versions, so it is an error as well.
    let kept = state::folder_of(&to).join("timestamp.json");
    let whole = std::fs::read(&kept).unwrap();
    std::fs::write(&kept, &whole[..whole.len() / 2]).unwrap();
    let why = repository.update(&to, None, NOW).await.unwrap_err();
    assert!(why.contains(".root.json.tuf/timestamp.json: is not strict JSON"), "{why}");
    std::fs::remove_file(&kept).unwrap();
    std::fs::create_dir(&kept).unwrap();
    let why = repository.update(&to, None, NOW).await.unwrap_err();
    assert!(why.contains(".root.json.tuf/timestamp.json: "), "{why}");
    assert_eq!(std::fs::read_to_string(&to).unwrap(), SIGSTORE_STAGING_TRUSTED_ROOT);
}

/// A mirror that serves the same documents forever.
#[tokio::test]
async fn expired_documents_are_refused() {
    let (_folder, to, mut repository) = installed().await;
    let why = repository.update(&to, None, "2026-06-09T00:00:00Z").await.unwrap_err();
    assert!(why.contains("timestamp metadata expired at 2026-06-08") && why.contains("serves old documents"), "{why}");
    repository.expires = "2028-01-01T00:00:00Z";
    repository.publish(SIGSTORE_STAGING_TRUSTED_ROOT);
    let why = repository.update(&to, None, "2027-01-02T00:00:00Z").await.unwrap_err();
    assert!(why.contains("root metadata expired at 2027-01-01"), "{why}");
    // An expired root still leads to the next one.
    repository.rotate(&[], "2028-01-01T00:00:00Z");
    repository.update(&to, None, "2027-01-02T00:00:00Z").await.unwrap();
}

#[tokio::test]
async fn changed_documents_are_refused() {
    let target = |text: &str| format!("targets/{}.{TARGET}", Digest::sha256(text.as_bytes()).hex());
    let staging = target(SIGSTORE_STAGING_TRUSTED_ROOT);
    let flip: fn(&mut Vec<u8>) = |bytes| bytes[100] ^= 1;
    let cut: fn(&mut Vec<u8>) = |bytes| bytes.truncate(bytes.len() / 2);
    let grow: fn(&mut Vec<u8>) = |bytes| bytes.extend(vec![b' '; 6_000_000]);
    let twice: fn(&mut Vec<u8>) = |bytes| {
        let text = String::from_utf8(std::mem::take(bytes)).unwrap();
        *bytes = text.replacen("\"version\":2", "\"version\":2,\"version\":2", 1).into_bytes();
    };
    for (path, change, part) in [
        (&*staging, flip, "sha256 mismatch"),
        (&staging, cut, "length"),
        (&staging, grow, "larger than allowed"),
        ("2.targets.json", flip, ""),
        ("2.targets.json", cut, "is not strict JSON"),
        ("2.targets.json", grow, "larger than allowed"),
        ("2.targets.json", twice, "is not strict JSON"),
        ("2.snapshot.json", cut, "is not strict JSON"),
        ("2.snapshot.json", twice, "is not strict JSON"),
        ("timestamp.json", cut, "is not strict JSON"),
        ("timestamp.json", grow, "larger than allowed"),
        ("timestamp.json", twice, "is not strict JSON"),
    ] {
        let (_folder, to, mut repository) = installed().await;
        repository.publish(SIGSTORE_STAGING_TRUSTED_ROOT);
        let good = repository.served.all();
        repository.served.change(path, change);
        let why = repository.update(&to, None, NOW).await.unwrap_err();
        assert!(why.contains(part), "{path}: {why}");
        assert_eq!(std::fs::read_to_string(&to).unwrap(), SIGSTORE_PRODUCTION_TRUSTED_ROOT, "{path}");
        *repository.served.0.lock().unwrap() = good;
        repository.update(&to, None, NOW).await.unwrap();
    }
}

#[tokio::test]
async fn a_signed_file_that_is_not_a_trusted_root_is_refused() {
    let (_folder, to, mut repository) = installed().await;
    // Signed, and not a usable trusted root.
    repository.publish("{}");
    let why = repository.update(&to, None, NOW).await.unwrap_err();
    assert!(why.contains("trusted_root.json of https://tuf.test is not a trusted root"), "{why}");
    repository.publish(&" ".repeat(MAX_TARGET + 1));
    let why = repository.update(&to, None, NOW).await.unwrap_err();
    assert!(why.contains("exceeds configured max"), "{why}");
}

const MAX_TARGET: usize = 256 * 1024;

#[tokio::test]
async fn the_first_root_is_the_operators_choice() {
    let folder = tempfile::tempdir().unwrap();
    let (to, repository, other) = (folder.path().join("root.json"), TufRepository::new(), TufRepository::new());
    let [own, foreign] = [&repository, &other].map(|one| one.document("1.root.json"));
    let why = repository.update(&to, None, NOW).await.unwrap_err();
    assert!(why.contains("name it with --root FILE") && !to.exists(), "{why}");
    let why = repository.update(&to, Some(&foreign), NOW).await.unwrap_err();
    assert!(why.contains("threshold not met for role timestamp"), "{why}");
    // That root is trusted now, although nothing was installed, and another one does not replace it silently.
    let why = repository.update(&to, Some(&own), NOW).await.unwrap_err();
    assert!(why.contains("to start over with it, remove") && why.contains(".root.json.tuf"), "{why}");
    std::fs::remove_dir_all(state::folder_of(&to)).unwrap();
    repository.update(&to, Some(&own), NOW).await.unwrap();
    assert!(repository.update(&to, Some(&own), NOW).await.unwrap().contains("is up to date"));
    for (root, part) in [(&b"{"[..], "is not strict JSON"), (b"{\"signed\": {}, \"signatures\": []}", "the root: ")] {
        let why = repository.update(&to, Some(root), NOW).await.unwrap_err();
        assert!(why.contains(part), "{why}");
    }
}

#[tokio::test]
async fn one_update_at_a_time() {
    let (_folder, to, repository) = installed().await;
    let _other = TufState::open(state::folder_of(&to)).unwrap();
    let why = repository.update(&to, None, NOW).await.unwrap_err();
    assert!(why.contains("another update is running"), "{why}");
}
