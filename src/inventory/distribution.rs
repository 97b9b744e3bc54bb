//! Which distribution an image contains, from its release files. Trivy's rules, applied to the files of the merged
//! image.

use std::collections::BTreeMap;

use super::LinuxDistribution;
use super::text::lines;

/// The text of a release file, by its path in the image.
type ReleaseText<'a> = &'a dyn Fn(&str) -> Option<&'a str>;

/// The values of `ID` that advisories exist for, or that Trivy recognises by os-release.
const KNOWN: &[&str] = &[
    "activestate",
    "almalinux",
    "alpine",
    "amzn",
    "azurelinux",
    "bottlerocket",
    "centos",
    "chainguard",
    "coreos",
    "debian",
    "echo",
    "fedora",
    "mariner",
    "minimos",
    "ol",
    "opensuse",
    "opensuse-leap",
    "opensuse-tumbleweed",
    "photon",
    "rhel",
    "rocky",
    "sl-micro",
    "sle-micro",
    "sle-micro-rancher",
    "sles",
    "ubuntu",
    "wolfi",
];

/// Determines the distribution. os-release decides if it names a distribution that advisories exist for; otherwise the
/// release files of the families determine which one it derives from, if any.
pub(super) fn distribution(text: ReleaseText<'_>, extended_support: bool) -> Option<LinuxDistribution> {
    let stated = ["etc/os-release", "usr/lib/os-release"].iter().find_map(|path| text(path).and_then(os_release));
    let by_files = by_release_files(text);
    let mut found = match (stated, by_files) {
        (Some(stated), _) if KNOWN.contains(&&*stated.id) || stated.id == "centos-stream" => stated,
        (Some(stated), Some(by_files)) => {
            LinuxDistribution { pretty_name: stated.pretty_name, derivative: Some(stated.id), ..by_files }
        }
        (stated, by_files) => stated.or(by_files)?,
    };
    found.repository = text("etc/apk/repositories").and_then(apk_repository).filter(|_| found.id == "alpine");
    found.extended_support = extended_support && found.id == "ubuntu";
    let point_release = text("etc/debian_version").map(str::trim).filter(|_| found.id == "debian");
    found.point_release = point_release.filter(|point| is_point_release(point, &found.version)).map(str::to_owned);
    Some(found)
}

/// Parses os-release(5): assignments with the quoting of a shell.
fn os_release(text: &str) -> Option<LinuxDistribution> {
    let mut fields = BTreeMap::new();
    for line in lines(text.as_bytes()) {
        if let Some((key, value)) = line.split_once('=') {
            fields.insert(key.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned());
        }
    }
    let mut field = |key: &str| fields.remove(key).unwrap_or_default();
    let mut id = field("ID").to_ascii_lowercase();
    if id.is_empty() {
        return None;
    }
    if id == "centos" && field("NAME") == "CentOS Stream" {
        id = "centos-stream".to_owned();
    }
    let (mut version, mut derivative) = (field("VERSION_ID"), None);
    if id == "rhcos" || id == "rhel" && field("VARIANT_ID") == "coreos" {
        // Red Hat Enterprise Linux CoreOS counts versions of OpenShift, and has packages of it.
        let release = field("RHEL_VERSION");
        "rhcos".clone_into(&mut id);
        if !release.is_empty() {
            (version, derivative) = (release, Some(std::mem::replace(&mut id, "rhel".to_owned())));
        }
    }
    Some(LinuxDistribution {
        id,
        like: field("ID_LIKE").split_whitespace().map(str::to_ascii_lowercase).collect(),
        version,
        derivative,
        codename: field("VERSION_CODENAME"),
        pretty_name: field("PRETTY_NAME"),
        ..LinuxDistribution::default()
    })
}

/// The distribution that the first of these files names. Those of derivatives come before those of the originals, whose
/// files they keep.
fn by_release_files(text: ReleaseText<'_>) -> Option<LinuxDistribution> {
    let named = |id: &str, version: &str| LinuxDistribution {
        id: id.to_owned(),
        version: version.trim().to_owned(),
        pretty_name: format!("{id} {}", version.trim()),
        ..LinuxDistribution::default()
    };
    let first_line = |path| text(path).and_then(|text| text.lines().next()).filter(|line| !line.trim().is_empty());
    if let Some(version) = text("etc/lsb-release").and_then(ubuntu_release) {
        return Some(named("ubuntu", version));
    }
    if let Some(version) =
        ["etc/system-release", "usr/lib/system-release"].iter().find_map(|path| amazon_release(text(path)?))
    {
        return Some(named("amzn", version));
    }
    for path in [
        "etc/oracle-release",
        "etc/almalinux-release",
        "etc/rocky-release",
        "etc/centos-release",
        "etc/fedora-release",
        "usr/lib/fedora-release",
        "etc/redhat-release",
    ] {
        let release = first_line(path).and_then(red_hat_release);
        if let Some((name, version)) = release.filter(|(name, _)| !name.ends_with("CoreOS")) {
            let id = if path == "etc/oracle-release" { "ol" } else { red_hat_id(name) };
            return Some(named(id, version));
        }
    }
    if let Some(version) = first_line("etc/alpine-release") {
        return Some(named("alpine", version));
    }
    // `12.5`, or `trixie/sid` before the release.
    let version = first_line("etc/debian_version")?.trim();
    Some(match version.split_once('/') {
        Some((codename, _)) => LinuxDistribution { codename: codename.to_owned(), ..named("debian", "") },
        None => named("debian", version),
    })
}

/// Whether this is a point release of a release: `12.5` of `12`.
fn is_point_release(point: &str, release: &str) -> bool {
    let rest = point.strip_prefix(release).and_then(|rest| rest.strip_prefix('.'));
    rest.is_some_and(|rest| !release.is_empty() && !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `DISTRIB_ID=Ubuntu`, followed by `DISTRIB_RELEASE=22.04`.
fn ubuntu_release(text: &str) -> Option<&str> {
    let mut lines = text.lines().skip_while(|line| *line != "DISTRIB_ID=Ubuntu");
    lines.find_map(|line| line.strip_prefix("DISTRIB_RELEASE="))
}

/// `Amazon Linux release 2023 (Amazon Linux)`, `Amazon Linux AMI release 2018.03`.
fn amazon_release(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("Amazon Linux"))?;
    line.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
}

/// `Rocky Linux release 9.3 (Blue Onyx)`: the name and the version.
fn red_hat_release(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.trim().rsplit_once(" release ")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
    Some((name, &rest[..end])).filter(|(_, version)| !version.is_empty())
}

fn red_hat_id(name: &str) -> &'static str {
    match &*name.to_ascii_lowercase() {
        "centos" | "centos linux" => "centos",
        "centos stream" => "centos-stream",
        "rocky" | "rocky linux" => "rocky",
        "alma" | "almalinux" | "alma linux" => "almalinux",
        "oracle" | "oracle linux" | "oracle linux server" => "ol",
        "fedora" | "fedora linux" => "fedora",
        _ => "rhel",
    }
}

/// The newest release of Alpine in `etc/apk/repositories`: `3.19`, or `edge`. `None` if they name no release, or also
/// name another distribution. apk ignores comments, and uses a repository with a tag (`@edge https://…`) only for
/// packages that are requested with the tag.
fn apk_repository(text: &str) -> Option<String> {
    let mut newest: Option<&str> = None;
    for line in text.lines().map(str::trim_start).filter(|line| !line.starts_with(['#', '@'])) {
        let Some((family, release)) = apk_url(line) else { continue };
        if family != "alpine" {
            return None;
        }
        // For example `latest-stable`, which does not name a release.
        if release != "edge" && numbers(release).is_none() {
            continue;
        }
        newest = Some(match newest {
            None => release,
            Some(known) if known == "edge" || release == "edge" => "edge",
            Some(known) => match (numbers(known), numbers(release)) {
                (Some(one), Some(other)) if other > one => release,
                _ => known,
            },
        });
    }
    newest.map(str::to_owned)
}

/// `https://dl-cdn.alpinelinux.org/alpine/v3.19/main`: `alpine` and `3.19`.
fn apk_url(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once("://")?;
    let mut parts = rest.split('/').skip(1);
    let (family, release) = (parts.next()?, parts.next()?);
    parts.next()?;
    Some((family, release.strip_prefix('v').unwrap_or(release))).filter(|(_, release)| !release.is_empty())
}

fn numbers(version: &str) -> Option<Vec<u32>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}

/// Whether `esm-infra` is enabled in `var/lib/ubuntu-advantage/status.json`.
pub(super) fn is_ubuntu_pro(content: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct ProStatus {
        #[serde(default)]
        services: Vec<ProService>,
    }
    #[derive(serde::Deserialize)]
    struct ProService {
        #[serde(default)]
        name: String,
        #[serde(default)]
        status: String,
    }
    let is_enabled = |service: &ProService| service.name == "esm-infra" && service.status == "enabled";
    serde_json::from_slice(content).is_ok_and(|status: ProStatus| status.services.iter().any(is_enabled))
}

#[cfg(test)]
mod tests;
