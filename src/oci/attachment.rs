//! Attachments: manifests that carry signatures, attestations or SBOMs and nothing that can be run.
//!
//! They are served for images that are denied, so "attachment" is proven from the bytes, twice. Every layer parses whole as
//! what its media type claims, which for all but COSE is JSON, and no block of it can be a tar header to any reader: an old
//! header can be written without a NUL and so within a JSON text. And the configuration says nothing that could be run, so
//! that a fault in one of the two proofs still lets nothing through.

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

/// Whether the bytes are what the media type claims. Types that nothing here can prove are refused.
fn check_content(media_type: &str, bytes: &[u8]) -> Result<(), &'static str> {
    let invalid = |_: InvalidPayload| "it is not what its media type claims";
    match media_type {
        "application/vnd.dev.cosign.simplesigning.v1+json" => SimpleSigning::parse(bytes).map(drop).map_err(invalid),
        "application/vnd.dsse.envelope.v1+json" => check_envelope(&Envelope::parse(bytes).map_err(invalid)?),
        IN_TOTO => Statement::parse(bytes).map(drop).map_err(invalid),
        "application/spdx+json" | "text/spdx+json" => has_texts(bytes, &["spdxVersion", "SPDXID"]),
        "application/vnd.cyclonedx+json" => has_texts(bytes, &["bomFormat", "specVersion"]),
        "application/jose+json" => Jws::parse(bytes).map(drop).map_err(invalid),
        "application/cose" if holds_packed(bytes) => Err("it holds something packed"),
        "application/cose" if bytes.len() <= MAX_COSE && cose::is_sign1(bytes) => Ok(()),
        "application/cose" => Err("it is no COSE_Sign1"),
        bundle if bundle.starts_with("application/vnd.dev.sigstore.bundle") => check_bundle(bytes),
        _ => Err("the media type is none of a signature, attestation or SBOM"),
    }
}

/// Whether a gzip member or a zstd frame begins anywhere: the other types are text, in which neither can.
fn holds_packed(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|four| matches!(four, [0x1f, 0x8b, 8, 0..=0x1f] | [0x28, 0xb5, 0x2f, 0xfd]))
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

/// Why a manifest is not proven to be an attachment.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAttachment {
    /// A layer is an archive, which runtimes unpack.
    #[error("{0} is a {1} archive")]
    Archive(Digest, &'static str),
    /// The bytes that were given are not those that the manifest names.
    #[error("the bytes do not have the digest {0}")]
    Bytes(Digest),
    /// The configuration is no JSON object, a tar too, or something that could be run.
    #[error("its configuration may be an image's")]
    Config,
    /// An index lists manifests.
    #[error("it is an index")]
    Index,
    /// A layer has a table of contents beside it, by which some client would read it.
    #[error("{0} has annotations by which clients read layers in part")]
    Lazy(Digest),
    /// A layer is not what its media type claims.
    #[error("{0} ({1:?}): {2}")]
    Layer(Digest, String, &'static str),
    /// No layer, too many, or not all of them are given.
    #[error("it has no layer, or more than 1000")]
    Layers,
}

#[cfg(test)]
mod tests;
