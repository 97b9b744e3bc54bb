//! Which issues count: `severity`, `severitySource`, `fixableOnly`, `ignoreUnfixedFor`, `configuration`, `alwaysBlock`,
//! `ignore`, `grace`, `admittedGrace`, `exploited`, `epss`, `malicious`, and exemptions.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};

use super::AssessmentContext;
use super::findings::Findings;
use super::text::{self, after, length, time};
use crate::policy::observed::known_time;
use crate::policy::rules::exemption::VaExemptions;
use crate::policy::rules::rule::Behaviour;
use crate::policy::rules::va_rule::{GraceStart, VaRule};
use crate::policy::vulnerability::severity::Severity;
use crate::policy::vulnerability::{Issue, IssueKind, Report};

/// Why an issue counts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Cause {
    Malicious,
    AlwaysBlock,
    Exploited,
    Epss,
    Severity,
}

/// What becomes of an issue that is not exempt.
#[derive(Clone, Copy, PartialEq)]
enum IssueStanding {
    /// It counts.
    Counts(Cause),
    /// It counts from a time on.
    CountsFrom(Timestamp),
    /// It counts, but the image was admitted before it was found, and is served until a time.
    Tolerated(Timestamp),
    /// It does not count.
    Ignored,
}

/// The issues of a report, by whether they are exempt.
#[derive(Debug, Default)]
pub(super) struct SortedIssues<'a> {
    /// With the packages in which they are not exempt.
    pub(super) open: Vec<Cow<'a, Issue>>,
    pub(super) exempt: Vec<&'a Issue>,
    /// When the first exemption ends.
    pub(super) exempt_until: Option<Timestamp>,
}

/// Finds the issues that count.
pub(super) fn assess<'a>(
    rule: &VaRule,
    report: &'a Report,
    context: &AssessmentContext<'_>,
    findings: &mut Findings,
) -> SortedIssues<'a> {
    let weighing = Weighing { rule, context, exemptions: context.exemptions.with(&rule.ignore) };
    let mut sorted = SortedIssues::default();
    // Why, and the place of the issue among those that are open.
    let mut counting: Vec<(Cause, usize)> = Vec::new();
    for issue in &report.issues {
        if weighing.is_off(issue) {
            weighing.keep(issue, &mut sorted);
            continue;
        }
        let exempt_until = weighing.exempt_until(issue);
        let standing = weighing.standing(issue);
        if let Some(end) = exempt_until {
            findings.exempt += 1;
            sorted.exempt.push(issue);
            sorted.exempt_until = [sorted.exempt_until, Some(end)].into_iter().flatten().min();
            if end != Timestamp::MAX && !matches!(standing, IssueStanding::Ignored) {
                findings.changes_at(end);
            }
            continue;
        }
        let (open, first_end) = weighing.open_part(issue);
        let standing_of_open = if first_end.is_some() { weighing.standing(&open) } else { standing };
        sorted.exempt_until = [sorted.exempt_until, first_end].into_iter().flatten().min();
        if let Some(end) = first_end.filter(|end| *end != Timestamp::MAX && standing_of_open != standing) {
            findings.changes_at(end);
        }
        match standing_of_open {
            IssueStanding::Counts(cause) => {
                counting.push((cause, sorted.open.len()));
                findings.blocking.push(issue.clone());
            }
            IssueStanding::CountsFrom(at) => {
                findings.changes_at(at);
                findings.later.push((issue.id.clone(), at));
            }
            IssueStanding::Tolerated(end) => {
                findings.changes_at(end);
                findings.later.push((issue.id.clone(), end));
                findings.warnings.push(weighing.tolerated(&open, end));
            }
            IssueStanding::Ignored => {}
        }
        sorted.open.push(open);
    }
    counting.sort_by_key(|(cause, _)| *cause);
    for same in counting.chunk_by(|(one, _), (other, _)| one == other) {
        let issues: Vec<&Issue> = same.iter().map(|(_, open)| &*sorted.open[*open]).collect();
        findings.reasons.push(weighing.reason(same[0].0, &issues));
    }
    sorted
}

/// A rule about configuration issues needs a source that checks configurations.
pub(super) fn check_source(rule: &VaRule, report: &Report, findings: &mut Findings) {
    if let Some(key) = rule.needs_configuration.filter(|_| !report.checks_configuration) {
        let problem = "the source of the report does not check configurations; use the gate's own scanner";
        findings.unknown.push(format!("{key}: {problem}"));
    }
}

struct Weighing<'a> {
    rule: &'a VaRule,
    context: &'a AssessmentContext<'a>,
    /// Those of the image, and what the rule ignores.
    exemptions: VaExemptions,
}

impl Weighing<'_> {
    /// Whether the gate itself found this issue in the image's configuration or files, and the rule does not count it.
    fn is_off(&self, issue: &Issue) -> bool {
        let counts = self.rule.configuration.is_some_and(|least| issue.severity.counts_from(least));
        issue.is_own_check() && !counts && !self.is_always_blocked(issue)
    }

    /// Keeps an issue that nothing but `when` looks at.
    fn keep<'a>(&self, issue: &'a Issue, sorted: &mut SortedIssues<'a>) {
        let end = match self.exempt_until(issue) {
            Some(end) => {
                sorted.exempt.push(issue);
                Some(end)
            }
            None => {
                let (open, first_end) = self.open_part(issue);
                sorted.open.push(open);
                first_end
            }
        };
        sorted.exempt_until = [sorted.exempt_until, end].into_iter().flatten().min();
    }

    fn is_always_blocked(&self, issue: &Issue) -> bool {
        self.rule.always_block.iter().any(|id| issue.is_called(id))
    }

    /// Until when an issue is exempt; `None` if it is not. Only exemptions that name every identifier of the malware
    /// exempt malware: an exemption of a package may be older than the malware in it. An issue that a rule always
    /// blocks is not ignored by that rule.
    fn exempt_until(&self, issue: &Issue) -> Option<Timestamp> {
        let now = self.context.now;
        if issue.is_malicious() && self.rule.malicious == Behaviour::Deny && !self.rule.is_ibm() {
            let ends = issue.malware_ids().map(|id| self.malware_exempt_until(issue, id));
            return ends.collect::<Option<Vec<_>>>()?.into_iter().min();
        }
        if issue.exempt { Some(Timestamp::MAX) } else { self.exemptions_of(issue).cover_until(issue, now) }
    }

    fn exemptions_of(&self, issue: &Issue) -> &VaExemptions {
        if self.is_always_blocked(issue) { self.context.exemptions } else { &self.exemptions }
    }

    /// The issue in the packages in which it is not exempt, and when the first exemption in the others ends: a fix for
    /// a package that is exempt resolves nothing. No exemption of a package applies to malware.
    fn open_part<'a>(&self, issue: &'a Issue) -> (Cow<'a, Issue>, Option<Timestamp>) {
        if issue.is_malicious() && !self.rule.is_ibm() {
            return (Cow::Borrowed(issue), None);
        }
        match self.exemptions_of(issue).open_part(issue, self.context.now) {
            Some((part, end)) => (Cow::Owned(part), Some(end)),
            None => (Cow::Borrowed(issue), None),
        }
    }

    /// Until when one of the identifiers of malware is exempt.
    fn malware_exempt_until(&self, issue: &Issue, id: &str) -> Option<Timestamp> {
        let alone =
            Issue { packages: issue.packages.clone(), ..Issue::new(id, IssueKind::Vulnerability, issue.severity) };
        self.exemptions_of(issue).cover_named_until(&alone, self.context.now)
    }

    /// What becomes of an issue unless it is exempt.
    fn standing(&self, issue: &Issue) -> IssueStanding {
        let rule = self.rule;
        match (issue.is_malicious() && !rule.is_ibm(), rule.malicious) {
            (true, Behaviour::Deny) => return IssueStanding::Counts(Cause::Malicious),
            _ if self.is_always_blocked(issue) => return IssueStanding::Counts(Cause::AlwaysBlock),
            (true, Behaviour::Allow) => return IssueStanding::Ignored,
            (false, _) => {}
        }
        let is_exploited = issue.exploited && rule.exploited != Some(Behaviour::Allow);
        let is_likely = matches!((issue.epss, rule.epss), (Some(found), Some(limit)) if found >= limit);
        let (cause, from) = match (is_exploited, is_likely) {
            (true, _) => (Cause::Exploited, None),
            (false, true) => (Cause::Epss, None),
            (false, false) => match self.by_severity(issue) {
                Some(from) => (Cause::Severity, from),
                None => return IssueStanding::Ignored,
            },
        };
        match (from, self.tolerated_until(issue)) {
            // When the other grace period ends, the image is judged again, even if it is then still admitted with a
            // warning.
            (Some(from), _) => IssueStanding::CountsFrom(from),
            (None, Some(end)) => IssueStanding::Tolerated(end),
            (None, None) => IssueStanding::Counts(cause),
        }
    }

    /// Whether an issue counts because of its severity, and from when, if not yet. `None` if it does not count.
    fn by_severity(&self, issue: &Issue) -> Option<Option<Timestamp>> {
        let rule = self.rule;
        let (severity, is_fixable) = (severity(rule, issue), issue.is_fixable());
        // No version of malware is a fix. A rule of the IBM dialects counts it by its severity.
        let needs_fix = rule.fixable_only && !issue.is_malicious();
        if !severity.counts_from(rule.severity) || needs_fix && !is_fixable {
            return None;
        }
        let unfixed = rule.ignore_unfixed_for.filter(|_| !is_fixable);
        let unfixed = self.end(self.known_since(issue), unfixed);
        let grace = self.end(self.grace_start(issue), rule.grace.length(severity));
        Some(unfixed.max(grace).filter(|end| self.context.now < *end))
    }

    fn grace_start(&self, issue: &Issue) -> Option<Timestamp> {
        match self.rule.grace.from {
            GraceStart::FirstSeen => first_seen(issue, self.context),
            GraceStart::Published => self.past(issue.published),
        }
    }

    fn end(&self, start: Option<Timestamp>, length: Option<SignedDuration>) -> Option<Timestamp> {
        Some(after(start?, length?))
    }

    /// When an issue was found in the image, if the image had been admitted before.
    fn found_after_admission(&self, issue: &Issue) -> Option<Timestamp> {
        let history = self.context.history;
        let begin = self.past(history.admitted_since)?.max(history.noted_since.unwrap_or(Timestamp::MIN));
        found_in_image(issue, self.context).filter(|found| *found > begin)
    }

    /// Until when an image that was admitted before an issue was found is served although it counts.
    fn tolerated_until(&self, issue: &Issue) -> Option<Timestamp> {
        self.end(self.found_after_admission(issue), self.rule.admitted_grace).filter(|end| self.context.now < *end)
    }

    /// The earlier of the times at which an issue was published and first found.
    fn known_since(&self, issue: &Issue) -> Option<Timestamp> {
        [self.past(issue.published), first_seen(issue, self.context)].into_iter().flatten().min()
    }

    fn past(&self, at: Option<Timestamp>) -> Option<Timestamp> {
        past(at, self.context)
    }

    fn tolerated(&self, issue: &Issue, end: Timestamp) -> String {
        let found = found_in_image(issue, self.context).map(time).unwrap_or_default();
        format!(
            "admittedGrace: {} was found at {found}, after the image was admitted; denied from {}",
            text::issue(issue, severity(self.rule, issue)),
            time(end)
        )
    }

    /// Why these issues deny, and what releases the image.
    fn reason(&self, cause: Cause, issues: &[&Issue]) -> String {
        let (count, worst) = (text::count(issues.len()), text::worst(issues, |issue| severity(self.rule, issue)));
        let needs_fix = cause == Cause::Severity && self.rule.fixable_only;
        let release = format!("{}{}", text::release(issues, needs_fix), self.partly(issues));
        let are = if issues.len() == 1 { "is" } else { "are" };
        match cause {
            Cause::Malicious => {
                let exempt = self.still_to_exempt(issues).join(" and ");
                format!("malicious: {worst} is malware; remove the package, or exempt {exempt}")
            }
            Cause::AlwaysBlock => {
                format!("alwaysBlock: {count} that the policy always denies ({worst}); {release}")
            }
            Cause::Exploited => {
                format!("exploited: {count} {are} known to be exploited ({worst}); {release}")
            }
            Cause::Epss => {
                let highest = issues.iter().filter_map(|issue| issue.epss).max();
                let highest = highest.map(|epss| epss.to_string()).unwrap_or_default();
                let limit = self.rule.epss.map(|epss| epss.to_string()).unwrap_or_default();
                format!(
                    "epss: {count} likely to be exploited ({worst}): the probability is {highest}, the limit {limit}; \
                     {release}"
                )
            }
            // IBM's tools refer to the report, too.
            Cause::Severity if self.rule.is_ibm() => {
                format!("{count} not exempt ({worst}); `pullgate va` lists all; {release}")
            }
            Cause::Severity => format!(
                "severity: {count} not exempt ({worst}); the policy denies from {}{}{}; {release}",
                self.rule.severity.as_str(),
                self.rated_by(issues),
                self.ended(issues)
            ),
        }
    }

    /// The missing exemption for the first issue that is only partially exempt.
    fn partly(&self, issues: &[&Issue]) -> String {
        let missing = |issue: &&Issue| {
            let missing = self.exemptions_of(issue).missing_identifiers(issue, self.context.now).join(" and ");
            (!missing.is_empty()).then(|| format!("; {} is partially exempt: exempt {missing}, too", issue.id))
        };
        issues.iter().find_map(missing).unwrap_or_default()
    }

    /// The identifiers of malware that are not exempt. All of them must be.
    fn still_to_exempt<'a>(&self, issues: &[&'a Issue]) -> Vec<&'a str> {
        let mut open: Vec<&str> = Vec::new();
        for issue in issues {
            for id in issue.malware_ids().filter(|id| !open.contains(id)).collect::<Vec<_>>() {
                if self.malware_exempt_until(issue, id).is_none() {
                    open.push(id);
                }
            }
        }
        open
    }

    /// Whose severity counts, if the rule says so.
    fn rated_by(&self, issues: &[&Issue]) -> String {
        let sources = self.rule.severity_sources.join(", ");
        if sources.is_empty() {
            return String::new();
        }
        let is_rated = issues.iter().any(|issue| severity(self.rule, issue) != Severity::Unknown);
        let unrated = if is_rated { "" } else { ", which has not rated this" };
        format!(" (severitySource: {sources}{unrated})")
    }

    /// Which grace period has ended for the worst issue, or that it has none because a time is unknown.
    fn ended(&self, issues: &[&Issue]) -> String {
        let worst = issues.iter().rev().max_by_key(|issue| severity(self.rule, issue) as u8);
        let ended = worst.and_then(|issue| {
            let unfixed = self.rule.ignore_unfixed_for.filter(|_| !issue.is_fixable());
            let unfixed = unfixed.map(|length| ("ignoreUnfixedFor", length, self.known_since(issue)));
            let grace = self.rule.grace.length(severity(self.rule, issue));
            let grace = grace.map(|length| ("grace", length, self.grace_start(issue)));
            let admitted = self.rule.admitted_grace.zip(self.found_after_admission(issue));
            let admitted = admitted.map(|(length, found)| ("admittedGrace", length, Some(found)));
            admitted.or(unfixed).or(grace)
        });
        match ended {
            None => String::new(),
            Some((key, limit, Some(_))) => format!(" after {key} of {}", length(limit)),
            Some((key, _, None)) => format!(" at once, because the start of {key} is unknown"),
        }
    }
}

/// When an issue was first seen: in the image, or in any other image of its repository, which may be an earlier build.
pub(super) fn first_seen(issue: &Issue, context: &AssessmentContext<'_>) -> Option<Timestamp> {
    let in_repository = context.history.seen_in_repository.first(issue, |at| is_past(*at, context));
    [in_repository, found_in_image(issue, context)].into_iter().flatten().min()
}

/// When an issue was first found in the image: the earlier of the times known to the gate and stated in reports.
fn found_in_image(issue: &Issue, context: &AssessmentContext<'_>) -> Option<Timestamp> {
    let own = context.history.first_seen.first(issue, |at| is_past(*at, context));
    [own, past(issue.first_seen, context)].into_iter().flatten().min()
}

fn is_past(at: Timestamp, context: &AssessmentContext<'_>) -> bool {
    known_time(at, context.now).is_some()
}

/// A time, if it is not in the future.
fn past(at: Option<Timestamp>, context: &AssessmentContext<'_>) -> Option<Timestamp> {
    at.and_then(|at| known_time(at, context.now))
}

/// The severity of an issue under a rule: by the first of the rule's sources that has rated it.
pub(super) fn severity(rule: &VaRule, issue: &Issue) -> Severity {
    // Only the gate rates the configuration issues that it finds itself.
    if rule.severity_sources.is_empty() || issue.is_own_check() {
        return issue.severity;
    }
    let by = |source: &String| {
        let is_stated = issue.severity_source.as_ref().is_some_and(|stated| stated.eq_ignore_ascii_case(source));
        let rated = issue.ratings.iter().find(|(name, _)| name.eq_ignore_ascii_case(source)).map(|(_, rated)| *rated);
        if is_stated { Some(issue.severity) } else { rated }
    };
    rule.severity_sources.iter().find_map(by).unwrap_or(Severity::Unknown)
}
