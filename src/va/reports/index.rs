//! Assigns reports to images.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::added::ReportedIssues;
use super::document::{ReportFile, ReportFinding, ScannerReport, issues};
use super::scan::Fingerprint;
use super::statement::{ImageDigests, VexStatement};
use super::{NeedsProof, ReportQuery};
use crate::oci::{Algorithm, Digest, Hasher};
use crate::policy::{ImageFacts, Issue, PackageList, Report, VaEvidence, known_time};
use crate::va::binding::ConfigBinding;

/// The contents of the directories at one point in time.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The number of the index, which increases whenever a new index comes into use.
    pub(super) generation: u64,
    pub(super) files: BTreeMap<PathBuf, File>,
    pub(super) problems: Vec<String>,
    /// Why a directory could not be read. A report that is not found may still exist there.
    unreadable: Option<String>,
    /// All directories that could not be read, and the limits that left files out.
    pub(super) left_out: Vec<String>,
    /// The number of files that could not be used.
    unread: usize,
    /// When the directories were read. Later times in reports are treated as unknown.
    pub(super) read_at: Timestamp,
    reports: HashMap<Digest, Vec<Dated>>,
    /// Documents that add findings to the reports on an image.
    pub(super) additions: HashMap<Digest, Vec<Dated>>,
    /// Statements, keyed by the lower-case identifier of the vulnerability.
    statements: HashMap<String, Vec<Arc<VexStatement>>>,
}

/// A report, with its time if it is known.
#[derive(Clone, Debug)]
pub(super) struct Dated {
    pub(super) document: Arc<ReportFile>,
    pub(super) at: Option<Timestamp>,
}

impl Dated {
    fn assessment(&self) -> Option<&ScannerReport> {
        self.document.assessment.as_ref()
    }

    fn is_incomplete(&self) -> bool {
        self.assessment().is_some_and(|assessment| assessment.incomplete.is_some())
    }

    /// The time up to which the report covers issues: the scanner's database may be older than the report.
    fn knows_until(&self) -> Option<Timestamp> {
        let data_of = self.assessment().and_then(|assessment| assessment.data_of);
        self.at.map(|at| data_of.map_or(at, |data_of| at.min(data_of)))
    }
}

/// The result of reading one file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct File {
    pub(super) fingerprint: Fingerprint,
    /// Whether its content could not be read. The next attempt may succeed even if the file is unchanged.
    pub(super) unread: bool,
    pub(super) content: Result<Arc<ReportFile>, String>,
}

impl PartialEq for Index {
    /// All other fields are derived from these.
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files && self.problems == other.problems && self.unreadable == other.unreadable
    }
}

impl Index {
    /// `broken` lists problems of directories, whose contents are then unknown. `limits` lists what was left out.
    pub(super) fn new(
        files: BTreeMap<PathBuf, File>,
        broken: Vec<String>,
        limits: Vec<String>,
        now: Timestamp,
    ) -> Self {
        let mut index =
            Self { unreadable: broken.first().cloned(), unread: limits.len(), read_at: now, ..Self::default() };
        index.left_out = broken.into_iter().chain(limits).collect();
        index.problems.clone_from(&index.left_out);
        for (path, file) in &files {
            match &file.content {
                Ok(document) => {
                    let ahead = index.insert(document, now);
                    let notes = document.notes.iter().chain(&ahead);
                    index.problems.extend(notes.map(|note| format!("{}: {note}", path.display())));
                }
                Err(why) => {
                    index.unread += 1;
                    index.problems.push(format!("{}: {why}", path.display()));
                }
            }
        }
        index.files = files;
        index
    }

    /// Returns a note if something in the document has a time in the future. Such a time is treated as unknown.
    fn insert(&mut self, document: &Arc<ReportFile>, now: Timestamp) -> Option<String> {
        let mut ahead = None;
        let mut known = |at: Option<Timestamp>| {
            let known = at.and_then(|at| known_time(at, now));
            if known != at {
                ahead = at;
            }
            known
        };
        let mut kinds = Vec::new();
        if let Some(report) = &document.assessment {
            kinds.push((report.generated_at, &mut self.reports));
        }
        if let Some(added) = &document.added {
            kinds.push((added.at, &mut self.additions));
        }
        for (at, to) in kinds {
            let dated = Dated { document: document.clone(), at: known(at) };
            for digest in document.image.own.iter().chain(&document.image.listed) {
                let list = to.entry(*digest).or_default();
                if !list.iter().any(|other| Arc::ptr_eq(&other.document, document)) {
                    list.push(dated.clone());
                }
            }
        }
        for statement in &document.statements {
            let at = known(statement.at);
            // An exemption with a future time does not apply yet; a statement that withdraws one always applies.
            if statement.suppresses && at != statement.at {
                continue;
            }
            let statement = Arc::new(VexStatement { at, ..statement.clone() });
            for id in &statement.ids {
                self.statements.entry(id.to_ascii_lowercase()).or_default().push(statement.clone());
            }
        }
        ahead.map(|at| {
            format!("dated {at}, which is in the future: its time is treated as unknown, and it exempts nothing")
        })
    }

    /// Identifies the files and their content, by what the file system says about them.
    pub(super) fn fingerprint(&self) -> String {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for (path, file) in &self.files {
            hasher.update(format!("{path:?} {:?} {}\n", file.fingerprint, file.content.is_ok()).as_bytes());
        }
        hasher.update(format!("{:?}", self.unreadable).as_bytes());
        hasher.finish().short()
    }

    /// What is known about an image.
    ///
    /// # Errors
    /// If the result depends on whether the configuration is proven, and the query does not determine that.
    pub(super) fn lookup(
        &self,
        subject: &ReportQuery<'_>,
        honour_ignores: bool,
    ) -> Result<Option<VaEvidence>, NeedsProof> {
        let evidence = |is_proven| self.evidence(subject, is_proven, honour_ignores);
        match subject.config {
            ConfigBinding::Proven(_) => Ok(evidence(true)),
            ConfigBinding::Refuted(_) => Ok(evidence(false)),
            ConfigBinding::Unproven(_) => {
                let known = evidence(false);
                if evidence(true) == known { Ok(known) } else { Err(NeedsProof) }
            }
        }
    }

    fn evidence(&self, subject: &ReportQuery<'_>, is_proven: bool, honour_ignores: bool) -> Option<VaEvidence> {
        let Counting { base, more, other } = self.counting(subject, is_proven);
        if base.is_empty() {
            return self.nothing();
        }
        let all = || base.iter().chain(&more).filter_map(|dated| dated.assessment());
        let mut sources: Vec<&str> = all().map(|assessment| &*assessment.source).collect();
        sources.dedup();
        let config = is_proven.then(|| subject.config.digest());
        let own: Vec<_> = config.into_iter().chain([subject.manifest]).collect();
        let names = ImageDigests { own: &own, parents: subject.parents };
        let seen = base.iter().chain(&more).filter_map(|dated| Some((dated.at, dated.assessment()?)));
        let findings = seen.flat_map(|(at, report)| report.findings.iter().map(move |finding| (at, finding)));
        let reported = || ReportedIssues::new(findings.clone().map(|(_, finding)| &finding.issue));
        let since = base.first().and_then(|dated| dated.at);
        let added = self.added_to(reported, (&names, since), honour_ignores);
        let findings = findings.map(|(at, finding)| self.issue_of(finding, at, &names, honour_ignores)).chain(added);
        let built: Option<Vec<_>> = base.iter().map(|dated| dated.assessment()?.data_of).collect();
        let database_built = built.and_then(|built| built.into_iter().min());
        let mut systems = base.iter().filter_map(|dated| Some((dated.at, &dated.assessment()?.system)));
        let distribution = systems.clone().find_map(|(_, system)| system.distribution.clone());
        let ends = systems.clone().filter_map(|(at, system)| system.end_of_life(at.unwrap_or(self.read_at)));
        let end_of_life = ends.min();
        let is_said_to_have_ended = systems.any(|(_, system)| system.is_past_support);
        let missing = |of_support: bool| {
            let mut reports = base.iter().filter_map(|dated| dated.assessment());
            reports.find_map(|report| report.incomplete.clone().filter(|_| report.system.is_past_support == of_support))
        };
        // Gaps that `endOfLife` cannot accept come first.
        let otherwise = missing(false).or_else(|| {
            other.map(|other| format!("the report is about another image, {other}, and merely lists this one"))
        });
        let is_only_past_support = is_said_to_have_ended && otherwise.is_none();
        Some(VaEvidence::Report(Report {
            source: sources.join(", "),
            generated_at: base.iter().map(|dated| dated.knows_until()).min().flatten(),
            issues: issues(findings),
            incomplete: otherwise.or_else(|| missing(true)),
            gaps: Vec::new(),
            is_only_past_support,
            image: ImageFacts {
                database_built,
                distribution,
                end_of_life,
                has_ended_before: is_said_to_have_ended,
                ..ImageFacts::default()
            },
            packages: packages(&base),
            checks_configuration: false,
        }))
    }

    /// The issue of a finding that was made at a time, with the statements about the image.
    pub(super) fn issue_of(
        &self,
        finding: &ReportFinding,
        at: Option<Timestamp>,
        image: &ImageDigests<'_>,
        honour_ignores: bool,
    ) -> Issue {
        Issue {
            first_seen: at,
            published: finding.issue.published.and_then(|published| known_time(published, self.read_at)),
            ..self.with_statements(finding, image, self.stated(finding, at), honour_ignores)
        }
    }

    /// The result if no report is about the image. It depends on whether all reports could be read.
    fn nothing(&self) -> Option<VaEvidence> {
        match (&self.unreadable, self.unread) {
            (Some(why), _) => Some(VaEvidence::Unavailable { why: why.clone() }),
            (None, 0) => None,
            (None, problems) => Some(VaEvidence::Unreadable { problems }),
        }
    }

    fn counting(&self, subject: &ReportQuery<'_>, is_proven: bool) -> Counting<'_> {
        let (manifest, config) = (subject.manifest, subject.config.digest());
        let (mut own, mut listed, mut of_others) = (Vec::new(), Vec::new(), Vec::new());
        for dated in self.reports.get(&manifest).into_iter().flatten() {
            let names = &dated.document.image;
            // A scanner that also names the configuration has seen both together.
            if names.own.contains(&manifest) || names.own.contains(&config) {
                own.push(dated);
            } else if names.own.is_empty() {
                listed.push(dated);
            } else {
                of_others.push(dated);
            }
        }
        let by_config = self.reports.get(&config).into_iter().flatten();
        let by_config = by_config.filter(|dated| {
            let names = &dated.document.image;
            is_proven
                && names.own.contains(&config)
                && !names.own.contains(&manifest)
                && !names.listed.contains(&manifest)
        });
        own.extend(by_config);
        let is_of_other = own.is_empty() && listed.is_empty();
        // The image's own reports, else those that name no image but list it, else those on others that list it.
        let mut ranks = [own, listed, of_others].into_iter().skip_while(Vec::is_empty);
        let base = newest(ranks.next().unwrap_or_default());
        let age = base.first().and_then(|dated| dated.at);
        let more = ranks.flatten().filter(|dated| dated.at >= age).collect();
        let other = base.first().filter(|_| is_of_other).and_then(|dated| dated.document.image.own.first().copied());
        Counting { base, more, other }
    }

    /// Whether there are VEX statements.
    pub(super) fn has_statements(&self) -> bool {
        !self.statements.is_empty()
    }

    /// The issues of another source's report, with the statements about the image, and with those that documents add.
    /// `None` if they change nothing.
    pub(super) fn with_statements_of(
        &self,
        issues_found: &[Issue],
        image: &ImageDigests<'_>,
        honour_ignores: bool,
    ) -> Option<Vec<Issue>> {
        let added = self.added_to(|| ReportedIssues::new(issues_found.iter()), (image, None), honour_ignores);
        let is_named = |issue: &Issue| {
            issue.aliases.iter().chain([&issue.id]).any(|name| self.statements.contains_key(&name.to_ascii_lowercase()))
        };
        if added.is_empty() && !issues_found.iter().any(is_named) {
            return None;
        }
        let stated = |issue: &Issue| -> Vec<Issue> {
            let finding = |packages| ReportFinding::new(Issue { packages, ..issue.clone() });
            let findings: Vec<_> = match &issue.packages[..] {
                [] => vec![finding(Vec::new())],
                packages => packages.iter().map(|package| finding(vec![package.clone()])).collect(),
            };
            issues(findings.iter().map(|finding| self.with_statements(finding, image, issue.exempt_since, false)))
        };
        let changed =
            issues_found.iter().flat_map(|issue| if is_named(issue) { stated(issue) } else { vec![issue.clone()] });
        let changed = if added.is_empty() { changed.collect() } else { issues(changed.chain(added)) };
        (changed != issues_found).then_some(changed)
    }

    /// When a report made at this time said that its image is not affected. A time that is not known is the earliest.
    fn stated(&self, finding: &ReportFinding, at: Option<Timestamp>) -> Option<Timestamp> {
        let stated = finding.stated.map_or(at, |stated| known_time(stated, self.read_at));
        Some(stated.unwrap_or(Timestamp::MIN))
    }

    /// The issue of a finding, exempt if the latest statement about it says so. The report itself is also a statement,
    /// made at the time `stated`; `None` if no statement withdraws it.
    fn with_statements(
        &self,
        finding: &ReportFinding,
        image: &ImageDigests<'_>,
        stated: Option<Timestamp>,
        honour_ignores: bool,
    ) -> Issue {
        let issue = &finding.issue;
        let names = issue.aliases.iter().chain([&issue.id]);
        let about = names.filter_map(|name| self.statements.get(&name.to_ascii_lowercase())).flatten();
        let about = about.filter(|statement| statement.is_about(finding, image));
        let latest = about.max_by_key(|statement| statement.precedence());
        let takes_back = |statement: &Arc<VexStatement>| {
            !statement.suppresses && stated.is_some_and(|stated| (stated, false) < statement.precedence())
        };
        let by_report = issue.exempt && !latest.is_some_and(takes_back);
        let is_ignored = honour_ignores && finding.ignored;
        let exempt = by_report || is_ignored || latest.is_some_and(|statement| statement.suppresses);
        Issue { exempt, ..issue.clone() }
    }
}

/// The reports that count for one image.
struct Counting<'a> {
    /// The newest complete report on the image itself and all newer, incomplete ones. If none is complete, the newest
    /// incomplete one. If several are equally old, all of them. If no report is on the image itself, those that list
    /// its manifest, selected in the same way: those that name no image before those on others.
    base: Vec<&'a Dated>,
    /// In addition to the reports on the image itself: reports that only list its manifest and are at least as new.
    /// They add findings and remove none.
    more: Vec<&'a Dated>,
    /// The image that the reports name, if all of `base` are on another one: what they found may be in this image as
    /// well, but that they found nothing else says nothing about it.
    other: Option<Digest>,
}

/// All packages in the image, from all reports that list them. One of these must cover the whole image, if any does.
fn packages(base: &[&Dated]) -> Option<PackageList> {
    let is_any_complete = base.iter().any(|dated| !dated.is_incomplete());
    let lists = || base.iter().filter_map(|dated| dated.assessment()?.packages.as_ref().map(|list| (*dated, list)));
    if !lists().any(|(dated, _)| !is_any_complete || !dated.is_incomplete()) {
        return None;
    }
    match &lists().collect::<Vec<_>>()[..] {
        [(_, only)] => Some((*only).clone()),
        several => Some(several.iter().flat_map(|(_, list)| list.iter().cloned()).collect()),
    }
}

/// The newest complete report and all that are as new or newer, oldest first. A later scan of a part of the image does
/// not remove findings for the whole.
fn newest(mut reports: Vec<&Dated>) -> Vec<&Dated> {
    let complete = reports.iter().filter(|dated| !dated.is_incomplete()).map(|dated| dated.at).max();
    let oldest = complete.or_else(|| reports.iter().map(|dated| dated.at).max());
    reports.retain(|dated| Some(dated.at) >= oldest);
    reports.sort_by_key(|dated| dated.at);
    reports
}
