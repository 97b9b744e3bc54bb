//! Which report speaks of which image.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use super::document::{Assessment, Document, Finding, Statement, issues};
use super::scan::Fingerprint;
use crate::oci::Digest;
use crate::policy::{Report, VaEvidence};

/// All that the directories hold at one time.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) files: BTreeMap<PathBuf, File>,
    pub(super) problems: Vec<String>,
    /// A directory could not be read, so that what is not found may still exist.
    unreadable: Option<String>,
    reports: HashMap<Digest, Vec<Arc<Document>>>,
    /// Statements by the lower-case identifier of the vulnerability.
    statements: HashMap<String, Vec<Arc<Statement>>>,
}

/// One file as it was when it was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct File {
    pub(super) fingerprint: Fingerprint,
    /// Its content could not be had, which may be otherwise the next time even where the file stays the same.
    pub(super) unread: bool,
    pub(super) content: Result<Arc<Document>, String>,
}

impl PartialEq for Index {
    /// All else follows from these.
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files && self.problems == other.problems && self.unreadable == other.unreadable
    }
}

impl Index {
    /// `broken` are the problems of directories, which leave open what is in them.
    pub(super) fn new(files: BTreeMap<PathBuf, File>, broken: Vec<String>, limits: Vec<String>) -> Self {
        let mut index = Self { unreadable: broken.first().cloned(), ..Self::default() };
        index.problems = broken.into_iter().chain(limits).collect();
        for (path, file) in &files {
            match &file.content {
                Ok(document) => {
                    index.problems.extend(document.notes.iter().map(|note| format!("{}: {note}", path.display())));
                    index.insert(document);
                }
                Err(why) => index.problems.push(format!("{}: {why}", path.display())),
            }
        }
        index.files = files;
        index
    }

    fn insert(&mut self, document: &Arc<Document>) {
        if document.assessment.is_some() {
            for subject in &document.subjects {
                let list = self.reports.entry(*subject).or_default();
                if !list.iter().any(|known| Arc::ptr_eq(known, document)) {
                    list.push(document.clone());
                }
            }
        }
        for statement in &document.statements {
            let statement = Arc::new(statement.clone());
            for id in &statement.ids {
                self.statements.entry(id.to_ascii_lowercase()).or_default().push(statement.clone());
            }
        }
    }

    /// What is known of the image that has these digests.
    pub(super) fn lookup(&self, image: &[Digest]) -> Option<VaEvidence> {
        let newest = self.newest(image);
        if newest.is_empty() {
            return self.unreadable.clone().map(|why| VaEvidence::Unavailable { why });
        }
        if let Some(why) = newest.iter().find_map(|assessment| assessment.incomplete.clone()) {
            return Some(VaEvidence::Incomplete { why });
        }
        let mut sources: Vec<&str> = newest.iter().map(|assessment| &*assessment.source).collect();
        sources.dedup();
        let findings = newest.iter().flat_map(|assessment| &assessment.findings);
        Some(VaEvidence::Report(Report {
            source: sources.join(", "),
            generated_at: newest[0].generated_at,
            issues: issues(findings.map(|finding| self.with_statements(finding, image))),
        }))
    }

    /// The newest report of the image; several where they are equally old.
    fn newest(&self, image: &[Digest]) -> Vec<&Assessment> {
        let known = image.iter().filter_map(|digest| self.reports.get(digest)).flatten();
        let mut documents: Vec<&Arc<Document>> = Vec::new();
        for document in known {
            if !documents.iter().any(|other| Arc::ptr_eq(other, document)) {
                documents.push(document);
            }
        }
        let assessments: Vec<_> = documents.iter().filter_map(|document| document.assessment.as_ref()).collect();
        let newest = assessments.iter().map(|assessment| assessment.generated_at).max();
        assessments.into_iter().filter(|assessment| Some(assessment.generated_at) == newest).collect()
    }

    /// Of the statements about a finding the latest holds; of equally late ones the one that suppresses nothing.
    fn with_statements(&self, finding: &Finding, image: &[Digest]) -> Finding {
        let names = finding.aliases.iter().chain([&finding.id]);
        let about = names.filter_map(|name| self.statements.get(&name.to_ascii_lowercase())).flatten();
        let about = about.filter(|statement| statement.is_about(finding, image));
        let latest = about.max_by_key(|statement| (statement.at, !statement.suppresses));
        let exempt = finding.exempt || latest.is_some_and(|statement| statement.suppresses);
        Finding { exempt, ..finding.clone() }
    }
}
