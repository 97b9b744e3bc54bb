//! The egress proxy that variables of the environment name for a URL, as the client reads them.

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use crate::runtime::shown_origin;

/// What follows from a variable that names an egress proxy.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum NamedProxy {
    /// It is not the URL of a proxy, so the client behaves as if it were not set.
    Ignored,
    /// No connection can be made: the proxy speaks another protocol than HTTP without TLS.
    Unusable,
    /// Requests go through the proxy at this origin, shown without its user and password.
    Used(String),
}

/// The variable that decides about requests to a URL, with what follows from it. `None` if no variable does, or
/// `NO_PROXY` has the host. `variable` reads the environment.
pub(crate) fn environment_proxy(
    url: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<(&'static str, NamedProxy)> {
    let uri: Uri = url.parse().ok()?;
    let own = match uri.scheme_str()? {
        "http" => ["HTTP_PROXY", "http_proxy"],
        _ => ["HTTPS_PROXY", "https_proxy"],
    };
    let no = ["NO_PROXY", "no_proxy"].into_iter().find_map(&variable).unwrap_or_default();
    let is_direct = Matcher::builder().all("http://proxy".to_owned()).no(no).build().intercept(&uri).is_none();
    // The client takes a process with this variable for a CGI script, whose clients could set HTTP_PROXY by a header.
    if is_direct || variable("REQUEST_METHOD").is_some() {
        return None;
    }
    let set = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, variable(name)?)));
    let all = [set(own), set(["ALL_PROXY", "all_proxy"])].into_iter().flatten();
    let mut ignored = None;
    for (name, value) in all.filter(|(_, value)| !value.is_empty()) {
        let Some(proxy) = Matcher::builder().all(value).build().intercept(&uri) else {
            // The other variable decides, if it is set.
            ignored = ignored.or(Some((name, NamedProxy::Ignored)));
            continue;
        };
        let is_usable = proxy.uri().scheme_str() == Some("http");
        let shown = || shown_origin(&proxy.uri().to_string());
        return Some((name, if is_usable { NamedProxy::Used(shown()) } else { NamedProxy::Unusable }));
    }
    ignored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_the_client_reads_them() {
        let used = |at: &str| NamedProxy::Used(at.to_owned());
        let proxy = || used("http://proxy.test:3128");
        let (http, https) = ("http://reg.test/v2/", "https://reg.test/v2/");
        for (url, variables, wanted) in [
            (https, "HTTPS_PROXY=http://proxy.test:3128", Some(("HTTPS_PROXY", proxy()))),
            (https, "https_proxy=proxy.test:3128", Some(("https_proxy", proxy()))),
            (https, "HTTPS_PROXY=http://user:secret@proxy.test:3128", Some(("HTTPS_PROXY", proxy()))),
            (http, "HTTP_PROXY=http://proxy.test:3128", Some(("HTTP_PROXY", proxy()))),
            (http, "ALL_PROXY=http://proxy.test:3128", Some(("ALL_PROXY", proxy()))),
            (https, "HTTPS_PROXY= all_proxy=http://proxy.test:3128", Some(("all_proxy", proxy()))),
            (https, "HTTP_PROXY=http://proxy.test:3128", None),
            (https, "HTTPS_PROXY=http://proxy.test:3128 NO_PROXY=.test", None),
            (https, "HTTPS_PROXY=http://proxy.test:3128 REQUEST_METHOD=GET", None),
            (https, "", None),
            (https, "HTTPS_PROXY=", None),
            (https, "HTTPS_PROXY=socks5://127.0.0.1:1", Some(("HTTPS_PROXY", NamedProxy::Unusable))),
            (http, "all_proxy=socks5h://127.0.0.1:1", Some(("all_proxy", NamedProxy::Unusable))),
            (https, "HTTPS_PROXY=https://proxy.test", Some(("HTTPS_PROXY", NamedProxy::Unusable))),
            (https, "HTTPS_PROXY=ftp://proxy.test", Some(("HTTPS_PROXY", NamedProxy::Ignored))),
            (https, "HTTPS_PROXY=http://", Some(("HTTPS_PROXY", NamedProxy::Ignored))),
            (https, "HTTPS_PROXY=ftp://proxy.test ALL_PROXY=http://proxy.test:3128", Some(("ALL_PROXY", proxy()))),
            (https, "HTTPS_PROXY=ftp://a.test ALL_PROXY=ftp://b.test", Some(("HTTPS_PROXY", NamedProxy::Ignored))),
        ] {
            let set = |name: &str| {
                let mut all = variables.split(' ').filter_map(|one| one.split_once('='));
                all.find(|(other, _)| *other == name).map(|(_, value)| value.to_owned())
            };
            assert_eq!(environment_proxy(url, set), wanted, "{url} {variables}");
        }
        let words = |name: &str| (name == "HTTP_PROXY").then(|| "not a url".to_owned());
        assert_eq!(environment_proxy(http, words), Some(("HTTP_PROXY", NamedProxy::Ignored)));
    }
}
