//! X.509: the CA, the certificates that it issues, and their names.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, date_time_ymd,
};
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::{DecodePem as _, Encode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{SubjectAltName, SubjectKeyIdentifier};

use super::files::{CertificateFiles, read, write};
use super::{CertificateState, PkiError};

/// In seconds.
pub(super) const DAY: u64 = 24 * 60 * 60;
/// How long a CA is valid, in days.
const CA_DAYS: u64 = 3650;
/// A server certificate that expires within this many days is renewed.
const RENEW_DAYS: u64 = 30;

/// The CA, as read from its files.
pub(super) struct DevelopmentCa {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl DevelopmentCa {
    pub(super) fn make(files: &CertificateFiles, now: Timestamp) -> Result<(), PkiError> {
        let key = KeyPair::generate()?;
        // Clients that meet two CAs with one name and different keys report bad signatures, so each name is unique.
        let id: String = Sha256::digest(key.der_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let mut params = valid_for(CA_DAYS, now);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("pullgate development CA {id}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        write(&files.ca_key, &key.serialize_pem(), 0o600)?;
        write(&files.ca, &certificate.pem(), 0o644)
    }

    pub(super) fn load(files: &CertificateFiles, now: Timestamp) -> Result<Self, PkiError> {
        let certificate = certificate(&files.ca)?;
        let until = not_after(&certificate);
        if now >= until {
            return Err(PkiError::Expired { path: files.ca.clone(), until });
        }
        let key_error = |what: &str| PkiError::Unusable { path: files.ca_key.clone(), what: what.to_owned() };
        let key = KeyPair::from_pem(&read(&files.ca_key)?).map_err(|_| key_error("not a usable PEM key"))?;
        if certificate.tbs_certificate.subject_public_key_info.subject_public_key.raw_bytes() != key.der_bytes() {
            return Err(key_error("not the key of ca.crt"));
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&certificate).ok_or_else(|| PkiError::Unusable {
            path: files.ca.clone(),
            what: "its subject has an unsupported format".to_owned(),
        })?;
        if let Ok(Some((_, SubjectKeyIdentifier(id)))) = certificate.tbs_certificate.get() {
            params.key_identifier_method = KeyIdMethod::PreSpecified(id.as_bytes().to_vec());
        }
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    pub(super) fn issue_server_certificate(
        &self,
        files: &CertificateFiles,
        names: &BTreeSet<String>,
        days: u32,
        now: Timestamp,
    ) -> Result<(), PkiError> {
        let key = KeyPair::generate()?;
        let mut params = valid_for(u64::from(days), now);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "pullgate");
        params.subject_alt_names = names.iter().map(|name| subject_alt_name(name)).collect::<Result<_, _>>()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        write(&files.server_key, &key.serialize_pem(), 0o600)?;
        write(&files.server, &certificate.pem(), 0o644)
    }
}

/// An existing server certificate.
pub(super) struct IssuedCertificate {
    pub(super) names: BTreeSet<String>,
    until: Timestamp,
    has_key: bool,
}

impl IssuedCertificate {
    pub(super) fn load(files: &CertificateFiles, ca: &DevelopmentCa) -> Result<Self, PkiError> {
        let certificate = certificate(&files.server)?;
        if certificate.tbs_certificate.issuer != ca.certificate.tbs_certificate.subject {
            return Err(PkiError::Foreign { path: files.server.clone() });
        }
        let names = match certificate.tbs_certificate.get::<SubjectAltName>() {
            Ok(Some((_, SubjectAltName(names)))) => names.iter().filter_map(name_text).collect(),
            _ => BTreeSet::new(),
        };
        Ok(Self { names, until: not_after(&certificate), has_key: files.server_key.exists() })
    }

    /// `Kept` or `Renewed`, as these names and this time demand.
    pub(super) fn state(&self, wanted: &BTreeSet<String>, now: Timestamp) -> CertificateState {
        let soon = now.saturating_add(Duration::from_secs(RENEW_DAYS * DAY)).unwrap_or(Timestamp::MAX);
        let good = self.has_key && self.until > soon && wanted.is_subset(&self.names);
        if good { CertificateState::Kept } else { CertificateState::Renewed }
    }
}

/// Parameters of a certificate that is valid for this many days, and from an hour ago because clocks differ.
fn valid_for(days: u64, now: Timestamp) -> CertificateParams {
    let epoch = date_time_ymd(1970, 1, 1);
    let now = epoch + Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
    let mut params = CertificateParams::default();
    params.not_before = now - Duration::from_secs(3600);
    params.not_after = now + Duration::from_secs(days * DAY);
    params
}

/// The names by which this machine is reached: `localhost`, the loopback addresses and its host name.
pub(super) fn machine_names() -> Vec<String> {
    let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST).to_string(), IpAddr::from(Ipv6Addr::LOCALHOST).to_string()];
    let mut names = vec!["localhost".to_owned()];
    names.extend(loopback);
    // Read from the kernel's file, because a system call would need a crate. Other systems have no such file.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_ascii_lowercase();
    if subject_alt_name(&host).is_ok() {
        names.push(host);
    }
    names
}

fn subject_alt_name(name: &str) -> Result<SanType, PkiError> {
    if let Ok(address) = name.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let labels = name.strip_prefix("*.").unwrap_or(name);
    let good = rustls::pki_types::DnsName::try_from(labels).is_ok();
    let dns = name.try_into().ok().filter(|_| good).ok_or_else(|| PkiError::Name(name.to_owned()))?;
    Ok(SanType::DnsName(dns))
}

fn name_text(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        GeneralName::IpAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(bytes.as_bytes()).map(IpAddr::from).ok();
            let v6 = || <[u8; 16]>::try_from(bytes.as_bytes()).map(IpAddr::from).ok();
            v4.or_else(v6).map(|address| address.to_string())
        }
        _ => None,
    }
}

/// The subject as rcgen writes it, so that a signed certificate names its issuer byte for byte. `None` for string types
/// that no current CA uses, and for names with several attributes in one part.
fn distinguished_name(certificate: &Certificate) -> Option<DistinguishedName> {
    let mut name = DistinguishedName::new();
    for part in &certificate.tbs_certificate.subject.0 {
        let [attribute] = part.0.as_slice() else { return None };
        let oid: Vec<u64> = attribute.oid.arcs().map(u64::from).collect();
        let text = std::str::from_utf8(attribute.value.value()).ok()?;
        let value = match attribute.value.tag() {
            Tag::PrintableString => DnValue::PrintableString(text.try_into().ok()?),
            Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
            _ => return None,
        };
        name.push(DnType::from_oid(&oid), value);
    }
    // The name must be written as it was read.
    let complete = name.iter().count() == certificate.tbs_certificate.subject.0.len();
    (complete && certificate.tbs_certificate.subject.to_der().is_ok()).then_some(name)
}

fn certificate(path: &Path) -> Result<Certificate, PkiError> {
    let pem = read(path)?;
    Certificate::from_pem(pem.as_bytes())
        .map_err(|error| PkiError::Unusable { path: path.to_owned(), what: format!("not a PEM certificate: {error}") })
}

fn not_after(certificate: &Certificate) -> Timestamp {
    let seconds = certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs();
    i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or(Timestamp::MAX)
}
