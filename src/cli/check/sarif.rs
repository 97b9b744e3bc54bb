//! Answers of `check` as a log in SARIF 2.1.0 (OASIS). Each denial and each image that could not be judged is a result.

use serde_json::{Value, json};

use super::CheckedImage;
use crate::api::Decision;
use crate::cli::sarif::{SCHEMA, encoded_path};

/// The rules: what a result can be about.
const RULES: [(&str, &str); 4] = [
    ("denied", "The image is denied by policy."),
    ("not-judged", "The image cannot be judged now."),
    ("would-deny", "The image would be denied if all documents were enforced."),
    ("not-checked", "The image could not be checked."),
];

/// The log of these images.
pub(super) fn log(checked: &[CheckedImage], judged_by: &str) -> Value {
    let rules = RULES.map(|(id, text)| json!({"id": id, "shortDescription": {"text": text}}));
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
    let result = |rule: usize, level: &str, message: &str| {
        let uri = encoded_path(checked.image.split('@').next().unwrap_or_default());
        json!({
            "ruleId": RULES[rule].0,
            "ruleIndex": rule,
            "level": level,
            "message": {"text": message},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}}}],
            "partialFingerprints": {"image/v1": format!("{} {}", RULES[rule].0, checked.image)},
        })
    };
    let answer = match &checked.answer {
        Ok(answer) => answer,
        Err(error) => return vec![result(3, "error", error)],
    };
    let mut found = match answer.decision {
        Decision::Admit | Decision::WouldDeny => Vec::new(),
        Decision::Deny => vec![result(0, "error", &answer.message)],
        Decision::Pending | Decision::Unavailable => vec![result(1, "error", &answer.message)],
    };
    found.extend(answer.would_deny.iter().map(|denial| result(2, "warning", denial)));
    found
}
