//! Details that only people and later rules use. Malformed details are dropped, and the size of all others is limited.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};

use super::document::some;
use crate::oci::Digest;
use crate::policy::{AffectedPackage, Issue, Purl};

/// The longest detail that is kept, in bytes.
const MAX_TEXT: usize = 4096;
/// The maximum number of references of one issue.
const MAX_REFERENCES: usize = 20;
/// The longest reference that is kept, in bytes.
const MAX_REFERENCE: usize = 1024;

/// A part of a document that is dropped if it is malformed, so that the finding is not lost.
#[derive(Clone, Debug)]
pub(super) struct Lenient<T>(pub(super) Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(T::deserialize(value).ok()))
    }
}

impl<T> Lenient<Vec<Lenient<T>>> {
    /// The well-formed entries of a list.
    pub(super) fn entries(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten().filter_map(|entry| entry.0.as_ref())
    }
}

/// A text that is not blank and not too long.
pub(super) fn short(text: Option<&str>) -> Option<String> {
    text.map(str::trim).filter(|text| !text.is_empty() && text.len() <= MAX_TEXT).map(str::to_owned)
}

/// The issue with identifiers that can be compared: without the spaces around them, which a report may have.
pub(super) fn trimmed(mut issue: Issue) -> Issue {
    let trim = |text: &mut String| *text = text.trim().to_owned();
    trim(&mut issue.id);
    issue.aliases.iter_mut().for_each(trim);
    issue.aliases.retain(|alias| !alias.is_empty());
    issue
}

/// A fix that is published in a version that the report does not name.
pub(super) const A_LATER_VERSION: &str = "a later version";

/// The version in which a report says that an issue is fixed.
#[derive(Debug, Default)]
pub(super) struct FixedVersion(Option<String>);

impl<'de> Deserialize<'de> for FixedVersion {
    /// A value that is neither a string nor null states some fix. Reading it as no fix would admit the image where only
    /// issues with a fix count.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => some(Some(text)),
            _ => Some(A_LATER_VERSION.to_owned()),
        }))
    }
}

impl FixedVersion {
    /// The version; `status` may say that there is one.
    pub(super) fn with(self, status: Option<&str>) -> Option<String> {
        let is_fixed = status.is_some_and(|status| status.trim().eq_ignore_ascii_case("fixed"));
        self.0.or_else(|| is_fixed.then(|| A_LATER_VERSION.to_owned()))
    }
}

/// The distinct URLs among some texts, up to the limit. Only `https` and `http` URLs with a host are kept.
pub(super) fn references(texts: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    add_references(&mut kept, texts.into_iter().filter(|text| is_address(text)));
    kept
}

/// Adds URLs that are not in the list yet, up to the limit.
pub(super) fn add_references(to: &mut Vec<String>, addresses: impl IntoIterator<Item = String>) {
    for address in addresses {
        if to.len() == MAX_REFERENCES {
            return;
        }
        if !to.contains(&address) {
            to.push(address);
        }
    }
}

fn is_address(text: &str) -> bool {
    let is_web = |url: &url::Url| matches!(url.scheme(), "https" | "http") && url.has_host();
    let is_plain = text.len() <= MAX_REFERENCE && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain && url::Url::parse(text).is_ok_and(|url| is_web(&url))
}

/// A layer, identified in a report by the digest of its uncompressed content.
pub(super) fn layer(text: Option<&str>) -> Option<Digest> {
    text?.parse().ok()
}

/// The details of one package besides its name and versions.
#[derive(Debug, Default)]
pub(super) struct PackageDetails<'a> {
    pub(super) purl: Option<&'a str>,
    /// The scanner's name for the type of the package.
    pub(super) kind: Option<&'a str>,
    pub(super) source: Option<&'a str>,
    pub(super) path: Option<&'a str>,
    /// The `diff_id` of the layer.
    pub(super) layer: Option<&'a str>,
}

impl PackageDetails<'_> {
    /// The package with these details. If the report names no source package, it is taken from the package URL
    /// (`upstream`).
    pub(super) fn of(&self, name: String, installed: Option<String>, fixed: Option<String>) -> AffectedPackage {
        let purl = self.purl.and_then(Purl::parse);
        let kind = purl.as_ref().map(Purl::kind).or(self.kind);
        let upstream = purl.as_ref().and_then(Purl::upstream).map(|(name, _)| name);
        AffectedPackage {
            name,
            installed,
            fixed,
            ecosystem: short(kind),
            source: short(self.source).or_else(|| short(upstream)),
            path: short(self.path),
            layer: layer(self.layer),
            purl,
            ..AffectedPackage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_urls_are_kept_up_to_the_limit() {
        let of = |texts: &[&str]| references(texts.iter().map(|text| (*text).to_owned()));
        let long = format!("https://example.com/{}", "a".repeat(MAX_REFERENCE));
        assert_eq!(
            of(&[
                "https://example.com/a",
                "javascript:alert(1)",
                "file:///etc/passwd",
                "https://",
                "CVE-2024-1",
                "https://example.com/\u{1b}[2J",
                "https://example.com/a",
                &long,
                "http://example.com/b?c=d#e",
            ]),
            ["https://example.com/a", "http://example.com/b?c=d#e"]
        );
        let many = (0..100).map(|n| format!("https://example.com/{n}"));
        assert_eq!(references(many).len(), MAX_REFERENCES);
    }

    #[test]
    fn malformed_details_are_dropped() {
        let long = "a".repeat(MAX_TEXT + 1);
        let details = PackageDetails {
            purl: Some("openssl"),
            kind: Some(&long),
            source: Some(" "),
            path: Some(&long),
            layer: Some("sha256:short"),
        };
        let bare = AffectedPackage { name: "openssl".into(), ..AffectedPackage::default() };
        assert_eq!(details.of("openssl".into(), None, None), bare);
        let details = PackageDetails {
            purl: Some("pkg:deb/debian/libssl3@3.0.11-1?upstream=openssl%403.0.11-1"),
            kind: Some("debian"),
            ..PackageDetails::default()
        };
        let package = details.of("libssl3".into(), None, None);
        assert_eq!((package.ecosystem.as_deref(), package.source.as_deref()), (Some("deb"), Some("openssl")));
    }
}
