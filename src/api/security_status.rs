//! The SECURITY STATUS column of `ibmcloud cr images`.

use super::AssessmentCounts;
use crate::policy::{VaEvidence, VaStatus};

/// An image of which nothing is known.
pub(super) const NOT_SCANNED: &str = "Not Scanned";

/// The status as IBM prints it: `No Issues`, `1 Issue`, `N Issues`, `Scanning` or `Unsupported OS`. If no scan is under
/// way, `Scanning` would last forever: an image without a result is `Not Scanned`, and a partly scanned one is
/// `Incomplete`. `Unavailable` if no source responds, and `Denied` if no issue counts but another condition of the rule
/// is not met. Exempt issues are not counted.
pub(super) fn security_status(evidence: &VaEvidence, assessed: &AssessmentCounts) -> String {
    match (evidence, assessed.open) {
        (VaEvidence::WithOrigin { evidence, .. }, _) => security_status(evidence, assessed),
        (VaEvidence::Report(_) | VaEvidence::Opaque { .. }, open @ 1..) => issues(open),
        // A rule that admits such an image whatever is listed does not count the issues.
        (VaEvidence::NoReport { .. } | VaEvidence::Unsupported { .. }, open @ 1..)
            if assessed.status == VaStatus::Fail =>
        {
            issues(open)
        }
        (VaEvidence::Report(report), _) => match assessed.status {
            VaStatus::Unscanned => NOT_SCANNED.into(),
            VaStatus::Incomplete if report.incomplete.is_some() => "Incomplete".into(),
            VaStatus::Ok | VaStatus::Warn => "No Issues".into(),
            VaStatus::Fail | VaStatus::Incomplete | VaStatus::Unsupported => "Denied".into(),
        },
        (VaEvidence::Unscanned | VaEvidence::NoReport { .. } | VaEvidence::Unreadable { .. }, _) => NOT_SCANNED.into(),
        (VaEvidence::Incomplete { .. } | VaEvidence::Opaque { .. }, _) => "Incomplete".into(),
        (VaEvidence::Pending { .. }, _) => "Scanning".into(),
        (VaEvidence::Unsupported { .. }, _) => "Unsupported OS".into(),
        (VaEvidence::Unavailable { .. }, _) => "Unavailable".into(),
    }
}

fn issues(count: usize) -> String {
    if count == 1 { "1 Issue".into() } else { format!("{count} Issues") }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::api::AssessmentAnswer;
    use crate::gate::{AppliedVaRule, KnownAssessment};
    use crate::oci::Digest;
    use crate::policy::{
        AssessmentContext, Behaviour, ExemptStatus, ExemptionRecord, ExemptionScope, ImageHistory, Issue, IssueKind,
        OWN_CHECKS, Observed, Report, Severity, VaExemptions, VaRule,
    };

    fn issue(id: &str, exempt: bool) -> Issue {
        Issue { exempt, ..Issue::new(id, IssueKind::Vulnerability, Severity::High) }
    }

    fn own_check() -> Issue {
        let issue = Issue::new("application_configuration:image.user", IssueKind::Configuration, Severity::Medium);
        Issue { severity_source: Some(OWN_CHECKS.into()), ..issue }
    }

    fn report(issues: Vec<Issue>) -> VaEvidence {
        VaEvidence::Report(Report { issues, ..Report::default() })
    }

    fn partial(issues: Vec<Issue>) -> VaEvidence {
        let incomplete = Some("debian 8 is past its end of support".into());
        VaEvidence::Report(Report { issues, incomplete, ..Report::default() })
    }

    #[test]
    fn status_words() {
        let why = || String::from("x");
        for (evidence, word) in [
            (report(vec![]), "No Issues"),
            (report(vec![issue("CVE-1", true)]), "No Issues"),
            (report(vec![issue("CVE-1", true), issue("CVE-2", false)]), "1 Issue"),
            (report(vec![issue("CVE-1", false), issue("CVE-2", false)]), "2 Issues"),
            (report(vec![own_check()]), "No Issues"),
            (VaEvidence::Unscanned, "Not Scanned"),
            (VaEvidence::NoReport { why: why(), issues: Vec::new() }, "Not Scanned"),
            (VaEvidence::Unreadable { problems: 1 }, "Not Scanned"),
            (partial(vec![]), "Incomplete"),
            (partial(vec![issue("CVE-1", false)]), "1 Issue"),
            (VaEvidence::Pending { why: why() }, "Scanning"),
            (VaEvidence::Incomplete { why: why() }, "Incomplete"),
            (VaEvidence::Unsupported { why: why(), issues: Vec::new() }, "Unsupported OS"),
            (VaEvidence::Unsupported { why: why(), issues: vec![issue("CVE-1", false)] }, "Unsupported OS"),
            (VaEvidence::Unavailable { why: why() }, "Unavailable"),
        ] {
            assert_eq!(word_of(&VaRule::ibm(), &evidence, &VaExemptions::default()), word);
        }
        let native = VaRule { severity: Severity::High, ..VaRule::ibm() };
        for count in 0..3 {
            let issues: Vec<Issue> = (0..count).map(|n| issue(&format!("CVE-{n}"), false)).collect();
            for (evidence, none) in [
                (VaEvidence::Unsupported { why: why(), issues: Vec::new() }, "Unsupported OS"),
                (VaEvidence::NoReport { why: why(), issues: Vec::new() }, "Not Scanned"),
            ] {
                let evidence = evidence.with_issues(Vec::clone(&issues));
                let word = word_of(&native, &evidence, &VaExemptions::default());
                assert_eq!(word, [none, "1 Issue", "2 Issues"][count]);
            }
        }
    }

    fn word_of(rule: &VaRule, evidence: &VaEvidence, exemptions: &VaExemptions) -> String {
        let history = ImageHistory::default();
        let context = AssessmentContext { exemptions, history: &history, now: Timestamp::UNIX_EPOCH };
        let digest = Digest::sha256(b"image");
        let answer = AssessmentAnswer::new(digest, None, rule, evidence, &context);
        let counts = AssessmentCounts::from(&answer);
        let applied = AppliedVaRule {
            rule: rule.clone(),
            exemptions: exemptions.clone(),
            history: history.clone(),
            at: Timestamp::UNIX_EPOCH,
        };
        let observed = Observed { value: evidence.clone(), at: Timestamp::UNIX_EPOCH, until: None };
        let known = KnownAssessment { digest, evidence: Arc::new(observed), applied, distribution: None };
        assert_eq!(counts, AssessmentCounts::known(&known), "without copies, the numbers are the same");
        let status = security_status(evidence, &counts);
        assert_eq!(answer.security_status.as_ref(), Some(&status), "`pullgate va` shows the same as `pullgate images`");
        status
    }

    #[test]
    fn an_issue_in_its_grace_period_shows_when_it_counts() {
        let (exemptions, history, now) = (VaExemptions::default(), ImageHistory::default(), Timestamp::UNIX_EPOCH);
        let mut rule = VaRule { severity: Severity::Low, ..VaRule::ibm() };
        rule.grace.lengths = vec![(Severity::High, jiff::SignedDuration::from_secs(70))];
        let published = Timestamp::from_second(-10).ok();
        let evidence = report(vec![Issue { published, ..issue("CVE-1", false) }]);
        let context = AssessmentContext { exemptions: &exemptions, history: &history, now };
        let answer = AssessmentAnswer::new(Digest::sha256(b"image"), None, &rule, &evidence, &context);
        let end = Timestamp::from_second(60).ok();
        assert_eq!((answer.until, answer.issues[0].counts_from, answer.issues[0].blocks), (end, end, false));
        let context = AssessmentContext { now: end.unwrap(), ..context };
        let answer = AssessmentAnswer::new(Digest::sha256(b"image"), None, &rule, &evidence, &context);
        assert_eq!((answer.until, answer.issues[0].counts_from, answer.issues[0].blocks), (None, None, true));
    }

    /// What `pullgate images` shows agrees with what a pull finds.
    #[test]
    fn exemptions_of_all_origins_and_other_conditions_count() {
        let exempt = |id: &str| -> VaExemptions {
            let records = ExemptionRecord::listed(&ExemptionScope::EVERYTHING, None, Some(id), None, None);
            records.unwrap().into_iter().collect()
        };
        let none = VaExemptions::default();
        let both = report(vec![issue("CVE-1", false), issue("CVE-2", false)]);
        assert_eq!(word_of(&VaRule::ibm(), &both, &exempt("CVE-1")), "1 Issue");
        let one = report(vec![issue("CVE-1", false)]);
        assert_eq!(word_of(&VaRule::ibm(), &one, &exempt("CVE-1")), "No Issues");
        let ignoring = VaRule { ignore: exempt("CVE-1"), ..VaRule::ibm() };
        assert_eq!(word_of(&ignoring, &one, &none), "No Issues");
        let named = Issue { aliases: vec!["MAL-1".into()], ..issue("GHSA-1", false) };
        let lenient = VaRule { severity: Severity::Critical, ..VaRule::ibm() };
        let (malware, by_source) = (report(vec![named.clone()]), report(vec![Issue { exempt: true, ..named }]));
        for (evidence, exemptions) in [(&malware, &exempt("GHSA-1")), (&by_source, &none)] {
            let (history, now) = (ImageHistory::default(), Timestamp::UNIX_EPOCH);
            let context = AssessmentContext { exemptions, history: &history, now };
            let answer = AssessmentAnswer::new(Digest::sha256(b"image"), None, &lenient, evidence, &context);
            let found = &answer.issues[0];
            let standing = (found.exempt_status, found.issue.exempt, found.blocks);
            assert_eq!(standing, (ExemptStatus::Partial, false, true), "malware that counts is not exempt");
            assert_eq!(word_of(&lenient, evidence, exemptions), "1 Issue");
        }
        let exploited = VaRule { exploited: Some(Behaviour::Deny), ..VaRule::ibm() };
        assert_eq!(word_of(&exploited, &report(vec![]), &none), "Denied", "the catalogue is not imported");
        let opaque =
            |issues| VaEvidence::Opaque { why: "x".into(), issues, image: crate::policy::ImageFacts::default() };
        let secret = VaRule { configuration: Some(Severity::Low), severity: Severity::Low, ..VaRule::ibm() };
        assert_eq!(word_of(&secret, &opaque(vec![own_check()]), &none), "1 Issue");
        assert_eq!(word_of(&secret, &opaque(vec![]), &none), "Incomplete");
    }
}
