//! The configuration: one file and the environment become the `Config` of each part, all mistakes told at once.
//!
//! The file is read with the `config` crate, TOML or YAML, and overridden by `PULLGATE__SECTION__KEY`. Each part owns
//! its own `Config`; here they are only filled in. Relative paths begin at the file's own folder. Secrets are named by
//! file or variable and never stand in the file, so a configuration can be printed.

mod places;
mod reader;
mod sections;
mod show;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Environment, File, FileFormat};
use serde_json::Value;

pub use reader::Problem;
use reader::Reader;

use crate::oci::Host;
use crate::policy::Settings;
use crate::runtime::LogFormat;
use crate::{audit, cache, gate, prefetch, server, trust, upstream, va};

/// Where a configuration is looked for when none is named.
const SEARCHED: [&str; 2] = ["pullgate.toml", "/etc/pullgate/pullgate.toml"];
/// A configuration file larger than this, in bytes, is none.
const MAX_FILE: u64 = 1024 * 1024;

/// Everything that a gate is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where durable state is kept.
    pub state_dir: PathBuf,
    /// What is logged.
    pub log: Log,
    /// How long streams may take to finish when the gate stops.
    pub shutdown_grace: Duration,
    /// The upstream of requests that name none.
    pub default_upstream: Option<Host>,
    /// The registry's listeners.
    pub listeners: Vec<server::Config>,
    /// What clients may take.
    pub limits: server::Limits,
    /// The admin side.
    pub admin: server::admin::Config,
    /// The pipeline.
    pub gate: gate::Config,
    /// The folder of policy documents.
    pub policy_dir: PathBuf,
    /// What documents are read with.
    pub policy: Settings,
    /// How long signature evidence holds.
    pub trust: trust::Config,
    /// Sources of vulnerability reports.
    pub va: va::Config,
    /// Content.
    pub cache: cache::Config,
    /// What is fetched by itself.
    pub prefetch: prefetch::Config,
    /// Records.
    pub audit: audit::Config,
    /// The registries behind.
    pub upstreams: Vec<upstream::Config>,
}

/// What is logged.
#[derive(Clone, Debug)]
pub struct Log {
    /// In tracing's own syntax: `info`, `pullgate=debug,warn`.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Config {
    /// Reads a configuration. With no path it is `$PULLGATE_CONFIG`, `pullgate.toml` here, or the system's.
    ///
    /// # Errors
    /// Every mistake, each with its place and a hint.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Problem>> {
        let environment: HashMap<String, String> = environment.collect();
        let path = find(path, &environment).map_err(|problem| vec![problem])?;
        let (reader, tree) = read(&path, environment).map_err(|problem| vec![problem])?;
        Self::from_tree(reader, tree).map(|(config, _)| config)
    }

    fn from_tree(reader: Reader, tree: Value) -> Result<(Self, Reader), Vec<Problem>> {
        let config = match tree {
            Value::Object(map) => sections::read(reader.table("", map)),
            _ => {
                reader.problem("", "the file must be a table of settings", None);
                None
            }
        };
        match config {
            Some(config) if !reader.has_problems() => Ok((config, reader)),
            _ => Err(reader.into_problems()),
        }
    }

    /// The configuration in force, as a configuration file; no secret is part of it.
    pub fn show(&self) -> String {
        show::show(self)
    }
}

fn find(path: Option<&Path>, environment: &HashMap<String, String>) -> Result<PathBuf, Problem> {
    if let Some(path) = path {
        return Ok(path.to_owned());
    }
    if let Some(path) = environment.get("PULLGATE_CONFIG") {
        return Ok(path.into());
    }
    let found = SEARCHED.iter().map(Path::new).find(|path| path.exists());
    found.map(Path::to_owned).ok_or_else(|| Problem {
        path: String::new(),
        place: "pullgate".into(),
        message: format!("no configuration: neither {} is there", SEARCHED.join(" nor ")),
        hint: Some("name one with --config FILE; config/pullgate.toml of the project has every setting".into()),
    })
}

/// Reads file and environment into one tree.
fn read(path: &Path, environment: HashMap<String, String>) -> Result<(Reader, Value), Problem> {
    let wrong = |message: String, hint: Option<&str>| Problem {
        path: String::new(),
        place: path.display().to_string(),
        message,
        hint: hint.map(str::to_owned),
    };
    let is_large = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > MAX_FILE);
    if is_large {
        return Err(wrong("larger than 1 MiB: this is no configuration".into(), None));
    }
    let text = std::fs::read_to_string(path).map_err(|error| {
        wrong(format!("cannot be read: {error}"), Some("does the file exist, and may this user read it?"))
    })?;
    let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let (format, places) =
        if is_yaml { (FileFormat::Yaml, places::yaml(&text)) } else { (FileFormat::Toml, places::toml(&text)) };
    let ours: HashMap<String, String> =
        environment.into_iter().filter(|(name, _)| name.starts_with("PULLGATE__")).collect();
    let variables: BTreeMap<String, String> = ours
        .keys()
        .map(|name| (name["PULLGATE__".len()..].to_ascii_lowercase().replace("__", "."), name.clone()))
        .collect();
    let source = Environment::with_prefix("PULLGATE")
        .prefix_separator("__")
        .separator("__")
        .try_parsing(true)
        .source(Some(ours));
    let built = config::Config::builder().add_source(File::from_str(&text, format)).add_source(source).build();
    let tree =
        built.and_then(config::Config::try_deserialize::<Value>).map_err(|error| wrong(error.to_string(), None))?;
    Ok((Reader::new(path.to_owned(), places, variables), tree))
}

#[cfg(test)]
mod tests;
