//! `pullgate db status|update|import|export`: the advisory databases.
//!
//! The commands work on the state directory itself, with or without a running gate. A running gate opens what they put
//! into use.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use indicatif::ProgressBar;
use jiff::{SignedDuration, Timestamp};
use rustix::process::geteuid;
use serde_json::json;

use super::output::print_json;
use super::remote::progress_bar;
use super::{CommandError, Exit, Output};
use crate::advisories::{
    self, AdvisoryStore, DatabaseProgress, GenerationManifest, ImportOptions, InstalledGeneration, SourceState,
    SourceStatus,
};
use crate::config::Config;
use crate::runtime::{Clock, Metrics, Readiness, Tasks, create_private_dir, printable, rounded_duration, rounded_size};
use crate::upstream::Upstreams;
use crate::va::{DatabaseSources, FetchedDatabase, fetch_databases};

/// The age from which a database is called old: most are built daily.
const OLD: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The database commands.
#[derive(Debug, clap::Subcommand)]
pub(super) enum DbCommand {
    /// Show the advisory databases with their ages. Exits with 2 if one cannot be used.
    Status {
        #[command(flatten)]
        args: DbArgs,
    },
    /// Fetch the databases that `[va.database]` names, and put them into use. The previous database is kept.
    Update {
        #[command(flatten)]
        args: DbArgs,
        /// Use a database even if it is older than the one in use.
        #[arg(long)]
        force: bool,
    },
    /// Put a database from a file or directory into use: an archive that `db export` wrote; trivy-db or trivy-java-db
    /// as `db.tar.gz`, as a directory or as an OCI layout; OSV records as a zip archive or a directory; the KEV catalog
    /// as JSON; EPSS scores as CSV.
    Import {
        /// The file or directory.
        path: PathBuf,
        #[command(flatten)]
        args: DbArgs,
        /// Use the database even if it is older than the one in use.
        #[arg(long)]
        force: bool,
        /// An ecosystem whose OSV records are complete in the import, such as PyPI or Debian:12. Can be repeated.
        /// Default: those that the records name.
        #[arg(long, value_name = "ECOSYSTEM")]
        ecosystem: Vec<String>,
    },
    /// Write all databases in use to one archive, for `db import` on another machine.
    Export {
        /// The archive to write; compressed if the name ends with .gz or .tgz.
        path: PathBuf,
        #[command(flatten)]
        args: DbArgs,
    },
}

/// Arguments of all database commands.
#[derive(Debug, clap::Args)]
pub(super) struct DbArgs {
    /// The configuration file. Default: ./pullgate.toml, or else /etc/pullgate/pullgate.toml.
    #[arg(long, env = "PULLGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(command: &DbCommand) -> Exit {
    let outcome = match command {
        DbCommand::Status { args } => status(args),
        DbCommand::Update { args, force } => update(args, *force),
        DbCommand::Import { path, args, force, ecosystem } => {
            import(args, path, ImportOptions { force: *force, ecosystems: ecosystem.clone(), ..options() })
        }
        DbCommand::Export { path, args } => export(args, path),
    };
    outcome.unwrap_or_else(super::fail)
}

impl DbArgs {
    /// The configuration, and the databases, for which the state directory is created if it does not exist.
    fn open(&self) -> Result<(Config, AdvisoryStore), CommandError> {
        let config = super::config::load_or_error(self.config.as_deref())?;
        let state = &config.state_dir;
        let is_new = !state.exists();
        create_private_dir(state).map_err(|error| format!("{}: {error}", state.display()))?;
        if is_new && geteuid().is_root() {
            eprintln!(
                "pullgate: {} was created for root; a gate that runs as another user cannot use it",
                state.display()
            );
        }
        let store = AdvisoryStore::open(state).map_err(|error| error.to_string())?;
        Ok((config, store))
    }

    /// The databases, if there are any. Nothing is created.
    fn open_existing(&self) -> Result<Option<AdvisoryStore>, CommandError> {
        let config = super::config::load_or_error(self.config.as_deref())?;
        AdvisoryStore::open_existing(&config.state_dir).map_err(|error| error.to_string().into())
    }
}

fn options() -> ImportOptions {
    ImportOptions::at(Clock::system().now())
}

fn status(args: &DbArgs) -> Result<Exit, CommandError> {
    let sources = match args.open_existing()? {
        Some(store) => store.status().map_err(|error| error.to_string())?,
        None => Vec::new(),
    };
    let now = Clock::system().now();
    match args.output {
        Output::Json => print_json(&sources.iter().map(|status| as_json(status, now)).collect::<Vec<_>>()),
        Output::Table if sources.is_empty() => {
            println!("There are no advisory databases. Run `pullgate db update` or `pullgate db import`.");
        }
        Output::Table => {
            let header = ["SOURCE", "STATE", "BUILT", "AGE", "FETCHED", "ROWS", "SIZE", "FROM"];
            print!("{}", super::table::table(header, sources.iter().map(|status| row(status, now))));
        }
    }
    let is_ready = |status: &SourceStatus| status.state == SourceState::Ready;
    Ok(if sources.iter().all(is_ready) { Exit::Ok } else { Exit::Denied })
}

fn row(status: &SourceStatus, now: Timestamp) -> [String; 8] {
    let state = match &status.state {
        SourceState::Ready if is_old(status, now) => "ready, old".into(),
        SourceState::Ready => "ready".into(),
        SourceState::Degraded { problem } => format!("previous in use: {problem}"),
        SourceState::Unusable { problem } => format!("cannot be used: {problem}"),
    };
    let of = |text: &dyn Fn(&GenerationManifest) -> String| status.generation.as_ref().map_or_else(|| "-".into(), text);
    // To the second.
    [
        status.source.clone(),
        state,
        of(&|generation| format!("{:.0}", generation.built)),
        status.age(now).map_or_else(|| "-".into(), age),
        of(&|generation| format!("{:.0}", generation.fetched)),
        of(&|generation| format!("{} {}", generation.rows, generation.kind.rows())),
        of(&|generation| rounded_size(generation.size())),
        of(&|generation| generation.from.clone()),
    ]
}

/// Of a database that was built in the future, the age is 0.
fn age(age: SignedDuration) -> String {
    rounded_duration(age.try_into().unwrap_or_default())
}

/// Whether a database is so old that it lacks recent advisories. It is used anyway, unless `va.max_db_age` forbids it.
fn is_old(status: &SourceStatus, now: Timestamp) -> bool {
    status.age(now).is_some_and(|age| age > OLD)
}

fn as_json(status: &SourceStatus, now: Timestamp) -> serde_json::Value {
    let (state, problem) = match &status.state {
        SourceState::Ready => ("ready", None),
        SourceState::Degraded { problem } => ("degraded", Some(problem)),
        SourceState::Unusable { problem } => ("unusable", Some(problem)),
    };
    json!({
        "source": status.source, "state": state, "problem": problem,
        "age_seconds": status.age(now).map(|age| age.as_secs()), "old": is_old(status, now),
        "generation": status.generation, "previous": status.previous,
    })
}

fn update(args: &DbArgs, force: bool) -> Result<Exit, CommandError> {
    let (config, store) = args.open()?;
    let sources = config.va.databases.map(|databases| databases.sources).unwrap_or_default();
    if sources.names().is_empty() {
        let why = "[va.database] names no source: set `trivy` to an image such as \
                   ghcr.io/aquasecurity/trivy-db:2, `java` to one such as ghcr.io/aquasecurity/trivy-java-db:1, or \
                   `osv`, `kev` or `epss` to URLs, or run `pullgate db import`";
        return Err(why.into());
    }
    let options = ImportOptions { force, limits: sources.limits, ..options() };
    let runtime = super::runtime().map_err(|error| error.to_string())?;
    let fetched: Vec<FetchedDatabase> = runtime.block_on(async {
        let (services, metrics) = ((&Tasks::new(), &Clock::system()), Metrics::default());
        let upstreams = Upstreams::new(config.upstreams, None, services, &metrics, &Readiness::new());
        let upstreams = Arc::new(upstreams.map_err(|error| error.to_string())?);
        let work = move || fetch(&sources, &store, &upstreams, &options);
        tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
    })?;
    let (mut exit, mut all) = (Exit::Ok, Vec::new());
    for FetchedDatabase { source, outcome } in fetched {
        match outcome {
            Ok(installed) => all.push(installed),
            Err(error) => exit = super::fail(named(&source, &error.to_string())),
        }
    }
    print_installed(args, &all);
    Ok(exit)
}

/// An error with its source, unless it begins with that.
fn named(source: &str, error: &str) -> String {
    if error.starts_with(source) { error.to_owned() } else { format!("{source}: {error}") }
}

fn fetch(
    sources: &DatabaseSources,
    store: &AdvisoryStore,
    upstreams: &Arc<Upstreams>,
    options: &ImportOptions,
) -> Result<Vec<FetchedDatabase>, String> {
    let bar = progress_bar();
    let fetched = fetch_databases(sources, store, upstreams, options, &mut |source, done| {
        bar.set_message(printable(source).into_owned());
        show(&bar, done)
    });
    bar.finish_and_clear();
    fetched
}

fn import(args: &DbArgs, path: &std::path::Path, options: ImportOptions) -> Result<Exit, CommandError> {
    let (config, store) = args.open()?;
    let limits = config.va.databases.map(|databases| databases.sources.limits).unwrap_or_default();
    let bar = progress_bar();
    let options = ImportOptions { limits, ..options };
    let installed = advisories::import(&store, path, &options, &mut |done| show(&bar, done));
    bar.finish_and_clear();
    let installed = installed.map_err(|error| format!("{}: {error}", path.display()))?;
    print_installed(args, &installed);
    Ok(Exit::Ok)
}

fn export(args: &DbArgs, path: &std::path::Path) -> Result<Exit, CommandError> {
    let none = "there are no advisory databases to export; run `pullgate db update` or `pullgate db import`";
    let store = args.open_existing()?.ok_or(none)?;
    let bar = progress_bar();
    let exported = advisories::export(&store, path, &mut |done| show(&bar, done));
    bar.finish_and_clear();
    let generations = exported.map_err(|error| error.to_string())?;
    match args.output {
        Output::Json => print_json(&generations),
        Output::Table => {
            generations.iter().for_each(|generation| println!("{}: {}", generation.source, generation.id()));
        }
    }
    Ok(Exit::Ok)
}

fn print_installed(args: &DbArgs, installed: &[InstalledGeneration]) {
    let value = |one: &InstalledGeneration| json!({"generation": one.manifest, "was_current": one.was_current});
    match args.output {
        Output::Json => print_json(&installed.iter().map(value).collect::<Vec<_>>()),
        Output::Table => installed.iter().for_each(|installed| println!("{}", describe(installed))),
    }
}

fn describe(installed: &InstalledGeneration) -> String {
    let InstalledGeneration { manifest, was_current } = installed;
    let verb = if *was_current { "was already in use" } else { "is in use now" };
    format!("{}: built {}, {} {}, {verb}", manifest.source, manifest.built, manifest.rows, manifest.kind.rows())
}

fn show(bar: &ProgressBar, done: DatabaseProgress) -> ControlFlow<()> {
    bar.set_length(done.total.unwrap_or_default().max(done.read));
    bar.set_position(done.read);
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_database_is_called_old() {
        let built = "2026-01-01T00:00:00Z";
        let generation = json!({
            "source": "osv-go", "kind": "osv", "built": built, "fetched": "2026-01-01T00:00:00.123456789Z", "from": "x", "rows": 1, "files": [],
        });
        let generation = serde_json::from_value(generation).ok();
        assert!(generation.is_some());
        let status = SourceStatus { source: "osv-go".into(), state: SourceState::Ready, generation, previous: None };
        let state = |at: &str| {
            let now: Timestamp = at.parse().unwrap();
            let [_, state, _, age, ..] = row(&status, now);
            (state, age, as_json(&status, now)["old"].as_bool())
        };
        assert_eq!(row(&status, built.parse().unwrap())[4], built, "times are shown to the second");
        assert_eq!(state("2026-01-07T03:00:00Z"), ("ready".into(), "6d3h".into(), Some(false)));
        assert_eq!(state("2026-01-08T01:00:00Z"), ("ready, old".into(), "7d1h".into(), Some(true)));
    }

    #[test]
    fn a_source_is_named_once() {
        assert_eq!(named("a.test/db:1", "a.test/db:1: no answer"), "a.test/db:1: no answer");
        assert_eq!(named("a.test/db:1", "no answer"), "a.test/db:1: no answer");
    }
}
