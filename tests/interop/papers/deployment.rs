//! The pages about installing a gate, running it, its certificates and its clients.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{OTHER_CONFIGURATION, Shop, status};
use crate::harness::{Machine, program};

#[test]
fn run_a_gate() {
    let mut shop = Shop::with_configuration();
    let file = shop.machine.dir().join(OTHER_CONFIGURATION);
    shop.machine.set("PULLGATE_CONFIG", &file.display().to_string());
    shop.machine.serve(OTHER_CONFIGURATION);
    let mut walk = shop.machine.walk("docs/operating.md");
    let reload = walk.take_with("console", "pullgate reload");
    let settings = "tag_ttl = \"90s\"\n\n[limits]\nmax_connections = 5000\n\n[cache]\nmax_size = \"1GiB\"";
    walk.machine.append(OTHER_CONFIGURATION, settings);
    walk.run(&reload);
    walk.machine.restart(OTHER_CONFIGURATION);
    let ready = walk.take_with("console", "readyz?verbose");
    let timing = walk.take_with("console", "X-Pullgate-Timing");
    walk.run(&timing);
    shop.elsewhere.fail();
    for _ in 0..3 {
        let other = "http://127.0.0.1:5000/v2/docker.io/library/tomcat/manifests/other";
        assert_eq!(status(walk.machine, other), "503");
    }
    walk.run(&ready);
    walk.finish();
}

#[test]
fn pull_by_hand() {
    let mut shop = Shop::with_configuration();
    let address = shop.machine.reserve();
    let tls = "[listener.tls]\ncertificate = \"certs/server.crt\"\nkey = \"certs/server.key\"";
    let tls = format!("[[listener]]\naddress = \"{address}\"\n\n{tls}");
    shop.machine.replace("gate.internal:5000", address);
    let ca = shop.machine.dir().join("certs/ca.crt").display().to_string();
    shop.machine.replace("/etc/pullgate/ca.crt", ca);
    shop.machine.append(OTHER_CONFIGURATION, &tls);
    shop.machine.sh("pullgate certs init").bytes();
    shop.machine.serve(OTHER_CONFIGURATION);
    let mut walk = shop.machine.walk("docs/clients.md").without("toml");
    let commands = walk.take_with("sh", "crane manifest");
    for command in commands.text.lines() {
        let manifest = walk.machine.sh(command).text();
        assert!(manifest.contains("\"layers\""), "{command}: {manifest}");
    }
    walk.finish();
}

#[test]
fn make_certificates() {
    let mut machine = Machine::new();
    machine.walk("certs/README.md").finish();
    let files = ["ca.crt", "ca.key", "server.crt", "server.key"].map(|name| machine.dir().join("certs").join(name));
    assert!(files.iter().all(|file| file.exists()), "{files:?}");
}

/// A checkout with these folders, in which the program is built.
fn checkout() -> Machine {
    let mut machine = Machine::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).display();
    let (gate, admin) = (machine.reserve(), machine.reserve());
    machine.replace("127.0.0.1:5000", gate);
    machine.set("PULLGATE__ADMIN__ADDRESS", &admin);
    machine.set("COSIGN_PASSWORD", "");
    machine
        .sh(&format!("mkdir deploy && cp '{root}/deploy/pullgate.service' deploy && cp -R '{root}/config' ."))
        .bytes();
    let configuration = fs::read_to_string(machine.dir().join("config/pullgate.toml")).expect("the configuration");
    machine.write("config/pullgate.toml", &configuration);
    // A program with all symbols would take long to copy.
    machine.write("target/dist/pullgate", &format!("#!/bin/sh\nexec '{}' \"$@\"\n", program()));
    machine
}

#[test]
fn install_the_program() {
    let mut machine = checkout();
    let dir = machine.dir().display().to_string();
    for folder in ["/usr/local/bin", "/etc/systemd/system", "/etc/pullgate"] {
        machine.replace(&format!(" {folder}"), format!(" {dir}{folder}"));
    }
    machine.sh("mkdir -p usr/local/bin etc/systemd/system").bytes();
    // Both commands are run in one directory.
    machine.replace("out/", "");
    let mut walk = machine.walk("deploy/README.md");
    // The suites `static` and `deploy` build and install these.
    walk.take_with("elsewhere", "--target x86_64-unknown-linux-musl");
    walk.take_with("elsewhere", "deploy/package-deb");
    walk.take_with("elsewhere", "cargo build --profile dist --locked");
    walk.take_with("elsewhere", "systemctl enable --now pullgate");
    let installed = walk.machine.dir().join("usr/local/bin/pullgate");
    let mode = fs::metadata(installed).expect("the program").permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    walk.take_with("ini", "LoadCredential=");
    walk.take_with("elsewhere", "podman build");
    walk.take_with("elsewhere", "docker compose");
    let composed = fs::read_to_string(walk.machine.dir().join("deploy/etc/pullgate.toml")).expect("the configuration");
    assert!(composed.contains("\naddress = \"0.0.0.0:5000\"\n"), "{composed}");
    walk.take_with("yaml", "job_name: pullgate");
    walk.take_with("elsewhere", "deploy/release out");
    walk.take_with("elsewhere", "--certificate-oidc-issuer ISSUER");
    walk.machine.write("SHA256SUMS", "");
    walk.machine.sh("cosign generate-key-pair").bytes();
    walk.finish();
}
