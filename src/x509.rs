//! X.509 certificates (RFC 5280): parsed once, with their extensions, signatures and distinguished names.
//!
//! Signatures are verified with the algorithms of rustls' provider, so no signature with SHA-1 and no RSA key below
//! 2048 bits is accepted. Whether a certificate may be used for a purpose is the caller's to decide.

mod name;
mod public_key;
mod revocation_list;
mod signature;
mod usage;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use der::{Decode, Encode, Reader, SliceReader};
use jiff::Timestamp;
use x509_cert::Certificate as DecodedCertificate;
use x509_cert::name::Name;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::Time;

pub use name::{DistinguishedName, InvalidDistinguishedName};
pub use public_key::{canonical_public_key, canonical_rsa_key};
pub use revocation_list::{InvalidRevocationList, RevocationList, RevokedCertificate};
pub use signature::{KeyAlgorithm, verify_signature};
pub use usage::CertificateUsage;

/// The largest certificate, in bytes. Real ones have a few thousand.
const MAX_CERTIFICATE: usize = 64 * 1024;

/// A certificate. Two certificates are equal if their DER encodings are equal. Cheap to clone.
#[derive(Clone)]
pub struct X509Certificate(Arc<ParsedCertificate>);

struct ParsedCertificate {
    der: Vec<u8>,
    /// Where the part that is signed is in `der`.
    signed: Range<usize>,
    decoded: DecodedCertificate,
    subject_public_key_info: Vec<u8>,
    usage: CertificateUsage,
}

/// Why bytes are not a usable certificate.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidX509 {
    /// Not DER, not a certificate, or followed by something.
    #[error("not an X.509 certificate in DER")]
    Encoding,
    /// An extension occurs twice or cannot be decoded.
    #[error("its extension {0} occurs twice or cannot be read")]
    Extension(&'static str),
    /// Larger than any certificate.
    #[error("larger than {MAX_CERTIFICATE} bytes")]
    Size,
}

impl X509Certificate {
    /// Reads exactly one certificate in DER.
    ///
    /// # Errors
    /// See [`InvalidX509`].
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidX509> {
        if der.len() > MAX_CERTIFICATE {
            return Err(InvalidX509::Size);
        }
        let decoded = DecodedCertificate::from_der(der).map_err(|_| InvalidX509::Encoding)?;
        let signed = signed_part(der).ok_or(InvalidX509::Encoding)?;
        let key = &decoded.tbs_certificate.subject_public_key_info;
        let subject_public_key_info = key.to_der().map_err(|_| InvalidX509::Encoding)?;
        let usage = CertificateUsage::of(&decoded.tbs_certificate)?;
        Ok(Self(Arc::new(ParsedCertificate { der: der.to_vec(), signed, decoded, subject_public_key_info, usage })))
    }

    /// The DER encoding.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The subject, as it is encoded.
    pub fn subject(&self) -> &Name {
        &self.0.decoded.tbs_certificate.subject
    }

    /// The issuer, as it is encoded.
    pub fn issuer(&self) -> &Name {
        &self.0.decoded.tbs_certificate.issuer
    }

    /// The serial number, as the big-endian bytes of an ASN.1 INTEGER.
    pub fn serial(&self) -> &[u8] {
        self.0.decoded.tbs_certificate.serial_number.as_bytes()
    }

    /// The first moment of its validity.
    pub fn not_before(&self) -> Timestamp {
        timestamp(self.0.decoded.tbs_certificate.validity.not_before)
    }

    /// The last moment of its validity.
    pub fn not_after(&self) -> Timestamp {
        timestamp(self.0.decoded.tbs_certificate.validity.not_after)
    }

    /// Whether it is valid at a time.
    pub fn is_valid_at(&self, time: Timestamp) -> bool {
        self.not_before() <= time && time <= self.not_after()
    }

    /// What its extensions say about its use.
    pub fn usage(&self) -> &CertificateUsage {
        &self.0.usage
    }

    /// The public key, as a SubjectPublicKeyInfo in DER.
    pub fn subject_public_key_info(&self) -> &[u8] {
        &self.0.subject_public_key_info
    }

    /// The kind of public key; `None` for one that is not supported.
    pub fn key_algorithm(&self) -> Option<KeyAlgorithm> {
        KeyAlgorithm::of(self.key(), self.subject_public_key_info())
    }

    /// The public key.
    pub fn key(&self) -> &SubjectPublicKeyInfoOwned {
        &self.0.decoded.tbs_certificate.subject_public_key_info
    }

    /// Whether the key of `issuer` signed this certificate, and their names agree. Says nothing about whether the
    /// issuer may issue certificates.
    pub fn is_issued_by(&self, issuer: &Self) -> bool {
        let ParsedCertificate { decoded, .. } = &*self.0;
        let Some(signature) = decoded.signature.as_bytes() else { return false };
        // RFC 5280, section 4.1.1.2: both must name the same algorithm.
        decoded.signature_algorithm == decoded.tbs_certificate.signature
            && self.issuer() == issuer.subject()
            && issuer.has_signed(&decoded.signature_algorithm, &self.0.der[self.0.signed.clone()], signature)
    }

    /// Whether it is issued by itself.
    pub fn is_self_signed(&self) -> bool {
        self.is_issued_by(self)
    }

    /// Whether its key made this signature.
    pub fn has_signed(&self, algorithm: &AlgorithmIdentifierOwned, message: &[u8], signature: &[u8]) -> bool {
        verify_signature(self.key(), algorithm, message, signature)
    }
}

impl PartialEq for X509Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for X509Certificate {}

impl fmt::Debug for X509Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate of {self}")
    }
}

/// Writes the subject as text: `C=US,ST=WA,O=Acme`. Its content was chosen by the maker of the certificate.
impl fmt::Display for X509Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DistinguishedName::of(self.subject()) {
            Ok(name) => name.fmt(f),
            Err(_) => write!(f, "{}", self.subject()),
        }
    }
}

/// A time of a certificate; those before 1970 do not occur.
pub fn timestamp(time: Time) -> Timestamp {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

/// Where the first element of the outer SEQUENCE is: what the signature of a certificate or a revocation list covers.
pub fn signed_part(der: &[u8]) -> Option<Range<usize>> {
    let mut outer = SliceReader::new(der).ok()?;
    let header = outer.decode::<der::Header>().ok()?;
    if header.tag != der::Tag::Sequence {
        return None;
    }
    let begin = usize::try_from(outer.position()).ok()?;
    let signed = outer.tlv_bytes().ok()?;
    Some(begin..begin + signed.len())
}

#[cfg(test)]
pub(crate) mod tests;
