//! Scans as a log in SARIF 2.1.0 (OASIS), for code scanning of GitHub and others.
//!
//! Each image is a run. A result is one issue in one package; an exempt issue is suppressed. The location of a result
//! is the file that states the package, or the image's repository, because readers require a path.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::trivy::why_besides_gaps;
use crate::api::{Decision, ImageScan, IssueAnswer, remedies, vendor_link};
use crate::cli::sarif::{self, SCHEMA, physical_location};
use crate::policy::{AffectedPackage, CvssScore, Purl, Severity};

/// The rule of results that say why the policy denies an image.
const DENIED: &str = "policy.denied";

/// The log of these images, each with the name by which it was asked for.
pub(super) fn log<'a>(scans: impl Iterator<Item = (&'a str, &'a ImageScan)>) -> Value {
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": scans.map(|(image, scan)| run(image, scan)).collect::<Vec<_>>(),
    })
}

fn run(image: &str, scan: &ImageScan) -> Value {
    let issues = &scan.assessment.issues;
    let indexes: BTreeMap<&str, usize> =
        issues.iter().enumerate().rev().map(|(index, found)| (found.issue.id.as_str(), index)).collect();
    let mut results: Vec<Value> = issues
        .iter()
        .flat_map(|found| {
            let index = indexes.get(found.issue.id.as_str()).copied().unwrap_or_default();
            found.issue.places().into_iter().map(move |place| (found, index, place))
        })
        .map(|(found, index, place)| result(found, index, place, scan))
        .collect();
    let mut rules: Vec<Value> = issues.iter().map(rule).collect();
    // Why an image is denied need not be an issue.
    if !scan.assessment.reasons.is_empty() {
        results.extend(scan.assessment.reasons.iter().map(|reason| denial(reason, rules.len(), scan)));
        let help = "`pullgate check` explains the decision. Update the image, add an exemption, or change the policy.";
        rules.push(sarif::rule(DENIED, "The policy denies the image", help, "error"));
    }
    // Unread files and parts that were not assessed may hide issues.
    let gaps = scan.gaps.iter().map(|gap| format!("not read: {}: {}", gap.place, gap.problem));
    let unread: Vec<String> = gaps.chain(why_besides_gaps(scan).map(|why| format!("not assessed: {why}"))).collect();
    let notifications: Vec<Value> =
        unread.into_iter().map(|text| json!({"level": "error", "message": {"text": text}})).collect();
    json!({
        "tool": {"driver": {
            "name": "pullgate",
            "version": env!("CARGO_PKG_VERSION"),
            "semanticVersion": env!("CARGO_PKG_VERSION"),
            "rules": rules,
        }},
        "automationDetails": {"id": automation_id(image, scan)},
        "columnKind": "unicodeCodePoints",
        "invocations": [{
            "executionSuccessful": notifications.is_empty(),
            "toolExecutionNotifications": notifications,
        }],
        "results": results,
        "properties": {
            "imageName": image,
            "imageDigest": scan.assessment.digest,
            "platform": scan.assessment.platform,
            "status": scan.assessment.status.as_str(),
            "decision": scan.assessment.decision.map(Decision::as_str),
        },
    })
}

/// Identifies the run. What is before the last slash is the category: results of the next scan of the same tag and
/// platform replace those of this one, so it does not contain the digest.
fn automation_id(image: &str, scan: &ImageScan) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let platform = scan.assessment.platform.as_ref().map(|platform| format!("/{platform}")).unwrap_or_default();
    format!("pullgate/{name}{platform}/{}", scan.assessment.digest)
}

/// A reason for which the policy denies the image.
fn denial(reason: &str, index: usize, scan: &ImageScan) -> Value {
    let key = reason.split(':').next().unwrap_or(reason);
    json!({
        "ruleId": DENIED,
        "ruleIndex": index,
        "level": "error",
        "message": {"text": reason},
        "locations": [{"physicalLocation": physical_location(repository(scan))}],
        "partialFingerprints": {"reason/v1": key},
    })
}

/// The path of the image's repository, without the registry.
fn repository(scan: &ImageScan) -> &str {
    let repository = scan.id.split('@').next().unwrap_or_default();
    repository.split_once('/').map_or(repository, |(_, path)| path)
}

fn rule(found: &IssueAnswer) -> Value {
    let issue = &found.issue;
    let title = issue.title.as_deref().unwrap_or(&issue.id);
    let score = issue.score.as_ref().map_or_else(|| score_of(issue.severity), CvssScore::value);
    let mut rule = sarif::rule(&issue.id, title, &remedies(issue).join("\n"), level(issue.severity));
    rule["properties"] = json!({
        "security-severity": format!("{score:.1}"),
        "tags": ["security", "vulnerability", issue.severity.as_str()],
    });
    if let Some(link) = vendor_link(issue) {
        rule["helpUri"] = json!(link);
    }
    rule
}

fn result(found: &IssueAnswer, index: usize, place: Option<&AffectedPackage>, scan: &ImageScan) -> Value {
    let issue = &found.issue;
    let path = place.and_then(|package| package.path.as_deref()).unwrap_or_else(|| repository(scan));
    let (name, installed) =
        place.map_or(("", ""), |package| (package.name.as_str(), package.installed.as_deref().unwrap_or_default()));
    let mut lines = vec![format!("{} ({})", issue.id, issue.severity.as_str())];
    if let Some(package) = place {
        lines.push(format!("Package: {name} {installed}").trim_end().to_owned());
        lines.extend(package.fixed.iter().map(|fixed| format!("Fixed version: {fixed}")));
    }
    let purl = place.and_then(|package| package.purl.as_ref()).map(Purl::as_str);
    let mut result = json!({
        "ruleId": issue.id,
        "ruleIndex": index,
        "level": level(issue.severity),
        "message": {"text": lines.join("\n")},
        "locations": [{
            "physicalLocation": physical_location(path),
            "message": {"text": format!("{path}: {name}@{installed}")},
        }],
        "partialFingerprints": {"issueAndPackage/v1": format!("{} {}", issue.id, purl.unwrap_or(name))},
        "properties": {"blocks": found.blocks},
    });
    if issue.exempt {
        result["suppressions"] = json!([{"kind": "external", "status": "accepted"}]);
    }
    result
}

/// An unknown severity counts as the highest in policies, so it is no mere note.
fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High | Severity::Unknown => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Negligible => "note",
    }
}

/// A score in the range by which GitHub rates this severity.
fn score_of(severity: Severity) -> f64 {
    match severity {
        Severity::Critical => 9.5,
        Severity::High | Severity::Unknown => 8.0,
        Severity::Medium => 5.5,
        Severity::Low => 2.0,
        Severity::Negligible => 0.1,
    }
}
