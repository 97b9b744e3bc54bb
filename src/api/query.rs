//! Queries of URLs.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// A decoded parameter of a query; `None` if it is missing or not UTF-8.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.find(|(key, _)| *key == name).map(|(_, value)| value.replace('+', " "))?;
    percent_decode_str(&value).decode_utf8().ok().map(Cow::into_owned)
}

/// A text as the value of a parameter.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
