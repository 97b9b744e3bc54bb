//! What people are told when two sides do not speak the same protocol, or the configuration is wrong.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::Command;

use http::{HeaderMap, StatusCode, header};
use pullgate::sample::{Fault, On};

use crate::commands::{pullgate, text};
use crate::harness::{ALLOW_ALL, TestGate};
use crate::pull::simple;
use crate::support::{TestCa, TestRegistry, raw, request, soon};

/// A pair of files for a listener with TLS.
fn with_certificate(made: TestGate) -> TestGate {
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .expect("a name")
        .self_signed(&key)
        .expect("a certificate");
    made.file("server.crt", &certificate.pem())
        .file("server.key", &key.serialize_pem())
        .listener("tls = { certificate = \"server.crt\", key = \"server.key\" }")
}

#[tokio::test]
async fn http_on_a_tls_port_is_answered_in_http() {
    let registry = TestRegistry::start().await;
    let gate = with_certificate(TestGate::new(&registry, ALLOW_ALL)).start().await;
    let address = gate.any_url("").strip_prefix("http://").unwrap().parse().unwrap();
    let answer = raw(address, b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
    assert!(body.contains("expects TLS; write https://"), "{answer}");
}

#[tokio::test]
async fn upstreams_with_the_other_protocol_are_explained() {
    let (plain, ca) = (TestRegistry::start().await, TestCa::new());
    let tls = TestRegistry::start_tls(&ca).await;
    let port = |registry: &TestRegistry| registry.listening.url().rsplit_once(':').unwrap().1.to_owned();
    let (plain_port, tls_port) = (port(&plain), port(&tls));
    let upstreams = format!(
        "[[upstream]]\nhost = \"no-tls.test\"\nurl = \"https://127.0.0.1:{plain_port}\"\nattempts = 1\n\
         [[upstream]]\nhost = \"tls.test\"\nurl = \"http://127.0.0.1:{tls_port}\"\nattempts = 1\n"
    );
    let gate = TestGate::new(&plain, ALLOW_ALL).with(&upstreams).start().await;
    let got = request("GET", &gate.any_url("/v2/no-tls.test/app/manifests/1"), &[]).await.text();
    let wanted = format!(
        "answers in plain HTTP, not TLS; if that is intended, set `url` of no-tls.test to http://127.0.0.1:{plain_port}"
    );
    assert!(got.contains(&wanted), "{got}");
    let got = request("GET", &gate.any_url("/v2/tls.test/app/manifests/1"), &[]).await.text();
    let wanted = format!("if it expects TLS, set `url` of tls.test to https://127.0.0.1:{tls_port}");
    assert!(got.contains(&wanted), "{got}");
}

/// Errors of connections name the registry and its URL.
#[tokio::test]
async fn an_upstream_that_is_down_is_named_with_its_url() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let url = registry.listening.url();
    registry.listening.stop().await;
    let got = gate.get("/app/manifests/1").await;
    let wanted = format!("registry.test at {url}: Connection refused");
    assert!(got.status == 503 && got.text().contains(&wanted), "{}", got.text());
}

/// So do errors that a registry answers with: a wrong `url` gives 404, too, and a filter on the way 403.
#[tokio::test]
async fn an_answer_that_is_an_error_is_named_with_the_registry_and_its_url() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let url = registry.listening.url();
    let missing = gate.get("/app/manifests/1").await;
    let wanted = format!("the upstream does not have this manifest: registry.test/app:1 at {url}");
    assert!(missing.status == 404 && missing.text().contains(&wanted), "{}", missing.text());
    let at = format!("registry.test at {url}");
    for (fault, status, wanted) in [
        (Fault::status(StatusCode::FORBIDDEN), 403, format!("{at} refuses this (403)")),
        (Fault::status(StatusCode::PROXY_AUTHENTICATION_REQUIRED), 502, format!("{at} answered 407")),
        (Fault::status(StatusCode::INTERNAL_SERVER_ERROR), 503, format!("{at} answered 500")),
        (Fault::too_many_requests(600), 429, format!("the rate limit is reached: {at}")),
    ] {
        let injected = registry.inject(On::manifests(), fault);
        let got = gate.get(&format!("/app/manifests/{status}")).await;
        assert!(got.status == status && got.text().contains(&wanted), "{wanted}: {} {}", got.status, got.text());
        injected.remove();
    }
}

/// A proxy, a filter or a log-in page on the way answers instead of the registry.
#[tokio::test]
async fn a_web_page_in_place_of_an_answer_is_named() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let at = format!("registry.test at {}", registry.listening.url());
    for (answer, status, is_page, wanted) in [
        (403, 403, true, format!("{at} refuses this (403); the answer is a web page")),
        (404, 404, true, "; the answer is a web page".to_owned()),
        (404, 404, false, "the upstream does not have this manifest".to_owned()),
        (407, 502, true, format!("{at} answered 407 Proxy Authentication Required; the answer is a web page")),
        (451, 451, true, format!("{at} answered 451 Unavailable For Legal Reasons; the answer is a web page")),
        (511, 502, true, format!("{at} answered 511 Network Authentication Required; the answer is a web page")),
        // As servers in front of a registry that is down answer.
        (502, 503, false, format!("{at} answered 502 Bad Gateway")),
    ] {
        let answer = StatusCode::from_u16(answer).expect("a status");
        let is_labelled = is_page || answer == StatusCode::BAD_GATEWAY;
        let label = if is_labelled { "text/html; charset=utf-8" } else { "application/json" };
        let page = Fault::Answer { status: answer, headers: HeaderMap::new(), body: "<html><title>x</title>".into() };
        let injected = registry.inject(On::manifests(), page.with(header::CONTENT_TYPE, label));
        let got = gate.get(&format!("/app/manifests/{answer}", answer = answer.as_u16())).await;
        let said = got.text();
        assert!(got.status == status && said.contains(&wanted), "{wanted}: {} {said}", got.status);
        assert_eq!(said.contains("web page"), is_page, "{said}");
        injected.remove();
    }
}

/// Whether its greeting comes before the request or after it.
#[tokio::test]
async fn a_server_that_speaks_first_is_not_a_registry() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut connection in listener.incoming().flatten() {
            // A client may have gone.
            let _ = connection.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
            open.push(connection);
        }
    });
    let registry = TestRegistry::start().await;
    let upstream = format!("[[upstream]]\nhost = \"ssh.test\"\nurl = \"http://127.0.0.1:{port}\"\nattempts = 1\n");
    let gate = TestGate::new(&registry, ALLOW_ALL).with(&upstream).start().await;
    for tag in 0..10 {
        let got = request("GET", &gate.any_url(&format!("/v2/ssh.test/app/manifests/{tag}")), &[]).await.text();
        assert!(got.contains(&format!("the registry at 127.0.0.1:{port} does not answer in HTTP")), "{tag}: {got}");
    }
}

/// What is wrong with an egress proxy is said of the proxy, which may come from the environment.
#[tokio::test]
async fn an_egress_proxy_that_is_down_is_named_without_its_password() {
    let registry = TestRegistry::start().await;
    let upstream = "proxy = \"http://robot:hush@127.0.0.1:1\"";
    let gate = TestGate::new(&registry, ALLOW_ALL).upstream(upstream).start().await;
    let got = gate.get("/app/manifests/1").await;
    let said = got.text();
    let wanted = format!("registry.test at {}: egress proxy http://127.0.0.1:1: ", registry.listening.url());
    assert!(got.status == 503 && said.contains(&wanted) && !said.contains("hush"), "{said}");
    assert!(said.contains("`proxy`") && said.contains("HTTPS_PROXY"), "{said}");
}

#[test]
fn a_wrong_command_line_has_its_own_exit_code() {
    let run = |words: &[&str], variable: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
        command.args(words).env("PULLGATE_SERVER", variable).output().expect("it runs")
    };
    for words in [
        &["check", "--server", "nonsense", "a.test/app"][..],
        &["check", "--server", "http://127.0.0.1", "a.test/app"],
        &["images", "--server", "https://127.0.0.1:5001"],
        &["ready", "--server", "unix:"],
        &["check", "--images", "/none"],
        &["check", "--images", "/dev/null"],
        &["va", "--images", "/none"],
        &["prefetch", "--images", "/none"],
    ] {
        let done = run(words, "unix:/none");
        assert_eq!(done.status.code(), Some(64), "{words:?}: {}", text(&done));
    }
    let done = run(&["ready"], "nonsense");
    assert!(done.status.code() == Some(64) && text(&done).contains("http://HOST:PORT"), "{}", text(&done));
    // It does not count.
    let done = run(&["ready", "--config", "/none/pullgate.toml"], "nonsense");
    assert_eq!(done.status.code(), Some(78), "{}", text(&done));
}

/// Every command that reads the configuration exits with 78 if it is wrong, and says where.
#[tokio::test]
async fn every_command_reports_a_wrong_configuration() {
    let registry = TestRegistry::start().await;
    let made = TestGate::new(&registry, ALLOW_ALL);
    let config = made.path().join("wrong.toml");
    let wrong =
        "[policy]\ndir = \"policies\"\n[[upstream]]\nhost = \"a.test\"\n[admin]\naddress = \"127.0.0.1:5000\"\n";
    std::fs::write(&config, wrong).unwrap();
    for words in [
        &["serve"][..],
        &["config", "check"],
        &["config", "show"],
        &["check", "a.test/app:1"],
        &["check", "--offline", "a.test/app:1"],
        &["images"],
        &["ready"],
        &["images", "--changed"],
        &["va", "a.test/app:1"],
        &["va", "--offline", "a.test/app:1"],
        &["cache", "status"],
        &["cache", "gc"],
        &["cache", "verify"],
        &["prefetch", "a.test/app:1"],
        &["exemption", "list"],
        &["db", "status"],
        &["db", "update"],
        &["trust", "status"],
        &["trust", "forget", "https://n.test/v2/a.test/app"],
        &["policy", "check", "policies"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        command.args(&words).arg("--config").arg(&config);
        let output = soon(tokio::task::spawn_blocking(move || command.output().unwrap())).await.unwrap();
        let (said, code) = (text(&output), output.status.code());
        assert_eq!(code, Some(78), "{words:?}: {said}");
        let wanted = "wrong.toml:6:1: error: admin.address: 127.0.0.1:5000 cannot be used";
        assert!(said.contains(wanted) && !said.contains("pullgate: "), "{words:?}: {said}");
    }
}

/// Beside Docker Hub, a name that begins with the `path` of an upstream is also a short name. Of an image that nobody pulls, the
/// answer would mislead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_mean_two_images_are_not_answered_for() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("app"));
    registry.push("local/library/app", Some("1"), &simple("other"));
    let hub = format!("[[upstream]]\nhost = \"docker.io\"\nurl = \"{}\"\n", registry.listening.url());
    let made = TestGate::new(&registry, ALLOW_ALL).upstream("path = \"local\"").with(&hub);
    let gate = made.start().await;
    let file = gate.file("b.tar").display().to_string();
    for words in [
        &["check", "local/library/app:1"][..],
        &["va", "local/library/app:1"],
        &["prefetch", "local/library/app:1"],
        &["cache", "pin", "--reason", "r", "local/library/app:1"],
        &["cache", "rm", "local/library/app:1"],
        &["bundle", "export", "-f", &file, "local/library/app:1"],
    ] {
        let done = pullgate(&gate, words).await;
        let wanted = "pull registry.test/library/app:1 by this name, and as a short name of Docker it means \
                      docker.io/local/library/app:1";
        assert!(done.status.code() == Some(1) && text(&done).contains(wanted), "{words:?}: {}", text(&done));
    }
    for name in ["docker.io/local/library/app:1", "registry.test/library/app:1"] {
        let done = pullgate(&gate, &["check", name]).await;
        assert!(done.status.success(), "{name}: {}", text(&done));
    }
    let with_address = |rest: &str| format!("{}/{rest}", gate.any_url("").trim_start_matches("http://"));
    for (name, wanted) in [("local/library/app:1", "registry.test/library/app"), ("docker.io/a/b", "docker.io/a/b")] {
        let said = text(&pullgate(&gate, &["check", &with_address(name)]).await);
        assert!(said.contains(&format!("is not an upstream of this gate; did you mean {wanted}?")), "{said}");
    }
    gate.stop().await;
}

/// Clients write the `path` of an upstream, and some people ask the registry where the admin listener is meant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_addresses_of_clients_are_explained_to_operators() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, ALLOW_ALL).upstream("path = \"local\"").start().await;
    let said = text(&pullgate(&gate, &["check", "local/library/app:1"]).await);
    assert!(
        said.contains("docker.io is not an upstream of this gate; did you mean registry.test/library/app?"),
        "{said}"
    );
    assert_eq!(said.matches("pullgate: ").count(), 1, "{said}");
    for address in ["[::1]", "[::1]:5000", "[2001:db8::1]", "localhost", "127.0.0.1"] {
        let said = text(&pullgate(&gate, &["check", &format!("{address}/local/library/app:1")]).await);
        let wanted = "is not an upstream of this gate; did you mean registry.test/library/app?";
        assert!(said.contains(wanted), "{address}: {said}");
    }
    let bare = text(&pullgate(&gate, &["check", "2001:db8::1/library/app:1"]).await);
    assert!(bare.contains("an IPv6 address is in brackets in the name of a registry"), "{bare}");
    let asked = request("GET", &gate.any_url("/v2/library/app/manifests/1?ns=local"), &[]).await.text();
    assert!(asked.contains("local is not an upstream of this gate; did you mean registry.test?"), "{asked}");
    // The name of the gate that clients use, which the gate does not know.
    for name in [
        "gate.acme.test:5000/registry.test/library/app:1",
        "gate.acme.test/local/library/app:1",
        "registri.test/registry.test/library/app:1",
    ] {
        let said = text(&pullgate(&gate, &["check", name]).await);
        let wanted = "is not an upstream of this gate; did you mean registry.test/library/app?";
        assert!(said.contains(wanted), "{name}: {said}");
    }
    let misspelt = text(&pullgate(&gate, &["check", "registri.test/local/app:1"]).await);
    assert!(misspelt.contains("did you mean registry.test?"), "{misspelt}");
    let unknown = text(&pullgate(&gate, &["check", "quay.test/library/app:1"]).await);
    assert!(unknown.contains("quay.test is not an upstream") && !unknown.contains("did you mean"), "{unknown}");
    let other = text(&pullgate(&gate, &["check", "nginx:1"]).await);
    assert!(other.contains("docker.io is not an upstream") && !other.contains("did you mean"), "{other}");
    let url = gate.any_url("");
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
        command.args(["check", "registry.test/library/app:1", "--server", &url]).output().expect("it runs")
    };
    let said = text(&soon(tokio::task::spawn_blocking(run)).await.expect("it ends"));
    assert!(said.contains("the gate answered 404 Not Found; is that its admin listener"), "{said}");
    gate.stop().await;
}

/// Clients name no registry for images of the default upstream; such a name is one of Docker Hub elsewhere.
#[tokio::test]
async fn names_of_the_default_upstream_are_explained_to_operators() {
    let registry = TestRegistry::start().await;
    let made = TestGate::new(&registry, ALLOW_ALL);
    made.config();
    let config = made.path().join("default.toml");
    let written = std::fs::read_to_string(made.path().join("pullgate.toml")).expect("a file");
    std::fs::write(&config, format!("default_upstream = \"registry.test\"\n{written}")).expect("a file");
    for (name, asked, near) in [
        ("app:v1", "docker.io", "registry.test/app or registry.test/library/app"),
        ("team/app:v1", "docker.io", "registry.test/team/app"),
        ("docker.io/registry.test/app:v1", "docker.io", "registry.test/app"),
        ("127.0.0.1:5000/app:v1", "127.0.0.1:5000", "registry.test/app"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
        command.args(["check", "--offline", name, "--config"]).arg(&config);
        let output = soon(tokio::task::spawn_blocking(move || command.output().expect("it runs"))).await;
        let said = text(&output.expect("it ends"));
        let wanted = format!("{asked} is not an upstream of this gate; did you mean {near}?");
        assert!(said.contains(&wanted), "{name}: {said}");
    }
}
