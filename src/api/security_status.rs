//! The SECURITY STATUS column of `ibmcloud cr images`.

use crate::policy::VaEvidence;

/// The status as IBM prints it: `No Issues`, `1 Issue`, `N Issues`, `Scanning` or `Unsupported OS`; `Unavailable` if no
/// source responds. Exempt issues are not counted, nor are configuration issues that the gate itself finds.
pub(super) fn security_status(evidence: &VaEvidence) -> String {
    match evidence {
        VaEvidence::Report(report) => {
            match report.issues.iter().filter(|issue| !issue.exempt && !issue.is_own_check()).count() {
                0 if report.incomplete.is_some() => "Scanning".into(),
                0 => "No Issues".into(),
                1 => "1 Issue".into(),
                n => format!("{n} Issues"),
            }
        }
        VaEvidence::Unscanned
        | VaEvidence::Unreadable { .. }
        | VaEvidence::Pending { .. }
        | VaEvidence::Incomplete { .. }
        | VaEvidence::Opaque { .. } => "Scanning".into(),
        VaEvidence::Unsupported { .. } => "Unsupported OS".into(),
        VaEvidence::Unavailable { .. } => "Unavailable".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Issue, IssueKind, OWN_CHECKS, Report, Severity};

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
            (VaEvidence::Unscanned, "Scanning"),
            (VaEvidence::Unreadable { problems: 1 }, "Scanning"),
            (partial(vec![]), "Scanning"),
            (partial(vec![issue("CVE-1", false)]), "1 Issue"),
            (VaEvidence::Pending { why: why() }, "Scanning"),
            (VaEvidence::Incomplete { why: why() }, "Scanning"),
            (VaEvidence::Unsupported { why: why() }, "Unsupported OS"),
            (VaEvidence::Unavailable { why: why() }, "Unavailable"),
        ] {
            assert_eq!(security_status(&evidence), word);
        }
    }
}
