//! Determines the kind of a manifest from its bytes: it is an image unless the bytes prove otherwise.
//!
//! Media types only decide whether a proof is worth trying. Clients run manifests whose config type is
//! `application/json`, and unpack any layer that is a tar, so a media type alone never makes a manifest anything but an
//! image. A manifest of Docker's schema 2 is always an image: podman runs those whatever media types they name.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::layers::Layers;
use super::platforms::is_out_of_reach;
use crate::cache::{BlobFinding, BlobReader, CacheError};
use crate::gate::{GateError, Target};
use crate::oci::layer_types::{is_config_type, is_layer_type, is_read_lazily};
use crate::oci::{Content, Descriptor, Manifest, chart, is_attachment, json, media_type};
use crate::policy::Kind;
use crate::resolve::Resolver;
use crate::runtime::{Clock, Tasks};
use crate::store::{FactStore, Memo};

/// The largest configuration that is read to check that it is not an image configuration, in bytes.
const MAX_CONFIG: u64 = 1024 * 1024;
/// The maximum number of manifests of a fallback tag that are read for a proof.
const MAX_REFERRERS: usize = 50;
/// The maximum number of layers that are read for a proof.
const MAX_LAYERS: usize = 64;
/// The maximum total size of an attachment's layers in bytes, unless a single layer may be larger. They are held in
/// memory together.
const MAX_ATTACHMENT: u64 = 16 * 1024 * 1024;
/// The largest chart that is read, in bytes. Helm's own limit for a release is far lower.
const MAX_CHART: u64 = 16 * 1024 * 1024;
/// The maximum total size of the layers that are read to prove an artifact, in bytes. They are streamed and not kept in
/// memory.
const MAX_ARTIFACT: u64 = 1024 * 1024 * 1024;

/// The result of checking a claim.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Proof {
    Proven,
    /// The proof failed for this reason.
    Refuted(String),
}

/// Proves the kinds of manifests. A proof depends only on verified bytes, so it never expires.
pub(in crate::gate) struct Kinds {
    resolver: Resolver,
    layers: Layers,
    proofs: Memo<BlobFinding<Proof>>,
    clock: Clock,
    /// The largest layer of an attachment, in bytes.
    attachment_limit: u64,
}

/// The kind under which a manifest is judged, and why its claim was not accepted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::gate) struct Classification {
    pub(in crate::gate) kind: Kind,
    /// The claim that was not proven, as text.
    pub(super) unproven: Option<String>,
}

impl Classification {
    /// The kind of a manifest before anything is proven.
    pub(super) fn by_shape(manifest: &Manifest) -> Self {
        match manifest.content {
            Content::Image { .. } => Kind::Image.into(),
            Content::Index(_) => Kind::Index.into(),
        }
    }
}

impl From<Kind> for Classification {
    fn from(kind: Kind) -> Self {
        Self { kind, unproven: None }
    }
}

/// What the media types of a manifest claim, if a proof is worth trying.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum KindClaim {
    Artifact,
    Attachment,
}

impl KindClaim {
    fn name(self) -> &'static str {
        match self {
            Self::Artifact => "artifact",
            Self::Attachment => "attachment",
        }
    }
}

impl Kinds {
    pub(in crate::gate) fn new(
        resolver: Resolver,
        layers: Layers,
        attachment_limit: u64,
        store: &FactStore,
        clock: &Clock,
        tasks: &Tasks,
    ) -> Self {
        let proofs = Memo::new("kind-2", store.clone(), clock.clone(), tasks.clone());
        Self { resolver, layers, proofs, clock: clock.clone(), attachment_limit }
    }

    /// What the media types claim. Reads no blobs.
    pub(super) fn claim(&self, manifest: &Manifest) -> Option<KindClaim> {
        let Content::Image { config, layers } = &manifest.content else { return None };
        if manifest.media_type == media_type::DOCKER_MANIFEST {
            return None;
        }
        if !layers.is_empty() && layers.iter().all(|layer| is_attachment_type(&media_type::essence(&layer.media_type)))
        {
            return Some(KindClaim::Attachment);
        }
        let is_other = match &*media_type::essence(&config.media_type) {
            media_type::OCI_EMPTY => manifest.artifact_type.is_some(),
            other => !is_config_type(other),
        };
        let has_image_layer = layers.iter().any(|layer| is_layer_type(&media_type::essence(&layer.media_type)));
        (is_other && !has_image_layer).then_some(KindClaim::Artifact)
    }

    /// Attempts to prove a claim.
    ///
    /// # Errors
    /// If the bytes needed for the proof cannot be read now.
    pub(super) async fn prove(
        &self,
        target: &Target,
        manifest: &Arc<Manifest>,
        claim: KindClaim,
    ) -> Result<Proof, GateError> {
        if let Some(why) = self.too_large(manifest, claim) {
            return Ok(Proof::Refuted(why));
        }
        let subject = format!("{} {}", claim.name(), manifest.digest).into();
        let (layers, reader, asked) = (self.layers.clone(), self.layers.reader(target), manifest.clone());
        let clock = self.clock.clone();
        let gather = || async move {
            let proof = match claim {
                KindClaim::Attachment => prove_attachment(&reader, &asked).await,
                KindClaim::Artifact => prove_artifact(&layers, &reader, &asked).await,
            };
            BlobFinding::observed(proof, &clock)
        };
        match BlobFinding::known(self.proofs.obtain_from(&target.name, subject, BlobFinding::is_known, gather).await) {
            Ok(proof) => Ok(proof),
            Err(error) if error.is_temporary() => Err(error.into()),
            // A missing blob does not reappear, and other bytes prove nothing.
            Err(error) => Ok(Proof::Refuted(error.to_string())),
        }
    }

    /// The reason why a manifest is too large to be read for a proof, if it is. It is then judged as an image.
    fn too_large(&self, manifest: &Manifest, claim: KindClaim) -> Option<String> {
        let Content::Image { layers, .. } = &manifest.content else { return None };
        if layers.len() > MAX_LAYERS {
            return Some(format!("it has more than {MAX_LAYERS} layers"));
        }
        let sum = layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
        let limit = self.attachment_limit;
        match claim {
            KindClaim::Attachment => {
                let large = layers.iter().find(|layer| layer.size > limit);
                let large = large.map(|layer| {
                    format!("{} has {} bytes, and gate.attachment_limit is {limit}", layer.digest.short(), layer.size)
                });
                large.or_else(|| {
                    let most = limit.max(MAX_ATTACHMENT);
                    (sum > most).then(|| format!("its layers have {sum} bytes, more than {most}"))
                })
            }
            KindClaim::Artifact => {
                (sum > MAX_ARTIFACT).then(|| format!("its layers have {sum} bytes, more than {MAX_ARTIFACT}"))
            }
        }
    }

    /// The kind of a manifest before any evidence is gathered: an attachment if proven, otherwise an image or an index.
    ///
    /// # Errors
    /// If the bytes needed to prove an attachment cannot be read now. This is an error because a denial would be final.
    pub(super) async fn first_kind(
        &self,
        target: &Target,
        manifest: &Arc<Manifest>,
    ) -> Result<Classification, GateError> {
        match &manifest.content {
            Content::Index(_) => self.kind_of_index(target, manifest).await,
            Content::Image { .. } => self.kind_of_image(target, manifest).await,
        }
    }

    /// The fallback tag of registries without the referrers API is an index of attachments (distribution-spec,
    /// "Referrers Tag Schema"). The index counts as an attachment if every manifest that it lists is proven to be one.
    async fn kind_of_index(&self, target: &Target, manifest: &Manifest) -> Result<Classification, GateError> {
        let children = manifest.children();
        let names_a_platform = children.iter().any(|child| child.platform.is_some());
        if names_a_platform || children.len() > MAX_REFERRERS {
            return Ok(Kind::Index.into());
        }
        for child in children {
            let found = match self.resolver.manifest(&target.upstream, &target.name, child.digest).await {
                Ok(found) => found,
                // Manifests that a bundle left out cannot be read and proven, so the index is judged as one of images.
                Err(error) if error.is_temporary() && !is_out_of_reach(target, &error) => return Err(error.into()),
                Err(_) => return Ok(Kind::Index.into()),
            };
            if self.kind_of_image(target, &found).await?.kind != Kind::Attachment {
                return Ok(Kind::Index.into());
            }
        }
        Ok(Kind::Attachment.into())
    }

    async fn kind_of_image(&self, target: &Target, manifest: &Arc<Manifest>) -> Result<Classification, GateError> {
        if self.claim(manifest) != Some(KindClaim::Attachment) {
            return Ok(Kind::Image.into());
        }
        Ok(match self.prove(target, manifest, KindClaim::Attachment).await? {
            Proof::Proven => Kind::Attachment.into(),
            Proof::Refuted(why) => {
                Classification { kind: Kind::Image, unproven: Some(format!("it is not an attachment: {why}")) }
            }
        })
    }
}

/// What depends on the kind of a manifest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Interest {
    /// Nothing: no entry requires a check.
    None,
    /// A report: denials are not enforced.
    Reports,
    /// A denial.
    MayDeny,
}

/// Media types of signatures, attestations and SBOMs. The bytes must prove that the content is one of these.
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

/// The keys that may make a client run a configuration (image-spec, config.md, and Docker's additional keys). For some
/// clients, a single key suffices: podman needs neither `rootfs` nor `os`. Manifests have some of them, too.
const RUNNABLE_CONFIG_KEYS: &[&str] = &[
    "architecture",
    "author",
    "cmd",
    "config",
    "container",
    "container_config",
    "docker_version",
    "entrypoint",
    "env",
    "history",
    "os",
    "os.features",
    "os.version",
    "parent",
    "rootfs",
    "throwaway",
    "user",
    "variant",
    "workingdir",
];

/// The configuration of an artifact is a JSON object or empty; anything else might be a layer.
fn is_object(bytes: &[u8]) -> bool {
    bytes.trim_ascii().is_empty() || json::each_member(bytes, |_, _| ()).is_ok()
}

/// Whether some client would run this configuration. Keys match in any spelling that Go accepts.
pub(super) fn is_image_config(bytes: &[u8]) -> bool {
    let folded = |key: &str| key.replace('\u{17f}', "s").replace('\u{212a}', "k").to_ascii_lowercase();
    let mut has_key = false;
    match json::each_member(bytes, |key, _| has_key |= RUNNABLE_CONFIG_KEYS.contains(&&*folded(key))) {
        Ok(()) => has_key,
        // Go accepts objects that this parser rejects, so anything that looks like an object counts as an image
        // configuration.
        Err(_) => bytes.trim_ascii_start().starts_with(b"{"),
    }
}

/// Reads each layer completely. Each must parse as the type that its media type claims.
async fn prove_attachment(reader: &BlobReader, manifest: &Manifest) -> Result<Proof, CacheError> {
    let Content::Image { config, layers: named } = &manifest.content else { return Ok(refuted("it is an index")) };
    if config.size > MAX_CONFIG {
        return Ok(refuted("its configuration is larger than 1 MiB"));
    }
    // The whole attachment is in memory until it is proven.
    let is_on_disk = std::iter::once(config).chain(named).all(|blob| reader.has(blob));
    let _turn = reader.turn("attachment", is_on_disk).await;
    let config = reader.whole(config).await?;
    let mut read = Vec::with_capacity(named.len());
    for layer in named {
        read.push(reader.whole(layer).await?);
    }
    Ok(match is_attachment(manifest, &config, &read) {
        Ok(()) => Proof::Proven,
        Err(why) => refuted(&why.to_string()),
    })
}

/// Checks that the configuration is not an image configuration, and that no layer is something that a runtime unpacks.
async fn prove_artifact(layers: &Layers, reader: &BlobReader, manifest: &Manifest) -> Result<Proof, CacheError> {
    let Content::Image { config, layers: named } = &manifest.content else { return Ok(refuted("it is an index")) };
    if config.size > MAX_CONFIG {
        return Ok(refuted("its configuration is larger than 1 MiB"));
    }
    let bytes = reader.whole(config).await?;
    if !is_object(&bytes) || is_image_config(&bytes) {
        return Ok(refuted("its configuration may be that of an image"));
    }
    for layer in named {
        let short = layer.digest.short();
        if is_read_lazily(layer) {
            return Ok(refuted(&format!("{short} has annotations by which clients read layers in part")));
        }
        let is_safe = match is_chart(config, layer) {
            true => layer.size <= MAX_CHART && chart::is_chart(&reader.whole(layer).await?),
            false => !layers.is_of_an_image(reader, layer).await?,
        };
        if !is_safe {
            return Ok(refuted(&format!("{short} may be unpacked or run")));
        }
    }
    Ok(Proof::Proven)
}

fn refuted(why: &str) -> Proof {
    Proof::Refuted(why.to_owned())
}

/// Whether a layer claims to be a chart, which is always an archive. Container runtimes do not unpack layers of this
/// type.
fn is_chart(config: &Descriptor, layer: &Descriptor) -> bool {
    media_type::essence(&config.media_type) == "application/vnd.cncf.helm.config.v1+json"
        && media_type::essence(&layer.media_type) == "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_with_any_image_key_is_an_image_configuration() {
        for config in [
            r#"{"architecture":"amd64"}"#,
            r#"{"os":"linux"}"#,
            r#"{"config":{"Entrypoint":["/hello"]}}"#,
            r#"{"ENTRYPOINT":["/hello"]}"#,
            r#"{"a":1,"hi\u017ftory":[]}"#,
            r#"{"rootfs":{}}"#,
            r#"{"a":NaN}"#,
        ] {
            assert!(is_image_config(config.as_bytes()), "{config}");
        }
        for config in ["{}", "[]", "text", r#"{"name":"chart","version":"1","apiVersion":"v2"}"#, r#"{"a":{"os":"x"}}"#]
        {
            assert!(!is_image_config(config.as_bytes()), "{config}");
        }
    }

    /// Uses a separate list of the keys, so that removing one fails the test.
    #[test]
    fn each_image_key_suffices() {
        let oci =
            ["architecture", "author", "config", "history", "os", "os.features", "os.version", "rootfs", "variant"];
        let docker = ["container", "container_config", "docker_version", "parent", "throwaway"];
        let running = ["cmd", "entrypoint", "env", "user", "workingdir"];
        for key in oci.iter().chain(&docker).chain(&running) {
            for key in [(*key).to_owned(), key.to_uppercase()] {
                assert!(is_image_config(format!("{{\"name\":\"x\",\"{key}\":null}}").as_bytes()), "{key}");
            }
        }
    }
}
