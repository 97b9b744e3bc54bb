//! IBM's Vulnerability Advisor API on the admin listener, as IBM's clients and Portieris call it.

mod account;

use std::time::{Duration, Instant};

use pullgate::oci::Platform;
use pullgate::sample::image::{Built, Image, Layer, Tree, index};
use serde_json::{Value, json};

use crate::commands::{pullgate, text};
use crate::harness::{ALLOW_ALL, Gate, HOST, TestGate, policy};
use crate::scanner::{SCANNED, distribution, import, python, records, until_open};
use crate::support::{Answer, TestRegistry, request};

fn image(name: &str, version: &str) -> Built {
    Image::linux_amd64().layer(Layer::gzip(&distribution(Tree::new(), name, version))).build()
}

async fn scanning(registry: &TestRegistry) -> Gate {
    started(TestGate::new(registry, ALLOW_ALL)).await
}

/// Starts a gate with a database.
async fn started(made: TestGate) -> Gate {
    made.config();
    records(made.path());
    let imported = import(made.path());
    assert!(imported.status.success(), "{}", text(&imported));
    let gate = made.start().await;
    until_open(&gate).await;
    gate
}

async fn get(gate: &Gate, path: &str) -> Answer {
    request("GET", &gate.admin_url(path), &[]).await
}

/// What Portieris makes of an answer (IBM/portieris, `pkg/verifier/vulnerability/ibm_va.go`): whether the image may be
/// deployed, or what it reports.
fn portieris(answer: &Answer) -> Result<bool, &'static str> {
    match answer.status {
        200 => {
            let summary = answer.json();
            for field in [
                "scan_time",
                "issue_count",
                "exempt_issue_count",
                "vulnerability_count",
                "exempt_vulnerability_count",
                "configuration_issue_count",
                "exempt_configuration_issue_count",
            ] {
                assert!(summary[field].is_u64(), "{field}: {summary}");
            }
            Ok(matches!(summary["status"].as_str(), Some("OK" | "WARN" | "UNSUPPORTED")))
        }
        401 | 403 => Err("unauthorised"),
        404 => Err("Not found"),
        400 => Err("Bad request"),
        500 | 502 | 503 => Err("Internal server error"),
        _ => Err("Unhandled response"),
    }
}

/// The images were never pulled, as at an admission in Kubernetes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn portieris_gets_the_status_that_it_expects() {
    let registry = TestRegistry::start().await;
    let (bad, good) = (image("Django", "2.2.0"), image("Django", "2.2.28"));
    let opaque = Image::linux_amd64().layer(Layer::gzip(&Tree::new().file("a", "b"))).build();
    registry.push("sam/bad", Some("may"), &bad);
    registry.push("sam/good", Some("latest"), &good);
    registry.push("sam/opaque", Some("1"), &opaque);
    let gate = scanning(&registry).await;
    let status = async |image: &str| {
        let answer = get(&gate, &format!("/va/api/v3/report/image/status/{HOST}/{image}")).await;
        (portieris(&answer), answer.text())
    };
    for (image, expected) in [
        ("sam/bad:may".to_owned(), Ok(false)),
        (format!("sam/bad@{}", bad.root), Ok(false)),
        ("sam/good:latest".to_owned(), Ok(true)),
        ("sam/good".to_owned(), Ok(true)),
        (format!("sam/good@{}", good.root), Ok(true)),
        // Nothing was recognised in it: INCOMPLETE.
        ("sam/opaque:1".to_owned(), Ok(false)),
        ("sam/none:1".to_owned(), Err("Not found")),
        ("sam/good:2".to_owned(), Err("Not found")),
        ("sam/good@sha256:ab".to_owned(), Err("Bad request")),
        ("UPPER:1".to_owned(), Err("Bad request")),
    ] {
        let (found, text) = status(&image).await;
        assert_eq!(found, expected, "{image}: {text}");
    }
    let elsewhere = get(&gate, "/va/api/v3/report/image/status/icr.io/sam/ida:may").await;
    assert_eq!(portieris(&elsewhere), Err("Not found"), "{}", elsewhere.text());
    registry.listening.stop().await;
    let (unreachable, text) = status("sam/other:1").await;
    assert_eq!(unreachable, Err("Internal server error"), "Portieris tries again: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_are_found_by_encoded_and_by_plain_names() {
    let registry = TestRegistry::start().await;
    let bad = image("Django", "2.2.0");
    registry.push("ns/app", Some("1"), &bad);
    let gate = scanning(&registry).await;
    let escaped = format!("{HOST}/ns/app:1").replace('/', "%2F").replace(':', "%3A");
    let report = get(&gate, &format!("/va/api/v4/report/image/{escaped}")).await.json();
    assert_eq!(report, get(&gate, &format!("/va/api/v4/report/image/{HOST}/ns/app:1")).await.json());
    assert_eq!((&report["status"], &report["id"]), (&json!("FAIL"), &json!(format!("{HOST}/ns/app@{}", bad.root))));
    let found = &report["vulnerabilities"][0];
    assert_eq!((&found["cve_id"], &found["exempt_status"]), (&json!("CVE-2022-28346"), &json!("active")));
    let fix = &found["security_notices"][0]["vulnerable_packages"][0];
    assert_eq!(fix["fix_version"], "2.2.28");
    assert_eq!(fix["corrective_action"], "Upgrade Django to 2.2.28: pip install Django==2.2.28");
    let summary = get(&gate, &format!("/va/api/v4/report/image/status/{escaped}")).await.json();
    assert_eq!((&summary["status"], &summary["issue_count"]), (&json!("FAIL"), &json!(1)));

    for (path, status, code) in [
        ("/va/api/v4/report/image/registry.test%2Fns%2Fnone%3A1", 404, "not_found"),
        ("/va/api/v4/report/image/%ff", 400, "bad_request"),
        ("/va/api/v4/report/nothing", 404, "not_found"),
        ("/va/api/v2/report/account", 404, "not_found"),
        ("/va/api/v4/report/account?limit=0", 400, "bad_request"),
    ] {
        let answer = get(&gate, path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(answer.json()["errors"][0]["code"], code, "{path}: {}", answer.text());
    }
}

/// A gate without any source knows nothing, which must not read as a report without vulnerabilities.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_without_a_report_is_not_clean() {
    let registry = TestRegistry::start().await;
    registry.push("ns/app", Some("1"), &image("Django", "2.2.28"));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let report = get(&gate, &format!("/va/api/v4/report/image/{HOST}/ns/app:1")).await;
    assert_eq!(report.status, 404);
    assert_eq!(
        report.json()["errors"][0],
        json!({
            "code": "BXNVA0009E",
            "message": format!("{HOST}/ns/app:1 has not been scanned. Try again later.")
        })
    );
    let status = get(&gate, &format!("/va/api/v4/report/image/status/{HOST}/ns/app:1")).await.json();
    assert_eq!((&status["status"], &status["issue_count"]), (&json!("UNSCANNED"), &json!(0)));
    let shown = pullgate(&gate, &["va", &format!("{HOST}/ns/app:1")]).await;
    assert!(
        text(&shown).contains("BXNVA0009E: registry.test/ns/app:1 has not been scanned. Try again later."),
        "{}",
        text(&shown)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_account_is_reported_in_pages_from_what_is_known() {
    let registry = TestRegistry::start().await;
    for (repository, tag, version) in
        [("a/app", "1", "2.2.0"), ("a/app", "2", "2.2.28"), ("b/app", "1", "2.2.1"), ("never/pulled", "1", "2.2.0")]
    {
        registry.push(repository, Some(tag), &image("Django", version));
    }
    let gate = scanning(&registry).await;
    for path in ["a/app:1", "a/app:2", "b/app:1"] {
        let scanned = pullgate(&gate, &["va", &format!("{HOST}/{path}")]).await;
        assert!(!text(&scanned).contains("not been scanned"), "{}", text(&scanned));
    }
    let requests = registry.count(|_| true);
    let names = |list: &Value| {
        list["images"]
            .as_array()
            .expect("images")
            .iter()
            .map(|image| image["name"].as_str().expect("a name").rsplit_once("test/").expect("a host").1.to_owned())
            .collect::<Vec<_>>()
    };
    let status = get(&gate, "/va/api/v4/report/account/status").await.json();
    assert_eq!(names(&status), ["a/app:1", "a/app:2", "b/app:1"]);
    let of = |n: usize| (&status["images"][n]["status"], &status["images"][n]["vulnerability_count"]);
    assert_eq!([of(0), of(1)], [(&json!("FAIL"), &json!(1)), (&json!("OK"), &json!(0))]);
    assert_eq!(status["next"], Value::Null);

    let first = get(&gate, "/va/api/v4/report/account/status?limit=2").await.json();
    assert_eq!(
        (names(&first), &first["next"]),
        (vec!["a/app:1".into(), "a/app:2".into()], &json!("registry.test/a/app:2"))
    );
    let rest = get(&gate, "/va/api/v4/report/account/status?limit=2&after=registry.test/a/app:2").await.json();
    assert_eq!((names(&rest), &rest["next"]), (vec!["b/app:1".to_owned()], &Value::Null));

    let reports = get(&gate, "/va/api/v4/report/account?repository=registry.test/b/app").await.json();
    let reports = reports["assessments"].as_object().expect("reports");
    assert_eq!(reports.keys().collect::<Vec<_>>(), ["registry.test/b/app:1"]);
    assert_eq!(reports["registry.test/b/app:1"]["vulnerabilities"][0]["cve_id"], "CVE-2022-28346");
    let none = get(&gate, "/va/api/v4/report/account?includePrivate=false").await.json();
    assert_eq!(none, json!({"assessments": {}}));
    assert_eq!(registry.count(|_| true), requests, "no registry is asked");

    let listed = pullgate(&gate, &["images", "--restrict", "a"]).await;
    assert_eq!(text(&listed).lines().count(), 3, "{}", text(&listed));
    let quiet = pullgate(&gate, &["images", "--quiet"]).await;
    assert_eq!(text(&quiet), "registry.test/a/app:1\nregistry.test/a/app:2\nregistry.test/b/app:1\n");
    let bare = pullgate(&gate, &["images", "--no-va"]).await;
    assert!(text(&bare).contains("NAMESPACE") && !text(&bare).contains("SECURITY STATUS"), "{}", text(&bare));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn va_reports_on_several_images_in_every_format() {
    let registry = TestRegistry::start().await;
    let plain = Image::linux_amd64().layer(Layer::gzip(&python("2.2.0"))).build();
    registry.push("ns/bad", Some("1"), &plain);
    registry.push("ns/good", Some("1"), &image("Django", "2.2.28"));
    let gate = scanning(&registry).await;
    let (bad, good) = (format!("{HOST}/ns/bad:1"), format!("{HOST}/ns/good:1"));
    let table = pullgate(&gate, &["va", &bad, &good]).await;
    assert_eq!(table.status.code(), Some(2), "{}", text(&table));
    for part in [
        "The scan results show that 1 ISSUE was found for the image.",
        "The scan results show that NO ISSUES were found for the image.",
        "Vulnerable Packages Found",
        "pip install Django==2.2.28",
        "Image                     Current     Configuration Issues   Vulnerabilities",
        "registry.test/ns/good:1   No Issues   0                      0",
    ] {
        assert!(text(&table).contains(part), "{part}: {}", text(&table));
    }
    let output = async |format: &str| {
        let output = pullgate(&gate, &["va", "-o", format, &bad, &good]).await;
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let ibm = output("ibm").await;
    let list: Vec<_> =
        ibm.as_array().expect("a list").iter().map(|image| (&image["image"], &image["status"])).collect();
    assert_eq!(list, [(&json!(bad), &json!("FAIL")), (&json!(good), &json!("OK"))]);
    let full = output("json").await;
    assert_eq!(full[0]["vulnerabilities"], ibm[0]["vulnerabilities"]);
    assert_eq!(full[1]["image"], json!(good));
    assert_eq!(output("sarif").await["runs"].as_array().map(Vec::len), Some(2));
    let partly = pullgate(&gate, &["va", "-o", "ibm", &good, &format!("{HOST}/ns/none:1")]).await;
    assert_eq!(partly.status.code(), Some(1), "{}", text(&partly));
    let listed: Value = serde_json::from_slice(&partly.stdout).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
}

fn platform(architecture: &str) -> Platform {
    Platform { os: "linux".into(), architecture: architecture.into(), variant: None }
}

/// The calls of the SDK's own integration test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exemptions_are_managed_as_by_ibms_sdk() {
    const ISSUE: &str = "issue/cve/CVE-2022-28346";
    let registry = TestRegistry::start().await;
    registry.push("ns/app", Some("1"), &image("Django", "2.2.0"));
    let gate = started(TestGate::new(&registry, ALLOW_ALL).admin_token("0123456789abcdef")).await;
    let call = async |method: &str, path: &str| {
        let token = ("authorization", "Bearer 0123456789abcdef");
        let answer = request(method, &gate.admin_url(&format!("/va/api/v4/{path}")), &[token]).await;
        let json = if answer.body.is_empty() { Value::Null } else { answer.json() };
        (answer.status, json)
    };
    let status = async || call("GET", &format!("report/image/status/{HOST}%2Fns%2Fapp%3A1")).await.1["status"].clone();
    assert_eq!(status().await, "FAIL");
    let (created, exemption) = call("POST", &format!("exempt/image/{ISSUE}")).await;
    assert_eq!((created, &exemption["issue_id"]), (201, &json!("CVE-2022-28346")));
    assert_eq!(exemption["scope"], json!({"scope_type": "account"}));
    assert_eq!(status().await, "WARN", "it applies at once");
    assert_eq!(call("GET", "exempt/image").await, (200, json!([exemption])));
    assert_eq!(call("GET", &format!("exempt/image/{ISSUE}")).await, (200, exemption.clone()));
    assert_eq!(call("DELETE", &format!("exempt/image/{ISSUE}")).await.0, 200);
    assert_eq!(call("DELETE", &format!("exempt/image/{ISSUE}")).await.0, 404);
    assert_eq!(call("GET", &format!("exempt/image/{ISSUE}")).await.0, 404);
    assert_eq!(status().await, "FAIL");

    let resource = format!("{HOST}%2Fns%2Fapp");
    let (created, of_repository) = call("POST", &format!("exempt/image/{resource}/{ISSUE}")).await;
    assert_eq!((created, &of_repository["scope"]["scope_type"]), (201, &json!("repository")));
    assert_eq!(call("GET", &format!("exempt/image/{resource}")).await, (200, json!([of_repository])));
    assert_eq!(call("GET", "exempt/image").await, (200, json!([])), "only those of the account");
    let of_image = call("GET", &format!("exemptions/image/{resource}%3A1?includeScope=true")).await;
    assert_eq!(of_image, (200, json!([of_repository])));
    assert_eq!(call("GET", "exemptions/account").await, (200, json!([of_repository])));
    assert_eq!(call("GET", "exempt/types").await.1[0]["identifier"], "cve");
    for path in ["exempt/image/issue/cve/DSA-1", "exempt/image/issue/what/x"] {
        assert_eq!(call("POST", path).await.0, 400, "{path}");
    }
    let (missing, why) = call("DELETE", "exempt/image/ns/issue/cve/CVE-1").await;
    let message = "there is no exemption for cve CVE-1, scope ns";
    assert_eq!((missing, &why["errors"][0]["message"]), (404, &json!(message)));
    // The notice of a vulnerability without notices has its identifier.
    let notice = call("POST", "exempt/image/ns/issue/sn/CVE-2022-28346").await;
    assert_eq!((notice.0, &notice.1["issue_type"]), (201, &json!("cve")));
    assert_eq!(call("GET", "exempt/image/ns/issue/sn/CVE-2022-28346").await.0, 200);
    assert_eq!(call("DELETE", "exempt/image/ns/issue/sn/CVE-2022-28346").await.0, 200);
    let deleted = call("POST", "exemptions/deleteAll").await;
    assert_eq!(deleted, (200, json!({"number_of_exemptions_deleted": 1})));
    assert_eq!(call("GET", "exemptions/account").await, (200, json!([])));
    assert_eq!(status().await, "FAIL");
}

/// RFC 9110, sections 9.3.2 and 15.5.6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_is_answered_like_get_and_other_methods_are_named() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, ALLOW_ALL).admin_token("0123456789abcdef").start().await;
    let call = async |method: &str, path: &str| {
        let token = ("authorization", "Bearer 0123456789abcdef");
        request(method, &gate.admin_url(path), &[token]).await
    };
    for path in ["/va/api/v4/report/account/status", "/va/api/v4/exempt/types", "/api/v1/cache"] {
        let (got, head) = (call("GET", path).await, call("HEAD", path).await);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-length"), got.header("content-length"), "{path}");
    }
    for (method, path, allow) in [
        ("POST", "/va/api/v4/report/account", "GET, HEAD"),
        ("PUT", "/va/api/v4/report/image/status/a%2Fb", "GET, HEAD"),
        ("DELETE", "/va/api/v4/exemptions/account", "GET, HEAD"),
        ("GET", "/va/api/v4/exemptions/deleteAll", "POST"),
        ("HEAD", "/va/api/v4/exemptions/images", "POST"),
        ("PUT", "/va/api/v4/exempt/image/issue/cve/CVE-1", "GET, HEAD, POST, DELETE"),
        ("POST", "/api/v1/images", "GET, HEAD"),
        ("GET", "/api/v1/reload", "POST"),
        ("PUT", "/api/v1/exemptions", "GET, HEAD, POST"),
        ("GET", "/api/v1/exemptions/x", "DELETE"),
        ("POST", "/livez", "GET, HEAD"),
    ] {
        let answer = call(method, path).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
    }
}

/// What IBM's API says about images that no source has assessed, and about reports of scanners.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_and_distributions_are_those_of_reports() {
    let registry = TestRegistry::start().await;
    let (scanned, other) = (image("Django", "2.2.0"), image("Django", "2.2.1"));
    registry.push("ns/app", Some("1"), &scanned);
    registry.push("ns/other", Some("1"), &other);
    let made = TestGate::new(&registry, ALLOW_ALL);
    let report = json!({
        "SchemaVersion": 2, "CreatedAt": "2026-01-01T00:00:00Z", "ArtifactName": "x", "ArtifactType": "container_image",
        "Metadata": {"OS": {"Family": "debian", "Name": "8", "EOSL": true}, "ImageID": scanned.manifest().digest},
        "Results": [{"Target": "x", "Class": "os-pkgs", "Type": "debian"}]
    });
    std::fs::write(made.path().join("reports/app.json"), report.to_string()).expect("a file");
    let gate = made.start().await;
    for path in ["ns/app", "ns/other"] {
        assert_eq!(gate.get(&format!("/{path}/manifests/1")).await.status, 200);
    }
    let status = get(&gate, &format!("/va/api/v4/report/image/status/{HOST}/ns/other:1")).await.json();
    assert_eq!((&status["status"], &status["scan_time"]), (&json!("UNSCANNED"), &json!(0)));
    let listed = get(&gate, "/va/api/v4/report/account/status").await.json();
    let times: Vec<_> = listed["images"].as_array().expect("images").iter().map(|image| &image["scan_time"]).collect();
    assert_eq!(times, [&json!(1_767_225_600), &json!(0)]);
    let report = get(&gate, &format!("/va/api/v4/report/image/{HOST}/ns/app:1")).await.json();
    let distribution = json!({"distribution_id": "debian", "version_id": "8", "version_code_name": ""});
    assert_eq!((&report["scan_time"], &report["os_distribution"]), (&json!(1_767_225_600), &distribution));
    assert_eq!(report["status"], "INCOMPLETE", "its support has ended: newer issues are not known");
    // What a rule says about the end of support applies to it.
    let pull = async |va: &str| {
        gate.set_policy(&policy(&format!("  - {{name: \"*\", policy: {{va: {va}}}}}\n")));
        let answer = gate.get("/ns/app/manifests/1").await;
        (answer.status, answer.text())
    };
    for va in ["{}", "{incomplete: allow}"] {
        let (status, why) = pull(va).await;
        assert_eq!(status, 403, "{va}");
        assert!(why.contains("endOfLife: the report says that the support of debian 8 has ended"), "{va}: {why}");
    }
    let (status, why) = pull("{endOfLife: allow}").await;
    assert_eq!(status, 200, "{why}");
}
