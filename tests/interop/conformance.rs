//! The pull tests of the OCI distribution specification's conformance suite, run through the gate.

use std::net::SocketAddr;
use std::path::Path;

use pullgate::runtime::Tasks;
use serde_json::{Value, json};

use crate::harness::{Finished, Gate, GateConfig, Program, Registry, UPSTREAM, Variant};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const REPOSITORY: &str = "conformance/app";

/// The suite's pull tests, and how often each runs for the content that [`Content::push`] pushes.
const READS: [(&str, usize); 14] = [
    ("ping", 1),
    ("empty/tag list", 1),
    ("empty/referrers", 1),
    ("read-only/tag-list", 1),
    ("read-only/head/manifest-head-by-tag", 4),
    ("read-only/head/manifest-head-by-digest", 3),
    ("read-only/head/blob-head", 4),
    ("read-only/pull/manifest-by-tag", 4),
    ("read-only/pull/manifest-by-digest", 3),
    ("read-only/pull/blob-get", 4),
    ("read-only/referrers", 1),
    ("missing-manifest/by-digest", 1),
    ("missing-manifest/by-tag", 1),
    ("invalid-digest-format/manifest-get", 1),
];

/// The prefix of every test name.
const SUITE: &str = "OCI Conformance Test/";

/// With the project's sample registry, because neither of the other registries used here has the referrers API.
#[test]
fn with_and_without_the_referrers_api() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let registry = pullgate::sample::Registry::new();
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let listening = runtime.block_on(registry.bind(address, &Tasks::new())).expect("a free port");
    let content = Content::push(&registry);
    assert_conforms(dir.path(), &listening.url(), &content, &[]);
    // The same registry without the API: only the referrers tag then lists the image's referrers.
    registry.set_referrers_api(false);
    content.push_referrers_tag(&registry);
    let dir = tempfile::tempdir().expect("a temporary directory");
    assert_conforms(dir.path(), &listening.url(), &content, &[]);
}

/// With a registry that is itself less conformant.
#[test]
fn with_an_old_registry() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let registry = Registry::start("upstream", Variant::Plain, dir.path(), &dir.path().join("storage"));
    // Version 2.8 returns all tags whatever `last` is. Pages are the upstream's: only it knows their order.
    let (url, upstream_fails) = (registry.url(), ["read-only/tag-list"]);
    let content = Content::push(&registry);
    content.push_referrers_tag(&registry);
    assert_conforms(dir.path(), &url, &content, &upstream_fails);
}

/// All tests pass, except those that fail in the same way directly against the upstream.
#[track_caller]
fn assert_conforms(dir: &Path, upstream: &str, content: &Content, upstream_fails: &[&str]) {
    let gate = gate(dir, upstream);
    let listed = curl(dir, &[&format!("{}/v2/{UPSTREAM}/{REPOSITORY}/referrers/{}", gate.url(), content.subject)]);
    let listed: Value = serde_json::from_slice(&listed.bytes()).expect("a list of referrers");
    assert_eq!(listed["manifests"][0]["digest"], content.referrer["digest"], "the suite needs a referrer to find");
    let results = content.check(dir, gate.address(), &format!("{UPSTREAM}/{REPOSITORY}"));
    let of = |results: &[(String, String)], name: &str, wanted: &str| {
        results.iter().filter(|(known, result)| known == name && result == wanted).count()
    };
    for (name, times) in READS.iter().filter(|(name, _)| !upstream_fails.contains(name)) {
        assert_eq!(of(&results, name, "Pass"), *times, "{name}: {results:#?}");
    }
    let failed = results.iter().filter(|(_, result)| result != "Pass" && result != "Disabled");
    assert_eq!(failed.map(|(name, _)| &**name).collect::<Vec<_>>(), upstream_fails, "{results:#?}");
    if !upstream_fails.is_empty() {
        let direct = content.check(dir, upstream.trim_start_matches("http://"), REPOSITORY);
        assert!(upstream_fails.iter().all(|name| of(&direct, name, "FAIL") > 0), "{direct:#?}");
    }
}

/// Extracts the names and results of tests without subtests from the suite's output.
fn outcomes(output: &str) -> Vec<(String, String)> {
    let (results, _) = output.split_once("Configuration:").unwrap_or_else(|| panic!("no results:\n{output}"));
    let lines = results.lines().filter_map(|line| line.trim().strip_prefix(SUITE)?.rsplit_once(": "));
    let all: Vec<(String, String)> = lines.map(|(name, result)| (name.to_owned(), result.to_owned())).collect();
    let is_part = |name: &str, of: &str| name.strip_prefix(of).is_some_and(|rest| rest.starts_with('/'));
    let leaves = all.iter().filter(|(name, _)| !all.iter().any(|(other, _)| is_part(other, name)));
    leaves.cloned().collect()
}

fn gate(dir: &Path, upstream: &str) -> Gate {
    let upstreams = format!("[[upstream]]\nhost = \"{UPSTREAM}\"\nurl = \"{upstream}\"\n");
    let rules = format!("  repositories:\n  - name: \"{UPSTREAM}/*\"\n    policy: {{}}\n");
    GateConfig { upstreams, ..GateConfig::default() }.policy("conformance", &rules).start(dir)
}

/// The content that the suite looks for.
struct Content {
    subject: String,
    /// The descriptor of the referrer.
    referrer: Value,
    manifests: Vec<String>,
    blobs: Vec<String>,
}

impl Content {
    /// An image with two tags, an index that lists it, and an artifact that refers to it.
    fn push(to: &impl Store) -> Self {
        let blob = |text: &str| json!({"mediaType": "text/plain", "digest": to.blob(text), "size": text.len()});
        let (config, layer, note) = (blob("{\"os\":\"linux\"}"), blob("a layer"), blob("a note"));
        let empty = json!({"mediaType": EMPTY, "digest": to.blob("{}"), "size": 2});
        let mut image = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        image["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
        image["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
        let image = to.manifest("v1", MANIFEST, &image);
        to.manifest_text("v2", MANIFEST, &image.1);
        let subject = image.0.clone();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(&image)]});
        let index = to.manifest("index", INDEX, &index);
        let note_type = "application/vnd.example.note";
        let artifact = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": note_type, "config": empty,
            "layers": [note], "subject": descriptor(&image)});
        let artifact = to.manifest("note", MANIFEST, &artifact);
        let mut referrer = descriptor(&artifact);
        referrer["artifactType"] = note_type.into();
        let blobs = [&config, &layer, &note, &empty].map(|blob| blob["digest"].as_str().expect("a digest").to_owned());
        Self { subject, referrer, manifests: vec![image.0, index.0, artifact.0], blobs: blobs.into() }
    }

    /// Lists the referrer where clients look without the API.
    fn push_referrers_tag(&self, to: &impl Store) {
        let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [self.referrer]});
        to.manifest(&self.subject.replace(':', "-"), INDEX, &list);
    }

    /// Runs the suite. Its exit code is meaningless: without push tests it panics after printing its results.
    fn check(&self, dir: &Path, registry: &str, repository: &str) -> Vec<(String, String)> {
        let finished = Program::new("conformance", dir)
            .env("OCI_REGISTRY", registry)
            .env("OCI_TLS", "disabled")
            .env("OCI_REPO1", repository)
            .env("OCI_REPO2", repository)
            .env("OCI_RESULTS_DIR", dir.join("results"))
            .env("OCI_API_PUSH", "false")
            .env("OCI_API_BLOBS_DELETE", "false")
            .env("OCI_API_MANIFESTS_DELETE", "false")
            .env("OCI_API_TAGS_DELETE", "false")
            .env("OCI_RO_DATA_TAGS", "v1 v2 index note")
            .env("OCI_RO_DATA_MANIFESTS", self.manifests.join(" "))
            .env("OCI_RO_DATA_BLOBS", self.blobs.join(" "))
            .env("OCI_RO_DATA_REFERRERS", &self.subject)
            .run();
        outcomes(&String::from_utf8(finished.into_stdout()).expect("text"))
    }
}

/// The descriptor of a manifest, from its digest and text.
fn descriptor((digest, text): &(String, String)) -> Value {
    let body: Value = serde_json::from_str(text).expect("a manifest");
    json!({"mediaType": body["mediaType"], "digest": digest, "size": text.len()})
}

/// A registry that accepts content.
trait Store {
    /// Stores a blob, and returns its digest.
    fn blob(&self, text: &str) -> String;

    /// Stores a manifest under a tag, and returns its digest.
    fn manifest_text(&self, tag: &str, media_type: &str, text: &str) -> String;

    /// The same from JSON; returns its digest and text.
    fn manifest(&self, tag: &str, media_type: &str, body: &Value) -> (String, String) {
        let text = body.to_string();
        (self.manifest_text(tag, media_type, &text), text)
    }
}

impl Store for pullgate::sample::Registry {
    fn blob(&self, text: &str) -> String {
        self.put_blob(REPOSITORY, text.to_owned()).to_string()
    }

    fn manifest_text(&self, tag: &str, media_type: &str, text: &str) -> String {
        self.put_manifest(REPOSITORY, Some(tag), media_type, text.to_owned()).to_string()
    }
}

impl Store for Registry {
    fn blob(&self, text: &str) -> String {
        self.put_blob(REPOSITORY, text.as_bytes())
    }

    fn manifest_text(&self, tag: &str, media_type: &str, text: &str) -> String {
        self.put_manifest(REPOSITORY, tag, media_type, text.as_bytes())
    }
}

fn curl(home: &Path, arguments: &[&str]) -> Finished {
    Program::new("curl", home).args(["--silent", "--show-error", "--fail"]).args(arguments).run()
}
