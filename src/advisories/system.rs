//! Matching of the distribution's packages against the rows of trivy-db.

use super::find::{AdvisorySearch, CandidateMatch, TRIVY, scheme, source_of};
use super::package_key::PackageKey;
use super::rating::{score_of_detail, severity_of_detail, severity_of_level};
use super::release::{AdvisoryName, AdvisoryVersion, Release, RowShape};
use super::rows::{TrivyEntry, TrivyRows};
use super::{FixStatus, MatchedAdvisory, TrivyRow, TrivySource, osv_match, red_hat};
use crate::inventory::{Ecosystem, InstalledPackage, LinuxDistribution};
use crate::version::{compare, is_valid};

/// What a row says about one vulnerability and one package.
#[derive(Clone, Debug, Default)]
pub(super) struct RowAdvisory<'r> {
    pub(super) id: &'r str,
    pub(super) vendor_ids: &'r [String],
    /// Empty if there is no fix.
    pub(super) fixed: &'r str,
    /// The first affected version; empty if all before the fix are.
    pub(super) first_affected: &'r str,
    pub(super) status: u8,
    /// The severity that the source states for the package, with its name.
    pub(super) severity: Option<(u8, &'static str)>,
}

/// Adds the advisories of trivy-db for the packages of the distribution, and the gaps of what no database covers.
/// `releases` are the distribution with each release whose advisories count.
pub(super) fn find(search: &mut AdvisorySearch<'_>, releases: &[(&LinuxDistribution, &Option<Release>)]) {
    let has_packages = search.packages().any(|(_, package)| package.ecosystem.is_of_distribution() && !is_key(package));
    let Some(distribution) = &search.inventory.distribution else {
        if has_packages {
            search.gap("etc/os-release", "the packages belong to an unknown distribution".to_owned());
        }
        return;
    };
    if !has_packages {
        let problem = format!("the image names {} but contains none of its packages", name(distribution));
        search.gap("etc/os-release", problem);
    }
    if let Some(id) = &distribution.derivative {
        let problem = format!("{id} has no advisories; those of {} were used", distribution.id);
        search.gap("etc/os-release", problem);
    }
    // The records of Echo name packages of others, too.
    let is_own = |package: &InstalledPackage| package.is_built_for(distribution) || distribution.id == "echo";
    let mut packages =
        search.packages().filter(|(_, package)| package.ecosystem.is_of_distribution() && !is_key(package)).peekable();
    if packages.peek().is_some() && !packages.any(|(_, package)| is_own(package)) {
        let problem =
            format!("no package is from {}, and its advisories cover only its own packages", name(distribution));
        search.gap("etc/os-release", problem);
    }
    // From which release a package is, is not known. A snapshot of edge names one that does not exist yet.
    for (index, (distribution, release)) in releases.iter().enumerate() {
        match release {
            Some(release) if is_covered(search, release) => find_in(search, release),
            _ if osv_match::covers_distribution(search, distribution) => other_kinds(search, distribution),
            _ if index == 0 || !distribution.version.contains("_alpha") => {
                search.gap("etc/os-release", format!("no database has advisories for {}", name(distribution)));
            }
            _ => {}
        }
    }
}

/// Records the packages of kinds for which the OSV records of the distribution have no advisories.
fn other_kinds(search: &mut AdvisorySearch<'_>, distribution: &LinuxDistribution) {
    let kind = osv_match::system_ecosystem(&search.databases.osv, distribution).map(|system| system.package);
    let packages = search.packages().filter(|(_, package)| package.ecosystem.is_of_distribution() && !is_key(package));
    for (_, package) in packages.filter(|(_, package)| Some(package.ecosystem) != kind) {
        other_kind(search, &name(distribution), package);
    }
}

/// Whether this is a key of RPM, which is listed like a package and has no version.
fn is_key(package: &InstalledPackage) -> bool {
    package.ecosystem == Ecosystem::Rpm && package.name == "gpg-pubkey"
}

/// Records that the distribution has no advisories for packages of this package manager.
fn other_kind(search: &mut AdvisorySearch<'_>, distribution: &str, package: &InstalledPackage) {
    let problem = format!("{distribution} has no advisories for packages of this kind: {}", package.name);
    search.gap("etc/os-release", problem);
}

fn name(distribution: &LinuxDistribution) -> String {
    if let Some(repository) = &distribution.repository {
        format!("{} {repository}", distribution.id)
    } else if distribution.pretty_name.is_empty() {
        format!("{} {}", distribution.id, distribution.version)
    } else {
        distribution.pretty_name.clone()
    }
}

fn is_covered(search: &mut AdvisorySearch<'_>, release: &Release) -> bool {
    let covers = search.databases.trivy.map(|trivy| trivy.covers(&release.bucket));
    covers.is_some_and(|covers| search.readable(TRIVY, covers) == Some(true))
}

fn find_in(search: &mut AdvisorySearch<'_>, release: &Release) {
    let Some(trivy) = search.databases.trivy else { return };
    let source = trivy.source(&release.bucket);
    let source = search.readable(TRIVY, source).flatten().unwrap_or_default();
    let mut products = red_hat::Products::default();
    let place = PackageKey::of_place(&[TRIVY, &release.bucket]);
    for (index, package) in search.packages().filter(|(_, package)| package.ecosystem.is_of_distribution()) {
        if is_key(package) {
            continue;
        }
        if package.ecosystem != release.ecosystem {
            other_kind(search, &release.bucket, package);
            continue;
        }
        if package.is_third_party() && release.rater != Some("echo") {
            continue;
        }
        if release.bucket.starts_with("alma ") && package.module.is_none() && package.version.contains(".module_el") {
            // AlmaLinux built some packages without their label; the fixed versions of different streams cannot be told
            // apart.
            search.gap(&package.name, "the module stream of the package is not stated".to_owned());
            continue;
        }
        if release.rows == RowShape::RedHat {
            // Which products an image has depends on more than the package.
            find_package(search, trivy, index, (release, &*source), Some(&mut products));
        } else {
            search.known_or(place, index, |search| find_package(search, trivy, index, (release, &*source), None));
        }
    }
}

/// Adds the advisories for one package. `products` are those of Red Hat.
fn find_package(
    search: &mut AdvisorySearch<'_>,
    trivy: &dyn TrivyRows,
    index: usize,
    (release, source): (&Release, &TrivySource),
    products: Option<&mut red_hat::Products>,
) {
    let package = &search.inventory.packages[index];
    let rows = trivy.rows(&release.bucket, &advisory_name(package, release.name));
    let Some(rows) = search.readable(TRIVY, rows).filter(|rows| !rows.is_empty()) else { return };
    let cpes = products.map(|products| products.cpes_of(search, trivy, package));
    let advisories = match (&cpes, release.rows) {
        (Some(cpes), _) => red_hat::advisories(&rows, cpes, &package.architecture),
        (None, RowShape::Architectures) => by_architecture(&rows, package, false),
        (None, RowShape::Flavours) => by_architecture(&rows, package, true),
        (None, _) => rows.iter().map(|(id, row)| plain(id, row, release.rater)).collect(),
    };
    add(search, index, release, source, &advisories);
}

/// The name under which the advisories of a package are stored: `nodejs:18::npm` for a package of a module stream.
fn advisory_name(package: &InstalledPackage, name: AdvisoryName) -> String {
    let stream =
        package.module.as_deref().and_then(|label| label.match_indices(':').nth(1).map(|(end, _)| &label[..end]));
    match (name, stream) {
        (AdvisoryName::Source, _) => source_of(package).0.to_owned(),
        (AdvisoryName::Module, Some(stream)) => format!("{stream}::{}", package.name),
        (AdvisoryName::Binary | AdvisoryName::Module, _) => package.name.clone(),
    }
}

fn plain<'r>(id: &'r str, row: &'r TrivyRow, rater: Option<&'static str>) -> RowAdvisory<'r> {
    RowAdvisory {
        id,
        vendor_ids: &row.vendor_ids,
        fixed: &row.fixed_version,
        first_affected: &row.affected_version,
        status: row.status,
        severity: rater.filter(|_| row.severity > 0).map(|rater| (row.severity, rater)),
    }
}

/// The entries for the architecture of the package, with the latest fix of each row first; rows of old databases have
/// no entries and hold for all architectures. Oracle names those of machines, which packages for all architectures
/// (`noarch`) do not state.
fn by_architecture<'r>(
    rows: &'r [(String, TrivyRow)],
    package: &InstalledPackage,
    flavours: bool,
) -> Vec<RowAdvisory<'r>> {
    let is_everywhere = flavours && package.architecture == "noarch";
    let is_comparable = |fixed: &str| !flavours || flavour(fixed) == flavour(&package.version);
    let is_for = |entry: &&TrivyEntry| is_everywhere || entry.arches.contains(&package.architecture);
    let mut advisories = Vec::new();
    for (id, row) in rows {
        let first = advisories.len();
        if row.entries.is_empty() && is_comparable(&row.fixed_version) {
            advisories.push(RowAdvisory { id, fixed: &row.fixed_version, ..RowAdvisory::default() });
        }
        let entries = row.entries.iter().filter(is_for).filter(|entry| is_comparable(&entry.fixed_version));
        advisories.extend(entries.map(|entry| RowAdvisory {
            id,
            vendor_ids: &entry.vendor_ids,
            fixed: &entry.fixed_version,
            status: entry.status,
            ..RowAdvisory::default()
        }));
        for index in first + 1..advisories.len() {
            if red_hat::is_later(advisories[index].fixed, advisories[first].fixed) {
                advisories.swap(first, index);
            }
        }
    }
    advisories
}

/// Oracle builds some packages for FIPS and for Ksplice, with versions that are not comparable.
fn flavour(version: &str) -> &'static str {
    let version = version.to_ascii_lowercase();
    if version.ends_with("_fips") {
        "fips"
    } else if version.split('.').any(|part| part.starts_with("ksplice")) {
        "ksplice"
    } else {
        "normal"
    }
}

/// Adds the advisories that affect the installed version.
fn add(
    search: &mut AdvisorySearch<'_>,
    index: usize,
    release: &Release,
    source: &TrivySource,
    advisories: &[RowAdvisory<'_>],
) {
    let package = &search.inventory.packages[index];
    let installed = match release.version {
        AdvisoryVersion::Binary => &package.version,
        AdvisoryVersion::Source => source_of(package).1,
    };
    let scheme = scheme(release.ecosystem);
    if compare(scheme, installed, installed).is_err() {
        search.unreadable_version(package);
        return;
    }
    for advisory in advisories {
        // Nothing if the version that the advisory states cannot be read.
        let is_before = |version: &str| {
            let order = compare(scheme, installed, version).ok().filter(|_| is_valid(scheme, version));
            order.map(std::cmp::Ordering::is_lt)
        };
        // Only rows of Alpine are known to state it, and Trivy looks at it there alone.
        let has_first = release.bucket.starts_with("alpine ") && !advisory.first_affected.is_empty();
        let introduced_later = has_first && is_before(advisory.first_affected) == Some(true);
        let affected = if advisory.fixed.is_empty() { Some(true) } else { is_before(advisory.fixed) };
        if introduced_later || affected == Some(false) {
            continue;
        }
        let candidate = candidate(search, index, advisory, source, affected.is_some());
        search.push(candidate);
    }
}

/// `is_comparable` says whether the fixed version could be read.
fn candidate(
    search: &mut AdvisorySearch<'_>,
    package: usize,
    advisory: &RowAdvisory<'_>,
    source: &TrivySource,
    is_comparable: bool,
) -> CandidateMatch {
    let ecosystem = search.inventory.packages[package].ecosystem;
    // Some sources of RPM state an epoch of 0, which rpm leaves out.
    let shown = advisory.fixed.strip_prefix("0:").filter(|_| ecosystem == Ecosystem::Rpm).unwrap_or(advisory.fixed);
    let fixed = (is_comparable && !shown.is_empty()).then(|| shown.to_owned());
    let status = match (&fixed, is_comparable) {
        (Some(_), _) => FixStatus::Fixed,
        (None, true) => status_of_number(advisory.status),
        (None, false) => FixStatus::Unknown,
    };
    let mut matched = MatchedAdvisory::new(advisory.id, package, &source.id);
    (matched.fixed, matched.status) = (fixed, status);
    let rater = if source.base_id.is_empty() { &source.id } else { &source.base_id };
    fill(search, &mut matched, rater);
    if let Some((level, rater)) = advisory.severity {
        matched.severity = severity_of_level(level);
        matched.severity_source = Some(rater.to_owned());
    }
    CandidateMatch { matched, advisories: advisory.vendor_ids.to_vec() }
}

/// The status that a row states if there is no fix.
fn status_of_number(status: u8) -> FixStatus {
    match status {
        4 => FixStatus::UnderInvestigation,
        5 => FixStatus::WillNotFix,
        6 => FixStatus::FixDeferred,
        7 => FixStatus::EndOfLife,
        _ => FixStatus::Affected,
    }
}

/// Adds what trivy-db knows about the vulnerability itself. `source` is the source whose severity comes first.
pub(super) fn fill(search: &mut AdvisorySearch<'_>, matched: &mut MatchedAdvisory, source: &str) {
    let Some(detail) = search.detail(&matched.id) else { return };
    (matched.severity, matched.severity_source) = severity_of_detail(&detail, &matched.id, source);
    let of_source = |(source, level): (&String, &u8)| (source.clone(), severity_of_level(*level));
    matched.ratings = detail.vendor_severity.iter().map(of_source).collect();
    matched.score = score_of_detail(&detail);
    matched.title = Some(detail.title.clone()).filter(|title| !title.is_empty());
    (matched.published, matched.modified) = (detail.published_date, detail.last_modified_date);
    matched.references = vec![detail.references.clone().into()];
}
