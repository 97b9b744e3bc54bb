//! The scanner against the package managers: what they list in a root file system is what `pullgate va` lists in an image of
//! it, and each vulnerability that OSV's records state for these packages is found, and no other.
//!
//! Everything is installed by the real programs at test time. `tests/run --long` also reads whole Debian systems.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Image, Program, Registry, UPSTREAM, Variant, program};

mod advisories;
mod languages;
mod layers;
mod system;

/// A registry for images, and a configuration with which they are scanned.
struct Lab {
    registry: Registry,
    dir: TempDir,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let registry = Registry::start("registry", Variant::Plain, dir.path(), &dir.path().join("storage"));
        let policies = dir.path().join("policies");
        fs::create_dir(&policies).expect("the policy directory");
        let policy = "apiVersion: pullgate.io/v1
kind: ClusterImagePolicy
metadata: {name: interop}
spec:
  repositories:
  - name: \"*\"
    policy: {va: {severity: low}}
";
        fs::write(policies.join("interop.yaml"), policy).expect("the policy");
        let configuration = format!(
            "state_dir = \"{path}/state\"
[[listener]]
address = \"127.0.0.1:0\"
[admin]
address = \"127.0.0.1:0\"
[policy]
dir = \"{path}/policies\"
[[upstream]]
host = \"{UPSTREAM}\"
url = \"{url}\"
",
            path = dir.path().display(),
            url = registry.url()
        );
        fs::write(dir.path().join("pullgate.toml"), configuration).expect("the configuration");
        Self { registry, dir }
    }

    /// Creates a directory that is removed with the lab.
    fn new_dir(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).expect("a directory");
        path
    }

    /// Runs a script of `sh` in a directory, and returns its output. Compilers and installers use this user's caches.
    #[track_caller]
    fn shell(&self, dir: &Path, script: &str) -> String {
        let home = std::env::var("HOME").unwrap_or_default();
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin");
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
        let script = format!("cd '{}'\n{script}", dir.display());
        Program::new("sh", self.dir.path()).env("HOME", home).env("PATH", path).args(["-euc", &script]).run().text()
    }

    /// Pushes an image whose layers are these directories and tar files, and scans it.
    #[track_caller]
    fn scan(&self, repository: &str, layers: &[&Path]) -> Scan {
        let tars: Vec<String> =
            layers.iter().enumerate().map(|(index, layer)| self.tar(repository, index, layer)).collect();
        let tars: Vec<&str> = tars.iter().map(String::as_str).collect();
        Image::push_layers(&self.registry, self.dir.path(), repository, "1", &tars);
        self.scan_pushed(repository)
    }

    fn tar(&self, repository: &str, index: usize, layer: &Path) -> String {
        if layer.is_file() {
            return layer.to_str().expect("a path in UTF-8").to_owned();
        }
        let tar = format!("{}/{}-{index}.tar", self.dir.path().display(), repository.replace('/', "-"));
        let options = ["--create", "--numeric-owner", "--exclude=./proc/*", "--exclude=./sys/*", "--exclude=./dev/*"];
        let files = ["--directory".as_ref(), layer.as_os_str(), "--file".as_ref(), tar.as_ref(), ".".as_ref()];
        Program::new("tar", self.dir.path()).args(options).args(files).run().bytes();
        tar
    }

    /// Scans an image that has been pushed.
    #[track_caller]
    fn scan_pushed(&self, repository: &str) -> Scan {
        let image = format!("{UPSTREAM}/{repository}:1");
        // It fails if policy forbids a vulnerability.
        let output = self.pullgate(&["va", &image, "--offline", "--output", "json"]).into_stdout();
        let scans: Value = serde_json::from_slice(&output).expect("a scan");
        Scan(scans[0].clone())
    }

    /// Runs pullgate with the lab's configuration.
    fn pullgate(&self, arguments: &[&str]) -> crate::harness::Finished {
        let configuration = self.dir.path().join("pullgate.toml");
        let configuration = ["--config".as_ref(), configuration.as_os_str()];
        Program::new(&program(), self.dir.path()).args(arguments).args(configuration).run()
    }
}

/// What `pullgate va --output json` says about an image.
struct Scan(Value);

impl Scan {
    /// The packages of an ecosystem, each as the values of these fields; `source.name` is a field of a field.
    fn rows(&self, ecosystem: &str, fields: &[&str]) -> Vec<String> {
        let packages = self.0["packages"].as_array().expect("packages").iter();
        let value = |package: &Value, field: &str| {
            let found = field.split('.').fold(package, |value, name| &value[name]);
            found.as_str().unwrap_or_default().to_owned()
        };
        let row = |package: &Value| fields.iter().map(|field| value(package, field)).collect::<Vec<_>>().join(" ");
        let mut rows: Vec<String> = packages.filter(|package| package["ecosystem"] == ecosystem).map(row).collect();
        rows.sort();
        rows
    }

    /// Everything could be read.
    #[track_caller]
    fn assert_complete(&self) {
        assert_eq!(self.0["gaps"], serde_json::json!([]));
    }
}

/// The lines of a program's output in order.
fn sorted(lines: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.into_iter().collect();
    lines.sort();
    lines
}

/// The different ones among these.
fn distinct(lines: Vec<String>) -> BTreeSet<String> {
    lines.into_iter().collect()
}

/// Writes a file with all directories above it.
fn write(file: &Path, content: &str) {
    fs::create_dir_all(file.parent().expect("a directory")).expect("the directories");
    fs::write(file, content).expect("a file");
}
