//! What is known about an image, with no opinion.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::rule::AuthorityId;

/// What each authority found for one digest in one repository.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrustEvidence(BTreeMap<AuthorityId, Observed<TrustOutcome>>);

impl TrustEvidence {
    /// Adds what an authority found.
    pub fn insert(&mut self, authority: AuthorityId, outcome: Observed<TrustOutcome>) {
        self.0.insert(authority, outcome);
    }

    /// What an authority found; `None` when it was not asked.
    pub fn outcome(&self, authority: &AuthorityId) -> Option<&Observed<TrustOutcome>> {
        self.0.get(authority)
    }

    /// All outcomes.
    pub fn iter(&self) -> impl Iterator<Item = (&AuthorityId, &Observed<TrustOutcome>)> {
        self.0.iter()
    }
}

/// Something observed at a time, and how long it may be relied on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Observed<T> {
    /// What was observed.
    pub value: T,
    /// When.
    pub at: Timestamp,
    /// Until when it holds; `None` where bytes alone decide.
    pub until: Option<Timestamp>,
}

impl<T> Observed<T> {
    /// Whether it is still to be relied on. What ends by itself and was observed in the future came before a clock was
    /// set back, and nobody knows how long ago that is.
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

/// What one authority says about one digest.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum TrustOutcome {
    /// A signature was verified over exactly this digest.
    Verified {
        /// Everyone whose signature was found and verified, each once.
        by: Vec<Signatory>,
        /// Where others of the authority may have signed too: why that is not known.
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
        /// Whether another attempt may succeed: a registry that does not answer, not a scheme that is not known.
        temporary: bool,
    },
}

/// Somebody who signed. A threshold counts these, and not the names of authorities.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Signatory {
    /// The same for the same signer, whatever the policy calls them: see [`super::Authority::signers`].
    pub id: String,
    /// The key and the form of the signature, for people.
    pub description: String,
}

impl std::fmt::Display for Signatory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.description)
    }
}

/// Why not everything was looked at.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Unseen {
    /// What was not looked at, for people.
    pub why: String,
    /// Whether another attempt may succeed.
    pub temporary: bool,
}
