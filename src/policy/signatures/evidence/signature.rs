//! Single signatures, each with its result for one authority. `pullgate check` lists them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The maximum number of signatures without effect that are kept for one authority. Anyone who can push to a repository
/// can create any number of them.
const MAX_REFUSED: usize = 20;

/// A signature, or an artifact that should contain one, and its result for one authority.
///
/// Stored as JSON, and shown in it by `pullgate check`:
/// `{"place":"tag sha256-….sig","form":"classic signature 0123abcd4567","result":{"refused":{"why":"…","hint":null}}}`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SignatureFinding {
    /// Where it was found: `tag sha256-….sig`, `referrer sha256:…`, or the URL of a signature store.
    pub place: String,
    /// A description for messages: `bundle 0123abcd4567`.
    pub form: String,
    /// The result for the authority.
    pub result: SignatureResult,
}

/// The result of one signature for one authority.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureResult {
    /// The signature was verified.
    Verified {
        /// The identifier of the signer, as in [`Signatory::id`](super::Signatory::id).
        by: String,
    },
    /// The signature does not count.
    Refused {
        /// Why.
        why: String,
        /// What the user can do about it, if that is known.
        hint: Option<String>,
    },
    /// The authority cannot judge this format.
    NotJudged {
        /// What it is, and why it cannot be judged.
        why: String,
    },
}

impl SignatureFinding {
    /// A signature that was verified.
    pub fn verified(place: impl Into<String>, form: impl Into<String>, by: impl Into<String>) -> Self {
        Self { place: place.into(), form: form.into(), result: SignatureResult::Verified { by: by.into() } }
    }

    /// A signature that does not count.
    pub fn refused(place: impl Into<String>, form: impl Into<String>, why: impl Into<String>) -> Self {
        let result = SignatureResult::Refused { why: why.into(), hint: None };
        Self { place: place.into(), form: form.into(), result }
    }

    /// A signature in a format that the authority cannot judge.
    pub fn not_judged(place: impl Into<String>, form: impl Into<String>, why: impl Into<String>) -> Self {
        Self { place: place.into(), form: form.into(), result: SignatureResult::NotJudged { why: why.into() } }
    }

    /// Adds what the user can do about a refused signature.
    #[must_use]
    pub fn with_hint(mut self, text: impl Into<String>) -> Self {
        if let SignatureResult::Refused { hint, .. } = &mut self.result {
            *hint = Some(text.into());
        }
        self
    }

    /// The signer, if the signature was verified.
    pub fn signer(&self) -> Option<&str> {
        match &self.result {
            SignatureResult::Verified { by } => Some(by),
            SignatureResult::Refused { .. } | SignatureResult::NotJudged { .. } => None,
        }
    }

    /// Puts verified signatures first, and limits the number of the others. The last entry states how many were left
    /// out.
    pub fn bounded(found: Vec<Self>) -> Vec<Self> {
        let (mut kept, mut others): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.signer().is_some());
        let left_out = others.len().saturating_sub(MAX_REFUSED);
        if left_out > 0 {
            others.truncate(MAX_REFUSED);
            others.push(Self::refused("", format!("{left_out} more"), "do not count"));
        }
        kept.append(&mut others);
        kept
    }
}

impl fmt::Display for SignatureFinding {
    /// One line: what it is, and why it does not count.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            SignatureResult::Verified { by } => write!(f, "{}: signed by {by}", self.form),
            SignatureResult::Refused { why, .. } | SignatureResult::NotJudged { why } => {
                write!(f, "{}: {why}", self.form)
            }
        }
    }
}
