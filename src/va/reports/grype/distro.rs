//! The system that Grype found, and whether it knows the system's issues.

use serde::Deserialize;

use crate::va::reports::document::{some, text_or_nothing};

/// Systems for whose packages Grype's database has issues, by the names of `grype/distro` and of `os-release`,
/// including systems that use another system's data (anchore/grype, `grype/db/v6/data.go`). Packages of other systems
/// are never matched.
const KNOWN: [&str; 27] = [
    "alma",
    "almalinux",
    "alpine",
    "amazon",
    "amazonlinux",
    "amzn",
    "azurelinux",
    "centos",
    "cleanstart",
    "clnstrt",
    "debian",
    "hummingbird",
    "mariner",
    "ol",
    "oracle",
    "oraclelinux",
    "postmarketos",
    "raspbian",
    "redhat",
    "rhel",
    "rocky",
    "rockylinux",
    "scientific",
    "scientific linux",
    "sl",
    "sles",
    "ubuntu",
];
/// The systems without versions.
const ROLLING: [&str; 7] = ["arch", "archlinux", "chainguard", "echo", "minimos", "secureos", "wolfi"];

#[derive(Deserialize)]
pub(super) struct Distro {
    #[serde(default, deserialize_with = "text_or_nothing")]
    name: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    version: Option<String>,
}

impl Distro {
    pub(super) fn is_recognised(&self) -> bool {
        self.name().is_some() && self.unknown().is_none()
    }

    /// Why the packages of the system were not assessed, if the system has a name.
    pub(super) fn unknown(&self) -> Option<String> {
        let name = self.name()?;
        let version = some(self.version.clone()).filter(|version| !version.trim().eq_ignore_ascii_case("unknown"));
        if ROLLING.contains(&&*name) {
            None
        } else if !KNOWN.contains(&&*name) {
            Some(format!("the packages of {name} were not assessed: the scanner knows no issues of it"))
        } else if version.is_none() {
            Some(format!("the packages of {name} were not assessed: it has no version that is known"))
        } else {
            None
        }
    }

    fn name(&self) -> Option<String> {
        some(self.name.clone()).map(|name| name.trim().to_ascii_lowercase())
    }

    pub(super) fn text(&self) -> String {
        [&self.name, &self.version].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}
