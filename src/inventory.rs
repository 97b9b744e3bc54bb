//! What is installed in an image: its distribution and its packages, read from the bytes of its layers.
//!
//! An inventory depends only on verified bytes, so it is computed once and never expires. Each layer is read once, in
//! one pass ([`read_layer`]); the result, a [`LayerInventory`], is kept by the layer's digest and shared by all images
//! that contain the layer. [`merge()`] applies the layers of an image in their order and yields its [`Inventory`].
//!
//! All input is untrusted. Anything that cannot be read completely becomes a [`Gap`]: an image with gaps is never
//! called clean.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::hardening::{HardeningFinding, Superusers};
use crate::licence;
use crate::oci::Digest;

mod apk;
mod checksum;
mod copyright;
mod distribution;
mod dpkg;
mod export;
mod language;
mod layer;
mod merge;
mod other_manager;
mod paths;
mod purl;
mod read_seek;
mod red_hat;
mod rpm;
#[cfg(test)]
mod sample;
mod settings;
mod spool;
mod symlink;
mod system_file;
mod tar;
mod tar_content;
mod tar_header;
mod tar_pax;
mod text;
mod third_party;
mod unnamed;

pub use export::cyclonedx;
pub use layer::{LayerInventory, LayerLimits, LayerReading, LayerTable, LinkedNames, read_layer, read_layer_again};
pub use merge::merge;
pub use read_seek::ReadSeek;
pub use unnamed::{ArchiveChecksum, UnnamedArchive};

/// What is installed in an image.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Inventory {
    /// The Linux distribution, if the image contains one.
    pub distribution: Option<LinuxDistribution>,
    /// All packages, ordered by ecosystem, name, version and path.
    pub packages: Vec<InstalledPackage>,
    /// SPDX expressions of the packages' licences, by the text in which packages state them, where they differ from it.
    /// See [`licence::expression`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub licences: BTreeMap<String, String>,
    /// The layers, lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<InventoryLayer>,
    /// What could not be read, and may hide packages.
    pub gaps: Vec<Gap>,
    /// Java archives that do not prove which artifact they are, in the order of their paths. Until they are named, each
    /// may hide a package. Those that are not optional are a gap, if no published archive is known to be the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unnamed: Vec<UnnamedArchive>,
    /// How Red Hat built the layers that contain its packages, by the packages' `layer`. It decides which advisories of
    /// Red Hat apply; a package of another layer is judged by the default repositories of its release.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub red_hat_builds: BTreeMap<Digest, RedHatBuild>,
    /// What is unsafe in the image's files and in its configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<HardeningFinding>,
    /// The names of the accounts with the rights of the superuser, as `etc/passwd` has them.
    #[serde(default, skip_serializing_if = "Superusers::is_empty")]
    pub superusers: Superusers,
}

/// A layer of an image.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct InventoryLayer {
    /// The digest of the layer, as the manifest names it.
    pub digest: Digest,
    /// The digest of its uncompressed content. `None` if the layer cannot be unpacked, or readers interpret it
    /// differently; then the layer of a package is `digest`.
    pub diff_id: Option<Digest>,
}

/// How Red Hat built a layer (`root/buildinfo`).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct RedHatBuild {
    /// The repositories of all its content manifests: `rhel-9-for-x86_64-baseos-rpms`. A layer that was made of several
    /// layers, such as that of a squashed image, has several manifests, and its packages may be of any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content_sets: Vec<String>,
    /// Name, version, release and architecture of the images that its Dockerfiles made:
    /// `ubi8-container-8.5-218-x86_64`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
}

impl Inventory {
    /// Whether nothing was recognised: no distribution and no package. Nothing is known about such an image, which does
    /// not mean that it is free of vulnerabilities.
    pub fn is_opaque(&self) -> bool {
        self.distribution.is_none() && self.packages.is_empty()
    }

    /// Orders the packages, and removes those that are listed twice.
    pub fn sort_packages(&mut self) {
        fn order(package: &InstalledPackage) -> (Ecosystem, &str, &str, Option<&str>, &str) {
            let InstalledPackage { ecosystem, name, version, path, architecture, .. } = package;
            (*ecosystem, name, version, path.as_deref(), architecture)
        }
        self.packages.sort_by(|one, other| order(one).cmp(&order(other)));
        self.packages.dedup_by(|one, other| order(one) == order(other));
    }
}

/// A Linux distribution (os-release(5)).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct LinuxDistribution {
    /// `ID`, in lower case: `debian`, `alpine`, `rhel`, `almalinux`, `wolfi`, `opensuse-leap`.
    pub id: String,
    /// The identifiers of distributions that it derives from, closest first (`ID_LIKE`).
    pub like: Vec<String>,
    /// `VERSION_ID`: `12`, `3.19.1`, `9.4`. Empty for a rolling release such as Debian sid, Wolfi and Arch Linux.
    pub version: String,
    /// The point release of Debian, which only `etc/debian_version` states: `12.5`. Advisories do not depend on it;
    /// Trivy names the distribution by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_release: Option<String>,
    /// `VERSION_CODENAME`: `bookworm`. Empty if not stated.
    pub codename: String,
    /// `PRETTY_NAME`: `Debian GNU/Linux 12 (bookworm)`.
    pub pretty_name: String,
    /// The version of the package repositories, where a file states one that differs from `version` (Alpine's
    /// `etc/apk/repositories`: `3.19` or `edge`).
    pub repository: Option<String>,
    /// The `ID` that os-release states, if no advisories exist for it: release files name the distribution that it
    /// derives from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derivative: Option<String>,
    /// Whether Ubuntu's extended support (Ubuntu Pro, `esm-infra`) is enabled: other fixed versions apply.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extended_support: bool,
}

/// The kind of a package: it decides how versions are ordered and which advisories apply.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ecosystem {
    /// Alpine, Wolfi, Chainguard.
    Apk,
    /// Components of Bitnami's images, such as `redis`.
    Bitnami,
    /// Rust crates compiled into an executable.
    Cargo,
    /// PHP packages that Composer has installed.
    Composer,
    /// Debian and Ubuntu.
    Deb,
    /// Ruby gems.
    Gem,
    /// Go modules compiled into an executable, and Go's standard library as `stdlib`.
    Go,
    /// Java archives, named `group:artifact`.
    Maven,
    /// Node.js packages.
    Npm,
    /// Packages of .NET programs.
    NuGet,
    /// Python distributions, with the name as written in the metadata (`PyYAML`). Names are compared in their
    /// normalised form (PEP 503).
    PyPi,
    /// Red Hat, Fedora, SUSE, Amazon, Oracle, Photon, Azure Linux.
    Rpm,
}

/// A package that is installed in an image.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct InstalledPackage {
    /// The kind of the package.
    pub ecosystem: Ecosystem,
    /// The name: `libssl3`, `@babel/core`, `golang.org/x/net`, `org.apache.commons:commons-text`.
    pub name: String,
    /// The installed version, complete as the package manager orders it: `1:3.0.11-1~deb12u2`, `1.2.3-r0`.
    pub version: String,
    /// The source package that it was built from, if that has another name or version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourcePackage>,
    /// The architecture: `amd64`, `x86_64`, `noarch`. Empty for packages of programming languages.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    /// The module stream of an RPM (`MODULARITYLABEL`): `nodejs:18:8060020220523160029:ad008a3a`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The vendor of an RPM (`Red Hat, Inc.`), or the maintainer of a package of dpkg. See [`Self::is_third_party`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// The declared licences, as written: SPDX expressions or free text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<String>,
    /// When the package was built, as its metadata states (apk `t`, RPM `BUILDTIME`). Its author controls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<Timestamp>,
    /// The path of the file that states the package, without a leading `/`. `None` for packages of the distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The layer that contains that file, by the digest of its uncompressed content (`diff_id`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Digest>,
}

impl InstalledPackage {
    /// A package of which only the name and the version are known.
    pub fn new(ecosystem: Ecosystem, name: String, version: String) -> Self {
        Self {
            ecosystem,
            name,
            version,
            source: None,
            architecture: String::new(),
            module: None,
            vendor: None,
            licenses: Vec::new(),
            built: None,
            path: None,
            layer: None,
        }
    }

    /// The licences, each as an SPDX expression if its text is clear, otherwise as written.
    pub fn spdx_licenses(&self) -> Vec<String> {
        self.licenses.iter().map(|license| licence::normalised(license)).collect()
    }

    /// The length of all texts, in bytes.
    fn text_bytes(&self) -> usize {
        let Self { name, version, source, architecture, module, vendor, licenses, path, .. } = self;
        let source = source.as_ref().map_or(0, |source| source.name.len() + source.version.len());
        let optional = [module, vendor, path].into_iter().flatten().map(String::len).sum::<usize>();
        let licenses = licenses.iter().map(String::len).sum::<usize>();
        name.len() + version.len() + source + architecture.len() + optional + licenses
    }
}

/// The source package of a binary package.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SourcePackage {
    /// The name: `openssl`.
    pub name: String,
    /// The version, complete: `3.0.11-1~deb12u2`.
    pub version: String,
}

/// Something that could not be read and may hide packages.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Gap {
    /// Where: a path in the image, or a layer's digest.
    pub place: String,
    /// What is wrong: `the database is damaged: page 7 extends beyond the file`.
    pub problem: String,
}
