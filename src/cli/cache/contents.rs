//! `pullgate cache list|rm` and `cache gc --dry-run`: what is in the cache, and what would be removed.

use std::cmp::Reverse;

use jiff::Timestamp;

use crate::api::{
    CachedContent, ContentKind, ContentListRequest, Forecast, ForecastContent, RemovalCause, RemovalRequest,
    RemovedContent, path,
};
use crate::cli::output::{counted, print_json};
use crate::cli::remote::{delete, get};
use crate::cli::table::table;
use crate::cli::{CommandError, Exit, GateArgs, Output, fail};
use crate::oci::Digest;
use crate::runtime::rounded_size;

/// Shown below the help text of `cache list`.
pub(super) const LIST_EXAMPLES: &str = "Examples:
  pullgate cache list --config pullgate.toml
  pullgate cache list --sort size --limit 20
  pullgate cache list --limit 0 -o json | jq '.[] | select(.pinned)'";

/// Shown below the help text of `cache rm`.
pub(super) const RM_EXAMPLES: &str = "Examples:
  pullgate cache rm docker.io/library/nginx:1.27
  pullgate cache rm sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// How many contents are requested at a time.
const PAGE: u32 = 1000;

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
enum ContentOrder {
    /// By digest.
    Digest,
    /// Largest first.
    Size,
    /// Least recently used first.
    #[default]
    Used,
}

/// Arguments of `cache list`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ListArgs {
    /// The order.
    #[arg(long, value_enum, default_value_t)]
    sort: ContentOrder,
    /// The maximum number of entries to list, the first in the order; 0 for all.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    limit: usize,
    /// Print complete digests and times, and all repositories.
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    gate: GateArgs,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Arguments of `cache rm`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RmArgs {
    /// Images, as docker.io/library/nginx:1.27, or digests of manifests and blobs.
    #[arg(required = true, value_name = "IMAGE|DIGEST")]
    names: Vec<String>,
    /// Also remove what is pinned, with its pins, and what an offline upstream cannot deliver again.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    gate: GateArgs,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn list(args: &ListArgs) -> Result<Exit, CommandError> {
    let (mut kept, mut count) = (Vec::<CachedContent>::new(), 0);
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let mut request = ContentListRequest { after: None, limit: Some(PAGE) };
    loop {
        let page: Vec<CachedContent> = get(&args.gate, &format!("{}?{}", path::CACHE_CONTENTS, request.to_query()))?;
        let Some(last) = page.last() else { break };
        request.after = Some(last.digest);
        count += page.len();
        kept.extend(page);
        // No more is kept than is shown: a cache may have a million contents.
        sort(&mut kept, args.sort);
        kept.truncate(limit);
    }
    match args.output {
        Output::Json => print_json(&kept),
        Output::Table => print!("{}", describe(&kept, args.no_trunc)),
    }
    if count > kept.len() {
        eprintln!("{} of {count} shown; --limit 0 shows all", kept.len());
    }
    Ok(Exit::Ok)
}

fn sort(contents: &mut [CachedContent], order: ContentOrder) {
    match order {
        ContentOrder::Digest => contents.sort_by_key(|content| content.digest),
        ContentOrder::Size => contents.sort_by_key(|content| (Reverse(content.bytes), content.digest)),
        ContentOrder::Used => contents.sort_by_key(|content| (content.used, content.digest)),
    }
}

fn describe(contents: &[CachedContent], no_trunc: bool) -> String {
    let row = |content: &CachedContent| {
        [
            digest(&content.digest, no_trunc),
            kind(content.kind),
            rounded_size(content.bytes),
            time(content.used, no_trunc),
            if content.pinned { "yes" } else { "-" }.to_owned(),
            repositories(&content.repositories, no_trunc),
        ]
    };
    table(["DIGEST", "KIND", "SIZE", "LAST USE", "PINNED", "REPOSITORIES"], contents.iter().map(row))
}

fn digest(digest: &Digest, no_trunc: bool) -> String {
    if no_trunc { digest.to_string() } else { digest.short() }
}

fn kind(kind: ContentKind) -> String {
    kind.as_str().to_owned()
}

fn time(at: Timestamp, no_trunc: bool) -> String {
    if no_trunc { at.to_string() } else { at.strftime("%Y-%m-%d %H:%M").to_string() }
}

/// The first repository, and how many more there are.
fn repositories(names: &[String], no_trunc: bool) -> String {
    match names {
        [] => "-".to_owned(),
        [first, rest @ ..] if !no_trunc && !rest.is_empty() => format!("{first}, {} more", rest.len()),
        names => names.join(", "),
    }
}

/// Removes as much of what is named as possible.
pub(super) fn rm(args: &RmArgs) -> Result<Exit, CommandError> {
    let (mut exit, mut removed) = (Exit::Ok, Vec::new());
    for name in &args.names {
        let request = RemovalRequest { name: name.clone(), force: args.force };
        match delete::<RemovedContent>(&args.gate, &format!("{}?{}", path::CACHE_CONTENTS, request.to_query())) {
            Ok(one) if args.output == Output::Json => removed.push(one),
            Ok(RemovedContent { files, bytes, unpinned, .. }) => {
                println!("removed {name}: {}, {}", counted(files, "file", "files"), rounded_size(bytes));
                unpinned.iter().for_each(|image| println!("unpinned {}", crate::runtime::printable(image)));
            }
            Err(error) => exit = fail(error),
        }
    }
    if args.output == Output::Json {
        print_json(&removed);
    }
    Ok(exit)
}

/// What `cache gc` would remove.
pub(super) fn forecast(gate: &GateArgs, output: Output) -> Result<Exit, CommandError> {
    let forecast: Forecast = get(gate, path::CACHE_GC)?;
    match output {
        Output::Json => print_json(&forecast),
        Output::Table => print!("{}", describe_forecast(&forecast)),
    }
    Ok(Exit::Ok)
}

fn describe_forecast(forecast: &Forecast) -> String {
    let row = |content: &ForecastContent| {
        let cause = match content.cause {
            RemovalCause::Expired => "not used for cache.max_age",
            RemovalCause::Space => "least recently used",
            RemovalCause::Unnamed => "no manifest names it",
        };
        [
            content.digest.short(),
            kind(content.kind),
            rounded_size(content.bytes),
            time(content.used, false),
            content.repository.clone().unwrap_or_else(|| "-".into()),
            cause.to_owned(),
        ]
    };
    let files = counted(forecast.files, "file", "files");
    let summary = format!("would free {} in {files}\n", rounded_size(forecast.freed_bytes));
    if forecast.contents.is_empty() {
        return summary;
    }
    let rows = table(["DIGEST", "KIND", "SIZE", "LAST USE", "REPOSITORY", "WHY"], forecast.contents.iter().map(row));
    let more = if forecast.more { "and more\n" } else { "" };
    format!("{summary}{rows}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(seed: &[u8], bytes: u64, used: i64) -> CachedContent {
        let json = serde_json::json!({
            "digest": Digest::sha256(seed), "kind": "blob", "bytes": bytes, "pinned": false,
            "repositories": ["docker.io/library/nginx", "docker.io/library/tomcat"],
            "used": Timestamp::from_second(used).unwrap(),
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn lists_are_sorted_and_shortened() {
        let mut contents = vec![content(b"a", 5, 60), content(b"b", 7, 0), content(b"c", 6, 120)];
        contents[1].pinned = true;
        contents[1].repositories.clear();
        sort(&mut contents, ContentOrder::Size);
        assert_eq!(contents.iter().map(|content| content.bytes).collect::<Vec<_>>(), [7, 6, 5]);
        sort(&mut contents, ContentOrder::Used);
        assert_eq!(
            describe(&contents, false),
            "\
DIGEST         KIND   SIZE   LAST USE           PINNED   REPOSITORIES
3e23e8160039   blob   7B     1970-01-01 00:00   yes      -
ca978112ca1b   blob   5B     1970-01-01 00:01   -        docker.io/library/nginx, 1 more
2e7d2c03a950   blob   6B     1970-01-01 00:02   -        docker.io/library/nginx, 1 more
"
        );
        let full = describe(&contents, true);
        assert!(
            full.contains("library/nginx, docker.io/library/tomcat") && full.contains("1970-01-01T00:02:00Z"),
            "{full}"
        );
        assert!(full.contains(&contents[0].digest.to_string()), "{full}");
    }
}
