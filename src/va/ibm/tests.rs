mod answers;
mod tokens;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Mutex;

use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;

use super::*;
use crate::http_client::tests::ConnectProxy;
use crate::policy::{IssueKind, Severity};
use crate::runtime::Tasks;

const FAIL: &str = include_str!("../../../tests/data/va/ibm-fail.json");

/// A mock of IBM's services on loopback: IAM at `/token`, and scripted responses at all other paths. The last one
/// repeats.
struct Server {
    script: Mutex<VecDeque<(u16, Bytes)>>,
    token: (u16, Value),
    seen: Mutex<Vec<(String, http::HeaderMap)>>,
    forms: Mutex<Vec<String>>,
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let (status, body) = if head.uri.path() == "/token" {
            let form = body.collect().await.unwrap().to_bytes();
            let mut forms = self.forms.lock().unwrap();
            forms.push(String::from_utf8(form.to_vec()).unwrap());
            let mut token = self.token.1.clone();
            if token.get("access_token").is_some() {
                token["access_token"] = json!(format!("token-{}", forms.len()));
            }
            (self.token.0, token.to_string().into())
        } else {
            self.seen.lock().unwrap().push((head.uri.to_string(), head.headers));
            let mut script = self.script.lock().unwrap();
            if script.len() > 1 { script.pop_front().unwrap() } else { script[0].clone() }
        };
        Ok(Response::builder().status(status).body(Full::new(body)).unwrap())
    }

    fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn exchanges(&self) -> usize {
        self.forms.lock().unwrap().len()
    }
}

struct Fixture {
    client: IbmClient,
    server: Arc<Server>,
    clock: Clock,
    /// The file with the API key.
    _key: NamedTempFile,
}

async fn fixture(script: Vec<(u16, Bytes)>, token: (u16, Value)) -> Fixture {
    configured(script, token, |_| {}).await
}

async fn configured(script: Vec<(u16, Bytes)>, token: (u16, Value), change: impl FnOnce(&mut Config)) -> Fixture {
    let server =
        Arc::new(Server { script: Mutex::new(script.into()), token, seen: Mutex::default(), forms: Mutex::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (tasks, serving) = (Tasks::new(), server.clone());
    let connections = tasks.clone();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = serving.clone();
            let service = service_fn(move |request| {
                let server = server.clone();
                async move { server.answer(request).await }
            });
            connections
                .spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let key = NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "key+/\n").unwrap();
    let mut config = Config {
        url: Some(base.clone()),
        iam_url: format!("{base}/token"),
        account: Some("configured".into()),
        timeout: Duration::from_secs(5),
        retry_wait: Duration::ZERO,
        proxy: Some(String::new()),
        ..Config::new(Secret::File(key.path().into()))
    };
    change(&mut config);
    let client = IbmClient::new(config, clock.clone(), &Metrics::default()).unwrap();
    Fixture { client, server, clock, _key: key }
}

fn token() -> (u16, Value) {
    (200, json!({"access_token": "", "expires_in": 3600, "expiration": 0, "token_type": "Bearer"}))
}

async fn scripted(script: &[(u16, &str)]) -> Fixture {
    fixture(script.iter().map(|(status, body)| (*status, Bytes::from(body.to_string()))).collect(), token()).await
}

fn image(host: &str) -> ImageName {
    ImageName { host: host.parse().unwrap(), repository: "team/app".parse().unwrap() }
}

fn manifest() -> Digest {
    format!("sha256:{}", "a".repeat(64)).parse().unwrap()
}

impl Fixture {
    async fn fetch(&self) -> VaEvidence {
        self.observe().await.value
    }

    async fn observe(&self) -> Observed<VaEvidence> {
        self.client.fetch(&image("us.icr.io"), manifest(), None).await
    }
}

fn why(evidence: VaEvidence) -> String {
    match evidence {
        VaEvidence::Unavailable { why } => why,
        other => panic!("{other:?}"),
    }
}

fn report(evidence: VaEvidence) -> Report {
    match evidence {
        VaEvidence::Report(report) => report,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn queries_the_image_by_digest() {
    let fixture = scripted(&[(200, FAIL)]).await;
    fixture.fetch().await;
    fixture.client.fetch(&image("us.icr.io"), manifest(), Some("from-the-policy")).await;
    let seen = fixture.server.seen.lock().unwrap().clone();
    let path = format!("/va/api/v4/report/image/us.icr.io%2Fteam%2Fapp%40sha256%3A{}", "a".repeat(64));
    assert_eq!(seen[0].0, path);
    let header = |n: usize, name: &str| seen[n].1[name].to_str().unwrap().to_owned();
    assert_eq!(header(0, "authorization"), "Bearer token-1");
    assert_eq!(header(0, "account"), "configured");
    assert_eq!(header(1, "account"), "from-the-policy");
    assert_eq!(header(0, "accept-language"), "en");
    let form = fixture.server.forms.lock().unwrap()[0].clone();
    assert_eq!(form, "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey=key%2B%2F");
}

#[tokio::test]
async fn a_report_is_parsed() {
    let report = report(scripted(&[(200, FAIL)]).await.fetch().await);
    assert_eq!((&*report.source, report.generated_at), ("ibm-va-v4", "2026-01-01T00:00:00Z".parse().ok()));
    let [partial, exempt] = &report.issues[..] else { panic!("{report:?}") };
    assert_eq!((&*partial.id, partial.exempt, partial.severity), ("CVE-2024-0001", false, Severity::Unknown));
    assert_eq!(partial.aliases, ["DSA-5001-1"], "the other notice is exempt");
    let packages: Vec<_> = partial.packages.iter().map(|p| (&*p.name, p.fixed.as_deref())).collect();
    assert_eq!(packages, [("openssl", Some("3.0.13-1")), ("libssl3", None)]);
    assert_eq!(
        (&*exempt.id, exempt.exempt, &exempt.aliases[..]),
        ("CVE-2024-0002", true, &["DSA-5002-1".to_owned()][..])
    );
}

#[tokio::test]
async fn statuses_of_the_service() {
    for (status, expected) in [
        ("OK", "Report"),
        ("WARN", "Report"),
        ("FAIL", "Report"),
        ("BLOCK", "Report"),
        ("UNSUPPORTED", "Unsupported"),
        ("INCOMPLETE", "Incomplete"),
        ("UNSCANNED", "Unscanned"),
        ("ok", "Unavailable"),
        ("", "Unavailable"),
        ("FINE", "Unavailable"),
    ] {
        let body = json!({"id": "x", "status": status}).to_string();
        let evidence = scripted(&[(200, &body)]).await.fetch().await;
        assert!(format!("{evidence:?}").starts_with(expected), "{status}: {evidence:?}");
        if let VaEvidence::Report(report) = evidence {
            assert_eq!(report.issues.is_empty(), matches!(status, "OK" | "WARN"), "{status}");
        }
    }
}

#[tokio::test]
async fn a_failure_without_a_named_issue_still_counts() {
    let exempt = json!({"cve_id": "CVE-1", "exempt_status": "exempt", "cve_exempt": true});
    let body = json!({"status": "FAIL", "vulnerabilities": [exempt]}).to_string();
    let report = report(scripted(&[(200, &body)]).await.fetch().await);
    let counting: Vec<_> = report.issues.iter().filter(|issue| !issue.exempt).collect();
    assert_eq!(counting.len(), 1);
    assert_eq!((&*counting[0].id, counting[0].is_fixable()), ("IBM-VA-FAIL", true));
}

/// With `va.fixable_only`, such an image must not be admitted, and an exemption of its issue must release it.
#[tokio::test]
async fn a_failure_without_a_fix_counts_where_only_fixes_do() {
    let issue =
        |exempt: &str, notices: Value| json!({"cve_id": "CVE-1", "exempt_status": exempt, "security_notices": notices});
    let notices = |fix: &str| {
        let package = json!({"package_name": "openssl", "fix_version": fix});
        json!([{"notice_id": "USN-1", "vulnerable_packages": [package]}])
    };
    for (status, issues, fixable) in [
        ("FAIL", json!([issue("active", notices("2"))]), vec!["CVE-1"]),
        ("FAIL", json!([issue("active", notices(""))]), vec!["CVE-1"]),
        ("FAIL", json!([issue("active", json!([]))]), vec!["CVE-1"]),
        ("FAIL", json!([issue("exempt", notices("2")), issue("active", notices(""))]), vec!["CVE-1"]),
        ("FAIL", json!([issue("exempt", notices(""))]), vec!["IBM-VA-FAIL"]),
        ("WARN", json!([issue("active", notices(""))]), vec![]),
    ] {
        let body = json!({"status": status, "vulnerabilities": issues}).to_string();
        let report = report(scripted(&[(200, &body)]).await.fetch().await);
        let counts = report.issues.iter().filter(|issue| !issue.exempt && issue.is_fixable());
        assert_eq!(counts.map(|issue| &*issue.id).collect::<Vec<_>>(), fixable, "{body}");
    }
}

#[tokio::test]
async fn exemptions_and_configuration_issues() {
    let body = json!({"status": "FAIL", "vulnerabilities": [
        {"cve_id": "CVE-1", "cve_exempt": true},
        {"cve_id": "CVE-2", "cve_exempt": true, "exempt_status": "partial"},
        {"cve_id": "CVE-3", "cve_exempt": false, "exempt_status": "exempt"},
        {"cve_id": "CVE-4"},
    ], "configuration_issues": [
        {"type": "application_configuration:nginx.tls", "description": "TLS is off", "exempt": false, "meta": {}},
        {"type": "application_configuration:mysql.root", "exempt": true},
    ]});
    let report = report(scripted(&[(200, &body.to_string())]).await.fetch().await);
    let exempt: Vec<_> = report.issues.iter().map(|issue| issue.exempt).collect();
    assert_eq!(exempt, [true, false, true, false, false, true]);
    assert_eq!(report.issues[4].kind, IssueKind::Configuration);
    assert_eq!(report.issues[4].title.as_deref(), Some("TLS is off"));
}

#[tokio::test]
async fn answers_are_valid_for_a_limited_time() {
    for (code, body, seconds) in
        [(200, r#"{"status":"OK"}"#, 12 * 3600), (200, r#"{"status":"UNSCANNED"}"#, 300), (404, "", 300), (500, "", 10)]
    {
        let observed = scripted(&[(code, body)]).await.observe().await;
        assert_eq!(observed.until.unwrap().duration_since(observed.at).as_secs(), seconds, "{code} {body}");
    }
}

#[tokio::test]
async fn invalid_answers_are_failures() {
    assert_eq!(scripted(&[(404, "{}")]).await.fetch().await, VaEvidence::Unscanned);
    for (status, body, requests, part) in [
        (400, "", 1, "400"),
        (401, "", 2, "check the key"),
        (403, "", 1, "check the key"),
        (302, "", 1, "302"),
        (500, "", 3, "500"),
        (503, "", 3, "503"),
        (429, "", 3, "429"),
        (200, "<html>", 1, "not a report"),
        (200, "", 1, "not a report"),
        (200, r#"{"status":"OK","vulnerabilities":{}}"#, 1, "not a report"),
        (200, r#"{"status":"OK","status":"FAIL"}"#, 1, "not a report"),
        (200, r#"{"vulnerabilities":[]}"#, 1, "not a report"),
        (200, r#"{"status":"OK"} {"status":"FAIL"}"#, 1, "not a report"),
    ] {
        let fixture = scripted(&[(status, body)]).await;
        let why = why(fixture.fetch().await);
        assert!(why.contains(part), "{status} {body}: {why}");
        assert_eq!(fixture.server.requests(), requests, "{status} {body}");
    }
}

#[tokio::test]
async fn temporary_failures_are_retried() {
    let fixture = scripted(&[(500, ""), (502, ""), (200, r#"{"status":"OK"}"#)]).await;
    assert_eq!(report(fixture.fetch().await).issues, []);
    assert_eq!(fixture.server.requests(), 3);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_a_failure() {
    let fixture = fixture(vec![(200, Bytes::from(vec![b' '; (16 << 20) + 1]))], token()).await;
    let why = why(fixture.fetch().await);
    assert!(why.contains("larger than"), "{why}");
}

#[tokio::test]
async fn a_server_that_does_not_respond_is_a_failure() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fixture = scripted(&[(200, "")]).await;
    let config = Config {
        url: Some(format!("http://{}", silent.local_addr().unwrap())),
        timeout: Duration::from_millis(20),
        ..fixture.client.0.config.clone()
    };
    let client = IbmClient::new(config, fixture.clock.clone(), &Metrics::default()).unwrap();
    let why = why(client.fetch(&image("icr.io"), manifest(), None).await.value);
    assert!(why.contains("no answer within"), "{why}");
}

#[tokio::test]
async fn only_ibm_hosts_are_queried() {
    let fixture = scripted(&[(200, r#"{"status":"OK"}"#)]).await;
    for (host, served) in [
        ("icr.io", true),
        ("us.icr.io", true),
        ("private.de.icr.io", true),
        ("ICR.IO", true),
        ("evilicr.io", false),
        ("icr.io.evil.com", false),
        ("us.icr.io:8443", false),
        ("docker.io", false),
    ] {
        assert_eq!(fixture.client.serves(&host.parse().unwrap()), served, "{host}");
        let evidence = fixture.client.fetch(&image(host), manifest(), None).await.value;
        assert_eq!(matches!(evidence, VaEvidence::Report(_)), served, "{host}");
    }
    assert_eq!(fixture.server.requests(), 4);
    assert_eq!(fixture.server.exchanges(), 1);
}

#[tokio::test]
async fn an_egress_proxy_carries_tokens_and_reports() {
    let proxy = ConnectProxy::start(&Tasks::new()).await;
    let url = format!("http://user:pw@{}", proxy.address);
    let fixture = configured(vec![(200, FAIL.into())], token(), |config| config.proxy = Some(url)).await;
    assert!(matches!(fixture.fetch().await, VaEvidence::Report(_)));
    assert_eq!((fixture.server.exchanges(), fixture.server.requests()), (1, 1));
    let heads = proxy.heads();
    assert!(!heads.is_empty() && heads.iter().all(|head| head.starts_with("CONNECT 127.0.0.1:")), "{heads:?}");
    assert!(heads[0].to_lowercase().contains("proxy-authorization: basic"), "{heads:?}");
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let fixture = scripted(&[(302, "")]).await;
    assert!(why(fixture.fetch().await).contains("302"));
    assert_eq!(fixture.server.requests(), 1);
}

#[test]
fn valid_and_invalid_configurations() {
    let config = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::new(Secret::Env("IAM_API_KEY".into()));
        change(&mut config);
        assert!(!format!("{config:?}").contains("secret"), "{config:?}");
        IbmClient::new(config, Clock::system(), &Metrics::default()).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(config(&|_| {}), Ok(()));
    assert_eq!(config(&|c| c.url = Some("http://127.0.0.1:1".into())), Ok(()));
    assert_eq!(config(&|c| c.url = Some("http://[::1]:1".into())), Ok(()));
    assert_eq!(config(&|c| c.hosts = vec!["*.icr.io".into()]), Ok(()));
    for change in [
        &(|c: &mut Config| c.url = Some("http://us.icr.io".into())) as &dyn Fn(&mut Config),
        &|c| c.iam_url = "http://iam.example.com/token".into(),
        &|c| c.iam_url = "iam".into(),
        &|c| c.url = Some("https://u:secret@us.icr.io".into()),
        &|c| c.url = Some("http://u:secret@us.icr.io?secret".into()),
        &|c| c.hosts = vec!["*".into()],
        &|c| c.hosts = vec![".".into()],
        &|c| c.hosts = vec!["icr*.io".into()],
        &|c| c.ca = Some("/does/not/exist.pem".into()),
        &|c| c.proxy = Some("https://u:secret@proxy:1".into()),
    ] {
        assert!(config(change).is_err_and(|why| !why.contains("secret")));
    }
}
