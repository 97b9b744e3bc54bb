//! Detects without a query that the store has no row for a tag, as is the case for most tags pulled for the first time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Facts;
use crate::oci::{ImageName, Tag};
use crate::runtime::{BloomFilter, budget};
use crate::store::StoreError;

/// How many tags are read at a time.
const PAGE: usize = 2000;

/// The tags that may have a row in the store. Before all rows of earlier processes were read, that is any tag.
pub(in crate::resolve) struct TagFilter {
    tags: BloomFilter,
    is_complete: AtomicBool,
}

impl TagFilter {
    pub(in crate::resolve) fn new() -> Self {
        Self { tags: BloomFilter::new(budget::TAG_FILTER), is_complete: AtomicBool::new(false) }
    }

    /// Must be called before the row of a tag is written.
    pub(super) fn add(&self, host: &str, repository: &str, tag: &str) {
        self.tags.add(&(host, repository, tag));
    }

    /// Whether a tag may have a row. False is certain.
    pub(super) fn may_have(&self, name: &ImageName, tag: &Tag) -> bool {
        let key = (name.host.as_str(), name.repository.as_str(), tag.as_str());
        !self.is_complete.load(Ordering::Acquire) || self.tags.may_have(&key)
    }
}

impl Facts {
    /// Learns which tags have rows.
    pub(super) async fn read_tags(self: Arc<Self>) {
        tokio::select! {
            read = self.fill_tag_filter() => if let Err(error) = read {
                tracing::warn!(%error, "cannot read which tags are known; pulls of new tags take longer");
            },
            () = self.tasks.stopping() => {}
        }
    }

    pub(super) async fn fill_tag_filter(&self) -> Result<(), StoreError> {
        let mut last = None;
        loop {
            let page = self.store.tag_names(last.as_ref(), PAGE).await?;
            let Some(end) = page.last() else { break };
            last = Some(end.last());
            for names in &page {
                names.tags().for_each(|tag| self.memory.tag_filter.add(&names.host, &names.repository, tag));
            }
        }
        self.memory.tag_filter.is_complete.store(true, Ordering::Release);
        Ok(())
    }
}
