//! Details of vulnerabilities that were read from the databases in use: images share most of them.

use std::sync::Arc;

use super::{OsvDetail, OsvSeverity, TrivyDetail};
use crate::runtime::{ALLOCATION, Bounded, budget};

/// The approximate size of the severities and scores of a detail of trivy-db, in bytes.
const RATINGS: usize = 512;

/// Details by identifier, as one generation of the databases states them.
#[derive(Debug)]
pub(super) struct DetailCache {
    trivy: Bounded<Arc<str>, Option<Arc<TrivyDetail>>>,
    osv: Bounded<Arc<str>, Arc<OsvDetail>>,
}

impl Default for DetailCache {
    fn default() -> Self {
        Self {
            trivy: Bounded::new(budget::DETAILS / 2, |id: &Arc<str>, detail: &Option<Arc<TrivyDetail>>| {
                id.len() + ALLOCATION + detail.as_deref().map_or(0, size_of_trivy)
            }),
            osv: Bounded::new(budget::DETAILS / 2, |id: &Arc<str>, detail: &Arc<OsvDetail>| {
                id.len() + ALLOCATION + size_of_osv(detail)
            }),
        }
    }
}

fn size_of_trivy(detail: &TrivyDetail) -> usize {
    size_of::<TrivyDetail>() + RATINGS + detail.title.len() + size_of_texts(&detail.references) + 3 * ALLOCATION
}

fn size_of_osv(detail: &OsvDetail) -> usize {
    let OsvDetail { id, aliases, upstream, related, summary, severity, references, .. } = detail;
    let lists = [&aliases[..], upstream, related, references];
    let names = lists.into_iter().map(|list| size_of_texts(list) + ALLOCATION).sum::<usize>();
    // The vector is also part of the rating.
    let of_severity =
        |one: &OsvSeverity| size_of::<OsvSeverity>() + one.kind.len() + 2 * one.score.len() + 3 * ALLOCATION;
    let severities = severity.iter().map(of_severity).sum::<usize>();
    size_of::<OsvDetail>() + id.len() + summary.len() + names + severities + 3 * ALLOCATION
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

    /// The rest of an OSV record; `read` reads it.
    pub(super) fn osv<E>(
        &self,
        id: &str,
        read: impl FnOnce() -> Result<Option<Arc<OsvDetail>>, E>,
    ) -> Result<Option<Arc<OsvDetail>>, E> {
        if let Some(known) = self.osv.get(id) {
            return Ok(Some(known));
        }
        let detail = read()?;
        if let Some(detail) = &detail {
            self.osv.insert(id.into(), detail.clone());
        }
        Ok(detail)
    }
}
