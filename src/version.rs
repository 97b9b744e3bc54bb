//! How the versions of packages are ordered, and ranges of them.
//!
//! Each kind of package has its own order ([`VersionScheme`]). The orders and the grammars of ranges follow the tools
//! that define them and, where those leave a choice, what Trivy does, so that the same advisories match. Numbers of any
//! length are compared exactly.
//!
//! A version or range that cannot be read is an error ([`UnreadableVersion`]). Callers must not take it for "not
//! affected".

mod apk;
mod composer;
mod deb;
mod gem;
mod maven;
mod npm;
mod number;
mod python;
mod range;
mod rpm;
mod semver;
mod vers;

use std::cmp::Ordering;

use apk::ApkVersion;
use composer::ComposerVersion;
use deb::DebVersion;
use gem::GemVersion;
use maven::MavenVersion;
use python::PythonVersion;
use rpm::RpmVersion;
use semver::SemverVersion;

pub use range::VersionRange;
pub use vers::{VersRange, scheme_of};

/// The maximum length of a version, in bytes. The longest version of Debian has less than a hundred. The order of Maven
/// needs stack in proportion to the length.
const MAX_VERSION: usize = 1024;

/// How versions are ordered, by kind of package.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum VersionScheme {
    /// Alpine and its descendants (`apk version -t`).
    Apk,
    /// PHP (Composer).
    Composer,
    /// Debian and its descendants (deb-version(7)).
    Deb,
    /// Ruby (`Gem::Version`, `Gem::Requirement`).
    Gem,
    /// Maven (`ComparableVersion`, version ranges).
    Maven,
    /// Node.js (node-semver with `includePrerelease`).
    Npm,
    /// .NET: semantic versions whose prereleases are compared without regard to case.
    NuGet,
    /// Python (PEP 440). Other versions have no place in the order.
    Python,
    /// RPM (`rpmvercmp`).
    Rpm,
    /// Semantic versions with any count of numbers and an optional `v`: Go, Rust.
    Semver,
}

/// A version or a range of versions cannot be read, so nothing is known about what it contains.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnreadableVersion {
    /// A version does not follow its scheme.
    #[error("{0:?} is not a version")]
    Version(String),
    /// A range does not follow the grammar of its scheme.
    #[error("{0:?} is not a range of versions")]
    Range(String),
}

impl UnreadableVersion {
    /// An error about this version, of which it shows the beginning.
    pub fn version(text: &str) -> Self {
        Self::Version(text.chars().take(64).collect())
    }

    fn range(text: &str) -> Self {
        Self::Range(text.chars().take(64).collect())
    }
}

/// Compares two versions.
///
/// ```text
/// compare(VersionScheme::Deb, "1.0~rc1-1", "1.0-1")  Ok(Less)
/// compare(VersionScheme::Rpm, "1:1.0-1", "2.0-1")    Ok(Greater)
/// ```
pub fn compare(scheme: VersionScheme, a: &str, b: &str) -> Result<Ordering, UnreadableVersion> {
    let versions = [(a, PackageVersion::parse(scheme, a)?), (b, PackageVersion::parse(scheme, b)?)];
    let order = versions[0].1.compare(&versions[1].1);
    match versions.iter().find(|(_, version)| !version.is_ordered()) {
        Some((text, _)) if order.is_ne() => Err(UnreadableVersion::version(text)),
        _ => Ok(order),
    }
}

/// Whether two versions are equal, which also holds for versions without a place in the order of their scheme.
///
/// # Errors
///
/// One of them cannot be read.
pub fn is_equal(scheme: VersionScheme, a: &str, b: &str) -> Result<bool, UnreadableVersion> {
    let (a, b) = (PackageVersion::parse(scheme, a)?, PackageVersion::parse(scheme, b)?);
    Ok(a.compare(&b).is_eq())
}

/// Whether a version has the form that the scheme defines. [`compare`] orders more, as apk does: strings that are not
/// Alpine versions come before all others. An advisory with such a version has no meaning.
pub fn is_valid(scheme: VersionScheme, version: &str) -> bool {
    PackageVersion::parse(scheme, version).is_ok_and(|version| match &version.0 {
        ParsedVersion::Apk(version) => version.is_valid(),
        _ => version.is_ordered(),
    })
}

/// A version that was parsed, to be compared many times.
#[derive(Debug)]
pub struct PackageVersion<'a>(ParsedVersion<'a>);

#[derive(Debug)]
enum ParsedVersion<'a> {
    Apk(ApkVersion<'a>),
    Composer(ComposerVersion<'a>),
    Deb(DebVersion<'a>),
    Gem(GemVersion<'a>),
    Maven(MavenVersion),
    Npm(SemverVersion<'a>),
    Python(PythonVersion<'a>),
    Rpm(RpmVersion<'a>),
    Semver(SemverVersion<'a>),
}

impl<'a> PackageVersion<'a> {
    /// Parses a version. Space around it is ignored.
    ///
    /// # Errors
    ///
    /// The text is longer than a kilobyte, or does not follow the scheme.
    pub fn parse(scheme: VersionScheme, text: &'a str) -> Result<Self, UnreadableVersion> {
        let error = || UnreadableVersion::version(text);
        let version = text.trim();
        if version.is_empty() || version.len() > MAX_VERSION {
            return Err(error());
        }
        let parsed = match scheme {
            VersionScheme::Apk => ParsedVersion::Apk(ApkVersion::parse(version)),
            VersionScheme::Composer => ParsedVersion::Composer(ComposerVersion::parse(version).ok_or_else(error)?),
            VersionScheme::Deb => ParsedVersion::Deb(DebVersion::parse(version).ok_or_else(error)?),
            VersionScheme::Gem => ParsedVersion::Gem(GemVersion::parse(version).ok_or_else(error)?),
            VersionScheme::Maven => ParsedVersion::Maven(MavenVersion::parse(version)),
            VersionScheme::Npm => ParsedVersion::Npm(SemverVersion::parse(version).ok_or_else(error)?),
            VersionScheme::NuGet => {
                ParsedVersion::Semver(SemverVersion::parse(version).ok_or_else(error)?.ignoring_case())
            }
            VersionScheme::Python => ParsedVersion::Python(PythonVersion::parse(version)),
            VersionScheme::Rpm => ParsedVersion::Rpm(RpmVersion::parse(version)),
            VersionScheme::Semver => ParsedVersion::Semver(SemverVersion::parse(version).ok_or_else(error)?),
        };
        Ok(Self(parsed))
    }

    /// Whether the version has a place in the order of its scheme. Whether another one is before or after one that has
    /// none is unknown.
    pub fn is_ordered(&self) -> bool {
        !matches!(&self.0, ParsedVersion::Python(version) if version.standard().is_none())
    }

    /// Compares with another version of the same scheme. If one of them has no place in the order
    /// ([`Self::is_ordered`]), the result only says whether they are equal.
    ///
    /// # Panics
    ///
    /// The versions are of different schemes.
    pub fn compare(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (ParsedVersion::Apk(a), ParsedVersion::Apk(b)) => a.compare(b),
            (ParsedVersion::Composer(a), ParsedVersion::Composer(b)) => a.compare(b),
            (ParsedVersion::Deb(a), ParsedVersion::Deb(b)) => a.compare(b),
            (ParsedVersion::Gem(a), ParsedVersion::Gem(b)) => a.compare(b),
            (ParsedVersion::Maven(a), ParsedVersion::Maven(b)) => a.compare(b),
            (ParsedVersion::Npm(a), ParsedVersion::Npm(b)) | (ParsedVersion::Semver(a), ParsedVersion::Semver(b)) => {
                a.compare(b)
            }
            (ParsedVersion::Python(a), ParsedVersion::Python(b)) => a.compare(b),
            (ParsedVersion::Rpm(a), ParsedVersion::Rpm(b)) => a.compare(b),
            _ => unreachable!("versions are compared within one scheme"),
        }
    }
}

#[cfg(test)]
mod tests;
