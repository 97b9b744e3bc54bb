//! Layers that may hold signatures: how they are fetched, and what happens to those that are too large.

use super::place::{Pointer, SearchPlace};
use super::{AttachmentReader, FoundLayers, Search, unanswered};
use crate::oci::Digest;
use crate::policy::SignatureFinding;
use crate::trust::notes::Trouble;
use crate::trust::scheme::{Attached, LARGEST_SIGNATURE, larger_than_signatures};
use crate::trust::source::{SignatureSource, SourceError};

/// A layer that was requested.
pub(super) enum FetchedLayer {
    Layers(Vec<Attached>),
    /// It is larger than a signature, and may be an attestation.
    Large(Pointer),
    /// It is larger than anything that is read.
    TooLarge(Pointer),
}

impl<S: SignatureSource> Search<'_, S> {
    /// Fetches a large layer, once there is memory for it. Nothing is believed about its size: it is limited to what
    /// was reserved.
    pub(super) async fn advance_by_large(&mut self, place: &mut SearchPlace, pointer: Pointer) -> FoundLayers {
        let size = pointer.expected_size();
        let form = format!("attestation {}", pointer.digest.short());
        let Some(memory) = self.large.reserve(size).await else {
            self.notes.add(unreceived(&form, "there is no memory for it"));
            return FoundLayers { layers: Vec::new(), memory: None };
        };
        let Some(fetched) = memory.receive(self.reader.attached(pointer, size)).await else {
            place.charge(size);
            self.notes.add(unreceived(&form, "its registry sends slowly, and others need the memory"));
            return FoundLayers { layers: Vec::new(), memory: None };
        };
        let layers = self.take_in(place, fetched);
        let memory = if layers.is_empty() { None } else { Some(memory.for_verification().await) };
        FoundLayers { layers, memory }
    }

    pub(super) fn take_in(
        &mut self,
        place: &mut SearchPlace,
        fetched: (usize, Result<FetchedLayer, Trouble>),
    ) -> Vec<Attached> {
        let (bytes, outcome) = fetched;
        place.charge(bytes);
        match outcome {
            Ok(FetchedLayer::Layers(layers)) => return layers,
            Ok(FetchedLayer::Large(pointer)) => place.add_large(pointer),
            Ok(FetchedLayer::TooLarge(pointer)) => self.note_too_large(&pointer),
            Err(trouble) => self.notes.add(trouble),
        }
        Vec::new()
    }

    /// For schemes that read large layers, what is in one stays unknown. For all others, it is not a signature.
    fn note_too_large(&mut self, pointer: &Pointer) {
        let (place, form) = (&*pointer.place, format!("signature {}", pointer.digest.short()));
        for scheme in &self.schemes.reading {
            if scheme.largest_layer() == LARGEST_SIGNATURE {
                let why = larger_than_signatures();
                self.notes.add_broken(scheme.name(), SignatureFinding::refused(place, &*form, why));
                continue;
            }
            let why = format!(
                "is too large: more than {} MiB, the limit for attestations ([trust] max_attestation), or more than \
                 its manifest states",
                scheme.largest_layer() >> 20
            );
            self.notes.add_gap(scheme.name(), SourceError::new(format!("{form} ({place}) {why}"), false));
            self.notes.add_broken(scheme.name(), SignatureFinding::not_judged(place, &*form, why));
        }
    }
}

impl<S: SignatureSource> AttachmentReader<'_, S> {
    /// Fetches a layer that may hold signatures, of at most `limit` bytes; and how many bytes were received.
    pub(super) async fn attached(self, pointer: Pointer, limit: usize) -> (usize, Result<FetchedLayer, Trouble>) {
        let (digest, form) = (pointer.digest, format!("signature {}", pointer.digest.short()));
        let place = pointer.place.clone();
        let broken = |why: &str| Err(Trouble::Broken(SignatureFinding::refused(&*place, &form, why)));
        match self.source.blob(self.repository, &digest, limit).await {
            Ok(Some(bytes)) if Digest::of(digest.algorithm(), &bytes) == digest => {
                (bytes.len(), Ok(FetchedLayer::Layers(pointer.with_content(&bytes))))
            }
            Ok(Some(bytes)) => (bytes.len(), broken("the bytes do not have its digest")),
            Ok(None) => (0, broken("is not in the repository")),
            Err(error) if error.received >= limit => {
                let is_first = limit == LARGEST_SIGNATURE && pointer.limit > limit;
                let fetched = if is_first { FetchedLayer::Large(pointer) } else { FetchedLayer::TooLarge(pointer) };
                (error.received, Ok(fetched))
            }
            Err(error) => (error.received, Err(unanswered(&form, &error))),
        }
    }
}

/// A large layer that was not received whole.
fn unreceived(form: &str, why: &str) -> Trouble {
    Trouble::Unanswered(SourceError::new(format!("{form} was not received: {why}"), true))
}
