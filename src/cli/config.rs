//! `pullgate config check|show`, and the reading of the configuration for every other command.

use std::path::{Path, PathBuf};

use super::Exit;
use crate::config::{Config, Problem};

/// Commands about the configuration.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Validate: all mistakes at once, each with its place and a hint. Exit code 78 when there is one.
    Check(ConfigArgs),
    /// Print the configuration in force, defaults and environment included, without secrets.
    Show(ConfigArgs),
}

/// Arguments of both.
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
        ConfigCommand::Check(_) => println!(
            "ok: {} listener(s), {} upstream(s), policies in {}",
            config.listeners.len(),
            config.upstreams.len(),
            config.policy_dir.display()
        ),
        ConfigCommand::Show(_) => print!("{}", config.show()),
    }
    Exit::Ok
}

/// Reads the configuration; prints every mistake.
pub(super) fn load(path: Option<&Path>) -> Result<Config, Exit> {
    read(path).map_err(|problems| {
        for problem in problems {
            eprintln!("{problem}");
        }
        Exit::Config
    })
}

/// Reads the configuration; every mistake in one text.
pub(super) fn load_or_say(path: Option<&Path>) -> Result<Config, String> {
    read(path).map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn read(path: Option<&Path>) -> Result<Config, Vec<Problem>> {
    Config::load(path, std::env::vars())
}
