//! Why something is not served, for people and for machines.

use std::fmt;
use std::sync::Arc;

/// Why something is not served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Denial {
    /// What was asked for.
    pub subject: String,
    /// Whether it is final.
    pub kind: DenialKind,
    /// What failed.
    pub stage: Stage,
    /// Kind and name of the document; `None` when none selects the subject.
    pub document: Option<Arc<str>>,
    /// The entry's pattern.
    pub rule: Option<Arc<str>>,
    /// What failed and what would help, shortest first.
    pub reasons: Vec<String>,
}

/// Whether a denial is final.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DenialKind {
    /// Evidence is on its way: ask again soon.
    Pending,
    /// The policy denies.
    Policy,
    /// It cannot be judged now, and the policy does not admit that.
    Unavailable,
}

/// The part of a rule that decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// No document selects the subject, or the manifest itself is refused.
    Policy,
    /// Portieris' simple signing.
    Simple,
    /// Signatures.
    Trust,
    /// Vulnerabilities.
    Va,
}

impl Stage {
    /// Lower case, as in messages and `policy eval`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Simple => "simple",
            Self::Trust => "trust",
            Self::Va => "va",
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.kind {
            DenialKind::Pending => "is being verified",
            DenialKind::Policy => "denied",
            DenialKind::Unavailable => "cannot be judged now",
        };
        write!(f, "pullgate: {} {verb}", self.subject)?;
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
