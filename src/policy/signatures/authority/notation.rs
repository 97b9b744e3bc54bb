//! The trust configuration of Notary Project authorities: the statements of a trust policy with the certificates of its
//! trust stores (notaryproject specifications, trust-store-trust-policy.md).

use std::fmt;

use super::{Canonical, fingerprint};
use crate::oci::{Digest, ImageName};
use crate::x509::{DistinguishedName, RevocationList, X509Certificate};

/// The trust policy of an authority, with everything that it names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NotationTrust {
    /// The statements. No two of them apply to the same repository, except that one may apply to all others.
    pub statements: Vec<NotationStatement>,
    /// Certificate revocation lists from files.
    pub revocation_lists: Vec<RevocationFile>,
}

impl NotationTrust {
    /// The statement for a repository: the one that names it, otherwise the one for all repositories.
    pub fn statement(&self, name: &ImageName) -> Option<&NotationStatement> {
        let exact = self.statements.iter().find(|statement| match &statement.scope {
            RegistryScope::Repositories(names) => names.contains(name),
            RegistryScope::All => false,
        });
        exact.or_else(|| self.statements.iter().find(|statement| statement.scope == RegistryScope::All))
    }

    /// The canonical encoding.
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { statements, revocation_lists } = self;
        Canonical::default()
            .field("kind", "notation")
            .set("statements", statements.iter().map(NotationStatement::encode))
            .set("revocation lists", revocation_lists.iter().map(|list| fingerprint(Digest::sha256(list.list.der()))))
            .0
    }
}

/// A certificate revocation list that an operator keeps in a file (RFC 5280, section 5).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RevocationFile {
    /// The file, for messages.
    pub path: String,
    /// The list.
    pub list: RevocationList,
}

/// A statement of a trust policy.
#[derive(Clone, Debug, PartialEq)]
pub struct NotationStatement {
    /// Its name, for messages.
    pub name: String,
    /// The repositories to which it applies.
    pub scope: RegistryScope,
    /// How signatures are verified; `None` for the level `skip`, which requires no signature.
    pub checks: Option<NotationChecks>,
}

impl NotationStatement {
    fn encode(&self) -> Vec<u8> {
        let Self { name, scope, checks } = self;
        let encoding = Canonical::default().field("name", name);
        let encoding = match scope {
            RegistryScope::All => encoding.field("scope", "all"),
            RegistryScope::Repositories(names) => encoding.set("scopes", names.iter().map(ImageName::to_string)),
        };
        encoding.set("checks", checks.iter().map(NotationChecks::encode)).0
    }
}

/// The repositories to which a statement applies: `registryScopes`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RegistryScope {
    /// Every repository that no other statement names: `*`.
    All,
    /// These repositories, by the names of their registries.
    Repositories(Vec<ImageName>),
}

/// How signatures are verified: a level with its overrides, trust stores and identities. The integrity of a signature
/// is always enforced.
#[derive(Clone, Debug, PartialEq)]
pub struct NotationChecks {
    /// The level and the overrides as they are written, for messages.
    pub level: String,
    /// What a failure of authenticity means.
    pub authenticity: CheckAction,
    /// The action if the authentic timestamp fails.
    pub authentic_timestamp: CheckAction,
    /// The action if the signature has expired.
    pub expiry: CheckAction,
    /// The action if a certificate is revoked, or its status cannot be determined.
    pub revocation: CheckAction,
    /// When a timestamp by a timestamping authority is required.
    pub timestamps: TimestampRule,
    /// The certificates of `ca` trust stores, with the name of their store.
    pub authorities: Vec<StoredCertificate>,
    /// Those of `signingAuthority` trust stores.
    pub signing_authorities: Vec<StoredCertificate>,
    /// Those of `tsa` trust stores.
    pub timestamp_authorities: Vec<StoredCertificate>,
    /// The certificate subjects that count.
    pub identities: Vec<CertificateSubject>,
}

impl NotationChecks {
    fn encode(&self) -> Vec<u8> {
        let Self { level, authenticity, authentic_timestamp, expiry, revocation, timestamps, .. } = self;
        let Self { authorities, signing_authorities, timestamp_authorities, identities, .. } = self;
        let certificates = |stored: &[StoredCertificate]| -> Vec<String> {
            stored.iter().map(|one| fingerprint(Digest::sha256(one.certificate.der()))).collect()
        };
        let timestamps = match timestamps {
            TimestampRule::Always => "Always",
            TimestampRule::AfterCertificateExpiry => "AfterCertificateExpiry",
        };
        Canonical::default()
            .field("level", level)
            .field("authenticity", authenticity.to_string())
            .field("timestamp", authentic_timestamp.to_string())
            .field("expiry", expiry.to_string())
            .field("revocation", revocation.to_string())
            .field("timestamps", timestamps)
            .set("ca", certificates(authorities))
            .set("signing authority", certificates(signing_authorities))
            .set("tsa", certificates(timestamp_authorities))
            .set("identities", identities.iter().map(CertificateSubject::encode))
            .0
    }
}

/// The action for a signature that fails a check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CheckAction {
    /// The signature does not count.
    Enforce,
    /// The failure is reported with the signature, which counts.
    Log,
    /// The check is not made.
    Skip,
}

impl fmt::Display for CheckAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enforce => "enforce",
            Self::Log => "log",
            Self::Skip => "skip",
        })
    }
}

/// When a timestamp is required, if the statement has `tsa` trust stores: `verifyTimestamp`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimestampRule {
    /// Always.
    Always,
    /// If a certificate of the signature has expired.
    AfterCertificateExpiry,
}

/// A trusted certificate and the trust store that contains it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCertificate {
    /// The trust store as trust policies write it: `ca:acme`.
    pub store: String,
    /// The certificate.
    pub certificate: X509Certificate,
}

/// The certificate subjects that count for Notary Project signatures (trust policy, `trustedIdentities`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CertificateSubject {
    /// Every certificate that chains to a trusted one: `*`.
    Any,
    /// Certificates whose subject includes this distinguished name: `x509.subject: C=…, ST=…, O=…`.
    Named(DistinguishedName),
}

impl CertificateSubject {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Any => Canonical::default().field("kind", "any").0,
            Self::Named(name) => Canonical::default().field("kind", "named").field("name", name.to_string()).0,
        }
    }
}
