//! Limits: requests at a time, bandwidth, pulls, and the back-off that a registry asks for.

use super::*;

#[tokio::test]
async fn concurrent_requests_are_limited_until_their_last_byte() {
    let world = World::new().await;
    let upstream = world.upstream(Config {
        max_connections: 2,
        attempts: 1,
        header_timeout: Duration::from_millis(200),
        ..world.config()
    });
    let digest = world.registry.put_blob("team/app", noise(1000, 7));
    let get = async || upstream.manifest(&repository(), &tag()).await.map(|_| ());
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(upstream.blob(&repository(), &digest, 1000, 0).await.unwrap());
    }
    let error = get().await.unwrap_err();
    assert!(matches!(&error, Error::Busy(why) if why.contains("max_connections")), "{error}");
    assert_eq!(world.registry.count(|request| request.is("GET", "/manifests/")), 0);
    while let Some(piece) = streams[0].next().await {
        piece.unwrap();
    }
    get().await.unwrap();
    drop(streams);
    world.registry.inject(On::manifests().times(1), Fault::status(StatusCode::BAD_GATEWAY));
    assert!(get().await.is_err());
    let _streams =
        [upstream.blob(&repository(), &digest, 1000, 0).await, upstream.blob(&repository(), &digest, 1000, 0).await]
            .map(|stream| stream.expect("a failure releases its turn"));
}

/// However many attempts are configured: its clients do not wait for all of them.
#[tokio::test]
async fn silent_registries_are_not_tried_as_often_as_others() {
    let world = World::new().await;
    let upstream =
        world.upstream(Config { attempts: 10, header_timeout: Duration::from_millis(100), ..world.config() });
    let held = world.registry.inject(On::any(), Fault::Gate);
    let digest = Digest::sha256(b"x");
    assert!(matches!(upstream.manifest(&repository(), &tag()).await, Err(Error::Unavailable(_))));
    assert!(matches!(upstream.head_blob(&repository(), &digest, 1).await, Err(Error::Unavailable(_))));
    let asked = world.registry.count(|request| request.path.contains("/team/app/"));
    assert!(asked <= 6, "{asked}");
    held.release();
}

#[tokio::test]
async fn token_requests_need_no_turn() {
    let world = World::new().await;
    world.registry.set_access("*", Access::Token(Credentials::new("robot", "secret")));
    let folder = tempfile::tempdir().unwrap();
    let auth = password(&folder, "secret");
    let upstream = world.upstream(Config { max_connections: 1, attempts: 1, auth, ..world.config() });
    upstream.manifest(&repository(), &tag()).await.unwrap();
    let digest = world.registry.put_blob("team/app", noise(1000, 7));
    world.registry.inject(On::blobs().method(Method::HEAD), Fault::status(StatusCode::NOT_FOUND));
    assert_eq!(upstream.head_blob(&repository(), &digest, 1000).await, Ok(1000), "one after the other");
}

#[tokio::test]
async fn bodies_respect_the_bandwidth_limit() {
    let world = World::new().await;
    let slow = Config { max_bandwidth: Some(1), body_timeout: Duration::from_millis(100), ..world.config() };
    let upstream = world.upstream(Config { attempts: 1, ..slow });
    let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
    assert!(error.to_string().contains("not complete within"), "{error}");
    let digest = world.registry.put_blob("team/app", noise(1000, 7));
    let mut stream = upstream.blob(&repository(), &digest, 1000, 0).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.next()).await.is_err());
}

/// Without a `Date`, only the clock of the gate says how long that is.
#[tokio::test]
async fn a_date_to_retry_at_is_compared_with_the_clock_of_the_gate() {
    let clock = Clock::manual("1994-11-06T08:49:37Z".parse().unwrap());
    let world = World { clock, ..World::new().await };
    let dated = Fault::status(StatusCode::TOO_MANY_REQUESTS)
        .with(header::DATE, "unknown")
        .with(header::RETRY_AFTER, "Sun, 06 Nov 1994 08:59:37 GMT");
    world.registry.inject(On::manifests(), dated);
    let got = world.upstream(world.config()).manifest(&repository(), &tag()).await.map(|_| ());
    assert!(matches!(got, Err(Error::RateLimited { retry_after: Some(600), .. })));
}

#[tokio::test]
async fn only_pulls_use_the_pull_budget() {
    let world = World::new().await;
    let upstream = world.upstream(Config { pull_limit: Some(2), ..world.config() });
    let get = async || upstream.manifest(&repository(), &tag()).await.map(|_| ());
    world.registry.inject(On::manifests().times(1), Fault::status(StatusCode::BAD_GATEWAY));
    assert_eq!(get().await, Ok(()));
    let refused = get().await.unwrap_err();
    assert!(
        matches!(refused, Error::RateLimited { retry_after: Some(seconds), .. } if seconds > 21_000),
        "{refused:?}"
    );
    assert_eq!(world.registry.count(|request| request.is("GET", "/manifests/")), 2, "each attempt counts");
    upstream.head_manifest(&repository(), &tag()).await.unwrap();
    upstream.blob_bytes(&repository(), &world.image.blobs[0].0, 1 << 20).await.unwrap();
    upstream.tags(&repository(), &Page::default()).await.unwrap();
}

#[tokio::test]
async fn refused_registries_are_not_contacted_during_the_back_off() {
    let world = World::new().await;
    let digest = world.image.blobs[0].0;
    for (on, fault) in [
        (On::manifests().method(Method::GET), Fault::too_many_requests(600)),
        (
            On::manifests().method(Method::GET),
            Fault::status(StatusCode::SERVICE_UNAVAILABLE).with(header::RETRY_AFTER, "600"),
        ),
        (On::manifests().method(Method::HEAD), Fault::too_many_requests(600)),
        (On::blobs().method(Method::GET), Fault::too_many_requests(600)),
    ] {
        let upstream = world.upstream(world.config());
        let ask = async || {
            [
                upstream.manifest(&repository(), &tag()).await.map(|_| ()),
                upstream.head_manifest(&repository(), &tag()).await.map(|_| ()),
                upstream.blob_bytes(&repository(), &digest, 1 << 20).await.map(|_| ()),
            ]
        };
        let refusal = world.registry.inject(on.clone(), fault);
        let first = ask().await;
        assert_eq!(first.iter().filter(|outcome| outcome.is_err()).count(), 1, "{on:?} {first:?}");
        for outcome in first.iter().zip(ask().await) {
            match outcome {
                (Ok(()), second) => assert_eq!(second, Ok(()), "{on:?}"),
                (Err(_), second) => {
                    assert!(
                        matches!(second, Err(Error::RateLimited { retry_after: Some(590..=600), .. })),
                        "{second:?}"
                    );
                }
            }
        }
        assert_eq!(refusal.hits(), 1, "{on:?}: no further request");
        refusal.remove();
    }
}

#[tokio::test]
async fn refusals_by_storage_are_not_the_registrys() {
    let (world, storage) = (World::new().await, World::new().await);
    let upstream = world.upstream(Config { attempts: 1, ..world.config() });
    world.registry.inject(On::blobs(), Fault::redirect(&format!("{}{{path}}", storage.listening.url())));
    let refusal = storage.registry.inject(On::blobs().times(1), Fault::too_many_requests(600));
    let digest = world.image.blobs[0].0;
    storage.registry.push("team/app", None, &world.image);
    assert!(upstream.blob_bytes(&repository(), &digest, 1 << 20).await.is_err());
    assert_eq!(refusal.hits(), 1);
    upstream.blob_bytes(&repository(), &digest, 1 << 20).await.unwrap();
    // It is asked again at once, also if it does not say when.
    let upstream = world.upstream(world.config());
    let refusal = storage.registry.inject(On::blobs().times(1), Fault::status(StatusCode::TOO_MANY_REQUESTS));
    upstream.blob_bytes(&repository(), &digest, 1 << 20).await.unwrap();
    assert_eq!(refusal.hits(), 1);
}

#[tokio::test]
async fn the_first_success_ends_the_back_off() {
    let world = World::new().await;
    let upstream = world.upstream(world.config());
    let (slow, refused) = (world.image.blobs[0].0, world.registry.put_blob("team/app", noise(1000, 7)));
    let get = async |digest| upstream.blob_bytes(&repository(), &digest, 1 << 20).await.map(|_| ());
    let held = world.registry.inject(On::path(&format!("*{slow}")), Fault::Gate);
    let refusal = world.registry.inject(On::path(&format!("*{refused}")).times(1), Fault::too_many_requests(600));
    let ((), slow) = tokio::join!(
        async {
            held.wait_for_hits(1).await;
            for _ in 0..2 {
                assert!(matches!(get(refused).await, Err(Error::RateLimited { .. })));
            }
            held.release();
        },
        get(slow)
    );
    slow.unwrap();
    assert_eq!((refusal.hits(), get(refused).await), (1, Ok(())));
}

#[tokio::test]
async fn quota_and_requests_in_flight_are_measured() {
    let (world, metrics) = (World::new().await, Metrics::default());
    let upstreams =
        Upstreams::new(vec![world.config()], None, (&world.tasks, &world.clock), &metrics, &world.readiness).unwrap();
    let upstream = upstreams.by_path("registry.test").unwrap();
    let has = |line: &str| metrics.render().contains(&line.replacen("{}", "{upstream=\"registry.test\"}", 1));
    upstream.head_manifest(&repository(), &tag()).await.unwrap();
    assert!(!metrics.render().contains("upstream_pulls_remaining{"), "it says nothing");
    let name = |name: &'static str| HeaderName::from_static(name);
    world.registry.inject(On::manifests(), Fault::header(name("ratelimit-remaining"), "76;w=21600"));
    world.registry.inject(On::manifests(), Fault::header(name("ratelimit-limit"), "100;w=21600"));
    upstream.head_manifest(&repository(), &tag()).await.unwrap();
    assert!(has("upstream_pulls_remaining{} 76\n") && has("upstream_pulls_limit{} 100\n"), "{}", metrics.render());
    let (digest, bytes) = &world.image.blobs[0];
    let stream = upstream.blob(&repository(), digest, bytes.len() as u64, 0).await.unwrap();
    assert!(has("upstream_requests_in_flight{} 1\n"), "{}", metrics.render());
    drop(stream);
    assert!(has("upstream_requests_in_flight{} 0\n"), "{}", metrics.render());
    assert!(has("upstream_received_bytes_total{} 0\n"), "{}", metrics.render());
    upstream.blob_bytes(&repository(), digest, 1 << 20).await.unwrap();
    assert!(has(&format!("upstream_received_bytes_total{{}} {}\n", bytes.len())), "{}", metrics.render());
}

/// A registry that has refused too many requests gets no more of them.
#[tokio::test]
async fn every_429_is_counted_and_without_a_time_there_is_no_retry() {
    let (world, metrics) = (World::new().await, Metrics::default());
    let upstreams =
        Upstreams::new(vec![world.config()], None, (&world.tasks, &world.clock), &metrics, &world.readiness).unwrap();
    let upstream = upstreams.by_path("registry.test").unwrap();
    let held = |count: u32| {
        let line = format!("upstream_requests_held_total{{upstream=\"registry.test\"}} {count}\n");
        assert!(metrics.render().contains(&line), "{line}{}", metrics.render());
    };
    held(0);
    for (count, wait) in [(1, None), (2, Some("-5")), (3, Some("soon"))] {
        let fault = Fault::status(StatusCode::TOO_MANY_REQUESTS);
        let fault = if let Some(wait) = wait { fault.with(header::RETRY_AFTER, wait) } else { fault };
        let refused = world.registry.inject(On::manifests(), fault);
        let error = upstream.manifest(&repository(), &tag()).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::RateLimited { retry_after: None, .. }), "{error:?}");
        assert!(error.to_string().ends_with("(UNAVAILABLE: \"injected\")"), "what the registry says: {error}");
        assert_eq!(refused.hits(), 1);
        held(count);
        refused.remove();
    }
    world.registry.set_access("*", Access::AnonymousToken);
    world.registry.inject(On::path("*/token*"), Fault::status(StatusCode::TOO_MANY_REQUESTS));
    upstream.manifest(&repository(), &tag()).await.map(|_| ()).unwrap_err();
    held(4);
}

#[tokio::test]
async fn the_end_of_a_back_off_is_shown() {
    let clock = Clock::manual("2026-01-01T04:00:30Z".parse().unwrap());
    let world = World { clock, ..World::new().await };
    let upstream = world.upstream(world.config());
    let shown = || world.readiness.report().details.get("upstream registry.test").cloned().unwrap_or_default().join("");
    upstream.manifest(&repository(), &tag()).await.unwrap();
    assert_eq!(shown(), "");
    let refused = world.registry.inject(On::manifests(), Fault::too_many_requests(300));
    upstream.manifest(&repository(), &tag()).await.unwrap_err();
    upstream.check().await;
    let until = shown();
    assert!(until.starts_with("the registry asked the gate to wait until 2026-01-01T04:05:"), "{until}");
    // Another kind of request.
    upstream.tags(&repository(), &Page::default()).await.unwrap();
    assert!(shown().contains("04:05:"), "{}", shown());
    refused.remove();
    upstream.retire();
    assert_eq!(shown(), "");
}
