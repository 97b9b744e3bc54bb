//! What a scheme of signatures implements. Each scheme is a folder beside this file and an entry in [`super::Schemes`].

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::Config;
use super::notes::Notes;
use super::source::SourceError;
use crate::oci::{Descriptor, Digest, ImageName, Manifest, Tag};
use crate::policy::{Authority, Signatory, SignatureFinding, TrustOutcome};

/// One way to sign images. It is stateless; a [`Verification`] holds the state for one image.
pub(super) trait SignatureScheme: Send + Sync {
    /// Identifies the scheme in this process.
    fn name(&self) -> &'static str;

    /// The tags that hold its signatures, as what follows `sha256-HEX`: `.sig` for cosign.
    fn tag_suffixes(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether a referrer that is listed with this artifact type probably holds its signatures, so that it is opened
    /// first. It is a hint: every referrer is opened.
    fn expects(&self, _artifact_type: &str) -> bool {
        false
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

    /// Begins to verify signatures of an image for several authorities of this scheme, which share what is found.
    fn verification(&self, image: &Arc<Manifest>, sought: &[Sought]) -> Box<dyn Verification>;

    /// The digest that an authority has signed for a tag. `None` when the scheme does not sign tags; a future that gives
    /// `None` when the authority has signed nothing for this tag.
    fn pin<'a>(
        &'a self,
        _authority: &'a Authority,
        _image: &'a ImageName,
        _tag: &'a Tag,
    ) -> Option<BoxFuture<'a, Result<Option<Digest>, SourceError>>> {
        None
    }
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
