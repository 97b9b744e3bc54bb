//! Bodies: their length, ranges, and what they contain.

use super::*;

#[tokio::test]
async fn registries_without_ranges_send_the_whole_blob() {
    let world = World::new().await;
    let content = noise(5000, 3);
    let digest = world.registry.put_blob("team/app", content.clone());
    for (status, asked) in [(501, 1), (500, 3), (503, 3), (429, 3)] {
        let upstream = world.upstream(world.config());
        world.registry.clear_log();
        let fault = Fault::status(StatusCode::from_u16(status).unwrap()).with(header::RETRY_AFTER, "0");
        let refused = world.registry.inject(On::blobs().times(asked), fault);
        let stream = upstream.blob(&repository(), &digest, 5000, 4000).await.unwrap();
        assert_eq!((stream.from, stream.size, refused.hits()), (0, 5000, asked), "{status}");
        refused.remove();
    }
    // However long a back-off it requests for ranges.
    let upstream = world.upstream(world.config());
    world.registry.inject(On::blobs().times(1), Fault::too_many_requests(3600));
    assert_eq!(upstream.blob(&repository(), &digest, 5000, 4000).await.unwrap().from, 0);
}

#[tokio::test]
async fn permanent_server_errors_are_reported_immediately() {
    let world = World::new().await;
    let upstream = world.upstream(world.config());
    for status in [501, 505, 506, 508, 510, 511] {
        let injected = world.registry.inject(On::manifests(), Fault::status(StatusCode::from_u16(status).unwrap()));
        let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
        let is_told = matches!(&error, Error::Rejected { status, .. } if status.as_u16() == 501);
        assert_eq!((is_told, error.is_temporary(), injected.hits()), (status == 501, false, 1), "{error}");
        assert!(error.to_string().contains("(UNAVAILABLE: \"injected\")"), "{error}");
        injected.remove();
    }
}

#[tokio::test]
async fn messages_of_token_services_are_passed_on_without_secrets() {
    let world = World::new().await;
    world.registry.set_access("*", Access::Token(Credentials::new("robot", "secret")));
    let folder = tempfile::tempdir().unwrap();
    let upstream = world.with_credentials(password(&folder, "secret"));
    for (status, body, wanted) in [
        (401, r#"{"details":"incorrect username or password"}"#, " (\"incorrect username or password\")"),
        (403, r#"{"error":"denied","error_description":"locked"}"#, " (denied: \"locked\")"),
        (400, "unknown scope", " (\"unknown scope\")"),
        (401, "secret is wrong", "rejects the configured credentials"),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Fault::Answer { status, headers: HeaderMap::new(), body: body.into() };
        let refused = world.registry.inject(On::path("*/token*"), answer);
        let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
        assert!(error.to_string().ends_with(wanted), "{error}");
        refused.remove();
    }
}

#[tokio::test]
async fn trickling_bodies_time_out() {
    let world = World::new().await;
    let upstream = world.upstream(Config { attempts: 1, body_timeout: Duration::from_millis(300), ..world.config() });
    let drip = Fault::Trickle { piece: 1, pause: Duration::from_millis(50) };
    world.registry.inject(On::manifests(), drip);
    let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
    assert!(error.to_string().contains("not complete within"), "{error}");
}

#[tokio::test]
async fn streams_have_the_announced_length() {
    let world = World::new().await;
    let digest = world.registry.put_blob("team/app", noise(1000, 7));
    let upstream = world.upstream(world.config());
    let cut = world.registry.inject(On::blobs(), Fault::Cut(600));
    let mut stream = upstream.blob(&repository(), &digest, 1000, 0).await.unwrap();
    let mut received = 0;
    let error = loop {
        match stream.next().await.expect("the end comes as an error") {
            Ok(bytes) => received += bytes.len(),
            Err(error) => break error,
        }
    };
    assert!(error.is_temporary() && received <= 600, "{error}");
    assert!(stream.next().await.is_none(), "nothing follows an error");
    cut.remove();
    assert_eq!(upstream.blob(&repository(), &digest, 999, 0).await.unwrap().size, 1000, "the response states it");
    let unstated = world.registry.inject(On::blobs().method(Method::GET), Fault::Header(header::CONTENT_LENGTH, None));
    let mut stream = upstream.blob(&repository(), &digest, 999, 0).await.unwrap();
    assert_eq!(stream.size, 999, "the manifest's size, if none is stated");
    assert!(matches!(stream.next().await, Some(Err(Error::Protocol(_)))), "more bytes than that");
    unstated.remove();
    world.registry.inject(On::blobs(), Fault::header(CONTENT_ENCODING, "gzip"));
    assert!(upstream.blob(&repository(), &digest, 1000, 0).await.is_ok(), "a label is harmless");
    let error = upstream.blob(&repository(), &digest, 999, 0).await.err().expect("an error");
    assert!(matches!(&error, Error::Protocol(text) if text.contains("gzip")), "{error}");
    assert_eq!(world.registry.count(|request| request.is("HEAD", "/blobs/")), 0, "a HEAD is not needed");
}

#[tokio::test]
async fn only_successful_heads_of_blobs_count() {
    let (world, storage) = (World::new().await, World::new().await);
    let digest = world.registry.put_blob("team/app", noise(1000, 7));
    let upstream = world.upstream(world.config());
    let (head, get) = (|| On::blobs().method(Method::HEAD), || On::blobs().method(Method::GET));
    let gets = || world.registry.count(|request| request.is("GET", "/blobs/"));
    let ask = async || upstream.head_blob(&repository(), &digest, 1000).await;
    assert_eq!((ask().await, gets()), (Ok(1000), 0));
    let statuses = [400, 401, 403, 404, 405, 500, 501, 502, 503];
    let mut faults: Vec<_> = statuses.map(|status| Fault::status(StatusCode::from_u16(status).unwrap())).into();
    faults.extend(["0", "5", "x"].map(|length| Fault::header(header::CONTENT_LENGTH, length)));
    faults.push(Fault::Header(header::CONTENT_LENGTH, None));
    faults.push(Fault::Close);
    // Signed for GET, so HEAD is refused there.
    faults.push(Fault::redirect(&format!("{}/signed", storage.listening.url())));
    storage.registry.inject(On::path("/signed"), Fault::status(StatusCode::FORBIDDEN));
    for fault in faults {
        world.registry.clear_log();
        let injected = world.registry.inject(head(), fault.clone());
        assert_eq!((ask().await, gets()), (Ok(1000), 1), "{fault:?}");
        assert_eq!(injected.hits(), 1, "{fault:?}: one HEAD, because the GET decides");
        let unsaid = world.registry.inject(get(), Fault::Header(header::CONTENT_LENGTH, None));
        assert_eq!(ask().await, Ok(1000), "the manifest says the size");
        unsaid.remove();
        let absent = world.registry.inject(get(), Fault::status(StatusCode::NOT_FOUND));
        assert_eq!(ask().await, Err(Error::NOT_FOUND), "{fault:?}");
        absent.remove();
        injected.remove();
    }
    assert_eq!(upstream.head_blob(&repository(), &digest, 999).await, Ok(1000), "it is for the caller to compare");
    world.registry.clear_log();
    let limited = world.registry.inject(head(), Fault::too_many_requests(600));
    assert_eq!((ask().await, gets(), limited.hits()), (Ok(1000), 1, 1), "a limit on HEAD does not affect GET");
    let refused = world.registry.inject(get(), Fault::too_many_requests(600));
    assert!(matches!(ask().await, Err(Error::RateLimited { retry_after: Some(600), .. })));
    assert_eq!(limited.hits(), 1);
    assert_eq!(refused.hits(), 1, "one more request, which decides");
}

#[tokio::test]
async fn range_responses_of_registries() {
    let world = World::new().await;
    let content = noise(1000, 7);
    let digest = world.registry.put_blob("team/app", content.clone());
    let upstream = world.upstream(world.config());
    let part = |range: &str, body: &[u8]| {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_RANGE, range.parse().unwrap());
        Fault::Answer { status: StatusCode::PARTIAL_CONTENT, headers, body: Bytes::copy_from_slice(body) }
    };
    let multipart = Fault::Answer { status: StatusCode::PARTIAL_CONTENT, headers: HeaderMap::new(), body: "--".into() };
    for (fault, from, end) in [
        (part("bytes 400-999/1000", &content[400..]), 400, 1000),
        (part("bytes 400-999/*", &content[400..]), 400, 1000),
        (part("bytes 300-999/1000", &content[300..]), 300, 1000),
        // Part of the requested range: the rest is requested next.
        (part("bytes 400-499/1000", &content[400..500]), 400, 500),
        (part("bytes 500-999/1000", &content[500..]), 0, 1000),
        (part("bytes 400-999/2000", &content[400..]), 0, 1000),
        (part("bytes 400-1999/*", &content[400..]), 0, 1000),
        (part("bytes 0-99/1000", &content[..100]), 0, 1000),
        (multipart, 0, 1000),
        (Fault::status(StatusCode::RANGE_NOT_SATISFIABLE), 0, 1000),
        (Fault::status(StatusCode::BAD_REQUEST), 0, 1000),
        (Fault::status(StatusCode::FORBIDDEN), 0, 1000),
        (Fault::IgnoreRange, 0, 1000),
    ] {
        let injected = world.registry.inject(On::blobs().times(1), fault.clone());
        let mut stream = upstream.blob(&repository(), &digest, 1000, 400).await.unwrap();
        assert_eq!((stream.from, stream.size), (from, 1000), "{fault:?}");
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(bytes, &content[from as usize..end], "{fault:?}");
        injected.remove();
    }
    let refused = world.registry.inject(On::blobs(), Fault::status(StatusCode::RANGE_NOT_SATISFIABLE));
    assert!(upstream.blob(&repository(), &digest, 1000, 0).await.is_err(), "no range was requested");
    refused.remove();
    world.registry.inject(On::blobs(), Fault::status(StatusCode::BAD_GATEWAY));
    let error = upstream.blob(&repository(), &digest, 1000, 400).await.err().expect("an error");
    assert!(error.is_temporary(), "{error}");
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap().into()
}

#[tokio::test]
async fn content_decides_not_its_label() {
    let world = World::new().await;
    let upstream = world.upstream(world.config());
    let (digest, blob) = &world.image.blobs[0];
    let get = async || {
        let manifest = upstream.manifest(&repository(), &tag()).await.map(|fetched| fetched.bytes);
        assert_eq!(manifest.unwrap(), world.image.manifest().bytes);
        assert_eq!(upstream.blob_bytes(&repository(), digest, 1 << 20).await.unwrap(), blob);
        assert!(upstream.tags(&repository(), &Page::default()).await.is_ok());
    };
    get().await;
    for label in ["gzip", "x-gzip", "aws-chunked", "br", "identity", "nonsense, gzip", ""] {
        let labelled = world.registry.inject(On::any(), Fault::header(CONTENT_ENCODING, label));
        get().await;
        labelled.remove();
    }
    for (path, plain) in [("*/manifests/*", &world.image.manifest().bytes), (&*format!("*/blobs/{digest}"), blob)] {
        let packed = Fault::Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: gzip(plain) };
        world.registry.inject(On::path(path), packed.with(CONTENT_ENCODING, "gzip"));
    }
    get().await;
    let packed =
        Fault::Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: gzip(br#"{"tags":["a","b"]}"#) };
    world.registry.inject(On::path("*/tags/list"), packed);
    let mut list = upstream.tags(&repository(), &Page::default()).await.unwrap();
    assert_eq!(list.next().await.unwrap().unwrap(), ["a", "b"].map(|tag| tag.parse().unwrap()));
    assert!(list.next().await.is_none());
    let bomb =
        Fault::Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: gzip(&vec![b' '; MAX_MANIFEST + 1]) };
    world.registry.clear_faults();
    world.registry.inject(On::manifests(), bomb);
    assert!(matches!(upstream.manifest(&repository(), &tag()).await, Err(Error::Protocol(_))));
}
