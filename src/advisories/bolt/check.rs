//! Checks a whole file: that each key can be found, and that each page belongs to one tree.
//!
//! A look-up reads a few pages only. If keys were out of order somewhere, it would miss rows without noticing, so a
//! file is checked as a whole before it is used for the first time.

use super::page::BoltPage;
use super::{BoltEntry, BoltFile, BucketRoot, DamagedDatabase, MAX_DEPTH, damaged};

/// The maximum nesting depth of buckets. trivy-db nests three.
const MAX_NESTING: usize = 16;

impl BoltFile {
    /// Reads every page in use and calls `visit` with each value, its key, and the names of the buckets around it.
    ///
    /// # Errors
    /// Keys are out of order, a page is in two places, or a look-up would fail; or an error of `visit`.
    pub(in super::super) fn check(&self, visit: &mut Visit<'_>) -> Result<(), DamagedDatabase> {
        let seen = vec![0; usize::try_from(self.pages / 8 + 1).unwrap_or_default()];
        let mut walk = PageWalk { file: self, seen, path: Vec::new(), visit };
        walk.bucket(&BucketRoot::Page(self.root))
    }
}

/// Receives the path of a bucket, a key and its value.
pub(in super::super) type Visit<'a> = dyn FnMut(&[Vec<u8>], &[u8], &[u8]) -> Result<(), DamagedDatabase> + 'a;

struct PageWalk<'a, 'v> {
    file: &'a BoltFile,
    /// A bit for each page.
    seen: Vec<u8>,
    path: Vec<Vec<u8>>,
    visit: &'a mut Visit<'v>,
}

impl PageWalk<'_, '_> {
    fn bucket(&mut self, root: &BucketRoot) -> Result<(), DamagedDatabase> {
        if self.path.len() > MAX_NESTING {
            return damaged(format!("buckets are nested more than {MAX_NESTING} deep"));
        }
        match root {
            BucketRoot::Page(number) => self.tree(*number, &[], None, MAX_DEPTH),
            BucketRoot::Inline(page) => self.leaf(page, &[], None),
        }
    }

    /// Checks a tree whose keys are at least `from`, and below `to`.
    fn tree(&mut self, number: u64, from: &[u8], to: Option<&[u8]>, depth: usize) -> Result<(), DamagedDatabase> {
        let Some(depth) = depth.checked_sub(1) else {
            return damaged(format!("a tree has more than {MAX_DEPTH} levels"));
        };
        let page = self.file.page(number)?;
        self.see(number)?;
        if !page.is_branch() {
            return self.leaf(&page, from, to);
        }
        for index in 0..page.len() {
            let key = page.key(index)?;
            let end = if index + 1 < page.len() { Some(page.key(index + 1)?) } else { to };
            // bbolt leaves the first key of a branch as it was when smaller keys are added to the page below.
            let start = if index == 0 { from } else { key };
            if end.is_some_and(|end| end <= key) || (index > 0 && key < from) {
                return damaged(format!("the keys of page {number} are out of order"));
            }
            let Some(child) = page.child(index)? else { continue };
            self.tree(child, start, end, depth)?;
        }
        Ok(())
    }

    fn leaf(&mut self, page: &BoltPage, from: &[u8], to: Option<&[u8]>) -> Result<(), DamagedDatabase> {
        let mut last: Option<bytes::Bytes> = None;
        for index in 0..page.len() {
            let item = page.item(index)?;
            let follows = last.as_ref().is_none_or(|last| *last < item.key);
            if !follows || item.key[..] < *from || to.is_some_and(|to| item.key[..] >= *to) {
                return damaged(format!("the key {:?} is out of order", String::from_utf8_lossy(&item.key)));
            }
            let key = item.key.clone();
            match self.file.root().entry(item)? {
                BoltEntry::Value(value) => (self.visit)(&self.path, &key, &value)?,
                BoltEntry::Bucket(bucket) => {
                    self.path.push(key.to_vec());
                    self.bucket(&bucket.root)?;
                    self.path.pop();
                }
            }
            last = Some(key);
        }
        Ok(())
    }

    fn see(&mut self, number: u64) -> Result<(), DamagedDatabase> {
        let (byte, bit) = (usize::try_from(number / 8).unwrap_or(usize::MAX), 1 << (number % 8));
        match self.seen.get_mut(byte) {
            Some(seen) if *seen & bit == 0 => *seen |= bit,
            _ => return damaged(format!("page {number} is in two places")),
        }
        Ok(())
    }
}
