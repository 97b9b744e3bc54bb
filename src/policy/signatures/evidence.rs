//! Evidence: the known facts about an image, without a judgement.

mod signature;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::authority::{Authority, AuthorityId};
use crate::oci::Digest;
use crate::policy::keys::key::PublicKey;
use crate::policy::observed::Observed;
pub use signature::{SignatureFinding, SignatureResult};

/// The outcome of each authority for one digest in one repository.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrustEvidence(BTreeMap<AuthorityId, Observed<TrustOutcome>>);

impl TrustEvidence {
    /// Adds the outcome for an authority.
    pub fn insert(&mut self, authority: AuthorityId, outcome: Observed<TrustOutcome>) {
        self.0.insert(authority, outcome);
    }

    /// The outcome for an authority; `None` if the authority was not checked.
    pub fn outcome(&self, authority: &AuthorityId) -> Option<&Observed<TrustOutcome>> {
        self.0.get(authority)
    }

    /// All outcomes.
    pub fn iter(&self) -> impl Iterator<Item = (&AuthorityId, &Observed<TrustOutcome>)> {
        self.0.iter()
    }
}

/// Signature evidence for the judged manifest, for the indexes of the same repository that list it, and for its
/// children.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrustFindings {
    /// Evidence for the manifest itself.
    pub own: TrustEvidence,
    /// Evidence for the indexes that list the manifest, by digest. A trusted index makes its children trusted.
    pub inherited: Vec<(Digest, TrustEvidence)>,
    /// Evidence for the children of an index. An unsigned index is trusted if all of its children are trusted.
    pub children: Vec<(Digest, TrustEvidence)>,
}

/// Whether a signature of an authority was verified for one digest. Every outcome lists the signatures that were read,
/// bounded by [`SignatureFinding::bounded`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum TrustOutcome {
    /// A signature was verified for exactly this digest.
    Verified {
        /// All signers with a verified signature, without duplicates.
        by: Vec<Signatory>,
        /// The signatures that were read. Not all: the search ends as soon as no other signature can matter.
        found: Vec<SignatureFinding>,
        /// Why it is unknown whether other signers of the authority have also signed, if that matters.
        unseen: Option<Unseen>,
    },
    /// No signature was verified.
    Unverified {
        /// All signatures. Empty if there is none.
        found: Vec<SignatureFinding>,
    },
    /// The outcome could not be determined.
    Unknown {
        /// Why.
        why: String,
        /// Whether a retry may succeed: true for a registry that does not answer, false for an unsupported scheme.
        temporary: bool,
        /// The signatures that were read.
        found: Vec<SignatureFinding>,
    },
    /// The authority requires no signature of this image. It counts neither for nor against the image.
    NotRequired {
        /// What says so.
        why: String,
    },
}

impl TrustOutcome {
    /// An outcome that could not be determined, without any signature that was read.
    pub fn unknown(why: impl Into<String>, temporary: bool) -> Self {
        Self::Unknown { why: why.into(), temporary, found: Vec::new() }
    }

    /// The signatures that were read.
    pub fn found(&self) -> &[SignatureFinding] {
        match self {
            Self::Verified { found, .. } | Self::Unverified { found } | Self::Unknown { found, .. } => found,
            Self::NotRequired { .. } => &[],
        }
    }
}

/// A signer of an image. Thresholds count signatories, not names of authorities.
///
/// Stored as JSON. A row that lacks a field without a default cannot be read, so its evidence is gathered again:
/// `{"id":"sha256:…","kind":"key","identity":"ECDSA P-256 key 0123abcd","description":"ECDSA P-256 key … (bundle)"}`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Signatory {
    /// The identifier of the signer, the same in every authority: see [`crate::policy::Authority::signers`].
    pub id: String,
    /// How the signer is identified.
    pub kind: SignatoryKind,
    /// Who signed: the key, or the identity that a certificate states.
    pub identity: String,
    /// The party that vouches for the identity, such as the OIDC issuer or a certificate authority. Keys have no such
    /// party.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The time of signing, if a party other than the signer states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Timestamp>,
    /// The signer and the form of the signature, for use in messages.
    pub description: String,
}

/// How a signer is identified.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatoryKind {
    /// Assumed for a policy test. Nothing was verified. Never stored.
    #[serde(skip)]
    Assumed,
    /// A public key that the policy contains.
    Key,
    /// An identity in a certificate, which an issuer vouches for.
    Certificate,
}

impl Signatory {
    /// Creates a signer that is identified by a public key, with a description of the signature.
    pub fn of_key(key: &PublicKey, description: String) -> Self {
        Self {
            id: key.fingerprint().to_string(),
            kind: SignatoryKind::Key,
            identity: key.to_string(),
            issuer: None,
            signed_at: None,
            description,
        }
    }

    /// Creates a signer whose identity a certificate states, with the issuer that vouches for it. The same identity of
    /// the same issuer is one signer, whatever certificates it has, and so is a workflow at all of its refs: who can
    /// start it at one of them can usually start it at another, so two refs are not two signers of a threshold.
    pub fn of_certificate(identity: String, issuer: String, description: String) -> Self {
        let id = format!("{issuer} {}", without_ref(&identity));
        Self {
            id: format!("identity {}", Digest::sha256(id.as_bytes())),
            kind: SignatoryKind::Certificate,
            identity,
            issuer: Some(issuer),
            signed_at: None,
            description,
        }
    }

    /// Creates one of the signers of an authority that is assumed to have signed.
    pub fn assumed(id: String, authority: &Authority) -> Self {
        let name = authority.name();
        Self {
            id,
            kind: SignatoryKind::Assumed,
            identity: name.to_owned(),
            issuer: None,
            signed_at: None,
            description: name.to_owned(),
        }
    }
}

impl std::fmt::Display for Signatory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.description)
    }
}

/// What was not checked, and why.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Unseen {
    /// A description of what was not checked, for people.
    pub why: String,
    /// Whether a retry may succeed.
    pub temporary: bool,
}

/// The identity of a workflow without the ref at which it ran. Fulcio writes
/// `https://github.com/OWNER/REPOSITORY/.github/workflows/NAME@refs/heads/main` for GitHub and
/// `https://gitlab.com/GROUP/PROJECT//.gitlab-ci.yml@refs/heads/main` for GitLab, or a commit after the `@` (fulcio,
/// docs/oidc.md). Other identities are complete.
fn without_ref(identity: &str) -> &str {
    if !identity.starts_with("https://") {
        return identity;
    }
    if let Some((workflow, _)) = identity.split_once("@refs/") {
        return workflow;
    }
    let is_commit = |text: &str| text.len() == 40 && text.bytes().all(|c| c.is_ascii_hexdigit());
    identity.rsplit_once('@').filter(|(_, commit)| is_commit(commit)).map_or(identity, |(workflow, _)| workflow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workflow_is_one_signer_at_all_of_its_refs() {
        let id = |identity: &str| Signatory::of_certificate(identity.into(), "https://i".into(), String::new()).id;
        let workflow = "https://github.com/acme/app/.github/workflows/release.yml";
        let main = id(&format!("{workflow}@refs/heads/main"));
        for at in ["refs/heads/dev", "refs/tags/@acme/app@1.0.0", &"0a".repeat(20)] {
            assert_eq!(id(&format!("{workflow}@{at}")), main, "{at}");
        }
        let other = "https://github.com/acme/app/.github/workflows/other.yml@refs/heads/main";
        for different in
            [other, "https://github.com/acme", "alice@acme.com", "https://acme.com/@alice", "x@refs/heads/main"]
        {
            assert_ne!(id(different), main, "{different}");
        }
        assert_ne!(id("alice@acme.com"), id("bob@acme.com"));
        assert_ne!(id("https://acme.com/@alice"), id("https://acme.com/@bob"));
    }
}
