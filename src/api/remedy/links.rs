//! Security notices of vendors, and their addresses.

use crate::policy::{Issue, is_cve, is_notice};

/// The security notices of an issue: the identifiers under which vendors published it (`DSA-5000-1`, `RHSA-2024:1234`).
/// A database's name for the vulnerability (`CVE-…`, `GHSA-…`, `DEBIAN-CVE-…`) is not a notice.
pub fn notices(issue: &Issue) -> Vec<&str> {
    issue.names().filter(|id| is_notice(id)).collect()
}

/// The identifiers of an issue that are not CVEs: notices, and what databases call it.
pub fn other_identifiers(issue: &Issue) -> Vec<&str> {
    issue.names().filter(|id| !is_cve(id)).collect()
}

/// Where the vendor describes an issue: the first identifier that has a known address, else the vulnerability in the
/// tracker of the distribution, else in the National Vulnerability Database.
pub fn vendor_link(issue: &Issue) -> Option<String> {
    if let Some(link) = other_identifiers(issue).into_iter().find_map(notice_link) {
        return Some(link);
    }
    let cve = issue.cves().into_iter().next().filter(|cve| is_plain(cve))?.to_ascii_uppercase();
    let purls = issue.packages.iter().filter_map(|package| package.purl.as_ref());
    let vendors = purls.filter(|purl| matches!(purl.kind(), "apk" | "deb" | "rpm")).filter_map(|purl| purl.namespace());
    let tracked = vendors.filter_map(|vendor| {
        Some(match vendor {
            "alpine" => format!("https://security.alpinelinux.org/vuln/{cve}"),
            "amazon" => format!("https://explore.alas.aws.amazon.com/{cve}.html"),
            "debian" => format!("https://security-tracker.debian.org/tracker/{cve}"),
            "oracle" => format!("https://linux.oracle.com/cve/{cve}.html"),
            "alma" | "centos" | "redhat" | "rocky" => format!("https://access.redhat.com/security/cve/{cve}"),
            "opensuse" | "suse" => format!("https://www.suse.com/security/cve/{cve}.html"),
            "ubuntu" => format!("https://ubuntu.com/security/{cve}"),
            _ => return None,
        })
    });
    tracked.into_iter().next().or_else(|| Some(format!("https://nvd.nist.gov/vuln/detail/{cve}")))
}

/// The address of a security notice; `None` if the kind of notice is not known.
pub fn notice_link(id: &str) -> Option<String> {
    if !is_plain(id) {
        return None;
    }
    let (kind, _) = id.split_once('-')?;
    Some(match kind.to_ascii_uppercase().as_str() {
        "DLA" | "DSA" | "DTSA" => format!("https://security-tracker.debian.org/tracker/{id}"),
        "ELSA" => format!("https://linux.oracle.com/errata/{id}.html"),
        "GHSA" => format!("https://github.com/advisories/{id}"),
        "GO" => format!("https://pkg.go.dev/vuln/{id}"),
        "MAL" | "OSV" | "PYSEC" => format!("https://osv.dev/vulnerability/{id}"),
        "RHBA" | "RHEA" | "RHSA" => format!("https://access.redhat.com/errata/{id}"),
        "RUSTSEC" => format!("https://rustsec.org/advisories/{id}.html"),
        "USN" => format!("https://ubuntu.com/security/notices/{id}"),
        _ => return None,
    })
}

/// Whether an identifier has only characters that need no encoding in an address.
fn is_plain(id: &str) -> bool {
    !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-:.".contains(&byte))
}
