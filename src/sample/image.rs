//! Genuine images from nothing: the same calls give the same bytes, and so the same digests, on every machine.

use bytes::Bytes;
use oci_spec::image::{Arch, ConfigBuilder, HistoryBuilder, ImageConfigurationBuilder, Os, RootFsBuilder};
use serde_json::{Value, json};

use crate::oci::{Digest, Platform, media_type};

mod layer;
/// Hostile archives.
pub mod polyglot;

pub use layer::{Layer, Tree, noise};

/// When images were made unless they say otherwise.
const CREATED: &str = "2024-05-01T00:00:00Z";

/// An image in the making.
#[derive(Clone, Debug)]
pub struct Image {
    platform: Platform,
    layers: Vec<Layer>,
    command: Vec<String>,
    created: String,
    docker: bool,
    annotations: Vec<(String, String)>,
}

impl Image {
    /// An image of no layers for `platform`.
    pub fn new(platform: Platform) -> Self {
        Self {
            platform,
            layers: Vec::new(),
            command: Vec::new(),
            created: CREATED.into(),
            docker: false,
            annotations: Vec::new(),
        }
    }

    /// An image of no layers for linux/amd64.
    pub fn linux_amd64() -> Self {
        Self::new(Platform { os: "linux".into(), architecture: "amd64".into(), variant: None })
    }

    /// Adds a layer on top.
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// The command that the container runs.
    pub fn command(mut self, words: &[&str]) -> Self {
        self.command = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// When the image was made: RFC 3339.
    pub fn created(mut self, instant: &str) -> Self {
        self.created = instant.into();
        self
    }

    /// Adds an annotation to the manifest.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.push((key.into(), value.into()));
        self
    }

    /// Writes Docker's media types (schema 2) instead of OCI's.
    pub fn docker(mut self) -> Self {
        self.docker = true;
        self
    }

    /// The finished image.
    pub fn build(self) -> Built {
        let (manifest_type, config_type) = match self.docker {
            true => (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG),
            false => (media_type::OCI_MANIFEST, media_type::OCI_CONFIG),
        };
        let config = self.configuration();
        let layers: Vec<Layer> =
            if self.docker { self.layers.into_iter().map(Layer::docker).collect() } else { self.layers };
        let mut built = assemble(manifest_type, config_type, &config, &layers, |body| {
            if !self.annotations.is_empty() {
                body["annotations"] = annotations(&self.annotations);
            }
        });
        built.platform = Some(self.platform);
        built
    }

    fn configuration(&self) -> Bytes {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let history = |layer: &Layer| {
            HistoryBuilder::default().created(&*self.created).created_by(&*layer.created_by).build().expect(COMPLETE)
        };
        let mut config = ConfigBuilder::default().env(vec!["PATH=/usr/local/bin:/usr/bin:/bin".to_owned()]);
        if !self.command.is_empty() {
            config = config.cmd(self.command.clone());
        }
        let mut configuration = ImageConfigurationBuilder::default()
            .created(&*self.created)
            .architecture(Arch::from(&*self.platform.architecture))
            .os(Os::from(&*self.platform.os))
            .config(config.build().expect(COMPLETE))
            .rootfs(RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build().expect(COMPLETE))
            .history(self.layers.iter().map(history).collect::<Vec<_>>());
        if let Some(variant) = &self.platform.variant {
            configuration = configuration.variant(&**variant);
        }
        let text = configuration.build().expect(COMPLETE).to_string().expect("a configuration is plain JSON");
        text.into()
    }
}

const COMPLETE: &str = "every field that the builder demands is set above";

/// A multi-platform index of `children`.
pub fn index(children: &[Built]) -> Built {
    list(media_type::OCI_INDEX, children)
}

/// A Docker manifest list of `children`.
pub fn docker_list(children: &[Built]) -> Built {
    list(media_type::DOCKER_LIST, children)
}

fn list(media_type: &str, children: &[Built]) -> Built {
    let manifests: Vec<Value> = children.iter().map(Built::descriptor).collect();
    let body = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    children.iter().fold(raw(media_type, &body), Built::with_content_of)
}

/// An artifact: the empty configuration and `layers` of any type (image-spec, "Guidelines for Artifact Usage").
pub fn artifact(artifact_type: &str, layers: &[Layer]) -> Built {
    assemble(media_type::OCI_MANIFEST, media_type::OCI_EMPTY, &Bytes::from_static(b"{}"), layers, |body| {
        body["artifactType"] = artifact_type.into();
    })
}

/// An artifact that refers to `subject` (distribution-spec, "Listing Referrers"). `annotations` are the manifest's.
pub fn referrer(subject: &Built, artifact_type: &str, layers: &[Layer], annotations: &[(&str, &str)]) -> Built {
    assemble(media_type::OCI_MANIFEST, media_type::OCI_EMPTY, &Bytes::from_static(b"{}"), layers, |body| {
        body["artifactType"] = artifact_type.into();
        body["subject"] = subject.plain_descriptor();
        if !annotations.is_empty() {
            body["annotations"] =
                annotations.iter().map(|&(key, value)| (key.to_owned(), Value::from(value))).collect();
        }
    })
}

/// A manifest as cosign attaches it under a tag such as `sha256-….sig`: the configuration of an empty image whose `rootfs`
/// names the layers, and layers that carry their signatures as annotations.
pub fn attachment(layers: &[Layer]) -> Built {
    let never = "0001-01-01T00:00:00Z";
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
    let config = json!({
        "architecture": "", "created": never, "history": vec![json!({"created": never}); layers.len()], "os": "",
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "config": {}
    });
    assemble(media_type::OCI_MANIFEST, media_type::OCI_CONFIG, &config.to_string().into(), layers, |_| {})
}

/// An artifact's manifest of any type and configuration, to make a hostile one: what clients take for an image although
/// nothing but bytes says so.
pub fn disguised(manifest_type: &str, config_type: &str, config: &Value, layers: &[Layer]) -> Built {
    assemble(manifest_type, config_type, &config.to_string().into(), layers, |_| {})
}

/// The tag under which things attached to `subject` are found: `sha256-<hex>` and `suffix`, which is `.sig`, `.att`,
/// `.sbom`, or empty for the referrers fallback tag.
pub fn attachment_tag(subject: &Digest, suffix: &str) -> String {
    format!("{}-{}{suffix}", subject.algorithm().name(), subject.hex())
}

/// A manifest of exactly this JSON, whatever it says, with no blobs. `media_type` is what the registry will claim.
pub fn raw(media_type: &str, body: &Value) -> Built {
    raw_bytes(media_type, body.to_string())
}

/// A manifest of exactly these bytes, whatever they are, with no blobs.
pub fn raw_bytes(media_type: &str, bytes: impl Into<Bytes>) -> Built {
    let bytes = bytes.into();
    let root = Digest::sha256(&bytes);
    Built {
        root,
        manifests: vec![Document { digest: root, media_type: media_type.into(), bytes }],
        blobs: Vec::new(),
        configs: Vec::new(),
        layers: Vec::new(),
        platform: None,
    }
}

fn assemble(manifest: &str, config_type: &str, config: &Bytes, layers: &[Layer], edit: impl Fn(&mut Value)) -> Built {
    let descriptor = json!({"mediaType": config_type, "digest": Digest::sha256(config), "size": config.len()});
    let descriptors: Vec<Value> = layers.iter().map(Layer::descriptor).collect();
    let mut body = json!({"schemaVersion": 2, "mediaType": manifest, "config": descriptor, "layers": descriptors});
    edit(&mut body);
    let mut built = raw(manifest, &body).with_blob(config.clone());
    built.configs.push(Digest::sha256(config));
    for layer in layers {
        built.layers.push(layer.digest);
        built = built.with_blob(layer.bytes.clone());
    }
    built
}

fn annotations(pairs: &[(String, String)]) -> Value {
    pairs.iter().map(|(key, value)| (key.clone(), Value::from(&**value))).collect()
}

/// A finished image, index or artifact: all the content that a registry must hold to serve it.
#[derive(Clone, Debug)]
pub struct Built {
    /// The digest that a tag points to.
    pub root: Digest,
    /// The root manifest first, then those below it.
    pub manifests: Vec<Document>,
    /// Configurations and layers.
    pub blobs: Vec<(Digest, Bytes)>,
    /// The digests of the configurations, one an image.
    pub configs: Vec<Digest>,
    /// The digests of the layers as they are stored, lowest first, image by image.
    pub layers: Vec<Digest>,
    /// The platform, where this is one image.
    pub platform: Option<Platform>,
}

/// A manifest as a registry keeps it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Document {
    /// The SHA-256 digest of the bytes.
    pub digest: Digest,
    /// What the registry says in `Content-Type`.
    pub media_type: String,
    /// The bytes.
    pub bytes: Bytes,
}

impl Built {
    /// The root manifest.
    pub fn manifest(&self) -> &Document {
        &self.manifests[0]
    }

    /// The root manifest's body, to make a hostile one of it with [`raw`].
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.manifest().bytes).unwrap_or_default()
    }

    /// The descriptor that an index lists this under.
    pub fn descriptor(&self) -> Value {
        let mut descriptor = self.plain_descriptor();
        if let Some(platform) = &self.platform {
            descriptor["platform"] = json!({"os": platform.os, "architecture": platform.architecture});
            if let Some(variant) = &platform.variant {
                descriptor["platform"]["variant"] = (&**variant).into();
            }
        }
        descriptor
    }

    /// Media type, digest and size alone: how a referrer names its subject.
    pub fn plain_descriptor(&self) -> Value {
        let Document { digest, media_type, bytes } = self.manifest();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Adds a blob, once.
    pub fn with_blob(mut self, bytes: Bytes) -> Self {
        let digest = Digest::sha256(&bytes);
        if !self.blobs.iter().any(|(known, _)| *known == digest) {
            self.blobs.push((digest, bytes));
        }
        self
    }

    /// Adds the manifests and blobs of `other`, each once. The root stays.
    pub fn with_content_of(mut self, other: &Self) -> Self {
        for manifest in &other.manifests {
            if !self.manifests.contains(manifest) {
                self.manifests.push(manifest.clone());
            }
        }
        self.configs.extend(&other.configs);
        self.layers.extend(&other.layers);
        other.blobs.iter().fold(self, |built, (_, bytes)| built.with_blob(bytes.clone()))
    }
}

#[cfg(test)]
mod tests;
