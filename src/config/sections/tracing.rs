//! `[tracing]`.

use url::Url;

use crate::config::reader::Table;
use crate::otlp;

pub(super) fn tracing(mut table: Table<'_>) -> otlp::Config {
    let config = otlp::Config { endpoint: table.text("endpoint"), ca: table.file("ca") };
    let is_usable =
        |url: &String| Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    // The URL is not repeated: it may contain a password.
    if config.endpoint.as_ref().is_some_and(|url| !is_usable(url)) {
        let hint = "such as http://127.0.0.1:4318";
        table.problem("endpoint", "not an http:// or https:// URL with a host", Some(hint));
    }
    table.finish();
    config
}
