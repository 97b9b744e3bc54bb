//! Findings of documents that do not show that anything was scanned: a list of vulnerabilities that were analysed, or
//! one without the components of the image. They are added to what scanners report and replace nothing.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::document::{ReportFinding, issues};
use super::index::Index;
use super::statement::ImageDigests;
use super::{BoundReports, Reports};
use crate::oci::Digest;
use crate::policy::Issue;
use crate::va::VaSubject;
use crate::va::binding::ConfigBinding;

/// The findings of one document.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AddedFindings {
    /// When the document was made.
    pub(super) at: Option<Timestamp>,
    pub(super) findings: Vec<ReportFinding>,
}

/// The vulnerabilities that a scanner reports, by their names and packages. The scanner rates them, so they are not
/// added again.
pub(super) struct ReportedIssues(HashSet<(String, String)>);

impl ReportedIssues {
    pub(super) fn new<'a>(reported: impl Iterator<Item = &'a Issue>) -> Self {
        let mut known = HashSet::new();
        for issue in reported {
            for name in issue.names().map(str::to_ascii_lowercase) {
                known.extend(issue.packages.iter().map(|package| (name.clone(), package.name.clone())));
                // A finding that names no package is about any.
                known.insert((name, String::new()));
            }
        }
        Self(known)
    }

    fn has(&self, issue: &Issue) -> bool {
        let packages: Vec<&str> = issue.packages.iter().map(|package| &*package.name).collect();
        let packages = if packages.is_empty() { vec![""] } else { packages };
        let is_known =
            |package: &str| issue.names().any(|name| self.0.contains(&(name.to_ascii_lowercase(), package.to_owned())));
        packages.into_iter().all(is_known)
    }
}

impl Index {
    /// The issues that documents about an image add to those that scanners report, with the statements about them.
    /// Documents that are older than `since` add none.
    pub(super) fn added_to(
        &self,
        reported: impl FnOnce() -> ReportedIssues,
        (image, since): (&ImageDigests<'_>, Option<Timestamp>),
        honour_ignores: bool,
    ) -> Vec<Issue> {
        let mut documents = Vec::new();
        for dated in image.own.iter().filter_map(|digest| self.additions.get(digest)).flatten() {
            if dated.at >= since && !documents.iter().any(|(_, known)| Arc::ptr_eq(*known, &dated.document)) {
                documents.push((dated.at, &dated.document));
            }
        }
        if documents.is_empty() {
            return Vec::new();
        }
        let reported = reported();
        let findings = documents.into_iter().flat_map(|(at, document)| {
            document.added.iter().flat_map(|added| &added.findings).map(move |finding| (at, finding))
        });
        let new = findings.filter(|(_, finding)| !reported.has(&finding.issue));
        new.map(|(at, finding)| self.issue_of(finding, at, image, honour_ignores)).collect()
    }

    /// The findings of documents about an image for which there is nothing else.
    pub(super) fn added_alone(&self, image: &ImageDigests<'_>, honour_ignores: bool) -> Vec<Issue> {
        let nothing = || ReportedIssues::new(std::iter::empty());
        issues(self.added_to(nothing, (image, None), honour_ignores))
    }

    /// Whether a document adds findings to the images with this digest.
    fn has_added(&self, digest: Digest) -> bool {
        self.additions.contains_key(&digest)
    }
}

impl Reports {
    fn added_alone(&self, image: &ImageDigests<'_>) -> Vec<Issue> {
        self.0.index.load().added_alone(image, self.0.settings.honour_ignores)
    }

    fn has_added(&self, digest: Digest) -> bool {
        self.0.index.load().has_added(digest)
    }
}

impl BoundReports {
    /// The findings of documents about an image that no report is about.
    pub(in crate::va) async fn added_alone(&self, subject: &VaSubject) -> Vec<Issue> {
        let (manifest, config) = (subject.manifest().digest, subject.config().digest);
        let is_proven =
            self.reports.has_added(config) && matches!(self.bindings.of(subject).await, ConfigBinding::Proven(_));
        let own: Vec<Digest> = std::iter::once(manifest).chain(is_proven.then_some(config)).collect();
        self.reports.added_alone(&ImageDigests { own: &own, parents: &subject.parents })
    }
}
