//! Attestations that cosign makes: the gate judges their signer, type, age and content.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Key, SignatureFormat, cosign, manifest};
use crate::harness::{Gate, GateConfig, Image, Program, Registry, UPSTREAM, Variant};

const VULN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";
const BUILD_TYPE: &str = "https://acme.example/build/v1";

/// What each repository requires. All attestations must be made with one key.
const SPEC: &str = r#"  authorities:
  - name: provenance
    cosign: {key: {file: release.pub}, attestation: {predicateType: "https://slsa.dev/provenance/v1"}}
  - name: build
    cosign:
      key: {file: release.pub}
      attestation:
        predicateType: "https://slsa.dev/provenance/v1"
        condition: |
          predicate.buildDefinition.buildType == "https://acme.example/build/v1" &&
          predicate.runDetails.builder.id.startsWith("https://acme.example/") &&
          subject.digest.sha256.size() == 64
  - name: scanned
    cosign:
      key: {file: release.pub}
      attestation: {predicateType: "https://cosign.sigstore.dev/attestation/vuln/v1", maxAge: 7d}
  - name: reviewed
    cosign:
      key: {file: release.pub}
      attestation: {predicateType: "https://acme.example/review/v1", condition: "predicate.reviewers.exists(r, r == 'alice')"}
  repositories:
  - {name: "registry.test/provenance/*", policy: {trust: provenance}}
  - {name: "registry.test/build/*", policy: {trust: build}}
  - {name: "registry.test/scanned/*", policy: {trust: scanned}}
  - {name: "registry.test/reviewed/*", policy: {trust: reviewed}}
  - {name: "registry.test/all/*", policy: {trust: {allOf: [build, scanned, reviewed]}}}
"#;

/// A registry, a gate in front of it, and the key of the policy.
struct Attested {
    gate: Gate,
    store: Registry,
    key: Key,
    dir: TempDir,
}

impl Attested {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Registry::start("store", Variant::Plain, dir.path(), &dir.path().join("storage"));
        fs::create_dir_all(dir.path().join("policies")).expect("the folder of policies");
        let key = Key::generate(&dir.path().join("policies"), "release");
        let gate = GateConfig::default().upstream(UPSTREAM, &store, "").policy("interop", SPEC).start(dir.path());
        Self { gate, store, key, dir }
    }

    fn push(&self, repository: &str) -> Image {
        Image::push(&self.store, self.dir.path(), repository, "1")
    }

    /// Attests a predicate with a key, without any online service.
    fn attest_by(&self, key: &Key, image: &Image, kind: &str, predicate: &Value, form: SignatureFormat) {
        let file = self.dir.path().join("predicate.json");
        fs::write(&file, predicate.to_string()).expect("a predicate");
        let reference = format!("{}/{}@{}", self.store.address(), image.repository, image.digest);
        let offline = ["--yes", "--tlog-upload=false", "--use-signing-config=false", form.flag(), "--type", kind];
        let files = ["--key".as_ref(), key.private.as_os_str(), "--predicate".as_ref(), file.as_os_str()];
        cosign(self.dir.path()).args(["attest"]).args(offline).args(files).args([reference]).run().bytes();
    }

    fn attest(&self, image: &Image, kind: &str, predicate: &Value, form: SignatureFormat) {
        self.attest_by(&self.key, image, kind, predicate, form);
    }

    #[track_caller]
    fn admits(&self, image: &Image) {
        let (status, body) = manifest(&self.gate, self.dir.path(), image);
        assert_eq!(status, "200", "{}: {body}", image.name());
    }

    #[track_caller]
    fn denies(&self, image: &Image, part: &str) {
        let (status, body) = manifest(&self.gate, self.dir.path(), image);
        assert!(status == "403" && body.contains(part), "{}: {part}: {status} {body}", image.name());
    }

    /// The time some days ago.
    fn days_ago(&self, days: u32) -> String {
        let ago = format!("--date={days} days ago");
        Program::new("date", self.dir.path()).args(["--utc", &ago, "+%Y-%m-%dT%H:%M:%SZ"]).run().text()
    }
}

fn provenance(build_type: &str) -> Value {
    json!({
        "buildDefinition": {
            "buildType": build_type, "externalParameters": {"ref": "refs/heads/main"}, "internalParameters": {},
            "resolvedDependencies": []
        },
        "runDetails": {"builder": {"id": "https://acme.example/builder"}, "metadata": {"invocationId": "1"}}
    })
}

fn scan(finished: &str) -> Value {
    json!({
        "invocation": {"parameters": [], "uri": "", "event_id": "", "builder.id": ""},
        "scanner": {"uri": "https://acme.example/scanner", "version": "1", "db": {"uri": "", "version": ""}, "result": {}},
        "metadata": {"scanStartedOn": finished, "scanFinishedOn": finished}
    })
}

#[test]
fn attestations_are_found_in_both_forms() {
    let world = Attested::new();
    for (form, repository) in
        [(SignatureFormat::Classic, "provenance/classic"), (SignatureFormat::Bundle, "provenance/bundle")]
    {
        let image = world.push(repository);
        world.attest(&image, "slsaprovenance1", &provenance(BUILD_TYPE), form);
        world.admits(&image);
    }
    world.denies(&world.push("provenance/nothing"), "not signed");
}

/// The type and the signer of an attestation both count, and a signature is not an attestation.
#[test]
fn attestations_of_other_types_and_signers_do_not_count() {
    let world = Attested::new();
    let stranger = Key::generate(world.dir.path(), "stranger");
    for form in [SignatureFormat::Classic, SignatureFormat::Bundle] {
        let name = |what: &str| format!("provenance/{what}{}", form.flag().len());
        let image = world.push(&name("type"));
        world.attest(&image, "vuln", &scan(&world.days_ago(0)), form);
        world.denies(&image, &format!("is an attestation of \\\"{VULN}\\\""));
        let image = world.push(&name("stranger"));
        world.attest_by(&stranger, &image, "slsaprovenance1", &provenance(BUILD_TYPE), form);
        world.denies(&image, "was not made by");
        let image = world.push(&name("signed"));
        world.key.sign(world.dir.path(), world.store.address(), &image, form);
        world.denies(&image, "provenance: ");
    }
}

#[test]
fn conditions_judge_cosigns_attestations() {
    let world = Attested::new();
    for form in [SignatureFormat::Classic, SignatureFormat::Bundle] {
        let name = |what: &str| format!("{what}{}", form.flag().len());
        let image = world.push(&name("build/good"));
        world.attest(&image, "slsaprovenance1", &provenance(BUILD_TYPE), form);
        world.admits(&image);
        let image = world.push(&name("build/other"));
        world.attest(&image, "slsaprovenance1", &provenance("https://acme.example/build/v2"), form);
        world.denies(&image, "does not meet the condition");
        let image = world.push(&name("reviewed/good"));
        world.attest(&image, "https://acme.example/review/v1", &json!({"reviewers": ["bob", "alice"]}), form);
        world.admits(&image);
        let image = world.push(&name("reviewed/nobody"));
        world.attest(&image, "https://acme.example/review/v1", &json!({"reviewers": ["bob"]}), form);
        world.denies(&image, "does not meet the condition");
    }
}

#[test]
fn attestations_that_are_too_old_do_not_count() {
    let world = Attested::new();
    let (fresh, old) = (world.push("scanned/fresh"), world.push("scanned/old"));
    world.attest(&fresh, "vuln", &scan(&world.days_ago(6)), SignatureFormat::Bundle);
    world.admits(&fresh);
    world.attest(&old, "vuln", &scan(&world.days_ago(8)), SignatureFormat::Classic);
    world.denies(&old, "is too old: it was made at");
}

/// One key makes three attestations of one image, in both forms. A large one is read too.
#[test]
fn one_image_can_have_attestations_of_several_types() {
    let world = Attested::new();
    let image = world.push("all/app");
    world.attest(&image, "vuln", &scan(&world.days_ago(0)), SignatureFormat::Classic);
    world.attest(&image, "https://acme.example/review/v1", &json!({"reviewers": ["alice"]}), SignatureFormat::Bundle);
    let mut large = provenance(BUILD_TYPE);
    let dependency =
        |number: u32| json!({"uri": format!("pkg:generic/package-{number}"), "digest": {"sha256": "0".repeat(64)}});
    large["buildDefinition"]["resolvedDependencies"] = (0..16_000).map(dependency).collect();
    assert!(large.to_string().len() > 1 << 20, "larger than any signature");
    world.attest(&image, "slsaprovenance1", &large, SignatureFormat::Bundle);
    world.admits(&image);
}
