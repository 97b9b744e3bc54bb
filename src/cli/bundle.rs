//! `pullgate bundle export|import`: images with everything that is needed to judge them, in one file.

mod archive;
mod export;
mod import;
mod layout;
mod reading;

use super::Exit;

/// Shown below the help texts.
const EXPORT_EXAMPLES: &str = "Examples:
  pullgate bundle export --config pullgate.toml -f shop.tar nginx:1.27 registry.acme.com/app:v1
  pullgate bundle export --config pullgate.toml -f shop.tar --platform linux/arm64 \\
    --with-advisories nginx:1.27";
const IMPORT_EXAMPLES: &str = "Examples:
  pullgate bundle import --config pullgate.toml --dry-run shop.tar
  pullgate bundle import --config pullgate.toml --with-advisories shop.tar";

/// The bundle commands.
#[derive(Debug, clap::Subcommand)]
pub(super) enum BundleCommand {
    /// Write images with their platforms, signatures and attestations to one archive, an OCI image layout. Images that
    /// the gate would deny are not exported.
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(export::ExportArgs),
    /// Read images from an archive into the cache of a running gate. Each is judged like a pull; denied images do not
    /// become available. Exits with 2 if an image is denied.
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(import::ImportArgs),
}

pub(super) fn run(command: &BundleCommand) -> Exit {
    let outcome = match command {
        BundleCommand::Export(args) => export::export(args),
        BundleCommand::Import(args) => import::import(args),
    };
    outcome.unwrap_or_else(super::fail)
}
