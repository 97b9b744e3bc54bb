//! Who gets the credentials.

use super::*;

#[tokio::test]
async fn basic_credentials_and_missing_credentials() {
    let world = World::new().await;
    world.registry.set_access("team/app", Access::Basic(Credentials::new("robot", "secret")));
    let error = world.upstream(world.config()).manifest(&repository(), &tag()).await.unwrap_err();
    assert!(matches!(&error, Error::Unauthorized(text) if text.contains("without credentials")), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let upstream = world.with_credentials(password(&folder, "secret"));
    upstream.manifest(&repository(), &tag()).await.unwrap();
    upstream.manifest(&repository(), &tag()).await.unwrap();
    let refused = world.registry.count(|request| request.status.is_some_and(|status| status.as_u16() == 401));
    assert_eq!(refused, 2, "the second request needs no challenge");
    let error = world.with_credentials(password(&folder, "wrong")).manifest(&repository(), &tag()).await.unwrap_err();
    assert!(matches!(&error, Error::Unauthorized(text) if text.contains("the configured credentials")), "{error}");
    assert!(!format!("{error:?} {:?}", password(&folder, "wrong")).contains("wrong"), "a secret is never printed");
}

#[tokio::test]
async fn tokens_are_shared_and_renewed_after_expiry() {
    let world = World::new().await;
    world.registry.set_access("*", Access::Token(Credentials::new("robot", "secret")));
    let folder = tempfile::tempdir().unwrap();
    let upstream = world.with_credentials(password(&folder, "secret"));
    let held = world.registry.inject(On::path("*/token*"), Fault::Gate);
    let pulls: Vec<_> = (0..10)
        .map(|_| {
            let upstream = upstream.clone();
            world.tasks.spawn(async move { upstream.manifest(&repository(), &tag()).await.map(|_| ()) })
        })
        .collect();
    world
        .registry
        .wait_for(|requests| requests.iter().filter(|r| r.status.is_some_and(|s| s.as_u16() == 401)).count() == 10)
        .await;
    held.wait_for_hits(1).await;
    held.release();
    for pull in pulls {
        pull.await.unwrap().unwrap();
    }
    assert_eq!(world.registry.count(|request| request.path == "/token"), 1);
    world.registry.revoke_tokens();
    upstream.manifest(&repository(), &tag()).await.unwrap();
    assert_eq!(world.registry.count(|request| request.path == "/token"), 2);
}

#[tokio::test]
async fn foreign_token_services_receive_no_credentials() {
    let world = World::new().await;
    let other = World::new().await;
    world.registry.set_access("*", Access::Token(Credentials::new("robot", "secret")));
    let realm = format!("http://localhost:{}/token", other.listening.address().port());
    world.registry.set_token_realm(&realm);
    let folder = tempfile::tempdir().unwrap();
    let error = world.with_credentials(password(&folder, "secret")).manifest(&repository(), &tag()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Refused(text) if text.contains("\"localhost\"") && text.contains("realms")),
        "{error}"
    );
    assert_eq!(other.registry.requests().len(), 0, "it received no request");
    // A host listed by the operator receives them.
    let listed = Config { auth: password(&folder, "secret"), realms: vec!["localhost".into()], ..world.config() };
    let _ = world.upstream(listed).manifest(&repository(), &tag()).await;
    assert!(other.registry.count(|request| request.path == "/token") > 0);
}

#[tokio::test]
async fn redirects_drop_the_authorization_and_never_leave_tls() {
    let world = World::new().await;
    let storage = World::new().await;
    let content = noise(1000, 1);
    let digest = world.registry.put_blob("team/app", content.clone());
    storage.registry.put_blob("team/app", content.clone());
    world.registry.set_access("*", Access::Basic(Credentials::new("robot", "secret")));
    let folder = tempfile::tempdir().unwrap();
    let upstream = world.with_credentials(password(&folder, "secret"));
    upstream.manifest(&repository(), &tag()).await.unwrap();
    world.registry.inject(On::blobs(), Fault::redirect(&format!("{}{{path}}", storage.listening.url())));
    assert_eq!(upstream.blob_bytes(&repository(), &digest, 1 << 20).await.unwrap(), content);
    assert_eq!(storage.registry.count(|request| request.authorization.is_some()), 0);
    let endless = world.registry.inject(On::manifests(), Fault::redirect("{path}"));
    let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
    assert!(error.to_string().contains("redirects"), "{error}");
    endless.remove();
}

#[tokio::test]
async fn public_registries_cannot_redirect_into_private_networks() {
    let world = World::new().await;
    let inner = World::new().await;
    let (port, inner_port) = (world.listening.address().port(), inner.listening.address().port());
    let network = Network::fixed(&[
        ("public.test", "93.184.216.34"),
        ("storage.test", "93.184.216.35"),
        ("rebound.test", "10.0.0.7"),
        ("mapped.test", "::ffff:169.254.169.254"),
    ]);
    let config = Config { url: format!("http://public.test:{port}"), ..world.config() };
    let upstream = world.upstream_in(config, &network);
    for target in ["rebound.test", "mapped.test", "127.0.0.1", "[::1]", "2130706433", "0x7f.1"] {
        let away = format!("http://{target}:{inner_port}/");
        let realm = format!("Bearer realm=\"{away}token\"");
        for fault in [Fault::redirect(&away), Fault::unauthorized(&realm)] {
            let injected = world.registry.inject(On::manifests(), fault);
            let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
            assert!(matches!(&error, Error::Refused(text) if text.contains("private address")), "{target}: {error}");
            injected.remove();
        }
    }
    assert_eq!(inner.registry.requests().len(), 0);
    // Nor can a registry that it redirects to.
    let lead = format!("http://storage.test:{inner_port}{{path}}");
    let redirect = world.registry.inject(On::manifests(), Fault::redirect(&lead));
    for target in ["rebound.test", "127.0.0.1"] {
        let realm = format!("Bearer realm=\"http://{target}:{inner_port}/token\"");
        let asked = inner.registry.inject(On::manifests(), Fault::unauthorized(&realm));
        let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
        assert!(matches!(&error, Error::Refused(text) if text.contains("private address")), "{target}: {error}");
        asked.remove();
    }
    redirect.remove();
    assert_eq!(inner.registry.count(|request| request.path == "/token"), 0);
    inner.registry.clear_log();
    // Redirects to another public host are followed, and a private registry may refer to private hosts.
    world
        .registry
        .inject(On::manifests().times(1), Fault::redirect(&format!("http://storage.test:{inner_port}{{path}}")));
    upstream.manifest(&repository(), &tag()).await.unwrap();
    let private = Config { url: format!("http://rebound.test:{port}"), ..world.config() };
    world
        .registry
        .inject(On::manifests().times(1), Fault::redirect(&format!("http://mapped.test:{inner_port}{{path}}")));
    world.upstream_in(private, &network).manifest(&repository(), &tag()).await.unwrap();
    assert_eq!(inner.registry.requests().len(), 2);
}

#[tokio::test]
async fn challenges_from_storage_do_not_get_the_registrys_credentials() {
    let (world, storage) = (World::new().await, World::new().await);
    let folder = tempfile::tempdir().unwrap();
    let upstream = world.with_credentials(password(&folder, "secret"));
    let realm = format!("Bearer realm=\"{}/token\"", storage.listening.url());
    let at_home = format!("Bearer realm=\"{}/token\"", world.listening.url());
    world.registry.inject(On::manifests(), Fault::redirect(&format!("{}{{path}}", storage.listening.url())));
    for (challenge, tokens) in [("Basic", 0), (&*realm, 1), (&*at_home, 2)] {
        let asked = storage.registry.inject(On::manifests(), Fault::unauthorized(challenge));
        let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
        assert!(matches!(error, Error::Unauthorized(_)), "{error}");
        asked.remove();
        let all = [world.registry.requests(), storage.registry.requests()].concat();
        assert_eq!(all.iter().filter(|request| request.path == "/token").count(), tokens, "{all:?}");
        let sent = all.iter().filter_map(|request| request.authorization.as_deref());
        assert!(sent.clone().all(|value| value == "Bearer"), "{all:?}");
        assert!(world.registry.count(|request| request.authorization.is_some()) == 0, "{all:?}");
    }
}
