//! Certificates that tests make.

use std::sync::Arc;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName, DnType,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, RevocationReason, RevokedCertParams,
    SerialNumber, SignatureAlgorithm, date_time_ymd,
};

use super::super::{InvalidX509, X509Certificate};

/// A certificate with its key.
#[derive(Clone, Debug)]
pub(crate) struct MadeCertificate {
    pub(crate) certificate: X509Certificate,
    pub(crate) params: CertificateParams,
    pub(crate) key: Arc<KeyPair>,
}

impl MadeCertificate {
    /// A root with this name: `C=US,ST=WA,O=Acme`.
    pub(crate) fn root(name: &str) -> Self {
        Self::self_signed(authority(name), key(&PKCS_ECDSA_P256_SHA256))
    }

    pub(crate) fn self_signed(params: CertificateParams, key: KeyPair) -> Self {
        let certificate = X509Certificate::from_der(params.self_signed(&key).unwrap().der()).unwrap();
        Self { certificate, params, key: Arc::new(key) }
    }

    /// A certificate that this one issues, whatever it may issue.
    pub(crate) fn issue(&self, params: CertificateParams, key: KeyPair) -> Self {
        self.try_issue(params, key).unwrap()
    }

    pub(crate) fn try_issue(&self, params: CertificateParams, key: KeyPair) -> Result<Self, InvalidX509> {
        let issuer = Issuer::from_params(&self.params, &*self.key);
        let certificate = X509Certificate::from_der(params.signed_by(&key, &issuer).unwrap().der())?;
        Ok(Self { certificate, params, key: Arc::new(key) })
    }

    /// A self-signed certificate with the same key and another name.
    pub(crate) fn renamed(&self, name: &str) -> Self {
        Self::self_signed(authority(name), KeyPair::try_from(self.key.serialize_der()).unwrap())
    }
}

/// A revocation list that is valid in 2026, with these serial numbers and reasons.
pub(crate) fn revocation_list(
    number: u64,
    revoked: &[(&MadeCertificate, RevocationReason)],
) -> CertificateRevocationListParams {
    let entry = |(made, reason): &(&MadeCertificate, RevocationReason)| RevokedCertParams {
        serial_number: SerialNumber::from_slice(made.certificate.serial()),
        revocation_time: date_time_ymd(2026, 2, 1),
        reason_code: Some(*reason),
        invalidity_date: None,
    };
    CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2026, 12, 31),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

/// Signs a revocation list.
pub(crate) fn signed_list(issuer: &MadeCertificate, list: &CertificateRevocationListParams) -> Vec<u8> {
    let signer = Issuer::from_params(&issuer.params, &*issuer.key);
    list.signed_by(&signer).unwrap().der().to_vec()
}

/// A new key. RSA keys have 2048 bits.
pub(crate) fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).unwrap()
}

/// A certificate authority that is valid from 2020 to 2040.
pub(crate) fn authority(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}

/// A signing certificate that is valid in 2026.
pub(crate) fn end_entity(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for part in name.split(',') {
        let (attribute, value) = part.split_once('=').unwrap();
        let attribute = match attribute {
            "C" => DnType::CountryName,
            "ST" => DnType::StateOrProvinceName,
            "O" => DnType::OrganizationName,
            "OU" => DnType::OrganizationalUnitName,
            "CN" => DnType::CommonName,
            oid => DnType::CustomDnType(oid.split('.').map(|arc| arc.parse().unwrap()).collect()),
        };
        params.distinguished_name.push(attribute, value);
    }
    params
}

/// An authorityInfoAccess extension with an OCSP responder.
pub(crate) fn ocsp_responder(url: &str) -> CustomExtension {
    let oid = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01];
    let tlv = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let access = tlv(0x30, &[&oid[..], &tlv(0x86, url.as_bytes())].concat());
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], tlv(0x30, &access))
}

/// Midnight of a day, UTC.
pub(crate) fn time_at(year: i32, month: u8, day: u8) -> Timestamp {
    Timestamp::from_second(date_time_ymd(year, month, day).unix_timestamp()).unwrap()
}
