//! Where traces go: the configuration, and the variables that OpenTelemetry defines
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::runtime::shown_url;

/// The configuration of traces.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The base URL of the collector, to which `/v1/traces` is appended: `http://127.0.0.1:4318`. Without it, the
    /// variables `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` and `OTEL_EXPORTER_OTLP_ENDPOINT` decide.
    pub endpoint: Option<String>,
    /// A PEM file with certificate authorities of the collector besides those of the system.
    pub ca: Option<PathBuf>,
}

/// The configuration of traces, or a variable of OpenTelemetry, cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("tracing: {0}")]
pub struct InvalidTracing(String);

impl InvalidTracing {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Where and how traces are sent.
pub(super) struct TraceCollector {
    pub(super) url: Url,
    /// Headers of every request. They may be secret.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) timeout: Duration,
    /// The attributes of this process.
    pub(super) resource: Vec<(String, String)>,
}

impl TraceCollector {
    /// The URL without what may be secret, for messages.
    pub(super) fn place(&self) -> impl fmt::Display {
        shown_url(self.url.as_str())
    }
}

/// Which traces that begin here are recorded. A trace that a client began is recorded if the client says so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sampler {
    /// The share, from 0 to 1.
    ratio: f64,
}

impl Sampler {
    pub(super) fn samples(self) -> bool {
        self.ratio >= 1.0 || fastrand::f64() < self.ratio
    }
}

/// Reads the configuration and the variables. `None` if traces are not wanted.
pub(super) fn read(
    config: &Config,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<(TraceCollector, Sampler)>, InvalidTracing> {
    // An empty variable is one that is not set.
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let either = |traces: &'static str, all: &'static str| {
        [traces, all].into_iter().find_map(|name| Some((name, variable(name)?)))
    };
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let endpoint = config.endpoint.as_deref().map(|base| traces_path(base, "tracing.endpoint"));
    let exact =
        || variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").map(|url| parse(&url, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"));
    let base = || variable("OTEL_EXPORTER_OTLP_ENDPOINT").map(|url| traces_path(&url, "OTEL_EXPORTER_OTLP_ENDPOINT"));
    let Some(url) = endpoint.or_else(exact).or_else(base).transpose()? else { return Ok(None) };
    let timeout = either("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT");
    let timeout = timeout.map_or(Ok(10_000), |(name, text)| {
        text.parse().map_err(|_| InvalidTracing::new(format!("{name} {text:?} is not in milliseconds")))
    })?;
    let headers = either("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS");
    let headers = headers.map_or_else(|| Ok(Vec::new()), |(name, text)| self::headers(name, &text))?;
    let mut resource: Vec<_> = pairs(&variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default()).collect();
    let name = variable("OTEL_SERVICE_NAME");
    if name.is_some() || !resource.iter().any(|(key, _)| key == "service.name") {
        resource.retain(|(key, _)| key != "service.name");
        resource.push(("service.name".into(), name.unwrap_or_else(|| "pullgate".into())));
    }
    resource.push(("service.version".into(), env!("CARGO_PKG_VERSION").into()));
    let sampler = sampler(variable("OTEL_TRACES_SAMPLER").as_deref(), variable("OTEL_TRACES_SAMPLER_ARG").as_deref())?;
    Ok(Some((TraceCollector { url, headers, timeout: Duration::from_millis(timeout), resource }, sampler)))
}

/// Reports that a variable selects a protocol other than OTLP over HTTP in JSON.
pub(super) fn other_protocol(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    let (name, value) = names.into_iter().find_map(|name| Some((name, variable(name).filter(|v| !v.is_empty())?)))?;
    let message = || {
        format!(
            "{name} is {value:?}, but traces are sent as http/json; name an endpoint for http/json, usually on port 4318"
        )
    };
    (!value.starts_with("http/")).then(message)
}

/// The samplers that do not follow the client's choice are treated as those that do.
fn sampler(name: Option<&str>, argument: Option<&str>) -> Result<Sampler, InvalidTracing> {
    let ratio = match name {
        None | Some("always_on" | "parentbased_always_on") => 1.0,
        Some("always_off" | "parentbased_always_off") => 0.0,
        Some("traceidratio" | "parentbased_traceidratio") => match argument.map(str::parse) {
            None => 1.0,
            Some(Ok(ratio)) if (0.0..=1.0).contains(&ratio) => ratio,
            Some(_) => return Err(InvalidTracing::new("OTEL_TRACES_SAMPLER_ARG is not a number from 0 to 1")),
        },
        Some(other) => return Err(InvalidTracing::new(format!("OTEL_TRACES_SAMPLER {other:?} is not known"))),
    };
    Ok(Sampler { ratio })
}

fn traces_path(base: &str, source: &str) -> Result<Url, InvalidTracing> {
    let mut url = parse(base, source)?;
    let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// The URL is not repeated: it may contain a password.
fn parse(text: &str, source: &str) -> Result<Url, InvalidTracing> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| {
        InvalidTracing::new(format!(
            "{source} is not an http:// or https:// URL with a host, such as http://127.0.0.1:4318"
        ))
    })
}

/// Headers as in a variable. Errors give only the number of an entry, because a supposed name may be a secret.
fn headers(variable: &str, text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidTracing> {
    let entries = text.split(',').enumerate().filter(|(_, entry)| !entry.trim().is_empty());
    let header = |(index, entry): (usize, &str)| {
        let parsed = pair(entry).and_then(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
        parsed.ok_or_else(|| {
            InvalidTracing::new(format!("{variable}: entry {} is not the NAME=VALUE of a header", index + 1))
        })
    };
    entries.map(header).collect()
}

/// `a=1,b=two%20words`.
fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split(',').filter_map(pair)
}

fn pair(entry: &str) -> Option<(String, String)> {
    let (key, value) = entry.split_once('=')?;
    Some((key.trim().to_owned(), percent_decode_str(value.trim()).decode_utf8_lossy().into_owned()))
}
