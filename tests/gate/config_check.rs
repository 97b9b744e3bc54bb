//! `pullgate config check` names every mistake of a configuration and of what it names, in one run.

#![allow(clippy::too_many_lines, clippy::unwrap_used, reason = "tables of mistakes, and their files")]

mod all_at_once;
mod environment;
mod ineffective;
mod mistakes;
mod policies;
mod running;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::commands::text;
use crate::harness::ALLOW_ALL;
use crate::program::Program;
use crate::support::{TestRegistry, soon, temp_dir};
use mistakes::prepared;

/// A folder with a configuration and what it names, without mistakes.
pub(crate) struct Checked {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) upstream: String,
}

impl Checked {
    pub(crate) fn new() -> Self {
        let folder = temp_dir();
        let made = Self { folder, upstream: String::new() };
        fs::create_dir(made.path().join("policies")).unwrap();
        made.file("policies/default.yaml", ALLOW_ALL);
        made
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str, content: &str) {
        fs::write(self.path().join(name), content).unwrap();
    }

    /// A certificate, valid in these years, and its key.
    pub(crate) fn certificate(&self, name: &str, from: i32, until: i32) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        self.file(&format!("{name}.crt"), &params.self_signed(&key).unwrap().pem());
        self.file(&format!("{name}.key"), &key.serialize_pem());
        close(&self.path().join(format!("{name}.key")));
    }

    /// A good configuration with these lines at its beginning, in `[[upstream]]`, and at its end.
    pub(crate) fn write(&self, first: &str, last: &str) {
        let state = if first.contains("state_dir") { "" } else { "state_dir = \"state\"\n" };
        let upstream = &self.upstream;
        let listeners = if last.contains("[[listener]]") { "" } else { "[[listener]]\naddress = \"127.0.0.1:0\"\n" };
        let admin = if last.contains("[admin]") { "" } else { "[admin]\naddress = \"127.0.0.1:0\"\n" };
        let policy = if last.contains("[policy]") { "" } else { "[policy]\ndir = \"policies\"\n" };
        let text = format!(
            "{first}\n{state}{listeners}{admin}{policy}[[upstream]]\nhost = \"registry.test\"\n{upstream}\n{last}\n"
        );
        self.file("pullgate.toml", &text);
    }

    pub(crate) fn run(&self, words: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
        command.args(words).arg("--config").arg(self.path().join("pullgate.toml"));
        command.envs(environment.iter().copied()).output().unwrap()
    }

    /// The problems of a run, as JSON.
    pub(crate) fn problems(&self, words: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, Vec<Value>) {
        let mut all = vec!["config", "check", "--output", "json"];
        all.extend(words);
        let output = self.run(&all, environment);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        (output.status.code(), answer["problems"].as_array().unwrap().clone())
    }
}

/// Each mistake is named once, in the order of the file; one does not hide another.
#[test]
fn mistakes_are_named_once_and_in_order() {
    let made = prepared("");
    let folder = made.path().display().to_string();
    let tls = "tls = { certificate = \"good.crt\", key = \"other.key\", client_ca = \"junk\" }";
    let last = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n{tls}\n[tracing]\nendpoint = \"xx\"\n\
         [va.database]\nosv = [\"ftp://a.test\"]\n[audit]\nfile = \"{folder}/absent/audit.jsonl\"\n"
    );
    made.write("", &last);
    let (code, problems) = made.problems(&[], &[]);
    let lines: Vec<String> = problems.iter().map(line).collect();
    let wanted = [
        "error: listener[0].tls.key: FOLDER/other.key: this is not the key",
        "error: listener[0].tls.client_ca: FOLDER/junk: no certificate",
        "error: tracing.endpoint: ",
        "error: va.database.osv: ",
        "note: audit.file: FOLDER/absent: this directory will be created",
    ];
    for wanted in wanted {
        let wanted = wanted.replace("FOLDER", &folder);
        assert_eq!(lines.iter().filter(|line| line.contains(&wanted)).count(), 1, "{wanted}\n{lines:#?}");
    }
    let errors = lines.iter().filter(|line| line.contains(": error: ")).count();
    assert_eq!((code, errors), (Some(78), 4), "{lines:#?}");
    let places: Vec<u64> = problems.iter().filter_map(|problem| problem["line"].as_u64()).collect();
    assert!(places.is_sorted(), "{lines:#?}");
}

/// Removes the access of others to a key.
pub(crate) fn close(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

pub(crate) fn line(problem: &Value) -> String {
    let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    format!("{}:{}: {}: {}", text("file"), problem["line"], text("severity"), text("message"))
}

/// A good configuration has no problem, not even a warning.
#[test]
fn a_good_configuration_passes() {
    let made = Checked::new();
    made.certificate("server", 2020, 2090);
    made.write(
        "",
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = { certificate = \"server.crt\", key = \"server.key\" }\n",
    );
    let (code, problems) = made.problems(&["--strict"], &[]);
    assert_eq!((code, problems), (Some(0), vec![]));
    let output = made.run(&["config", "check"], &[]);
    assert!(text(&output).starts_with("ok: 1 listener, 1 upstream,"), "{}", text(&output));
    assert!(!made.path().join("state").exists(), "nothing is created");
}

/// Kubernetes mounts a `ConfigMap` with all permissions, and read-only.
#[test]
fn read_only_mounts_cannot_be_changed() {
    let made = prepared("");
    made.write("", "[policy]\ndir = \"shared-folder\"");
    let folder = made.path().join("shared-folder");
    let run = |mount: &str| -> Option<Output> {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", &format!("{mount}; shift; \"$@\""), "sh"]);
        command.arg(&folder).arg(env!("CARGO_BIN_EXE_pullgate")).args(["config", "check", "--strict", "--config"]);
        let output = command.arg(made.path().join("pullgate.toml")).output().ok()?;
        // Where the system does not permit it, nothing can be mounted.
        let is_permitted = !["unshare: ", "mount: "].iter().any(|tool| text(&output).contains(tool));
        is_permitted.then_some(output)
    };
    let Some(output) = run(":") else {
        println!("skipped: this system does not permit namespaces");
        return;
    };
    let said = text(&output);
    assert!(said.contains("policy.dir: ") && said.contains("every user of this machine can change it"), "{said}");
    let Some(output) = run("mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro \"$1\"") else {
        println!("skipped: this system does not permit mounts in namespaces");
        return;
    };
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// Paths without a folder are in the folder of the configuration, also where that has no name.
#[test]
fn a_configuration_in_the_current_directory_passes() {
    let made = Checked::new();
    made.write("", "[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"a.sock\"\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
    command.current_dir(made.path()).env_remove("PULLGATE_CONFIG").args(["config", "check", "--strict"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_cache_that_is_larger_than_its_disk_is_reported() {
    let made = Checked::new();
    made.write("", "[cache]\nmax_size = \"1000000TiB\"\n");
    let (code, problems) = made.problems(&[], &[]);
    assert_eq!((code, problems.len()), (Some(0), 1), "{problems:?}");
    assert!(line(&problems[0]).contains("warning: cache.max_size: the disk of `state_dir` has only "), "{problems:?}");
}

/// What a full disk or an incomplete restore leaves is not taken for a new gate.
#[test]
fn a_database_that_has_lost_its_content_is_reported() {
    let made = Checked::new();
    made.write("", "");
    fs::create_dir(made.path().join("state")).unwrap();
    made.file("state/pullgate.db-reserve", "");
    let found = || {
        let (code, problems) = made.problems(&[], &[]);
        (code, problems.iter().map(line).collect::<Vec<_>>().join("\n"))
    };
    let (code, text) = found();
    assert!(code == Some(0) && text.contains("pullgate.db: there is no database, although"), "{text}");
    made.file("state/pullgate.db", "");
    let (code, text) = found();
    assert!(code == Some(78) && text.contains("error: state_dir: "), "{text}");
    assert!(text.contains("pullgate.db: the database is empty, although") && text.contains("notary roots"), "{text}");
    made.file("state/pullgate.db", &"no database ".repeat(1000));
    let (code, text) = found();
    assert!(code == Some(78) && text.contains("pullgate.db: the database is damaged: "), "{text}");
}

/// What is behind a link in the state directory is pullgate's own, too.
#[test]
fn a_file_behind_a_link_in_the_state_directory_is_found() {
    let made = Checked::new();
    for folder in ["state", "elsewhere"] {
        fs::create_dir_all(made.path().join(folder)).unwrap();
    }
    std::os::unix::fs::symlink(made.path().join("elsewhere"), made.path().join("state/blobs")).unwrap();
    made.write("", "[audit]\nfile = \"blobs/audit.jsonl\"");
    let (_, problems) = made.problems(&[], &[]);
    let is_found = |problem: &Value| problem.to_string().contains("this is pullgate's own blobs");
    assert!(problems.iter().any(is_found), "{problems:?}");
}

/// Records that are appended to a key, or a rotation that replaces it, would disable what depends on it.
#[test]
fn audit_files_are_not_files_that_authorities_and_policies_name() {
    let authority = "[trust.authority.release.cosign.key]\nfile = \"release.1\"\n";
    let policy = "apiVersion: pullgate.io/v1
kind: ClusterImagePolicy
metadata: {name: keys}
spec:
  authorities:
  - name: own
    cosign: {key: {file: ../release.1}}
  repositories:
  - {name: \"registry.test/*\", policy: {trust: own}}
";
    let rotated = "which a rotation of the audit file replaces";
    for (authority, policy, audit, wanted) in [
        (authority, "", "release.1", "audit.file: FOLDER/release.1: this is a file of trust.authority".to_owned()),
        (authority, "", "release", format!("FOLDER/release.1: this is a file of trust.authority, {rotated}")),
        ("", policy, "release.1", "audit.file: FOLDER/release.1: this is a file that a policy names".to_owned()),
        ("", policy, "release", format!("FOLDER/release.1: this is a file that a policy names, {rotated}")),
        (authority, policy, "release.jsonl", String::new()),
        (authority, policy, "release.0", String::new()),
    ] {
        let made = Checked::new();
        made.file("release.1", &rcgen::KeyPair::generate().unwrap().public_key_pem());
        if !policy.is_empty() {
            made.file("policies/keys.yaml", policy);
        }
        made.write("", &format!("{authority}[audit]\nfile = \"../{audit}\""));
        let (code, mut problems) = made.problems(&[], &[]);
        problems.retain(|problem| problem["severity"] == "error");
        let lines: Vec<String> = problems.iter().map(line).collect();
        let wanted = wanted.replace("FOLDER", &made.path().display().to_string());
        let count = usize::from(!wanted.is_empty());
        assert!(lines.len() == count && lines.iter().all(|line| line.contains(&wanted)), "{audit}: {lines:#?}");
        assert_eq!(code, Some(if count == 0 { 0 } else { 78 }), "{audit}: {lines:?}");
    }
}

/// An alias that repeats a name of its own upstream is harmless, for the check and for the gate.
#[test]
fn an_alias_may_repeat_a_name_of_its_upstream() {
    let made = Checked { upstream: "aliases = [\"registry.test\", \"b.test\", \"b.test\"]\n".into(), ..Checked::new() };
    made.write("", "");
    assert_eq!(made.problems(&["--strict"], &[]), (Some(0), vec![]));
    let made = Checked { upstream: "aliases = [\"b.test\"]\n".into(), ..Checked::new() };
    made.write("", "[[upstream]]\nhost = \"c.test\"\naliases = [\"b.test\"]");
    let (code, problems) = made.problems(&[], &[]);
    assert_eq!((code, problems.len()), (Some(78), 1), "{problems:?}");
    assert!(
        line(&problems[0]).contains("upstream[1].aliases: another upstream also has the name \"b.test\""),
        "{problems:?}"
    );
}

/// What `serve` would find out about ports and variables only when it starts.
#[test]
fn listeners_of_one_port_and_variables_of_collectors_are_checked() {
    let made = Checked::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listener = |host: &str| format!("[[listener]]\naddress = \"{host}:{free}\"\n");
    made.write("", &(listener("localhost") + &listener("0.0.0.0")));
    let (_, problems) = made.problems(&[], &[]);
    let lines: Vec<String> = problems.iter().map(line).collect();
    let wanted =
        format!("listener[1].address: 0.0.0.0:{free} cannot be used, because listener[0].address is localhost:");
    assert!(lines.len() == 1 && lines[0].contains(&wanted), "{lines:?}");
    made.write("", &format!("{}[admin]\naddress = \"127.0.0.1:{free}\"\n", listener("0.0.0.0")));
    let (_, problems) = made.problems(&[], &[]);
    let lines: Vec<String> = problems.iter().map(line).collect();
    let wanted = format!("admin.address: 127.0.0.1:{free} cannot be used, because listener[0].address is 0.0.0.0:");
    assert!(lines.len() == 1 && lines[0].contains(&wanted), "{lines:?}");
    // An upstream that is the gate itself.
    let around = Checked { upstream: format!("url = \"http://localhost:{free}\""), ..Checked::new() };
    around.write("", &listener("0.0.0.0"));
    let (_, problems) = around.problems(&[], &[]);
    let lines: Vec<String> = problems.iter().map(line).collect();
    let wanted = "warning: upstream[0].url: this is listener[0] of the gate itself";
    assert!(lines.len() == 1 && lines[0].contains(wanted), "{lines:?}");
    made.write("", "");
    for (variables, severity, wanted) in [
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317")][..], "error", "is not an http:// or https:// URL"),
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a.test:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            "warning",
            "OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\"",
        ),
    ] {
        let (_, problems) = made.problems(&[], variables);
        let lines: Vec<String> = problems.iter().map(line).collect();
        assert!(lines.len() == 1 && lines[0].contains(severity) && lines[0].contains(wanted), "{lines:?}");
    }
}

/// Mistakes of variables name the variable.
#[test]
fn lists_in_variables_are_separated_by_commas() {
    let made = Checked::new();
    made.write("", "");
    for (value, wanted) in [
        ("[\"linux/amd64\",\"linux/arm64\"]", "gate.platforms: this variable is a list, and not JSON"),
        ("linux/amd64 linux/arm64", "gate.platforms: \"linux/amd64 linux/arm64\" contains a blank"),
    ] {
        let (code, problems) = made.problems(&[], &[("PULLGATE__GATE__PLATFORMS", value)]);
        let lines: Vec<String> = problems.iter().map(line).collect();
        let wanted = format!("environment variable PULLGATE__GATE__PLATFORMS:0: error: {wanted}");
        assert!(code == Some(78) && lines[0].starts_with(&wanted), "{lines:?}");
    }
    let good = made.problems(&[], &[("PULLGATE__GATE__PLATFORMS", "linux/amd64, linux/arm64")]);
    assert_eq!(good, (Some(0), vec![]));
}

/// What is missing is named together, and nothing is said about what is not set.
#[test]
fn an_empty_configuration_lacks_its_required_keys() {
    let made = Checked::new();
    made.file("pullgate.toml", "# nothing\n");
    for environment in [&[][..], &[("PULLGATE__POLICY__DIR", "")][..]] {
        let (code, problems) = made.problems(&[], environment);
        let lines: Vec<String> = problems.iter().map(line).collect();
        assert_eq!(code, Some(78), "{lines:#?}");
        for wanted in ["policy.dir: the ", "upstream: at least one upstream is required"] {
            assert!(lines.iter().any(|line| line.contains(wanted)), "{wanted}\n{lines:#?}");
        }
        assert!(!lines.iter().any(|line| line.contains("in policy.dir")), "{lines:#?}");
    }
    // One mistake does not hide what else is missing.
    let made = Checked { upstream: "auth = { type = \"helper\" }".to_owned(), ..made };
    made.write("unknown = 1", "");
    let (_, problems) = made.problems(&[], &[]);
    let lines: Vec<String> = problems.iter().map(line).collect();
    assert!(lines.iter().any(|line| line.contains("upstream[0].auth.program: helper needs the name")), "{lines:#?}");
}

/// What the file is matters before what is in it.
#[test]
fn files_of_another_syntax_are_recognised() {
    let made = Checked::new();
    let yaml = "policy:\n  dir: policies\nupstream:\n- host: a.test\n";
    made.file("pullgate.toml", yaml);
    let said = text(&made.run(&["config", "check"], &[]));
    assert!(said.contains("this looks like YAML") && said.contains("rename it to pullgate.yaml"), "{said}");
    made.file("pullgate.toml", "[policy\n");
    let said = text(&made.run(&["config", "check"], &[]));
    assert!(said.contains("pullgate.toml:1:8: error: not TOML") && !said.contains("YAML"), "{said}");
    made.file("pullgate.json", "{\"policy\": {\"dir\": \"policies\"}}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
    let output = command.args(["config", "check", "--config"]).arg(made.path().join("pullgate.json")).output().unwrap();
    let said = text(&output);
    assert!(output.status.code() == Some(78) && said.contains("can be called pullgate.yaml"), "{said}");
}
