//! The configuration: one file and the environment become the `Config` of each part; all mistakes are reported at once.
//!
//! The file is TOML or YAML; variables such as `PULLGATE__GATE__MODE` override it. Each part owns its `Config`; here
//! they are only filled in. Relative paths begin at the file's directory. The file names secrets by file or variable
//! and never contains them, so a configuration can be printed.

mod changes;
mod layers;
mod places;
mod reader;
mod sections;
mod show;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(test)]
pub(crate) use layers::COMMANDS;
pub use places::KeyPlaces;
pub(crate) use places::content_now;
use reader::{Reader, RootFiles};
pub(crate) use sections::{is_loopback, overlap};

use crate::markup::{MAX_FILE, Node, Place, Problem, ProblemSeverity, Problems, Value, read_toml, read_yaml};
use crate::oci::Host;
use crate::policy::Settings;
use crate::runtime::{LogFormat, read_plain_file};
use crate::{audit, cache, events, gate, otlp, prefetch, server, trust, upstream, va};

/// Where a configuration is searched for if none is named.
const SEARCHED: [&str; 2] = ["pullgate.toml", "/etc/pullgate/pullgate.toml"];

/// All settings of a gate.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where durable state is kept.
    pub(crate) state_dir: PathBuf,
    /// Settings of the log.
    pub(crate) log: LogConfig,
    /// How long requests are still answered after `/readyz` has begun to say that the gate is not ready.
    pub(crate) shutdown_delay: Duration,
    /// How long running transfers may take to finish when the gate stops.
    pub(crate) shutdown_grace: Duration,
    /// The upstream for requests that name none.
    pub(crate) default_upstream: Option<Host>,
    /// The registry's listeners.
    pub(crate) listeners: Vec<server::Config>,
    /// Limits for clients.
    pub(crate) limits: server::Limits,
    /// The admin listener and socket.
    pub(crate) admin: server::admin::Config,
    /// The pipeline.
    pub(crate) gate: gate::Config,
    /// The directory of policy documents.
    pub(crate) policy_dir: PathBuf,
    /// How documents are read.
    pub(crate) policy: Settings,
    /// The authorities in `policy` as they are written, by name, with absolute paths.
    pub(crate) authorities: Vec<(String, Node)>,
    /// The file of the root of notary repositories in `policy`.
    pub(crate) notary_root: Option<PathBuf>,
    /// How long signature evidence is valid.
    pub(crate) trust: trust::Config,
    /// How the revocation of signers' certificates is found out.
    pub(crate) revocation: trust::RevocationConfig,
    /// Sources of vulnerability reports.
    pub(crate) va: va::Config,
    /// The cache of content.
    pub(crate) cache: cache::Config,
    /// Settings of fetches without a request.
    pub(crate) prefetch: prefetch::Config,
    /// Decision records.
    pub(crate) audit: audit::Config,
    /// Events for other systems.
    pub(crate) events: events::Config,
    /// Where traces go.
    pub(crate) tracing: otlp::Config,
    /// The registries that are pulled from.
    pub(crate) upstreams: Vec<upstream::Config>,
    /// What in the file may not mean what its author thinks.
    pub(crate) warnings: Vec<Problem>,
    /// Where each key is written.
    pub(crate) places: KeyPlaces,
    /// The files and directories that the gate reads, each with a description.
    pub(crate) read: Vec<(String, PathBuf)>,
}

/// Settings of the log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// In the syntax of tracing: `info`, `pullgate=debug,warn`.
    pub filter: String,
    /// The format of lines.
    pub format: LogFormat,
}

impl Config {
    /// Whether the size of the cache differs from the default; for disks smaller than the default, `cache.min_free` is
    /// the limit.
    pub fn has_own_cache_size(&self) -> bool {
        self.cache.max_size != cache::Config::default().max_size
    }

    /// Reads a configuration. Without a path it is `$PULLGATE_CONFIG`, `./pullgate.toml` or
    /// `/etc/pullgate/pullgate.toml`.
    ///
    /// # Errors
    /// Every problem of a configuration with a mistake, each with its place and a hint.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Vec<Problem>> {
        Self::load_with(path, environment, RootFiles::Needed)
    }

    /// As [`load`](Self::load), but the trusted roots need not exist: for commands that fetch them.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_without_roots(
        path: Option<&Path>,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Vec<Problem>> {
        Self::load_with(path, environment, RootFiles::Unread)
    }

    fn load_with(
        path: Option<&Path>,
        environment: impl Iterator<Item = (OsString, OsString)>,
        roots: RootFiles,
    ) -> Result<Self, Vec<Problem>> {
        let (config, problems) = Self::examine_with(path, environment, roots);
        match config {
            Some(mut config) if problems.iter().all(|problem| problem.severity != ProblemSeverity::Error) => {
                config.warnings = problems;
                Ok(config)
            }
            _ => Err(problems),
        }
    }

    /// Reads a configuration as far as possible, for checking also what it names. It must not be used if one of the
    /// problems is an error. `None` if the file cannot be read at all.
    pub fn examine(
        path: Option<&Path>,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> (Option<Self>, Vec<Problem>) {
        Self::examine_with(path, environment, RootFiles::Needed)
    }

    fn examine_with(
        path: Option<&Path>,
        environment: impl Iterator<Item = (OsString, OsString)>,
        roots: RootFiles,
    ) -> (Option<Self>, Vec<Problem>) {
        let environment: Vec<_> = environment.collect();
        let path = match find(path, &environment) {
            Ok(path) => path,
            Err(problem) => return (None, vec![problem]),
        };
        match layers::texts(environment) {
            Ok(environment) => read(&path, environment, roots),
            Err(problems) => (None, problems),
        }
    }

    /// The effective configuration, as a configuration file; it contains no secret.
    pub fn show(&self) -> String {
        show::show(self)
    }

    /// Whether a configuration is at one of the places where it is searched for.
    pub(crate) fn is_found() -> bool {
        searched().is_some()
    }

    /// The same as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        let problems = Problems::default();
        let tree = read_toml(&self.show(), problems.file("shown"), &problems);
        // It was written by `show`, so it can be read.
        tree.map(|tree| tree.to_json()).unwrap_or_default()
    }
}

fn find(path: Option<&Path>, environment: &[(OsString, OsString)]) -> Result<PathBuf, Problem> {
    if let Some(path) = path {
        return Ok(path.to_owned());
    }
    if let Some((_, path)) = environment.iter().find(|(name, path)| name == "PULLGATE_CONFIG" && !path.is_empty()) {
        return Ok(path.into());
    }
    let hint = "name one with --config FILE; config/pullgate.toml of the project shows every setting";
    let missing = || format!("no configuration: neither {} exists", SEARCHED.join(" nor "));
    searched().map(Path::to_owned).ok_or_else(|| error_of("pullgate", missing(), Some(hint)))
}

/// The first file that exists of those that are searched for.
fn searched() -> Option<&'static Path> {
    SEARCHED.iter().map(Path::new).find(|path| path.exists())
}

/// Reads a file and lays the environment over it.
fn read(path: &Path, environment: HashMap<String, String>, roots: RootFiles) -> (Option<Config>, Vec<Problem>) {
    let problems = Problems::default();
    let text = match read_text(path) {
        Ok(text) => text,
        Err(problem) => return (None, vec![problem]),
    };
    let written = parse(path, &text, &problems).filter(|_| !problems.any_error());
    let Some(written) = written else { return (None, problems.into_sorted()) };
    let tree = match layers::merge(&written, environment, &problems) {
        Ok(tree) => tree,
        Err(error) => return (None, vec![error_of("environment", error.to_string(), None)]),
    };
    let reader = Reader::new(path, problems, roots);
    let config = reader.root(&tree).map(sections::read);
    let (problems, mut places, read) = reader.finish();
    places.read_from(&text);
    (config.map(|config| Config { places, read, ..config }), problems.into_sorted())
}

fn read_text(path: &Path) -> Result<String, Problem> {
    let name = path.display().to_string();
    let bytes = read_bounded(path).map_err(|error| {
        let hint = "does the file exist, and may this user read it?";
        error_of(&name, format!("cannot be read: {error}"), Some(hint))
    })?;
    String::from_utf8(bytes).map_err(|_| error_of(&name, "not UTF-8 text", None))
}

fn parse(path: &Path, text: &str, problems: &Problems) -> Option<Node> {
    let file = problems.file(&path.display().to_string());
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    if extension == "json" {
        let hint = "rename it: JSON is YAML, so a file with JSON can be called pullgate.yaml";
        problems.error_hint(Place::whole(file), "a configuration is TOML, or YAML in a file *.yaml", hint);
        return None;
    }
    if !matches!(extension, "yaml" | "yml") {
        let tree = read_toml(text, file, problems);
        if tree.is_none() && is_yaml(text) {
            let hint = "rename it to pullgate.yaml, or write it as TOML";
            problems.error_hint(Place::whole(file), "this looks like YAML in a file for TOML", hint);
        }
        return tree;
    }
    let mut documents = read_yaml(text, file, problems);
    if let Some(second) = documents.get(1) {
        problems.error(second.at, "a configuration is one YAML document");
    }
    documents.truncate(1);
    let empty = || Node { at: Place::whole(file), value: Value::Map(Vec::new()) };
    Some(documents.pop().unwrap_or_else(empty))
}

/// Whether a text is a mapping in YAML.
fn is_yaml(text: &str) -> bool {
    let problems = Problems::default();
    let documents = read_yaml(text, problems.file(""), &problems);
    !problems.any_error() && documents.first().is_some_and(|document| !document.members().is_empty())
}

/// A file of at most [`MAX_FILE`] bytes, whole.
pub(crate) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    read_plain_file(path, MAX_FILE as u64)
}

fn error_of(file: &str, message: impl Into<String>, hint: Option<&str>) -> Problem {
    Problem::of_file(ProblemSeverity::Error, file, message, hint)
}

#[cfg(test)]
mod tests;
