//! The package that an exemption applies to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::invalid::InvalidExemption;
use crate::policy::rules::banned::comparable;
use crate::policy::vulnerability::AffectedPackage;
use crate::policy::vulnerability::issue_id::is_word;
use crate::policy::vulnerability::purl::{Purl, is_of_distribution};

/// The package that an exemption applies to.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum ExemptPackage {
    /// Only by its name, as written in a report.
    Named(String),
    /// By its package URL. A version or a qualifier that the URL omits matches any; the namespace must be the same. A
    /// package without a package URL in the report does not match.
    Purl(Purl),
}

impl ExemptPackage {
    /// The same package, if a report can name it so. Packages of a distribution have a namespace there.
    ///
    /// # Errors
    /// The namespace is missing.
    pub fn of_reports(self) -> Result<Self, InvalidExemption> {
        match &self {
            Self::Purl(purl) if is_of_distribution(purl.kind()) && purl.namespace().is_none() => {
                Err(InvalidExemption::NoNamespace)
            }
            _ => Ok(self),
        }
    }

    pub(super) fn is(&self, package: &AffectedPackage) -> bool {
        match self {
            Self::Named(name) => *name == package.name || is_spelling_of(name, package),
            Self::Purl(purl) => package
                .purl
                .as_ref()
                .is_some_and(|affected| purl.covers(affected) || purl.is_source_of(affected, package.source_name())),
        }
    }

    /// The name without a namespace, for an index.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Named(name) => name,
            Self::Purl(purl) => purl.name(),
        }
    }
}

impl FromStr for ExemptPackage {
    type Err = InvalidExemption;

    /// A text that begins with `pkg:` is a package URL, and any other text is a name.
    fn from_str(text: &str) -> Result<Self, InvalidExemption> {
        if text.contains(['*', '<', '>', '^']) || text.contains('?') && !text.starts_with("pkg:") {
            return Err(InvalidExemption::PackagePattern);
        }
        if text.starts_with("pkg:") {
            return Purl::parse(text).map(Self::Purl).ok_or(InvalidExemption::Purl);
        }
        is_word(text).then(|| Self::Named(text.to_owned())).ok_or(InvalidExemption::PackageName)
    }
}

impl fmt::Display for ExemptPackage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Purl(purl) => f.write_str(purl.as_str()),
        }
    }
}

impl TryFrom<String> for ExemptPackage {
    type Error = InvalidExemption;

    fn try_from(text: String) -> Result<Self, InvalidExemption> {
        text.parse()
    }
}

impl From<ExemptPackage> for String {
    fn from(package: ExemptPackage) -> Self {
        package.to_string()
    }
}

/// Whether the registry of a package takes this name for the same: `pyyaml` for `PyYAML`. Elsewhere names that differ
/// by case may be two packages, of which only one is exempt.
fn is_spelling_of(name: &str, package: &AffectedPackage) -> bool {
    let kind = package.purl.as_ref().map(Purl::kind).or(package.ecosystem.as_deref()).unwrap_or_default();
    matches!(kind, "cargo" | "composer" | "nuget" | "pypi") && comparable(kind, name) == comparable(kind, &package.name)
}
