//! Names used in registries: hosts, repositories, tags and references. They are parsed once and printed back unchanged.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::digest::{Digest, InvalidDigest};

/// The canonical name of Docker Hub.
pub const DOCKER_HUB: &str = "docker.io";

/// The hosts that names of images on Docker Hub can have.
pub const DOCKER_HUB_NAMES: [&str; 3] = [DOCKER_HUB, "index.docker.io", "registry-1.docker.io"];

/// The canonical host of a registry, in lower case, with the port unless it is 443: `docker.io`,
/// `registry.acme.com:5000`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(Arc<str>);

impl Host {
    /// The host as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is Docker Hub, whose short names get a `library/` prefix.
    pub fn is_docker_hub(&self) -> bool {
        &*self.0 == DOCKER_HUB
    }

    /// The host by which its images are called: `docker.io` for every name of Docker Hub, and otherwise the same host.
    pub fn canonical(self) -> Self {
        if DOCKER_HUB_NAMES.contains(&self.as_str()) { Self(DOCKER_HUB.into()) } else { self }
    }
}

impl FromStr for Host {
    type Err = InvalidName;

    /// Lower-cases the name, and removes a trailing dot and the port 443.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let lower = text.to_ascii_lowercase();
        let (name, port) = match lower.rsplit_once(':') {
            Some((name, port)) if !lower.ends_with(']') => (name, Some(port)),
            _ => (&*lower, None),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let port_is_number = |p: &str| p.len() <= 5 && p.parse::<u16>().is_ok_and(|n| n > 0) && !p.starts_with('+');
        if !(is_dns_name(name) || is_bracketed_ipv6(name)) || !port.is_none_or(port_is_number) {
            return Err(if is_ipv6(text) { InvalidName::BareAddress } else { InvalidName::Host });
        }
        Ok(Self(match port {
            None | Some("443") => name.into(),
            Some(port) => format!("{name}:{port}").into(),
        }))
    }
}

fn is_dns_name(name: &str) -> bool {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn is_bracketed_ipv6(name: &str) -> bool {
    name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).is_some_and(is_ipv6)
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok()
}

/// The path of a repository within its registry: `library/nginx`.
///
/// Grammar and length limit: OCI distribution-spec, "Pulling manifests" (`<name>`).
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository(Arc<str>);

impl Repository {
    /// The path as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Repository {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.len() <= 255 && text.split('/').all(is_path_component) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName::Repository)
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    bytes
        .split(|&c| alphanumeric(c))
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&c| c == b'-'))
}

/// A tag, such as `latest`. Grammar: OCI distribution-spec, "Pulling manifests" (`<reference>` as a tag).
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(Arc<str>);

impl Tag {
    /// The tag used for a reference without tag or digest.
    pub fn latest() -> Self {
        Self("latest".into())
    }

    /// The tag as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let valid = text.len() <= 128
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|c| word(c) || c == b'.' || c == b'-');
        if valid { Ok(Self(text.into())) } else { Err(InvalidName::Tag) }
    }
}

macro_rules! text_value {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0.as_ref().into()
            }
        }
    )*};
}
text_value!(Host Repository Tag);

/// The reference of a requested manifest.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Reference {
    /// A digest, which identifies the content.
    Digest(Digest),
    /// A tag, which may move.
    Tag(Tag),
}

impl FromStr for Reference {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Tag(tag) => tag.fmt(f),
        }
    }
}

/// A repository in a registry, by the registry's own name: `docker.io/library/nginx`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ImageName {
    /// The registry, never the proxy.
    pub host: Host,
    /// The path within the registry.
    pub repository: Repository,
}

impl ImageName {
    /// Whether a text selects the repository: its name with the registry starts with the text, or its path in the
    /// registry is this namespace or repository, or is below it. `acme` selects `icr.io/acme/app` and not
    /// `icr.io/acme-test/app`.
    ///
    /// ```text
    /// icr.io/acme/app   selected by: icr.io, icr.io/acme/a, acme, acme/app
    /// ```
    pub fn is_selected_by(&self, text: &str) -> bool {
        let is_below = self.repository.as_str().strip_prefix(text.trim_end_matches('/'));
        self.to_string().starts_with(text) || is_below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The name of an image of the repository: `docker.io/library/nginx:1.27`.
    pub fn with_reference(&self, reference: &Reference) -> String {
        match reference {
            Reference::Digest(digest) => format!("{self}@{digest}"),
            Reference::Tag(tag) => format!("{self}:{tag}"),
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)
    }
}

/// An image as users write it: `nginx`, `icr.io/ns/app:v1@sha256:…`, with Docker's rules for short names.
///
/// ```
/// let image: pullgate::oci::ImageReference = "nginx:1.27".parse()?;
/// assert_eq!(image.name.to_string(), "docker.io/library/nginx");
/// # Ok::<(), pullgate::oci::InvalidName>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ImageReference {
    /// Registry and repository, with short names expanded.
    pub name: ImageName,
    /// The tag, if given.
    pub tag: Option<Tag>,
    /// The digest, if given.
    pub digest: Option<Digest>,
}

impl ImageReference {
    /// The reference to request: the digest, or else the tag, or else `latest`.
    pub fn reference(&self) -> Reference {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Reference::Digest(*digest),
            (None, Some(tag)) => Reference::Tag(tag.clone()),
            (None, None) => Reference::Tag(Tag::latest()),
        }
    }
}

/// Whether the first component of a name with several is the host of a registry: it contains a dot or a colon, or is
/// `localhost` (github.com/distribution/reference, `ParseNormalizedNamed`).
pub fn is_registry(component: &str) -> bool {
    component.contains(['.', ':']) || component == "localhost"
}

impl FromStr for ImageReference {
    type Err = InvalidName;

    /// An image is on Docker Hub if its name begins with no host ([`is_registry`]).
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (text, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (host, path) = match text.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest),
            _ => (DOCKER_HUB, text),
        };
        let (path, tag) = match path.split_once(':') {
            Some((path, tag)) => (path, Some(tag.parse()?)),
            None => (path, None),
        };
        let host = host.parse::<Host>()?.canonical();
        let repository = if host.is_docker_hub() { docker_hub_repository(path)? } else { path.parse()? };
        Ok(Self { name: ImageName { host, repository }, tag, digest })
    }
}

/// A Docker Hub repository, with the `library/` prefix that short names omit.
pub fn docker_hub_repository(path: &str) -> Result<Repository, InvalidName> {
    if path.contains('/') { path.parse() } else { format!("library/{path}").parse() }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Why a string is not a valid name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidName {
    /// The digest part is malformed.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    /// An IPv6 address without brackets.
    #[error("an IPv6 address is in brackets in the name of a registry, such as [2001:db8::1]:5000")]
    BareAddress,
    /// Not a DNS name or address with an optional port.
    #[error(
        "not a registry host: a name with a port if it has one, without scheme and path, such as registry.acme.com"
    )]
    Host,
    /// Not lower-case path components joined by slashes, or longer than 255 bytes.
    #[error(
        "a repository is path components joined by /, of lower-case letters, digits and single separators (. _ __ -), and at \
         most 255 characters long"
    )]
    Repository,
    /// Not a tag.
    #[error("a tag has at most 128 letters, digits, _, . and -, and does not start with . or -")]
    Tag,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        for good in ["nginx", "library/nginx", "a/b/c", "a.b", "a_b", "a__b", "a--b", "0", "x-y/z"] {
            assert!(good.parse::<Repository>().is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "a/B", "a..b", "a___b", ".a", "a.", "-a", "a-", "a%2fb", "a b", "ä",
            "a._b", &*long,
        ] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags() {
        for good in ["latest", "v1.0", "_x", "A-b_c.d", &"x".repeat(128)] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for bad in ["", ".x", "-x", "a/b", "a:b", "a b", "é", &*"x".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_are_canonical() {
        for (text, host) in [
            ("docker.io", "docker.io"),
            ("Docker.IO", "docker.io"),
            ("docker.io.", "docker.io"),
            ("docker.io:443", "docker.io"),
            ("localhost:5000", "localhost:5000"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("[::1]:5000", "[::1]:5000"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(text.parse::<Host>().unwrap().as_str(), host, "{text}");
        }
        for bad in ["", "a/b", "a:0", "a:99999", "a:", "a..b", "http://a", "a b", "-a", "a@b", "[::1", "[x]", "a:+1"] {
            assert_eq!(bad.parse::<Host>(), Err(InvalidName::Host), "{bad}");
        }
        for bare in ["::1", "::1:5000", "2001:DB8::1", "fe80::1"] {
            assert_eq!(bare.parse::<Host>(), Err(InvalidName::BareAddress), "{bare}");
            let image = format!("{bare}/team/app:1").parse::<ImageReference>();
            assert_eq!(image, Err(InvalidName::BareAddress), "{bare}");
        }
    }

    #[test]
    fn image_references() {
        let hex = "0".repeat(64);
        for (text, printed) in [
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("acme/app", "docker.io/acme/app"),
            ("index.docker.io/nginx", "docker.io/library/nginx"),
            ("Registry-1.Docker.io:443/nginx", "docker.io/library/nginx"),
            ("localhost/app:v1", "localhost/app:v1"),
            ("registry.acme.com:5000/team/app", "registry.acme.com:5000/team/app"),
        ] {
            assert_eq!(text.parse::<ImageReference>().unwrap().to_string(), printed, "{text}");
        }
        let both: ImageReference = format!("ubuntu:v1@sha256:{hex}").parse().unwrap();
        assert_eq!(both.to_string(), format!("docker.io/library/ubuntu:v1@sha256:{hex}"));
        assert!(matches!(both.reference(), Reference::Digest(_)));
        for bad in ["", "?", "Nginx", "nginx:", "nginx@sha256:1", "a.b/", "http://x/y"] {
            assert!(bad.parse::<ImageReference>().is_err(), "{bad}");
        }
    }

    #[test]
    fn repositories_are_selected_by_prefix_or_by_namespace() {
        let name = ImageName { host: "icr.io".parse().unwrap(), repository: "acme/app".parse().unwrap() };
        for (text, is_selected) in [
            ("", true),
            ("icr.io", true),
            ("icr.io/acme/a", true),
            ("acme", true),
            ("acme/", true),
            ("acme/app", true),
            ("acm", false),
            ("acme/ap", false),
            ("app", false),
            ("quay.io", false),
        ] {
            assert_eq!(name.is_selected_by(text), is_selected, "{text:?}");
        }
    }
}
