//! The order in which verdicts are judged again. After a change of the advisory databases, images with packages named
//! in changed advisories come first: their verdicts are the most likely to change. Then come all others. In both parts,
//! the most recently pulled image is first.
//!
//! Only the order depends on what is found here: all verdicts that are outdated are judged.

use std::collections::{HashSet, VecDeque};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use jiff::Timestamp;

use super::Livescan;
use crate::oci::{Digest, Manifest};
use crate::policy::Kind;
use crate::store::{Rejudged, StoreError, StoredVerdict, VerdictBasis, VerdictPage, VerdictStore};
use crate::va::{ChangedNames, DatabaseSnapshot};

/// How many verdicts are read, judged and stored together. Small, so that the first changes are reported soon.
const PAGE: u32 = 64;
/// How many verdicts are read together in search of those that come first.
const SEARCHED: u32 = 256;
/// Databases are compared only for more verdicts than this: fewer are judged before that is done.
const FEW: u64 = 2 * PAGE as u64;
/// The maximum number of images of an index that are looked at.
const MAX_IMAGES: usize = 64;
/// How many indexes are read concurrently.
const AT_ONCE: usize = 8;

/// The order of one pass through the verdicts.
pub(super) struct JudgingOrder {
    /// The databases that are used for judging, if there are any.
    pub(super) databases: Option<DatabaseSnapshot>,
    /// Yields the names that differ from the previous databases. The comparison runs while verdicts are judged.
    comparing: Option<BoxFuture<'static, Option<ChangedNames>>>,
    first: Option<FirstVerdicts>,
    page: VerdictPage,
}

/// The verdicts that come before all others.
struct FirstVerdicts {
    names: ChangedNames,
    /// Where the search for them goes on.
    page: VerdictPage,
    found: VecDeque<StoredVerdict>,
    count: usize,
}

/// Tells which verdicts come first.
pub(super) trait FirstSearch: Sync {
    /// Those of the verdicts whose images have packages with these names, in their order.
    fn concerned<'a>(
        &'a self,
        verdicts: Vec<StoredVerdict>,
        names: &'a ChangedNames,
    ) -> BoxFuture<'a, Result<Vec<StoredVerdict>, StoreError>>;
}

impl JudgingOrder {
    fn new(databases: Option<DatabaseSnapshot>, comparing: Option<BoxFuture<'static, Option<ChangedNames>>>) -> Self {
        Self { databases, comparing, first: None, page: VerdictPage::default() }
    }

    /// The next verdicts that are judged together; empty at the end, and when `is_over` ended a search: the next call
    /// goes on with it. `unstored` were judged, and may not be stored yet.
    pub(super) async fn next(
        &mut self,
        (store, search): (&VerdictStore, &dyn FirstSearch),
        (basis, now): (&VerdictBasis, Timestamp),
        unstored: &[Rejudged],
        is_over: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<StoredVerdict>, StoreError> {
        self.look();
        loop {
            let found = match &mut self.first {
                Some(first) => first.next((store, search), (basis, now), is_over).await?,
                None => Some(store.outdated(basis, now, &mut self.page, PAGE).await?),
            };
            let Some(mut verdicts) = found else { return Ok(Vec::new()) };
            if verdicts.is_empty() {
                let Some(first) = self.first.take() else { return Ok(verdicts) };
                let (names, verdicts) = (first.names.len(), first.count);
                tracing::info!(names, verdicts, "images with packages in changed advisories were judged first");
                continue;
            }
            let judged: HashSet<i64> = unstored.iter().map(|judged| judged.before.id).collect();
            verdicts.retain(|verdict| !judged.contains(&verdict.id));
            if !verdicts.is_empty() {
                return Ok(verdicts);
            }
        }
    }

    /// Takes the result of the comparison, once there is one.
    fn look(&mut self) {
        let Some(names) = self.comparing.as_mut().and_then(|comparing| comparing.as_mut().now_or_never()) else {
            return;
        };
        self.comparing = None;
        let first = |names| FirstVerdicts { names, page: VerdictPage::default(), found: VecDeque::new(), count: 0 };
        self.first = names.filter(|names| !names.is_empty()).map(first);
    }
}

impl FirstVerdicts {
    /// The next of them; empty at the end, and `None` if `is_over` before any was found. There may be many pages
    /// without one, and no other basis is noticed while they are read.
    async fn next(
        &mut self,
        (store, search): (&VerdictStore, &dyn FirstSearch),
        (basis, now): (&VerdictBasis, Timestamp),
        is_over: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Vec<StoredVerdict>>, StoreError> {
        while self.found.is_empty() {
            if is_over() {
                return Ok(None);
            }
            let verdicts = store.outdated(basis, now, &mut self.page, SEARCHED).await?;
            if verdicts.is_empty() {
                return Ok(Some(verdicts));
            }
            self.found = search.concerned(verdicts, &self.names).await?.into();
        }
        let count = self.found.len().min(PAGE as usize);
        self.count += count;
        Ok(Some(self.found.drain(..count).collect()))
    }
}

impl Livescan {
    /// The order in which this number of verdicts is judged. `before` are the databases with which all was judged the
    /// last time.
    pub(super) fn order(&self, outdated: u64, before: Option<&DatabaseSnapshot>) -> JudgingOrder {
        let scanner = self.va.scanner();
        let now = scanner.snapshot();
        let changed = before.zip(now.as_ref()).filter(|(before, now)| outdated > FEW && !before.is_same(now));
        let comparing = changed.map(|(before, now)| scanner.changed_names(before, now));
        JudgingOrder::new(now, comparing)
    }

    /// The images that a verdict is about.
    async fn images_of(&self, verdict: &StoredVerdict) -> Vec<Digest> {
        if verdict.kind != Kind::Index {
            return vec![verdict.digest];
        }
        let manifest = self.stored_manifest(verdict).await;
        let children = manifest.as_deref().map(Manifest::children).unwrap_or_default();
        children.iter().take(MAX_IMAGES).map(|child| child.digest).collect()
    }

    async fn search(
        &self,
        verdicts: Vec<StoredVerdict>,
        names: &ChangedNames,
    ) -> Result<Vec<StoredVerdict>, StoreError> {
        let images: Vec<_> = verdicts.iter().map(|verdict| self.images_of(verdict)).collect();
        let images: Vec<Vec<Digest>> = stream::iter(images).buffered(AT_ONCE).collect().await;
        let concerned = self.va.scanner().concerned(&images.concat(), names).await?;
        let is_concerned = |images: &[Digest]| images.iter().any(|image| concerned.contains(image));
        let found = verdicts.into_iter().zip(images).filter(|(_, images)| is_concerned(images));
        Ok(found.map(|(verdict, _)| verdict).collect())
    }
}

impl FirstSearch for Livescan {
    fn concerned<'a>(
        &'a self,
        verdicts: Vec<StoredVerdict>,
        names: &'a ChangedNames,
    ) -> BoxFuture<'a, Result<Vec<StoredVerdict>, StoreError>> {
        self.search(verdicts, names).boxed()
    }
}

#[cfg(test)]
mod tests;
