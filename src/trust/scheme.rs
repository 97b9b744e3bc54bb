//! What a scheme of signatures implements. Each scheme is a file or directory next to this file and an entry in
//! [`super::Schemes`].

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use jiff::Timestamp;

use super::Config;
use super::notes::Notes;
use super::pin::Pin;
use super::source::{RegistryServices, SourceError};
use crate::oci::{Descriptor, ImageName, Manifest, Reference, Tag};
use crate::policy::{Authority, Signatory, SignatureFinding, TrustOutcome};
use crate::store::StoreError;

/// The largest layer with a signature, in bytes. Real ones have a few thousand.
pub(super) const LARGEST_SIGNATURE: usize = 1024 * 1024;

/// Why a layer that is larger is no signature, as the end of a sentence whose subject is the layer.
pub(super) fn larger_than_signatures() -> String {
    format!("is larger than {} MiB, too large for a signature", LARGEST_SIGNATURE >> 20)
}

/// One way to sign images. Its evidence is attached to the image in its repository ([`select`](Self::select),
/// [`verification`](Self::verification)), or is elsewhere ([`consult`](Self::consult)). A [`Verification`] holds the
/// state for one image.
pub(super) trait SignatureScheme: Send + Sync {
    /// Identifies the scheme in this process.
    fn name(&self) -> &'static str;

    /// Whether its signatures are attached to images: nothing is [consulted](Self::consult).
    fn is_attached(&self) -> bool {
        true
    }

    /// The tags that hold its signatures, as what follows `sha256-HEX`: `.sig` for cosign.
    fn tag_suffixes(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether a referrer that is listed with this artifact type probably holds its signatures, so that it is opened
    /// first. It is a hint: every referrer is opened.
    fn expects(&self, _artifact_type: &str) -> bool {
        false
    }

    /// The largest layer that it reads, in bytes.
    fn largest_layer(&self) -> usize {
        LARGEST_SIGNATURE
    }

    /// What a manifest holds that is attached to an image, if this scheme knows its kind: `a Notary Project signature`.
    /// Authorities of other schemes name it as something that they do not read.
    fn recognises(&self, _attached: &Manifest) -> Option<&'static str> {
        None
    }

    /// The layers of an attached manifest that may hold its signatures, by their index, most recent first. Empty for
    /// everything that it does not understand.
    ///
    /// # Errors
    /// The manifest is of a kind that this scheme understands, but no signature in it can count. The text says why.
    fn select(&self, _attached: &Manifest, _origin: Origin) -> Result<Vec<usize>, String> {
        Ok(Vec::new())
    }

    /// Begins to verify attached signatures of an image for several authorities of this scheme, which share what is
    /// found. Not called for authorities that are [consulted](Self::consult).
    fn verification(&self, _image: &ImageSubject, sought: &[Sought]) -> Box<dyn Verification> {
        let nothing = |_: &Sought| format!("{} signatures are not attached to images", self.name());
        Box::new(Unknown(sought.iter().map(nothing).collect()))
    }

    /// Whether the outcome for an authority depends on the reference as it was pulled, and not only on the digest. It
    /// is remembered for this reference only then.
    fn depends_on_reference(&self, _authority: &Authority) -> bool {
        false
    }

    /// Asks where the evidence of this authority is, if it is not attached to the image. It runs in parallel with the
    /// search for attached signatures. `None` if the evidence is attached.
    fn consult<'a>(&'a self, _question: Consultation<'a>) -> Option<BoxFuture<'a, AuthorityResult>> {
        None
    }

    /// Forgets which versions and roots were verified at a place, such as a repository of a notary server. Returns
    /// them.
    fn forget<'a>(&'a self, _place: &'a str) -> BoxFuture<'a, Result<Vec<ForgottenVersion>, StoreError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    /// The digest that an authority has signed for a tag. `None` when the scheme does not sign tags; a future that
    /// gives `None` when the authority has signed nothing for this tag.
    fn pin<'a>(&'a self, _question: PinQuestion<'a>) -> Option<BoxFuture<'a, Result<Option<Pin>, SourceError>>> {
        None
    }
}

/// A version that a scheme had verified and has forgotten.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForgottenVersion {
    /// What had this version, such as a role of Docker Content Trust: `targets/releases`.
    pub part: String,
    /// The newest version that was verified.
    pub version: u64,
}

/// A question about one image to one authority whose evidence is not attached to the image.
#[derive(Clone, Copy)]
pub(super) struct Consultation<'a> {
    pub(super) authority: &'a Authority,
    pub(super) name: &'a ImageName,
    /// The reference as it was pulled. A digest is always that of the image.
    pub(super) reference: &'a Reference,
    pub(super) image: &'a Manifest,
    /// The registry of the image, and services that belong to it.
    pub(super) services: &'a dyn RegistryServices,
}

/// A question about a tag to one authority.
#[derive(Clone, Copy)]
pub(super) struct PinQuestion<'a> {
    pub(super) authority: &'a Authority,
    pub(super) name: &'a ImageName,
    pub(super) tag: &'a Tag,
    /// The registry of the image, and services that belong to it.
    pub(super) services: &'a dyn RegistryServices,
}

/// What was found out for one authority.
#[derive(Clone, Debug)]
pub(super) struct AuthorityResult {
    pub(super) outcome: TrustOutcome,
    /// The end of the outcome, if it has one. Only a verified outcome may have none: it depends on nothing but bytes
    /// and keys. Any other outcome ends no later than the configuration says.
    pub(super) until: Option<Timestamp>,
}

/// The image whose signatures are verified.
#[derive(Clone, Debug)]
pub(super) struct ImageSubject {
    /// Its registry and repository.
    pub(super) name: ImageName,
    pub(super) manifest: Arc<Manifest>,
    /// When its signatures are verified.
    pub(super) now: Timestamp,
}

/// An authority whose signatures are searched for.
#[derive(Clone, Debug)]
pub(super) struct Sought {
    pub(super) authority: Arc<Authority>,
    /// Signers whose signatures of this image were verified for this authority before, and hold without an end. They
    /// are not verified again.
    pub(super) known: Vec<Signatory>,
}

/// The verification of one image's signatures for the authorities of one scheme. Each authority is addressed by its
/// index in the list that the verification began with.
pub(super) trait Verification: Send {
    /// Reads what was found. It may contain artifacts of other schemes, which are ignored. Runs on a blocking thread.
    fn read(&mut self, found: &[Attached]);

    /// Asks other services for missing facts about the signatures that were read. Facts that are missing when the
    /// future is dropped stay unknown.
    fn confirm(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    /// Everyone whose signature was verified for an authority.
    fn signed(&self, authority: usize) -> Vec<Signatory>;

    /// Everyone who could sign for an authority, as [`Authority::signers`]; empty when nothing can be verified for it.
    fn possible(&self, authority: usize) -> BTreeSet<String>;

    /// Every signature of this scheme that was read, with its result for an authority: where it is, what it is, and who
    /// signed or why it does not count. Texts that quote what others wrote are clipped ([`super::notes::clip`]).
    fn found(&self, authority: usize) -> Vec<SignatureFinding>;

    /// The outcome for an authority. `notes` lists what the search did not look at, unless nothing there can matter.
    fn outcome(&self, authority: usize, notes: &Notes) -> TrustOutcome {
        notes.outcome(self.signed(authority), self.found(authority))
    }

    /// The end of a verified outcome; `None` where it depends on nothing but bytes and keys.
    fn verified_until(&self, _authority: usize, config: &Config, now: Timestamp) -> Option<Timestamp> {
        Some(now.saturating_add(config.ttl).unwrap_or(Timestamp::MAX))
    }
}

/// A verification that verifies nothing, with the reason for each authority.
pub(super) struct Unknown(pub(super) Vec<String>);

impl Verification for Unknown {
    fn read(&mut self, _: &[Attached]) {}

    fn signed(&self, _: usize) -> Vec<Signatory> {
        Vec::new()
    }

    fn possible(&self, _: usize) -> BTreeSet<String> {
        BTreeSet::new()
    }

    fn found(&self, _: usize) -> Vec<SignatureFinding> {
        Vec::new()
    }

    fn outcome(&self, authority: usize, _: &Notes) -> TrustOutcome {
        TrustOutcome::unknown(&self.0[authority], false)
    }
}

/// How a manifest is attached to an image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// It names the image as its subject, and was listed as a referrer.
    Referrer,
    /// By a tag made of the image's digest and this suffix.
    Tag(&'static str),
}

/// A layer of an attached manifest that may hold a signature, with its content.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    /// The layer as its manifest describes it.
    pub(super) layer: Descriptor,
    /// The content, which has the layer's digest.
    pub(super) bytes: Bytes,
    /// Where it was found, for messages: `tag sha256-….sig`, `referrer sha256:…`.
    pub(super) place: Arc<str>,
}
