//! `attestation` of an authority: what an attestation about the image must say.

use crate::markup::{Fields, ProblemSeverity};
use crate::policy::AttestationRule;
use crate::policy::documents::native::age;

/// Parses the mapping of `attestation`. `None` after an error was reported.
pub(super) fn rule(fields: &Fields<'_>) -> Option<AttestationRule> {
    fields.only(&["condition", "maxAge", "predicateType"]);
    let predicate_type = fields.required("predicateType")?.to_owned();
    let max_age = match fields.get("maxAge") {
        Some(_) => Some(age(fields, "maxAge")?),
        None => None,
    };
    let condition = match fields.get("condition") {
        Some(_) => Some(condition(fields)?),
        None => None,
    };
    Some(AttestationRule { predicate_type, max_age, condition })
}

/// Mistakes are reported at the value, with the line and the column within it.
fn condition(fields: &Fields<'_>) -> Option<crate::policy::Condition> {
    let text = fields.required("condition")?;
    let report = |errors: Vec<crate::policy::InvalidCondition>| {
        for error in errors {
            let at = fields.get("condition").map_or(fields.at, |node| node.at);
            fields.problems.report(ProblemSeverity::Error, at, format!("condition: {error}"), None);
        }
    };
    AttestationRule::condition(text).map_err(report).ok()
}
