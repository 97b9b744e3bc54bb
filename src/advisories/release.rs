//! Releases of distributions: where their advisories are, and how they are compared.

use jiff::Timestamp;

use super::end_of_life::end_of_support;
use crate::inventory::{Ecosystem, LinuxDistribution};

/// How the advisories for a release of a distribution are found and compared. The rules are those of the distributions'
/// advisories, as Trivy applies them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Release {
    /// The package manager.
    pub(super) ecosystem: Ecosystem,
    /// The name of the bucket in trivy-db: `debian 12`, `SUSE Linux Enterprise 15.5`.
    pub(super) bucket: String,
    /// By which name a package is looked up.
    pub(super) name: AdvisoryName,
    /// Which version is compared.
    pub(super) version: AdvisoryVersion,
    /// The shape of the rows.
    pub(super) rows: RowShape,
    /// The source whose rows state severities for packages.
    pub(super) rater: Option<&'static str>,
    /// When its support ends, if that is known.
    pub(super) end_of_support: Option<Timestamp>,
}

/// The package that the advisories of a distribution name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AdvisoryName {
    /// The installed package.
    Binary,
    /// The installed package, with its module stream: `nodejs:18::npm`.
    Module,
    /// The source package.
    Source,
}

/// The version that the advisories of a distribution are about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AdvisoryVersion {
    /// Of the installed package.
    Binary,
    /// Of the source package.
    Source,
}

/// What the rows of a bucket look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RowShape {
    /// One fixed version.
    Plain,
    /// A fixed version for each architecture.
    Architectures,
    /// The same, with packages in several flavours that are not compared with each other (Oracle).
    Flavours,
    /// A fixed version for each product and architecture.
    RedHat,
}

impl Release {
    /// The release of a distribution, or `None` if there are no advisories for this distribution.
    pub(super) fn of(distribution: &LinuxDistribution, now: Timestamp) -> Option<Self> {
        let (id, version) = (&*distribution.id, &*distribution.version);
        let apk = |bucket: String| Self::new(Ecosystem::Apk, bucket);
        let deb = |bucket: String| Self::new(Ecosystem::Deb, bucket).by_source();
        let rpm = |bucket: &str, release: &str| Self::new(Ecosystem::Rpm, format!("{bucket} {release}"));
        Some(match id {
            "almalinux" => rpm("alma", major(version)).by_module().until(id, major(version)),
            "alpine" => apk(format!("alpine {}", alpine(distribution))).by_source().until(id, minor(version)),
            "amzn" => rpm("amazon linux", amazon(version)).until(id, amazon(version)),
            "azurelinux" => rpm("Azure Linux", minor(version)).by_source(),
            "centos" | "rhel" => {
                let red_hat = Self::new(Ecosystem::Rpm, "Red Hat".to_owned()).by_module().until(id, major(version));
                Self { rows: RowShape::RedHat, ..red_hat }
            }
            "chainguard" | "minimos" | "wolfi" => Self { name: AdvisoryName::Source, ..apk(id.to_owned()) },
            "debian" => {
                let debian = deb(format!("debian {}", major(version))).until(id, major(version));
                Self { rater: Some("debian"), ..debian }
            }
            "echo" => Self { rater: Some("echo"), ..deb("echo".to_owned()) },
            "mariner" => rpm("CBL-Mariner", minor(version)).by_source().until(id, minor(version)),
            "ol" => Self { rows: RowShape::Flavours, ..rpm("Oracle Linux", major(version)).until(id, major(version)) },
            "opensuse" | "opensuse-leap" => rpm("openSUSE Leap", version).until("opensuse-leap", version),
            "opensuse-tumbleweed" => Self::new(Ecosystem::Rpm, "openSUSE Tumbleweed".to_owned()),
            "photon" => Self { name: AdvisoryName::Source, ..rpm("Photon OS", version).until(id, version) },
            "rocky" => {
                let rocky = rpm("rocky", major(version)).by_module().until(id, major(version));
                Self { rows: RowShape::Architectures, ..rocky }
            }
            "sl-micro" | "sle-micro" | "sle-micro-rancher" => {
                rpm("SUSE Linux Enterprise Micro", version).until("sle-micro", version)
            }
            "sles" => rpm("SUSE Linux Enterprise", version).until(id, version),
            "ubuntu" => {
                let ubuntu = deb(format!("ubuntu {}", ubuntu(distribution, now)));
                Self { end_of_support: end_of_ubuntu(distribution), ..ubuntu }
            }
            _ => return None,
        })
    }

    fn new(ecosystem: Ecosystem, bucket: String) -> Self {
        Self {
            ecosystem,
            bucket,
            name: AdvisoryName::Binary,
            version: AdvisoryVersion::Binary,
            rows: RowShape::Plain,
            rater: None,
            end_of_support: None,
        }
    }

    fn by_source(self) -> Self {
        Self { name: AdvisoryName::Source, version: AdvisoryVersion::Source, ..self }
    }

    fn by_module(self) -> Self {
        Self { name: AdvisoryName::Module, ..self }
    }

    /// Sets the end of support to that of a release.
    fn until(self, distribution: &str, release: &str) -> Self {
        Self { end_of_support: end_of_support(distribution, release), ..self }
    }
}

/// When the support of a distribution ends, if that is known: also of one for which there are no advisories.
pub(super) fn end_of_life(distribution: &LinuxDistribution, release: Option<&Release>) -> Option<Timestamp> {
    match release {
        Some(release) => release.end_of_support,
        None => end_of_support(&distribution.id, major(&distribution.version)),
    }
}

/// When the support of a distribution ends, by the dates of the vendors. `None` if that is not known, or it has no end.
pub fn support_ends(distribution: &LinuxDistribution) -> Option<Timestamp> {
    // The time only decides where its advisories are.
    end_of_life(distribution, Release::of(distribution, Timestamp::UNIX_EPOCH).as_ref())
}

/// The release of the package repositories decides about the advisories, if it is known.
fn alpine(distribution: &LinuxDistribution) -> &str {
    let repository = distribution.repository.as_deref().map_or("", minor);
    if repository.is_empty() { minor(&distribution.version) } else { repository }
}

/// The distribution once for each release whose advisories count. For Alpine, these are the release of the repositories
/// and, if that is another one, the release of os-release: from which of them a package is, is not known.
pub(super) fn with_releases(distribution: &LinuxDistribution) -> Vec<LinuxDistribution> {
    let release = minor(&distribution.version);
    let is_release = release.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    let is_other = distribution.id == "alpine" && is_release && release != alpine(distribution);
    let repository = Some(release.to_owned());
    let other = is_other.then(|| LinuxDistribution { repository, ..distribution.clone() });
    std::iter::once(distribution.clone()).chain(other).collect()
}

/// `2023` of `2023.3.20240304`. Amazon Linux 1 counted by months, from `2010.11` to `2018.03`; the name of others is
/// their own.
fn amazon(version: &str) -> &str {
    let version = version.split_whitespace().next().unwrap_or_default();
    let major = major(version);
    let is_first = matches!(major.parse(), Ok(2010..=2018)) || major.is_empty();
    if is_first { "1" } else { major }
}

/// Extended support has separate advisories after regular support has ended.
fn ubuntu(distribution: &LinuxDistribution, now: Timestamp) -> String {
    let version = &*distribution.version;
    if !distribution.extended_support {
        return version.to_owned();
    }
    let is_regular = end_of_support("ubuntu", version).is_some_and(|end| now < end);
    if is_regular { version.to_owned() } else { format!("{version}-ESM") }
}

/// With extended support the end of it, if the release has any, even while the regular support lasts.
fn end_of_ubuntu(distribution: &LinuxDistribution) -> Option<Timestamp> {
    let version = &*distribution.version;
    let extended = distribution.extended_support.then(|| end_of_support("ubuntu", &format!("{version}-ESM")));
    extended.flatten().or_else(|| end_of_support("ubuntu", version))
}

/// `9` of `9.4`.
pub(super) fn major(version: &str) -> &str {
    version.split_once('.').map_or(version, |(major, _)| major)
}

/// `3.19` of `3.19.1`.
pub(super) fn minor(version: &str) -> &str {
    let end = version.match_indices('.').nth(1).map_or(version.len(), |(index, _)| index);
    &version[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(id: &str, version: &str) -> LinuxDistribution {
        LinuxDistribution { id: id.to_owned(), version: version.to_owned(), ..LinuxDistribution::default() }
    }

    #[test]
    fn releases_have_the_buckets_of_trivy_db() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        for (id, version, bucket) in [
            ("almalinux", "9.4", "alma 9"),
            ("alpine", "3.19.1", "alpine 3.19"),
            ("amzn", "2023.3.20240304 (Amazon Linux)", "amazon linux 2023"),
            ("amzn", "2 (Karoo)", "amazon linux 2"),
            ("amzn", "2018.03", "amazon linux 1"),
            ("amzn", "2027.1 (Amazon Linux)", "amazon linux 2027"),
            ("azurelinux", "3.0.20240727", "Azure Linux 3.0"),
            ("centos", "7.9", "Red Hat"),
            ("chainguard", "20230214", "chainguard"),
            ("debian", "12.5", "debian 12"),
            ("mariner", "2.0.20240301", "CBL-Mariner 2.0"),
            ("ol", "8.9", "Oracle Linux 8"),
            ("opensuse-leap", "15.6", "openSUSE Leap 15.6"),
            ("opensuse-tumbleweed", "20240301", "openSUSE Tumbleweed"),
            ("photon", "5.0", "Photon OS 5.0"),
            ("rhel", "9.4", "Red Hat"),
            ("rocky", "9.3", "rocky 9"),
            ("sl-micro", "6.0", "SUSE Linux Enterprise Micro 6.0"),
            ("sles", "15.5", "SUSE Linux Enterprise 15.5"),
            ("ubuntu", "22.04", "ubuntu 22.04"),
            ("wolfi", "20230201", "wolfi"),
        ] {
            assert_eq!(Release::of(&distribution(id, version), now).unwrap().bucket, bucket, "{id} {version}");
        }
        for id in ["fedora", "centos-stream", "arch", "coreos", ""] {
            assert_eq!(Release::of(&distribution(id, "1"), now), None, "{id}");
        }
    }

    /// The dates of the vendors' tables, of releases by what os-release says.
    #[test]
    fn the_end_of_support_is_known_of_releases() {
        for (id, version, expected) in [
            ("almalinux", "10.1", "2035-05-31"),
            ("alpine", "3.21.3", "2026-11-01"),
            ("alpine", "3.24.0", "2028-06-01"),
            ("amzn", "2 (Karoo)", "2026-06-30"),
            ("amzn", "2023", "2029-06-30"),
            ("azurelinux", "3.0", ""),
            ("centos", "7", "2024-06-30"),
            ("centos-stream", "8", "2024-05-31"),
            ("centos-stream", "9", "2027-05-31"),
            ("debian", "11", "2026-08-31"),
            ("debian", "13.2", "2030-06-30"),
            ("debian", "", ""),
            ("fedora", "41", "2025-12-15"),
            ("fedora", "44", "2027-06-02"),
            ("fedora", "99", ""),
            ("mariner", "2.0.20240301", "2025-11-30"),
            ("ol", "8.10", "2029-07-31"),
            ("opensuse", "13.2", "2017-01-17"),
            ("opensuse-leap", "15.6", "2026-04-30"),
            ("photon", "3.0", "2024-03-31"),
            ("rhel", "6.10", "2020-11-30"),
            ("rhel", "7.9", "2024-06-30"),
            ("rhel", "8.10", "2029-05-31"),
            ("rhel", "10.0", "2035-05-31"),
            ("rocky", "10.0", "2035-05-31"),
            ("sl-micro", "6.2", "2029-11-30"),
            ("sles", "15.6", "2025-12-31"),
            ("sles", "15.7", "2031-07-31"),
            ("ubuntu", "22.04", "2027-04-23"),
            ("ubuntu", "24.04", "2029-05-31"),
            ("wolfi", "20230201", ""),
        ] {
            assert_eq!(last_day(&distribution(id, version)), expected, "{id} {version}");
        }
    }

    fn last_day(distribution: &LinuxDistribution) -> String {
        let now = "2026-11-27T00:00:00Z".parse().unwrap();
        let end = end_of_life(distribution, Release::of(distribution, now).as_ref());
        end.map(|end| end.to_string().chars().take(10).collect()).unwrap_or_default()
    }

    #[test]
    fn ubuntu_pro_extends_the_support_also_before_the_regular_one_ends() {
        for (version, regular, extended) in [
            ("18.04", "2023-05-31", "2028-03-31"),
            ("19.04", "2020-01-18", "2020-01-18"),
            ("22.04", "2027-04-23", "2032-04-09"),
            ("24.04", "2029-05-31", "2034-03-31"),
            ("99.04", "", ""),
        ] {
            let without = distribution("ubuntu", version);
            let with = LinuxDistribution { extended_support: true, ..without.clone() };
            assert_eq!((&*last_day(&without), &*last_day(&with)), (regular, extended), "{version}");
        }
    }

    #[test]
    fn alpine_follows_the_repositories_and_ubuntu_the_extended_support() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let bucket = |distribution: &LinuxDistribution| Release::of(distribution, now).unwrap().bucket;
        let alpine = |repository: &str| LinuxDistribution {
            repository: Some(repository.to_owned()),
            ..distribution("alpine", "3.18.4")
        };
        assert_eq!(bucket(&alpine("edge")), "alpine edge");
        assert_eq!(bucket(&alpine("3.19")), "alpine 3.19");
        let all = |distribution: &LinuxDistribution| with_releases(distribution).iter().map(bucket).collect::<Vec<_>>();
        assert_eq!(all(&alpine("edge")), ["alpine edge", "alpine 3.18"]);
        assert_eq!(all(&alpine("3.18")), ["alpine 3.18"]);
        let snapshot = LinuxDistribution { version: "3.23_alpha20250612".to_owned(), ..alpine("edge") };
        assert_eq!(all(&snapshot), ["alpine edge"]);
        assert_eq!(all(&distribution("debian", "12")), ["debian 12"]);
        let ubuntu = |version: &str| LinuxDistribution { extended_support: true, ..distribution("ubuntu", version) };
        assert_eq!(bucket(&ubuntu("18.04")), "ubuntu 18.04-ESM");
        assert_eq!(bucket(&ubuntu("22.04")), "ubuntu 22.04", "the regular support has not ended");
        assert_eq!(bucket(&ubuntu("24.04")), "ubuntu 24.04", "the regular support has not ended");
        assert_eq!(bucket(&ubuntu("19.04")), "ubuntu 19.04-ESM", "there is no such support");
        let end = |distribution: &LinuxDistribution| Release::of(distribution, now).unwrap().end_of_support.unwrap();
        assert!(end(&distribution("ubuntu", "18.04")) < now && end(&ubuntu("18.04")) > now);
        assert_eq!(Release::of(&distribution("debian", ""), now).unwrap().end_of_support, None, "unstable");
    }
}
