//! Why something is not an exemption.

use super::record::MAX_PATTERN;
use crate::policy::vulnerability::issue_id::MAX_NAME;

/// Why something is not an exemption.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidExemption {
    /// Neither an issue nor a package.
    #[error("it needs an id or a package")]
    Empty,
    /// Neither a date nor a time.
    #[error(
        "the end is a date (2026-12-31, which ends at the beginning of that day in UTC) or a time (2026-12-31T18:00:00Z)"
    )]
    Expiry,
    /// Not an identifier.
    #[error(
        "an issue is one word of at most {MAX_NAME} bytes and no pattern, of ASCII letters, digits and -_.:+~, such as \
         CVE-2024-1234"
    )]
    IssueId,
    /// An exemption of a package names an issue.
    #[error(
        "type package exempts every vulnerability of a package; to exempt one issue in a package, use the issue's type"
    )]
    IssueOfPackage,
    /// No issue.
    #[error("the issue is missing")]
    NoIssue,
    /// No package.
    #[error("type package needs a package")]
    NoPackage,
    /// The identifier is not that of a CVE.
    #[error("not a CVE; other identifiers of vulnerabilities have the type sn")]
    NotCve,
    /// The identifier is that of a configuration issue.
    #[error("a configuration issue has the type configuration")]
    ConfigurationAsNotice,
    /// The identifier is that of a CVE.
    #[error("a CVE has the type cve")]
    NotNotice,
    /// Not the name of a package.
    #[error(
        "a package is a name of at most {MAX_NAME} bytes without spaces, or a package URL (pkg:deb/debian/openssl)"
    )]
    PackageName,
    /// A pattern, or a range of versions.
    #[error(
        "a package is not a pattern and has no range of versions: a package URL without a version matches every version \
         (pkg:deb/debian/openssl)"
    )]
    PackagePattern,
    /// The identifier is that of a vulnerability.
    #[error("not a configuration issue; vulnerabilities have the type cve or sn")]
    NotConfiguration,
    /// An exemption of a configuration issue names a package.
    #[error("a configuration issue is not in a package")]
    PackageOfConfiguration,
    /// Not a pattern of paths.
    #[error(
        "a path is a pattern of at most {MAX_PATTERN} bytes, such as usr/lib/python3/**, and does not start with !"
    )]
    Path,
    /// Not a package URL.
    #[error("not a package URL")]
    Purl,
    /// A reason or an author with control characters.
    #[error("the {0} has control characters")]
    ControlCharacters(&'static str),
    /// A reason or an author that is too long to be kept.
    #[error("the {0} is longer than {1} bytes")]
    TooLong(&'static str, usize),
    /// A package of a distribution without a namespace.
    #[error(
        "without a distribution, the package URL matches only packages of an unknown one; write pkg:deb/debian/openssl, or \
         the name alone (openssl)"
    )]
    NoNamespace,
    /// Not a type.
    #[error("the type is cve, sn (security notice), configuration or package")]
    Type,
}
