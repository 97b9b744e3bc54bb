//! Manifests and indexes, read strictly: a body is accepted only if every client reads the same from it.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::digest::{Digest, InvalidDigest};
use super::json::{self, InvalidJson};
use super::media_type;
use super::platform::Platform;

/// The largest manifest that is read, in bytes (distribution-spec, "Pushing Manifests": at least 4 MiB; containerd's own limit).
pub const MAX_MANIFEST: usize = 4 * 1024 * 1024;

/// The most descriptors that one manifest may list. Each is remembered, so their number is bounded: real images have at
/// most 127 layers (the kernel's limit of overlays), real indexes some hundred children, and a fallback tag of referrers
/// that is longer than this would not be looked through anyway.
const MAX_DESCRIPTORS: usize = 1_000;

/// Keys that Go clients read in manifests, indexes, descriptors and platforms; any case variant of them is refused.
pub(super) const KNOWN_KEYS: &[&str] = &[
    "annotations",
    "architecture",
    "artifactType",
    "blobs",
    "config",
    "data",
    "digest",
    "features",
    "fsLayers",
    "history",
    "layers",
    "manifests",
    "mediaType",
    "name",
    "os",
    "os.features",
    "os.version",
    "platform",
    "rootfs",
    "schemaVersion",
    "signatures",
    "size",
    "subject",
    "tag",
    "urls",
    "variant",
];

/// One of these is in every manifest, index and schema 1 manifest.
const SHAPE_KEYS: &[&str] = &["blobs", "config", "fsLayers", "layers", "manifests", "signatures"];

/// Keys of an image configuration (image-spec, config.md) that no manifest has.
const IMAGE_CONFIG_KEYS: &[&str] = &["architecture", "history", "os", "rootfs"];

/// A manifest whose bytes were read whole and whose digest is that of the bytes.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The bytes, exactly as the upstream sent them.
    pub bytes: Bytes,
    /// Their digest, computed here.
    pub digest: Digest,
    /// The media type to send: the body's own `mediaType`, else what the upstream's `Content-Type` said.
    pub media_type: String,
    /// What it lists.
    pub content: Content,
    /// The manifest that this one refers to, where it is a referrer.
    pub subject: Option<Descriptor>,
    /// The artifact type, where one is said.
    pub artifact_type: Option<String>,
}

/// What a manifest lists.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each manifest, and it is always behind an Arc")]
pub enum Content {
    /// Manifests, by platform or otherwise.
    Index(Vec<Descriptor>),
    /// A configuration and layers.
    Image {
        /// The configuration.
        config: Descriptor,
        /// The layers, lowest first.
        layers: Vec<Descriptor>,
    },
}

/// Names some content: type, digest, size. OCI image-spec, descriptor.md.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Descriptor {
    /// What the author says it is; never trusted for a decision on its own.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The platform, where one is said.
    pub platform: Option<Platform>,
    /// The artifact type, where one is said; clients do not agree on it, so it is a hint.
    pub artifact_type: Option<String>,
    /// Hosts of `urls`, as written; a client would fetch the content there and not here.
    pub urls: Vec<String>,
    /// Whether the content is embedded as `data`.
    pub has_data: bool,
    /// Annotations, in the document's order.
    pub annotations: Vec<(String, String)>,
}

impl Descriptor {
    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.iter().find(|(k, _)| k == key).map(|(_, value)| &**value)
    }
}

impl Manifest {
    /// Reads a manifest. `content_type` is what the upstream's header said, if anything.
    ///
    /// # Errors
    /// When the bytes alone show that the manifest must be refused: see [`Refused`].
    pub fn parse(bytes: Bytes, content_type: Option<&str>) -> Result<Self, Refused> {
        if bytes.len() > MAX_MANIFEST {
            return Err(Refused::TooLarge);
        }
        let body = object(&bytes)?;
        refuse_schema1(&body, content_type)?;
        if IMAGE_CONFIG_KEYS.iter().any(|key| body.contains_key(*key)) {
            return Err(Refused::Configuration);
        }
        let is_index = is_index(&body)?;
        let media_type = agreed_media_type(&body, content_type, is_index)?;
        let content = if is_index { index(&body)? } else { image(&body)? };
        let subject = optional(&body, "subject").map(descriptor).transpose()?;
        let artifact_type = text(&body, "artifactType")?;
        let manifest = Self { digest: Digest::sha256(&bytes), bytes, media_type, content, subject, artifact_type };
        manifest.refuse_embedded_manifests()?;
        Ok(manifest)
    }

    /// The manifest, under the digest that it was asked for by: the same bytes may be named by sha256 or by sha512.
    pub fn named(mut self, digest: Digest) -> Result<Self, Refused> {
        if Digest::of(digest.algorithm(), &self.bytes) != digest {
            return Err(Refused::Digest);
        }
        self.digest = digest;
        Ok(self)
    }

    /// All descriptors except the subject.
    pub fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        let (head, tail) = match &self.content {
            Content::Index(children) => (None, children),
            Content::Image { config, layers } => (Some(config), layers),
        };
        head.into_iter().chain(tail)
    }

    /// The children of an index; nothing for an image.
    pub fn children(&self) -> &[Descriptor] {
        match &self.content {
            Content::Index(children) => children,
            Content::Image { .. } => &[],
        }
    }

    /// Whether the configuration or a layer of this image has this digest.
    pub fn names_blob(&self, digest: &Digest) -> bool {
        matches!(self.content, Content::Image { .. }) && self.descriptors().any(|d| d.digest == *digest)
    }

    /// The first host in any descriptor's `urls` that `allowed` does not allow.
    pub fn foreign_url(&self, allowed: impl Fn(&str) -> bool) -> Option<&str> {
        self.descriptors().chain(&self.subject).flat_map(|d| &d.urls).map(|url| &**url).find(|url| !allowed(url))
    }

    /// `data` in a descriptor of a manifest lets containerd take a child manifest without asking for it.
    fn refuse_embedded_manifests(&self) -> Result<(), Refused> {
        let in_index = matches!(self.content, Content::Index(_));
        let embedded =
            |d: &&Descriptor| d.has_data && (in_index || media_type::is_manifest(&media_type::essence(&d.media_type)));
        match self.descriptors().chain(&self.subject).find(embedded) {
            Some(found) => Err(Refused::EmbeddedManifest(found.digest)),
            None => Ok(()),
        }
    }
}

/// The body as strict JSON. What has nothing of a manifest is told apart from a manifest that is refused: it is the page
/// or the error of something that stands before the registry.
fn object(bytes: &[u8]) -> Result<Map<String, Value>, Refused> {
    match json::parse(bytes, KNOWN_KEYS, &["annotations"]) {
        Ok(Value::Object(body)) if has_shape(&body) => Ok(body),
        Ok(Value::Object(_)) => Err(Refused::NoManifest("it has neither manifests nor config and layers")),
        Ok(_) => Err(Refused::NoManifest("it is no JSON object")),
        Err(error) => match serde_json::from_slice(bytes) {
            Ok(body) if has_shape(&body) => Err(error.into()),
            Ok(_) | Err(_) => Err(Refused::NoManifest("it is not JSON, or not that of a manifest")),
        },
    }
}

fn has_shape(body: &Map<String, Value>) -> bool {
    body.keys().any(|key| SHAPE_KEYS.iter().any(|known| known.eq_ignore_ascii_case(key)))
}

fn refuse_schema1(body: &Map<String, Value>, content_type: Option<&str>) -> Result<(), Refused> {
    let declared = |media: &str| matches!(media, media_type::DOCKER_SCHEMA1 | media_type::DOCKER_SCHEMA1_SIGNED);
    let by_type = content_type.is_some_and(|types| media_type::manifest_types(types).any(|one| declared(&one)));
    let by_body = body.get("mediaType").and_then(Value::as_str).is_some_and(|t| declared(&media_type::essence(t)));
    let version = body.get("schemaVersion").unwrap_or(&Value::Null);
    if by_type
        || by_body
        || body.contains_key("fsLayers")
        || body.contains_key("signatures")
        || version.as_i64() == Some(1)
    {
        return Err(Refused::Schema1);
    }
    if version.as_i64() != Some(2) {
        return Err(Refused::Shape("schemaVersion must be 2"));
    }
    Ok(())
}

/// A body must be one thing: clients that look for `manifests` and clients that look for `layers` must agree.
fn is_index(body: &Map<String, Value>) -> Result<bool, Refused> {
    let image = body.contains_key("config") || body.contains_key("layers") || body.contains_key("blobs");
    match (body.contains_key("manifests"), image) {
        (true, true) => Err(Refused::Ambiguous),
        (is_index, _) => Ok(is_index),
    }
}

/// The body's own word, else the header's, else what the shape says. Headers are labels that fronts and file servers put
/// on: they count only where they name a manifest type, and contradict only where they name another one than the body's
/// own. Where the body says none, one that does not fit its shape is a wrong label.
fn agreed_media_type(body: &Map<String, Value>, content_type: Option<&str>, is_index: bool) -> Result<String, Refused> {
    let said = text(body, "mediaType")?;
    let mut named: Vec<String> =
        content_type.map(|types| media_type::manifest_types(types).collect()).unwrap_or_default();
    let by_shape = if is_index { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST };
    let fits = |one: &str| match is_index {
        true => media_type::is_index(one),
        false => matches!(one, media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST),
    };
    if said.is_none() {
        named.retain(|one| fits(one));
    }
    let agreed = said.clone().or_else(|| named.first().cloned()).unwrap_or_else(|| by_shape.into());
    named.retain(|one| *one != agreed);
    if let Some(other) = named.pop() {
        return Err(Refused::ContentType(other, agreed));
    }
    if fits(&agreed) { Ok(agreed) } else { Err(Refused::MediaType(agreed)) }
}

fn index(body: &Map<String, Value>) -> Result<Content, Refused> {
    Ok(Content::Index(descriptors(body, "manifests")?))
}

fn image(body: &Map<String, Value>) -> Result<Content, Refused> {
    if body.contains_key("blobs") {
        return Err(Refused::Shape("blobs beside config and layers"));
    }
    let config = optional(body, "config").ok_or(Refused::Shape("no config"))?;
    Ok(Content::Image { config: descriptor(config)?, layers: descriptors(body, "layers")? })
}

fn descriptors(body: &Map<String, Value>, key: &'static str) -> Result<Vec<Descriptor>, Refused> {
    let items = match optional(body, key) {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(Refused::Key(key, "must be a list")),
    };
    if items.len() > MAX_DESCRIPTORS {
        return Err(Refused::Key(key, "has more than 1,000 entries, the most that is remembered of one manifest"));
    }
    items.iter().map(descriptor).collect()
}

/// Go leaves a field alone when its value is null; so is it here.
fn optional<'a>(body: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    body.get(key).filter(|value| !value.is_null())
}

fn text(body: &Map<String, Value>, key: &'static str) -> Result<Option<String>, Refused> {
    match optional(body, key) {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.chars().all(|c| c.is_ascii_graphic() || c == ' ') => Ok(Some(text.clone())),
        Some(_) => Err(Refused::Key(key, "must be printable text")),
    }
}

pub(super) fn descriptor(value: &Value) -> Result<Descriptor, Refused> {
    let Value::Object(body) = value else { return Err(Refused::Shape("a descriptor is a JSON object")) };
    let digest = text(body, "digest")?.ok_or(Refused::Key("digest", "is missing in a descriptor"))?;
    let size = optional(body, "size").and_then(Value::as_i64).and_then(|size| u64::try_from(size).ok());
    Ok(Descriptor {
        media_type: text(body, "mediaType")?.unwrap_or_default(),
        digest: digest.parse()?,
        size: size.ok_or(Refused::Key("size", "must be a whole number of bytes"))?,
        platform: optional(body, "platform").map(platform).transpose()?.flatten(),
        artifact_type: text(body, "artifactType")?,
        urls: strings(body, "urls")?,
        has_data: optional(body, "data").is_some_and(|data| data.as_str() != Some("")),
        annotations: annotations(body)?,
    })
}

/// A platform without an architecture says nothing.
fn platform(value: &Value) -> Result<Option<Platform>, Refused> {
    let Value::Object(body) = value else { return Err(Refused::Key("platform", "must be an object")) };
    let (os, architecture, variant) = (text(body, "os")?, text(body, "architecture")?, text(body, "variant")?);
    Ok(architecture.map(|architecture| Platform::new(&os.unwrap_or_default(), &architecture, variant.as_deref())))
}

fn strings(body: &Map<String, Value>, key: &'static str) -> Result<Vec<String>, Refused> {
    let not_a_list = Refused::Key(key, "must be a list of texts");
    match optional(body, key) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => {
            items.iter().map(|i| i.as_str().map(str::to_owned)).collect::<Option<_>>().ok_or(not_a_list)
        }
        Some(_) => Err(not_a_list),
    }
}

fn annotations(body: &Map<String, Value>) -> Result<Vec<(String, String)>, Refused> {
    let not_texts = Refused::Key("annotations", "must map texts to texts");
    match optional(body, "annotations") {
        None => Ok(Vec::new()),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(key, value)| value.as_str().map(|text| (key.clone(), text.to_owned())))
            .collect::<Option<_>>()
            .ok_or(not_texts),
        Some(_) => Err(not_texts),
    }
}

/// Why a manifest is refused, whatever the policy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// Index and image at once.
    #[error("the manifest is both an index and an image; clients would disagree on what it is")]
    Ambiguous,
    /// The header names one manifest type, the body another.
    #[error("the upstream's Content-Type {0:?} contradicts the manifest's own mediaType {1:?}")]
    ContentType(String, String),
    /// The bytes do not have the digest.
    #[error("the manifest's bytes do not have the digest that was asked for")]
    Digest,
    /// A manifest and an image configuration at once: what is said of the one would be taken for the other.
    #[error("the manifest is an image configuration too; a report of the one would be taken for the other's")]
    Configuration,
    /// A digest of an algorithm that is not known, or malformed.
    #[error("a descriptor's digest is refused: {0}")]
    DescriptorDigest(#[from] InvalidDigest),
    /// A manifest embedded as `data` would never be asked for and so never be judged.
    #[error("the descriptor of {0} embeds a manifest as data, which clients would run without asking")]
    EmbeddedManifest(Digest),
    /// Not JSON, or JSON on which readers disagree.
    #[error("the manifest is not strict JSON: {0}")]
    Json(#[from] InvalidJson),
    /// A field of the wrong type.
    #[error("the manifest's {0} {1}")]
    Key(&'static str, &'static str),
    /// A media type that is none of the manifest types.
    #[error("the media type {0:?} does not fit the manifest's body")]
    MediaType(String),
    /// Nothing of a manifest: an error, or a page for people.
    #[error("the answer is no manifest: {0}")]
    NoManifest(&'static str),
    /// Docker schema 1, which has no digest of its configuration.
    #[error("the manifest is Docker schema 1, which is obsolete and cannot be verified; push the image again")]
    Schema1,
    /// Not the shape of a manifest.
    #[error("the manifest is malformed: {0}")]
    Shape(&'static str),
    /// More than [`MAX_MANIFEST`] bytes.
    #[error("the manifest is larger than 4 MiB")]
    TooLarge,
}

#[cfg(test)]
mod tests;
