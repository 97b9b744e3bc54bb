//! Writing header values.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::oci::media_type;

/// Header values used by many responses: as constants they are shared between cores without reference counting.
const CONSTANT: [&str; 7] = [
    media_type::OCI_MANIFEST,
    media_type::OCI_INDEX,
    media_type::DOCKER_MANIFEST,
    media_type::DOCKER_LIST,
    "application/json",
    "application/octet-stream",
    "bytes",
];

/// Sets a header. Values are built from digests, sizes and validated media types; an invalid value is omitted.
pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let constant = CONSTANT.into_iter().find(|constant| *constant == value).map(HeaderValue::from_static);
    if let Some(value) = constant.or_else(|| HeaderValue::from_str(value).ok()) {
        headers.insert(name, value);
    }
}
