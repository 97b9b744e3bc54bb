//! What the trust in a repository rests on, and the first root that it accepts.

use std::collections::BTreeSet;

use bytes::Bytes;
use jiff::Timestamp;
use x509_cert::Certificate;

use super::{HOW_TO_PIN, NotaryError};
use crate::oci::Digest;
use crate::policy::{FirstUse, NotaryRoot, NotaryTrust};
use crate::tuf::{InvalidDocument, RoleKeys, Root, SignedDocument, TufKey};

/// What the trust in a repository rests on.
#[derive(Clone, Debug)]
pub(super) enum TrustAnchor {
    /// A root document.
    Document(Bytes),
    /// The keys of root documents.
    Keys(BTreeSet<Digest>),
    /// The root that was seen first.
    FirstUse,
    /// Nothing is trusted yet.
    Nothing,
}

/// A root that was verified.
#[derive(Clone, Debug)]
pub(super) struct VerifiedRoot {
    pub(super) root: Root,
    pub(super) envelope: SignedDocument,
    /// The document.
    pub(super) bytes: Bytes,
}

impl TrustAnchor {
    pub(super) fn new(trust: &NotaryTrust) -> Self {
        match (&trust.root, trust.first_use.unwrap_or_default()) {
            (Some(NotaryRoot::Document(pinned)), _) => Self::Document(pinned.document.clone().into()),
            (Some(NotaryRoot::Keys(keys)), _) => Self::Keys(keys.clone()),
            (None, FirstUse::Remember) => Self::FirstUse,
            (None, FirstUse::Deny) => Self::Nothing,
        }
    }

    /// Identifies it in the store. What was verified from one anchor says nothing about another one. A root document is
    /// identified by the keys of its root role, so a newer document of the same keys is the same anchor.
    ///
    /// # Errors
    /// The pinned document cannot be read.
    pub(super) fn id(&self) -> Result<String, NotaryError> {
        let of = |keys: BTreeSet<Digest>| {
            let keys: Vec<_> = keys.iter().map(Digest::to_string).collect();
            Digest::sha256(keys.join(" ").as_bytes()).hex()
        };
        Ok(match self {
            Self::Document(bytes) => {
                let pinned = VerifiedRoot::read(bytes.clone()).map_err(|error| invalid("the pinned root", &error))?;
                format!("document {}", of(pinned.root.root_keys().map(TufKey::fingerprint).collect()))
            }
            Self::Keys(keys) => format!("keys {}", of(keys.clone())),
            Self::FirstUse => "first use".into(),
            Self::Nothing => "nothing".into(),
        })
    }

    /// Checks the first root of a repository that a server sent.
    ///
    /// # Errors
    /// It is not trusted.
    pub(super) fn accept(&self, first: &VerifiedRoot, gun: &str, now: Timestamp) -> Result<(), NotaryError> {
        let wrong = |why: &str| Err(NotaryError::Invalid(format!("root: {why}")));
        let VerifiedRoot { root, envelope, .. } = first;
        let whole = root.role("root");
        verify("root", envelope, root, whole)?;
        let is_pinned = |key: &&TufKey| match self {
            Self::Keys(pinned) => pinned.contains(&key.fingerprint()),
            Self::FirstUse => key.certificate().is_some(),
            Self::Document(_) | Self::Nothing => false,
        };
        let pinned: Vec<_> = root.root_keys().filter(is_pinned).collect();
        if pinned.is_empty() {
            return match self {
                Self::Nothing => Err(NotaryError::Unconfigured(format!("no root is trusted for {gun}; {HOW_TO_PIN}"))),
                _ => wrong("none of its keys is one that is trusted"),
            };
        }
        let usable = |key: &&&TufKey| key.certificate().is_none_or(|one| is_for(one, gun) && is_valid(one, now));
        let usable: BTreeSet<String> = pinned.iter().filter(usable).map(|key| key.id().to_owned()).collect();
        if usable.is_empty() {
            let names: Vec<_> = pinned.iter().filter_map(|key| key.certificate()).map(common_name).collect();
            let names = names.into_iter().flatten().collect::<Vec<_>>().join(", ");
            return wrong(&format!("its certificates are for {names:?}, not for {gun}, or have expired"));
        }
        verify("root", envelope, root, &RoleKeys { key_ids: usable, threshold: whole.threshold })
    }
}

impl VerifiedRoot {
    /// Reads a root document, whose signatures are not verified yet.
    pub(super) fn read(bytes: Bytes) -> Result<Self, InvalidDocument> {
        let envelope = SignedDocument::parse(&bytes)?;
        Ok(Self { root: Root::read(&envelope)?, envelope, bytes })
    }

    /// Checks that a root of a repository follows this one: the keys of both have signed it. Clients use one private key
    /// for many repositories, with a certificate for each, so only certificates for this repository count. Otherwise a
    /// server could continue with the root of another repository of the same owner.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn leads_to(&self, next: &Self, gun: &str, now: Timestamp) -> Result<(), NotaryError> {
        let before = self.keys_for(gun, |_| true);
        verify("root, by the keys of the root before it", &next.envelope, &self.root, &before)?;
        verify("root", &next.envelope, &next.root, next.root.role("root"))?;
        verify("root", &next.envelope, &next.root, &next.keys_for(gun, |one| is_valid(one, now)))
    }

    /// Checks that a pinned root is one of this repository.
    ///
    /// # Errors
    /// Its certificates are for another one.
    pub(super) fn check_name(&self, gun: &str) -> Result<(), NotaryError> {
        let keys = self.keys_for(gun, |_| true);
        if keys.key_ids.len() >= keys.threshold {
            return Ok(());
        }
        Err(NotaryError::Invalid(format!("the pinned root is not for {gun}: its certificates name another repository")))
    }

    /// The keys of the root role that count for a repository: without a certificate, or with one that is for it.
    fn keys_for(&self, gun: &str, may: impl Fn(&Certificate) -> bool) -> RoleKeys {
        let counts = |key: &&TufKey| key.certificate().is_none_or(|one| is_for(one, gun) && may(one));
        let key_ids = self.root.root_keys().filter(counts).map(|key| key.id().to_owned()).collect();
        RoleKeys { key_ids, threshold: self.root.role("root").threshold }
    }
}

/// Verifies a document by keys that a root names.
pub(super) fn verify(what: &str, document: &SignedDocument, root: &Root, keys: &RoleKeys) -> Result<(), NotaryError> {
    document.verify(&root.keys, keys).map(drop).map_err(|error| invalid(what, &error))
}

pub(super) fn invalid(what: &str, error: &InvalidDocument) -> NotaryError {
    NotaryError::Invalid(crate::trust::notes::clip(format!("{what}: {error}")))
}

/// Whether a certificate is for a repository: its common name is the name of the repository, or a prefix and `*`.
fn is_for(certificate: &Certificate, gun: &str) -> bool {
    common_name(certificate).is_some_and(|name| match name.strip_suffix('*') {
        Some(prefix) => prefix.ends_with('/') && gun.starts_with(prefix),
        None => name == gun,
    })
}

fn is_valid(certificate: &Certificate, now: Timestamp) -> bool {
    let validity = &certificate.tbs_certificate.validity;
    let now = u64::try_from(now.as_second()).unwrap_or_default();
    let second = |time: &x509_cert::time::Time| time.to_unix_duration().as_secs();
    second(&validity.not_before) <= now && now <= second(&validity.not_after)
}

/// The common name of the subject (RFC 5280, section 4.1.2.6; attribute 2.5.4.3).
fn common_name(certificate: &Certificate) -> Option<String> {
    let attributes = certificate.tbs_certificate.subject.0.iter().flat_map(|name| name.0.iter());
    let name =
        attributes.filter(|one| one.oid.to_string() == "2.5.4.3").map(|one| one.value.value().to_vec()).next()?;
    String::from_utf8(name).ok()
}
