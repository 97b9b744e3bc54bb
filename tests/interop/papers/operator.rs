//! The pages for operators of one gate.

use std::fs;

use pullgate::runtime::Clock;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{CONFIGURATION, SIGNED, Shop, UNSIGNED, status};
use crate::harness::Machine;

/// Waits until the audit file has a record that contains this text: records are written a moment after the response.
fn recorded(machine: &mut Machine, text: &str) {
    let audit = machine.dir().join("gate/state/audit.jsonl");
    machine.wait_for(CONFIGURATION, |_| fs::read_to_string(&audit).ok().filter(|records| records.contains(text)));
}

#[test]
fn require_signatures() {
    let mut shop = Shop::open();
    shop.machine.walk("docs/tasks/require-signatures.md").finish();
}

#[test]
fn keep_pulling_while_a_registry_is_down() {
    let mut shop = Shop::admitting();
    let mut walk = shop.machine.walk("docs/tasks/registry-outage.md");
    let stale_for = walk.take_with("toml", "stale_for");
    // The reader waits until `tag_ttl` is over.
    walk.machine.append(CONFIGURATION, &format!("{}\ntag_ttl = \"0s\"", stale_for.text));
    walk.machine.restart(CONFIGURATION);
    shop.elsewhere.fail();
    let stale = walk.take_with("console", "warning:");
    walk.run(&stale);
    for _ in 0..3 {
        let missing = "http://127.0.0.1:5000/v2/registry.acme.com/shop/app/manifests/other";
        assert_eq!(status(walk.machine, missing), "503");
    }
    walk.finish();
}

#[test]
fn check_images_in_a_ci_job() {
    let mut shop = Shop::new();
    shop.require_signatures();
    shop.machine.walk("docs/tasks/check-in-ci.md").finish();
    let report = fs::read_to_string(shop.machine.dir().join("pullgate.xml")).expect("a report");
    assert!(report.contains("<testsuite") && report.contains("release: not signed"), "{report}");
}

#[test]
fn decide_by_the_reports_of_a_scanner() {
    let mut shop = Shop::open();
    let configuration = fs::read_to_string(shop.machine.dir().join(CONFIGURATION)).expect("a file");
    let mut walk = shop.machine.walk("docs/tasks/scan-reports.md");
    let setting = walk.take("toml");
    assert!(configuration.contains(&setting.text), "the gate of the example has this setting");
    let scan = walk.take_with("elsewhere", "--output app.json");
    assert!(scan.text.contains("mv app.json gate/reports/app.json"), "{}", scan.text);
    let unscanned = walk.machine.sh(&format!("curl -s {SIGNED}")).text();
    walk.machine.write("gate/reports/app.json", &report(&shop.elsewhere.signed.to_string()).to_string());
    let admitted = |machine: &Machine| (status(machine, SIGNED) == "200").then_some(());
    walk.machine.wait_for(CONFIGURATION, admitted);
    let said = walk.take_with("text", "UNSCANNED");
    assert!(unscanned.contains(said.text.trim()), "{unscanned}");
    let logged = walk.take_with("text", "INFO vulnerability reports changed");
    let (_, message) = logged.text.split_once("INFO ").expect("a level");
    let log = walk.machine.gate(CONFIGURATION).log();
    let (words, fields) = message.split_once(" files").expect("fields");
    assert!(log.contains(words) && log.contains(&format!("files{fields}")), "{log}");
    walk.machine.write("gate/reports/broken.json", "[]");
    let degraded = |machine: &Machine| {
        let ready = machine.sh("curl -s 'http://127.0.0.1:5001/readyz?verbose'").text();
        ready.contains("[-]va").then_some(())
    };
    walk.machine.wait_for(CONFIGURATION, degraded);
    walk.finish();
}

/// A report as Trivy writes it, with an issue that the policy of the page admits.
fn report(digest: &str) -> Value {
    let now = Clock::system().now().to_string();
    json!({
        "SchemaVersion": 2, "CreatedAt": now, "ArtifactName": format!("registry.acme.com/shop/app@{digest}"),
        "ArtifactType": "container_image",
        "Metadata": {"RepoDigests": [format!("registry.acme.com/shop/app@{digest}")]},
        "Results": [{
            "Target": "app (debian 12)", "Class": "os-pkgs", "Type": "debian",
            "Packages": [{"Name": "openssl", "Version": "3.0.11-1"}],
            "Vulnerabilities": [{
                "VulnerabilityID": "CVE-2024-0001", "PkgName": "openssl", "InstalledVersion": "3.0.11-1",
                "Severity": "LOW",
            }],
        }],
    })
}

#[test]
fn exempt_a_vulnerability() {
    let mut shop = Shop::open();
    let configuration = shop.machine.dir().join(CONFIGURATION).display().to_string();
    shop.machine.set("PULLGATE_CONFIG", &configuration);
    let mut walk = shop.machine.walk("docs/exemptions.md");
    let document = walk.take("yaml");
    walk.machine.write("gate/policies/bluebird.yaml", &document.text);
    let checked = walk.machine.sh("pullgate policy check gate/policies").text();
    assert!(checked.contains("0 errors"), "{checked}");
    walk.machine.reload();
    let listed = walk.machine.sh("pullgate exemption list -o json").text();
    assert!(listed.contains("the affected function is not called"), "{listed}");
    let ignored = walk.take_with("toml", "ignore_files");
    walk.machine.write("gate/.trivyignore", "CVE-2024-1234 exp:2099-01-01\n");
    walk.machine.write("gate/accepted.trivyignore.yaml", "vulnerabilities: [{id: CVE-2024-1235}]\n");
    let line = ignored.text.strip_prefix("[va]\n").expect("the table");
    let configured = fs::read_to_string(&configuration).expect("a file");
    fs::write(&configuration, configured.replace("[va]\n", &format!("[va]\n{line}\n"))).expect("a file");
    walk.machine.sh("pullgate config check").bytes();
    let record = walk.take("json");
    let record: Value = serde_json::from_str(&format!("{{{}}}", record.text)).expect("a part of an object");
    assert!(record["exemptions"][0]["id"].is_string(), "{record}");
    walk.finish();
}

#[test]
fn find_out_what_was_denied() {
    let mut shop = Shop::open();
    shop.require_signatures();
    assert_eq!(status(&shop.machine, UNSIGNED), "403");
    assert_eq!(status(&shop.machine, SIGNED), "200");
    recorded(&mut shop.machine, "not signed");
    shop.machine.walk("docs/tasks/find-denials.md").finish();
}

#[test]
fn try_a_policy() {
    let mut shop = Shop::open();
    let mut walk = shop.machine.walk("docs/tasks/try-a-policy.md");
    let trial = walk.take_with("sh", "trial.yaml");
    walk.run(&trial);
    assert_eq!(status(walk.machine, SIGNED), "200", "an audited policy denies nothing");
    recorded(walk.machine, "would_deny");
    let mode = walk.take_with("toml", "mode = \"audit\"");
    assert_eq!(status(walk.machine, SIGNED), "403", "the policy is enforced now");
    walk.machine.append(CONFIGURATION, &mode.text);
    walk.machine.restart(CONFIGURATION);
    assert_eq!(status(walk.machine, SIGNED), "200", "the whole gate is in audit mode");
    let ready = walk.machine.sh("curl -s 'http://127.0.0.1:5001/readyz?verbose'").text();
    assert!(ready.contains("mode: audit: denials are recorded and not enforced"), "{ready}");
    walk.finish();
}

#[test]
fn upgrade_and_go_back() {
    let mut shop = Shop::admitting();
    assert_eq!(status(&shop.machine, SIGNED), "200");
    // For the pages' drain, which a second signal ends.
    shop.machine.set("PULLGATE__SHUTDOWN_DELAY", "60s");
    let mut walk = shop.machine.walk("docs/tasks/upgrade.md");
    walk.take_with("elsewhere", "config check");
    walk.take_with("elsewhere", "systemctl stop pullgate");
    walk.machine.stop(CONFIGURATION);
    let start = walk.take_with("elsewhere", "systemctl start pullgate");
    walk.machine.serve(CONFIGURATION);
    let ready = start.text.lines().last().expect("a command");
    assert!(walk.machine.sh(ready).text().contains("readyz: ready"));
    let draining = walk.take_with("console", "readyz");
    walk.machine.gate(CONFIGURATION).signal(Signal::TERM);
    walk.machine
        .wait_for(CONFIGURATION, |machine| (status(machine, "http://127.0.0.1:5001/readyz") == "503").then_some(()));
    walk.run(&draining);
    walk.machine.gate(CONFIGURATION).signal(Signal::TERM);
    walk.machine.stop(CONFIGURATION);
    walk.finish();
    shop.machine.serve(CONFIGURATION);
    assert_eq!(status(&shop.machine, SIGNED), "200");
}

#[test]
fn replace_a_certificate() {
    let mut shop = Shop::open();
    shop.require_signatures();
    shop.machine.sh("pullgate certs init --dir gate/certs; pullgate certs init --dir new --days 7").bytes();
    let file = shop.machine.dir().join(CONFIGURATION);
    let mut walk = shop.machine.walk("docs/tasks/rotate-certificates.md");
    let tls = walk.take("toml");
    let configured = fs::read_to_string(&file).expect("a file");
    fs::write(&file, configured.replace("[[listener]]\n", &format!("[[listener]]\n{}\n", tls.text))).expect("a file");
    walk.machine.restart(CONFIGURATION);
    let expiry = "curl -s http://127.0.0.1:5001/metrics | grep certificate_expiry_timestamp_seconds{";
    let before = walk.machine.sh(expiry).text();
    let files = walk.take_with("elsewhere", "server.crt.new");
    walk.machine.sh(&files.text).bytes();
    walk.finish();
    assert_ne!(shop.machine.sh(expiry).text(), before, "the other certificate is in use");
}

#[test]
fn find_out_why_a_pull_is_slow() {
    let mut shop = Shop::open();
    shop.require_signatures();
    let mut walk = shop.machine.walk("docs/tasks/slow-pulls.md");
    let tracing = walk.take_with("toml", "[tracing]");
    walk.machine.append(CONFIGURATION, &tracing.text);
    walk.machine.sh("pullgate config check --config gate/pullgate.toml").bytes();
    walk.finish();
}

#[test]
fn move_policies_of_an_admission_controller() {
    let mut shop = Shop::new();
    shop.require_signatures();
    let mut walk = shop.machine.walk("docs/migrating.md");
    walk.take_with("toml", "path = \"hub-proxy\"");
    walk.take_with("toml", "default_upstream");
    walk.finish();
}

#[test]
fn find_out_what_does_not_work() {
    let mut shop = Shop::open();
    shop.require_signatures();
    let file = shop.machine.dir().join(CONFIGURATION);
    let mut walk = shop.machine.walk("docs/troubleshooting.md");
    let mistake = walk.take_with("console", "gate/pullgate.toml:18:1: error: upstream[0].tag_tll");
    walk.machine.stop(CONFIGURATION);
    let configuration = fs::read_to_string(&file).expect("a file");
    // Without a report, there would be a note.
    walk.machine.write("gate/reports/app.json", &report(&format!("sha256:{}", "0".repeat(64))).to_string());
    let blank = "\n".repeat(18 - configuration.lines().count());
    fs::write(&file, format!("{configuration}{blank}tag_tll = \"5m\"\n")).expect("a file");
    walk.run(&mistake);
    fs::write(&file, configuration).expect("a file");
    walk.machine.serve(CONFIGURATION);
    walk.finish();
}
