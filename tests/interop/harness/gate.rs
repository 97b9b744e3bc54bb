//! A real `pullgate serve` process with its own configuration and policies.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::registry::self_signed;
use super::{Daemon, Program, Registry, UPSTREAM};

/// A running gate.
pub(crate) struct Gate {
    _daemon: Daemon,
    address: String,
    tls: bool,
    ca: PathBuf,
}

/// The configuration of a gate.
#[derive(Debug, Default)]
pub(crate) struct GateConfig {
    /// Whether clients use TLS.
    pub(crate) tls: bool,
    /// Top-level settings, before the first table.
    pub(crate) settings: String,
    /// The `[[upstream]]` tables.
    pub(crate) upstreams: String,
    /// Policy documents in YAML.
    pub(crate) policies: String,
}

impl GateConfig {
    /// Adds an upstream; `more` contains lines such as `path = "other"`.
    #[must_use]
    pub(crate) fn upstream(mut self, host: &str, registry: &Registry, more: &str) -> Self {
        let url = registry.url();
        writeln!(self.upstreams, "\n[[upstream]]\nhost = \"{host}\"\nurl = \"{url}\"\n{more}").expect("a String grows");
        self
    }

    /// Adds a cluster-wide policy document; `spec` is its body, indented by two spaces.
    #[must_use]
    pub(crate) fn policy(mut self, name: &str, spec: &str) -> Self {
        let head = "---\napiVersion: pullgate.io/v1\nkind: ClusterImagePolicy";
        writeln!(self.policies, "{head}\nmetadata: {{name: {name}}}\nspec:\n{spec}").expect("a String grows");
        self
    }

    /// Writes all files below `dir` and starts the gate there. Keys named in policies are relative to `dir/policies`.
    pub(crate) fn start(&self, dir: &Path) -> Gate {
        let (certificate, key) = (dir.join("gate.crt"), dir.join("gate.key"));
        fs::create_dir_all(dir.join("policies")).expect("the policy directory");
        fs::write(dir.join("policies/interop.yaml"), &self.policies).expect("the policies");
        if self.tls {
            self_signed(dir, &certificate, &key);
        }
        let configuration = dir.join("pullgate.toml");
        fs::write(&configuration, self.text(dir)).expect("the configuration");
        let (log, ready) = (dir.join("gate.log"), dir.join("ready.json"));
        let arguments = ["serve".as_ref(), "--config".as_ref(), configuration.as_os_str()];
        let program =
            Program::daemon(&program(), dir).args(arguments).args(["--ready-file".as_ref(), ready.as_os_str()]);
        let mut daemon = Daemon::start("pullgate", program, &log, None);
        let text = daemon.wait_for(|| fs::read_to_string(&ready).ok());
        let bound: Value = serde_json::from_str(&text).expect("the ready file");
        let address = bound["listeners"][0].as_str().expect("the first listener's address").to_owned();
        Gate { _daemon: daemon, address, tls: self.tls, ca: certificate }
    }

    fn text(&self, dir: &Path) -> String {
        let dir = dir.display();
        let tls = match self.tls {
            true => format!("tls = {{ certificate = \"{dir}/gate.crt\", key = \"{dir}/gate.key\" }}\n"),
            false => String::new(),
        };
        format!(
            "state_dir = \"{dir}/state\"
{}
[[listener]]
address = \"127.0.0.1:0\"
{tls}
[admin]
address = \"127.0.0.1:0\"

[policy]
dir = \"{dir}/policies\"
{}",
            self.settings, self.upstreams
        )
    }
}

impl Gate {
    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// `http://127.0.0.1:PORT` or `https://…`.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    /// The CA of its certificate, if it uses TLS.
    pub(crate) fn ca(&self) -> &Path {
        &self.ca
    }

    /// An image name for path-style clients: `127.0.0.1:PORT/UPSTREAM/NAME`.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{UPSTREAM}/{name}", self.address)
    }
}

/// The program under test: this build's, unless the environment names another.
pub(crate) fn program() -> String {
    let named = std::env::var_os("PULLGATE_PROGRAM");
    let program = named.unwrap_or_else(|| OsString::from(env!("CARGO_BIN_EXE_pullgate")));
    program.into_string().expect("a path in UTF-8")
}
