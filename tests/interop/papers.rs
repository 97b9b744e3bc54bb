//! Every command of the pages, run as it is written.
//!
//! A page is followed on a [`Machine`] that has only the program. Addresses differ from the page, because ports are chosen
//! by the system and the registry is a sample. docs/air-gap.md is followed by the module `airgap`.

mod deployment;
mod nodes;
mod operator;
mod readme;
mod scanning;
mod signing;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pullgate::oci::Digest;
use pullgate::runtime::Tasks;
use pullgate::sample::image::{Built, Image, Layer, Tree};
use pullgate::sample::{Listening, Registry, SigningKey};
use tokio::runtime::Runtime;

use crate::harness::{Machine, blocks};

/// The gate of the pages.
const CONFIGURATION: &str = "gate/pullgate.toml";
/// The gate of the pages outside of docs/tasks.
const OTHER_CONFIGURATION: &str = "pullgate.toml";
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
    registry: Registry,
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
        (Self { registry, listening: Some(listening), runtime, signed: signed.root }, key.public_pem())
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

    /// A machine for pages outside of docs/tasks, with a configuration and images of Docker Hub.
    fn with_configuration() -> Self {
        let mut shop = Self::new();
        for (repository, tag) in [("nginx", "1.27"), ("nginx", "latest"), ("redis", "7"), ("tomcat", "10")] {
            shop.elsewhere.registry.push(&format!("library/{repository}"), Some(tag), &debian());
        }
        let url = shop.elsewhere.url();
        shop.machine.replace("https://registry-1.docker.io", url);
        let configuration = "state_dir = \"state\"

[[listener]]
address = \"127.0.0.1:5000\"

[policy]
dir = \"policies\"

[[upstream]]
host = \"docker.io\"
url = \"https://registry-1.docker.io\"
";
        shop.machine.write(OTHER_CONFIGURATION, configuration);
        shop.machine.write("policies/scanned.yaml", SCANNED);
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

/// A policy that looks for vulnerabilities, and admits the images of these tests.
const SCANNED: &str = "apiVersion: pullgate.io/v1
kind: ClusterImagePolicy
metadata: {name: scanned}
spec:
  repositories: [{name: \"*\", policy: {va: {severity: critical, unscanned: allow}}}]
";

/// An image of Debian with one package.
fn debian() -> Built {
    let package = "Package: openssl\nStatus: install ok installed\nMaintainer: Debian <openssl@debian.org>\n\
                   Architecture: amd64\nVersion: 3.0.11-1\nDescription: TLS\n";
    let tree = Tree::new()
        .file("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n")
        .file("var/lib/dpkg/status", package);
    Image::linux_amd64().layer(Layer::gzip(&tree)).build()
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

/// The tests of this suite.
fn tests() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let papers = fs::read_dir(folder.join("papers")).expect("a directory");
    let papers = papers.map(|entry| entry.expect("an entry").path());
    let files = papers.chain([folder.join("airgap.rs"), folder.join("papers.rs")]);
    files.map(|file| fs::read_to_string(file).expect("a file")).collect()
}

/// Each page that docs/tasks/README.md lists has a test here, which its file names.
#[test]
fn every_task_is_followed_by_a_test() {
    let index = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tasks/README.md");
    let index = fs::read_to_string(index).expect("a file");
    let links = index.lines().filter(|line| line.starts_with("| ") && line.contains("](")).map(|line| {
        let link = line.split("](").nth(1).and_then(|rest| rest.split(')').next()).expect("a link");
        link.strip_prefix("../").map_or_else(|| format!("docs/tasks/{link}"), |link| format!("docs/{link}"))
    });
    let (tests, links) = (tests(), links.collect::<Vec<_>>());
    assert_eq!(links.len(), 13, "{links:?}");
    for page in links {
        assert!(tests.contains(&format!("(\"{page}\")")), "no test follows {page}");
    }
}

/// Pages whose commands cannot be run here.
const NOT_FOLLOWED: [(&str, &str); 2] = [
    ("CONTRIBUTING.md", "it builds the program and runs the tests"),
    ("deploy/helm/pullgate/README.md", "it needs a cluster; the suite `deploy` has the chart rendered"),
];

#[test]
fn every_page_with_commands_is_followed_by_a_test() {
    let tests = tests();
    let mut followed = 0;
    for page in pages() {
        let is_followed = tests.contains(&format!("walk(\"{page}\")"));
        let commands = blocks(&page).iter().any(|block| ["sh", "console", "elsewhere"].contains(&&*block.kind));
        match NOT_FOLLOWED.iter().find(|(name, _)| *name == page) {
            Some((_, why)) => assert!(commands && !is_followed, "{page} is in the list: {why}"),
            None => assert!(!commands || is_followed, "no test follows {page}, which has commands"),
        }
        followed += usize::from(commands && is_followed);
    }
    assert!(followed > 20, "{followed}");
}
