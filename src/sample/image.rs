//! Builds valid images from code: the same calls produce the same bytes, and so the same digests, on every machine.

use bytes::Bytes;
use oci_spec::image::{Arch, ConfigBuilder, HistoryBuilder, ImageConfigurationBuilder, Os, RootFsBuilder};
use serde_json::{Value, json};

use crate::oci::{Digest, Platform, media_type};

mod layer;
/// Hostile archives.
pub mod polyglot;

pub use layer::{Layer, Tree, noise};

/// The default creation time of images.
const CREATED: &str = "2024-05-01T00:00:00Z";

/// A builder for an image.
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
    /// Starts an image without layers for `platform`.
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

    /// Starts an image without layers for linux/amd64.
    pub fn linux_amd64() -> Self {
        Self::new(Platform { os: "linux".into(), architecture: "amd64".into(), variant: None })
    }

    /// Adds a layer on top.
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Sets the command that the container runs.
    pub fn command(mut self, words: &[&str]) -> Self {
        self.command = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Sets the creation time, in RFC 3339 format.
    pub fn created(mut self, instant: &str) -> Self {
        self.created = instant.into();
        self
    }

    /// Adds an annotation to the manifest.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.push((key.into(), value.into()));
        self
    }

    /// Uses Docker's media types (schema 2) instead of OCI's.
    pub fn docker(mut self) -> Self {
        self.docker = true;
        self
    }

    /// Builds the image.
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

const COMPLETE: &str = "every field that the builder requires is set above";

/// Builds a multi-platform index of `children`.
pub fn index(children: &[Built]) -> Built {
    let manifests: Vec<Value> = children.iter().map(Built::descriptor).collect();
    let body = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests});
    children.iter().fold(raw(media_type::OCI_INDEX, &body), Built::with_content_of)
}

/// Builds an artifact: the empty configuration, and `layers` of any type (image-spec, "Guidelines for Artifact Usage").
pub fn artifact(artifact_type: &str, layers: &[Layer]) -> Built {
    assemble(media_type::OCI_MANIFEST, media_type::OCI_EMPTY, &Bytes::from_static(b"{}"), layers, |body| {
        body["artifactType"] = artifact_type.into();
    })
}

/// Builds an artifact that refers to `subject` (distribution-spec, "Listing Referrers"), with `annotations` on its
/// manifest.
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

/// Builds a manifest as cosign attaches it under a tag such as `sha256-….sig`: the configuration of an empty image
/// whose `rootfs` lists the layers, and layers whose annotations hold the signatures.
pub fn attachment(layers: &[Layer]) -> Built {
    let never = "0001-01-01T00:00:00Z";
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
    let config = json!({
        "architecture": "", "created": never, "history": vec![json!({"created": never}); layers.len()], "os": "",
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "config": {}
    });
    assemble(media_type::OCI_MANIFEST, media_type::OCI_CONFIG, &config.to_string().into(), layers, |_| {})
}

/// Builds an artifact manifest with any type and configuration, for attacks with content that clients treat as an image
/// although only its bytes show that it is one.
pub fn disguised(manifest_type: &str, config_type: &str, config: &Value, layers: &[Layer]) -> Built {
    assemble(manifest_type, config_type, &config.to_string().into(), layers, |_| {})
}

/// The tag for attachments to `subject`: `sha256-<hex>` followed by `suffix`, which is `.sig`, `.att`, `.sbom`, or
/// empty for the referrers tag.
pub fn attachment_tag(subject: &Digest, suffix: &str) -> String {
    format!("{}-{}{suffix}", subject.algorithm().name(), subject.hex())
}

/// Builds a manifest with exactly this JSON and no blobs. The registry sends it as `media_type`.
pub fn raw(media_type: &str, body: &Value) -> Built {
    raw_bytes(media_type, body.to_string())
}

/// Builds a manifest with exactly these bytes and no blobs.
pub fn raw_bytes(media_type: &str, bytes: impl Into<Bytes>) -> Built {
    let bytes = bytes.into();
    let root = Digest::sha256(&bytes);
    Built {
        root,
        manifests: vec![StoredManifest { digest: root, media_type: media_type.into(), bytes }],
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

/// A complete image, index or artifact: all content that a registry needs to serve it.
#[derive(Clone, Debug)]
pub struct Built {
    /// The digest that a tag points to.
    pub root: Digest,
    /// The root manifest, followed by its descendants.
    pub manifests: Vec<StoredManifest>,
    /// The configurations and layers.
    pub blobs: Vec<(Digest, Bytes)>,
    /// The digests of the configurations, one per image.
    pub configs: Vec<Digest>,
    /// The digests of the layers as stored, lowest first, image by image.
    pub layers: Vec<Digest>,
    /// The platform, if this is a single image.
    pub platform: Option<Platform>,
}

/// A manifest as stored in a registry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredManifest {
    /// The SHA-256 digest of the bytes.
    pub digest: Digest,
    /// The `Content-Type` that the registry sends.
    pub media_type: String,
    /// The bytes.
    pub bytes: Bytes,
}

impl Built {
    /// The root manifest.
    pub fn manifest(&self) -> &StoredManifest {
        &self.manifests[0]
    }

    /// The JSON of the root manifest, for example to build a hostile one from it with [`raw`].
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.manifest().bytes).unwrap_or_default()
    }

    /// The descriptor for an index that lists this.
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

    /// Only media type, digest and size, as a referrer describes its subject.
    pub fn plain_descriptor(&self) -> Value {
        let StoredManifest { digest, media_type, bytes } = self.manifest();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Adds a blob, if it is not present yet.
    pub fn with_blob(mut self, bytes: Bytes) -> Self {
        let digest = Digest::sha256(&bytes);
        if !self.blobs.iter().any(|(known, _)| *known == digest) {
            self.blobs.push((digest, bytes));
        }
        self
    }

    /// Adds the manifests and blobs of `other` that are not present yet. The root stays the same.
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
