//! Statuses and responses that are errors.

use super::*;

#[tokio::test]
async fn failures_are_retried_and_reported() {
    let world = World::new().await;
    // A new upstream each time: after a long refusal the registry is not contacted again.
    let get = async || world.upstream(world.config()).manifest(&repository(), &tag()).await.map(|_| ());
    for fault in [Fault::status(StatusCode::SERVICE_UNAVAILABLE), Fault::too_many_requests(0), Fault::Close] {
        let injected = world.registry.inject(On::manifests().times(2), fault);
        assert_eq!(get().await, Ok(()));
        assert_eq!(injected.hits(), 2);
    }
    let long = world.registry.inject(On::manifests(), Fault::too_many_requests(600));
    assert!(matches!(get().await, Err(Error::RateLimited { retry_after: Some(600), .. })));
    assert_eq!(long.hits(), 1, "a long wait is left to the client");
    long.remove();
    let far = Fault::status(StatusCode::SERVICE_UNAVAILABLE).with(header::RETRY_AFTER, "86400");
    let long = world.registry.inject(On::manifests(), far);
    assert!(matches!(get().await, Err(Error::Unavailable(_))));
    assert_eq!(long.hits(), 1, "nobody waits for a day");
    long.remove();
    let dated = Fault::status(StatusCode::TOO_MANY_REQUESTS)
        .with(header::DATE, "Sun, 06 Nov 1994 08:49:37 GMT")
        .with(header::RETRY_AFTER, "Sun, 06 Nov 1994 08:59:37 GMT");
    let long = world.registry.inject(On::manifests(), dated);
    assert!(matches!(get().await, Err(Error::RateLimited { retry_after: Some(600), .. })));
    long.remove();
    let down = world.registry.inject(On::manifests(), Fault::status(StatusCode::BAD_GATEWAY));
    let error = get().await.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("502"), "{error}");
    assert_eq!(down.hits(), 3, "three attempts");
    down.remove();
    let forbidden = world.registry.inject(On::manifests(), Fault::status(StatusCode::FORBIDDEN));
    assert!(matches!(get().await, Err(Error::Forbidden(_))));
    assert_eq!(forbidden.hits(), 1);
}

#[tokio::test]
async fn a_head_of_a_manifest_is_tried_once() {
    let world = World::new().await;
    let head = async || world.upstream(world.config()).head_manifest(&repository(), &tag()).await.map(|_| ());
    for fault in [Fault::status(StatusCode::BAD_GATEWAY), Fault::Close, Fault::status(StatusCode::NOT_FOUND)] {
        let failing = world.registry.inject(On::manifests(), fault);
        assert!(head().await.is_err());
        assert_eq!(failing.hits(), 1);
        failing.remove();
    }
    let busy = world.registry.inject(On::manifests(), Fault::too_many_requests(0));
    assert!(head().await.is_err(), "GET decides");
    assert_eq!(busy.hits(), 1);
}

/// A proxy that does not support HEAD may answer anything, with any back-off.
#[tokio::test]
async fn refused_heads_do_not_affect_gets() {
    let world = World::new().await;
    let upstream = world.upstream(world.config());
    let unavailable = Fault::status(StatusCode::SERVICE_UNAVAILABLE).with(header::RETRY_AFTER, "3600");
    let (digest, bytes) = &world.image.blobs[0];
    let size = bytes.len() as u64;
    let refused = world.registry.inject(On::any().method(Method::HEAD), unavailable);
    assert_eq!(upstream.head_blob(&repository(), digest, size).await, Ok(size));
    refused.remove();
    assert!(upstream.head_manifest(&repository(), &tag()).await.is_ok(), "nothing is on hold");
    let refused = world.registry.inject(On::any().method(Method::HEAD), Fault::too_many_requests(3600));
    for _ in 0..2 {
        assert_eq!(upstream.head_blob(&repository(), digest, size).await, Ok(size));
    }
    assert_eq!(refused.hits(), 1, "HEAD backs off for the requested time");
    upstream.manifest(&repository(), &tag()).await.unwrap();
}

#[tokio::test]
async fn client_errors_keep_their_status_unless_about_the_connection() {
    let world = World::new().await;
    let upstream = world.upstream(world.config());
    for (status, temporary, wanted) in [
        (400, false, Some(StatusCode::BAD_REQUEST)),
        (402, false, Some(StatusCode::PAYMENT_REQUIRED)),
        (406, false, Some(StatusCode::NOT_ACCEPTABLE)),
        (451, false, Some(StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS)),
        (407, false, None),
        (408, true, None),
        (421, false, None),
        (425, true, None),
    ] {
        let injected = world.registry.inject(On::manifests(), Fault::status(StatusCode::from_u16(status).unwrap()));
        let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
        let told = match &error {
            Error::Rejected { status, .. } => Some(*status),
            _ => None,
        };
        assert_eq!((told, error.is_temporary()), (wanted, temporary), "{error}");
        assert!(error.to_string().contains("(UNAVAILABLE: \"injected\")"), "{error}");
        injected.remove();
    }
}

#[tokio::test]
async fn invalid_responses_are_rejected() {
    let world = World::new().await;
    let upstream = world.upstream(Config {
        attempts: 1,
        header_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(300),
        ..world.config()
    });
    let by_digest = Reference::Digest(world.image.root);
    let flipped = world.registry.inject(On::manifests(), Fault::Flip(5));
    assert!(matches!(upstream.manifest(&repository(), &by_digest).await, Err(Error::Digest(_))));
    flipped.remove();
    let cut = world.registry.inject(On::manifests(), Fault::Cut(10));
    assert!(matches!(upstream.manifest(&repository(), &by_digest).await, Err(Error::Unavailable(_))));
    cut.remove();
    let slow = world.registry.inject(On::manifests(), Fault::Gate);
    let error = upstream.manifest(&repository(), &by_digest).await.unwrap_err();
    assert!(error.to_string().contains("no answer within"), "{error}");
    slow.release();
    slow.remove();
    let stalled = world.registry.inject(On::manifests(), Fault::Stall(10));
    let error = upstream.manifest(&repository(), &by_digest).await.unwrap_err();
    assert!(error.to_string().contains("no data received"), "{error}");
    stalled.release();
    stalled.remove();
    world.registry.put_manifest("team/app", Some("huge"), "application/json", vec![b' '; MAX_MANIFEST + 1]);
    assert!(matches!(upstream.manifest(&repository(), &"huge".parse().unwrap()).await, Err(Error::TooLarge(_))));
    let nowhere = world.registry.inject(On::manifests(), Fault::status(StatusCode::FOUND));
    assert!(matches!(upstream.manifest(&repository(), &by_digest).await, Err(Error::Protocol(_))));
    nowhere.remove();
    let part = Fault::Answer { status: StatusCode::PARTIAL_CONTENT, headers: HeaderMap::new(), body: "{}".into() };
    let part = world.registry.inject(On::manifests(), part);
    assert!(
        matches!(upstream.manifest(&repository(), &tag()).await, Err(Error::Protocol(_))),
        "no range was requested"
    );
    part.remove();
}
