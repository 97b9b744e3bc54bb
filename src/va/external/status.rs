//! What `pullgate config check` says about scanners.

use std::path::Path;

use super::config::{ScannerConfig, ScannerKind};
use super::program::ScannerProgram;
use super::{LAUNCHER, scratch_of};
use crate::runtime::{Tasks, shown_url};

/// Checks that a scanner can be used: that a program exists, can be executed, and states its version and that of its
/// database. Services are not contacted. Returns what is known about it, one line for each fact.
///
/// # Errors
/// Why it cannot be used.
pub async fn check_scanner(
    config: &ScannerConfig,
    state: &Path,
    admin_socket: Option<&Path>,
) -> Result<Vec<String>, String> {
    match &config.kind {
        ScannerKind::Embedded => Ok(vec!["the scanner of the gate".into()]),
        ScannerKind::Adapter(adapter) => Ok(vec![format!("{} (not contacted)", shown_url(&adapter.url))]),
        ScannerKind::Program(program) => {
            let scratch = scratch_of(state);
            let launcher = LAUNCHER.into();
            let tasks = Tasks::new();
            let program =
                ScannerProgram::new(program.clone(), config.timeout, launcher, (state, admin_socket), &scratch, tasks);
            program.version().await.map(|version| version.facts)
        }
    }
}
