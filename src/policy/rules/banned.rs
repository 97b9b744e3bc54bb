//! Packages that an image must not contain: `bannedPackages` of a rule.

mod notation;

use percent_encoding::percent_decode_str;

use crate::policy::vulnerability::ReportPackage;
use crate::policy::vulnerability::purl::{Purl, is_of_distribution, is_source_arch};
use crate::version::{self, VersRange, VersionRange, VersionScheme, scheme_of};

/// The types of package URLs whose names have a namespace. One that a policy leaves out matches any.
const NAMESPACED: [&str; 8] = ["alpm", "apk", "bitbucket", "composer", "deb", "github", "maven", "rpm"];

/// The other types of package URLs that are registered (package-url/purl-spec, `types`).
const OTHER_TYPES: [&str; 28] = [
    "bazel",
    "bitnami",
    "cargo",
    "cocoapods",
    "conan",
    "conda",
    "cpan",
    "cran",
    "docker",
    "gem",
    "generic",
    "golang",
    "hackage",
    "hex",
    "huggingface",
    "julia",
    "luarocks",
    "mlflow",
    "npm",
    "nuget",
    "oci",
    "opam",
    "otp",
    "pub",
    "pypi",
    "qpkg",
    "swid",
    "swift",
];

/// A package that an image must not contain, in all versions or some.
#[derive(Clone, Debug, PartialEq)]
pub struct BannedPackage {
    /// As written in the policy.
    pub written: String,
    /// Without a version.
    purl: Purl,
    /// Whether only the source package has this name, and not packages that are built from another one (`arch=source`).
    is_source: bool,
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

/// Why a text is not a package, or one that no image can contain.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidBannedPackage {
    /// It is not a package URL.
    #[error("is not a package URL such as pkg:npm/event-stream@3.3.6")]
    Purl,
    /// Its type is not registered.
    #[error("there are no packages of type {0:?}")]
    Type(String),
    /// Its name is a pattern.
    #[error("names no package: * stands for versions only")]
    Pattern,
    /// A range is not in its place.
    #[error("versions are written after @, before qualifiers: pkg:deb/debian/openssl@<3.0.12?arch=amd64")]
    Misplaced,
    /// It names a part of a package.
    #[error("has a subpath, which packages in reports do not have")]
    Subpath,
    /// Its version cannot be one of the kind of package.
    #[error("{0:?} is not a version of a package of this type")]
    Version(String),
    /// Its versions cannot be compared.
    #[error("the order of versions of pkg:{0} is not known: name one version")]
    Unordered(String),
    /// Its range cannot be parsed.
    #[error("{0}")]
    Range(String),
}

impl BannedPackage {
    /// Parses a package URL. Its version may be missing, be one version, or be a range: one in the notation of the kind
    /// of package (`pkg:npm/left-pad@>=1.0.0 <1.3.0`), or one of the VERS specification
    /// (`pkg:npm/left-pad@vers:npm/>=1.0.0|<1.3.0`). Both may be percent-encoded.
    ///
    /// # Errors
    /// The text is neither, the range cannot be parsed, or no package can match.
    pub fn parse(text: &str) -> Result<Self, InvalidBannedPackage> {
        let written = text.trim();
        let (body, rest) = written.split_at(written.find(['?', '#']).unwrap_or(written.len()));
        if rest.contains(['@', '<', '>']) || rest.contains("vers=") {
            return Err(InvalidBannedPackage::Misplaced);
        }
        let (package, version) = split_version(body);
        let (rest, epoch) = without_qualifier(rest, "epoch");
        let (others, arch) = without_qualifier(&rest, "arch");
        let is_source = is_source_arch(arch);
        let rest = if is_source { others } else { rest };
        let purl = Purl::parse(&format!("{package}{rest}")).ok_or(InvalidBannedPackage::Purl)?;
        check_name(&purl)?;
        let versions = match version {
            None => BannedVersions::All,
            Some(version) => versions(&purl, &version, epoch)?,
        };
        Ok(Self { written: written.to_owned(), purl, is_source, versions })
    }

    /// The name of the package without its namespace, in the form in which packages of its ecosystem are compared.
    pub(in crate::policy) fn key(&self) -> String {
        key(self.purl.name())
    }

    /// The keys by which bans of this package are found: its name without a namespace, and that of its source package,
    /// normalised in the same way for all kinds of packages.
    pub(in crate::policy) fn keys_of(package: &ReportPackage) -> impl Iterator<Item = String> {
        let own = match &package.purl {
            Some(purl) => purl.name(),
            None => package.name.rsplit(['/', ':']).next().unwrap_or_default(),
        };
        let source = package.source().map(|(name, _)| name).filter(|name| *name != own);
        [Some(own), source].into_iter().flatten().map(key)
    }

    /// Whether a package of an image is banned. A version that cannot be compared is, and so is a package of the same
    /// name without a package URL.
    pub(in crate::policy) fn bans(&self, package: &ReportPackage) -> bool {
        let is_named = match &package.purl {
            Some(purl) => self.names(purl),
            None => self.is_called(&package.name),
        };
        let is_named = is_named && !self.is_source;
        let is_banned = |version: String| self.versions.contain(&self.purl, &version);
        is_named && std::iter::once(version_of(package)).chain(other_version(package)).any(is_banned)
            || self.source_version(package).is_some_and(|version| self.versions.contain(&self.purl, &version))
    }

    /// The version of the source package that a package of a distribution was built from, if this is its name. A source
    /// that states no version has that of the package.
    fn source_version(&self, package: &ReportPackage) -> Option<String> {
        let ((name, version), purl) = (package.source()?, package.purl.as_ref()?);
        let is_in_namespace = self.purl.namespace().is_none() || self.purl.namespace() == purl.namespace();
        let is_named = is_of_distribution(purl.kind())
            && is_in_namespace
            && self.purl.kind() == purl.kind()
            && self.purl.name() == name;
        let is_named = is_named && self.purl.has_qualifiers_of(purl);
        // The file of a source package of RPM states no epoch; its packages have the same.
        let epoch = purl.qualifier("epoch").filter(|_| purl.kind() == "rpm");
        is_named.then(|| version.map_or_else(|| version_of(package), |version| with_epoch(version, epoch)))
    }

    /// Whether this is the package of the URL, in any version. A part that the policy omits matches any value.
    fn names(&self, other: &Purl) -> bool {
        let (own, kind) = (&self.purl, self.purl.kind());
        let namespace = |purl: &Purl| purl.namespace().map(|name| comparable(kind, name));
        let is_in_namespace = match (namespace(own), namespace(other)) {
            (Some(own), Some(other)) => own == other,
            (None, None) => true,
            _ => NAMESPACED.contains(&kind),
        };
        kind == other.kind()
            && is_in_namespace
            && comparable(kind, own.name()) == comparable(kind, other.name())
            && own.has_qualifiers_of(other)
    }

    /// Whether this is the name of the package as its tools write it: `@acme/x` (npm), `golang.org/x/net`,
    /// `org.apache.commons:commons-text` (Maven). A name without a namespace may be that of any package where names
    /// need one.
    fn is_called(&self, name: &str) -> bool {
        let kind = self.purl.kind();
        let own = comparable(kind, self.purl.name());
        let full = match self.purl.namespace() {
            Some(namespace) if !is_of_distribution(kind) => {
                format!("{}/{own}", comparable(kind, namespace))
            }
            _ => own.clone(),
        };
        let name = comparable(kind, &if kind == "maven" { name.replace(':', "/") } else { name.to_owned() });
        let last = name.rsplit('/').next().unwrap_or_default();
        name == full || NAMESPACED.contains(&kind) && last == own && (last == name || self.purl.namespace().is_none())
    }
}

/// A package URL without qualifiers, and its version without percent-encoding.
fn split_version(body: &str) -> (&str, Option<String>) {
    // A version contains no slash, except in a range of VERS; a scoped name of npm begins with `@`.
    let start = body.find("@vers:").or_else(|| {
        let name = body.rfind('/').map_or(0, |at| at + 1);
        body.get(name + 1..)?.find('@').map(|at| at + name + 1)
    });
    let Some(at) = start else { return (body, None) };
    let version = percent_decode_str(body[at + 1..].trim()).decode_utf8_lossy().trim().to_owned();
    (&body[..at], Some(version).filter(|version| !version.is_empty()))
}

/// Qualifiers without one of them, such as the epoch, which is a part of the version.
fn without_qualifier<'a>(rest: &'a str, key: &str) -> (String, Option<&'a str>) {
    let Some(qualifiers) = rest.strip_prefix('?') else { return (rest.to_owned(), None) };
    let (qualifiers, subpath) = qualifiers.split_at(qualifiers.find('#').unwrap_or(qualifiers.len()));
    let value = |qualifier: &'a str| qualifier.strip_prefix(key)?.strip_prefix('=');
    let found = qualifiers.split('&').find_map(value);
    let others: Vec<&str> = qualifiers.split('&').filter(|qualifier| value(qualifier).is_none()).collect();
    let mark = if others.is_empty() { "" } else { "?" };
    (format!("{mark}{}{subpath}", others.join("&")), found)
}

/// Whether packages can have the name.
fn check_name(purl: &Purl) -> Result<(), InvalidBannedPackage> {
    let kind = purl.kind();
    if !NAMESPACED.contains(&kind) && !OTHER_TYPES.contains(&kind) {
        return Err(InvalidBannedPackage::Type(kind.to_owned()));
    }
    if [purl.namespace(), Some(purl.name())].into_iter().flatten().any(|name| name.contains('*')) {
        return Err(InvalidBannedPackage::Pattern);
    }
    if purl.has_subpath() && kind != "golang" { Err(InvalidBannedPackage::Subpath) } else { Ok(()) }
}

/// The versions that a policy names.
fn versions(purl: &Purl, version: &str, epoch: Option<&str>) -> Result<BannedVersions, InvalidBannedPackage> {
    let is_any = |part: &str| matches!(part, "x" | "X");
    let is_range = version.starts_with(['<', '>', '=', '!', '~', '^', '[', '('])
        || version.contains([' ', '|', '*', ','])
        || matches!(purl.kind(), "composer" | "npm") && version.split('.').any(is_any);
    if version.starts_with("vers:") {
        let range = VersRange::parse(scheme(purl)?, version);
        return range.map(BannedVersions::Vers).map_err(|why| InvalidBannedPackage::Range(why.to_string()));
    }
    let is_part_of_one = purl.kind() == "npm" && is_part_of_version(version);
    if is_range || is_part_of_one {
        let scheme = scheme(purl)?;
        let version = &*if is_part_of_one { format!("{version}.x") } else { version.to_owned() };
        let unreadable = || InvalidBannedPackage::Range(format!("{version:?} is not a range of versions"));
        let range = notation::comparisons(purl.kind(), version).ok_or_else(unreadable)?;
        VersionRange::parse(scheme, &range).map_err(|why| InvalidBannedPackage::Range(why.to_string()))?;
        return Ok(BannedVersions::Range(scheme, range.into_owned()));
    }
    let version = with_epoch(version, epoch);
    match scheme(purl).map(|scheme| version::compare(scheme, &version, &version)) {
        Ok(Err(_)) => Err(InvalidBannedPackage::Version(version)),
        _ => Ok(BannedVersions::One(version)),
    }
}

/// Whether fewer than three numbers are written. In npm's notation these are all versions that begin with them.
fn is_part_of_version(version: &str) -> bool {
    let mut numbers = version.split('.');
    numbers.clone().count() < 3
        && numbers.all(|number| !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()))
}

/// The forms of a version that are compared with a banned one. Parts that the ban omits may be anything: the local part
/// of a version of PyPI (PEP 440, "Version matching"), the release of a package of a distribution, and the epoch of one
/// of RPM, which package URLs state in a qualifier.
pub(super) fn forms<'a>(kind: &str, banned: &str, version: &'a str) -> Vec<&'a str> {
    let without = match kind {
        "pypi" if !banned.contains('+') => version.split_once('+').map(|(public, _)| public),
        _ if is_of_distribution(kind) && !banned.contains('-') => version.rsplit_once('-').map(|(version, _)| version),
        _ => None,
    };
    let mut forms: Vec<&str> = std::iter::once(version).chain(without).collect();
    if kind == "rpm" && !banned.contains(':') {
        let without_epoch = forms.iter().copied().filter_map(|form| form.split_once(':'));
        let without_epoch: Vec<&str> = without_epoch.map(|(_, version)| version).collect();
        forms.extend(without_epoch);
    }
    forms
}

/// The version of a package: the one of its package URL, if the report states no other. The epoch may be a qualifier.
fn version_of(package: &ReportPackage) -> String {
    let purl = package.purl.as_ref();
    let of_purl = purl.and_then(Purl::version);
    let version = if package.version.is_empty() { of_purl.unwrap_or_default() } else { &package.version };
    with_epoch(version, purl.and_then(|purl| purl.qualifier("epoch")))
}

/// The version in the package URL, if the report contradicts it: either may be the right one.
fn other_version(package: &ReportPackage) -> Option<String> {
    let purl = package.purl.as_ref()?;
    let is_other = |version: &&str| match is_of_distribution(purl.kind()) {
        true => without_epoch(version) != without_epoch(&package.version),
        false => *version != package.version,
    };
    let other = purl.version().filter(|_| !package.version.is_empty()).filter(is_other)?;
    Some(with_epoch(other, purl.qualifier("epoch")))
}

pub(super) fn without_epoch(version: &str) -> &str {
    version.split_once(':').map_or(version, |(_, version)| version)
}

pub(super) fn with_epoch(version: &str, epoch: Option<&str>) -> String {
    match epoch {
        Some(epoch) if !version.is_empty() && !version.contains(':') => format!("{epoch}:{version}"),
        _ => version.to_owned(),
    }
}

/// A name in a form in which different spellings are equal: without regard to case, and `-`, `_` and `.` as their
/// registries compare them (PyPI: PEP 503; crates.io). Where names differ by case, a ban counts for all of them.
pub(super) fn comparable(kind: &str, name: &str) -> String {
    let name = name.to_lowercase();
    match kind {
        "pypi" => name.split(['-', '_', '.']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-"),
        "cargo" => name.replace('_', "-"),
        _ => name,
    }
}

pub(in crate::policy) fn key(name: &str) -> String {
    comparable("pypi", name)
}

impl BannedVersions {
    /// Whether a version of a package of this kind is among them.
    fn contain(&self, purl: &Purl, version: &str) -> bool {
        let kind = purl.kind();
        match self {
            Self::All => true,
            Self::One(banned) => {
                let scheme = scheme(purl).ok();
                let is_equal = |form: &str| {
                    let order = scheme.map(|scheme| version::compare(scheme, banned, form));
                    banned == form || matches!(order, Some(Ok(order)) if order.is_eq())
                };
                version.is_empty() || forms(kind, banned, version).into_iter().any(is_equal)
            }
            // The range was parsed when the policy was read.
            Self::Range(scheme, range) => {
                let contains = |range: VersionRange<'_>| match is_of_distribution(kind) {
                    true => range.contains_release(version),
                    false => range.contains(version),
                };
                VersionRange::parse(*scheme, range).and_then(contains).unwrap_or(true)
            }
            Self::Vers(range) if is_of_distribution(kind) => range.contains_release(version).unwrap_or(true),
            Self::Vers(range) => range.contains(version).unwrap_or(true),
        }
    }
}

/// How the versions of a kind of package are ordered.
fn scheme(purl: &Purl) -> Result<VersionScheme, InvalidBannedPackage> {
    match purl.kind() {
        // VERS has no scheme for these; their versions have revisions like Debian's.
        "bitnami" => Ok(VersionScheme::Deb),
        kind => scheme_of(kind).ok_or_else(|| InvalidBannedPackage::Unordered(kind.to_owned())),
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

    fn check(cases: &[(&str, &str, bool)]) {
        for (banned, purl, expected) in cases {
            assert_eq!(BannedPackage::parse(banned).unwrap().bans(&package(purl)), *expected, "{banned} {purl}");
        }
    }

    /// A type that is added to one of the tables, or written in another way there, is missing in the others.
    #[test]
    fn the_tables_of_package_types_agree() {
        let all: Vec<&str> = NAMESPACED.into_iter().chain(OTHER_TYPES).collect();
        assert_eq!(all.iter().filter(|kind| is_of_distribution(kind)).count(), 4);
        assert!(OTHER_TYPES.iter().all(|kind| !is_of_distribution(kind)), "a distribution has a namespace");
        for kind in all {
            let is_named = crate::policy::vulnerability::issue_id::package_type_of(kind) == Some(kind);
            assert_eq!(scheme_of(kind).is_some(), is_named, "{kind}: versions are compared, and scanners name it");
        }
    }

    /// A version of a distribution without its release is each of them, but not where releases are named.
    #[test]
    fn a_version_without_a_release_is_each_of_its_releases() {
        check(&[
            ("pkg:rpm/fedora/xz@5.6.1", "pkg:rpm/fedora/xz@5.6.1-1.fc40", true),
            ("pkg:rpm/fedora/xz@=5.6.1", "pkg:rpm/fedora/xz@5.6.1-1.fc40", true),
            ("pkg:rpm/fedora/xz@>=5.6.0 <=5.6.1", "pkg:rpm/fedora/xz@5.6.1-1.fc40", true),
            ("pkg:rpm/fedora/xz@vers:rpm/>=5.6.0|<=5.6.1", "pkg:rpm/fedora/xz@5.6.1-1.fc40", true),
            ("pkg:rpm/fedora/xz@<5.6.1", "pkg:rpm/fedora/xz@5.6.1-1.fc40", false),
            ("pkg:rpm/fedora/xz@5.6.1", "pkg:rpm/fedora/xz@5.6.2-1.fc40", false),
            ("pkg:rpm/fedora/xz@5.6.1-1.fc40", "pkg:rpm/fedora/xz@5.6.1-2.fc40", false),
            ("pkg:rpm/fedora/xz@<5.6.1-2", "pkg:rpm/fedora/xz@5.6.1-3.fc40", false),
            // Of a range, each bound counts as it is written.
            ("pkg:rpm/fedora/xz@>=5.6.0-1 <=5.6.1", "pkg:rpm/fedora/xz@5.6.1-1.fc40", true),
            ("pkg:rpm/fedora/xz@>=5.6.0 <5.6.1-2", "pkg:rpm/fedora/xz@5.6.1-1.fc40", true),
            ("pkg:rpm/fedora/xz@>=5.6.0 <5.6.1-2", "pkg:rpm/fedora/xz@5.6.1-3.fc40", false),
            ("pkg:rpm/fedora/xz@vers:rpm/>=5.6.0-1|<=5.6.1", "pkg:rpm/fedora/xz@5.6.1-1.fc40", true),
            ("pkg:rpm/fedora/xz@vers:rpm/>=5.6.0|<5.6.1-2", "pkg:rpm/fedora/xz@5.6.1-3.fc40", false),
            ("pkg:apk/alpine/xz@5.6.1", "pkg:apk/alpine/xz@5.6.1-r0", true),
            ("pkg:apk/alpine/xz@<=5.6.1", "pkg:apk/alpine/xz@5.6.1-r3", true),
            ("pkg:apk/alpine/xz@<5.6.1", "pkg:apk/alpine/xz@5.6.1-r3", false),
            ("pkg:deb/debian/xz-utils@5.6.1", "pkg:deb/debian/xz-utils@5.6.1-1", true),
            ("pkg:deb/debian/xz-utils@<5.6.1", "pkg:deb/debian/xz-utils@5.6.1-1", false),
            ("pkg:deb/debian/xz-utils@=5.6.1", "pkg:deb/debian/xz-utils@5.6.1-1", true),
            ("pkg:deb/debian/xz-utils@<=5.6.1", "pkg:deb/debian/xz-utils@5.6.1-1", true),
            ("pkg:deb/debian/xz-utils@>=5.6.0 <=5.6.1", "pkg:deb/debian/xz-utils@5.6.2-1", false),
            ("pkg:deb/debian/xz-utils@vers:deb/>=5.6.0|<=5.6.1", "pkg:deb/debian/xz-utils@5.6.1-1", true),
            ("pkg:alpm/arch/xz@5.6.1", "pkg:alpm/arch/xz@5.6.1-1", true),
            ("pkg:alpm/arch/xz@5.6.1-2", "pkg:alpm/arch/xz@5.6.1-1", false),
            // One version of RPM without an epoch has any; in a range the epoch counts.
            ("pkg:rpm/redhat/openssl@3.0.7", "pkg:rpm/redhat/openssl@3.0.7-1.el9?epoch=1", true),
            ("pkg:rpm/redhat/openssl@3.0.7-1.el9", "pkg:rpm/redhat/openssl@3.0.7-1.el9?epoch=1", true),
            ("pkg:rpm/redhat/openssl@3.0.7-1.el9", "pkg:rpm/redhat/openssl@3.0.7-2.el9?epoch=1", false),
            ("pkg:rpm/redhat/openssl@0:3.0.7", "pkg:rpm/redhat/openssl@3.0.7-1.el9?epoch=1", false),
            ("pkg:rpm/redhat/openssl@<=3.0.7", "pkg:rpm/redhat/openssl@3.0.7-1.el9?epoch=1", false),
            ("pkg:rpm/redhat/openssl@<=1:3.0.7", "pkg:rpm/redhat/openssl@3.0.7-1.el9?epoch=1", true),
        ]);
    }

    #[test]
    fn packages_are_banned_by_version_and_range() {
        check(&[
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
            // In npm's notation, a part of a version is all versions that begin with it.
            ("pkg:npm/x@1", "pkg:npm/x@1.5.0", true),
            ("pkg:npm/x@1.2", "pkg:npm/x@1.2.9", true),
            ("pkg:npm/x@1.2", "pkg:npm/x@1.3.0", false),
            ("pkg:npm/x@1", "pkg:npm/x@2.0.0", false),
            // NuGet's and Composer's own notation.
            ("pkg:nuget/A@[1.0,2.0)", "pkg:nuget/A@1.9.9", true),
            ("pkg:nuget/A@[1.0,2.0)", "pkg:nuget/A@2.0.0", false),
            ("pkg:nuget/A@(,1.0]", "pkg:nuget/A@0.1.0", true),
            ("pkg:nuget/A@1.*", "pkg:nuget/A@2.0.0-rc.1", false),
            ("pkg:composer/a/b@^1.0", "pkg:composer/a/b@1.5.0", true),
            ("pkg:composer/a/b@^1.0", "pkg:composer/a/b@2.0.0-beta1", false),
            ("pkg:composer/a/b@~1.2", "pkg:composer/a/b@1.9.0", true),
            ("pkg:composer/a/b@1.*", "pkg:composer/a/b@v1.9.0", true),
            ("pkg:composer/a/b@1.0 - 2.0", "pkg:composer/a/b@2.0.9", true),
            ("pkg:composer/a/b@^1.0|^3.0", "pkg:composer/a/b@3.1.0", true),
            ("pkg:composer/a/b@^1.0|^3.0", "pkg:composer/a/b@2.1.0", false),
            // PyPI: a version without a local part is also each one with it.
            ("pkg:pypi/torch@2.0.0", "pkg:pypi/torch@2.0.0+cpu", true),
            ("pkg:pypi/torch@2.0.0+cpu", "pkg:pypi/torch@2.0.0+cpu", true),
            ("pkg:pypi/torch@2.0.0+cpu", "pkg:pypi/torch@2.0.0", false),
        ]);
        let unnamed =
            |name: &str| ReportPackage { name: name.into(), version: "1.0.0".into(), ..ReportPackage::default() };
        let banned = BannedPackage::parse("pkg:npm/@acme/x").unwrap();
        assert!(banned.bans(&unnamed("@acme/x")) && !banned.bans(&unnamed("x")));
    }

    /// Each notation that is accepted bans what it says.
    #[test]
    fn spellings_of_one_package_are_equal() {
        for (banned, purl, expected) in [
            ("pkg:pypi/ruamel-yaml", "pkg:pypi/ruamel.yaml@1", true),
            ("pkg:pypi/ruamel.yaml", "pkg:pypi/Ruamel_YAML@1", true),
            ("pkg:pypi/a--b", "pkg:pypi/a-b@1", true),
            ("pkg:pypi/a-b", "pkg:pypi/ab@1", false),
            ("pkg:npm/Event-Stream@3.3.6", "pkg:npm/event-stream@3.3.6", true),
            ("pkg:npm/%65vent-stream", "pkg:npm/event-stream@1.0.0", true),
            ("pkg:npm/%40Acme/x", "pkg:npm/%40acme/x@1.0.0", true),
            ("pkg:npm/x", "pkg:npm/%40acme/x@1.0.0", false),
            ("pkg:nuget/Newtonsoft.Json", "pkg:nuget/newtonsoft.json@1", true),
            ("pkg:cargo/serde_json", "pkg:cargo/serde-json@1.0.0", true),
            ("pkg:golang/github.com/Sirupsen/logrus", "pkg:golang/github.com/sirupsen/logrus@v1.0.0", true),
            ("pkg:deb/openssl", "pkg:deb/debian/openssl@3", true),
            ("pkg:rpm/redhat/openssl", "pkg:rpm/openssl@1", true),
            ("pkg:rpm/redhat/openssl", "pkg:rpm/rocky/openssl@1", false),
            ("pkg:maven/log4j-core", "pkg:maven/org.apache.logging.log4j/log4j-core@2", true),
            // Ranges, with qualifiers and encoded.
            ("pkg:deb/debian/openssl@<3.0.12?arch=amd64", "pkg:deb/debian/openssl@3.0.11?arch=amd64", true),
            ("pkg:deb/debian/openssl@<3.0.12?arch=amd64", "pkg:deb/debian/openssl@3.0.12-1?arch=amd64", false),
            ("pkg:deb/debian/openssl@<3.0.12?arch=amd64", "pkg:deb/debian/openssl@3.0.11?arch=arm64", false),
            ("pkg:deb/debian/openssl@vers:deb/<3.0.12?arch=amd64", "pkg:deb/debian/openssl@3.0.12?arch=amd64", false),
            ("pkg:deb/debian/openssl@vers:deb/<3.0.12?arch=amd64", "pkg:deb/debian/openssl@3.0.11?arch=amd64", true),
            ("pkg:npm/x@%3C2.0.0", "pkg:npm/x@1.0.0", true),
            ("pkg:npm/x@%3E%3D1.0.0%20%3C2.0.0", "pkg:npm/x@2.0.0", false),
            ("pkg:npm/x@vers%3Anpm%2F%3C2.0.0", "pkg:npm/x@1.0.0", true),
            ("pkg:npm/x@1.x", "pkg:npm/x@1.2.9", true),
            ("pkg:npm/x@1.x", "pkg:npm/x@2.0.0", false),
            ("pkg:npm/x@", "pkg:npm/x@1.0.0", true),
            // Epochs.
            ("pkg:rpm/redhat/x@>=1:2.0", "pkg:rpm/redhat/x@2.0?epoch=1", true),
            ("pkg:rpm/redhat/x@>=1:2.0", "pkg:rpm/redhat/x@2.0", false),
            ("pkg:rpm/redhat/x@1:2.0-1", "pkg:rpm/redhat/x@2.0-1?epoch=1", true),
            ("pkg:rpm/redhat/x@2.0-1?epoch=1", "pkg:rpm/redhat/x@2.0-1?arch=x86_64&epoch=1", true),
            ("pkg:rpm/redhat/x@2.0-1?epoch=1", "pkg:rpm/redhat/x@2.0-1", false),
            ("pkg:deb/debian/x@<1%3A2.0", "pkg:deb/debian/x@1.9?epoch=1", true),
        ] {
            let (banned, package) = (BannedPackage::parse(banned).unwrap(), package(purl));
            assert_eq!(banned.bans(&package), expected, "{banned:?} {purl}");
            assert!(!expected || BannedPackage::keys_of(&package).any(|key| key == banned.key()), "{banned:?} {purl}");
        }
        for (banned, name, expected) in [
            ("pkg:pypi/PyYAML", "PyYAML", true),
            ("pkg:pypi/ruamel-yaml", "ruamel.yaml", true),
            ("pkg:composer/acme/x", "acme/x", true),
            ("pkg:composer/acme/x", "Acme/X", true),
            ("pkg:composer/acme/x", "other/x", false),
            ("pkg:maven/org.acme/x", "org.acme:x", true),
            ("pkg:maven/org.acme/x", "org.other:x", false),
            ("pkg:maven/org.acme/x", "x", true),
            ("pkg:maven/x", "org.acme:x", true),
            ("pkg:deb/debian/openssl", "openssl", true),
            ("pkg:npm/@acme/x", "x", false),
        ] {
            let package = ReportPackage { name: name.into(), version: "1".into(), ..ReportPackage::default() };
            let ban = BannedPackage::parse(banned).unwrap();
            assert_eq!(ban.bans(&package), expected, "{banned} {name}");
            assert!(!expected || BannedPackage::keys_of(&package).any(|key| key == ban.key()), "{banned} {name}");
        }
    }

    /// Distributions publish advisories, and people write bans, by the name of the source package.
    #[test]
    fn packages_are_banned_by_their_source_package() {
        let built = |purl: &str, name: &str, version: Option<&str>| ReportPackage {
            source_name: Some(name.to_owned()),
            source_version: version.map(str::to_owned),
            ..package(purl)
        };
        let liblzma = built("pkg:deb/debian/liblzma5@5.6.1-1%2Bb1?arch=amd64", "xz-utils", Some("5.6.1-1"));
        let unversioned = built("pkg:deb/debian/liblzma5@5.6.1-1", "xz-utils", None);
        let by_purl = package("pkg:deb/debian/liblzma5@5.6.1-1%2Bb1?upstream=xz-utils%405.6.1-1");
        let itself = package("pkg:deb/debian/xz-utils@5.6.1-1");
        // As Syft writes it.
        let of_file = package(
            "pkg:rpm/redhat/openssl-libs@3.0.7-27.el9?arch=x86_64&epoch=1&upstream=openssl-3.0.7-27.el9.src.rpm",
        );
        let other = built("pkg:deb/debian/xz-utils@1", "other", Some("1"));
        for (banned, package, expected) in [
            ("pkg:deb/debian/xz-utils@5.6.1-1", &liblzma, true),
            ("pkg:deb/debian/xz-utils@5.6.1-1", &by_purl, true),
            ("pkg:deb/debian/xz-utils@5.6.1-1", &unversioned, true),
            ("pkg:deb/xz-utils", &liblzma, true),
            ("pkg:deb/debian/xz-utils@<5.6.1", &liblzma, false),
            ("pkg:deb/ubuntu/xz-utils", &liblzma, false),
            ("pkg:rpm/debian/xz-utils", &liblzma, false),
            ("pkg:deb/debian/xz-utils?arch=arm64", &liblzma, false),
            ("pkg:deb/debian/xz-utils?arch=source", &liblzma, true),
            ("pkg:deb/debian/xz-utils?arch=source", &itself, true),
            ("pkg:deb/debian/xz-utils?arch=source", &other, false),
            ("pkg:deb/debian/xz-utils", &other, true),
            ("pkg:rpm/openssl", &of_file, true),
            ("pkg:rpm/openssl@<1:3.0.8", &of_file, true),
            ("pkg:rpm/openssl@>=1:3.0.0 <1:3.0.8", &of_file, true),
            ("pkg:rpm/redhat/openssl@3.0.7?arch=src", &of_file, true),
            ("pkg:rpm/redhat/openssl@3.0.7-27.el9", &of_file, true),
            ("pkg:rpm/openssl@<1:3.0.7", &of_file, false),
            ("pkg:rpm/openssl-3.0.7", &of_file, false),
        ] {
            let ban = BannedPackage::parse(banned).unwrap();
            assert_eq!(ban.bans(package), expected, "{banned} {package:?}");
            assert!(!expected || BannedPackage::keys_of(package).any(|key| key == ban.key()), "{banned}");
        }
    }

    /// A report and the package URL in it may contradict each other.
    #[test]
    fn either_of_two_versions_is_banned() {
        for (banned, purl, version, expected) in [
            ("pkg:npm/event-stream@3.3.6", "pkg:npm/event-stream@3.3.6", "1", true),
            ("pkg:npm/event-stream@3.3.6", "pkg:npm/event-stream@1.0.0", "3.3.6", true),
            ("pkg:npm/event-stream@3.3.6", "pkg:npm/event-stream@1.0.0", "2.0.0", false),
            ("pkg:rpm/redhat/x@<2", "pkg:rpm/redhat/x@1.0-1", "1:1.0-1", false),
            ("pkg:rpm/redhat/x@<1:2", "pkg:rpm/redhat/x@1.0-1?epoch=1", "3.0-1", true),
            ("pkg:golang/x.test/y@<1.1.0", "pkg:golang/x.test/y@v1.1.0", "1.1.0", false),
        ] {
            let package = ReportPackage { version: version.to_owned(), ..package(purl) };
            assert_eq!(BannedPackage::parse(banned).unwrap().bans(&package), expected, "{banned} {package:?}");
        }
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
            ("pkg:npm/@acme/*", "names no package"),
            ("pkg:npm/%2A", "names no package"),
            ("pkg:nmp/x", "there are no packages of type \"nmp\""),
            ("pkg:npm/x?vers=vers:npm/%3C2.0.0", "versions are written after @"),
            ("pkg:deb/debian/openssl?arch=amd64@<3.0.12", "versions are written after @"),
            ("pkg:npm/x@latest", "\"latest\" is not a version"),
            ("pkg:deb/debian/openssl#usr", "has a subpath"),
        ] {
            let error = BannedPackage::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
