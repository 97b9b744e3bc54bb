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
            "mariner" => rpm("CBL-Mariner", minor(version)).by_source(),
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
                let release = ubuntu(distribution, now);
                deb(format!("ubuntu {release}")).until(id, &release)
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

/// The release of the package repositories decides about the advisories, if it is known.
fn alpine(distribution: &LinuxDistribution) -> &str {
    let repository = distribution.repository.as_deref().map_or("", minor);
    if repository.is_empty() { minor(&distribution.version) } else { repository }
}

/// The distribution once for each release whose advisories count. For Alpine, these are the release of the repositories and, if
/// that is another one, the release of os-release: from which of them a package is, is not known.
pub(super) fn with_releases(distribution: &LinuxDistribution) -> Vec<LinuxDistribution> {
    let release = minor(&distribution.version);
    let is_release = release.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    let is_other = distribution.id == "alpine" && is_release && release != alpine(distribution);
    let repository = Some(release.to_owned());
    let other = is_other.then(|| LinuxDistribution { repository, ..distribution.clone() });
    std::iter::once(distribution.clone()).chain(other).collect()
}

/// `2023` of `2023.3.20240304`. Amazon Linux 1 counted by months, from `2010.11` to `2018.03`; the name of others is their own.
fn amazon(version: &str) -> &str {
    let version = version.split_whitespace().next().unwrap_or_default();
    let major = major(version);
    let is_first = matches!(major.parse(), Ok(2010..=2018)) || major.is_empty();
    if is_first { "1" } else { major }
}

/// Extended support has advisories of its own once the regular support has ended.
fn ubuntu(distribution: &LinuxDistribution, now: Timestamp) -> String {
    let version = &*distribution.version;
    if !distribution.extended_support {
        return version.to_owned();
    }
    let extended = format!("{version}-ESM");
    let is_listed = end_of_support("ubuntu", &extended).is_some();
    let is_regular = end_of_support("ubuntu", version).is_some_and(|end| now < end);
    if !is_listed && is_regular { version.to_owned() } else { extended }
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
        assert_eq!(bucket(&ubuntu("19.04")), "ubuntu 19.04-ESM", "there is no such support");
        let end = |distribution: &LinuxDistribution| Release::of(distribution, now).unwrap().end_of_support.unwrap();
        assert!(end(&distribution("ubuntu", "18.04")) < now && end(&ubuntu("18.04")) > now);
        assert_eq!(Release::of(&distribution("debian", ""), now).unwrap().end_of_support, None, "unstable");
    }
}
