//! The OCI distribution specification's own suite, its read half, through the gate.

use std::net::SocketAddr;
use std::path::Path;

use pullgate::runtime::Tasks;
use serde_json::{Value, json};

use crate::harness::{Finished, Gate, GateConfig, Program, Registry, UPSTREAM, Variant};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const REPOSITORY: &str = "conformance/app";

/// The tests of the suite that read, below its name, with how often each is run for what [`Content::push`] pushes.
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

/// How the suite begins every name.
const SUITE: &str = "OCI Conformance Test/";

/// The project's own sample registry: neither of the programs that serve as registries here has the referrers API.
#[test]
fn before_a_registry_with_the_referrers_api_and_without_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let registry = pullgate::sample::Registry::new();
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let listening = runtime.block_on(registry.bind(address, &Tasks::new())).expect("a free port");
    let content = Content::push(&registry);
    assert_conforms(dir.path(), &listening.url(), &content, &[]);
    // The same registry as it would be without the API: then the referrers tag alone says what refers to the image.
    registry.set_referrers_api(false);
    content.push_referrers_tag(&registry);
    let dir = tempfile::tempdir().expect("a temporary directory");
    assert_conforms(dir.path(), &listening.url(), &content, &[]);
}

/// A registry that conforms less itself.
#[test]
fn before_an_old_registry() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let registry = Registry::start("upstream", Variant::Plain, dir.path(), &dir.path().join("storage"));
    // Version 2.8 gives all tags whatever `last` says. Pages are the upstream's: only it knows their order.
    let (url, upstream_fails) = (registry.url(), ["read-only/tag-list"]);
    let content = Content::push(&registry);
    content.push_referrers_tag(&registry);
    assert_conforms(dir.path(), &url, &content, &upstream_fails);
}

/// Everything passes, but for what the upstream itself, asked directly, fails in the same way.
#[track_caller]
fn assert_conforms(dir: &Path, upstream: &str, content: &Content, upstream_fails: &[&str]) {
    let gate = gate(dir, upstream);
    let listed = curl(dir, &[&format!("{}/v2/{UPSTREAM}/{REPOSITORY}/referrers/{}", gate.url(), content.subject)]);
    let listed: Value = serde_json::from_slice(&listed.bytes()).expect("a list of referrers");
    assert_eq!(listed["manifests"][0]["digest"], content.referrer["digest"], "the suite is given something to find");
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

/// Names and results of the tests without parts, from what the suite shows.
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

/// What the suite is told to look for.
struct Content {
    subject: String,
    /// The descriptor of what refers to the subject.
    referrer: Value,
    manifests: Vec<String>,
    blobs: Vec<String>,
}

impl Content {
    /// An image with two tags, an index of it, and an artifact that refers to it.
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

    /// Lists the referrer where clients look for it without the API.
    fn push_referrers_tag(&self, to: &impl Store) {
        let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [self.referrer]});
        to.manifest(&self.subject.replace(':', "-"), INDEX, &list);
    }

    /// Runs the suite. Its exit code says nothing: without pushing it ends in a panic after it has shown its results.
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

/// A manifest's descriptor, from its digest and text.
fn descriptor((digest, text): &(String, String)) -> Value {
    let body: Value = serde_json::from_str(text).expect("a manifest");
    json!({"mediaType": body["mediaType"], "digest": digest, "size": text.len()})
}

/// Something that takes content in.
trait Store {
    /// Takes a blob in; its digest.
    fn blob(&self, text: &str) -> String;

    /// Takes a manifest in under a tag; its digest.
    fn manifest_text(&self, tag: &str, media_type: &str, text: &str) -> String;

    /// The same, from JSON; its digest and text.
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
