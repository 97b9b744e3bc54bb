//! `pullgate images`: lists the images that went through the gate, in the format of `ibmcloud cr images`.

mod verdicts;

use std::time::Duration;

use jiff::Timestamp;

use super::output::{counted, print_json};
use super::table::{terminal_width, wrapped};
use super::{CommandError, Exit, GateArgs, Output, remote};
use crate::api::{ImageAnswer, ImageListRequest, ListedChange, path};
use crate::runtime::{Clock, parse_duration};

/// Shown below the help text.
pub(super) const EXAMPLES: &str = "Examples:
  pullgate images --config pullgate.toml
  pullgate images --config pullgate.toml --changed --since 1d
  pullgate images --config pullgate.toml --would-deny --since 7d --no-trunc";

/// How many images are requested at a time.
const PAGE: usize = 1000;

/// Arguments of `images`.
#[derive(Debug, clap::Args)]
pub(super) struct ImagesArgs {
    #[command(flatten)]
    gate: GateArgs,
    /// List only this namespace or repository and what is below it, or repositories that start with this registry or
    /// prefix.
    #[arg(long, value_name = "NAME")]
    restrict: Option<String>,
    /// List the admitted images whose verdict has changed: from what to what, and why.
    #[arg(long, conflicts_with = "would_deny")]
    changed: bool,
    /// List the images that were admitted and would be denied now, with the clients that pulled them. Exits with 2 if
    /// there are any. A document in audit mode does not count while an enforced entry admits the image.
    #[arg(long)]
    would_deny: bool,
    /// How far back --changed and --would-deny look, such as 12h or 7d.
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = parse_duration)]
    since: Duration,
    /// Show the security status of each image. This is the default.
    #[arg(long, overrides_with = "no_va")]
    va: bool,
    /// Leave out the security status, which takes most of the time.
    #[arg(long)]
    no_va: bool,
    /// Print complete digests and times, and all clients.
    #[arg(long)]
    no_trunc: bool,
    /// Print only the names, as REPOSITORY:TAG.
    #[arg(long, short, conflicts_with = "output")]
    quiet: bool,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &ImagesArgs) -> Exit {
    if args.changed || args.would_deny {
        let which = if args.changed { ListedChange::Changed } else { ListedChange::WouldDeny };
        return verdicts::run(args, which, args.since);
    }
    let without_va = args.quiet || (args.no_va && !args.va);
    let images = match list(&args.gate, args.restrict.as_deref(), without_va) {
        Ok(images) => images,
        Err(error) => return super::fail(error),
    };
    if args.output == Output::Json {
        print_json(&images);
    } else if args.quiet {
        images.iter().for_each(|image| println!("{}:{}", image.repository, image.tag));
    } else {
        let shown = Shown { without_va, no_trunc: args.no_trunc, now: Clock::system().now(), width: terminal_width() };
        print!("{}", describe(&images, &shown));
        if let Some(help) = help(&images, args.restrict.as_deref(), shown.width.is_some()) {
            eprintln!("{help}");
        }
    }
    Exit::Ok
}

/// All known images, page by page.
fn list(gate: &GateArgs, restrict: Option<&str>, without_va: bool) -> Result<Vec<ImageAnswer>, CommandError> {
    let restrict = restrict.map(str::to_owned);
    let mut request = ImageListRequest { restrict, after: None, limit: Some(PAGE), without_va };
    let mut images: Vec<ImageAnswer> = Vec::new();
    loop {
        let page: Vec<ImageAnswer> = remote::get(gate, &format!("{}?{}", path::IMAGES, request.to_query()))?;
        let Some(last) = page.last() else { return Ok(images) };
        request.after = Some(format!("{}:{}", last.repository, last.tag));
        images.extend(page);
    }
}

/// How images are shown.
struct Shown {
    without_va: bool,
    no_trunc: bool,
    now: Timestamp,
    width: Option<usize>,
}

fn describe(images: &[ImageAnswer], shown: &Shown) -> String {
    let mut header = vec!["REPOSITORY", "TAG", "DIGEST", "NAMESPACE", "CREATED", "SIZE", "SECURITY STATUS"];
    if shown.without_va {
        header.pop();
    }
    let row = |image: &ImageAnswer| {
        let created = image.created.as_deref().map(|created| match created.parse() {
            Ok(at) if !shown.no_trunc => age(at, shown.now),
            _ => created.to_owned(),
        });
        let mut row = vec![
            image.repository.clone(),
            image.tag.clone(),
            if shown.no_trunc { image.digest.to_string() } else { image.digest.short() },
            image.namespace.clone(),
            created.unwrap_or_else(|| "-".into()),
            image.size.map_or("-".into(), human_size),
        ];
        row.extend((!shown.without_va).then(|| image.security_status.clone()));
        row
    };
    wrapped(&header, &images.iter().map(row).collect::<Vec<_>>(), shown.width)
}

/// A hint at what to do next if the list is empty, or contains something that a person at a terminal may want to look
/// into.
fn help(images: &[ImageAnswer], restrict: Option<&str>, is_terminal: bool) -> Option<String> {
    // It is empty if it was not asked for.
    let is_right = |status: &str| matches!(status, "" | "No Issues" | "Not Scanned" | "Scanning");
    let is_wrong = |image: &ImageAnswer| !is_right(&image.security_status);
    match (images, restrict) {
        ([], Some(restrict)) => Some(format!("No known image matches --restrict {restrict}.")),
        ([], None) => Some("No image went through the gate yet.".to_owned()),
        _ if is_terminal && images.iter().any(is_wrong) => {
            Some("\n`pullgate va IMAGE` shows what is wrong with an image and how to resolve it.".to_owned())
        }
        _ => None,
    }
}

/// How long ago something was, as `cr images` and `docker images` say: `9 minutes ago`, `2 weeks ago`.
fn age(at: Timestamp, now: Timestamp) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let seconds = now.as_second() - at.as_second();
    if seconds < 0 {
        return "in the future".into();
    }
    let (count, unit) = match seconds {
        _ if seconds < MINUTE => (seconds, "second"),
        _ if seconds < HOUR => (seconds / MINUTE, "minute"),
        _ if seconds < 2 * DAY => (seconds / HOUR, "hour"),
        _ if seconds < 14 * DAY => (seconds / DAY, "day"),
        _ if seconds < 30 * DAY => (seconds / (7 * DAY), "week"),
        _ if seconds < 2 * 365 * DAY => (seconds / (30 * DAY), "month"),
        _ => (seconds / (365 * DAY), "year"),
    };
    format!("{} ago", counted(count, unit, &format!("{unit}s")))
}

/// Decimal units, as in `cr images` and `docker images`: `985 B`, `4.5 MB`, `45 MB`.
fn human_size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let unit = units[unit];
    match value {
        _ if unit == "B" => format!("{bytes} B"),
        10.0.. => format!("{value:.0} {unit}"),
        _ => format!("{} {unit}", (value * 10.0).round() / 10.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The images of the tutorial's figure `image-list.png`, in its order.
    fn tutorial() -> Vec<ImageAnswer> {
        [
            ("docker", "latest", "252b0e19319b", "2018-05-10T12:00:00Z", 41_000_000, "No Issues"),
            ("hello-world", "latest", "d5c74e6f8efc", "2018-04-10T12:00:00Z", 985, "No Issues"),
            ("nginx", "latest", "1f9c00b4c95e", "2018-05-31T12:00:00Z", 45_000_000, "8 Issues"),
            ("tomcat", "latest", "be2aa42219fe", "2018-05-31T12:00:00Z", 198_000_000, "1 Issue"),
            ("tomcat", "v2", "0cb8e91ef51a", "2018-06-13T21:00:00Z", 210_000_000, "No Issues"),
        ]
        .into_iter()
        .map(|(name, tag, digest, created, size, status)| ImageAnswer {
            repository: format!("registry.ng.bluemix.net/sg_space/{name}"),
            tag: tag.into(),
            digest: format!("sha256:{digest}{}", "0".repeat(52)).parse().unwrap(),
            namespace: "sg_space".into(),
            created: Some(created.into()),
            size: Some(size),
            security_status: status.into(),
        })
        .collect()
    }

    fn shown() -> Shown {
        Shown { without_va: false, no_trunc: false, now: "2018-06-14T12:00:00Z".parse().unwrap(), width: None }
    }

    #[test]
    fn the_list_has_the_columns_and_words_of_the_tutorial() {
        assert_eq!(
            describe(&tutorial(), &shown()),
            "\
REPOSITORY                                     TAG      DIGEST         NAMESPACE   CREATED        SIZE     SECURITY STATUS
registry.ng.bluemix.net/sg_space/docker        latest   252b0e19319b   sg_space    1 month ago    41 MB    No Issues
registry.ng.bluemix.net/sg_space/hello-world   latest   d5c74e6f8efc   sg_space    2 months ago   985 B    No Issues
registry.ng.bluemix.net/sg_space/nginx         latest   1f9c00b4c95e   sg_space    2 weeks ago    45 MB    8 Issues
registry.ng.bluemix.net/sg_space/tomcat        latest   be2aa42219fe   sg_space    2 weeks ago    198 MB   1 Issue
registry.ng.bluemix.net/sg_space/tomcat        v2       0cb8e91ef51a   sg_space    15 hours ago   210 MB   No Issues
"
        );
        let bare = describe(&tutorial(), &Shown { without_va: true, ..shown() });
        assert!(bare.contains("NAMESPACE") && !bare.contains("SECURITY STATUS") && !bare.contains("Issue"), "{bare}");
        let full = describe(&tutorial(), &Shown { no_trunc: true, ..shown() });
        assert!(full.contains("sha256:252b0e19319b0000") && full.contains("2018-05-10T12:00:00Z"), "{full}");
        let narrow = describe(&tutorial(), &Shown { width: Some(100), ..shown() });
        assert!(narrow.lines().all(|line| line.len() <= 100) && narrow.contains("2 weeks ago"), "{narrow}");
    }

    #[test]
    fn a_list_ends_with_a_hint() {
        let clean = || tutorial().into_iter().filter(|image| image.security_status == "No Issues").collect::<Vec<_>>();
        let said = |images: &[ImageAnswer], restrict| help(images, restrict, true).unwrap_or_default();
        assert!(said(&tutorial(), None).contains("`pullgate va IMAGE` shows what is wrong"));
        assert_eq!(said(&clean(), None), "");
        let unasked = tutorial().into_iter().map(|image| ImageAnswer { security_status: String::new(), ..image });
        assert_eq!(said(&unasked.collect::<Vec<_>>(), None), "", "--no-va");
        assert_eq!(help(&tutorial(), None, false), None, "what other programs read stays as it was");
        assert_eq!(said(&[], None), "No image went through the gate yet.");
        assert_eq!(said(&[], Some("acme")), "No known image matches --restrict acme.");
    }

    /// Repository and tag are checked names. The creation time is whatever the image states.
    #[test]
    fn an_image_controls_no_terminal_by_its_creation_time() {
        let mut images = tutorial();
        images[0].created = Some("\u{1b}]0;x\u{7}".into());
        let text = describe(&images, &shown());
        assert!(text.contains("\\u{1b}]0;x") && !text.replace('\n', "").contains(char::is_control), "{text:?}");
    }

    #[test]
    fn sizes_and_ages_are_formatted() {
        assert_eq!(human_size(999), "999 B");
        for (bytes, wanted) in [
            (1000, "1 kB"),
            (4_520_000, "4.5 MB"),
            (9_960_000, "10 MB"),
            (36_200_000, "36 MB"),
            (198_000_000, "198 MB"),
            (1_230_000_000, "1.2 GB"),
        ] {
            assert_eq!(human_size(bytes), wanted);
        }
        let now: Timestamp = "2026-06-14T12:00:00Z".parse().unwrap();
        for (created, wanted) in [
            ("2026-06-14T12:00:00Z", "0 seconds ago"),
            ("2026-06-14T11:58:59Z", "1 minute ago"),
            ("2026-06-13T12:00:00Z", "24 hours ago"),
            ("2026-06-10T12:00:00Z", "4 days ago"),
            ("2024-06-10T12:00:00Z", "2 years ago"),
            ("1970-01-01T00:00:00Z", "56 years ago"),
            ("2026-06-14T12:00:01Z", "in the future"),
        ] {
            assert_eq!(age(created.parse().unwrap(), now), wanted);
        }
    }
}
