//! `pullgate trust status`.

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::install::read;
use super::notary;
use super::state::{self, SourceRecord};
use crate::cli::output::{counted, print_json};
use crate::cli::{Exit, Output, config, fail};
use crate::policy::{RootPart, TrustedRoot};

/// Lists trusted roots.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct StatusArgs {
    /// The files; by default, `trust.trusted_roots` of the configuration.
    pub(super) files: Vec<PathBuf>,
    /// The configuration file. Default: ./pullgate.toml, or else /etc/pullgate/pullgate.toml.
    #[arg(long, env = "PULLGATE_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    pub(super) output: Output,
}

pub(super) fn run(args: &StatusArgs, now: Timestamp) -> Exit {
    if !args.files.is_empty() {
        return status_of(&args.files).print(args.output, now);
    }
    let config = match config::load_without_roots(args.config.as_deref()) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let files: Vec<PathBuf> = config.policy.trusted_roots.iter().map(PathBuf::from).collect();
    match notary::remembered(&config) {
        Ok(remembered) => TrustStatus { remembered, ..status_of(&files) }.print(args.output, now),
        Err(why) => fail(why),
    }
}

/// What is known of trust.
pub(super) struct TrustStatus {
    roots: Vec<FileStatus>,
    /// The roots of Docker Content Trust.
    remembered: Vec<crate::app::RememberedRoot>,
}

/// A file, and what is in it or why it cannot be read.
struct FileStatus {
    file: PathBuf,
    found: Result<(TrustedRoot, Option<SourceRecord>), String>,
}

/// The status of files alone.
pub(super) fn status_of(files: &[PathBuf]) -> TrustStatus {
    let status = |file: &PathBuf| FileStatus {
        file: file.clone(),
        found: read(file).and_then(|root| Ok((root, state::record(&state::folder_of(file))?))),
    };
    TrustStatus { roots: files.iter().map(status).collect(), remembered: Vec::new() }
}

impl TrustStatus {
    fn print(&self, output: Output, now: Timestamp) -> Exit {
        match output {
            Output::Json => print_json(&self.as_json(now)),
            Output::Table => print!("{}", self.text(now)),
        }
        let is_good = |status: &FileStatus| status.found.as_ref().is_ok_and(|(root, _)| root.ended(now).is_none());
        if self.roots.iter().all(is_good) { Exit::Ok } else { Exit::Denied }
    }

    fn text(&self, now: Timestamp) -> String {
        let mut text = String::new();
        if self.roots.is_empty() {
            text.push_str("no trusted root is configured: keyless signatures cannot be verified\n");
        }
        for FileStatus { found, .. } in &self.roots {
            match found {
                Ok((root, source)) => text.push_str(&describe(root, source.as_ref(), now)),
                Err(why) => text.push_str(&format!("{}\n", crate::runtime::printable_lines(why))),
            }
        }
        text.extend(self.remembered.iter().map(|root| notary::describe(root, now)));
        text
    }

    pub(super) fn as_json(&self, now: Timestamp) -> Value {
        let roots: Vec<Value> = self.roots.iter().map(|status| status.as_json(now)).collect();
        let remembered: Vec<Value> = self.remembered.iter().map(notary::as_json).collect();
        json!({"trusted_roots": roots, "notary_roots": remembered})
    }
}

impl FileStatus {
    fn as_json(&self, now: Timestamp) -> Value {
        let file = self.file.display().to_string();
        match &self.found {
            Err(why) => json!({"file": file, "error": why}),
            Ok((root, source)) => {
                let keys = root.parts().iter().map(|RootPart { kind, name, from, until }| {
                    json!({"kind": kind.to_string(), "name": name, "from": from, "until": until})
                });
                json!({
                    "file": file, "error": null, "until": root.until(), "ended": root.ended(now), "source": source,
                    "keys": keys.collect::<Vec<_>>(),
                })
            }
        }
    }
}

/// A root with its source and its keys: one line for each, after one for the root.
pub(super) fn describe(root: &TrustedRoot, source: Option<&SourceRecord>, now: Timestamp) -> String {
    let mut text = format!("{}: {}\n", root.name(), root.describe(now));
    if let Some(SourceRecord { mirror, checked, root_version, root_expires, .. }) = source {
        let age = counted(now.duration_since(*checked).as_hours() / 24, "day", "days");
        text.push_str(&format!(
            "  fetched from {mirror}, last checked at {checked}, {age} ago; root {root_version} of the repository \
             expires at {root_expires}\n"
        ));
    }
    for RootPart { kind, name, from, until } in root.parts() {
        let time = |time: &Option<Timestamp>| time.map_or("…".to_owned(), |time| time.to_string());
        let note = if until.is_some_and(|until| until < now) { " (ended)" } else { "" };
        text.push_str(&format!("  {kind} {name}: {} to {}{note}\n", time(from), time(until)));
    }
    text
}
