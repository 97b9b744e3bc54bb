use std::collections::HashMap;

use super::settings::read;
use super::*;

fn settings(config: &Config, variables: &[(&str, &str)]) -> Result<Option<(TraceCollector, Sampler)>, String> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    read(config, |name| variables.get(name).map(|value| (*value).to_owned())).map_err(|error| error.to_string())
}

#[test]
fn the_endpoint_is_configured_or_in_the_environment() {
    const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    let configured = Config { endpoint: Some("http://file:4318/".into()), ca: None };
    let url = |config: &Config, variables: &[(&str, &str)]| {
        settings(config, variables).unwrap().map(|(collector, _)| collector.url.to_string())
    };
    let none = Config::default();
    for (config, variables, expected) in [
        (&none, &[][..], None),
        (&none, &[(ALL, "")], None),
        (&none, &[(ALL, "http://all:4318/otlp")], Some("http://all:4318/otlp/v1/traces")),
        (&none, &[(ALL, "http://all:4318"), (TRACES, "http://traces/exact")], Some("http://traces/exact")),
        (&configured, &[(TRACES, "http://traces/exact")], Some("http://file:4318/v1/traces")),
        (&configured, &[("OTEL_SDK_DISABLED", "true")], None),
    ] {
        assert_eq!(url(config, variables).as_deref(), expected, "{variables:?}");
    }
    for wrong in ["collector:4318", "grpc://a", "ftp://user:secret@a"] {
        let why = settings(&none, &[(ALL, wrong)]).err().unwrap();
        assert!(why.contains(ALL) && !why.contains(wrong), "{why}");
    }
}

#[test]
fn variables_of_opentelemetry_are_understood() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@all:4318");
    let with = |more: &[(&str, &str)]| settings(&Config::default(), &[&[endpoint], more].concat());
    let (collector, sampler) = with(&[]).unwrap().unwrap();
    assert_eq!((collector.timeout, sampler.samples()), (Duration::from_secs(10), true));
    assert_eq!(collector.place().to_string(), "http://all:4318/v1/traces");
    assert_eq!(collector.resource[0], ("service.name".into(), "pullgate".into()));
    let (collector, _) = with(&[
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc, x-team = a"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_SERVICE_NAME", "gate"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment=prod"),
    ])
    .unwrap()
    .unwrap();
    let headers: Vec<_> = collector.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(headers, [("authorization", &b"Bearer abc"[..]), ("x-team", b"a")]);
    assert_eq!(collector.timeout, Duration::from_millis(2500));
    let resource: Vec<_> = collector.resource.iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(resource[..2], [("deployment.environment", "prod"), ("service.name", "gate")]);
    for (name, argument, samples) in
        [("always_off", "", false), ("parentbased_traceidratio", "0", false), ("traceidratio", "1", true)]
    {
        let variables = [("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)];
        assert_eq!(with(&variables).unwrap().unwrap().1.samples(), samples, "{name}");
    }
    for wrong in [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=c"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
    ] {
        let why = with(&[wrong]).err().unwrap();
        assert!(why.contains(wrong.0), "{why}");
    }
    // What was meant as a name may be a secret.
    let why = with(&[("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=b,Authorization: Bearer c2VjcmV0=")]).err().unwrap();
    assert!(why.contains("TRACES_HEADERS: entry 2 ") && !why.contains("c2VjcmV0"), "{why}");
    assert!(with(&[("OTEL_EXPORTER_OTLP_HEADERS", "a=b,c")]).is_err(), "an entry that is left out is missed later");
    let ratio = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")];
    assert!(with(&ratio).is_err());
}

/// A trace that a client began is recorded if the client says so, whatever the sampler.
#[tokio::test]
async fn clients_decide_about_their_traces() {
    let (tasks, metrics) = (Tasks::new(), Metrics::default());
    let config = Config { endpoint: Some("http://127.0.0.1:1".into()), ca: None };
    let exporter = TraceExporter::start(&config, &Clock::system(), &tasks, &metrics).unwrap().unwrap();
    let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let (span, parent) = exporter.begin(Some(header));
    assert_eq!(parent.unwrap().to_string(), header);
    assert!(span.trace_id == parent.unwrap().trace_id && span.span_id != parent.unwrap().span_id && !span.is_sampled);
    let (span, parent) = exporter.begin(Some("nonsense"));
    assert!(span.is_sampled && parent.is_none());
}

/// The collector refuses connections, and more traces come than can wait: none of them makes its request wait.
#[tokio::test]
async fn traces_that_cannot_be_sent_are_counted() {
    let (tasks, metrics) = (Tasks::new(), Metrics::default());
    let config = Config { endpoint: Some("http://127.0.0.1:1".into()), ca: None };
    let exporter = TraceExporter::start(&config, &Clock::system(), &tasks, &metrics).unwrap().unwrap();
    for _ in 0..=QUEUE {
        let learned = Learned { span: Some(SpanContext::root(true)), ..Learned::default() };
        let started = (SystemTime::UNIX_EPOCH, std::time::Instant::now());
        let (name, took, attributes) = ("GET".to_owned(), Duration::ZERO, Vec::new());
        exporter.finish(RequestSpan { learned, parent: None, name, started, took, status: 200, attributes });
    }
    drop(exporter);
    assert!(tasks.drain(Duration::from_secs(30)).await);
    let text = metrics.render();
    let count = |outcome: &str| {
        let series = format!("pullgate_traces_total{{outcome=\"{outcome}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse::<usize>().unwrap())
    };
    assert_eq!((count("dropped"), count("failed"), count("sent")), (1, QUEUE, 0), "{text}");
}
