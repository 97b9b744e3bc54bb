//! Matching against OSV records.

use std::collections::{BTreeMap, HashSet};

use super::find::{AdvisorySearch, CandidateMatch, OSV, scheme, source_of};
use super::osv_range::{InstalledVersion, OsvFix, affects, has_installed_fix};
use super::package_key::PackageKey;
use super::rating::osv_rating;
use super::release::{major, minor, with_releases};
use super::system::fill;
use super::{FixStatus, MatchedAdvisory, OsvAffected, OsvDetail, OsvRow, OsvRows};
use crate::inventory::{Ecosystem, InstalledPackage, LinuxDistribution};
use crate::policy::Severity;
use crate::version::UnreadableVersion;

/// Adds the OSV records that affect packages.
pub(super) fn find(search: &mut AdvisorySearch<'_>) {
    let distribution = search.inventory.distribution.as_ref();
    let releases = distribution.map_or_else(Vec::new, with_releases);
    let indexes = &search.databases.osv;
    let systems = releases.iter().filter_map(|release| system_ecosystem(indexes, release));
    // Those of one distribution are all of one family.
    let system = systems.reduce(|mut all, other| {
        all.names.extend(other.names);
        all
    });
    let language = PackageKey::of_place(&[OSV]);
    let names: Vec<&str> = system.iter().flat_map(SystemEcosystem::all_names).collect();
    let of_system = PackageKey::of_place(&[&[OSV][..], &names[..]].concat());
    let mut languages: BTreeMap<Ecosystem, Vec<String>> = BTreeMap::new();
    for (index, package) in search.packages() {
        if search.is_full() {
            break;
        }
        match (&system, osv_ecosystem(package.ecosystem)) {
            (_, Some(name)) => {
                let all = &*languages.entry(package.ecosystem).or_insert_with(|| with_registries(indexes, name));
                search.known_or(language, index, |search| {
                    for ecosystem in all {
                        look_up(search, index, ecosystem, (&package.name, &package.version), &mut HashSet::new());
                    }
                });
            }
            (Some(system), None) if system.package == package.ecosystem && !package.is_third_party() => {
                search.known_or(of_system, index, |search| {
                    let mut fixed = HashSet::new();
                    for ecosystem in &names {
                        system.by.each(package, |name, version| {
                            look_up(search, index, ecosystem, (name, version), &mut fixed);
                        });
                    }
                });
            }
            _ => {}
        }
    }
}

/// Adds the records about a package of this name. `fixed` has the records whose fix by Ubuntu Pro is installed.
fn look_up(
    search: &mut AdvisorySearch<'_>,
    index: usize,
    ecosystem: &str,
    (name, version): (&str, &str),
    fixed: &mut HashSet<String>,
) {
    let (databases, package) = (search.databases, &search.inventory.packages[index]);
    let is_pro = ecosystem.starts_with(UBUNTU_PRO);
    // Only if there are records.
    let mut installed = None;
    for (place, osv) in databases.osv.iter().enumerate() {
        let known = databases.details.map(|details| details.rows_of(place));
        let read = osv.each_row(ecosystem, name, known, &mut |row| {
            let parsed = installed.get_or_insert_with(|| InstalledVersion::parse(scheme(package.ecosystem), version));
            let Ok(installed) = parsed else { return };
            if fixed.contains(row.id) && !has_fix(row) {
                return;
            }
            let is_affected = add(search, index, installed, place, row);
            if is_pro && !is_affected && row.affected.iter().any(|affected| has_installed_fix(affected, installed)) {
                fixed.insert(row.id.to_owned());
            }
        });
        search.readable(OSV, read);
    }
    if matches!(installed, Some(Err(_))) {
        search.unreadable_version(package);
    }
}

/// Whether a record states a version that fixes the package.
fn has_fix(row: &OsvRow<&str>) -> bool {
    let mut ranges = row.affected.iter().flat_map(|affected| &affected.ranges);
    ranges.any(|range| range.events.iter().any(|event| event.fixed.is_some()))
}

/// Whether an index has records for the distribution. Those for all of its releases do not say that this one is listed.
pub(super) fn covers_distribution(search: &mut AdvisorySearch<'_>, distribution: &LinuxDistribution) -> bool {
    let system = system_ecosystem(&search.databases.osv, distribution);
    system.is_some_and(|system| system.names.iter().any(|name| covers(search, name)))
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
    /// `Debian:12`, if there are records. Several, where the packages of a release belong to several products.
    names: Vec<String>,
    /// `Debian`, if there are records for all releases.
    of_all_releases: Vec<String>,
    /// The kind of its packages.
    pub(super) package: Ecosystem,
    /// Which packages the records name.
    by: RecordName,
}

impl SystemEcosystem {
    /// Where packages are looked up.
    pub(super) fn all_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().chain(&self.of_all_releases).map(String::as_str)
    }
}

/// The package that the records of a distribution name, with its version.
#[derive(Clone, Copy)]
enum RecordName {
    /// The installed package.
    Binary,
    /// The source package in most records, and the installed one in others: both are looked up.
    Either,
    /// The source package.
    Source,
}

impl RecordName {
    /// Calls `look_up` with each name and version.
    fn each(self, package: &InstalledPackage, mut look_up: impl FnMut(&str, &str)) {
        let (name, version) = source_of(package);
        if !matches!(self, Self::Binary) {
            look_up(name, version);
        }
        if matches!(self, Self::Binary) || (matches!(self, Self::Either) && *name != *package.name) {
            look_up(&package.name, &package.version);
        }
    }
}

/// The ecosystem of a distribution's release (ossf.github.io/osv-schema, "Defined ecosystems"). Red Hat's are named by
/// product, which an image does not state, and are not used.
pub(super) fn system_ecosystem(indexes: &[&dyn OsvRows], distribution: &LinuxDistribution) -> Option<SystemEcosystem> {
    let version = &*distribution.version;
    let repository = distribution.repository.as_deref().unwrap_or(version);
    let is_listed = |name: &String| indexes.iter().any(|osv| osv.covers(name).unwrap_or(true));
    let of_several = |package, by, names: Vec<String>| {
        let family = names.first().and_then(|name| name.split_once(':')).map(|(family, _)| family.to_owned());
        let of_all_releases = family.into_iter().filter(is_listed).collect();
        Some(SystemEcosystem { names: names.into_iter().filter(is_listed).collect(), of_all_releases, package, by })
    };
    let of = |package, by, name: String| of_several(package, by, vec![name]);
    let (apk, deb, rpm) = (Ecosystem::Apk, Ecosystem::Deb, Ecosystem::Rpm);
    match &*distribution.id {
        // The schema says source packages; the records list binary packages.
        "almalinux" => of(rpm, RecordName::Binary, format!("AlmaLinux:{}", major(version))),
        "alpine" if repository == "edge" => of(apk, RecordName::Source, "Alpine:edge".to_owned()),
        "alpine" => of(apk, RecordName::Source, format!("Alpine:v{}", minor(repository))),
        "azurelinux" | "mariner" => of(rpm, RecordName::Source, format!("Azure Linux:{}", major(version))),
        "chainguard" => of(apk, RecordName::Either, "Chainguard".to_owned()),
        "debian" => of(deb, RecordName::Source, format!("Debian:{}", major(version))),
        "echo" => of(deb, RecordName::Source, "Echo".to_owned()),
        "minimos" => of(apk, RecordName::Either, "MinimOS".to_owned()),
        "opensuse-leap" => of(rpm, RecordName::Source, format!("openSUSE:Leap {version}")),
        "opensuse-tumbleweed" => of(rpm, RecordName::Source, "openSUSE:Tumbleweed".to_owned()),
        "photon" => of(rpm, RecordName::Either, format!("Photon OS:{version}")),
        "rocky" => of(rpm, RecordName::Either, format!("Rocky Linux:{}", major(version))),
        "sles" => of_several(rpm, RecordName::Source, suse(indexes, version)),
        "ubuntu" => of_several(deb, RecordName::Source, ubuntu(version, distribution.extended_support)),
        "wolfi" => of(apk, RecordName::Either, "Wolfi".to_owned()),
        _ => None,
    }
}

/// The products of a release of SUSE Linux Enterprise: an image does not state which module a package is from. For
/// `15.5` `SUSE:Linux Enterprise Server 15 SP5`, `SUSE:Linux Enterprise Module for Basesystem 15 SP5`, and so on.
fn suse(indexes: &[&dyn OsvRows], version: &str) -> Vec<String> {
    let release = match version.split_once('.') {
        Some((major, pack)) => format!(" {major} SP{pack}"),
        None => format!(" {version}"),
    };
    let all = indexes.iter().flat_map(|osv| osv.ecosystems("SUSE:"));
    // A suffix names longer support, `-LTSS`.
    let is_of_release = |name: &String| {
        let found = name.find(&release).map(|at| &name[at + release.len()..]);
        found.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let mut names: Vec<String> = all.filter(is_of_release).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The beginning of the ecosystems of Ubuntu Pro.
const UBUNTU_PRO: &str = "Ubuntu:Pro:";

/// `Ubuntu:22.04:LTS`, `Ubuntu:23.10`. Every second April has long-term support; records without the suffix are about
/// the same release. With Ubuntu Pro, the fixes of `Ubuntu:Pro:22.04:LTS` come first: packages of main have the regular
/// ones as well.
fn ubuntu(version: &str, extended_support: bool) -> Vec<String> {
    let year: Option<u8> =
        version.split_once('.').filter(|(_, month)| *month == "04").and_then(|(year, _)| year.parse().ok());
    let is_long = year.is_some_and(|year| year % 2 == 0);
    let long = is_long.then(|| format!("{version}:LTS"));
    let releases: Vec<String> = long.into_iter().chain([version.to_owned()]).collect();
    let pro = releases.iter().filter(|_| extended_support).map(|release| format!("{UBUNTU_PRO}{release}"));
    pro.chain(releases.iter().map(|release| format!("Ubuntu:{release}"))).collect()
}

/// The ecosystem of a language, and those of single registries (`Packagist:https://packages.drupal.org/8`): from which
/// one a package is, an image does not state.
pub(super) fn with_registries(indexes: &[&dyn OsvRows], ecosystem: &str) -> Vec<String> {
    let prefix = format!("{ecosystem}:");
    let mut names: Vec<String> = indexes.iter().flat_map(|osv| osv.ecosystems(&prefix)).collect();
    names.push(ecosystem.to_owned());
    names.sort_unstable();
    names.dedup();
    names
}

/// The ecosystem of the packages of a programming language.
pub(super) fn osv_ecosystem(ecosystem: Ecosystem) -> Option<&'static str> {
    match ecosystem {
        Ecosystem::Bitnami => Some("Bitnami"),
        Ecosystem::Cargo => Some("crates.io"),
        Ecosystem::Composer => Some("Packagist"),
        Ecosystem::Gem => Some("RubyGems"),
        Ecosystem::Go => Some("Go"),
        Ecosystem::Maven => Some("Maven"),
        Ecosystem::Npm => Some("npm"),
        Ecosystem::NuGet => Some("NuGet"),
        Ecosystem::PyPi => Some("PyPI"),
        Ecosystem::Apk | Ecosystem::Deb | Ecosystem::Rpm => None,
    }
}

/// Adds what a record of the index at this place says about a package, and returns whether it affects the installed
/// version.
fn add(
    search: &mut AdvisorySearch<'_>,
    index: usize,
    installed: &InstalledVersion<'_>,
    place: usize,
    row: &OsvRow<&str>,
) -> bool {
    let package = &search.inventory.packages[index];
    let mut found: Option<(&OsvAffected<&str>, Option<OsvFix>)> = None;
    for affected in &row.affected {
        match affects(affected, installed) {
            Ok(Some(fix)) => {
                found = Some((affected, Some(fix)));
                break;
            }
            Ok(None) => {}
            Err(UnreadableVersion::Version(_)) if !installed.is_ordered() => search.unreadable_version(package),
            Err(_) => found = found.or(Some((affected, None))),
        }
    }
    let Some((affected, fix)) = found else { return false };
    let detail = search.record(place, row);
    if is_of_other_stream(package, affected, &detail) {
        return false;
    }
    let is_comparable = fix.is_some();
    let fixed = fix.and_then(|fix| fix.version);
    let status = match (&fixed, is_comparable) {
        (Some(_), _) => FixStatus::Fixed,
        (None, true) => FixStatus::Affected,
        (None, false) => FixStatus::Unknown,
    };
    for (id, aliases, advisories) in identities(&detail, package.ecosystem.is_of_distribution()) {
        let mut matched = MatchedAdvisory::new(id, index, OSV);
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
        matched.references = Some(&detail.references).filter(|list| !list.is_empty()).cloned().into_iter().collect();
        search.push(CandidateMatch { matched, advisories });
    }
    true
}

/// Whether the record is about another stream of a module than the installed one. AlmaLinux and Rocky Linux publish one
/// record for each stream, whose summary alone states it: `Moderate: nodejs:18 security update`. If that cannot be
/// determined, the record counts.
fn is_of_other_stream(package: &InstalledPackage, affected: &OsvAffected<&str>, detail: &OsvDetail) -> bool {
    let is_modular = |version: &str| version.contains(".module+el") || version.contains(".module_el");
    let mut fixes = affected.ranges.iter().flat_map(|range| &range.events).filter_map(|event| event.fixed);
    if !fixes.clone().all(is_modular) || fixes.next().is_none() {
        return false;
    }
    let label = package.module.as_deref().and_then(|label| label.split_once(':'));
    let Some((module, rest)) = label else { return !is_modular(&package.version) };
    let installed = rest.split(':').next().unwrap_or(rest);
    let named = detail.summary.split([' ', ',', ';']).filter_map(|word| word.split_once(':'));
    let streams: Vec<&str> = named.filter(|(name, _)| *name == module).map(|(_, stream)| stream).collect();
    !streams.is_empty() && !streams.contains(&installed)
}

/// The vulnerabilities that a record is about: identifier, aliases, and vendors' advisories. An advisory of a
/// distribution is about each vulnerability of `upstream` (AlmaLinux: `related`); any other record is one
/// vulnerability.
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
