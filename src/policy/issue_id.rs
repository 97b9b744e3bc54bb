//! Identifiers of issues.

mod checks;

use super::exemption::is_word;
use super::purl::is_of_distribution;
use super::vulnerability::{IssueKind, is_cve};
pub use checks::CONFIGURATION_CHECKS;

/// The databases that give vulnerabilities identifiers of their own: `GHSA-aaaa-bbbb-cccc`, `PYSEC-2024-1`. Those that list CVEs
/// (`DEBIAN-CVE-2024-1`) are recognised by that.
const DATABASES: [&str; 21] = [
    "ASB", "BIT", "CGA", "ECHO", "EEF", "GHSA", "GO", "GSD", "HSEC", "JLSEC", "LBSEC", "MAL", "MINI", "OSV", "PSF",
    "PYSEC", "RSEC", "RUSTSEC", "SNYK", "TEMP", "V8",
];

/// The database whose name for a vulnerability this is, in upper case. `None` for a CVE, and for the security notice of a vendor
/// (`DSA-5000-1`, `RHSA-2024:1234`): other texts are those of vendors.
pub(super) fn database_of(id: &str) -> Option<String> {
    let id = id.to_ascii_uppercase();
    let (first, _) = id.split_once('-')?;
    (lists_cve(&id) || DATABASES.contains(&first)).then(|| first.to_owned())
}

/// Whether this is a database's name for a CVE, which adds nothing to the CVE: `DEBIAN-CVE-2024-1`.
pub fn lists_cve(id: &str) -> bool {
    let id = id.to_ascii_uppercase();
    id.contains("-CVE-") && !id.starts_with("CVE-")
}

/// Whether an identifier is that of a vendor's security notice, and not a name of the vulnerability itself.
pub fn is_notice(id: &str) -> bool {
    !is_cve(id) && database_of(id).is_none()
}

/// Whether an identifier may be about a package of this type (`deb`, `npm`): notices and names of a distribution are about its own
/// packages, and those of a language about that language's.
pub(super) fn may_be_about(id: &str, package_type: &str) -> bool {
    let first = id.split('-').next().unwrap_or_default().to_ascii_uppercase();
    let only = match &*first {
        "DEBIAN" | "DLA" | "DSA" | "DTSA" | "ELA" | "LSN" | "TEMP" | "UBUNTU" | "USN" => "deb",
        "ALPINE" | "CGA" => "apk",
        "ALBA" | "ALEA" | "ALSA" | "ELBA" | "ELSA" | "MGASA" | "OPENSUSE" | "RHBA" | "RHEA" | "RHSA" | "RLBA"
        | "RLSA" | "RXSA" | "SUSE" => "rpm",
        alas if alas.starts_with("ALAS") => "rpm",
        "GO" => "golang",
        "PYSEC" => "pypi",
        "RUSTSEC" => "cargo",
        // A package of which nothing is known may be that of a distribution.
        "GHSA" => return !package_type.is_empty() && !is_of_distribution(package_type),
        _ => return true,
    };
    package_type.is_empty() || package_type == only
}

/// The type of package URL that a scanner's own name for a type of packages stands for: the name of a distribution, or of what
/// installs packages of a language. `None` for other names, which may be those of distributions.
pub(super) fn package_type_of(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    Some(match &*name {
        "deb" | "debian" | "ubuntu" => "deb",
        "alpine" | "apk" | "chainguard" | "minimos" | "wolfi" => "apk",
        "alma" | "almalinux" | "amazon" | "azurelinux" | "cbl-mariner" | "centos" | "fedora" | "mariner" | "oracle"
        | "photon" | "redhat" | "rhel" | "rocky" | "rpm" => "rpm",
        suse if ["opensuse", "sles", "suse"].iter().any(|start| suse.starts_with(start)) => "rpm",
        "go-module" | "gobinary" | "golang" | "gomod" => "golang",
        "conda-pkg" | "pip" | "pipenv" | "poetry" | "pypi" | "python" | "python-pkg" | "uv" => "pypi",
        "cargo" | "rust-binary" | "rust-crate" | "rustbinary" => "cargo",
        "node-pkg" | "npm" | "pnpm" | "yarn" => "npm",
        "gradle" | "jar" | "java-archive" | "maven" | "pom" => "maven",
        "bundler" | "gem" | "gemspec" => "gem",
        "composer" | "composer-vendor" | "php-composer" => "composer",
        "dotnet" | "dotnet-core" | "nuget" => "nuget",
        _ => return None,
    })
}

/// The kind of issue that an identifier names: identifiers of configuration issues are recognisable
/// (`application_configuration:ssh.keys`,
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
    fn an_identifier_determines_the_kind_of_issue() {
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
    fn names_of_databases_are_told_from_notices_of_vendors() {
        for (id, database) in [
            ("DEBIAN-CVE-2026-1", Some("DEBIAN")),
            ("UBUNTU-CVE-2026-1", Some("UBUNTU")),
            ("ALPINE-CVE-2026-1", Some("ALPINE")),
            ("GHSA-aaaa-bbbb-cccc", Some("GHSA")),
            ("pysec-2024-1", Some("PYSEC")),
            ("GO-2022-0001", Some("GO")),
            ("RUSTSEC-2021-0001", Some("RUSTSEC")),
            ("DSA-5000-1", None),
            ("RHSA-2024:1234", None),
            ("openSUSE-SU-2024:0001-1", None),
            ("USN-1-1", None),
            ("ALAS2023-2024-001", None),
            ("CVE-2026-1", None),
            ("x", None),
        ] {
            assert_eq!(database_of(id).as_deref(), database, "{id}");
            assert_eq!(is_notice(id), database.is_none() && !is_cve(id), "{id}");
            assert_eq!(lists_cve(id), id.contains("-CVE-"), "{id}");
            assert_eq!(lists_cve(&id.to_ascii_lowercase()), lists_cve(id), "{id}");
        }
        for (id, package_type, expected) in [
            ("DSA-1", "deb", true),
            ("DSA-1", "npm", false),
            ("DSA-1", "", true),
            ("DEBIAN-CVE-2026-1", "pypi", false),
            ("ALAS2-2024-1", "rpm", true),
            ("ALAS2-2024-1", "pypi", false),
            ("GHSA-1", "npm", true),
            ("GHSA-1", "deb", false),
            ("GHSA-1", "alpm", false),
            ("GHSA-1", "", false),
            ("VENDOR-1", "deb", true),
        ] {
            assert_eq!(may_be_about(id, package_type), expected, "{id} {package_type}");
        }
    }

    #[test]
    fn the_types_of_scanners_are_those_of_package_urls() {
        for (name, expected) in [
            ("debian", Some("deb")),
            ("Red Hat", None),
            ("redhat", Some("rpm")),
            ("opensuse.leap", Some("rpm")),
            ("sles", Some("rpm")),
            ("alpine", Some("apk")),
            ("python-pkg", Some("pypi")),
            ("gobinary", Some("golang")),
            ("npm", Some("npm")),
            ("", None),
        ] {
            assert_eq!(package_type_of(name), expected, "{name}");
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
