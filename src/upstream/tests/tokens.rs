//! Token services and their redirects.

use super::*;

/// A registry whose token service is at `/login` and redirects from there.
async fn with_login(access: Access) -> World {
    let world = World::new().await;
    world.registry.set_access("*", access);
    world.registry.set_token_realm(&format!("{}/login", world.listening.url()));
    world
}

const TOKEN_QUERY: &str = "/token?service=sample&scope=repository%3Ateam%2Fapp%3Apull";

fn moved(status: u16, location: &str) -> Fault {
    Fault::status(StatusCode::from_u16(status).unwrap()).with(header::LOCATION, location)
}

#[tokio::test]
async fn token_services_may_redirect_to_themselves() {
    let folder = tempfile::tempdir().unwrap();
    for status in [301, 302, 303, 307, 308] {
        let world = with_login(Access::Token(Credentials::new("robot", "secret"))).await;
        world.registry.inject(On::path("/login"), moved(status, TOKEN_QUERY));
        let upstream = world.with_credentials(password(&folder, "secret"));
        upstream.manifest(&repository(), &tag()).await.unwrap();
    }
    let world = with_login(Access::AnonymousToken).await;
    world.registry.inject(On::path("/login"), moved(307, "/login"));
    let error = world.upstream(world.config()).manifest(&repository(), &tag()).await.unwrap_err();
    assert!(error.to_string().contains("five times"), "{error}");
    world.registry.clear_faults();
    world.registry.inject(On::path("/login"), Fault::status(StatusCode::FOUND));
    let error = world.upstream(world.config()).manifest(&repository(), &tag()).await.unwrap_err();
    assert!(matches!(error, Error::Protocol(_)), "{error}");
}

/// Its limit is not the registry's, and it may not be the one that answers.
#[tokio::test]
async fn errors_name_the_token_service_that_answered() {
    let page = Fault::status(StatusCode::FORBIDDEN).with(header::CONTENT_TYPE, "text/html");
    let (login, web) =
        ("registry.test: its token service requires credentials; configure `auth`", "; the answer is a web page");
    for (fault, wanted) in [
        (Fault::too_many_requests(600), vec!["registry.test: its token service answered 429"]),
        (page, vec![login, web]),
    ] {
        let world = with_login(Access::AnonymousToken).await;
        let is_limit = matches!(fault, Fault::Answer { status: StatusCode::TOO_MANY_REQUESTS, .. });
        world.registry.inject(On::path("/login"), fault);
        let error = world.upstream(world.config()).manifest(&repository(), &tag()).await.unwrap_err();
        assert!(wanted.iter().all(|part| error.to_string().contains(part)), "{error}");
        assert_eq!(matches!(error, Error::RateLimited { retry_after: Some(600), .. }), is_limit);
    }
}

#[tokio::test]
async fn redirects_of_token_services_drop_credentials() {
    let other = World::new().await;
    other.registry.set_access("*", Access::AnonymousToken);
    let away = format!("http://localhost:{}{TOKEN_QUERY}", other.listening.address().port());
    let folder = tempfile::tempdir().unwrap();
    let world = with_login(Access::Token(Credentials::new("robot", "secret"))).await;
    world.registry.inject(On::path("/login"), moved(307, &away));
    let error = world.with_credentials(password(&folder, "secret")).manifest(&repository(), &tag()).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(text) if text.contains("realms")), "{error}");
    assert_eq!(other.registry.requests().len(), 0, "it received no request");
    // Without credentials the redirect is harmless.
    let _ = world.upstream(world.config()).manifest(&repository(), &tag()).await;
    assert_eq!(other.registry.count(|request| request.path == "/token" && request.authorization.is_none()), 1);
}

#[tokio::test]
async fn refresh_tokens_are_posted_after_a_redirect_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, r#"{"auths": {"http://registry.test/": {"auth": null, "identitytoken": "r"}}}"#).unwrap();
    for (status, posted) in [(301, 1), (302, 1), (303, 0), (307, 1), (308, 1)] {
        let world = with_login(Access::Token(Credentials::new("robot", "secret"))).await;
        world.registry.inject(On::path("/login"), moved(status, "/token"));
        let upstream = world.with_credentials(Auth::DockerConfig { file: file.clone() });
        assert!(upstream.manifest(&repository(), &tag()).await.is_err(), "the sample registry knows no POST");
        let methods = |path: &str| {
            let all = world.registry.requests();
            all.iter().filter(|request| request.path == path).map(|request| request.method.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            (methods("/login"), methods("/token")),
            (vec![Method::POST], vec![Method::POST; posted]),
            "{status}"
        );
    }
}

#[tokio::test]
async fn token_services_named_with_http_are_contacted_with_https() {
    let world = World::new().await;
    let (own, pem) = tls_registry(&world).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    world.registry.set_access("*", Access::Token(Credentials::new("robot", "secret")));
    let auth = password(&folder, "secret");
    let config = Config { url: format!("https://{}", own.address()), ca: Some(ca), auth, ..world.config() };
    for realm in ["token", "login"] {
        world.registry.set_token_realm(&format!("http://{}/{realm}", own.address()));
        let by_http = format!("http://{}{TOKEN_QUERY}", own.address());
        world.registry.inject(On::path("/login"), moved(301, &by_http));
        // A plain HTTP request to this port gets no response.
        world.upstream(config.clone()).manifest(&repository(), &tag()).await.unwrap();
    }
    let plain = format!("http://localhost:{}{TOKEN_QUERY}", world.listening.address().port());
    world.registry.clear_faults();
    world.registry.clear_log();
    world.registry.inject(On::path("/login"), moved(301, &plain));
    let error = world.upstream(config).manifest(&repository(), &tag()).await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert_eq!(world.registry.count(|request| request.path == "/token"), 0);
}

#[tokio::test]
async fn redirects_to_other_registries_use_separate_tokens() {
    let (world, other) = (World::new().await, World::new().await);
    other.registry.push("team/app", Some("1"), &world.image);
    other.registry.set_access("*", Access::AnonymousToken);
    world.registry.set_access("*", Access::Token(Credentials::new("robot", "secret")));
    let folder = tempfile::tempdir().unwrap();
    let upstream = world.with_credentials(password(&folder, "secret"));
    world.registry.inject(On::path("/v2/*"), Fault::redirect(&format!("{}{{path}}", other.listening.url())));
    let (digest, bytes) = &world.image.blobs[0];
    let get = async || {
        upstream.manifest(&repository(), &tag()).await?;
        upstream.head_manifest(&repository(), &tag()).await?;
        upstream.head_blob(&repository(), digest, bytes.len() as u64).await?;
        upstream.blob_bytes(&repository(), digest, 1 << 20).await?;
        upstream.tags(&repository(), &Page::default()).await.map(|_| ())
    };
    get().await.unwrap();
    assert_eq!(other.registry.count(|request| request.path == "/token"), 1, "one token for all requests");
    other.registry.revoke_tokens();
    get().await.unwrap();
    let sent = |registry: &Registry| -> Vec<_> {
        registry.requests().into_iter().filter_map(|request| request.authorization).collect()
    };
    assert!(sent(&world.registry).is_empty(), "another registry's token is not for this one");
    assert!(
        sent(&other.registry).iter().all(|value| value == "Bearer"),
        "credentials are not sent to the other registry"
    );
    for access in [Access::Token(Credentials::new("x", "y")), Access::Basic(Credentials::new("x", "y"))] {
        other.registry.set_access("*", access);
        other.registry.revoke_tokens();
        let error = get().await.unwrap_err();
        assert!(matches!(&error, Error::Unauthorized(text) if text.contains("leads to 127.0.0.1")), "{error}");
    }
    assert!(
        sent(&other.registry).iter().all(|value| value == "Bearer"),
        "credentials are not sent to the other registry"
    );
}

#[tokio::test]
async fn podman_repository_entries_apply_to_their_repository() {
    let world = World::new().await;
    world.registry.push("team/other", Some("1"), &world.image);
    for (name, user) in [("team/app", "robot"), ("team/other", "all")] {
        world.registry.set_access(name, Access::Basic(Credentials::new(user, "secret")));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("auth.json");
    let entry = |user: &str| serde_json::json!({"auth": "", "username": user, "password": "secret"});
    let auths = serde_json::json!({"auths": {"registry.test": entry("all"), "registry.test/team/app": entry("robot")}});
    std::fs::write(&file, auths.to_string()).unwrap();
    let upstream = world.with_credentials(Auth::DockerConfig { file });
    for name in ["team/app", "team/other"] {
        upstream.manifest(&name.parse().unwrap(), &tag()).await.unwrap();
    }
}
