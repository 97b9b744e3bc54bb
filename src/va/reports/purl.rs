//! Package URLs, as far as VEX statements need them (github.com/package-url/purl-spec).

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use crate::oci::Digest;

/// A package by its package URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Purl {
    kind: String,
    /// Namespace and name.
    path: String,
    version: Option<String>,
    qualifiers: BTreeMap<String, String>,
    subpath: Option<String>,
}

impl Purl {
    /// Reads `pkg:type/namespace/name@version?qualifiers#subpath`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let rest = text.trim().strip_prefix("pkg:")?.trim_start_matches('/');
        let (rest, subpath) = rest.split_once('#').unwrap_or((rest, ""));
        let subpath = decode(subpath.trim_matches('/'));
        let (rest, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
        let (kind, rest) = rest.split_once('/')?;
        // A namespace may begin with an `@` that was not encoded (npm scopes), so only a later one begins the version.
        let (path, version) = match rest.rfind('@') {
            Some(at) if at > 0 => (&rest[..at], Some(decode(&rest[at + 1..]))),
            _ => (rest, None),
        };
        let path = decode(path.trim_matches('/'));
        if kind.is_empty() || path.is_empty() {
            return None;
        }
        let pair = |pair: &str| pair.split_once('=').map(|(key, value)| (key.to_ascii_lowercase(), decode(value)));
        Some(Self {
            kind: kind.to_ascii_lowercase(),
            path,
            version: version.filter(|version| !version.is_empty()),
            qualifiers: qualifiers.split('&').filter_map(pair).collect(),
            subpath: Some(subpath).filter(|subpath| !subpath.is_empty()),
        })
    }

    /// Whether a statement about this package is about the other: what this one leaves open matches anything.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.path == other.path
            && (self.version.is_none() || self.version == other.version)
            && (self.subpath.is_none() || self.subpath == other.subpath)
            && self.qualifiers.iter().all(|(key, value)| other.qualifiers.get(key) == Some(value))
    }

    /// The digest of the image that a `pkg:oci` or `pkg:docker` URL names. A subpath names a part of an image.
    pub(crate) fn image(&self) -> Option<Digest> {
        let is_whole = self.is_image() && self.subpath.is_none();
        is_whole.then(|| self.version.as_deref()?.parse().ok()).flatten()
    }

    /// Whether an image's URL names one platform. Its digest may be that of an index all the same, of which it then
    /// names only a part.
    pub(crate) fn is_of_platform(&self) -> bool {
        ["arch", "platform", "os"].iter().any(|key| self.qualifiers.contains_key(*key))
    }

    /// The same package in this version; `None` where the URL has another version already.
    pub(crate) fn at(&self, version: &str) -> Option<Self> {
        let fits = self.version.as_deref().is_none_or(|own| own == version);
        fits.then(|| Self { version: Some(version.to_owned()), ..self.clone() })
    }

    /// Whether this names an image, by digest or not.
    pub(crate) fn is_image(&self) -> bool {
        matches!(&*self.kind, "oci" | "docker")
    }

    /// The name without the namespace.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The version.
    pub(crate) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_cover_packages() {
        for (statement, package, covered) in [
            ("pkg:deb/debian/openssl", "pkg:deb/debian/openssl@3.0.11?arch=amd64", true),
            ("pkg:deb/debian/openssl@3.0.11", "pkg:deb/debian/openssl@3.0.11?arch=amd64", true),
            ("pkg:deb/debian/openssl@3.0.12", "pkg:deb/debian/openssl@3.0.11", false),
            ("pkg:deb/debian/openssl@3.0.11", "pkg:deb/debian/openssl", false),
            ("pkg:deb/debian/openssl?arch=arm64", "pkg:deb/debian/openssl@1?arch=amd64", false),
            ("pkg:deb/debian/openssl?arch=amd64", "pkg:deb/debian/openssl@1?arch=amd64&distro=debian-12", true),
            ("pkg:deb/debian/openssl", "pkg:deb/debian/openssl-dev@1", false),
            ("pkg:deb/debian/openssl", "pkg:rpm/debian/openssl@1", false),
            ("pkg:npm/%40acme/x", "pkg:npm/@acme/x@1.0.0", true),
            ("PKG:npm/x", "pkg:npm/x@1", false),
            ("pkg:deb/debian/openssl#doc", "pkg:deb/debian/openssl@1", false),
            ("pkg:golang/x.test/y#a", "pkg:golang/x.test/y@1#/a/", true),
            ("pkg:golang/x.test/y", "pkg:golang/x.test/y@1#a", true),
            ("pkg:deb/debian/gcc@4%3A12.2", "pkg:deb/debian/gcc@4:12.2", true),
        ] {
            let covers = Purl::parse(statement).zip(Purl::parse(package)).is_some_and(|(s, p)| s.covers(&p));
            assert_eq!(covers, covered, "{statement} {package}");
        }
    }

    #[test]
    fn images_are_named_by_digest_alone() {
        let hex = "a".repeat(64);
        for (text, named) in [
            (format!("pkg:oci/app@sha256:{hex}?repository_url=r.io/app"), true),
            (format!("pkg:oci/app@sha256%3A{hex}?arch=amd64"), true),
            (format!("pkg:docker/app@sha256:{hex}"), true),
            (format!("pkg:generic/app@sha256:{hex}"), false),
            (format!("pkg:oci/app@sha256:{hex}#usr/bin"), false),
            ("pkg:oci/app@1.27".to_owned(), false),
            ("pkg:oci/app".to_owned(), false),
        ] {
            assert_eq!(Purl::parse(&text).and_then(|purl| purl.image()).is_some(), named, "{text}");
        }
        for text in ["", "pkg:", "pkg:deb", "pkg:deb/", "openssl", "pkg:/x"] {
            assert_eq!(Purl::parse(text), None, "{text}");
        }
    }
}
