//! placeholder until merge
use super::Exit;
#[derive(Debug, clap::Subcommand)]
pub(super) enum CertsCommand { }
pub(super) fn run(command: &CertsCommand) -> Exit { match *command {} }
