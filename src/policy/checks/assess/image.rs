//! Conditions on an image as a whole: `coolDown`, `endOfLife`, `baseImages`.

use super::AssessmentContext;
use super::findings::Findings;
use super::text::{after, elapsed, length, time};
use crate::policy::rules::base_image::BaseImageVerdict;
use crate::policy::rules::rule::Behaviour;
use crate::policy::rules::va_rule::VaRule;
use crate::policy::vulnerability::{ImageFacts, VaEvidence};

/// The age of an image counts from the time at which this gate first saw it, which no one else can change. Its creation
/// date is only stated by its author. An image exists before anyone can request it, so a later creation date is wrong,
/// and the image counts as being as young as the date says.
pub(super) fn cool_down(
    rule: &VaRule,
    evidence: &VaEvidence,
    context: &AssessmentContext<'_>,
    findings: &mut Findings,
) {
    let Some(minimum) = rule.cool_down.image else { return };
    let now = context.now;
    let created = evidence.image().and_then(|image| image.created);
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
        false => format!("{distribution} has not been supported since {}", time(end)),
    };
    findings.reasons.push(format!("endOfLife: {why}; build on a newer release"));
}

/// Why the images that this one was built on are not known, if the rule needs them and denies until they are.
pub(super) fn unknown_bases<'a>(rule: &VaRule, image: &'a ImageFacts) -> Option<&'a str> {
    image.bases_unknown.as_deref().filter(|_| rule.needs_bases() && rule.unavailable == Behaviour::Deny)
}

/// Only images whose layers are the lowest of this one count. Those that cannot be looked up are judged by
/// [`unknown_bases`]. Statements of the image's author can only deny it.
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
        BaseImageVerdict::Unknown if image.bases_unknown.is_some() => return,
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::policy::checks::assess::{assess, assessment_verdict, is_denied_until_answered, when_condition};
    use crate::policy::checks::verdict::Verdict;
    use crate::policy::rules::base_image::BaseImageRule;
    use crate::policy::rules::exemption::VaExemptions;
    use crate::policy::rules::va_rule::Unscanned;
    use crate::policy::vulnerability::history::ImageHistory;
    use crate::policy::vulnerability::severity::Severity;
    use crate::policy::vulnerability::{BaseImage, Issue, IssueKind, Report};

    /// `pass`, `fail` or `later`: denied until there is a result.
    fn verdict(rule: &VaRule, evidence: &VaEvidence) -> &'static str {
        let (exemptions, history) = (VaExemptions::default(), ImageHistory::default());
        let context = AssessmentContext { exemptions: &exemptions, history: &history, now: Timestamp::UNIX_EPOCH };
        match assessment_verdict(rule, &assess(rule, evidence, &context)).0 {
            Verdict::Pass(_) | Verdict::Skipped => "pass",
            Verdict::Unknown { temporary: true, .. } => "later",
            Verdict::Fail(_) | Verdict::Unknown { .. } => "fail",
        }
    }

    /// `unavailable: allow` leaves out only what is not known.
    #[test]
    fn a_report_is_judged_though_base_images_cannot_be_looked_up() {
        let unknown = |names: &[&str]| ImageFacts {
            bases_unknown: Some("the database cannot be read".into()),
            names: names.iter().map(|name| BaseImage { name: (*name).into(), digest: None }).collect(),
            ..ImageFacts::default()
        };
        let report = |issues: &[Issue], image| {
            let generated_at = Some(Timestamp::UNIX_EPOCH);
            VaEvidence::Report(Report { issues: issues.to_vec(), image, generated_at, ..Report::default() })
        };
        let without = |evidence| VaEvidence::WithOrigin { evidence: Box::new(evidence), image: unknown(&[]) };
        let incomplete = || VaEvidence::Incomplete { why: String::new() };
        let opaque = VaEvidence::Opaque { why: String::new(), issues: Vec::new(), image: unknown(&[]) };
        let issue = Issue::new("CVE-1", IssueKind::Vulnerability, Severity::High);
        for (evidence, denied, allowed) in [
            (report(&[issue], unknown(&[])), "fail", "fail"),
            (report(&[], unknown(&["debian:7"])), "fail", "fail"),
            (report(&[], unknown(&["debian:12"])), "later", "pass"),
            (report(&[], ImageFacts::default()), "pass", "pass"),
            (without(VaEvidence::Unscanned), "later", "pass"),
            (without(incomplete()), "later", "pass"),
            (opaque, "later", "pass"),
            (without(VaEvidence::Pending { why: String::new() }), "later", "pass"),
        ] {
            let base_images = Some(BaseImageRule::new(&[], &["debian:7"]));
            let (unscanned, incomplete, opaque) = (Unscanned::Allow, Behaviour::Allow, Behaviour::Allow);
            let rule = VaRule { base_images, unscanned, incomplete, opaque, ..VaRule::ibm() };
            assert_eq!(verdict(&rule, &evidence), denied, "{evidence:?}");
            let rule = VaRule { unavailable: Behaviour::Allow, ..rule };
            assert_eq!(verdict(&rule, &evidence), allowed, "{evidence:?}");
            assert!(!is_denied_until_answered(&rule, &evidence));
        }
        // That no base image is known must not make a condition true that asks for one.
        let opaque = VaEvidence::Opaque { why: String::new(), issues: Vec::new(), image: unknown(&[]) };
        for evidence in [report(&[], unknown(&[])), opaque, without(VaEvidence::Unscanned)] {
            let when = Some(when_condition("!has(image.base)").unwrap());
            let (unscanned, opaque) = (Unscanned::Allow, Behaviour::Allow);
            let rule = VaRule { when, unscanned, opaque, ..VaRule::ibm() };
            assert_eq!(verdict(&rule, &evidence), "later", "{evidence:?}");
            let rule = VaRule { unavailable: Behaviour::Allow, ..rule };
            assert_eq!(verdict(&rule, &evidence), "fail", "{evidence:?}");
        }
        // A rule that does not ask for them is not affected.
        assert_eq!(verdict(&VaRule::ibm(), &report(&[], unknown(&[]))), "pass");
        let when = Some(when_condition("size(issues) > 0").unwrap());
        assert_eq!(verdict(&VaRule { when, ..VaRule::ibm() }, &report(&[], unknown(&[]))), "pass");
    }

    /// A document that is no report does not make an image assessed, and what it states is not ignored.
    #[test]
    fn what_is_found_without_a_report_denies() {
        for (severity, unscanned, expected) in [
            (Severity::High, Unscanned::Allow, "fail"),
            (Severity::Low, Unscanned::Allow, "pass"),
            (Severity::High, Unscanned::Wait, "fail"),
            (Severity::Low, Unscanned::Wait, "later"),
            (Severity::Low, Unscanned::Deny, "fail"),
        ] {
            let issues = vec![Issue::new("CVE-1", IssueKind::Vulnerability, severity)];
            let evidence = VaEvidence::NoReport { why: "x".into(), issues };
            let (incomplete, severity) = (Behaviour::Allow, Severity::High);
            let rule = VaRule { unscanned, incomplete, severity, ..VaRule::ibm() };
            assert_eq!(verdict(&rule, &evidence), expected, "{evidence:?}");
            let rule = VaRule { unscanned: Unscanned::Allow, ..VaRule::ibm() };
            assert_eq!(verdict(&rule, &evidence), "pass", "IBM's formats: {evidence:?}");
        }
    }

    #[test]
    fn nothing_else_is_looked_up_for_an_image_that_is_denied_until_a_source_answers() {
        let (why, rule) = (String::new, VaRule::ibm());
        for evidence in [VaEvidence::Pending { why: why() }, VaEvidence::Unavailable { why: why() }] {
            assert!(is_denied_until_answered(&rule, &evidence));
            let rule = VaRule { unavailable: Behaviour::Allow, ..rule.clone() };
            assert!(!is_denied_until_answered(&rule, &evidence));
        }
        for evidence in [VaEvidence::Unscanned, VaEvidence::Unsupported { why: why(), issues: Vec::new() }] {
            assert!(!is_denied_until_answered(&rule, &evidence));
        }
    }
}
