//! `pullgate config check|show`, and loading the configuration for every other command.

use std::path::{Path, PathBuf};

use super::{CommandError, Exit};
use crate::config::Config;
use crate::markup::Problem;
use crate::runtime::printable;
use crate::va::check_scanner;

/// Check or print the configuration.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Validate the configuration: report every mistake with its place and a hint. Exits with 78 if there is one.
    Check(ConfigArgs),
    /// Print the effective configuration, including defaults and environment, without secrets.
    Show(ConfigArgs),
}

/// Arguments of both commands.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigArgs {
    /// The configuration file.
    #[arg(long, env = "PULLGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(command: &ConfigCommand) -> Exit {
    let (ConfigCommand::Check(args) | ConfigCommand::Show(args)) = command;
    let config = match load(args.config.as_deref()) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    match command {
        ConfigCommand::Check(_) => {
            if !check_scanners(&config) {
                return Exit::Config;
            }
            println!(
                "ok: {} listener(s), {} upstream(s), policies in {}",
                config.listeners.len(),
                config.upstreams.len(),
                config.policy_dir.display()
            );
        }
        ConfigCommand::Show(_) => print!("{}", config.show()),
    }
    Exit::Ok
}

/// Prints what is known about each scanner. Returns whether all can be used.
fn check_scanners(config: &Config) -> bool {
    let runtime = match super::runtime() {
        Ok(runtime) if !config.va.scanners.is_empty() => runtime,
        _ => return true,
    };
    let mut all_usable = true;
    for scanner in &config.va.scanners {
        match runtime.block_on(check_scanner(scanner, &config.va.scratch, config.va.admin_socket.as_deref())) {
            Ok(facts) => println!("scanner {}: {}", scanner.name, printable(&facts.join("; "))),
            Err(why) => {
                all_usable = false;
                eprintln!("error: va.scanner {}: {}", scanner.name, printable(&why));
            }
        }
    }
    all_usable
}

/// Reads the configuration; prints every problem.
pub(super) fn load(path: Option<&Path>) -> Result<Config, Exit> {
    print_problems(read(path))
}

/// As [`load`], for commands that are there to bring the trusted roots: those may be missing.
pub(super) fn load_without_roots(path: Option<&Path>) -> Result<Config, Exit> {
    print_problems(Config::load_without_roots(path, std::env::vars()))
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
    Config::load(path, std::env::vars())
}
