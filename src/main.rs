//! The entry point; everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pullgate::cli::run().into()
}
