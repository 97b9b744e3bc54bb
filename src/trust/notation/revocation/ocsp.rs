//! OCSP requests and answers (RFC 6960).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use der::asn1::{GeneralizedTime, Null, OctetString};
use der::oid::ObjectIdentifier;
use der::oid::db::rfc5280::ID_CE_INVALIDITY_DATE;
use der::oid::db::rfc5912::{ID_KP_OCSP_SIGNING, ID_SHA_1, ID_SHA_256};
use der::oid::db::rfc6960::ID_PKIX_OCSP_BASIC;
use der::{Decode, Encode};
use jiff::{SignedDuration, Timestamp};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse, OcspResponseStatus, Request,
    SingleResponse, TbsRequest,
};

use crate::x509::{RevokedCertificate, X509Certificate, signed_part, timestamp};

/// The maximum time by which the clock of a responder may be ahead.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A request for the status of a certificate. It has no nonce, so that responders may answer from memory.
///
/// # Errors
/// If the certificate cannot be named.
pub(super) fn request(certificate: &X509Certificate, issuer: &X509Certificate) -> Result<Vec<u8>, String> {
    let unusable = |_| "the certificate cannot be named in a request".to_owned();
    let [name, key] = hashes(issuer, ID_SHA_1).ok_or("the certificate cannot be named in a request")?;
    // SHA-1 only names the issuer here, and is the one hash that all responders know (RFC 5019, section 2.1.1).
    let req_cert = CertId {
        hash_algorithm: AlgorithmIdentifierOwned { oid: ID_SHA_1, parameters: Some(Null.into()) },
        issuer_name_hash: OctetString::new(name).map_err(unusable)?,
        issuer_key_hash: OctetString::new(key).map_err(unusable)?,
        serial_number: SerialNumber::new(certificate.serial()).map_err(unusable)?,
    };
    let request_list = vec![Request { req_cert, single_request_extensions: None }];
    let tbs_request = TbsRequest { request_list, ..TbsRequest::default() };
    OcspRequest { tbs_request, optional_signature: None }.to_der().map_err(unusable)
}

/// Reads an answer about a certificate: whether it is revoked, and until when the answer is valid.
///
/// # Errors
/// Why the answer says nothing about the certificate.
pub(super) fn read(
    bytes: &[u8],
    certificate: &X509Certificate,
    issuer: &X509Certificate,
    now: Timestamp,
) -> Result<(Option<RevokedCertificate>, Timestamp), String> {
    let unreadable = |_| "the answer of the responder cannot be read".to_owned();
    let response = OcspResponse::from_der(bytes).map_err(unreadable)?;
    if response.response_status != OcspResponseStatus::Successful {
        return Err(format!("the responder refused: {:?}", response.response_status));
    }
    let content = response.response_bytes.filter(|content| content.response_type == ID_PKIX_OCSP_BASIC);
    let content = content.ok_or("the answer of the responder is of an unknown kind")?.response;
    let basic = BasicOcspResponse::from_der(content.as_bytes()).map_err(unreadable)?;
    check_signature(&basic, content.as_bytes(), issuer, now)?;
    let is_ours = |one: &&SingleResponse| is_about(&one.cert_id, certificate, issuer);
    let mut ours = basic.tbs_response_data.responses.iter().filter(is_ours);
    let (Some(ours), None) = (ours.next(), ours.next()) else {
        return Err("the answer is not about this certificate".into());
    };
    let until = time(ours.next_update.ok_or("the answer has no end of validity")?);
    let latest = now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX);
    if time(ours.this_update) > latest || until < now {
        return Err("the answer is outdated, or not valid yet".into());
    }
    match &ours.cert_status {
        CertStatus::Good(_) => Ok((None, until)),
        CertStatus::Revoked(revoked) => {
            let reason = revoked.revocation_reason;
            Ok((Some(RevokedCertificate { reason, invalid_since: invalidity_date(ours) }), until))
        }
        CertStatus::Unknown(_) => Err("the responder does not know this certificate".into()),
    }
}

/// The answer is signed by the issuer itself, or by a responder to whom the issuer delegated it (RFC 6960, section
/// 4.2.2.2).
fn check_signature(
    basic: &BasicOcspResponse,
    bytes: &[u8],
    issuer: &X509Certificate,
    now: Timestamp,
) -> Result<(), String> {
    let signed = signed_part(bytes).and_then(|range| bytes.get(range)).ok_or("the answer cannot be read")?;
    let signature = basic.signature.as_bytes().ok_or("the answer has no signature")?;
    if issuer.has_signed(&basic.signature_algorithm, signed, signature) {
        return Ok(());
    }
    let der = basic.certs.iter().flatten().filter_map(|certificate| certificate.to_der().ok());
    let delegated = der.filter_map(|der| X509Certificate::from_der(&der).ok()).take(MAX_CERTIFICATES).any(|one| {
        let may_sign = one.usage().purposes.as_ref().is_some_and(|(_, all)| all.contains(&ID_KP_OCSP_SIGNING));
        let is_usable = may_sign && one.is_valid_at(now) && one.usage().unknown_critical.is_none();
        is_usable && one.is_issued_by(issuer) && one.has_signed(&basic.signature_algorithm, signed, signature)
    });
    if delegated { Ok(()) } else { Err("the answer is signed neither by the issuer nor by its responder".into()) }
}

/// The maximum number of certificates in an answer that are tried.
const MAX_CERTIFICATES: usize = 8;

fn is_about(id: &CertId, certificate: &X509Certificate, issuer: &X509Certificate) -> bool {
    hashes(issuer, id.hash_algorithm.oid).is_some_and(|[name, key]| {
        id.issuer_name_hash.as_bytes() == name
            && id.issuer_key_hash.as_bytes() == key
            && id.serial_number.as_bytes() == certificate.serial()
    })
}

/// The hashes of an issuer's name and key.
fn hashes(issuer: &X509Certificate, algorithm: ObjectIdentifier) -> Option<[Vec<u8>; 2]> {
    let algorithm = match algorithm {
        ID_SHA_1 => &SHA1_FOR_LEGACY_USE_ONLY,
        ID_SHA_256 => &SHA256,
        _ => return None,
    };
    let (name, key) = (issuer.subject().to_der().ok()?, issuer.key().subject_public_key.as_bytes()?);
    Some([&*name, key].map(|bytes| digest(algorithm, bytes).as_ref().to_vec()))
}

fn invalidity_date(response: &SingleResponse) -> Option<Timestamp> {
    let extensions = response.single_extensions.as_ref()?;
    let extension = extensions.iter().find(|extension| extension.extn_id == ID_CE_INVALIDITY_DATE)?;
    let time = GeneralizedTime::from_der(extension.extn_value.as_bytes()).ok()?;
    Some(timestamp(time.into()))
}

fn time(time: OcspGeneralizedTime) -> Timestamp {
    timestamp(time.0.into())
}
