//! `when`: one condition in CEL over all that is known about an image. The image is denied if it is true.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::AssessmentContext;
use super::findings::Findings;
use super::image::unknown_bases;
use super::issues::{SortedIssues, first_seen, severity};
use super::packages::NO_PACKAGES;
use super::text::after;
use crate::policy::condition::{Condition, InvalidCondition, RecordType, ValueType, Variable, WordSet};
use crate::policy::rules::va_rule::VaRule;
use crate::policy::vulnerability::issue_id::CONFIGURATION_CHECKS;
use crate::policy::vulnerability::{
    AffectedPackage, DeclaredLicence, ImageFacts, Issue, IssueKind, Report, ReportPackage,
};

use ValueType::{Bool, Double, Int, Record, Text, Time, Word};

/// For how long a result holds that depends on the time, before the condition is evaluated again.
const TIMED_CONDITION: SignedDuration = SignedDuration::from_hours(1);
/// How much of a condition is quoted in messages, in characters.
const MAX_QUOTE: usize = 120;

const TEXTS: ValueType = ValueType::list_of(&Text);
static KINDS: WordSet = WordSet { name: "kind of issue", words: &IssueKind::NAMES, is_open: false, rank: None };
static SEVERITIES: WordSet = WordSet {
    name: "severity",
    words: &["negligible", "low", "medium", "high", "critical", "unknown"],
    is_open: false,
    rank: Some("severity_level"),
};
static STATUSES: WordSet = WordSet {
    name: "status",
    words: &["affected", "end_of_life", "fix_deferred", "fixed", "under_investigation", "unknown", "will_not_fix"],
    is_open: false,
    rank: None,
};
/// Of identifiers, those of the gate's own checks matter: only the gate looks for these issues.
static IDENTIFIERS: WordSet = WordSet { name: "identifier", words: CONFIGURATION_CHECKS, is_open: true, rank: None };
static ISSUE: RecordType = RecordType {
    name: "issue",
    fields: &[
        ("id", Word(&IDENTIFIERS)),
        ("aliases", ValueType::list_of(&Word(&IDENTIFIERS))),
        ("kind", Word(&KINDS)),
        ("severity", Word(&SEVERITIES)),
        ("severity_level", Int),
        ("severity_source", Text),
        ("score", Double),
        ("fixable", Bool),
        ("exempt", Bool),
        ("exploited", Bool),
        ("malicious", Bool),
        ("epss", Double),
        ("title", Text),
        ("published", Time),
        ("first_seen", Time),
        ("packages", ValueType::list_of(&Record(&AFFECTED))),
    ],
};
static AFFECTED: RecordType = RecordType {
    name: "affected package",
    fields: &[
        ("name", Text),
        ("installed", Text),
        ("fixed", Text),
        ("purl", Text),
        ("ecosystem", Text),
        ("source", Text),
        ("path", Text),
        ("status", Word(&STATUSES)),
    ],
};
static PACKAGE: RecordType = RecordType {
    name: "package",
    fields: &[
        ("name", Text),
        ("version", Text),
        ("purl", Text),
        ("ecosystem", Text),
        ("licences", TEXTS),
        ("published", Time),
        ("path", Text),
    ],
};
static IMAGE: RecordType = RecordType {
    name: "image",
    fields: &[("created", Time), ("end_of_life", Time), ("distribution", Text), ("base", Record(&BASE))],
};
static BASE: RecordType = RecordType { name: "base image", fields: &[("name", Text), ("digest", Text)] };
static REPORT: RecordType = RecordType {
    name: "report",
    fields: &[
        ("source", Text),
        ("generated_at", Time),
        ("database_built", Time),
        ("complete", Bool),
        ("kev", Time),
        ("epss", Time),
    ],
};
static HISTORY: RecordType = RecordType { name: "history", fields: &[("known_since", Time), ("admitted_since", Time)] };

/// The names that a condition can use. docs/conditions.md describes them.
static VARIABLES: [(&str, ValueType); 7] = [
    ("issues", ValueType::list_of(&Record(&ISSUE))),
    ("exempt_issues", ValueType::list_of(&Record(&ISSUE))),
    ("packages", ValueType::list_of(&Record(&PACKAGE))),
    ("image", Record(&IMAGE)),
    ("report", Record(&REPORT)),
    ("history", Record(&HISTORY)),
    ("now", Time),
];

/// Reads the `when` of a rule.
///
/// # Errors
/// Everything that is wrong with it.
pub fn condition(text: &str) -> Result<Condition, Vec<InvalidCondition>> {
    Condition::compile(text, &VARIABLES)
}

/// Whether a condition asks for configuration issues, by their kind or their identifiers. A report whose source does
/// not look for them would look like that of an image that has none.
pub fn asks_for_configuration(condition: &Condition) -> bool {
    condition.asks_for(&KINDS, |kind| kind == IssueKind::Configuration.as_str())
        || condition.asks_for(&IDENTIFIERS, |_| true)
        || condition.texts().any(|text| text.contains("_configuration:"))
        || ["aliases", "id", "kind"].into_iter().any(|field| condition.takes_untyped(field))
}

pub(super) fn assess(
    rule: &VaRule,
    report: &Report,
    issues: &SortedIssues<'_>,
    context: &AssessmentContext<'_>,
    findings: &mut Findings,
) {
    let Some(condition) = assessable(rule, &report.image) else { return };
    match evaluate(condition, (rule, report), Some(issues), context) {
        Ok(true) => findings.reasons.push(met(condition)),
        Ok(false) => {}
        Err(_) if condition.mentions("packages") && report.packages.is_none() => {
            findings.unknown.push(format!("when: {NO_PACKAGES}"));
        }
        Err(why) => {
            findings.unknown.push(format!("when: {} cannot be evaluated: {why}", quoted(condition.text())));
        }
    }
    note_changes(condition, Some(issues), context, findings);
}

/// Notes when the result of a condition may change by itself.
fn note_changes(
    condition: &Condition,
    issues: Option<&SortedIssues<'_>>,
    context: &AssessmentContext<'_>,
    findings: &mut Findings,
) {
    if condition.mentions("now") {
        findings.changes_at(after(context.now, TIMED_CONDITION));
    }
    if let Some(end) = issues.and_then(|issues| issues.exempt_until).filter(|end| *end != Timestamp::MAX)
        && (condition.mentions("issues") || condition.mentions("exempt_issues"))
    {
        findings.changes_at(end);
    }
}

/// Assesses an image without a report, of which at most some issues are known. The condition denies if the known facts
/// are enough to make it true, as in `!report.complete`. Otherwise, another key of the rule determines whether the image
/// is admitted.
pub(super) fn without_report(
    rule: &VaRule,
    image: &ImageFacts,
    issues: Option<&SortedIssues<'_>>,
    context: &AssessmentContext<'_>,
    findings: &mut Findings,
) {
    let Some(condition) = assessable(rule, image) else { return };
    let report = Report { incomplete: Some("no report".into()), image: image.clone(), ..Report::default() };
    if evaluate(condition, (rule, &report), issues, context) == Ok(true) {
        findings.reasons.push(met(condition));
    }
    note_changes(condition, issues, context, findings);
}

/// The condition of a rule, if it can be assessed now. What the image was built on may be known later, and the image is
/// denied until then.
fn assessable<'a>(rule: &'a VaRule, image: &ImageFacts) -> Option<&'a Condition> {
    rule.when.as_ref().filter(|when| !when.mentions("image") || unknown_bases(rule, image).is_none())
}

fn met(condition: &Condition) -> String {
    format!("when: the image is denied because {}; released when that is false", quoted(condition.text()))
}

/// The beginning of a condition, in one line.
fn quoted(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_QUOTE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Only the variables that the condition mentions are created. An unknown list has no value, so that only conditions
/// that need it cannot be evaluated.
fn evaluate(
    condition: &Condition,
    (rule, report): (&VaRule, &Report),
    issues: Option<&SortedIssues<'_>>,
    context: &AssessmentContext<'_>,
) -> Result<bool, String> {
    let made = |name: &str, make: &dyn Fn() -> Value| if condition.mentions(name) { make() } else { Value::Null };
    let of_issue = |issue: &Issue, exempt: bool| of_issue(issue, exempt, (rule, report), context);
    let open =
        issues.map(|issues| made("issues", &|| issues.open.iter().map(|issue| of_issue(issue, false)).collect()));
    let exempt = issues
        .map(|issues| made("exempt_issues", &|| issues.exempt.iter().map(|issue| of_issue(issue, true)).collect()));
    let packages = report.packages.as_ref().map(|all| made("packages", &|| all.iter().map(of_package).collect()));
    let image = made("image", &|| {
        let image = &report.image;
        let base = image.bases.first().map(|base| {
            fields([("name", Some(json!(base.name))), ("digest", base.digest.map(|digest| json!(digest.to_string())))])
        });
        fields([
            ("created", time(image.created)),
            ("end_of_life", time(image.end_of_life)),
            ("distribution", image.distribution.as_ref().map(|text| json!(text))),
            ("base", base),
        ])
    });
    let about_report = made("report", &|| {
        fields([
            ("source", (!report.source.is_empty()).then(|| json!(report.source))),
            ("generated_at", time(report.generated_at)),
            ("database_built", time(report.image.database_built)),
            ("complete", Some(json!(report.incomplete.is_none()))),
            ("kev", time(report.image.feeds.kev)),
            ("epss", time(report.image.feeds.epss)),
        ])
    });
    let history = made("history", &|| {
        fields([
            ("known_since", time(context.history.known_since)),
            ("admitted_since", time(context.history.admitted_since)),
        ])
    });
    let lists = [("issues", &open), ("exempt_issues", &exempt), ("packages", &packages)];
    let lists = lists.into_iter().filter_map(|(name, list)| Some((name, Variable::Json(list.as_ref()?))));
    let others = [
        ("image", Variable::Json(&image)),
        ("report", Variable::Json(&about_report)),
        ("history", Variable::Json(&history)),
        ("now", Variable::Time(context.now)),
    ];
    condition.is_met(&lists.chain(others).collect::<Vec<_>>())
}

/// An object of the fields that are known.
fn fields<const N: usize>(all: [(&str, Option<Value>); N]) -> Value {
    let known = all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(known.collect::<Map<_, _>>())
}

/// Times are milliseconds, as everywhere in conditions.
fn time(at: Option<Timestamp>) -> Option<Value> {
    at.map(|at| json!(at.as_millisecond()))
}

fn of_issue(issue: &Issue, exempt: bool, (rule, report): (&VaRule, &Report), context: &AssessmentContext<'_>) -> Value {
    // Without the catalogue, an issue that is not marked as exploited may be exploited.
    let is_exploited_known = issue.exploited || report.image.feeds.kev.is_some();
    let severity = severity(rule, issue);
    let kind = issue.kind.as_str();
    fields([
        ("id", Some(json!(issue.id))),
        ("aliases", Some(json!(issue.aliases))),
        ("kind", Some(json!(kind))),
        ("severity", Some(json!(severity.as_str()))),
        ("severity_level", Some(json!(severity as u8))),
        ("severity_source", issue.severity_source.as_ref().map(|source| json!(source))),
        ("score", issue.score.as_ref().map(|score| json!(score.value()))),
        ("fixable", Some(json!(issue.is_fixable()))),
        ("exempt", Some(json!(exempt))),
        ("exploited", is_exploited_known.then(|| json!(issue.exploited))),
        ("malicious", Some(json!(issue.is_malicious()))),
        ("epss", issue.epss.map(|epss| json!(epss.value()))),
        ("title", issue.title.as_ref().map(|title| json!(title))),
        ("published", time(issue.published)),
        ("first_seen", time(first_seen(issue, context))),
        ("packages", Some(issue.packages.iter().map(of_affected).collect())),
    ])
}

fn of_affected(package: &AffectedPackage) -> Value {
    let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
    fields([
        ("name", Some(json!(package.name))),
        ("installed", text(&package.installed)),
        ("fixed", text(&package.fixed)),
        ("purl", package.purl.as_ref().map(|purl| json!(purl.as_str()))),
        ("ecosystem", text(&package.ecosystem)),
        ("source", text(&package.source)),
        ("path", text(&package.path)),
        ("status", package.status.map(|status| json!(status.as_str()))),
    ])
}

fn of_package(package: &ReportPackage) -> Value {
    fields([
        ("name", Some(json!(package.name))),
        ("version", Some(json!(package.version))),
        ("purl", package.purl.as_ref().map(|purl| json!(purl.as_str()))),
        ("ecosystem", package.purl.as_ref().map(|purl| json!(purl.kind()))),
        ("licences", Some(json!(package.licences.iter().map(DeclaredLicence::text).collect::<Vec<_>>()))),
        ("published", time(package.published)),
        ("path", package.path.as_ref().map(|path| json!(path))),
    ])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::rules::exemption::VaExemptions;
    use crate::policy::vulnerability::history::ImageHistory;
    use crate::policy::vulnerability::severity::Severity;

    /// Everything that a report can say.
    fn report() -> Report {
        let at = Some(Timestamp::UNIX_EPOCH);
        let issue = Issue {
            published: at,
            first_seen: at,
            epss: crate::policy::Epss::new(0.5),
            packages: vec![AffectedPackage { name: "ssl".into(), ..AffectedPackage::default() }],
            ..Issue::new("CVE-1", IssueKind::Vulnerability, Severity::High)
        };
        let package = ReportPackage {
            name: "ssl".into(),
            licences: vec![DeclaredLicence::new("Expat".into())],
            ..ReportPackage::default()
        };
        Report {
            issues: vec![issue],
            packages: Some([package].into_iter().collect()),
            generated_at: at,
            ..Report::default()
        }
    }

    fn met(text: &str) -> Option<Result<bool, String>> {
        met_in(text, &report())
    }

    fn met_in(text: &str, report: &Report) -> Option<Result<bool, String>> {
        let condition = condition(text).ok()?;
        let rule = VaRule::ibm();
        let (exemptions, history) = (VaExemptions::default(), ImageHistory::default());
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(48);
        let context = AssessmentContext { exemptions: &exemptions, history: &history, now };
        let sorted = SortedIssues {
            open: report.issues.iter().map(std::borrow::Cow::Borrowed).collect(),
            ..SortedIssues::default()
        };
        Some(evaluate(&condition, (&rule, report), Some(&sorted), &context))
    }

    #[test]
    fn every_field_that_is_known_has_its_type() {
        for text in [
            "issues.all(i, i.severity_level == 3 && i.severity in ['high', 'critical'] && !i.fixable && !i.malicious)",
            "issues.exists(i, i.kind == 'vulnerability' && i.packages.exists(p, p.name == 'ssl' && !has(p.fixed)))",
            "issues.filter(i, i.epss >= 0.5).size() == 1 && issues.map(i, i.id) == ['CVE-1']",
            "issues.all(i, now - i.published > duration('47h') && i.first_seen < now)",
            "packages.all(p, p.licences == ['MIT'] && !has(p.published)) && exempt_issues.size() == 0",
            "report.complete && report.generated_at < now && !has(report.kev) && !has(image.base)",
            "!has(history.known_since) && !has(image.created) || false",
            "now.getDayOfWeek() == 6 && issues.all(i, i.published.getFullYear() == 1970)",
        ] {
            assert_eq!(met(text), Some(Ok(true)), "{text}");
        }
        assert!(met("issues.all(i, i.score > 1.0)").unwrap().unwrap_err().contains("no \"score\""));
    }

    /// Unknown facts matter only to a condition that needs them.
    #[test]
    fn a_list_that_is_not_known_has_no_value() {
        let report = Report { packages: None, ..report() };
        for (text, expected) in [
            ("packages.size() > 0", None),
            ("issues.size() > 0 && packages.size() > 0", None),
            ("issues.size() > 9 && packages.size() > 0", Some(false)),
            ("packages.size() > 0 && issues.size() > 9", Some(false)),
            ("issues.size() > 0 || packages.size() > 0", Some(true)),
            ("packages.exists(p, true) || issues.size() > 0", Some(true)),
        ] {
            assert_eq!(met_in(text, &report).unwrap().ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_word_that_a_field_never_has_is_found_when_the_condition_is_read() {
        let errors = |text: &str| {
            let found = condition(text).err().unwrap_or_default();
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        for (text, expected) in [
            (
                "i.severity == 'hihg'",
                "line 1, column 32: no severity is \"hihg\"; known: negligible, low, medium, high, ",
            ),
            ("'HIGH' == i.severity", "no severity is \"HIGH\""),
            ("i.severity != 'important'", "no severity is \"important\""),
            ("i.severity in ['high', 'critcal']", "no severity is \"critcal\""),
            ("i.severity.startsWith('crt') || i.fixable", "no severity starts with \"crt\""),
            ("i.severity.endsWith('x')", "no severity ends with \"x\""),
            ("i.severity.contains('C')", "no severity contains \"C\""),
            (
                "i.severity >= 'high'",
                "a severity is a word, and words are compared alphabetically; compare severity_level",
            ),
            ("i.kind == 'vuln'", "no kind of issue is \"vuln\"; known: configuration, vulnerability"),
            (
                "i.packages.exists(p, p.status == 'wont-fix')",
                "no status is \"wont-fix\"; known: affected, end_of_life, ",
            ),
        ] {
            for list in ["issues", "issues.filter(i, i.fixable)"] {
                let found = errors(&format!("{list}.exists(i, {text})")).replace("column 53", "column 32");
                assert!(found.contains(expected), "{text}: {found}");
            }
        }
        for text in [
            "i.severity == 'high' || 'unknown' != i.severity || i.severity in ['low', 'medium', i.id]",
            "i.severity.startsWith('c') || i.severity == i.id || i.severity.matches('^(high|critical)$')",
            "(i.fixable ? i.severity : 'none') == 'none' || i.severity + '!' == 'high!' || size(i.severity) > 4",
            "i.packages.exists(p, p.status in ['will_not_fix', 'fix_deferred']) || i.id > 'CVE-2020'",
        ] {
            assert_eq!(errors(&format!("issues.exists(i, {text})")), "", "{text}");
        }
    }

    /// What is compared with the elements of a list is of their type, or the condition would never be true.
    #[test]
    fn a_value_that_a_list_never_has_is_found_when_the_condition_is_read() {
        for (text, expected) in [
            ("'CVE-1' in issues", "a string is never equal to a map; ask for a field of it, such as id"),
            ("issues.exists(i, 'openssl' in i.packages)", "a string is never equal to a map"),
            ("packages.exists(p, p.name in packages)", "a string is never equal to a map"),
            ("issues.exists(i, i.id in exempt_issues)", "a string is never equal to a map"),
            ("packages.exists(p, p.licences in ['AGPL-3.0-only'])", "a string is never equal to a list"),
            ("packages.exists(p, 'AGPL-3.0-only' in [p.licences])", "a list is never equal to a string"),
            ("image.base in ['docker.io/library/debian:12']", "a string is never equal to a map"),
            ("issues.exists(i, i.packages == ['openssl'])", "a string is never equal to a map"),
            ("issues.exists(i, [1] != i.aliases)", "an int is never equal to a string"),
            ("issues.exists(i, i.packages.exists(p, p in ['openssl']))", "a string is never equal to a map"),
            ("now in ['2026-11-26T00:00:00Z']", "a string is never equal to a timestamp"),
            ("size(issues) in ['1']", "a string is never equal to an int"),
            ("issues.exists(i, i.severity in [3, 4])", "an int is never equal to a string"),
            ("issues.exists(i, i.epss in ['0.4'])", "a string is never equal to a double"),
            ("report.complete in ['false']", "a string is never equal to a bool"),
            ("image.distribution in [12]", "an int is never equal to a string"),
            ("1 in issues.map(i, i.id)", "an int is never equal to a string"),
            ("'nope' in image", "no image has a field \"nope\""),
            ("image['nope'] == 'x'", "no image has a field \"nope\""),
            ("issues.exists(i, i.severity.matches('HIGH'))", "no severity matches \"HIGH\""),
            ("issues.exists(i, matches(i.severity, '^HIGH$'))", "no severity matches"),
            ("issues.exists(i, i.severity in {'hihg': 1})", "no severity is \"hihg\""),
            ("issues['a'].fixable", "[ ] cannot be applied to list and string"),
            ("issues[1.5].fixable", "[ ] cannot be applied to list and double"),
        ] {
            let found = condition(text).err().unwrap_or_default();
            assert!(found.iter().any(|one| one.to_string().contains(expected)), "{text}: {found:?}");
        }
        for text in [
            "issues.exists(i, 'GHSA-1' in i.aliases || i.aliases == ['GHSA-1'] || i.aliases == [])",
            "packages.exists(p, 'MIT' in p.licences || p.licences == ['MIT'] || p.licences in [['MIT']])",
            "issues.exists(i, i.score in [9, 10.0] || i.severity_level in [3, 4u] || i.title in [null, ''])",
            "'created' in image && image['created'] < now || issues[0].fixable",
            "issues.map(i, i.severity).exists(s, s in ['high']) || 'high' in issues.map(i, i.severity)",
            "issues.exists(i, i.severity.matches('^(high|critical)$') && i.severity in {'high': 1})",
        ] {
            assert!(condition(text).is_ok(), "{text}: {:?}", condition(text).err());
        }
    }

    /// The lists that macros, brackets, `+` and indexes make have elements of a type, too.
    #[test]
    fn a_value_that_a_made_list_never_has_is_found_when_the_condition_is_read() {
        for (text, expected) in [
            ("'GPL' in packages.map(p, p.licences)", "line 1, column 1: a string is never equal to a list"),
            ("'GPL' in packages.map(p, has(p.published), p.licences)", "a string is never equal to a list"),
            ("'GPL' in packages.filter(p, p.name == 'a').map(p, p.licences)", "a string is never equal to a list"),
            ("packages.map(p, p.licences).exists(l, l == 'GPL')", "== cannot be applied to list and string"),
            ("packages.map(p, p.licences)[0] == 'GPL'", "== cannot be applied to list and string"),
            ("packages.map(p, p.licences) == ['GPL']", "a string is never equal to a list"),
            ("['GPL'] != packages.map(p, p.licences)", "a string is never equal to a list"),
            ("packages.map(p, p.licences) == [['MIT'], [1]]", "an int is never equal to a string"),
            ("[1] in packages.map(p, p.licences)", "an int is never equal to a string"),
            ("1 in packages.map(p, p.name)", "an int is never equal to a string"),
            ("1 in packages.map(p, p.name) + issues.map(i, i.id)", "an int is never equal to a string"),
            ("'high' in issues.map(i, i.severity_level)", "a string is never equal to an int"),
            ("'openssl' in issues.map(i, i.packages)", "a string is never equal to a list"),
            ("issues.map(i, i.packages).exists(l, 'openssl' in l)", "a string is never equal to a map"),
            ("packages.map(p, size(p.licences)).exists(n, n == '1')", "== cannot be applied to int and string"),
            ("'x' in [issues[0]]", "a map is never equal to a string; ask for a field of it, such as id"),
            ("issues.exists(i, i.severity in {1: true})", "an int is never equal to a string"),
            ("issues.exists(i, 'config' in [i.kind])", "line 1, column 18: no kind of issue is \"config\""),
            ("issues.exists(i, [i.kind] == ['config'])", "no kind of issue is \"config\""),
            ("issues.map(i, i.kind) == ['config']", "no kind of issue is \"config\""),
            ("['config'] in issues.map(i, [i.kind])", "no kind of issue is \"config\""),
            ("'hihg' in issues.map(i, [i.severity])[0]", "no severity is \"hihg\""),
            ("issues.exists(i, [i.severity].exists(s, s == 'hihg'))", "no severity is \"hihg\""),
            ("issues.exists(i, 'hihg' in {i.severity: 1})", "no severity is \"hihg\""),
            ("issues.exists(i, {'hihg': 2}[i.severity] > 1)", "no severity is \"hihg\""),
            ("issues.exists(i, ['HIGH', 'LOW'].exists(s, i.severity == s))", "no severity is \"HIGH\""),
            ("{'HIGH': 5}.exists(s, issues.exists(i, s == i.severity))", "no severity is \"HIGH\""),
        ] {
            let found = condition(text).err().unwrap_or_default();
            assert!(found.iter().any(|one| one.to_string().contains(expected)), "{text}: {found:?}");
            assert_eq!(found.len(), 1, "{text}: {found:?}");
        }
    }

    /// What can be true stays a condition: lists may be empty or mixed, and times are numbers when they are compared.
    #[test]
    fn conditions_on_made_lists_that_can_be_true_are_accepted() {
        for text in [
            "['MIT'] in packages.map(p, p.licences) || [] in packages.map(p, p.licences)",
            "packages.map(p, p.licences) == [['MIT'], []] || packages.map(p, p.licences) == []",
            "issues.map(i, i.id) == packages.map(p, p.licences)",
            "packages.map(p, p.licences).exists(l, 'MIT' in l && l.size() == 1 && l[0] == 'MIT')",
            "[['openssl', '1'], ['zlib', '2']].exists(v, packages.exists(p, p.name == v[0] && p.version == v[1]))",
            "[['openssl', 1]].exists(v, v[0] == 'openssl' && v[1] == 1)",
            "issues.map(i, i.published).exists(t, t > 1700000000000) || 1700000000000 in issues.map(i, i.published)",
            "[86400000].exists(d, issues.exists(i, now - i.published > d * 30 || now - i.published > d))",
            "['a', 1, null, [1]].exists(x, x == 'a' || x == 1 || x == [2])",
            "(issues.map(i, i.severity) + ['none']).exists(s, s == 'none')",
            "issues.exists(i, [i.severity, i.title].exists(s, s == 'x') || 'x' in [i.severity, i.title])",
            "(size(issues) > 0 ? ['a'] : []).exists(x, x == 'a') || 'a' in (size(issues) > 0 ? ['a'] : [])",
            "issues.exists(i, {'critical': 1, 'high': 2}[i.severity] < 2 || i.id in {'CVE-1': true})",
            "issues.exists(i, {'critical': 4, 'high': 3, 'medium': 2, 'low': 1, 'none': 0}[i.severity] >= 3)",
            "issues.exists(i, ['critical', 'none'].exists(s, s == i.severity))",
            "['none'].exists(s, ['critical'].exists(s, issues.exists(i, i.severity == s)))",
            "issues.exists(i, [i.severity, 'none'].exists(s, s == i.severity))",
            "[1, 2].map(x, x * 2).exists(x, x == 4) && [1.5].exists(x, x < 2) && 2 in [1, 2.0]",
            "{'a': ['b']}['a'].exists(x, x == 'b') && ('a' in {'a': 1, 'b': 2})",
            "[['a'], ['b', 'c'], []].map(l, size(l)).exists_one(n, n == 2)",
            "issues.filter(i, i.fixable).map(i, i.packages).exists(l, l.exists(p, p.status == 'fixed'))",
            "[issues, exempt_issues].exists(l, l.exists(i, i.severity == 'high'))",
            "issues.map(i, i.id).map(id, id + '!').exists(x, x.startsWith('CVE-'))",
            "[{'name': 'openssl'}].exists(e, packages.exists(p, p.name == e.name))",
        ] {
            assert!(condition(text).is_ok(), "{text}: {:?}", condition(text).err());
        }
    }

    /// Conditions, and whether they ask for configuration issues.
    const CONDITIONS: &[(&str, bool)] = &[
        // By kind.
        ("issues.exists(i, i.kind == 'configuration')", true),
        ("issues.exists(i, 'configuration' == i.kind || i.fixable)", true),
        ("issues.exists(i, i.kind in ['configuration'])", true),
        ("issues.exists(i, i.kind in ['vulnerability', 'configuration'])", true),
        ("issues.exists(i, i.kind != 'vulnerability')", true),
        ("issues.exists(i, !(i.kind == 'vulnerability') && i.severity == 'high')", true),
        ("issues.exists(i, !(i.kind in ['vulnerability']))", true),
        ("issues.exists(i, i.kind.startsWith('conf'))", true),
        ("issues.exists(i, i.kind.matches('^(config|x)'))", true),
        ("issues.exists(i, i['kind'] == 'configuration')", true),
        ("!issues.all(i, i.kind == 'vulnerability')", true),
        ("!issues.exists(i, i.kind == 'configuration')", true),
        ("issues.filter(i, i.kind != 'vulnerability').size() > 0", true),
        ("issues.filter(i, i.fixable).exists_one(i, i.kind == 'configuration')", true),
        ("(issues + exempt_issues).exists(i, i.kind == 'configuration')", true),
        ("exempt_issues.exists(i, i.kind != 'vulnerability')", true),
        ("'configuration' in issues.map(i, i.kind)", true),
        ("issues.map(i, i.kind).exists(k, k == 'configuration')", true),
        ("issues.exists(i, i.kind == i.id)", true),
        ("issues.exists(i, string(i.kind) == 'x')", true),
        ("issues.exists(i, (i.kind == 'vulnerability' ? 'a' : 'b') == 'b')", true),
        ("issues.exists(i, !i.packages.exists(p, i.kind == 'vulnerability' && p.name == 'x'))", true),
        ("issues.exists(i, i.kind == 'vulnerability' && i.severity_level >= 3)", false),
        ("issues.exists(i, i.kind == 'vulnerability' ? i.fixable : false)", false),
        ("issues.exists(i, i.kind == 'vulnerability' ? i.fixable : true)", true),
        ("issues.exists(i, i.kind == 'vulnerability' ? false : i.fixable)", true),
        // Of a list in a list.
        ("[issues].exists(l, l.exists(i, i.kind == 'vulnerability'))", false),
        ("[issues, exempt_issues].exists(l, l.exists(i, i.kind != 'vulnerability'))", true),
        ("issues.exists(i, 'vulnerability' in [i.kind])", true),
        // Of a value of unknown type.
        ("(issues + []).exists(i, i.kind == 'configuration')", true),
        ("[issues].exists(l, l.exists(i, i.kind == 'configuration'))", true),
        ("{'a': issues}.a.exists(i, i.kind == 'configuration')", true),
        ("(size(issues) > 0 ? issues : []).exists(i, i.kind == 'configuration')", true),
        ("issues.exists(i, dyn(i).kind == 'configuration')", true),
        ("issues.exists(i, dyn(i)['kind'] == 'configuration')", true),
        ("issues.exists(i, i['ki' + 'nd'] == 'configuration')", true),
        ("['kind'].exists(k, issues.exists(i, i[k] == 'configuration'))", true),
        ("(issues + []).exists(i, i.aliases.exists(a, a == report.source))", true),
        ("(packages + []).exists(p, p.name == 'x')", false),
        ("issues.exists(i, has(i.published) && now - i.published > {'critical': duration('168h')}[i.severity])", false),
        ("packages.exists(p, p.version == {'openssl': '2'}[p.name])", false),
        ("issues.exists(i, {'critical': true, 'high': false}[i.severity])", false),
        ("['a'].exists(k, {'a': issues[0]}[k].kind == 'configuration')", true),
        ("(packages + [])[0].name == 'x' && packages[0]['name'] == 'x'", false),
        ("issues.exists(i, i.kind in ['vulnerability'] && i.fixable)", false),
        ("issues.exists(i, i.kind != 'configuration')", false),
        ("issues.exists(i, !(i.kind == 'configuration') && i.fixable)", false),
        ("issues.filter(i, i.kind == 'vulnerability').size() > 5", false),
        ("!issues.exists(i, i.kind == 'vulnerability')", false),
        ("issues.exists(i, i.fixable && i.packages.exists(p, p.name == 'x' && i.kind == 'vulnerability'))", false),
        // By identifier.
        ("issues.exists(i, i.id == 'application_configuration:ssh.private_key')", true),
        ("issues.exists(i, i.id in ['CVE-2024-1', 'application_configuration:image.user'])", true),
        ("issues.exists(i, i.id.startsWith('application_'))", true),
        ("issues.exists(i, i.id.contains('ssh.private_key'))", true),
        ("issues.exists(i, i.id.endsWith('.private_key') && i.severity == 'high')", true),
        ("issues.exists(i, i.id.matches('ssh|mysql'))", true),
        ("issues.exists(i, matches(i.id, '^app.*:image[.]user$'))", true),
        ("issues.exists(i, i.aliases.exists(a, a.startsWith('application_')))", true),
        ("'application_configuration:image.user' in issues.map(i, i.id)", true),
        ("issues.exists(i, ['application_configuration:new.check'].exists(x, x == i.id))", true),
        ("issues.map(i, i.id).exists(id, id.contains('secret.'))", true),
        ("issues.exists(i, i.id == 'CVE-2024-1')", false),
        ("issues.exists(i, i.id in ['CVE-2024-1', 'GHSA-aaaa-bbbb-cccc'])", false),
        ("issues.exists(i, i.id != 'CVE-2024-1' && i.severity == 'critical')", false),
        ("issues.exists(i, i.id.startsWith('CVE-2024-') || 'CVE-2024-1' in i.aliases)", false),
        ("issues.exists(i, !i.id.startsWith('CVE-') && i.severity == 'high')", false),
        // What it leaves out it does not ask for.
        ("issues.exists(i, i.severity == 'high' && !i.id.startsWith('application_'))", false),
        ("!issues.all(i, !i.id.startsWith('application_'))", true),
        ("!issues.exists(i, i.id.startsWith('application_'))", true),
        ("issues.exists(i, i.id.matches('^(CVE|GHSA)-.*$') && i.id > 'CVE-2020')", false),
        ("issues.exists(i, i.id.contains('-2024-') && i.id.endsWith('1'))", false),
        // Neither.
        ("issues.exists(i, i.severity == 'critical' && i.fixable)", false),
        ("issues.exists(i, i.severity in ['critical', 'high'] && !has(i.published))", false),
        ("issues.size() > 100 || issues.map(i, i.severity_level).exists(l, l > 3)", false),
        ("issues.exists(i, i.title.contains('configuration'))", false),
        ("issues.exists(i, i.packages.exists(p, p.name.startsWith('app') && p.status == 'affected'))", false),
        ("packages.exists(p, p.name == 'configuration' || p.path.contains('ssh'))", false),
        ("image.base.name.startsWith('a') || report.source == 'trivy'", false),
    ];

    #[test]
    fn a_condition_says_whether_it_asks_for_configuration_issues() {
        for (text, expected) in CONDITIONS {
            let condition = condition(text).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"));
            assert_eq!(asks_for_configuration(&condition), *expected, "{text}");
        }
    }

    /// Conditions can only compare with the values that they are given.
    #[test]
    fn the_words_of_a_field_are_all_that_it_can_have() {
        for word in SEVERITIES.words {
            assert_eq!(word.parse::<Severity>().map(Severity::as_str), Ok(*word));
        }
        let is_last = |severity: Severity| severity as usize + 1 == SEVERITIES.words.len();
        assert!(is_last(Severity::Unknown), "a severity is missing");
        for word in STATUSES.words {
            let status: crate::policy::FixStatus = serde_json::from_value(json!(word)).unwrap();
            assert_eq!(status.as_str(), *word);
        }
        let known = |error: serde_json::Error| error.to_string().matches('`').count() / 2 - 1;
        let statuses = known(serde_json::from_value::<crate::policy::FixStatus>(json!("?")).unwrap_err());
        assert_eq!(statuses, STATUSES.words.len(), "a status is missing");
        let kinds = known(serde_json::from_value::<IssueKind>(json!("?")).unwrap_err());
        assert_eq!(kinds, KINDS.words.len(), "a kind of issue is missing");
    }

    #[test]
    fn a_long_condition_is_quoted_in_part() {
        assert_eq!(quoted("true\n  && true"), "true && true");
        let (longest, longer) = ("ä".repeat(MAX_QUOTE), "ä".repeat(MAX_QUOTE + 1));
        assert_eq!((quoted(&longest), quoted(&longer)), (longest.clone(), longest + "…"));
    }

    /// Without the feed, it is not known whether an issue is exploited, or how probably: that is not `false`.
    #[test]
    fn exploitation_is_missing_unless_it_or_its_feed_is_known() {
        let (exploited, likely) = ("issues.exists(i, i.exploited)", "issues.exists(i, i.epss > 0.9)");
        let mut report = report();
        report.issues[0].epss = None;
        assert!(met_in(exploited, &report).unwrap().unwrap_err().contains("no \"exploited\""));
        assert!(met_in(likely, &report).unwrap().unwrap_err().contains("no \"epss\""));
        report.image.feeds.kev = Some(Timestamp::UNIX_EPOCH);
        assert_eq!(met_in(exploited, &report), Some(Ok(false)));
        report.image.feeds.kev = None;
        report.issues[0].exploited = true;
        assert_eq!(met_in(exploited, &report), Some(Ok(true)));
    }

    proptest! {
        /// No text makes the parser, the check of types or an evaluation end abnormally.
        #[test]
        fn any_text_is_an_error_or_a_condition(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "issues", "packages", "image", "now", "i", ".", "exists", "filter", "map", "all", "(", ")", "[", "]",
                    ",", "i.id", "i.severity", "i.packages", "==", "!=", "&&", "||", "!", "?", ":", "in", "'x'", "1", "0.5",
                    "true", "null", "size", "has", "duration", "'1h'", "+", "-", "{", "}", "base", "\u{e9}", " ",
                ]),
                0..24,
            ),
        ) {
            let _ = met(&parts.concat());
        }

        #[test]
        fn generated_conditions_are_evaluated(
            list in prop::sample::select(vec!["issues", "exempt_issues", "packages", "issues.filter(i, i.fixable)"]),
            macro_name in prop::sample::select(vec!["exists", "all", "exists_one"]),
            test in prop::sample::select(vec!["has(x.published)", "x.published < now", "size(x.id) > 1", "x.name == 'a'"]),
        ) {
            if let Some(Err(why)) = met(&format!("{list}.{macro_name}(x, {test})")) {
                prop_assert!(why.starts_with("there is no"), "{}", why);
            }
        }
    }
}
