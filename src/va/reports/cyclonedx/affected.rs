//! The components that a vulnerability affects, and their affected versions.

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use crate::policy::Purl;
use crate::va::reports::document::{some, text_or_nothing};

/// The default for `affectedStatus`: a version or range without a status is affected.
const AFFECTED: &str = "affected";

/// The `bom-ref` in a BOM-Link (`urn:cdx:SERIAL/VERSION#REF`), or the text unchanged.
fn local_ref(reference: &str) -> String {
    match reference.strip_prefix("urn:cdx:").and_then(|link| link.split_once('#')) {
        Some((_, fragment)) => percent_decode_str(fragment).decode_utf8_lossy().into_owned(),
        None => reference.to_owned(),
    }
}

#[derive(Deserialize)]
pub(super) struct Affected {
    #[serde(rename = "ref", default, deserialize_with = "text_or_nothing")]
    reference: Option<String>,
    versions: Option<Vec<Version>>,
}

#[derive(Deserialize)]
struct Version {
    #[serde(default, deserialize_with = "text_or_nothing")]
    version: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    status: Option<String>,
}

impl Affected {
    pub(super) fn local_ref(&self) -> String {
        local_ref(self.reference.as_deref().unwrap_or_default())
    }

    /// Whether every entry that may apply to the version says that it is not affected. Ranges are not evaluated here,
    /// so if one may be affected, this version may be.
    pub(super) fn spares(&self, installed: &str) -> bool {
        let mut versions = self.versions.iter().flatten().filter(|v| v.may_be(installed)).peekable();
        versions.peek().is_some() && versions.all(|v| v.status() == "unaffected")
    }

    pub(super) fn fixed(&self, installed: Option<&str>) -> Option<String> {
        let unaffected = self.versions.iter().flatten().filter(|v| v.status() == "unaffected");
        unaffected.filter_map(|v| some(v.version.clone())).find(|version| Some(&**version) != installed)
    }

    /// The package, limited to the versions that a statement covers: for a suppressing statement only the versions
    /// listed as unaffected, for any other all that may be affected. Ranges are not evaluated here.
    pub(super) fn narrow(&self, purl: &Purl, suppresses: bool) -> Vec<Purl> {
        let Some(versions) = self.versions.as_ref().filter(|versions| !versions.is_empty()) else {
            return vec![purl.clone()];
        };
        if !suppresses && versions.iter().any(|v| v.version.is_none()) {
            return vec![purl.clone()];
        }
        let listed = versions.iter().filter_map(|v| v.version.as_deref());
        // A component with another version may have the same one in another notation.
        let at = |version| purl.at(version).or_else(|| (!suppresses).then(|| purl.clone()));
        listed.filter(|version| self.spares(version) == suppresses).filter_map(at).collect()
    }

    /// Whether a statement is about an image in one of these versions, given by digest or by name.
    pub(super) fn is_about<'a>(&self, mut versions: impl Iterator<Item = &'a str>, suppresses: bool) -> bool {
        !suppresses || self.versions.iter().flatten().next().is_none() || versions.any(|version| self.spares(version))
    }
}

impl Version {
    fn status(&self) -> &str {
        self.status.as_deref().unwrap_or(AFFECTED)
    }

    /// Whether the entry may apply to this version. An unaffected range never counts, because it may not contain the
    /// version.
    fn may_be(&self, installed: &str) -> bool {
        match self.version.as_deref() {
            Some(version) => version == installed,
            None => self.status() != "unaffected",
        }
    }
}
