//! Commands that use a running gate, through its admin socket.

use std::process::{Command, Output};

use bytes::Bytes;
use pullgate::oci::Digest;
use pullgate::sample::image::{self, Image, Layer, noise};

use crate::content::file;
use crate::harness::{ALLOW_ALL, Gate, HOST, TestGate, policy};
use crate::platforms::{image_of, index};
use crate::pull::{multi, simple};
use crate::support::{TestRegistry, soon, until};

/// Runs the program against a gate, on another thread, because the gate runs on this one.
pub(crate) async fn pullgate(gate: &Gate, words: &[&str]) -> Output {
    let socket = format!("unix:{}", gate.file("state/admin.sock").display());
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
        command.args(words).args(["--server", &socket]).output().expect("it runs")
    };
    soon(tokio::task::spawn_blocking(run)).await.expect("it ends")
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn large(seed: u64) -> (image::Built, Bytes) {
    let content = noise(800_000, seed);
    let layer = Layer::of("application/vnd.oci.image.layer.v1.tar", content.clone());
    (Image::linux_amd64().layer(layer).build(), content)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefetched_images_are_available_without_the_upstream() {
    let registry = TestRegistry::start().await;
    let (one, content) = large(1);
    let many = multi("many");
    registry.push("library/one", Some("1"), &one);
    registry.push("library/many", Some("1"), &many);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let (first, second) = (format!("{HOST}/library/one:1"), format!("{HOST}/library/many:1"));
    let done = pullgate(&gate, &["prefetch", &first, &second, "--platform", "linux/arm64"]).await;
    assert!(done.status.success(), "{}", text(&done));
    assert!(text(&done).contains(&format!("{first}: 2 blobs")), "{}", text(&done));
    assert_eq!(registry.count(|r| r.is("GET", "/library/many/manifests/")), 2, "the index and the one platform");
    registry.listening.stop().await;
    assert_eq!(gate.get("/library/one/manifests/1").await.status, 200);
    let layer = Digest::sha256(&content);
    assert_eq!(gate.get(&format!("/library/one/blobs/{layer}")).await.body, content);
    let missing = pullgate(&gate, &["prefetch", &second, "--platform", "windows/amd64"]).await;
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing).contains("the index has no windows/amd64, only linux/amd64"), "{}", text(&missing));
}

/// The gate judges such an index by the image for this machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_images_that_decide_about_an_index_are_prefetched() {
    let registry = TestRegistry::start().await;
    registry.push("library/many", Some("1"), &multi("decisive"));
    let gate = TestGate::new(&registry, ALLOW_ALL).with("[gate]\nplatforms = [\"windows/amd64\"]").start().await;
    let done = pullgate(&gate, &["prefetch", &format!("{HOST}/library/many:1")]).await;
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(registry.count(|r| r.is("GET", "/library/many/manifests/")), 2, "the index and one image");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nested_indexes_are_prefetched_for_the_chosen_platforms() {
    let registry = TestRegistry::start().await;
    let (ours, other) = (image_of("linux/arm64"), image_of("linux/s390x"));
    let [nested, unrelated] = [&ours, &other].map(|image| index(&[image.descriptor()], &[image]));
    let root = index(&[nested.plain_descriptor(), unrelated.plain_descriptor()], &[&nested, &unrelated]);
    registry.push("library/app", Some("1"), &root);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let name = format!("{HOST}/library/app:1");
    let done = pullgate(&gate, &["prefetch", &name, "--platform", "linux/arm64"]).await;
    assert!(done.status.success() && text(&done).contains("2 blobs"), "{}", text(&done));
    let missing = pullgate(&gate, &["prefetch", &name, "--platform", "windows/amd64"]).await;
    let why = "the index has no windows/amd64, only linux/arm64, linux/s390x";
    assert!(text(&missing).contains(why), "{}", text(&missing));
    registry.listening.stop().await;
    for image in [&root, &nested, &ours] {
        let got = gate.get(&format!("/library/app/manifests/{}", image.root)).await;
        assert_eq!((got.status, &got.body), (200, &image.manifest().bytes), "{}", got.text());
    }
    assert_eq!(gate.get(&format!("/library/app/blobs/{}", ours.layers[0])).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denied_images_are_not_prefetched_and_configured_ones_are() {
    let registry = TestRegistry::start().await;
    registry.push("library/unsigned", Some("1"), &simple("unsigned"));
    let (listed, content) = large(2);
    registry.push("listed/app", Some("1"), &listed);
    let rules = policy("  - {name: \"*/listed/*\", policy: {}}\n  - {name: \"*\", policy: {trust: release}}\n");
    let list = format!("[prefetch]\nimages = [\"{HOST}/listed/app:1\"]");
    let gate = TestGate::new(&registry, &rules).with(&list).start().await;
    let denied = pullgate(&gate, &["prefetch", &format!("{HOST}/library/unsigned:1")]).await;
    assert_eq!(denied.status.code(), Some(1));
    assert!(text(&denied).contains("denied by ClusterImagePolicy/default"), "{}", text(&denied));
    assert_eq!(registry.count(|r| r.is("GET", "/library/unsigned/blobs/")), 0);
    until(|| file(&gate, Digest::sha256(&content)).exists()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cache_commands_show_verify_and_collect() {
    let registry = TestRegistry::start().await;
    let (image, content) = large(3);
    registry.push("library/app", Some("1"), &image);
    let gate =
        TestGate::new(&registry, ALLOW_ALL).with("[cache]\nmax_size = \"1MiB\"\nlow_watermark = 0").start().await;
    assert!(pullgate(&gate, &["prefetch", &format!("{HOST}/library/app:1")]).await.status.success());
    // A blob counts once its file is renamed, a moment after its last byte can be read.
    soon(async {
        let mut shown = String::new();
        while !shown.contains("blobs        2 (") {
            shown = text(&pullgate(&gate, &["cache", "status"]).await);
            assert!(shown.contains("of 1MiB"), "{shown}");
        }
    })
    .await;
    let clean = pullgate(&gate, &["cache", "verify"]).await;
    assert_eq!((clean.status.code(), text(&clean).contains(": 0 wrong")), (Some(0), true), "{}", text(&clean));
    let layer = Digest::sha256(&content);
    let file = file(&gate, layer);
    std::fs::write(&file, noise(800_000, 4)).expect("a file");
    let wrong = pullgate(&gate, &["cache", "verify", "--output", "json"]).await;
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong).contains(&layer.to_string()), "{}", text(&wrong));
    assert!(!file.exists());
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    assert_eq!(gate.get(&format!("/library/app/blobs/{layer}")).await.body, content);
    // Content that is being read stays, and the gate may notice the end of a read a moment after the client.
    soon(async {
        while file.exists() {
            let emptied = pullgate(&gate, &["cache", "gc"]).await;
            assert!(emptied.status.success() && text(&emptied).starts_with("freed "), "{}", text(&emptied));
        }
    })
    .await;
}

/// A variable that names another gate does not judge in place of the one that the command line names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_wins_over_the_environment() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("app"));
    let lax = TestGate::new(&registry, ALLOW_ALL).start().await;
    let strict = TestGate::new(&registry, &policy("  - {name: \"*/nothing\", policy: {}}\n")).start().await;
    let image = format!("{HOST}/library/app:1");
    let run = async |words: Vec<String>| {
        let variable = format!("unix:{}", lax.file("state/admin.sock").display());
        let run = move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
            command.args(words).env("PULLGATE_SERVER", variable).output().expect("it runs")
        };
        soon(tokio::task::spawn_blocking(run)).await.expect("it ends")
    };
    let config = strict.file("pullgate.toml").display().to_string();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    for (given, expected) in [
        (words(&["check", &image]), Some(0)),
        (words(&["check", "--config", &config, &image]), Some(2)),
        (words(&["--config", &config, "check", &image]), Some(2)),
    ] {
        let output = run(given.clone()).await;
        assert_eq!(output.status.code(), expected, "{given:?}: {}", text(&output));
    }
}

/// A command that judges in its own process may run where no gate does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offline_judgement_creates_no_state_directory() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("app"));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let configured = std::fs::read_to_string(gate.file("pullgate.toml")).expect("a configuration");
    let elsewhere = configured.replace("state_dir = \"state\"", "state_dir = \"absent\"");
    std::fs::write(gate.file("offline.toml"), elsewhere).expect("a configuration");
    for (command, expected) in [("check", Some(0)), ("va", None)] {
        let (config, image) = (gate.file("offline.toml").display().to_string(), format!("{HOST}/library/app:1"));
        let run = move || {
            let mut program = Command::new(env!("CARGO_BIN_EXE_pullgate"));
            program.args([command, "--offline", "--config", &config, &image]).output().expect("it runs")
        };
        let output = soon(tokio::task::spawn_blocking(run)).await.expect("it ends");
        assert!(expected.is_none() || output.status.code() == expected, "{command}: {}", text(&output));
        assert!(!gate.file("absent").exists(), "{command}: {}", text(&output));
    }
}
