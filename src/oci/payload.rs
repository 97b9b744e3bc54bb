//! The signed payloads of image signatures: simple signing, DSSE envelopes, in-toto statements. Only parsed here, not
//! verified.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::digest::Digest;
use super::json::{self, InvalidJson};

/// The payload type of in-toto statements in DSSE envelopes, and their media type in BuildKit's manifests.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// The memory in bytes that the values of a signed statement may take. Those of a list of packages take up to 18 times
/// the size of its text.
const MAX_SIGNED: usize = 256 * 1024 * 1024;

/// The value of `critical.type` that cosign writes, and containers/image for sigstore signatures.
const SIMPLE_SIGNING_TYPE: &str = "cosign container image signature";

/// The value of `critical.type` that containers/image writes for OpenPGP signatures.
const OPENPGP_TYPE: &str = "atomic container signature";

/// The payload of a simple signature: of cosign (SIGNATURE_SPEC.md, "Simple Signing") or with OpenPGP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SimpleSigning {
    /// The name under which the image was signed. cosign does not check it, and it differs behind mirrors.
    pub reference: String,
    /// The digest of the signed manifest.
    pub digest: Digest,
    /// The members of `optional` that are texts: the annotations that were signed (`cosign sign -a`).
    pub annotations: BTreeMap<String, String>,
}

impl SimpleSigning {
    /// Parses the payload of an OpenPGP signature (containers/image, `docs/containers-signature.5.md`). It differs in
    /// its type, and in `optional`, which must be an object.
    ///
    /// # Errors
    /// The missing, unknown or malformed part.
    pub fn parse_openpgp(bytes: &[u8]) -> Result<Self, InvalidPayload> {
        let (payload, optional) = Self::parse_as(bytes, OPENPGP_TYPE)?;
        let optional = optional.as_object().ok_or(InvalidPayload::Shape("optional is not an object"))?;
        if !optional.get("creator").is_none_or(Value::is_string) {
            return Err(InvalidPayload::Shape("optional.creator is not a string"));
        }
        // Some writers store the number with a fraction of zero.
        if !optional.get("timestamp").is_none_or(|time| time.as_f64().is_some_and(|time| time.fract() == 0.0)) {
            return Err(InvalidPayload::Shape("optional.timestamp is not an integer"));
        }
        Ok(payload)
    }

    /// Parses a payload as strictly as containers/image does: no duplicate keys, and `critical` has exactly the members
    /// of the format, because an unknown member could be a condition that is not checked.
    ///
    /// # Errors
    /// The missing, unknown or malformed part.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidPayload> {
        let (payload, optional) = Self::parse_as(bytes, SIMPLE_SIGNING_TYPE)?;
        let annotations = match &optional {
            Value::Object(optional) => texts(optional),
            Value::Null => BTreeMap::new(),
            _ => return Err(InvalidPayload::Shape("optional is neither an object nor null")),
        };
        Ok(Self { annotations, ..payload })
    }

    /// Parses a payload of this type, and returns `optional` unchanged.
    fn parse_as(bytes: &[u8], expected: &str) -> Result<(Self, Value), InvalidPayload> {
        let known = ["critical", "docker-manifest-digest", "docker-reference", "identity", "image", "optional", "type"];
        let body = object(bytes, &known, &["optional"])?;
        let [critical, optional] = members(&body, ["critical", "optional"])?;
        let [identity, image, kind] = members(as_object(critical)?, ["identity", "image", "type"])?;
        let [reference] = members(as_object(identity)?, ["docker-reference"])?;
        let [digest] = members(as_object(image)?, ["docker-manifest-digest"])?;
        if *kind != expected {
            return Err(InvalidPayload::Shape(match expected {
                OPENPGP_TYPE => "its type is not \"atomic container signature\"",
                _ => "its type is not \"cosign container image signature\"",
            }));
        }
        let digest =
            as_text(digest)?.parse().map_err(|_| InvalidPayload::Shape("docker-manifest-digest is not a digest"))?;
        Ok((Self { reference: as_text(reference)?.to_owned(), digest, annotations: BTreeMap::new() }, optional.clone()))
    }
}

/// A DSSE envelope (secure-systems-lab/dsse, envelope.md).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope {
    /// The type of the payload.
    pub payload_type: String,
    /// The decoded payload.
    pub payload: Vec<u8>,
}

impl Envelope {
    /// The members of an envelope.
    pub const MEMBERS: &[&str] = &["payload", "payloadType", "signatures"];
    /// The keys of an envelope and of its signatures.
    pub const KEYS: &[&str] = &["keyid", "payload", "payloadType", "sig", "signatures"];

    /// Parses an envelope. Its signatures must be present but are not verified.
    ///
    /// # Errors
    /// The missing or malformed part.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidPayload> {
        Self::from_json(&json::parse_members(bytes, Self::KEYS, &[], Self::MEMBERS)?)
    }

    /// Parses an envelope that is part of another document.
    ///
    /// # Errors
    /// The same as [`Envelope::parse`].
    pub fn from_json(value: &Value) -> Result<Self, InvalidPayload> {
        let text =
            |key| value.get(key).and_then(Value::as_str).ok_or(InvalidPayload::Shape("it is not a DSSE envelope"));
        let signed = |s: &Value| s.get("sig").and_then(Value::as_str).is_some_and(|sig| decode(sig).is_ok());
        match value.get("signatures").and_then(Value::as_array) {
            Some(signatures) if !signatures.is_empty() && signatures.iter().all(signed) => {}
            _ => return Err(InvalidPayload::Shape("the DSSE envelope has no signature")),
        }
        Ok(Self { payload_type: text("payloadType")?.to_owned(), payload: decode(text("payload")?)? })
    }
}

/// DSSE's pre-authentication encoding, over which signatures are made (secure-systems-lab/dsse, protocol.md).
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// An in-toto statement (in-toto/attestation, statement.md), without its predicate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Statement {
    /// The type of the predicate.
    pub predicate_type: String,
    /// What it is about.
    pub subjects: Vec<StatementSubject>,
}

/// A subject of an in-toto statement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StatementSubject {
    /// Its sha256 and sha512 digests. Other algorithms are not read.
    pub digests: Vec<Digest>,
    /// Its annotations that are texts.
    pub annotations: BTreeMap<String, String>,
}

impl Statement {
    /// Parses a statement of version 0.1 or 1. The predicate is checked but not kept: nobody has verified the signature
    /// yet.
    ///
    /// # Errors
    /// The missing or malformed part.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidPayload> {
        let known = ["_type", "digest", "predicate", "predicateType", "subject"];
        let wanted = ["_type", "predicateType", "subject"];
        let body = as_body(json::parse_members(bytes, &known, &["annotations", "predicate"], &wanted)?)?;
        match body.get("_type").and_then(Value::as_str) {
            Some("https://in-toto.io/Statement/v1" | "https://in-toto.io/Statement/v0.1") => {}
            _ => return Err(InvalidPayload::Shape("it is not an in-toto statement")),
        }
        let predicate_type = body.get("predicateType").and_then(Value::as_str);
        let subjects = body.get("subject").and_then(Value::as_array);
        let subject = |subject: &Value| StatementSubject {
            digests: ["sha256", "sha512"].iter().filter_map(|algorithm| subject_digest(subject, algorithm)).collect(),
            annotations: subject.get("annotations").and_then(Value::as_object).map(texts).unwrap_or_default(),
        };
        Ok(Self {
            predicate_type: predicate_type
                .ok_or(InvalidPayload::Shape("the statement has no predicateType"))?
                .to_owned(),
            subjects: subjects
                .ok_or(InvalidPayload::Shape("the statement has no subject"))?
                .iter()
                .map(subject)
                .collect(),
        })
    }
}

fn texts(members: &Map<String, Value>) -> BTreeMap<String, String> {
    members.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The parts of an in-toto statement whose content policies judge.
#[derive(Clone, Debug, PartialEq)]
pub struct StatementBody {
    /// The predicate; null if there is none.
    pub predicate: Value,
    /// The entry of `subject` that names the wanted digest.
    pub subject: Value,
}

impl StatementBody {
    /// Parses a statement about the artifact with one of these digests. Only for statements whose signature was
    /// verified, because the values of a predicate may take much memory.
    ///
    /// # Errors
    /// It is not a strict statement ([`Statement::parse`]), or it is about something else.
    pub fn parse(bytes: &[u8], of: &[Digest]) -> Result<Self, InvalidPayload> {
        Statement::parse(bytes)?;
        let mut body = as_body(json::parse_dense(bytes, &[], &[], MAX_SIGNED)?)?;
        let subjects = body.remove("subject").unwrap_or_default();
        let names = |subject: &&Value| {
            ["sha256", "sha512"]
                .iter()
                .filter_map(|name| subject_digest(subject, name))
                .any(|found| of.contains(&found))
        };
        let subject = subjects.as_array().and_then(|all| all.iter().find(names));
        let subject = subject.ok_or(InvalidPayload::Shape("the statement is about another image"))?.clone();
        Ok(Self { predicate: body.remove("predicate").unwrap_or_default(), subject })
    }
}

fn subject_digest(subject: &Value, algorithm: &str) -> Option<Digest> {
    format!("{algorithm}:{}", subject.get("digest")?.get(algorithm)?.as_str()?).parse().ok()
}

/// A signature in the flattened JSON serialization of JWS (RFC 7515, section 7.2.2), as written by notation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Jws {
    /// The protected header.
    pub protected: Map<String, Value>,
    /// The payload, a JSON object.
    pub payload: Map<String, Value>,
}

impl Jws {
    /// Parses a signature without verifying it.
    ///
    /// # Errors
    /// The missing or malformed part.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidPayload> {
        let body = object(bytes, &["header", "payload", "protected", "signature", "signatures"], &["header"])?;
        if !body.keys().all(|key| matches!(&**key, "header" | "payload" | "protected" | "signature")) {
            return Err(InvalidPayload::Shape("the JWS has an unknown member"));
        }
        let part = |key| {
            let text = body.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
            let decoded = text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            decoded.ok_or(InvalidPayload::Shape("a part of the JWS is missing or not base64url"))
        };
        part("signature")?;
        let [protected, payload] = [object(&part("protected")?, &[], &[])?, object(&part("payload")?, &[], &[])?];
        if !protected.get("alg").is_some_and(Value::is_string) {
            return Err(InvalidPayload::Shape("the JWS names no algorithm"));
        }
        Ok(Self { protected, payload })
    }
}

/// Why bytes are not the expected payload.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidPayload {
    /// It is not strict JSON, or its values would take too much memory.
    #[error("its payload is not a strict JSON object: {0}")]
    Json(#[from] InvalidJson),
    /// A part is missing, unknown or malformed.
    #[error("{0}")]
    Shape(&'static str),
}

fn object(bytes: &[u8], known: &[&str], free_form: &[&str]) -> Result<Map<String, Value>, InvalidPayload> {
    as_body(json::parse(bytes, known, free_form)?)
}

fn as_body(document: Value) -> Result<Map<String, Value>, InvalidPayload> {
    match document {
        Value::Object(body) => Ok(body),
        _ => Err(InvalidPayload::Shape("its payload is not a strict JSON object")),
    }
}

/// The values of exactly these keys.
fn members<'a, const N: usize>(
    body: &'a Map<String, Value>,
    keys: [&str; N],
) -> Result<[&'a Value; N], InvalidPayload> {
    if body.len() != N || !keys.iter().all(|key| body.contains_key(*key)) {
        return Err(InvalidPayload::Shape("its payload has missing or unknown members"));
    }
    Ok(keys.map(|key| &body[key]))
}

fn as_object(value: &Value) -> Result<&Map<String, Value>, InvalidPayload> {
    value.as_object().ok_or(InvalidPayload::Shape("a member of critical is not an object"))
}

fn as_text(value: &Value) -> Result<&str, InvalidPayload> {
    value.as_str().ok_or(InvalidPayload::Shape("a member of critical is not a string"))
}

/// Accepts both base64 alphabets, as DSSE requires of readers.
fn decode(text: &str) -> Result<Vec<u8>, InvalidPayload> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).map_err(|_| InvalidPayload::Shape("it is not base64"))
}

#[cfg(test)]
mod tests;
