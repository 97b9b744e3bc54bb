//! The part of the answer about signatures: each authority, and each signature with its result.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::oci::Digest;
use crate::policy::{
    Authority, Rule, Scheme, Signatory, SignatureFinding, SignatureResult, TrustFindings, TrustOutcome, TrustedRoot,
};

/// The result of one authority.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AuthorityAnswer {
    /// The authority's name.
    pub authority: String,
    /// How it signs: `cosign with a key`, `notation`.
    #[serde(default)]
    pub scheme: String,
    /// Whether the authority signed the image.
    pub outcome: AuthorityOutcome,
    /// Who signed, what failed, or why the outcome is unknown.
    pub details: Vec<String>,
    /// The signatures that were read, those that count first. The search ends when no other signature can matter, so
    /// there may be others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<SignatureAnswer>,
    /// What the user can do about a missing signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The trusted roots of Sigstore that it is verified with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_roots: Vec<RootAnswer>,
}

/// A trusted root of Sigstore.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RootAnswer {
    /// Where it comes from, such as the path of its file.
    pub name: String,
    /// Its age, and when its keys end.
    pub status: String,
    /// When its file was written, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Timestamp>,
    /// When its newest key begins to be valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_key: Option<Timestamp>,
    /// When the last of its keys ends; absent without an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What in it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// Whether an authority signed an image.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum AuthorityOutcome {
    /// The authority signed an index that lists the image.
    #[serde(rename = "inherited")]
    Inherited,
    /// The authority requires no signature of this image.
    #[serde(rename = "not required")]
    NotRequired,
    /// No signature was verified.
    #[serde(rename = "not verified")]
    NotVerified,
    /// The outcome is unknown.
    #[serde(rename = "unknown")]
    Unknown,
    /// The authority signed the image.
    #[serde(rename = "verified")]
    Verified,
}

impl AuthorityOutcome {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inherited => "inherited",
            Self::NotRequired => "not required",
            Self::NotVerified => "not verified",
            Self::Unknown => "unknown",
            Self::Verified => "verified",
        }
    }
}

/// One signature, or an artifact that should contain one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SignatureAnswer {
    /// The index or the child whose signature it is; `None` for the image itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// Where it was found: `tag sha256-….sig`, `referrer sha256:…`, or the URL of a signature store.
    pub place: String,
    /// What it is: `bundle 0123abcd4567`.
    pub form: String,
    /// The signer, if the signature was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<SignerAnswer>,
    /// Why it does not count; `None` if it was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What the user can do about it, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The signer of a verified signature.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SignerAnswer {
    /// The identifier that thresholds count. For a key, the SHA-256 digest of its SubjectPublicKeyInfo.
    pub id: String,
    /// The key, or the identity that a certificate states.
    pub identity: String,
    /// The party that vouches for the identity, such as the OIDC issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The time of signing, if a party other than the signer states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Timestamp>,
}

/// The answers for all authorities that a rule names.
pub(super) fn answers(rule: &Rule, findings: &TrustFindings, now: Timestamp) -> Vec<AuthorityAnswer> {
    rule.authorities().iter().map(|authority| answer(authority, findings, now)).collect()
}

fn answer(authority: &Authority, findings: &TrustFindings, now: Timestamp) -> AuthorityAnswer {
    let (outcome, details) = outcome(authority, findings);
    let of = |evidence: &crate::policy::TrustEvidence, manifest: Option<Digest>| -> Vec<SignatureAnswer> {
        let outcome = evidence.outcome(authority.id()).map(|observed| &observed.value);
        outcome.map_or_else(Vec::new, |outcome| signatures(outcome, manifest))
    };
    let others = findings.inherited.iter().chain(&findings.children);
    let mut signatures = of(&findings.own, None);
    signatures.extend(others.flat_map(|(digest, evidence)| of(evidence, Some(*digest))));
    let is_missing = outcome == AuthorityOutcome::NotVerified && signatures.is_empty();
    AuthorityAnswer {
        authority: authority.name().to_owned(),
        scheme: authority.scheme().name().to_owned(),
        outcome,
        details,
        signatures,
        hint: is_missing.then(|| how_to_sign(authority.scheme())).flatten().map(str::to_owned),
        trusted_roots: authority.scheme().trusted_roots().iter().map(|root| root_answer(root, now)).collect(),
    }
}

fn root_answer(root: &TrustedRoot, now: Timestamp) -> RootAnswer {
    RootAnswer {
        name: root.name().to_owned(),
        status: root.describe(now),
        written: root.written(),
        newest_key: root.newest_key(),
        until: root.until(),
        ended: root.ended(now),
    }
}

fn outcome(authority: &Authority, findings: &TrustFindings) -> (AuthorityOutcome, Vec<String>) {
    let own = findings.own.outcome(authority.id()).map(|observed| &observed.value);
    if let Some(TrustOutcome::Verified { by, .. }) = own {
        return (AuthorityOutcome::Verified, by.iter().map(ToString::to_string).collect());
    }
    let inherited = findings.inherited.iter().find_map(|(index, evidence)| {
        let verified = matches!(evidence.outcome(authority.id())?.value, TrustOutcome::Verified { .. });
        verified.then(|| format!("by the index {index} that lists it"))
    });
    if let Some(index) = inherited {
        return (AuthorityOutcome::Inherited, vec![index]);
    }
    let lines = |found: &[SignatureFinding]| found.iter().map(ToString::to_string).collect::<Vec<_>>();
    match own {
        Some(TrustOutcome::NotRequired { why }) => (AuthorityOutcome::NotRequired, vec![why.clone()]),
        Some(TrustOutcome::Unverified { found }) if found.is_empty() => {
            (AuthorityOutcome::NotVerified, vec!["no signature was found".into()])
        }
        Some(TrustOutcome::Unverified { found }) => (AuthorityOutcome::NotVerified, lines(found)),
        Some(TrustOutcome::Unknown { why, found, .. }) => {
            (AuthorityOutcome::Unknown, [vec![why.clone()], lines(found)].concat())
        }
        Some(TrustOutcome::Verified { .. }) | None => (AuthorityOutcome::Unknown, vec!["was not queried".into()]),
    }
}

fn signatures(outcome: &TrustOutcome, manifest: Option<Digest>) -> Vec<SignatureAnswer> {
    let by = match outcome {
        TrustOutcome::Verified { by, .. } => &**by,
        TrustOutcome::NotRequired { .. } | TrustOutcome::Unverified { .. } | TrustOutcome::Unknown { .. } => &[],
    };
    outcome.found().iter().map(|finding| signature(finding, by, manifest)).collect()
}

fn signature(finding: &SignatureFinding, by: &[Signatory], manifest: Option<Digest>) -> SignatureAnswer {
    let SignatureFinding { place, form, result } = finding.clone();
    let (signer, why, hint) = match result {
        SignatureResult::Verified { by: id } => (by.iter().find(|one| one.id == id).map(signer), None, None),
        SignatureResult::Refused { why, hint } => (None, Some(why), hint),
        SignatureResult::NotJudged { why } => (None, Some(why), None),
    };
    SignatureAnswer { manifest, place, form, signer, why, hint }
}

fn signer(signatory: &Signatory) -> SignerAnswer {
    let Signatory { id, identity, issuer, signed_at, .. } = signatory.clone();
    SignerAnswer { id, identity, issuer, signed_at }
}

/// How an image is signed for an authority of this scheme; `None` if a signature cannot help.
fn how_to_sign(scheme: &Scheme) -> Option<&'static str> {
    match scheme {
        Scheme::Cosign(cosign) if cosign.keys().is_empty() => {
            Some("sign it with this identity: cosign sign REPOSITORY@DIGEST")
        }
        Scheme::Cosign(_) => Some("sign it: cosign sign --key KEY REPOSITORY@DIGEST"),
        Scheme::Gpg { .. } => Some("sign it: skopeo copy --sign-by KEY …, using the store that the policy names"),
        Scheme::Notation { .. } => Some("sign it: notation sign REPOSITORY@DIGEST"),
        Scheme::Notary(_) => Some("sign the tag: docker trust sign REPOSITORY:TAG"),
        Scheme::Unusable { .. } => None,
    }
}
