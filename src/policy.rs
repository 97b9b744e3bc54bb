//! Policy: documents become rules, rules and evidence become decisions. Pure: no I/O, no clock, no logging.
//!
//! [`decide()`] is the only maker of a [`Permit`], and only a permit opens the way to content.

mod assess;
mod decide;
mod denial;
mod distinct;
mod documents;
mod evidence;
mod key;
mod pattern;
mod pem;
mod rule;
mod ruleset;
mod signed;
mod subject;

pub use assess::{VaAssessment, assess};
pub use decide::{
    Kind, ListingPermit, Opinion, Opinions, Permit, Question, Selected, TrustFindings, Verdict, admit_listing,
    admit_listing_unmatched, admit_unmatched, decide, deciding, denial, no_match, no_match_in, weigh,
};
pub use denial::{Denial, DenialKind, Stage};
pub use distinct::distinct;
pub use documents::{Document, Materials, NoMaterials, Parsed, ParsedFile, Settings};
pub use evidence::{
    AffectedPackage, ChildFinding, Issue, IssueKind, Observed, Report, Signatory, TrustEvidence, TrustOutcome, Unseen,
    VaEvidence, VaFindings, VaStatus, known_time,
};
pub use key::{InvalidKey, PublicKey};
pub use rule::{
    Authority, AuthorityId, Behaviour, Identity, InvalidSeverity, Mode, Requirement, Rule, Scheme, Severity, Signer,
    VaRule,
};
pub use ruleset::{RuleSet, Selection};
pub use signed::trust_verdict;
pub use subject::Subject;
