//! All packages that a scanner lists. A list counts only as a whole: an unreadable package may be a banned one, so it
//! makes the list unknown.

use super::details::{Lenient, short};
use crate::policy::{DeclaredLicence, PackageList, Purl, ReportPackage};

/// The maximum number of packages in one report.
const MAX_PACKAGES: usize = 100_000;
/// The maximum number of licences of one package.
const MAX_LICENCES: usize = 64;
/// The longest licence that is kept, in bytes. A longer one is a licence text, whose beginning names the licence.
/// Longer than what is read as an expression, so that a part of one is never taken for the whole.
const MAX_LICENCE: usize = 8192;

/// A package as a scanner lists it.
#[derive(Debug, Default)]
pub(super) struct ListedPackage<'a> {
    pub(super) name: Option<&'a str>,
    /// What comes before the name: `@babel` of `@babel/core`.
    pub(super) group: Option<&'a str>,
    pub(super) version: Option<&'a str>,
    pub(super) purl: Option<&'a str>,
    pub(super) licences: Vec<&'a str>,
    pub(super) path: Option<&'a str>,
    /// The source package that it was built from.
    pub(super) source: Option<&'a str>,
    /// The version of the source package.
    pub(super) source_version: Option<String>,
}

impl ListedPackage<'_> {
    /// `None` if it has no name, or more licences than are read. A version that the list does not state is taken from
    /// the package URL.
    fn package(&self) -> Option<ReportPackage> {
        let purl = self.purl.and_then(Purl::parse);
        let of_purl = purl.as_ref().and_then(Purl::version);
        if self.licences.len() > MAX_LICENCES {
            return None;
        }
        let name = short(self.name)?;
        let licences = self.licences.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
        Some(ReportPackage {
            name: short(self.group).map_or(name.clone(), |group| format!("{group}/{name}")),
            version: short(self.version).or_else(|| short(of_purl)).unwrap_or_default(),
            licences: licences.map(|text| DeclaredLicence::new(cut(text).to_owned())).collect(),
            published: None,
            path: short(self.path),
            purl,
            source_name: short(self.source),
            source_version: short(self.source_version.as_deref()),
        })
    }
}

/// A version as package managers write it, of the parts that Trivy states: `1:3.0.11-1` (`pkg/scanner/utils`,
/// `FormatVersion`).
pub(super) fn joined_version(epoch: Option<&str>, version: Option<&str>, release: Option<&str>) -> String {
    let epoch = epoch.filter(|epoch| !matches!(*epoch, "" | "0")).map(|epoch| format!("{epoch}:"));
    let release = release.filter(|release| !release.is_empty()).map(|release| format!("-{release}"));
    format!("{}{}{}", epoch.unwrap_or_default(), version.unwrap_or_default(), release.unwrap_or_default())
}

/// The text, or as much of it as is kept.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_LICENCE)]
}

/// The list of all packages; `None` if there are too many, or one cannot be read.
pub(super) fn all<'a>(listed: impl Iterator<Item = Option<ListedPackage<'a>>>) -> Option<PackageList> {
    let packages = listed.take(MAX_PACKAGES + 1).map(|package| package?.package());
    let packages = packages.collect::<Option<Vec<_>>>()?;
    (packages.len() <= MAX_PACKAGES).then(|| packages.into_iter().collect())
}

/// The texts of a list; `None` if the list or an entry of it is malformed. An absent list is empty.
pub(super) fn texts(list: &Option<Lenient<Vec<Lenient<String>>>>) -> Option<Vec<&str>> {
    let Some(list) = list else { return Some(Vec::new()) };
    list.0.as_ref()?.iter().map(|text| text.0.as_deref()).collect()
}
