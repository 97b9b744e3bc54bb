//! Package URLs of installed packages (github.com/package-url/purl-spec), in the form that Trivy writes.

use packageurl::PackageUrl;

use super::{Ecosystem, InstalledPackage, LinuxDistribution};

/// The parts of a package URL, as the package states them.
#[derive(Clone, Copy, Debug)]
pub struct PurlParts<'a> {
    /// The type.
    pub kind: &'static str,
    /// The namespace, which is not empty.
    pub namespace: Option<&'a str>,
    /// The name.
    pub name: &'a str,
    /// The version; empty if there is none.
    pub version: &'a str,
    /// The qualifiers, in the order of their keys. Those that do not apply are empty.
    pub qualifiers: [(&'static str, &'a str); 4],
}

impl InstalledPackage {
    /// The package URL: `pkg:deb/debian/libssl3@3.0.11-1~deb12u2?arch=amd64&distro=debian-12`,
    /// `pkg:npm/%40babel/core@7.24.0`, `pkg:maven/org.apache.commons/commons-text@1.9`. `distribution` is that of the
    /// image. `None` for a Go module in a local directory, whose name has no meaning elsewhere.
    pub fn purl(&self, distribution: Option<&LinuxDistribution>) -> Option<String> {
        self.package_url(distribution).map(|purl| purl.to_string())
    }

    /// The same in its parts. They are as the package states them; a parser may refuse or change them.
    pub fn package_url(&self, distribution: Option<&LinuxDistribution>) -> Option<PackageUrl<'static>> {
        self.with_purl_parts(distribution, |parts| {
            let mut purl = PackageUrl::new(parts.kind, parts.name.to_owned()).ok()?;
            if let Some(namespace) = parts.namespace {
                purl.with_namespace(namespace.to_owned()).ok()?;
            }
            if !parts.version.is_empty() {
                purl.with_version(parts.version.to_owned()).ok()?;
            }
            for (key, value) in parts.qualifiers.into_iter().filter(|(_, value)| !value.is_empty()) {
                purl.add_qualifier(key, value.to_owned()).ok()?;
            }
            Some(purl)
        })
    }

    /// Calls `make` with the parts of the package URL.
    pub fn with_purl_parts<T>(
        &self,
        distribution: Option<&LinuxDistribution>,
        make: impl FnOnce(PurlParts<'_>) -> Option<T>,
    ) -> Option<T> {
        let (epoch, version) = self.epoch_and_version();
        let family = distribution.map(LinuxDistribution::family);
        let lower = self.name.to_lowercase();
        let (kind, namespace, name) = match self.ecosystem {
            Ecosystem::Apk => ("apk", family, lower.as_str()),
            Ecosystem::Bitnami => ("bitnami", None, self.name.as_str()),
            Ecosystem::Cargo => ("cargo", None, self.name.as_str()),
            Ecosystem::Composer => split("composer", &self.name, '/'),
            Ecosystem::Deb => ("deb", family, self.name.as_str()),
            Ecosystem::Gem => ("gem", None, self.name.as_str()),
            Ecosystem::Go if self.name.starts_with("./") || self.name.starts_with("../") => return None,
            Ecosystem::Go => split("golang", &lower, '/'),
            Ecosystem::Maven => split("maven", &self.name, ':'),
            Ecosystem::Npm => split("npm", &lower, '/'),
            Ecosystem::NuGet => ("nuget", None, self.name.as_str()),
            Ecosystem::PyPi => ("pypi", None, lower.as_str()),
            Ecosystem::Rpm => ("rpm", distribution.map(LinuxDistribution::vendor), self.name.as_str()),
        };
        let distro = distribution.filter(|_| self.ecosystem.is_of_distribution()).map(|distribution| {
            let version = distribution.full_version();
            // Trivy writes the version alone for Alpine, and nothing in place of a missing version.
            let name = if self.ecosystem == Ecosystem::Apk { "" } else { distribution.family() };
            [name, version].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
        });
        make(PurlParts {
            kind,
            namespace: namespace.filter(|namespace| !namespace.is_empty()),
            name,
            version,
            qualifiers: [
                ("arch", self.architecture.as_str()),
                ("distro", distro.as_deref().unwrap_or_default()),
                ("epoch", epoch),
                ("modularitylabel", self.module.as_deref().unwrap_or_default()),
            ],
        })
    }

    /// The epoch, empty if it is 0, and the version without it. Only Debian and RPM have epochs.
    fn epoch_and_version(&self) -> (&str, &str) {
        if matches!(self.ecosystem, Ecosystem::Deb | Ecosystem::Rpm) {
            split_epoch(&self.version)
        } else {
            ("", &self.version)
        }
    }
}

/// The epoch, empty if it is 0, and the rest of a version: `1` and `3.0.11-1` for `1:3.0.11-1`.
pub(super) fn split_epoch(version: &str) -> (&str, &str) {
    match version.split_once(':') {
        Some(("0", rest)) => ("", rest),
        Some((epoch, rest)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) => (epoch, rest),
        _ => ("", version),
    }
}

/// The type, and the namespace and name on the two sides of the last separator.
fn split<'a>(kind: &'static str, name: &'a str, separator: char) -> (&'static str, Option<&'a str>, &'a str) {
    match name.rsplit_once(separator) {
        Some((namespace, name)) => (kind, Some(namespace), name),
        None => (kind, None, name),
    }
}

impl Ecosystem {
    /// The kind that a type of package URLs, in lower case, names. `None` for distributions and everything without
    /// advisories.
    pub fn of_purl_type(kind: &str) -> Option<Self> {
        Some(match kind {
            "bitnami" => Self::Bitnami,
            "cargo" => Self::Cargo,
            "composer" => Self::Composer,
            "gem" => Self::Gem,
            "golang" => Self::Go,
            "maven" => Self::Maven,
            "npm" => Self::Npm,
            "nuget" => Self::NuGet,
            "pypi" => Self::PyPi,
            _ => return None,
        })
    }

    /// Whether packages of this kind belong to the distribution. Types of package URLs: `is_of_distribution` in
    /// `policy/vulnerability/purl.rs`.
    pub fn is_of_distribution(self) -> bool {
        match self {
            Self::Apk | Self::Deb | Self::Rpm => true,
            Self::Bitnami
            | Self::Cargo
            | Self::Composer
            | Self::Gem
            | Self::Go
            | Self::Maven
            | Self::Npm
            | Self::NuGet
            | Self::PyPi => false,
        }
    }
}

impl LinuxDistribution {
    /// The name that Trivy uses for the distribution (`Metadata.OS.Family`): `redhat` for `rhel`, `alma` for
    /// `almalinux`.
    pub fn family(&self) -> &str {
        match self.id.as_str() {
            "almalinux" => "alma",
            "amzn" => "amazon",
            "mariner" => "cbl-mariner",
            "ol" => "oracle",
            "rhel" => "redhat",
            "sl-micro" | "sle-micro" | "sle-micro-rancher" | "suse-microos" => "slem",
            id => id,
        }
    }

    /// The version that Trivy states: for Debian the point release, if it is known.
    pub fn full_version(&self) -> &str {
        self.point_release.as_deref().unwrap_or(&self.version)
    }

    /// The namespace of its packages in package URLs: the family, but one for each of SUSE's.
    fn vendor(&self) -> &str {
        match self.family() {
            "opensuse-leap" | "opensuse-tumbleweed" => "opensuse",
            "sles" | "slem" => "suse",
            family => family,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(id: &str, version: &str) -> LinuxDistribution {
        LinuxDistribution { id: id.to_owned(), version: version.to_owned(), ..LinuxDistribution::default() }
    }

    fn package(ecosystem: Ecosystem, name: &str, version: &str, architecture: &str) -> InstalledPackage {
        let package = InstalledPackage::new(ecosystem, name.to_owned(), version.to_owned());
        InstalledPackage { architecture: architecture.to_owned(), ..package }
    }

    /// Ecosystem, name, version, architecture, distribution, its version, and the package URL. Those of distributions
    /// are from Trivy's test results.
    type Case = (Ecosystem, &'static str, &'static str, &'static str, &'static str, &'static str, &'static str);
    const CASES: &[Case] = &[
        (
            Ecosystem::Deb,
            "libstdc++6",
            "8.3.0-6",
            "amd64",
            "debian",
            "10.2",
            "pkg:deb/debian/libstdc%2B%2B6@8.3.0-6?arch=amd64&distro=debian-10.2",
        ),
        (
            Ecosystem::Deb,
            "libgmp10",
            "2:6.1.2+dfsg-4",
            "amd64",
            "debian",
            "10.2",
            "pkg:deb/debian/libgmp10@6.1.2%2Bdfsg-4?arch=amd64&distro=debian-10.2&epoch=2",
        ),
        (
            Ecosystem::Deb,
            "openssl",
            "3.0.11-1~deb12u2",
            "amd64",
            "debian",
            "12",
            "pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64&distro=debian-12",
        ),
        (Ecosystem::Deb, "apt", "2.9", "amd64", "debian", "", "pkg:deb/debian/apt@2.9?arch=amd64&distro=debian"),
        (
            Ecosystem::Apk,
            "musl-utils",
            "1.1.20-r4",
            "x86_64",
            "alpine",
            "3.9.4",
            "pkg:apk/alpine/musl-utils@1.1.20-r4?arch=x86_64&distro=3.9.4",
        ),
        (
            Ecosystem::Rpm,
            "openssl-libs",
            "1:1.1.1k-4.el8",
            "x86_64",
            "almalinux",
            "8.5",
            "pkg:rpm/alma/openssl-libs@1.1.1k-4.el8?arch=x86_64&distro=alma-8.5&epoch=1",
        ),
        (
            Ecosystem::Rpm,
            "bash",
            "0:4.2.46-33.el7",
            "x86_64",
            "rhel",
            "7.7",
            "pkg:rpm/redhat/bash@4.2.46-33.el7?arch=x86_64&distro=redhat-7.7",
        ),
        (
            Ecosystem::Rpm,
            "curl",
            "7.61.1-8.el8",
            "x86_64",
            "ol",
            "8.0",
            "pkg:rpm/oracle/curl@7.61.1-8.el8?arch=x86_64&distro=oracle-8.0",
        ),
        (
            Ecosystem::Rpm,
            "libopenssl3",
            "3.1.4-9.1",
            "x86_64",
            "opensuse-tumbleweed",
            "20240607",
            "pkg:rpm/opensuse/libopenssl3@3.1.4-9.1?arch=x86_64&distro=opensuse-tumbleweed-20240607",
        ),
        (
            Ecosystem::Rpm,
            "vim",
            "8.2.4081-1.cm1",
            "x86_64",
            "mariner",
            "1.0",
            "pkg:rpm/cbl-mariner/vim@8.2.4081-1.cm1?arch=x86_64&distro=cbl-mariner-1.0",
        ),
        (
            Ecosystem::Go,
            "github.com/Docker/distribution",
            "v2.7.1+incompatible",
            "",
            "debian",
            "12",
            "pkg:golang/github.com/docker/distribution@v2.7.1%2Bincompatible",
        ),
        (Ecosystem::Go, "stdlib", "v1.22.1", "", "debian", "12", "pkg:golang/stdlib@v1.22.1"),
        (Ecosystem::Go, "a.com/a", "", "", "debian", "12", "pkg:golang/a.com/a"),
        (
            Ecosystem::Maven,
            "org.springframework:spring-beans",
            "5.3.15",
            "",
            "debian",
            "12",
            "pkg:maven/org.springframework/spring-beans@5.3.15",
        ),
        (Ecosystem::Maven, "spring-beans", "5.3.15", "", "debian", "12", "pkg:maven/spring-beans@5.3.15"),
        (Ecosystem::Npm, "@babel/Core", "7.24.0", "", "debian", "12", "pkg:npm/%40babel/core@7.24.0"),
        (Ecosystem::PyPi, "Foo_Bar.x", "1.0", "", "debian", "12", "pkg:pypi/foo-bar.x@1.0"),
        (
            Ecosystem::Composer,
            "symfony/http-kernel",
            "v5.4.1",
            "",
            "debian",
            "12",
            "pkg:composer/symfony/http-kernel@v5.4.1",
        ),
        (Ecosystem::Bitnami, "redis", "7.2.4-0", "", "debian", "12", "pkg:bitnami/redis@7.2.4-0"),
        (Ecosystem::NuGet, "Newtonsoft.Json", "9.0.1", "", "debian", "12", "pkg:nuget/Newtonsoft.Json@9.0.1"),
        (Ecosystem::Gem, "rake", "13.0.6", "", "debian", "12", "pkg:gem/rake@13.0.6"),
        (Ecosystem::Cargo, "serde_json", "1.0.0", "", "debian", "12", "pkg:cargo/serde_json@1.0.0"),
    ];

    #[test]
    fn distributions_have_the_families_of_trivy() {
        for (id, family, vendor) in [
            ("almalinux", "alma", "alma"),
            ("debian", "debian", "debian"),
            ("sl-micro", "slem", "suse"),
            ("sle-micro", "slem", "suse"),
            ("sle-micro-rancher", "slem", "suse"),
            ("sles", "sles", "suse"),
        ] {
            let known = distribution(id, "1");
            assert_eq!((known.family(), known.vendor()), (family, vendor), "{id}");
        }
    }

    #[test]
    fn package_urls_have_the_form_that_trivy_writes() {
        for (ecosystem, name, version, architecture, id, release, expected) in CASES {
            let package = package(*ecosystem, name, version, architecture);
            assert_eq!(package.purl(Some(&distribution(id, release))).as_deref(), Some(*expected));
            let kind = expected.strip_prefix("pkg:").and_then(|rest| rest.split('/').next()).unwrap();
            let of_language = Some(*ecosystem).filter(|ecosystem| !ecosystem.is_of_distribution());
            assert_eq!(Ecosystem::of_purl_type(kind), of_language, "{kind}");
        }
    }

    #[test]
    fn module_streams_local_modules_and_images_without_a_distribution() {
        let mut nodejs = package(Ecosystem::Rpm, "nodejs", "1:18.1-1", "x86_64");
        nodejs.module = Some("nodejs:18:806:ad00".to_owned());
        let purl = nodejs.purl(Some(&distribution("rocky", "8.6")));
        let expected =
            "pkg:rpm/rocky/nodejs@18.1-1?arch=x86_64&distro=rocky-8.6&epoch=1&modularitylabel=nodejs:18:806:ad00";
        assert_eq!(purl.as_deref(), Some(expected));
        assert_eq!(package(Ecosystem::Go, "./local", "", "").purl(None), None);
        let bookworm = LinuxDistribution { point_release: Some("12.5".to_owned()), ..distribution("debian", "12") };
        let purl = package(Ecosystem::Deb, "apt", "1", "amd64").purl(Some(&bookworm));
        assert_eq!(purl.as_deref(), Some("pkg:deb/debian/apt@1?arch=amd64&distro=debian-12.5"));
        let purl = package(Ecosystem::Deb, "apt", "1", "amd64").purl(None);
        assert_eq!(purl.as_deref(), Some("pkg:deb/apt@1?arch=amd64"));
    }
}
