//! Why there is no report on an image.

use crate::cache::CacheError;
use crate::policy::VaEvidence;

/// Why a scanner did not report on an image.
#[derive(Debug)]
pub(super) enum NoReport {
    /// It failed, or the image cannot be read now. A later attempt may succeed.
    Failed(String),
    /// The image as it is cannot be read.
    Unreadable(String),
}

impl NoReport {
    /// The reason.
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Failed(why) | Self::Unreadable(why) => why,
        }
    }

    /// What this says about the image. `name` is that of the scanner.
    pub(super) fn evidence(self, name: &str) -> VaEvidence {
        let why = format!("{name}: {}", self.why());
        match self {
            Self::Failed(_) => VaEvidence::Unavailable { why },
            Self::Unreadable(_) => VaEvidence::Incomplete { why },
        }
    }
}

impl From<String> for NoReport {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<&str> for NoReport {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

impl From<CacheError> for NoReport {
    fn from(error: CacheError) -> Self {
        if error.is_temporary() {
            Self::Failed(format!("the image cannot be read now: {error}; it is tried again after a minute"))
        } else {
            Self::Unreadable(format!("the image cannot be read: {error}; push it again"))
        }
    }
}
