//! The answer of `check` as text.

use crate::api::{
    AssessmentAnswer, AuthorityAnswer, CheckAnswer, ExemptionAnswer, RuleAnswer, SignatureAnswer, SignerAnswer,
};
use crate::policy::{AffectedPackage, Issue};
use crate::runtime::printable;

/// How many packages of one issue are named.
const MAX_NAMED: usize = 4;

/// The answer as text.
pub(super) fn describe(answer: &CheckAnswer, judge: &str) -> String {
    let mut text = format!("{}\n", printable(&answer.image));
    line(&mut text, "decision", answer.decision.as_str());
    line(&mut text, "judged by", judge);
    if let Some(digest) = &answer.digest {
        line(&mut text, "digest", &digest.to_string());
    }
    if let Some(kind) = answer.kind {
        line(&mut text, "kind", kind.as_str());
    }
    if !answer.skipped.is_empty() {
        let skipped = format!("{}, because the image contains nothing that can be run", answer.skipped.join(", "));
        line(&mut text, "skipped", &skipped);
    }
    if !answer.message.is_empty() {
        line(&mut text, "reason", &answer.message);
    }
    for would_deny in answer.would_deny.iter().filter(|text| **text != answer.message) {
        line(&mut text, "audit", &format!("would be denied: {would_deny}"));
    }
    for warning in &answer.warnings {
        line(&mut text, "warning", &format!("admitted temporarily: {warning}"));
    }
    answer.rules.iter().for_each(|rule| describe_rule(&mut text, rule));
    text
}

fn line(text: &mut String, label: &str, value: &str) {
    text.push_str(&format!("  {label:<12} {}\n", printable(value)));
}

fn describe_rule(text: &mut String, rule: &RuleAnswer) {
    let verb = match (rule.audited, rule.admits) {
        (_, true) => "admits",
        (false, false) => "denies",
        (true, false) => "would deny (audit mode)",
    };
    line(text, "rule", &format!("{} {:?}: {verb}", rule.document, rule.rule));
    rule.authorities.iter().for_each(|authority| describe_authority(text, authority));
    for assessment in &rule.assessments {
        line(text, "  va", &describe_assessment(assessment));
        for found in &assessment.issues {
            let blocks = match found.counts_from {
                _ if found.blocks => "blocks".to_owned(),
                _ if found.issue.exempt => "exempt".to_owned(),
                Some(at) => format!("counts from {at}"),
                None => "does not count".to_owned(),
            };
            let severity = found.issue.severity.as_str();
            line(text, "   ", &format!("{} {severity} ({blocks}){}", found.issue.id, affected(&found.issue)));
            for exemption in &found.exemptions {
                line(text, "      by", &describe_exemption(exemption));
            }
            for exemption in &found.ended_exemptions {
                line(text, "   ended", &describe_exemption(exemption));
            }
        }
    }
}

/// The packages of an issue with their fixes: `: openssl 3.0.9, fixed in 3.0.11`.
fn affected(issue: &Issue) -> String {
    let describe = |package: &AffectedPackage| {
        let installed = package.installed.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        let fixed = package.fixed.as_ref().map(|version| format!(", fixed in {version}")).unwrap_or_default();
        format!("{}{installed}{fixed}", package.name)
    };
    let mut different: Vec<String> = Vec::new();
    for text in issue.packages.iter().map(describe) {
        if !different.contains(&text) {
            different.push(text);
        }
    }
    let more = different.len().saturating_sub(MAX_NAMED);
    different.truncate(MAX_NAMED);
    let more = if more > 0 { format!("; +{more} more") } else { String::new() };
    if different.is_empty() { String::new() } else { format!(": {}{more}", different.join("; ")) }
}

fn describe_authority(text: &mut String, answer: &AuthorityAnswer) {
    let AuthorityAnswer { authority, scheme, outcome, details, signatures, hint, trusted_roots } = answer;
    let scheme = if scheme.is_empty() { String::new() } else { format!(" ({scheme})") };
    line(text, "  trust", &format!("{authority}{scheme}: {}: {}", outcome.as_str(), details.join("; ")));
    for root in trusted_roots {
        line(text, "    root", &format!("{}: {}", root.name, root.status));
    }
    for signature in signatures {
        describe_signature(text, signature);
    }
    if let Some(hint) = hint {
        line(text, "    hint", hint);
    }
}

/// The kind and location of a signature, then who signed or why it does not count.
fn describe_signature(text: &mut String, signature: &SignatureAnswer) {
    let SignatureAnswer { manifest, place, form, signer, why, hint } = signature;
    let at = if place.is_empty() || place == form { String::new() } else { format!(", {place}") };
    let of = manifest.map(|digest| format!(", of {digest}")).unwrap_or_default();
    let result = match (signer, why) {
        (Some(SignerAnswer { id, identity, issuer, signed_at }), _) => {
            let issuer = issuer.as_ref().map(|issuer| format!(", issuer {issuer}")).unwrap_or_default();
            let time = signed_at.map(|time| format!(", signed at {time}")).unwrap_or_default();
            format!("verified: {identity} ({id}){issuer}{time}")
        }
        (None, Some(why)) => why.clone(),
        (None, None) => "verified".to_owned(),
    };
    line(text, "    found", &format!("{form}{at}{of}: {result}"));
    if let Some(hint) = hint {
        line(text, "    hint", hint);
    }
}

/// The exemption, and who decided it and why: `exemption 3f2a90c1d4e5, scope birds, by ann: not reachable`.
fn describe_exemption(exemption: &ExemptionAnswer) -> String {
    let ExemptionAnswer { id, scope, by, reason, expires, document, .. } = exemption;
    let by = by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default();
    let end = expires.map(|end| format!(", until {end}")).unwrap_or_default();
    let document = document.as_ref().map(|document| format!(", in {document}")).unwrap_or_default();
    let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("exemption {id}, scope {scope}{document}{end}{by}{reason}")
}

fn describe_assessment(assessment: &AssessmentAnswer) -> String {
    let platform = assessment.platform.as_deref().unwrap_or("image");
    let source = assessment.source.as_deref().map(|source| format!(", by {source}")).unwrap_or_default();
    let why = assessment.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    let until = assessment.until.map(|until| format!(", until {until}")).unwrap_or_default();
    format!("{platform}: {}{source}{until}{why}", assessment.status.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issues_name_their_packages_and_fixes() {
        let package = |name: &str, fixed: Option<&str>| AffectedPackage {
            name: name.into(),
            installed: Some("1".into()),
            fixed: fixed.map(str::to_owned),
            ..AffectedPackage::default()
        };
        let issue = |packages: Vec<AffectedPackage>| Issue {
            packages,
            ..Issue::new("CVE-1", crate::policy::IssueKind::Vulnerability, crate::policy::Severity::High)
        };
        for (packages, expected) in [
            (vec![], ""),
            (vec![package("ssl", Some("2")), package("ssl", Some("2"))], ": ssl 1, fixed in 2"),
            (vec![package("ssl", Some("2")), package("bash", None)], ": ssl 1, fixed in 2; bash 1"),
            ((0..6).map(|n| package(&format!("p{n}"), None)).collect(), ": p0 1; p1 1; p2 1; p3 1; +2 more"),
        ] {
            assert_eq!(affected(&issue(packages)), expected);
        }
    }

    #[test]
    fn explanations_cannot_control_a_terminal() {
        let hostile = "\u{1b}]0;x\u{7}";
        let answer = serde_json::json!({
            "image": hostile, "namespace": hostile, "digest": null, "kind": "image", "skipped": [hostile],
            "decision": "deny", "message": hostile, "would_deny": [hostile, "\u{9b}"],
            "rules": [{
                "document": hostile, "rule": hostile, "admits": true, "message": hostile,
                "authorities": [{
                    "authority": hostile, "scheme": hostile, "outcome": "unknown", "details": [hostile], "hint": hostile,
                    "trusted_roots": [{"name": hostile, "status": hostile}],
                    "signatures": [
                        {"place": hostile, "form": hostile, "why": hostile, "hint": hostile},
                        {"place": "p", "form": "f", "signer": {"id": hostile, "identity": hostile, "issuer": hostile}}
                    ]
                }],
                "assessments": [{
                    "digest": format!("sha256:{}", "a".repeat(64)), "platform": hostile, "status": "FAIL",
                    "source": hostile, "why": hostile, "issues": []
                }]
            }]
        });
        let text = describe(&serde_json::from_value(answer).unwrap(), "the gate");
        assert!(text.contains("\\u{1b}]0;x") && !text.replace('\n', "").contains(char::is_control), "{text:?}");
    }
}
