//! Reads bbolt files (go.etcd.io/bbolt, format version 2), the key-value format of trivy-db.
//!
//! A file is a sequence of pages. Page 0 and page 1 each contain a meta page; the valid one with the higher transaction
//! number counts. A bucket is a B+ tree of branch and leaf pages, and a leaf may contain further buckets. A small
//! bucket is stored inline: its only leaf is in the value itself.
//!
//! The bytes are not trusted. Pages are read with positioned reads, each offset and length is checked before it is
//! used, and the depth of trees and the size of pages are limited. A read error is an error of the look-up; a mapping
//! of the file would turn it into a signal that ends the process.

mod check;
mod meta;
mod page;
#[cfg(test)]
pub(super) mod sample;
#[cfg(test)]
mod tests;
mod walk;

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;

use self::meta::Meta;
use self::page::{BoltPage, Item};
pub(super) use self::walk::BucketWalk;
use super::DamagedDatabase;
use crate::runtime::{Bounded, budget};

/// The maximum depth of a tree. A file of 16 TiB with two keys per page is shallower.
const MAX_DEPTH: usize = 40;
/// The maximum size of a page with its overflow pages, in bytes. The largest values of trivy-db have less than 1 MiB.
const MAX_PAGE: u64 = 64 << 20;

/// An open bbolt file, which must not change while it is open.
#[derive(Debug)]
pub(super) struct BoltFile {
    file: File,
    page_size: u64,
    /// The number of pages in use: all page numbers are below it.
    pages: u64,
    /// The page at the root of the root bucket.
    root: u64,
    /// Branch pages that were read: most look-ups use the same ones.
    branches: Bounded<u64, BoltPage>,
}

impl BoltFile {
    /// Reads and checks the meta pages.
    ///
    /// # Errors
    /// The file cannot be read, neither meta page is valid, or pages in use are beyond the end of the file.
    pub(super) fn open(file: File) -> Result<Self, DamagedDatabase> {
        let size = file.metadata().map_err(|error| DamagedDatabase(error.to_string()))?.len();
        let Meta { page_size, pages, root, .. } = Meta::read(&file)?;
        if pages.checked_mul(page_size).is_none_or(|end| end > size) {
            return damaged(format!(
                "it is truncated: {size} bytes, but {pages} pages of {page_size} bytes are in use"
            ));
        }
        let branches = Bounded::new(budget::PAGES, |_: &u64, page: &BoltPage| page.size());
        Ok(Self { file, page_size, pages, root, branches })
    }

    /// The bucket that contains all others.
    pub(super) fn root(&self) -> Bucket<'_> {
        Bucket { file: self, root: BucketRoot::Page(self.root) }
    }

    /// A bucket of this file, by its root.
    pub(super) fn bucket_at(&self, root: BucketRoot) -> Bucket<'_> {
        Bucket { file: self, root }
    }

    /// Reads a page of a tree with its overflow pages.
    fn page(&self, number: u64) -> Result<BoltPage, DamagedDatabase> {
        if !(2..self.pages).contains(&number) {
            return damaged(format!("page {number} is not one of the {} pages", self.pages));
        }
        if let Some(known) = self.branches.get(&number) {
            return Ok(known);
        }
        let mut bytes = vec![0; usize::try_from(self.page_size).unwrap_or_default()];
        self.read(number, &mut bytes, 0)?;
        let total = page::size(&bytes, number, self.page_size)?;
        if total > MAX_PAGE || (self.pages - number) * self.page_size < total {
            return damaged(format!("page {number} claims a size of {total} bytes"));
        }
        let first = bytes.len();
        bytes.resize(usize::try_from(total).unwrap_or(first), 0);
        self.read(number, &mut bytes[first..], first as u64)?;
        let page = BoltPage::new(bytes.into(), &|| format!("page {number}"))?;
        if page.is_branch() {
            self.branches.insert(number, page.clone());
        }
        Ok(page)
    }

    /// Fills `into` with the bytes that start `skip` bytes into a page.
    fn read(&self, page: u64, into: &mut [u8], skip: u64) -> Result<(), DamagedDatabase> {
        let read = self.file.read_exact_at(into, page * self.page_size + skip);
        read.map_err(|error| DamagedDatabase(format!("page {page}: {error}")))
    }
}

/// A bucket: sorted keys, each with a value or a bucket.
#[derive(Clone, Debug)]
pub(super) struct Bucket<'a> {
    file: &'a BoltFile,
    root: BucketRoot,
}

/// Where a bucket's pages begin.
#[derive(Clone, Debug)]
pub(super) enum BucketRoot {
    /// The number of the page.
    Page(u64),
    /// The only page.
    Inline(BoltPage),
}

/// What a key of a bucket leads to.
#[derive(Clone, Debug)]
pub(super) enum BoltEntry<'a> {
    /// A value, which shares the memory of its page.
    Value(Bytes),
    /// A bucket.
    Bucket(Bucket<'a>),
}

impl BoltEntry<'_> {
    /// The value; `None` for a bucket.
    pub(super) fn value(self) -> Option<Bytes> {
        match self {
            Self::Value(value) => Some(value),
            Self::Bucket(_) => None,
        }
    }
}

impl<'a> Bucket<'a> {
    /// Where it begins, for [`BoltFile::bucket_at`].
    pub(super) fn into_root(self) -> BucketRoot {
        self.root
    }

    /// Finds a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<BoltEntry<'a>>, DamagedDatabase> {
        let mut page = self.top()?;
        for _ in 0..MAX_DEPTH {
            let position = page.search(key)?;
            if page.is_branch() {
                // A branch holds the first key of each page below it.
                let Some(child) = page.child(position.unwrap_or_else(|next| next.saturating_sub(1)))? else {
                    return Ok(None);
                };
                page = self.file.page(child)?;
            } else {
                return position.ok().map(|index| self.entry(page.item(index)?)).transpose();
            }
        }
        damaged(format!("a tree has more than {MAX_DEPTH} levels"))
    }

    fn top(&self) -> Result<BoltPage, DamagedDatabase> {
        match &self.root {
            BucketRoot::Page(number) => self.file.page(*number),
            BucketRoot::Inline(page) => Ok(page.clone()),
        }
    }

    fn entry(&self, item: Item) -> Result<BoltEntry<'a>, DamagedDatabase> {
        if !item.is_bucket {
            return Ok(BoltEntry::Value(item.value));
        }
        let root = match page::bucket_root(&item.value)? {
            0 => BucketRoot::Inline(page::inline(&item.value)?),
            number => BucketRoot::Page(number),
        };
        Ok(BoltEntry::Bucket(Bucket { file: self.file, root }))
    }
}

/// A failure with this description.
fn damaged<T>(problem: String) -> Result<T, DamagedDatabase> {
    Err(DamagedDatabase(problem))
}
