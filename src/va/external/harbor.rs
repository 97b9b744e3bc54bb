//! Services with Harbor's pluggable scanner API (goharbor/pluggable-scanner-spec, version 1.2): adapters of Trivy,
//! Clair, Anchore and others.
//!
//! A service pulls the image itself, from a registry that the request names. It is never told a digest that the gate
//! did not resolve, and its report must name the digest that it was asked about.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use serde_json::json;
use tokio::time::Instant;

use super::EngineVersion;
use super::config::{AdapterAuth, AdapterConfig};
use crate::http_client::{
    HttpClient, HttpError, HttpSettings, Network, Reach, ReceivedBody, is_confidential, read_whole,
};
use crate::oci::ImageName;
use crate::policy::Report;
use crate::runtime::shown_url;
use crate::va::reports::{ReportTarget, harbor_report};
use crate::va::{InvalidConfig, VaSubject};
use metadata::AdapterMetadata;

mod metadata;

/// The time limit for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer but a report, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// The largest report, in bytes.
const MAX_REPORT: usize = 64 << 20;
/// The longest identifier of a scan, in bytes.
const MAX_ID: usize = 256;
/// How long to wait before the first question for a report.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How long to wait before the next question, if the service does not say.
const USUAL_WAIT: Duration = Duration::from_secs(5);
/// The longest wait that a service may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How many questions for a report may fail in a row.
const MAX_FAILURES: u32 = 3;
/// How often a scan is requested again because the service forgot it.
const MAX_REPEATS: u32 = 1;
/// The header of an API key, as Harbor sends it.
const API_KEY: HeaderName = HeaderName::from_static("x-scanneradapter-api-key");
/// The header with the time to wait, in seconds.
const REFRESH_AFTER: HeaderName = HeaderName::from_static("refresh-after");
const METADATA_TYPE: &str = "application/vnd.scanner.adapter.metadata+json; version=1.0";
const REQUEST_TYPE: &str = "application/vnd.scanner.adapter.scan.request+json; version=1.0";
const RESPONSE_TYPE: &str = "application/vnd.scanner.adapter.scan.response+json; version=1.0";

/// A client of one service.
pub(in crate::va) struct HarborAdapter {
    config: AdapterConfig,
    base: String,
    http: HttpClient,
    /// The time limit for one scan.
    timeout: Duration,
}

/// An answer of the service.
struct AdapterAnswer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// What a question for a report led to.
enum Poll {
    Forgotten,
    Report(Bytes),
    Wait(Duration),
}

impl HarborAdapter {
    /// # Errors
    /// If the URL is malformed or credentials would be sent unencrypted, or the proxy or the CA file cannot be used.
    pub(in crate::va) fn new(config: AdapterConfig, timeout: Duration) -> Result<Self, InvalidConfig> {
        let wrong = |why: String| InvalidConfig::new(format!("scanner {}: {why}", shown_url(&config.url)));
        let uri: Uri = config.url.parse().map_err(|error| wrong(format!("{error}")))?;
        let is_https = uri.scheme_str() == Some("https");
        // Requests also carry the credentials for the registry.
        let has_secrets = |auth: &AdapterAuth| !matches!(auth, AdapterAuth::None);
        let secrets =
            has_secrets(&config.auth) || config.registries.values().any(|registry| has_secrets(&registry.auth));
        if secrets && !is_confidential(&uri) {
            return Err(wrong("credentials are sent only over https or within this machine".into()));
        }
        let settings = HttpSettings {
            proxy: config.proxy.clone(),
            ca: config.ca.clone(),
            insecure: config.insecure,
            needs_roots: is_https && !config.insecure,
            ..HttpSettings::within(REQUEST_TIMEOUT, REQUEST_TIMEOUT)
        };
        let http = HttpClient::new(&settings, &Network::default()).map_err(|error| wrong(error.to_string()))?;
        let base = format!("{}/api/v1", config.url.trim_end_matches('/'));
        Ok(Self { config, base, http, timeout })
    }

    /// The versions of the service and of its database.
    pub(super) async fn version(&self) -> Result<EngineVersion, String> {
        let metadata = self.metadata().await?;
        metadata.report_type()?;
        let mut version = metadata.version();
        version.facts.push(self.config.url.clone());
        Ok(version)
    }

    async fn metadata(&self) -> Result<AdapterMetadata, String> {
        let answer = self.call(Method::GET, "/metadata", METADATA_TYPE, None, MAX_ANSWER).await?;
        match answer.status {
            StatusCode::OK => AdapterMetadata::parse(&answer.body),
            _ => Err(format!("/metadata: {}", answer.problem())),
        }
    }

    /// Requests a scan and waits for its report.
    pub(super) async fn scan(&self, subject: &VaSubject, image: &ReportTarget) -> Result<Report, String> {
        let late = |_| format!("it took longer than {} s", self.timeout.as_secs());
        let report = tokio::time::timeout(self.timeout, self.report(subject)).await.map_err(late)??;
        harbor_report(&report, image).map_err(|why| format!("its answer is not a report on this image: {why}"))
    }

    async fn report(&self, subject: &VaSubject) -> Result<Bytes, String> {
        let metadata = self.metadata().await?;
        let report_type = metadata.report_type()?;
        let request = self.scan_request(subject, &metadata, report_type)?;
        for _ in 0..=MAX_REPEATS {
            let id = self.submit(&request).await?;
            if let Some(report) = self.wait_for(&id, report_type).await? {
                return Ok(report);
            }
        }
        Err("it does not know the scan that it accepted".into())
    }

    async fn submit(&self, request: &Bytes) -> Result<String, String> {
        let answer = self.call(Method::POST, "/scan", RESPONSE_TYPE, Some(request.clone()), MAX_ANSWER).await?;
        if !matches!(answer.status, StatusCode::ACCEPTED | StatusCode::OK | StatusCode::CREATED) {
            return Err(format!("/scan: {}", answer.problem()));
        }
        let id = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
        let id = id.as_ref().and_then(|answer| answer.get("id")?.as_str());
        match id.filter(|id| !id.is_empty() && id.len() <= MAX_ID) {
            Some(id) => Ok(percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string()),
            None => Err("/scan: the answer names no scan".into()),
        }
    }

    /// Asks for a report until it is available. `None` if the service does not know the scan. The caller limits the
    /// time.
    async fn wait_for(&self, id: &str, report_type: &str) -> Result<Option<Bytes>, String> {
        let path = format!("/scan/{id}/report");
        let (mut failures, mut next) = (0, Instant::now() + FIRST_WAIT.min(self.timeout / 4));
        loop {
            tokio::time::sleep_until(next).await;
            let wait = match self.poll(&path, report_type).await {
                Ok(Poll::Report(report)) => return Ok(Some(report)),
                Ok(Poll::Forgotten) => return Ok(None),
                Ok(Poll::Wait(wait)) => {
                    failures = 0;
                    wait
                }
                Err(AdapterFailure::Final(why)) => return Err(why),
                Err(AdapterFailure::Temporary(why)) => {
                    failures += 1;
                    if failures == MAX_FAILURES {
                        return Err(why);
                    }
                    USUAL_WAIT
                }
            };
            next = Instant::now() + wait;
        }
    }

    async fn poll(&self, path: &str, report_type: &str) -> Result<Poll, AdapterFailure> {
        let answer = self.call(Method::GET, path, report_type, None, MAX_REPORT).await?;
        match answer.status {
            StatusCode::OK => Ok(Poll::Report(answer.body)),
            // The Location of this redirect is the same URL.
            StatusCode::FOUND | StatusCode::ACCEPTED => Ok(Poll::Wait(answer.wait())),
            StatusCode::NOT_FOUND => Ok(Poll::Forgotten),
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                Err(AdapterFailure::Temporary(answer.problem()))
            }
            _ => Err(AdapterFailure::Final(format!("the scan failed: {}", answer.problem()))),
        }
    }

    fn scan_request(
        &self,
        subject: &VaSubject,
        metadata: &AdapterMetadata,
        report_type: &str,
    ) -> Result<Bytes, String> {
        let (ImageName { host, repository }, manifest) = (subject.image(), subject.manifest());
        let registry = self.config.registries.get(host);
        let registry =
            registry.ok_or_else(|| format!("no registry is configured from which it can pull images of {host}"))?;
        let authorization = authorization(&registry.auth)?;
        let repository = match &registry.prefix {
            Some(prefix) => format!("{prefix}/{repository}"),
            None => repository.to_string(),
        };
        let mut request = json!({
            "registry": {"url": registry.url, "authorization": authorization.unwrap_or_default()},
            "artifact": {
                "repository": repository,
                "digest": manifest.digest,
                "mime_type": manifest.media_type,
                "size": manifest.bytes.len(),
            },
        });
        // Services of version 1.1 and earlier do not know the field.
        if metadata.names_capabilities() {
            request["enabled_capabilities"] =
                json!([{"type": "vulnerability", "produces_mime_types": [report_type], "parameters": null}]);
        }
        Ok(request.to_string().into())
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<Bytes>,
        limit: usize,
    ) -> Result<AdapterAnswer, AdapterFailure> {
        let mut request =
            Request::builder().method(method).uri(format!("{}{path}", self.base)).header(header::ACCEPT, accept);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, REQUEST_TYPE);
        }
        if let Some((name, value)) = self.credentials().map_err(AdapterFailure::Final)? {
            request = request.header(name, value);
        }
        let request = request.body(Full::from(body.unwrap_or_default()));
        let request = request.map_err(|error| AdapterFailure::Final(error.to_string()))?;
        let exchange = async {
            let (head, body) = self.http.send(Reach::Configured, request).await?.into_parts();
            let body = read_whole(ReceivedBody::new(body, Duration::MAX), limit, Duration::MAX).await?;
            Ok(AdapterAnswer { status: head.status, headers: head.headers, body })
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, exchange).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error @ HttpError::TooLarge(_))) => Err(AdapterFailure::Final(error.to_string())),
            Ok(Err(error)) => Err(AdapterFailure::Temporary(error.to_string())),
            Err(_) => Err(AdapterFailure::Temporary(HttpError::NoAnswer(REQUEST_TIMEOUT).to_string())),
        }
    }

    /// The header that authenticates requests to the service.
    fn credentials(&self) -> Result<Option<(HeaderName, HeaderValue)>, String> {
        let (name, text) = match &self.config.auth {
            AdapterAuth::ApiKey(key) => (API_KEY, Some(key.read_line()?)),
            other => (header::AUTHORIZATION, authorization(other)?),
        };
        let Some(text) = text else { return Ok(None) };
        let mut value = HeaderValue::try_from(text).map_err(|_| "its credentials are not a valid header")?;
        value.set_sensitive(true);
        Ok(Some((name, value)))
    }
}

/// Why a request failed, and whether it may be repeated.
enum AdapterFailure {
    Final(String),
    Temporary(String),
}

impl From<AdapterFailure> for String {
    fn from((AdapterFailure::Final(why) | AdapterFailure::Temporary(why)): AdapterFailure) -> Self {
        why
    }
}

impl AdapterAnswer {
    /// How long the service asks to wait: `Refresh-After` in the specification, `Retry-After` in its introduction.
    fn wait(&self) -> Duration {
        let seconds = |name| self.headers.get(name)?.to_str().ok()?.trim().parse().ok();
        let seconds: Option<u64> = seconds(REFRESH_AFTER).or_else(|| seconds(header::RETRY_AFTER));
        seconds.map_or(USUAL_WAIT, |seconds| Duration::from_secs(seconds.max(1)).min(LONGEST_WAIT))
    }

    /// The status, with the message of an error.
    fn problem(&self) -> String {
        let answer = serde_json::from_slice::<serde_json::Value>(&self.body).ok();
        let message = answer.as_ref().and_then(|answer| answer.get("error")?.get("message")?.as_str());
        match crate::va::one_line(message.map(str::to_owned)) {
            Some(message) => format!("it answered {}: {message}", self.status),
            None => format!("it answered {}", self.status),
        }
    }
}

/// The value of an `Authorization` header.
fn authorization(auth: &AdapterAuth) -> Result<Option<String>, String> {
    match auth {
        AdapterAuth::None => Ok(None),
        AdapterAuth::Basic { username, password } => {
            let pair = format!("{username}:{}", password.read()?);
            Ok(Some(format!("Basic {}", STANDARD.encode(pair))))
        }
        AdapterAuth::ApiKey(secret) | AdapterAuth::Bearer(secret) => {
            Ok(Some(format!("Bearer {}", secret.read_line()?)))
        }
    }
}
