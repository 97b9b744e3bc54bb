//! `va` of a policy entry: the conditions on an image other than its signatures.

use jiff::{SignedDuration, Timestamp};

use super::lint;
use super::native::{age, age_or};
use crate::markup::{Fields, Node, ProblemSeverity, Value, text_of};
use crate::policy::checks::assess::{asks_for_configuration, when_condition};
use crate::policy::condition::{Condition, InvalidCondition};
use crate::policy::matching::pattern::Pattern;
use crate::policy::rules::banned::BannedPackage;
use crate::policy::rules::base_image::BaseImageRule;
use crate::policy::rules::exemption::{ExemptionRecord, ExemptionScope, VaExemptions, expiry};
use crate::policy::rules::licence::{LicencePattern, LicenceRule};
use crate::policy::rules::rule::Behaviour;
use crate::policy::rules::va_rule::{CoolDown, Grace, GraceStart, Unscanned, VaRule};
use crate::policy::vulnerability::IssueKind;
use crate::policy::vulnerability::epss::Epss;
use crate::policy::vulnerability::issue_id::{is_issue_id, kind_of_issue};
use crate::policy::vulnerability::severity::Severity;

const KEYS: &[&str] = &[
    "severity",
    "severitySource",
    "fixableOnly",
    "ignoreUnfixedFor",
    "configuration",
    "alwaysBlock",
    "ignore",
    "grace",
    "admittedGrace",
    "exploited",
    "epss",
    "malicious",
    "licences",
    "coolDown",
    "bannedPackages",
    "baseImages",
    "endOfLife",
    "when",
    "unscanned",
    "incomplete",
    "opaque",
    "unsupported",
    "unavailable",
    "maxReportAge",
    "maxDatabaseAge",
];

/// The severities that a document can name.
const SEVERITIES: [Severity; 6] =
    [Severity::Critical, Severity::High, Severity::Medium, Severity::Low, Severity::Negligible, Severity::Unknown];

/// The maximum number of entries in each list, because each entry is compared with every issue or package.
const MAX_LIST: usize = 10_000;

/// The defaults: every issue from `low` counts, whether or not a fix is published, and everything unknown denies.
/// Artifacts that are not images are `unsupported`, so an entry with `va` for a repository of charts needs
/// `unsupported: allow`.
///
/// `now` is the time at which the document is read, to warn of what has ended.
pub(super) fn rule(fields: &Fields<'_>, now: Option<Timestamp>) -> VaRule {
    fields.only(KEYS);
    let deny = |key: &str| behaviour(fields, key).unwrap_or(Behaviour::Deny);
    let configuration = configuration(fields);
    let always_block = always_block(fields);
    // Issues that are always denied must be searched for, and only the gate searches for those with such an identifier.
    let is_check = |id: &String| kind_of_issue(id) == IssueKind::Configuration && id.contains(':');
    let when = when(fields);
    let needs = [
        ("configuration", configuration.flatten().is_some()),
        ("alwaysBlock", always_block.iter().any(is_check)),
        ("when", when.as_ref().is_some_and(asks_for_configuration)),
    ];
    let needs_configuration = needs.into_iter().find_map(|(key, needs)| needs.then_some(key));
    let rule = VaRule {
        severity: severity(fields),
        severity_sources: severity_sources(fields),
        fixable_only: fields.flag("fixableOnly").unwrap_or(false),
        ignore_unfixed_for: age(fields, "ignoreUnfixedFor"),
        configuration: configuration.unwrap_or(Some(Severity::High)),
        needs_configuration,
        always_block,
        ignore: ignore(fields, now),
        grace: grace(fields),
        admitted_grace: age(fields, "admittedGrace"),
        exploited: behaviour(fields, "exploited"),
        epss: fields.decimal("epss", 0.0, 1.0).and_then(Epss::new),
        malicious: deny("malicious"),
        licences: fields.map("licences").map(|licences| licence_rule(&licences)),
        cool_down: cool_down(fields),
        banned_packages: banned_packages(fields),
        base_images: fields.map("baseImages").map(|images| base_images(&images)),
        end_of_life: deny("endOfLife"),
        when,
        unscanned: unscanned(fields),
        incomplete: deny("incomplete"),
        opaque: deny("opaque"),
        unsupported: deny("unsupported"),
        unavailable: deny("unavailable"),
        max_report_age: age(fields, "maxReportAge"),
        max_database_age: age(fields, "maxDatabaseAge"),
        account: None,
    };
    warn_ineffective(&rule, fields);
    rule
}

/// Warns of keys that contradict each other.
fn warn_ineffective(rule: &VaRule, fields: &Fields<'_>) {
    if rule.fixable_only && rule.ignore_unfixed_for.is_some() {
        fields.warn("ignoreUnfixedFor has no effect with fixableOnly", "remove one of them");
    }
    let configuration =
        fields.get("configuration").and_then(Node::as_text).and_then(|word| word.parse::<Severity>().ok());
    if let Some(least) = configuration.filter(|least| !least.counts_from(rule.severity)) {
        let (least, severity) = (least.as_str(), rule.severity.as_str());
        let message = format!("configuration: {least} has no effect below severity: {severity}");
        fields.warn(message, "write configuration: deny, or a lower severity");
    }
    let ignored = fields.get("ignore").map(|node| &node.value);
    for node in ignored.into_iter().flat_map(|list| if let Value::List(items) = list { &items[..] } else { &[] }) {
        let id = node.as_text().or_else(|| node.find("id")?.as_text());
        if let Some(id) = id.filter(|id| rule.always_block.iter().any(|blocked| blocked.eq_ignore_ascii_case(id))) {
            let message = format!("ignore: {id} has no effect, because alwaysBlock names it");
            fields.problems.warn(node.at, message, "remove one of them");
        }
    }
}

fn severity(fields: &Fields<'_>) -> Severity {
    match fields.text("severity").map(str::parse::<Severity>) {
        None => Severity::Low,
        Some(Ok(severity)) if severity != Severity::Unknown => {
            let written = fields.text("severity").unwrap_or_default();
            if written != severity.as_str() {
                let message = format!("severity: {written:?} is read as {}", severity.as_str());
                let hint = format!("write {}, as the schema has it", severity.as_str());
                fields.report_key(ProblemSeverity::Warning, "severity", &message, Some(&hint));
            }
            severity
        }
        Some(_) => {
            fields.error("severity is negligible, low, medium, high or critical");
            Severity::Low
        }
    }
}

fn behaviour(fields: &Fields<'_>, key: &str) -> Option<Behaviour> {
    fields.choice(key, &[("allow", Behaviour::Allow), ("deny", Behaviour::Deny)])
}

/// From which severity configuration issues count: `deny` leaves that to `severity`.
fn configuration(fields: &Fields<'_>) -> Option<Option<Severity>> {
    let severities = [Severity::Critical, Severity::High, Severity::Medium, Severity::Low, Severity::Negligible];
    let mut choices = vec![("allow", None), ("deny", Some(Severity::Negligible))];
    choices.extend(severities.map(|severity| (severity.as_str(), Some(severity))));
    fields.choice("configuration", &choices)
}

fn unscanned(fields: &Fields<'_>) -> Unscanned {
    let choices = [("allow", Unscanned::Allow), ("deny", Unscanned::Deny), ("wait", Unscanned::Wait)];
    fields.choice("unscanned", &choices).unwrap_or(Unscanned::Deny)
}

/// A list of texts of bounded length.
fn list<'a>(fields: &Fields<'a>, key: &str) -> Vec<&'a str> {
    is_short(fields, key);
    fields.texts(key)
}

/// Reports a list that is too long.
fn is_short(fields: &Fields<'_>, key: &str) {
    if matches!(fields.get(key).map(|node| &node.value), Some(Value::List(items)) if items.len() > MAX_LIST) {
        let message = format!("{key} has more than {MAX_LIST} entries");
        fields.report_key(ProblemSeverity::Error, key, &message, None);
    }
}

fn text_or_list<'a>(fields: &Fields<'a>, key: &str) -> Vec<&'a str> {
    match fields.get(key).map(|node| &node.value) {
        Some(Value::List(_)) => list(fields, key),
        _ => fields.text(key).into_iter().collect(),
    }
}

/// Identifiers of issues. One that no issue can have would block nothing.
fn always_block(fields: &Fields<'_>) -> Vec<String> {
    let ids = list(fields, "alwaysBlock");
    for id in ids.iter().filter(|id| !is_issue_id(id)) {
        let message = format!("alwaysBlock: {id:?} is not the identifier of an issue, so it blocks nothing");
        let hint = "use the identifier from the report, without spaces or wildcards: CVE-2021-44228";
        fields.report_key(ProblemSeverity::Error, "alwaysBlock", &message, Some(hint));
    }
    ids.into_iter().map(str::to_owned).collect()
}

/// A list without a source would leave the choice to the report.
fn severity_sources(fields: &Fields<'_>) -> Vec<String> {
    let sources = text_or_list(fields, "severitySource");
    if fields.get("severitySource").is_some() && (sources.is_empty() || sources.iter().any(|name| name.is_empty())) {
        fields.error("severitySource names no source");
    }
    sources.into_iter().map(str::to_owned).collect()
}

/// A list of what is allowed, or denied. One that is written and allows nothing would allow everything.
fn patterns<'a>(fields: &Fields<'a>, key: &str) -> Vec<&'a str> {
    let texts = list(fields, key);
    if key == "allow" && texts.is_empty() && fields.get(key).is_some() {
        fields.error("allow is empty: name what is allowed, or remove the key");
    }
    texts
}

/// Identifiers, or mappings with `id`, `package` and `until`.
fn ignore(fields: &Fields<'_>, now: Option<Timestamp>) -> VaExemptions {
    is_short(fields, "ignore");
    fields.list("ignore").iter().flat_map(|node| ignored(node, fields, now)).collect()
}

/// The exemptions of an entry of `ignore`; empty after an error was reported.
fn ignored(node: &Node, parent: &Fields<'_>, now: Option<Timestamp>) -> Vec<ExemptionRecord> {
    let entry = "an entry of ignore";
    let records = if let Value::Map(_) = node.value {
        let Some(fields) = Fields::of(node, entry, parent.problems) else { return Vec::new() };
        fields.only(&["id", "package", "until"]);
        let until = fields.get("until").and_then(|_| end(&fields));
        if until.is_none() && fields.get("until").is_some() {
            return Vec::new();
        }
        if let Some(end) = until.filter(|end| now.is_some_and(|now| *end <= now)) {
            let message = format!("{entry} has no effect: it ended on {end}");
            fields.report_key(ProblemSeverity::Warning, "until", &message, Some("remove the entry, or extend it"));
        }
        ExemptionRecord::listed(&ExemptionScope::EVERYTHING, None, fields.text("id"), fields.text("package"), until)
    } else {
        let Some(id) = text_of(node, entry, parent.problems) else { return Vec::new() };
        ExemptionRecord::listed(&ExemptionScope::EVERYTHING, None, Some(id), None, None)
    };
    records.unwrap_or_else(|error| {
        parent.problems.error(node.at, format!("{entry}: {error}"));
        Vec::new()
    })
}

/// When an entry of `ignore` ends, as exemptions do. `None` after an error was reported.
fn end(fields: &Fields<'_>) -> Option<Timestamp> {
    let text = fields.text("until")?;
    let report = |invalid| {
        let message = format!("until {text:?} is not a time: {invalid}");
        fields.report_key(ProblemSeverity::Error, "until", &message, None);
    };
    expiry(text).map_err(report).ok()
}

/// A duration for every severity, or a mapping of severities to durations with `from`.
fn grace(fields: &Fields<'_>) -> Grace {
    match fields.get("grace").map(|node| &node.value) {
        None => Grace::default(),
        Some(Value::Map(_)) => fields.map("grace").map(|grace| graces(&grace)).unwrap_or_default(),
        Some(_) => {
            let length = age(fields, "grace");
            let lengths = SEVERITIES.iter().filter_map(|severity| Some((*severity, length?))).collect();
            Grace { lengths, ..Grace::default() }
        }
    }
}

fn graces(fields: &Fields<'_>) -> Grace {
    let mut known = vec!["from"];
    known.extend(SEVERITIES.iter().map(|severity| severity.as_str()));
    fields.only(&known);
    if !SEVERITIES.iter().any(|severity| fields.get(severity.as_str()).is_some()) {
        fields.error_hint("grace names no severity", "write one duration for all, or {critical: 2d, high: 14d}");
    }
    let starts = [("firstSeen", GraceStart::FirstSeen), ("published", GraceStart::Published)];
    let length = |severity: &Severity| {
        let hint = format!("leave {} out: without a grace period, issues count at once", severity.as_str());
        Some((*severity, age_or(fields, severity.as_str(), Some(&hint))?))
    };
    Grace {
        from: fields.choice("from", &starts).unwrap_or_default(),
        lengths: SEVERITIES.iter().filter_map(length).collect(),
    }
}

fn licence_rule(fields: &Fields<'_>) -> LicenceRule {
    fields.only(&["allow", "deny", "unknown"]);
    let read = |key: &str| {
        let texts = patterns(fields, key);
        for text in &texts {
            if !LicencePattern::new(text).is_known() {
                let message = format!("{text:?} is not an SPDX identifier, so it only matches free text");
                let hint = "see spdx.org/licenses; * matches any characters";
                fields.report_key(ProblemSeverity::Warning, key, &message, Some(hint));
            }
        }
        texts.into_iter().map(LicencePattern::new).collect::<Vec<_>>()
    };
    let (allow, deny) = (read("allow"), read("deny"));
    let default = if allow.is_empty() { Behaviour::Allow } else { Behaviour::Deny };
    let unknown = behaviour(fields, "unknown");
    if allow.is_empty() && deny.is_empty() && unknown.is_none() {
        fields.error("licences needs allow or deny");
    }
    LicenceRule { allow, deny, unknown: unknown.unwrap_or(default) }
}

/// A duration for the image and its packages, or a mapping with both.
fn cool_down(fields: &Fields<'_>) -> CoolDown {
    match fields.get("coolDown").map(|node| &node.value) {
        None => CoolDown::default(),
        Some(Value::Map(_)) => {
            let Some(fields) = fields.map("coolDown") else { return CoolDown::default() };
            fields.only(&["image", "packages"]);
            if fields.get("image").is_none() && fields.get("packages").is_none() {
                fields.error("coolDown needs image or packages");
            }
            let packages = age(&fields, "packages");
            CoolDown { image: age(&fields, "image"), packages, needs_packages: packages.is_some() }
        }
        Some(_) => {
            let both: Option<SignedDuration> = age(fields, "coolDown");
            CoolDown { image: both, packages: both, needs_packages: false }
        }
    }
}

fn banned_packages(fields: &Fields<'_>) -> Vec<BannedPackage> {
    let read = |text: &str| {
        let report = |error| {
            let message = format!("bannedPackages: {text:?}: {error}");
            fields.report_key(ProblemSeverity::Error, "bannedPackages", &message, None);
        };
        BannedPackage::parse(text).map_err(report).ok()
    };
    list(fields, "bannedPackages").into_iter().filter_map(read).collect()
}

/// A base image is admitted by its own name, so a pattern that covers every image of the entry checks nothing.
pub(super) fn own_bases(fields: &Fields<'_>, entry: &str) {
    let images = fields.get("baseImages").filter(|node| matches!(node.value, Value::Map(_)));
    let Some(images) = images.and_then(|_| fields.map("baseImages")) else { return };
    let Some(Value::List(allowed)) = images.get("allow").map(|node| &node.value) else { return };
    let entry = Pattern::new(entry);
    for node in allowed {
        // Other values are errors already.
        let Value::Text(pattern) = &node.value else { continue };
        if Pattern::new(pattern).covers(&entry) {
            let message = format!(
                "baseImages.allow: {pattern:?} matches every image of this entry, and each is its own base image: nothing is \
                 checked"
            );
            fields.problems.warn(node.at, message, "name only repositories of base images");
        }
    }
}

fn base_images(fields: &Fields<'_>) -> BaseImageRule {
    fields.only(&["allow", "deny"]);
    let (allow, deny) = (patterns(fields, "allow"), patterns(fields, "deny"));
    if allow.is_empty() && deny.is_empty() {
        fields.error("baseImages needs allow or deny");
    }
    for (key, patterns) in [("allow", &allow), ("deny", &deny)] {
        let at = fields.get(key).map_or(fields.at, |node| node.at);
        for pattern in patterns {
            // A pattern in `deny` that reaches too far denies.
            if key == "allow" {
                lint::open_host(pattern, at, fields.problems, ProblemSeverity::Error);
            }
            lint::never_matches(pattern, at, fields.problems, ProblemSeverity::Error);
        }
    }
    BaseImageRule::new(&allow, &deny)
}

/// Mistakes are reported at the value, with the line and the column within it.
fn when(fields: &Fields<'_>) -> Option<Condition> {
    fields.get("when")?;
    let text = fields.required("when")?;
    let report = |errors: Vec<InvalidCondition>| {
        for error in errors {
            let at = fields.get("when").map_or(fields.at, |node| node.at);
            fields.problems.report(ProblemSeverity::Error, at, format!("when: {error}"), None);
        }
    };
    when_condition(text).map_err(report).ok()
}
