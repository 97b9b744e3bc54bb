//! How many rounds of requests a first pull takes: requests that do not depend on each other run at the same time. The
//! registry holds every request, and releases those of a round only after all of them have arrived. So nothing here is
//! timed: a request that is sent later than it could be never arrives while the others are held, and fails the test.

use std::time::Duration;

use http::StatusCode;
use pullgate::oci::Digest;
use pullgate::sample::image::{Built, Layer, attachment, attachment_tag, referrer};
use pullgate::sample::{Fault, On};

use crate::harness::{Gate, HOST, TestGate, policy};
use crate::pull::simple;
use crate::sigstore::{Instance, Subject};
use crate::support::{TestRegistry, soon};
use crate::{keyless, notary};

const REPOSITORY: &str = "library/app";
/// The places in which attached signatures of the image may be.
static PLACES: [&str; 3] = ["referrers/IMAGE", "manifests/IMAGE-TAG", "manifests/IMAGE-TAG.sig"];

/// Digests and what a round calls them.
type Names<'a> = &'a [(&'a str, Digest)];

/// Pulls a reference whose manifest is not known yet. Each round lists the requests that must be under way together, as
/// paths below the repository.
async fn assert_rounds(registry: &TestRegistry, gate: &Gate, reference: &str, names: Names<'_>, rounds: &[&[&str]]) {
    registry.clear_log();
    let mut held = registry.inject(On::any(), Fault::Gate);
    let path = format!("/{REPOSITORY}/manifests/{reference}");
    let mut pull = std::pin::pin!(gate.get(&path));
    let mut before = 0;
    for (number, round) in rounds.iter().enumerate() {
        // A request is held as soon as it counts as a hit, which is after it was logged.
        let arrived = tokio::time::timeout(Duration::from_secs(10), held.wait_for_hits(round.len() as u64));
        tokio::select! {
            answer = &mut pull => panic!("answered before round {number}: {} {}", answer.status, answer.text()),
            arrived = arrived => assert!(arrived.is_ok(), "round {number}: {:?}", requests(registry, names, before)),
        }
        let mut expected: Vec<_> = round.iter().map(|&path| path.to_owned()).collect();
        expected.sort();
        assert_eq!(requests(registry, names, before), expected, "round {number}");
        before += round.len();
        // Whatever arrives from now on is held as part of the next round.
        let next = registry.inject(On::any(), Fault::Gate);
        held.remove();
        held = next;
    }
    let answer = tokio::time::timeout(Duration::from_secs(10), pull).await;
    let answer = answer.unwrap_or_else(|_| panic!("more rounds: {:?}", requests(registry, names, before)));
    assert_eq!(answer.status, StatusCode::OK.as_u16(), "{}", answer.text());
    held.remove();
}

/// The requests after so many, in order of their names.
fn requests(registry: &TestRegistry, names: Names<'_>, before: usize) -> Vec<String> {
    let name = |path: &str| {
        let path = path.replace(&format!("/v2/{REPOSITORY}/"), "").replace(&format!("/v2/{HOST}/{REPOSITORY}/"), "");
        names.iter().fold(path, |path, (name, digest)| {
            path.replace(&digest.to_string(), name).replace(&attachment_tag(digest, ""), &format!("{name}-TAG"))
        })
    };
    let mut requests: Vec<_> = registry.requests().iter().skip(before).map(|request| name(&request.path)).collect();
    requests.sort();
    requests
}

/// An image that only its signature admits, pulled by its tag and in another gate by its digest.
async fn assert_rounds_of_attached(
    registry: &TestRegistry,
    make: impl Fn() -> TestGate,
    (image, signature): (&Built, &Built),
    after: &[&[&str]],
) {
    let names = [("IMAGE", image.root), ("SIGNATURE", signature.root), ("LAYER", signature.layers[0])];
    let gate = make().start().await;
    let tag: &[&str] = &["manifests/v1"];
    let by_tag = [&[tag, &PLACES[..]][..], after].concat();
    assert_rounds(registry, &gate, "v1", &names, &by_tag).await;
    gate.stop().await;
    let gate = make().start().await;
    let first = [&["manifests/IMAGE"][..], &PLACES[..]].concat();
    let by_digest = [&[&first[..]][..], after].concat();
    assert_rounds(registry, &gate, &image.root.to_string(), &names, &by_digest).await;
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_classic_signature_takes_one_round_after_the_places() {
    let registry = TestRegistry::start().await;
    let image = simple("signed");
    registry.push(REPOSITORY, Some("v1"), &image);
    let key = pullgate::sample::SigningKey::generate().expect("a key");
    let layer = key.signature(&format!("{HOST}/{REPOSITORY}"), image.root).expect("a signature");
    let signature = attachment(&[layer]);
    registry.push(REPOSITORY, Some(&attachment_tag(&image.root, ".sig")), &signature);
    let make = || {
        let made = TestGate::new(&registry, &policy("  - {name: \"*\", policy: {trust: release}}\n"));
        std::fs::write(made.path().join("policies/release.pub"), key.public_pem()).expect("a file");
        made
    };
    assert_rounds_of_attached(&registry, make, (&image, &signature), &[&["blobs/LAYER"]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_takes_two_rounds_after_the_places() {
    for has_api in [true, false] {
        let registry = TestRegistry::start().await;
        let (image, instance) = (simple("signed"), Instance::new());
        let signature = keyless::signature(&instance, &Subject::default(), &image);
        registry.push(REPOSITORY, Some("v1"), &image);
        registry.push(REPOSITORY, None, &signature);
        if !has_api {
            // What clients do at a registry without the API, such as GHCR.
            registry.push_referrers_tag(REPOSITORY, &image.root);
            registry.set_referrers_api(false);
        }
        let make = || {
            let made = TestGate::new(&registry, &keyless::keyless());
            let made = made.with("[trust]\ntrusted_roots = [\"root.json\"]");
            made.file("root.json", &instance.trusted_root().to_string())
        };
        let after: [&[&str]; 2] = [&["manifests/SIGNATURE"], &["blobs/LAYER"]];
        assert_rounds_of_attached(&registry, make, (&image, &signature), &after).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notation_signature_takes_two_rounds_after_the_places() {
    let registry = TestRegistry::start().await;
    let (image, signer) = (simple("signed"), crate::notation::Notary::new());
    let signature = signer.sign(&image, None);
    registry.push(REPOSITORY, Some("v1"), &image);
    registry.push(REPOSITORY, None, &signature);
    let names = [("IMAGE", image.root), ("SIGNATURE", signature.root), ("LAYER", signature.layers[0])];
    let places: [&str; 2] = ["referrers/IMAGE", "manifests/IMAGE-TAG"];
    let statement = crate::notation::statement("permissive");
    let gate = crate::notation::gate(&registry, &signer, &statement, "notary-project").start().await;
    let rounds: [&[&str]; 4] = [&["manifests/v1"], &places, &["manifests/SIGNATURE"], &["blobs/LAYER"]];
    assert_rounds(&registry, &gate, "v1", &names, &rounds).await;
}

/// All documents of a notary server are fetched at the same time, and then the manifest of the digest that is signed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_trust_takes_one_round_before_the_manifest() {
    let registry = TestRegistry::start().await;
    let image = simple("signed");
    registry.push(REPOSITORY, Some("v1"), &image);
    let mut repository = notary::notary();
    notary::sign(&mut repository, "v1", &image);
    repository.publish();
    repository.put(&registry);
    let documents = ["root", "timestamp", "snapshot", "targets", "targets/releases"];
    let documents = documents.map(|role| format!("_trust/tuf/{role}.json"));
    let documents: Vec<_> = documents.iter().map(String::as_str).collect();
    let names = [("IMAGE", image.root)];
    let gate = notary::gate(&registry, &repository, notary::TRUST).start().await;
    assert_rounds(&registry, &gate, "v1", &names, &[&documents, &["manifests/IMAGE"]]).await;
}

/// Places that do not answer delay no signature in another place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_place_does_not_delay_signatures_elsewhere() {
    let registry = TestRegistry::start().await;
    let (image, instance) = (simple("signed"), Instance::new());
    let signature = keyless::signature(&instance, &Subject::default(), &image);
    registry.push(REPOSITORY, Some("v1"), &image);
    registry.push(REPOSITORY, None, &referrer(&image, "a/b", &[Layer::of("a/b", "other")], &[]));
    registry.push(REPOSITORY, None, &signature);
    let made = TestGate::new(&registry, &keyless::keyless()).with("[trust]\ntrusted_roots = [\"root.json\"]");
    let gate = made.file("root.json", &instance.trusted_root().to_string()).start().await;
    let silent = ["", ".sig"].map(|suffix| {
        let tag = attachment_tag(&image.root, suffix);
        registry.inject(On::path(&format!("/v2/{REPOSITORY}/manifests/{tag}")), Fault::Gate)
    });
    let pulled = tokio::time::timeout(Duration::from_secs(10), gate.get(&format!("/{REPOSITORY}/manifests/v1"))).await;
    let pulled = pulled.expect("the signature suffices");
    assert_eq!(pulled.status, StatusCode::OK.as_u16(), "{}", pulled.text());
    silent.iter().for_each(pullgate::sample::Injected::remove);
}

/// The questions that run in parallel with the fetch of a manifest delay nothing if the manifest does not exist, and end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_about_a_manifest_that_does_not_exist_are_given_up() {
    let registry = TestRegistry::start().await;
    let absent = simple("absent");
    registry.push(REPOSITORY, Some("other"), &simple("other"));
    let gate = TestGate::new(&registry, &policy("  - {name: \"*\", policy: {trust: release}}\n")).start().await;
    let held = registry.inject(On::path(&format!("/v2/{REPOSITORY}/referrers/*")), Fault::Gate);
    let manifest = registry.inject(On::path(&format!("/v2/{REPOSITORY}/manifests/sha256:*")), Fault::Gate);
    let path = format!("/{REPOSITORY}/manifests/{}", absent.root);
    let beside = async {
        tokio::join!(held.wait_for_hits(1), manifest.wait_for_hits(1));
        manifest.remove();
    };
    let (pulled, ()) = soon(async { tokio::join!(gate.get(&path), beside) }).await;
    assert_eq!(pulled.status, StatusCode::NOT_FOUND.as_u16(), "{}", pulled.text());
    // A question that went on would delay the stop.
    let begun = std::time::Instant::now();
    gate.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    held.remove();
}
