//! Timestamps by a timestamping authority (RFC 3161, with the certificate identifiers of RFC 5816), as a
//! countersignature of the signature (trust-store-trust-policy.md, "Timestamp Countersignature Verification").

use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use der::asn1::{Int, Null, OctetString};
use der::oid::ObjectIdentifier;
use der::oid::db::rfc5911::{ID_AA_SIGNING_CERTIFICATE_V_2, ID_CONTENT_TYPE, ID_MESSAGE_DIGEST, ID_SIGNED_DATA};
use der::oid::db::rfc5912::{
    ID_SHA_256, ID_SHA_384, ID_SHA_512, RSA_ENCRYPTION, SHA_256_WITH_RSA_ENCRYPTION, SHA_384_WITH_RSA_ENCRYPTION,
    SHA_512_WITH_RSA_ENCRYPTION,
};
use der::{Any, Decode, Encode, Sequence, Tag, Tagged};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use x509_cert::attr::Attribute;
use x509_cert::ext::Extensions;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::chain::{self, ChainPurpose};
use crate::policy::StoredCertificate;
use crate::x509::X509Certificate;

/// The largest token, in bytes.
const MAX_TOKEN: usize = 256 * 1024;
/// The maximum number of certificates in a token, and in the chain that is built from them.
const MAX_CERTIFICATES: usize = 16;
/// The content type of timestamps (RFC 3161, section 2.4.2).
const ID_CT_TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
/// The baseline policy, whose accuracy is one second (RFC 3628, section 5.2).
const BASELINE_POLICY: ObjectIdentifier = ObjectIdentifier::new_unwrap("0.4.0.2023.1.1");

/// When a signature existed, and who says so.
#[derive(Debug)]
pub(super) struct VerifiedTimestamp {
    /// The earliest time that is possible.
    pub(super) earliest: Timestamp,
    /// The latest time that is possible.
    pub(super) latest: Timestamp,
    /// The certificates of the timestamping authority, from the signer's to a root of a trust store.
    pub(super) chain: Vec<X509Certificate>,
}

/// RFC 3161, section 2.4.2.
#[derive(Clone, Debug, Eq, PartialEq, Sequence)]
struct TstInfo {
    version: u8,
    policy: ObjectIdentifier,
    message_imprint: MessageImprint,
    serial_number: Int,
    /// A GeneralizedTime, which may have fractions of a second.
    gen_time: Any,
    #[asn1(optional = "true")]
    accuracy: Option<TimestampAccuracy>,
    #[asn1(default = "Default::default")]
    ordering: bool,
    #[asn1(optional = "true")]
    nonce: Option<Int>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    tsa: Option<Any>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    extensions: Option<Extensions>,
}

#[derive(Clone, Debug, Eq, PartialEq, Sequence)]
struct MessageImprint {
    hash_algorithm: AlgorithmIdentifierOwned,
    hashed_message: OctetString,
}

#[derive(Clone, Debug, Eq, PartialEq, Sequence)]
struct TimestampAccuracy {
    #[asn1(optional = "true")]
    seconds: Option<u32>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    millis: Option<u16>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    micros: Option<u16>,
}

/// RFC 5035, section 3: the certificate of the signer comes first.
#[derive(Clone, Debug, Eq, PartialEq, Sequence)]
struct SigningCertificateV2 {
    certs: Vec<EssCertIdV2>,
    #[asn1(optional = "true")]
    policies: Option<Any>,
}

#[derive(Clone, Debug, Eq, PartialEq, Sequence)]
struct EssCertIdV2 {
    /// SHA-256 if it is absent.
    #[asn1(optional = "true")]
    hash_algorithm: Option<AlgorithmIdentifierOwned>,
    cert_hash: OctetString,
    #[asn1(optional = "true")]
    issuer_serial: Option<Any>,
}

/// Verifies a timestamp token over a signature.
///
/// # Errors
/// Why it proves nothing.
pub(super) fn verify(
    token: &[u8],
    signature: &[u8],
    trusted: &[StoredCertificate],
) -> Result<VerifiedTimestamp, String> {
    if token.len() > MAX_TOKEN {
        return Err(format!("is larger than {MAX_TOKEN} bytes"));
    }
    let signed = signed_data(token)?;
    let content = tst_info(&signed)?;
    let info = TstInfo::from_der(&content).map_err(|_| "its TSTInfo cannot be read")?;
    check_imprint(&info, signature)?;
    let [signer] = signed.signer_infos.0.as_slice() else { return Err("must have exactly one signer".into()) };
    let certificates = certificates(&signed)?;
    let leaf = verify_signer(signer, &content, &certificates)?;
    let (time, accuracy) = (gen_time(&info)?, accuracy(&info));
    let chain = chain_to_root(leaf, &certificates, trusted)
        .ok_or_else(|| format!("no certificate of a tsa trust store vouches for the timestamping authority, {leaf}"))?;
    chain::check(&chain, ChainPurpose::TimeStamping)?;
    if let Some(invalid) = chain.iter().find(|certificate| !certificate.is_valid_at(time)) {
        return Err(format!("{invalid}: was not valid at the time that it states, {time}"));
    }
    let range = time.checked_sub(accuracy).and_then(|earliest| Ok((earliest, time.checked_add(accuracy)?)));
    let (earliest, latest) = range.map_err(|_| "its time is out of range")?;
    Ok(VerifiedTimestamp { earliest, latest, chain })
}

fn signed_data(token: &[u8]) -> Result<SignedData, String> {
    let unreadable = |_| "is not a signed timestamp token in DER".to_owned();
    let info = ContentInfo::from_der(token).map_err(unreadable)?;
    if info.content_type != ID_SIGNED_DATA {
        return Err("is not signed".into());
    }
    info.content.decode_as().map_err(unreadable)
}

fn tst_info(signed: &SignedData) -> Result<Vec<u8>, String> {
    let content = &signed.encap_content_info;
    if content.econtent_type != ID_CT_TST_INFO {
        return Err("does not contain a timestamp".into());
    }
    let bytes = content.econtent.as_ref().and_then(|content| content.decode_as::<OctetString>().ok());
    Ok(bytes.ok_or("does not contain a timestamp")?.into_bytes())
}

/// The timestamp is over this signature.
fn check_imprint(info: &TstInfo, signature: &[u8]) -> Result<(), String> {
    if info.version != 1 {
        return Err("its version is not supported".into());
    }
    if info.extensions.iter().flatten().any(|extension| extension.critical) {
        return Err("has a critical extension".into());
    }
    let imprint = &info.message_imprint;
    let hash = hash(imprint.hash_algorithm.oid, signature).ok_or("its hash is not SHA-256, SHA-384 or SHA-512")?;
    if imprint.hashed_message.as_bytes() != hash {
        return Err("is for another signature".into());
    }
    Ok(())
}

fn certificates(signed: &SignedData) -> Result<Vec<X509Certificate>, String> {
    let Some(certificates) = &signed.certificates else { return Err("has no certificates".into()) };
    if certificates.0.len() > MAX_CERTIFICATES {
        return Err(format!("has more than {MAX_CERTIFICATES} certificates"));
    }
    let read = |choice: &CertificateChoices| match choice {
        CertificateChoices::Certificate(certificate) => {
            let der = certificate.to_der().map_err(|_| "a certificate cannot be read")?;
            X509Certificate::from_der(&der).map_err(|invalid| invalid.to_string())
        }
        CertificateChoices::Other(_) => Err("has a certificate of an unknown kind".into()),
    };
    certificates.0.iter().map(read).collect()
}

/// Verifies the signature of the token, and returns the certificate of its signer (RFC 5652, section 5.4).
fn verify_signer<'a>(
    signer: &SignerInfo,
    content: &[u8],
    certificates: &'a [X509Certificate],
) -> Result<&'a X509Certificate, String> {
    let attributes = signer.signed_attrs.as_ref().ok_or("has no signed attributes")?;
    let attributes_of = |oid| -> Option<&Any> {
        let mut found = attributes.iter().filter(|attribute: &&Attribute| attribute.oid == oid);
        match (found.next()?.values.as_slice(), found.next()) {
            ([only], None) => Some(only),
            _ => None,
        }
    };
    let content_type = attributes_of(ID_CONTENT_TYPE).and_then(|value| value.decode_as::<ObjectIdentifier>().ok());
    if content_type != Some(ID_CT_TST_INFO) {
        return Err("its signed content type is not that of a timestamp".into());
    }
    let digest = attributes_of(ID_MESSAGE_DIGEST).and_then(|value| value.decode_as::<OctetString>().ok());
    let expected = hash(signer.digest_alg.oid, content).ok_or("its digest is not SHA-256, SHA-384 or SHA-512")?;
    if digest.as_ref().map(OctetString::as_bytes) != Some(&*expected) {
        return Err("its signed digest is not that of its content".into());
    }
    let named = attributes_of(ID_AA_SIGNING_CERTIFICATE_V_2);
    let named = named.and_then(|value| value.decode_as::<SigningCertificateV2>().ok());
    let named = named.ok_or("has no signing-certificate-v2 attribute")?;
    let leaf = signer_certificate(signer, &named, certificates)?;
    let signed = attributes.to_der().map_err(|_| "its signed attributes cannot be read")?;
    let algorithm = signature_algorithm(signer)?;
    if !leaf.has_signed(&algorithm, &signed, signer.signature.as_bytes()) {
        return Err("its signature is not valid".into());
    }
    Ok(leaf)
}

/// The certificate that the signed attribute names first; the unsigned identifier must agree.
fn signer_certificate<'a>(
    signer: &SignerInfo,
    named: &SigningCertificateV2,
    certificates: &'a [X509Certificate],
) -> Result<&'a X509Certificate, String> {
    let id = named.certs.first().ok_or("names no certificate of its signer")?;
    let is_named = |certificate: &&X509Certificate| {
        let algorithm = id.hash_algorithm.as_ref().map_or(ID_SHA_256, |algorithm| algorithm.oid);
        let hash = hash(algorithm, certificate.der());
        let is_meant = match &signer.sid {
            SignerIdentifier::IssuerAndSerialNumber(sid) => {
                sid.issuer == *certificate.issuer() && sid.serial_number.as_bytes() == certificate.serial()
            }
            // The attribute names the certificate already.
            SignerIdentifier::SubjectKeyIdentifier(_) => true,
        };
        is_meant && hash.as_deref() == Some(id.cert_hash.as_bytes())
    };
    certificates.iter().find(is_named).ok_or_else(|| "does not contain the certificate of its signer".into())
}

/// RFC 5754, section 3.2: with RSA, the algorithm may be named by the key alone.
fn signature_algorithm(signer: &SignerInfo) -> Result<AlgorithmIdentifierOwned, String> {
    if signer.signature_algorithm.oid != RSA_ENCRYPTION {
        return Ok(signer.signature_algorithm.clone());
    }
    let oid = match signer.digest_alg.oid {
        ID_SHA_256 => SHA_256_WITH_RSA_ENCRYPTION,
        ID_SHA_384 => SHA_384_WITH_RSA_ENCRYPTION,
        ID_SHA_512 => SHA_512_WITH_RSA_ENCRYPTION,
        _ => return Err("its digest is not SHA-256, SHA-384 or SHA-512".into()),
    };
    Ok(AlgorithmIdentifierOwned { oid, parameters: Some(Null.into()) })
}

/// A chain from a certificate to one of a trust store, each issued by the next.
fn chain_to_root(
    leaf: &X509Certificate,
    certificates: &[X509Certificate],
    trusted: &[StoredCertificate],
) -> Option<Vec<X509Certificate>> {
    let mut chain = vec![leaf.clone()];
    while chain.len() <= MAX_CERTIFICATES {
        let last = chain.last()?;
        if let Some(root) = trusted.iter().find(|root| last.is_issued_by(&root.certificate)) {
            if root.certificate != *last {
                chain.push(root.certificate.clone());
            }
            return Some(chain);
        }
        let issuer = certificates.iter().find(|one| !chain.contains(one) && last.is_issued_by(one))?;
        chain.push(issuer.clone());
    }
    None
}

fn hash(algorithm: ObjectIdentifier, bytes: &[u8]) -> Option<Vec<u8>> {
    match algorithm {
        ID_SHA_256 => Some(Sha256::digest(bytes).to_vec()),
        ID_SHA_384 => Some(Sha384::digest(bytes).to_vec()),
        ID_SHA_512 => Some(Sha512::digest(bytes).to_vec()),
        _ => None,
    }
}

/// `YYYYMMDDhhmmss[.f]Z` (RFC 3161, section 2.4.2).
fn gen_time(info: &TstInfo) -> Result<Timestamp, String> {
    let text = std::str::from_utf8(info.gen_time.value()).ok();
    let text = text.filter(|_| info.gen_time.tag() == Tag::GeneralizedTime).and_then(|text| text.strip_suffix('Z'));
    let time = text.and_then(|text| {
        let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, rest)| (whole, Some(rest)));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        if whole.len() != 14 || !is_number(whole) || !fraction.is_none_or(is_number) {
            return None;
        }
        let [date, time] = [&whole[..8], &whole[8..]];
        let fraction = fraction.map_or_else(String::new, |digits| format!(".{}", &digits[..digits.len().min(9)]));
        format!(
            "{}-{}-{}T{}:{}:{}{fraction}Z",
            &date[..4],
            &date[4..6],
            &date[6..],
            &time[..2],
            &time[2..4],
            &time[4..]
        )
        .parse()
        .ok()
    });
    time.ok_or_else(|| "its time cannot be read".into())
}

fn accuracy(info: &TstInfo) -> SignedDuration {
    match &info.accuracy {
        Some(TimestampAccuracy { seconds, millis, micros }) => {
            SignedDuration::from_secs(seconds.unwrap_or(0).into())
                + SignedDuration::from_millis(millis.unwrap_or(0).into())
                + SignedDuration::from_micros(micros.unwrap_or(0).into())
        }
        None if info.policy == BASELINE_POLICY => SignedDuration::from_secs(1),
        None => SignedDuration::ZERO,
    }
}

#[cfg(test)]
pub(super) mod tests;
