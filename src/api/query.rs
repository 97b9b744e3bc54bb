//! Queries of URLs.

use std::borrow::Cow;
use std::str::FromStr;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// A decoded parameter of a query; `None` if it is missing or not UTF-8.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.find(|(key, _)| *key == name).map(|(_, value)| value.replace('+', " "))?;
    percent_decode_str(&value).decode_utf8().ok().map(Cow::into_owned)
}

/// The parameter `limit`, the maximum number of entries of an answer; `None` if it is missing.
///
/// # Errors
/// A message, if it is not a number from 1.
pub(super) fn limit<N: FromStr + From<u8> + PartialOrd>(query: &str) -> Result<Option<N>, String> {
    let Some(text) = parameter(query, "limit") else { return Ok(None) };
    match text.parse::<N>() {
        Ok(number) if number >= N::from(1) => Ok(Some(number)),
        _ => Err("limit must be a number from 1".to_owned()),
    }
}

/// A text as the value of a parameter.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
