//! Package URLs (github.com/package-url/purl-spec), parsed with the `packageurl` crate.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use packageurl::PackageUrl;
use serde::{Deserialize, Serialize};

use crate::oci::Digest;

/// The maximum length of a package URL, in bytes.
const MAX_LENGTH: usize = 4096;

/// A package by its package URL, in canonical form: `pkg:deb/debian/openssl@3.0.11?arch=amd64`.
///
/// The rules of the package type apply, so two spellings of the same package are equal: `pkg:pypi/Foo_Bar` equals
/// `pkg:pypi/foo-bar`. A URL that violates the rules of its type is rejected.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Purl(Arc<CanonicalPurl>);

#[derive(Debug)]
struct CanonicalPurl {
    /// The text that is used to compare two URLs.
    text: Box<str>,
    /// Its parts, once they were asked for: most URLs are only carried along.
    url: OnceLock<PackageUrl<'static>>,
}

/// Types whose names are in lower case.
const LOWER_CASE: [&str; 3] = ["deb", "npm", "pypi"];
/// Types with optional namespaces.
const NAMESPACED: [&str; 6] = ["apk", "deb", "golang", "maven", "npm", "rpm"];
/// Types without namespaces.
const WITHOUT_NAMESPACE: [&str; 5] = ["bitnami", "cargo", "gem", "nuget", "pypi"];

impl Purl {
    /// Parses `pkg:type/namespace/name@version?qualifiers#subpath`. Returns `None` for any other text, and for a URL
    /// that changes when it is written and parsed again (an encoded `..` as a namespace).
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() > MAX_LENGTH {
            return None;
        }
        let mut url = match text.parse::<PackageUrl<'static>>() {
            // The type `oci` does not allow a namespace, but many tools write the repository there, as in the type
            // `docker`.
            Err(packageurl::Error::TypeProhibitsNamespace(kind)) if kind == "oci" => {
                let rest = text.get("pkg:".len()..)?.trim_start_matches('/').get("oci".len()..)?;
                format!("pkg:docker{rest}").parse().ok()?
            }
            parsed => parsed.ok()?,
        };
        if url.version() == Some("") {
            url.without_version();
        }
        Self::canonical(url)
    }

    /// A URL that was built from its parts. `None` if [`parse`](Self::parse) refuses it.
    pub fn of(url: &PackageUrl<'_>) -> Option<Self> {
        let text = url.to_string();
        match text.parse::<PackageUrl<'static>>() {
            // Then it is canonical: an equal URL has the same text.
            Ok(parsed) if parsed == *url && url.version() != Some("") && text.len() <= MAX_LENGTH => {
                Some(Self::new(text, OnceLock::from(parsed)))
            }
            _ => Self::parse(&text),
        }
    }

    fn canonical(url: PackageUrl<'static>) -> Option<Self> {
        let canonical = url.to_string();
        let is_same = canonical.parse::<PackageUrl<'static>>().is_ok_and(|again| again == url);
        is_same.then(|| Self::new(canonical, OnceLock::from(url)))
    }

    /// A URL of parts that need no parser: their characters mean themselves, and the rules of the type change nothing.
    /// Qualifiers are in the order of their keys; those without a value are left out. `None` if the parts are not as simple
    /// as that; [`of`](Self::of) handles all.
    pub fn of_simple_parts(
        kind: &str,
        (namespace, name): (Option<&str>, &str),
        version: &str,
        qualifiers: &[(&str, &str)],
    ) -> Option<Self> {
        let is_known = NAMESPACED.contains(&kind) || namespace.is_none() && WITHOUT_NAMESPACE.contains(&kind);
        let is_lower = |text: &str| !text.bytes().any(|byte| byte.is_ascii_uppercase());
        if !is_known || LOWER_CASE.contains(&kind) && !is_lower(name) || kind == "pypi" && name.contains('_') {
            return None;
        }
        let mut text = String::with_capacity(96);
        text.push_str("pkg:");
        text.push_str(kind);
        for part in namespace.into_iter().flat_map(|namespace| namespace.split('/')) {
            text.push('/');
            push_simple(&mut text, part).filter(|()| is_lower(part) && part.trim_matches('.') == part)?;
        }
        text.push('/');
        push_simple(&mut text, name)?;
        if !version.is_empty() {
            text.push('@');
            push_simple(&mut text, version)?;
        }
        let stated = qualifiers.iter().filter(|(_, value)| !value.is_empty());
        for (index, (key, value)) in stated.enumerate() {
            text.push(if index == 0 { '?' } else { '&' });
            text.push_str(key);
            text.push('=');
            push_simple(&mut text, value)?;
        }
        (text.len() <= MAX_LENGTH).then(|| Self::new(text, OnceLock::new()))
    }

    fn new(text: String, url: OnceLock<PackageUrl<'static>>) -> Self {
        Self(Arc::new(CanonicalPurl { text: text.into_boxed_str(), url }))
    }

    fn url(&self) -> &PackageUrl<'static> {
        let parse =
            || self.0.text.parse().unwrap_or_else(|_| unreachable!("its text was made from parts that are valid"));
        self.0.url.get_or_init(parse)
    }

    /// The URL in canonical form.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The type of the package: `deb`, `npm`, `golang`. It is the first word of the text, which is not parsed for it.
    pub fn kind(&self) -> &str {
        self.0.text.strip_prefix("pkg:").and_then(|rest| rest.split('/').next()).unwrap_or_default()
    }

    /// The namespace: `debian`, `@babel`, `github.com/acme`.
    pub fn namespace(&self) -> Option<&str> {
        self.url().namespace()
    }

    /// The name of the package, without the namespace.
    pub fn name(&self) -> &str {
        self.url().name()
    }

    /// The version of the package.
    pub fn version(&self) -> Option<&str> {
        self.url().version()
    }

    /// The value of a qualifier: `upstream`, `arch`, `distro`.
    pub fn qualifier(&self, key: &str) -> Option<&str> {
        self.url().qualifiers().get(key).map(|value| &**value)
    }

    /// Name and version of the source package, as the qualifier `upstream` states them: `openssl@3.0.11-1`. For RPM,
    /// Syft writes the file name of the source package: `openssl-3.0.7-27.el9.src.rpm`, without an epoch.
    pub fn upstream(&self) -> Option<(&str, Option<&str>)> {
        let upstream = self.qualifier("upstream")?;
        if let Some(file) = source_rpm(upstream).filter(|_| self.kind() == "rpm") {
            let release = file.rfind('-').unwrap_or(0);
            let version = file[..release].rfind('-');
            return Some(version.map_or((file, None), |at| (&file[..at], Some(&file[at + 1..]))));
        }
        Some(upstream.split_once('@').map_or((upstream, None), |(name, version)| (name, Some(version))))
    }

    /// Whether a statement about this package applies to the other package. A version or a qualifier that this URL omits matches
    /// any; the namespace must be the same.
    pub fn covers(&self, other: &Self) -> bool {
        let (own, others) = (self.url(), other.url());
        own.ty() == others.ty()
            && own.namespace() == others.namespace()
            && own.name() == others.name()
            && (own.version().is_none() || own.version() == others.version())
            && self.has_qualifiers_of(other)
    }

    /// Whether this names the source package (`arch=source`, of RPM `arch=src`) that another package of the same distribution
    /// was built from. `source` is its name; a package without one is its own source. With a version, both must have it.
    pub fn is_source_of(&self, other: &Self, source: Option<&str>) -> bool {
        let (own, others) = (self.url(), other.url());
        is_source_arch(self.qualifier("arch"))
            && own.qualifiers().len() == 1
            && own.subpath().is_none()
            && own.ty() == others.ty()
            && own.namespace() == others.namespace()
            && own.name() == source.unwrap_or(others.name())
            && (own.version().is_none() || own.version() == others.version())
    }

    /// The digest of the image that a `pkg:oci` or `pkg:docker` URL names. `None` if the URL has a subpath, because it
    /// then names a part of an image.
    pub fn image(&self) -> Option<Digest> {
        let is_whole = self.is_image() && self.url().subpath().is_none();
        is_whole.then(|| self.version()?.parse().ok()).flatten()
    }

    /// Whether the URL of an image names one platform. Its digest can still be that of an index; the URL then names
    /// only a part of that index.
    pub fn is_of_platform(&self) -> bool {
        ["arch", "platform", "os"].iter().any(|key| self.qualifier(key).is_some())
    }

    /// The same package with this version; `None` if the URL has another version.
    pub fn at(&self, version: &str) -> Option<Self> {
        if self.version().is_some_and(|own| own != version) {
            return None;
        }
        let mut url = self.url().clone();
        url.with_version(version.to_owned()).ok()?;
        Self::canonical(url)
    }

    /// Whether the other URL has all qualifiers of this one, and its subpath if it has one. A release of a distribution
    /// includes its point releases: `distro=debian-12` that of `debian-12.5`.
    pub(super) fn has_qualifiers_of(&self, other: &Self) -> bool {
        let (own, other) = (self.url(), other.url());
        let has = |key: &str, value: &str| {
            other.qualifiers().get(key).is_some_and(|others| {
                let rest = others.strip_prefix(value);
                rest.is_some_and(|rest| rest.is_empty() || (key == "distro" && rest.starts_with('.')))
            })
        };
        (own.subpath().is_none() || own.subpath() == other.subpath())
            && own.qualifiers().iter().all(|(key, value)| has(key, value))
    }

    /// Whether the URL names a part of the package.
    pub(super) fn has_subpath(&self) -> bool {
        self.url().subpath().is_some()
    }

    /// Whether the URL names an image, with or without a digest.
    pub fn is_image(&self) -> bool {
        matches!(self.kind(), "oci" | "docker")
    }
}

impl PartialEq for Purl {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Purl {}

impl Hash for Purl {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}

impl From<Purl> for String {
    fn from(purl: Purl) -> Self {
        purl.0.text.to_string()
    }
}

impl TryFrom<String> for Purl {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a package URL")
    }
}

/// Appends a part of a URL, if its characters mean themselves or are `+` or `@`.
fn push_simple(text: &mut String, part: &str) -> Option<()> {
    if part.is_empty() {
        return None;
    }
    for character in part.chars() {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' | '~' | ':' => text.push(character),
            '+' => text.push_str("%2B"),
            '@' => text.push_str("%40"),
            _ => return None,
        }
    }
    Some(())
}

/// The name of the file of a source package of RPM, without its ending.
fn source_rpm(file: &str) -> Option<&str> {
    file.strip_suffix(".src.rpm").or_else(|| file.strip_suffix(".nosrc.rpm"))
}

/// Whether this value of the qualifier `arch` stands for source packages.
pub(super) fn is_source_arch(arch: Option<&str>) -> bool {
    matches!(arch, Some("source" | "src"))
}

/// Whether packages of this type are those of a distribution: their versions end with its release, or revision, and they are
/// built from source packages.
pub fn is_of_distribution(kind: &str) -> bool {
    matches!(kind, "alpm" | "apk" | "deb" | "rpm")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            ("pkg:deb/debian/openssl?distro=debian-12", "pkg:deb/debian/openssl@1?distro=debian-12.5", true),
            ("pkg:deb/debian/openssl?distro=debian-1", "pkg:deb/debian/openssl@1?distro=debian-12.5", false),
            ("pkg:deb/debian/openssl?distro=debian-12.5", "pkg:deb/debian/openssl@1?distro=debian-12", false),
            ("pkg:deb/debian/openssl?arch=amd", "pkg:deb/debian/openssl@1?arch=amd.64", false),
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
    fn urls_of_parts_are_those_of_their_text() {
        for (kind, namespace, name, version) in [
            ("deb", Some("debian"), "libssl3", "3.0.11-1~deb12u2"),
            ("deb", Some("debian"), "libstdc++6", "12.2.0-14+deb12u1"),
            ("pypi", None, "ruamel_yaml.X", "1.0+local"),
            ("npm", Some("@babel"), "core", "7.24.0"),
            ("npm", Some("%40babel"), "a%2fb", "1"),
            ("golang", Some("github.com/acme"), "x", "v1.0.0+incompatible"),
            ("maven", Some(".."), "x", "1"),
            ("maven", Some("a/../b"), "x y", "1 2"),
            ("rpm", Some("redhat"), "bash", ""),
            ("swift", None, "x", "1"),
        ] {
            let mut url = PackageUrl::new(kind, name.to_owned()).unwrap();
            namespace.map(|namespace| url.with_namespace(namespace.to_owned()).map(|_| ()));
            let _ = url.with_version(version.to_owned());
            assert_eq!(Purl::of(&url), Purl::parse(&url.to_string()), "{url}");
        }
    }

    #[test]
    fn source_packages_are_stated_in_two_ways() {
        for (text, expected) in [
            ("pkg:deb/debian/libssl3@3?upstream=openssl%403.0.11-1", Some(("openssl", Some("3.0.11-1")))),
            ("pkg:deb/debian/libssl3@3?upstream=openssl", Some(("openssl", None))),
            ("pkg:rpm/redhat/x@3?upstream=openssl-3.0.7-27.el9.src.rpm", Some(("openssl", Some("3.0.7-27.el9")))),
            ("pkg:rpm/redhat/x@3?upstream=java-17-openjdk-17.0-1.nosrc.rpm", Some(("java-17-openjdk", Some("17.0-1")))),
            ("pkg:rpm/redhat/x@3?upstream=openssl-3.src.rpm", Some(("openssl-3", None))),
            ("pkg:rpm/redhat/x@3?upstream=openssl%403.0.7", Some(("openssl", Some("3.0.7")))),
            ("pkg:rpm/redhat/x@3", None),
        ] {
            assert_eq!(Purl::parse(text).unwrap().upstream(), expected, "{text}");
        }
    }

    #[test]
    fn images_are_identified_only_by_digest() {
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

    #[test]
    fn the_rules_of_a_type_apply() {
        for (text, canonical) in [
            ("pkg:pypi/Foo_Bar@1", Some("pkg:pypi/foo-bar@1")),
            ("pkg:DEB/Debian/OpenSSL@3", Some("pkg:deb/debian/openssl@3")),
            ("pkg:npm/@acme/x@1", Some("pkg:npm/%40acme/x@1")),
            ("pkg:deb/debian/x@1%2B2?b=2&A=1&c=", Some("pkg:deb/debian/x@1%2B2?a=1&b=2")),
            ("pkg:maven/Org/Name@1", Some("pkg:maven/Org/Name@1")),
            ("pkg:deb/debian/x@", Some("pkg:deb/debian/x")),
            ("pkg://deb/debian//x", Some("pkg:deb/debian/x")),
            ("pkg:oci/team/app@1", Some("pkg:docker/team/app@1")),
            ("pkg:cargo/a/b@1", None),
            ("pkg:deb/%2e%2e/debian/x", None),
            ("pkg:deb/debian/%ff", None),
            ("pkg:deb/debian%2Fubuntu/x", None),
            ("pkg:d_b/debian/x", None),
        ] {
            assert_eq!(Purl::parse(text).as_ref().map(Purl::as_str), canonical, "{text}");
        }
        assert_eq!(Purl::parse(&format!("pkg:deb/debian/{}", "x".repeat(MAX_LENGTH))), None);
    }

    #[test]
    fn common_packages_have_simple_parts() {
        for (kind, named, version, qualifiers, text) in [
            (
                "deb",
                (Some("debian"), "libstdc++6"),
                "12.2.0-14+deb12u1",
                &[("arch", "amd64"), ("distro", "")][..],
                "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64",
            ),
            ("npm", (Some("@babel"), "core"), "7.24.0", &[], "pkg:npm/%40babel/core@7.24.0"),
            ("golang", (Some("github.com/acme"), "x"), "v1.0.0", &[], "pkg:golang/github.com/acme/x@v1.0.0"),
            (
                "rpm",
                (Some("rocky"), "nodejs"),
                "18.1-1",
                &[("epoch", "1"), ("modularitylabel", "nodejs:18:806")],
                "pkg:rpm/rocky/nodejs@18.1-1?epoch=1&modularitylabel=nodejs:18:806",
            ),
            ("pypi", (None, "six"), "", &[], "pkg:pypi/six"),
        ] {
            assert_eq!(Purl::of_simple_parts(kind, named, version, qualifiers).unwrap().as_str(), text);
        }
        for (kind, namespace, name) in [
            ("pypi", None, "a_b"),
            ("npm", None, "A"),
            ("cargo", Some("a"), "b"),
            ("x", None, "a"),
            ("deb", Some(".."), "a"),
            ("deb", None, "a/b"),
            ("deb", None, ""),
        ] {
            assert!(Purl::of_simple_parts(kind, (namespace, name), "1", &[]).is_none(), "{kind} {name}");
        }
    }

    proptest! {
        /// A URL built from simple parts equals the one that the parser would produce.
        #[test]
        fn simple_parts_are_what_the_parser_makes_of_them(
            kind in "apk|deb|golang|maven|npm|rpm|bitnami|cargo|gem|nuget|pypi|composer",
            namespace in prop::option::of("[a-zA-Z@./_]{0,8}"),
            name in "[a-zA-Z0-9+@._~:/ -]{0,8}",
            version in "[a-zA-Z0-9+@._~:%-]{0,8}",
            arch in "[a-z0-9+@._~:-]{0,6}",
            distro in "[a-z0-9+.:/-]{0,6}",
        ) {
            let qualifiers = [("arch", &*arch), ("distro", &*distro)];
            let simple = Purl::of_simple_parts(&kind, (namespace.as_deref(), &name), &version, &qualifiers);
            if let Some(simple) = simple {
                let mut url = PackageUrl::new(kind, name).unwrap();
                namespace.map(|namespace| url.with_namespace(namespace).map(|_| ()));
                if !version.is_empty() {
                    url.with_version(version).unwrap();
                }
                for (key, value) in qualifiers.into_iter().filter(|(_, value)| !value.is_empty()) {
                    url.add_qualifier(key, value.to_owned()).unwrap();
                }
                let parsed = Purl::of(&url).unwrap();
                prop_assert_eq!(&simple, &parsed);
                prop_assert_eq!(simple.url(), parsed.url());
                prop_assert_eq!(Purl::parse(simple.as_str()), Some(simple));
            }
        }

        /// A URL that is written and read again names the same package and covers it, so stored URLs do not change
        /// their meaning.
        #[test]
        fn written_url_parses_to_the_same_package(text in "pkg:(deb|npm|oci|x)/[a-z%2Ee./@#?&=A-F0-9 ]{1,40}") {
            if let Some(purl) = Purl::parse(&text) {
                let again = Purl::parse(purl.as_str());
                prop_assert_eq!(again.as_ref(), Some(&purl));
                prop_assert!(again.unwrap().covers(&purl) && purl.covers(&purl));
            }
        }
    }
}
