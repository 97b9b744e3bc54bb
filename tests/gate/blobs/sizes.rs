//! Sizes and encodings that upstreams state or leave out.

use super::*;

/// Responses to HEAD requests from registries that fetch a blob only for a GET, and from storage behind them.
fn unhelpful_heads() -> Vec<Fault> {
    let statuses =
        [401, 403, 404, 405, 500, 501, 503].map(|status| http::StatusCode::from_u16(status).expect("a status"));
    let lengths = [Fault::header(CONTENT_LENGTH, "0"), Fault::Header(CONTENT_LENGTH, None)];
    statuses.into_iter().map(Fault::status).chain(lengths).collect()
}

#[tokio::test]
async fn blob_sizes_come_from_the_manifest_if_the_upstream_states_none() {
    for fault in unhelpful_heads() {
        let registry = TestRegistry::start().await;
        let (image, layer, content) = large(300_000);
        registry.push("library/app", Some("1"), &image);
        registry.inject(On::blobs().method(Method::HEAD), fault.clone());
        registry.inject(On::blobs().method(Method::GET), Fault::Header(CONTENT_LENGTH, None));
        let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
        assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
        let path = format!("/library/app/blobs/{layer}");
        let head = gate.head(&path).await;
        assert_eq!((head.status, head.header("content-length")), (200, Some("300000")), "{fault:?}");
        for (digest, bytes) in &image.blobs {
            let got = gate.get(&format!("/library/app/blobs/{digest}")).await;
            assert_eq!((got.status, &got.body), (200, bytes), "{fault:?}");
        }
        let got = gate.get(&path).await;
        assert!(got.complete && got.body == content, "{fault:?}");
    }
}

#[tokio::test]
async fn blobs_missing_upstream_are_unknown_even_to_head() {
    let registry = TestRegistry::start().await;
    let (image, layer, _) = large(300_000);
    registry.push("library/app", Some("1"), &image);
    registry.delete_blob("library/app", &layer);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    assert_eq!(gate.head(&format!("/library/app/blobs/{layer}")).await.status, 404);
    assert_eq!(gate.get(&format!("/library/app/blobs/{layer}")).await.status, 404);
}

#[tokio::test]
async fn stated_sizes_that_contradict_the_manifest_are_refused() {
    let registry = TestRegistry::start().await;
    let (image, layer, _) = large(300_000);
    registry.push("library/app", Some("1"), &image);
    registry.inject(On::path(&format!("*/blobs/{layer}")), Fault::header(CONTENT_LENGTH, "1000"));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    for method in ["HEAD", "GET"] {
        let got = request(method, &gate.url(&format!("/library/app/blobs/{layer}")), &[]).await;
        assert_eq!(got.status, 502, "{method}");
    }
}

#[tokio::test]
async fn wrong_content_without_a_length_never_completes() {
    for fault in [Fault::Flip(5), Fault::Cut(200_000)] {
        let registry = TestRegistry::start().await;
        let (image, layer, content) = large(300_000);
        registry.push("library/app", Some("1"), &image);
        registry.inject(On::blobs(), Fault::Header(CONTENT_LENGTH, None));
        let wrong = registry.inject(On::path(&format!("*/blobs/{layer}")), fault);
        registry.inject(On::path(&format!("*/blobs/{layer}")), Fault::IgnoreRange);
        let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
        assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
        let path = format!("/library/app/blobs/{layer}");
        let got = gate.get(&path).await;
        assert!(!got.complete || got.status != 200, "the download may fail before the response begins");
        wrong.remove();
        let got = gate.get(&path).await;
        assert!(got.complete && got.body == content);
    }
}

#[tokio::test]
async fn false_content_encodings_are_harmless() {
    let registry = TestRegistry::start().await;
    let image = Image::linux_amd64().layer(Layer::gzip(&Tree::new().file("a", "b"))).build();
    registry.push("library/app", Some("1"), &image);
    registry.inject(On::any(), Fault::header(CONTENT_ENCODING, "x-gzip"));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    for (digest, bytes) in &image.blobs {
        let got = gate.get(&format!("/library/app/blobs/{digest}")).await;
        assert_eq!((got.status, &got.body, got.header("content-encoding")), (200, bytes, None));
    }
}
