//! What a manifest is, by its bytes: it is an image unless the bytes prove otherwise.
//!
//! Labels only say whether a proof is worth trying. Clients run manifests whose config type is `application/json`, and
//! unpack any layer that is a tar, so a label alone never makes a manifest anything but an image.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Gate, Target};
use crate::oci::{Content, Descriptor, Digest, Manifest, Repository, is_attachment, media_type, sniff};
use crate::policy::{Kind, Observed};
use crate::upstream::{self, Upstream};

/// How much of a layer shows whether it is an archive, in bytes.
const PREFIX: usize = 64 * 1024;
/// The largest configuration that is read to see that it is no image's, in bytes.
const MAX_CONFIG: usize = 1024 * 1024;
/// The most manifests of a fallback tag that are read for a proof.
const MAX_REFERRERS: usize = 50;
/// The most layers that are read for a proof.
const MAX_LAYERS: usize = 64;

/// What the bytes prove. Depends on bytes alone, so a proof holds for ever.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Proof {
    Artifact,
    Attachment,
    /// The proof was tried and failed.
    Image,
    /// The bytes could not be read now; an image until they can.
    Unread,
}

impl Gate {
    /// What is judged. Never fails: where nothing is proven, it is an image.
    pub(super) async fn kind(&self, target: &Target, manifest: &Arc<Manifest>) -> Kind {
        let Content::Image { config, layers } = &manifest.content else {
            return self.kind_of_index(target, manifest).await;
        };
        self.kind_of_image(target, manifest, config, layers).await
    }

    /// The fallback tag of registries without the referrers API is an index of attachments (distribution-spec,
    /// "Referrers Tag Schema"). It is one itself when every manifest that it lists is proven to be one.
    async fn kind_of_index(&self, target: &Target, manifest: &Manifest) -> Kind {
        let children = manifest.children();
        let names_a_platform = children.iter().any(|child| child.platform.is_some());
        if names_a_platform || children.len() > MAX_REFERRERS {
            return Kind::Index;
        }
        for child in children {
            let found = self.resolver.manifest(&target.upstream, &target.name, child.digest).await;
            let Ok(Content::Image { config, layers }) = found.as_ref().map(|found| &found.content) else {
                return Kind::Index;
            };
            let Ok(found) = &found else { return Kind::Index };
            if self.kind_of_image(target, found, config, layers).await != Kind::Attachment {
                return Kind::Index;
            }
        }
        Kind::Attachment
    }

    async fn kind_of_image(
        &self,
        target: &Target,
        manifest: &Arc<Manifest>,
        config: &Descriptor,
        layers: &[Descriptor],
    ) -> Kind {
        let claim = claim(config, layers, manifest.artifact_type.as_deref(), self.config.attachment_limit);
        let Some(claim) = claim else { return Kind::Image };
        let subject = format!("{}@{}", target.name, manifest.digest).into();
        let (upstream, repository) = (target.upstream.clone(), target.name.repository.clone());
        let (manifest, limit, now) = (manifest.clone(), self.config.attachment_limit, self.clock.now());
        let gather = || async move {
            let value = prove(claim, &upstream, &repository, &manifest, limit).await.unwrap_or(Proof::Unread);
            let until = (value == Proof::Unread).then_some(now);
            Observed { value, at: now, until }
        };
        let proof = self.kinds.obtain(subject, |proof| *proof != Proof::Unread, gather).await;
        match proof.map(|proof| proof.value) {
            Some(Proof::Artifact) => Kind::Artifact,
            Some(Proof::Attachment) => Kind::Attachment,
            Some(Proof::Image | Proof::Unread) | None => Kind::Image,
        }
    }
}

/// What the labels claim, where a proof is worth trying.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Claim {
    Artifact,
    Attachment,
}

fn claim(config: &Descriptor, layers: &[Descriptor], artifact_type: Option<&str>, limit: u64) -> Option<Claim> {
    if layers.len() > MAX_LAYERS {
        return None;
    }
    let is_small = |layer: &Descriptor| layer.size <= limit;
    let claims_attachment = |layer: &Descriptor| is_attachment_type(&media_type::essence(&layer.media_type));
    if !layers.is_empty() && layers.iter().all(|layer| is_small(layer) && claims_attachment(layer)) {
        return Some(Claim::Attachment);
    }
    let config_type = media_type::essence(&config.media_type);
    let is_other = match &*config_type {
        media_type::OCI_EMPTY => artifact_type.is_some(),
        other => !is_image_config_type(other),
    };
    let has_image_layer = layers.iter().any(|layer| is_image_layer_type(&media_type::essence(&layer.media_type)));
    (is_other && !has_image_layer).then_some(Claim::Artifact)
}

/// Types under which signatures, attestations and SBOMs come; whether they are such is proven from the bytes.
fn is_attachment_type(essence: &str) -> bool {
    matches!(
        essence,
        "application/cose"
            | "application/jose+json"
            | "application/spdx+json"
            | "application/vnd.cyclonedx+json"
            | "application/vnd.dev.cosign.simplesigning.v1+json"
            | "application/vnd.dsse.envelope.v1+json"
            | "application/vnd.in-toto+json"
            | "text/spdx+json"
    ) || essence.starts_with("application/vnd.dev.sigstore.bundle")
}

/// Whether some client would run this configuration: by the keys that it needs, in any spelling that Go accepts.
fn is_image_config(bytes: &[u8]) -> bool {
    let config = match serde_json::from_slice(bytes) {
        Ok(Value::Object(config)) => config,
        Ok(_) => return false,
        // Go reads objects that this reader does not: what looks like one counts as an image's.
        Err(_) => return bytes.trim_ascii_start().starts_with(b"{"),
    };
    let has = |key: &str| config.keys().any(|known| known.replace('\u{17f}', "s").eq_ignore_ascii_case(key));
    has("rootfs") || (has("architecture") && has("os"))
}

/// Types under which some client takes the configuration for an image's.
fn is_image_config_type(essence: &str) -> bool {
    let generic = matches!(essence, "" | "application/json" | "application/octet-stream" | "text/plain");
    generic || essence == media_type::OCI_CONFIG || essence == media_type::DOCKER_CONFIG
}

fn is_image_layer_type(essence: &str) -> bool {
    ["application/vnd.oci.image.", "application/vnd.docker.image."].iter().any(|prefix| essence.starts_with(prefix))
}

async fn prove(
    claim: Claim,
    upstream: &Upstream,
    repository: &Repository,
    manifest: &Manifest,
    limit: u64,
) -> Result<Proof, upstream::Error> {
    let Content::Image { config, layers } = &manifest.content else { return Ok(Proof::Image) };
    match claim {
        Claim::Attachment => prove_attachment(upstream, repository, manifest, config, layers, limit).await,
        Claim::Artifact => prove_artifact(upstream, repository, config, layers).await,
    }
}

/// Every layer is read whole and must parse whole as what its type claims.
async fn prove_attachment(
    upstream: &Upstream,
    repository: &Repository,
    manifest: &Manifest,
    config: &Descriptor,
    layers: &[Descriptor],
    limit: u64,
) -> Result<Proof, upstream::Error> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let config = upstream.blob_bytes(repository, &config.digest, MAX_CONFIG).await?;
    let mut read: Vec<Bytes> = Vec::with_capacity(layers.len());
    for layer in layers {
        read.push(upstream.blob_bytes(repository, &layer.digest, limit).await?);
    }
    Ok(match is_attachment(manifest, &config, &read) {
        Ok(()) => Proof::Attachment,
        Err(_) => Proof::Image,
    })
}

/// The configuration is no image's, and no layer is something that a runtime unpacks.
async fn prove_artifact(
    upstream: &Upstream,
    repository: &Repository,
    config: &Descriptor,
    layers: &[Descriptor],
) -> Result<Proof, upstream::Error> {
    let config = upstream.blob_bytes(repository, &config.digest, MAX_CONFIG).await?;
    if is_image_config(&config) {
        return Ok(Proof::Image);
    }
    for layer in layers {
        if is_never_unpacked(&media_type::essence(&layer.media_type)) {
            continue;
        }
        let prefix = prefix(upstream, repository, &layer.digest).await?;
        if sniff::is_tar_like(&prefix) {
            return Ok(Proof::Image);
        }
    }
    Ok(Proof::Artifact)
}

/// Archives by nature that no container runtime unpacks as a layer.
fn is_never_unpacked(essence: &str) -> bool {
    essence == "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
}

async fn prefix(upstream: &Upstream, repository: &Repository, digest: &Digest) -> Result<Vec<u8>, upstream::Error> {
    let mut stream = upstream.blob(repository, digest, 0).await?;
    let mut bytes = Vec::with_capacity(PREFIX);
    while bytes.len() < PREFIX {
        let Some(chunk) = stream.next().await else { break };
        bytes.extend_from_slice(&chunk?);
    }
    bytes.truncate(PREFIX);
    Ok(bytes)
}
