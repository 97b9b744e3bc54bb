//! The images that an exemption applies to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, Host, ImageName, InvalidName, Repository, Tag, is_registry};

/// The images that an exemption applies to, in the notation of `ibmcloud cr exemption-add --scope`.
///
/// | text | images |
/// |---|---|
/// | `*` | all |
/// | `HOST/*` | all of one registry |
/// | `birds` | those whose repository begins with the component `birds`: IBM's namespace |
/// | `birds/bluebird` | those of one repository |
/// | `birds/bluebird:v1` | those that this tag refers to |
/// | `birds/bluebird@sha256:…` | the one with this digest, or those of the index with this digest |
///
/// A scope without a registry applies in every registry. Except for `*`, a registry can be written before it
/// (`us.icr.io/birds/bluebird`). As in image references, the first component is a registry if it contains a dot or a
/// colon or is `localhost`.
///
/// ```
/// let scope: pullgate::policy::ExemptionScope = "us.icr.io/birds/bluebird:v1".parse()?;
/// assert!("birds".parse::<pullgate::policy::ExemptionScope>()?.contains(&scope));
/// # Ok::<(), pullgate::policy::InvalidExemptionScope>(())
/// ```
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExemptionScope {
    /// `None`: in every registry.
    host: Option<Host>,
    images: ScopedImages,
}

/// The images of a scope in one registry.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum ScopedImages {
    All,
    /// The repository with this name and all below it. The name has one component.
    Namespace(Repository),
    /// A repository with at least two components.
    Repository(Repository),
    Tag(Repository, Tag),
    Digest(Repository, Digest),
}

impl ExemptionScope {
    /// All images of all registries: `*`.
    pub const EVERYTHING: Self = Self { host: None, images: ScopedImages::All };

    /// The registry that the scope names.
    pub fn registry(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// The first component of the text, which may be meant as a registry, and the rest: `*` if there is none.
    pub fn first_and_rest(&self) -> (String, String) {
        let text = self.to_string();
        let (first, rest) = text.split_once('/').unwrap_or((&text, "*"));
        (first.to_owned(), rest.to_owned())
    }

    /// The name, if the scope is a namespace of Docker Hub other than `library`. As a scope, `docker.io/nginx` does not
    /// contain `docker.io/library/nginx`, although image references may shorten that to the same text.
    pub fn docker_hub_namespace(&self) -> Option<&str> {
        let is_hub = self.host.as_ref().is_some_and(Host::is_docker_hub);
        match &self.images {
            ScopedImages::Namespace(name) if is_hub && name.as_str() != "library" => Some(name.as_str()),
            _ => None,
        }
    }

    /// Whether every image of the other scope is in this one. True for the same scope.
    pub fn contains(&self, other: &Self) -> bool {
        (self.host.is_none() || self.host == other.host) && self.images.contain(&other.images)
    }

    /// The scopes of an image with these tags and digests, without those of the digests of its children.
    pub(super) fn of_image(name: &ImageName, tags: &[Tag], digests: &[Digest]) -> Vec<Self> {
        let repository = &name.repository;
        let mut images = vec![ScopedImages::All];
        images.extend(namespace_of(repository).map(ScopedImages::Namespace));
        images.push(ScopedImages::Repository(repository.clone()));
        images.extend(tags.iter().map(|tag| ScopedImages::Tag(repository.clone(), tag.clone())));
        images.extend(digests.iter().map(|digest| ScopedImages::Digest(repository.clone(), *digest)));
        let hosts = [None, Some(name.host.clone())];
        hosts
            .iter()
            .flat_map(|host| images.iter().map(|images| Self { host: host.clone(), images: images.clone() }))
            .collect()
    }

    /// The scopes of one digest.
    pub(super) fn of_digest(name: &ImageName, digest: Digest) -> [Self; 2] {
        let of = |host| Self { host, images: ScopedImages::Digest(name.repository.clone(), digest) };
        [of(None), of(Some(name.host.clone()))]
    }

    /// Whether the scope is one digest.
    pub(super) fn is_digest(&self) -> bool {
        matches!(self.images, ScopedImages::Digest(..))
    }
}

impl ScopedImages {
    fn contain(&self, other: &Self) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(name) => match other {
                Self::All => false,
                Self::Namespace(inner) => name == inner,
                Self::Repository(inner) | Self::Tag(inner, _) | Self::Digest(inner, _) => {
                    namespace_of(inner).as_ref() == Some(name)
                }
            },
            Self::Repository(name) => match other {
                Self::All | Self::Namespace(_) => false,
                Self::Repository(inner) | Self::Tag(inner, _) | Self::Digest(inner, _) => name == inner,
            },
            Self::Tag(..) | Self::Digest(..) => self == other,
        }
    }
}

/// The namespace of a repository in IBM's sense: its first component.
fn namespace_of(repository: &Repository) -> Option<Repository> {
    repository.as_str().split('/').next()?.parse().ok()
}

impl FromStr for ExemptionScope {
    type Err = InvalidExemptionScope;

    fn from_str(text: &str) -> Result<Self, InvalidExemptionScope> {
        if text == "*" {
            return Ok(Self::EVERYTHING);
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>().map_err(InvalidName::from)?)),
            None => (text, None),
        };
        let (host, path) = match name.split_once('/') {
            Some((first, path)) if is_registry(first) => (Some(first.parse::<Host>()?.canonical()), path),
            None if is_registry(name) => return Err(InvalidExemptionScope::Incomplete),
            _ => (None, name),
        };
        if path == "*" && host.is_some() && digest.is_none() {
            return Ok(Self { host, images: ScopedImages::All });
        }
        let (path, tag) = match path.split_once(':') {
            Some((path, tag)) => (path, Some(tag.parse::<Tag>()?)),
            None => (path, None),
        };
        let repository: Repository = path.parse()?;
        let is_single = !path.contains('/');
        let is_in_namespace = host.as_ref().is_none_or(Host::is_docker_hub);
        let images = match (tag, digest) {
            (Some(_), Some(_)) => return Err(InvalidExemptionScope::TagAndDigest),
            (None, None) if is_single => ScopedImages::Namespace(repository),
            (None, None) => ScopedImages::Repository(repository),
            // Without a registry this could be a name on Docker Hub, and there `nginx` means `library/nginx`.
            _ if is_single && is_in_namespace => return Err(InvalidExemptionScope::Incomplete),
            (Some(tag), None) => ScopedImages::Tag(repository, tag),
            (None, Some(digest)) => ScopedImages::Digest(repository, digest),
        };
        Ok(Self { host, images })
    }
}

impl fmt::Display for ExemptionScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{host}/")?;
        }
        match &self.images {
            ScopedImages::All => f.write_str("*"),
            ScopedImages::Namespace(name) | ScopedImages::Repository(name) => name.fmt(f),
            ScopedImages::Tag(name, tag) => write!(f, "{name}:{tag}"),
            ScopedImages::Digest(name, digest) => write!(f, "{name}@{digest}"),
        }
    }
}

impl TryFrom<String> for ExemptionScope {
    type Error = InvalidExemptionScope;

    fn try_from(text: String) -> Result<Self, InvalidExemptionScope> {
        text.parse()
    }
}

impl From<ExemptionScope> for String {
    fn from(scope: ExemptionScope) -> Self {
        scope.to_string()
    }
}

/// Why a text is not a scope.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidExemptionScope {
    /// A registry alone, or a tag or digest without a namespace.
    #[error(
        "a scope is *, NAMESPACE, NAMESPACE/REPOSITORY, NAMESPACE/REPOSITORY:TAG or NAMESPACE/REPOSITORY@DIGEST, or REGISTRY/ \
         before one of these; all images of a registry are REGISTRY/*"
    )]
    Incomplete,
    /// A part is not a valid name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A tag and a digest.
    #[error("a scope names a tag or a digest, not both")]
    TagAndDigest,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> ExemptionScope {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn scopes_are_parsed_and_printed() {
        let digest = format!("birds/bluebird@sha256:{}", "a".repeat(64));
        for text in [
            "*",
            "birds",
            "birds/bluebird",
            "birds/a/b",
            "birds/bluebird:v1",
            &digest,
            "us.icr.io/*",
            "us.icr.io/birds",
            "us.icr.io/birds/bluebird",
            "localhost:5000/birds/bluebird:v1",
            "registry.test/app:v1",
            "docker.io/library/nginx:1",
        ] {
            assert_eq!(scope(text).to_string(), text);
        }
        assert_eq!(scope("Index.Docker.IO:443/library/nginx").to_string(), "docker.io/library/nginx");
        let both = format!("{}:v1@sha256:{}", "birds/bluebird", "a".repeat(64));
        for bad in [
            "",
            "/",
            "**",
            "birds/*",
            "*/birds",
            "us.icr.io",
            "localhost",
            "localhost:5000",
            "birds:v1",
            "us.icr.io/",
            "us.icr.io/*:v1",
            "us.icr.io/*@sha256:1",
            "docker.io/nginx:1",
            "Birds",
            "birds/",
            "birds/x:",
            "birds/x@v1",
            "birds/x:a b",
            "birds bluebird",
            &both,
        ] {
            assert!(bad.parse::<ExemptionScope>().is_err(), "{bad}");
        }
    }

    #[test]
    fn wider_scopes_contain_narrower_ones() {
        let levels = ["birds/bluebird:v1", "birds/bluebird", "birds", "*"];
        for (i, narrow) in levels.iter().enumerate() {
            for (j, wide) in levels.iter().enumerate() {
                assert_eq!(scope(wide).contains(&scope(narrow)), j >= i, "{wide} {narrow}");
            }
        }
        for (wide, narrow, contains) in [
            ("birds", "us.icr.io/birds/x", true),
            ("us.icr.io/birds", "birds/x", false),
            ("us.icr.io/birds", "us.icr.io/birds/x", true),
            ("us.icr.io/*", "us.icr.io/birds", true),
            ("us.icr.io/*", "icr.io/birds", false),
            ("us.icr.io/*", "*", false),
            ("*", "us.icr.io/*", true),
            ("birds", "birdsong/x", false),
            ("birds/x", "birds/x/y", false),
            ("birds", "birds/x/y", true),
            ("registry.test/app", "registry.test/app:v1", true),
            ("birds/x:v1", "birds/x:v2", false),
        ] {
            assert_eq!(scope(wide).contains(&scope(narrow)), contains, "{wide} {narrow}");
        }
    }
}
