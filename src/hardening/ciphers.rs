//! Versions of TLS and cipher suites that are broken.

/// Versions before TLS 1.2 (RFC 8996, RFC 7568, RFC 6176).
pub(super) fn is_old_version(name: &str) -> bool {
    ["SSLv2", "SSLv3", "TLSv1", "TLSv1.0", "TLSv1.1"].iter().any(|old| old.eq_ignore_ascii_case(name))
}

/// The first weak suite in a list of OpenSSL (openssl-ciphers(1)): without encryption or authentication, for export, or
/// with RC4, DES or MD5. Excluded suites (`!RC4`, `-RC4`) do not count.
pub(super) fn weak_suite(list: &str) -> Option<&str> {
    let suites = list.split([':', ',', ' ']).filter(|suite| !suite.is_empty() && !suite.starts_with(['!', '-', '@']));
    let is_weak = |suite: &&str| {
        let suite = suite.trim_start_matches('+').to_ascii_uppercase();
        let parts =
            ["ADH", "AECDH", "ANULL", "DES", "ENULL", "EXP", "EXPORT", "LOW", "MD5", "NULL", "RC2", "RC4", "3DES"];
        suite.split(['-', '+', '_']).any(|part| parts.contains(&part)) || suite.starts_with("EXP")
    };
    // `+RC4` only moves a suite to the end.
    suites.filter(|suite| !suite.starts_with('+')).find(is_weak)
}
