//! Requests for signatures before the image itself is available. The attachments of an image depend only on its digest,
//! so the registry is asked about it while the manifest of a known digest is fetched.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::discovery::{AheadAnswers, AttachmentReader, place_count, tag_suffixes};
use super::scheme::SignatureScheme;
use super::source::SignatureSource;
use super::{Inner, Trust};
use crate::oci::{Digest, ImageName, Reference};
use crate::policy::Authority;

/// The answers that no search has taken yet, by the repository that was asked and the digest of the image.
#[derive(Default)]
pub(super) struct AheadQuestions(Mutex<HashMap<AskedPlace, AheadAnswers>>);

type AskedPlace = (ImageName, Digest);

/// Questions that were asked ahead. When it is dropped, those whose answers no search has taken end.
pub struct AskedAhead {
    inner: Arc<Inner>,
    asked: Vec<AskedPlace>,
}

impl AheadQuestions {
    /// The answers about an image, if they were asked for.
    pub(super) fn take(&self, place: &ImageName, digest: Digest) -> Option<AheadAnswers> {
        self.lock().remove(&(place.clone(), digest))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AskedPlace, AheadAnswers>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trust {
    /// Asks what is attached to a manifest that is being fetched, for authorities about which nothing is known.
    /// Signatures in other registries are not asked for. [`evidence`](Self::evidence) takes the answers as long as the
    /// returned value lives.
    pub async fn ask_ahead<S: SignatureSource + 'static>(
        &self,
        source: &Arc<S>,
        name: &ImageName,
        reference: &Reference,
        digest: Digest,
        authorities: &[Arc<Authority>],
    ) -> AskedAhead {
        let inner = self.inner.clone();
        let mut places: BTreeMap<String, (ImageName, Vec<Arc<dyn SignatureScheme>>)> = BTreeMap::new();
        for authority in authorities {
            let (scheme, place) = (inner.schemes.of(authority.scheme()), authority.signature_repository());
            let place = place.unwrap_or(name);
            let is_open = scheme.is_attached() && place.host == name.host;
            if is_open && inner.memo.known(&inner.key(name, reference, digest, authority)).await.is_none() {
                let (_, schemes) = places.entry(place.to_string()).or_insert_with(|| (place.clone(), Vec::new()));
                schemes.push(scheme.clone());
            }
        }
        let mut asked = Vec::new();
        for (place, schemes) in places.into_values() {
            let key = (place, digest);
            let mut under_way = inner.ahead.lock();
            if !under_way.contains_key(&key) {
                under_way.insert(key.clone(), inner.begin(source.clone(), &key, tag_suffixes(&schemes)));
                asked.push(key);
            }
        }
        AskedAhead { inner, asked }
    }
}

impl Inner {
    /// Asks all places in a task, which ends early if the answers are no longer needed.
    fn begin<S: SignatureSource + 'static>(
        &self,
        source: Arc<S>,
        (place, digest): &AskedPlace,
        suffixes: Vec<&'static str>,
    ) -> AheadAnswers {
        let (sender, answers) = mpsc::channel(place_count(&suffixes));
        let (repository, digest, asked) = (place.repository.clone(), *digest, suffixes.clone());
        self.tasks.spawn(async move {
            let reader = AttachmentReader { source: &*source, repository: &repository, digest };
            let mut found = reader.ask(&asked);
            loop {
                let answer = tokio::select! {
                    answer = found.next() => answer,
                    () = sender.closed() => return,
                };
                let Some(answer) = answer else { return };
                if sender.send(answer).await.is_err() {
                    return;
                }
            }
        });
        AheadAnswers { suffixes, answers }
    }
}

impl Drop for AskedAhead {
    fn drop(&mut self) {
        let mut under_way = self.inner.ahead.lock();
        self.asked.iter().for_each(|place| _ = under_way.remove(place));
    }
}
