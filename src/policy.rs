//! Policy: documents become rules, rules and evidence become decisions. Pure: no I/O, no clock, no logging.
//!
//! [`decide()`] is the only maker of a [`Permit`], and only a permit opens the way to content.

mod assess;
mod attestation;
mod authority;
mod banned;
mod base_image;
mod condition;
mod cvss;
mod decide;
mod denial;
mod distinct;
mod documents;
mod epss;
mod evidence;
mod exemption;
mod fulcio;
mod history;
mod issue_id;
mod key;
mod keyring;
mod licence;
mod material;
mod may_name;
mod pattern;
mod pem;
mod purl;
mod rule;
mod ruleset;
mod same_signer;
mod signed;
mod subject;
mod trusted_root;
mod va_rule;
mod verdict;
mod vulnerability;
mod ways;

pub use assess::{AssessmentContext, VaAssessment, assess, assessment_verdict, is_denied_until_answered};
pub use attestation::{AttestationRule, VerifiedStatement};
pub use authority::gpg::{SignatureStore, SignedIdentity, SimpleSigner, StoreCredentials};
pub use authority::{
    AnchoredRegex, Authority, AuthorityId, CertificateSubject, CheckAction, CosignAuthority, CosignSigners, FirstUse,
    KeyValidity, Keyless, NotaryRoot, NotaryTrust, NotationChecks, NotationStatement, NotationTrust, PinnedKey,
    PinnedRoot, RegistryScope, RevocationFile, Scheme, Signer, StoredCertificate, TextPattern, TimestampRule,
    TransparencyLog,
};
pub use condition::{Condition, InvalidCondition, ValueType, Variable};
pub use cvss::CvssScore;
pub use decide::{
    Admission, ListingPermit, Opinion, Opinions, Permit, Question, Selected, admit_listing, admit_listing_unmatched,
    admit_unmatched, decide, deciding, denial, no_match, no_match_in, weigh,
};
pub use denial::{Denial, DenialKind, Stage};
pub use distinct::distinct;
pub use documents::{
    CONFIGURATION, Document, Materials, NOTARY, NoMaterials, Parsed, ParsedFile, Settings, can_be_an_image,
};
pub use epss::Epss;
pub use evidence::{
    Observed, Signatory, SignatoryKind, SignatureFinding, SignatureResult, TrustEvidence, TrustFindings, TrustOutcome,
    Unseen, known_time,
};
pub use exemption::{
    Coverage, ExemptPackage, ExemptStatus, ExemptedImage, ExemptionRecord, ExemptionScope, ExemptionSet,
    InvalidExemption, InvalidExemptionScope, IssueType, MAX_EXEMPTIONS, PathPattern, VaExemptions, expiry,
};
pub use fulcio::FulcioClaim;
pub use history::{ImageHistory, SeenIssues, seen_earlier};
pub use issue_id::{CONFIGURATION_CHECKS, is_notice, kind_of_issue, lists_cve};
pub use key::{InvalidKey, PublicKey, fingerprint as key_fingerprint};
pub use keyring::KeyRing;
pub use material::{Certificate, InvalidMaterial, SignerKey};
pub use may_name::may_name;
pub use purl::{Purl, is_of_distribution};
pub use rule::{Behaviour, InvalidSeverity, Mode, Requirement, Rule, Severity, SignedPart};
pub use ruleset::{EvidenceSources, EvidencedRegistry, RuleSet, Selection};
pub use same_signer::SameSigner;
pub use signed::trust_verdict;
pub use subject::{Kind, Subject};
pub use trusted_root::{RootPart, RootPartKind, TrustedRoot};
pub use va_rule::VaRule;
pub use verdict::Verdict;
pub use vulnerability::{
    AffectedPackage, BaseImage, ChildFinding, DatedDatabase, DeclaredLicence, Feeds, FixStatus, ImageFacts, Issue,
    IssueKind, OWN_CHECKS, OWN_SCANNER, PackageList, Report, ReportGap, ReportPackage, VaEvidence, VaFindings,
    VaStatus, is_cve, is_own_scanner,
};
