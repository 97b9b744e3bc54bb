//! Turns the annotations of a classic signature into a Sigstore bundle, so that both forms are verified by the same
//! code.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sigstore_verify::types::Bundle;

use super::layers::ClassicAnnotations;
use crate::oci::json;
use crate::policy::Certificate;

/// The keys of the JSON in annotations. All of them are read by Go programs, which fold keys.
const KEYS: &[&str] = &[
    "Payload",
    "SignedEntryTimestamp",
    "SignedRFC3161Timestamp",
    "apiVersion",
    "body",
    "integratedTime",
    "kind",
    "logID",
    "logIndex",
];

/// The maximum number of certificates of a chain.
pub(super) const MAX_CHAIN: usize = 10;
/// The largest certificate, in bytes. Those of Fulcio have less than 2 KiB.
pub(super) const MAX_CERTIFICATE: usize = 8 * 1024;
/// The largest time stamp, in bytes. Real ones have up to 6 KiB.
pub(super) const MAX_TIME_STAMP: usize = 16 * 1024;

/// The bundle that says the same. `content` is its member with the signature, by name: `messageSignature` or
/// `dsseEnvelope`. Without a certificate, it is a bundle of a signature by key.
///
/// # Errors
/// The annotation that cannot be read, and why.
pub(super) fn bundle(content: (&str, Value), annotations: &ClassicAnnotations<'_>) -> Result<Bundle, String> {
    let mut material = match annotations.certificate {
        Some(leaf) => json!({"x509CertificateChain": {"certificates": certificates(leaf, annotations.chain)?}}),
        None => json!({"publicKey": {"hint": ""}}),
    };
    let entries: Vec<_> = annotations.log_entry.map(log_entry).transpose()?.into_iter().collect();
    // Version 0.1 is the only one that allows an entry without a proof of inclusion, and demands one with a promise.
    let version = if entries.is_empty() { "0.2" } else { "0.1" };
    material["tlogEntries"] = entries.into();
    if let Some(text) = annotations.timestamp {
        let token = object(text, "time stamp")?["SignedRFC3161Timestamp"].take();
        if token.as_str().is_some_and(|token| token.len() > MAX_TIME_STAMP * 4 / 3) {
            return Err(format!("its time stamp has more than {} KiB", MAX_TIME_STAMP >> 10));
        }
        material["timestampVerificationData"] = json!({"rfc3161Timestamps": [{"signedTimestamp": token}]});
    }
    let media_type = format!("application/vnd.dev.sigstore.bundle+json;version={version}");
    let (key, content) = content;
    // Moved, not copied: an attestation may be large.
    let bundle = [
        ("mediaType".to_owned(), media_type.into()),
        ("verificationMaterial".to_owned(), material),
        (key.to_owned(), content),
    ];
    serde_json::from_value(Value::Object(bundle.into_iter().collect()))
        .map_err(|error| format!("its annotations cannot be read: {error}"))
}

/// The signer's certificate, and those between it and the root. The root itself comes from the trusted root.
fn certificates(leaf: &str, chain: Option<&str>) -> Result<Vec<Value>, String> {
    let read = |pem: &str| {
        // Base64 takes four characters for three bytes. One certificate may take all of the room.
        if pem.len() > MAX_CHAIN * MAX_CERTIFICATE * 3 / 2 || is_large(pem) {
            return Err(format!("its certificate has more than {} KiB", MAX_CERTIFICATE >> 10));
        }
        Certificate::all_from_pem(pem).map_err(|error| format!("its certificate: {error}"))
    };
    let leaf = read(leaf)?;
    let chain = chain.filter(|chain| !chain.trim().is_empty()).map(read).transpose()?.unwrap_or_default();
    if chain.len() > MAX_CHAIN {
        return Err(format!("its chain has more than {MAX_CHAIN} certificates"));
    }
    let between = chain.iter().filter(|certificate| !certificate.is_self_issued());
    let all = leaf.iter().take(1).chain(between);
    Ok(all.map(|certificate| json!({"rawBytes": STANDARD.encode(certificate.der())})).collect())
}

/// Whether one block of a PEM text may be larger than a certificate should be.
fn is_large(pem: &str) -> bool {
    pem.split("-----BEGIN").any(|block| block.len() > MAX_CERTIFICATE * 3 / 2)
}

/// An entry of Rekor as cosign keeps it, with a promise (SET) and without a proof of inclusion.
fn log_entry(text: &str) -> Result<Value, String> {
    let mut entry = object(text, "log entry")?;
    let payload = entry["Payload"].take();
    let malformed = || "its log entry is malformed".to_owned();
    let body = payload["body"].as_str().ok_or_else(malformed)?;
    let decoded = STANDARD.decode(body).map_err(|_| malformed())?;
    let said = json::parse(&decoded, &["apiVersion", "kind"], &["spec"]).map_err(|_| malformed())?;
    let (kind, version) = (said["kind"].as_str().unwrap_or_default(), said["apiVersion"].as_str().unwrap_or_default());
    if !matches!((kind, version), ("hashedrekord" | "dsse", "0.0.1")) {
        return Err(format!("its log entry is of the kind {kind:?} {version:?}, which is not supported"));
    }
    let number = |key: &str| payload[key].as_u64().map(|number| number.to_string()).ok_or_else(malformed);
    let log_id = payload["logID"].as_str().and_then(decode_hex).ok_or_else(malformed)?;
    Ok(json!({
        "logIndex": number("logIndex")?,
        "logId": {"keyId": STANDARD.encode(log_id)},
        "kindVersion": {"kind": kind, "version": version},
        "integratedTime": number("integratedTime")?,
        "inclusionPromise": {"signedEntryTimestamp": entry["SignedEntryTimestamp"].take()},
        "canonicalizedBody": body,
    }))
}

fn object(text: &str, what: &str) -> Result<Value, String> {
    match json::parse(text.as_bytes(), KEYS, &[]) {
        Ok(value @ Value::Object(_)) => Ok(value),
        _ => Err(format!("its {what} is not a strict JSON object")),
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (text.len().is_multiple_of(2) && text.bytes().all(|c| c.is_ascii_hexdigit())).then_some(())?;
    (0..text.len()).step_by(2).map(byte).collect()
}
