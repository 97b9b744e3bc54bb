//! Durations and sizes as people write them: `20s`, `1h30m`, `2w`, `200GiB`.
//!
//! humantime and bytesize read more than this (years, fractions, `1 hour ago`) and reject some of it (bytesize takes
//! `1.5GiB` and rounds), so both are parsed here, strictly.

use std::fmt::Display;
use std::time::Duration;

/// Parses a duration: whole numbers, each with a unit (`ms`, `s`, `m`, `h`, `d`, `w`), that are added up: `1d12h`.
///
/// # Errors
/// If the text is anything else, or a part is longer than about three centuries.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(InvalidDuration);
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest).ok_or(InvalidDuration)?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(after.len());
        let milliseconds = match &after[..end] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return Err(InvalidDuration),
        };
        let part =
            number.checked_mul(milliseconds).filter(|part| *part <= 10_000_000_000_000).ok_or(InvalidDuration)?;
        total += Duration::from_millis(part);
        rest = after[end..].trim_start();
    }
    Ok(total)
}

/// Formats a duration so that [`parse_duration`] can parse it.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, milliseconds) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if rest >= milliseconds {
            text.push_str(&format!("{}{unit}", rest / milliseconds));
            rest %= milliseconds;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Parses a size in bytes: a whole number with a decimal (`KB` …) or binary (`KiB` …) unit, or without one.
///
/// # Errors
/// If the text is anything else, or does not fit into a `u64`.
pub fn parse_size(text: &str) -> Result<u64, InvalidSize> {
    let (number, unit) = split_number(text.trim()).ok_or(InvalidSize)?;
    let factor = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(InvalidSize),
    };
    number.checked_mul(factor).ok_or(InvalidSize)
}

/// Formats a size so that [`parse_size`] can parse it, in the largest binary unit that divides it.
pub fn format_size(bytes: u64) -> String {
    let units = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// Formats a size for people, in the largest binary unit, with one decimal place: `57.2MiB`.
pub fn rounded_size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    // In tenths, so that nothing is lost before it is rounded.
    let (mut tenths, mut unit) = (u128::from(bytes) * 10, 0);
    while tenths >= 10_235 && unit + 1 < units.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    match tenths % 10 {
        0 => format!("{}{}", tenths / 10, units[unit]),
        tenth => format!("{}.{tenth}{}", tenths / 10, units[unit]),
    }
}

/// Formats a duration for people, in its two largest units: `777d`, `5d3h`, `20s`.
pub fn rounded_duration(duration: Duration) -> String {
    const UNITS: [u64; 4] = [86_400, 3600, 60, 1];
    let seconds = duration.as_secs();
    if seconds == 0 {
        return format_duration(duration);
    }
    let largest = UNITS.into_iter().position(|unit| seconds >= unit).unwrap_or(UNITS.len() - 1);
    // Hours are of no interest after a month.
    let smallest = if seconds >= 30 * 86_400 { 0 } else { (largest + 1).min(UNITS.len() - 1) };
    format_duration(Duration::from_secs(seconds - seconds % UNITS[smallest]))
}

/// A number with the noun that fits: `1 policy`, `2 policies`.
pub fn counted<N: Copy + Display + PartialEq + From<u8>>(count: N, one: &str, many: &str) -> String {
    let noun = if count == N::from(1) { one } else { many };
    format!("{count} {noun}")
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// The text is not a duration.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a duration is whole numbers with units, such as 500ms, 20s, 1h30m, 30d or 2w")]
pub struct InvalidDuration;

/// The text is not a size.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a size is a whole number with a unit, such as 256KiB, 100MB or 200GiB")]
pub struct InvalidSize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("20s", 20_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("30d", 2_592_000_000),
            ("2w", 1_209_600_000),
            ("1h 5s", 3_605_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(millis), "{text}");
            assert_eq!(
                parse_duration(&format_duration(Duration::from_millis(millis))).unwrap().as_millis() as u64,
                millis
            );
        }
        for bad in ["", "20", "s", "1.5s", "-1s", "1y", "99999999999999999999s", "999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_rounded_for_people() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (3601, "1h"),
            (3725, "1h2m"),
            (5 * 86_400 + 3 * 3600 + 59, "5d3h"),
            (7 * 86_400, "7d"),
            (777 * 86_400 + 3600, "777d"),
        ] {
            assert_eq!(rounded_duration(Duration::from_secs(seconds)), text, "{seconds}");
        }
        assert_eq!(rounded_duration(Duration::from_millis(250)), "250ms");
    }

    #[test]
    fn numbers_have_the_noun_that_fits() {
        for (count, text) in [(0_u64, "0 entries"), (1, "1 entry"), (2, "2 entries"), (11, "11 entries")] {
            assert_eq!(counted(count, "entry", "entries"), text);
        }
    }

    #[test]
    fn sizes_are_rounded_for_people() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1.5KiB"),
            (60_007_643, "57.2MiB"),
            (200 << 30, "200GiB"),
            ((1 << 30) - 1, "1GiB"),
            (u64::MAX, "16777216TiB"),
        ] {
            assert_eq!(rounded_size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("200GiB", 200 << 30), ("256KiB", 256 << 10), ("1MB", 1_000_000), ("5", 5), ("7B", 7), ("1 GiB", 1 << 30)]
        {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
            assert_eq!(parse_size(&format_size(bytes)).unwrap(), bytes);
        }
        for bad in ["", "GiB", "1.5GiB", "-1", "1XB", "99999999999TiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
