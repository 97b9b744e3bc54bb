//! A place where signatures may be, and the room that it has.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::Value;

use super::{Attached, Form, Rest, Trouble};
use crate::oci::{Digest, media_type};

/// The most entries of a referrers list that are kept.
pub(super) const MAX_LISTED: usize = 10_000;
/// The most referrers of one place that are opened.
const MAX_REFERRERS: usize = 200;
/// The most signatures of one place that are read.
const MAX_SIGNATURES: usize = 200;
/// The most bytes that one place may send; what arrives together may exceed it once.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Manifests of signatures are smaller; those that are said to be larger are opened later.
const SMALL: u64 = 64 * 1024;

/// A place where signatures may be. Its room is its own.
#[derive(Debug)]
pub(super) struct Lane {
    place: &'static str,
    referrers: VecDeque<Digest>,
    pointers: VecDeque<Pointer>,
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
    /// How to read it: for a classic payload, with each of its signatures.
    pub(super) forms: Vec<Form>,
}

impl Pointer {
    /// The same with the bytes.
    pub(super) fn hold(self, bytes: &Bytes) -> Vec<Attached> {
        let short = self.digest.short();
        let attached = |form| {
            let kind = if matches!(form, Form::Bundle) { "bundle" } else { "classic signature" };
            Attached { name: format!("{kind} {short}"), bytes: bytes.clone(), form }
        };
        self.forms.into_iter().map(attached).collect()
    }
}

impl Lane {
    fn new(place: &'static str) -> Self {
        let (referrers, pointers) = Default::default();
        Self { place, referrers, pointers, signatures: MAX_SIGNATURES, is_full: false, bytes: MAX_BYTES }
    }

    /// A place that lists referrers; `None` where it lists nothing.
    pub(super) fn of_referrers(place: &'static str, mut listed: Vec<Listed>, rest: &mut Rest) -> Option<Self> {
        if listed.len() > MAX_REFERRERS {
            let what = format!("of {} referrers in {place} only {MAX_REFERRERS} were looked at", listed.len());
            rest.note(Trouble::Limit(what));
        }
        listed.sort_by_key(|referrer| referrer.unlikely);
        let referrers: VecDeque<_> = listed.into_iter().take(MAX_REFERRERS).map(|referrer| referrer.digest).collect();
        (!referrers.is_empty()).then(|| Self { referrers, ..Self::new(place) })
    }

    /// A place that holds signatures itself; `None` where there is none.
    pub(super) fn of_pointers(place: &'static str, pointers: Vec<Pointer>, rest: &mut Rest) -> Option<Self> {
        let mut lane = Self::new(place);
        lane.add_pointers(pointers, rest);
        (!lane.is_empty()).then_some(lane)
    }

    /// Takes as many as there is room for.
    pub(super) fn add_pointers(&mut self, pointers: Vec<Pointer>, rest: &mut Rest) {
        for mut pointer in pointers {
            if self.is_full {
                return;
            }
            if pointer.forms.len() > self.signatures {
                let what = format!("of the signatures in {} only {MAX_SIGNATURES} were looked at", self.place);
                rest.note(Trouble::Limit(what));
                pointer.forms.truncate(self.signatures);
                self.referrers.clear();
                self.is_full = true;
            }
            self.signatures -= pointer.forms.len();
            if !pointer.forms.is_empty() {
                self.pointers.push_back(pointer);
            }
        }
    }

    pub(super) fn take_referrers(&mut self, most: usize) -> Vec<Digest> {
        // What is known to be a signature comes first.
        let most = if self.pointers.is_empty() { most.min(self.referrers.len()) } else { 0 };
        self.referrers.drain(..most).collect()
    }

    pub(super) fn take_pointers(&mut self, most: usize) -> Vec<Pointer> {
        self.pointers.drain(..most.min(self.pointers.len())).collect()
    }

    /// Counts bytes that arrived.
    pub(super) fn charge(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Gives the place up when it has sent all that it may.
    pub(super) fn check(&mut self, rest: &mut Rest) {
        if self.bytes > 0 || self.is_empty() {
            return;
        }
        let what = format!("after {} MiB from {} the rest was not looked at", MAX_BYTES >> 20, self.place);
        rest.note(Trouble::Limit(what));
        self.referrers.clear();
        self.pointers.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.referrers.is_empty() && self.pointers.is_empty()
    }
}

/// An entry of a list of referrers. All of it is a hint: it says where to look, and in which order.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) digest: Digest,
    /// How unlikely it is to be a signature.
    unlikely: (u8, bool),
}

impl Listed {
    /// GHCR's referrers tags and some registries list bundles as `application/vnd.oci.empty.v1+json`, so no type is
    /// left out.
    fn read(entry: &Value) -> Option<Self> {
        let digest = entry.get("digest")?.as_str()?.parse().ok()?;
        let by_type = match entry.get("artifactType").and_then(Value::as_str) {
            Some(named) if named.starts_with("application/vnd.dev.") => 0,
            None | Some(media_type::OCI_EMPTY) => 1,
            Some(_) => 2,
        };
        let is_large = entry.get("size").and_then(Value::as_u64).is_some_and(|size| size > SMALL);
        Some(Self { digest, unlikely: (by_type, is_large) })
    }
}

/// A list of referrers: the API's, or that of the referrers tag.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) entries: Vec<Listed>,
    /// How many entries name nothing that could be asked for.
    pub(super) unreadable: usize,
}

impl Listing {
    /// Reads a list, whatever type its answer was given. It is no manifest to be served, so one bad entry spoils
    /// nothing.
    ///
    /// # Errors
    /// Why it is no list.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let body: Value = serde_json::from_slice(bytes).map_err(|error| format!("no JSON: {error}"))?;
        let entries = match body.get("manifests") {
            Some(Value::Array(entries)) => &**entries,
            // How Go writes an empty list that nobody made.
            Some(Value::Null) => &[],
            _ => return Err("no list of referrers".into()),
        };
        let read: Vec<_> = entries.iter().take(MAX_LISTED).filter_map(Listed::read).collect();
        Ok(Self { unreadable: entries.len() - read.len(), entries: read })
    }
}
