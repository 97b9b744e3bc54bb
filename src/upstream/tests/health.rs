//! What is reported about an upstream that does not work.

use super::*;

#[tokio::test]
async fn an_upstream_is_down_after_failures_until_it_answers() {
    let (world, metrics) = (World::new().await, Metrics::default());
    let upstreams =
        Upstreams::new(vec![world.config()], None, (&world.tasks, &world.clock), &metrics, &world.readiness).unwrap();
    let upstream = upstreams.by_path("registry.test").unwrap();
    let is_up = |up: u8| metrics.render().contains(&format!("upstream_up{{upstream=\"registry.test\"}} {up}\n"));
    let why = || world.readiness.report().degraded.get("upstream registry.test").cloned();
    assert!(is_up(1) && world.readiness.report().healthy.contains(&"upstream registry.test".to_owned()));
    let broken = world.registry.inject(On::manifests(), Fault::status(StatusCode::BAD_GATEWAY));
    upstream.head_manifest(&repository(), &tag()).await.unwrap_err();
    assert_eq!((is_up(1), why()), (true, None), "one failure is not enough");
    upstream.manifest(&repository(), &tag()).await.unwrap_err();
    assert!(is_up(0) && why().unwrap().contains("it answered 502"), "{:?}", why());
    // A refusal is an answer. So is that to the check, which needs no pull.
    drop(broken);
    world.registry.clear_faults();
    upstream.check().await;
    assert_eq!((is_up(1), why()), (true, None));
    world.listening.stop().await;
    upstream.manifest(&repository(), &tag()).await.unwrap_err();
    upstream.check().await;
    assert!(is_up(0) && why().is_some());
}

#[tokio::test]
async fn credentials_that_cannot_be_read_are_reported() {
    let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
    let upstream = world.with_credentials(password(&folder, "secret"));
    let reported = async || {
        upstream.check().await;
        world.readiness.report().degraded.get("credentials registry.test").cloned()
    };
    assert_eq!(reported().await, None);
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::rename(&file, folder.path().join("moved")).unwrap();
    let why = reported().await.unwrap();
    assert!(why.contains(&*file.to_string_lossy()) && why.contains("No such file"), "{why}");
    std::fs::rename(folder.path().join("moved"), &file).unwrap();
    assert_eq!(reported().await, None);
}

/// As `config check` finds them: what a pull would find out only when it fails.
#[tokio::test]
async fn credentials_that_are_not_there_are_reported() {
    let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("config.json");
    let reported = async |auth| {
        world.with_credentials(auth).check().await;
        world.readiness.report().degraded.get("credentials registry.test").cloned().unwrap_or_default()
    };
    let helper = |program: &str| Auth::Helper { program: program.to_owned() };
    assert_eq!(reported(helper("/bin/sh")).await, "");
    let why = reported(helper("not-installed")).await;
    assert!(why.contains("docker-credential-not-installed: no such executable program"), "{why}");
    let good = r#""registry.test": {"auth": "cm9ib3Q6c2VjcmV0"}"#;
    for (text, wanted) in [
        (format!(r#"{{"auths": {{{good}}}}}"#), ""),
        (r#"{"auths": {"other.test": {"auth": "cm9ib3Q6c2VjcmV0"}}}"#.to_owned(), "has no entry for registry.test"),
        (r#"{"auths": {"registry.test": {}}}"#.to_owned(), "has no entry for registry.test"),
        (r#"{"auths": {"registry.test/team": {"auth": "cm9ib3Q6c2VjcmV0"}}}"#.to_owned(), ""),
        (r#"{"auths": {"registry.test": {"auth": "!!!"}}}"#.to_owned(), "is not base64 of user:password"),
        (format!(r#"{{"auths": {{{good}, "registry.test/team": {{"auth": 7}}}}}}"#), "is malformed"),
        (format!(r#"{{"auths": {{{good}, "other.test": {{"auth": 7}}}}}}"#), ""),
        // Another spelling, which is never used.
        (format!(r#"{{"auths": {{{good}, "registry.test/": {{"auth": 7}}}}}}"#), ""),
        (
            r#"{"credsStore": "not-installed"}"#.to_owned(),
            "docker-credential-not-installed: no such executable program",
        ),
        (r#"{"credHelpers": {"registry.test": 7}}"#.to_owned(), "must be a string"),
    ] {
        std::fs::write(&file, &text).unwrap();
        let why = reported(Auth::DockerConfig { file: file.clone() }).await;
        assert!(if wanted.is_empty() { why.is_empty() } else { why.contains(wanted) }, "{text}: {why}");
    }
}

/// As with a password that has expired: a client that asks for what nobody may pull does not make the gate degraded.
#[tokio::test]
async fn credentials_that_are_rejected_are_reported() {
    for access in [Access::Basic(Credentials::new("robot", "new")), Access::Token(Credentials::new("robot", "new"))] {
        let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
        world.registry.set_access("*", access);
        let upstream = world.with_credentials(password(&folder, "old"));
        let reported = async || {
            upstream.check().await;
            world.readiness.report().degraded.get("credentials registry.test").cloned()
        };
        assert_eq!(reported().await, None, "nothing was refused");
        assert_eq!(world.registry.requests().len(), 0);
        upstream.manifest(&repository(), &tag()).await.unwrap_err();
        let why = reported().await.unwrap();
        assert!(why.contains("registry.test") && why.contains("configured credentials"), "{why}");
        assert!(reported().await.is_some(), "until it accepts them");
        password(&folder, "new");
        assert_eq!(reported().await, None, "without a pull");
        upstream.manifest(&repository(), &tag()).await.unwrap();
        let refused = world.registry.inject(On::manifests(), Fault::status(StatusCode::FORBIDDEN));
        upstream.manifest(&repository(), &tag()).await.unwrap_err();
        assert_eq!(reported().await, None, "only this image is refused");
        refused.remove();
        // Also if there is a token that is still valid.
        password(&folder, "old");
        let refused = world.registry.inject(On::manifests(), Fault::status(StatusCode::FORBIDDEN));
        upstream.manifest(&repository(), &tag()).await.unwrap_err();
        refused.remove();
        assert!(reported().await.is_some());
    }
}

/// Many rejections lock an account.
#[tokio::test]
async fn rejected_credentials_are_tried_less_often_until_something_is_served() {
    let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
    world.registry.set_access("*", Access::Basic(Credentials::new("robot", "new")));
    let upstream = world.with_credentials(password(&folder, "old"));
    upstream.manifest(&repository(), &tag()).await.unwrap_err();
    let is_tried = async || {
        world.registry.clear_log();
        upstream.check().await;
        !world.registry.requests().is_empty()
    };
    let mut tried = Vec::new();
    for _ in 0..12 {
        tried.push(is_tried().await);
    }
    let (yes, no) = (true, false);
    assert_eq!(tried, [yes, yes, yes, no, yes, no, no, yes, no, no, no, no]);
    password(&folder, "new");
    upstream.manifest(&repository(), &tag()).await.unwrap();
    assert!(is_tried().await, "a pull has succeeded");
    assert!(world.readiness.report().degraded.is_empty(), "{:?}", world.readiness.report());
}

/// A token service may give no token for a repository that the account may not read.
#[tokio::test]
async fn credentials_are_tried_for_a_repository_that_they_allow() {
    let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
    world.registry.set_access("team/app", Access::Token(Credentials::new("robot", "secret")));
    let upstream = world.with_credentials(password(&folder, "secret"));
    upstream.head_manifest(&repository(), &tag()).await.unwrap();
    world.registry.clear_log();
    upstream.exchange.client().health().doubt();
    upstream.check().await;
    let paths: Vec<String> = world.registry.requests().iter().map(|request| format!("{request:?}")).collect();
    assert!(paths.iter().all(|path| !path.contains("hello-world")), "{paths:?}");
    assert!(world.readiness.report().degraded.is_empty(), "{:?}", world.readiness.report());
}

/// Amazon's registry answers 403 when the password has expired.
#[tokio::test]
async fn a_403_to_the_credentials_is_a_rejection() {
    let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
    let upstream = world.with_credentials(password(&folder, "secret"));
    let expired = || {
        world.registry.clear_faults();
        world.registry.inject(On::any().times(1), Fault::unauthorized("Basic realm=\"sample\""));
        world.registry.inject(On::any(), Fault::status(StatusCode::FORBIDDEN));
    };
    let reported = || world.readiness.report().degraded.get("credentials registry.test").cloned();
    expired();
    upstream.manifest(&repository(), &tag()).await.unwrap_err();
    expired();
    upstream.check().await;
    assert!(reported().is_some_and(|why| why.contains("refuses this (403)")), "{:?}", reported());
}

/// A filter on the way did not ask for credentials, and without credentials nothing can be wrong with them.
#[tokio::test]
async fn a_refusal_that_no_credentials_were_sent_for_says_nothing_about_them() {
    let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
    world.registry.inject(On::any(), Fault::status(StatusCode::FORBIDDEN));
    for (upstream, asked) in
        [(world.with_credentials(password(&folder, "secret")), 1), (world.upstream(world.config()), 0)]
    {
        upstream.manifest(&repository(), &tag()).await.unwrap_err();
        world.registry.clear_log();
        upstream.check().await;
        assert_eq!(world.registry.requests().len(), asked);
        assert!(world.readiness.report().degraded.is_empty(), "{:?}", world.readiness.report());
    }
}
