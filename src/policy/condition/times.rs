//! The parts of a time (CEL specification, "Standard definitions"), in UTC.

use cel::{Context, ExecutionError};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The methods of times.
const METHODS: [&str; 10] = [
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
];

/// Whether times have a method of this name.
pub(super) fn is_method(name: &str) -> bool {
    METHODS.contains(&name)
}

/// Adds the methods, as functions of milliseconds since 1970. Returns whether all could be added.
pub(super) fn add(context: &mut Context<'_, '_>) -> bool {
    METHODS.into_iter().all(|method| {
        let function = move |milliseconds: i64| {
            part(method, milliseconds).map_err(|why| ExecutionError::function_error(method, why))
        };
        context.add_function(method, function).is_ok()
    })
}

/// The part of a time that a method returns. Months and `getDayOfMonth` begin with 0, as do the days of a week with Sunday.
fn part(method: &str, milliseconds: i64) -> Result<i64, String> {
    let at = Timestamp::from_millisecond(milliseconds).map_err(|error| error.to_string())?.to_zoned(TimeZone::UTC);
    Ok(match method {
        "getDate" => at.day().into(),
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDayOfWeek" => at.weekday().to_sunday_zero_offset().into(),
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getFullYear" => at.year().into(),
        "getHours" => at.hour().into(),
        "getMilliseconds" => at.millisecond().into(),
        "getMinutes" => at.minute().into(),
        "getMonth" => i64::from(at.month()) - 1,
        _ => at.second().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_parts_in_utc() {
        let at: Timestamp = "2026-11-26T10:20:30.500Z".parse().unwrap();
        let expected = [26, 25, 4, 329, 2026, 10, 500, 20, 10, 30];
        for (method, expected) in METHODS.into_iter().zip(expected) {
            assert_eq!(part(method, at.as_millisecond()), Ok(expected), "{method}");
        }
        assert!(part("getHours", i64::MAX).is_err());
    }
}
