//! How to resolve an issue, and where its vendor describes it.
//!
//! Names and versions come from images and from databases, and people paste commands into a shell. A command is
//! therefore shown only if all its words consist of characters without a special meaning in a shell.

mod links;
mod upgrades;

use crate::policy::{AffectedPackage, FixStatus, Issue, IssueKind, Purl};
pub use links::{notice_link, notices, other_identifiers, vendor_link};
pub use upgrades::{PackageUpgrade, upgrades};

/// How to resolve an issue, one text for each affected package or each line of a corrective action, without
/// repetitions: `Upgrade openssl to 3.0.11-1: apt-get install --only-upgrade openssl=3.0.11-1`.
pub fn remedies(issue: &Issue) -> Vec<String> {
    if issue.kind == IssueKind::Configuration {
        let action = issue.corrective_action.as_deref().unwrap_or("Change the configuration");
        return action.lines().map(str::to_owned).collect();
    }
    // A package that can be upgraded says more than one that cannot.
    let is_fixable = issue.is_fixable();
    let shown = |package: &&AffectedPackage| !is_fixable || package.fixed.is_some();
    let mut different: Vec<String> = Vec::new();
    for text in issue.packages.iter().filter(shown).map(remedy) {
        if !different.contains(&text) {
            different.push(text);
        }
    }
    if different.is_empty() {
        different.push(without_fix(None).to_owned());
    }
    different
}

/// How to resolve an issue in one package.
pub fn remedy(package: &AffectedPackage) -> String {
    let Some(fixed) = &package.fixed else { return without_fix(package.status).to_owned() };
    let words = format!("Upgrade {} to {fixed}", package.name);
    match command(package, fixed) {
        Some(Upgrade::Command(command)) => format!("{words}: {command}"),
        Some(Upgrade::Rebuild(how)) => format!("{words} and rebuild the program: {how}"),
        None => words,
    }
}

fn without_fix(status: Option<FixStatus>) -> &'static str {
    match status {
        Some(FixStatus::EndOfLife) => {
            "No fix available: the release gets no more fixes; rebuild from a supported base image"
        }
        Some(FixStatus::FixDeferred) => "No fix available: the vendor has deferred it",
        Some(FixStatus::UnderInvestigation) => "No fix available: the vendor is investigating",
        Some(FixStatus::WillNotFix) => "No fix available: the vendor will not fix it; remove or replace the package",
        _ => "No fix available",
    }
}

/// What upgrades a package.
enum Upgrade {
    /// A command in the image's Dockerfile.
    Command(String),
    /// A change of the program's sources.
    Rebuild(String),
}

/// The command for the package manager; `None` if there is none, or one of its words would be unsafe in a shell.
fn command(package: &AffectedPackage, fixed: &str) -> Option<Upgrade> {
    let purl = package.purl.as_ref();
    let kind = purl.map(Purl::kind).or(package.ecosystem.as_deref())?;
    let name = Some(package.name.as_str()).filter(|name| is_safe_name(name))?;
    let fixed = the_fix(fixed, package.installed.as_deref());
    let version = fixed.filter(|version| is_safe_version(version));
    let run = |command: String| Some(Upgrade::Command(command));
    match kind {
        // The advisory states the version of the source package, from which that of a binary package may differ.
        "deb" if package.source.is_some() => run(format!("apt-get install --only-upgrade {name}")),
        "deb" => run(format!("apt-get install --only-upgrade {name}={}", version?)),
        "apk" => run(format!("apk add '{name}>={}'", version?)),
        "rpm" => run(format!("{} {name}", rpm_tool(package))),
        "npm" => run(format!("npm install {name}@{}", version?)),
        "pypi" => run(format!("pip install {name}=={}", version?)),
        "gem" => run(format!("gem install {name} --version {}", version?)),
        "cargo" => Some(Upgrade::Rebuild(format!("cargo update {name} --precise {}", version?))),
        "composer" => Some(Upgrade::Rebuild(format!("composer require {name}:{}", version?))),
        "nuget" => Some(Upgrade::Rebuild(format!("dotnet add package {name} --version {}", version?))),
        "golang" if name == "stdlib" => Some(Upgrade::Rebuild(format!("use Go {} or later", version?))),
        "golang" => Some(Upgrade::Rebuild(format!("go get {name}@v{}", version?.trim_start_matches('v')))),
        _ => None,
    }
}

/// The tool that upgrades RPM packages of a distribution, with its command.
fn rpm_tool(package: &AffectedPackage) -> &'static str {
    let purl = package.purl.as_ref();
    let distribution = purl.and_then(Purl::namespace).unwrap_or_default();
    let release = purl.and_then(|purl| purl.qualifier("distro")).and_then(|distro| distro.rsplit_once('-'));
    let major = release.and_then(|(_, version)| version.split('.').next()?.parse::<u32>().ok());
    match (distribution, major) {
        ("suse" | "opensuse", _) => "zypper update",
        ("photon" | "azurelinux" | "cbl-mariner", _) => "tdnf update",
        ("amazon", Some(..=2 | 2017 | 2018)) => "yum update",
        ("redhat" | "centos" | "oracle", Some(..=7)) => "yum update",
        _ => "dnf upgrade",
    }
}

/// The version to upgrade to. Where a database lists one for each line of releases (`2.2.28, 3.2.13, 4.0.4`), it is
/// that of the installed line; `None` if that is not clear.
fn the_fix<'a>(fixed: &'a str, installed: Option<&str>) -> Option<&'a str> {
    let versions: Vec<&str> = fixed.split(',').map(str::trim).collect();
    if let [only] = versions[..] {
        return Some(only);
    }
    let installed = installed?;
    let line =
        |version: &str, parts: usize| version.split(['.', '-', '+']).take(parts).map(str::to_owned).collect::<Vec<_>>();
    let of_line = |parts: usize| {
        let mut same = versions.iter().filter(|version| line(version, parts) == line(installed, parts));
        same.next().filter(|_| same.next().is_none()).copied()
    };
    of_line(2).or_else(|| of_line(1))
}

/// Whether a name can stand in a command: a scope, letters, digits and the punctuation of package names.
fn is_safe_name(name: &str) -> bool {
    let rest = name.strip_prefix('@').unwrap_or(name);
    rest.starts_with(|first: char| first.is_ascii_alphanumeric())
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._+:-".contains(&byte))
}

/// Whether a version can stand in a command.
fn is_safe_version(version: &str) -> bool {
    version.starts_with(|first: char| first.is_ascii_alphanumeric())
        && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+:~^-".contains(&byte))
}

#[cfg(test)]
mod tests;
