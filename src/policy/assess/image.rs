//! Conditions on an image as a whole: `coolDown`, `endOfLife`, `baseImages`.

use jiff::Timestamp;

use super::AssessmentContext;
use super::findings::Findings;
use super::text::{after, length, time};
use crate::policy::base_image::BaseImageVerdict;
use crate::policy::rule::Behaviour;
use crate::policy::va_rule::VaRule;
use crate::policy::vulnerability::{ImageFacts, VaEvidence};

/// The age of an image counts from the later of two times: the one at which it was created, which its author states, and
/// the one at which this gate first saw it. So a date that the author sets back shortens nothing.
pub(super) fn cool_down(
    rule: &VaRule,
    evidence: &VaEvidence,
    context: &AssessmentContext<'_>,
    findings: &mut Findings,
) {
    let Some(minimum) = rule.cool_down.image else { return };
    let now = context.now;
    let created = match evidence {
        VaEvidence::Report(report) => report.image.created,
        _ => None,
    };
    let Some(known) = context.history.known_since else {
        findings.reasons.push(format!(
            "coolDown: this gate has not seen the image before, and the policy demands an age of {}; admitted from {} at \
             the earliest",
            length(minimum),
            time(after(now, minimum))
        ));
        return;
    };
    let start = created.map_or(known, |created| created.max(known));
    let end = after(start, minimum);
    if now < end {
        let age = now.duration_since(start);
        let age = if age.is_negative() { "not created yet".to_owned() } else { format!("{} old", length(age)) };
        findings.reasons.push(format!(
            "coolDown: the image is {age}, and the policy demands {}; admitted from {}",
            length(minimum),
            time(end)
        ));
    }
}

/// A distribution whose end is not known counts as supported: most rolling releases have none.
pub(super) fn end_of_life(rule: &VaRule, image: &ImageFacts, context: &AssessmentContext<'_>, findings: &mut Findings) {
    let Some(end) = image.end_of_life.filter(|_| rule.end_of_life == Behaviour::Deny) else { return };
    if context.now < end {
        findings.changes_at(end);
        return;
    }
    let distribution = image.distribution.as_deref().unwrap_or("the distribution");
    let end = time(end);
    findings.reasons.push(format!("endOfLife: {distribution} is not supported since {end}; build on a newer release"));
}

/// The base image is what the image's author says it is.
pub(super) fn base(rule: &VaRule, image: &ImageFacts, findings: &mut Findings) {
    let Some(rule) = &rule.base_images else { return };
    let Some(base) = &image.base else {
        if rule.requires_one() {
            let hint = "label it with org.opencontainers.image.base.name";
            findings.unknown.push(format!("baseImages: the image does not say what it was built on; {hint}"));
        }
        return;
    };
    let why = match rule.judge(base) {
        BaseImageVerdict::Admitted => return,
        BaseImageVerdict::Denied => "which the policy denies",
        BaseImageVerdict::NotAllowed => "which is not among the base images that the policy allows",
    };
    findings.reasons.push(format!("baseImages: the image was built on {}, {why}; build on another image", base.name));
}

/// The age of something that was made at a time that another system states.
pub(super) fn age(made: Timestamp, now: Timestamp) -> String {
    length(now.duration_since(made))
}
