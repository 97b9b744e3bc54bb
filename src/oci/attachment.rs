//! Attachments: manifests that carry signatures, attestations or SBOMs and nothing that can be run.
//!
//! Attachments are served even for denied images, so the bytes must prove in two ways that a manifest is one. First,
//! every layer must parse completely as its media type, which for all types except COSE is JSON, and no block of it may
//! be a tar header to any reader: old-style headers can be written without a NUL, and so within JSON text. Second, the
//! configuration must contain nothing that can be run. A flaw in either proof alone lets nothing through.

use bytes::Bytes;
use serde_json::Value;

use super::digest::Digest;
use super::json;
use super::layer_types::is_read_lazily;
use super::manifest::{Content, Descriptor, Manifest};
use super::media_type;
use super::payload::{Envelope, IN_TOTO, InvalidPayload, Jws, SimpleSigning, Statement};
use super::sniff;

mod config;
mod cose;

pub(crate) use cose::is_sign1 as is_cose_sign1;

/// The maximum number of layers of an attachment: cosign's own limit.
const MAX_LAYERS: usize = 1000;

/// The maximum size of a COSE signature, in bytes.
const MAX_COSE: usize = 64 * 1024;

/// Checks that an image manifest is an attachment. `config` and `layers` are the complete blobs that it names, in the
/// order of the manifest; the caller bounds their sizes.
///
/// # Errors
/// The reason why it may be runnable and has to be judged as an image.
pub fn is_attachment(manifest: &Manifest, config: &[u8], layers: &[Bytes]) -> Result<(), NotAttachment> {
    let Content::Image { config: config_descriptor, layers: descriptors } = &manifest.content else {
        return Err(NotAttachment::Index);
    };
    if descriptors.is_empty() || descriptors.len() > MAX_LAYERS || descriptors.len() != layers.len() {
        return Err(NotAttachment::Layers);
    }
    check_bytes(config_descriptor, config)?;
    if !config::says_nothing_that_runs(config, descriptors) {
        return Err(NotAttachment::Config);
    }
    descriptors.iter().zip(layers).try_for_each(|(descriptor, bytes)| check_layer(descriptor, bytes))
}

fn check_layer(descriptor: &Descriptor, bytes: &[u8]) -> Result<(), NotAttachment> {
    check_bytes(descriptor, bytes)?;
    if is_read_lazily(descriptor) {
        return Err(NotAttachment::Lazy(descriptor.digest));
    }
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

/// Checks that the bytes are what the media type claims. Types that cannot be verified here are refused.
fn check_content(media_type: &str, bytes: &[u8]) -> Result<(), &'static str> {
    let invalid = |_: InvalidPayload| "it is not what its media type claims";
    match media_type {
        "application/vnd.dev.cosign.simplesigning.v1+json" => SimpleSigning::parse(bytes).map(drop).map_err(invalid),
        "application/vnd.dsse.envelope.v1+json" => check_envelope(&Envelope::parse(bytes).map_err(invalid)?),
        IN_TOTO => Statement::parse(bytes).map(drop).map_err(invalid),
        "application/spdx+json" | "text/spdx+json" => has_texts(bytes, &["spdxVersion", "SPDXID"]),
        "application/vnd.cyclonedx+json" => has_texts(bytes, &["bomFormat", "specVersion"]),
        "application/jose+json" => Jws::parse(bytes).map(drop).map_err(invalid),
        "application/cose" if holds_packed(bytes) => Err("it contains compressed data"),
        "application/cose" if bytes.len() <= MAX_COSE && cose::is_sign1(bytes) => Ok(()),
        "application/cose" => Err("it is not a COSE_Sign1"),
        bundle if bundle.starts_with("application/vnd.dev.sigstore.bundle") => check_bundle(bytes),
        _ => Err("the media type is not that of a signature, attestation or SBOM"),
    }
}

/// Whether a gzip member or a zstd frame starts anywhere. The other types are text, which cannot contain either.
fn holds_packed(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|four| matches!(four, [0x1f, 0x8b, 8, 0..=0x1f] | [0x28, 0xb5, 0x2f, 0xfd]))
}

fn check_envelope(envelope: &Envelope) -> Result<(), &'static str> {
    if envelope.payload_type != IN_TOTO {
        return Err("its payload is not an in-toto statement");
    }
    Statement::parse(&envelope.payload).map(drop).map_err(|_| "its payload is not an in-toto statement")
}

/// Checks the structure of a Sigstore bundle (protobuf-specs, sigstore_bundle.proto).
fn check_bundle(bytes: &[u8]) -> Result<(), &'static str> {
    let wanted = ["dsseEnvelope", "messageSignature", "verificationMaterial"];
    let bundle = json::parse_members(bytes, &[], &[], &wanted).map_err(|_| "it is not strict JSON")?;
    let is_object = |key| bundle.get(key).is_some_and(Value::is_object);
    if !is_object("verificationMaterial") {
        return Err("it is not a Sigstore bundle");
    }
    match bundle.get("dsseEnvelope") {
        Some(envelope) => check_envelope(&Envelope::from_json(envelope).map_err(|_| "its envelope is malformed")?),
        None if is_object("messageSignature") => Ok(()),
        None => Err("it is a Sigstore bundle without a signature"),
    }
}

fn has_texts(bytes: &[u8], keys: &[&str]) -> Result<(), &'static str> {
    let value = json::parse_members(bytes, &[], &[], keys).map_err(|_| "it is not strict JSON")?;
    let has = |key: &&str| value.get(key).is_some_and(Value::is_string);
    if keys.iter().all(has) { Ok(()) } else { Err("it is not what its media type claims") }
}

/// Why a manifest is not a proven attachment.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAttachment {
    /// A layer is an archive, which runtimes would unpack.
    #[error("{0} is a {1} archive")]
    Archive(Digest, &'static str),
    /// The supplied bytes do not match the digest in the manifest.
    #[error("the bytes do not have the digest {0}")]
    Bytes(Digest),
    /// The configuration is not a JSON object, is also a tar, or contains something that could be run.
    #[error("its configuration may be an image's")]
    Config,
    /// An index, which lists manifests.
    #[error("it is an index")]
    Index,
    /// A layer has annotations for a table of contents that some clients read instead of the layer.
    #[error("{0} has annotations for partial reads of layers")]
    Lazy(Digest),
    /// A layer is not what its media type claims.
    #[error("{0} ({1:?}): {2}")]
    Layer(Digest, String, &'static str),
    /// There are no layers, too many, or not all of them were supplied.
    #[error("it has no layer, or more than 1000")]
    Layers,
}

#[cfg(test)]
mod tests;
