//! Authorities that sign with cosign, by key or keyless.

use std::collections::BTreeMap;

use super::gpg::SignedIdentity;
use super::text::TextPattern;
use super::{Canonical, PinnedKey, fingerprint};
use crate::oci::ImageName;
use crate::policy::condition::Condition;
use crate::policy::keys::fulcio::FulcioClaim;
use crate::policy::keys::key::PublicKey;
use crate::policy::keys::trusted_root::TrustedRoot;
use crate::policy::signatures::attestation::AttestationRule;

/// A party that signs with cosign, and which of its signatures count.
#[derive(Clone, Debug, PartialEq)]
pub struct CosignAuthority {
    /// Who signs.
    pub signers: CosignSigners,
    /// Whether a signature must be in a transparency log.
    pub log: TransparencyLog,
    /// The Sigstore instances whose logs, time-stamping authorities and certificate authorities are trusted. One of
    /// them must vouch for all parts of a signature.
    pub roots: Vec<TrustedRoot>,
    /// Annotations that must all be signed (`cosign sign -a`).
    pub annotations: BTreeMap<String, String>,
    /// The repository that holds the signatures (`COSIGN_REPOSITORY`); `None` for the image's own.
    pub repository: Option<ImageName>,
    /// The image that a classic signature must name; `None` if the name does not matter, as for cosign.
    pub identity: Option<SignedIdentity>,
    /// The conditions on an attestation. `None` if a signature is required; attestations then do not count.
    pub attestation: Option<AttestationRule>,
}

/// Who signs.
#[derive(Clone, Debug, PartialEq)]
pub enum CosignSigners {
    /// Any one of these public keys. Several keys allow key rotation.
    Keys(Vec<PinnedKey<PublicKey>>),
    /// A certificate for an identity (keyless).
    Keyless(Keyless),
}

/// The certificates that count. There is no value that accepts every identity: the issuer and the identity are always
/// compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Keyless {
    /// The OIDC issuer that authenticated the signer.
    pub issuer: TextPattern,
    /// The identity of the signer, from the certificate's subject alternative name.
    pub identity: TextPattern,
    /// Other claims of the certificate, which must all match.
    pub claims: BTreeMap<FulcioClaim, TextPattern>,
}

/// Whether a signature must be in a transparency log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TransparencyLog {
    /// The signature must be in a log of a trusted root.
    Require,
    /// Log entries are not needed. An entry that a bundle has can still prove the time of signing.
    Ignore,
}

impl CosignAuthority {
    /// An authority that signs with any one of these keys at any time, with the defaults for everything else.
    pub(crate) fn of_keys(keys: Vec<PublicKey>) -> Self {
        let (roots, annotations, repository, identity, attestation) = Default::default();
        let log = TransparencyLog::Ignore;
        let signers = CosignSigners::Keys(keys.into_iter().map(PinnedKey::from).collect());
        Self { signers, log, roots, annotations, repository, identity, attestation }
    }

    /// The keys; none for a keyless authority.
    pub fn keys(&self) -> &[PinnedKey<PublicKey>] {
        match &self.signers {
            CosignSigners::Keys(keys) => keys,
            CosignSigners::Keyless(_) => &[],
        }
    }

    /// Whether its signatures can only be verified with a trusted root.
    pub fn needs_root(&self) -> bool {
        self.log == TransparencyLog::Require || matches!(self.signers, CosignSigners::Keyless(_))
    }

    /// Whether a trusted root can change what counts. For a key with limited validity, a root can prove when a
    /// signature was made.
    pub fn uses_roots(&self) -> bool {
        self.needs_root() || self.keys().iter().any(|key| key.validity.is_limited())
    }

    /// The patterns do not use `..`, so the compiler reports a new field that is not encoded. Fields with their default
    /// value are not encoded, so that a new field does not change the ID of every authority.
    pub(super) fn encode(&self) -> Canonical {
        let Self { signers, log, roots, annotations, repository, identity, attestation } = self;
        let of = |kind: &str| Canonical::default().field("kind", kind);
        let mut encoding = match signers {
            CosignSigners::Keys(keys) => {
                let key = |pinned: &PinnedKey<PublicKey>| {
                    let PinnedKey { key, validity } = pinned;
                    validity.encode(fingerprint(key.fingerprint()).into())
                };
                of("cosign key").set("keys", keys.iter().map(key))
            }
            CosignSigners::Keyless(Keyless { issuer, identity, claims }) => of("cosign keyless")
                .field("issuer", issuer.encode())
                .field("identity", identity.encode())
                .set("claims", claims.iter().map(|(claim, text)| pair(claim.name(), &text.encode()))),
        };
        if *log == TransparencyLog::Require {
            encoding = encoding.field("log", "required");
        }
        // An authority whose signatures depend on no root is the same with any roots.
        if self.uses_roots() {
            encoding = encoding.set("roots", roots.iter().map(|root| fingerprint(root.fingerprint())));
        }
        if !annotations.is_empty() {
            let annotations = annotations.iter().map(|(key, value)| pair(key, value.as_bytes()));
            encoding = encoding.set("annotations", annotations);
        }
        if let Some(repository) = repository {
            encoding = encoding.field("repository", repository.to_string());
        }
        if let Some(identity) = identity {
            encoding = encoding.field("signed identity", identity.encode());
        }
        if let Some(AttestationRule { predicate_type, max_age, condition }) = attestation {
            let age = max_age.map(|age| age.as_secs().to_be_bytes());
            let rule = Canonical::default().field("predicate type", predicate_type).set("maximum age", age);
            encoding = encoding.field("attestation", rule.set("condition", condition.as_ref().map(Condition::text)).0);
        }
        encoding
    }
}

fn pair(name: &str, value: &[u8]) -> Vec<u8> {
    Canonical::default().field(name, value).0
}
