//! The names of the packages whose advisories differ between two sets of databases.
//!
//! After an update, images with such packages are judged before all others. Nothing else depends on it: a name that is
//! missing here only delays, and one too many costs little. So names are compared by a short hash, without the kind of
//! the package.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;

use super::find::source_of;
use super::osv::OsvIndex;
use super::trivy_db::TrivyDb;
use super::{DamagedDatabase, Databases, GenerationManifest};
use crate::inventory::Inventory;

/// The maximum number of names that differ. If there are more, most images are affected, and their order matters
/// little.
const MAX_NAMES: usize = 250_000;

/// The names of packages whose advisories differ, as hashes.
#[derive(Clone, Debug, Default)]
pub struct ChangedNames(HashSet<u32>);

impl ChangedNames {
    /// These names.
    #[cfg(test)]
    pub(crate) fn of(names: &[&str]) -> Self {
        Self(names.iter().map(|name| hash_of_name(name)).collect())
    }

    /// The number of names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no advisory differs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of these is the name of a package in an image.
    pub fn concern(&self, names: &PackageNames) -> bool {
        names.0.iter().any(|name| self.0.contains(name))
    }

    /// Whether this name is among them.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains(&hash_of_name(name))
    }

    /// Adds a name.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn add(&mut self, name: &str) -> Result<(), DamagedDatabase> {
        self.0.insert(hash_of_name(name));
        if self.0.len() <= MAX_NAMES { Ok(()) } else { stop(&format!("more than {MAX_NAMES} names differ")) }
    }
}

/// The names by which advisories name the packages of an image, as hashes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PackageNames(Vec<u32>);

impl PackageNames {
    /// The names of the packages of an image and of their source packages.
    pub fn of(inventory: &Inventory) -> Self {
        let names = inventory.packages.iter().flat_map(|package| [package.name.as_str(), source_of(package).0]);
        let mut names: Vec<u32> = names.map(hash_of_name).collect();
        names.sort_unstable();
        names.dedup();
        Self(names)
    }

    /// Reads what [`Display`](fmt::Display) writes. `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64_STANDARD_NO_PAD.decode(text).ok()?;
        let (names, rest) = bytes.as_chunks();
        rest.is_empty().then(|| Self(names.iter().copied().map(u32::from_le_bytes).collect()))
    }
}

impl fmt::Display for PackageNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: Vec<u8> = self.0.iter().flat_map(|name| name.to_le_bytes()).collect();
        f.write_str(&BASE64_STANDARD_NO_PAD.encode(bytes))
    }
}

/// A hash that is the same for all ways to write a name: databases and package managers differ in case and separators.
/// It is stored with images.
fn hash_of_name(name: &str) -> u32 {
    let folded = name.chars().filter(|character| character.is_alphanumeric()).flat_map(char::to_lowercase);
    crc32fast::hash(folded.collect::<String>().as_bytes())
}

/// A comparison of databases, and the names that were found to differ.
pub(super) struct NameComparison<'a> {
    names: ChangedNames,
    is_wanted: &'a dyn Fn() -> bool,
}

impl NameComparison<'_> {
    /// Adds the name of a package.
    pub(super) fn add(&mut self, name: &str) -> Result<(), DamagedDatabase> {
        self.names.add(name)
    }

    /// Fails if nobody waits for the result any more.
    pub(super) fn go_on(&self) -> Result<(), DamagedDatabase> {
        if (self.is_wanted)() { Ok(()) } else { stop("it is no longer needed") }
    }
}

fn stop(why: &str) -> Result<(), DamagedDatabase> {
    Err(DamagedDatabase(why.to_owned()))
}

/// The names of the packages whose advisories differ, or the severities of their vulnerabilities. `None` if that cannot
/// be determined: a database is damaged, too many names differ, or `is_wanted` has become false.
///
/// Reads in full the databases that differ between the sets, which takes about a second for each gigabyte. The
/// feeds about vulnerabilities (KEV, EPSS) and the names of Java archives are not compared.
pub fn changed_names(before: &Databases, now: &Databases, is_wanted: &dyn Fn() -> bool) -> Option<ChangedNames> {
    let mut out = NameComparison { names: ChangedNames::default(), is_wanted };
    let done = compare_all(before.osv_sources(), now.osv_sources(), OsvIndex::compare, &mut out);
    let trivy = |databases| Databases::trivy_source(databases).into_iter();
    let done = done.and_then(|()| compare_all(trivy(before), trivy(now), TrivyDb::compare, &mut out));
    match done {
        Ok(()) => Some(out.names),
        Err(why) => {
            tracing::debug!(%why, "advisory databases were not compared");
            None
        }
    }
}

/// Compares the sources of a kind that have another generation in each set, or that one of the sets does not have.
fn compare_all<'d, T: 'd, F>(
    before: impl Iterator<Item = (&'d GenerationManifest, &'d T)>,
    now: impl Iterator<Item = (&'d GenerationManifest, &'d T)>,
    compare: F,
    out: &mut NameComparison<'_>,
) -> Result<(), DamagedDatabase>
where
    F: Fn(Option<&T>, Option<&T>, &mut NameComparison<'_>) -> Result<(), DamagedDatabase>,
{
    let by_name = |(generation, database): (&'d GenerationManifest, &'d T)| {
        Ok((generation.source.as_str(), (&generation.files, database)))
    };
    merge(before.map(by_name), now.map(by_name), &mut |_, before, now| {
        let is_same = before.zip(now).is_some_and(|((own, _), (other, _))| own == other);
        let database = |(_, database)| database;
        if is_same { Ok(()) } else { compare(before.map(database), now.map(database), out) }
    })
}

/// Goes through two lists in the order of their keys, and calls `visit` with each key and what each list has for it.
pub(super) fn merge<K: Ord, V, F>(
    mut before: impl Iterator<Item = Result<(K, V), DamagedDatabase>>,
    mut now: impl Iterator<Item = Result<(K, V), DamagedDatabase>>,
    visit: &mut F,
) -> Result<(), DamagedDatabase>
where
    F: FnMut(&K, Option<V>, Option<V>) -> Result<(), DamagedDatabase>,
{
    let (mut own, mut other) = (before.next().transpose()?, now.next().transpose()?);
    loop {
        let order = match (&own, &other) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((own, _)), Some((other, _))) => own.cmp(other),
        };
        let first = if order.is_le() { std::mem::replace(&mut own, before.next().transpose()?) } else { None };
        let second = if order.is_ge() { std::mem::replace(&mut other, now.next().transpose()?) } else { None };
        match (first, second) {
            (Some((key, first)), second) => visit(&key, Some(first), second.map(|(_, second)| second))?,
            (None, Some((key, second))) => visit(&key, None, Some(second))?,
            (None, None) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
