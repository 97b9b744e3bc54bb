//! VEX statements, and what they are about.

use jiff::Timestamp;

use super::document::ReportFinding;
use crate::oci::Digest;
use crate::policy::{AffectedPackage, Issue, Purl, is_cve, may_name};

/// A statement of a VEX document about one vulnerability.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct VexStatement {
    /// All identifiers of the vulnerability.
    pub(super) ids: Vec<String>,
    /// The images that it is about; if empty, any image that contains one of the packages.
    pub(super) images: Vec<NamedImage>,
    /// The packages that it is about; if empty, the images as a whole.
    pub(super) packages: Vec<Purl>,
    /// When it was made. Of two contradicting statements, the later one applies.
    pub(super) at: Option<Timestamp>,
    /// Whether it says that the image is not affected, as opposed to affected or under investigation.
    pub(super) suppresses: bool,
}

impl VexStatement {
    /// The order of statements; the greatest applies. Of equally late ones, one that does not exempt takes precedence.
    /// A statement without a time is the earliest if it exempts, and the latest if it does not.
    pub(super) fn precedence(&self) -> (Timestamp, bool) {
        let unknown = if self.suppresses { Timestamp::MIN } else { Timestamp::MAX };
        (self.at.unwrap_or(unknown), !self.suppresses)
    }
}

/// An image, or all images of an index, as named by a VEX statement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct NamedImage {
    pub(super) digest: Digest,
    /// Whether the statement names one platform. If the digest is that of an index, which of its images is meant is
    /// unknown.
    pub(super) of_platform: bool,
}

/// The digests by which statements may name an image.
pub(super) struct ImageDigests<'a> {
    /// The digests of its manifest and of its configuration.
    pub(super) own: &'a [Digest],
    /// Digests of the indexes that list it.
    pub(super) parents: &'a [Digest],
}

impl ImageDigests<'_> {
    fn has(&self, named: &NamedImage) -> bool {
        self.own.contains(&named.digest) || (!named.of_platform && self.parents.contains(&named.digest))
    }

    /// Whether the image may be the one that is named, also if one platform of an index that lists it is named.
    fn may_have(&self, named: &NamedImage) -> bool {
        self.own.contains(&named.digest) || self.parents.contains(&named.digest)
    }
}

impl VexStatement {
    /// Whether the statement is about this finding in this image. One that takes an exemption back counts for all that
    /// it may be about, because it may name the image and the package in another way than the statement that exempts.
    pub(super) fn is_about(&self, finding: &ReportFinding, image: &ImageDigests<'_>) -> bool {
        let has = |named: &NamedImage| if self.suppresses { image.has(named) } else { image.may_have(named) };
        self.is_of_issue(&finding.issue)
            && (self.images.is_empty() || self.images.iter().any(has))
            && (self.packages.is_empty() || self.is_in(finding.issue.packages.first()))
    }

    /// Whether it is about an issue in this package. If the report names none, only a statement that takes an exemption
    /// back may be.
    fn is_in(&self, affected: Option<&AffectedPackage>) -> bool {
        let Some(affected) = affected else { return !self.suppresses };
        let covers = |package: &Purl| affected.purl.as_ref().is_some_and(|purl| package.covers(purl));
        self.packages.iter().any(|package| if self.suppresses { covers(package) } else { may_name(package, affected) })
    }

    /// An advisory may cover several CVEs, so if both sides name CVEs, only these are compared. To exempt a finding, a
    /// statement must name all of its CVEs.
    fn is_of_issue(&self, issue: &Issue) -> bool {
        let names = |id: &str| self.ids.iter().any(|own| own.eq_ignore_ascii_case(id));
        let cves = issue.cves();
        if cves.is_empty() || !self.ids.iter().any(|id| is_cve(id)) {
            return names(&issue.id) || issue.aliases.iter().any(|alias| names(alias));
        }
        if self.suppresses { cves.into_iter().all(names) } else { cves.into_iter().any(names) }
    }
}
