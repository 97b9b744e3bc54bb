//! Configuration issues.

use super::*;

/// An image with configuration issues and without vulnerabilities: it runs as root, admits root by SSH, and had a private
/// key.
fn careless() -> Built {
    let key = format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n", "aB3dE5gH7jK9".repeat(8));
    let base = python("2.2.28").file("root/.ssh/id_rsa", key).file("etc/ssh/sshd_config", "PermitRootLogin yes\n");
    let removed = Tree::new().file("root/.ssh/.wh.id_rsa", "");
    image([Layer::gzip(&base), Layer::gzip(&removed)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_issues_deny_if_the_policy_says_so() {
    let registry = TestRegistry::start().await;
    registry.push("team/app", Some("1"), &careless());
    for (va, status, reason) in [
        ("{severity: low}", 403, "application_configuration:secret.deleted_file high"),
        ("{severity: low, configuration: critical}", 200, ""),
        (
            "{severity: low, configuration: allow, alwaysBlock: [\"application_configuration:image.user\"]}",
            403,
            "image.user",
        ),
        ("{severity: critical, configuration: deny}", 200, ""),
        ("{severity: high, configuration: deny}", 403, "application_configuration:secret.deleted_file high"),
        ("{severity: low, configuration: allow}", 200, ""),
    ] {
        let made = TestGate::new(&registry, &policy(&format!("  - {{name: \"*\", policy: {{va: {va}}}}}\n")));
        made.config();
        records(made.path());
        assert!(import(made.path()).status.success());
        let gate = made.start().await;
        until_open(&gate).await;
        let answer = gate.get("/team/app/manifests/1").await;
        assert_eq!(answer.status, status, "{va}: {}", answer.text());
        assert!(answer.text().contains(reason), "{va}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn va_lists_configuration_issues_with_their_places() {
    let registry = TestRegistry::start().await;
    registry.push("team/app", Some("1"), &careless());
    let made = TestGate::new(&registry, ALLOW_ALL);
    made.config();
    records(made.path());
    assert!(import(made.path()).status.success());
    let gate = made.start().await;
    until_open(&gate).await;
    let name = format!("{HOST}/team/app:1");
    let table = text(&pullgate(&gate, &["va", &name]).await);
    let id = "application_configuration:";
    for part in ["image.user", "secret.deleted_file", "ssh.permit_root_login"] {
        assert!(table.contains(&format!("{id}{part}")), "{part}: {table}");
    }
    for part in ["Set PermitRootLogin no or prohibit-password.", "Add an account"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let as_json = pullgate(&gate, &["va", &name, "--output", "json"]).await;
    let scans: Value = serde_json::from_slice(&as_json.stdout).expect("JSON");
    let issues = scans[0]["configuration"].as_array().expect("issues");
    let login = issues.iter().find(|issue| issue["id"] == format!("{id}ssh.permit_root_login")).expect("the issue");
    assert_eq!(login["kind"], "Configuration");
    assert_eq!(login["packages"][0]["path"], "etc/ssh/sshd_config");
    assert_eq!(login["packages"][0]["detail"], "line 1: PermitRootLogin yes");
    assert!(login["packages"][0]["layer"].as_str().is_some_and(|layer| layer.starts_with("sha256:")), "{login}");
    assert!(!as_json.stdout.windows(12).any(|window| window == b"aB3dE5gH7jK9"), "no secret is shown");
}
