//! Who may read a download that another client started: every request is judged separately.

use http::StatusCode;
use pullgate::sample::{Access, Credentials, Fault, On};

use crate::bed::{REPOSITORY, SIZE, TestBed, image};
use crate::harness::policy;
use crate::support::{TestRegistry, request};
use pullgate::sample::image::noise;

/// A repository that names the blob but does not have it gets nothing, whatever another one is downloading.
#[tokio::test]
async fn repositories_without_the_blob_cannot_join_its_download() {
    let bed = TestBed::new().await;
    bed.registry.push("public/app", Some("1"), &image(&bed.content));
    bed.registry.delete_blob("public/app", &bed.layer);
    assert_eq!(bed.gate.get("/public/app/manifests/1").await.status, 200);
    let stall = bed.inject(Fault::Stall(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    assert_eq!(reader.read(1000).await, bed.content.slice(..1000));
    let thief = format!("/public/app/blobs/{}", bed.layer);
    for range in ["bytes=0-", "bytes=0-9"] {
        assert_eq!(request("GET", &bed.gate.url(&thief), &[("range", range)]).await.status, 404);
    }
    assert_eq!(bed.gate.head(&thief).await.status, 404);
    assert_eq!(bed.gate.get(&thief).await.status, 404);
    stall.remove();
    assert_eq!(reader.finish().await.body, bed.content.slice(1000..));
    assert_eq!(bed.gate.get(&thief).await.status, 404, "nor once it is complete");
    bed.recovers().await;
}

/// The upstream refuses the other repository outright, as registries do for private ones.
#[tokio::test]
async fn repositories_that_the_upstream_refuses_cannot_join_a_download() {
    let bed = TestBed::new().await;
    bed.registry.push("private/app", Some("1"), &image(&bed.content));
    assert_eq!(bed.gate.get("/private/app/manifests/1").await.status, 200);
    bed.registry.set_access("private/app", Access::Basic(Credentials::new("robot", "secret")));
    let stall = bed.inject(Fault::Stall(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    assert_eq!(reader.read(1000).await.len(), 1000);
    let refused = bed.gate.get(&format!("/private/app/blobs/{}", bed.layer)).await;
    assert!([401, 403, 404].contains(&refused.status), "{} {}", refused.status, refused.text());
    stall.remove();
    assert_eq!(reader.finish().await.body, bed.content.slice(1000..));
    bed.recovers().await;
}

/// One image is admitted, the other denied, and both contain the layer that is being downloaded.
#[tokio::test]
async fn denied_images_stay_denied_while_another_downloads_their_layer() {
    let registry = TestRegistry::start().await;
    let content = noise(SIZE, 3);
    registry.push(REPOSITORY, Some("1"), &image(&content));
    registry.push("denied/app", Some("1"), &image(&content));
    let rules = "  - {name: \"registry.test/library/*\", policy: {}}\n  \
                 - {name: \"registry.test/denied/*\", policy: {trust: release}}\n";
    let bed = TestBed::behind(registry, content, |gate| gate.file("policies/default.yaml", &policy(rules))).await;
    let stall = bed.inject(Fault::Stall(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    assert_eq!(reader.read(1000).await.len(), 1000);
    let denied = format!("/denied/app/blobs/{}", bed.layer);
    assert_eq!(bed.gate.get("/denied/app/manifests/1").await.status, 403);
    for _ in 0..3 {
        assert_eq!(bed.gate.get(&denied).await.status, 403);
        assert_eq!(bed.gate.head(&denied).await.status, 403);
    }
    stall.remove();
    assert_eq!(reader.finish().await.body, bed.content.slice(1000..));
    assert_eq!(bed.gate.get(&denied).await.status, 403);
    bed.recovers().await;
}

/// The upstream's credentials are for one scope only; requests on other listeners must not benefit from them.
#[tokio::test]
async fn scopes_without_access_cannot_join_a_download() {
    let registry = TestRegistry::start().await;
    let content = noise(SIZE, 4);
    registry.push(REPOSITORY, Some("1"), &image(&content));
    registry.set_access(REPOSITORY, Access::Basic(Credentials::new("robot", "secret")));
    let change = |gate: crate::harness::TestGate| {
        gate.file("password", "secret")
            .upstream("auth = { type = \"basic\", username = \"robot\", password_file = \"password\" }")
            .upstream("serve_to = [\"ci\"]")
            .listener("scope = \"ci\"\n[[listener]]\naddress = \"127.0.0.1:0\"\nscope = \"guests\"")
    };
    let bed = TestBed::behind(registry, content, change).await;
    let stall = bed.inject(Fault::Stall(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    assert_eq!(reader.read(1000).await.len(), 1000);
    let manifest = format!("/{REPOSITORY}/manifests/1");
    for path in [&bed.path(), &manifest] {
        let refused = request("GET", &bed.gate.second_url(path), &[]).await;
        assert_eq!(refused.status, 403, "{path}: {}", refused.text());
    }
    stall.remove();
    assert_eq!(reader.finish().await.body, bed.content.slice(1000..));
    assert_eq!(request("GET", &bed.gate.second_url(&bed.path()), &[]).await.status, 403, "nor once it is cached");
    bed.recovers().await;
}

/// The policy changes during a download: later requests are judged by the new policy.
#[tokio::test]
async fn joining_after_a_policy_change_is_judged_by_the_new_policy() {
    let bed = TestBed::new().await;
    let stall = bed.inject(Fault::Stall(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    assert_eq!(reader.read(1000).await.len(), 1000);
    bed.gate.set_policy(&policy("  - {name: \"*\", policy: {trust: release}}\n"));
    assert_eq!(bed.gate.get(&bed.path()).await.status, 403);
    stall.remove();
    // Transfers that were admitted are completed.
    assert_eq!(reader.finish().await.body, bed.content.slice(1000..));
    bed.gate.set_policy(crate::harness::ALLOW_ALL);
    bed.recovers().await;
}

/// A failed lookup does not prove that the repository has the blob.
#[tokio::test]
async fn failed_lookups_grant_no_access() {
    let bed = TestBed::new().await;
    bed.registry.push("other/app", Some("1"), &image(&bed.content));
    assert_eq!(bed.gate.get("/other/app/manifests/1").await.status, 200);
    assert!(bed.pull().await);
    let other = format!("/v2/other/app/blobs/{}", bed.layer);
    let down = bed.registry.inject(On::path(&other), Fault::status(StatusCode::SERVICE_UNAVAILABLE));
    let answer = bed.gate.get(&format!("/other/app/blobs/{}", bed.layer)).await;
    assert!([502, 503].contains(&answer.status), "{}", answer.status);
    down.remove();
    assert_eq!(bed.gate.get(&format!("/other/app/blobs/{}", bed.layer)).await.body, bed.content);
    bed.recovers().await;
}
