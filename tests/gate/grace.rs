//! Graces: an image with an issue is served for some time, and whoever looks is told.

use std::fs;

use jiff::SignedDuration;
use pullgate::oci::Digest;
use pullgate::runtime::Clock;
use serde_json::{Value, json};

use crate::harness::{Gate, TestGate, policy};
use crate::program::Program;
use crate::pull::simple;
use crate::support::{Answer, TestRegistry, until};

/// A report of Trivy on an image, without a date, with these vulnerabilities.
fn report(made: &TestGate, image: Digest, vulnerabilities: &[Value]) {
    report_of(made, image, "debian", vulnerabilities);
}

/// The same, with this system.
fn report_of(made: &TestGate, image: Digest, system: &str, vulnerabilities: &[Value]) {
    let report = json!({
        "SchemaVersion": 2, "ArtifactName": "x", "ArtifactType": "container_image",
        "Metadata": {"OS": {"Family": system, "Name": "12"}, "RepoDigests": [format!("x@{image}")]},
        "Results": [{"Target": "x", "Class": "os-pkgs", "Type": system, "Vulnerabilities": vulnerabilities}]
    });
    fs::write(made.path().join(format!("reports/{}.json", image.hex())), report.to_string()).expect("a file");
}

fn vulnerability(id: &str, fixed: &str) -> Value {
    json!({"VulnerabilityID": id, "PkgName": "openssl", "InstalledVersion": "1", "FixedVersion": fixed, "Severity": "HIGH"})
}

fn made(registry: &TestRegistry, rule: &str, clock: &Clock) -> TestGate {
    TestGate::new(registry, &self::rule(rule)).upstream("tag_ttl = \"30d\"").clock(clock)
}

async fn pull(gate: &Gate, repository: &str, tag: &str) -> Answer {
    gate.get(&format!("/{repository}/manifests/{tag}")).await
}

/// Rebuilding an image every week does not start a new grace period every week.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grace_from_the_first_sight_is_that_of_the_repository() {
    let registry = TestRegistry::start().await;
    let clock = Clock::manual("2026-01-10T00:00:00Z".parse().expect("a time"));
    let made = made(&registry, "{severity: high, grace: {from: firstSeen, high: 7d}}", &clock);
    let (first, second, other) = (simple("first"), simple("second"), simple("other"));
    for (repository, tag, image, id) in [
        ("team/app", "1", &first, "CVE-2026-1"),
        ("team/app", "2", &second, "CVE-2026-1"),
        ("team/other", "1", &other, "CVE-2026-1"),
    ] {
        registry.push(repository, Some(tag), image);
        report(&made, image.root, &[vulnerability(id, "2")]);
    }
    let gate = made.start().await;
    assert_eq!(pull(&gate, "team/app", "1").await.status, 200);
    clock.advance(SignedDuration::from_hours(6 * 24));
    assert_eq!(pull(&gate, "team/app", "2").await.status, 200, "a part of the grace is left");
    let gate = gate.stop().await.start().await;
    clock.advance(SignedDuration::from_hours(24));
    for tag in ["1", "2"] {
        let denied = pull(&gate, "team/app", tag).await;
        assert!(denied.status == 403 && denied.text().contains("after grace of 7 days"), "{tag}: {}", denied.text());
    }
    assert_eq!(pull(&gate, "team/other", "1").await.status, 200, "another repository");
}

/// A database that renames an issue does not make it a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admitted_grace_does_not_begin_anew_with_another_name() {
    let registry = TestRegistry::start().await;
    let clock = Clock::manual("2026-01-10T00:00:00Z".parse().expect("a time"));
    let made = made(&registry, "{severity: high, admittedGrace: 20s}", &clock);
    let image = simple("app");
    registry.push("team/app", Some("1"), &image);
    report(&made, image.root, &[]);
    let gate = made.start().await;
    assert_eq!(pull(&gate, "team/app", "1").await.status, 200);
    let found = vulnerability("GHSA-aaaa-bbbb-cccc", "");
    let mut renamed = vulnerability("CVE-2026-77", "");
    renamed["VendorIDs"] = json!(["GHSA-aaaa-bbbb-cccc"]);
    let mut made = gate.stop().await;
    for (issue, wait, status) in [(&found, 1, 200), (&found, 20, 403), (&renamed, 1, 403)] {
        report(&made, image.root, std::slice::from_ref(issue));
        clock.advance(SignedDuration::from_secs(wait));
        let gate = made.start().await;
        let answer = pull(&gate, "team/app", "1").await;
        assert_eq!(answer.status, status, "{issue}: {}", answer.text());
        made = gate.stop().await;
    }
}

/// Nor does a database that renames it twice, so that its first name is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grace_does_not_begin_anew_with_a_third_name() {
    let registry = TestRegistry::start().await;
    for rule in ["{severity: high, admittedGrace: 20s}", "{severity: high, grace: {from: firstSeen, high: 20s}}"] {
        let clock = Clock::manual("2026-01-10T00:00:00Z".parse().expect("a time"));
        let made = made(&registry, rule, &clock);
        let image = simple("app");
        registry.push("team/app", Some("1"), &image);
        report(&made, image.root, &[]);
        let gate = made.start().await;
        assert_eq!(pull(&gate, "team/app", "1").await.status, 200);
        let named = |id: &str, alias: &str| {
            let mut found = vulnerability(id, "");
            found["VendorIDs"] = json!([alias]);
            found
        };
        let mut made = gate.stop().await;
        for (issue, wait, status) in [
            (vulnerability("GHSA-aaaa-bbbb-cccc", ""), 1, 200),
            (named("CVE-2026-77", "GHSA-aaaa-bbbb-cccc"), 15, 200),
            (named("CVE-2026-99", "CVE-2026-77"), 6, 403),
        ] {
            report(&made, image.root, std::slice::from_ref(&issue));
            clock.advance(SignedDuration::from_secs(wait));
            let gate = made.start().await;
            let answer = pull(&gate, "team/app", "1").await;
            assert_eq!(answer.status, status, "{rule} {issue}: {}", answer.text());
            made = gate.stop().await;
        }
    }
}

/// An image that is served only because it was admitted before is never served without a warning, whichever grace ended
/// before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admitted_grace_warns_from_the_end_of_another_one() {
    let registry = TestRegistry::start().await;
    let clock = Clock::manual("2026-01-10T00:00:00Z".parse().expect("a time"));
    let made = made(&registry, "{severity: high, ignoreUnfixedFor: 10s, admittedGrace: 20s}", &clock);
    let image = simple("app");
    registry.push("team/app", Some("1"), &image);
    report(&made, image.root, &[]);
    let gate = made.start().await;
    assert_eq!(pull(&gate, "team/app", "1").await.status, 200);
    // What was admitted is recorded.
    let made = gate.stop().await;
    report(&made, image.root, &[vulnerability("CVE-2026-1", "")]);
    clock.advance(SignedDuration::from_secs(1));
    let gate = made.start().await;
    for (wait, status, is_warned) in [(0, 200, false), (9, 200, false), (1, 200, true), (9, 200, true), (1, 403, false)]
    {
        clock.advance(SignedDuration::from_secs(wait));
        let answer = pull(&gate, "team/app", "1").await;
        let warning = answer.header("warning").unwrap_or_default();
        let found = (answer.status, warning.contains("CVE-2026-1"));
        assert_eq!(found, (status, is_warned), "{}: {warning} {}", clock.now(), answer.text());
    }
}

/// Who admits images that nobody assessed has not checked their vulnerabilities.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admission_without_a_complete_report_does_not_start_admitted_grace() {
    let registry = TestRegistry::start().await;
    for (name, rule, system, status) in [
        ("assessed", "{severity: high, admittedGrace: 20s}", Some("debian"), 200),
        ("unscanned", "{severity: high, admittedGrace: 20s, unscanned: allow}", None, 403),
        ("incomplete", "{severity: high, admittedGrace: 20s, incomplete: allow}", Some("fedora"), 403),
    ] {
        let clock = Clock::manual("2026-01-10T00:00:00Z".parse().expect("a time"));
        let mut made = made(&registry, rule, &clock);
        let (repository, image) = (format!("team/{name}"), simple(name));
        registry.push(&repository, Some("1"), &image);
        if let Some(system) = system {
            report_of(&made, image.root, system, &[]);
        }
        for expected in [200, status] {
            let gate = made.start().await;
            let answer = pull(&gate, &repository, "1").await;
            assert_eq!(answer.status, expected, "{name}: {}", answer.text());
            made = gate.stop().await;
            clock.advance(SignedDuration::from_secs(1));
            report(&made, image.root, &[vulnerability("CVE-2020-1", "2")]);
        }
    }
}

fn rule(rule: &str) -> String {
    policy(&format!("  - {{name: \"*\", policy: {{va: {rule}}}}}\n"))
}

/// The gate with this rule instead of the one before.
async fn under(made: TestGate, text: &str) -> Gate {
    made.file("policies/default.yaml", &rule(text)).start().await
}

/// A rule that is added, or was away for some time, does not make the issues new that an image had before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_grace_begins_with_the_rule() {
    let registry = TestRegistry::start().await;
    for grace in ["admittedGrace: 7d", "grace: {from: firstSeen, high: 7d}"] {
        let clock = Clock::manual("2026-01-10T00:00:00Z".parse().expect("a time"));
        let made = made(&registry, "{severity: critical}", &clock);
        let (old, new) = (simple("old"), simple("new"));
        registry.push("team/app", Some("old"), &old);
        registry.push("team/app", Some("new"), &new);
        let (known, late, fresh) =
            (vulnerability("CVE-2026-1", "2"), vulnerability("CVE-2026-2", "2"), vulnerability("CVE-2026-3", "2"));
        report(&made, old.root, std::slice::from_ref(&known));
        let gate = made.start().await;
        assert_eq!(pull(&gate, "team/app", "old").await.status, 200);
        let with_grace = format!("{{severity: high, {grace}}}");
        clock.advance(SignedDuration::from_hours(30 * 24));
        let gate = under(gate.stop().await, &with_grace).await;
        let answer = pull(&gate, "team/app", "old").await;
        assert_eq!(answer.status, 403, "{grace}, an issue that was there before: {}", answer.text());
        // What another build of it brings is not new either, except for images that were not there before.
        let made = gate.stop().await;
        report(&made, new.root, std::slice::from_ref(&known));
        let gate = made.start().await;
        assert_eq!(pull(&gate, "team/app", "new").await.status, 403, "{grace}, another build");
        // An issue that appears while no rule needs its time.
        let made = gate.stop().await;
        report(&made, old.root, std::slice::from_ref(&late));
        clock.advance(SignedDuration::from_hours(1));
        let gate = under(made, "{severity: critical}").await;
        assert_eq!(pull(&gate, "team/app", "old").await.status, 200);
        clock.advance(SignedDuration::from_hours(8 * 24));
        let gate = under(gate.stop().await, &with_grace).await;
        assert_eq!(pull(&gate, "team/app", "old").await.status, 403, "{grace}, found under another rule");
        // What is found from now on is new.
        let made = gate.stop().await;
        report(&made, old.root, std::slice::from_ref(&fresh));
        let gate = made.start().await;
        let answer = pull(&gate, "team/app", "old").await;
        assert_eq!(answer.status, 200, "{grace}, a new issue: {}", answer.text());
        // It stays new when another build has it, too, which was not there before.
        let (made, third) = (gate.stop().await, simple("third"));
        registry.push("team/app", Some("third"), &third);
        report(&made, third.root, std::slice::from_ref(&fresh));
        let gate = made.start().await;
        pull(&gate, "team/app", "third").await;
        assert_eq!(pull(&gate, "team/app", "old").await.status, 200, "{grace}, after another build");
        clock.advance(SignedDuration::from_hours(7 * 24));
        let gate = gate.stop().await.start().await;
        assert_eq!(pull(&gate, "team/app", "old").await.status, 403, "{grace}, after it");
    }
}

/// An issue that was published after an image became known was not seen in it before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_sight_that_was_not_noted_is_the_publication() {
    let registry = TestRegistry::start().await;
    let clock = Clock::manual("2026-01-10T00:00:00Z".parse().expect("a time"));
    let made = made(&registry, "{severity: critical}", &clock);
    let image = simple("app");
    registry.push("team/app", Some("1"), &image);
    let mut found = vulnerability("CVE-2026-1", "2");
    found["PublishedDate"] = json!("2026-02-08T00:00:00Z");
    report(&made, image.root, &[found]);
    let gate = made.start().await;
    assert_eq!(pull(&gate, "team/app", "1").await.status, 200);
    clock.advance(SignedDuration::from_hours(30 * 24));
    let gate = under(gate.stop().await, "{severity: high, grace: {from: firstSeen, high: 7d}}").await;
    assert_eq!(pull(&gate, "team/app", "1").await.status, 200);
    clock.advance(SignedDuration::from_hours(6 * 24));
    assert_eq!(pull(&gate, "team/app", "1").await.status, 403, "seven days after the publication");
}

/// The age of an image counts from the first request, whatever it was answered, and whichever rule there was then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_was_denied_gets_older() {
    let registry = TestRegistry::start().await;
    let clock = Clock::manual("2026-01-10T00:00:00Z".parse().expect("a time"));
    let made = made(&registry, "{severity: high}", &clock);
    let image = simple("app");
    registry.push("team/app", Some("1"), &image);
    report(&made, image.root, &[vulnerability("CVE-2026-1", "2")]);
    let gate = made.start().await;
    assert_eq!(pull(&gate, "team/app", "1").await.status, 403);
    clock.advance(SignedDuration::from_hours(3 * 24));
    // What was asked for is recorded when the gate stops, at the latest.
    let gate = under(gate.stop().await, "{severity: critical, coolDown: 3d}").await;
    let answer = pull(&gate, "team/app", "1").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Whoever runs an image learns that it will be denied before the next pull.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admitted_grace_is_logged_when_the_issue_is_found() {
    let registry = TestRegistry::start().await;
    let made = made(&registry, "{severity: high, admittedGrace: 7d}", &Clock::system());
    let image = simple("app");
    registry.push("team/app", Some("1"), &image);
    report(&made, image.root, &[]);
    let program = Program::start(&made).await;
    assert_eq!(program.get("/team/app/manifests/1").await.status, 200);
    report(&made, image.root, &[vulnerability("CVE-2026-1", "2")]);
    until(|| program.log().contains("admitted temporarily: admittedGrace: CVE-2026-1")).await;
}
