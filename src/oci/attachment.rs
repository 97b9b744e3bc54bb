//! Attachments: manifests that carry signatures, attestations or SBOMs and nothing that can be run.
//!
//! They are served for images that are denied, so "attachment" is proven from the bytes: every layer parses whole as what
//! its media type claims, which for all but COSE is JSON. Such bytes are neither gzip, zstd, bzip2 nor xz, whose first
//! bytes begin no JSON text. An old tar header can be written without a NUL and so within a JSON text; therefore no
//! block of an attachment may have a valid tar header either. What no runtime can unpack, none can run, whatever the
//! configuration says.

use bytes::Bytes;
use serde_json::Value;

use super::digest::Digest;
use super::json;
use super::manifest::{Content, Descriptor, Manifest};
use super::media_type;
use super::payload::{Envelope, IN_TOTO, InvalidPayload, SimpleSigning, Statement};
use super::sniff;

/// The most layers of an attachment: cosign's own limit.
const MAX_LAYERS: usize = 1000;

/// The largest COSE signature, in bytes.
const MAX_COSE: usize = 64 * 1024;

/// Proves that an image manifest is an attachment. `config` and `layers` are the whole blobs that it names, in its order;
/// the caller bounds their sizes.
///
/// # Errors
/// Why it may be something that runs, so that it has to be judged as an image.
pub fn is_attachment(manifest: &Manifest, config: &[u8], layers: &[Bytes]) -> Result<(), NotAttachment> {
    let Content::Image { config: config_descriptor, layers: descriptors } = &manifest.content else {
        return Err(NotAttachment::Index);
    };
    if descriptors.is_empty() || descriptors.len() > MAX_LAYERS || descriptors.len() != layers.len() {
        return Err(NotAttachment::Layers);
    }
    check_bytes(config_descriptor, config)?;
    if !matches!(json::parse(config, &[], &[]), Ok(Value::Object(_))) || sniff::holds_archive(config) {
        return Err(NotAttachment::Config);
    }
    descriptors.iter().zip(layers).try_for_each(|(descriptor, bytes)| check_layer(descriptor, bytes))
}

fn check_layer(descriptor: &Descriptor, bytes: &[u8]) -> Result<(), NotAttachment> {
    check_bytes(descriptor, bytes)?;
    if let Some(format) = sniff::looks_like_archive(bytes) {
        return Err(NotAttachment::Archive(descriptor.digest, format));
    }
    if sniff::holds_archive(bytes) {
        return Err(NotAttachment::Archive(descriptor.digest, "tar"));
    }
    let refused = |why| NotAttachment::Layer(descriptor.digest, descriptor.media_type.clone(), why);
    check_content(&media_type::essence(&descriptor.media_type), bytes).map_err(refused)
}

fn check_bytes(descriptor: &Descriptor, bytes: &[u8]) -> Result<(), NotAttachment> {
    if Digest::of(descriptor.digest.algorithm(), bytes) == descriptor.digest {
        Ok(())
    } else {
        Err(NotAttachment::Bytes(descriptor.digest))
    }
}

/// Whether the bytes are what the media type claims. Types that nothing here can prove are refused.
fn check_content(media_type: &str, bytes: &[u8]) -> Result<(), &'static str> {
    let invalid = |_: InvalidPayload| "it is not what its media type claims";
    match media_type {
        "application/vnd.dev.cosign.simplesigning.v1+json" => SimpleSigning::parse(bytes).map(drop).map_err(invalid),
        "application/vnd.dsse.envelope.v1+json" => check_envelope(&Envelope::parse(bytes).map_err(invalid)?),
        IN_TOTO => Statement::parse(bytes).map(drop).map_err(invalid),
        "application/spdx+json" | "text/spdx+json" => has_texts(bytes, &["spdxVersion"]),
        "application/vnd.cyclonedx+json" => has_texts(bytes, &["bomFormat"]),
        "application/jose+json" => has_texts(bytes, &["payload", "protected", "signature"]),
        "application/cose" if bytes.len() <= MAX_COSE && cbor::is_sign1(bytes) => Ok(()),
        "application/cose" => Err("it is no COSE_Sign1"),
        bundle if bundle.starts_with("application/vnd.dev.sigstore.bundle") => check_bundle(bytes),
        _ => Err("the media type is none of a signature, attestation or SBOM"),
    }
}

fn check_envelope(envelope: &Envelope) -> Result<(), &'static str> {
    if envelope.payload_type != IN_TOTO {
        return Err("its payload is no in-toto statement");
    }
    Statement::parse(&envelope.payload).map(drop).map_err(|_| "its payload is no in-toto statement")
}

/// A Sigstore bundle (protobuf-specs, sigstore_bundle.proto), by its shape.
fn check_bundle(bytes: &[u8]) -> Result<(), &'static str> {
    let bundle = json::parse(bytes, &[], &[]).map_err(|_| "it is not strict JSON")?;
    let is_object = |key| bundle.get(key).is_some_and(Value::is_object);
    if !is_object("verificationMaterial") {
        return Err("it is no Sigstore bundle");
    }
    match bundle.get("dsseEnvelope") {
        Some(envelope) => check_envelope(&Envelope::from_json(envelope).map_err(|_| "its envelope is malformed")?),
        None if is_object("messageSignature") => Ok(()),
        None => Err("it is a Sigstore bundle without a signature"),
    }
}

fn has_texts(bytes: &[u8], keys: &[&str]) -> Result<(), &'static str> {
    let value = json::parse(bytes, &[], &[]).map_err(|_| "it is not strict JSON")?;
    let has = |key: &&str| value.get(key).is_some_and(Value::is_string);
    if keys.iter().all(has) { Ok(()) } else { Err("it is not what its media type claims") }
}

/// Just enough CBOR (RFC 8949) to see that some bytes are one COSE_Sign1 (RFC 9052, section 4.2) and nothing else.
mod cbor {
    /// A COSE_Sign1 is tag 18 over an array of four.
    pub(super) fn is_sign1(bytes: &[u8]) -> bool {
        bytes.starts_with(&[0xd2, 0x84]) && skip(bytes, 0).is_some_and(<[u8]>::is_empty)
    }

    /// What follows the first item; `None` when it is malformed or of indefinite length, which COSE does not need.
    fn skip(bytes: &[u8], depth: u32) -> Option<&[u8]> {
        let (first, rest) = bytes.split_first()?;
        let (argument, rest) = argument(first & 31, rest)?;
        let items = match first >> 5 {
            0 | 1 | 7 => 0,
            2 | 3 => return rest.get(usize::try_from(argument).ok()?..),
            4 => argument,
            5 => argument.checked_mul(2)?,
            _ => 1,
        };
        // Each item is at least a byte, so the loop ends with the input.
        (0..items).try_fold(rest, |rest, _| if depth < 16 { skip(rest, depth + 1) } else { None })
    }

    fn argument(info: u8, rest: &[u8]) -> Option<(u64, &[u8])> {
        let length = match info {
            0..=23 => return Some((info.into(), rest)),
            24..=27 => 1 << (info - 24),
            _ => return None,
        };
        let (bytes, rest) = rest.split_at_checked(length)?;
        Some((bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)), rest))
    }
}

/// Why a manifest is not proven to be an attachment.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAttachment {
    /// A layer is an archive, which runtimes unpack.
    #[error("{0} is a {1} archive")]
    Archive(Digest, &'static str),
    /// The bytes that were given are not those that the manifest names.
    #[error("the bytes do not have the digest {0}")]
    Bytes(Digest),
    /// The configuration is no JSON object, or a tar too.
    #[error("its configuration is not just a JSON object")]
    Config,
    /// An index lists manifests.
    #[error("it is an index")]
    Index,
    /// A layer is not what its media type claims.
    #[error("{0} ({1:?}): {2}")]
    Layer(Digest, String, &'static str),
    /// No layer, too many, or not all of them are given.
    #[error("it has no layer, or more than 1000")]
    Layers,
}

#[cfg(test)]
mod tests;
