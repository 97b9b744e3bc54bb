//! What a policy document asks for, typed: the same for all three dialects.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use jiff::SignedDuration;

use super::key::PublicKey;
use crate::oci::Digest;

/// What one `repositories` entry asks for. No check at all is a rule too: it admits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Who must have signed: content trust in the IBM dialects, named authorities in ours.
    pub trust: Option<Requirement>,
    /// Portieris' `simple` signing, beside and with `trust`.
    pub simple: Option<Requirement>,
    /// The Vulnerability Advisor's part.
    pub va: Option<VaRule>,
}

impl Rule {
    /// Whether the rule asks for no check.
    pub fn admits_all(&self) -> bool {
        self.trust.is_none() && self.simple.is_none() && self.va.is_none()
    }

    /// Every authority that the rule names, each once.
    pub fn authorities(&self) -> Vec<Arc<Authority>> {
        let mut found = Vec::new();
        for requirement in self.trust.iter().chain(&self.simple) {
            requirement.collect(&mut found);
        }
        found
    }
}

/// Whether a denial is carried out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// It is only reported.
    Audit,
    /// It is carried out.
    #[default]
    Enforce,
}

/// A combination of authorities.
#[derive(Clone, Debug, PartialEq)]
pub enum Requirement {
    /// Every part, each by itself: one signature may meet several (Portieris' `simple`).
    AllOf(Vec<Self>),
    /// At least one part.
    AnyOf(Vec<Self>),
    /// At least so many of the parts, each by a signer of its own: a key under two names counts once.
    AtLeast {
        /// How many.
        count: usize,
        /// The parts.
        of: Vec<Self>,
    },
    /// This authority has verified a signature of the image.
    Authority(Arc<Authority>),
    /// Always met (Portieris' `insecureAcceptAnything`).
    Accept,
    /// Never met (Portieris' `reject`).
    Reject,
}

impl Requirement {
    /// Every authority that it names, each once.
    pub(super) fn authorities(&self) -> Vec<Arc<Authority>> {
        let mut found = Vec::new();
        self.collect(&mut found);
        found
    }

    fn collect(&self, found: &mut Vec<Arc<Authority>>) {
        match self {
            Self::AllOf(parts) | Self::AnyOf(parts) | Self::AtLeast { of: parts, .. } => {
                parts.iter().for_each(|part| part.collect(found));
            }
            Self::Authority(authority) if !found.iter().any(|known| known.id() == authority.id()) => {
                found.push(authority.clone());
            }
            Self::Authority(_) | Self::Accept | Self::Reject => {}
        }
    }
}

/// Somebody whose signature counts: a name and the means to verify it.
#[derive(Clone, Debug, PartialEq)]
pub struct Authority {
    name: String,
    scheme: Scheme,
    id: AuthorityId,
}

impl Authority {
    /// An authority; its identity covers the scheme and all its material, so that evidence for an old key never
    /// speaks for a new one of the same name. Of keys it covers what they are, not how they were written down.
    pub fn new(name: impl Into<String>, scheme: Scheme) -> Self {
        let name = name.into();
        let material = match &scheme {
            Scheme::CosignKey { keys } => format!("cosign key {:?}", fingerprints(keys)),
            other => format!("{other:?}"),
        };
        let digest = Digest::sha256(format!("{name}\n{material}").as_bytes());
        Self { id: AuthorityId(digest.hex()[..32].into()), name, scheme }
    }

    /// The name that documents and messages use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How its signatures are verified.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Everyone who can sign for it: its keys by their fingerprints. Who can under another scheme is not known before
    /// a signature is there; one name stands for all of them.
    pub fn signers(&self) -> BTreeSet<String> {
        match &self.scheme {
            Scheme::CosignKey { keys } => fingerprints(keys),
            Scheme::Unusable { .. } => [format!("authority {}", self.id)].into(),
            other => [format!("scheme {}", Digest::sha256(format!("{other:?}").as_bytes()))].into(),
        }
    }

    /// What its evidence is keyed by.
    pub fn id(&self) -> &AuthorityId {
        &self.id
    }
}

fn fingerprints(keys: &[PublicKey]) -> BTreeSet<String> {
    keys.iter().map(|key| key.fingerprint().to_string()).collect()
}

/// Identifies an authority together with its keys.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AuthorityId(Arc<str>);

impl fmt::Display for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How signatures are made and verified.
#[derive(Clone, Debug, PartialEq)]
pub enum Scheme {
    /// cosign with a public key: classic `.sig` tags and Sigstore bundles. Any one of the keys suffices (rotation).
    CosignKey {
        /// Public keys.
        keys: Vec<PublicKey>,
    },
    /// cosign keyless: a certificate for an identity, by an issuer.
    CosignKeyless {
        /// The OIDC issuer, exactly.
        issuer: String,
        /// Who signed.
        identity: Identity,
    },
    /// Portieris' simple signing: an OpenPGP key ring.
    Gpg {
        /// Armoured key rings of which any key counts.
        keyrings: Vec<String>,
        /// `signedIdentity` as the document has it, in JSON.
        identity: String,
        /// Lookaside store.
        store_url: Option<String>,
    },
    /// Notary Project signatures.
    Notation {
        /// Trusted certificates, PEM.
        certificates: Vec<String>,
        /// `x509.subject: …` identities.
        identities: Vec<String>,
    },
    /// Docker Content Trust.
    Notary {
        /// The notary server; by the registry's host where none is named.
        server: Option<String>,
        /// Signers that must all have signed; empty: signed by anyone.
        signers: Vec<Signer>,
    },
    /// Named by a document, but its material is not there: never verified, and the reason says what is missing.
    Unusable {
        /// What is missing.
        why: String,
    },
}

/// A Docker Content Trust signer, from a `signerSecrets` secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signer {
    /// The delegation's name.
    pub name: String,
    /// Its public key, PEM.
    pub public_key: String,
}

/// Which certificate identities count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Identity {
    /// Exactly this one.
    Exact(String),
    /// `*` matches any run of characters.
    Glob(String),
}

/// The Vulnerability Advisor's part of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct VaRule {
    /// The least severity that counts.
    pub severity: Severity,
    /// Whether only issues with a published fix count.
    pub fixable_only: bool,
    /// Issue identifiers that count whatever the rest of the rule says.
    pub always_block: Vec<String>,
    /// What happens to an image that no source knows.
    pub unscanned: Behaviour,
    /// What happens when the assessment is known to be incomplete.
    pub incomplete: Behaviour,
    /// What happens to what cannot be assessed at all: artifacts, unknown systems.
    pub unsupported: Behaviour,
    /// What happens when no source answers.
    pub unavailable: Behaviour,
    /// A report older than this counts as unscanned.
    pub max_report_age: Option<SignedDuration>,
    /// IBM's `ICCRVA.account`: whose exemptions apply.
    pub account: Option<String>,
}

impl VaRule {
    /// `va.enabled: true` of the IBM dialects: every issue that the source reports and does not exempt counts; what is
    /// unsupported is admitted, everything else that is not known is denied.
    pub fn ibm() -> Self {
        Self {
            severity: Severity::Unknown,
            fixable_only: false,
            always_block: Vec::new(),
            unscanned: Behaviour::Deny,
            incomplete: Behaviour::Deny,
            unsupported: Behaviour::Allow,
            unavailable: Behaviour::Deny,
            max_report_age: None,
            account: None,
        }
    }
}

/// What a rule says about something that is not known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Behaviour {
    /// Admit.
    Allow,
    /// Deny.
    Deny,
}

/// How bad an issue is. A severity that nobody said counts as the highest when severities are compared, because not
/// knowing is no reason to admit.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Negligible.
    Negligible,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
    /// Nobody said.
    Unknown,
}

impl Severity {
    /// Whether an issue of this severity counts under a rule that begins at `least`. `least` as [`Severity::Unknown`]
    /// means that every issue counts.
    pub fn counts_from(self, least: Self) -> bool {
        least == Self::Unknown || self as u8 >= least as u8
    }

    /// Lower case, as documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Negligible => "negligible",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
            Self::Unknown => "unknown",
        }
    }
}

impl std::str::FromStr for Severity {
    type Err = InvalidSeverity;

    fn from_str(text: &str) -> Result<Self, InvalidSeverity> {
        match &*text.to_ascii_lowercase() {
            "negligible" => Ok(Self::Negligible),
            "low" => Ok(Self::Low),
            "medium" | "moderate" => Ok(Self::Medium),
            "high" | "important" => Ok(Self::High),
            "critical" => Ok(Self::Critical),
            "unknown" => Ok(Self::Unknown),
            _ => Err(InvalidSeverity),
        }
    }
}

/// A text is no severity.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a severity is negligible, low, medium, high or critical")]
pub struct InvalidSeverity;
