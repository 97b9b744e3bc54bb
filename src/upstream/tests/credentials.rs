//! Passwords and the helpers that have them.

use super::*;

#[tokio::test]
async fn helpers_run_once_and_output_of_failed_ones_is_ignored() {
    let world = World::new().await;
    world.registry.set_access("*", Access::Basic(Credentials::new("robot", "secret")));
    let folder = tempfile::tempdir().unwrap();
    let (program, runs) = (folder.path().join("helper"), folder.path().join("runs"));
    let write = |end: &str| {
        let answer = r#"{"Username":"robot","Secret":"secret"}"#;
        let script = format!("#!/bin/sh\ncat >/dev/null\necho x >>{}\necho '{answer}'\n{end}\n", runs.display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    };
    write("exit 1");
    let upstream = world.with_credentials(Auth::Helper { program: program.display().to_string() });
    assert!(matches!(upstream.manifest(&repository(), &tag()).await, Err(Error::Unauthorized(_))));
    std::fs::remove_file(&runs).unwrap();
    write("");
    let gate = world.registry.inject(On::manifests(), Fault::Gate);
    let pulls: Vec<_> = (0..8)
        .map(|_| {
            let upstream = upstream.clone();
            world.tasks.spawn(async move { upstream.manifest(&repository(), &tag()).await.map(|_| ()) })
        })
        .collect();
    gate.wait_for_hits(8).await;
    gate.release();
    for pull in pulls {
        pull.await.unwrap().unwrap();
    }
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "x\n");
}

#[tokio::test]
async fn changed_passwords_are_reloaded() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let upstream = world.with_credentials(password(&folder, "old"));
    for secret in ["old", "new"] {
        world.registry.set_access("*", Access::Basic(Credentials::new("robot", secret)));
        password(&folder, secret);
        upstream.manifest(&repository(), &tag()).await.unwrap();
    }
}

#[test]
fn passwords_are_never_printed() {
    let host: Host = "a.test".parse().unwrap();
    let new = |config: Config| {
        Upstreams::new(vec![config], None, (&Tasks::new(), &Clock::system()), &Metrics::default(), &Readiness::new())
            .err()
            .unwrap()
    };
    for proxy in ["https://u:hunter2@proxy:1", "socks5://u:hunter2@proxy:1", "http://"] {
        let config = Config { proxy: Some(proxy.into()), ..Config::new(host.clone(), "http://a.test") };
        assert!(!format!("{config:?}").contains("hunter2"));
        let error = new(config);
        assert!(matches!(error, ConfigError::Proxy(_)) && !error.to_string().contains("hunter2"), "{error}");
    }
    for url in ["https://u:hunter2@a.test", "https://a.test/?x", "https://a.test/#x", "ftp://a.test", "a.test", ""] {
        let error = new(Config::new(host.clone(), url));
        assert!(matches!(error, ConfigError::Url(_)) && !error.to_string().contains("hunter2"), "{error}");
    }
}
