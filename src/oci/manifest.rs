//! Manifests and indexes, parsed strictly: a body is accepted only if every client interprets it the same way.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::digest::{Digest, InvalidDigest};
use super::json::{self, InvalidJson};
use super::media_type;
use super::platform::Platform;

/// The maximum size of a manifest, in bytes (distribution-spec, "Pushing Manifests": at least 4 MiB; containerd's own
/// limit).
pub const MAX_MANIFEST: usize = 4 * 1024 * 1024;

/// The maximum number of descriptors in one manifest. Each descriptor is stored, so their number is bounded. Real
/// images have at most 127 layers (the kernel's overlay limit), real indexes have a few hundred children, and a longer
/// referrers tag would not be searched completely anyway.
const MAX_DESCRIPTORS: usize = 1_000;

/// Keys that Go clients read in manifests, indexes, descriptors and platforms; any other capitalisation of them is
/// refused.
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

/// Every manifest, index and schema 1 manifest has at least one of these.
const SHAPE_KEYS: &[&str] = &["blobs", "config", "fsLayers", "layers", "manifests", "signatures"];

/// Keys of an image configuration (image-spec, config.md) that a manifest never has.
const CONFIG_ONLY_KEYS: &[&str] = &["architecture", "history", "os", "rootfs"];

/// A manifest that was read completely and whose digest matches its bytes.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The bytes, exactly as the upstream sent them.
    pub bytes: Bytes,
    /// The digest, computed from the bytes.
    pub digest: Digest,
    /// The media type to send: the body's own `mediaType`, or else the one in the upstream's `Content-Type`.
    pub media_type: String,
    /// The descriptors that it lists.
    pub content: Content,
    /// The manifest that this one refers to, if it is a referrer.
    pub subject: Option<Descriptor>,
    /// The artifact type, if present.
    pub artifact_type: Option<String>,
}

/// What a manifest lists.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "every manifest has one, always behind an Arc")]
pub enum Content {
    /// An index: a list of manifests, by platform or otherwise.
    Index(Vec<Descriptor>),
    /// An image manifest: a configuration and layers.
    Image {
        /// The configuration.
        config: Descriptor,
        /// The layers, lowest first.
        layers: Vec<Descriptor>,
    },
}

/// Describes content by type, digest and size. OCI image-spec, descriptor.md.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Descriptor {
    /// The media type that the author claims; never sufficient for a decision.
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content, in bytes.
    pub size: u64,
    /// The platform, if present.
    pub platform: Option<Platform>,
    /// The artifact type, if present. Clients interpret it differently, so it is only a hint.
    pub artifact_type: Option<String>,
    /// The hosts of `urls`, as written. A client would fetch the content from there instead of from the gate.
    pub urls: Vec<String>,
    /// Whether the content is embedded as `data`.
    pub has_data: bool,
    /// Annotations, in the order of the document.
    pub annotations: Vec<(String, String)>,
}

impl Descriptor {
    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.iter().find(|(k, _)| k == key).map(|(_, value)| &**value)
    }
}

impl Manifest {
    /// Parses a manifest. `content_type` is the upstream's `Content-Type` header, if present.
    ///
    /// # Errors
    /// [`Refused`] if the bytes alone show that the manifest is unacceptable.
    pub fn parse(bytes: Bytes, content_type: Option<&str>) -> Result<Self, Refused> {
        if bytes.len() > MAX_MANIFEST {
            return Err(Refused::TooLarge);
        }
        let body = object(&bytes)?;
        refuse_schema1(&body, content_type)?;
        if CONFIG_ONLY_KEYS.iter().any(|key| body.contains_key(*key)) {
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

    /// The same manifest under another digest: the same bytes may be requested by sha256 or by sha512.
    pub fn named(mut self, digest: Digest) -> Result<Self, Refused> {
        if digest != self.digest && Digest::of(digest.algorithm(), &self.bytes) != digest {
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

    /// The children of an index; empty for an image.
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

    /// The first host in any descriptor's `urls` that `allowed` rejects.
    pub fn foreign_url(&self, allowed: impl Fn(&str) -> bool) -> Option<&str> {
        self.descriptors().chain(&self.subject).flat_map(|d| &d.urls).map(|url| &**url).find(|url| !allowed(url))
    }

    /// containerd takes a child manifest from `data` in a descriptor without requesting it.
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

/// Parses the body as strict JSON. A body without any part of a manifest is distinguished from a refused manifest: it
/// is a web page or an error from something in front of the registry.
fn object(bytes: &[u8]) -> Result<Map<String, Value>, Refused> {
    match json::parse(bytes, KNOWN_KEYS, &["annotations"]) {
        Ok(Value::Object(body)) if has_shape(&body) => Ok(body),
        Ok(Value::Object(_)) => Err(Refused::NoManifest("it has neither manifests nor config and layers")),
        Ok(_) => Err(Refused::NoManifest("it is not a JSON object")),
        Err(error) => {
            let mut is_manifest = false;
            match json::each_member(bytes, |key, _| is_manifest |= is_shape_key(key)) {
                Ok(()) if is_manifest => Err(error.into()),
                Ok(()) | Err(_) => Err(Refused::NoManifest("it is not JSON, or not the JSON of a manifest")),
            }
        }
    }
}

fn has_shape(body: &Map<String, Value>) -> bool {
    body.keys().any(|key| is_shape_key(key))
}

fn is_shape_key(key: &str) -> bool {
    SHAPE_KEYS.iter().any(|known| known.eq_ignore_ascii_case(key))
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

/// A body must be unambiguous: clients that look for `manifests` and clients that look for `layers` must agree.
fn is_index(body: &Map<String, Value>) -> Result<bool, Refused> {
    let image = body.contains_key("config") || body.contains_key("layers") || body.contains_key("blobs");
    match (body.contains_key("manifests"), image) {
        (true, true) => Err(Refused::Ambiguous),
        (is_index, _) => Ok(is_index),
    }
}

/// Uses the body's `mediaType`, or else the header, or else the structure of the body. Proxies and file servers set
/// headers without knowing the content. A header therefore counts only if it names a manifest type, and contradicts
/// only if it names a different type than the body. If the body names no type, a header that does not match its
/// structure is ignored.
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
        return Err(Refused::Shape("blobs next to config and layers"));
    }
    let config = optional(body, "config").ok_or(Refused::Shape("config is missing"))?;
    Ok(Content::Image { config: descriptor(config)?, layers: descriptors(body, "layers")? })
}

fn descriptors(body: &Map<String, Value>, key: &'static str) -> Result<Vec<Descriptor>, Refused> {
    let items = match optional(body, key) {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(Refused::Key(key, "must be a list")),
    };
    if items.len() > MAX_DESCRIPTORS {
        return Err(Refused::Entries(key));
    }
    items.iter().map(descriptor).collect()
}

/// Go leaves a field unchanged if its value is null; this does the same.
fn optional<'a>(body: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    body.get(key).filter(|value| !value.is_null())
}

fn text(body: &Map<String, Value>, key: &'static str) -> Result<Option<String>, Refused> {
    match optional(body, key) {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.chars().all(|c| c.is_ascii_graphic() || c == ' ') => Ok(Some(text.clone())),
        Some(_) => Err(Refused::Key(key, "must be a printable string")),
    }
}

pub(super) fn descriptor(value: &Value) -> Result<Descriptor, Refused> {
    let Value::Object(body) = value else { return Err(Refused::Shape("a descriptor must be a JSON object")) };
    let digest = text(body, "digest")?.ok_or(Refused::Key("digest", "is missing from a descriptor"))?;
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

/// Ignores a platform without an architecture.
fn platform(value: &Value) -> Result<Option<Platform>, Refused> {
    let Value::Object(body) = value else { return Err(Refused::Key("platform", "must be an object")) };
    let (os, architecture, variant) = (text(body, "os")?, text(body, "architecture")?, text(body, "variant")?);
    Ok(architecture.map(|architecture| Platform::new(&os.unwrap_or_default(), &architecture, variant.as_deref())))
}

fn strings(body: &Map<String, Value>, key: &'static str) -> Result<Vec<String>, Refused> {
    let not_a_list = Refused::Key(key, "must be a list of strings");
    match optional(body, key) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => {
            items.iter().map(|i| i.as_str().map(str::to_owned)).collect::<Option<_>>().ok_or(not_a_list)
        }
        Some(_) => Err(not_a_list),
    }
}

fn annotations(body: &Map<String, Value>) -> Result<Vec<(String, String)>, Refused> {
    let not_texts = Refused::Key("annotations", "must map strings to strings");
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
    /// It is both an index and an image.
    #[error("the manifest is both an index and an image; clients would disagree on what it is")]
    Ambiguous,
    /// The header names one manifest type, the body another.
    #[error("the upstream's Content-Type {0:?} contradicts the manifest's own mediaType {1:?}")]
    ContentType(String, String),
    /// The bytes do not match the digest.
    #[error("the manifest does not match the requested digest")]
    Digest,
    /// It is both a manifest and an image configuration: a report on one could be mistaken for a report on the other.
    #[error("the manifest is an image configuration too; a report on one could be mistaken for a report on the other")]
    Configuration,
    /// A digest that is malformed or uses an unknown algorithm.
    #[error("invalid digest in a descriptor: {0}")]
    DescriptorDigest(#[from] InvalidDigest),
    /// A manifest embedded as `data` would never be requested, and so never be judged.
    #[error("the descriptor of {0} embeds a manifest as data, which clients would use without requesting it")]
    EmbeddedManifest(Digest),
    /// A list that is longer than the part of a manifest that is remembered.
    #[error("the manifest's {0} has more than 1,000 entries, the most that is remembered of one manifest")]
    Entries(&'static str),
    /// Not JSON, or JSON that parsers interpret differently.
    #[error("the manifest is not strict JSON: {0}")]
    Json(#[from] InvalidJson),
    /// A field of the wrong type.
    #[error("the manifest's {0} {1}")]
    Key(&'static str, &'static str),
    /// A media type that is not a manifest type.
    #[error("the media type {0:?} does not match the manifest's body")]
    MediaType(String),
    /// Not a manifest at all: an error message or a web page.
    #[error("the response is not a manifest: {0}")]
    NoManifest(&'static str),
    /// Docker schema 1, which does not name its configuration by digest.
    #[error("the manifest is Docker schema 1, which is obsolete and cannot be verified; push the image again")]
    Schema1,
    /// Not the structure of a manifest.
    #[error("the manifest is malformed: {0}")]
    Shape(&'static str),
    /// More than [`MAX_MANIFEST`] bytes.
    #[error("the manifest is larger than 4 MiB")]
    TooLarge,
}

#[cfg(test)]
mod tests;
