//! Envelopes in JWS: the flattened JSON serialisation (RFC 7515, section 7.2.2; signature-envelope-jws.md).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::super::algorithm::EnvelopeAlgorithm;
use super::{
    AUTHENTIC_SIGNING_TIME, EXPIRY, SIGNING_SCHEME, SIGNING_TIME, SealedEnvelope, SignedAttributes, TIMESTAMP,
    VERIFICATION_PLUGIN,
};
use crate::oci::json;

/// The members of an envelope. There are no others.
const MEMBERS: [&str; 4] = ["header", "payload", "protected", "signature"];

/// The names that have a meaning in headers. No other spelling of them is accepted.
const HEADERS: &[&str] = &[
    "alg",
    "crit",
    "cty",
    "x5c",
    EXPIRY,
    SIGNING_SCHEME,
    SIGNING_TIME,
    AUTHENTIC_SIGNING_TIME,
    VERIFICATION_PLUGIN,
    TIMESTAMP,
];

pub(super) fn read(bytes: &[u8]) -> Result<SealedEnvelope, String> {
    let known = [&MEMBERS, HEADERS].concat();
    let envelope = json::parse(bytes, &known, &[]).map_err(|error| format!("is not strict JSON: {error}"))?;
    let Value::Object(envelope) = envelope else { return Err("is not a JSON object".into()) };
    if let Some(other) = envelope.keys().find(|key| !MEMBERS.contains(&&***key)) {
        return Err(format!("has a member that a flattened JWS does not have: {other:?}"));
    }
    let text = |name: &str| {
        let value = envelope.get(name).and_then(Value::as_str);
        value.filter(|text| !text.is_empty()).ok_or_else(|| format!("has no {name}"))
    };
    let (protected, payload) = (text("protected")?, text("payload")?);
    let signed = format!("{protected}.{payload}").into_bytes();
    let header = json::parse(&decode(protected, "protected header")?, HEADERS, &[]);
    let header = header.map_err(|error| format!("its protected header is not strict JSON: {error}"))?;
    let Value::Object(header) = header else { return Err("its protected header is not a JSON object".into()) };
    let Some(Value::Object(unprotected)) = envelope.get("header") else { return Err("has no header".into()) };
    // RFC 7515, section 7.2.1: a name occurs in one of them only.
    if let Some(name) = unprotected.keys().find(|name| header.contains_key(*name) || is_signed(name)) {
        return Err(format!("has {name:?} in its unprotected header, where nothing protects it"));
    }
    Ok(SealedEnvelope {
        attributes: attributes(&header)?,
        chain: chain(unprotected)?,
        payload: decode(payload, "payload")?,
        signature: decode(text("signature")?, "signature")?,
        signed,
        timestamp: timestamp(unprotected)?,
    })
}

/// Whether this is a header that must be signed.
fn is_signed(name: &str) -> bool {
    HEADERS.contains(&name) && name != "x5c" && name != TIMESTAMP
}

fn attributes(header: &Map<String, Value>) -> Result<SignedAttributes, String> {
    let text = |name: &str| match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("its header {name:?} is not text")),
    };
    let time = |name: &str| match text(name)? {
        None => Ok(None),
        Some(text) => match text.parse::<Timestamp>() {
            Ok(time) => Ok(Some(time)),
            Err(_) => Err(format!("its header {name:?} is not a time (RFC 3339)")),
        },
    };
    let algorithm = text("alg")?.unwrap_or_default();
    let critical = match header.get("crit") {
        Some(Value::Array(names)) => names.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    Ok(SignedAttributes {
        algorithm: EnvelopeAlgorithm::of_jws(&algorithm),
        content_type: text("cty")?,
        critical: critical.ok_or("has no list of critical headers")?,
        scheme: text(SIGNING_SCHEME)?,
        signing_time: time(SIGNING_TIME)?,
        authentic_signing_time: time(AUTHENTIC_SIGNING_TIME)?,
        expiry: time(EXPIRY)?,
        names_plugin: header.contains_key(VERIFICATION_PLUGIN),
    })
}

/// RFC 7515, section 4.1.6: standard base64, not the URL-safe one.
fn chain(unprotected: &Map<String, Value>) -> Result<Vec<Vec<u8>>, String> {
    let Some(Value::Array(chain)) = unprotected.get("x5c") else { return Err("has no certificates".into()) };
    let der = |value: &Value| STANDARD.decode(value.as_str()?).ok();
    chain.iter().map(der).collect::<Option<_>>().ok_or_else(|| "a certificate is not base64".into())
}

fn timestamp(unprotected: &Map<String, Value>) -> Result<Option<Vec<u8>>, String> {
    match unprotected.get(TIMESTAMP) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let token = value.as_str().and_then(|text| STANDARD.decode(text).ok());
            token.map(Some).ok_or_else(|| "its timestamp is not base64".into())
        }
    }
}

fn decode(text: &str, what: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("its {what} is not base64url"))
}
