//! Signatures that tests make.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coset::cbor::Value as Cbor;
use coset::iana::{self, EnumI64};
use coset::{ContentType, CoseSign1Builder, Header, Label, RegisteredLabelWithPrivate, TaggedCborSerializable};
use jiff::Timestamp;
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_RSA_SHA256, RsaKeySize,
};
use serde_json::{Map, Value, json};

use super::super::super::scheme::Attached;
use super::super::algorithm::EnvelopeAlgorithm;
use super::super::envelope::EnvelopeForm;
use crate::oci::{Content, Descriptor, Digest, ImageName, Manifest, media_type};
use crate::x509::tests::{MadeCertificate, key};

pub(in super::super) const RSA_2048: RsaKeySize = RsaKeySize::_2048;
pub(in super::super) const RSA_3072: RsaKeySize = RsaKeySize::_3072;
pub(in super::super) const RSA_4096: RsaKeySize = RsaKeySize::_4096;

pub(in super::super) fn rsa_key(size: RsaKeySize) -> KeyPair {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).unwrap()
}

/// A key of every kind that may sign.
pub(in super::super) fn keys() -> Vec<KeyPair> {
    let curves = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P521_SHA512];
    curves.map(key).into_iter().chain([RSA_2048, RSA_3072, RSA_4096].map(rsa_key)).collect()
}

/// The time of all verifications.
pub(in super::super) fn now() -> Timestamp {
    "2026-06-15T12:00:00Z".parse().unwrap()
}

pub(in super::super) fn name() -> ImageName {
    "registry.acme.com/app".parse::<crate::oci::ImageReference>().unwrap().name
}

/// The image that is signed.
pub(in super::super) fn image() -> Arc<Manifest> {
    let bytes = br#"{"schemaVersion":2}"#;
    Arc::new(Manifest {
        digest: Digest::sha256(bytes),
        bytes: bytes.to_vec().into(),
        media_type: media_type::OCI_INDEX.into(),
        content: Content::Index(Vec::new()),
        subject: None,
        artifact_type: None,
    })
}

pub(in super::super) fn attached(form: EnvelopeForm, bytes: Vec<u8>) -> Attached {
    let media_type = match form {
        EnvelopeForm::Jws => "application/jose+json",
        EnvelopeForm::Cose => "application/cose",
    };
    let layer = Descriptor {
        media_type: media_type.into(),
        digest: Digest::sha256(&bytes),
        size: bytes.len() as u64,
        platform: None,
        artifact_type: None,
        urls: Vec::new(),
        has_data: false,
        annotations: Vec::new(),
    };
    Attached { layer, bytes: bytes.into(), place: "referrer sha256:00".into() }
}

/// A signature in the making. Its parts can be changed before they are signed.
#[derive(Clone)]
pub(in super::super) struct Making {
    pub(in super::super) form: EnvelopeForm,
    pub(in super::super) chain: Vec<MadeCertificate>,
    /// The protected header, as in JWS.
    pub(in super::super) protected: Map<String, Value>,
    pub(in super::super) payload: Vec<u8>,
    pub(in super::super) timestamp: Option<Vec<u8>>,
}

impl Making {
    /// A signature of the image by the first certificate.
    pub(in super::super) fn new(chain: &[MadeCertificate]) -> Self {
        let image = image();
        let target = json!({
            "mediaType": image.media_type, "digest": image.digest.to_string(), "size": image.bytes.len()
        });
        let algorithm = EnvelopeAlgorithm::of(&chain[0].certificate).map_or("EdDSA", EnvelopeAlgorithm::name);
        let Value::Object(protected) = json!({
            "alg": algorithm,
            "cty": "application/vnd.cncf.notary.payload.v1+json",
            "io.cncf.notary.signingScheme": "notary.x509",
            "io.cncf.notary.signingTime": "2026-03-01T00:00:00Z",
            "crit": ["io.cncf.notary.signingScheme"]
        }) else {
            panic!()
        };
        let payload = json!({"targetArtifact": target}).to_string().into_bytes();
        Self { form: EnvelopeForm::Jws, chain: chain.to_vec(), protected, payload, timestamp: None }
    }

    pub(in super::super) fn form(mut self, form: EnvelopeForm) -> Self {
        self.form = form;
        self
    }

    pub(in super::super) fn payload(mut self, payload: &Value) -> Self {
        self.payload = payload.to_string().into_bytes();
        self
    }

    /// Sets a header; null removes it.
    pub(in super::super) fn header(mut self, name: &str, value: Value) -> Self {
        match value {
            Value::Null => drop(self.protected.remove(name)),
            value => drop(self.protected.insert(name.to_owned(), value)),
        }
        self
    }

    pub(in super::super) fn critical(mut self, name: &str) -> Self {
        self.protected["crit"].as_array_mut().unwrap().push(json!(name));
        self
    }

    pub(in super::super) fn expiry(self, time: &str) -> Self {
        self.header("io.cncf.notary.expiry", json!(time)).critical("io.cncf.notary.expiry")
    }

    pub(in super::super) fn signing_authority(self, time: &str) -> Self {
        self.header("io.cncf.notary.signingTime", Value::Null)
            .header("io.cncf.notary.signingScheme", json!("notary.x509.signingAuthority"))
            .header("io.cncf.notary.authenticSigningTime", json!(time))
            .critical("io.cncf.notary.authenticSigningTime")
    }

    /// The signature, as it is attached.
    pub(in super::super) fn attached(&self) -> Attached {
        attached(self.form, self.bytes())
    }

    pub(in super::super) fn bytes(&self) -> Vec<u8> {
        match self.form {
            EnvelopeForm::Jws => self.jws(),
            EnvelopeForm::Cose => self.cose().to_tagged_vec().unwrap(),
        }
    }

    fn jws(&self) -> Vec<u8> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let protected = encode(Value::Object(self.protected.clone()).to_string().as_bytes());
        let payload = encode(&self.payload);
        let signature = encode(&sign(&self.chain[0], format!("{protected}.{payload}").as_bytes()));
        let chain: Vec<_> = self.chain.iter().map(|made| STANDARD.encode(made.certificate.der())).collect();
        let mut header = json!({"x5c": chain, "io.cncf.notary.signingAgent": "test"});
        if let Some(token) = &self.timestamp {
            header["io.cncf.notary.timestampSignature"] = json!(STANDARD.encode(token));
        }
        json!({"payload": payload, "protected": protected, "header": header, "signature": signature})
            .to_string()
            .into_bytes()
    }

    /// The signature in JWS, with the timestamp that `stamp` makes over it.
    pub(in super::super) fn timestamped(&self, stamp: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> Attached {
        let mut envelope: Value = serde_json::from_slice(&self.jws()).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(envelope["signature"].as_str().unwrap()).unwrap();
        if let Some(token) = stamp(&signature) {
            envelope["header"]["io.cncf.notary.timestampSignature"] = json!(STANDARD.encode(token));
        }
        attached(EnvelopeForm::Jws, envelope.to_string().into_bytes())
    }

    /// The same headers in COSE.
    pub(in super::super) fn cose(&self) -> coset::CoseSign1 {
        let mut protected = Header::default();
        for (name, value) in &self.protected {
            match (&**name, value) {
                ("alg", Value::String(name)) => {
                    let number = match &**name {
                        "PS256" => -37,
                        "PS384" => -38,
                        "PS512" => -39,
                        "ES256" => -7,
                        "ES384" => -35,
                        "ES512" => -36,
                        _ => -8,
                    };
                    let algorithm = iana::Algorithm::from_i64(number).unwrap();
                    protected.alg = Some(coset::Algorithm::Assigned(algorithm));
                }
                ("cty", Value::String(text)) => protected.content_type = Some(ContentType::Text(text.clone())),
                ("crit", Value::Array(names)) => {
                    let text = |name: &Value| RegisteredLabelWithPrivate::Text(name.as_str().unwrap().to_owned());
                    protected.crit = names.iter().map(text).collect();
                }
                (name, Value::String(text)) => {
                    let value = match text.parse::<Timestamp>() {
                        Ok(time) => Cbor::Tag(1, Box::new(Cbor::Integer(time.as_second().into()))),
                        Err(_) => Cbor::Text(text.clone()),
                    };
                    protected.rest.push((Label::Text(name.to_owned()), value));
                }
                (name, _) => protected.rest.push((Label::Text(name.to_owned()), Cbor::Null)),
            }
        }
        let chain = self.chain.iter().map(|made| Cbor::Bytes(made.certificate.der().to_vec())).collect();
        let mut unprotected = Header { rest: vec![(Label::Int(33), Cbor::Array(chain))], ..Header::default() };
        if let Some(token) = &self.timestamp {
            let label = Label::Text("io.cncf.notary.timestampSignature".into());
            unprotected.rest.push((label, Cbor::Bytes(token.clone())));
        }
        CoseSign1Builder::new()
            .protected(protected)
            .unprotected(unprotected)
            .payload(self.payload.clone())
            .create_signature(&[], |message| sign(&self.chain[0], message))
            .build()
    }
}

/// A signature by the key of a certificate, with the algorithm that it requires.
pub(in super::super) fn sign(made: &MadeCertificate, message: &[u8]) -> Vec<u8> {
    let pkcs8 = made.key.serialize_der();
    let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8).unwrap();
        pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    };
    let rsa = |encoding: &'static dyn RsaEncoding| {
        let pair = RsaKeyPair::from_pkcs8(&pkcs8).unwrap();
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    };
    match EnvelopeAlgorithm::of(&made.certificate) {
        Some(EnvelopeAlgorithm::Es256) => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
        Some(EnvelopeAlgorithm::Es384) => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
        Some(EnvelopeAlgorithm::Es512) => ecdsa(&ECDSA_P521_SHA512_FIXED_SIGNING),
        Some(EnvelopeAlgorithm::Ps256) => rsa(&RSA_PSS_SHA256),
        Some(EnvelopeAlgorithm::Ps384) => rsa(&RSA_PSS_SHA384),
        Some(EnvelopeAlgorithm::Ps512) => rsa(&RSA_PSS_SHA512),
        None => vec![0; 64],
    }
}
