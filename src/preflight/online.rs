//! Asks everything that a configuration names in the network: registries, notary servers, sources of advisories,
//! services.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use http::{Method, Request};
use http_body_util::Full;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use super::services::{self, ConfiguredService};
use crate::config::Config;
use crate::http_client::{HttpClient, HttpSettings, Network, Reach};
use crate::markup::{Problem, ProblemSeverity};
use crate::oci::{ImageReference, Repository};
use crate::runtime::{Clock, Metrics, Readiness, Tasks, shown_origin, shown_url};
use crate::upstream::{self, Auth, ServiceAddress, Upstreams};

/// How many services are asked at the same time.
const AT_ONCE: usize = 16;
/// The time limit for each.
const LIMIT: Duration = Duration::from_secs(20);
/// The maximum number of bytes of an answer that are read.
const MAX_ANSWER: usize = 64 * 1024;
/// The repository that a notary server is asked about. It need not exist.
const ANY_REPOSITORY: &str = "library/hello-world";

/// The state of a service, as a sentence. The error is the reason why it cannot be used.
type ServiceOutcome = Result<String, String>;

/// A question to one service.
struct ServiceQuestion<'a> {
    /// The key that names the service.
    key: String,
    /// The service and where it is, for messages.
    service: String,
    answer: BoxFuture<'a, ServiceOutcome>,
}

/// Asks all services, several at a time, each within a time limit. `progress` is called after each answer with the
/// number of answers and of questions. A service that cannot be used is an error at the key that names it; others are
/// notes.
pub async fn reach(config: &Config, mut progress: impl FnMut(usize, usize)) -> Vec<Problem> {
    let questions = questions(config);
    let count = questions.len();
    let asked = questions.into_iter().map(|question| question.ask(LIMIT));
    let mut asked = futures_util::stream::iter(asked).buffer_unordered(AT_ONCE);
    let mut problems = Vec::new();
    while let Some((key, said)) = asked.next().await {
        problems.push(match said {
            Ok(said) => config.places.problem(ProblemSeverity::Note, &key, &said, None),
            Err(why) => config.places.problem(ProblemSeverity::Error, &key, &why, None),
        });
        progress(problems.len(), count);
    }
    problems
}

impl ServiceQuestion<'_> {
    /// The key, and what is known about the service within this time.
    async fn ask(self, limit: Duration) -> (String, ServiceOutcome) {
        let late = || Err(format!("{}: no answer within {} s", self.service, limit.as_secs_f32()));
        (self.key, timeout(limit, self.answer).await.unwrap_or_else(|_| late()))
    }
}

fn questions(config: &Config) -> Vec<ServiceQuestion<'_>> {
    let mut questions = Vec::new();
    for (index, upstream) in config.upstreams.iter().enumerate().filter(|(_, upstream)| !upstream.offline) {
        let table = config.places.item("upstream", index);
        if let Some(server) = &upstream.notary {
            let (key, service) = (format!("{table}.notary"), notary_at(server));
            questions.push(ServiceQuestion { key, service, answer: Box::pin(notary(upstream)) });
        }
        let (key, service) = (format!("{table}.url"), upstream.shown());
        questions.push(ServiceQuestion { key, service, answer: Box::pin(registry(upstream)) });
    }
    if let Some(databases) = &config.va.databases {
        let sources = &databases.sources;
        for (_, key, image) in sources.images() {
            let (key, answer) = (format!("va.database.{key}"), Box::pin(database_image(config, image)));
            questions.push(ServiceQuestion { key, service: image.to_string(), answer });
        }
        for ConfiguredService { key, url, proxy } in services::feeds(config) {
            let answer = Box::pin(head(url, proxy.map(str::to_owned), sources.ca.clone()));
            questions.push(ServiceQuestion { key, service: shown_url(url), answer });
        }
    }
    for ConfiguredService { key, url, proxy } in services::receivers(config) {
        // The URL may contain a secret.
        questions.push(ServiceQuestion { key, service: shown_origin(url), answer: Box::pin(connect(url, proxy)) });
    }
    questions
}

fn notary_at(server: &str) -> String {
    format!("the notary server at {}", shown_url(server))
}

/// A client for one upstream, with at most two attempts.
fn upstreams(config: &upstream::Config) -> Result<Upstreams, String> {
    let config = upstream::Config { attempts: config.attempts.min(2), ..config.clone() };
    let (tasks, metrics, readiness) = (Tasks::new(), Metrics::default(), Readiness::new());
    Upstreams::new(vec![config], None, (&tasks, &Clock::system()), &metrics, &readiness)
        .map_err(|error| error.to_string())
}

/// Asks a registry by `GET /v2/`, with the credentials that it asks for.
async fn registry(config: &upstream::Config) -> ServiceOutcome {
    let (upstreams, url) = (upstreams(config)?, shown_url(&config.url));
    let upstream = upstreams.by_host(&config.host).ok_or("it has no name")?;
    let asked = match upstream.ping().await {
        Ok(asked) => asked,
        Err(upstream::Error::NotFound { .. }) => {
            return Err(format!("{url} answers 404 to /v2/: it is not the URL of a registry"));
        }
        // It says nothing about the configuration.
        Err(error @ upstream::Error::RateLimited { .. }) => return Ok(format!("{error}; check again later")),
        Err(error) => return Err(error.to_string()),
    };
    let is_anonymous = matches!(config.auth, Auth::Anonymous);
    let how = match (asked, is_anonymous) {
        (true, true) => "gives tokens without credentials",
        (true, false) => "accepts the credentials",
        (false, true) => "asks for no credentials",
        (false, false) => "asks for no credentials, so those that are configured were not tried",
    };
    let tls = match (config.url.starts_with("https://"), config.insecure) {
        (false, _) => "no TLS",
        (true, true) => "TLS, certificate not verified",
        (true, false) => "TLS, certificate verified",
    };
    Ok(format!("{} answers at {url} ({tls}) and {how}", config.host))
}

/// Any answer of a notary server will do: it need not know the repository.
async fn notary(config: &upstream::Config) -> ServiceOutcome {
    let server = config.notary.as_deref().unwrap_or_default();
    let url = Url::parse(&format!("{}/v2/", server.trim_end_matches('/'))).map_err(|error| error.to_string())?;
    let (upstreams, server) = (upstreams(config)?, notary_at(server));
    let upstream = upstreams.by_host(&config.host).ok_or("it has no name")?;
    let repository: Repository = ANY_REPOSITORY.parse().map_err(|_| "no repository")?;
    let address = ServiceAddress::Beside { url: &url, resource: ANY_REPOSITORY };
    match upstream.document(&repository, address, MAX_ANSWER).await {
        Err(error) if error.may_pass() => Err(format!("{server}: {error}")),
        Ok(_) | Err(_) => Ok(format!("{server} answers")),
    }
}

async fn database_image(config: &Config, image: &ImageReference) -> ServiceOutcome {
    let host = &image.name.host;
    let upstream = config.upstreams.iter().find(|upstream| upstream.has_name(host));
    let upstream = upstream.ok_or_else(|| format!("{host} is not an upstream"))?;
    let upstreams = upstreams(upstream)?;
    let upstream = upstreams.by_host(host).ok_or("it has no name")?;
    match upstream.manifest(&image.name.repository, &image.reference()).await {
        Ok(_) => Ok(format!("{image} is there")),
        Err(error) => Err(format!("{image}: {error}")),
    }
}

/// Asks a web server for the head of a file. Redirects are an answer.
async fn head(url: &str, proxy: Option<String>, ca: Option<std::path::PathBuf>) -> ServiceOutcome {
    let settings =
        HttpSettings { proxy, ca, needs_roots: url.starts_with("https://"), ..HttpSettings::within(LIMIT, LIMIT) };
    let client = HttpClient::new(&settings, &Network::default()).map_err(|error| error.to_string())?;
    let request = Request::builder().method(Method::HEAD).uri(url).body(Full::default());
    let request = request.map_err(|error| error.to_string())?;
    let url = shown_url(url);
    let answer = client.send(Reach::Configured, request).await.map_err(|error| format!("{url}: {error}"))?;
    let status = answer.status();
    if status.is_client_error() || status.is_server_error() {
        return Err(format!("{url}: the server answers {status}"));
    }
    Ok(format!("{url} is there ({status})"))
}

/// Only opens a connection, to the egress proxy if there is one: a request could have an effect. The URL may contain a
/// secret, so only its host is named.
async fn connect(url: &str, proxy: Option<&str>) -> ServiceOutcome {
    let target = proxy.filter(|proxy| !proxy.is_empty()).unwrap_or(url);
    let target = Url::parse(target).map_err(|_| "it is not a URL")?;
    let (host, port) = (target.host_str().unwrap_or_default(), target.port_or_known_default().unwrap_or_default());
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let what = if proxy.is_some_and(|proxy| !proxy.is_empty()) { "the egress proxy" } else { "a connection" };
    match TcpStream::connect((bare, port)).await {
        Ok(_) => Ok(format!("{what} to {host}:{port} can be opened")),
        Err(error) => Err(format!("{what} to {host}:{port} cannot be opened: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_that_does_not_answer_is_named() {
        let config = upstream::Config::new("registry.test".parse().unwrap(), "https://user:hush@mirror.test/");
        let (key, answer) = ("upstream[0].url".to_owned(), Box::pin(std::future::pending::<ServiceOutcome>()));
        let question = ServiceQuestion { key, service: config.shown(), answer };
        let (key, outcome) = question.ask(Duration::from_millis(10)).await;
        let wanted = "registry.test at https://mirror.test/: no answer within 0.01 s";
        assert_eq!((&*key, outcome), ("upstream[0].url", Err(wanted.to_owned())));
    }
}
