//! Evidence: what is known about an image, without judging it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::authority::{Authority, AuthorityId};
use super::key::PublicKey;
use crate::oci::Digest;

/// What is known for each authority about one digest in one repository.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrustEvidence(BTreeMap<AuthorityId, Observed<TrustOutcome>>);

impl TrustEvidence {
    /// Adds the outcome for an authority.
    pub fn insert(&mut self, authority: AuthorityId, outcome: Observed<TrustOutcome>) {
        self.0.insert(authority, outcome);
    }

    /// The outcome for an authority; `None` when it was not asked for.
    pub fn outcome(&self, authority: &AuthorityId) -> Option<&Observed<TrustOutcome>> {
        self.0.get(authority)
    }

    /// All outcomes.
    pub fn iter(&self) -> impl Iterator<Item = (&AuthorityId, &Observed<TrustOutcome>)> {
        self.0.iter()
    }
}

/// Signature evidence for what is judged, and for the indexes of the same repository that list it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrustFindings {
    /// About the manifest itself.
    pub own: TrustEvidence,
    /// About indexes that list it, by their digest: trust in an index is trust in its children.
    pub inherited: Vec<(Digest, TrustEvidence)>,
    /// About the children of an index, where the index itself may go unsigned: all of them must be trusted.
    pub children: Vec<(Digest, TrustEvidence)>,
}

/// Something that was observed, when, and until when it may be relied on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Observed<T> {
    /// What was observed.
    pub value: T,
    /// When.
    pub at: Timestamp,
    /// The end of its validity; `None` where it depends on nothing but bytes.
    pub until: Option<Timestamp>,
}

impl<T> Observed<T> {
    /// Whether it may still be relied on. An observation that has an end and a time in the future was made before the
    /// clock was set back; its age is not known, so it does not hold.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| self.at <= now && now < until)
    }
}

/// How far another's clock may be ahead of this one.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A time that somebody else wrote, as far as it is known: one that is more than five minutes ahead is not. Without this
/// bound a time to come would be the newest for ever, and never too old.
pub fn known_time(at: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let latest = now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX);
    (at <= latest).then_some(at)
}

/// Whether an authority's signature of one digest was verified.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum TrustOutcome {
    /// A signature was verified over exactly this digest.
    Verified {
        /// Everyone whose signature was verified, each once.
        by: Vec<Signatory>,
        /// Why it is not known whether other signers of the authority have signed too, where that matters.
        unseen: Option<Unseen>,
    },
    /// No signature was verified. What was found, and why each failed; empty: nothing was found.
    Unverified {
        /// One line for each signature.
        found: Vec<String>,
    },
    /// It could not be found out.
    Unknown {
        /// Why.
        why: String,
        /// Whether another attempt may succeed: yes for a registry that does not answer, no for an unsupported scheme.
        temporary: bool,
    },
}

/// Somebody who signed. Thresholds count signatories, not names of authorities.
///
/// Stored as JSON. A row that lacks a field without a default cannot be read, so its evidence is gathered again:
/// `{"id":"sha256:…","kind":"key","identity":"ECDSA P-256 key 0123abcd","description":"ECDSA P-256 key … (bundle)"}`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Signatory {
    /// The same for the same signer in every authority: see [`super::Authority::signers`].
    pub id: String,
    /// By what means the signer is known.
    pub kind: SignatoryKind,
    /// Who signed: the key, or the identity that a certificate states.
    pub identity: String,
    /// Who vouches for the identity, such as the OIDC issuer or a certificate authority. A key needs nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// When it was signed, where somebody other than the signer states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Timestamp>,
    /// The signer and the form of the signature, for messages.
    pub description: String,
}

/// By what means a signer is known.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatoryKind {
    /// Assumed for a test of policies; nothing was verified. Never stored.
    #[serde(skip)]
    Assumed,
    /// A public key that the policy names.
    Key,
}

impl Signatory {
    /// A signer who is known by a public key, with a description of the signature.
    pub fn of_key(key: &PublicKey, description: String) -> Self {
        Self {
            id: key.fingerprint().to_string(),
            kind: SignatoryKind::Key,
            identity: key.to_string(),
            issuer: None,
            signed_at: None,
            description,
        }
    }

    /// One of the signers of an authority, assumed to have signed.
    pub fn assumed(id: String, authority: &Authority) -> Self {
        let name = authority.name();
        Self {
            id,
            kind: SignatoryKind::Assumed,
            identity: name.to_owned(),
            issuer: None,
            signed_at: None,
            description: name.to_owned(),
        }
    }
}

impl std::fmt::Display for Signatory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.description)
    }
}

/// What was not looked at, and why.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Unseen {
    /// What was not looked at, for people.
    pub why: String,
    /// Whether another attempt may succeed.
    pub temporary: bool,
}
