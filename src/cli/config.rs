//! `pullgate config check|show`, and loading the configuration for every other command.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::output::{counted, print_json};
use super::{CommandError, Exit, Output, problem_json};
use crate::config::Config;
use crate::markup::{Problem, ProblemSeverity};
use crate::preflight::{self, PreflightDepth};
use crate::runtime::{Clock, printable};

/// Shown below the help text of `config check`.
const EXAMPLES: &str = "Examples:
  pullgate config check --config pullgate.toml
  pullgate config check --config pullgate.toml --online
  pullgate config check --config pullgate.toml --strict --output json";

/// Check or print the configuration.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Validate the configuration, and open everything that it names: certificates, keys, policies, reports,
    /// directories, ports. Reports every mistake with its place and a hint. Exits with 78 if there is an error.
    #[command(after_help = EXAMPLES)]
    Check(CheckConfigArgs),
    /// Print the effective configuration, including defaults and environment, without secrets.
    Show(ShowConfigArgs),
}

/// Arguments of `config check`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckConfigArgs {
    #[command(flatten)]
    file: ConfigArgs,
    /// Also contact remote services: registries (with credentials), notary servers and sources of advisories; event
    /// receivers are only connected to.
    #[arg(long)]
    online: bool,
    /// Exit with 78 if there are warnings, too.
    #[arg(long)]
    strict: bool,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Arguments of `config show`.
#[derive(Debug, clap::Args)]
pub(super) struct ShowConfigArgs {
    #[command(flatten)]
    file: ConfigArgs,
    /// The output format: JSON, or the text of a configuration file.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Arguments of both commands.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigArgs {
    /// The configuration file. Default: ./pullgate.toml, or else /etc/pullgate/pullgate.toml.
    #[arg(long, env = "PULLGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(command: &ConfigCommand) -> Exit {
    match command {
        ConfigCommand::Check(args) => check(args).unwrap_or_else(super::fail),
        ConfigCommand::Show(args) => match load(args.file.config.as_deref()) {
            Ok(config) => show(&config, args.output),
            Err(exit) => exit,
        },
    }
}

fn show(config: &Config, output: Output) -> Exit {
    match output {
        Output::Json => print_json(&config.to_json()),
        Output::Table => print!("{}", config.show()),
    }
    Exit::Ok
}

fn check(args: &CheckConfigArgs) -> Result<Exit, CommandError> {
    let (config, mut problems) = Config::examine(args.file.config.as_deref(), std::env::vars_os());
    if let Some(config) = &config {
        let runtime = super::runtime()?;
        let report = runtime.block_on(preflight::check(config, PreflightDepth::Everything, &Clock::system()));
        problems.extend(report.into_problems());
        if args.online {
            problems.extend(runtime.block_on(reach(config)));
        }
        problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    }
    let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let (errors, warnings) = (count(ProblemSeverity::Error), count(ProblemSeverity::Warning));
    match args.output {
        Output::Json => {
            let found: Vec<_> = problems.iter().map(problem_json).collect();
            let file = config.as_ref().map(|config| config.places.file().to_owned());
            let answer = json!({"config": file, "errors": errors, "warnings": warnings, "problems": found});
            print_json(&answer);
        }
        Output::Table => print_found(config.as_ref(), &problems, (errors, warnings)),
    }
    Ok(if errors > 0 || (args.strict && warnings > 0) { Exit::Config } else { Exit::Ok })
}

/// Mistakes go to standard error, and notes to standard output.
fn print_found(config: Option<&Config>, problems: &[Problem], (errors, warnings): (usize, usize)) {
    for problem in problems {
        let text = problem.to_string();
        match problem.severity {
            ProblemSeverity::Note => println!("{}", printable(&text)),
            ProblemSeverity::Error | ProblemSeverity::Warning => eprintln!("{}", printable(&text)),
        }
    }
    let counts = format!("{}, {}", counted(errors, "error", "errors"), counted(warnings, "warning", "warnings"));
    match config {
        Some(config) if errors == 0 => println!(
            "ok: {}, {}, policies in {}; {counts}",
            counted(config.listeners.len(), "listener", "listeners"),
            counted(config.upstreams.len(), "upstream", "upstreams"),
            config.policy_dir.display()
        ),
        _ => eprintln!("{counts}"),
    }
}

/// Asks everything in the network, with a bar on a terminal.
async fn reach(config: &Config) -> Vec<Problem> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} services asked");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let problems = preflight::reach(config, |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    let problems = problems.await;
    bar.finish_and_clear();
    problems
}

/// Reads the configuration for a gate, and opens what it names. The error is everything that is wrong, in the file and
/// outside of it.
pub(super) async fn load_and_open(path: Option<&Path>) -> Result<Config, CommandError> {
    let (config, problems) = Config::examine(path, std::env::vars_os());
    let Some(config) = config else { return Err(CommandError::Config(problems)) };
    let opened = preflight::open(config, problems, PreflightDepth::Start, &Clock::system()).await;
    opened.map_err(CommandError::Config)
}

/// Reads the configuration; prints every problem.
pub(super) fn load(path: Option<&Path>) -> Result<Config, Exit> {
    print_problems(read(path))
}

/// Like [`load`], for commands that fetch the trusted roots, which may therefore be missing.
pub(super) fn load_without_roots(path: Option<&Path>) -> Result<Config, Exit> {
    print_problems(Config::load_without_roots(path, std::env::vars_os()))
}

fn print_problems(read: Result<Config, Vec<Problem>>) -> Result<Config, Exit> {
    let (loaded, problems) = match read {
        Ok(mut config) => {
            let warnings = std::mem::take(&mut config.warnings);
            (Ok(config), warnings)
        }
        Err(problems) => (Err(Exit::Config), problems),
    };
    problems.iter().for_each(|problem| eprintln!("{problem}"));
    loaded
}

/// Reads the configuration. The error is every problem of it.
pub(super) fn load_or_error(path: Option<&Path>) -> Result<Config, CommandError> {
    read(path).map_err(CommandError::Config)
}

fn read(path: Option<&Path>) -> Result<Config, Vec<Problem>> {
    Config::load(path, std::env::vars_os())
}
