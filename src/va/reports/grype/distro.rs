//! The system that Grype found, and whether it knows the system's issues.

use jiff::Timestamp;
use serde::Deserialize;

use crate::va::end_of_support::end_of_support;
use crate::va::reports::details::Lenient;
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
/// The same, from a version of Grype on: its earlier databases leave them out.
const KNOWN_SINCE: [(&str, (u32, u32)); 2] = [("fedora", (0, 109)), ("photon", (0, 109))];
/// The systems without versions.
const ROLLING: [&str; 7] = ["arch", "archlinux", "chainguard", "echo", "minimos", "secureos", "wolfi"];

#[derive(Deserialize)]
pub(super) struct Distro {
    #[serde(default, deserialize_with = "text_or_nothing")]
    name: Option<String>,
    #[serde(default, deserialize_with = "text_or_nothing")]
    version: Option<String>,
    /// The other sources of fixes that Grype used: `esm`, `eus`.
    #[serde(default)]
    channels: Lenient<Vec<Lenient<String>>>,
}

impl Distro {
    /// `program` is the version of Grype.
    pub(super) fn is_recognised(&self, program: Option<&str>) -> bool {
        self.name().is_some() && self.unknown(program).is_none()
    }

    /// Why the packages of the system were not assessed, if the system has a name.
    pub(super) fn unknown(&self, program: Option<&str>) -> Option<String> {
        let name = self.name()?;
        let version = some(self.version.clone()).filter(|version| !version.trim().eq_ignore_ascii_case("unknown"));
        let since = KNOWN_SINCE.iter().find(|(known, _)| *known == name).map(|(_, since)| *since);
        let not_assessed = format!("the packages of {name} were not assessed");
        match since {
            _ if ROLLING.contains(&&*name) => None,
            Some((major, minor)) if program.and_then(major_and_minor) < Some((major, minor)) => {
                Some(format!("{not_assessed}: the scanner knows no issues of it before Grype {major}.{minor}"))
            }
            None if !KNOWN.contains(&&*name) => Some(format!("{not_assessed}: the scanner knows no issues of it")),
            _ if version.is_none() => Some(format!("{not_assessed}: it has no version that is known")),
            _ => None,
        }
    }

    /// When the support of the release ends, if that is known.
    pub(super) fn support_ends(&self) -> Option<Timestamp> {
        let is_extended = self.channels.entries().any(|channel| channel.trim().eq_ignore_ascii_case("esm"));
        end_of_support(&self.name()?, self.version.as_deref().unwrap_or_default(), is_extended)
    }

    fn name(&self) -> Option<String> {
        some(self.name.clone()).map(|name| name.trim().to_ascii_lowercase())
    }

    pub(super) fn text(&self) -> String {
        [&self.name, &self.version].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// Why the packages of a system were not assessed by this version of Grype, by the names that it writes.
pub(in crate::va::reports) fn unknown_to_grype(name: &str, version: &str, program: Option<&str>) -> Option<String> {
    let (name, version) = (Some(name.to_owned()), Some(version.to_owned()));
    Distro { name, version, channels: Lenient::default() }.unknown(program)
}

/// `(0, 109)` of `0.109.0`, or of `v0.109.0-rc1`.
pub(in crate::va::reports) fn major_and_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim().trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
