//! Services with the API of Harbor's scanners, against a small one that speaks the published API.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pullgate::runtime::{Clock, Tasks};
use pullgate::sample::image::{Built, Image, Layer, Tree};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::commands::text;
use crate::harness::{Gate, HOST, TestGate, policy};
use crate::scanner::{import, records, until_open};
use crate::support::{TestRegistry, request, soon};

const SCANNED: &str = "  - {name: \"*\", policy: {va: {severity: low}}}\n";
const UPDATED_AT: &str = "harbor.scanner-adapter/vulnerability-database-updated-at";
const REPORT: &str = "application/vnd.security.vulnerability.report; version=1.1";

/// What the service does with the next scan, by repository.
#[derive(Default)]
struct ServiceState {
    /// Requests for scans, and the headers `Authorization` and `Accept` of questions for reports.
    scans: Vec<Value>,
    authorizations: Vec<String>,
    /// How many questions there were for each scan.
    questions: Vec<usize>,
    /// When its database was built, as the metadata say: null for a certain day, and an object for no answer.
    updated: Value,
}

#[derive(Clone, Default)]
struct Service(Arc<Mutex<ServiceState>>);

type Answered = Response<Full<Bytes>>;

fn answer(status: StatusCode, body: &Value) -> Answered {
    Response::builder().status(status).body(body.to_string().into()).expect("a response")
}

fn failure(status: StatusCode, message: &str) -> Answered {
    answer(status, &json!({"error": {"message": message}}))
}

impl Service {
    async fn start(&self) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (service, tasks) = (self.clone(), Tasks::new());
        let connections = tasks.clone();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                connections.spawn(async move {
                    let serve = service_fn(move |request| {
                        let service = service.clone();
                        async move { Ok::<_, Infallible>(service.answer(request).await) }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await;
                });
            }
        });
        url
    }

    async fn answer(&self, request: Request<Incoming>) -> Answered {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.authorizations.push(header("authorization").to_owned());
        match (&head.method, head.uri.path()) {
            (&Method::GET, "/api/v1/metadata") => {
                let capability =
                    json!({"type": "vulnerability", "consumes_mime_types": [], "produces_mime_types": [REPORT]});
                let properties = match &state.updated {
                    Value::Null => json!({UPDATED_AT: "2026-01-02T03:04:05Z"}),
                    Value::Object(_) => json!({}),
                    other => json!({UPDATED_AT: other}),
                };
                let scanner = json!({"name": "Clair", "vendor": "CoreOS", "version": "4.8"});
                let metadata = json!({"scanner": scanner, "capabilities": [capability], "properties": properties});
                answer(StatusCode::OK, &metadata)
            }
            (&Method::POST, "/api/v1/scan") => {
                assert_eq!(header("content-type"), "application/vnd.scanner.adapter.scan.request+json; version=1.0");
                let asked: Value = serde_json::from_slice(&body).expect("JSON");
                let repository = asked["artifact"]["repository"].as_str().expect("a repository").to_owned();
                state.scans.push(asked);
                state.questions.push(0);
                match &*repository {
                    "team/refused" => failure(StatusCode::UNPROCESSABLE_ENTITY, "no such field"),
                    "team/nameless" => answer(StatusCode::ACCEPTED, &json!({"id": ""})),
                    _ => answer(StatusCode::ACCEPTED, &json!({"id": format!("scan/{}", state.scans.len() - 1)})),
                }
            }
            (&Method::GET, path) => {
                assert_eq!(header("accept"), REPORT, "as the service spells it");
                let number = path.strip_prefix("/api/v1/scan/scan%2F").and_then(|rest| rest.strip_suffix("/report"));
                let number: usize = number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{path}"));
                state.questions[number] += 1;
                let (questions, asked) = (state.questions[number], state.scans[number].clone());
                report(number, questions, &asked)
            }
            _ => failure(StatusCode::NOT_FOUND, "unknown"),
        }
    }
}

fn report(number: usize, questions: usize, asked: &Value) -> Answered {
    let artifact = &asked["artifact"];
    let found = json!([{"id": "CVE-2024-1", "package": "openssl", "version": "3.0.11", "fix_version": "3.0.13", "severity": "High"}]);
    let report = |digest: &Value, vulnerabilities: &Value| {
        json!({
            "generated_at": "2026-01-03T00:00:00Z", "severity": if vulnerabilities.is_array() { "High" } else { "Unknown" },
            "artifact": {"repository": artifact["repository"], "digest": digest},
            "scanner": {"name": "Clair", "vendor": "CoreOS", "version": "4.8"}, "vulnerabilities": vulnerabilities
        })
    };
    let pending = || {
        let response = Response::builder()
            .status(StatusCode::FOUND)
            .header("location", format!("/api/v1/scan/scan%2F{number}/report"));
        response.header("refresh-after", "1").body(Full::default()).expect("a response")
    };
    match artifact["repository"].as_str().expect("a repository") {
        "team/pending" if questions < 3 => pending(),
        "team/endless" => pending(),
        "team/forgotten" => failure(StatusCode::NOT_FOUND, "no such scan"),
        "team/found" | "team/pending" => answer(StatusCode::OK, &report(&artifact["digest"], &found)),
        "team/clean" | "team/opaque" | "registry.test/team/clean" => {
            answer(StatusCode::OK, &report(&artifact["digest"], &Value::Null))
        }
        "team/other" => answer(StatusCode::OK, &report(&json!(format!("sha256:{}", "f".repeat(64))), &Value::Null)),
        "team/broken" => failure(StatusCode::INTERNAL_SERVER_ERROR, "the image cannot be pulled"),
        "team/nonsense" => answer(StatusCode::OK, &json!({"vulnerabilities": []})),
        "team/huge" => Response::new(Full::from(vec![b' '; 65 << 20])),
        other => panic!("{other}"),
    }
}

/// An image with a package that the gate recognises.
fn image(name: &str) -> Built {
    let tree =
        Tree::new().file("usr/lib/python3/site-packages/idna-3.7.dist-info/METADATA", "Name: idna\nVersion: 3.7\n\n");
    Image::linux_amd64().layer(Layer::gzip(&tree.file("name", name.to_owned()))).build()
}

async fn asking(registry: &TestRegistry, url: &str, lines: &str) -> Gate {
    made(registry, url, lines).start().await
}

fn made(registry: &TestRegistry, url: &str, lines: &str) -> TestGate {
    let made = TestGate::new(registry, &policy(SCANNED)).file("token", "secret-token\n").file("password", "secret\n");
    let auth = "auth = { type = \"bearer\", token_file = \"token\" }";
    made.with(&format!("[[va.scanner]]\nname = \"clair\"\nkind = \"harbor\"\nurl = \"{url}\"\n{auth}\n{lines}"))
}

/// A service does not say what it examined, so that what the databases of the gate do not cover may be unknown to it, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uncovered_packages_make_a_report_incomplete() {
    let registry = TestRegistry::start().await;
    let service = Service::default();
    let url = service.start().await;
    let tree = Tree::new().file("app/package.json", r#"{"name": "left-pad", "version": "1.0.0"}"#);
    for (built, lines, status, reason) in [
        (image("covered"), "", 200, ""),
        (Image::linux_amd64().layer(Layer::gzip(&tree)).build(), "", 403, "INCOMPLETE"),
        (Image::linux_amd64().layer(Layer::gzip(&tree)).build(), "trust_coverage = true", 200, ""),
    ] {
        registry.push("team/clean", Some("1"), &built);
        let made = made(&registry, &url, lines);
        made.config();
        records(made.path());
        let imported = import(made.path());
        assert!(imported.status.success(), "{}", text(&imported));
        let gate = made.start().await;
        until_open(&gate).await;
        let answer = gate.get("/team/clean/manifests/1").await;
        assert_eq!(answer.status, status, "{lines}: {}", answer.text());
        assert!(answer.text().contains(reason), "{lines}: {}", answer.text());
        assert!(status == 200 || answer.text().contains("npm"), "it says what is not covered: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_report_on_the_image_decides() {
    let registry = TestRegistry::start().await;
    let service = Service::default();
    let url = service.start().await;
    for (name, status, reason) in [
        ("clean", 200, ""),
        ("found", 403, "CVE-2024-1 high openssl fixed in 3.0.13"),
        ("pending", 403, "CVE-2024-1"),
        ("other", 503, "clair: its answer is not a report on this image: it is about sha256:ffff"),
        ("broken", 503, "clair: the scan failed: it answered 500 Internal Server Error: the image cannot be pulled"),
        ("refused", 503, "clair: /scan: it answered 422 Unprocessable Entity: no such field"),
        ("nameless", 503, "clair: /scan: the answer names no scan"),
        ("nonsense", 503, "clair: its answer is not a report on this image"),
        ("huge", 503, "clair: the response is larger than"),
        ("endless", 503, "clair: it took longer than 8 s"),
        ("forgotten", 503, "clair: it does not know the scan that it accepted"),
        ("opaque", 403, "INCOMPLETE: nothing was found, and neither a distribution nor a package"),
    ] {
        let built = match name {
            "opaque" => Image::linux_amd64().layer(Layer::gzip(&Tree::new().file("a", "b"))).build(),
            _ => image(name),
        };
        registry.push(&format!("team/{name}"), Some("1"), &built);
        service.0.lock().expect("no panic").scans.clear();
        service.0.lock().expect("no panic").questions.clear();
        // A gate for each, because questions that fail are repeated after seconds.
        let gate = asking(&registry, &url, "timeout = \"8s\"").await;
        let asked = async {
            loop {
                let answer = gate.get(&format!("/team/{name}/manifests/1")).await;
                if answer.status != 429 {
                    return answer;
                }
            }
        };
        let answer = soon(asked).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        assert!(answer.text().contains(reason), "{name}: {}", answer.text());
    }
}

/// With a limit, a database whose age is not known counts as one that is too old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_unknown_age_is_too_old() {
    let registry = TestRegistry::start().await;
    let service = Service::default();
    let url = service.start().await;
    registry.push("team/clean", Some("1"), &image("aged"));
    let clock = Clock::manual("2026-01-05T00:00:00Z".parse().expect("a time"));
    for (updated, limit, reason) in [
        (json!("2026-01-02T03:04:05Z"), "7d", ""),
        (json!("2026-01-02T03:04:05Z"), "1d", "is older than va.max_db_age"),
        (json!("2999-01-01T00:00:00Z"), "7d", "which is in the future"),
        (json!("yesterday"), "7d", "does not say when its database was built"),
        (json!(""), "7d", "does not say when its database was built"),
        (json!({}), "7d", "does not say when its database was built"),
        (json!({}), "", ""),
    ] {
        service.0.lock().expect("no panic").updated = updated.clone();
        let limit = if limit.is_empty() { String::new() } else { format!("max_db_age = \"{limit}\"\n") };
        let gate = made(&registry, &url, "").va(&limit).clock(&clock).start().await;
        let answer = gate.get("/team/clean/manifests/1").await;
        let status = if reason.is_empty() { 200 } else { 503 };
        assert_eq!(answer.status, status, "{updated} {limit}: {}", answer.text());
        assert!(answer.text().contains(reason), "{updated} {limit}: {}", answer.text());
    }
}

/// The service may have credentials for one repository and not for the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_in_one_repository_does_not_affect_others() {
    let registry = TestRegistry::start().await;
    let service = Service::default();
    let url = service.start().await;
    let built = image("shared");
    for repository in ["team/broken", "team/clean"] {
        registry.push(repository, Some("1"), &built);
    }
    let gate = asking(&registry, &url, "timeout = \"8s\"").await;
    let answer = async |repository: &str| {
        soon(async {
            loop {
                let answer = gate.get(&format!("/{repository}/manifests/1")).await;
                if answer.status != 429 {
                    return answer;
                }
            }
        })
        .await
    };
    let scans = || service.0.lock().expect("no panic").scans.len();
    let broken = answer("team/broken").await;
    assert!(broken.status == 503 && broken.text().contains("the scan failed"), "{}", broken.text());
    let clean = answer("team/clean").await;
    assert_eq!((clean.status, scans()), (200, 2), "{}", clean.text());
    answer("team/broken").await;
    assert_eq!(scans(), 2, "a failure is remembered, and a report counts for all repositories");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_told_what_to_pull_and_from_where() {
    let registry = TestRegistry::start().await;
    let service = Service::default();
    let url = service.start().await;
    let built = image("told");
    registry.push("team/clean", Some("1"), &built);
    let basic = "auth = { type = \"basic\", username = \"robot\", password_file = \"password\" }";
    for (lines, repository, registry_url, authorization) in [
        (String::new(), "team/clean", registry.listening.url(), ""),
        (
            format!("registry = [{{ host = \"{HOST}\", url = \"https://gate.test\", prefix = \"{HOST}\", {basic} }}]"),
            "registry.test/team/clean",
            "https://gate.test".to_owned(),
            "Basic cm9ib3Q6c2VjcmV0",
        ),
    ] {
        let gate = asking(&registry, &url, &lines).await;
        let answer = gate.get("/team/clean/manifests/1").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let (scans, authorizations) = {
            let mut state = service.0.lock().expect("no panic");
            (std::mem::take(&mut state.scans), std::mem::take(&mut state.authorizations))
        };
        let [scan] = &scans[..] else { panic!("{scans:?}") };
        assert_eq!(scan["artifact"]["repository"], repository);
        assert_eq!(scan["artifact"]["digest"], built.root.to_string());
        assert_eq!(
            (&scan["registry"]["url"], &scan["registry"]["authorization"]),
            (&json!(registry_url), &json!(authorization))
        );
        assert_eq!(scan["enabled_capabilities"][0]["type"], "vulnerability");
        assert!(authorizations.iter().all(|text| text == "Bearer secret-token"), "{authorizations:?}");
        let ready = request("GET", &gate.admin_url("/readyz?verbose=json"), &[]).await.text();
        assert!(ready.contains("Clair 4.8") && !ready.contains("secret"), "{ready}");
    }
}
