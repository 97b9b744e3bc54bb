//! The parts of a time (CEL specification, "Standard definitions"), in UTC.

use cel::{Context, ExecutionError};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// A part of a time.
type TimePart = fn(&Zoned) -> i64;

/// The methods of times, and what each returns. Months and `getDayOfMonth` begin with 0, as do the days of a week with
/// Sunday.
const METHODS: [(&str, TimePart); 10] = [
    ("getDate", |at| at.day().into()),
    ("getDayOfMonth", |at| i64::from(at.day()) - 1),
    ("getDayOfWeek", |at| at.weekday().to_sunday_zero_offset().into()),
    ("getDayOfYear", |at| i64::from(at.day_of_year()) - 1),
    ("getFullYear", |at| at.year().into()),
    ("getHours", |at| at.hour().into()),
    ("getMilliseconds", |at| at.millisecond().into()),
    ("getMinutes", |at| at.minute().into()),
    ("getMonth", |at| i64::from(at.month()) - 1),
    ("getSeconds", |at| at.second().into()),
];

/// Whether times have a method of this name.
pub(super) fn is_method(name: &str) -> bool {
    METHODS.iter().any(|(known, _)| *known == name)
}

/// Adds the methods, as functions of milliseconds since 1970. Returns whether all could be added.
pub(super) fn add(context: &mut Context<'_, '_>) -> bool {
    METHODS.into_iter().all(|(method, part)| {
        let function = move |milliseconds: i64| {
            utc(milliseconds).map(|at| part(&at)).map_err(|why| ExecutionError::function_error(method, why))
        };
        context.add_function(method, function).is_ok()
    })
}

fn utc(milliseconds: i64) -> Result<Zoned, String> {
    let at = Timestamp::from_millisecond(milliseconds).map_err(|error| error.to_string())?;
    Ok(at.to_zoned(TimeZone::UTC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_parts_in_utc() {
        let at: Timestamp = "2026-11-26T10:20:30.500Z".parse().unwrap();
        let at = utc(at.as_millisecond()).unwrap();
        let expected = [26, 25, 4, 329, 2026, 10, 500, 20, 10, 30];
        for ((method, part), expected) in METHODS.into_iter().zip(expected) {
            assert_eq!(part(&at), expected, "{method}");
        }
        assert!(utc(i64::MAX).is_err());
    }
}
