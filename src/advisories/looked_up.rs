//! In which databases the packages of an image are looked up. Only their ages determine how old the knowledge about the
//! image is: a database of another ecosystem does not matter, however old it is.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::find::Lookups;
use super::library;
use super::osv_match::{SystemEcosystem, osv_ecosystem, system_ecosystem, with_registries};
use super::release::{Release, with_releases};
use crate::inventory::{Ecosystem, Inventory};

/// The databases that list packages of the kinds that are in an image.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct LookedUp {
    pub(super) trivy: bool,
    /// The places of indexes in [`Lookups::osv`].
    pub(super) osv: BTreeSet<usize>,
}

/// Which databases these are for an inventory. One that is damaged counts, because it may list anything.
pub(super) fn looked_up(databases: &Lookups<'_>, inventory: &Inventory, now: Timestamp) -> LookedUp {
    let kinds: BTreeSet<Ecosystem> = inventory.packages.iter().map(|package| package.ecosystem).collect();
    let distributions = inventory.distribution.as_ref().map_or_else(Vec::new, with_releases);
    let trivy = databases.trivy.is_some_and(|trivy| {
        let mut prefixes = kinds.iter().filter_map(|kind| library::prefix(*kind));
        let releases = distributions.iter().filter_map(|distribution| Release::of(distribution, now));
        let mut releases = releases.filter(|release| kinds.contains(&release.ecosystem));
        releases.any(|release| trivy.covers(&release.bucket).unwrap_or(true))
            || prefixes.any(|prefix| trivy.buckets(prefix).map_or(true, |buckets| !buckets.is_empty()))
    });
    let languages = kinds.iter().filter_map(|kind| osv_ecosystem(*kind));
    let languages = languages.flat_map(|name| with_registries(&databases.osv, name));
    let systems = distributions.iter().filter_map(|named| system_ecosystem(&databases.osv, named));
    let systems: Vec<_> = systems.filter(|system| kinds.contains(&system.package)).collect();
    let systems = systems.iter().flat_map(SystemEcosystem::all_names).map(str::to_owned);
    let names: Vec<String> = languages.chain(systems).collect();
    let lists_any = |osv: &dyn super::OsvRows| names.iter().any(|name| osv.covers(name).unwrap_or(true));
    let indexes = databases.osv.iter().enumerate();
    let osv = indexes.filter(|(_, osv)| lists_any(**osv)).map(|(place, _)| place).collect();
    LookedUp { trivy, osv }
}
