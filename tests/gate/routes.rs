//! Which upstream a request refers to, and which requests are invalid.

use crate::harness::{ALLOW_ALL, HOST, TestGate};
use crate::pull::simple;
use crate::support::{TestRegistry, raw, request};

#[tokio::test]
async fn upstreams_are_found_by_ns_path_alias_and_default() {
    let registry = TestRegistry::start().await;
    let image = simple("routed");
    registry.push("team/app", Some("1"), &image);
    let gate =
        TestGate::new(&registry, ALLOW_ALL).upstream("path = \"short\"\naliases = [\"other.test\"]").start().await;
    for path in [
        format!("/v2/team/app/manifests/1?ns={HOST}"),
        format!("/v2/team/app/manifests/1?ns={}", HOST.to_uppercase()),
        format!("/v2/team/app/manifests/1?ns={HOST}%3A443"),
        "/v2/team/app/manifests/1?ns=other.test".to_owned(),
        // containerd with override_path names the upstream twice.
        format!("/v2/{HOST}/team/app/manifests/1?ns={HOST}"),
        format!("/v2/{HOST}/team/app/manifests/1"),
        "/v2/other.test/team/app/manifests/1".to_owned(),
        "/v2/short/team/app/manifests/1".to_owned(),
    ] {
        let got = request("GET", &gate.any_url(&path), &[]).await;
        assert_eq!(got.status, 200, "{path}: {}", got.text());
        let namespace = path.contains("ns=").then_some(());
        assert_eq!(got.header("oci-namespace").map(|_| ()), namespace, "{path}");
    }
    for path in [
        "/v2/team/app/manifests/1",
        "/v2/team/app/manifests/1?ns=evil.test",
        "/v2/team/app/manifests/1?ns=127.0.0.1%3A1",
    ] {
        let got = request("GET", &gate.any_url(path), &[]).await;
        assert_eq!(got.status, 403, "{path}");
        assert!(got.text().contains("upstream of this gate"), "{}", got.text());
        assert!(!got.text().contains(HOST), "the message does not list what is served: {}", got.text());
    }
    for (path, meant) in [
        ("/v2/team/app/manifests/1?ns=regisry.test", HOST),
        ("/v2/registri.test/team/app/manifests/1", HOST),
        ("/v2/team/app/manifests/1?ns=other.tset", "other.test"),
    ] {
        let got = request("GET", &gate.any_url(path), &[]).await;
        assert_eq!(got.status, 403, "{path}");
        assert!(got.text().contains(&format!("did you mean {meant}?")), "{path}: {}", got.text());
    }
}

#[tokio::test]
async fn requests_without_an_upstream_use_the_default() {
    let registry = TestRegistry::start().await;
    registry.push("team/app", Some("1"), &simple("default"));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(request("GET", &gate.any_url("/v2/team/app/manifests/1"), &[]).await.status, 403);
    let made = gate.stop().await;
    let text = std::fs::read_to_string(made.path().join("pullgate.toml")).unwrap();
    let text = format!("default_upstream = \"{HOST}\"\n{text}");
    let path = made.path().join("default.toml");
    std::fs::write(&path, text).unwrap();
    let config = pullgate::config::Config::load(Some(&path), std::iter::empty()).unwrap();
    let bound = pullgate::app::build(config).await.unwrap();
    let url = format!("http://{}/v2/team/app/manifests/1", bound.addresses()[0]);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = pullgate::runtime::Tasks::new().spawn(bound.run(async { drop(stopped.await) }));
    assert_eq!(request("GET", &url, &[]).await.status, 200);
    drop(stop);
    running.await.unwrap();
}

#[tokio::test]
async fn malformed_requests_and_pushes_are_rejected() {
    let registry = TestRegistry::start().await;
    registry.push("team/app", Some("1"), &simple("x"));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(request("GET", &gate.any_url("/v2/"), &[]).await.status, 200);
    registry.clear_log();
    for (method, path, status, code) in [
        ("GET", "/v2/registry.test/team/APP/manifests/1", 400, "NAME_INVALID"),
        ("GET", "/v2/registry.test/team%2Fapp/manifests/1", 400, "NAME_INVALID"),
        ("GET", "/v2/registry.test/../etc/manifests/1", 400, "NAME_INVALID"),
        ("GET", "/v2/registry.test/team/app/manifests/.bad", 400, "MANIFEST_INVALID"),
        ("GET", "/v2/registry.test/team/app/manifests/sha256:12", 400, "DIGEST_INVALID"),
        ("GET", "/v2/registry.test/team/app/blobs/md5:12", 400, "DIGEST_INVALID"),
        ("GET", "/v2/team/app/manifests/1?ns=a&ns=b", 400, "NAME_INVALID"),
        ("GET", "/v2/_catalog", 404, "NAME_UNKNOWN"),
        ("GET", "/etc/passwd", 404, "NAME_UNKNOWN"),
        ("PUT", "/v2/registry.test/team/app/manifests/1", 405, "UNSUPPORTED"),
        ("DELETE", "/v2/registry.test/team/app/manifests/1", 405, "UNSUPPORTED"),
        ("POST", "/v2/registry.test/team/app/blobs/uploads/", 405, "UNSUPPORTED"),
        ("POST", "/v2/registry.test/team/app/blobs/uploads/?mount=sha256:1&from=x", 405, "UNSUPPORTED"),
        ("PATCH", "/v2/registry.test/team/app/blobs/uploads/1", 405, "UNSUPPORTED"),
    ] {
        let got = request(method, &gate.any_url(path), &[]).await;
        assert_eq!(got.status, status, "{method} {path}: {}", got.text());
        assert_eq!(got.json()["errors"][0]["code"], code, "{method} {path}");
    }
    assert_eq!(registry.requests().len(), 0);
}

/// RFC 9112, section 3.2: also for a request whose answer is remembered.
#[tokio::test]
async fn a_request_has_exactly_one_host() {
    let registry = TestRegistry::start().await;
    registry.push("team/app", Some("1"), &simple("host"));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let address = gate.any_url("/").split('/').nth(2).expect("an authority").parse().expect("an address");
    for _ in 0..2 {
        for (version, hosts, status) in [
            ("1.1", "Host: a.test\r\n", 200),
            ("1.1", "Host:\r\n", 200),
            ("1.1", "", 400),
            ("1.1", "Host: a.test\r\nHost: a.test\r\n", 400),
            ("1.0", "", 200),
            ("1.0", "Host: a.test\r\nHost: b.test\r\n", 400),
        ] {
            let target = format!("/v2/{HOST}/team/app/manifests/1");
            let sent = format!("GET {target} HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n");
            let answer = raw(address, sent.as_bytes()).await;
            let answer = String::from_utf8_lossy(&answer);
            let got = answer.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
            assert_eq!(got, Some(status), "{version} {hosts:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn repositories_without_a_rule_are_denied_without_an_upstream_request() {
    let registry = TestRegistry::start().await;
    let image = simple("unmatched");
    registry.push("team/app", Some("1"), &image);
    let gate = TestGate::new(&registry, &crate::harness::policy("  - {name: \"registry.test/other/*\", policy: {}}\n"))
        .start()
        .await;
    for path in [
        "/team/app/manifests/1".to_owned(),
        format!("/team/app/manifests/{}", image.root),
        format!("/team/app/blobs/{}", image.blobs[0].0),
        "/team/app/tags/list".to_owned(),
        format!("/team/app/referrers/{}", image.root),
    ] {
        let got = gate.get(&path).await;
        assert!([403, 404].contains(&got.status), "{path}: {}", got.status);
        assert_ne!(got.status, 200);
    }
    assert_eq!(registry.requests().len(), 0);
}

#[tokio::test]
async fn hostile_requests_are_rejected() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, ALLOW_ALL)
        .with("[limits]\nheader_timeout = \"300ms\"\nmax_header_size = \"8KiB\"")
        .start()
        .await;
    let address = gate.any_url("").trim_start_matches("http://").parse().unwrap();
    let large = format!("GET /v2/ HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    let answer = raw(address, large.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{:?}", &answer[..answer.len().min(40)]);
    let answer = raw(address, b"GET /v2/ HTTP/1.1\r\nhost: x\r\n").await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "a client that never ends its headers gets no response");
    let answer = raw(address, b"\x00\x01\x02\r\n\r\n").await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"));
    assert_eq!(request("GET", &gate.any_url("/v2/"), &[]).await.status, 200);
}
