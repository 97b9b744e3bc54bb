//! Conditions on an image as a whole: `coolDown`, `endOfLife`, `baseImages`.

use super::AssessmentContext;
use super::findings::Findings;
use super::text::{after, elapsed, length, time};
use crate::policy::base_image::BaseImageVerdict;
use crate::policy::rule::Behaviour;
use crate::policy::va_rule::VaRule;
use crate::policy::vulnerability::{ImageFacts, VaEvidence};

/// The age of an image counts from the time at which this gate first saw it, which nobody else can set back. The date of
/// its creation is what its author states. An image exists before anybody can ask for it, so a date that is later than that
/// is wrong, and the image is as young as it says.
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
        VaEvidence::Opaque { image, .. } | VaEvidence::WithOrigin { image, .. } => image.created,
        _ => None,
    };
    let Some(known) = context.history.known_since else {
        findings.reasons.push(format!(
            "coolDown: this gate has not seen the image before, and the policy requires an age of {}; admitted {} at the \
             earliest",
            length(minimum),
            time(after(now, minimum))
        ));
        return;
    };
    let start = created.map_or(known, |created| created.max(known));
    let end = after(start, minimum);
    if now < end {
        let age = now.duration_since(start);
        let age = if age.is_negative() { "not created yet".to_owned() } else { format!("{} old", elapsed(age)) };
        findings.reasons.push(format!(
            "coolDown: the image is {age}, and the policy requires {}; admitted from {}",
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
    let why = match image.has_ended_before {
        true => format!("the report says that the support of {distribution} has ended"),
        false => format!("{distribution} is not supported since {}", time(end)),
    };
    findings.reasons.push(format!("endOfLife: {why}; build on a newer release"));
}

/// Only images whose layers are the lowest of this one count. What the author of the image says can only deny it.
pub(super) fn base(rule: &VaRule, image: &ImageFacts, findings: &mut Findings) {
    let Some(rule) = &rule.base_images else { return };
    let claim = image.claimed_base.as_ref().filter(|claim| rule.allows(claim));
    let claim = claim.map(|claim| format!("; its author says {}, which its layers do not prove", claim.name));
    let claim = claim.unwrap_or_default();
    let why = match rule.judge(image) {
        BaseImageVerdict::Admitted => return,
        BaseImageVerdict::Denied(base) => {
            let by = match base {
                base if image.bases.contains(base) => "the image was built on",
                base if image.names.contains(base) => "the image is",
                _ => "its author says that the image was built on",
            };
            format!("{by} {}, which the policy denies; build on another image", base.name)
        }
        BaseImageVerdict::NotAllowed(base) => format!(
            "the image was built on {}, which is not among the base images that the policy allows{claim}; build on \
             another image, or have this gate pull the base image",
            base.name
        ),
        BaseImageVerdict::Unknown => {
            findings.unknown.push(format!(
                "baseImages: this gate knows no image whose layers are the lowest of this one{claim}; pull the base image \
                 through this gate (pullgate prefetch)"
            ));
            return;
        }
    };
    findings.reasons.push(format!("baseImages: {why}"));
}
