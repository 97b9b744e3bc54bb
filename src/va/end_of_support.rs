//! The end of support of a distribution that another source names, from the gate's own table of dates.

use jiff::Timestamp;

use crate::advisories;
use crate::inventory::LinuxDistribution;

/// What scanners and services call a distribution, and its `ID` in os-release, where they differ. Many use the `NAME`
/// in os-release.
const IDS: [(&str, &str); 36] = [
    ("alma", "almalinux"),
    ("alpine linux", "alpine"),
    ("amazon", "amzn"),
    ("amazon linux", "amzn"),
    ("amazon linux ami", "amzn"),
    ("amazonlinux", "amzn"),
    ("arch linux", "arch"),
    ("cbl-mariner", "mariner"),
    ("centos linux", "centos"),
    ("centos stream", "centos-stream"),
    ("common base linux mariner", "mariner"),
    ("debian gnu/linux", "debian"),
    ("fedora linux", "fedora"),
    ("microsoft azure linux", "azurelinux"),
    ("opensuse leap", "opensuse-leap"),
    ("opensuse tumbleweed", "opensuse-tumbleweed"),
    ("opensuse.leap", "opensuse-leap"),
    ("opensuse.tumbleweed", "opensuse-tumbleweed"),
    ("oracle", "ol"),
    ("oracle linux", "ol"),
    ("oracle linux server", "ol"),
    ("oraclelinux", "ol"),
    ("photon os", "photon"),
    ("raspbian gnu/linux", "raspbian"),
    ("red hat enterprise linux", "rhel"),
    ("red hat enterprise linux server", "rhel"),
    ("redhat", "rhel"),
    ("rocky linux", "rocky"),
    ("rockylinux", "rocky"),
    ("sl-micro", "sle-micro"),
    ("sle micro", "sle-micro"),
    ("slem", "sle-micro"),
    ("suse linux enterprise micro", "sle-micro"),
    ("suse linux enterprise server", "sles"),
    ("ubuntu linux", "ubuntu"),
    ("vmware photon os", "photon"),
];
/// The first release of CentOS that exists only as CentOS Stream. Few scanners distinguish the two.
const FIRST_STREAM_ONLY: u32 = 9;

/// A distribution and its release, as messages name them: `debian 12`.
pub(super) fn release_name(distribution: &LinuxDistribution) -> String {
    format!("{} {}", distribution.id, distribution.version).trim_end().to_owned()
}

/// The `ID` in os-release of a distribution that a scanner or a service names.
pub(super) fn system_id(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase();
    IDS.iter().find(|(other, _)| *other == name).map_or_else(|| name.clone(), |(_, id)| (*id).to_owned())
}

/// All names of a distribution with this `ID` in os-release.
pub(super) fn system_names(id: &str) -> impl Iterator<Item = &str> {
    std::iter::once(id).chain(IDS.iter().filter(move |(_, known)| *known == id).map(|(name, _)| *name))
}

/// When the support of a release ends, if that is known, by the names of os-release or of a scanner. Ubuntu's extended
/// support is stated by the scanner, or at the end of the version (`18.04-ESM`, `18.04+esm`).
pub(super) fn end_of_support(name: &str, version: &str, extended_support: bool) -> Option<Timestamp> {
    let id = system_id(name);
    let stated = version.trim().to_ascii_lowercase();
    let regular = stated.strip_suffix("-esm").or_else(|| stated.strip_suffix("+esm"));
    let stated = regular.unwrap_or(&stated);
    let stated = stated.strip_prefix("ami release ").unwrap_or(stated);
    // Service packs of SUSE: `15 SP5`, `15-SP5`.
    let stated = stated.replace(" sp", ".").replace("-sp", ".");
    let version = stated.split([' ', '+']).next().unwrap_or_default();
    let version = if id == "ubuntu" { without_point_release(version) } else { version };
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    let is_stream = id == "centos" && major.is_some_and(|major| major >= FIRST_STREAM_ONLY);
    advisories::support_ends(&LinuxDistribution {
        id: if is_stream { "centos-stream".to_owned() } else { id.clone() },
        version: version.to_owned(),
        extended_support: id == "ubuntu" && (extended_support || regular.is_some()),
        ..LinuxDistribution::default()
    })
}

/// `22.04` of `22.04.3`.
fn without_point_release(version: &str) -> &str {
    let end = version.match_indices('.').nth(1).map_or(version.len(), |(index, _)| index);
    version.get(..end).unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_found_by_the_names_of_scanners() {
        for (name, version, expected) in [
            ("debian", "9", "2022-06-30"),
            ("debian", "6.0.10", "2016-02-29"),
            ("Debian GNU/Linux", "9.13", "2022-06-30"),
            ("debian", "forky/sid", ""),
            ("debian", "", ""),
            ("alpine", "3.10.2", "2021-05-01"),
            ("alpine", "edge", ""),
            ("ubuntu", "16.04", "2021-04-21"),
            ("Ubuntu", "18.04.6 LTS", "2023-05-31"),
            ("ubuntu", "18.04-ESM", "2028-03-31"),
            ("ubuntu", "18.04+esm", "2028-03-31"),
            ("redhat", "7.9", "2024-06-30"),
            ("rhel", "8.4+eus", "2029-05-31"),
            ("centos", "7.6.1810", "2024-06-30"),
            ("centos", "8", "2021-12-31"),
            ("centos", "9", "2027-05-31"),
            ("centos-stream", "8", "2024-05-31"),
            ("oracle", "7.9", "2024-12-31"),
            ("oraclelinux", "8", "2029-07-31"),
            ("amazon", "AMI release 2018.03", "2023-12-31"),
            ("amazon", "2 (Karoo)", "2026-06-30"),
            ("amazonlinux", "2023", "2029-06-30"),
            ("alma", "8.10", "2029-05-31"),
            ("rockylinux", "9.3", "2032-05-31"),
            ("opensuse.leap", "15.3", "2022-12-31"),
            ("suse linux enterprise server", "15 SP5", "2024-12-31"),
            ("sles", "12-SP5", "2024-10-31"),
            ("Alpine Linux", "3.10.2", "2021-05-01"),
            ("Fedora Linux", "41", "2025-12-15"),
            ("Oracle Linux Server", "7.9", "2024-12-31"),
            ("VMware Photon OS", "3.0", "2024-03-31"),
            ("openSUSE Leap", "15.3", "2022-12-31"),
            ("slem", "5.1", "2025-10-31"),
            ("cbl-mariner", "2.0.20240301", "2025-11-30"),
            ("photon", "3.0", "2024-03-31"),
            ("fedora", "41", "2025-12-15"),
            ("wolfi", "20230201", ""),
            ("none", "", ""),
        ] {
            let end = end_of_support(name, version, false);
            let day = end.map(|end| end.to_string().chars().take(10).collect::<String>()).unwrap_or_default();
            assert_eq!(day, expected, "{name} {version}");
        }
        let day = |name, version| end_of_support(name, version, true).map(|end| end.to_string());
        assert_eq!(day("ubuntu", "20.04").as_deref(), Some("2030-04-30T23:59:59Z"));
        assert_eq!(day("ubuntu", "19.04"), end_of_support("ubuntu", "19.04", false).map(|end| end.to_string()));
        assert_eq!(
            day("debian", "9").as_deref(),
            Some("2022-06-30T23:59:59Z"),
            "only Ubuntu's extended support counts"
        );
    }
}
