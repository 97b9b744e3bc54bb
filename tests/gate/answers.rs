//! Unusual responses from registries and from proxies in front of them: the content and the GET response decide, and
//! errors keep their class.

use http::{HeaderMap, Method, StatusCode, header};
use pullgate::oci::{Digest, media_type};
use pullgate::sample::{Fault, On};

use crate::harness::{ALLOW_ALL, Gate, TestGate};
use crate::pull::{multi, simple};
use crate::support::{TestRegistry, request};

const TAG: &str = "/library/app/manifests/1";
/// A maintenance page.
const PAGE: &str = "<html><body>back at noon</body></html>";

async fn gate(registry: &TestRegistry) -> Gate {
    TestGate::new(registry, ALLOW_ALL).upstream("tag_ttl = \"0s\"").start().await
}

fn answer(body: &str, content_type: &str) -> Fault {
    let (status, body) = (StatusCode::OK, body.to_owned().into());
    Fault::Answer { status, headers: HeaderMap::new(), body }.with(header::CONTENT_TYPE, content_type)
}

fn by_digest() -> On {
    On::path("*/manifests/sha256:*")
}

#[tokio::test]
async fn failed_heads_are_retried_with_get() {
    for status in [400, 401, 403, 404, 405, 406, 410, 500, 501, 503] {
        let registry = TestRegistry::start().await;
        let image = simple("head");
        registry.push("library/app", Some("1"), &image);
        let gate = gate(&registry).await;
        // HEAD is for tags that are known.
        assert_eq!(gate.get(TAG).await.status, 200);
        let refused = Fault::status(StatusCode::from_u16(status).unwrap());
        let refused = registry.inject(On::manifests().method(Method::HEAD), refused);
        for _ in 0..2 {
            let got = gate.get(TAG).await;
            assert_eq!((got.status, &got.body), (200, &image.manifest().bytes), "{status}: {}", got.text());
            assert!(got.header("warning").is_none(), "{status}: the response is not stale");
        }
        assert_eq!(refused.hits(), 2, "{status}: one attempt per lookup");
    }
}

#[tokio::test]
async fn get_overrides_missing_or_different_headers_of_head() {
    let other = Digest::sha256(b"other").to_string();
    for header in [None, Some(&*other), Some("nonsense")] {
        let registry = TestRegistry::start().await;
        let image = simple("outvoted");
        registry.push("library/app", Some("1"), &image);
        let fault = Fault::Header("docker-content-digest".parse().unwrap(), header.map(|text| text.parse().unwrap()));
        let gate = gate(&registry).await;
        assert_eq!(gate.get(TAG).await.status, 200);
        registry.inject(On::manifests().method(Method::HEAD), fault);
        let got = gate.get(TAG).await;
        assert_eq!(got.header("docker-content-digest"), Some(&*image.root.to_string()), "{header:?}");
        assert_eq!(got.body, image.manifest().bytes, "{header:?}");
    }
}

#[tokio::test]
async fn only_a_404_to_get_removes_a_tag() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("kept"));
    let gate = gate(&registry).await;
    assert_eq!(gate.get(TAG).await.status, 200);
    registry.inject(On::manifests().method(Method::HEAD), Fault::status(StatusCode::NOT_FOUND));
    let down = registry.inject(On::manifests().method(Method::GET), Fault::status(StatusCode::BAD_GATEWAY));
    let stale = gate.get(TAG).await;
    assert_eq!(stale.status, 200, "{}", stale.text());
    assert!(stale.header("warning").is_some());
    down.remove();
    registry.delete_tag("library/app", "1");
    assert_eq!(gate.get(TAG).await.status, 404);
    registry.inject(On::manifests().method(Method::GET), Fault::status(StatusCode::BAD_GATEWAY));
    assert_eq!(gate.get(TAG).await.status, 503, "the tag is no longer known");
}

#[tokio::test]
async fn manifests_that_are_served_only_by_tag_are_fetched_by_tag() {
    for status in [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED, StatusCode::FORBIDDEN] {
        let registry = TestRegistry::start().await;
        let image = simple("by tag");
        registry.push("library/app", Some("1"), &image);
        registry.inject(by_digest(), Fault::status(status));
        let gate = gate(&registry).await;
        for path in [TAG, &format!("/library/app/manifests/{}", image.root)] {
            let got = gate.get(path).await;
            assert_eq!((got.status, &got.body), (200, &image.manifest().bytes), "{status}: {}", got.text());
        }
        // Once removed from the disk, it is fetched again, by the tag that is known for it.
        let made = gate.stop().await;
        std::fs::remove_dir_all(made.path().join("state/blobs/sha256")).unwrap();
        let gate = made.start().await;
        let path = format!("/library/app/manifests/{}", image.root);
        assert_eq!(gate.get(&path).await.body, image.manifest().bytes, "{status}");
    }
}

#[tokio::test]
async fn a_moved_tag_does_not_satisfy_a_request_by_digest() {
    let registry = TestRegistry::start().await;
    let (old, new) = (simple("old"), simple("new"));
    registry.push("library/app", Some("1"), &old);
    let gate = gate(&registry).await;
    assert_eq!(gate.get(TAG).await.status, 200);
    let made = gate.stop().await;
    std::fs::remove_dir_all(made.path().join("state/blobs/sha256")).unwrap();
    registry.push("library/app", Some("1"), &new);
    registry.inject(by_digest(), Fault::status(StatusCode::NOT_FOUND));
    let got = made.start().await.get(&format!("/library/app/manifests/{}", old.root)).await;
    assert_eq!(got.status, 404, "{}", got.text());
}

#[tokio::test]
async fn content_decides_the_manifest_type_not_labels() {
    let image = simple("labelled");
    for label in ["text/plain", "text/html; charset=utf-8", "application/x-gzip", "a, b", media_type::OCI_MANIFEST] {
        let registry = TestRegistry::start().await;
        registry.push("library/app", Some("1"), &image);
        registry.inject(On::manifests(), Fault::header(header::CONTENT_TYPE, label));
        let got = gate(&registry).await.get(TAG).await;
        assert_eq!((got.status, got.header("content-type")), (200, Some(media_type::OCI_MANIFEST)), "{label}");
    }
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &image);
    registry.inject(On::manifests(), Fault::header(header::CONTENT_TYPE, media_type::DOCKER_MANIFEST));
    let got = gate(&registry).await.get(TAG).await;
    assert_eq!(got.status, 403, "another manifest type contradicts: {}", got.text());
}

#[tokio::test]
async fn a_web_page_instead_of_a_manifest_is_an_upstream_failure() {
    for (body, content_type) in [
        (PAGE, "text/html"),
        (PAGE, media_type::OCI_MANIFEST),
        ("", "text/plain"),
        (r#"{"errors":[{"code":"DENIED"}]}"#, "application/json"),
    ] {
        let registry = TestRegistry::start().await;
        let image = simple("page");
        registry.push("library/app", Some("1"), &image);
        let page = registry.inject(On::manifests(), answer(body, content_type));
        let gate = gate(&registry).await;
        let got = gate.get(TAG).await;
        assert_eq!(got.status, 503, "{}", got.text());
        assert!(got.text().contains("something that is not a manifest"), "{}", got.text());
        page.remove();
        assert_eq!(gate.get(TAG).await.body, image.manifest().bytes);
        let page = registry.inject(On::manifests(), answer(body, content_type));
        let stale = gate.get(TAG).await;
        assert_eq!((stale.status, &stale.body), (200, &image.manifest().bytes), "{}", stale.text());
        assert!(stale.header("warning").is_some());
        page.remove();
        let page = Digest::sha256(body.as_bytes());
        assert_eq!(gate.get(&format!("/library/app/manifests/{page}")).await.status, 404, "it was not stored");
        let hex = page.hex();
        assert!(!gate.file(&format!("state/blobs/sha256/{}/{hex}", &hex[..2])).exists());
    }
}

#[tokio::test]
async fn content_that_is_not_a_manifest_is_refused_by_digest() {
    let registry = TestRegistry::start().await;
    let page = registry.put_manifest("library/app", Some("1"), media_type::OCI_MANIFEST, PAGE);
    let got = gate(&registry).await.get(&format!("/library/app/manifests/{page}")).await;
    assert_eq!(got.status, 403, "{}", got.text());
}

#[tokio::test]
async fn upstream_errors_keep_their_class_and_message() {
    for (status, code) in
        [(400, "UNSUPPORTED"), (405, "UNSUPPORTED"), (410, "NAME_UNKNOWN"), (413, "UNSUPPORTED"), (451, "DENIED")]
    {
        let registry = TestRegistry::start().await;
        let body = r#"{"errors":[{"code":"THEIR_CODE","message":"max is\u001b 100"}]}"#;
        let (status, headers) = (StatusCode::from_u16(status).unwrap(), HeaderMap::new());
        registry.inject(On::path("*/tags/list"), Fault::Answer { status, headers, body: body.into() });
        let got = gate(&registry).await.get("/library/app/tags/list?n=1000").await;
        assert_eq!((got.status, got.header("retry-after")), (status.as_u16(), None), "{}", got.text());
        assert_eq!(got.json()["errors"][0]["code"], code);
        let message = got.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("(THEIR_CODE: \"max is  100\")"), "{message}");
    }
}

#[tokio::test]
async fn a_proxy_that_requires_authentication_is_not_reported_as_401() {
    let registry = TestRegistry::start().await;
    registry.inject(On::path("*/tags/list"), Fault::status(StatusCode::PROXY_AUTHENTICATION_REQUIRED));
    let got = gate(&registry).await.get("/library/app/tags/list").await;
    assert_eq!((got.status, got.header("retry-after")), (502, None), "{}", got.text());
}

#[tokio::test]
async fn clients_that_accept_no_index_receive_a_judged_image() {
    let registry = TestRegistry::start().await;
    let index = multi("accept");
    registry.push("library/app", Some("1"), &index);
    let gate = TestGate::new(&registry, ALLOW_ALL).with("[gate]\nplatforms = [\"linux/arm64\"]").start().await;
    let image = &index.manifests[2];
    let plain = format!("{}, {}", media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST);
    let ask =
        async |method: &str, path: &str, accept: &str| request(method, &gate.url(path), &[("accept", accept)]).await;
    for method in ["HEAD", "GET"] {
        let got = ask(method, TAG, &plain).await;
        assert_eq!(got.header("docker-content-digest"), Some(&*image.digest.to_string()), "{method}");
        assert_eq!(got.header("content-type"), Some(media_type::OCI_MANIFEST));
    }
    for accept in ["*/*".to_owned(), format!("{plain}, {}", media_type::OCI_INDEX)] {
        assert_eq!(ask("GET", TAG, &accept).await.body, index.manifest().bytes, "{accept}");
    }
    let by_digest = format!("/library/app/manifests/{}", index.root);
    assert_eq!(
        ask("GET", &by_digest, &plain).await.body,
        index.manifest().bytes,
        "a digest always names the same content"
    );
    assert_eq!(gate.get(TAG).await.body, index.manifest().bytes, "no client affects the responses to others");
}
