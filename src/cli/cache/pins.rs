//! `pullgate cache pin|pins|unpin`: images that are never evicted.

use crate::api::{PinAnswer, PinRequest, PrefetchRequest, PrefetchedImage, encode, path};
use crate::cli::account::named_or_own;
use crate::cli::output::print_json;
use crate::cli::remote::{delete, get, post, run_job};
use crate::cli::table::table;
use crate::cli::{CommandError, Exit, GateArgs, Output, fail};
use crate::runtime::rounded_size;

/// Shown below the help text.
pub(super) const EXAMPLES: &str = "Examples:
  pullgate cache pin docker.io/library/nginx:1.27 --reason \"base image of the shop\"
  pullgate cache pin --fetch --platform linux/arm64 registry.acme.com/team/app:v1
  pullgate cache pins
  pullgate cache unpin docker.io/library/nginx:1.27";

/// Arguments of `cache pin`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct PinArgs {
    /// The images: docker.io/library/nginx:1.27, by digest, or short names.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// The reason for the pin.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The person or team responsible. Default: the account that runs the command.
    #[arg(long, value_name = "NAME", env = "USER")]
    by: Option<String>,
    /// Fetch the images first, as `pullgate prefetch` does, under the cluster-wide rules.
    #[arg(long)]
    fetch: bool,
    /// A platform to fetch from multi-platform images. Can be repeated. Default: those of the gate's configuration.
    #[arg(long, value_name = "PLATFORM", requires = "fetch")]
    platform: Vec<String>,
    #[command(flatten)]
    gate: GateArgs,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Arguments of `cache unpin`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct UnpinArgs {
    /// The images, by the names that `cache pins` shows.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    gate: GateArgs,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Pins as many of the images as possible.
pub(super) fn pin(args: &PinArgs) -> Result<Exit, CommandError> {
    let PinArgs { images, reason, by, fetch, platform, gate, output } = args;
    let (mut exit, mut pins) = (Exit::Ok, Vec::new());
    if *fetch {
        let request = PrefetchRequest { images: images.clone(), platforms: platform.clone(), namespace: String::new() };
        let fetched: Vec<PrefetchedImage> = run_job(gate, path::PREFETCH, &request)?;
        fetched.iter().filter_map(|image| image.error.as_ref()).for_each(|error| exit = fail(error.as_str()));
        if exit != Exit::Ok {
            return Ok(exit);
        }
    }
    for image in images {
        let by = Some(named_or_own(by.as_deref()));
        let request = PinRequest { image: image.clone(), reason: reason.clone(), by };
        match post::<PinAnswer>(gate, path::CACHE_PINS, &request) {
            Ok(pin) if *output == Output::Json => pins.push(pin),
            Ok(pin) => println!("pinned {} to {}", pin.image, pin.digest),
            Err(error) => exit = fail(error),
        }
    }
    if *output == Output::Json {
        print_json(&pins);
    }
    Ok(exit)
}

pub(super) fn list(gate: &GateArgs, output: Output) -> Result<Exit, CommandError> {
    let pins: Vec<PinAnswer> = get(gate, path::CACHE_PINS)?;
    match output {
        Output::Json => print_json(&pins),
        Output::Table => {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
            let row = |pin: &PinAnswer| {
                let size = rounded_size(pin.bytes.unwrap_or_default());
                let created = pin.created.strftime("%Y-%m-%d").to_string();
                [pin.image.clone(), pin.digest.short(), size, created, or_none(&pin.by), or_none(&pin.reason)]
            };
            print!("{}", table(["IMAGE", "DIGEST", "SIZE", "PINNED", "BY", "REASON"], pins.iter().map(row)));
        }
    }
    Ok(Exit::Ok)
}

/// Removes as many of the pins as possible.
pub(super) fn unpin(args: &UnpinArgs) -> Result<Exit, CommandError> {
    let (mut exit, mut unpinned) = (Exit::Ok, Vec::new());
    for image in &args.images {
        let query = format!("{}?image={}", path::CACHE_PINS, encode(image));
        match delete::<serde_json::Value>(&args.gate, &query) {
            Ok(_) if args.output == Output::Json => unpinned.push(image),
            Ok(_) => println!("unpinned {image}"),
            Err(error) => exit = fail(error),
        }
    }
    if args.output == Output::Json {
        print_json(&unpinned);
    }
    Ok(exit)
}
