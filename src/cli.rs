//! The command line: one file per command; argument parsing and exit codes here.

// First, so that its macros are those of all other modules.
#[macro_use]
mod output;

mod account;
/// `pullgate bundle export|import`.
mod bundle;
mod cache;
/// `pullgate certs init`.
mod certs;
mod check;
mod config;
mod db;
mod demo;
mod examples;
/// `pullgate exemption add|list|rm|types`.
mod exemption;
mod image_args;
mod images;
/// Completions of shells, and manual pages.
mod manual;
/// `pullgate policy check|match|eval`.
mod policy;
mod prefetch;
mod ready;
mod reload;
mod remote;
mod sarif;
mod serve;
mod table;
mod tips;
mod trust;
mod va;
mod variables;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::markup::Problem;
use crate::runtime::{printable_lines, read_token};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use image_args::{ImageArgs, ScopeArgs};
use remote::AdminAddress;

/// The exit code of a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Success.
    Ok,
    /// The command failed.
    Failure,
    /// The command succeeded, and the answer is "denied" or "problems found".
    Denied,
    /// The command succeeded, and an image cannot be judged now.
    Unknown,
    /// The command succeeded, and an image is served only because denials are not enforced.
    WouldDeny,
    /// The command line is invalid (sysexits' `EX_USAGE`).
    Usage,
    /// The configuration is invalid (sysexits' `EX_CONFIG`).
    Config,
    /// The gate was stopped and cut running transfers, which clients can repeat (sysexits' `EX_TEMPFAIL`).
    Cut,
    /// The exit code of another program.
    Program(u8),
}

impl Exit {
    /// The number that the process exits with.
    fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Denied => 2,
            Self::Unknown => 3,
            Self::WouldDeny => 4,
            Self::Usage => 64,
            Self::Cut => 75,
            Self::Config => 78,
            Self::Program(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Shown below the help text.
const EXAMPLES: &str = "Examples:
  pullgate demo                                                   # see it work, offline
  pullgate serve --config pullgate.toml                           # run the gate
  pullgate check --config pullgate.toml docker.io/library/nginx   # how would it decide, and why

`pullgate COMMAND --help` describes a command, and shows examples.";

/// A caching OCI registry proxy that enforces image policy when an image is pulled.
#[derive(Debug, Parser)]
#[command(name = "pullgate", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    /// The configuration file, for every command that reads one. Default: ./pullgate.toml, or else
    /// /etc/pullgate/pullgate.toml.
    #[arg(long, env = "PULLGATE_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gate.
    Serve(serve::ServeArgs),
    /// Make a running gate read its configuration, policies and certificates again, as SIGHUP does, and show what has
    /// changed and what needs a restart. Exits with 78 if anything is invalid; the previous version then stays in use.
    #[command(after_help = reload::EXAMPLES)]
    Reload(reload::ReloadArgs),
    /// Show whether a running gate can serve requests, and which of its parts are not working. For health checks: exits
    /// with 0 if the gate is ready, even if degraded, and otherwise with 1.
    Ready(ready::ReadyArgs),
    /// Run a self-contained demo: an upstream with sample images, signatures and advisories, and a gate that enforces
    /// policy on them.
    Demo(demo::DemoArgs),
    /// Explain how the gate would decide on images, and why.
    #[command(after_help = check::EXAMPLES)]
    Check(check::CheckArgs),
    /// List the images that the gate has served or judged, with their security status.
    #[command(after_help = images::EXAMPLES)]
    Images(images::ImagesArgs),
    /// Show what is installed in images, which vulnerabilities are known in them, and how to resolve these. Exits with
    /// 2 if the policy denies an image because of what is in it, and with 3 if an image cannot be judged now.
    #[command(after_help = va::EXAMPLES)]
    Va(va::VaArgs),
    /// Manage the exemptions of a running gate: issues that the policy ignores.
    #[command(subcommand)]
    Exemption(exemption::ExemptionCommand),
    /// Fetch, import, export and show the advisory databases of the scanner.
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Manage the cache of a running gate.
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Fetch images into the cache of a running gate, under the same policy as any pull. Exits with 1 if any image
    /// could not be fetched.
    #[command(after_help = prefetch::EXAMPLES)]
    Prefetch(prefetch::PrefetchArgs),
    /// Transfer images, with the evidence about them, to an air-gapped gate.
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Check and test policy documents, without a gate.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Validate or show the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Show or replace the trusted roots of Sigstore.
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// Create certificates for development.
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Print completions for a shell.
    #[command(after_help = manual::COMPLETION_EXAMPLES)]
    Completions(manual::CompletionArgs),
    /// Write manual pages, one for each command.
    #[command(after_help = manual::MAN_EXAMPLES)]
    Man(manual::ManArgs),
    /// Run a scanner with limits. The gate starts itself with this command; it is not meant for people.
    #[command(hide = true)]
    Confine(crate::va::Confinement),
}

/// The output format of a command.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Output {
    /// One JSON document.
    Json,
    /// Text for people.
    #[default]
    Table,
}

/// The output format of a command that prints what it finds one by one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum LineOutput {
    /// One JSON object per line, none if nothing is found.
    Json,
    /// Text for people.
    #[default]
    Table,
}

impl From<LineOutput> for Output {
    fn from(output: LineOutput) -> Self {
        match output {
            LineOutput::Json => Self::Json,
            LineOutput::Table => Self::Table,
        }
    }
}

/// The commands that read no configuration.
const WITHOUT_CONFIGURATION: &[&[&str]] =
    &[&["certs"], &["completions"], &["demo"], &["man"], &["policy", "import"], &["policy", "schema"]];

/// The command line.
fn command() -> clap::Command {
    let command = examples::with_examples(Arguments::command());
    WITHOUT_CONFIGURATION.iter().fold(command, |command, words| hide_configuration(command, words))
}

/// Leaves `--config` out of the help text of a command. It is accepted nevertheless, as everywhere.
fn hide_configuration(command: clap::Command, words: &[&str]) -> clap::Command {
    match words {
        [] => {
            let parser = clap::value_parser!(PathBuf);
            command.arg(clap::Arg::new("config").long("config").value_parser(parser).global(true).hide(true))
        }
        [first, rest @ ..] => command.mut_subcommand(first, |inner| hide_configuration(inner, rest)),
    }
}

/// Parses the process arguments. They take precedence over the environment: with `--config`, the variable
/// `PULLGATE_SERVER` is ignored, because it may name a different gate.
fn parse() -> Result<Arguments, clap::Error> {
    let is_configured = |matches: &ArgMatches| has_source(matches, "config", ValueSource::CommandLine);
    let command =
        || variables::without_empty(command(), &|name| std::env::var_os(name).is_some_and(|set| set.is_empty()));
    let without_variable = || variables::without_server(command()).try_get_matches();
    let matches = match command().try_get_matches() {
        Ok(matches) if is_configured(&matches) && has_source(&matches, "server", ValueSource::EnvVariable) => {
            without_variable()?
        }
        Ok(matches) => matches,
        // What does not count need not be an address.
        Err(error) => without_variable().ok().filter(is_configured).ok_or_else(|| {
            let words = std::env::args_os().skip(1).filter_map(|word| word.into_string().ok());
            tips::with_tip(error, &command(), words)
        })?,
    };
    Arguments::from_arg_matches(&matches)
}

/// Whether an argument of the command or of one of its subcommands has its value from this source.
fn has_source(matches: &ArgMatches, name: &str, wanted: ValueSource) -> bool {
    let is_here = matches.try_contains_id(name).is_ok() && matches.value_source(name) == Some(wanted);
    is_here || matches.subcommand().is_some_and(|(_, inner)| has_source(inner, name, wanted))
}

/// Runs the command given by the process arguments.
pub fn run() -> Exit {
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are printed to standard output and are not failures.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            // If the output is closed, there is nobody to report to.
            let _ = error.print();
            return exit;
        }
    };
    output::finish(execute(arguments.command))
}

fn execute(command: Command) -> Exit {
    match command {
        Command::Serve(args) => serve::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Ready(args) => ready::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Images(args) => images::run(&args),
        Command::Va(args) => va::run(&args),
        Command::Exemption(command) => exemption::run(&command),
        Command::Db(command) => db::run(&command),
        Command::Cache(command) => cache::run(&command),
        Command::Prefetch(args) => prefetch::run(&args),
        Command::Bundle(command) => bundle::run(&command),
        Command::Policy(command) => policy::run(command),
        Command::Config(command) => config::run(&command),
        Command::Trust(command) => trust::run(&command),
        Command::Certs(command) => certs::run(&command),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
        Command::Confine(confinement) => Exit::Program(confinement.run()),
    }
}

/// How a command reaches a running gate.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct GateArgs {
    /// The admin API of the gate, as http://HOST:PORT or unix:PATH. Default: the socket in the state directory of the
    /// configuration. `--config` on the command line overrides `PULLGATE_SERVER`.
    #[arg(long, env = "PULLGATE_SERVER", value_name = "URL")]
    server: Option<AdminAddress>,
    /// The configuration file. Default: ./pullgate.toml, or else /etc/pullgate/pullgate.toml.
    #[arg(long, env = "PULLGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// A file that contains the admin token, which is required for changes over TCP.
    #[arg(long, env = "PULLGATE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl GateArgs {
    /// Reads the admin token, if a file is given.
    fn token(&self) -> Result<Option<String>, String> {
        let read = |path: &PathBuf| {
            read_token(path).map_err(|why| format!("{}: cannot read the token: {why}", path.display()))
        };
        self.token_file.as_ref().map(read).transpose()
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum CommandError {
    /// The configuration has these problems.
    Config(Vec<Problem>),
    /// The command line is wrong, in a way that only shows when it is used.
    Usage(String),
    /// Anything else.
    Failed(String),
}

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config(problems) => {
                f.write_str(&problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
            }
            Self::Usage(error) | Self::Failed(error) => f.write_str(error),
        }
    }
}

impl From<String> for CommandError {
    fn from(error: String) -> Self {
        Self::Failed(error)
    }
}

impl From<&str> for CommandError {
    fn from(error: &str) -> Self {
        Self::Failed(error.to_owned())
    }
}

impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A problem as JSON.
fn problem_json(problem: &Problem) -> serde_json::Value {
    serde_json::json!({
        "severity": problem.severity.to_string(), "file": problem.file, "line": problem.line,
        "column": problem.column, "message": problem.message, "hint": problem.hint,
    })
}

/// Prints an error to standard error, and returns the exit code.
fn fail(error: impl Into<CommandError>) -> Exit {
    let error = error.into();
    let text = printable_lines(&error.to_string());
    match error {
        CommandError::Config(_) => {
            eprintln!("{text}");
            Exit::Config
        }
        CommandError::Usage(_) => {
            eprintln!("pullgate: {text}");
            Exit::Usage
        }
        CommandError::Failed(_) => {
            eprintln!("pullgate: {text}");
            Exit::Failure
        }
    }
}

/// The async runtime of commands and of the server.
///
/// A worker runs only a few tasks between two polls of its sockets, because a task that sends a blob takes a tenth of a
/// millisecond each time. With tokio's default of 61, a small response would wait for many of these.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().event_interval(3).build()
}

#[cfg(test)]
mod tests;
