//! Policies that can only deny, because nothing can deliver what they ask for, are reported before anybody pulls.

#![allow(clippy::unwrap_used, reason = "a test fails there")]

use std::net::TcpListener;

use crate::commands::text;
use crate::config_check::{Checked, line};
use crate::harness::{ALLOW_ALL, TestGate, metric};
use crate::program::Program;
use crate::support::{TestRegistry, request};

const CISE: &str = "securityenforcement.admission.cloud.ibm.com/v1beta1";
const PORTIERIS: &str = "portieris.cloud.ibm.com/v1";
const OWN: &str = "pullgate.io/v1";
const UNSCANNED: &str =
    "UNSCANNED: no source of vulnerabilities knows images of registry.test: every image that this entry selects";
const UNSIGNED: &str = "no notary server is known for registry.test: every image that this entry selects";

fn document(dialect: &str, policy: &str) -> String {
    format!(
        "apiVersion: {dialect}\nkind: ClusterImagePolicy\nmetadata: {{name: d}}\nspec:\n  repositories:\n  - name: '*'\n    \
         policy: {policy}\n"
    )
}

/// `config check`, `policy check` with the configuration, and the log of a start name the entry.
#[test]
fn a_policy_that_can_only_deny_is_reported() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = format!("[[listener]]\naddress = \"{}\"\n", taken.local_addr().unwrap());
    for (dialect, policy, upstream, last, wanted) in [
        (OWN, "{va: {severity: high}}", "", "", Some(UNSCANNED)),
        (CISE, "{va: {enabled: true}}", "", "", Some(UNSCANNED)),
        (PORTIERIS, "{vulnerability: {ICCRVA: {enabled: true}}}", "", "", Some(UNSCANNED)),
        // IBM's service answers for its own registries only.
        (CISE, "{va: {enabled: true}}", "", "[va.ibm]\napi_key_file = \"key\"\n", Some(UNSCANNED)),
        (CISE, "{trust: {enabled: true}}", "", "", Some(UNSIGNED)),
        (PORTIERIS, "{trust: {enabled: true}}", "", "", Some(UNSIGNED)),
        (OWN, "{trust: notary}", "", "", Some(UNSIGNED)),
        (OWN, "{va: {unscanned: allow}}", "", "", None),
        (OWN, "{va: {}}", "", "[va]\nreports = [\"reports\"]\n", None),
        (OWN, "{va: {}}", "", "[va]\nreports = [\"absent\"]\n", None),
        (OWN, "{va: {}}", "", "[va.ibm]\napi_key_file = \"key\"\nhosts = [\"registry.test\"]\n", None),
        (OWN, "{trust: notary}", "notary = \"https://notary.test\"\n", "", None),
    ] {
        let made = Checked { upstream: upstream.to_owned(), ..Checked::new() };
        std::fs::create_dir(made.path().join("reports")).unwrap();
        made.file("key", "not-a-real-key");
        made.file("policies/default.yaml", &document(dialect, policy));
        made.write("", &format!("{last}{listener}"));
        let (_, problems) = made.problems(&[], &[]);
        let found: Vec<String> = problems.iter().map(line).filter(|line| line.contains("this entry selects")).collect();
        let place = "policies/default.yaml:6: warning: ";
        let is_named = |wanted: &str| found.len() == 1 && found[0].contains(wanted) && found[0].contains(place);
        assert!(wanted.map_or(found.is_empty(), is_named), "{dialect} {policy} {last}\n{problems:#?}");
        let folder = made.path().join("policies").display().to_string();
        let checked = text(&made.run(&["policy", "check", &folder], &[]));
        // The port of the listener is taken, so the start ends after its warnings.
        let started = text(&made.run(&["serve"], &[]));
        for said in [checked, started] {
            assert_eq!(
                said.matches("this entry selects").count(),
                usize::from(wanted.is_some()),
                "{policy} {last}\n{said}"
            );
        }
    }
}

/// Directories that contain no report yet count as a source, but they may be the wrong ones.
#[test]
fn directories_without_reports_are_noted() {
    for (reports, is_noted) in
        [("[]", false), ("[\"empty\"]", true), ("[\"empty\", \"reports\"]", false), ("[\"reports\"]", false)]
    {
        let made = Checked::new();
        std::fs::create_dir(made.path().join("reports")).unwrap();
        made.file("reports/app.json", include_str!("../data/va/trivy.json"));
        std::fs::create_dir_all(made.path().join("empty/of/files")).unwrap();
        made.file("empty/.unfinished", "{");
        made.write("", &format!("[va]\nreports = {reports}\n"));
        let (_, problems) = made.problems(&[], &[]);
        let found: Vec<String> = problems.iter().map(line).filter(|line| line.contains("va.reports")).collect();
        let is_note = |found: &String| found.ends_with(": note: va.reports: there is no report in it yet");
        assert_eq!((found.len(), found.iter().all(is_note)), (usize::from(is_noted), true), "{reports}: {problems:#?}");
    }
}

/// An entry that names a registry by its alias or path applies to nothing, so another one admits what it should deny.
#[test]
fn an_entry_for_another_name_of_a_registry_is_reported() {
    for (name, wanted) in [
        (
            "r.test/*",
            "warning: \"r.test/*\" matches no image that this gate serves: r.test is another name of registry.test",
        ),
        ("hub/*", "warning: \"hub/*\" matches no image that this gate serves: hub is another name of registry.test"),
        ("elsewhere.test/*", "note: \"elsewhere.test/*\" matches no image that this gate serves"),
    ] {
        let upstream = "aliases = [\"r.test\"]\npath = \"hub\"\n".to_owned();
        let made = Checked { upstream, ..Checked::new() };
        let policy = document(OWN, "{}");
        let entry = format!("  - name: '{name}'\n    policy: {{trust: reject}}\n");
        made.file("policies/default.yaml", &format!("{policy}{entry}"));
        made.write("", "");
        let lines: Vec<String> = made.problems(&[], &[]).1.iter().map(line).collect();
        assert!(lines.len() == 1 && lines[0].contains(&format!("policies/default.yaml:8: {wanted}")), "{lines:#?}");
        let folder = made.path().join("policies").display().to_string();
        let said = text(&made.run(&["policy", "check", &folder], &[]));
        assert!(said.contains(wanted), "{said}");
        assert_eq!(text(&made.run(&["policy", "check"], &[])), said, "the configuration names the same folder");
    }
}

/// Commands about policies find them by the configuration, or must be told where they are.
#[test]
fn the_configuration_names_the_policies() {
    let made = Checked::new();
    made.write("", "");
    let output = made.run(&["policy", "match", "registry.test/app"], &[]);
    assert!(output.status.success() && text(&output).contains("ClusterImagePolicy/default"), "{}", text(&output));
    for words in [&["policy", "check"][..], &["policy", "match", "registry.test/app"], &["policy", "eval"]] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pullgate"));
        let output = command.args(words).env_remove("PULLGATE_CONFIG").output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{words:?} {}", text(&output));
        assert!(text(&output).contains("--config"), "{}", text(&output));
    }
}

/// A gate whose documents are all in audit mode says so where it says its mode.
#[tokio::test]
async fn a_gate_reports_that_all_policies_are_audited() {
    let registry = TestRegistry::start().await;
    let audited = ALLOW_ALL.replace("spec:\n", "spec:\n  mode: audit\n");
    for (policy, is_told) in [(&*audited, true), (ALLOW_ALL, false)] {
        let said = "all policies are in audit mode: WHAT THEY DENY IS SERVED";
        let gate = TestGate::new(&registry, policy).start().await;
        let ready = request("GET", &gate.admin_url("/readyz?verbose"), &[]).await.text();
        assert_eq!(ready.contains(&format!("policy: {said}")), is_told, "{ready}");
        assert_eq!(metric(&gate, "pullgate_audit_mode").await, u64::from(is_told));
        gate.stop().await;
        let made = TestGate::new(&registry, policy);
        let log = Program::start(&made).await.log();
        assert_eq!(log.contains(said), is_told, "{log}");
        let made = Checked::new();
        made.file("policies/default.yaml", policy);
        made.write("", "");
        let notes: Vec<String> = made.problems(&[], &[]).1.iter().map(line).collect();
        assert_eq!(notes.iter().any(|note| note.contains("note: policy.dir: all policies are in audit mode")), is_told);
    }
}

/// The policies of a namespace that no client has decide about nothing.
#[test]
fn policies_of_a_namespace_without_clients_are_reported() {
    for (scope, is_told) in [("scope = \"ci\"\n", false), ("", true)] {
        let made = Checked::new();
        let own =
            ALLOW_ALL.replace("ClusterImagePolicy", "ImagePolicy").replace("name: default", "name: own, namespace: ci");
        made.file("policies/own.yaml", &own);
        made.write("", &format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{scope}"));
        let lines: Vec<String> = made.problems(&[], &[]).1.iter().map(line).collect();
        let wanted = "policies/own.yaml:6: warning: no client has the namespace \"ci\"";
        assert_eq!(lines.iter().filter(|line| line.contains(wanted)).count(), usize::from(is_told), "{lines:#?}");
        assert_eq!(lines.len(), usize::from(is_told), "{lines:#?}");
    }
}

/// A file where a directory of reports is meant: the hint says so.
#[test]
fn a_report_in_place_of_its_directory_has_its_own_hint() {
    let made = Checked::new();
    made.file("report.json", "{}");
    std::fs::create_dir(made.path().join("reports")).unwrap();
    made.file("reports/broken.json", "{");
    // The name of the directory begins as that of the file does.
    std::fs::create_dir(made.path().join("report.json2")).unwrap();
    made.file("report.json2/broken.json", "{");
    made.write("", "[va]\nreports = [\"report.json\", \"report.json2\", \"reports\"]\n");
    let (_, problems) = made.problems(&[], &[]);
    for problem in &problems {
        let is_of_file =
            problem["message"].as_str().is_some_and(|why| why.ends_with("report.json: this is not a directory"));
        assert_eq!(problem["hint"] == "name the directory that contains this file", is_of_file, "{problem}");
    }
    let hints: Vec<&str> = problems.iter().filter_map(|problem| problem["hint"].as_str()).collect();
    assert!(hints.contains(&"name the directory that contains this file"), "{problems:#?}");
    assert!(hints.contains(&"images that depend on it do not count as scanned"), "{problems:#?}");
}
