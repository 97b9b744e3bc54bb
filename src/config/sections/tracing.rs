//! `[tracing]`.

use url::Url;

use crate::config::reader::Table;
use crate::otlp;

/// The usual port of collectors for gRPC.
const GRPC: u16 = 4317;

pub(super) fn tracing(mut table: Table<'_>) -> otlp::Config {
    let mut config = otlp::Config { endpoint: table.text("endpoint"), ca: table.authorities("ca") };
    let is_usable =
        |url: &String| Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    // The URL is not repeated: it may contain a password.
    if config.endpoint.as_ref().is_some_and(|url| !is_usable(url)) {
        let hint = "such as http://127.0.0.1:4318";
        table.problem("endpoint", "not an http:// or https:// URL with a host", Some(hint));
        // The code that opens the configured files would report it again.
        config.endpoint = None;
    }
    let port = config.endpoint.as_ref().and_then(|url| Url::parse(url).ok()?.port());
    if port == Some(GRPC) {
        let message = "4317 is the port of collectors for gRPC, but traces are sent over HTTP";
        table.warn("endpoint", message, "use their port for HTTP, usually 4318");
    }
    table.finish();
    config
}
