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

/// Parts of the maintainers' names of well-known repositories other than those of Debian and Ubuntu. Packages of dpkg have no
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

/// Who built a package, as far as what is known about it shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BuiltBy {
    Distribution,
    /// Perhaps the distribution. Many people maintain packages of Debian under addresses of their own, and vendors that nobody
    /// has listed build packages, too. Theirs often have versions without a revision of Debian, which Debian itself uses for
    /// its own programs alone.
    Unclear,
    ThirdParty,
}

impl InstalledPackage {
    /// Whether the package was not built by the distribution. A distribution's advisories do not cover such packages, and
    /// the packages of programming languages that they contain are judged by themselves.
    pub fn is_third_party(&self) -> bool {
        self.built_by() == BuiltBy::ThirdParty
    }

    /// Who built the package.
    pub(super) fn built_by(&self) -> BuiltBy {
        match (self.ecosystem, self.vendor.as_deref()) {
            // Amazon's own packages may have no vendor.
            (Ecosystem::Rpm, None | Some("")) if self.version.contains("amzn") => BuiltBy::Distribution,
            (Ecosystem::Rpm, vendor) if is_rpm_vendor(vendor.unwrap_or_default()) => BuiltBy::Distribution,
            (Ecosystem::Rpm, _) => BuiltBy::ThirdParty,
            (Ecosystem::Deb, Some(maintainer)) if is_deb_vendor(maintainer) => BuiltBy::ThirdParty,
            (Ecosystem::Deb, Some(maintainer)) if !self.version.contains('-') && !is_of_debian(maintainer) => {
                BuiltBy::Unclear
            }
            _ => BuiltBy::Distribution,
        }
    }
}

fn is_rpm_vendor(vendor: &str) -> bool {
    RPM_VENDORS.iter().any(|known| vendor.starts_with(known))
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
