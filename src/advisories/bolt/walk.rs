//! Iterates over the keys of a bucket in order. The walk can stop anywhere, and two walks can be compared.

use bytes::Bytes;

use super::page::BoltPage;
use super::{BoltEntry, Bucket, DamagedDatabase, MAX_DEPTH, damaged};

/// The keys of a bucket in order, each with what it leads to. Ends after an error.
pub(in super::super) struct BucketWalk<'a> {
    bucket: Bucket<'a>,
    /// The pages from the top to the current one, each with the index of its next item.
    open: Vec<(BoltPage, usize)>,
    /// Pages that are visited more than once would make a small file endless.
    left: u64,
}

impl<'a> Bucket<'a> {
    /// Goes through all keys.
    ///
    /// # Errors
    /// The first page is damaged.
    pub(in super::super) fn walk(self) -> Result<BucketWalk<'a>, DamagedDatabase> {
        let (top, left) = (self.top()?, self.file.pages);
        Ok(BucketWalk { bucket: self, open: vec![(top, 0)], left })
    }
}

impl<'a> BucketWalk<'a> {
    fn step(&mut self) -> Result<Option<(Bytes, BoltEntry<'a>)>, DamagedDatabase> {
        while let Some((page, next)) = self.open.last_mut() {
            let index = *next;
            if index == page.len() {
                self.open.pop();
                continue;
            }
            *next += 1;
            let Some(child) = page.child(index)? else {
                let item = page.item(index)?;
                return Ok(Some((item.key.clone(), self.bucket.entry(item)?)));
            };
            if self.open.len() == MAX_DEPTH {
                return damaged(format!("a tree has more than {MAX_DEPTH} levels"));
            }
            self.left = self.left.checked_sub(1).ok_or_else(|| DamagedDatabase("pages form a cycle".to_owned()))?;
            self.open.push((self.bucket.file.page(child)?, 0));
        }
        Ok(None)
    }
}

impl<'a> Iterator for BucketWalk<'a> {
    type Item = Result<(Bytes, BoltEntry<'a>), DamagedDatabase>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.step();
        if next.is_err() {
            self.open.clear();
        }
        next.transpose()
    }
}
