//! Which advisories apply to an inventory.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::cve_table::{CveKey, CveTable};
use super::details::DetailCache;
use super::looked_up::{LookedUp, looked_up};
use super::package_key::PackageKey;
use super::release::{Release, end_of_life, with_releases};
use super::{
    DamagedDatabase, Databases, MatchedAdvisory, OsvDetail, OsvRow, OsvRows, SourceState, TrivyDetail, TrivyRows, join,
    library, osv_match, rebuilt, system,
};
use crate::inventory::{Ecosystem, Gap, InstalledPackage, Inventory};
use crate::policy::DatedDatabase;
use crate::version::VersionScheme;

/// What the databases say about an inventory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageFindings {
    /// The vulnerabilities, each once for each package that it affects, ordered by package and identifier.
    pub matches: Vec<MatchedAdvisory>,
    /// Packages that the image contains several times, by the index of the first: the indexes of the others. What
    /// affects the first affects them, too.
    pub copies: HashMap<usize, Vec<usize>>,
    /// What could not be judged, in order, in addition to the gaps of the inventory. If there are any, the image is not
    /// known to be clean.
    pub gaps: Vec<Gap>,
    /// When the support of the distribution's release ends or has ended, if that is known. After that, new
    /// vulnerabilities are not listed.
    pub end_of_life: Option<Timestamp>,
    /// The databases of advisories that list packages of the kinds in the image, by name. Empty if there are none.
    pub databases: Vec<DatedDatabase>,
}

/// Finds the advisories that apply to the packages of an image.
///
/// Packages of the distribution are matched as the distribution's advisories define it, packages of programming
/// languages by ecosystem. Packages that the distribution did not build are not covered by its advisories and are left
/// out, as Trivy does. What the databases do not cover, and what cannot be compared, is a [`Gap`]. An advisory whose
/// versions cannot be read counts as affecting the package, with the status [`Unknown`](super::FixStatus::Unknown).
///
/// `now` decides whether releases are supported. The result depends on nothing else, so it holds until the databases
/// change or support ends.
pub fn find(databases: &Databases, inventory: &Inventory, now: Timestamp) -> ImageFindings {
    let details = Some(databases.details());
    let lookups = Lookups { trivy: databases.trivy(), osv: databases.osv().collect(), details };
    let mut found = find_in(&lookups, inventory, now);
    let LookedUp { trivy, osv } = looked_up(&lookups, inventory, now);
    found.databases = databases.dated(trivy, &osv);
    add_feeds(databases, &mut found);
    for source in databases.unusable() {
        if let SourceState::Unusable { problem } = &source.state {
            found.gaps.push(Gap { place: source.source.clone(), problem: problem.clone() });
        }
    }
    found.gaps.sort_unstable();
    found
}

/// What the feeds say about a vulnerability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FeedRating {
    /// Whether it is known to be exploited; also false if that feed is not in use.
    pub exploited: bool,
    /// The probability that it will be exploited, 0 to 1; `None` if it is not known.
    pub epss: Option<f64>,
}

/// Looks up a vulnerability with these names in the feeds. A damaged feed returns nothing, and adds one gap with its
/// name as the place.
pub fn rate<'a>(databases: &Databases, names: impl Iterator<Item = &'a str>, gaps: &mut Vec<Gap>) -> FeedRating {
    let (kev, epss) = databases.feeds();
    let cves: Vec<CveKey> = names.filter_map(CveKey::parse).collect();
    let mut look_up = |feed: Option<&CveTable>, place: &str| {
        let numbers = cves.iter().filter_map(|cve| feed.map(|feed| feed.get(*cve)));
        let numbers: Result<Vec<Option<u32>>, DamagedDatabase> = numbers.collect();
        let numbers = numbers.unwrap_or_else(|error| {
            if gaps.iter().all(|gap| gap.place != place) {
                gaps.push(Gap { place: place.to_owned(), problem: error.to_string() });
            }
            Vec::new()
        });
        numbers.into_iter().flatten().collect::<Vec<u32>>()
    };
    let scores = look_up(epss, "epss").into_iter().map(|bits| f64::from(f32::from_bits(bits)));
    FeedRating { epss: scores.reduce(f64::max), exploited: !look_up(kev, "kev").is_empty() }
}

/// Adds what the feeds say about the vulnerabilities: known exploited ones, and probabilities of exploitation.
fn add_feeds(databases: &Databases, found: &mut ImageFindings) {
    let mut gaps = Vec::new();
    for matched in &mut found.matches {
        let names = std::iter::once(&*matched.id).chain(matched.aliases.iter().map(|alias| &**alias));
        let rating = rate(databases, names, &mut gaps);
        (matched.exploited, matched.epss) = (rating.exploited, rating.epss);
    }
    found.gaps.extend(gaps);
}

/// The maximum number of advisories that apply, before those of several sources are joined. Old images with everything
/// have ten thousand; an image may contain the same package any number of times.
const MAX_CANDIDATES: usize = 100_000;

/// The databases that [`find`] uses. An image that needs a missing one has a gap.
#[derive(Default)]
pub(super) struct Lookups<'a> {
    pub(super) trivy: Option<&'a dyn TrivyRows>,
    pub(super) osv: Vec<&'a dyn OsvRows>,
    /// Details that were read before, for any image.
    pub(super) details: Option<&'a DetailCache>,
}

/// Finds the advisories of these databases.
pub(super) fn find_in(databases: &Lookups<'_>, inventory: &Inventory, now: Timestamp) -> ImageFindings {
    let (different, keys, copies) = different_packages(inventory);
    let mut search = AdvisorySearch {
        databases,
        inventory,
        different,
        keys,
        candidates: Vec::new(),
        gaps: BTreeSet::new(),
        details: HashMap::new(),
    };
    let distributions = inventory.distribution.as_ref().map_or_else(Vec::new, with_releases);
    let releases: Vec<Option<Release>> = distributions.iter().map(|known| Release::of(known, now)).collect();
    let releases: Vec<_> = distributions.iter().zip(&releases).collect();
    system::find(&mut search, &releases);
    library::find(&mut search);
    rebuilt::find(&mut search);
    osv_match::find(&mut search);
    let end_of_life = releases.first().and_then(|(known, release)| end_of_life(known, release.as_ref()));
    let matches = join::join(search.candidates);
    ImageFindings { matches, copies, gaps: search.gaps.into_iter().collect(), end_of_life, databases: Vec::new() }
}

/// The indexes of packages that differ in what advisories are found by, the key of every package, and the indexes of
/// copies in other places.
fn different_packages(inventory: &Inventory) -> (Vec<usize>, Vec<PackageKey>, HashMap<usize, Vec<usize>>) {
    let mut first: HashMap<PackageKey, usize> = HashMap::with_capacity(inventory.packages.len());
    let (mut different, mut copies) = (Vec::new(), HashMap::<usize, Vec<usize>>::new());
    let keys: Vec<PackageKey> = inventory.packages.iter().map(PackageKey::of).collect();
    for (index, key) in keys.iter().enumerate() {
        match first.entry(*key) {
            Entry::Occupied(first) => copies.entry(*first.get()).or_default().push(index),
            Entry::Vacant(place) => {
                place.insert(index);
                different.push(index);
            }
        }
    }
    (different, keys, copies)
}

/// A search under way.
pub(super) struct AdvisorySearch<'a> {
    pub(super) databases: &'a Lookups<'a>,
    pub(super) inventory: &'a Inventory,
    /// The packages, without copies of one in other places.
    different: Vec<usize>,
    /// The key of each package.
    keys: Vec<PackageKey>,
    candidates: Vec<CandidateMatch>,
    gaps: BTreeSet<Gap>,
    /// Details of trivy-db by vulnerability: an image has many packages of one source.
    details: HashMap<String, Option<Arc<TrivyDetail>>>,
}

/// An advisory that applies, before those of several sources are joined.
#[derive(Clone, Debug)]
pub(super) struct CandidateMatch {
    /// The aliases are names of the same vulnerability only.
    pub(super) matched: MatchedAdvisory,
    /// Advisories of vendors, each of which may be about several vulnerabilities.
    pub(super) advisories: Vec<String>,
}

impl<'a> AdvisorySearch<'a> {
    /// The packages with their indexes. A package that is there several times is listed once.
    pub(super) fn packages(&self) -> impl Iterator<Item = (usize, &'a InstalledPackage)> + use<'a> {
        let packages = &self.inventory.packages;
        self.different.clone().into_iter().map(move |index| (index, &packages[index]))
    }

    /// Adds the findings for a package: those of an earlier image if there are any, otherwise those of `find`. `place`
    /// names what `find` depends on besides the package. Findings with a gap are not kept, because gaps name places;
    /// neither are findings that did not fit.
    pub(super) fn known_or(&mut self, place: PackageKey, package: usize, find: impl FnOnce(&mut Self)) {
        let known = self.databases.details.zip(self.keys.get(package).map(|key| (*key, place)));
        let Some((details, key)) = known else { return find(self) };
        if let Some(found) = details.found(&key) {
            for candidate in &*found {
                let CandidateMatch { matched, advisories } = candidate.clone();
                self.push(CandidateMatch { matched: MatchedAdvisory { package, ..matched }, advisories });
            }
            return;
        }
        let (candidates, gaps) = (self.candidates.len(), std::mem::take(&mut self.gaps));
        find(self);
        if self.gaps.is_empty() && !self.is_full() {
            details.keep(key, &self.candidates[candidates..]);
        }
        self.gaps.extend(gaps);
    }

    pub(super) fn gap(&mut self, place: &str, problem: String) {
        self.gaps.insert(Gap { place: place.to_owned(), problem });
    }

    /// Adds an advisory that applies.
    pub(super) fn push(&mut self, candidate: CandidateMatch) {
        if self.is_full() {
            return;
        }
        self.candidates.push(candidate);
        if self.is_full() {
            self.gap("databases", format!("{MAX_CANDIDATES} vulnerabilities were found, and there may be more"));
        }
    }

    /// Whether no more advisories are kept, so that searching is useless.
    pub(super) fn is_full(&self) -> bool {
        self.candidates.len() >= MAX_CANDIDATES
    }

    /// Returns the value, or records that the database is damaged.
    pub(super) fn readable<T>(&mut self, database: &str, value: Result<T, DamagedDatabase>) -> Option<T> {
        value.map_err(|error| self.gap(database, error.to_string())).ok()
    }

    /// Records that the version of a package cannot be read, so advisories about the package were not compared.
    pub(super) fn unreadable_version(&mut self, package: &InstalledPackage) {
        let place = package.path.as_deref().unwrap_or(&package.name);
        let InstalledPackage { name, version, .. } = package;
        self.gap(place, format!("the version {version:?} of {name} cannot be compared with advisories"));
    }

    /// The details of a vulnerability in trivy-db.
    pub(super) fn detail(&mut self, id: &str) -> Option<Arc<TrivyDetail>> {
        let trivy = self.databases.trivy?;
        if let Some(known) = self.details.get(id) {
            return known.clone();
        }
        let detail = match self.databases.details {
            Some(known) => known.trivy(id, || trivy.detail(id)),
            None => trivy.detail(id),
        };
        // Errors are not kept: each package that needs the details gets the gap.
        let detail = self.readable(TRIVY, detail)?;
        self.details.insert(id.to_owned(), detail.clone());
        detail
    }

    /// The rest of a record of the OSV index at this place, or only its identifier if the database is damaged.
    pub(super) fn record(&mut self, place: usize, row: &OsvRow<&str>) -> Arc<OsvDetail> {
        let osv = self.databases.osv[place];
        let detail = match self.databases.details {
            Some(known) => known.osv((place, row.id), || osv.detail(row)),
            None => osv.detail(row),
        };
        let unknown = || Arc::new(OsvDetail { id: row.id.to_owned(), ..OsvDetail::default() });
        self.readable(OSV, detail).unwrap_or_else(unknown)
    }
}

/// The place of gaps that concern trivy-db.
pub(super) const TRIVY: &str = "trivy-db";
/// The place of gaps that concern the index of OSV records.
pub(super) const OSV: &str = "osv";

/// How the versions of packages are ordered.
pub(super) fn scheme(ecosystem: Ecosystem) -> VersionScheme {
    match ecosystem {
        Ecosystem::Apk => VersionScheme::Apk,
        Ecosystem::Composer => VersionScheme::Composer,
        // Bitnami appends a revision, as Debian does: `7.2.4-0`.
        Ecosystem::Bitnami | Ecosystem::Deb => VersionScheme::Deb,
        Ecosystem::Gem => VersionScheme::Gem,
        Ecosystem::Cargo | Ecosystem::Go => VersionScheme::Semver,
        Ecosystem::NuGet => VersionScheme::NuGet,
        Ecosystem::Maven => VersionScheme::Maven,
        Ecosystem::Npm => VersionScheme::Npm,
        Ecosystem::PyPi => VersionScheme::Python,
        Ecosystem::Rpm => VersionScheme::Rpm,
    }
}

/// The name and version of the source package, which are those of the package unless stated.
pub(super) fn source_of(package: &InstalledPackage) -> (&str, &str) {
    package.source.as_ref().map_or((&package.name, &package.version), |source| (&source.name, &source.version))
}
