//! Authorities of Docker Content Trust.

use std::collections::BTreeSet;

use super::{Canonical, KeyValidity, fingerprint};
use crate::oci::Digest;
use crate::policy::keys::material::SignerKey;

/// How signatures of Docker Content Trust are verified.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NotaryTrust {
    /// The notary server. `None` selects it by the registry.
    pub server: Option<String>,
    /// The trusted root. `None` leaves it to `first_use`.
    pub root: Option<NotaryRoot>,
    /// Signers that must all have signed. If the list is empty, any key for the repository's targets is sufficient.
    pub signers: Vec<Signer>,
    /// Whether the root of a repository is trusted when it is first seen. `None` means that it is not.
    pub first_use: Option<FirstUse>,
}

/// The trusted root of repositories.
#[derive(Clone, Debug, PartialEq)]
pub enum NotaryRoot {
    /// A root document as it was published. Later roots are accepted if this one leads to them.
    Document(PinnedRoot),
    /// The public keys that sign root documents, by the SHA-256 digest of the SubjectPublicKeyInfo.
    Keys(BTreeSet<Digest>),
}

/// A root document whose own signatures were verified.
#[derive(Clone, Debug, PartialEq)]
pub struct PinnedRoot {
    /// The document, as in the file.
    pub document: Vec<u8>,
    /// The SHA-256 digest of what is signed.
    pub fingerprint: Digest,
}

/// What to do with the root of a repository for which none is trusted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FirstUse {
    /// Do not trust it.
    #[default]
    Deny,
    /// Trust it, remember it, and from then on accept only what it leads to.
    Remember,
}

impl FirstUse {
    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Remember => "remember",
        }
    }
}

impl std::str::FromStr for FirstUse {
    type Err = InvalidFirstUse;

    fn from_str(text: &str) -> Result<Self, InvalidFirstUse> {
        match text {
            "deny" => Ok(Self::Deny),
            "remember" => Ok(Self::Remember),
            _ => Err(InvalidFirstUse),
        }
    }
}

/// The text is neither `deny` nor `remember`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is deny or remember")]
pub struct InvalidFirstUse;

/// A Docker Content Trust signer, from a `signerSecrets` secret or an entry of `signers`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signer {
    /// The delegation's name.
    pub name: String,
    /// Its key.
    pub key: SignerKey,
    /// When the key may be used.
    pub validity: KeyValidity,
}

impl NotaryTrust {
    /// The same with the root and the first use of the configuration, unless it has one of both itself.
    #[must_use]
    pub fn with_defaults(self, configured: &Self) -> Self {
        match (&self.root, self.first_use) {
            (None, None) => Self { root: configured.root.clone(), first_use: configured.first_use, ..self },
            _ => self,
        }
    }

    pub(super) fn encode(&self) -> Canonical {
        let Self { server, root, signers, first_use } = self;
        let root = root.as_ref().map(NotaryRoot::encode);
        let first_use = first_use.map(FirstUse::as_str);
        let encoding = Canonical::default().field("kind", "notary").set("server", server);
        encoding.set("root", root).set("signers", signers.iter().map(Signer::encode)).set("first use", first_use)
    }
}

impl NotaryRoot {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Document(PinnedRoot { document: _, fingerprint }) => {
                Canonical::default().field("document", fingerprint.to_string()).0
            }
            Self::Keys(keys) => Canonical::default().set("keys", keys.iter().map(Digest::to_string)).0,
        }
    }
}

impl Signer {
    fn encode(&self) -> Vec<u8> {
        let Self { name, key, validity } = self;
        let form = match key {
            SignerKey::Certificate(_) => "certificate",
            SignerKey::Key(_) => "key",
        };
        let key = validity.encode(fingerprint(key.fingerprint()).into());
        Canonical::default().field("name", name).field("form", form).field("key", key).0
    }
}
