//! Details read from the databases in use, and the findings for packages: images share most of them.

use std::sync::Arc;

use super::find::CandidateMatch;
use super::osv::StoredTexts;
use super::package_key::PackageKey;
use super::{DamagedDatabase, MatchedAdvisory, OsvDetail, OsvSeverity, TrivyDetail};
use crate::runtime::{ALLOCATION, Bounded, budget};

/// The approximate size of the severities and scores of a detail of trivy-db, in bytes.
const RATINGS: usize = 512;
/// The limit of a map to which nothing is added, in bytes.
const UNUSED: u64 = 64 * 1024;

/// Details by identifier, and findings by package, as one generation of the databases states them.
#[derive(Debug)]
pub(super) struct DetailCache {
    trivy: Bounded<Arc<str>, Option<Arc<TrivyDetail>>>,
    osv: Bounded<OsvKey, Arc<OsvDetail>>,
    found: Bounded<FoundKey, Arc<[CandidateMatch]>>,
    rows: Bounded<RowsKey, Arc<[u8]>>,
}

/// A package, and where it was looked up.
pub(super) type FoundKey = (PackageKey, PackageKey);

/// The place of an index of OSV records among those in use, and the identifier of a record in it: indexes may have
/// different records of one identifier.
type OsvKey = (usize, Arc<str>);

/// The place of an index of OSV records among those in use, and the hash of a package in it.
type RowsKey = (usize, u64);

/// The encoded rows about packages that were read from an index, whatever their versions: images have many versions of
/// one package, and most packages have no rows.
#[derive(Clone, Copy, Debug)]
pub struct KnownRows<'a> {
    cache: &'a DetailCache,
    index: usize,
}

impl KnownRows<'_> {
    /// The rows of a package, by its hash; `read` reads them.
    pub(super) fn get_or_read(
        self,
        package: u64,
        read: impl FnOnce() -> Result<Arc<[u8]>, DamagedDatabase>,
    ) -> Result<Arc<[u8]>, DamagedDatabase> {
        let key = (self.index, package);
        if let Some(known) = self.cache.rows.get(&key) {
            return Ok(known);
        }
        let rows = read()?;
        self.cache.rows.insert(key, rows.clone());
        Ok(rows)
    }
}

impl Default for DetailCache {
    fn default() -> Self {
        Self::new(true, true)
    }
}

impl DetailCache {
    /// A cache for these kinds of databases, which share its memory.
    pub(super) fn new(has_trivy: bool, has_osv: bool) -> Self {
        let share = |budget: u64, is_wanted: bool, is_shared: bool| match (is_wanted, is_shared) {
            (false, _) => UNUSED,
            (true, false) => budget,
            (true, true) => budget / 2,
        };
        Self {
            trivy: Bounded::new(
                share(budget::DETAILS, has_trivy, has_osv),
                |id: &Arc<str>, detail: &Option<Arc<TrivyDetail>>| {
                    id.len() + ALLOCATION + detail.as_deref().map_or(0, size_of_trivy)
                },
            ),
            osv: Bounded::new(
                share(budget::DETAILS, has_osv, has_trivy),
                |(_, id): &OsvKey, detail: &Arc<OsvDetail>| id.len() + ALLOCATION + size_of_osv(detail),
            ),
            found: Bounded::new(share(budget::FOUND, true, has_osv), |_: &FoundKey, found: &Arc<[CandidateMatch]>| {
                ALLOCATION + found.iter().map(size_of_candidate).sum::<usize>()
            }),
            rows: Bounded::new(share(budget::FOUND, has_osv, true), |_: &RowsKey, rows: &Arc<[u8]>| {
                ALLOCATION + rows.len()
            }),
        }
    }
}

fn size_of_candidate(candidate: &CandidateMatch) -> usize {
    let CandidateMatch { matched, advisories } = candidate;
    let MatchedAdvisory { id, aliases, fixed, source, severity_source, ratings, title, score, references, .. } =
        matched;
    let optional = [fixed, severity_source, title].into_iter().flatten().map(|text| text.len() + ALLOCATION);
    let vector = score.as_ref().map_or(0, |score| score.source().len() + score.vector().map_or(0, str::len));
    let rated =
        size_of_val(ratings.as_slice()) + ratings.iter().map(|(source, _)| source.len() + ALLOCATION).sum::<usize>();
    let lists = size_of_texts(aliases) + size_of_texts(advisories) + size_of_val(references.as_slice());
    size_of::<CandidateMatch>()
        + id.len()
        + source.len()
        + optional.sum::<usize>()
        + vector
        + lists
        + rated
        + 8 * ALLOCATION
}

fn size_of_trivy(detail: &TrivyDetail) -> usize {
    size_of::<TrivyDetail>() + RATINGS + detail.title.len() + size_of_texts(&detail.references) + 3 * ALLOCATION
}

fn size_of_osv(detail: &OsvDetail) -> usize {
    let OsvDetail { id, aliases, upstream, related, summary, severity, .. } = detail;
    let lists = [&aliases[..], upstream, related];
    let names = lists.into_iter().map(|list| size_of_texts(list) + ALLOCATION).sum::<usize>();
    // The vector is also part of the rating.
    let of_severity =
        |one: &OsvSeverity| size_of::<OsvSeverity>() + one.kind.len() + 2 * one.score.len() + 3 * ALLOCATION;
    let severities = severity.iter().map(of_severity).sum::<usize>();
    let references = size_of::<StoredTexts>() + ALLOCATION;
    size_of::<OsvDetail>() + id.len() + summary.len() + names + severities + references + 3 * ALLOCATION
}

fn size_of_texts(texts: &[String]) -> usize {
    texts.iter().map(|text| size_of::<String>() + text.len() + ALLOCATION).sum()
}

impl DetailCache {
    /// The details of a vulnerability in trivy-db; `read` is called if they are not in memory.
    pub(super) fn trivy<E>(
        &self,
        id: &str,
        read: impl FnOnce() -> Result<Option<Arc<TrivyDetail>>, E>,
    ) -> Result<Option<Arc<TrivyDetail>>, E> {
        if let Some(known) = self.trivy.get(id) {
            return Ok(known);
        }
        let detail = read()?;
        self.trivy.insert(id.into(), detail.clone());
        Ok(detail)
    }

    /// The rows that were read from the index at this place among those in use.
    pub(super) fn rows_of(&self, index: usize) -> KnownRows<'_> {
        KnownRows { cache: self, index }
    }

    /// What was found for a package.
    pub(super) fn found(&self, key: &FoundKey) -> Option<Arc<[CandidateMatch]>> {
        self.found.get(key)
    }

    /// Keeps what was found for a package.
    pub(super) fn keep(&self, key: FoundKey, found: &[CandidateMatch]) {
        self.found.insert(key, found.into());
    }

    /// The rest of the OSV record with this identifier in the index at this place among those in use; `read` reads it.
    pub(super) fn osv<E>(
        &self,
        (index, id): (usize, &str),
        read: impl FnOnce() -> Result<Arc<OsvDetail>, E>,
    ) -> Result<Arc<OsvDetail>, E> {
        let key: OsvKey = (index, id.into());
        if let Some(known) = self.osv.get(&key) {
            return Ok(known);
        }
        let detail = read()?;
        self.osv.insert(key, detail.clone());
        Ok(detail)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn rows_are_read_once_for_each_index_and_package() {
        let (cache, reads) = (DetailCache::default(), Cell::new(0));
        for (index, package, rows) in [(0, 1, "a"), (1, 1, "b"), (0, 2, ""), (0, 1, "a")] {
            let read = || {
                reads.set(reads.get() + 1);
                Ok(rows.as_bytes().into())
            };
            let read = cache.rows_of(index).get_or_read(package, read).unwrap();
            assert_eq!(&*read, rows.as_bytes(), "{index} {package}");
        }
        assert_eq!(reads.get(), 3);
        let damaged = || Err(DamagedDatabase("a checksum".to_owned()));
        assert!(cache.rows_of(1).get_or_read(2, damaged).is_err());
        assert!(cache.rows_of(1).get_or_read(2, || Ok(Arc::default())).is_ok(), "an error is not kept");
    }

    #[test]
    fn records_are_read_once_for_each_index_and_identifier() {
        for order in [[0_usize, 1], [1, 0]] {
            let (cache, reads) = (DetailCache::default(), Cell::new(0));
            for index in order.repeat(2) {
                let word = Some(["LOW", "CRITICAL"][index].to_owned());
                let read = || {
                    reads.set(reads.get() + 1);
                    Ok::<_, DamagedDatabase>(Arc::new(OsvDetail {
                        severity_word: word.clone(),
                        ..OsvDetail::default()
                    }))
                };
                let detail = cache.osv((index, "GHSA-1"), read).unwrap();
                assert_eq!(detail.severity_word, word, "{index} of {order:?}");
            }
            assert_eq!(reads.get(), 2);
        }
    }
}
