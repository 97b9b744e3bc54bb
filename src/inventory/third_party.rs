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

impl InstalledPackage {
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
