//! `pullgate cache status|list|rm|gc|verify|pin|pins|unpin`.

mod contents;
mod pins;

use serde_json::json;

use super::output::{counted, print_json};
use super::remote::{get, post, run_job};
use super::{CommandError, Exit, GateArgs, Output};
use crate::api::{CacheStatus, Collected, Verified, path};
use crate::runtime::{printable, rounded_size};

/// The cache commands.
#[derive(Debug, clap::Subcommand)]
pub(super) enum CacheCommand {
    /// Show cache usage and limits.
    Status(CacheArgs),
    /// List what is in the cache: manifests and blobs, with the repositories that delivered them.
    #[command(after_help = contents::LIST_EXAMPLES)]
    List(contents::ListArgs),
    /// Remove images, or single manifests and blobs, from the cache; they are fetched again on the next pull. All
    /// platforms of an image are removed, and its layers that no other image in the cache needs. Content that is
    /// pinned, in use, or from an offline upstream is kept; the command then exits with 1.
    #[command(after_help = contents::RM_EXAMPLES)]
    Rm(contents::RmArgs),
    /// Remove content that is too old, that no manifest names, or that exceeds the low watermark.
    Gc(GcArgs),
    /// Hash all content again and remove what is corrupt; it is fetched again on the next pull. Exits with 2 if any
    /// content was corrupt.
    Verify(CacheArgs),
    /// Keep images that are in the cache until they are unpinned: they are never evicted. A pin keeps the digest that a
    /// tag refers to now, with all platforms, layers and what is attached to them. Exits with 1 if an image is not
    /// completely in the cache.
    #[command(after_help = pins::EXAMPLES)]
    Pin(pins::PinArgs),
    /// List the pinned images.
    Pins(CacheArgs),
    /// Remove pins, so that the images can be evicted again.
    Unpin(pins::UnpinArgs),
}

/// Arguments of all cache commands.
#[derive(Debug, clap::Args)]
pub(super) struct CacheArgs {
    #[command(flatten)]
    gate: GateArgs,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Arguments of `cache gc`.
#[derive(Debug, clap::Args)]
pub(super) struct GcArgs {
    /// Remove nothing, and list what would be removed.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    gate: GateArgs,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(command: &CacheCommand) -> Exit {
    let outcome = match command {
        CacheCommand::Status(args) => status(args),
        CacheCommand::List(args) => contents::list(args),
        CacheCommand::Rm(args) => contents::rm(args),
        CacheCommand::Gc(args) if args.dry_run => contents::forecast(&args.gate, args.output),
        CacheCommand::Gc(args) => gc(args),
        CacheCommand::Verify(args) => verify(args),
        CacheCommand::Pin(args) => pins::pin(args),
        CacheCommand::Pins(args) => pins::list(&args.gate, args.output),
        CacheCommand::Unpin(args) => pins::unpin(args),
    };
    outcome.unwrap_or_else(super::fail)
}

fn status(args: &CacheArgs) -> Result<Exit, CommandError> {
    let status: CacheStatus = get(&args.gate, path::CACHE)?;
    if args.output == Output::Json {
        print_json(&status);
        return Ok(Exit::Ok);
    }
    let line = |label: &str, value: String| println!("{label:<12} {}", printable(&value));
    line("stored", format!("{} of {}", rounded_size(status.stored_bytes), rounded_size(status.max_bytes)));
    line("blobs", format!("{} ({})", status.blobs, rounded_size(status.blob_bytes)));
    line("manifests", format!("{} ({})", status.manifests, rounded_size(status.manifest_bytes)));
    line("pinned", format!("{} ({})", counted(status.pins, "image", "images"), rounded_size(status.pinned_bytes)));
    if let Some(warning) = &status.pins_warning {
        line("warning", warning.clone());
    }
    line("downloads", format!("{} in progress ({})", status.fills, rounded_size(status.reserved_bytes)));
    let (rows, most) = (rounded_size(status.database_bytes), rounded_size(status.max_database_bytes));
    line("database", format!("{rows} of {most}"));
    line("in memory", rounded_size(status.memory_bytes));
    line("disk free", rounded_size(status.disk_free_bytes));
    if let Some(trouble) = &status.trouble {
        line("trouble", trouble.clone());
    }
    Ok(Exit::Ok)
}

fn gc(args: &GcArgs) -> Result<Exit, CommandError> {
    let collected: Collected = post(&args.gate, path::CACHE_GC, &json!({}))?;
    match args.output {
        Output::Json => println!("{}", serde_json::to_string(&collected).unwrap_or_default()),
        Output::Table => {
            let Collected { freed_bytes, forgotten_rows, database_bytes } = collected;
            println!("freed {}", rounded_size(freed_bytes));
            let rows = counted(forgotten_rows, "database row", "database rows");
            println!("removed {rows}; the database shrank by {}", rounded_size(database_bytes));
        }
    }
    Ok(Exit::Ok)
}

fn verify(args: &CacheArgs) -> Result<Exit, CommandError> {
    let verified: Verified = run_job(&args.gate, path::CACHE_VERIFY, &json!({}))?;
    match args.output {
        Output::Json => print_json(&verified),
        Output::Table => {
            let Verified { files, bytes, wrong } = &verified;
            println!("{}, {}: {} wrong", counted(*files, "file", "files"), rounded_size(*bytes), wrong.len());
            wrong.iter().for_each(|digest| println!("dropped {digest}"));
        }
    }
    Ok(if verified.wrong.is_empty() { Exit::Ok } else { Exit::Denied })
}
