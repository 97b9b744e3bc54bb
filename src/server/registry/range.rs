//! `Range` (RFC 9110 §14): supports one byte range; any other request gets the whole content.

use http::header::{self, HeaderMap};

/// The requested part of some content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ranged {
    /// From `start` to before `end`.
    Part {
        start: u64,
        end: u64,
    },
    /// Outside the content.
    Unsatisfiable,
    Whole,
}

/// Evaluates `Range` and `If-Range`. A malformed range or a list of ranges is ignored, as the RFC allows, and the
/// client receives the whole content.
pub(super) fn requested(headers: &HeaderMap, size: u64, etag: &str) -> Ranged {
    let Some(range) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else { return Ranged::Whole };
    if headers.get(header::IF_RANGE).is_some_and(|value| value.as_bytes() != etag.as_bytes()) {
        return Ranged::Whole;
    }
    let Some(spec) = range.trim().strip_prefix("bytes=") else { return Ranged::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Ranged::Whole };
    match (number(first), number(last)) {
        (Some(start), _) if start >= size => {
            if last.is_empty() || number(last).is_some() {
                Ranged::Unsatisfiable
            } else {
                Ranged::Whole
            }
        }
        (Some(start), None) if last.trim().is_empty() => Ranged::Part { start, end: size },
        (Some(start), Some(last)) if last >= start => Ranged::Part { start, end: last.saturating_add(1).min(size) },
        (Some(_), Some(_)) => Ranged::Unsatisfiable,
        (None, Some(0)) => Ranged::Unsatisfiable,
        (None, Some(suffix)) if first.trim().is_empty() && size > 0 => {
            Ranged::Part { start: size.saturating_sub(suffix), end: size }
        }
        _ => Ranged::Whole,
    }
}

/// Only digits: `+5` is not a position.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    (!text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn requested_ranges() {
        let part = |start, end| Ranged::Part { start, end };
        for (range, wanted) in [
            ("bytes=0-", part(0, 2048)),
            ("bytes=500-1499", part(500, 1500)),
            ("bytes=500-", part(500, 2048)),
            ("bytes=-500", part(1548, 2048)),
            ("bytes=-5000", part(0, 2048)),
            ("bytes=2000-5000", part(2000, 2048)),
            ("bytes=2047-2047", part(2047, 2048)),
            ("bytes=500-0", Ranged::Unsatisfiable),
            ("bytes=2048-", Ranged::Unsatisfiable),
            ("bytes=5000-10000", Ranged::Unsatisfiable),
            ("bytes=-0", Ranged::Unsatisfiable),
            ("bytes=99999999999999999999-", Ranged::Unsatisfiable),
            ("bytes=0-1,5-6", Ranged::Whole),
            ("bytes=a-b", Ranged::Whole),
            ("bytes=", Ranged::Whole),
            ("bytes=-", Ranged::Whole),
            ("bytes=+1-", Ranged::Whole),
            ("lines=0-1", Ranged::Whole),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static(range));
            assert_eq!(requested(&headers, 2048, "\"x\""), wanted, "{range}");
            headers.insert(header::IF_RANGE, HeaderValue::from_static("\"other\""));
            assert_eq!(requested(&headers, 2048, "\"x\""), Ranged::Whole, "{range} of another version");
        }
        assert_eq!(requested(&HeaderMap::new(), 1, ""), Ranged::Whole);
    }
}
