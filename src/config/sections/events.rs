//! `[events]`.

use std::time::Duration;

use url::Url;

use crate::config::reader::Table;
use crate::events;

pub(super) fn events(mut table: Table<'_>) -> events::Config {
    let default = events::Config::default();
    let config = events::Config {
        urls: table.texts("urls").unwrap_or_default(),
        types: table.values("types").unwrap_or(default.types),
        source: table.text("source").unwrap_or(default.source),
        secret_file: table.file("secret_file"),
        token_file: table.file("token_file"),
        ca: table.authorities("ca"),
        proxy: table.text("proxy"),
        timeout: table.timeout("timeout").unwrap_or(default.timeout),
    };
    let is_usable =
        |url: &String| Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    // A URL is not repeated: it may contain a secret.
    for place in config.urls.iter().enumerate().filter(|(_, url)| !is_usable(url)).map(|(place, _)| place + 1) {
        let hint = "such as https://events.acme.com/pullgate";
        table.problem("urls", format!("number {place} is not an http:// or https:// URL with a host"), Some(hint));
    }
    if config.timeout < Duration::from_millis(100) || config.timeout > Duration::from_secs(300) {
        table.problem("timeout", "must be between 100ms and 5m", None);
    }
    // A configuration with every default written out means nothing by it.
    if config.urls.is_empty() && table.has("types") && config.types != events::Config::default().types {
        table.warn("types", "no receiver is configured, so no event is sent", "set `urls`");
    }
    if !config.urls.is_empty() && config.types.is_empty() {
        table.warn("types", "no kind of event is named, so no event is sent", "name some, or remove the key for all");
    }
    let repeated = config.urls.iter().enumerate().find(|(place, url)| config.urls[..*place].contains(url));
    if let Some((place, _)) = repeated {
        let message = format!("number {} is there already, so its receiver gets each event twice", place + 1);
        table.warn("urls", &message, "name each receiver once");
    }
    if config.source.is_empty() {
        table.problem("source", "must not be empty", Some("receivers tell gates apart by it"));
    }
    table.finish();
    config
}
