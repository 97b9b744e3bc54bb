//! What is installed in an image: its distribution and its packages, read from the bytes of its layers.
//!
//! An inventory depends only on verified bytes, so it is computed once and never expires. Each layer is read once, in one
//! pass ([`read_layer`]); the result, a [`LayerInventory`], is kept by the layer's digest and shared by all images that
//! contain the layer. [`merge`] applies the layers of an image in their order and yields its [`Inventory`].
//!
//! All input is untrusted. What cannot be read completely becomes a [`Gap`]: an image with gaps is never called clean.

use serde::{Deserialize, Serialize};

use crate::oci::Digest;

mod language;
mod read_seek;

pub use read_seek::ReadSeek;

/// What is installed in an image.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Inventory {
    /// The Linux distribution, if the image contains one.
    pub distribution: Option<LinuxDistribution>,
    /// All packages, ordered by ecosystem, name, version and path.
    pub packages: Vec<InstalledPackage>,
    /// What could not be read, and may hide packages.
    pub gaps: Vec<Gap>,
}

impl Inventory {
    /// Whether nothing was recognised: no distribution and no package. Such an image says nothing about itself, which is
    /// not the same as being free of vulnerabilities.
    pub fn is_opaque(&self) -> bool {
        self.distribution.is_none() && self.packages.is_empty()
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
    /// `VERSION_CODENAME`: `bookworm`. Empty if not stated.
    pub codename: String,
    /// `PRETTY_NAME`: `Debian GNU/Linux 12 (bookworm)`.
    pub pretty_name: String,
    /// The version of the package repositories, where a file states one that differs from `version` (Alpine's
    /// `etc/apk/repositories`: `3.19` or `edge`).
    pub repository: Option<String>,
}

/// The kind of a package: it decides how versions are ordered and which advisories apply.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ecosystem {
    /// Alpine, Wolfi, Chainguard.
    Apk,
    /// Rust crates compiled into an executable.
    Cargo,
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
    /// Python distributions, with the name as written in the metadata (`PyYAML`). Names are compared in their normalised
    /// form (PEP 503).
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
    /// The vendor of an RPM: `Red Hat, Inc.`. Packages of third parties are not covered by a distribution's advisories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// The declared licences, as written: SPDX expressions or free text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<String>,
    /// The path of the file that states the package, without a leading `/`. `None` for packages of the distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The layer that contains that file, by the digest of its uncompressed content (`diff_id`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Digest>,
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
    /// What is wrong: `the database is damaged: page 7 lies outside of the file`.
    pub problem: String,
}
