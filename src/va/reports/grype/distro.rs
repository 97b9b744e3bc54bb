//! The system that Grype found, and whether it knows the issues of it.

use serde::Deserialize;

use crate::va::reports::document::{some, text_or_nothing};

/// Systems of whose packages Grype's database has the issues, by the names of `grype/distro` and of `os-release`, with
/// those that share another's (anchore/grype, `grype/db/v6/data.go`). Of others it matches no package.
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
/// Those without versions.
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

    /// Why its packages were not assessed, where it has a name.
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
