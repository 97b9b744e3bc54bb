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
    /// Which one this is of those that were in use.
    pub(super) generation: u64,
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
    pub(super) fn lookup(&self, manifest: Digest, config: Digest) -> Option<VaEvidence> {
        let counting = self.counting(manifest, config);
        if counting.is_empty() {
            return self.unreadable.clone().map(|why| VaEvidence::Unavailable { why });
        }
        if let Some(why) = counting.iter().find_map(|assessment| assessment.incomplete.clone()) {
            return Some(VaEvidence::Incomplete { why });
        }
        let mut sources: Vec<&str> = counting.iter().map(|assessment| &*assessment.source).collect();
        sources.dedup();
        let findings = counting.iter().flat_map(|assessment| &assessment.findings);
        let image = [manifest, config];
        Some(VaEvidence::Report(Report {
            source: sources.join(", "),
            generated_at: counting.iter().map(|assessment| assessment.generated_at).max().flatten(),
            issues: issues(findings.map(|finding| self.with_statements(finding, &image))),
        }))
    }

    /// The reports that count: the newest by the manifest's digest, with what is newer by the configuration's; where no
    /// report names the manifest, the newest by the configuration's. Several where they are equally old.
    fn counting(&self, manifest: Digest, config: Digest) -> Vec<&Assessment> {
        let (mut own, others) = (self.newest(manifest), self.newest(config));
        let Some(age) = own.first().map(|assessment| assessment.generated_at) else { return others };
        let is_new =
            |other: &&Assessment| other.generated_at >= age && !own.iter().any(|known| std::ptr::eq(*known, *other));
        let more: Vec<_> = others.into_iter().filter(is_new).collect();
        own.extend(more);
        own
    }

    fn newest(&self, digest: Digest) -> Vec<&Assessment> {
        let documents = self.reports.get(&digest).into_iter().flatten();
        let assessments: Vec<_> = documents.filter_map(|document| document.assessment.as_ref()).collect();
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
