//! Signature envelopes: what both forms, JWS and COSE, have in common (signature-specification.md).

mod cose;
mod jws;

use jiff::Timestamp;

use super::algorithm::EnvelopeAlgorithm;
use crate::x509::X509Certificate;

/// The media type of the signed payload.
const PAYLOAD: &str = "application/vnd.cncf.notary.payload.v1+json";
/// The maximum number of certificates of a chain.
const MAX_CHAIN: usize = 16;

const EXPIRY: &str = "io.cncf.notary.expiry";
const SIGNING_SCHEME: &str = "io.cncf.notary.signingScheme";
const SIGNING_TIME: &str = "io.cncf.notary.signingTime";
const AUTHENTIC_SIGNING_TIME: &str = "io.cncf.notary.authenticSigningTime";
const VERIFICATION_PLUGIN: &str = "io.cncf.notary.verificationPlugin";
const TIMESTAMP: &str = "io.cncf.notary.timestampSignature";

/// The form of an envelope, by the media type of its layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum EnvelopeForm {
    Jws,
    Cose,
}

impl EnvelopeForm {
    pub(super) fn of(media_type: &str) -> Option<Self> {
        match media_type {
            "application/jose+json" => Some(Self::Jws),
            "application/cose" => Some(Self::Cose),
            _ => None,
        }
    }

    /// As messages call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Jws => "JWS signature",
            Self::Cose => "COSE signature",
        }
    }
}

/// Who vouches for the time of signing (signing-scheme.md).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SigningScheme {
    /// `notary.x509`: a timestamping authority, if anyone.
    X509,
    /// `notary.x509.signingAuthority`: the signer.
    SigningAuthority,
}

/// An envelope whose signature was made by the key of its first certificate. Nothing else is verified.
#[derive(Debug)]
pub(super) struct SignatureEnvelope {
    /// The certificates, from the signer's to the root.
    pub(super) chain: Vec<X509Certificate>,
    pub(super) payload: Vec<u8>,
    pub(super) scheme: SigningScheme,
    /// The time of signing, as the signer states it.
    pub(super) signing_time: Timestamp,
    pub(super) expiry: Option<Timestamp>,
    pub(super) signature: Vec<u8>,
    /// The timestamp token (RFC 3161) over the signature, in DER. It is not signed by the signer.
    pub(super) timestamp: Option<Vec<u8>>,
}

impl SignatureEnvelope {
    /// Reads an envelope and verifies its signature.
    ///
    /// # Errors
    /// Why it is not a valid signature by anyone.
    pub(super) fn open(form: EnvelopeForm, bytes: &[u8]) -> Result<Self, String> {
        let sealed = match form {
            EnvelopeForm::Jws => jws::read(bytes)?,
            EnvelopeForm::Cose => cose::read(bytes)?,
        };
        sealed.open()
    }

    /// The signer's certificate.
    pub(super) fn leaf(&self) -> &X509Certificate {
        &self.chain[0]
    }
}

/// The parts of an envelope, before anything is verified.
#[derive(Debug)]
struct SealedEnvelope {
    attributes: SignedAttributes,
    /// The certificates in DER.
    chain: Vec<Vec<u8>>,
    payload: Vec<u8>,
    signature: Vec<u8>,
    /// What the signature covers.
    signed: Vec<u8>,
    timestamp: Option<Vec<u8>>,
}

/// The signed attributes that this version understands.
#[derive(Debug, Default)]
struct SignedAttributes {
    algorithm: Option<EnvelopeAlgorithm>,
    content_type: Option<String>,
    critical: Vec<String>,
    scheme: Option<String>,
    signing_time: Option<Timestamp>,
    authentic_signing_time: Option<Timestamp>,
    expiry: Option<Timestamp>,
    /// Whether the signature asks for a plugin of notation.
    names_plugin: bool,
}

impl SealedEnvelope {
    fn open(self) -> Result<SignatureEnvelope, String> {
        let Self { attributes, chain, payload, signature, signed, timestamp } = self;
        let (scheme, signing_time) = attributes.check()?;
        if chain.is_empty() || chain.len() > MAX_CHAIN {
            return Err(format!("must have 1 to {MAX_CHAIN} certificates, and has {}", chain.len()));
        }
        let read = |(index, der): (usize, &Vec<u8>)| {
            X509Certificate::from_der(der).map_err(|invalid| format!("certificate {}: {invalid}", index + 1))
        };
        let chain: Vec<_> = chain.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        let leaf = &chain[0];
        let algorithm = EnvelopeAlgorithm::of(leaf).ok_or_else(|| {
            format!("the key of {leaf} is not allowed; it must be RSA with 2048, 3072 or 4096 bits, or on P-256, P-384 or P-521")
        })?;
        if attributes.algorithm != Some(algorithm) {
            let named = attributes.algorithm.map_or("another one", EnvelopeAlgorithm::name);
            let needed = algorithm.name();
            return Err(format!("names the algorithm {named}, but the key of its certificate requires {needed}"));
        }
        if !algorithm.verify(leaf, &signed, &signature) {
            return Err(format!("was not made by the key of its certificate, {leaf}, or was changed afterwards"));
        }
        Ok(SignatureEnvelope { chain, payload, scheme, signing_time, expiry: attributes.expiry, signature, timestamp })
    }
}

impl SignedAttributes {
    /// Checks that the attributes fit together, and returns the signing scheme and the time of signing.
    fn check(&self) -> Result<(SigningScheme, Timestamp), String> {
        if self.content_type.as_deref() != Some(PAYLOAD) {
            return Err(format!("its content type is not {PAYLOAD}"));
        }
        if self.names_plugin {
            return Err("can only be verified by a plugin of notation, which pullgate does not run".into());
        }
        let (scheme, time) = match self.scheme.as_deref() {
            Some("notary.x509") => (SigningScheme::X509, self.signing_time),
            Some("notary.x509.signingAuthority") => (SigningScheme::SigningAuthority, self.authentic_signing_time),
            other => return Err(format!("its signing scheme is not supported: {other:?}")),
        };
        let is_authority = scheme == SigningScheme::SigningAuthority;
        if (is_authority && self.signing_time.is_some()) || (!is_authority && self.authentic_signing_time.is_some()) {
            return Err("has a time of signing that does not belong to its signing scheme".into());
        }
        let time = time.ok_or("has no time of signing")?;
        if self.expiry.is_some_and(|expiry| expiry <= time) {
            return Err("ends before it was made".into());
        }
        self.check_critical(is_authority)?;
        Ok((scheme, time))
    }

    /// Every critical attribute is understood, and those that must be critical are (signature-specification.md, "Signed
    /// Attributes").
    fn check_critical(&self, is_authority: bool) -> Result<(), String> {
        let required =
            [(SIGNING_SCHEME, true), (EXPIRY, self.expiry.is_some()), (AUTHENTIC_SIGNING_TIME, is_authority)];
        for (index, name) in self.critical.iter().enumerate() {
            if !required.iter().any(|(known, is_present)| known == name && *is_present) {
                return Err(format!("has a critical attribute that pullgate does not understand: {name:?}"));
            }
            if self.critical[..index].contains(name) {
                return Err(format!("names the critical attribute {name:?} twice"));
            }
        }
        let is_missing = |(name, is_required): &&(&str, bool)| *is_required && !self.critical.iter().any(|c| c == name);
        match required.iter().find(is_missing) {
            Some((name, _)) => Err(format!("does not mark {name:?} as critical")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
