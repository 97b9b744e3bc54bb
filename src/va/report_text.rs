//! Assessments as text for people, in the words of `ibmcloud cr`. Pure.

use crate::policy::{Issue, IssueKind, Observed, VaEvidence};
use crate::runtime::printable;

/// The SECURITY STATUS column of `ibmcloud cr images`: `No Issues`, `1 Issue`, `N Issues`, `Scanning`,
/// `Unsupported OS`; `Unavailable` where no source answers. Exempt issues are not counted.
pub fn security_status(evidence: &VaEvidence) -> String {
    match evidence {
        VaEvidence::Report(report) => match report.issues.iter().filter(|issue| !issue.exempt).count() {
            0 if report.incomplete.is_some() => "Scanning".into(),
            0 => "No Issues".into(),
            1 => "1 Issue".into(),
            n => format!("{n} Issues"),
        },
        VaEvidence::Unscanned
        | VaEvidence::Unreadable { .. }
        | VaEvidence::Pending { .. }
        | VaEvidence::Incomplete { .. } => "Scanning".into(),
        VaEvidence::Unsupported { .. } => "Unsupported OS".into(),
        VaEvidence::Unavailable { .. } => "Unavailable".into(),
    }
}

/// The report of one image, as `ibmcloud cr va` prints it: a summary, vulnerabilities, configuration issues.
pub fn render(image: &str, evidence: &Observed<VaEvidence>) -> String {
    let image = printable(image);
    let report = match &evidence.value {
        VaEvidence::Report(report) => report,
        VaEvidence::Unscanned => return format!("{image} has not been scanned.\n"),
        VaEvidence::Unreadable { problems } => {
            return format!("{image} has no report that can be read; report files that cannot: {problems}.\n");
        }
        VaEvidence::Incomplete { why } => return format!("{image} was scanned in part: {}\n", printable(why)),
        VaEvidence::Unsupported { why } => return format!("{image} cannot be assessed: {}\n", printable(why)),
        VaEvidence::Unavailable { why } => return format!("{image}: no source answers: {}\n", printable(why)),
        VaEvidence::Pending { why } => return format!("{image} is being scanned: {}\n", printable(why)),
    };
    let when = report.generated_at.map_or_else(|| "at an unknown time".into(), |at| format!("on {at}"));
    let mut text = format!("{image} was scanned {when} by {}.\n", printable(&report.source));
    text.push_str(&format!("Security status: {}\n", security_status(&evidence.value)));
    if let Some(missing) = &report.incomplete {
        text.push_str(&format!("It was scanned in part: {}\n", printable(missing)));
    }
    let headings = ["VULNERABILITY", "SEVERITY", "POLICY STATUS", "AFFECTED PACKAGES", "HOW TO RESOLVE"];
    text.push_str(&section(&report.issues, IssueKind::Vulnerability, headings));
    let headings = ["CONFIGURATION ISSUE", "SEVERITY", "POLICY STATUS", "WHERE", "WHAT IT IS"];
    text.push_str(&section(&report.issues, IssueKind::Configuration, headings));
    text
}

fn section(issues: &[Issue], kind: IssueKind, headings: [&str; 5]) -> String {
    let rows: Vec<_> = issues.iter().filter(|issue| issue.kind == kind).map(row).collect();
    if rows.is_empty() { String::new() } else { format!("\n{}", table(headings, &rows)) }
}

fn row(issue: &Issue) -> [String; 5] {
    let resolve = match issue.kind {
        IssueKind::Configuration => issue.title.clone().unwrap_or_default(),
        IssueKind::Vulnerability => how_to_resolve(issue),
    };
    let packages: Vec<_> = issue.packages.iter().map(|package| package.name.as_str()).collect();
    [
        printable(&issue.id).into_owned(),
        issue.severity.as_str().into(),
        if issue.exempt { "Exempt" } else { "Active" }.into(),
        printable(&packages.join(", ")).into_owned(),
        printable(&resolve).into_owned(),
    ]
}

fn how_to_resolve(issue: &Issue) -> String {
    let fixes = issue.packages.iter().filter_map(|p| Some(format!("{} to {}", p.name, p.fixed.as_ref()?)));
    let fixes: Vec<_> = fixes.collect();
    if fixes.is_empty() { "No fix is published".into() } else { format!("Upgrade {}", fixes.join("; ")) }
}

/// Columns as wide as their widest cell, two spaces apart; nothing behind the last.
fn table(headings: [&str; 5], rows: &[[String; 5]]) -> String {
    let mut widths = headings.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; 5]| {
        let padded: String = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        format!("{}\n", padded.trim_end())
    };
    let head = line(headings);
    rows.iter().fold(head, |text, row| text + &line(row.each_ref().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{AffectedPackage, Report, Severity};

    fn issue(id: &str, exempt: bool, fixed: Option<&str>) -> Issue {
        Issue {
            id: id.into(),
            aliases: vec![],
            kind: IssueKind::Vulnerability,
            severity: Severity::High,
            packages: vec![AffectedPackage {
                name: "openssl".into(),
                installed: Some("3.0.9".into()),
                fixed: fixed.map(str::to_owned),
            }],
            exempt,
            title: None,
        }
    }

    fn report(issues: Vec<Issue>) -> VaEvidence {
        VaEvidence::Report(Report {
            source: "trivy 0.72.0".into(),
            generated_at: "2026-01-02T03:04:05Z".parse().ok(),
            issues,
            incomplete: None,
        })
    }

    fn partial(issues: Vec<Issue>) -> VaEvidence {
        let VaEvidence::Report(report) = report(issues) else { panic!() };
        VaEvidence::Report(Report { incomplete: Some("debian 8 is past its end of support".into()), ..report })
    }

    #[test]
    fn a_report_says_what_is_missing() {
        let text = render("a", &Observed { value: partial(vec![]), at: jiff::Timestamp::UNIX_EPOCH, until: None });
        assert!(text.contains("in part: debian 8 is past its end of support"), "{text}");
    }

    #[test]
    fn nothing_of_a_report_steers_a_terminal() {
        let mut hostile = issue("CVE-\u{1b}[1m", false, Some("3\u{1b}[1m"));
        hostile.packages[0].name = "open\u{9b}ssl".into();
        let VaEvidence::Report(found) = report(vec![hostile]) else { panic!() };
        let found = VaEvidence::Report(Report { source: "t\u{7}".into(), incomplete: Some("\u{1b}c".into()), ..found });
        let why = || String::from("\u{1b}c");
        for evidence in [
            found,
            VaEvidence::Incomplete { why: why() },
            VaEvidence::Unsupported { why: why() },
            VaEvidence::Unavailable { why: why() },
            VaEvidence::Pending { why: why() },
        ] {
            let evidence = Observed { value: evidence, at: jiff::Timestamp::UNIX_EPOCH, until: None };
            let text = render("a\u{1b}c", &evidence);
            assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn status_words() {
        let why = || String::from("x");
        for (evidence, word) in [
            (report(vec![]), "No Issues"),
            (report(vec![issue("CVE-1", true, None)]), "No Issues"),
            (report(vec![issue("CVE-1", true, None), issue("CVE-2", false, None)]), "1 Issue"),
            (report(vec![issue("CVE-1", false, None), issue("CVE-2", false, None)]), "2 Issues"),
            (VaEvidence::Unscanned, "Scanning"),
            (VaEvidence::Unreadable { problems: 1 }, "Scanning"),
            (partial(vec![]), "Scanning"),
            (partial(vec![issue("CVE-1", false, None)]), "1 Issue"),
            (VaEvidence::Pending { why: why() }, "Scanning"),
            (VaEvidence::Incomplete { why: why() }, "Scanning"),
            (VaEvidence::Unsupported { why: why() }, "Unsupported OS"),
            (VaEvidence::Unavailable { why: why() }, "Unavailable"),
        ] {
            assert_eq!(security_status(&evidence), word);
        }
    }

    #[test]
    fn the_table() {
        let mut configuration = issue("application_configuration:nginx.tls", false, None);
        configuration.kind = IssueKind::Configuration;
        configuration.packages.clear();
        configuration.title = Some("TLS\u{1b}[2J is off".into());
        let issues = vec![issue("CVE-2024-1", false, Some("3.0.11")), issue("CVE-2", true, None), configuration];
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        let text = render("icr.io/ns/app:v1", &Observed { value: report(issues), at, until: None });
        let expected = "\
icr.io/ns/app:v1 was scanned on 2026-01-02T03:04:05Z by trivy 0.72.0.
Security status: 2 Issues

VULNERABILITY  SEVERITY  POLICY STATUS  AFFECTED PACKAGES  HOW TO RESOLVE
CVE-2024-1     high      Active         openssl            Upgrade openssl to 3.0.11
CVE-2          high      Exempt         openssl            No fix is published

CONFIGURATION ISSUE                  SEVERITY  POLICY STATUS  WHERE  WHAT IT IS
application_configuration:nginx.tls  high      Active                TLS\\u{1b}[2J is off
";
        assert_eq!(text, expected);
    }
}
