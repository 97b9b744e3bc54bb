//! Bundles and the entries of logs in them.

use super::*;

impl Instance {
    pub(super) fn witnessed(
        &self,
        sign: &dyn Fn(&[u8]) -> Vec<u8>,
        mut material: Value,
        pem: &str,
        content: Content<'_>,
        Witnessed { logging, is_stamped, at }: Witnessed,
    ) -> Value {
        let message = content.signed_bytes();
        let signature = sign(&message);
        let entry = match logging {
            Logging::V1 => Some(self.entry_v1(content, &message, &signature, pem, at)),
            Logging::V2 => Some(self.entry_v2(&message, &signature, pem)),
            Logging::None => None,
        };
        material["tlogEntries"] = entry.into_iter().collect::<Vec<_>>().into();
        if is_stamped {
            let token = STANDARD.encode(self.timestamp(&signature, at));
            material["timestampVerificationData"] = json!({"rfc3161Timestamps": [{"signedTimestamp": token}]});
        }
        let mut bundle = json!({"mediaType": BUNDLE_V03, "verificationMaterial": material});
        let encoded = STANDARD.encode(&signature);
        match content {
            Content::Statement(statement) => {
                bundle["dsseEnvelope"] = json!({
                    "payload": STANDARD.encode(statement.to_string()), "payloadType": "application/vnd.in-toto+json",
                    "signatures": [{"sig": encoded}]
                });
            }
            Content::Message(bytes) => {
                bundle["messageSignature"] = json!({
                    "messageDigest": {"algorithm": "SHA2_256", "digest": STANDARD.encode(sha256(bytes))},
                    "signature": encoded
                });
            }
        }
        bundle
    }

    fn entry_v1(&self, content: Content<'_>, message: &[u8], signature: &[u8], pem: &str, at: i64) -> Value {
        let (signature, verifier) = (STANDARD.encode(signature), STANDARD.encode(pem));
        let (kind, spec) = match content {
            Content::Statement(statement) => {
                let hash = |bytes: &[u8]| json!({"algorithm": "sha256", "value": hex(&sha256(bytes))});
                let signatures = json!([{"signature": signature, "verifier": verifier}]);
                let payload = statement.to_string();
                let spec = json!({
                    "envelopeHash": hash(b"envelope"), "payloadHash": hash(payload.as_bytes()), "signatures": signatures
                });
                ("dsse", spec)
            }
            Content::Message(_) => {
                let hash = json!({"algorithm": "sha256", "value": hex(&sha256(message))});
                let spec = json!({
                    "data": {"hash": hash}, "signature": {"content": signature, "publicKey": {"content": verifier}}
                });
                ("hashedrekord", spec)
            }
        };
        let body = json!({"apiVersion": "0.0.1", "kind": kind, "spec": spec}).to_string();
        self.log_v1(kind, &body, at)
    }

    /// An entry of Rekor version 1 with any body.
    pub(crate) fn log_v1(&self, kind: &str, body: &str, at: i64) -> Value {
        json!({
            "logIndex": "1", "logId": {"keyId": STANDARD.encode(self.signature_log.id())},
            "kindVersion": {"kind": kind, "version": "0.0.1"}, "integratedTime": at.to_string(),
            "inclusionPromise": {"signedEntryTimestamp": STANDARD.encode(self.promise(body, at))},
            "inclusionProof": self.proof(body), "canonicalizedBody": STANDARD.encode(body)
        })
    }

    fn entry_v2(&self, message: &[u8], signature: &[u8], pem: &str) -> Value {
        let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let kind = if pem.contains("CERTIFICATE") { "x509Certificate" } else { "publicKey" };
        let verifier = json!({"keyDetails": "PKIX_ECDSA_P256_SHA_256", kind: {"rawBytes": der}});
        let data = json!({"algorithm": "SHA2_256", "digest": STANDARD.encode(sha256(message))});
        let signature = json!({"content": STANDARD.encode(signature), "verifier": verifier});
        let spec = json!({"hashedRekordV002": {"data": data, "signature": signature}});
        let body = json!({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": spec}).to_string();
        json!({
            "logIndex": "1", "logId": {"keyId": STANDARD.encode(self.signature_log.id())},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
            "inclusionProof": self.proof(&body), "canonicalizedBody": STANDARD.encode(body)
        })
    }

    /// A promise to include an entry (SET): it covers the time.
    fn promise(&self, body: &str, at: i64) -> Vec<u8> {
        let body = STANDARD.encode(body);
        let log_id = hex(&self.signature_log.id());
        let signed = format!(r#"{{"body":"{body}","integratedTime":{at},"logID":"{log_id}","logIndex":1}}"#);
        self.signature_log.sign(signed.as_bytes())
    }

    /// The proof that an entry is the second of two (RFC 6962, section 2.1.1), with a signed checkpoint.
    fn proof(&self, body: &str) -> Value {
        let other = sha256(b"\0another entry");
        let root = sha256(&[&[1][..], &other, &sha256(&[&[0], body.as_bytes()].concat())].concat());
        let note = format!("rekor.test\n2\n{}\n", STANDARD.encode(root));
        let signed = [&self.signature_log.id()[..4], &self.signature_log.sign(note.as_bytes())].concat();
        json!({
            "logIndex": "1", "treeSize": "2", "rootHash": STANDARD.encode(root), "hashes": [STANDARD.encode(other)],
            "checkpoint": {"envelope": format!("{note}\n\u{2014} rekor.test {}\n", STANDARD.encode(signed))}
        })
    }
}
