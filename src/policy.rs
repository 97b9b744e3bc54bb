//! Policy: documents become rules, rules and evidence become decisions. Pure: no I/O, no clock, no logging.
//!
//! [`decide()`] is the only maker of a [`Permit`], and only a permit opens the way to content.

mod assess;
mod decide;
mod denial;
mod documents;
mod evidence;
mod pattern;
mod problem;
mod rule;
mod ruleset;
mod subject;
mod yaml;

pub use assess::{VaAssessment, assess};
pub use decide::{
    Decision, Kind, ListingPermit, Permit, Question, Selected, TrustFindings, Verdict, admit_listing,
    admit_listing_unmatched, admit_unmatched, decide, no_match, no_match_in, trust_verdict,
};
pub use denial::{Denial, DenialKind, Stage};
pub use documents::{Materials, NoMaterials, Parsed, ParsedFile, Settings, Source};
pub use evidence::{
    AffectedPackage, ChildFinding, Issue, IssueKind, Observed, Report, TrustEvidence, TrustOutcome, VaEvidence,
    VaFindings, VaStatus, known_time,
};
pub use problem::{Problem, ProblemSeverity};
pub use rule::{
    Authority, AuthorityId, Behaviour, Identity, InvalidSeverity, Mode, Requirement, Rule, Scheme, Severity, Signer,
    VaRule,
};
pub use ruleset::{RuleSet, Selection};
pub use subject::{InvalidScope, Scope, Subject};
