//! Docker Content Trust: a tag means the digest that is signed for it.

use std::fs;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pullgate::runtime::Clock;
use pullgate::sample::image::{Built, Image, Layer, Tree};
use pullgate::sample::{Fault, NotaryRepository, On, SampleDelegation};

use crate::commands::{pullgate, text};
use crate::harness::{Gate, HOST, TestGate};
use crate::pull::{multi, simple};
use crate::support::{TestRegistry, request};

const REPOSITORY: &str = "library/app";
const RELEASES: &str = "targets/releases";

/// The tutorial's policy.
pub(crate) const TRUST: &str = "\
apiVersion: securityenforcement.admission.cloud.ibm.com/v1beta1
kind: ClusterImagePolicy
metadata: {name: default}
spec:
  repositories:
  - name: \"*\"
    policy: {trust: {enabled: true}}
";

/// A policy for one tag.
const ONE_TAG: &str = "\
apiVersion: portieris.cloud.ibm.com/v1
kind: ClusterImagePolicy
metadata: {name: default}
spec:
  repositories:
  - name: \"registry.test/library/app:v1\"
    policy: {trust: {enabled: true}}
";

pub(crate) fn notary() -> NotaryRepository {
    let mut repository = NotaryRepository::new(&format!("{HOST}/{REPOSITORY}")).expect("keys");
    repository.delegations.push(SampleDelegation::new(RELEASES).expect("a key"));
    repository
}

pub(crate) fn sign(repository: &mut NotaryRepository, tag: &str, built: &Built) {
    let root = built.manifests.iter().find(|manifest| manifest.digest == built.root);
    let root = root.expect("the root");
    repository.sign(RELEASES, tag, built.root, root.bytes.len() as u64);
}

/// A gate whose registry is its notary server, and which trusts the repository's root.
pub(crate) fn gate(registry: &TestRegistry, repository: &NotaryRepository, policy: &str) -> TestGate {
    TestGate::new(registry, policy)
        .upstream(&format!("notary = \"{}\"", registry.listening.url()))
        .upstream("tag_ttl = \"1s\"")
        .with("[trust]\nnotary_root = \"root.pem\"\n")
        .file("root.pem", repository.root[0].public_pem())
}

fn manifest(reference: &str) -> String {
    format!("/{REPOSITORY}/manifests/{reference}")
}

async fn pulled_digest(gate: &Gate, reference: &str) -> String {
    let got = gate.get(&manifest(reference)).await;
    assert_eq!(got.status, 200, "{reference}: {}", got.text());
    got.header("docker-content-digest").expect("a digest").to_owned()
}

#[tokio::test]
async fn the_signed_digest_is_served_although_the_registrys_tag_moved() {
    let (registry, mut repository) = (TestRegistry::start().await, notary());
    let (signed, moved) = (multi("signed"), multi("moved"));
    registry.push(REPOSITORY, Some("v1"), &signed);
    sign(&mut repository, "v1", &signed);
    repository.publish();
    repository.put(&registry);
    registry.push(REPOSITORY, Some("v1"), &moved);
    let gate = gate(&registry, &repository, TRUST).start().await;
    for method in ["GET", "HEAD"] {
        let got = request(method, &gate.url(&manifest("v1")), &[]).await;
        assert_eq!(got.status, 200, "{}", got.text());
        assert_eq!(got.header("docker-content-digest"), Some(&*signed.root.to_string()), "{method}");
    }
    // Everything that the image names can be pulled, as a client does: children by digest, then blobs.
    for part in &signed.manifests {
        assert_eq!(pulled_digest(&gate, &part.digest.to_string()).await, part.digest.to_string());
    }
    for (digest, bytes) in &signed.blobs {
        let got = gate.get(&format!("/{REPOSITORY}/blobs/{digest}")).await;
        assert_eq!((got.status, &got.body), (200, bytes), "{digest}");
    }
    // Nothing of what the registry says about the tag.
    for part in &moved.manifests {
        assert_eq!(gate.get(&manifest(&part.digest.to_string())).await.status, 403);
    }
    let (_, records) = gate.stop_and_read_audit().await;
    assert_eq!(records[0]["digest"], signed.root.to_string(), "{}", records[0]);
    assert_eq!(records[0]["image"], format!("{HOST}/{REPOSITORY}:v1"), "{}", records[0]);
}

/// The entry names one tag: it must apply to the digest that the tag is signed for, and to its children.
#[tokio::test]
async fn rules_for_a_tag_apply_to_the_digest_that_is_signed_for_it() {
    let (registry, mut repository) = (TestRegistry::start().await, notary());
    let (signed, moved) = (multi("signed"), multi("moved"));
    registry.push(REPOSITORY, None, &signed);
    registry.push(REPOSITORY, Some("v1"), &moved);
    sign(&mut repository, "v1", &signed);
    repository.publish();
    repository.put(&registry);
    let gate = gate(&registry, &repository, ONE_TAG).start().await;
    assert_eq!(gate.get(&manifest(&signed.root.to_string())).await.status, 403, "no rule selects an unknown digest");
    assert_eq!(pulled_digest(&gate, "v1").await, signed.root.to_string());
    for part in &signed.manifests {
        pulled_digest(&gate, &part.digest.to_string()).await;
    }
    // After a restart too.
    let gate = gate.stop().await.start().await;
    for part in &signed.manifests {
        pulled_digest(&gate, &part.digest.to_string()).await;
    }
}

#[tokio::test]
async fn unsigned_tags_digests_and_repositories_are_denied_with_the_reason() {
    let (registry, mut repository) = (TestRegistry::start().await, notary());
    let (signed, other) = (simple("signed"), simple("other"));
    registry.push(REPOSITORY, Some("v1"), &signed);
    registry.push(REPOSITORY, Some("same"), &signed);
    registry.push(REPOSITORY, Some("v2"), &other);
    registry.push("library/unsigned", Some("v1"), &signed);
    sign(&mut repository, "v1", &signed);
    repository.publish();
    repository.put(&registry);
    let gate = gate(&registry, &repository, TRUST).start().await;
    for (path, part) in [
        (manifest("v2"), "No valid trust data for v2"),
        (manifest("same"), "No valid trust data for same"),
        (manifest(&other.root.to_string()), "No signed targets found"),
        ("/library/unsigned/manifests/v1".into(), "does not have trust data for registry.test/library/unsigned"),
    ] {
        let got = gate.get(&path).await;
        assert!(got.status == 403 && got.text().contains(part), "{path}: {} {}", got.status, got.text());
    }
    assert_eq!(pulled_digest(&gate, &signed.root.to_string()).await, signed.root.to_string());
}

/// `mutateImage: false`: the tag means what the registry says, and that must be what is signed.
#[tokio::test]
async fn without_mutation_a_moved_tag_is_denied() {
    let (registry, mut repository) = (TestRegistry::start().await, notary());
    let (signed, moved) = (simple("signed"), simple("moved"));
    registry.push(REPOSITORY, Some("v1"), &signed);
    sign(&mut repository, "v1", &signed);
    repository.publish();
    repository.put(&registry);
    let policy = ONE_TAG.replace("app:v1", "app*").replace("policy: {", "policy: {mutateImage: false, ");
    let clock = Clock::manual(Clock::system().now());
    let gate = gate(&registry, &repository, &policy).clock(&clock).start().await;
    assert_eq!(pulled_digest(&gate, "v1").await, signed.root.to_string());
    registry.push(REPOSITORY, Some("v1"), &moved);
    clock.advance(jiff::SignedDuration::from_secs(61));
    let got = gate.get(&manifest("v1")).await;
    assert!(got.status == 403 && got.text().contains("tag v1 is signed for"), "{} {}", got.status, got.text());
}

#[tokio::test]
async fn a_notary_server_that_fails_is_503_and_authorities_that_disagree_are_403() {
    let (registry, mut repository) = (TestRegistry::start().await, notary());
    let (signed, other) = (simple("signed"), simple("other"));
    registry.push(REPOSITORY, Some("v1"), &signed);
    sign(&mut repository, "v1", &signed);
    let mut alice = SampleDelegation::new("targets/alice").unwrap();
    alice.paths = vec![String::new()];
    repository.delegations.push(alice);
    repository.publish();
    repository.put(&registry);
    let broken = registry.inject(On::path("*/_trust/tuf/*"), Fault::status(http::StatusCode::INTERNAL_SERVER_ERROR));
    let clock = Clock::manual(Clock::system().now());
    let gate = gate(&registry, &repository, TRUST).clock(&clock).start().await;
    let got = gate.get(&manifest("v1")).await;
    assert!(
        got.status == 503 && got.text().contains("signed for this tag is unknown"),
        "{} {}",
        got.status,
        got.text()
    );
    broken.remove();
    clock.advance(jiff::SignedDuration::from_secs(3));
    // A second server says something else about the same tag.
    let second = TestRegistry::start().await;
    sign(&mut repository, "v1", &other);
    repository.publish();
    repository.put(&second);
    let both = format!(
        "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: default}}\nspec:\n  authorities:\n  \
         - name: other\n    notary: {{server: \"{}\"}}\n  repositories:\n  \
         - {{name: \"*\", policy: {{trust: {{anyOf: [notary, other]}}}}}}\n",
        second.listening.url()
    );
    gate.set_policy(&both);
    let got = gate.get(&manifest("v1")).await;
    let text = got.text();
    assert!(got.status == 403 && text.contains("authorities have signed tag v1 for different digests"), "{text}");
    let (_, records) = gate.stop_and_read_audit().await;
    for (record, outcome) in records.iter().zip(["unavailable", "denied"]) {
        assert!(record.to_string().contains("signed"), "{outcome}: {record}");
        assert_ne!(record["decision"], "error", "{record}");
    }
}

/// Without a pinned root, the first one is trusted only on request, and is remembered over restarts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_is_remembered_only_on_request() {
    let (registry, mut repository) = (TestRegistry::start().await, notary());
    let signed = simple("signed");
    registry.push(REPOSITORY, Some("v1"), &signed);
    sign(&mut repository, "v1", &signed);
    repository.publish();
    repository.put(&registry);
    let server = format!("notary = \"{}\"", registry.listening.url());
    let clock = Clock::manual(Clock::system().now());
    let gate = TestGate::new(&registry, TRUST).upstream(&server).clock(&clock).start().await;
    let got = gate.get(&manifest("v1")).await;
    assert!(got.status == 403 && got.text().contains("no root is trusted"), "{} {}", got.status, got.text());
    let remembering = gate.stop().await.with("[trust]\nfirst_use = \"remember\"\n");
    let gate = remembering.start().await;
    pulled_digest(&gate, "v1").await;
    assert_first_use_is_shown(&gate).await;
    let stopped = gate.stop().await;
    // Another repository with the same name and another root.
    let mut stolen = notary();
    (stolen.root_version, stolen.version) = (9, 9);
    sign(&mut stolen, "v1", &signed);
    stolen.publish();
    stolen.put(&registry);
    clock.advance(jiff::SignedDuration::from_secs(61));
    let gate = stopped.start().await;
    let got = gate.get(&manifest("v1")).await;
    assert!(got.status == 403 && got.text().contains("by the keys of the root before it"), "{}", got.text());
    let _ = fs::metadata(gate.file("state")).expect("the state");
    assert_is_forgotten_on_request(gate, &registry, &clock).await;
}

/// A server that was reinstalled has other roots and smaller versions. An operator can make the gate forget the old ones.
async fn assert_is_forgotten_on_request(gate: Gate, registry: &TestRegistry, clock: &Clock) {
    let place = format!("{}/v2/{HOST}/{REPOSITORY}", registry.listening.url());
    let other = pullgate(&gate, &["trust", "forget", &format!("{}/v2/{HOST}/library", registry.listening.url())]).await;
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other).contains("nothing is remembered about"), "{}", text(&other));
    let done = pullgate(&gate, &["trust", "forget", &place]).await;
    assert!(done.status.success() && text(&done).contains("forgot version 1 of root"), "{}", text(&done));
    clock.advance(jiff::SignedDuration::from_secs(61));
    pulled_digest(&gate, "v1").await;
    let (_, records) = gate.stop_and_read_audit().await;
    let record = records.iter().find(|record| record["endpoint"] == "trust/forget" && record["image"] == *place);
    let record = record.unwrap_or_else(|| panic!("{records:?}"));
    assert_eq!(record["decision"], "forget");
    let client = record["client"].as_str().expect("who asked");
    assert!(client.starts_with("admin socket, user"), "{client}");
}

/// `pullgate check` and `pullgate trust status` say that nothing else vouches for the root, while the gate runs.
async fn assert_first_use_is_shown(gate: &Gate) {
    let output = pullgate(gate, &["check", &format!("{HOST}/{REPOSITORY}:v1")]).await;
    assert!(text(&output).contains("the root was trusted on first use: version 1, key "), "{}", text(&output));
    let config = gate.file("status.toml");
    let state = gate.file("state").display().to_string();
    let lines = format!("state_dir = \"{state}\"\n[policy]\ndir = \"policies\"\n[[upstream]]\nhost = \"docker.io\"\n");
    fs::write(&config, lines).expect("a file");
    let status = async |format: &'static str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pullgate"));
        command.args(["trust", "status", "-o", format, "--config"]).arg(&config);
        tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("it ends")
    };
    let json: serde_json::Value = serde_json::from_slice(&status("json").await.stdout).expect("JSON");
    let root = &json["notary_roots"][0];
    assert_eq!(
        (&root["version"], &root["first_use"], &json["trusted_roots"]),
        (&1.into(), &true.into(), &serde_json::json!([]))
    );
    assert!(root["repository"].as_str().is_some_and(|name| name.ends_with("/v2/registry.test/library/app")), "{json}");
    let output = status("table").await;
    let text = text(&output);
    for part in ["/v2/registry.test/library/app: notary root version 1, key ", "ends at 2099", "TRUSTED ON FIRST USE"] {
        assert!(output.status.success() && text.contains(part), "{part}: {text}");
    }
}

/// `pullgate check` shows which digest was judged, who signed it and where.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_explains_content_trust() {
    let (registry, mut repository) = (TestRegistry::start().await, notary());
    let signed = Image::linux_amd64().layer(Layer::gzip(&Tree::new().file("a", "b"))).build();
    registry.push(REPOSITORY, None, &signed);
    sign(&mut repository, "v1", &signed);
    repository.publish();
    repository.put(&registry);
    let gate = gate(&registry, &repository, TRUST).start().await;
    let output = pullgate(&gate, &["check", &format!("{HOST}/{REPOSITORY}:v1")]).await;
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    for part in [&*signed.root.to_string(), "targets/releases with key", "/v2/registry.test/library/app"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// A policy for the authorities `notary` and `release`, which is a key of cosign.
fn either(trust: &str) -> String {
    format!(
        "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: default}}\nspec:\n  authorities:\n  \
         - {{name: release, cosign: {{key: {{file: release.pub}}}}}}\n  repositories:\n  \
         - {{name: \"*\", policy: {{trust: {trust}}}}}\n"
    )
}

/// A notary server that does not answer makes its own answer unknown, and no other one.
#[tokio::test]
async fn a_notary_server_that_fails_does_not_hide_another_signature() {
    let (registry, mut repository) = (TestRegistry::start().await, notary());
    let (signed, moved, unsigned) = (simple("signed"), simple("moved"), simple("unsigned"));
    registry.push(REPOSITORY, None, &signed);
    registry.push(REPOSITORY, Some("v1"), &moved);
    registry.push(REPOSITORY, Some("v2"), &unsigned);
    sign(&mut repository, "v1", &signed);
    repository.publish();
    repository.put(&registry);
    let clock = Clock::manual(Clock::system().now());
    let made = gate(&registry, &repository, &either("{anyOf: [notary, release]}")).clock(&clock);
    made.key.sign(&registry, REPOSITORY, &format!("{HOST}/{REPOSITORY}"), moved.root).unwrap();
    let broken = registry.inject(On::path("*/_trust/tuf/*"), Fault::status(http::StatusCode::INTERNAL_SERVER_ERROR));
    let gate = made.start().await;
    // The registry's tag counts, and cosign's key has signed that.
    assert_eq!(pulled_digest(&gate, "v1").await, moved.root.to_string());
    // Nobody else has signed, so content trust would decide.
    let got = gate.get(&manifest("v2")).await;
    assert!(got.status == 503 && got.text().contains("unable to reach trust server"), "{} {}", got.status, got.text());
    for trust in ["{allOf: [notary, release]}", "{atLeast: {count: 2, of: [notary, release]}}", "notary"] {
        gate.set_policy(&either(trust));
        let got = gate.get(&manifest("v1")).await;
        let text = got.text();
        assert!(got.status == 503 && text.contains("signed for this tag is unknown"), "{trust}: {} {text}", got.status);
    }
    // As soon as it answers, the tag means the signed digest again.
    gate.set_policy(&either("{anyOf: [notary, release]}"));
    broken.remove();
    clock.advance(jiff::SignedDuration::from_secs(3));
    assert_eq!(pulled_digest(&gate, "v1").await, signed.root.to_string());
}

/// A notary server that takes requests and never answers counts as down, in much less time than a client waits for. It
/// holds neither the other signature nor the registry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_notary_server_counts_as_down_and_blocks_nothing_else() {
    let (registry, server, repository) = (TestRegistry::start().await, TestRegistry::start().await, notary());
    let (signed, open) = (simple("signed"), simple("open"));
    registry.push(REPOSITORY, Some("v1"), &signed);
    registry.push("library/open", Some("v1"), &open);
    let _held = server.inject(On::any(), Fault::Gate);
    let policy = |trust: &str| format!("{}  - {{name: \"{HOST}/library/open\", policy: {{}}}}\n", either(trust));
    let made = TestGate::new(&registry, &policy("{anyOf: [notary, release]}"))
        .upstream(&format!("notary = \"{}\"", server.listening.url()))
        .with("[trust]\nnotary_root = \"root.pem\"\n")
        .file("root.pem", repository.root[0].public_pem());
    made.key.sign(&registry, REPOSITORY, &format!("{HOST}/{REPOSITORY}"), signed.root).unwrap();
    let gate = made.start().await;
    // More than the registry gets requests at once, for repositories that need not exist.
    let paths: Vec<_> = (0..40).map(|number| format!("/library/no{number}/manifests/v1")).collect();
    let waiting = join_all(paths.iter().map(|path| gate.get(path)));
    let pulls = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let began = Instant::now();
        let got = gate.get("/library/open/manifests/v1").await;
        assert_eq!(got.status, 200, "{}", got.text());
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert_eq!(pulled_digest(&gate, "v1").await, signed.root.to_string());
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    };
    tokio::join!(waiting, pulls);
    // Content trust alone: no client waits while it is known that the server hangs.
    gate.set_policy(&policy("notary"));
    let began = Instant::now();
    let got = gate.get(&manifest("v1")).await;
    assert!(got.status == 503 && got.text().contains("is unknown"), "{} {}", got.status, got.text());
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
}
