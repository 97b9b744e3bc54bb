//! Parses response headers.

use std::ops::Range;

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName};

use super::retry::is_passing;
use crate::oci::media_type;

/// The value of a header, if it is text.
pub(super) fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Whether the body is a web page, as it is labelled.
pub(super) fn is_web_page(headers: &HeaderMap) -> bool {
    let label = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    matches!(&*media_type::essence(&label), "text/html" | "application/xhtml+xml")
}

/// Whether a failure is a web page that a registry or its token service hardly sends. Servers in front of them have
/// pages for their own failures, and for wrong passwords, too.
pub(super) fn is_foreign_page(status: StatusCode, headers: &HeaderMap) -> bool {
    is_web_page(headers) && !is_passing(status) && status != StatusCode::UNAUTHORIZED
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, &header::CONTENT_LENGTH)?.parse().ok()
}

/// The range in `Content-Range: bytes 5-9/10`, and the total size if present (RFC 9110 §14.4).
pub(super) fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, Option<u64>)> {
    let range = text(headers, &header::CONTENT_RANGE)?;
    let (unit, range) = range.trim().split_once(' ')?;
    let (span, size) = range.trim().split_once('/')?;
    let (start, last) = span.split_once('-')?;
    let (start, last): (u64, u64) = (start.parse().ok()?, last.parse().ok()?);
    let size: Option<u64> = if size == "*" { None } else { Some(size.parse().ok()?) };
    let end = last.checked_add(1)?;
    let is_sound = unit.eq_ignore_ascii_case("bytes") && start < end && size.is_none_or(|size| end <= size);
    is_sound.then_some((start..end, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_servers_in_front_of_a_registry_are_not_foreign() {
        for (status, label, wanted) in [
            (StatusCode::FORBIDDEN, "text/html; charset=utf-8", true),
            (StatusCode::NOT_FOUND, "application/xhtml+xml", true),
            (StatusCode::FORBIDDEN, "application/json", false),
            (StatusCode::UNAUTHORIZED, "text/html", false),
            (StatusCode::BAD_GATEWAY, "text/html", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, label.parse().unwrap());
            assert_eq!(is_foreign_page(status, &headers), wanted, "{status} {label}");
        }
        assert!(!is_foreign_page(StatusCode::FORBIDDEN, &HeaderMap::new()));
    }

    #[test]
    fn content_ranges() {
        for (value, wanted) in [
            ("bytes 5-9/10", Some((5..10, Some(10)))),
            ("bytes 0-9/10", Some((0..10, Some(10)))),
            ("Bytes 5-9/10", Some((5..10, Some(10)))),
            ("bytes 5-8/10", Some((5..9, Some(10)))),
            ("bytes 5-9/*", Some((5..10, None))),
            ("bytes */10", None),
            ("bytes 10-9/10", None),
            ("bytes 5-10/10", None),
            ("bytes 0-18446744073709551615/0", None),
            ("bytes 0-18446744073709551615/*", None),
            ("bytes 5-9", None),
            ("items 5-9/10", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, value.parse().unwrap());
            assert_eq!(content_range(&headers), wanted, "{value}");
        }
    }
}
