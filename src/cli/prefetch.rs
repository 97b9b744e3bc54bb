//! `pullgate prefetch IMAGE...`.

use super::remote::run_job;
use super::{Exit, Output, Where};
use crate::runtime::format_size;
use crate::server::{PrefetchRequest, PrefetchedImage};

/// Arguments of `prefetch`.
#[derive(Debug, clap::Args)]
pub(super) struct PrefetchArgs {
    /// The images: docker.io/library/nginx:1.27, by digest, or short names.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// A platform of multi-platform images: linux/arm64. May be given several times; without it those of the gate's
    /// configuration, or its machine's.
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<String>,
    /// The Kubernetes namespace, or other scope, whose rules apply.
    #[arg(long, short, default_value = "", value_name = "NAMESPACE", hide_default_value = true)]
    namespace: String,
    #[command(flatten)]
    place: Where,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &PrefetchArgs) -> Exit {
    let request = PrefetchRequest {
        images: args.images.clone(),
        platforms: args.platform.clone(),
        namespace: args.namespace.clone(),
    };
    let images: Vec<PrefetchedImage> = match run_job(&args.place, "/api/v1/prefetch", &request) {
        Ok(images) => images,
        Err(error) => return super::fail(error),
    };
    if args.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&images).unwrap_or_default());
    }
    let mut exit = Exit::Ok;
    for PrefetchedImage { image, blobs, bytes, error } in &images {
        match error {
            Some(error) => exit = super::fail(error),
            None if args.output == Output::Table => println!("{image}: {blobs} blobs, {}", format_size(*bytes)),
            None => {}
        }
    }
    exit
}
