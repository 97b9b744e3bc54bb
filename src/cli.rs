//! The command line: one file per command, argv and exit codes here.

mod cache;
/// `pullgate certs init`.
pub mod certs;
mod check;
mod config;
mod demo;
mod images;
/// `pullgate policy check|match|eval`.
pub mod policy;
mod prefetch;
mod remote;
mod serve;
mod va;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::runtime::printable_lines;
use clap::{Parser, Subcommand, ValueEnum};

/// The exit code of a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// All is well.
    Ok,
    /// Something failed.
    Failure,
    /// It worked, and the answer is "denied" or "findings".
    Denied,
    /// The command line is wrong (sysexits' `EX_USAGE`).
    Usage,
    /// The configuration is wrong (sysexits' `EX_CONFIG`).
    Config,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Denied => 2,
            Exit::Usage => 64,
            Exit::Config => 78,
        })
    }
}

/// A caching OCI registry proxy that enforces image policy at the moment of the pull.
#[derive(Debug, Parser)]
#[command(name = "pullgate", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy.
    Serve(serve::ServeArgs),
    /// Run everything embedded: an upstream with sample images, a key, reports; show the four cases; keep serving.
    Demo(demo::DemoArgs),
    /// Judge an image as the gate would, and tell everything that was found. Exit code 2 when it is denied.
    Check(check::CheckArgs),
    /// List the images that the gate knows, with their security status.
    Images(images::ImagesArgs),
    /// Show the vulnerability report of an image.
    Va(va::VaArgs),
    /// Look after a running gate's cache.
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Fetch images into a running gate's cache, judged like any pull. Exit code 1 when one of them is not there after.
    Prefetch(prefetch::PrefetchArgs),
    /// Work with policy documents, without a gate.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Validate or show the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Certificates for development.
    #[command(subcommand)]
    Certs(certs::CertsCommand),
}

/// How a command prints what it found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Output {
    /// One JSON document, or one object a line where there are several.
    Json,
    /// For people.
    #[default]
    Table,
}

/// Runs the command that the process was called with.
pub fn run() -> Exit {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to standard output and are no failure.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            // A closed pipe leaves nobody to tell.
            let _ = error.print();
            return exit;
        }
    };
    match arguments.command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Images(args) => images::run(&args),
        Command::Va(args) => va::run(&args),
        Command::Cache(command) => cache::run(&command),
        Command::Prefetch(args) => prefetch::run(&args),
        Command::Policy(command) => policy::run(command),
        Command::Config(command) => config::run(&command),
        Command::Certs(command) => certs::run(&command),
    }
}

/// Where a command finds a running gate.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Where {
    /// The gate's admin API: http://HOST:PORT or unix:PATH. Default: the socket in the configuration's state directory.
    #[arg(long, env = "PULLGATE_SERVER", value_name = "URL")]
    server: Option<String>,
    /// The configuration file.
    #[arg(long, env = "PULLGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// A file with the admin token, for calls over TCP that change something.
    #[arg(long, env = "PULLGATE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Where {
    /// The admin token, where a file with one is named.
    fn token(&self) -> Result<Option<String>, String> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path)
                .map(|token| token.trim().to_owned())
                .map_err(|error| format!("{}: the token cannot be read: {error}", path.display()))
        };
        self.token_file.as_ref().map(read).transpose()
    }
}

/// Prints to standard error what went wrong, and ends with failure.
fn fail(error: impl std::fmt::Display) -> Exit {
    eprintln!("pullgate: {}", printable_lines(&error.to_string()));
    Exit::Failure
}

/// The runtime of commands and of the server.
///
/// Between two looks at the sockets a worker runs few tasks, because one that sends a blob takes a tenth of a
/// millisecond each time; with tokio's default of 61 a small answer waits for many of those.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().event_interval(3).build()
}
