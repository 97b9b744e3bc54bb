//! Configuration issues.

use jiff::SignedDuration;

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

/// A gate under a rule, with an image in which nothing is recognised: it runs as root, which is a configuration issue.
async fn with_opaque_image(registry: &TestRegistry, va: &str, clock: &Clock) -> Gate {
    registry.push("team/opaque", Some("1"), &image([Layer::gzip(&Tree::new().file("bin/app", "x"))]));
    let made = TestGate::new(registry, &policy(&format!("  - {{name: \"*\", policy: {{va: {va}}}}}\n")))
        .upstream("tag_ttl = \"30d\"")
        .clock(clock);
    made.config();
    records(made.path());
    assert!(import(made.path()).status.success());
    let gate = made.start().await;
    until_open(&gate).await;
    gate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_on_an_opaque_image_lists_the_exemptions_that_were_used() {
    let registry = TestRegistry::start().await;
    let clock = Clock::manual("2030-01-10T00:00:00Z".parse().expect("a time"));
    let gate = with_opaque_image(&registry, "{severity: medium, configuration: deny, opaque: allow}", &clock).await;
    assert_eq!(gate.get("/team/opaque/manifests/1").await.status, 403);
    let issue = "application_configuration:image.user";
    let words = ["exemption", "add", "--scope", "*", "--issue-type", "configuration", "--issue-id", issue];
    let added = pullgate(&gate, &words).await;
    assert!(added.status.success(), "{}", text(&added));
    assert_eq!(gate.get("/team/opaque/manifests/1").await.status, 200);
    let (_, records) = gate.stop_and_read_audit().await;
    let admitted = records.iter().find(|record| record["decision"] == "admit").expect("an admission");
    let exempts = &admitted["exemptions"][0]["exempts"];
    assert!(exempts.as_str().is_some_and(|exempts| exempts.contains(issue)), "{admitted}");
}

/// Otherwise a grace would never begin, and a condition on the time would never be true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_remembered_when_an_issue_of_an_opaque_image_was_first_seen() {
    let registry = TestRegistry::start().await;
    let seen_long_ago = "{severity: high, configuration: allow, opaque: allow, when: \"issues.exists(i, \
                         i.id.contains('image.user') && has(i.first_seen) && now - i.first_seen > duration('24h'))\"}";
    for (va, reason) in [
        (
            "{severity: medium, configuration: deny, opaque: allow, grace: {from: firstSeen, medium: 7d}}",
            "after grace of 7 days",
        ),
        (seen_long_ago, "when"),
    ] {
        let clock = Clock::manual("2030-01-10T00:00:00Z".parse().expect("a time"));
        let gate = with_opaque_image(&registry, va, &clock).await;
        for (hours, status) in [(0, 200), (12, 200), (7 * 24, 403)] {
            clock.advance(SignedDuration::from_hours(hours));
            let answer = gate.get("/team/opaque/manifests/1").await;
            assert_eq!(answer.status, status, "{va} after {hours} hours: {}", answer.text());
            assert!(status == 200 || answer.text().contains(reason), "{}", answer.text());
        }
    }
}
