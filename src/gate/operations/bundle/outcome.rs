//! What becomes of an imported image.

use serde::{Deserialize, Serialize};

/// What became of an image.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImportOutcome {
    /// It would be imported.
    Admitted,
    /// The policy denies it: nothing was made available.
    Denied,
    /// It is available.
    Imported,
    /// It is available by digest. The tag refers to another digest, which was seen later.
    TagKept,
    /// It was imported, and some of its content is no longer in the cache.
    Evicted,
    /// It cannot be judged now: nothing was made available.
    Undecided,
}

impl ImportOutcome {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Admitted => "would be imported",
            Self::Denied => "denied",
            Self::Imported => "imported",
            Self::TagKept => "imported by digest only",
            Self::Evicted => "imported, but evicted since",
            Self::Undecided => "cannot be judged now",
        }
    }

    /// Whether the image is available, at least by its digest.
    pub fn is_available(self) -> bool {
        matches!(self, Self::Imported | Self::TagKept)
    }
}
