//! Chains of certificates: complete, in order, and with the profile of their purpose (signature-specification.md,
//! "Certificate Requirements").

use der::oid::ObjectIdentifier;
use der::oid::db::rfc5912::{
    ID_KP_CLIENT_AUTH, ID_KP_EMAIL_PROTECTION, ID_KP_OCSP_SIGNING, ID_KP_SERVER_AUTH, ID_KP_TIME_STAMPING,
};
use x509_cert::ext::pkix::KeyUsage;

use super::algorithm::EnvelopeAlgorithm;
use crate::x509::X509Certificate;

/// What the first certificate of a chain signs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ChainPurpose {
    /// Images.
    CodeSigning,
    /// Timestamps.
    TimeStamping,
}

/// Purposes of other certificates, which a signing certificate must not have.
const FOREIGN: [(ObjectIdentifier, &str); 5] = [
    (ID_KP_SERVER_AUTH, "serverAuth"),
    (ID_KP_CLIENT_AUTH, "clientAuth"),
    (ID_KP_EMAIL_PROTECTION, "emailProtection"),
    (ID_KP_TIME_STAMPING, "timeStamping"),
    (ID_KP_OCSP_SIGNING, "OCSPSigning"),
];

/// Checks a chain from the signer's certificate to a self-signed one.
///
/// # Errors
/// The first rule that it breaks.
pub(super) fn check(chain: &[X509Certificate], purpose: ChainPurpose) -> Result<(), String> {
    let Some((leaf, authorities)) = chain.split_first() else { return Err("has no certificate".into()) };
    for (index, certificate) in chain.iter().enumerate() {
        if let Some(extension) = certificate.usage().unknown_critical {
            return Err(format!("{certificate}: has a critical extension that is not supported: {extension}"));
        }
        match chain.get(index + 1) {
            Some(issuer) if certificate.is_issued_by(issuer) => {}
            Some(issuer) => {
                return Err(format!("{certificate}: the next certificate of the chain, {issuer}, did not issue it"));
            }
            None if certificate.is_self_signed() => {}
            None => return Err(format!("{certificate}: the chain must end with a self-signed root certificate")),
        }
        if index + 1 < chain.len() && certificate.is_self_signed() {
            return Err(format!("{certificate}: only the last certificate of the chain may be self-signed"));
        }
    }
    check_leaf(leaf, purpose).map_err(|why| format!("{leaf}: {why}"))?;
    for (below, authority) in authorities.iter().enumerate() {
        check_authority(authority, below).map_err(|why| format!("{authority}: {why}"))?;
    }
    Ok(())
}

/// `below` is how many other authorities are between it and the signer.
fn check_authority(certificate: &X509Certificate, below: usize) -> Result<(), String> {
    let usage = certificate.usage();
    let Some((true, constraints)) = &usage.basic_constraints else {
        return Err("a certificate authority must have critical basic constraints".into());
    };
    if !constraints.ca {
        return Err("is not a certificate authority, and issued a certificate".into());
    }
    if constraints.path_len_constraint.is_some_and(|most| usize::from(most) < below) {
        return Err("its path length does not allow the chain".into());
    }
    match &usage.key_usage {
        Some((true, usage)) if usage.key_cert_sign() => Ok(()),
        _ => Err("a certificate authority must have the critical key usage keyCertSign".into()),
    }
}

fn check_leaf(certificate: &X509Certificate, purpose: ChainPurpose) -> Result<(), String> {
    let usage = certificate.usage();
    if usage.is_authority() {
        return Err("is a certificate authority, which must only sign certificates".into());
    }
    match &usage.key_usage {
        None => return Err("has no key usage; digitalSignature is required".into()),
        Some((false, _)) if purpose == ChainPurpose::CodeSigning => {
            return Err("its key usage is not critical".into());
        }
        Some((_, usage)) => check_key_usage(usage)?,
    }
    check_purposes(certificate, purpose)?;
    match EnvelopeAlgorithm::of(certificate) {
        Some(_) => Ok(()),
        None => Err("its key is neither RSA with 2048, 3072 or 4096 bits, nor on P-256, P-384 or P-521".into()),
    }
}

fn check_key_usage(usage: &KeyUsage) -> Result<(), String> {
    if !usage.digital_signature() {
        return Err("its key usage lacks digitalSignature".into());
    }
    let others = [
        (usage.key_encipherment(), "keyEncipherment"),
        (usage.data_encipherment(), "dataEncipherment"),
        (usage.key_agreement(), "keyAgreement"),
        (usage.key_cert_sign(), "keyCertSign"),
        (usage.crl_sign(), "cRLSign"),
        (usage.encipher_only(), "encipherOnly"),
        (usage.decipher_only(), "decipherOnly"),
    ];
    match others.iter().find(|(is_set, _)| *is_set) {
        Some((_, name)) => Err(format!("its key usage has {name}; only digitalSignature is allowed")),
        None => Ok(()),
    }
}

fn check_purposes(certificate: &X509Certificate, purpose: ChainPurpose) -> Result<(), String> {
    let purposes = certificate.usage().purposes.as_ref();
    match (purpose, purposes) {
        (ChainPurpose::CodeSigning, None) => Ok(()),
        (ChainPurpose::CodeSigning, Some((_, purposes))) => {
            match FOREIGN.iter().find(|(foreign, _)| purposes.contains(foreign)) {
                Some((_, name)) => Err(format!("its extended key usage has {name}, so it is for another use")),
                None => Ok(()),
            }
        }
        // RFC 3161, section 2.3.
        (ChainPurpose::TimeStamping, Some((true, purposes))) if **purposes == [ID_KP_TIME_STAMPING] => Ok(()),
        (ChainPurpose::TimeStamping, _) => Err("its extended key usage must be critical, and only timeStamping".into()),
    }
}
