//! One exemption: which issues of which images do not count, until when, by whom and why.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::invalid::InvalidExemption;
use super::package::ExemptPackage;
use super::scope::ExemptionScope;
use crate::oci::Digest;
use crate::policy::vulnerability::issue_id::is_issue_id;
use crate::policy::vulnerability::{AffectedPackage, is_cve};

/// The maximum number of exemptions in documents, and of those added by commands. Each takes about 500 bytes of memory.
pub const MAX_EXEMPTIONS: usize = 20_000;
/// The longest pattern of paths, in bytes.
pub(super) const MAX_PATTERN: usize = 1024;
/// The longest reason, in bytes.
const MAX_REASON: usize = 1024;
/// The longest name of an author, in bytes.
const MAX_AUTHOR: usize = 256;
/// The length of an exemption's identifier, in hexadecimal digits.
const ID_LENGTH: usize = 12;

/// The kind of issue that an exemption applies to: IBM's three, and packages.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub enum IssueType {
    /// One CVE.
    #[serde(rename = "cve")]
    Cve,
    /// A configuration issue.
    #[serde(rename = "configuration")]
    Configuration,
    /// Every vulnerability of a package.
    #[serde(rename = "package")]
    Package,
    /// A security notice of a vendor, or any other identifier of a vulnerability that is not a CVE: `DSA-5532-1`,
    /// `GHSA-…`.
    #[serde(rename = "sn")]
    SecurityNotice,
}

impl IssueType {
    /// All types, in IBM's order.
    pub const ALL: [Self; 4] = [Self::Cve, Self::SecurityNotice, Self::Configuration, Self::Package];

    /// The name in commands and documents, as IBM writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cve => "cve",
            Self::Configuration => "configuration",
            Self::Package => "package",
            Self::SecurityNotice => "sn",
        }
    }

    /// The name for people, as IBM writes it.
    pub fn display_name(self) -> &'static str {
        match self {
            Self::Cve => "CVE",
            Self::Configuration => "Configuration Issue",
            Self::Package => "Package",
            Self::SecurityNotice => "Security Notice",
        }
    }
}

impl FromStr for IssueType {
    type Err = InvalidExemption;

    fn from_str(text: &str) -> Result<Self, InvalidExemption> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(InvalidExemption::Type)
    }
}

/// A pattern of paths in the file system of an image, as Trivy's ignore files have them: `*` matches within a
/// component, `**` any number of components, `{a,b}` one of several strings. It is compared with paths that do not
/// begin with `/`, and as it is written, so one that begins with `/` matches nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathPattern(Box<str>);

impl PathPattern {
    fn matches(&self, path: &str) -> bool {
        fast_glob::glob_match(&*self.0, path.trim_start_matches('/'))
    }
}

impl FromStr for PathPattern {
    type Err = InvalidExemption;

    /// A pattern that starts with `!` would match everything else, so it is not accepted.
    fn from_str(text: &str) -> Result<Self, InvalidExemption> {
        let is_valid = !text.is_empty() && text.len() <= MAX_PATTERN && !text.starts_with('!');
        let is_valid = is_valid && fast_glob::validate(text).is_ok();
        is_valid.then(|| Self(text.into())).ok_or(InvalidExemption::Path)
    }
}

/// One exemption.
///
/// Two exemptions of the same issue in the same package and scope are one: the later one replaces the other.
#[derive(Clone, Debug, PartialEq)]
pub struct ExemptionRecord {
    /// Identifies the exemption. It follows from the scope, the type, the issue and the package.
    pub id: Arc<str>,
    /// The images that it applies to.
    pub scope: ExemptionScope,
    /// The kind of issue.
    pub issue_type: IssueType,
    /// The issue. `None` means every vulnerability of the package.
    pub issue_id: Option<String>,
    /// The package that it is limited to. `None` means every package.
    pub package: Option<ExemptPackage>,
    /// The files that it is limited to. `None` means every file.
    pub path: Option<PathPattern>,
    /// When it ends. At that instant it no longer applies.
    pub expires: Option<Timestamp>,
    /// The reason for the exemption.
    pub reason: Option<String>,
    /// Who decided this.
    pub by: Option<String>,
    /// When it was added; `None` if that is not known.
    pub created: Option<Timestamp>,
    /// The document that contains it: `Exemption/openssl`, or the path of an ignore file. `None` for one that was added
    /// by a command.
    pub document: Option<Arc<str>>,
}

impl ExemptionRecord {
    /// An exemption without an end, a reason and an author.
    ///
    /// # Errors
    /// If the issue or the package is missing, or does not fit the type.
    pub fn new(
        scope: ExemptionScope,
        issue_type: IssueType,
        issue_id: Option<&str>,
        package: Option<ExemptPackage>,
    ) -> Result<Self, InvalidExemption> {
        let issue_id = match (issue_type, issue_id) {
            (IssueType::Package, None) if package.is_none() => return Err(InvalidExemption::NoPackage),
            (IssueType::Package, None) => None,
            (IssueType::Package, Some(_)) => return Err(InvalidExemption::IssueOfPackage),
            (_, None) => return Err(InvalidExemption::NoIssue),
            (_, Some(id)) if !is_issue_id(id) => return Err(InvalidExemption::IssueId),
            (IssueType::Cve, Some(id)) if !is_cve(id) => return Err(InvalidExemption::NotCve),
            (IssueType::SecurityNotice, Some(id)) if is_cve(id) => return Err(InvalidExemption::NotNotice),
            (IssueType::Configuration, Some(id)) if is_of_vulnerability(id) => {
                return Err(InvalidExemption::NotConfiguration);
            }
            (IssueType::SecurityNotice, Some(id)) if is_of_configuration(id) => {
                return Err(InvalidExemption::ConfigurationAsNotice);
            }
            (IssueType::Configuration, Some(_)) if package.is_some() => {
                return Err(InvalidExemption::PackageOfConfiguration);
            }
            (_, Some(id)) => Some(id.to_owned()),
        };
        let text = |package: &ExemptPackage| package.to_string();
        let key = [
            scope.to_string(),
            issue_type.as_str().to_owned(),
            issue_id.as_deref().unwrap_or_default().to_ascii_lowercase(),
            package.as_ref().map(text).unwrap_or_default(),
        ];
        let id = short_id(&key.join("\n"));
        let (path, expires, reason, by, created, document) = Default::default();
        Ok(Self { id, scope, issue_type, issue_id, package, path, expires, reason, by, created, document })
    }

    /// The exemptions of an identifier that does not say what kind of issue it is of: a CVE, or else both a security
    /// notice and a configuration issue.
    ///
    /// # Errors
    /// If the text is not an identifier.
    pub fn of_identifier(
        scope: &ExemptionScope,
        id: &str,
        package: Option<&ExemptPackage>,
    ) -> Result<Vec<Self>, InvalidExemption> {
        let kinds: &[IssueType] = match package {
            _ if is_cve(id) => &[IssueType::Cve],
            _ if is_of_configuration(id) => &[IssueType::Configuration],
            None if !is_of_vulnerability(id) => &[IssueType::SecurityNotice, IssueType::Configuration],
            _ => &[IssueType::SecurityNotice],
        };
        kinds.iter().map(|kind| Self::new(scope.clone(), *kind, Some(id), package.cloned())).collect()
    }

    /// The exemptions of an entry of a list, which may state the type, an issue and a package.
    ///
    /// # Errors
    /// If neither is given, or one of them is malformed.
    pub fn listed(
        scope: &ExemptionScope,
        issue_type: Option<IssueType>,
        id: Option<&str>,
        package: Option<&str>,
        expires: Option<Timestamp>,
    ) -> Result<Vec<Self>, InvalidExemption> {
        let package = package.map(str::parse).transpose()?;
        let records = match (issue_type, id) {
            (None, Some(id)) => Self::of_identifier(scope, id, package.as_ref())?,
            (None, None) if package.is_none() => return Err(InvalidExemption::Empty),
            (kind, id) => vec![Self::new(scope.clone(), kind.unwrap_or(IssueType::Package), id, package)?],
        };
        Ok(records.into_iter().map(|record| Self { expires, ..record }).collect())
    }

    /// The same for packages in these files only. A package without a path in the report is not exempt.
    #[must_use]
    pub fn at_path(self, path: PathPattern) -> Self {
        let id = short_id(&format!("{}\n{}", self.id, path.0));
        Self { id, path: Some(path), ..self }
    }

    /// The same with who decided it, and why. The lines of a reason are joined, because it is shown in one line.
    ///
    /// # Errors
    /// If a text is too long or has control characters.
    pub fn explained(self, by: Option<&str>, reason: Option<&str>) -> Result<Self, InvalidExemption> {
        let text = |what, text: Option<&str>, longest| match text.map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) if text.contains(char::is_control) => Err(InvalidExemption::ControlCharacters(what)),
            Some(text) if text.len() > longest => Err(InvalidExemption::TooLong(what, longest)),
            text => Ok(text.map(str::to_owned)),
        };
        let reason = reason.map(|reason| reason.split(['\r', '\n', '\t']).map(str::trim).collect::<Vec<_>>().join(" "));
        Ok(Self { by: text("author", by, MAX_AUTHOR)?, reason: text("reason", reason.as_deref(), MAX_REASON)?, ..self })
    }

    /// As above, with a comment as the reason. Only the beginning of a long comment is kept.
    ///
    /// # Errors
    /// If it has control characters.
    pub fn commented(self, comment: Option<&str>) -> Result<Self, InvalidExemption> {
        let comment = comment.map(str::trim).map(|comment| &comment[..comment.floor_char_boundary(MAX_REASON)]);
        self.explained(None, comment)
    }

    /// Whether the exemption applies at this time.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// When the exemption ends; [`Timestamp::MAX`] if it has no end.
    pub(super) fn end(&self) -> Timestamp {
        self.expires.unwrap_or(Timestamp::MAX)
    }

    /// Whether the exemption applies to this package; `None` if the report names no package.
    pub(super) fn covers(&self, place: Option<&AffectedPackage>) -> bool {
        let is_at = |pattern: &PathPattern| {
            let path = place.and_then(|place| place.path.as_deref());
            path.is_some_and(|path| pattern.matches(path))
        };
        self.package.as_ref().is_none_or(|package| place.is_some_and(|place| package.is(place)))
            && self.path.as_ref().is_none_or(is_at)
    }
}

/// The issue that an exemption exempts, and its scope: `cve CVE-2024-1 in openssl, scope birds/bluebird`.
impl fmt::Display for ExemptionRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.issue_type.as_str())?;
        match (&self.issue_id, &self.package) {
            (Some(id), Some(package)) => write!(f, " {id} in {package}")?,
            (Some(id), None) => write!(f, " {id}")?,
            (None, package) => write!(f, " {}", package.as_ref().map(ToString::to_string).unwrap_or_default())?,
        }
        if let Some(PathPattern(path)) = &self.path {
            write!(f, " at {path}")?;
        }
        write!(f, ", scope {}", self.scope)
    }
}

/// Parses the end of an exemption: a date, which means its beginning in UTC, or a time as in RFC 3339. The last day of
/// the year 9999, which the library cannot represent, means that there is no end.
///
/// # Errors
/// If the text is neither.
pub fn expiry(text: &str) -> Result<Timestamp, InvalidExemption> {
    const DATE: usize = "2026-12-31".len();
    let of_date = || {
        if text == "9999-12-31" || text == "9999-12-31T23:59:59Z" {
            return Some(Timestamp::MAX);
        }
        let date: jiff::civil::Date = text.parse().ok().filter(|_| text.len() == DATE)?;
        Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    text.parse().ok().or_else(of_date).ok_or(InvalidExemption::Expiry)
}

fn short_id(key: &str) -> Arc<str> {
    Digest::sha256(key.as_bytes()).hex()[..ID_LENGTH].into()
}

/// Whether only configuration issues have such an identifier, as IBM writes it:
/// `application_configuration:ssh.private_key`.
fn is_of_configuration(id: &str) -> bool {
    id.split_once(':').is_some_and(|(class, _)| class.to_ascii_lowercase().ends_with("_configuration"))
}

/// Whether only vulnerabilities have such an identifier.
fn is_of_vulnerability(id: &str) -> bool {
    is_cve(id) || id.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("GHSA-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(kind: IssueType, id: Option<&str>, package: Option<&str>) -> Result<ExemptionRecord, InvalidExemption> {
        ExemptionRecord::new(ExemptionScope::EVERYTHING, kind, id, package.map(|text| text.parse().unwrap()))
    }

    #[test]
    fn issues_and_packages_must_fit_the_type() {
        use IssueType::{Configuration, Cve, Package, SecurityNotice};
        for (kind, id, package, expected) in [
            (Cve, Some("cve-2024-1"), None, Ok(())),
            (Cve, Some("CVE-2024-1"), Some("openssl"), Ok(())),
            (Cve, Some("DSA-1"), None, Err(InvalidExemption::NotCve)),
            (Cve, Some("*"), None, Err(InvalidExemption::IssueId)),
            (Cve, Some("CVE-1 CVE-2"), None, Err(InvalidExemption::IssueId)),
            (Cve, Some("CVE-2024-*"), None, Err(InvalidExemption::IssueId)),
            (SecurityNotice, Some("CVE_2024_1"), None, Err(InvalidExemption::IssueId)),
            (Cve, None, Some("openssl"), Err(InvalidExemption::NoIssue)),
            (Configuration, Some("CVE-2024-1"), None, Err(InvalidExemption::NotConfiguration)),
            (Configuration, Some("ghsa-aaaa-bbbb-cccc"), None, Err(InvalidExemption::NotConfiguration)),
            (
                SecurityNotice,
                Some("application_configuration:ssh.private_key"),
                None,
                Err(InvalidExemption::ConfigurationAsNotice),
            ),
            (SecurityNotice, Some("DSA-1"), None, Ok(())),
            (SecurityNotice, Some("CVE-2024-1"), None, Err(InvalidExemption::NotNotice)),
            (Configuration, Some("application_configuration:ssh.private_key"), None, Ok(())),
            (Configuration, Some("x"), Some("openssl"), Err(InvalidExemption::PackageOfConfiguration)),
            (Package, None, Some("pkg:deb/debian/openssl"), Ok(())),
            (Package, None, None, Err(InvalidExemption::NoPackage)),
            (Package, Some("CVE-2024-1"), Some("openssl"), Err(InvalidExemption::IssueOfPackage)),
        ] {
            assert_eq!(new(kind, id, package).map(|_| ()), expected, "{kind:?} {id:?} {package:?}");
        }
        let patterns = ["openssl*", "pkg:deb/debian/openssl@<3.0.12", "pkg:deb/debian/*", "pkg:npm/x@^1.0.0"];
        for pattern in patterns {
            assert_eq!(pattern.parse::<ExemptPackage>(), Err(InvalidExemption::PackagePattern), "{pattern}");
        }
        for (package, is_named) in [
            ("pkg:deb/openssl", false),
            ("pkg:rpm/openssl@3", false),
            ("pkg:apk/musl?arch=source", false),
            ("pkg:alpm/xz", false),
            ("pkg:deb/debian/openssl", true),
            ("pkg:npm/left-pad", true),
            ("pkg:generic/openssl", true),
            ("openssl", true),
        ] {
            let package: ExemptPackage = package.parse().unwrap();
            let expected = if is_named { Ok(package.clone()) } else { Err(InvalidExemption::NoNamespace) };
            assert_eq!(package.of_reports(), expected);
        }
        for bad in ["", "*", "a b", "pkg:", "a\u{7}"] {
            assert!(bad.parse::<ExemptPackage>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_identifier_follows_from_the_exempt_issue() {
        let record = |id, package| new(IssueType::Cve, Some(id), package).unwrap();
        assert_eq!(record("CVE-2024-1", None).id, record("cve-2024-1", None).id);
        assert_ne!(record("CVE-2024-1", None).id, record("CVE-2024-2", None).id);
        assert_ne!(record("CVE-2024-1", None).id, record("CVE-2024-1", Some("openssl")).id);
        assert_eq!(record("CVE-2024-1", Some("openssl")).to_string(), "cve CVE-2024-1 in openssl, scope *");
    }

    #[test]
    fn an_end_is_a_date_or_a_time() {
        let no_end = Timestamp::MAX.to_string();
        for (text, end) in [
            ("2026-12-31", Some("2026-12-31T00:00:00Z")),
            ("2026-12-31T18:00:00Z", Some("2026-12-31T18:00:00Z")),
            ("2026-12-31T18:00:00+02:00", Some("2026-12-31T16:00:00Z")),
            ("2026-12-31T18:00:00", None),
            ("9999-12-31", Some(&*no_end)),
            ("9999-12-31T23:59:59Z", Some(&*no_end)),
            ("2026-13-01", None),
            ("31.12.2026", None),
            ("30d", None),
            ("", None),
        ] {
            assert_eq!(expiry(text).ok(), end.map(|end| end.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn reasons_and_authors_are_one_line() {
        let record = || new(IssueType::Cve, Some("CVE-2024-1"), None).unwrap();
        let explained = record().explained(Some(" ann "), Some("")).unwrap();
        assert_eq!((explained.by.as_deref(), explained.reason), (Some("ann"), None));
        let lines = record().explained(None, Some("not called\n  see the ticket\n")).unwrap();
        assert_eq!(lines.reason.as_deref(), Some("not called see the ticket"));
        let (control, long) = ("\u{1b}[2J", "x".repeat(MAX_REASON + 1));
        for (by, reason, expected) in [
            (None, Some(control), InvalidExemption::ControlCharacters("reason")),
            (Some("a\nb"), None, InvalidExemption::ControlCharacters("author")),
            (None, Some(&*long), InvalidExemption::TooLong("reason", MAX_REASON)),
            (Some(&*long), None, InvalidExemption::TooLong("author", MAX_AUTHOR)),
        ] {
            assert_eq!(record().explained(by, reason), Err(expected));
        }
        let comment = "ä".repeat(MAX_REASON);
        let kept = record().commented(Some(&comment)).unwrap().reason.unwrap();
        assert!(kept.len() == MAX_REASON && comment.starts_with(&kept));
    }
}
