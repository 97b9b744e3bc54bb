//! The entry point; everything else is in the library.

use std::process::ExitCode;

/// In static programs: musl's own allocator takes one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pullgate::cli::run().into()
}
