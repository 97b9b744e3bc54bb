//! placeholder until merge
use super::Exit;
#[derive(Debug, clap::Subcommand)]
pub(super) enum PolicyCommand { }
pub(super) fn run(command: PolicyCommand) -> Exit { match command {} }
