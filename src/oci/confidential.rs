//! Where credentials may be sent.

use std::net::IpAddr;

/// Whether credentials may be sent to the host of a URL: over TLS, or within this machine. An IPv6 address may be in
/// brackets.
pub fn may_get_credentials(scheme: &str, host: &str) -> bool {
    let is_here = || {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    match scheme {
        "https" => !host.is_empty(),
        "http" => is_here(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_sent_over_tls_or_within_this_machine() {
        for (scheme, host, wanted) in [
            ("https", "a.test", true),
            ("https", "", false),
            ("http", "a.test", false),
            ("http", "localhost", true),
            ("http", "127.0.0.9", true),
            ("http", "[::1]", true),
            ("http", "::1", true),
            ("http", "10.0.0.1", false),
            ("http", "localhost.test", false),
            ("http", "127.0.0.1.test", false),
            ("ftp", "localhost", false),
            ("", "localhost", false),
        ] {
            assert_eq!(may_get_credentials(scheme, host), wanted, "{scheme}://{host}");
        }
    }
}
