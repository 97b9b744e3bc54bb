//! An instance of Sigstore made in the test: a certificate authority like Fulcio, a certificate log, a signature log like
//! Rekor (versions 1 and 2), a time-stamping authority, and the trusted root that names them. Everything is deterministic
//! except keys; every time is given, in seconds since 1970.

#![allow(dead_code, reason = "each user needs a part of it")]

#[path = "sigstore/entries.rs"]
mod entries;
#[path = "sigstore/stamps.rs"]
mod stamps;

use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber, SigningKey as _, date_time_ymd,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use x509_cert::der::{Decode as _, Encode as _};

use stamps::der;

/// The media type of bundles of version 0.3.
pub(crate) const BUNDLE_V03: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// 2024-01-01: when everything was signed, unless a test says otherwise.
pub(crate) const SIGNED_AT: i64 = 1_704_067_200;
/// Ten years.
const LONG: i64 = 10 * 365 * 86_400;

/// One instance of Sigstore.
pub(crate) struct Instance {
    authority: Issuer<'static, KeyPair>,
    authority_der: Vec<u8>,
    authority_spki: Vec<u8>,
    /// The certificates above that of the authority, in DER.
    above: Vec<Vec<u8>>,
    certificate_log: Log,
    signature_log: Log,
    timestamps: Issuer<'static, KeyPair>,
    timestamps_root: Vec<u8>,
    stamper: KeyPair,
    stamper_der: Vec<u8>,
}

/// A log with its key.
struct Log {
    key: EcdsaKeyPair,
    spki: Vec<u8>,
}

/// A signer with a certificate.
pub(crate) struct Leaf {
    key: KeyPair,
    /// The certificate in DER.
    pub(crate) der: Vec<u8>,
}

/// What a certificate says.
#[derive(Clone)]
pub(crate) struct Subject {
    /// The URL, or the email address if it has an `@` and no `:`.
    pub(crate) identities: Vec<&'static str>,
    pub(crate) issuer: &'static str,
    /// Fulcio's extensions by their last number; those below 8 are written as plain text.
    pub(crate) claims: Vec<(u64, &'static str)>,
    pub(crate) from: i64,
    pub(crate) until: i64,
    pub(crate) purpose: ExtendedKeyUsagePurpose,
    pub(crate) is_logged: bool,
}

impl Default for Subject {
    fn default() -> Self {
        Self {
            identities: vec![IDENTITY],
            issuer: ISSUER,
            claims: vec![(12, "https://github.com/acme/app"), (14, "refs/heads/main"), (4, "Release")],
            from: SIGNED_AT - 60,
            until: SIGNED_AT + 600,
            purpose: ExtendedKeyUsagePurpose::CodeSigning,
            is_logged: true,
        }
    }
}

/// The default identity of a signer.
pub(crate) const IDENTITY: &str = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main";
/// The default issuer.
pub(crate) const ISSUER: &str = "https://token.actions.githubusercontent.com";

/// How a signature is logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Logging {
    /// Rekor version 1: a promise with a time, and a proof of inclusion.
    V1,
    /// Rekor version 2: a proof of inclusion alone.
    V2,
    None,
}

/// What is signed.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    /// A statement in a DSSE envelope.
    Statement(&'a Value),
    /// Bytes, directly.
    Message(&'a [u8]),
}

/// Who vouches for the time and the publication of a signature.
#[derive(Clone, Copy)]
pub(crate) struct Witnessed {
    pub(crate) logging: Logging,
    pub(crate) is_stamped: bool,
    pub(crate) at: i64,
}

impl Default for Witnessed {
    fn default() -> Self {
        Self { logging: Logging::V1, is_stamped: false, at: SIGNED_AT }
    }
}

impl Instance {
    /// An instance whose certificates are valid for ten years around [`SIGNED_AT`].
    pub(crate) fn new() -> Self {
        Self::with_authority_until(SIGNED_AT + LONG)
    }

    /// An instance whose certificate authority's certificate expires at this time.
    pub(crate) fn with_authority_until(until: i64) -> Self {
        let (authority, authority_der, authority_spki) = root("test-fulcio", until);
        let (timestamps, timestamps_root, _) = root("test-tsa-root", SIGNED_AT + LONG);
        let (stamper, stamper_der) = stamper(&timestamps, SIGNED_AT + LONG);
        let [certificate_log, signature_log] = [Log::new(), Log::new()];
        Self {
            authority,
            authority_der,
            authority_spki,
            above: Vec::new(),
            certificate_log,
            signature_log,
            timestamps,
            timestamps_root,
            stamper,
            stamper_der,
        }
    }

    /// The same instance, with time stamps by an authority whose certificate expires at `until`, below a root that expires at
    /// `root_until`.
    pub(crate) fn with_stamper_until(mut self, until: i64, root_until: i64) -> Self {
        (self.timestamps, self.timestamps_root, _) = root("test-tsa-root", root_until);
        (self.stamper, self.stamper_der) = stamper(&self.timestamps, until);
        self
    }

    /// The same instance with an intermediate authority, which issues to signers and expires at this time. `change`
    /// changes what its certificate says.
    pub(crate) fn with_intermediate(mut self, until: i64, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params("test-intermediate", SIGNED_AT - LONG, until);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        change(&mut params);
        let der = params.signed_by(&key, &self.authority).unwrap().der().to_vec();
        self.above.insert(0, std::mem::replace(&mut self.authority_der, der));
        self.authority_spki = key.subject_public_key_info();
        self.authority = Issuer::new(params, key);
        self
    }

    /// The trusted root, as JSON.
    pub(crate) fn trusted_root(&self) -> Value {
        let window = json!({"start": time(SIGNED_AT - LONG)});
        let chain = |certificates: &[&[u8]]| {
            let raw = certificates.iter().map(|der| json!({"rawBytes": STANDARD.encode(der)}));
            json!({"certificates": raw.collect::<Vec<_>>()})
        };
        let authorities: Vec<&[u8]> = [&self.authority_der].into_iter().chain(&self.above).map(Vec::as_slice).collect();
        let subject = json!({"organization": "test", "commonName": "test"});
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self.signature_log.entry("https://rekor.test")],
            "ctlogs": [self.certificate_log.entry("https://ct.test")],
            "certificateAuthorities": [{
                "subject": subject, "uri": "https://fulcio.test", "certChain": chain(&authorities),
                "validFor": window
            }],
            "timestampAuthorities": [{
                "subject": subject, "uri": "https://tsa.test", "certChain": chain(&[&self.stamper_der, &self.timestamps_root]),
                "validFor": window
            }]
        })
    }

    /// A certificate for a new key.
    pub(crate) fn issue(&self, subject: &Subject) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = params("", subject.from, subject.until);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from(4711_u64));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![subject.purpose.clone()];
        let name = |text: &&'static str| match text.contains('@') && !text.contains(':') {
            true => SanType::Rfc822Name((*text).try_into().unwrap()),
            false => SanType::URI((*text).try_into().unwrap()),
        };
        params.subject_alt_names = subject.identities.iter().map(name).collect();
        let issuer = (8, subject.issuer);
        for (number, text) in subject.claims.iter().chain([&issuer]) {
            let content = if *number < 8 { text.as_bytes().to_vec() } else { der(0x0c, text.as_bytes()) };
            let oid = [1, 3, 6, 1, 4, 1, 57264, 1, *number];
            params.custom_extensions.push(CustomExtension::from_oid_content(&oid, content));
        }
        if subject.is_logged {
            let without = params.clone().signed_by(&key, &self.authority).unwrap();
            let sct = self.certificate_timestamp(without.der(), subject.from);
            let list = [&length_16(&length_16(&sct))[..]].concat();
            let oid = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];
            params.custom_extensions.push(CustomExtension::from_oid_content(&oid, der(0x04, &list)));
        }
        let der = params.signed_by(&key, &self.authority).unwrap().der().to_vec();
        Leaf { key, der }
    }

    /// A promise of the certificate log (RFC 6962, section 3.2) for a certificate without it.
    fn certificate_timestamp(&self, certificate: &[u8], at: i64) -> Vec<u8> {
        let tbs = x509_cert::Certificate::from_der(certificate).unwrap().tbs_certificate.to_der().unwrap();
        let at = (at * 1000).to_be_bytes();
        let issuer = sha256(&self.authority_spki);
        let size = &u32::try_from(tbs.len()).unwrap().to_be_bytes()[1..];
        let signed = [&[0, 0][..], &at, &[0, 1], &issuer, size, &tbs, &[0, 0]].concat();
        let signature = self.certificate_log.sign(&signed);
        [&[0][..], &self.certificate_log.id(), &at, &[0, 0, 4, 3], &length_16(&signature)].concat()
    }

    /// A bundle of version 0.3.
    pub(crate) fn bundle(&self, leaf: &Leaf, content: Content<'_>, witnessed: Witnessed) -> Value {
        let pem = pem("CERTIFICATE", &leaf.der);
        let material = json!({"certificate": {"rawBytes": STANDARD.encode(&leaf.der)}});
        self.witnessed(&|message| leaf.sign(message), material, &pem, content, witnessed)
    }

    /// A bundle of a signature by a key that is given in PEM.
    pub(crate) fn bundle_by_key(
        &self,
        sign: &dyn Fn(&[u8]) -> Vec<u8>,
        pem: &str,
        content: Content<'_>,
        witnessed: Witnessed,
    ) -> Value {
        self.witnessed(sign, json!({"publicKey": {"hint": ""}}), pem, content, witnessed)
    }

    /// The annotations of a classic keyless signature of a payload, as cosign writes them.
    pub(crate) fn classic_annotations(&self, leaf: &Leaf, payload: &[u8], witnessed: Witnessed) -> Value {
        let bundle = self.bundle(leaf, Content::Message(payload), witnessed);
        let chain = pem("CERTIFICATE", &self.authority_der);
        let mut annotations = json!({
            "dev.cosignproject.cosign/signature": bundle["messageSignature"]["signature"],
            "dev.sigstore.cosign/certificate": pem("CERTIFICATE", &leaf.der),
            "dev.sigstore.cosign/chain": chain
        });
        let material = &bundle["verificationMaterial"];
        if let Some(entry) = material["tlogEntries"].get(0) {
            annotations["dev.sigstore.cosign/bundle"] = self.classic_log_entry(entry).to_string().into();
        }
        if let Some(stamp) = material["timestampVerificationData"]["rfc3161Timestamps"].get(0) {
            let stamp = json!({"SignedRFC3161Timestamp": stamp["signedTimestamp"]}).to_string();
            annotations["dev.sigstore.cosign/rfc3161timestamp"] = stamp.into();
        }
        annotations
    }

    /// The entry of a bundle in the form that classic signatures carry.
    pub(crate) fn classic_log_entry(&self, entry: &Value) -> Value {
        let at: i64 = entry["integratedTime"].as_str().unwrap().parse().unwrap();
        json!({
            "SignedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
            "Payload": {
                "body": entry["canonicalizedBody"], "integratedTime": at, "logIndex": 1,
                "logID": hex(&self.signature_log.id())
            }
        })
    }
}

impl Leaf {
    /// Signs with ECDSA over P-256 and SHA-256.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).unwrap()
    }
}

impl Content<'_> {
    /// What the signature is made over.
    fn signed_bytes(self) -> Vec<u8> {
        match self {
            Self::Message(bytes) => bytes.to_vec(),
            Self::Statement(statement) => {
                let (kind, payload) = ("application/vnd.in-toto+json", statement.to_string());
                format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len()).into_bytes()
            }
        }
    }
}

impl Log {
    fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let spki = key.public_key().as_der().unwrap().as_ref().to_vec();
        Self { key, spki }
    }

    fn id(&self) -> [u8; 32] {
        sha256(&self.spki)
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    fn entry(&self, url: &str) -> Value {
        json!({
            "baseUrl": url, "hashAlgorithm": "SHA2_256", "logId": {"keyId": STANDARD.encode(self.id())},
            "publicKey": {
                "rawBytes": STANDARD.encode(&self.spki), "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": {"start": time(SIGNED_AT - LONG)}
            }
        })
    }
}

/// A PEM block.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let lines: Vec<&str> = encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A time in RFC 3339.
pub(crate) fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap().to_string()
}

/// The key of a time-stamping authority, and its certificate.
fn stamper(issuer: &Issuer<'_, KeyPair>, until: i64) -> (KeyPair, Vec<u8>) {
    let stamper = KeyPair::generate().unwrap();
    let mut params = params("test-tsa", SIGNED_AT - LONG, until);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::TimeStamping];
    let der = params.signed_by(&stamper, issuer).unwrap().der().to_vec();
    (stamper, der)
}

fn root(name: &str, until: i64) -> (Issuer<'static, KeyPair>, Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let mut params = params(name, SIGNED_AT - LONG, until);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let der = params.self_signed(&key).unwrap().der().to_vec();
    let spki = key.subject_public_key_info();
    (Issuer::new(params, key), der, spki)
}

fn params(name: &str, from: i64, until: i64) -> CertificateParams {
    let at = |seconds: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.try_into().unwrap());
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (at(from), at(until));
    params
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A length in two bytes, and the content.
fn length_16(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}
