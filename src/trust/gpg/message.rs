//! Verifies an OpenPGP signed message (RFC 9580, section 10.3; RFC 4880, section 11.3).
//!
//! sequoia-openpgp verifies the signature, and the signing key's bindings, flags, expiry and revocation as of the time
//! of signing. Four things are added here. The message has exactly the packets of a signature, checked with bounds
//! before anything is verified. The key must still be valid now: a key that has expired or was revoked since does not
//! count, as in GnuPG. Copies of one certificate are merged, so that a revocation in any of them counts. And every
//! reason describes the problem.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::time::SystemTime;

use jiff::Timestamp;
use sequoia_openpgp::anyhow::{Error, anyhow};
use sequoia_openpgp::cert::amalgamation::{ValidAmalgamation, ValidateAmalgamation};
use sequoia_openpgp::packet::Tag;
use sequoia_openpgp::parse::stream::{
    GoodChecksum, MessageLayer, MessageStructure, VerificationError, VerificationHelper, VerifierBuilder,
};
use sequoia_openpgp::parse::{Dearmor, PacketParser, PacketParserBuilder, PacketParserResult, Parse};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::RevocationStatus;
use sequoia_openpgp::{Cert, Fingerprint, KeyHandle, Packet};

use super::RefusedSignature;
use crate::policy::KeyRing;

/// The largest message, in bytes. Real ones have about a thousand.
pub(super) const MAX_MESSAGE: usize = 64 * 1024;
/// The largest payload, in bytes, decompressed. Real ones have a few hundred.
const MAX_PAYLOAD: usize = 256 * 1024;
/// The maximum number of packets that are read. A signature has at most four: compressed data, the announcement of the
/// signature, what is signed, and the signature.
const MAX_PACKETS: usize = 8;
/// The deepest nesting of packets: compressed data that contains the signed message.
const MAX_DEPTH: u8 = 2;

/// A message whose signature is valid.
#[derive(Debug)]
pub(super) struct SignedMessage {
    /// What was signed.
    pub(super) payload: Vec<u8>,
    pub(super) signer: MessageSigner,
}

/// Who signed a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct MessageSigner {
    /// See [`KeyRing::signer`].
    pub(super) id: String,
    /// The fingerprint of the primary key, in upper-case hexadecimal.
    pub(super) fingerprint: String,
    /// A user ID of the key.
    pub(super) user: Option<String>,
    /// When the signature or the key expires, whichever is first.
    pub(super) until: Option<Timestamp>,
}

/// Verifies a message with keys. Several keys may be given; one of them must have made the only signature.
///
/// # Errors
/// Why the message does not count.
pub(super) fn verify<'a>(
    bytes: &[u8],
    certificates: impl Iterator<Item = &'a Cert>,
    now: Timestamp,
) -> Result<SignedMessage, RefusedSignature> {
    check_form(bytes)?;
    let time = SystemTime::from(now);
    let mut policy = StandardPolicy::at(time);
    // GnuPG before 2.1, which some signing services run, can write version 3. Such a signature has no expiry and no
    // notations, and is otherwise as strong as one of version 4.
    policy.accept_packet_tag_version(Tag::Signature, 3);
    let check = SignatureCheck { certificates: certificates.collect(), policy: &policy, time, verdict: None };
    let error = |error: Error| format!("{error:#}");
    let builder = VerifierBuilder::from_bytes(bytes).map_err(error)?.buffer_size(MAX_PAYLOAD);
    let mut verifier = builder.with_policy(&policy, time, check).map_err(error)?;
    let mut payload = Vec::new();
    let read = verifier.read_to_end(&mut payload);
    // A failed check also fails the read; its reason is the better one.
    let signer = verifier.into_helper().verdict.unwrap_or_else(|| Err("its signature was not verified".into()))?;
    read.map_err(|error| error.to_string())?;
    Ok(SignedMessage { payload, signer })
}

/// Why a message with more than [`MAX_MESSAGE`] bytes does not count.
pub(super) fn too_large() -> RefusedSignature {
    format!("is larger than {MAX_MESSAGE} bytes").into()
}

/// Checks that the message consists of one signature and what it signs, optionally compressed, and of nothing else.
fn check_form(bytes: &[u8]) -> Result<(), RefusedSignature> {
    if bytes.len() > MAX_MESSAGE {
        return Err(too_large());
    }
    if bytes.starts_with(b"-----BEGIN PGP SIGNED MESSAGE") {
        return Err("is a cleartext signature, not a signed message".into());
    }
    if bytes.starts_with(b"-----BEGIN PGP") {
        let hint = "sign without --armor, or remove it with gpg --dearmor";
        return Err(RefusedSignature::with_hint("is ASCII-armoured, but signatures must be stored in binary", hint));
    }
    let malformed = |error: Error| format!("is not an OpenPGP message: {error:#}");
    let builder = PacketParserBuilder::from_bytes(bytes).map_err(malformed)?;
    let builder = builder.dearmor(Dearmor::Disabled).max_recursion_depth(MAX_DEPTH).max_packet_size(MAX_MESSAGE as u32);
    let mut next = builder.automatic_hashing(false).build().map_err(malformed)?;
    let mut form = MessageForm::default();
    while let PacketParserResult::Some(mut packet) = next {
        form.add(&mut packet)?;
        next = packet.recurse().map_err(malformed)?.1;
    }
    form.finish()?;
    match next {
        PacketParserResult::EOF(end) => Ok(end.is_message().map_err(malformed)?),
        PacketParserResult::Some(_) => Err("is not an OpenPGP message".into()),
    }
}

/// The packets of a message so far.
#[derive(Default)]
struct MessageForm {
    packets: usize,
    /// Whether a one-pass signature packet announced the signature.
    is_announced: bool,
    signatures: usize,
    payloads: usize,
}

impl MessageForm {
    fn add(&mut self, parser: &mut PacketParser<'_>) -> Result<(), String> {
        self.packets += 1;
        if self.packets > MAX_PACKETS {
            return Err(format!("has more than {MAX_PACKETS} packets"));
        }
        let is_first = self.packets == 1;
        match &parser.packet {
            Packet::CompressedData(_) if is_first => return Ok(()),
            Packet::CompressedData(_) if parser.recursion_depth() == 0 => return Err("is more than one message".into()),
            Packet::CompressedData(_) => return Err("is compressed more than once".into()),
            Packet::OnePassSig(_) => {
                self.is_announced = true;
                return Ok(());
            }
            Packet::Signature(_) => self.signatures += 1,
            Packet::Literal(_) => {
                self.payloads += 1;
                let mut limited = parser.take(MAX_PAYLOAD as u64 + 1);
                let size = std::io::copy(&mut limited, &mut std::io::sink()).map_err(|error| error.to_string())?;
                if size > MAX_PAYLOAD as u64 {
                    return Err(format!("its payload is larger than {MAX_PAYLOAD} bytes"));
                }
            }
            Packet::PKESK(_) | Packet::SKESK(_) | Packet::SEIP(_) => return Err("is encrypted".into()),
            Packet::Unknown(unknown) => return Err(format!("has a packet that cannot be read: {}", unknown.error())),
            other => return Err(format!("has a packet that does not belong in a signature: {}", other.tag())),
        }
        match self {
            Self { signatures: 2.., .. } => Err("has more than one signature".into()),
            Self { payloads: 2.., .. } => Err("is more than one message".into()),
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<(), String> {
        match self {
            Self { payloads: 0, signatures: 1.., .. } => Err("is a detached signature, without what it signs".into()),
            Self { payloads: 0, .. } => Err("contains nothing that is signed".into()),
            Self { signatures: 0, .. } => Err("is not signed".into()),
            Self { is_announced: false, .. } => Err("is in the format of PGP 2, which is not supported".into()),
            _ => Ok(()),
        }
    }
}

/// Judges the signature of one message.
struct SignatureCheck<'p> {
    certificates: Vec<&'p Cert>,
    policy: &'p StandardPolicy<'p>,
    time: SystemTime,
    verdict: Option<Result<MessageSigner, RefusedSignature>>,
}

impl VerificationHelper for SignatureCheck<'_> {
    /// The certificates with these keys. A ring to which a newer export of a key was appended contains its certificate
    /// twice, and so do two rings with the same key. As in GnuPG, which imports them all, these are one certificate.
    fn get_certs(&mut self, keys: &[KeyHandle]) -> sequoia_openpgp::Result<Vec<Cert>> {
        let has_key = |cert: &&&Cert| cert.keys().key_handles(keys).next().is_some();
        let named: BTreeSet<Fingerprint> =
            self.certificates.iter().filter(has_key).map(|cert| cert.fingerprint()).collect();
        let mut merged: BTreeMap<Fingerprint, Cert> = BTreeMap::new();
        for copy in self.certificates.iter().filter(|cert| named.contains(&cert.fingerprint())) {
            let whole = match merged.remove(&copy.fingerprint()) {
                Some(known) => known.merge_public(Cert::clone(copy))?,
                None => Cert::clone(copy),
            };
            merged.insert(whole.fingerprint(), whole);
        }
        Ok(merged.into_values().collect())
    }

    fn check(&mut self, structure: MessageStructure<'_>) -> sequoia_openpgp::Result<()> {
        let verdict = self.judge(structure);
        let result = verdict.as_ref().map(drop).map_err(|refused| anyhow!("{}", refused.why));
        self.verdict = Some(verdict);
        result
    }
}

impl SignatureCheck<'_> {
    fn judge(&self, structure: MessageStructure<'_>) -> Result<MessageSigner, RefusedSignature> {
        let mut results = Vec::new();
        for layer in structure {
            match layer {
                MessageLayer::Compression { .. } => {}
                MessageLayer::Encryption { .. } => return Err("is encrypted".into()),
                MessageLayer::SignatureGroup { results: more } => results.extend(more),
            }
        }
        match (results.pop(), results.is_empty()) {
            (Some(Ok(good)), true) => self.judge_key(&good),
            (Some(Err(bad)), true) => Err(reason(&bad)),
            (None, _) => Err("is not signed".into()),
            (Some(_), false) => Err("has more than one signature".into()),
        }
    }

    /// The signature is valid, and the key was valid when it was made. Is the key valid now?
    fn judge_key(&self, good: &GoodChecksum<'_>) -> Result<MessageSigner, RefusedSignature> {
        let GoodChecksum { sig, ka } = good;
        let handle = ka.key().key_handle();
        let current = ka.with_policy(self.policy, self.time);
        let is_over = |error: Error| {
            let hint = "if the key is still yours, extend its validity and export it again";
            RefusedSignature::with_hint(format!("its key {handle} is not valid now: {error:#}"), hint)
        };
        let current = current.map_err(is_over)?;
        let certificate = current.valid_cert();
        for revocation in [certificate.revocation_status(), current.revocation_status()] {
            match revocation {
                RevocationStatus::NotAsFarAsWeKnow => {}
                RevocationStatus::Revoked(_) => return Err(format!("its key {handle} is revoked").into()),
                RevocationStatus::CouldBe(_) => {
                    return Err(format!("its key {handle} may have been revoked by another key").into());
                }
            }
        }
        let alive = certificate.alive().and_then(|()| current.alive());
        alive.map_err(is_over)?;
        let primary = certificate.primary_key();
        // A binding signature can expire itself, without an expiry of the key.
        let ends = [
            sig.signature_expiration_time(),
            current.key_expiration_time(),
            primary.key_expiration_time(),
            current.binding_signature().signature_expiration_time(),
            primary.binding_signature().signature_expiration_time(),
        ];
        Ok(MessageSigner {
            id: KeyRing::signer(certificate.cert()),
            fingerprint: certificate.fingerprint().to_hex(),
            user: certificate.userids().next().map(|user| user.userid().to_string()),
            until: ends.into_iter().flatten().min().and_then(|end| Timestamp::try_from(end).ok()),
        })
    }
}

/// Why a signature is not valid.
fn reason(error: &VerificationError<'_>) -> RefusedSignature {
    let why = match error {
        VerificationError::MissingKey { sig } => {
            let Some(issuer) = sig.get_issuers().into_iter().next() else {
                return "does not say which key made it".into();
            };
            let why = format!("was made by the key {issuer}, which is not in the key ring");
            return RefusedSignature::with_hint(why, "sign with a key of the ring, or add the signer's key to it");
        }
        VerificationError::UnboundKey { cert, error, .. } => {
            format!("its key is not a valid key of {}: {error:#}", cert.fingerprint())
        }
        VerificationError::BadKey { ka, error, .. } => {
            format!("its key {} was not valid when it was made: {error:#}", ka.key().fingerprint())
        }
        VerificationError::BadSignature { error, .. } => format!("its signature is not valid: {error:#}"),
        VerificationError::MalformedSignature { error, .. } => format!("its signature is malformed: {error:#}"),
        VerificationError::UnknownSignature { sig } => format!("its signature cannot be read: {}", sig.error()),
        _ => "its signature is not valid".into(),
    };
    why.into()
}

#[cfg(test)]
mod tests;
