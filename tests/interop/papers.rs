//! Every command of the README and of the pages in docs/tasks, run as it is written.
//!
//! A page is followed on a [`Machine`] that has only the program. Addresses differ from the page, because ports are chosen
//! by the system and the registry is a sample. docs/air-gap.md is followed by the module `airgap`.

mod nodes;
mod operator;
mod readme;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pullgate::oci::Digest;
use pullgate::runtime::Tasks;
use pullgate::sample::image::{Image, Layer, Tree};
use pullgate::sample::{Listening, Registry, SigningKey};
use tokio::runtime::Runtime;

use crate::harness::{Machine, blocks};

/// The gate of the pages.
const CONFIGURATION: &str = "gate/pullgate.toml";
/// The signed image of the pages.
const SIGNED: &str = "http://127.0.0.1:5000/v2/registry.acme.com/shop/app/manifests/v1";
/// The other one.
const UNSIGNED: &str = "http://127.0.0.1:5000/v2/registry.acme.com/shop/app/manifests/unsigned";

/// The example of docs/tasks/README.md: a machine, and a registry elsewhere with two images.
struct Shop {
    machine: Machine,
    elsewhere: Elsewhere,
}

/// The registry of the example.
struct Elsewhere {
    listening: Option<Listening>,
    runtime: Runtime,
    /// The digest of `shop/app:v1`.
    signed: Digest,
}

impl Elsewhere {
    fn new() -> (Self, String) {
        let runtime = Runtime::new().expect("a runtime");
        let registry = Registry::new();
        let image = |content: &'static str| {
            let layer = Layer::gzip(&Tree::new().file("srv/content", content));
            Image::linux_amd64().layer(layer).build()
        };
        let (signed, unsigned) = (image("signed"), image("unsigned"));
        registry.push("shop/app", Some("v1"), &signed);
        registry.push("shop/app", Some("unsigned"), &unsigned);
        let key = SigningKey::generate().expect("a key");
        key.sign(&registry, "shop/app", "registry.acme.com/shop/app", signed.root).expect("it is signed");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listening = runtime.block_on(registry.bind(address, &Tasks::new())).expect("a free port");
        (Self { listening: Some(listening), runtime, signed: signed.root }, key.public_pem())
    }

    fn url(&self) -> String {
        self.listening.as_ref().expect("it runs").url()
    }

    /// The registry fails.
    fn fail(&mut self) {
        self.runtime.block_on(self.listening.take().expect("it runs").stop());
    }
}

impl Shop {
    /// The example before its gate is started.
    fn new() -> Self {
        let mut machine = Machine::new();
        let (elsewhere, public_key) = Elsewhere::new();
        let (gate, admin) = (machine.reserve(), machine.reserve());
        machine.replace("127.0.0.1:5000", gate);
        machine.replace("127.0.0.1:5001", admin.clone());
        machine.set("PULLGATE__ADMIN__ADDRESS", &admin);
        let url = elsewhere.url();
        machine.replace("at https://registry.acme.com", format!("at {url}"));
        let host = "host = \"registry.acme.com\"";
        machine.replace(host, format!("{host}\nurl = \"{url}\""));
        machine.write("cosign.pub", &public_key);
        let mut walk = machine.walk("docs/tasks/README.md");
        let configuration = walk.take("toml").text;
        walk.machine.write(CONFIGURATION, &configuration);
        Self { machine, elsewhere }
    }

    /// The example.
    fn open() -> Self {
        let mut shop = Self::new();
        let mut walk = shop.machine.walk("docs/tasks/README.md");
        walk.take("toml");
        walk.finish();
        shop
    }

    /// The example, which admits all images.
    fn admitting() -> Self {
        let shop = Self::open();
        let policy = "apiVersion: pullgate.io/v1
kind: ClusterImagePolicy
metadata: {name: everything}
spec:
  repositories: [{name: \"*\", policy: {}}]
";
        shop.machine.write("gate/policies/everything.yaml", policy);
        shop.machine.reload();
        shop
    }

    /// Writes the policy of the page about signatures.
    fn require_signatures(&mut self) {
        let mut walk = self.machine.walk("docs/tasks/require-signatures.md");
        let policy = walk.take_with("sh", "signed.yaml");
        walk.run(&policy);
    }
}

/// The status of a GET.
fn status(machine: &Machine, url: &str) -> String {
    machine.sh(&format!("curl -s -o /dev/null -w '%{{http_code}}' {url}")).text()
}

/// All pages of the project that readers follow.
fn pages() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    let mut folders = vec![PathBuf::from("docs"), PathBuf::from("deploy"), PathBuf::from("certs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).expect("a directory") {
            let entry = entry.expect("an entry");
            let path = folder.join(entry.file_name());
            match path.extension() {
                _ if entry.path().is_dir() => folders.push(path),
                Some(extension) if extension == "md" => pages.push(path.display().to_string()),
                _ => (),
            }
        }
    }
    pages.extend(["README.md", "CONTRIBUTING.md"].map(str::to_owned));
    pages
}

/// The convention of `harness::paper` holds for every page, whether a test follows it or not.
#[test]
fn every_block_of_the_papers_says_what_it_is() {
    const FILES: [&str; 6] = ["toml", "yaml", "json", "http", "ini", "caddyfile"];
    let pages = pages();
    assert!(pages.len() > 30 && pages.iter().any(|page| page == "docs/tasks/upgrade.md"), "{pages:?}");
    for page in pages {
        for block in blocks(&page) {
            let known = ["sh", "console", "elsewhere", "text"].contains(&&*block.kind) || FILES.contains(&&*block.kind);
            assert!(known, "{page}:{}: `{}` is not a kind of block", block.line, block.kind);
            let begins = block.text.starts_with("$ ") || block.text.starts_with("# ");
            let is_session = block.kind == "console";
            assert!(!is_session || begins, "{page}:{}: a `console` block begins with a command", block.line);
            let hidden = block.kind == "text" && block.text.lines().any(|line| line.starts_with("$ "));
            assert!(!hidden, "{page}:{}: `text` is only shown; write `console`", block.line);
        }
    }
}

/// Each page that docs/tasks/README.md lists has a test here, which its file names.
#[test]
fn every_task_is_followed_by_a_test() {
    let text = |file: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a file");
    let index = text("docs/tasks/README.md");
    let links = index.lines().filter(|line| line.starts_with("| ") && line.contains("](")).map(|line| {
        let link = line.split("](").nth(1).and_then(|rest| rest.split(')').next()).expect("a link");
        link.strip_prefix("../").map_or_else(|| format!("docs/tasks/{link}"), |link| format!("docs/{link}"))
    });
    let tests = ["airgap.rs", "papers.rs", "papers/nodes.rs", "papers/operator.rs"];
    let tests: String = tests.map(|file| text(&format!("tests/interop/{file}"))).concat();
    let links: Vec<String> = links.collect();
    assert_eq!(links.len(), 13, "{links:?}");
    for page in links {
        assert!(tests.contains(&format!("(\"{page}\")")), "no test follows {page}");
    }
}
