//! Requests for revocation lists and to OCSP responders, and what they answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use jiff::{SignedDuration, Timestamp};
use url::Url;

use super::ocsp;
use crate::http_client::{HttpClient, HttpSettings, InvalidSettings, Network, Reach};
use crate::oci::Digest;
use crate::runtime::{ALLOCATION, Bounded, Clock, Flights, Tasks};
use crate::x509::{RevocationList, RevokedCertificate, X509Certificate};

/// The largest revocation list, in bytes.
const MAX_LIST: usize = 8 * 1024 * 1024;
/// The largest answer of an OCSP responder, in bytes; real ones have about four thousand.
const MAX_OCSP: usize = 64 * 1024;
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer is used without asking again, even if it is valid for longer.
const REFRESH: SignedDuration = SignedDuration::from_hours(1);
/// How long a URL that did not answer is not asked again.
const FAILURE_TTL: SignedDuration = SignedDuration::from_secs(30);
/// The memory of all answers, in bytes. There is one for each issuer or certificate of a signer, not for each image.
const MEMORY: u64 = 4 * 1024 * 1024;

/// How the revocation of certificates is found out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RevocationConfig {
    /// Whether revocation lists and OCSP responders are requested from the URLs in certificates.
    pub online: bool,
    /// The hosts among them that may have private addresses: `crl.corp.example`.
    pub private_hosts: Vec<String>,
    /// The egress proxy, an `http://` URL. `None` uses the proxies of the environment.
    pub proxy: Option<String>,
}

impl Default for RevocationConfig {
    /// Online, as notation does it.
    fn default() -> Self {
        Self { online: true, private_hosts: Vec::new(), proxy: None }
    }
}

/// Why revocation cannot be found out as configured.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("trust.revocation: {0}")]
pub struct InvalidRevocationConfig(String);

impl From<InvalidSettings> for InvalidRevocationConfig {
    fn from(invalid: InvalidSettings) -> Self {
        Self(invalid.to_string())
    }
}

/// What a URL answered. Its signature is verified.
#[derive(Clone, Debug)]
pub(super) enum RevocationAnswer {
    List(RevocationList),
    Ocsp {
        revoked: Option<RevokedCertificate>,
        until: Timestamp,
    },
    /// No answer, or none that counts.
    Failed(String),
}

/// An answer in memory.
#[derive(Clone, Debug)]
struct KeptAnswer {
    answer: RevocationAnswer,
    /// When it is asked again.
    refresh_at: Timestamp,
}

/// Asks, and remembers answers. Cheap to clone.
#[derive(Clone)]
pub(super) struct RevocationFetcher {
    client: HttpClient,
    private_hosts: Arc<[String]>,
    kept: Arc<Bounded<Arc<str>, KeptAnswer>>,
    flights: Arc<Flights<Arc<str>, RevocationAnswer>>,
    clock: Clock,
}

impl RevocationFetcher {
    pub(super) fn new(config: &RevocationConfig, clock: Clock, tasks: &Tasks) -> Result<Self, InvalidRevocationConfig> {
        Self::with_network(config, clock, tasks, &Network::default())
    }

    pub(super) fn with_network(
        config: &RevocationConfig,
        clock: Clock,
        tasks: &Tasks,
        network: &Network,
    ) -> Result<Self, InvalidRevocationConfig> {
        let settings = HttpSettings { proxy: config.proxy.clone(), ..HttpSettings::within(TIMEOUT, TIMEOUT) };
        let weight = |key: &Arc<str>, kept: &KeptAnswer| key.len() + ALLOCATION + kept.weight();
        Ok(Self {
            client: HttpClient::new(&settings, network)?,
            private_hosts: config.private_hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            kept: Arc::new(Bounded::new(MEMORY, weight)),
            flights: Arc::new(Flights::new(tasks.clone())),
            clock,
        })
    }

    /// Forgets all answers.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        self.kept.clear();
    }

    /// The list at a URL, which its issuer signed.
    pub(super) async fn list(&self, url: &str, issuer: &X509Certificate) -> Result<RevocationList, String> {
        let key = format!("list {url} {}", Digest::sha256(issuer.der()));
        let (this, url, issuer) = (self.clone(), url.to_owned(), issuer.clone());
        let ask = move || async move { this.fetch_list(&url, &issuer).await };
        match self.answer(key.into(), ask).await {
            RevocationAnswer::List(list) => Ok(list),
            RevocationAnswer::Failed(why) => Err(why),
            RevocationAnswer::Ocsp { .. } => Err("not a list".into()),
        }
    }

    /// What an OCSP responder says about a certificate.
    pub(super) async fn ocsp(
        &self,
        url: &str,
        certificate: &X509Certificate,
        issuer: &X509Certificate,
    ) -> RevocationAnswer {
        let key = format!("ocsp {url} {} {}", Digest::sha256(issuer.der()), Digest::sha256(certificate.der()));
        let (this, url, certificate, issuer) = (self.clone(), url.to_owned(), certificate.clone(), issuer.clone());
        self.answer(key.into(), move || async move { this.fetch_ocsp(&url, &certificate, &issuer).await }).await
    }

    /// The answer in memory, or one that is asked for now. A valid answer is used for longer if none is available.
    async fn answer<F>(&self, key: Arc<str>, ask: impl FnOnce() -> F + Send + 'static) -> RevocationAnswer
    where
        F: Future<Output = RevocationAnswer> + Send + 'static,
    {
        let kept = self.kept.get(&*key);
        let now = self.clock.now();
        if let Some(kept) = kept.as_ref().filter(|kept| now < kept.refresh_at) {
            return kept.answer.clone();
        }
        let answer = self.flights.join(key.clone(), ask).await;
        let answer = answer.unwrap_or_else(|| RevocationAnswer::Failed("the request was interrupted".into()));
        let (answer, ttl) = match (answer, kept) {
            (RevocationAnswer::Failed(_), Some(kept)) if kept.answer.until().is_some_and(|until| now <= until) => {
                (kept.answer, FAILURE_TTL)
            }
            (failed @ RevocationAnswer::Failed(_), _) => (failed, FAILURE_TTL),
            (answer, _) => (answer, REFRESH),
        };
        let refresh_at = now.saturating_add(ttl).unwrap_or(Timestamp::MAX);
        let refresh_at = answer.until().map_or(refresh_at, |until| until.min(refresh_at));
        self.kept.insert(key, KeptAnswer { answer: answer.clone(), refresh_at });
        answer
    }

    async fn fetch_list(&self, url: &str, issuer: &X509Certificate) -> RevocationAnswer {
        let request = Request::builder().method(Method::GET).body(Full::default());
        let failed = |why: String| RevocationAnswer::Failed(format!("{url}: {why}"));
        let bytes = match self.fetch(url, request, MAX_LIST).await {
            Ok(bytes) => bytes,
            Err(why) => return failed(why),
        };
        match RevocationList::from_der(&bytes) {
            Err(invalid) => failed(invalid.to_string()),
            Ok(list) if !list.is_issued_by(issuer) => failed(format!("the list is not signed by {issuer}")),
            Ok(list) if list.next_update() < self.clock.now() => {
                failed(format!("the list ended at {}", list.next_update()))
            }
            Ok(list) => RevocationAnswer::List(list),
        }
    }

    async fn fetch_ocsp(&self, url: &str, certificate: &X509Certificate, issuer: &X509Certificate) -> RevocationAnswer {
        let failed = |why: String| RevocationAnswer::Failed(format!("{url}: {why}"));
        let body = match ocsp::request(certificate, issuer) {
            Ok(body) => body,
            Err(why) => return failed(why),
        };
        let request = Request::builder()
            .method(Method::POST)
            .header(header::CONTENT_TYPE, "application/ocsp-request")
            .body(Full::new(Bytes::from(body)));
        match self.fetch(url, request, MAX_OCSP).await {
            Err(why) => failed(why),
            Ok(bytes) => match ocsp::read(&bytes, certificate, issuer, self.clock.now()) {
                Err(why) => failed(why),
                Ok((revoked, until)) => RevocationAnswer::Ocsp { revoked, until },
            },
        }
    }

    async fn fetch(
        &self,
        url: &str,
        request: http::Result<Request<Full<Bytes>>>,
        limit: usize,
    ) -> Result<Bytes, String> {
        let parsed = url.parse::<Url>().map_err(|error| error.to_string())?;
        // Answers are signed, and verifying a server's certificate could ask for its own revocation.
        if parsed.scheme() != "http" || !parsed.username().is_empty() || parsed.password().is_some() {
            return Err("only http URLs without a password are supported".into());
        }
        let host = parsed.host_str().unwrap_or_default().to_ascii_lowercase();
        let reach = if self.private_hosts.contains(&host) { Reach::Configured } else { Reach::Named };
        let mut request = request.map_err(|error| error.to_string())?;
        *request.uri_mut() = parsed.as_str().parse().map_err(|_| "not a usable URL")?;
        match self.client.fetch(reach, request, limit, TIMEOUT).await {
            Ok((StatusCode::OK, bytes)) => Ok(bytes),
            Ok((status, _)) => Err(format!("answered {status}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl RevocationAnswer {
    /// The last moment at which it is valid.
    fn until(&self) -> Option<Timestamp> {
        match self {
            Self::List(list) => Some(list.next_update()),
            Self::Ocsp { until, .. } => Some(*until),
            Self::Failed(_) => None,
        }
    }
}

impl KeptAnswer {
    fn weight(&self) -> usize {
        match &self.answer {
            // Its entries by serial number take about as much as its encoding does, twice.
            RevocationAnswer::List(list) => 3 * list.der().len(),
            RevocationAnswer::Ocsp { .. } => 0,
            RevocationAnswer::Failed(why) => why.len(),
        }
    }
}
