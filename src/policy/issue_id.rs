//! Identifiers of issues.

use super::exemption::is_word;
use super::vulnerability::IssueKind;

/// The kind of issue that an identifier names: those of configuration issues say so (`application_configuration:ssh.keys`,
/// as IBM writes them; `AVD-DS-0002`, as Trivy does). All others are those of vulnerabilities, such as `CVE-2024-1` and
/// `GHSA-…`.
pub fn kind_of_issue(id: &str) -> IssueKind {
    let id = id.to_ascii_lowercase();
    let is_configuration = id.split_once(':').is_some_and(|(class, _)| class.ends_with("configuration"));
    if is_configuration || id.starts_with("avd-") { IssueKind::Configuration } else { IssueKind::Vulnerability }
}

/// Whether an issue can have this identifier: ASCII letters and digits with `-_.:+~` between them, and no package URL. A CVE
/// is `CVE-` and digits. A text that is copied from a web page may have other letters that look the same.
pub(super) fn is_issue_id(text: &str) -> bool {
    let start = text.get(..3).unwrap_or_default();
    let number = text.get(3..).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
    let is_number =
        number.starts_with(|c: char| c.is_ascii_digit()) && number.bytes().all(|c| c == b'-' || c.is_ascii_digit());
    let is_other_cve = start.eq_ignore_ascii_case("cve") && !is_number;
    let is_part = |c: u8| c.is_ascii_alphanumeric() || b"-_.:+~".contains(&c);
    let is_edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    is_word(text)
        && text.bytes().all(is_part)
        && is_edge(text.bytes().next())
        && is_edge(text.bytes().next_back())
        && !text.starts_with("pkg:")
        && !is_other_cve
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_says_what_kind_of_issue_it_names() {
        for (id, expected) in [
            ("CVE-2024-1", IssueKind::Vulnerability),
            ("GHSA-aaaa-bbbb-cccc", IssueKind::Vulnerability),
            ("RHSA-2024:1234", IssueKind::Vulnerability),
            ("MAL-2025-1", IssueKind::Vulnerability),
            ("issue 1", IssueKind::Vulnerability),
            ("application_configuration:mysql.ssl-ca", IssueKind::Configuration),
            ("system_configuration:x", IssueKind::Configuration),
            ("AVD-DS-0002", IssueKind::Configuration),
        ] {
            assert_eq!(kind_of_issue(id), expected, "{id}");
        }
    }

    #[test]
    fn texts_that_no_issue_can_have_are_recognised() {
        for (text, expected) in [
            ("CVE-2024-1234", true),
            ("cve-2024-1234", true),
            ("RHSA-2024:1234", true),
            ("application_configuration:ssh.private_key", true),
            ("SNYK-JS-LODASH-567746", true),
            ("CVE-2024-1234 ", false),
            ("CVE-2024-*", false),
            ("CVE-2024-123?", false),
            ("CVE_2024_1234", false),
            ("CVE 2024 1234", false),
            ("CVE-2024-1,CVE-2024-2", false),
            ("pkg:npm/x", false),
            ("*", false),
            ("", false),
            ("openSUSE-SU-2024:0001-1", true),
            ("TEMP-0841856-B18BAF", true),
            ("CKV_DOCKER_2", true),
            ("CVE-2021-44228\u{200b}", false),
            ("\u{421}VE-2021-44228", false),
            ("https://nvd.nist.gov/vuln/detail/CVE-2021-44228", false),
            ("CVE-2021-44228;CVE-2021-45046", false),
            ("CVE-2021-44228.", false),
            ("CVE-2021-log4j", false),
            ("CVE-", false),
        ] {
            assert_eq!(is_issue_id(text), expected, "{text:?}");
        }
    }
}
