//! What a search noted besides the signatures that it found.

use super::source::SourceError;
use crate::policy::{Signatory, SignatureFinding, TrustOutcome, Unseen};

/// The maximum number of gaps that an outcome states.
const MAX_GAPS: usize = 20;

/// What a whole search noted, for all schemes.
#[derive(Clone, Debug, Default)]
pub(super) struct SearchNotes {
    /// Attachments of the image without a signature that counts, with the scheme that it concerns; `None` for
    /// all schemes.
    broken: Vec<(Option<&'static str>, SignatureFinding)>,
    /// Questions that the registry did not answer, and what was not looked at because a limit was reached, with the
    /// scheme that it concerns.
    gaps: Vec<(Option<&'static str>, SourceError)>,
}

/// What a search noted, as far as it concerns one scheme.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    /// What is attached to the image but contains no signature that counts.
    pub(super) broken: Vec<SignatureFinding>,
    /// Questions that the registry did not answer, and what was not looked at because a limit was reached. Empty if
    /// nothing there can matter.
    pub(super) gaps: Vec<SourceError>,
}

/// Why something that was asked for was not obtained.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It exists and cannot be a signature that counts.
    Broken(SignatureFinding),
    /// A limit of the search was reached.
    Limit(String),
    /// The registry did not answer, or not sensibly.
    Unanswered(SourceError),
}

impl SearchNotes {
    pub(super) fn add(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Broken(what) => self.broken.push((None, what)),
            Trouble::Limit(what) => self.gaps.push((None, SourceError::new(what, false))),
            Trouble::Unanswered(error) => self.gaps.push((None, error)),
        }
    }

    /// Notes what was not read that may be a signature of one scheme.
    pub(super) fn add_gap(&mut self, scheme: &'static str, what: SourceError) {
        self.gaps.push((Some(scheme), what));
    }

    /// Forgets what was not looked at, because nothing there can matter.
    pub(super) fn clear_gaps(&mut self) {
        self.gaps.clear();
    }

    /// Notes what cannot be a signature of one scheme.
    pub(super) fn add_broken(&mut self, scheme: &'static str, what: SignatureFinding) {
        self.broken.push((Some(scheme), what));
    }

    /// The notes that concern this scheme.
    pub(super) fn of_scheme(&self, scheme: &str) -> Notes {
        fn of<T: Clone>(all: &[(Option<&'static str>, T)], scheme: &str) -> Vec<T> {
            let concerns = all.iter().filter(|(concerned, _)| concerned.is_none_or(|one| one == scheme));
            concerns.map(|(_, what)| what.clone()).collect()
        }
        Notes { broken: of(&self.broken, scheme), gaps: of(&self.gaps, scheme) }
    }
}

impl Notes {
    /// The outcome for an authority: who signed, and each signature that was read with its result. "Not signed" is only
    /// stated if every place was asked and everything was looked at.
    pub(super) fn outcome(&self, signed: Vec<Signatory>, found: Vec<SignatureFinding>) -> TrustOutcome {
        let found = SignatureFinding::bounded(found.into_iter().chain(self.broken.iter().cloned()).collect());
        match (signed.is_empty(), self.unseen()) {
            (false, unseen) => TrustOutcome::Verified { by: signed, found, unseen },
            (true, None) => TrustOutcome::Unverified { found },
            (true, Some(Unseen { why, temporary })) => TrustOutcome::Unknown { why, temporary, found },
        }
    }

    fn unseen(&self) -> Option<Unseen> {
        let why: Vec<&str> = self.gaps.iter().take(MAX_GAPS).map(|gap| &*gap.why).collect();
        let temporary = self.gaps.iter().any(|gap| gap.temporary);
        (!self.gaps.is_empty()).then(|| Unseen { why: why.join("; "), temporary })
    }
}

/// A reason that is short enough to keep, whatever an attacker wrote into the text that it quotes.
pub(super) fn clip(mut reason: String) -> String {
    const MAX_REASON: usize = 300;
    if reason.len() > MAX_REASON {
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        reason.push('…');
    }
    reason
}
