//! Packages that an image must not contain: `bannedPackages` of a rule.

use super::purl::Purl;
use super::vulnerability::ReportPackage;
use crate::version::{self, VersRange, VersionRange, VersionScheme};

/// A package that an image must not contain, in all versions or some.
#[derive(Clone, Debug, PartialEq)]
pub struct BannedPackage {
    /// As written in the policy.
    pub written: String,
    /// Without a version.
    purl: Purl,
    versions: BannedVersions,
}

#[derive(Clone, Debug, PartialEq)]
enum BannedVersions {
    All,
    /// This version, however it is written.
    One(String),
    Range(VersionScheme, String),
    Vers(VersRange),
}

/// Why a text is not a package.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidBannedPackage {
    /// It is not a package URL.
    #[error("is not a package URL such as pkg:npm/event-stream@3.3.6")]
    Purl,
    /// Its versions cannot be compared.
    #[error("the order of versions of pkg:{0} is not known: name one version")]
    Unordered(String),
    /// Its range cannot be parsed.
    #[error("{0}")]
    Range(String),
}

impl BannedPackage {
    /// Parses a package URL. Its version may be missing, be one version, or be a range: one in the notation of the kind of
    /// package (`pkg:npm/left-pad@>=1.0.0 <1.3.0`), or one of the VERS specification
    /// (`pkg:npm/left-pad@vers:npm/>=1.0.0|<1.3.0`).
    ///
    /// # Errors
    /// The text is neither, or the range cannot be parsed.
    pub fn parse(text: &str) -> Result<Self, InvalidBannedPackage> {
        let written = text.trim();
        // A version contains no slash, except in a range of VERS; a scoped name of npm begins with `@`.
        let start = written.find("@vers:").or_else(|| {
            let name = written.rfind('/').map_or(0, |at| at + 1);
            written.get(name + 1..)?.find('@').map(|at| at + name + 1)
        });
        let (package, version) = match start {
            Some(at) => (&written[..at], Some(written[at + 1..].trim())),
            None => (written, None),
        };
        let is_range = |version: &str| {
            version.starts_with(['<', '>', '=', '!', '~', '^', '[', '(']) || version.contains([' ', '|', '*', ','])
        };
        let whole = |purl: Purl| match purl.version().map(str::to_owned) {
            Some(version) => (purl.without_version(), BannedVersions::One(version)),
            None => (purl, BannedVersions::All),
        };
        let (purl, versions) = match version {
            Some(version) if version.starts_with("vers:") => {
                let purl = Purl::parse(package).ok_or(InvalidBannedPackage::Purl)?;
                let scheme = scheme(&purl)?;
                let range =
                    VersRange::parse(scheme, version).map_err(|why| InvalidBannedPackage::Range(why.to_string()))?;
                (purl, BannedVersions::Vers(range))
            }
            Some(version) if is_range(version) => {
                let purl = Purl::parse(package).ok_or(InvalidBannedPackage::Purl)?;
                let scheme = scheme(&purl)?;
                VersionRange::parse(scheme, version).map_err(|why| InvalidBannedPackage::Range(why.to_string()))?;
                (purl, BannedVersions::Range(scheme, version.to_owned()))
            }
            _ => whole(Purl::parse(written).ok_or(InvalidBannedPackage::Purl)?),
        };
        Ok(Self { written: written.to_owned(), purl, versions })
    }

    /// The name of the package without its namespace.
    pub(super) fn name(&self) -> &str {
        self.purl.name()
    }

    /// Whether a package of an image is banned. A version that cannot be compared is, and so is a package of the same name
    /// without a package URL.
    pub(super) fn bans(&self, package: &ReportPackage) -> bool {
        let is_named = match &package.purl {
            Some(purl) => self.purl.covers(purl),
            None => self.purl.is_called(&package.name),
        };
        is_named && self.versions.contain(scheme(&self.purl).ok(), version_of(package))
    }
}

/// The version of a package: the one of its package URL, if the report states no other.
fn version_of(package: &ReportPackage) -> &str {
    let of_purl = package.purl.as_ref().and_then(Purl::version);
    if package.version.is_empty() { of_purl.unwrap_or_default() } else { &package.version }
}

impl BannedVersions {
    fn contain(&self, scheme: Option<VersionScheme>, version: &str) -> bool {
        match self {
            Self::All => true,
            Self::One(banned) => {
                let order = scheme.map(|scheme| version::compare(scheme, banned, version));
                banned == version || version.is_empty() || matches!(order, Some(Ok(order)) if order.is_eq())
            }
            // The range was parsed when the policy was read.
            Self::Range(scheme, range) => {
                VersionRange::parse(*scheme, range).and_then(|range| range.contains(version)).unwrap_or(true)
            }
            Self::Vers(range) => range.contains(version).unwrap_or(true),
        }
    }
}

/// How the versions of a kind of package are ordered.
fn scheme(purl: &Purl) -> Result<VersionScheme, InvalidBannedPackage> {
    match purl.kind() {
        "apk" => Ok(VersionScheme::Apk),
        "cargo" | "golang" | "nuget" => Ok(VersionScheme::Semver),
        "composer" => Ok(VersionScheme::Composer),
        "bitnami" | "deb" => Ok(VersionScheme::Deb),
        "gem" => Ok(VersionScheme::Gem),
        "maven" => Ok(VersionScheme::Maven),
        "npm" => Ok(VersionScheme::Npm),
        "pypi" => Ok(VersionScheme::Python),
        "rpm" => Ok(VersionScheme::Rpm),
        other => Err(InvalidBannedPackage::Unordered(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(purl: &str) -> ReportPackage {
        let purl = Purl::parse(purl).unwrap();
        ReportPackage {
            name: purl.name().to_owned(),
            version: purl.version().unwrap_or_default().to_owned(),
            purl: Some(purl),
            ..ReportPackage::default()
        }
    }

    #[test]
    fn packages_are_banned_by_version_and_range() {
        for (banned, purl, expected) in [
            ("pkg:npm/event-stream@3.3.6", "pkg:npm/event-stream@3.3.6", true),
            ("pkg:npm/event-stream@3.3.6", "pkg:npm/event-stream@3.3.5", false),
            ("pkg:npm/event-stream@3.3.6", "pkg:npm/event-stream@v3.3.6", true),
            ("pkg:npm/event-stream", "pkg:npm/event-stream@3.3.5", true),
            ("pkg:npm/event-stream", "pkg:npm/event-streams@3.3.5", false),
            ("pkg:npm/event-stream", "pkg:pypi/event-stream@3.3.5", false),
            ("pkg:npm/@acme/x@1.0.0", "pkg:npm/%40acme/x@1.0.0", true),
            ("pkg:npm/%40acme/x", "pkg:npm/%40acme/x@2.0.0", true),
            ("pkg:npm/@acme/x@>=1.0.0 <2.0.0", "pkg:npm/%40acme/x@1.5.0", true),
            ("pkg:npm/left-pad@>=1.0.0 <1.3.0", "pkg:npm/left-pad@1.3.0", false),
            ("pkg:npm/left-pad@<2", "pkg:npm/left-pad@1.3.0", true),
            ("pkg:npm/left-pad@^1.2.0", "pkg:npm/left-pad@1.9.0", true),
            ("pkg:npm/left-pad@vers:npm/>=1.0.0|<1.3.0|2.0.0", "pkg:npm/left-pad@1.2.9", true),
            ("pkg:npm/left-pad@vers:npm/>=1.0.0|<1.3.0|2.0.0", "pkg:npm/left-pad@2.0.0", true),
            ("pkg:npm/left-pad@vers:npm/>=1.0.0|<1.3.0|2.0.0", "pkg:npm/left-pad@1.3.0", false),
            ("pkg:deb/debian/xz-utils@>= 5.6.0, < 5.6.2", "pkg:deb/debian/xz-utils@5.6.1-1?arch=amd64", true),
            ("pkg:deb/debian/xz-utils@>= 5.6.0, < 5.6.2", "pkg:deb/ubuntu/xz-utils@5.6.1-1", false),
            (
                "pkg:maven/org.apache.logging.log4j/log4j-core@[2.0,2.17.1)",
                "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1",
                true,
            ),
            ("pkg:npm/left-pad@1.*", "pkg:npm/left-pad@1.9.0", true),
            ("pkg:npm/left-pad@1.*", "pkg:npm/left-pad@2.0.0", false),
            ("pkg:pypi/PyYAML@<5.4", "pkg:pypi/pyyaml@5.3.1", true),
            ("pkg:pypi/pyyaml@<5.4", "pkg:pypi/pyyaml@unreadable", true),
            ("pkg:golang/golang.org/x/net@<0.17.0", "pkg:golang/golang.org/x/net@v0.16.0", true),
            ("pkg:generic/x@1", "pkg:generic/x@1", true),
            ("pkg:npm/x@1.0.0", "pkg:npm/x", true),
        ] {
            assert_eq!(BannedPackage::parse(banned).unwrap().bans(&package(purl)), expected, "{banned} {purl}");
        }
        let unnamed =
            |name: &str| ReportPackage { name: name.into(), version: "1.0.0".into(), ..ReportPackage::default() };
        let banned = BannedPackage::parse("pkg:npm/@acme/x").unwrap();
        assert!(banned.bans(&unnamed("@acme/x")) && !banned.bans(&unnamed("x")));
    }

    #[test]
    fn other_texts_are_errors() {
        for (text, expected) in [
            ("event-stream", "is not a package URL"),
            ("pkg:generic/x@<2", "the order of versions of pkg:generic is not known"),
            ("pkg:npm/x@>=1.0.0 <<2", "is not a range of versions"),
            ("pkg:npm/x@vers:pypi/>=1", "is not a range of versions"),
            ("pkg:npm/x@vers:npm/>=1.0.0|>2.0.0", "is not a range of versions"),
            ("", "is not a package URL"),
        ] {
            let error = BannedPackage::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
