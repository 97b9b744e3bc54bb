//! A place where signatures may be, and its budget.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::listing::ListedReferrer;
use super::{Attached, LARGEST_SIGNATURE, SearchNotes, Trouble};
use crate::oci::{Descriptor, Digest};

/// The maximum number of referrers that are opened in one place.
const MAX_REFERRERS: usize = 200;
/// The maximum number of signatures that are read in one place.
const MAX_SIGNATURES: usize = 200;
/// The maximum number of bytes received from one place; the requests of one batch may exceed it once.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// A place where signatures may be, with a budget that no other place can use up.
#[derive(Debug)]
pub(super) struct SearchPlace {
    place: String,
    referrers: VecDeque<Digest>,
    pointers: VecDeque<Pointer>,
    /// Blobs that are larger than signatures. They are fetched last, so that they hide nothing.
    large: VecDeque<Pointer>,
    /// How many more signatures are read.
    signatures: usize,
    /// Whether there were more.
    is_full: bool,
    bytes: usize,
}

/// A blob that may hold signatures.
#[derive(Debug)]
pub(super) struct Pointer {
    pub(super) digest: Digest,
    /// Where it was found, for messages.
    pub(super) place: Arc<str>,
    /// The layers that name it: one payload may have several signatures, each in the annotations of a layer.
    layers: Vec<Descriptor>,
    /// The largest content that is read, in bytes.
    pub(super) limit: usize,
}

impl Pointer {
    /// The blobs that these layers of a manifest name, each once.
    pub(super) fn to<'a>(layers: impl Iterator<Item = &'a Descriptor>, place: &Arc<str>, limit: usize) -> Vec<Self> {
        let mut pointers: Vec<Self> = Vec::new();
        for layer in layers {
            match pointers.iter_mut().find(|pointer| pointer.digest == layer.digest) {
                Some(pointer) => pointer.layers.push(layer.clone()),
                None => {
                    let layers = vec![layer.clone()];
                    pointers.push(Self { digest: layer.digest, place: place.clone(), layers, limit });
                }
            }
        }
        pointers
    }

    /// How many bytes to expect: what a descriptor states, if that is within the limit and larger than a signature.
    /// Otherwise the limit.
    pub(super) fn expected_size(&self) -> usize {
        let stated = self.layers.iter().filter_map(|layer| usize::try_from(layer.size).ok()).max().unwrap_or(0);
        if (LARGEST_SIGNATURE + 1..=self.limit).contains(&stated) { stated } else { self.limit }
    }

    /// The layers with their content.
    pub(super) fn with_content(self, bytes: &Bytes) -> Vec<Attached> {
        let attached = |layer| Attached { layer, bytes: bytes.clone(), place: self.place.clone() };
        self.layers.into_iter().map(attached).collect()
    }
}

impl SearchPlace {
    fn new(place: impl Into<String>) -> Self {
        let (referrers, pointers, large) = Default::default();
        Self {
            place: place.into(),
            referrers,
            pointers,
            large,
            signatures: MAX_SIGNATURES,
            is_full: false,
            bytes: MAX_BYTES,
        }
    }

    /// A place that lists referrers, in the order in which they are opened; `None` where it lists nothing.
    pub(super) fn of_referrers(
        place: &'static str,
        listed: Vec<ListedReferrer>,
        notes: &mut SearchNotes,
    ) -> Option<Self> {
        if listed.len() > MAX_REFERRERS {
            let what = format!("only {MAX_REFERRERS} of {} referrers in {place} were examined", listed.len());
            notes.add(Trouble::Limit(what));
        }
        let referrers: VecDeque<_> = listed.into_iter().take(MAX_REFERRERS).map(|referrer| referrer.digest).collect();
        (!referrers.is_empty()).then(|| Self { referrers, ..Self::new(place) })
    }

    /// A place that holds signatures itself; `None` where there is none.
    pub(super) fn of_pointers(place: String, pointers: Vec<Pointer>, notes: &mut SearchNotes) -> Option<Self> {
        let mut place = Self::new(place);
        place.add_pointers(pointers, notes);
        (!place.is_empty()).then_some(place)
    }

    /// Takes as many as the budget allows.
    pub(super) fn add_pointers(&mut self, pointers: Vec<Pointer>, notes: &mut SearchNotes) {
        for mut pointer in pointers {
            if self.is_full {
                return;
            }
            if pointer.layers.len() > self.signatures {
                let what = format!("only {MAX_SIGNATURES} of the signatures in {} were examined", self.place);
                notes.add(Trouble::Limit(what));
                pointer.layers.truncate(self.signatures);
                self.referrers.clear();
                self.is_full = true;
            }
            self.signatures -= pointer.layers.len();
            if !pointer.layers.is_empty() {
                self.pointers.push_back(pointer);
            }
        }
    }

    pub(super) fn take_referrers(&mut self, most: usize) -> Vec<Digest> {
        // Layers that are known come first.
        let most = if self.pointers.is_empty() { most.min(self.referrers.len()) } else { 0 };
        self.referrers.drain(..most).collect()
    }

    pub(super) fn take_pointers(&mut self, most: usize) -> Vec<Pointer> {
        self.pointers.drain(..most.min(self.pointers.len())).collect()
    }

    pub(super) fn add_large(&mut self, pointer: Pointer) {
        self.large.push_back(pointer);
    }

    /// A large blob, once there is nothing else.
    pub(super) fn take_large(&mut self) -> Option<Pointer> {
        if self.referrers.is_empty() && self.pointers.is_empty() { self.large.pop_front() } else { None }
    }

    /// Counts received bytes.
    pub(super) fn charge(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Gives the place up when its bytes are used up.
    pub(super) fn check(&mut self, notes: &mut SearchNotes) {
        if self.bytes > 0 || self.is_empty() {
            return;
        }
        let what = format!("the search stopped after {} MiB from {}", MAX_BYTES >> 20, self.place);
        notes.add(Trouble::Limit(what));
        self.referrers.clear();
        self.pointers.clear();
        self.large.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.referrers.is_empty() && self.pointers.is_empty() && self.large.is_empty()
    }
}
