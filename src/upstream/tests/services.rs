//! Services beside the registry, such as notary servers.

use super::*;

#[tokio::test]
async fn documents_of_the_registry_and_of_services_beside_it() {
    let world = World::new().await;
    world.registry.set_access("*", Access::Token(Credentials::new("robot", "secret")));
    let folder = tempfile::tempdir().unwrap();
    let upstream = world.with_credentials(password(&folder, "secret"));
    let path = "/v2/team/app/manifests/1";
    let own = upstream.document(&repository(), ServiceAddress::Registry(path), 1 << 20).await.unwrap();
    assert!(own.bytes.starts_with(b"{") && own.headers.contains_key("docker-content-digest"));
    let error = upstream.document(&repository(), ServiceAddress::Registry(path), 10).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge(_)), "{error}");
    let absent = ServiceAddress::Registry("/v2/team/app/manifests/2");
    assert!(matches!(upstream.document(&repository(), absent, 10).await, Err(Error::NotFound { .. })));

    // A service on the same host gets a token of the registry's token service, for its own name of the repository.
    let service = World::new().await;
    service.registry.set_access("*", Access::Token(Credentials::new("robot", "secret")));
    service.registry.push("gun/app", Some("1"), &service.image);
    let url: Url = format!("{}/v2/gun/app/manifests/1", service.listening.url()).parse().unwrap();
    let beside = ServiceAddress::Beside { url: &url, resource: "gun/app" };
    upstream.document(&repository(), beside, 1 << 20).await.unwrap();
    let token = |request: &crate::sample::LoggedRequest| {
        request.path == "/token" && request.query.as_deref().is_some_and(|query| query.contains("gun%2Fapp"))
    };
    assert_eq!(service.registry.count(token), 1);
    // It does not choose the scope, so it cannot obtain a token for the registry's own repository.
    let beside = ServiceAddress::Beside { url: &url, resource: "other/app" };
    assert!(matches!(upstream.document(&repository(), beside, 1 << 20).await, Err(Error::Unauthorized(_))));
    // A service elsewhere gets an anonymous token at most, unless the operator lists its host.
    let mut named = url.clone();
    named.set_host(Some("localhost")).unwrap();
    let passwords = || service.registry.count(|request| request.authorization.as_deref() == Some("Basic"));
    let before = passwords();
    let beside = ServiceAddress::Beside { url: &named, resource: "gun/app" };
    let error = upstream.document(&repository(), beside, 1 << 20).await.unwrap_err();
    assert!(matches!(&error, Error::Unauthorized(_)), "{error}");
    assert_eq!(passwords(), before);
    let listed = Config { auth: password(&folder, "secret"), realms: vec!["localhost".into()], ..world.config() };
    service.registry.set_token_realm(&format!("http://localhost:{}/token", service.listening.address().port()));
    world.upstream(listed).document(&repository(), beside, 1 << 20).await.unwrap();
}

/// A policy may name any notary server. One next to the registry, under the same domain, is not the registry's own.
#[tokio::test]
async fn credentials_go_to_the_notary_server_that_the_operator_names() {
    let (world, service) = (World::new().await, World::new().await);
    let folder = tempfile::tempdir().unwrap();
    let (port, service_port) = (world.listening.address().port(), service.listening.address().port());
    let network = Network::fixed(&[("registry.acme.test", "127.0.0.1"), ("notary.acme.test", "127.0.0.1")]);
    let config = || Config {
        url: format!("http://registry.acme.test:{port}"),
        auth: password(&folder, "secret"),
        ..world.config()
    };
    service.registry.push("gun/app", Some("1"), &service.image);
    let url: Url = format!("http://notary.acme.test:{service_port}/v2/gun/app/manifests/1").parse().unwrap();
    let beside = ServiceAddress::Beside { url: &url, resource: "gun/app" };
    let sent = || service.registry.count(|request| request.authorization.as_deref() == Some("Basic"));
    for access in [Access::Basic as fn(Credentials) -> Access, Access::Token] {
        service.registry.set_access("*", access(Credentials::new("robot", "secret")));
        service.registry.set_token_realm(&format!("http://notary.acme.test:{service_port}/token"));
        let before = sent();
        let error = world.upstream_in(config(), &network).document(&repository(), beside, 1 << 20).await.unwrap_err();
        assert!(matches!(&error, Error::Unauthorized(_)), "{error}");
        assert_eq!(sent(), before, "no password was sent");
        let server = Some(format!("http://notary.acme.test:{service_port}"));
        let named =
            [Config { notary: server, ..config() }, Config { realms: vec!["notary.acme.test".into()], ..config() }];
        for config in named {
            world.upstream_in(config, &network).document(&repository(), beside, 1 << 20).await.unwrap();
        }
        assert_eq!(sent(), before + 2);
    }
}

/// A notary server that no credentials are for must not have the gate send a request of its choice with them.
#[tokio::test]
async fn redirected_requests_of_services_carry_no_credentials() {
    let (world, service) = (World::new().await, World::new().await);
    let folder = tempfile::tempdir().unwrap();
    let network = Network::fixed(&[("notary.acme.test", "127.0.0.1")]);
    let url = format!("http://notary.acme.test:{}/v2/gun/app/manifests/1", service.listening.address().port());
    let url: Url = url.parse().unwrap();
    let beside = ServiceAddress::Beside { url: &url, resource: "gun/app" };
    service.registry.inject(On::any(), Fault::redirect(&format!("{}/v2/team/app/manifests/1", world.listening.url())));
    for access in [Access::Basic as fn(Credentials) -> Access, Access::Token] {
        world.registry.set_access("*", access(Credentials::new("robot", "secret")));
        let config = Config { auth: password(&folder, "secret"), ..world.config() };
        let upstream = world.upstream_in(config, &network);
        // The registry itself has answered with these credentials before.
        upstream.manifest(&repository(), &tag()).await.unwrap();
        let sent = || world.registry.count(|request| request.authorization.is_some());
        let before = sent();
        let error = upstream.document(&repository(), beside, 1 << 20).await.unwrap_err();
        assert!(matches!(&error, Error::Unauthorized(why) if why.contains("notary.acme.test leads to")), "{error}");
        assert_eq!(sent(), before);
    }
}

/// Requests that an auxiliary service keeps waiting take no turn of the registry.
#[tokio::test]
async fn a_service_that_hangs_does_not_stop_the_registry() {
    let (world, service) = (World::new().await, World::new().await);
    let upstream = world.upstream(Config {
        max_connections: 1,
        attempts: 1,
        header_timeout: Duration::from_secs(1),
        ..world.config()
    });
    let held = service.registry.inject(On::any(), Fault::Gate);
    let url: Url = format!("{}/v2/gun/app/manifests/1", service.listening.url()).parse().unwrap();
    let ask = || {
        let (upstream, url) = (upstream.clone(), url.clone());
        async move {
            let beside = ServiceAddress::Beside { url: &url, resource: "gun/app" };
            upstream.document(&repository(), beside, 1 << 20).await.map(|_| ())
        }
    };
    let pull = async {
        held.wait_for_hits(8).await;
        upstream.manifest(&repository(), &tag()).await.expect("the registry answers");
    };
    let (asked, ()) = tokio::join!(futures_util::future::join_all((0..8).map(|_| ask())), pull);
    assert!(asked.iter().all(Result::is_err), "no answer within the time limit");
}
