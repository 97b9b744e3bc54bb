//! Compares two databases.

use std::sync::Arc;

use super::super::bolt::{BoltEntry, BucketWalk};
use super::super::changes::{ChangedNames, NameComparison, merge};
use super::{DETAILS, DamagedDatabase, RED_HAT_CPE, SOURCES, TrivyDb, TrivyDetail, parse};

impl TrivyDb {
    /// Adds the names of the packages whose rows, or whose vulnerabilities, differ between the databases. A missing
    /// database counts as empty.
    ///
    /// # Errors
    /// A part that was read is damaged, or what the comparison reports.
    pub(in super::super) fn compare(
        before: Option<&Self>,
        now: Option<&Self>,
        out: &mut NameComparison<'_>,
    ) -> Result<(), DamagedDatabase> {
        let rated = differently_rated(before, now, out)?;
        let own = before.into_iter().flat_map(Self::packages_by_place);
        let other = now.into_iter().flat_map(Self::packages_by_place);
        merge(own, other, &mut |_, own, other| {
            merge(keys(own)?, keys(other)?, &mut |package, own, other| {
                out.go_on()?;
                if is_same(own, other, &rated)? {
                    return Ok(());
                }
                let name = String::from_utf8_lossy(package);
                out.add(&name)?;
                // `nodejs:18::npm` names the package of a module stream.
                name.rsplit_once("::").map_or(Ok(()), |(_, name)| out.add(name))
            })
        })
    }

    /// The buckets with packages, in the order of their names.
    fn packages_by_place(&self) -> impl Iterator<Item = Result<(&str, BoltEntry<'_>), DamagedDatabase>> {
        let places = self.buckets.iter().filter(|(name, _)| ![DETAILS, SOURCES, RED_HAT_CPE].contains(&name.as_str()));
        places.map(|(name, bucket)| Ok((name.as_str(), BoltEntry::Bucket(self.file.bucket_at(bucket.root.clone())))))
    }
}

/// The vulnerabilities of which severities or scores differ.
fn differently_rated(
    before: Option<&TrivyDb>,
    now: Option<&TrivyDb>,
    out: &NameComparison<'_>,
) -> Result<ChangedNames, DamagedDatabase> {
    let mut rated = ChangedNames::default();
    merge(keys(details(before))?, keys(details(now))?, &mut |id, own, other| {
        out.go_on()?;
        let (own, other) = (own.and_then(BoltEntry::value), other.and_then(BoltEntry::value));
        if own == other || rating(own.as_deref())? == rating(other.as_deref())? {
            return Ok(());
        }
        rated.add(&String::from_utf8_lossy(id))
    })?;
    Ok(rated)
}

/// The descriptions of vulnerabilities.
fn details(database: Option<&TrivyDb>) -> Option<BoltEntry<'_>> {
    database?.bucket(DETAILS).map(BoltEntry::Bucket)
}

/// What decisions need of a description.
fn rating(value: Option<&[u8]>) -> Result<Option<TrivyDetail>, DamagedDatabase> {
    let Some(value) = value else { return Ok(None) };
    let detail: TrivyDetail = parse(value, DETAILS)?;
    let (title, references) = (String::new(), Arc::default());
    Ok(Some(TrivyDetail { title, references, last_modified_date: None, ..detail }))
}

/// The keys of a bucket, if there is one.
type BucketKeys<'a> = std::iter::Flatten<std::option::IntoIter<BucketWalk<'a>>>;

fn keys(bucket: Option<BoltEntry<'_>>) -> Result<BucketKeys<'_>, DamagedDatabase> {
    let walk = match bucket {
        Some(BoltEntry::Bucket(bucket)) => Some(bucket.walk()?),
        Some(BoltEntry::Value(_)) | None => None,
    };
    Ok(walk.into_iter().flatten())
}

/// Whether both databases have the same rows about a package, and none about one of these vulnerabilities.
fn is_same(
    own: Option<BoltEntry<'_>>,
    other: Option<BoltEntry<'_>>,
    rated: &ChangedNames,
) -> Result<bool, DamagedDatabase> {
    let mut is_same = true;
    merge(keys(own)?, keys(other)?, &mut |id, own, other| {
        let (own, other) = (own.and_then(BoltEntry::value), other.and_then(BoltEntry::value));
        is_same &= own == other && !is_about(id, other.as_deref().unwrap_or_default(), rated);
        Ok(())
    })?;
    Ok(is_same)
}

/// Whether a row is about one of these vulnerabilities: its key names it, or, in rows of Red Hat, `ID` in the value.
fn is_about(id: &[u8], value: &[u8], rated: &ChangedNames) -> bool {
    if rated.is_empty() {
        return false;
    }
    let named = std::str::from_utf8(value).unwrap_or_default().split("\"ID\":\"").skip(1);
    let mut named = named.filter_map(|rest| rest.split('"').next());
    rated.contains(&String::from_utf8_lossy(id)) || named.any(|id| rated.contains(id))
}
