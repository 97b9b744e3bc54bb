//! Matching against OSV records.

use super::find::{AdvisorySearch, CandidateMatch, OSV, is_of_system, scheme, source_of};
use super::osv_range::{OsvFix, affects};
use super::rating::osv_rating;
use super::release::{major, minor};
use super::system::fill;
use super::{FixStatus, MatchedAdvisory, OsvAffected, OsvDetail, OsvRow, OsvRows};
use crate::inventory::{Ecosystem, LinuxDistribution};
use crate::policy::Severity;
use crate::version::compare;

/// Adds the OSV records that affect packages.
pub(super) fn find(search: &mut AdvisorySearch<'_>) {
    let system = search.inventory.distribution.as_ref().and_then(system_ecosystem);
    for (index, package) in search.packages() {
        if search.is_full() {
            break;
        }
        let ((ecosystem, name), version) = match (&system, osv_ecosystem(package.ecosystem)) {
            (_, Some(ecosystem)) => ((ecosystem, &*package.name), &*package.version),
            (Some(system), None) if system.package == package.ecosystem && !package.is_third_party() => {
                let (name, version) =
                    if system.by_source { source_of(package) } else { (&*package.name, &*package.version) };
                ((&*system.name, name), version)
            }
            _ => continue,
        };
        for osv in &search.databases.osv {
            let rows = osv.rows(ecosystem, name);
            let rows = search.readable(OSV, rows).unwrap_or_default();
            if !rows.is_empty() && compare(scheme(package.ecosystem), version, version).is_err() {
                search.unreadable_version(package);
                continue;
            }
            for row in &rows {
                add(search, index, version, *osv, row);
            }
        }
    }
}

/// Whether an index has records for the distribution.
pub(super) fn covers_distribution(search: &mut AdvisorySearch<'_>, distribution: &LinuxDistribution) -> bool {
    system_ecosystem(distribution).is_some_and(|system| covers(search, &system.name))
}

/// Whether an index has records of the ecosystem.
pub(super) fn covers(search: &mut AdvisorySearch<'_>, ecosystem: &str) -> bool {
    for osv in &search.databases.osv {
        let covers = osv.covers(ecosystem);
        if search.readable(OSV, covers) == Some(true) {
            return true;
        }
    }
    false
}

/// The records for a distribution.
pub(super) struct SystemEcosystem {
    /// `Debian:12`.
    name: String,
    /// The kind of its packages.
    pub(super) package: Ecosystem,
    /// Whether the records name source packages.
    by_source: bool,
}

/// The ecosystem of a distribution's release (ossf.github.io/osv-schema, "Defined ecosystems"). Red Hat's are named by
/// product, which an image does not state, and are not used.
pub(super) fn system_ecosystem(distribution: &LinuxDistribution) -> Option<SystemEcosystem> {
    let version = &*distribution.version;
    let repository = distribution.repository.as_deref().unwrap_or(version);
    let of = |package, by_source, name: String| Some(SystemEcosystem { name, package, by_source });
    match &*distribution.id {
        "almalinux" => of(Ecosystem::Rpm, false, format!("AlmaLinux:{}", major(version))),
        "alpine" if repository == "edge" => of(Ecosystem::Apk, true, "Alpine:edge".to_owned()),
        "alpine" => of(Ecosystem::Apk, true, format!("Alpine:v{}", minor(repository))),
        "azurelinux" | "mariner" => of(Ecosystem::Rpm, true, format!("Azure Linux:{}", major(version))),
        "chainguard" => of(Ecosystem::Apk, true, "Chainguard".to_owned()),
        "debian" => of(Ecosystem::Deb, true, format!("Debian:{}", major(version))),
        "echo" => of(Ecosystem::Deb, true, "Echo".to_owned()),
        "minimos" => of(Ecosystem::Apk, true, "MinimOS".to_owned()),
        "opensuse-leap" => of(Ecosystem::Rpm, false, format!("openSUSE:Leap {version}")),
        "opensuse-tumbleweed" => of(Ecosystem::Rpm, false, "openSUSE:Tumbleweed".to_owned()),
        "photon" => of(Ecosystem::Rpm, true, format!("Photon OS:{version}")),
        "rocky" => of(Ecosystem::Rpm, false, format!("Rocky Linux:{}", major(version))),
        "sles" => of(Ecosystem::Rpm, false, format!("SUSE:{}", suse(version))),
        "ubuntu" => of(Ecosystem::Deb, true, ubuntu(version, distribution.extended_support)),
        "wolfi" => of(Ecosystem::Apk, true, "Wolfi".to_owned()),
        _ => None,
    }
}

/// `Linux Enterprise Server 15 SP5` for `15.5`.
fn suse(version: &str) -> String {
    match version.split_once('.') {
        Some((major, pack)) => format!("Linux Enterprise Server {major} SP{pack}"),
        None => format!("Linux Enterprise Server {version}"),
    }
}

/// `Ubuntu:22.04:LTS`, `Ubuntu:23.10`, `Ubuntu:Pro:18.04:LTS`. Every second April has long-term support.
fn ubuntu(version: &str, extended_support: bool) -> String {
    let year: Option<u8> =
        version.split_once('.').filter(|(_, month)| *month == "04").and_then(|(year, _)| year.parse().ok());
    let support = if year.is_some_and(|year| year % 2 == 0) { ":LTS" } else { "" };
    let pro = if extended_support { "Pro:" } else { "" };
    format!("Ubuntu:{pro}{version}{support}")
}

/// The ecosystem of the packages of a programming language.
pub(super) fn osv_ecosystem(ecosystem: Ecosystem) -> Option<&'static str> {
    match ecosystem {
        Ecosystem::Cargo => Some("crates.io"),
        Ecosystem::Gem => Some("RubyGems"),
        Ecosystem::Go => Some("Go"),
        Ecosystem::Maven => Some("Maven"),
        Ecosystem::Npm => Some("npm"),
        Ecosystem::PyPi => Some("PyPI"),
        Ecosystem::Apk | Ecosystem::Deb | Ecosystem::Rpm => None,
    }
}

/// Adds what a record says about a package, if it affects the installed version.
fn add(search: &mut AdvisorySearch<'_>, index: usize, version: &str, osv: &dyn OsvRows, row: &OsvRow) {
    let package = &search.inventory.packages[index];
    let scheme = scheme(package.ecosystem);
    let mut found: Option<(&OsvAffected, Option<OsvFix>)> = None;
    for affected in &row.affected {
        match affects(affected, scheme, version) {
            Ok(Some(fix)) => {
                found = Some((affected, Some(fix)));
                break;
            }
            Ok(None) => {}
            Err(_) => found = found.or(Some((affected, None))),
        }
    }
    let Some((affected, fix)) = found else { return };
    let detail = search.record(osv, &row.id);
    let is_comparable = fix.is_some();
    let fixed = fix.and_then(|fix| fix.version);
    let status = match (&fixed, is_comparable) {
        (Some(_), _) => FixStatus::Fixed,
        (None, true) => FixStatus::Affected,
        (None, false) => FixStatus::Unknown,
    };
    for (id, aliases, advisories) in identities(&detail, is_of_system(package)) {
        let mut matched = MatchedAdvisory::new(&id, index, OSV);
        fill(search, &mut matched, OSV);
        let (severity, score) = osv_rating(Some(affected), &detail);
        if severity != Severity::Unknown {
            (matched.severity, matched.severity_source) = (severity, Some(OSV.to_owned()));
        }
        (matched.fixed, matched.status) = (fixed.clone(), status);
        matched.aliases = aliases;
        matched.score = score.or(matched.score);
        matched.title = Some(detail.summary.clone()).filter(|summary| !summary.is_empty()).or(matched.title);
        (matched.published, matched.modified) = (detail.published, detail.modified);
        matched.references.clone_from(&detail.references);
        search.push(CandidateMatch { matched, advisories });
    }
}

/// The vulnerabilities that a record is about: identifier, aliases, and vendors' advisories. An advisory of a
/// distribution is about each vulnerability of `upstream` (AlmaLinux: `related`); any other record is one vulnerability.
fn identities(detail: &OsvDetail, is_of_system: bool) -> Vec<(String, Vec<String>, Vec<String>)> {
    let is_cve = |id: &&String| id.starts_with("CVE-");
    let listed = if detail.upstream.is_empty() && is_of_system { &detail.related } else { &detail.upstream };
    let mut about: Vec<&String> = listed.iter().filter(is_cve).collect();
    about.sort_unstable();
    about.dedup();
    if !about.is_empty() {
        let advisories: Vec<String> = std::iter::once(&detail.id).chain(&detail.aliases).cloned().collect();
        return about.into_iter().map(|id| (id.clone(), Vec::new(), advisories.clone())).collect();
    }
    let all = || std::iter::once(&detail.id).chain(&detail.aliases);
    let id = all().find(is_cve).unwrap_or(&detail.id);
    let aliases = all().filter(|alias| *alias != id).cloned().collect();
    vec![(id.clone(), aliases, Vec::new())]
}
