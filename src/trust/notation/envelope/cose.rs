//! Envelopes in COSE: a tagged COSE_Sign1 (RFC 9052, section 4.2; signature-envelope-cose.md).

use coset::cbor::Value;
use coset::{CoseSign1, Header, Label, RegisteredLabel, RegisteredLabelWithPrivate, TaggedCborSerializable};
use jiff::Timestamp;

use super::super::algorithm::EnvelopeAlgorithm;
use super::{
    AUTHENTIC_SIGNING_TIME, EXPIRY, SIGNING_SCHEME, SIGNING_TIME, SealedEnvelope, SignedAttributes, TIMESTAMP,
    VERIFICATION_PLUGIN,
};
use crate::oci::is_cose_sign1;

/// The header of the certificates (RFC 9360, section 2).
const X5CHAIN: i64 = 33;
/// The tag of times in seconds since 1970 (RFC 8949, section 3.4.2).
const EPOCH_TIME: u64 = 1;

pub(super) fn read(bytes: &[u8]) -> Result<SealedEnvelope, String> {
    // Definite lengths, no trailing bytes and the tag: coset reads other encodings, too.
    if !is_cose_sign1(bytes) {
        return Err("is not one tagged COSE_Sign1".into());
    }
    let message = CoseSign1::from_tagged_slice(bytes).map_err(|error| format!("is not a COSE_Sign1: {error}"))?;
    let signed = message.tbs_data(&[]);
    let CoseSign1 { protected, unprotected, payload, signature } = message;
    let is_signed = |(label, _): &&(Label, Value)| find(&protected.header, label).is_some() || must_be_signed(label);
    if unprotected.alg.is_some() || !unprotected.crit.is_empty() || unprotected.content_type.is_some() {
        return Err("has signed headers in its unprotected header, where nothing protects them".into());
    }
    if let Some((label, _)) = unprotected.rest.iter().find(is_signed) {
        return Err(format!("has {label:?} in its unprotected header, where nothing protects it"));
    }
    Ok(SealedEnvelope {
        attributes: attributes(&protected.header)?,
        chain: chain(&unprotected)?,
        payload: payload.ok_or("has no payload")?,
        signature,
        signed,
        timestamp: timestamp(&unprotected)?,
    })
}

fn find<'a>(header: &'a Header, label: &Label) -> Option<&'a Value> {
    header.rest.iter().find(|(known, _)| known == label).map(|(_, value)| value)
}

fn named<'a>(header: &'a Header, name: &str) -> Option<&'a Value> {
    find(header, &Label::Text(name.to_owned()))
}

/// Whether this is a header that must be signed.
fn must_be_signed(label: &Label) -> bool {
    let names = [EXPIRY, SIGNING_SCHEME, SIGNING_TIME, AUTHENTIC_SIGNING_TIME, VERIFICATION_PLUGIN];
    matches!(label, Label::Text(name) if names.contains(&&**name))
}

fn attributes(header: &Header) -> Result<SignedAttributes, String> {
    let algorithm = match &header.alg {
        Some(RegisteredLabelWithPrivate::Assigned(algorithm)) => {
            EnvelopeAlgorithm::of_cose(coset::iana::EnumI64::to_i64(algorithm))
        }
        _ => None,
    };
    let content_type = match &header.content_type {
        Some(RegisteredLabel::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let critical = |label: &RegisteredLabelWithPrivate<coset::iana::HeaderParameter>| match label {
        RegisteredLabelWithPrivate::Text(name) => name.clone(),
        other => format!("{other:?}"),
    };
    let scheme = match named(header, SIGNING_SCHEME) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    Ok(SignedAttributes {
        algorithm,
        content_type,
        critical: header.crit.iter().map(critical).collect(),
        scheme,
        signing_time: time(header, SIGNING_TIME)?,
        authentic_signing_time: time(header, AUTHENTIC_SIGNING_TIME)?,
        expiry: time(header, EXPIRY)?,
        names_plugin: named(header, VERIFICATION_PLUGIN).is_some(),
    })
}

/// A time in whole seconds, with its tag.
fn time(header: &Header, name: &str) -> Result<Option<Timestamp>, String> {
    let Some(value) = named(header, name) else { return Ok(None) };
    let seconds = match value {
        Value::Tag(EPOCH_TIME, inner) => match &**inner {
            Value::Integer(seconds) => i64::try_from(*seconds).ok(),
            _ => None,
        },
        _ => None,
    };
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(Some).ok_or_else(|| format!("its header {name:?} is not a tagged time in seconds"))
}

fn chain(unprotected: &Header) -> Result<Vec<Vec<u8>>, String> {
    let Some(Value::Array(chain)) = find(unprotected, &Label::Int(X5CHAIN)) else {
        return Err("has no list of certificates".into());
    };
    let der = |value: &Value| value.as_bytes().cloned();
    chain.iter().map(der).collect::<Option<_>>().ok_or_else(|| "a certificate is not a byte string".into())
}

fn timestamp(unprotected: &Header) -> Result<Option<Vec<u8>>, String> {
    match named(unprotected, TIMESTAMP) {
        None => Ok(None),
        Some(Value::Bytes(token)) => Ok(Some(token.clone())),
        Some(_) => Err("its timestamp is not a byte string".into()),
    }
}
