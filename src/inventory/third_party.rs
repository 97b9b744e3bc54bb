//! Whether a package comes from the distribution or from somebody else. The rules are those of Trivy.

use super::{Ecosystem, InstalledPackage};

/// The beginnings of the vendors' names of distributions with RPM.
const RPM_VENDORS: &[&str] = &[
    "AlmaLinux",
    "Amazon Linux",
    "Amazon.com",
    "CentOS",
    "CloudLinux",
    "Fedora Project",
    "Microsoft Corporation",
    "Oracle America",
    "Red Hat",
    "Rocky",
    "SUSE",
    "VMware",
    "openSUSE",
];

/// Parts of the maintainers' names of well-known repositories beside those of Debian and Ubuntu. Packages of dpkg have no
/// vendor.
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

impl InstalledPackage {
    /// Whether somebody else may have built the package: what is known about it does not show that the distribution did.
    /// Many people maintain packages of Debian under addresses of their own, and vendors that nobody has listed build
    /// packages, too. Theirs often have versions without a revision of Debian, which Debian itself uses for its own
    /// programs alone.
    pub(super) fn may_be_third_party(&self) -> bool {
        let is_of_debian = |maintainer: &str| {
            let address = maintainer.trim_end_matches('>');
            self.version.contains('-') || DEB_ADDRESSES.iter().any(|known| address.ends_with(known))
        };
        let maintainer = self.vendor.as_deref().filter(|_| self.ecosystem == Ecosystem::Deb);
        self.is_third_party() || maintainer.is_some_and(|maintainer| !is_of_debian(maintainer))
    }

    /// Whether the package was not built by the distribution. A distribution's advisories do not cover such packages, and
    /// the packages of programming languages that they contain are judged by themselves.
    pub fn is_third_party(&self) -> bool {
        let vendor = self.vendor.as_deref().unwrap_or_default();
        match self.ecosystem {
            // Amazon's own packages may have no vendor.
            Ecosystem::Rpm if vendor.is_empty() => !self.version.contains("amzn"),
            Ecosystem::Rpm => !RPM_VENDORS.iter().any(|known| vendor.starts_with(known)),
            Ecosystem::Deb => {
                matches!(vendor, "GitHub" | "HashiCorp") || DEB_MAINTAINERS.iter().any(|known| vendor.contains(known))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_without_a_revision_and_an_address_of_the_distribution_may_be_anybodys() {
        for (ecosystem, vendor, version, may_be_third_party) in [
            (Ecosystem::Deb, Some("Kohsuke Kawaguchi <kk@kohsuke.org>"), "2.426.1", true),
            (Ecosystem::Deb, Some("Somebody <me@example.org>"), "1.0-1", false),
            (Ecosystem::Deb, Some("Anibal Monsalve Salazar <anibal@debian.org>"), "0.0.17", false),
            (Ecosystem::Deb, Some("APT Development Team <deity@lists.debian.org>"), "2.6.1", false),
            (Ecosystem::Deb, Some("Ubuntu Developers <ubuntu-devel-discuss@lists.ubuntu.com>"), "2.7", false),
            (Ecosystem::Deb, Some("Docker <support@docker.com>"), "1-1", true),
            (Ecosystem::Apk, None, "1", false),
            (Ecosystem::Rpm, Some("Red Hat, Inc."), "1-1.el9", false),
        ] {
            let vendor = vendor.map(str::to_owned);
            let package = InstalledPackage { vendor, ..InstalledPackage::new(ecosystem, "x".into(), version.into()) };
            assert_eq!(package.may_be_third_party(), may_be_third_party, "{package:?}");
        }
    }

    #[test]
    fn packages_of_the_distribution_are_told_from_others() {
        for (ecosystem, vendor, version, is_third_party) in [
            (Ecosystem::Rpm, Some("Red Hat, Inc."), "1-1.el9", false),
            (Ecosystem::Rpm, Some("Fedora Project"), "1-1.fc40", false),
            (Ecosystem::Rpm, Some("Datadog, Inc. <package@datadoghq.com>"), "1-1", true),
            (Ecosystem::Rpm, None, "1-1.el9", true),
            (Ecosystem::Rpm, None, "1-1.amzn2", false),
            (Ecosystem::Deb, Some("Debian Python Team <x@lists.debian.org>"), "1", false),
            (Ecosystem::Deb, Some("Docker <support@docker.com>"), "1", true),
            (Ecosystem::Deb, Some("GitHub"), "1", true),
            (Ecosystem::Deb, None, "1", false),
            (Ecosystem::Apk, None, "1", false),
        ] {
            let vendor = vendor.map(str::to_owned);
            let package = InstalledPackage { vendor, ..InstalledPackage::new(ecosystem, "x".into(), version.into()) };
            assert_eq!(package.is_third_party(), is_third_party, "{package:?}");
        }
    }
}
