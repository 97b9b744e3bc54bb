//! The system that Trivy found, and whether it knows the system's issues.

use jiff::Timestamp;
use serde::Deserialize;

use crate::va::end_of_support::end_of_support;
use crate::va::reports::document::{or_default, some};

/// The system families for whose packages Trivy knows issues (aquasecurity/trivy, `pkg/detector/ospkg/detect.go`). For
/// other families, it lists the packages but looks up no issues.
const KNOWN: [&str; 22] = [
    "alma",
    "alpine",
    "amazon",
    "azurelinux",
    "bottlerocket",
    "cbl-mariner",
    "centos",
    "chainguard",
    "coreos",
    "debian",
    "echo",
    "minimos",
    "opensuse-leap",
    "opensuse-tumbleweed",
    "oracle",
    "photon",
    "redhat",
    "rocky",
    "slem",
    "sles",
    "ubuntu",
    "wolfi",
];
/// The families whose issues do not depend on a version.
const ROLLING: [&str; 5] = ["chainguard", "echo", "minimos", "opensuse-tumbleweed", "wolfi"];
/// Other names of these families (`pkg/fanal/types/const.go`).
const ALIASES: [(&str, &str); 6] = [
    ("opensuse.leap", "opensuse-leap"),
    ("opensuse.tumbleweed", "opensuse-tumbleweed"),
    ("suse linux enterprise micro", "slem"),
    ("suse linux enterprise server", "sles"),
    ("amazon linux", "amazon"),
    ("debian gnu/linux", "debian"),
];

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Os {
    family: Option<String>,
    name: Option<String>,
    #[serde(rename = "EOSL", default, deserialize_with = "or_default")]
    pub(super) eosl: bool,
    /// Ubuntu's extended support.
    #[serde(rename = "extended", default, deserialize_with = "or_default")]
    extended: bool,
}

impl Os {
    /// Whether the scanner found a system.
    pub(super) fn is_found(&self) -> bool {
        self.family().is_some()
    }

    /// Why the packages of the detected system were not assessed.
    pub(super) fn unknown(&self) -> Option<String> {
        let family = self.family()?;
        if !KNOWN.contains(&&*family) {
            return Some(format!(
                "the packages of {} were not assessed: the scanner knows no issues of it",
                self.name()
            ));
        }
        if ROLLING.contains(&&*family) {
            return None;
        }
        let version = some(self.name.clone()).filter(|name| !name.trim().eq_ignore_ascii_case("unknown"));
        match version {
            Some(version) if is_release(&family, &version) => None,
            Some(_) => Some(format!(
                "the packages of {} were not assessed: the scanner knows no issues of this release",
                self.name()
            )),
            None => Some(format!("the packages of {family} were not assessed: it has no version that is known")),
        }
    }

    /// When the support of the release ends, if that is known.
    pub(super) fn support_ends(&self) -> Option<Timestamp> {
        end_of_support(&self.family()?, self.name.as_deref().unwrap_or_default(), self.extended)
    }

    /// Whether a result of this type may be for the system. If the report does not state the system, the type
    /// identifies it.
    pub(super) fn may_be_called(&self, kind: &str) -> bool {
        let kind = canonical(kind);
        self.family().map_or(self.is_unsaid() && KNOWN.contains(&&*kind), |family| family == kind)
    }

    /// Whether the report states nothing about the system.
    pub(super) fn is_unsaid(&self) -> bool {
        self.family.is_none() && self.name.is_none()
    }

    pub(super) fn name(&self) -> String {
        [&self.family, &self.name].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn family(&self) -> Option<String> {
        let family = self.family.as_deref().map(canonical).unwrap_or_default();
        (!matches!(&*family, "" | "none" | "unknown")).then_some(family)
    }
}

/// Why the packages of a system were not assessed by Trivy, by the names that it writes.
pub(in crate::va::reports) fn unknown_to_trivy(name: &str, version: &str) -> Option<String> {
    Os { family: Some(name.to_owned()), name: Some(version.to_owned()), ..Os::default() }.unknown()
}

/// Whether Trivy may have data for a release with this name. Its data is kept by the numbers of releases, so it finds
/// nothing for Debian's unstable and testing (`forky/sid`), or for derivatives that are taken for Debian
/// (`kali-rolling`). Of Alpine's, one has no number; those of Amazon Linux 1 have it at the end.
fn is_release(family: &str, version: &str) -> bool {
    let version = version.trim().to_ascii_lowercase();
    let number = if family == "amazon" { version.strip_prefix("ami release ").unwrap_or(&version) } else { &version };
    number.starts_with(|c: char| c.is_ascii_digit()) || family == "alpine" && number == "edge"
}

fn canonical(family: &str) -> String {
    let family = family.trim().to_ascii_lowercase();
    match ALIASES.iter().find(|(alias, _)| *alias == family) {
        Some((_, name)) => (*name).to_owned(),
        None => family,
    }
}
