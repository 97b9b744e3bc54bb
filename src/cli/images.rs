//! `pullgate images`: lists the images that went through the gate, in the format of `ibmcloud cr images`.

mod verdicts;

use std::time::Duration;

use super::{Exit, GateArgs, Output};
use crate::api::{ImageAnswer, ListedChange, path};
use crate::runtime::{parse_duration, printable};

/// Shown below the help text.
pub(super) const EXAMPLES: &str = "Examples:
  pullgate images --config pullgate.toml
  pullgate images --config pullgate.toml --changed --since 1d
  pullgate images --config pullgate.toml --would-deny --since 7d --no-trunc";

/// Arguments of `images`.
#[derive(Debug, clap::Args)]
pub(super) struct ImagesArgs {
    #[command(flatten)]
    gate: GateArgs,
    /// List only repositories that start with this prefix.
    #[arg(long, value_name = "PREFIX")]
    restrict: Option<String>,
    /// List the admitted images whose verdict has changed: from what to what, and why.
    #[arg(long, conflicts_with = "would_deny")]
    changed: bool,
    /// List the images that were admitted and would be denied now, with the clients that pulled them. Exits with 2 if there
    /// are any.
    #[arg(long)]
    would_deny: bool,
    /// How far back --changed and --would-deny look, such as 12h or 7d.
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = parse_duration)]
    since: Duration,
    /// Print complete digests, and all clients.
    #[arg(long)]
    no_trunc: bool,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &ImagesArgs) -> Exit {
    if args.changed || args.would_deny {
        let which = if args.changed { ListedChange::Changed } else { ListedChange::WouldDeny };
        return verdicts::run(args, which, args.since);
    }
    let images: Vec<ImageAnswer> = match super::remote::get(&args.gate, path::IMAGES) {
        Ok(images) => images,
        Err(error) => return super::fail(error),
    };
    let wanted =
        |image: &&ImageAnswer| args.restrict.as_ref().is_none_or(|prefix| image.repository.starts_with(&**prefix));
    let images: Vec<_> = images.iter().filter(wanted).collect();
    if args.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&images).unwrap_or_default());
        return Exit::Ok;
    }
    let header = ["REPOSITORY", "TAG", "DIGEST", "NAMESPACE", "CREATED", "SIZE", "SECURITY STATUS"];
    let rows = images.iter().map(|image| {
        [
            image.repository.clone(),
            image.tag.clone(),
            if args.no_trunc { image.digest.to_string() } else { image.digest.short() },
            image.namespace.clone(),
            image.created.as_deref().map_or("-", |created| created.get(..10).unwrap_or(created)).to_owned(),
            image.size.map_or("-".into(), human_size),
            image.security_status.clone(),
        ]
    });
    print!("{}", table(header, rows));
    Exit::Ok
}

/// Decimal units, as in `cr images` and `docker images`.
fn human_size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// A text table. Each column is as wide as its widest cell; columns are three spaces apart.
pub(super) fn table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut lines = vec![header.map(str::to_owned)];
    lines.extend(rows.map(|row| row.map(|cell| printable(&cell).into_owned())));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("   ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_columns_are_formatted() {
        assert_eq!(human_size(999), "999 B");
        assert_eq!(human_size(36_200_000), "36.2 MB");
        let text = table(["A", "LONG"], [["wide cell".into(), "x".into()]].into_iter());
        assert_eq!(text, "A           LONG\nwide cell   x\n");
        let text = table(["A", "B"], [["\u{1b}[2J".into(), "\u{202e}".into()]].into_iter());
        assert_eq!(text, "A           B\n\\u{1b}[2J   \\u{202e}\n");
    }
}
