//! Denials, in a form for people and for machines.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// The reason why a request is denied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Denial {
    /// The requested subject.
    pub subject: String,
    /// Whether the denial is final.
    pub kind: DenialKind,
    /// The check that failed.
    pub stage: Stage,
    /// Kind and name of the document; `None` if no document selects the subject.
    pub document: Option<Arc<str>>,
    /// The entry's pattern.
    pub rule: Option<Arc<str>>,
    /// What failed and how to fix it, the shortest reason first.
    pub reasons: Vec<String>,
}

/// Whether a denial is final.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DenialKind {
    /// Evidence is being gathered. Retry soon.
    Pending,
    /// The policy denies.
    Policy,
    /// The image cannot be judged now, and the policy does not admit such an image.
    Unavailable,
}

/// The part of a rule that caused the denial.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// No document selects the subject, or the manifest itself is rejected.
    Policy,
    /// Portieris' simple signing.
    Simple,
    /// Signatures.
    Trust,
    /// Vulnerabilities.
    Va,
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; 4] = [Self::Policy, Self::Simple, Self::Trust, Self::Va];

    /// The name in lower case, as in messages and in the output of `policy eval`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Simple => "simple",
            Self::Trust => "trust",
            Self::Va => "va",
        }
    }
}

impl Serialize for Stage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.kind {
            DenialKind::Pending => "is being verified",
            DenialKind::Policy => "denied",
            DenialKind::Unavailable => "cannot be judged now",
        };
        write!(f, "{} {verb}", self.subject)?;
        if let (Some(document), Some(rule)) = (&self.document, &self.rule) {
            write!(f, " by {document} \"{rule}\"")?;
        }
        write!(f, ": ")?;
        if self.stage != Stage::Policy {
            write!(f, "{}: ", self.stage.as_str())?;
        }
        f.write_str(&self.reasons.join("; "))
    }
}
