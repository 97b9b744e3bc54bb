//! What was read from the databases in use, and what was found for packages in them: images share most of it.

use std::sync::Arc;

use super::find::CandidateMatch;
use super::osv::StoredTexts;
use super::package_key::PackageKey;
use super::{MatchedAdvisory, OsvDetail, OsvSeverity, TrivyDetail};
use crate::runtime::{ALLOCATION, Bounded, budget};

/// The approximate size of the severities and scores of a detail of trivy-db, in bytes.
const RATINGS: usize = 512;

/// Details by identifier, and findings by package, as one generation of the databases states them.
#[derive(Debug)]
pub(super) struct DetailCache {
    trivy: Bounded<Arc<str>, Option<Arc<TrivyDetail>>>,
    osv: Bounded<Arc<str>, Arc<OsvDetail>>,
    found: Bounded<FoundKey, Arc<[CandidateMatch]>>,
}

/// A package, and where it was looked up.
pub(super) type FoundKey = (PackageKey, PackageKey);

impl Default for DetailCache {
    fn default() -> Self {
        Self {
            trivy: Bounded::new(budget::DETAILS / 2, |id: &Arc<str>, detail: &Option<Arc<TrivyDetail>>| {
                id.len() + ALLOCATION + detail.as_deref().map_or(0, size_of_trivy)
            }),
            osv: Bounded::new(budget::DETAILS / 2, |id: &Arc<str>, detail: &Arc<OsvDetail>| {
                id.len() + ALLOCATION + size_of_osv(detail)
            }),
            found: Bounded::new(budget::FOUND, |_: &FoundKey, found: &Arc<[CandidateMatch]>| {
                ALLOCATION + found.iter().map(size_of_candidate).sum::<usize>()
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
    /// What trivy-db says about a vulnerability; `read` reads it.
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

    /// What was found for a package.
    pub(super) fn found(&self, key: &FoundKey) -> Option<Arc<[CandidateMatch]>> {
        self.found.get(key)
    }

    /// Keeps what was found for a package.
    pub(super) fn keep(&self, key: FoundKey, found: &[CandidateMatch]) {
        self.found.insert(key, found.into());
    }

    /// The rest of an OSV record; `read` reads it.
    pub(super) fn osv<E>(
        &self,
        id: &str,
        read: impl FnOnce() -> Result<Arc<OsvDetail>, E>,
    ) -> Result<Arc<OsvDetail>, E> {
        if let Some(known) = self.osv.get(id) {
            return Ok(known);
        }
        let detail = read()?;
        self.osv.insert(id.into(), detail.clone());
        Ok(detail)
    }
}
