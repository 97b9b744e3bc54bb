//! The sample registry works as documented, and misbehaves as told.

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, header};
use pullgate::oci::{Manifest, media_type};
use pullgate::sample::image::{self, Built, Image, Layer, Tree};
use pullgate::sample::{Access, Credentials, Fault, Injected, On, demo_images};
use support::{Exchange, TestCa, TestRegistry, get, head, raw, request, soon};

fn image() -> Built {
    Image::linux_amd64().layer(Layer::gzip(&Tree::new().file("etc/os-release", "ID=debian\n"))).build()
}

const AUTHORIZATION: &str = "authorization";

#[tokio::test]
async fn pushed_images_can_be_pulled() {
    let registry = TestRegistry::start().await;
    let demo = demo_images().swap_remove(2);
    registry.push(demo.repository, Some(demo.tag), &demo.built);
    let tagged = get(&registry.url("/v2/library/tomcat/manifests/latest")).await;
    assert_eq!((tagged.status, tagged.header("content-type")), (200, Some(media_type::OCI_INDEX)));
    assert_eq!(tagged.header("docker-content-digest"), Some(&*demo.built.root.to_string()));
    let index = Manifest::parse(tagged.body, None).unwrap();
    for child in index.children() {
        let child = get(&registry.url(&format!("/v2/library/tomcat/manifests/{}", child.digest))).await;
        for descriptor in Manifest::parse(child.body, None).unwrap().descriptors() {
            let blob = get(&registry.url(&format!("/v2/library/tomcat/blobs/{}", descriptor.digest))).await;
            assert_eq!(pullgate::oci::Digest::sha256(&blob.body), descriptor.digest);
            assert_eq!(blob.body.len() as u64, descriptor.size);
        }
    }
    let asked = head(&registry.url("/v2/library/tomcat/manifests/latest")).await;
    assert_eq!(asked.header("content-length"), Some(&*demo.built.manifest().bytes.len().to_string()));
    let etag = asked.header("etag").unwrap();
    let again = request("GET", &registry.url("/v2/library/tomcat/manifests/latest"), &[("if-none-match", etag)]).await;
    assert_eq!((again.status, again.body.len(), again.header("content-length")), (304, 0, None));
}

#[tokio::test]
async fn missing_content_is_not_found() {
    let registry = TestRegistry::start().await;
    let built = image();
    registry.push("a", Some("v1"), &built);
    registry.put_manifest("b", Some("v1"), media_type::OCI_MANIFEST, built.manifest().bytes.clone());
    let layer = built.layers[0];
    for (path, status) in [
        ("/v2/".to_owned(), 200),
        (format!("/v2/a/blobs/{layer}"), 200),
        (format!("/v2/b/blobs/{layer}"), 404),
        (format!("/v2/a/blobs/{}", built.root), 404),
        ("/v2/b/manifests/v1".to_owned(), 200),
        ("/v2/b/manifests/v2".to_owned(), 404),
        ("/v2/c/tags/list".to_owned(), 404),
        ("/v2/A/manifests/v1".to_owned(), 404),
        ("/elsewhere".to_owned(), 404),
    ] {
        assert_eq!(get(&registry.url(&path)).await.status, status, "{path}");
    }
    registry.delete_tag("b", "v1");
    assert_eq!(get(&registry.url("/v2/b/manifests/v1")).await.status, 404);
    assert_eq!(request("PUT", &registry.url("/v2/b/manifests/v1"), &[]).await.status, 405);
}

#[tokio::test]
async fn ranges() {
    let registry = TestRegistry::start().await;
    let digest = registry.put_blob("a", &b"0123456789"[..]);
    let url = registry.url(&format!("/v2/a/blobs/{digest}"));
    let etag = format!("\"{digest}\"");
    for (range, if_range, status, body, content_range) in [
        ("bytes=2-4", &*etag, 206, "234", Some("bytes 2-4/10")),
        ("bytes=7-", &*etag, 206, "789", Some("bytes 7-9/10")),
        ("bytes=7-99", &*etag, 206, "789", Some("bytes 7-9/10")),
        ("bytes=-3", &*etag, 206, "789", Some("bytes 7-9/10")),
        ("bytes=-99", &*etag, 206, "0123456789", Some("bytes 0-9/10")),
        ("bytes=2-4", "\"other\"", 200, "0123456789", None),
        ("bytes=0-1,3-4", &*etag, 200, "0123456789", None),
        ("bytes=4-2", &*etag, 200, "0123456789", None),
        ("lines=1-2", &*etag, 200, "0123456789", None),
    ] {
        let answer = request("GET", &url, &[("range", range), ("if-range", if_range)]).await;
        assert_eq!((answer.status, &*answer.text()), (status, body), "{range}");
        assert_eq!(answer.header("content-range"), content_range, "{range}");
    }
    for range in ["bytes=10-", "bytes=-0"] {
        let answer = request("GET", &url, &[("range", range)]).await;
        assert_eq!((answer.status, answer.header("content-range")), (416, Some("bytes */10")), "{range}");
    }
    registry.inject(On::blobs(), Fault::IgnoreRange);
    assert_eq!(request("GET", &url, &[("range", "bytes=2-4")]).await.status, 200);
}

#[tokio::test]
async fn tag_lists_are_paged() {
    let registry = TestRegistry::start().await;
    for tag in ["c", "a", "b"] {
        registry.push("r", Some(tag), &image());
    }
    let first = get(&registry.url("/v2/r/tags/list?n=2")).await;
    assert_eq!(first.json()["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(first.header("link"), Some("</v2/r/tags/list?n=2&last=b>; rel=\"next\""));
    let last = get(&registry.url("/v2/r/tags/list?n=2&last=b")).await;
    assert_eq!((last.json()["tags"].clone(), last.header("link")), (serde_json::json!(["c"]), None));
}

#[tokio::test]
async fn referrers_are_listed_by_api_and_tag() {
    let registry = TestRegistry::start().await;
    let subject = image();
    registry.push("r", Some("v1"), &subject);
    for kind in ["application/a", "application/b", "application/b"] {
        let layer = Layer::of(kind, image::noise(8, registry.count(|_| true) as u64));
        registry.push("r", None, &image::referrer(&subject, kind, &[layer], &[("key", "value")]));
        get(&registry.url("/v2/")).await;
    }
    let api = format!("/v2/r/referrers/{}", subject.root);
    let all = get(&registry.url(&api)).await;
    assert_eq!((all.json()["manifests"].as_array().unwrap().len(), all.header("link")), (3, None));
    assert_eq!(all.json()["manifests"][0]["annotations"]["key"], "value");

    registry.set_referrers_page(1);
    let page = get(&registry.url(&format!("{api}?artifactType=application%2Fb"))).await;
    assert_eq!(page.header("oci-filters-applied"), Some("artifactType"));
    let next = page.header("link").unwrap().split(['<', '>']).nth(1).unwrap().to_owned();
    let rest = get(&registry.url(&next)).await;
    assert_eq!(
        (rest.json()["manifests"][0]["artifactType"].clone(), rest.header("link")),
        ("application/b".into(), None)
    );
    assert_ne!(rest.json()["manifests"], page.json()["manifests"]);

    registry.set_referrers_api(false);
    assert_eq!(get(&registry.url(&api)).await.status, 404);
    registry.push_referrers_tag("r", &subject.root);
    let tag = image::attachment_tag(&subject.root, "");
    let listed = get(&registry.url(&format!("/v2/r/manifests/{tag}"))).await;
    assert_eq!(Manifest::parse(listed.body, None).unwrap().children().len(), 3);
}

#[tokio::test]
async fn basic_credentials_grant_access_to_one_repository() {
    let registry = TestRegistry::start().await;
    registry.push("private", Some("v1"), &image());
    registry.push("public", Some("v1"), &image());
    registry.set_access("private", Access::Basic(Credentials::new("user", "pass")));
    let url = registry.url("/v2/private/manifests/v1");
    let refused = get(&url).await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Basic realm=\"sample\"")));
    assert_eq!(request("GET", &url, &[(AUTHORIZATION, "Basic dXNlcjpwYXNz")]).await.status, 200);
    assert_eq!(request("GET", &url, &[(AUTHORIZATION, "Basic dXNlcjp4")]).await.status, 401);
    assert_eq!(get(&registry.url("/v2/public/manifests/v1")).await.status, 200);
    assert_eq!(registry.requests()[1].authorization.as_deref(), Some("Basic"));
}

#[tokio::test]
async fn tokens_grant_access_to_their_repositories() {
    let registry = TestRegistry::start().await;
    registry.push("private", Some("v1"), &image());
    registry.push("hub", Some("v1"), &image());
    registry.set_access("*", Access::AnonymousToken);
    registry.set_access("private", Access::Token(Credentials::new("user", "pass")));
    registry.set_token_lifetime(60);
    let refused = get(&registry.url("/v2/private/manifests/v1")).await;
    let realm = registry.url("/token");
    let challenge = format!("Bearer realm=\"{realm}\",service=\"sample\",scope=\"repository:private:pull\"");
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some(&*challenge)));
    assert_eq!(get(&registry.url("/v2/")).await.status, 401);

    let token = async |scope: &str, headers: &[(&str, &str)]| {
        let answer = request("GET", &format!("{realm}?service=sample&scope={scope}"), headers).await;
        assert_eq!((answer.status, answer.json()["expires_in"].clone()), (200, 60.into()));
        format!("Bearer {}", answer.json()["token"].as_str().unwrap())
    };
    let pull = async |repository: &str, token: &str| {
        request("GET", &registry.url(&format!("/v2/{repository}/manifests/v1")), &[(AUTHORIZATION, token)]).await
    };
    let anonymous = token("repository%3Ahub%3Apull&scope=repository:private:pull", &[]).await;
    assert_eq!(pull("hub", &anonymous).await.status, 200);
    let refused = pull("private", &anonymous).await;
    assert!(refused.header("www-authenticate").unwrap().ends_with("error=\"insufficient_scope\""));
    let owner = token("repository:private:pull", &[(AUTHORIZATION, "Basic dXNlcjpwYXNz")]).await;
    assert_eq!(pull("private", &owner).await.status, 200);
    let wrong = format!("{realm}?scope=repository:private:pull");
    assert_eq!(request("GET", &wrong, &[(AUTHORIZATION, "Basic dXNlcjp4")]).await.status, 401);
    registry.revoke_tokens();
    assert_eq!(pull("private", &owner).await.status, 401);
}

#[tokio::test]
async fn injected_responses_are_used_in_order() {
    let registry = TestRegistry::start().await;
    registry.push("r", Some("v1"), &image());
    let url = registry.url("/v2/r/manifests/v1");
    let busy = registry.inject(On::manifests().times(2), Fault::too_many_requests(7));
    let down = registry.inject(On::manifests().times(1), Fault::status(StatusCode::SERVICE_UNAVAILABLE));
    let gone = registry.inject(On::manifests().method(Method::GET).times(1), Fault::Close);
    let moved = registry.inject(On::path("/v2/r/*").times(1), Fault::redirect("http://elsewhere{path}"));
    let challenged = registry.inject(On::any().times(1), Fault::unauthorized("Bearer realm=\"x\""));
    assert_eq!(get(&url).await.header("retry-after"), Some("7"));
    assert_eq!(get(&url).await.status, 429);
    assert_eq!(get(&url).await.status, 503);
    assert_eq!(get(&url).await.status, 0);
    let redirect = get(&url).await;
    assert_eq!((redirect.status, redirect.header("location")), (307, Some("http://elsewhere/v2/r/manifests/v1")));
    assert_eq!(get(&url).await.header("www-authenticate"), Some("Bearer realm=\"x\""));
    assert_eq!(get(&url).await.status, 200);
    assert_eq!([&busy, &down, &gone, &moved, &challenged].map(Injected::hits), [2, 1, 1, 1, 1]);
    let statuses: Vec<_> = registry.requests().iter().map(|r| r.status.map(|s| s.as_u16())).collect();
    assert_eq!(statuses, [Some(429), Some(429), Some(503), None, Some(307), Some(401), Some(200)]);
}

#[tokio::test]
async fn headers_and_bodies_can_be_falsified() {
    let registry = TestRegistry::start().await;
    let content = image::noise(3_000_000, 1);
    let digest = registry.put_blob("r", content.clone());
    let url = registry.url(&format!("/v2/r/blobs/{digest}"));
    let once = || On::blobs().times(1);
    for cut in [0, 1, 65_536, 2_999_999] {
        registry.inject(once(), Fault::Cut(cut));
        let answer = get(&url).await;
        assert_eq!((answer.status, answer.complete, answer.body.len() as u64), (200, false, cut));
        assert_eq!(answer.body, content[..cut as usize]);
    }
    for reset in [0, 1, 17] {
        registry.inject(once(), Fault::Reset(reset));
        let request = format!("GET /v2/r/blobs/{digest} HTTP/1.1\r\nhost: x\r\n\r\n");
        let head = raw(registry.listening.address(), request.as_bytes()).await;
        assert_eq!(head, "HTTP/1.1 200 OK\r\n"[..reset as usize]);
    }
    registry.inject(once(), Fault::Flip(70_000));
    let wrong = get(&url).await.body;
    let differing: Vec<usize> = (0..content.len()).filter(|&at| wrong[at] != content[at]).collect();
    assert_eq!(differing, [70_000]);

    registry.inject(once(), Fault::header(header::CONTENT_LENGTH, "3000001"));
    assert!(!get(&url).await.complete);
    registry.inject(once(), Fault::header(header::CONTENT_LENGTH, "10"));
    assert_eq!(get(&url).await.body, content[..10]);
    registry.inject(once(), Fault::Header(HeaderName::from_static("docker-content-digest"), None));
    registry.inject(once(), Fault::header(header::CONTENT_TYPE, "text/html"));
    let changed = get(&url).await;
    assert_eq!((changed.header("docker-content-digest"), changed.header("content-type")), (None, Some("text/html")));
    registry.inject(once(), Fault::Trickle { piece: 1_000_000, pause: Duration::from_millis(1) });
    assert_eq!(get(&url).await.body, content);
}

#[tokio::test]
async fn held_requests_wait_for_their_release() {
    let registry = TestRegistry::start().await;
    registry.push("r", Some("v1"), &image());
    let url = registry.url("/v2/r/manifests/v1");
    let gate = registry.inject(On::manifests(), Fault::Gate);
    let all = async { tokio::join!(get(&url), get(&url), get(&url)) };
    let open = async {
        soon(gate.wait_for_hits(3)).await;
        assert_eq!(registry.count(|r| r.is("GET", "/manifests/") && r.status.is_none()), 3);
        gate.release_some(1);
        soon(registry.wait_for(|log| log.iter().any(|r| r.status.is_some()))).await;
        assert_eq!(registry.count(|r| r.status.is_none()), 2);
        gate.release();
    };
    let (answers, ()) = soon(async { tokio::join!(all, open) }).await;
    assert_eq!([answers.0.status, answers.1.status, answers.2.status], [200; 3]);
    registry.clear_log();
    assert_eq!(get(&url).await.status, 200);
    assert_eq!(registry.requests().len(), 1);
}

#[tokio::test]
async fn stalls_first_send_earlier_data() {
    let registry = TestRegistry::start().await;
    let content = image::noise(200_000, 2);
    let digest = registry.put_blob("r", content.clone());
    let stall = registry.inject(On::blobs(), Fault::Stall(100_000));
    let mut exchange = Exchange::start("GET", &registry.url(&format!("/v2/r/blobs/{digest}")), &[]).await;
    assert_eq!(exchange.head().status, 200);
    assert_eq!(exchange.read(100_000).await, content[..100_000]);
    let more = tokio::time::timeout(Duration::from_millis(20), exchange.read(1)).await;
    assert!(more.is_err(), "data arrived during the stall");
    stall.release();
    assert_eq!(exchange.read(100_000).await, content[100_000..]);
}

#[tokio::test]
async fn a_stopped_registry_refuses_connections() {
    let registry = TestRegistry::start().await;
    let gate = registry.inject(On::any(), Fault::Gate);
    let url = registry.url("/v2/");
    let stop = async {
        soon(gate.wait_for_hits(1)).await;
        soon(registry.listening.stop()).await;
    };
    let (answer, ()) = tokio::join!(get(&url), stop);
    assert_eq!(answer.status, 0);
    assert!(tokio::net::TcpStream::connect(registry.listening.address()).await.is_err());
}

#[tokio::test]
async fn malformed_requests_are_refused_but_hostile_manifests_are_served() {
    let registry = TestRegistry::start().await;
    let answer = raw(registry.listening.address(), b"GET /v2/ HTTP/1.1\r\nhost x\r\n\r\n").await;
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
    let hostile = image::raw_bytes("application/x; \n", r#"{"layers":[],"layers":[]}"#);
    registry.push("r", Some("v1"), &hostile);
    let served = get(&registry.url("/v2/r/manifests/v1")).await;
    assert_eq!(served.header("content-type"), None);
    assert_eq!(served.body, Bytes::from(r#"{"layers":[],"layers":[]}"#));
}

#[tokio::test]
async fn tls() {
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let ca = TestCa::new();
    let registry = TestRegistry::start_tls(&ca).await;
    assert!(registry.url("/").starts_with("https://127.0.0.1:"));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(registry.listening.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = soon(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap();
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("{}"), "{answer}");
}
