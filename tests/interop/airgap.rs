//! The walk-through of docs/air-gap.md: its commands are run as they are written, between two gates.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use pullgate::oci::Digest;
use pullgate::runtime::Tasks;
use pullgate::sample::image::{Built, Image, Layer, Tree};
use pullgate::sample::{Registry, SigningKey};
use serde_json::{Value, json};

use crate::harness::{GateConfig, Machine};

const NAME: &str = "registry.acme.com/shop/app";

fn image(version: &str) -> Built {
    let metadata = format!("Metadata-Version: 2.1\nName: Django\nVersion: {version}\n\n");
    let path = format!("usr/lib/python3/site-packages/Django-{version}.dist-info/METADATA");
    Image::linux_amd64().layer(Layer::gzip(&Tree::new().file(&path, metadata))).build()
}

/// An advisory about versions of Django below 2.2.28.
fn record() -> Value {
    json!({
        "schema_version": "1.6.0", "id": "PYSEC-2022-190", "modified": "2024-01-02T03:04:05Z",
        "aliases": ["CVE-2022-28346"],
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        "affected": [{
            "package": {"ecosystem": "PyPI", "name": "django", "purl": "pkg:pypi/django"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "2.2"}, {"fixed": "2.2.28"}]}]
        }]
    })
}

fn manifest_digest(dir: &Path) -> Digest {
    Digest::sha256(&fs::read(dir.join("manifest.json")).expect("a manifest"))
}

#[test]
fn the_walk_through_of_the_page_works() {
    let mut machine = Machine::new();
    let dir = machine.dir().to_owned();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (registry, address) = (Registry::new(), SocketAddr::from(([127, 0, 0, 1], 0)));
    let listening = runtime.block_on(registry.bind(address, &Tasks::new())).expect("a free port");
    let (good, unsigned, vulnerable) = (image("4.0.0"), image("4.0.1"), image("2.2.1"));
    let key = SigningKey::generate().expect("a key");
    for (tag, image) in [("v1", &good), ("unsigned", &unsigned), ("vulnerable", &vulnerable)] {
        registry.push("shop/app", Some(tag), image);
    }
    for image in [&good, &vulnerable] {
        key.sign(&registry, "shop/app", NAME, image.root).expect("it is signed");
    }
    let allow = "  repositories: [{name: \"*\", policy: {}}]";
    let upstream = format!("[[upstream]]\nhost = \"registry.acme.com\"\nurl = \"{}\"\n", listening.url());
    let connected = GateConfig { upstreams: upstream, ..GateConfig::default() }.policy("open", allow);
    let _connected = connected.start(&dir.join("connected"));
    machine.write("records/PYSEC-2022-190.json", &record().to_string());
    machine.sh("pullgate db import --config connected/pullgate.toml records").bytes();
    let refused = "pullgate bundle export --config connected/pullgate.toml -f refused.tar";
    machine.sh(&format!("{refused} {NAME}:unsigned {NAME}:vulnerable")).bytes();

    let mut walk = machine.walk("docs/air-gap.md");
    let settings = walk.take_with("toml", "offline = true");
    assert_eq!(manifest_digest(&dir.join("unpacked")), good.root);
    let strict = "  authorities:
  - name: release
    cosign: {key: {file: release.pub}}
  repositories: [{name: \"*\", policy: {trust: release, va: {severity: low}}}]";
    walk.machine.write("offline/policies/release.pub", &key.public_pem());
    let offline = GateConfig { upstreams: settings.text, ..GateConfig::default() }.policy("strict", strict);
    let offline = offline.start(&dir.join("offline"));
    walk.machine.set("OFFLINE_GATE", offline.address());
    // The registry is gone before the import.
    runtime.block_on(listening.stop());
    walk.finish();
    assert_eq!(manifest_digest(&dir.join("pulled")), good.root);

    let denied = machine.sh("pullgate bundle import --config offline/pullgate.toml refused.tar").refusal();
    assert!(denied.contains("trust: release: not signed") && denied.contains("CVE-2022-28346"), "{denied}");
    for tag in ["unsigned", "vulnerable"] {
        let pull = "skopeo --insecure-policy copy --src-tls-verify=false";
        let refusal = machine.sh(&format!("{pull} docker://$OFFLINE_GATE/{NAME}:{tag} dir:{tag}")).refusal();
        assert!(refusal.contains("is offline") || refusal.contains("manifest unknown"), "{refusal}");
    }
}
