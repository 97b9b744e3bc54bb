//! Scanners as programs: what they print decides, and whatever else they do never makes an image clean.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use pullgate::sample::image::{Built, Image, Layer, Tree};
use pullgate::sample::{Fault, On};
use serde_json::Value;

use crate::commands::text;
use crate::harness::{HOST, TestGate, policy};
use crate::program::Program;
use crate::support::{TestRegistry, request, soon};

const SCANNED: &str = "  - {name: \"*\", policy: {va: {severity: low}}}\n";

/// A program with the options and the output of Trivy, and of Grype if it is called so. The file `mode` next to it says what
/// it does, and `runs` lists what it did.
const FAKE: &str = r#"#!/bin/sh
here=$(dirname "$0")
version() { cat "$here/version.json" 2>/dev/null || echo '{"Version":"0.72.0","VulnerabilityDB":{"UpdatedAt":"2026-01-02T03:04:05Z"}}'; }
for word; do case $word in
  version) case $0 in *grype*) echo '{"application":"grype","version":"0.121.2"}' ;; *) version ;; esac; exit ;;
  db) echo '{"built":"2026-01-02T03:04:05Z","valid":true}'; exit ;;
  /*/image) image=$word ;;
  oci-dir:*) image=${word#oci-dir:} ;;
esac; done
mode=$(cat "$here/mode")
echo "$mode $*" >> "$here/runs"
digest=$(grep -o 'sha256:[0-9a-f]*' "$image/index.json" | head -n 1)
config=$(grep -o '"config":{[^}]*}' "$image/blobs/sha256/${digest#sha256:}" | grep -o 'sha256:[0-9a-f]*')
report() { case $0 in
  *grype*) echo '{"matches":[],"source":{"type":"image","target":{"userInput":"x","imageID":"'"$1"'","manifestDigest":"'"$digest"'"}},"distro":{"name":"debian","version":"12"},"descriptor":{"name":"grype","version":"0.121.2","timestamp":"2026-01-03T00:00:00Z"}}' ;;
  *) echo '{"SchemaVersion":2,"Trivy":{"Version":"0.72.0"},"CreatedAt":"2026-01-03T00:00:00Z","ArtifactName":"'"$image"'","ArtifactType":"container_image","Metadata":{"OS":{"Family":"debian","Name":"12.5"},"ImageID":"'"$1"'"},"Results":[{"Class":"os-pkgs","Type":"debian","Packages":[{"ID":"a@1"}],"Vulnerabilities":['"$2"']}]}' ;;
esac; }
case $mode in
  clean) report "$config" ;;
  found) report "$config" '{"VulnerabilityID":"CVE-2024-1","PkgName":"openssl","Severity":"HIGH","FixedVersion":"3.0.13"}' ;;
  empty) ;;
  nonsense) report "$config" | head -c 100 ;;
  other) report sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff ;;
  fails) report "$config"; echo 'the database is locked' >&2; exit 1 ;;
  hangs) sleep 31536 ;;
  floods) head -c 70000000 /dev/zero ;;
  forks) sleep 31537 & report "$config" ;;
  looks)
    ip=$(grep -c : /proc/net/dev)
    if echo x 2>/dev/null >> "$image/index.json"; then write=writable; else write=read-only; fi
    if echo x > "$TMPDIR/x"; then temporary=writable; else temporary=read-only; fi
    privileges=$(sed -n 's/^NoNewPrivs:[^0-9]*//p' /proc/self/status)
    seen="interfaces=$ip image=$write tmp=$temporary nnp=$privileges files=$(ulimit -n) core=$(ulimit -c) secret=$PULLGATE_TEST_SECRET"
    for blob in "$image"/blobs/sha256/*; do [ "sha256:$(sha256sum < "$blob" | cut -d' ' -f1)" = "sha256:$(basename "$blob")" ] || seen="$seen wrong=$blob"; done
    capabilities=$(sed -n 's/^Cap[EPIB].*:[^0-9a-f]*//p' /proc/self/status | sort -u | tr -d '\n')
    [ -S "$here/../state/admin.sock" ] && hidden=no || hidden=yes
    [ -S "$here/../elsewhere.sock" ] && hidden=no
    [ -e "$PWD/../../../admin.sock" ] && hidden=no
    umount "$here/../state" 2>/dev/null && hidden=undone
    echo "hidden=$hidden capabilities=$capabilities" > "$here/mounts"
    echo "$seen" > "$here/seen"
    report "$config" ;;
esac
"#;

/// A gate that asks these programs, with more lines for each.
fn asking(registry: &TestRegistry, scanners: &[(&str, &str)]) -> TestGate {
    let mut made = TestGate::new(registry, &policy(SCANNED));
    for (name, lines) in scanners {
        let folder = made.path().join(name);
        fs::create_dir(&folder).expect("a folder");
        let file = folder.join(name);
        fs::write(&file, FAKE).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("permissions");
        made = made.with(&format!("[[va.scanner]]\nkind = \"{name}\"\ncommand = \"{name}/{name}\"\n{lines}\n"));
    }
    made
}

fn mode(made: &TestGate, scanner: &str, mode: &str) {
    fs::write(made.path().join(scanner).join("mode"), mode).expect("a file");
}

fn runs(made: &TestGate, scanner: &str) -> usize {
    fs::read_to_string(made.path().join(scanner).join("runs")).map_or(0, |text| text.lines().count())
}

fn image(name: &str) -> Built {
    let layer = |text: &str| Layer::gzip(&Tree::new().file("a", format!("{name} {text}")));
    Image::linux_amd64().layer(layer("one")).layer(layer("two")).build()
}

/// The processes with these words in their command line.
fn running(words: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").expect("processes").filter_map(Result::ok).map(|entry| entry.path());
    let is_it = |path: &PathBuf| {
        fs::read(path.join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).replace('\0', " ").contains(words))
    };
    entries.filter(is_it).collect()
}

async fn until_gone(words: &str) {
    soon(async {
        while !running(words).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

fn command(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
    command.args(arguments).arg("--config").arg(folder.join("pullgate.toml")).output().expect("it runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_report_on_the_image_decides() {
    let registry = TestRegistry::start().await;
    let made = asking(&registry, &[("trivy", "timeout = \"3s\"")]);
    mode(&made, "trivy", "clean");
    let gate = Program::start(&made).await;
    for (name, status, reason) in [
        ("clean", 200, ""),
        ("found", 403, "CVE-2024-1 high openssl fixed in 3.0.13"),
        ("empty", 503, "trivy: its output is not a report on this image: not a JSON object"),
        ("nonsense", 503, "trivy: its output is not a report on this image"),
        ("other", 503, "it is about sha256:ffff"),
        ("fails", 503, "trivy: it failed (exit code 1): the database is locked"),
        ("hangs", 503, "trivy: it took longer than 3 s"),
        ("floods", 503, "trivy: its output is larger than 64 MiB"),
        ("forks", 200, ""),
    ] {
        registry.push(&format!("team/{name}"), Some("1"), &image(name));
        mode(&made, "trivy", name);
        let answer = gate.get(&format!("/team/{name}/manifests/1")).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        assert!(answer.text().contains(reason), "{name}: {}", answer.text());
    }
    until_gone("sleep 31536").await;
    until_gone("sleep 31537").await;
    let left: Vec<_> = fs::read_dir(made.path().join("state/scans")).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(registry.count(|r| r.is("GET", "/team/clean/blobs/")), 3, "nothing is downloaded twice");
    let metrics = request("GET", &gate.admin_url("/metrics"), &[]).await.text();
    for (outcome, count) in [("report", 3), ("failed", 6)] {
        let line = format!("pullgate_va_scans_total{{scanner=\"trivy\",outcome=\"{outcome}\"}} {count}");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    assert!(metrics.contains("pullgate_va_scan_seconds_count{scanner=\"trivy\"} 9"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_is_kept_until_the_database_changes() {
    let registry = TestRegistry::start().await;
    let made = asking(&registry, &[("trivy", "refresh = \"1s\"")]);
    registry.push("team/app", Some("1"), &image("kept"));
    mode(&made, "trivy", "clean");
    let gate = Program::start(&made).await;
    let ask = || gate.get("/team/app/manifests/1");
    // Requests at the same time share a scan.
    let (one, two) = tokio::join!(ask(), ask());
    assert_eq!((one.status, two.status, ask().await.status), (200, 200, 200), "{}", one.text());
    assert_eq!(runs(&made, "trivy"), 1);
    gate.kill().await;
    let gate = Program::start(&made).await;
    assert_eq!(gate.get("/team/app/manifests/1").await.status, 200);
    assert_eq!(runs(&made, "trivy"), 1, "it is kept over a restart");
    mode(&made, "trivy", "found");
    let newer = r#"{"Version":"0.72.0","VulnerabilityDB":{"UpdatedAt":"2026-01-03T03:04:05Z"}}"#;
    fs::write(made.path().join("trivy/version.json"), newer).expect("a file");
    soon(async { while gate.get("/team/app/manifests/1").await.status != 403 {} }).await;
    assert_eq!(runs(&made, "trivy"), 2);
    // Without its version, nothing is known about what it knows.
    fs::write(made.path().join("trivy/version.json"), r#"{"Version":"0.72.0"}"#).expect("a file");
    soon(async { while gate.get("/team/app/manifests/1").await.status != 503 {} }).await;
    let ready = request("GET", &gate.admin_url("/readyz"), &[]).await.json();
    let why = ready["degraded"]["scanner trivy"].as_str().unwrap_or_default();
    assert!(why.contains("--download-db-only"), "{ready}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_scanner_is_asked_if_one_fails() {
    let registry = TestRegistry::start().await;
    let made = asking(&registry, &[("trivy", "name = \"first\""), ("grype", "")]);
    made.config();
    for (trivy, grype, status, source) in [
        ("nonsense", "clean", "OK", "grype 0.121.2"),
        ("clean", "nonsense", "OK", "first (trivy 0.72.0)"),
        ("found", "clean", "FAIL", "first (trivy 0.72.0)"),
        ("other", "fails", "UNSCANNED", ""),
    ] {
        registry.push(&format!("team/{trivy}-{grype}"), Some("1"), &image(&format!("{trivy} {grype}")));
        mode(&made, "trivy", trivy);
        mode(&made, "grype", grype);
        let name = format!("{HOST}/team/{trivy}-{grype}:1");
        let (folder, asked) = (made.path().to_owned(), name.clone());
        let arguments = ["va", &*name, "--offline", "--output", "json"].map(str::to_owned);
        let answered = tokio::task::spawn_blocking(move || {
            command(&folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
        });
        let output = soon(answered).await.expect("it ends");
        let scans: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        assert_eq!(scans[0]["status"], status, "{asked}: {scans}");
        assert_eq!(scans[0]["source"].as_str().unwrap_or_default(), source, "{asked}: {scans}");
        let why = scans[0]["why"].as_str().unwrap_or_default();
        assert!(status != "UNSCANNED" || why.contains("first: "), "the first failure is the reason: {scans}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_content_makes_a_report_incomplete() {
    let registry = TestRegistry::start().await;
    let hidden = Layer::gzip(
        &Tree::new().file("etc/os-release", "ID=debian\nVERSION_ID=12\n").symlink("var/lib/dpkg/status", "/hidden"),
    );
    registry.push("team/app", Some("1"), &Image::linux_amd64().layer(hidden).build());
    for (line, found, status, reason) in [
        ("", "clean", 403, "var/lib/dpkg/status"),
        ("", "found", 403, "CVE-2024-1 high openssl fixed in 3.0.13"),
        ("trust_coverage = true", "clean", 200, ""),
    ] {
        let made = asking(&registry, &[("trivy", line)]);
        mode(&made, "trivy", found);
        let gate = Program::start(&made).await;
        let answer = gate.get("/team/app/manifests/1").await;
        assert_eq!(answer.status, status, "{line} {found}: {}", answer.text());
        assert!(answer.text().contains(reason), "{line} {found}: {}", answer.text());
    }
}

/// The answer names the layer and what to do about it, and says by its status whether a retry may help.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_cannot_be_read_is_named_with_the_reason() {
    let registry = TestRegistry::start().await;
    let made = asking(&registry, &[("trivy", "")]);
    mode(&made, "trivy", "clean");
    let gate = Program::start(&made).await;
    let tree = |name: &str| Tree::new().file("a", name.to_owned());
    let packed = Layer::gzip(&tree("encrypted"));
    let encrypted = Layer::of(&format!("{}+encrypted", packed.media_type), packed.bytes);
    for (name, layer, status, reason) in [
        ("slow", Layer::gzip(&tree("slow")), 503, "; it is tried again after a minute"),
        ("gone", Layer::gzip(&tree("gone")), 403, "the upstream repository does not have this blob; push it again"),
        ("encrypted", encrypted, 403, "the layer is encrypted or of an unknown type; build the image again"),
    ] {
        let repository = format!("team/{name}");
        registry.push(&repository, Some("1"), &Image::linux_amd64().layer(layer.clone()).build());
        match name {
            "slow" => {
                let path = format!("*/blobs/{}", layer.digest);
                registry.inject(On::path(&path), Fault::status(http::StatusCode::BAD_GATEWAY));
            }
            "gone" => registry.delete_blob(&repository, &layer.digest),
            _ => {}
        }
        let answer = gate.get(&format!("/{repository}/manifests/1")).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        let layer = format!("layer {}: ", layer.digest.short());
        assert!(answer.text().contains(&layer) && answer.text().contains(reason), "{name}: {}", answer.text());
    }
    assert_eq!(runs(&made, "trivy"), 0, "the scanner is not asked");
}

/// Whether this system lets users create namespaces.
fn has_namespaces() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--user", "--net", "--pid", "--mount", "--ipc", "--map-current-user", "--fork", "true"]);
    command.output().is_ok_and(|output| output.status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confined_program_has_no_network_and_cannot_write() {
    let registry = TestRegistry::start().await;
    let made = asking(&registry, &[("trivy", "")]);
    registry.push("team/app", Some("1"), &image("looks"));
    mode(&made, "trivy", "looks");
    let gate = Program::start(&made).await;
    let answer = gate.get("/team/app/manifests/1").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = fs::read_to_string(made.path().join("trivy/seen")).expect("what it saw");
    let expected = "tmp=writable nnp=1 files=8192 core=0 secret=\n";
    assert!(seen.ends_with(expected), "{seen}");
    let ready = request("GET", &gate.admin_url("/readyz?verbose=json"), &[]).await.json();
    let facts = ready["details"]["scanner trivy"].to_string();
    assert!(facts.contains("trivy 0.72.0") && facts.contains("2026-01-02T03:04:05Z"), "{ready}");
    let mounts = fs::read_to_string(made.path().join("trivy/mounts")).expect("what it saw");
    if has_namespaces() {
        assert!(mounts.starts_with("hidden=yes "), "{mounts}");
        assert!(mounts.ends_with("capabilities=0000000000000000\n"), "{mounts}");
        assert!(facts.contains("the state directory is hidden"), "{facts}");
        assert!(seen.starts_with("interfaces=1 image=read-only "), "{seen}");
        assert!(facts.contains("isolated: no network"), "{facts}");
    } else {
        assert!(facts.contains("not isolated"), "{facts}");
    }
}

/// Where the system does not permit what `required` demands, the program is not run at all, not even for its version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn required_isolation_hides_the_admin_socket_wherever_it_is() {
    let registry = TestRegistry::start().await;
    let made = asking(&registry, &[("trivy", "isolation = \"required\"")]).admin("socket = \"elsewhere.sock\"");
    registry.push("team/app", Some("1"), &image("required"));
    mode(&made, "trivy", "looks");
    let gate = Program::start(&made).await;
    assert!(made.path().join("elsewhere.sock").exists());
    let answer = gate.get("/team/app/manifests/1").await;
    let mounts = fs::read_to_string(made.path().join("trivy/mounts")).unwrap_or_default();
    let ready = request("GET", &gate.admin_url("/readyz?verbose=json"), &[]).await.json();
    if has_namespaces() {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(mounts.starts_with("hidden=yes "), "{mounts}");
    } else {
        assert_eq!((answer.status, &*mounts), (503, ""), "{}", answer.text());
        assert!(ready["degraded"]["scanner trivy"].is_string(), "{ready}");
    }
}

/// `state_dir` is relative to the file, whose own path is relative to the working directory. The program has another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relative_state_directory_is_found_and_hidden() {
    let registry = TestRegistry::start().await;
    let made = asking(&registry, &[("trivy", "")]);
    made.config();
    registry.push("team/app", Some("1"), &image("relative"));
    mode(&made, "trivy", "looks");
    let folder = made.path().to_owned();
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
        let name = format!("{HOST}/team/app:1");
        let arguments = ["va", "--offline", "--output", "json", "--config", "pullgate.toml", &name];
        command.current_dir(folder).args(arguments).output().expect("it runs")
    };
    let output = soon(tokio::task::spawn_blocking(run)).await.expect("it ends");
    let scans: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    assert_eq!((&scans[0]["status"], &scans[0]["source"]), (&"OK".into(), &"trivy 0.72.0".into()), "{scans}");
    let seen = fs::read_to_string(made.path().join("trivy/seen")).expect("what it saw");
    assert!(!seen.contains("wrong="), "{seen}");
    let mounts = fs::read_to_string(made.path().join("trivy/mounts")).expect("what it saw");
    assert!(!has_namespaces() || mounts.starts_with("hidden=yes "), "{mounts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn config_check_says_whether_scanners_can_be_used() {
    let registry = TestRegistry::start().await;
    let made = asking(&registry, &[("trivy", ""), ("grype", "")]);
    made.config();
    let check = |made: &TestGate| {
        let folder = made.path().to_owned();
        tokio::task::spawn_blocking(move || command(&folder, &["config", "check"]))
    };
    let checked = soon(check(&made)).await.expect("it ends");
    assert!(checked.status.success(), "{}", text(&checked));
    assert!(text(&checked).contains("scanner trivy: trivy 0.72.0"), "{}", text(&checked));
    assert!(text(&checked).contains("scanner grype: grype 0.121.2"), "{}", text(&checked));
    fs::remove_file(made.path().join("grype/grype")).expect("it was there");
    let checked = soon(check(&made)).await.expect("it ends");
    assert_eq!(checked.status.code(), Some(78), "{}", text(&checked));
    let error = String::from_utf8_lossy(&checked.stderr);
    assert!(
        error.contains("error: va.scanner[1].command: scanner grype: ") && error.contains("No such file"),
        "{error}"
    );
}
