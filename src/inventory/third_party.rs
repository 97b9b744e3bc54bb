//! Whether a package comes from the distribution or from someone else. The rules are those of Trivy.

use super::{Ecosystem, InstalledPackage, LinuxDistribution};

/// The builder of one or more distributions with RPM.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum DistributionFamily {
    AlmaLinux,
    Amazon,
    Fedora,
    Microsoft,
    Oracle,
    RedHat,
    Rocky,
    Suse,
    VMware,
}

/// Prefixes of the vendor names of RPM distributions, each with the builder. Files of a package count as the
/// distribution's own only if the same builder made the release files.
const RPM_VENDORS: &[(&str, DistributionFamily)] = &[
    ("AlmaLinux", DistributionFamily::AlmaLinux),
    ("Amazon Linux", DistributionFamily::Amazon),
    ("Amazon.com", DistributionFamily::Amazon),
    ("CentOS", DistributionFamily::RedHat),
    ("CloudLinux", DistributionFamily::AlmaLinux),
    ("Fedora Project", DistributionFamily::Fedora),
    ("Microsoft Corporation", DistributionFamily::Microsoft),
    ("Oracle America", DistributionFamily::Oracle),
    ("Red Hat", DistributionFamily::RedHat),
    ("Rocky", DistributionFamily::Rocky),
    ("SUSE", DistributionFamily::Suse),
    ("VMware", DistributionFamily::VMware),
    ("openSUSE", DistributionFamily::Suse),
];

impl DistributionFamily {
    /// The builder of the distribution with this `ID`; `None` if it does not use RPM, or has no advisories.
    fn of(id: &str) -> Option<Self> {
        Some(match id {
            "almalinux" => Self::AlmaLinux,
            "amzn" => Self::Amazon,
            "azurelinux" | "mariner" => Self::Microsoft,
            "centos" | "rhel" => Self::RedHat,
            "ol" => Self::Oracle,
            "photon" => Self::VMware,
            "rocky" => Self::Rocky,
            "opensuse"
            | "opensuse-leap"
            | "opensuse-tumbleweed"
            | "sl-micro"
            | "sle-micro"
            | "sle-micro-rancher"
            | "sles" => Self::Suse,
            _ => return None,
        })
    }
}

/// Parts of the maintainers' names of well-known repositories other than those of Debian and Ubuntu. Packages of dpkg
/// have no vendor.
const DEB_MAINTAINERS: &[&str] = &[
    "@cloudflare.com",
    "@datadoghq.com",
    "@hashicorp.com",
    "@konghq.com",
    "@microsoft.com",
    "@mongodb.com",
    "@nodesource.com",
    "@nvidia.com",
    "@openrobotics.org",
    "@osrfoundation.org",
    "Google Cloud CLI Authors",
    "contact@grafana.com",
    "dev@couchdb.apache.org",
    "developers@lists.mariadb.org",
    "info@elastic.co",
    "info@tailscale.com",
    "nginx-packaging@f5.com",
    "sapmachine@sap.com",
    "support@docker.com",
    "support@gitlab.com",
    "support@influxdb.com",
];

/// The ends of addresses of maintainers of Debian and Ubuntu.
const DEB_ADDRESSES: &[&str] = &["debian.org", "debian.net", "ubuntu.com", "canonical.com"];

/// Who built a package, as far as what is known about it shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BuiltBy {
    Distribution,
    /// Perhaps the distribution. Many people maintain Debian packages under their own addresses, and unlisted vendors
    /// also build packages. Theirs often have versions without a Debian revision, which Debian itself uses only for its
    /// own programs.
    Unclear,
    ThirdParty,
}

impl InstalledPackage {
    /// Whether the package was not built by a distribution. A distribution's advisories do not cover such packages, and
    /// the packages of programming languages that they contain are judged by themselves. Packages of another
    /// distribution are compared with the advisories of the image's own, as Trivy does.
    pub fn is_third_party(&self) -> bool {
        self.built_by() == BuiltBy::ThirdParty
    }

    /// Whether the builder of this distribution built the package, as far as its vendor or maintainer says.
    pub fn is_built_for(&self, distribution: &LinuxDistribution) -> bool {
        match (DistributionFamily::of(&distribution.id), self.rpm_family()) {
            (Some(own), Some(family)) => own == family,
            _ => !self.is_third_party(),
        }
    }

    /// The distributions that the vendor of an RPM builds; `None` if it builds none. Amazon's own packages may have no
    /// vendor.
    pub(super) fn rpm_family(&self) -> Option<DistributionFamily> {
        let vendor = self.vendor.as_deref().filter(|vendor| !vendor.is_empty());
        let is_rpm = self.ecosystem == Ecosystem::Rpm;
        let Some(vendor) = vendor else {
            return (is_rpm && self.version.contains("amzn")).then_some(DistributionFamily::Amazon);
        };
        let known = RPM_VENDORS.iter().filter(|_| is_rpm).find(|(known, _)| vendor.starts_with(known));
        known.map(|(_, family)| *family)
    }

    /// Who built the package. For RPM, this only tells whether the builder is a distribution, not whether it is the
    /// image's own distribution.
    pub(super) fn built_by(&self) -> BuiltBy {
        match (self.ecosystem, self.vendor.as_deref()) {
            (Ecosystem::Rpm, _) if self.rpm_family().is_none() => BuiltBy::ThirdParty,
            (Ecosystem::Deb, Some(maintainer)) if is_deb_vendor(maintainer) => BuiltBy::ThirdParty,
            (Ecosystem::Deb, Some(maintainer)) if !self.version.contains('-') && !is_of_debian(maintainer) => {
                BuiltBy::Unclear
            }
            _ => BuiltBy::Distribution,
        }
    }
}

fn is_deb_vendor(maintainer: &str) -> bool {
    matches!(maintainer, "GitHub" | "HashiCorp") || DEB_MAINTAINERS.iter().any(|known| maintainer.contains(known))
}

fn is_of_debian(maintainer: &str) -> bool {
    let address = maintainer.trim_end_matches('>');
    DEB_ADDRESSES.iter().any(|known| address.ends_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendors_of_the_same_distribution_are_one_family() {
        let package = |vendor: &str| {
            let package = InstalledPackage::new(Ecosystem::Rpm, "x".into(), "1-1.amzn2".into());
            InstalledPackage { vendor: Some(vendor.to_owned()), ..package }
        };
        for (one, other, is_same) in [
            ("Red Hat, Inc.", "CentOS", true),
            ("AlmaLinux", "CloudLinux", true),
            ("SUSE LLC <https://www.suse.com/>", "openSUSE", true),
            ("Amazon Linux", "Amazon.com", true),
            ("Amazon.com", "", true),
            ("Rocky Enterprise Software Foundation", "Fedora Project", false),
            ("Rocky Enterprise Software Foundation", "Microsoft Corporation", false),
            ("Oracle America", "Red Hat, Inc.", false),
            ("VMware, Inc.", "Fedora Project", false),
            ("Red Hat, Inc.", "", false),
        ] {
            let families = [one, other].map(|vendor| package(vendor).rpm_family().expect("a vendor of a distribution"));
            assert_eq!(families[0] == families[1], is_same, "{one} {other}");
            let are_compared = !package(one).is_third_party() && !package(other).is_third_party();
            assert!(are_compared, "with the advisories of every distribution: {one} {other}");
        }
    }

    #[test]
    fn packages_of_the_distribution_are_told_from_others() {
        use BuiltBy::{Distribution, ThirdParty, Unclear};
        for (ecosystem, vendor, version, built_by) in [
            (Ecosystem::Rpm, Some("Red Hat, Inc."), "1-1.el9", Distribution),
            (Ecosystem::Rpm, Some("Fedora Project"), "1-1.fc40", Distribution),
            (Ecosystem::Rpm, Some("Datadog, Inc. <package@datadoghq.com>"), "1-1", ThirdParty),
            (Ecosystem::Rpm, Some("Somebody"), "1-1.amzn2", ThirdParty),
            (Ecosystem::Rpm, None, "1-1.el9", ThirdParty),
            (Ecosystem::Rpm, None, "1-1.amzn2", Distribution),
            (Ecosystem::Deb, Some("Debian Python Team <x@lists.debian.org>"), "1", Distribution),
            (Ecosystem::Deb, Some("Anibal Monsalve Salazar <anibal@debian.org>"), "0.0.17", Distribution),
            (Ecosystem::Deb, Some("APT Development Team <deity@lists.debian.org>"), "2.6.1", Distribution),
            (Ecosystem::Deb, Some("Ubuntu Developers <ubuntu-devel-discuss@lists.ubuntu.com>"), "2.7", Distribution),
            (Ecosystem::Deb, Some("Somebody <me@example.org>"), "1.0-1", Distribution),
            (Ecosystem::Deb, Some("Kohsuke Kawaguchi <kk@kohsuke.org>"), "2.426.1", Unclear),
            (Ecosystem::Deb, Some("Docker <support@docker.com>"), "1", ThirdParty),
            (Ecosystem::Deb, Some("Docker <support@docker.com>"), "1-1", ThirdParty),
            (Ecosystem::Deb, Some("GitHub"), "1", ThirdParty),
            (Ecosystem::Deb, None, "1", Distribution),
            (Ecosystem::Apk, None, "1", Distribution),
        ] {
            let vendor = vendor.map(str::to_owned);
            let package = InstalledPackage { vendor, ..InstalledPackage::new(ecosystem, "x".into(), version.into()) };
            assert_eq!(package.built_by(), built_by, "{package:?}");
        }
    }
}
