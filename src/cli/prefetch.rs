//! `pullgate prefetch IMAGE...`.

use super::output::{counted, print_json};
use super::remote::run_job;
use super::{Exit, GateArgs, ImageArgs, Output, ScopeArgs};
use crate::api::{PrefetchRequest, PrefetchedImage, path};
use crate::runtime::rounded_size;

/// Shown below the help text.
pub(super) const EXAMPLES: &str = "Examples:
  pullgate prefetch --config pullgate.toml docker.io/library/nginx:1.27
  pullgate prefetch --config pullgate.toml --platform linux/amd64 --platform linux/arm64 nginx
  pullgate prefetch --config pullgate.toml --images images.txt";

/// Arguments of `prefetch`.
#[derive(Debug, clap::Args)]
pub(super) struct PrefetchArgs {
    #[command(flatten)]
    images: ImageArgs,
    /// A platform to fetch from multi-platform images, such as linux/arm64. Can be repeated. Default: the platforms in
    /// the configuration of the gate, or that of its machine.
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<String>,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    gate: GateArgs,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &PrefetchArgs) -> Exit {
    let wanted = match args.images.read() {
        Ok(images) => images,
        Err(error) => return super::fail(error),
    };
    let request =
        PrefetchRequest { images: wanted, platforms: args.platform.clone(), namespace: args.scope.namespace.clone() };
    let images: Vec<PrefetchedImage> = match run_job(&args.gate, path::PREFETCH, &request) {
        Ok(images) => images,
        Err(error) => return super::fail(error),
    };
    if args.output == Output::Json {
        print_json(&images);
    }
    let mut exit = Exit::Ok;
    for PrefetchedImage { image, blobs, bytes, error } in &images {
        match error {
            Some(error) => exit = super::fail(error.as_str()),
            None if args.output == Output::Table => {
                println!("{image}: {}, {}", counted(*blobs, "blob", "blobs"), rounded_size(*bytes));
            }
            None => {}
        }
    }
    exit
}
