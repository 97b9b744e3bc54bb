//! How URLs of the configuration are displayed.

use url::Url;

/// A configured URL for people: in messages, in the log, in `config show`. Its user information, its query and its
/// fragment are left out, because they may be secrets. Whatever displays a configured URL calls this function, or
/// [`shown_origin`] where the path may be a secret, too.
///
/// ```
/// let shown = pullgate::runtime::shown_url("https://u:hush@osv.test/PyPI/all.zip?sig=hush");
/// assert_eq!(shown, "https://osv.test/PyPI/all.zip");
/// ```
pub fn shown_url(text: &str) -> String {
    // A string that is not a URL may have been meant as one: a `/` or `?` in a password ends the host too early.
    let Some(mut url) = Url::parse(text).ok().filter(Url::has_host) else { return without_secrets(text) };
    if url.username().is_empty() && url.password().is_none() {
        // As written, without the `/` that parsing adds.
        return before_query(text).to_owned();
    }
    url.set_query(None);
    url.set_fragment(None);
    // These fail only without a host.
    let _ = (url.set_username(""), url.set_password(None));
    let is_bare = url.path() == "/" && !before_query(text).ends_with('/');
    let shown = url.to_string();
    if is_bare { shown.trim_end_matches('/').to_owned() } else { shown }
}

/// The scheme, host and port of a configured URL whose path may be a secret, such as that of a webhook. Empty if it is
/// not a URL.
pub fn shown_origin(text: &str) -> String {
    Url::parse(text).map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
}

fn without_secrets(text: &str) -> String {
    let scheme = text.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
    let rest = text.strip_prefix(&scheme).unwrap_or(text);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    format!("{scheme}{}", before_query(rest))
}

fn before_query(text: &str) -> &str {
    text.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out_and_the_rest_is_as_it_is_written() {
        for (text, shown) in [
            ("https://osv.test/PyPI/all.zip", "https://osv.test/PyPI/all.zip"),
            ("http://proxy.test:3128", "http://proxy.test:3128"),
            ("http://proxy.test:3128/", "http://proxy.test:3128/"),
            ("http://u:hush@proxy.test:3128", "http://proxy.test:3128"),
            ("http://u:hush@proxy.test:3128/", "http://proxy.test:3128/"),
            ("http://hush@[::1]:3128", "http://[::1]:3128"),
            ("https://osv.test/a@2/all.zip", "https://osv.test/a@2/all.zip"),
            ("https://u:hush@osv.test/a@2/all.zip?sig=hush", "https://osv.test/a@2/all.zip"),
            ("https://osv.test/all.zip?token=hush#hush", "https://osv.test/all.zip"),
            ("https://osv.test?token=hush", "https://osv.test"),
            // Not valid, or not a URL.
            ("http://u:hu/sh@proxy.test:3128", "http://proxy.test:3128"),
            ("http://u:hu?sh@proxy.test:3128", "http://proxy.test:3128"),
            ("u:hush@proxy.test:3128", "proxy.test:3128"),
            ("proxy.test:3128", "proxy.test:3128"),
            ("http://u:hush@", "http://"),
            ("", ""),
        ] {
            assert_eq!(shown_url(text), shown, "{text}");
        }
    }

    #[test]
    fn of_a_webhook_only_the_origin_is_shown() {
        assert_eq!(shown_origin("https://u:hush@hooks.test:8443/hush?hush"), "https://hooks.test:8443");
        assert_eq!(shown_origin("hush"), "");
    }
}
