//! Sigstore's trusted roots: the certificate authorities, logs and time-stamping authorities of one instance of Sigstore,
//! in one file that operators pin (protobuf-specs, sigstore_trustroot.proto).

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use sigstore_verify::trust_root::TrustedRoot as SigstoreRoot;
use sigstore_verify::types::{TimeRange, TsaAuthority};
use sigstore_verify::{Verifier, tsa, types};
use x509_cert::Certificate as X509;
use x509_cert::der::Decode;

use crate::oci::{Digest, json};

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

/// A trusted root, ready for verification. Two are equal if their bytes are equal.
#[derive(Clone)]
pub struct TrustedRoot(Arc<RootData>);

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
        let parts = parts(&root);
        if parts.is_empty() {
            return Err("has no authority and no log".into());
        }
        let root = narrowed(root)?;
        let verifier = Verifier::new(&root).map_err(|e| e.to_string())?;
        let timestamp_authorities = root.tsa_authorities();
        let (name, fingerprint) = (name.to_owned(), Digest::sha256(bytes));
        Ok(Self(Arc::new(RootData { name, fingerprint, verifier, timestamp_authorities, parts })))
    }

    /// How messages refer to it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The SHA-256 digest of its bytes.
    pub fn fingerprint(&self) -> Digest {
        self.0.fingerprint
    }

    /// Its authorities and logs.
    pub fn parts(&self) -> &[RootPart] {
        &self.0.parts
    }

    /// When the last of its keys ends to be valid; `None` if one has no known end.
    pub fn until(&self) -> Option<Timestamp> {
        self.parts().iter().map(|part| part.until).max_by_key(|until| until.unwrap_or(Timestamp::MAX)).flatten()
    }

    /// Whether none of its keys is valid any more. Such a root has been replaced by another one long ago.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.until().is_some_and(|until| until < now)
    }

    /// When its newest key begins to be valid: of two versions of a root, the one with the earlier time is older.
    pub fn newest_key(&self) -> Option<Timestamp> {
        self.parts().iter().filter_map(|part| part.from).max()
    }

    /// Verifies with the keys of this root. The certificates that it accepts are not limited to any identity.
    pub(crate) fn verifier(&self) -> &Verifier {
        &self.0.verifier
    }

    /// Whether one of its time-stamping authorities has issued this time stamp for a signature.
    pub(crate) fn issued(&self, token: &types::TimestampToken, signature: &types::SignatureBytes) -> bool {
        let verify = |authority| tsa::verify_timestamp_for_authority(token, signature, authority).is_ok();
        self.0.timestamp_authorities.iter().any(verify)
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

/// Every part of a root, as the file states it.
fn parts(root: &SigstoreRoot) -> Vec<RootPart> {
    let part = |kind, name: &str, window: Option<TimeRange>| RootPart {
        kind,
        name: name.to_owned(),
        from: window.map(|window| window.start),
        until: window.and_then(|window| window.end),
    };
    let mut parts = Vec::new();
    for authority in &root.certificate_authorities {
        parts.push(part(RootPartKind::CertificateAuthority, &authority.uri, authority.valid_for));
    }
    for log in &root.ctlogs {
        parts.push(part(RootPartKind::CertificateLog, &log.base_url, log.public_key.valid_for));
    }
    for log in &root.tlogs {
        parts.push(part(RootPartKind::SignatureLog, &log.base_url, log.public_key.valid_for));
    }
    for authority in &root.timestamp_authorities {
        let common_name = || authority.subject.common_name.clone().unwrap_or_default();
        let name = authority.uri.clone().unwrap_or_else(common_name);
        parts.push(part(RootPartKind::TimestampAuthority, &name, authority.valid_for));
    }
    parts
}

/// Limits each authority to the time in which its certificates are valid. The library takes every certificate of an
/// authority as a trust anchor and checks no dates of anchors, so that a signer whose issuer had expired would be accepted
/// (CVE-2026-24122).
fn narrowed(mut root: SigstoreRoot) -> Result<SigstoreRoot, String> {
    let mut authorities = Vec::new();
    for authority in &root.certificate_authorities {
        // A chain leads from the issuer of signers to the root. Each is an anchor while it and all above it are valid.
        let certificates = &authority.cert_chain.certificates;
        if certificates.is_empty() {
            return Err("a certificate authority has no certificate".into());
        }
        let chain: Vec<_> = certificates.iter().map(|certificate| certificate.raw_bytes.as_bytes()).collect();
        for first in 0..chain.len() {
            let mut anchor = authority.clone();
            anchor.cert_chain.certificates = vec![certificates[first].clone()];
            if let Some(window) = window(authority.valid_for, &chain[first..])? {
                anchor.valid_for = Some(window);
                authorities.push(anchor);
            }
        }
    }
    root.certificate_authorities = authorities;
    let mut timestamp_authorities = Vec::new();
    for mut authority in root.timestamp_authorities {
        let certificates = &authority.cert_chain.certificates;
        let chain: Vec<_> = certificates.iter().map(|certificate| certificate.raw_bytes.as_bytes()).collect();
        if let Some(window) = window(authority.valid_for, &chain)? {
            authority.valid_for = Some(window);
            timestamp_authorities.push(authority);
        }
    }
    root.timestamp_authorities = timestamp_authorities;
    Ok(root)
}

/// The time within `valid_for` in which all certificates, in DER, are valid; `None` if there is no such time.
fn window(valid_for: Option<TimeRange>, certificates: &[&[u8]]) -> Result<Option<TimeRange>, String> {
    let (mut start, mut end) = (Timestamp::MIN, Timestamp::MAX);
    let mut narrow = |from: Timestamp, until: Timestamp| (start, end) = (start.max(from), end.min(until));
    if let Some(TimeRange { start, end }) = valid_for {
        narrow(start, end.unwrap_or(Timestamp::MAX));
    }
    for certificate in certificates {
        let malformed = || "has a malformed certificate".to_owned();
        let parsed = X509::from_der(certificate).map_err(|_| malformed())?;
        let validity = parsed.tbs_certificate.validity;
        let time = |time: x509_cert::time::Time| Timestamp::try_from(time.to_system_time()).map_err(|_| malformed());
        narrow(time(validity.not_before)?, time(validity.not_after)?);
    }
    Ok((start <= end).then(|| TimeRange::new(start, (end < Timestamp::MAX).then_some(end))))
}
