//! `pullgate ready`: whether a running gate should receive requests. The container image has no other program that
//! could make the request.

use super::output::print_json;
use super::{CommandError, Exit, GateArgs, Output, remote};
use crate::runtime::printable_lines;

/// Arguments of `ready`.
#[derive(Debug, clap::Args)]
pub(super) struct ReadyArgs {
    #[command(flatten)]
    gate: GateArgs,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &ReadyArgs) -> Exit {
    ready(args).unwrap_or_else(super::fail)
}

fn ready(args: &ReadyArgs) -> Result<Exit, CommandError> {
    let is_json = args.output == Output::Json;
    let (is_ready, report) = remote::readiness(&args.gate, if is_json { "?verbose=json" } else { "?verbose" })?;
    if is_json {
        let report: serde_json::Value = serde_json::from_slice(&report).map_err(|error| error.to_string())?;
        print_json(&report);
    } else {
        print!("{}", printable_lines(&String::from_utf8_lossy(&report)));
    }
    Ok(if is_ready { Exit::Ok } else { Exit::Failure })
}
