//! argv, exit codes; all else is the library's.

use std::process::ExitCode;

fn main() -> ExitCode {
    pullgate::cli::run().into()
}
