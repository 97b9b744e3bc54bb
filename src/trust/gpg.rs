//! Simple signing with OpenPGP: `signedBy` of containers/image, `simple` of Portieris.
//!
//! Signatures are files outside the image, in a [lookaside] store or in an [extension] of the image's
//! registry. Each is an OpenPGP [message] that contains a [claim]. Both places are read at the same time,
//! until every key of the authority has signed or there is nothing left. One signature that cannot be read does not
//! affect the others, and a place that does not answer is never "not signed".

mod claim;
mod extension;
mod lookaside;
mod message;
#[cfg(test)]
mod sample;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::notes::{Notes, clip};
use super::scheme::{AuthorityResult, Consultation, SignatureScheme};
use super::source::SourceError;
use crate::policy::{Authority, Scheme, Signatory, SignatureFinding, SimpleSigner, TrustOutcome};
use crate::runtime::{Clock, Tasks};
use claim::{ClaimedImage, CountedSignature};
use lookaside::LookasideReader;

/// The maximum number of signatures of one image that are read from one place (containers/image has the same limit).
const MAX_SIGNATURES: usize = 128;
/// The longest time for reading one place for one image. It is shorter than a round of questions to all schemes
/// (`gather.rs`), whose end would discard what was verified before a place became slow.
const MAX_PLACE_TIME: Duration = Duration::from_secs(20);

/// A signature that was found and is not verified yet.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Found {
    /// Where it was found, for messages: its URL, or the extension of the registry.
    place: String,
    /// What it is called there, for messages.
    form: String,
    /// Its bytes, or why they were not kept.
    signature: Result<Bytes, RefusedSignature>,
}

/// An item from a place: a signature, or a note on what could not be read.
type PlaceEntry = Result<Found, SourceError>;

/// Why a signature does not count.
#[derive(Clone, Debug, Eq, PartialEq)]
struct RefusedSignature {
    /// Completes a sentence whose subject is the signature.
    why: String,
    /// What the user can do about it.
    hint: Option<&'static str>,
}

impl From<String> for RefusedSignature {
    fn from(why: String) -> Self {
        Self { why: clip(why), hint: None }
    }
}

impl From<&str> for RefusedSignature {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

impl RefusedSignature {
    fn with_hint(why: impl Into<String>, hint: &'static str) -> Self {
        Self { why: clip(why.into()), hint: Some(hint) }
    }
}

/// Simple signing.
pub(super) struct Gpg {
    clock: Clock,
    tasks: Tasks,
    lookaside: LookasideReader,
}

impl Gpg {
    pub(super) fn new(clock: &Clock, tasks: &Tasks) -> Self {
        Self { clock: clock.clone(), tasks: tasks.clone(), lookaside: LookasideReader::new(tasks.clone()) }
    }

    async fn judge(&self, question: Consultation<'_>, authority: &SimpleSigner) -> AuthorityResult {
        let Consultation { name, image, services, .. } = question;
        if authority.keyrings.iter().all(|ring| ring.key.certificates().is_empty()) {
            let outcome = TrustOutcome::unknown("the authority has no OpenPGP key", false);
            return AuthorityResult { outcome, until: None };
        }
        let store = authority.store.as_ref();
        let stored = store.map(|store| self.lookaside.signatures(store, &name.repository, image.digest));
        let served = extension::signatures(services, &name.repository, image.digest);
        let served = served.into_stream().flat_map(stream::iter).boxed();
        let stored = stored.map(|stored| in_time("the signature store", stored));
        let served = in_time("the registry's signatures", served);
        let mut places = stream::select_all(stored.into_iter().chain([served]));
        let mut progress = GpgProgress { possible: question.authority.signers(), ..GpgProgress::default() };
        while !progress.is_complete() {
            match places.next().await {
                Some(Ok(found)) => {
                    let judged = match found.signature {
                        Ok(bytes) => self.verify(bytes, question, authority).await,
                        Err(refused) => Err(refused),
                    };
                    progress.add(found.place, found.form, judged);
                }
                Some(Err(error)) => progress.notes.gaps.push(error),
                None => break,
            }
        }
        progress.into_result()
    }

    /// Verifies one signature on a blocking thread.
    async fn verify(
        &self,
        bytes: Bytes,
        question: Consultation<'_>,
        authority: &SimpleSigner,
    ) -> Result<CountedSignature, RefusedSignature> {
        let Consultation { name, reference, image, .. } = question;
        let (name, reference, manifest) = (name.clone(), reference.clone(), image.bytes.clone());
        let (authority, now) = (authority.clone(), self.clock.now());
        let verify = move || {
            let image = ClaimedImage { name: &name, reference: &reference, manifest: &manifest };
            claim::judge(&bytes, &authority, image, now)
        };
        let interrupted = || Err("its verification was interrupted".into());
        self.tasks.spawn_blocking(verify).await.unwrap_or_else(|_| interrupted())
    }
}

/// What a place has within [`MAX_PLACE_TIME`], and a note if that is not everything.
fn in_time<'a>(name: &'a str, place: BoxStream<'a, PlaceEntry>) -> BoxStream<'a, PlaceEntry> {
    let end = Instant::now() + MAX_PLACE_TIME;
    let read = stream::unfold(Some(place), move |place| async move {
        let mut place = place?;
        match timeout_at(end, place.next()).await {
            Ok(next) => next.map(|entry| (entry, Some(place))),
            Err(_) => {
                let why = format!("{name}: the search stopped after {} s", MAX_PLACE_TIME.as_secs());
                Some((Err(SourceError::new(why, true)), None))
            }
        }
    });
    read.boxed()
}

impl SignatureScheme for Gpg {
    fn name(&self) -> &'static str {
        "gpg"
    }

    fn is_attached(&self) -> bool {
        false
    }

    fn depends_on_reference(&self, authority: &Authority) -> bool {
        matches!(authority.scheme(), Scheme::Gpg(signer) if signer.identity.depends_on_reference())
    }

    fn consult<'a>(&'a self, question: Consultation<'a>) -> Option<BoxFuture<'a, AuthorityResult>> {
        match question.authority.scheme() {
            Scheme::Gpg(authority) => Some(self.judge(question, authority).boxed()),
            _ => None,
        }
    }
}

/// What is known about the signatures of an image so far.
#[derive(Default)]
struct GpgProgress {
    /// Everyone who can sign for the authority.
    possible: BTreeSet<String>,
    signed: Vec<Signatory>,
    /// When the first of these signatures ends.
    until: Option<Timestamp>,
    found: Vec<SignatureFinding>,
    notes: Notes,
}

impl GpgProgress {
    fn add(&mut self, place: String, form: String, judged: Result<CountedSignature, RefusedSignature>) {
        let finding = match judged {
            Ok(CountedSignature { signatory, until }) => {
                let finding = SignatureFinding::verified(place, form, &*signatory.id);
                if !self.signed.iter().any(|known| known.id == signatory.id) {
                    self.signed.push(signatory);
                    self.until = self.until.into_iter().chain(until).min();
                }
                finding
            }
            Err(RefusedSignature { why, hint }) => {
                let finding = SignatureFinding::refused(place, form, why);
                hint.into_iter().fold(finding, SignatureFinding::with_hint)
            }
        };
        self.found.push(finding);
    }

    /// Whether every key has signed, so that no other signature can matter.
    fn is_complete(&self) -> bool {
        self.possible.len() == self.signed.len()
    }

    fn into_result(mut self) -> AuthorityResult {
        if self.is_complete() {
            self.notes.gaps.clear();
        }
        AuthorityResult { outcome: self.notes.outcome(self.signed, self.found), until: self.until }
    }
}

#[cfg(test)]
mod tests;
