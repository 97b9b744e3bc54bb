//! IBM's Vulnerability Advisor, version 4 (cloud.ibm.com/apidocs/container-registry/va). Version 3, which Portieris
//! uses, was switched off in November 2023.
//!
//! Queries one image by digest, and only images in IBM's registries: the token is not sent anywhere else. A response
//! that cannot be interpreted never means that the image is clean.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use jiff::SignedDuration;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::InvalidConfig;
use crate::http_client::{HttpClient, HttpError, HttpSettings, Network, Reach, is_confidential};
use crate::oci::{Digest, Host, ImageName};
use crate::policy::{Observed, Report, VaEvidence};
use crate::runtime::{Clock, Metrics, Secret, shown_url, signed_duration};

mod answer;
mod source;
mod token;

pub(super) use source::IbmSource;
use token::{Token, Tokens};

/// The configuration of the service.
#[derive(Clone)]
pub struct Config {
    /// Registries whose images are queried: a host (`icr.io`), or all its subdomains (`.icr.io`).
    pub hosts: Vec<String>,
    /// The base URL of the service; by default `https://` and the image's registry.
    pub url: Option<String>,
    /// The IAM token endpoint.
    pub iam_url: String,
    /// The IAM API key.
    pub api_key: Secret,
    /// The account whose images and exemptions are used if the policy names none.
    pub account: Option<String>,
    /// The egress proxy, an `http://` URL. `None` uses the proxies of the environment, and an empty string uses none.
    pub proxy: Option<String>,
    /// Certificate authorities to trust in addition to those of the system (PEM).
    pub ca: Option<PathBuf>,
    /// The time limit for one attempt.
    pub timeout: Duration,
    /// The wait before the second attempt. The wait before the third is twice as long.
    pub retry_wait: Duration,
    /// How long a report counts as current. The service's advisories change about every 12 hours.
    pub report_ttl: Duration,
    /// How long to keep the result that an image is not scanned yet, or only in part.
    pub unscanned_ttl: Duration,
}

impl Config {
    /// The configuration of the public service, with an API key.
    pub fn new(api_key: Secret) -> Self {
        Self {
            hosts: vec!["icr.io".into(), ".icr.io".into()],
            url: None,
            iam_url: "https://iam.cloud.ibm.com/identity/token".into(),
            api_key,
            account: None,
            proxy: None,
            ca: None,
            timeout: Duration::from_secs(10),
            retry_wait: Duration::from_secs(1),
            report_ttl: Duration::from_secs(12 * 3600),
            unscanned_ttl: Duration::from_secs(5 * 60),
        }
    }
}

impl fmt::Debug for Config {
    /// Omits the proxy's URL, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("hosts", &self.hosts).field("api_key", &self.api_key).finish_non_exhaustive()
    }
}

impl Config {
    /// Whether images of this registry are queried, as in [`IbmClient::serves`].
    pub fn serves(&self, host: &Host) -> bool {
        self.hosts.iter().filter_map(|text| HostPattern::parse(text).ok()).any(|pattern| pattern.matches(host))
    }
}

/// A client of the service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct IbmClient(Arc<IbmInner>);

#[derive(Debug)]
struct IbmInner {
    config: Config,
    hosts: Vec<HostPattern>,
    url: Option<Uri>,
    http: HttpClient,
    tokens: Tokens,
    clock: Clock,
    requests: Family<[(&'static str, &'static str); 1], Counter>,
}

/// The maximum number of attempts for one request.
const TRIES: u32 = 3;
/// The largest report that is read, in bytes.
const MAX_ANSWER: usize = 16 << 20;
/// How long a failure is kept.
const FAILURE_TTL: SignedDuration = SignedDuration::from_secs(10);
/// Everything in an image name but the unreserved characters of RFC 3986 is escaped, including slashes.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl IbmClient {
    /// # Errors
    /// If an address is malformed or would send credentials unencrypted, a host is invalid, or the CA file is unusable.
    pub fn new(config: Config, clock: Clock, metrics: &Metrics) -> Result<Self, InvalidConfig> {
        let hosts = config.hosts.iter().map(|text| HostPattern::parse(text)).collect::<Result<_, _>>()?;
        let url = config.url.as_deref().map(address).transpose()?;
        let iam_url = address(&config.iam_url)?;
        let http = http_client(&config, url.as_ref(), &iam_url)?;
        let tokens = Tokens::new(iam_url, config.api_key.clone(), http.clone(), clock.clone());
        let requests = Family::default();
        let help = "Answers of IBM's Vulnerability Advisor, by outcome";
        let requests = metrics.register("va_ibm_requests", help, requests);
        Ok(Self(Arc::new(IbmInner { config, hosts, url, http, tokens, clock, requests })))
    }

    /// Whether images of this registry are queried.
    pub fn serves(&self, host: &Host) -> bool {
        self.0.hosts.iter().any(|pattern| pattern.matches(host))
    }

    /// Queries the image with this manifest, with the exemptions of an account. May take as long as all attempts
    /// together. `until` in the result states how long it may be kept.
    pub async fn fetch(&self, image: &ImageName, manifest: Digest, account: Option<&str>) -> Observed<VaEvidence> {
        let asked = if self.serves(&image.host) {
            self.ask(image, manifest, account).await
        } else {
            Err(IbmProblem(format!("{} is not a registry of IBM's", image.host)))
        };
        let (value, outcome) = match asked {
            Ok(value) => (value, "answered"),
            Err(IbmProblem(why)) => {
                tracing::warn!(%image, %manifest, %why, "no assessment from IBM's Vulnerability Advisor");
                (VaEvidence::Unavailable { why: format!("IBM Vulnerability Advisor: {why}") }, "failed")
            }
        };
        self.0.requests.get_or_create(&[("outcome", outcome)]).inc();
        self.observed(value)
    }

    /// The account to use: the one that the policy names, otherwise the configured one.
    fn account<'a>(&'a self, named: Option<&'a str>) -> Option<&'a str> {
        named.or(self.0.config.account.as_deref())
    }

    fn observed(&self, value: VaEvidence) -> Observed<VaEvidence> {
        let config = &self.0.config;
        let ttl = match value {
            VaEvidence::Report(Report { incomplete: None, .. }) | VaEvidence::Unsupported { .. } => {
                signed_duration(config.report_ttl)
            }
            // IBM may assess the rest in a minute.
            VaEvidence::Report(_)
            | VaEvidence::Unscanned
            | VaEvidence::NoReport { .. }
            | VaEvidence::Unreadable { .. }
            | VaEvidence::Incomplete { .. }
            | VaEvidence::Opaque { .. } => signed_duration(config.unscanned_ttl),
            VaEvidence::Unavailable { .. } | VaEvidence::Pending { .. } | VaEvidence::WithOrigin { .. } => FAILURE_TTL,
        };
        let at = self.0.clock.now();
        Observed { value, at, until: Some(at.saturating_add(ttl).unwrap_or(at)) }
    }

    async fn ask(&self, image: &ImageName, manifest: Digest, account: Option<&str>) -> Result<VaEvidence, IbmProblem> {
        let uri = self.uri(image, manifest)?;
        let account = self.account(account);
        let mut token = self.0.tokens.current().await.map_err(IbmProblem)?;
        let (mut status, mut body) = self.request(&uri, account, &token).await?;
        if status == StatusCode::UNAUTHORIZED {
            // A token can be rejected before its expiry: retry once with a new one.
            token = self.0.tokens.replace(&token).await.map_err(IbmProblem)?;
            (status, body) = self.request(&uri, account, &token).await?;
        }
        match status {
            StatusCode::OK => answer::parse(&body).map_err(IbmProblem),
            StatusCode::NOT_FOUND => Ok(VaEvidence::Unscanned),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(IbmProblem(format!(
                "{status}: the API key may not read vulnerability reports of this image; \
                 check the key, its Reader access to the namespace, and the account"
            ))),
            status => Err(IbmProblem(format!("it answered {status}"))),
        }
    }

    fn uri(&self, image: &ImageName, manifest: Digest) -> Result<Uri, IbmProblem> {
        let base = match &self.0.url {
            Some(url) => url.to_string(),
            None => format!("https://{}", image.host),
        };
        let name = format!("{image}@{manifest}");
        let path = format!("/va/api/v4/report/image/{}", utf8_percent_encode(&name, SEGMENT));
        (base.trim_end_matches('/').to_owned() + &path).parse().map_err(|e| IbmProblem(format!("no address: {e}")))
    }

    /// Sends a request, and retries if another attempt may help.
    async fn request(
        &self,
        uri: &Uri,
        account: Option<&str>,
        token: &Token,
    ) -> Result<(StatusCode, Bytes), IbmProblem> {
        let config = &self.0.config;
        let mut attempt = 0;
        loop {
            let request = get(uri, account, token)?;
            let answer = self.0.http.fetch(Reach::Configured, request, MAX_ANSWER, config.timeout).await;
            let problem = match answer {
                Ok((status, _)) if is_temporary(status) => IbmProblem(format!("it answered {status}")),
                Ok(answer) => return Ok(answer),
                Err(failed @ HttpError::TooLarge(_)) => return Err(IbmProblem(failed.to_string())),
                Err(failed) => IbmProblem(failed.to_string()),
            };
            attempt += 1;
            if attempt == TRIES {
                return Err(problem);
            }
            tokio::time::sleep(config.retry_wait * attempt).await;
        }
    }
}

fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT
}

fn get(uri: &Uri, account: Option<&str>, token: &Token) -> Result<Request<Full<Bytes>>, IbmProblem> {
    let mut authorization = header::HeaderValue::try_from(format!("Bearer {}", token.text()))
        .map_err(|_| IbmProblem("the token is not a valid header value".into()))?;
    authorization.set_sensitive(true);
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(uri)
        .header(header::AUTHORIZATION, authorization)
        .header(header::ACCEPT, "application/json")
        .header(header::ACCEPT_LANGUAGE, "en");
    if let Some(account) = account {
        request = request.header("Account", account);
    }
    request.body(Full::default()).map_err(|e| IbmProblem(format!("no request: {e}")))
}

/// The operator configures every address, so any address may be connected to. The time limit of a request applies to
/// each of its steps.
fn http_client(config: &Config, url: Option<&Uri>, iam_url: &Uri) -> Result<HttpClient, InvalidConfig> {
    let is_https = |uri: &Uri| uri.scheme_str() == Some("https");
    let limit = config.timeout.max(token::TIMEOUT);
    let settings = HttpSettings {
        proxy: config.proxy.clone(),
        ca: config.ca.clone(),
        needs_roots: url.is_none_or(is_https) || is_https(iam_url),
        ..HttpSettings::within(limit, limit)
    };
    HttpClient::new(&settings, &Network::default()).map_err(|error| InvalidConfig::new(error.to_string()))
}

/// Checks the URL of the service, or that of IAM.
///
/// # Errors
/// It is malformed, or would send credentials unencrypted.
pub fn check_url(text: &str) -> Result<(), InvalidConfig> {
    address(text).map(drop)
}

/// Checks an entry of [`Config::hosts`].
///
/// # Errors
/// It is not the name of a host.
pub fn check_host(text: &str) -> Result<(), InvalidConfig> {
    HostPattern::parse(text).map(drop)
}

/// Checks the identifier of an account, which is sent in a header.
///
/// # Errors
/// It is empty, or cannot be sent.
pub fn check_account(text: &str) -> Result<(), InvalidConfig> {
    let is_sent = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_sent { Ok(()) } else { Err(InvalidConfig::new(format!("{text:?} is not the identifier of an account"))) }
}

fn address(text: &str) -> Result<Uri, InvalidConfig> {
    let shown = shown_url(text);
    if !text.contains("://") {
        return Err(InvalidConfig::new(format!("{shown:?} is not a URL")));
    }
    let uri: Uri = text.parse().map_err(|e| InvalidConfig::new(format!("{shown}: {e}")))?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(InvalidConfig::new(format!(
            "{shown}: a user and a password in the URL have no use here; remove them"
        )));
    }
    if is_confidential(&uri) {
        Ok(uri)
    } else {
        Err(InvalidConfig::new(format!("{shown}: credentials are sent only over https or within this machine")))
    }
}

/// Why there is no assessment.
#[derive(Debug)]
struct IbmProblem(String);

/// A host (`icr.io`), or all its subdomains (`.icr.io`).
#[derive(Debug)]
enum HostPattern {
    Below(String),
    Exactly(Host),
}

impl HostPattern {
    fn parse(text: &str) -> Result<Self, InvalidConfig> {
        let below = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
        let host: Host = below.unwrap_or(text).parse().map_err(|e| InvalidConfig::new(format!("{text:?}: {e}")))?;
        Ok(if below.is_some() { Self::Below(format!(".{host}")) } else { Self::Exactly(host) })
    }

    fn matches(&self, host: &Host) -> bool {
        match self {
            Self::Below(suffix) => host.as_str().ends_with(suffix.as_str()),
            Self::Exactly(exactly) => exactly == host,
        }
    }
}

#[cfg(test)]
mod tests;
