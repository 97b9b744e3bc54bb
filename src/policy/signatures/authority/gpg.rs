//! Simple signing with OpenPGP (containers/image): the keys, the identity that a signature must claim, and where
//! signatures are stored.

use std::collections::BTreeSet;
use std::fmt;

use super::{Canonical, PinnedKey, fingerprint};
use crate::oci::{Digest, ImageName, ImageReference, Reference};
use crate::policy::keys::keyring::KeyRing;

/// An authority that signs with OpenPGP.
#[derive(Clone, Debug, PartialEq)]
pub struct SimpleSigner {
    /// The key rings. Any key in them counts.
    pub keyrings: Vec<PinnedKey<KeyRing>>,
    /// The image that the signature must name.
    pub identity: SignedIdentity,
    /// Where signatures are stored besides the registry.
    pub store: Option<SignatureStore>,
}

impl SimpleSigner {
    /// See [`super::Authority::signers`].
    pub(super) fn signers(&self) -> BTreeSet<String> {
        self.keyrings.iter().flat_map(|ring| ring.key.signers()).collect()
    }

    pub(super) fn encode(&self) -> Canonical {
        let Self { keyrings, identity, store } = self;
        let ring = |pinned: &PinnedKey<KeyRing>| {
            let PinnedKey { key, validity } = pinned;
            validity.encode(fingerprint(key.fingerprint()).into())
        };
        Canonical::default()
            .field("kind", "openpgp")
            .set("keyrings", keyrings.iter().map(ring))
            .field("identity", identity.encode())
            .set("store", store.as_ref().map(SignatureStore::encode))
    }
}

/// A lookaside store: a directory or a web server with one file for each signature (containers/image,
/// `docs/signature-protocols.md`).
#[derive(Clone, Debug, PartialEq)]
pub struct SignatureStore {
    /// The base of all its URLs: `https`, `http` or `file`, without a query, a fragment and credentials.
    pub base: url::Url,
    /// The credentials for HTTP basic authentication.
    pub credentials: Option<StoreCredentials>,
}

impl SignatureStore {
    /// The content of a store may depend on its reader, so a store with other credentials is a different store: after a
    /// password is corrected, results of the wrong one need not expire first. The password is included as its digest.
    fn encode(&self) -> Vec<u8> {
        let Self { base, credentials } = self;
        let user = credentials.as_ref().map(|StoreCredentials { username, password }| {
            let password = fingerprint(Digest::sha256(password.as_bytes()));
            Canonical::default().field("username", username).field("password", password).0
        });
        Canonical::default().field("base", base.as_str()).set("credentials", user).0
    }
}

/// A user name and a password. Never printed.
#[derive(Clone, PartialEq)]
pub struct StoreCredentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for StoreCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreCredentials")
    }
}

/// The image that a simple signature must name: `signedIdentity` (containers-policy.json(5)).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SignedIdentity {
    /// The pulled reference. For a reference by digest, the repository is sufficient. This is the default.
    MatchRepoDigestOrExact,
    /// Exactly the pulled reference. A reference by digest never matches, because signatures name tags.
    MatchExact,
    /// The pulled repository, with any tag.
    MatchRepository,
    /// This reference, with a tag or a digest.
    ExactReference(ImageReference),
    /// This repository.
    ExactRepository(ImageName),
    /// The pulled reference, with one prefix of its name replaced by another. A name without the prefix is unchanged.
    /// The rule is then that of [`Self::MatchRepoDigestOrExact`].
    Remap {
        /// The prefix of the pulled name: a host, a namespace or a repository.
        prefix: String,
        /// Its replacement in the signed name.
        signed_prefix: String,
    },
}

impl SignedIdentity {
    pub(super) fn encode(&self) -> Vec<u8> {
        let of = |kind: &str| Canonical::default().field("kind", kind);
        let encoding = match self {
            Self::MatchRepoDigestOrExact => of("match repository by digest, or exact"),
            Self::MatchExact => of("match exact"),
            Self::MatchRepository => of("match repository"),
            Self::ExactReference(reference) => of("exact reference").field("reference", reference.to_string()),
            Self::ExactRepository(repository) => of("exact repository").field("repository", repository.to_string()),
            Self::Remap { prefix, signed_prefix } => of("remap").field("from", prefix).field("to", signed_prefix),
        };
        encoding.0
    }

    /// Whether it depends on the pulled tag which signatures count.
    pub fn depends_on_reference(&self) -> bool {
        match self {
            Self::MatchRepoDigestOrExact | Self::MatchExact | Self::Remap { .. } => true,
            Self::MatchRepository | Self::ExactReference(_) | Self::ExactRepository(_) => false,
        }
    }

    /// Whether a signature that names an image counts for a pulled reference (containers/image,
    /// `signature/policy_reference_match.go`). `name` is the upstream's own name of the repository.
    ///
    /// A name in a signature without a tag and a digest counts only where any tag counts.
    pub fn accepts(&self, signed: &str, name: &ImageName, pulled: &Reference) -> bool {
        let Ok(signed) = signed.parse::<ImageReference>() else { return false };
        match self {
            Self::MatchRepoDigestOrExact => repo_digest_or_exact(&signed, name, pulled),
            Self::MatchExact => signed == exact(name, pulled),
            Self::MatchRepository => signed.name == *name,
            Self::ExactReference(reference) => is_full(&signed) && signed == *reference,
            Self::ExactRepository(repository) => signed.name == *repository,
            Self::Remap { prefix, signed_prefix } => {
                remap(name, prefix, signed_prefix).is_some_and(|name| repo_digest_or_exact(&signed, &name, pulled))
            }
        }
    }
}

impl fmt::Display for SignedIdentity {
    /// Writes the type as in containers-policy.json(5), with what it names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MatchRepoDigestOrExact => f.write_str("matchRepoDigestOrExact"),
            Self::MatchExact => f.write_str("matchExact"),
            Self::MatchRepository => f.write_str("matchRepository"),
            Self::ExactReference(reference) => write!(f, "exactReference {reference}"),
            Self::ExactRepository(repository) => write!(f, "exactRepository {repository}"),
            Self::Remap { prefix, signed_prefix } => write!(f, "remapIdentity {prefix} to {signed_prefix}"),
        }
    }
}

fn repo_digest_or_exact(signed: &ImageReference, name: &ImageName, pulled: &Reference) -> bool {
    match pulled {
        Reference::Digest(_) => is_full(signed) && signed.name == *name,
        Reference::Tag(_) => *signed == exact(name, pulled),
    }
}

fn is_full(reference: &ImageReference) -> bool {
    reference.tag.is_some() || reference.digest.is_some()
}

fn exact(name: &ImageName, reference: &Reference) -> ImageReference {
    let (tag, digest) = match reference {
        Reference::Digest(digest) => (None, Some(*digest)),
        Reference::Tag(tag) => (Some(tag.clone()), None),
    };
    ImageReference { name: name.clone(), tag, digest }
}

/// The name with its prefix replaced; the same name if it does not have the prefix. `None` if the result is not a name.
fn remap(name: &ImageName, prefix: &str, signed_prefix: &str) -> Option<ImageName> {
    let text = name.to_string();
    let Some(rest) = text.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
        return Some(name.clone());
    };
    let (host, repository) = format!("{signed_prefix}{rest}").split_once('/').map(|(h, r)| (h.parse(), r.parse()))?;
    Some(ImageName { host: host.ok()?, repository: repository.ok()? })
}

#[cfg(test)]
mod tests;
