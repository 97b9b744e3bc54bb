//! Policy: documents become rules, rules and evidence become decisions. Pure: no I/O, no clock, no logging.
//!
//! [`decide()`] is the only maker of a [`Permit`], and only a permit opens the way to content. It weighs the
//! evidence (`signatures`, `vulnerability`) by the `rules` that are read from `documents`, with the `checks`.

mod checks;
mod condition;
mod decide;
mod denial;
mod documents;
mod keys;
mod matching;
mod observed;
mod rules;
mod signatures;
mod vulnerability;

pub use checks::assess::{AssessmentContext, VaAssessment, assess, assessment_verdict, is_denied_until_answered};
pub use checks::distinct::distinct;
pub use checks::signed::trust_verdict;
pub use checks::verdict::Verdict;
pub use condition::{Condition, InvalidCondition, ValueType, Variable};
pub use decide::{
    Admission, ListingPermit, Opinion, Opinions, Permit, Question, admit_listing, admit_listing_unmatched,
    admit_unmatched, decide, deciding, denial, no_match, no_match_in, weigh,
};
pub use denial::{Denial, DenialKind, Stage};
pub use documents::{
    CONFIGURATION, Document, Materials, NOTARY, NoMaterials, Parsed, ParsedFile, Settings, can_be_an_image,
};
pub use keys::fulcio::FulcioClaim;
pub use keys::key::{InvalidKey, PublicKey, fingerprint as key_fingerprint};
pub use keys::keyring::KeyRing;
pub use keys::material::{Certificate, InvalidMaterial, SignerKey};
pub use keys::trusted_root::{RootPart, RootPartKind, TrustedRoot};
pub use matching::subject::{Kind, Subject};
pub use observed::{Observed, known_time};
pub use rules::exemption::{
    Coverage, ExemptPackage, ExemptStatus, ExemptedImage, ExemptionRecord, ExemptionScope, ExemptionSet,
    InvalidExemption, InvalidExemptionScope, IssueType, MAX_EXEMPTIONS, PathPattern, VaExemptions, expiry,
};
pub use rules::may_name::may_name;
pub use rules::rule::{Behaviour, Mode, Requirement, Rule, Selected, SignedPart};
pub use rules::ruleset::{EvidenceSources, EvidencedRegistry, RuleSet, Selection};
pub use rules::va_rule::VaRule;
pub use signatures::attestation::{AttestationRule, VerifiedStatement};
pub use signatures::authority::gpg::{SignatureStore, SignedIdentity, SimpleSigner, StoreCredentials};
pub use signatures::authority::{
    AnchoredRegex, Authority, AuthorityId, CertificateSubject, CheckAction, CosignAuthority, CosignSigners, FirstUse,
    KeyValidity, Keyless, NotaryRoot, NotaryTrust, NotationChecks, NotationStatement, NotationTrust, PinnedKey,
    PinnedRoot, RegistryScope, RevocationFile, Scheme, Signer, StoredCertificate, TextPattern, TimestampRule,
    TransparencyLog,
};
pub use signatures::evidence::{
    Signatory, SignatoryKind, SignatureFinding, SignatureResult, TrustEvidence, TrustFindings, TrustOutcome, Unseen,
};
pub use signatures::same_signer::SameSigner;
pub use vulnerability::cvss::CvssScore;
pub use vulnerability::epss::Epss;
pub use vulnerability::history::{ImageHistory, SeenIssues, seen_earlier};
pub use vulnerability::issue_id::{CONFIGURATION_CHECKS, is_notice, kind_of_issue, lists_cve};
pub use vulnerability::purl::{Purl, is_of_distribution};
pub use vulnerability::severity::{InvalidSeverity, Severity};
pub use vulnerability::{
    AffectedPackage, BaseImage, ChildFinding, DatedDatabase, DeclaredLicence, Feeds, FixStatus, ImageFacts, Issue,
    IssueKind, OWN_CHECKS, OWN_SCANNER, PackageList, Report, ReportGap, ReportPackage, VaEvidence, VaFindings,
    VaStatus, is_cve, is_own_scanner,
};
