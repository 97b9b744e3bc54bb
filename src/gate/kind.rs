//! What a manifest is, by its bytes: it is an image unless the bytes prove otherwise.
//!
//! Labels only say whether a proof is worth trying. Clients run manifests whose config type is `application/json`, and
//! unpack any layer that is a tar, so a label alone never makes a manifest anything but an image.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Gate, GateError, Target};
use crate::oci::{Content, Descriptor, Hasher, Manifest, Repository, is_attachment, media_type, sniff};
use crate::policy::{Kind, Mode, Observed, Selected};
use crate::upstream::{self, Upstream};

/// The largest configuration that is read to see that it is no image's, in bytes.
const MAX_CONFIG: usize = 1024 * 1024;
/// The most manifests of a fallback tag that are read for a proof.
const MAX_REFERRERS: usize = 50;
/// The most layers that are read for a proof.
const MAX_LAYERS: usize = 64;
/// All layers of an attachment together, in bytes, unless one alone may be larger: they are in memory at once.
const MAX_ATTACHMENT: u64 = 16 * 1024 * 1024;
/// All layers together that are read to prove an artifact, in bytes. They pass by, and cost no memory.
const MAX_ARTIFACT: u64 = 1024 * 1024 * 1024;
/// How long a proof may take.
const MAX_TIME: Duration = Duration::from_secs(300);

/// How many proofs of attachments run at one time: memory is the process's, and so is this. Apart from artifacts, whose
/// proofs take long, so that nobody's artifacts hold signatures up.
static ATTACHMENTS: Semaphore = Semaphore::const_new(4);
/// How many proofs of artifacts run at one time.
static ARTIFACTS: Semaphore = Semaphore::const_new(4);

/// What the bytes prove. Depends on verified bytes alone, so a proof holds for ever. Rows of versions that proved an
/// artifact by bytes that nobody verified have its old name, which is not read.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Proof {
    #[serde(rename = "VerifiedArtifact")]
    Artifact,
    Attachment,
    /// The proof was tried and failed.
    Image,
    /// The bytes could not be read now.
    #[serde(skip)]
    Unread(upstream::Error),
}

impl Gate {
    /// What is judged: an image where nothing is proven.
    ///
    /// # Errors
    /// When the bytes that would prove something cannot be read just now, and one of the entries would deny an image for
    /// that. A denial is a last word, and this is none.
    pub(super) async fn kind(
        &self,
        target: &Target,
        selected: &[Selected],
        manifest: &Arc<Manifest>,
    ) -> Result<Kind, GateError> {
        let (found, unproven) = match &manifest.content {
            Content::Image { config, layers } => {
                (self.kind_of_image(target, manifest, config, layers).await, Kind::Image)
            }
            Content::Index(_) => (self.kind_of_index(target, manifest).await, Kind::Index),
        };
        found.or_else(|error| if selected.iter().any(may_deny) { Err(error) } else { Ok(unproven) })
    }

    /// The fallback tag of registries without the referrers API is an index of attachments (distribution-spec,
    /// "Referrers Tag Schema"). It is one itself when every manifest that it lists is proven to be one.
    async fn kind_of_index(&self, target: &Target, manifest: &Manifest) -> Result<Kind, GateError> {
        let children = manifest.children();
        let names_a_platform = children.iter().any(|child| child.platform.is_some());
        if names_a_platform || children.len() > MAX_REFERRERS {
            return Ok(Kind::Index);
        }
        for child in children {
            let found = match self.resolver.manifest(&target.upstream, &target.name, child.digest).await {
                Ok(found) => found,
                Err(error) if error.is_temporary() => return Err(error.into()),
                Err(_) => return Ok(Kind::Index),
            };
            let Content::Image { config, layers } = &found.content else { return Ok(Kind::Index) };
            if self.kind_of_image(target, &found, config, layers).await? != Kind::Attachment {
                return Ok(Kind::Index);
            }
        }
        Ok(Kind::Attachment)
    }

    async fn kind_of_image(
        &self,
        target: &Target,
        manifest: &Arc<Manifest>,
        config: &Descriptor,
        layers: &[Descriptor],
    ) -> Result<Kind, GateError> {
        let claim = claim(config, layers, manifest.artifact_type.as_deref(), self.config.attachment_limit);
        let Some(claim) = claim else { return Ok(Kind::Image) };
        let subject = format!("{}@{}", target.name, manifest.digest).into();
        let (upstream, repository) = (target.upstream.clone(), target.name.repository.clone());
        let (manifest, now) = (manifest.clone(), self.clock.now());
        let gather = || async move {
            let value = prove(claim, &upstream, &repository, &manifest).await.unwrap_or_else(Proof::Unread);
            let until = matches!(value, Proof::Unread(_)).then_some(now);
            Observed { value, at: now, until }
        };
        let proof = self.kinds.obtain(subject, |proof| !matches!(proof, Proof::Unread(_)), gather).await;
        match proof.map(|proof| proof.value.clone()) {
            Some(Proof::Artifact) => Ok(Kind::Artifact),
            Some(Proof::Attachment) => Ok(Kind::Attachment),
            Some(Proof::Unread(error)) if error.is_temporary() => Err(error.into()),
            Some(Proof::Image | Proof::Unread(_)) | None => Ok(Kind::Image),
        }
    }
}

/// Whether an entry may deny something for being an image. One that only says so, or that asks for nothing, does not.
fn may_deny(selected: &Selected) -> bool {
    selected.rule.as_ref().is_some_and(|rule| rule.mode == Mode::Enforce && !rule.admits_all())
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
    let are_attachments = layers.iter().all(|layer| is_small(layer) && claims_attachment(layer));
    if !layers.is_empty() && are_attachments && sum_of(layers.iter()) <= limit.max(MAX_ATTACHMENT) {
        return Some(Claim::Attachment);
    }
    let config_type = media_type::essence(&config.media_type);
    let is_other = match &*config_type {
        media_type::OCI_EMPTY => artifact_type.is_some(),
        other => !is_image_config_type(other),
    };
    let has_image_layer = layers.iter().any(|layer| is_image_layer_type(&media_type::essence(&layer.media_type)));
    let is_readable = sum_of(layers.iter().filter(|layer| !is_never_unpacked(layer))) <= MAX_ARTIFACT;
    (is_other && !has_image_layer && is_readable).then_some(Claim::Artifact)
}

fn sum_of<'a>(layers: impl Iterator<Item = &'a Descriptor>) -> u64 {
    layers.map(|layer| layer.size).fold(0, u64::saturating_add)
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
) -> Result<Proof, upstream::Error> {
    let Content::Image { config, layers } = &manifest.content else { return Ok(Proof::Image) };
    match claim {
        Claim::Attachment => {
            bounded(&ATTACHMENTS, upstream, prove_attachment(upstream, repository, manifest, config, layers)).await
        }
        Claim::Artifact => bounded(&ARTIFACTS, upstream, prove_artifact(upstream, repository, config, layers)).await,
    }
}

/// When its turn comes, and not for ever.
async fn bounded(
    turns: &Semaphore,
    upstream: &Upstream,
    proof: impl Future<Output = Result<Proof, upstream::Error>>,
) -> Result<Proof, upstream::Error> {
    // Nobody closes it.
    let _turn = turns.acquire().await;
    let late = |_| upstream::Error::Unavailable(format!("{}: what shows its kind takes too long", upstream.host()));
    timeout(MAX_TIME, proof).await.map_err(late)?
}

/// Every layer is read whole and must parse whole as what its type claims.
async fn prove_attachment(
    upstream: &Upstream,
    repository: &Repository,
    manifest: &Manifest,
    config: &Descriptor,
    layers: &[Descriptor],
) -> Result<Proof, upstream::Error> {
    let config = upstream.blob_bytes(repository, &config.digest, MAX_CONFIG).await?;
    let mut read: Vec<Bytes> = Vec::with_capacity(layers.len());
    for layer in layers {
        // The sum of what the manifest says is bounded, and each is held to it.
        let size = usize::try_from(layer.size).unwrap_or(usize::MAX);
        read.push(upstream.blob_bytes(repository, &layer.digest, size).await?);
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
    for layer in layers.iter().filter(|layer| !is_never_unpacked(layer)) {
        if sniff::is_tar_like(&verified_prefix(upstream, repository, layer).await?) {
            return Ok(Proof::Image);
        }
    }
    Ok(Proof::Artifact)
}

/// Archives by nature that no container runtime unpacks as a layer.
fn is_never_unpacked(layer: &Descriptor) -> bool {
    media_type::essence(&layer.media_type) == "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
}

/// The first bytes of a layer. All of it passes by, because first bytes alone have no digest, and an upstream could send
/// others now than it sends to the client.
async fn verified_prefix(
    upstream: &Upstream,
    repository: &Repository,
    layer: &Descriptor,
) -> Result<Vec<u8>, upstream::Error> {
    let wrong = || upstream::Error::Digest(format!("{}: not the layer {}", upstream.host(), layer.digest));
    let mut stream = upstream.blob(repository, &layer.digest, layer.size, 0).await?;
    if stream.size != layer.size {
        return Err(wrong());
    }
    let mut hasher = Hasher::new(layer.digest.algorithm());
    let mut prefix = Vec::with_capacity(sniff::SNIFF_LENGTH);
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        hasher.update(&piece);
        let room = sniff::SNIFF_LENGTH - prefix.len();
        prefix.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    if hasher.finish() == layer.digest { Ok(prefix) } else { Err(wrong()) }
}
