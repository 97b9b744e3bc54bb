//! What is known about an image, with no opinion.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::rule::{AuthorityId, Severity};
use crate::oci::Digest;

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

/// What is known about an image's vulnerabilities.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum VaEvidence {
    /// A report speaks of this image.
    Report(Report),
    /// No source knows the image.
    Unscanned,
    /// No report speaks of the image, and some reports could not be read: one of them may.
    Unreadable {
        /// How many reports have a problem.
        problems: usize,
    },
    /// The image was assessed in part.
    Incomplete {
        /// What is missing.
        why: String,
    },
    /// The image cannot be assessed.
    Unsupported {
        /// Why.
        why: String,
    },
    /// No source answered.
    Unavailable {
        /// Why.
        why: String,
    },
    /// An assessment is under way.
    Pending {
        /// What is waited for.
        why: String,
    },
}

/// A report of issues.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Report {
    /// Who made it: `trivy 0.72.0`, `ibm-va-v4`.
    pub source: String,
    /// When it was made.
    pub generated_at: Option<Timestamp>,
    /// All issues, exempt ones included.
    pub issues: Vec<Issue>,
    /// What was not assessed, where the report does not cover the whole image. Issues that were found count all the same.
    #[serde(default)]
    pub incomplete: Option<String>,
}

/// A vulnerability or a configuration issue.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Issue {
    /// `CVE-2024-1234`, or the source's own identifier.
    pub id: String,
    /// Other identifiers of the same issue.
    pub aliases: Vec<String>,
    /// What kind.
    pub kind: IssueKind,
    /// How bad.
    pub severity: Severity,
    /// What is affected.
    pub packages: Vec<AffectedPackage>,
    /// Whether the source itself says that it is exempt (IBM's exemptions, VEX `not_affected` or `fixed`).
    pub exempt: bool,
    /// One line on what it is.
    pub title: Option<String>,
}

impl Issue {
    /// Whether a fix is published for at least one affected package.
    pub fn is_fixable(&self) -> bool {
        self.kind == IssueKind::Configuration || self.packages.iter().any(|package| package.fixed.is_some())
    }

    /// Whether this is the issue's identifier or one of its aliases.
    pub fn is_called(&self, id: &str) -> bool {
        self.id.eq_ignore_ascii_case(id) || self.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(id))
    }
}

/// IBM's two classes of issues.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum IssueKind {
    /// A configuration that is known to be unsafe.
    Configuration,
    /// A vulnerability in a package.
    Vulnerability,
}

/// A package that an issue affects.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AffectedPackage {
    /// Its name.
    pub name: String,
    /// The version in the image.
    pub installed: Option<String>,
    /// The first version without the issue.
    pub fixed: Option<String>,
}

/// IBM's words for an assessment.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum VaStatus {
    /// Issues that count.
    Fail,
    /// Assessed in part.
    Incomplete,
    /// No issue.
    Ok,
    /// Not assessed.
    Unscanned,
    /// Cannot be assessed.
    Unsupported,
    /// Issues, all of them exempt.
    Warn,
}

impl VaStatus {
    /// Upper case, as IBM prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "FAIL",
            Self::Incomplete => "INCOMPLETE",
            Self::Ok => "OK",
            Self::Unscanned => "UNSCANNED",
            Self::Unsupported => "UNSUPPORTED",
            Self::Warn => "WARN",
        }
    }
}

/// Vulnerability evidence for what is judged: an image, or the children of an index that matter here.
#[derive(Clone, Debug, PartialEq)]
pub enum VaFindings {
    /// An index: each child that was pulled through here or whose platform is asked for.
    Children(Vec<ChildFinding>),
    /// One image.
    Image(Arc<Observed<VaEvidence>>),
}

impl VaFindings {
    /// The evidence about each image.
    pub fn evidence(&self) -> impl Iterator<Item = &Observed<VaEvidence>> {
        let (image, children) = match self {
            Self::Image(evidence) => (Some(&**evidence), &[][..]),
            Self::Children(children) => (None, &children[..]),
        };
        image.into_iter().chain(children.iter().map(|child| &*child.evidence))
    }
}

/// What is known about one child of an index.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildFinding {
    /// The child's digest.
    pub digest: Digest,
    /// Its platform, as `linux/amd64`.
    pub platform: String,
    /// What is known.
    pub evidence: Arc<Observed<VaEvidence>>,
}
