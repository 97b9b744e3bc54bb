//! Finds the entries that can match a name, among thousands of entries, with a search for the literal text of each
//! entry.

use std::collections::HashMap;

use aho_corasick::AhoCorasick;

use super::Entry;
use crate::policy::matching::pattern::Spelling;

/// Up to this number, entries are tried one by one, which is equally fast.
const FEW: usize = 32;

/// Finds the entries that can match a name without trying each of them. Positions are indexes into the list of entries.
#[derive(Clone, Debug)]
pub(super) struct EntryIndex {
    /// Entries without literal text, such as `*`.
    always: Vec<usize>,
    /// The entries that require each text of `texts`.
    needing: Vec<Vec<usize>>,
    texts: AhoCorasick,
}

impl EntryIndex {
    /// Builds an index. Returns `None` if there are too few entries to need one.
    pub(super) fn new(entries: &[Entry]) -> Option<Self> {
        if entries.len() <= FEW {
            return None;
        }
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for run in entries.iter().flat_map(|entry| entry.pattern.runs()) {
            *counts.entry(run).or_default() += 1;
        }
        let (mut always, mut places, mut texts, mut needing) = (Vec::new(), HashMap::new(), Vec::new(), Vec::new());
        for (at, entry) in entries.iter().enumerate() {
            // The rarest text excludes the most entries. Among equally rare texts, the longest is used.
            let rarest = entry.pattern.runs().min_by_key(|run| (counts[run], std::cmp::Reverse(run.len())));
            let Some(text) = rarest else {
                always.push(at);
                continue;
            };
            let place = *places.entry(text).or_insert_with(|| {
                texts.push(text);
                needing.push(Vec::new());
                texts.len() - 1
            });
            needing[place].push(at);
        }
        // Hosts are compared without regard to case, and the pattern itself makes the final check. If the set is too
        // large for the search, the entries are tried one by one.
        let texts = AhoCorasick::builder().ascii_case_insensitive(true).build(texts).ok()?;
        Some(Self { always, needing, texts })
    }

    /// The positions of all entries that can match one of these spellings, in ascending order.
    pub(super) fn candidates(&self, spellings: &[Spelling]) -> Vec<usize> {
        let mut found = self.always.clone();
        for spelling in spellings {
            for text in self.texts.find_overlapping_iter(spelling.as_str()) {
                found.extend(&self.needing[text.pattern().as_usize()]);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}
