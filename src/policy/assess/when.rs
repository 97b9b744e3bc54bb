//! `when`: one condition in CEL over all that is known about an image. The image is denied if it is true.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::AssessmentContext;
use super::findings::Findings;
use super::issues::{SortedIssues, first_seen, severity};
use super::text::after;
use crate::policy::condition::{Condition, InvalidCondition, RecordType, ValueType, Variable, WordSet};
use crate::policy::va_rule::VaRule;
use crate::policy::vulnerability::{
    AffectedPackage, DeclaredLicence, ImageFacts, Issue, IssueKind, Report, ReportPackage,
};

use ValueType::{Bool, Double, Int, ListOf, Record, Text, Time, Word};

/// For how long a result holds that depends on the time, before the condition is evaluated again.
const TIMED_CONDITION: SignedDuration = SignedDuration::from_hours(1);
/// How much of a condition is quoted in messages, in characters.
const MAX_QUOTE: usize = 120;

const TEXTS: ValueType = ListOf(&Text);
static KINDS: WordSet = WordSet { name: "kind of issue", words: &["configuration", "vulnerability"], rank: None };
static SEVERITIES: WordSet = WordSet {
    name: "severity",
    words: &["negligible", "low", "medium", "high", "critical", "unknown"],
    rank: Some("severity_level"),
};
static STATUSES: WordSet = WordSet {
    name: "status",
    words: &["affected", "end_of_life", "fix_deferred", "fixed", "under_investigation", "unknown", "will_not_fix"],
    rank: None,
};
static ISSUE: RecordType = RecordType {
    name: "issue",
    fields: &[
        ("id", Text),
        ("aliases", TEXTS),
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
        ("packages", ListOf(&Record(&AFFECTED))),
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

/// The names that a condition can use. docs/policies.md describes them.
const VARIABLES: [(&str, ValueType); 7] = [
    ("issues", ListOf(&Record(&ISSUE))),
    ("exempt_issues", ListOf(&Record(&ISSUE))),
    ("packages", ListOf(&Record(&PACKAGE))),
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

pub(super) fn assess(
    rule: &VaRule,
    report: &Report,
    issues: &SortedIssues<'_>,
    context: &AssessmentContext<'_>,
    findings: &mut Findings,
) {
    let Some(condition) = &rule.when else { return };
    match evaluate(condition, (rule, report), Some(issues), context) {
        Ok(true) => findings.reasons.push(met(condition)),
        Ok(false) => {}
        Err(_) if condition.mentions("packages") && report.packages.is_none() => {
            findings
                .unknown
                .push("when: the source of the report lists no packages, and the condition needs them".into());
        }
        Err(why) => {
            findings.unknown.push(format!("when: {} cannot be evaluated: {why}", quoted(condition.text())));
        }
    }
    if condition.mentions("now") {
        findings.changes_at(after(context.now, TIMED_CONDITION));
    }
    if let Some(end) = issues.exempt_until.filter(|end| *end != Timestamp::MAX)
        && (condition.mentions("issues") || condition.mentions("exempt_issues"))
    {
        findings.changes_at(end);
    }
}

/// Assesses an image without a report. The condition denies if what is known is enough to say that it is true, as in
/// `!report.complete`. Whether the image is admitted otherwise, another key of the rule says.
pub(super) fn without_report(
    rule: &VaRule,
    image: &ImageFacts,
    context: &AssessmentContext<'_>,
    findings: &mut Findings,
) {
    let Some(condition) = &rule.when else { return };
    let report = Report { incomplete: Some("no report".into()), image: image.clone(), ..Report::default() };
    if evaluate(condition, (rule, &report), None, context) == Ok(true) {
        findings.reasons.push(met(condition));
    }
    if condition.mentions("now") {
        findings.changes_at(after(context.now, TIMED_CONDITION));
    }
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

/// Only what the condition mentions is made. A list that is not known has no value, so that only a condition that needs it
/// cannot be evaluated.
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
    let kind = match issue.kind {
        IssueKind::Configuration => "configuration",
        IssueKind::Vulnerability => "vulnerability",
    };
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
    use crate::policy::exemption::VaExemptions;
    use crate::policy::history::ImageHistory;
    use crate::policy::rule::Severity;

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

    /// What is not known matters only to a condition that needs it.
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
                "a severity is a word, and words are compared by their letters; compare severity_level",
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

    /// What conditions can compare with is what they are given.
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
        let error = serde_json::from_value::<crate::policy::FixStatus>(json!("?")).unwrap_err().to_string();
        assert_eq!(error.matches('`').count() / 2, STATUSES.words.len() + 1, "a status is missing: {error}");
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
