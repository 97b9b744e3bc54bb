//! What a search noted beside the signatures that it found.

use super::source::SourceError;

/// Things that count against a signature, and things that were not looked at.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// What is attached to the image but holds no signature that counts, and why.
    broken: Vec<Note>,
    /// Questions that the registry did not answer, and what was not looked at because a bound was reached.
    pub(super) gaps: Vec<SourceError>,
}

#[derive(Debug)]
struct Note {
    /// The scheme that it concerns; `None` for all of them.
    scheme: Option<&'static str>,
    what: String,
}

/// Why something that was asked for was not obtained.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It exists and cannot be a signature that counts.
    Broken(String),
    /// A bound of the search was reached.
    Limit(String),
    /// The registry did not answer, or not sensibly.
    Unanswered(SourceError),
}

impl Notes {
    pub(super) fn add(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Broken(what) => self.broken.push(Note { scheme: None, what: clip(what) }),
            Trouble::Limit(what) => self.gaps.push(SourceError::new(what, false)),
            Trouble::Unanswered(error) => self.gaps.push(error),
        }
    }

    /// Notes what cannot be a signature of one scheme.
    pub(super) fn add_broken(&mut self, scheme: &'static str, what: String) {
        self.broken.push(Note { scheme: Some(scheme), what: clip(what) });
    }

    /// What cannot be a signature of this scheme, and why.
    pub(super) fn broken(&self, scheme: &'static str) -> impl Iterator<Item = &str> {
        let concerns = move |note: &&Note| note.scheme.is_none_or(|concerned| concerned == scheme);
        self.broken.iter().filter(concerns).map(|note| &*note.what)
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
