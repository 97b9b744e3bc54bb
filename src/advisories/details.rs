//! Details of vulnerabilities that were read from the databases in use: images share most of them.

use std::sync::Arc;

use super::{OsvDetail, TrivyDetail};
use crate::runtime::{ALLOCATION, Bounded, budget};

/// The approximate size of an entry apart from its texts and addresses, in bytes.
const BASE: usize = 1024;

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
                id.len() + detail.as_ref().map_or(0, |detail| BASE + size_of_texts(&detail.references))
            }),
            osv: Bounded::new(budget::DETAILS / 2, |id: &Arc<str>, detail: &Arc<OsvDetail>| {
                let lists = [&detail.aliases, &detail.upstream, &detail.related];
                let names = lists.into_iter().map(|list| size_of_texts(list)).sum::<usize>();
                id.len() + BASE + names + size_of_texts(&detail.references)
            }),
        }
    }
}

fn size_of_texts(texts: &[String]) -> usize {
    texts.iter().map(|text| text.len() + ALLOCATION).sum()
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
