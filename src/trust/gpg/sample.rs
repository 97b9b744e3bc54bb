//! OpenPGP keys, signed messages and a store, made for tests.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::CertBuilder;
use sequoia_openpgp::crypto::KeyPair;
use sequoia_openpgp::packet::signature::SignatureBuilder;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::SerializeInto;
use sequoia_openpgp::serialize::stream::{Compressor, LiteralWriter, Message, Signer};
use sequoia_openpgp::types::{CompressionAlgorithm, SignatureType};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use url::Url;

use crate::oci::Digest;
use crate::policy::KeyRing;
use crate::runtime::Tasks;

/// When the keys of the tests were made.
pub(super) const MADE: i64 = 1_700_000_000;
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A time some days after the keys were made.
pub(super) fn day(days: i64) -> Timestamp {
    Timestamp::from_second(MADE + days * 86_400).unwrap()
}

pub(super) fn system(time: Timestamp) -> SystemTime {
    SystemTime::from(time)
}

/// A builder of a key that was made at [`MADE`].
pub(super) fn builder() -> CertBuilder<'static> {
    CertBuilder::new().set_creation_time(system(day(0))).add_userid("Release <release@example.com>")
}

/// A key whose signing subkey signs.
pub(super) fn key() -> Cert {
    builder().add_signing_subkey().generate().unwrap().0
}

/// The public part of keys, as a document would contain it.
pub(super) fn ring(certificates: &[&Cert]) -> KeyRing {
    let packets: Vec<u8> = certificates.iter().flat_map(|cert| cert.to_vec().unwrap()).collect();
    KeyRing::from_bytes(&packets).unwrap()
}

/// The key that signs.
pub(super) fn pair(cert: &Cert) -> KeyPair {
    let policy = StandardPolicy::new();
    let mut keys = cert.keys().unencrypted_secret().with_policy(&policy, system(day(0))).for_signing();
    keys.next().unwrap().key().clone().into_keypair().unwrap()
}

/// What a signature says.
pub(super) fn template() -> SignatureBuilder {
    SignatureBuilder::new(SignatureType::Binary)
}

/// A signed message of one day after the key, compressed as GnuPG does.
pub(super) fn sign(cert: &Cert, payload: &[u8]) -> Vec<u8> {
    sign_as(pair(cert), template(), day(1), payload)
}

pub(super) fn sign_as(pair: KeyPair, template: SignatureBuilder, at: Timestamp, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let message = Message::new(&mut out);
    let message = Compressor::new(message).algo(CompressionAlgorithm::Zip).build().unwrap();
    let signer = Signer::with_template(message, pair, template).unwrap().creation_time(system(at));
    let mut message = LiteralWriter::new(signer.build().unwrap()).build().unwrap();
    message.write_all(payload).unwrap();
    message.finalize().unwrap();
    out
}

/// The payload of a signature.
pub(super) fn payload(digest: &Digest, reference: &str) -> Value {
    json!({
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest},
            "type": "atomic container signature"
        },
        "optional": {"creator": "test 1.0", "timestamp": 1_700_000_000}
    })
}

/// A web server with files, by their paths. It records the head of every request.
pub(super) struct StoreServer {
    pub(super) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl StoreServer {
    /// `answer` gives the status, a `Location` and the body for a path.
    pub(super) async fn start(
        tasks: &Tasks,
        answer: impl Fn(&str) -> (u16, String, Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heads) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let recorded = heads.clone();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let (status, location, body) = answer(head.split(' ').nth(1).unwrap());
                recorded.lock().unwrap().push(head);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            }
        });
        Self { address, heads }
    }

    /// The paths that were requested.
    pub(super) fn paths(&self) -> Vec<String> {
        let heads = self.heads.lock().unwrap();
        heads.iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect()
    }

    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    pub(super) fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.address).parse().unwrap()
    }
}
