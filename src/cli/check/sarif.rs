//! Answers of `check` as a log in SARIF 2.1.0 (OASIS). Each denial and each image that could not be judged is a result.

use serde_json::{Value, json};

use super::CheckedImage;
use crate::api::Decision;
use crate::cli::sarif::{self, SCHEMA, physical_location};

/// The rules, each with its level: what a result can be about, and what to do.
const RULES: [(&str, &str, &str, &str); 4] = [
    (
        "denied",
        "error",
        "The image is denied by policy.",
        "`pullgate check` explains the decision. Update or sign the image, add an exemption, or change the policy.",
    ),
    (
        "not-judged",
        "error",
        "The image cannot be judged now.",
        "Repeat the check. If this lasts, `/readyz?verbose` of the gate names what does not work.",
    ),
    (
        "would-deny",
        "warning",
        "The image would be denied if all documents were enforced.",
        "The image is served. Update or sign it, or change the policy, before denials are enforced.",
    ),
    ("not-checked", "error", "The image could not be checked.", "Correct the name of the image, or repeat the check."),
];

/// The log of these images.
pub(super) fn log(checked: &[CheckedImage], judged_by: &str) -> Value {
    let rules = RULES.map(|(id, level, text, help)| sarif::rule(id, text, help, level));
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "pullgate", "version": env!("CARGO_PKG_VERSION"), "rules": rules}},
            "properties": {"judgedBy": judged_by},
            "columnKind": "unicodeCodePoints",
            "results": checked.iter().flat_map(results).collect::<Vec<_>>(),
        }],
    })
}

fn results(checked: &CheckedImage) -> Vec<Value> {
    let result = |rule: usize, message: &str| {
        let (id, level, ..) = RULES[rule];
        let place = physical_location(checked.image.split('@').next().unwrap_or_default());
        json!({
            "ruleId": id,
            "ruleIndex": rule,
            "level": level,
            "message": {"text": message},
            "locations": [{"physicalLocation": place}],
            "partialFingerprints": {"image/v1": format!("{id} {}", checked.image)},
        })
    };
    let answer = match &checked.answer {
        Ok(answer) => answer,
        Err(error) => return vec![result(3, error)],
    };
    let mut found = match answer.decision {
        Decision::Admit | Decision::WouldDeny => Vec::new(),
        Decision::Deny => vec![result(0, &answer.message)],
        Decision::Pending | Decision::Unavailable => vec![result(1, &answer.message)],
    };
    let unenforced = |denial: &String| format!("served, because this is not enforced: {denial}");
    found.extend(answer.would_deny.iter().map(|denial| result(2, &unenforced(denial))));
    found
}
