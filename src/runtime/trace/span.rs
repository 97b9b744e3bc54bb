//! Identifiers of spans, as the header `traceparent` carries them (W3C Trace Context).

use std::fmt;
use std::num::NonZero;

use http::HeaderName;

/// A span of a distributed trace. Its text is the value of a `traceparent` header:
/// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SpanContext {
    /// The trace.
    pub trace_id: NonZero<u128>,
    /// The span.
    pub span_id: NonZero<u64>,
    /// Whether the trace is recorded.
    pub is_sampled: bool,
}

impl SpanContext {
    /// The header that carries it.
    pub const HEADER: HeaderName = HeaderName::from_static("traceparent");

    /// A span that begins a trace.
    pub fn root(is_sampled: bool) -> Self {
        Self {
            trace_id: NonZero::new(fastrand::u128(1..)).unwrap_or(NonZero::<u128>::MIN),
            span_id: new_id(),
            is_sampled,
        }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span_id: new_id(), ..self }
    }

    /// Parses a `traceparent` header. A later version may have more fields after these; `None` if it is not valid.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut fields = text.trim().splitn(5, '-');
        let (version, trace, span) = (fields.next()?, fields.next()?, fields.next()?);
        let (flags, has_more) = (fields.next()?, fields.next().is_some());
        let lengths = [version.len(), trace.len(), span.len(), flags.len()];
        let is_valid = lengths == [2, 32, 16, 2] && [version, trace, span, flags].into_iter().all(is_hex);
        if !is_valid || version == "ff" || version == "00" && has_more {
            return None;
        }
        let trace_id = NonZero::new(u128::from_str_radix(trace, 16).ok()?)?;
        let span_id = NonZero::new(u64::from_str_radix(span, 16).ok()?)?;
        Some(Self { trace_id, span_id, is_sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1 })
    }
}

impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, span_id, is_sampled } = *self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(is_sampled))
    }
}

fn new_id() -> NonZero<u64> {
    NonZero::new(fastrand::u64(1..)).unwrap_or(NonZero::<u64>::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_parsed_as_the_specification_says() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parsed = SpanContext::parse(text).unwrap();
        assert_eq!((parsed.to_string().as_str(), parsed.is_sampled), (text, true));
        let child = parsed.child();
        assert!(child.trace_id == parsed.trace_id && child.span_id != parsed.span_id && child.is_sampled);
        assert!(!SpanContext::parse(&text.replace("-01", "-00")).unwrap().is_sampled);
        assert!(SpanContext::parse(&text.replace("00-4", "01-4").replace("-01", "-03-more")).unwrap().is_sampled);
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(SpanContext::parse(wrong), None, "{wrong}");
        }
        let (one, two) = (SpanContext::root(false), SpanContext::root(false));
        assert!(one.trace_id != two.trace_id && SpanContext::parse(&one.to_string()) == Some(one));
    }
}
