//! Sigstore's trusted roots: the certificate authorities, logs and time-stamping authorities of one instance of
//! Sigstore, in one file that operators pin (protobuf-specs, sigstore_trustroot.proto).

mod chain;
mod status;

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use sigstore_verify::trust_root::TrustedRoot as SigstoreRoot;
use sigstore_verify::types::{TimeRange, TsaAuthority};
use sigstore_verify::{Verifier, tsa, types};

use crate::oci::{Digest, json};
use chain::AuthorityChain;

/// How the media types of all versions begin.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.trustedroot";

/// The keys that matter here; a spelling that another reader may take for one of them is refused.
const KEYS: &[&str] = &[
    "baseUrl",
    "certChain",
    "certificateAuthorities",
    "certificates",
    "ctlogs",
    "end",
    "hashAlgorithm",
    "keyDetails",
    "keyId",
    "logId",
    "mediaType",
    "publicKey",
    "rawBytes",
    "start",
    "timestampAuthorities",
    "tlogs",
    "uri",
    "validFor",
];

/// A trusted root, ready for verification. Two are equal if their bytes are equal. Cheap to clone.
#[derive(Clone)]
pub struct TrustedRoot {
    data: Arc<RootData>,
    written: Option<Timestamp>,
}

struct RootData {
    name: String,
    fingerprint: Digest,
    verifier: Verifier,
    timestamp_authorities: Vec<TsaAuthority>,
    parts: Vec<RootPart>,
}

/// One authority or log of a trusted root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RootPart {
    /// What it is.
    pub kind: RootPartKind,
    /// Its URL, or the name in its certificate.
    pub name: String,
    /// When its key begins to be valid.
    pub from: Option<Timestamp>,
    /// When its key ends to be valid; `None` if no end is known.
    pub until: Option<Timestamp>,
}

/// The kinds of parts of a trusted root.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum RootPartKind {
    /// Issues certificates to signers (Fulcio).
    CertificateAuthority,
    /// Logs certificates (RFC 6962).
    CertificateLog,
    /// Logs signatures (Rekor).
    SignatureLog,
    /// Issues time stamps (RFC 3161).
    TimestampAuthority,
}

impl TrustedRoot {
    /// Reads a trusted root. `name` is how messages refer to it, such as its path.
    ///
    /// # Errors
    /// It is not strict JSON, not a trusted root, or a key or certificate in it cannot be used.
    pub fn from_json(name: &str, bytes: &[u8]) -> Result<Self, String> {
        let value = json::parse(bytes, KEYS, &[]).map_err(|e| format!("is not strict JSON: {e}"))?;
        let media_type = value.get("mediaType").and_then(|value| value.as_str()).unwrap_or_default();
        if !media_type.starts_with(MEDIA_TYPE) {
            return Err(format!("is not a trusted root: its mediaType is {media_type:?}"));
        }
        let root: SigstoreRoot = serde_json::from_value(value).map_err(|e| format!("is not a trusted root: {e}"))?;
        let authorities = chain::certificate_authorities(&root)?;
        let stampers = chain::timestamp_authorities(&root)?;
        let parts = parts(&root, &authorities, &stampers);
        if parts.is_empty() {
            return Err("has no authority and no log".into());
        }
        let root = chain::narrowed(root, &authorities, &stampers);
        let verifier = Verifier::new(&root).map_err(|e| e.to_string())?;
        let timestamp_authorities = root.tsa_authorities();
        let (name, fingerprint) = (name.to_owned(), Digest::sha256(bytes));
        let data = RootData { name, fingerprint, verifier, timestamp_authorities, parts };
        Ok(Self { data: Arc::new(data), written: None })
    }

    /// The same root, from a file that was written at this time.
    pub fn written_at(self, written: Option<Timestamp>) -> Self {
        Self { written, ..self }
    }

    /// When its file was written; `None` if that is unknown.
    pub fn written(&self) -> Option<Timestamp> {
        self.written
    }

    /// How messages refer to it.
    pub fn name(&self) -> &str {
        &self.data.name
    }

    /// The SHA-256 digest of its bytes.
    pub fn fingerprint(&self) -> Digest {
        self.data.fingerprint
    }

    /// Its authorities and logs.
    pub fn parts(&self) -> &[RootPart] {
        &self.data.parts
    }

    /// When the last of its keys expires; `None` if one has no known end.
    pub fn until(&self) -> Option<Timestamp> {
        self.parts().iter().map(|part| part.until).max_by_key(|until| until.unwrap_or(Timestamp::MAX)).flatten()
    }

    /// Whether all of its keys have expired. Such a root has been replaced by another one long ago.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.until().is_some_and(|until| until < now)
    }

    /// When its newest key becomes valid: of two versions of a root, the one with the earlier time is older.
    pub fn newest_key(&self) -> Option<Timestamp> {
        self.parts().iter().filter_map(|part| part.from).max()
    }

    /// Verifies with the keys of this root. The certificates that it accepts are not limited to any identity.
    pub(crate) fn verifier(&self) -> &Verifier {
        &self.data.verifier
    }

    /// The time in a time stamp for a signature, if one of its time-stamping authorities has issued it.
    pub(crate) fn stamped_at(
        &self,
        token: &types::TimestampToken,
        signature: &types::SignatureBytes,
    ) -> Option<Timestamp> {
        let verify = |authority| tsa::verify_timestamp_for_authority(token, signature, authority).ok();
        self.data.timestamp_authorities.iter().find_map(verify)
    }
}

impl PartialEq for TrustedRoot {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint() == other.fingerprint()
    }
}

impl fmt::Debug for TrustedRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustedRoot({:?}, {})", self.name(), self.fingerprint())
    }
}

impl fmt::Display for RootPartKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CertificateAuthority => "certificate authority",
            Self::CertificateLog => "certificate log",
            Self::SignatureLog => "signature log",
            Self::TimestampAuthority => "time-stamping authority",
        })
    }
}

/// Every part of a root. An authority begins when the root says so, and ends with its certificates at the latest.
fn parts(root: &SigstoreRoot, authorities: &[AuthorityChain], stampers: &[AuthorityChain]) -> Vec<RootPart> {
    let authority = |kind, name: &str, chain: &AuthorityChain| RootPart {
        kind,
        name: name.to_owned(),
        from: chain.valid_for().map(|window| window.start),
        until: Some(chain.until()).filter(|until| *until < Timestamp::MAX),
    };
    let log = |kind, log: &str, window: Option<TimeRange>| RootPart {
        kind,
        name: log.to_owned(),
        from: window.map(|window| window.start),
        until: window.and_then(|window| window.end),
    };
    let mut parts = Vec::new();
    for (issuer, chain) in root.certificate_authorities.iter().zip(authorities) {
        parts.push(authority(RootPartKind::CertificateAuthority, &issuer.uri, chain));
    }
    for one in &root.ctlogs {
        parts.push(log(RootPartKind::CertificateLog, &one.base_url, one.public_key.valid_for));
    }
    for one in &root.tlogs {
        parts.push(log(RootPartKind::SignatureLog, &one.base_url, one.public_key.valid_for));
    }
    for (stamper, chain) in root.timestamp_authorities.iter().zip(stampers) {
        let common_name = || stamper.subject.common_name.clone().unwrap_or_default();
        let name = stamper.uri.clone().unwrap_or_else(common_name);
        parts.push(authority(RootPartKind::TimestampAuthority, &name, chain));
    }
    parts
}
