//! Matching of the packages of programming languages against the rows of trivy-db.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::find::{AdvisorySearch, CandidateMatch, TRIVY, scheme};
use super::osv_match::osv_ecosystem;
use super::package_key::PackageKey;
use super::rating::severity_of_level;
use super::system::fill;
use super::{FixStatus, MatchedAdvisory, TrivyRow, TrivyRows, TrivySource, osv_match};
use crate::inventory::{Ecosystem, InstalledPackage};
use crate::version::{UnreadableVersion, VersionRange, VersionScheme};

/// The maximum number of `-` in a Python name for which all spellings are looked up.
const MAX_SEPARATORS: usize = 4;
/// The maximum number of `-` in longer names that are each tried as a dot. Real names have fewer.
const MAX_SINGLE: usize = 16;

/// A bucket with the source of its advisories.
pub(super) struct SourcedBucket {
    name: String,
    source: Arc<TrivySource>,
}

/// Adds the advisories of trivy-db for the packages of programming languages, and the gaps of ecosystems that no
/// database covers.
pub(super) fn find(search: &mut AdvisorySearch<'_>) {
    let languages: BTreeSet<Ecosystem> = search.packages().map(|(_, package)| package.ecosystem).collect();
    let mut by_ecosystem: BTreeMap<Ecosystem, Vec<SourcedBucket>> = BTreeMap::new();
    for (ecosystem, name) in languages.into_iter().filter_map(|ecosystem| Some((ecosystem, osv_ecosystem(ecosystem)?)))
    {
        let buckets = buckets(search, ecosystem);
        if buckets.is_empty() && !osv_match::covers(search, name) {
            search.gap(name, format!("no database has advisories for packages of {name}"));
        }
        by_ecosystem.insert(ecosystem, buckets);
    }
    for (_, package) in search.packages().filter(|(_, package)| is_without_group(package)) {
        let place = package.path.as_deref().unwrap_or(&package.name);
        search.gap(place, format!("{} states no group, by which advisories name it", package.name));
    }
    let Some(trivy) = search.databases.trivy else { return };
    let place = PackageKey::of_place(&[TRIVY]);
    for (index, package) in search.packages() {
        if search.is_full() {
            break;
        }
        let Some(buckets) = by_ecosystem.get(&package.ecosystem) else { continue };
        search.known_or(place, index, |search| {
            for name in &names(package) {
                let rows = rows_of(search, trivy, buckets, name);
                add(search, index, &package.version, &rows);
            }
        });
    }
}

/// The rows about a package, each with its source. Of those with the same identifier in several buckets, the one of the
/// last bucket comes first and so decides about fix and severity, as in Trivy.
pub(super) fn rows_of<'b>(
    search: &mut AdvisorySearch<'_>,
    trivy: &dyn TrivyRows,
    buckets: &'b [SourcedBucket],
    name: &str,
) -> Vec<(&'b TrivySource, String, TrivyRow)> {
    let mut rows: Vec<(&TrivySource, String, TrivyRow)> = Vec::new();
    for bucket in buckets {
        let found = trivy.rows(&bucket.name, name);
        for (id, row) in search.readable(TRIVY, found).unwrap_or_default() {
            let place = rows.iter().position(|(_, known, _)| *known == id).unwrap_or(rows.len());
            rows.insert(place, (&bucket.source, id, row));
        }
    }
    rows
}

/// Whether a Java archive states only its artifact. Advisories name `group:artifact`, so none would be found.
fn is_without_group(package: &InstalledPackage) -> bool {
    package.ecosystem == Ecosystem::Maven && !package.name.contains(':')
}

fn buckets(search: &mut AdvisorySearch<'_>, ecosystem: Ecosystem) -> Vec<SourcedBucket> {
    prefix(ecosystem).map_or_else(Vec::new, |prefix| buckets_with(search, prefix))
}

/// The buckets whose names begin with this.
pub(super) fn buckets_with(search: &mut AdvisorySearch<'_>, prefix: &str) -> Vec<SourcedBucket> {
    let Some(trivy) = search.databases.trivy else { return Vec::new() };
    let names = trivy.buckets(prefix);
    let names = search.readable(TRIVY, names).unwrap_or_default();
    names.into_iter().map(|name| sourced(search, trivy, name)).collect()
}

/// A bucket with the source of its advisories.
pub(super) fn sourced(search: &mut AdvisorySearch<'_>, trivy: &dyn TrivyRows, name: String) -> SourcedBucket {
    let source = trivy.source(&name);
    let source = search.readable(TRIVY, source).flatten().unwrap_or_default();
    SourcedBucket { source, name }
}

/// The beginning of the names of an ecosystem's buckets.
pub(super) fn prefix(ecosystem: Ecosystem) -> Option<&'static str> {
    match ecosystem {
        Ecosystem::Bitnami => Some("bitnami::"),
        Ecosystem::Cargo => Some("cargo::"),
        Ecosystem::Composer => Some("composer::"),
        Ecosystem::Gem => Some("rubygems::"),
        Ecosystem::Go => Some("go::"),
        Ecosystem::Maven => Some("maven::"),
        Ecosystem::Npm => Some("npm::"),
        Ecosystem::NuGet => Some("nuget::"),
        Ecosystem::PyPi => Some("pip::"),
        Ecosystem::Apk | Ecosystem::Deb | Ecosystem::Rpm => None,
    }
}

/// The names under which a package may be stored. trivy-db writes names in lower case, except those of Go modules. It
/// keeps the dots of Python names, which are the same as dashes (PEP 503).
pub(super) fn names(package: &InstalledPackage) -> BTreeSet<String> {
    match package.ecosystem {
        Ecosystem::Go => BTreeSet::from([package.name.clone()]),
        Ecosystem::PyPi => {
            let name = package.name.to_lowercase();
            let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
            let mut names = spellings(&parts.collect::<Vec<_>>().join("-"));
            names.insert(name.replace('_', "-"));
            names
        }
        _ => BTreeSet::from([package.name.to_lowercase()]),
    }
}

/// All spellings with dots instead of dashes; if there are many, only the one with all replaced and those with one
/// replaced.
fn spellings(name: &str) -> BTreeSet<String> {
    let places: Vec<usize> = name.match_indices('-').map(|(index, _)| index).collect();
    let with_dots = |chosen: &dyn Fn(usize) -> bool| {
        let is_dot = |index: usize| places.binary_search(&index).is_ok_and(chosen);
        name.char_indices().map(|(index, character)| if is_dot(index) { '.' } else { character }).collect::<String>()
    };
    if places.len() <= MAX_SEPARATORS {
        (0..1_usize << places.len()).map(|chosen| with_dots(&|place| chosen >> place & 1 == 1)).collect()
    } else {
        let single = (0..places.len().min(MAX_SINGLE)).map(|chosen| with_dots(&|place| place == chosen));
        single.chain([name.to_owned(), with_dots(&|_| true)]).collect()
    }
}

/// Adds the advisories whose ranges contain the version of a package.
pub(super) fn add(
    search: &mut AdvisorySearch<'_>,
    index: usize,
    version: &str,
    rows: &[(&TrivySource, String, TrivyRow)],
) {
    let package = &search.inventory.packages[index];
    let scheme = scheme(package.ecosystem);
    // Whether the installed version has a place in ranges, whatever the range.
    let is_readable = VersionRange::parse(scheme, ">= 0").is_ok_and(|all| all.contains(version).is_ok());
    if !rows.is_empty() && !is_readable {
        search.unreadable_version(package);
        return;
    }
    let is_of_distribution = package.ecosystem.is_of_distribution();
    for (source, id, row) in rows {
        // Suppliers of distribution packages state no range until there is a fix.
        let affected = match is_of_distribution && row.vulnerable_versions.is_empty() {
            true => Ok(true),
            false => is_affected(scheme, version, row),
        };
        if affected == Ok(false) {
            continue;
        }
        let mut matched = MatchedAdvisory::new(id, index, &source.id);
        matched.aliases.clone_from(&row.vendor_ids);
        matched.fixed = fixed_versions(row).filter(|_| affected.is_ok());
        matched.status = match (&matched.fixed, &affected) {
            (_, Err(_)) => FixStatus::Unknown,
            (Some(_), Ok(_)) => FixStatus::Fixed,
            (None, Ok(_)) => FixStatus::Affected,
        };
        let rater = if source.base_id.is_empty() { &source.id } else { &source.base_id };
        fill(search, &mut matched, rater);
        if is_of_distribution && row.severity > 0 {
            matched.severity = severity_of_level(row.severity);
            matched.severity_source = Some(source.id.clone()).filter(|id| !id.is_empty());
        }
        search.push(CandidateMatch { matched, advisories: Vec::new() });
    }
}

/// Whether the version is in a vulnerable range and in no patched or unaffected one. An empty range contains
/// everything.
fn is_affected(scheme: VersionScheme, version: &str, row: &TrivyRow) -> Result<bool, UnreadableVersion> {
    if row.vulnerable_versions.iter().chain(&row.patched_versions).any(String::is_empty) {
        return Ok(true);
    }
    let vulnerable = contains_any(scheme, version, &mut row.vulnerable_versions.iter());
    if !row.vulnerable_versions.is_empty() && vulnerable == Ok(false) {
        return Ok(false);
    }
    let mut secure = row.patched_versions.iter().chain(&row.unaffected_versions).peekable();
    if secure.peek().is_none() {
        return vulnerable;
    }
    let is_secure = contains_any(scheme, version, &mut secure)?;
    if is_secure { Ok(false) } else { vulnerable.map(|_| true) }
}

/// Whether one of the ranges contains the version. An unreadable range is an error only if no other contains it.
fn contains_any(
    scheme: VersionScheme,
    version: &str,
    ranges: &mut dyn Iterator<Item = &String>,
) -> Result<bool, UnreadableVersion> {
    let mut answer = Ok(false);
    for range in ranges {
        match VersionRange::parse(scheme, range).and_then(|range| range.contains(version)) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) => answer = Err(error),
        }
    }
    answer
}

/// The versions that fix the vulnerability: those that are named as patched, else the ends of the vulnerable ranges.
fn fixed_versions(row: &TrivyRow) -> Option<String> {
    let ends = row.vulnerable_versions.iter().flat_map(|range| range.split(',')).map(str::trim);
    let ends = ends.filter(|end| !end.starts_with("<=")).filter_map(|end| end.strip_prefix('<')).map(str::trim);
    let patched = row.patched_versions.iter().map(String::as_str);
    let all: Vec<&str> = if row.patched_versions.is_empty() { ends.collect() } else { patched.collect() };
    let mut seen = BTreeSet::new();
    let distinct: Vec<&str> = all.into_iter().filter(|version| !version.is_empty() && seen.insert(*version)).collect();
    (!distinct.is_empty()).then(|| distinct.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_names_are_looked_up_with_dots_and_dashes() {
        let spelled = |name: &str| spellings(name).into_iter().collect::<Vec<_>>();
        assert_eq!(spelled("requests"), ["requests"]);
        assert_eq!(spelled("ruamel-yaml"), ["ruamel-yaml", "ruamel.yaml"]);
        assert_eq!(spelled("a-b-c"), ["a-b-c", "a-b.c", "a.b-c", "a.b.c"]);
        assert_eq!(spelled("a-b-c-d-e-f").len(), 7);
    }

    #[test]
    fn ranges_of_a_row_decide_together() {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        for (vulnerable, patched, unaffected, version, affected, fixed) in [
            (&["<1.2.3"][..], &[][..], &[][..], "1.2.2", Ok(true), Some("1.2.3")),
            (&["<1.2.3"], &[], &[], "1.2.3", Ok(false), Some("1.2.3")),
            (&[">=1.0.0, <1.2.3", ">=2.0.0, <2.1.0"], &[], &[], "2.0.5", Ok(true), Some("1.2.3, 2.1.0")),
            (&["<=1.2.3"], &[], &[], "1.2.3", Ok(true), None),
            (&["<2.0.0"], &["1.9.1", "2.0.0"], &[], "1.9.1", Ok(false), Some("1.9.1, 2.0.0")),
            (&[], &[">=1.2.3"], &["<0.5.0"], "0.4.0", Ok(false), Some(">=1.2.3")),
            (&[], &[">=1.2.3"], &["<0.5.0"], "1.0.0", Ok(true), Some(">=1.2.3")),
            (&[""], &[], &[], "1.0.0", Ok(true), None),
            (&["<1.0"], &[""], &[], "2.0.0", Ok(true), None),
            (&["nonsense <"], &[], &[], "1.0.0", Err(()), None),
            (&["nonsense <", "<2.0.0"], &[], &[], "1.0.0", Ok(true), Some("2.0.0")),
            (&["nonsense <"], &[">=0.9.0"], &[], "1.0.0", Ok(false), Some(">=0.9.0")),
            (&["<2.0.0"], &["nonsense <"], &[], "1.0.0", Err(()), Some("nonsense <")),
        ] {
            let row = TrivyRow {
                vulnerable_versions: list(vulnerable),
                patched_versions: list(patched),
                unaffected_versions: list(unaffected),
                ..TrivyRow::default()
            };
            let got = is_affected(VersionScheme::Npm, version, &row).map_err(|_| ());
            assert_eq!(got, affected, "{row:?} {version}");
            assert_eq!(fixed_versions(&row).as_deref(), fixed, "{row:?}");
        }
    }
}
