//! The trust anchor of a repository, and the first root that it accepts.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use x509_cert::Certificate;

use super::NotaryError;
use super::history::replayed;
use crate::oci::Digest;
use crate::policy::{FirstUse, NotaryRoot, NotaryTrust};
use crate::trust::notes::clip;
use crate::tuf::{InvalidDocument, RoleKeys, Root, SignedDocument, TufKey};

/// What the trust in a repository rests on.
#[derive(Clone, Debug)]
pub(super) enum TrustAnchor {
    /// A root document, with what identifies it.
    Document {
        /// The document.
        document: Bytes,
        /// The digest of what is signed.
        fingerprint: Digest,
    },
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
            (Some(NotaryRoot::Document(pinned)), _) => {
                Self::Document { document: pinned.document.clone().into(), fingerprint: pinned.fingerprint }
            }
            (Some(NotaryRoot::Keys(keys)), _) => Self::Keys(keys.clone()),
            (None, FirstUse::Remember) => Self::FirstUse,
            (None, FirstUse::Deny) => Self::Nothing,
        }
    }

    /// Identifies it in this process. Reads nothing.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Document { fingerprint, .. } => format!("document {fingerprint}"),
            Self::Keys(keys) => format!("keys {}", digest_of(keys)),
            Self::FirstUse => "first use".into(),
            Self::Nothing => "nothing".into(),
        }
    }

    /// Identifies it in the store. Documents verified from one anchor do not count for another. A root document is
    /// identified by the keys of its root role, so a newer document of the same keys is the same anchor. Reads the
    /// pinned document, so it runs on a blocking thread.
    ///
    /// # Errors
    /// The pinned document cannot be read.
    pub(super) fn stored_key(&self) -> Result<String, NotaryError> {
        let Self::Document { document, .. } = self else { return Ok(self.key()) };
        let pinned = VerifiedRoot::read(document.clone(), "the pinned root")?;
        Ok(format!("document {}", digest_of(&pinned.root.root_keys().map(TufKey::fingerprint).collect())))
    }

    /// Checks the first root of a repository that a server sent.
    ///
    /// # Errors
    /// It is not trusted.
    pub(super) fn accept(&self, first: &VerifiedRoot, gun: &str, now: Timestamp) -> Result<(), NotaryError> {
        let wrong = |why: &str| Err(NotaryError::Invalid(clip(format!("root: {why}"))));
        let VerifiedRoot { root, envelope, .. } = first;
        let whole = root.role("root");
        verify("root", envelope, root, whole)?;
        let is_pinned = |key: &&TufKey| match self {
            Self::Keys(pinned) => pinned.contains(&key.fingerprint()),
            Self::FirstUse => key.certificate().is_some(),
            Self::Document { .. } | Self::Nothing => false,
        };
        let pinned: Vec<_> = root.root_keys().filter(is_pinned).collect();
        if pinned.is_empty() {
            return match self {
                Self::Nothing => Err(NotaryError::no_root(gun)),
                _ => wrong("none of its keys is trusted"),
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
    /// Reads a root document, whose signatures are not verified yet. `what` it is, for messages.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(bytes: Bytes, what: &str) -> Result<Arc<Self>, NotaryError> {
        let of = |error: InvalidDocument| invalid(what, &error);
        let envelope = SignedDocument::parse(&bytes).map_err(of)?;
        Ok(Arc::new(Self { root: Root::read(&envelope).map_err(of)?, envelope, bytes }))
    }

    /// The root of the next version, which a server sent.
    ///
    /// # Errors
    /// It is not the next one, or does not follow this one.
    pub(super) fn next(&self, bytes: Bytes, gun: &str, now: Timestamp) -> Result<Arc<Self>, NotaryError> {
        let next = Self::read(bytes, "root")?;
        if next.root.version.checked_sub(1) != Some(self.root.version) {
            let why = format!("root: version {} was asked for", self.root.version.saturating_add(1));
            return Err(NotaryError::Invalid(why));
        }
        self.leads_to(&next, gun, now)?;
        Ok(next)
    }

    /// The current root of a server, where this one is the newest that it has by version.
    ///
    /// # Errors
    /// It is older, or another one of the same version, or does not follow this one.
    pub(super) fn current(&self, bytes: Bytes, gun: &str, now: Timestamp) -> Result<Arc<Self>, NotaryError> {
        let current = Self::read(bytes, "root")?;
        match current.root.version.cmp(&self.root.version) {
            Ordering::Less => Err(replayed("root", current.root.version, self.root.version)),
            // The same root, perhaps in other words: the snapshot names its bytes.
            Ordering::Equal if current.envelope.message() == self.envelope.message() => Ok(current),
            Ordering::Equal => Err(NotaryError::Invalid("root: two roots have the same version".into())),
            // Servers before notary 0.6 have no roots by version.
            Ordering::Greater => self.leads_to(&current, gun, now).map(|()| current),
        }
    }

    /// Checks that a root of a repository follows this one: the keys of both have signed it. Clients use one private
    /// key for many repositories, with a certificate for each, so only certificates for this repository count.
    /// Otherwise a server could continue with the root of another repository of the same owner.
    fn leads_to(&self, next: &Self, gun: &str, now: Timestamp) -> Result<(), NotaryError> {
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

    /// The warning if only trust on first use vouches for it.
    pub(super) fn first_use(&self, anchor: &TrustAnchor) -> Option<String> {
        let keys = || self.root.root_keys().map(|key| key.fingerprint().short()).collect::<Vec<_>>().join(", ");
        let text = || format!("the root was trusted on first use: version {}, key {}", self.root.version, keys());
        matches!(anchor, TrustAnchor::FirstUse).then(text)
    }

    /// The keys of the root role that count for a repository: without a certificate, or with one that is for it.
    fn keys_for(&self, gun: &str, may: impl Fn(&Certificate) -> bool) -> RoleKeys {
        let counts = |key: &&TufKey| key.certificate().is_none_or(|one| is_for(one, gun) && may(one));
        let key_ids = self.root.root_keys().filter(counts).map(|key| key.id().to_owned()).collect();
        RoleKeys { key_ids, threshold: self.root.role("root").threshold }
    }
}

/// Verifies a root by keys that a root names.
fn verify(what: &str, document: &SignedDocument, root: &Root, keys: &RoleKeys) -> Result<(), NotaryError> {
    document.verify(&root.keys, keys).map(drop).map_err(|error| invalid(what, &error))
}

/// The error for a document that does not verify. The text may quote it, so it is clipped.
pub(super) fn invalid(what: &str, error: &InvalidDocument) -> NotaryError {
    NotaryError::Invalid(clip(format!("{what}: {error}")))
}

fn digest_of(keys: &BTreeSet<Digest>) -> String {
    let keys: Vec<_> = keys.iter().map(Digest::to_string).collect();
    Digest::sha256(keys.join(" ").as_bytes()).hex()
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
