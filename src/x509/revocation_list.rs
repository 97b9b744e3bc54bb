//! Certificate revocation lists (RFC 5280, section 5).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use der::Decode;
use der::asn1::{GeneralizedTime, Uint};
use der::oid::db::rfc5280::{
    ID_CE_AUTHORITY_KEY_IDENTIFIER, ID_CE_CRL_NUMBER, ID_CE_CRL_REASONS, ID_CE_DELTA_CRL_INDICATOR, ID_CE_FRESHEST_CRL,
    ID_CE_INVALIDITY_DATE, ID_CE_ISSUING_DISTRIBUTION_POINT,
};
use jiff::Timestamp;
use x509_cert::crl::{CertificateList, RevokedCert};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::crl::dp::IssuingDistributionPoint;
use x509_cert::ext::pkix::{CrlReason, FreshestCrl};
use x509_cert::name::Name;

use super::{X509Certificate, signed_part, timestamp, usage, verify_signature};

/// A list of revoked certificates by one issuer. Cheap to clone.
#[derive(Clone)]
pub struct RevocationList(Arc<ParsedRevocationList>);

struct ParsedRevocationList {
    der: Vec<u8>,
    /// Where the part that is signed is in `der`.
    signed: Range<usize>,
    issuer: Name,
    signature: (x509_cert::spki::AlgorithmIdentifierOwned, Vec<u8>),
    next_update: Timestamp,
    number: Vec<u8>,
    /// For a delta list, the number of the first complete list that it can be combined with.
    base_number: Option<Vec<u8>>,
    scope: ListScope,
    delta_urls: Vec<String>,
    /// By serial number.
    revoked: BTreeMap<Vec<u8>, RevokedCertificate>,
}

/// What a list says about a revoked certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RevokedCertificate {
    /// Why it was revoked, if the list says so.
    pub reason: Option<CrlReason>,
    /// The time from which its key is no longer trusted; signatures before it are valid.
    pub invalid_since: Option<Timestamp>,
}

/// The certificates that a list covers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct ListScope {
    /// Only certificates that are not authorities.
    only_users: bool,
    /// Only authorities.
    only_authorities: bool,
}

/// Why bytes are not a usable revocation list.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidRevocationList {
    /// Not DER, not a revocation list of version 2, or followed by something.
    #[error("not a certificate revocation list of version 2 in DER")]
    Encoding,
    /// A critical extension that is not understood, or an extension that cannot be read.
    #[error("its extension {0} is not supported or cannot be read")]
    Extension(String),
    /// No end of validity.
    #[error("it does not state when the next list will be published")]
    NoEnd,
    /// It covers only some reasons, attribute certificates or certificates of other issuers.
    #[error("it covers only some reasons, attribute certificates, or certificates of other issuers")]
    Scope,
}

impl RevocationList {
    /// Reads exactly one list in DER.
    ///
    /// # Errors
    /// See [`InvalidRevocationList`].
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidRevocationList> {
        let list = CertificateList::from_der(der).map_err(|_| InvalidRevocationList::Encoding)?;
        let signed = signed_part(der).ok_or(InvalidRevocationList::Encoding)?;
        let content = list.tbs_cert_list;
        let signature = list.signature.as_bytes().ok_or(InvalidRevocationList::Encoding)?.to_vec();
        if list.signature_algorithm != content.signature {
            return Err(InvalidRevocationList::Encoding);
        }
        let mut parsed = ParsedRevocationList {
            der: der.to_vec(),
            signed,
            issuer: content.issuer,
            signature: (list.signature_algorithm, signature),
            next_update: timestamp(content.next_update.ok_or(InvalidRevocationList::NoEnd)?),
            number: Vec::new(),
            base_number: None,
            scope: ListScope::default(),
            delta_urls: Vec::new(),
            revoked: BTreeMap::new(),
        };
        content.crl_extensions.iter().flatten().try_for_each(|extension| parsed.read_extension(extension))?;
        for entry in content.revoked_certificates.iter().flatten() {
            parsed.revoked.insert(entry.serial_number.as_bytes().to_vec(), revoked(entry)?);
        }
        Ok(Self(Arc::new(parsed)))
    }

    /// The DER encoding.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The last moment of its validity.
    pub fn next_update(&self) -> Timestamp {
        self.0.next_update
    }

    /// Whether `issuer` signed it, and may sign revocation lists.
    pub fn is_issued_by(&self, issuer: &X509Certificate) -> bool {
        let may_sign = issuer.usage().key_usage.as_ref().is_none_or(|(_, usage)| usage.crl_sign());
        let (algorithm, signature) = &self.0.signature;
        self.0.issuer == *issuer.subject()
            && may_sign
            && verify_signature(issuer.key(), algorithm, &self.0.der[self.0.signed.clone()], signature)
    }

    /// Whether it would name this certificate of its issuer, if it were revoked.
    pub fn covers(&self, certificate: &X509Certificate) -> bool {
        let ListScope { only_users, only_authorities } = self.0.scope;
        let is_excluded = if certificate.usage().is_authority() { only_users } else { only_authorities };
        !is_excluded
    }

    /// What it says about a certificate of its issuer; `None` if it does not name it.
    pub fn find(&self, certificate: &X509Certificate) -> Option<RevokedCertificate> {
        self.0.revoked.get(certificate.serial()).copied()
    }

    /// Whether it lists only changes to complete lists.
    pub fn is_delta(&self) -> bool {
        self.0.base_number.is_some()
    }

    /// Whether it is a delta list whose changes apply to a complete list (RFC 5280, section 5.2.4).
    pub fn applies_to(&self, complete: &Self) -> bool {
        let is_after = |one: &[u8], other: &[u8]| (one.len(), one) > (other.len(), other);
        let is_from = |base: &Vec<u8>| !is_after(base, &complete.0.number);
        self.0.base_number.as_ref().is_some_and(is_from) && is_after(&self.0.number, &complete.0.number)
    }

    /// The URLs of its delta list.
    pub fn delta_urls(&self) -> &[String] {
        &self.0.delta_urls
    }
}

impl ParsedRevocationList {
    fn read_extension(&mut self, extension: &Extension) -> Result<(), InvalidRevocationList> {
        let bytes = extension.extn_value.as_bytes();
        let invalid = |_| InvalidRevocationList::Extension(extension.extn_id.to_string());
        match extension.extn_id {
            ID_CE_CRL_NUMBER => self.number = Uint::from_der(bytes).map_err(invalid)?.as_bytes().to_vec(),
            ID_CE_DELTA_CRL_INDICATOR => {
                self.base_number = Some(Uint::from_der(bytes).map_err(invalid)?.as_bytes().to_vec());
            }
            ID_CE_FRESHEST_CRL => {
                self.delta_urls = usage::point_urls(&FreshestCrl::from_der(bytes).map_err(invalid)?.0);
            }
            ID_CE_ISSUING_DISTRIBUTION_POINT => {
                let point = IssuingDistributionPoint::from_der(bytes).map_err(invalid)?;
                if point.indirect_crl || point.only_contains_attribute_certs || point.only_some_reasons.is_some() {
                    return Err(InvalidRevocationList::Scope);
                }
                self.scope = ListScope {
                    only_users: point.only_contains_user_certs,
                    only_authorities: point.only_contains_ca_certs,
                };
            }
            ID_CE_AUTHORITY_KEY_IDENTIFIER => {}
            _ if extension.critical => return Err(InvalidRevocationList::Extension(extension.extn_id.to_string())),
            _ => {}
        }
        Ok(())
    }
}

fn revoked(entry: &RevokedCert) -> Result<RevokedCertificate, InvalidRevocationList> {
    let mut read = RevokedCertificate { reason: None, invalid_since: None };
    for extension in entry.crl_entry_extensions.iter().flatten() {
        let bytes = extension.extn_value.as_bytes();
        let invalid = |_| InvalidRevocationList::Extension(extension.extn_id.to_string());
        match extension.extn_id {
            ID_CE_CRL_REASONS => read.reason = Some(CrlReason::from_der(bytes).map_err(invalid)?),
            ID_CE_INVALIDITY_DATE => {
                let time = GeneralizedTime::from_der(bytes).map_err(invalid)?;
                read.invalid_since = Some(timestamp(time.into()));
            }
            _ if extension.critical => return Err(InvalidRevocationList::Extension(extension.extn_id.to_string())),
            _ => {}
        }
    }
    Ok(read)
}

impl PartialEq for RevocationList {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for RevocationList {}

impl fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revocation list of {}", self.0.issuer)
    }
}

#[cfg(test)]
mod tests;
