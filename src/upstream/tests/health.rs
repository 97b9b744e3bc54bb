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
