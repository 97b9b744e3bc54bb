//! The path and query of a request, parsed once: the pull endpoints of the OCI distribution-spec, "Endpoints".

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::digest::{Digest, InvalidDigest};
use super::name::{Host, InvalidName, Reference, Repository};

/// A parsed registry request.
///
/// ```
/// use pullgate::oci::{Endpoint, Route};
/// let route = Route::parse("/v2/docker.io/library/nginx/manifests/latest", None)?;
/// assert!(matches!(route.endpoint, Some(Endpoint::Manifest { .. })));
/// # Ok::<(), pullgate::oci::InvalidRoute>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// The `ns` query parameter: the original registry, as sent by containerd.
    pub ns: Option<Host>,
    /// The endpoint; `None` for `/v2/` itself, which clients use to detect a registry.
    pub endpoint: Option<Endpoint>,
}

/// The whole path before an endpoint's keyword. It has the grammar of a repository, but may start with an upstream:
/// only the configuration tells which part is the repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestedName(Repository);

impl RequestedName {
    /// The name as a string.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The name as a repository: its meaning where the request, or the registry itself, names the upstream otherwise.
    pub fn as_repository(&self) -> &Repository {
        &self.0
    }
}

impl fmt::Display for RequestedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Repository> for RequestedName {
    fn from(repository: Repository) -> Self {
        Self(repository)
    }
}

impl FromStr for RequestedName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        text.parse().map(Self)
    }
}

/// An endpoint and its arguments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// `/v2/<name>/blobs/<digest>`
    Blob {
        /// Upstream and repository.
        name: RequestedName,
        /// The blob's digest.
        digest: Digest,
    },
    /// `/v2/<name>/manifests/<reference>`
    Manifest {
        /// Upstream and repository.
        name: RequestedName,
        /// A tag or a digest.
        reference: Reference,
    },
    /// `/v2/<name>/referrers/<digest>`
    Referrers {
        /// Upstream and repository.
        name: RequestedName,
        /// The digest of the subject.
        digest: Digest,
        /// The page and filter to request from the upstream.
        page: Page,
    },
    /// `/v2/<name>/tags/list`
    Tags {
        /// Upstream and repository.
        name: RequestedName,
        /// The page to request from the upstream.
        page: Page,
    },
}

/// The query of a list request, which selects a page and a filter. Does not include `ns`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// `n`: the maximum number of entries.
    pub n: Option<u32>,
    /// `last`: continue after this entry.
    pub last: Option<String>,
    /// `artifactType`: only referrers of this type.
    pub artifact_type: Option<String>,
    /// All other parameters, with keys and values exactly as in the query. Registries define their own (`next_page`,
    /// `nextToken`, `cursor` …), and only they know the meaning.
    pub opaque: Vec<(String, String)>,
}

/// Characters that must be encoded in a query, or would be misread in a `Link` header. `%` is kept, so encoded text
/// stays as it is.
const UNSAFE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

impl Page {
    /// Parses the query of an upstream's `Link` to its next page.
    ///
    /// # Errors
    /// The query is malformed or longer than 4096 bytes.
    pub fn from_query(query: &str) -> Result<Self, InvalidRoute> {
        parse_query(query, MAX_LINK_QUERY).map(|(_, page)| page)
    }

    /// The parameters as encoded `key=value` pairs.
    pub fn to_query(&self) -> Vec<String> {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let raw = |text: &str| utf8_percent_encode(text, UNSAFE).to_string();
        let n = self.n.map(|n| format!("n={n}"));
        let last = self.last.as_deref().map(|last| format!("last={}", encode(last)));
        let kind = self.artifact_type.as_deref().map(|kind| format!("artifactType={}", encode(kind)));
        let opaque = self.opaque.iter().map(|(key, value)| format!("{}={}", raw(key), raw(value)));
        n.into_iter().chain(last).chain(kind).chain(opaque).collect()
    }
}

impl Route {
    /// Parses the raw path, undecoded, and the raw query.
    ///
    /// # Errors
    /// [`InvalidRoute`] names the malformed part; [`InvalidRoute::Upload`] means a push endpoint of the specification.
    pub fn parse(path: &str, query: Option<&str>) -> Result<Self, InvalidRoute> {
        let rest = path.strip_prefix("/v2").ok_or(InvalidRoute::Path)?;
        let (ns, page) = parse_query(query.unwrap_or_default(), MAX_QUERY)?;
        if matches!(rest, "" | "/") {
            return Ok(Self { ns, endpoint: None });
        }
        let rest = rest.strip_prefix('/').ok_or(InvalidRoute::Path)?;
        if rest.contains("/blobs/uploads") {
            return Err(InvalidRoute::Upload);
        }
        let endpoint = Endpoint::parse(rest, page).map_err(|error| match error {
            InvalidRoute::Digest(_) | InvalidRoute::Name(_) | InvalidRoute::Reference(_) if rest.contains('%') => {
                InvalidRoute::Encoded
            }
            error => error,
        });
        Ok(Self { ns, endpoint: Some(endpoint?) })
    }
}

impl Endpoint {
    /// The whole path before the endpoint's word.
    pub fn name(&self) -> &RequestedName {
        let (Self::Blob { name, .. }
        | Self::Manifest { name, .. }
        | Self::Referrers { name, .. }
        | Self::Tags { name, .. }) = self;
        name
    }

    fn parse(rest: &str, page: Page) -> Result<Self, InvalidRoute> {
        let (head, argument) = rest.rsplit_once('/').ok_or(InvalidRoute::Path)?;
        let (name, word) = head.rsplit_once('/').ok_or(InvalidRoute::Path)?;
        let name: RequestedName = name.parse()?;
        match word {
            "blobs" => Ok(Self::Blob { name, digest: argument.parse()? }),
            "manifests" => {
                Ok(Self::Manifest { name, reference: Reference::from_str(argument).map_err(reference_error)? })
            }
            "referrers" => Ok(Self::Referrers { name, digest: argument.parse()?, page }),
            "tags" if argument == "list" => Ok(Self::Tags { name, page }),
            _ => Err(InvalidRoute::Path),
        }
    }
}

fn reference_error(error: InvalidName) -> InvalidRoute {
    match error {
        InvalidName::Digest(error) => InvalidRoute::Digest(error),
        other => InvalidRoute::Reference(other),
    }
}

/// The maximum length of the query in an upstream's link, in bytes.
const MAX_LINK_QUERY: usize = 4096;

/// The maximum length of a request's query, in bytes. A client follows an upstream's link with `ns` added and more of
/// it encoded.
const MAX_QUERY: usize = 4 * MAX_LINK_QUERY;

fn parse_query(query: &str, limit: usize) -> Result<(Option<Host>, Page), InvalidRoute> {
    if query.len() > limit {
        return Err(InvalidRoute::Query("too long"));
    }
    let mut ns = None;
    let mut page = Page::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match &*percent_encoding::percent_decode_str(key).decode_utf8_lossy() {
            "ns" if ns.is_some() => return Err(InvalidRoute::Query("more than one ns")),
            "ns" => ns = Some(decode(value)?.parse().map_err(InvalidRoute::Namespace)?),
            // An empty value means no limit: some registries write `n=` for it.
            "n" if value.is_empty() => {}
            "n" => page.n = Some(decode(value)?.parse().map_err(|_| InvalidRoute::Query("n is not a number"))?),
            "last" => page.last = Some(decode(value)?),
            "artifactType" => page.artifact_type = Some(decode(value)?),
            _ => page.opaque.push((key.to_owned(), value.to_owned())),
        }
    }
    Ok((ns, page))
}

fn decode(text: &str) -> Result<String, InvalidRoute> {
    let plus = text.replace('+', " ");
    let decoded =
        percent_encoding::percent_decode_str(&plus).decode_utf8().map_err(|_| InvalidRoute::Query("not UTF-8"))?;
    if decoded.chars().any(char::is_control) {
        return Err(InvalidRoute::Query("a control character"));
    }
    Ok(decoded.into_owned())
}

/// Why a request target is not an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidRoute {
    /// The digest is malformed.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    /// The path is percent-encoded.
    #[error("percent-encoding is not accepted in the path: no name, tag or digest needs it")]
    Encoded,
    /// The repository is malformed.
    #[error("invalid repository name: {0}")]
    Name(#[from] InvalidName),
    /// `ns` is not a host.
    #[error("invalid ns: {0}")]
    Namespace(InvalidName),
    /// There is no such endpoint.
    #[error("no such endpoint")]
    Path,
    /// The query is malformed.
    #[error("invalid query: {0}")]
    Query(&'static str),
    /// The tag is malformed.
    #[error("invalid reference: {0}")]
    Reference(InvalidName),
    /// A push endpoint.
    #[error("this registry is pull-only")]
    Upload,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(target: &str) -> Result<Route, InvalidRoute> {
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        Route::parse(path, query)
    }

    #[test]
    fn endpoints() {
        assert_eq!(parse("/v2/").unwrap().endpoint, None);
        assert_eq!(parse("/v2").unwrap().endpoint, None);
        let name: RequestedName = "docker.io/library/nginx".parse().unwrap();
        let route = parse("/v2/docker.io/library/nginx/manifests/1.27?ns=Docker.io%3A443").unwrap();
        assert_eq!(route.ns.unwrap().as_str(), "docker.io");
        let manifest = Endpoint::Manifest { name: name.clone(), reference: "1.27".parse().unwrap() };
        assert_eq!(route.endpoint, Some(manifest));
        let digest: Digest = format!("sha256:{HEX}").parse().unwrap();
        let blob = parse(&format!("/v2/docker.io/library/nginx/blobs/{digest}")).unwrap().endpoint;
        assert_eq!(blob, Some(Endpoint::Blob { name: name.clone(), digest }));
        let tags = parse("/v2/docker.io/library/nginx/tags/list?n=5&last=a%2Bb").unwrap().endpoint;
        let page = Page { n: Some(5), last: Some("a+b".into()), ..Page::default() };
        assert_eq!(tags, Some(Endpoint::Tags { name: name.clone(), page }));
        // A repository may be named like an endpoint.
        assert!(matches!(parse("/v2/a/tags/list/manifests/x").unwrap().endpoint, Some(Endpoint::Manifest { .. })));
        assert!(matches!(parse("/v2/blobs/manifests/manifests/x").unwrap().endpoint, Some(Endpoint::Manifest { .. })));
    }

    #[test]
    fn unknown_parameters_are_passed_on_unchanged() {
        for query in
            ["nextToken=a%2Bb%3D%3D", "cursor=a+b==", "continuationToken=%ff%00", "pageToken=a/b:c;d", "x=", "a=1&a=2"]
        {
            let page = Page::from_query(query).unwrap();
            assert_eq!(page.to_query().join("&"), query);
        }
        let page = Page::from_query("n=&last=b%2Bc&next_page=x&artifactType=a%2Fb&ns=other.test").unwrap();
        assert_eq!((page.n, page.last.as_deref(), page.artifact_type.as_deref()), (None, Some("b+c"), Some("a/b")));
        assert_eq!(page.to_query(), ["last=b%2Bc", "artifactType=a%2Fb", "next_page=x"]);
        // No text from a client or an upstream can end the link or the header that contains it.
        let page = Page::from_query("k<>\"=a b>; rel=\"x\"\u{1b}é").unwrap();
        assert_eq!(page.to_query(), ["k%3C%3E%22=a%20b%3E;%20rel=%22x%22%1B%C3%A9"]);
    }

    #[test]
    fn links_are_shorter_than_the_longest_accepted_query() {
        let longest = format!("last={}", "/".repeat(MAX_LINK_QUERY - 5));
        let page = Page::from_query(&longest).unwrap();
        let followed = format!("/v2/a/tags/list?ns=registry.test&{}", page.to_query().join("&"));
        assert!(parse(&followed).is_ok());
        assert!(Page::from_query(&format!("{longest}/")).is_err());
        assert!(parse(&format!("/v2/a/tags/list?x={}", "y".repeat(MAX_QUERY))).is_err());
    }

    #[test]
    fn malformed_targets() {
        for bad in [
            "/",
            "/v1/",
            "/v2x",
            "/v2//",
            "/v2/x",
            "/v2/manifests/x",
            "/v2/a/manifests/",
            "/v2/a//manifests/x",
            "/v2/../a/manifests/x",
            "/v2/a/%2e%2e/manifests/x",
            "/v2/a%2Fb/manifests/x",
            "/v2/A/manifests/x",
            "/v2/a/manifests/sha256:12",
            "/v2/a/manifests/SHA256:x",
            "/v2/a/blobs/latest",
            "/v2/a/tags/other",
            "/v2/a/manifests/x/",
            "/v2/a/manifests/.x",
            "/v2/a/manifests/x?ns=a&ns=b",
            "/v2/a/manifests/x?ns=http://a",
            "/v2/a/manifests/x?ns=",
            "/v2/a/tags/list?n=-1",
            "/v2/a/tags/list?last=%00",
            "/v2/a/tags/list?last=%ff",
            "/v2/a/blobs/uploads/",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse("/v2/a/blobs/uploads/x").unwrap_err(), InvalidRoute::Upload);
        for encoded in ["/v2/a%2Fb/manifests/x", "/v2/a/manifests/v%31", "/v2/a/blobs/sha256%3A12"] {
            assert_eq!(parse(encoded).unwrap_err(), InvalidRoute::Encoded, "{encoded}");
        }
    }
}
