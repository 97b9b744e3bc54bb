//! Rekor version 1, as far as cosign needs it to sign. The real server needs a Trillian log with a database and Redis. Every
//! entry is the only one of its own tree.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const ORIGIN: &str = "rekor.test - 1";

/// A log with its key and its server. The server ends with the process.
pub(crate) struct RekorV1 {
    address: SocketAddr,
    log: Arc<Log>,
}

struct Log(EcdsaKeyPair);

impl RekorV1 {
    pub(crate) fn start() -> Self {
        let log = Arc::new(Log(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key")));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let served = log.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = served.answer(stream);
            }
        });
        Self { address, log }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The public key of the log.
    pub(crate) fn public_pem(&self) -> String {
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(self.log.spki()))
    }
}

impl Log {
    /// Answers `POST /api/v1/log/entries`.
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut line, mut length) = (String::new(), 0);
        while reader.read_line(&mut line)? > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            line.clear();
        }
        let mut proposed = vec![0; length];
        reader.read_exact(&mut proposed)?;
        let proposed: Value = serde_json::from_slice(&proposed).expect("a proposed entry");
        let (uuid, entry) = self.entry(&canonical(&proposed).to_string());
        let body = json!({ uuid.clone(): entry }).to_string();
        write!(
            &stream,
            "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nETag: {uuid}\r\n\
             Location: /api/v1/log/entries/{uuid}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn entry(&self, body: &str) -> (String, Value) {
        let leaf = Sha256::digest([&[0], body.as_bytes()].concat());
        let (uuid, body) = (hex(&leaf), STANDARD.encode(body));
        let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let log_id = Sha256::digest(self.spki());
        let promised = format!(r#"{{"body":"{body}","integratedTime":{at},"logID":"{}","logIndex":0}}"#, hex(&log_id));
        let note = format!("{ORIGIN}\n1\n{}\n", STANDARD.encode(leaf));
        let signed = [&log_id[..4], &self.sign(note.as_bytes())].concat();
        let checkpoint = format!("{note}\n\u{2014} rekor.test {}\n", STANDARD.encode(signed));
        let proof = json!({"logIndex": 0, "treeSize": 1, "rootHash": uuid, "hashes": [], "checkpoint": checkpoint});
        let verification =
            json!({"signedEntryTimestamp": STANDARD.encode(self.sign(promised.as_bytes())), "inclusionProof": proof});
        let entry = json!({
            "body": body, "integratedTime": at, "logID": hex(&log_id), "logIndex": 0, "verification": verification
        });
        (uuid, entry)
    }

    fn spki(&self) -> Vec<u8> {
        self.0.public_key().as_der().expect("a public key").as_ref().to_vec()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), message).expect("a signature").as_ref().to_vec()
    }
}

/// What Rekor keeps of a proposed entry (rekor, pkg/types/hashedrekord and pkg/types/dsse), with sorted keys.
fn canonical(proposed: &Value) -> Value {
    let spec = match proposed["kind"].as_str().expect("a kind") {
        "hashedrekord" => {
            let (hash, signature) = (&proposed["spec"]["data"]["hash"], &proposed["spec"]["signature"]);
            let public_key = json!({"content": signature["publicKey"]["content"]});
            json!({"data": {"hash": hash}, "signature": {"content": signature["content"], "publicKey": public_key}})
        }
        "dsse" => {
            let proposed = &proposed["spec"]["proposedContent"];
            let text = proposed["envelope"].as_str().expect("an envelope");
            let envelope: Value = serde_json::from_str(text).expect("an envelope");
            let payload = STANDARD.decode(envelope["payload"].as_str().expect("a payload")).expect("a payload");
            let hash = |bytes: &[u8]| json!({"algorithm": "sha256", "value": hex(&Sha256::digest(bytes))});
            let signature =
                json!({"signature": envelope["signatures"][0]["sig"], "verifier": proposed["verifiers"][0]});
            json!({"envelopeHash": hash(text.as_bytes()), "payloadHash": hash(&payload), "signatures": [signature]})
        }
        other => panic!("an entry of the kind {other}"),
    };
    json!({"apiVersion": proposed["apiVersion"], "kind": proposed["kind"], "spec": spec})
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
