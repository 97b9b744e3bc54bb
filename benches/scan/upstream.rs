//! A registry with images whose layers state packages, and the advisories about these packages.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use pullgate::oci::Digest;
use pullgate::runtime::Tasks;
use pullgate::sample::image::{Built, Image, Layer, Tree, noise};
use pullgate::sample::{Fault, Injected, On, Registry};
use serde_json::json;

/// The name of the upstream's threads.
pub(crate) const THREAD: &str = "upstream";
/// How many packages a layer contains, unless the command says otherwise.
pub(crate) const LAYER_PACKAGES: usize = 100;
/// How many packages have advisories, with ten each.
const LISTED: usize = 3_000;

/// The registry, listening on loopback.
pub(crate) struct Upstream {
    pub(crate) url: String,
    registry: Registry,
    _runtime: tokio::runtime::Runtime,
}

/// An image in the registry.
pub(crate) struct Pushed {
    /// Its path below the upstream's name at the gate.
    pub(crate) path: String,
    /// The paths of its layers, in the same form.
    pub(crate) layers: Vec<String>,
    /// The size of its layers as they are transferred, in bytes.
    pub(crate) size: u64,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).thread_name(THREAD).enable_all().build().unwrap();
        let registry = Registry::new();
        let listening = runtime.block_on(registry.bind(SocketAddr::from(([127, 0, 0, 1], 0)), &Tasks::new())).unwrap();
        Self { url: listening.url(), registry, _runtime: runtime }
    }

    /// Pushes an image with these layers.
    pub(crate) fn push(&self, repository: &str, tag: &str, layers: impl IntoIterator<Item = Layer>) -> Pushed {
        let built: Built = layers.into_iter().fold(Image::linux_amd64(), Image::layer).build();
        self.registry.push(repository, Some(tag), &built);
        let document = built.json();
        let listed = document["layers"].as_array().unwrap();
        let digest = |layer: &serde_json::Value| layer["digest"].as_str().unwrap().parse::<Digest>().unwrap();
        Pushed {
            path: format!("{repository}/manifests/{tag}"),
            layers: listed.iter().map(|layer| format!("{repository}/blobs/{}", digest(layer))).collect(),
            size: listed.iter().filter_map(|layer| layer["size"].as_u64()).sum(),
        }
    }

    /// Limits every blob to this many bytes a second.
    pub(crate) fn pace(&self, bytes_per_second: usize) -> Injected {
        let pause = Duration::from_millis(10);
        self.registry.inject(On::blobs().method(Method::GET), Fault::Trickle { piece: bytes_per_second / 100, pause })
    }

    pub(crate) fn clear(&self) {
        self.registry.clear_faults();
    }
}

/// A layer with this number of Python packages, and nothing else.
pub(crate) fn packages(seed: usize, count: usize) -> Layer {
    Layer::gzip(&installed(Tree::new(), seed, count))
}

/// A layer with a package that the second generation of advisories calls critical.
pub(crate) fn marker() -> Layer {
    let path = "usr/lib/python3/site-packages/marker-1.0.dist-info/METADATA";
    Layer::gzip(&Tree::new().file(path, "Metadata-Version: 2.1\nName: marker\nVersion: 1.0\n\n"))
}

fn installed(tree: Tree, seed: usize, count: usize) -> Tree {
    (0..count).fold(tree, |tree, at| {
        // Of the ten advisories on a package, the last one affects it, and the one before in some.
        let (name, version) = (name((seed * 31 + at) % (2 * LISTED)), format!("8.{}.0", at % 10));
        let path = format!("usr/lib/python3/site-packages/{name}-{version}.dist-info/METADATA");
        tree.file(&path, format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nA package.\n"))
    })
}

fn name(number: usize) -> String {
    format!("package-{number:05}")
}

/// A layer of about `size` bytes as it is transferred, as layers of real images are: half of it programs, which hardly
/// compress, and half of it text, which compresses to a third.
pub(crate) fn large(seed: u64, size: usize) -> Layer {
    let mut tree = Tree::new();
    let mut random = fastrand::Rng::with_seed(seed);
    for file in 0..size / 400_000 {
        let program = noise(200_000, seed << 32 | file as u64);
        tree = tree.file(&format!("opt/app-{seed}/lib/{file:05}.bin"), program);
        let mut text = String::with_capacity(650_000);
        while text.len() < 600_000 {
            text.push_str(WORDS[random.usize(..WORDS.len())]);
            text.push(if random.u8(..12) == 0 { '\n' } else { ' ' });
        }
        tree = tree.file(&format!("opt/app-{seed}/share/{file:05}.js"), Bytes::from(text));
    }
    Layer::gzip(&installed(tree, usize::try_from(seed).unwrap(), LAYER_PACKAGES))
}

const WORDS: [&str; 24] = [
    "return",
    "function",
    "const",
    "(value)",
    "=>",
    "{",
    "}",
    "this.state",
    "undefined",
    "null",
    "await",
    "index++",
    "if (error)",
    "module.exports",
    "require('path')",
    "async",
    "for (let i = 0;",
    "i < length;",
    "Object.keys(",
    "options.timeout",
    "\"utf8\"",
    "callback(null, result)",
    "&&",
    "||",
];

/// Writes OSV records of a generation: ten for each package that is listed, of which about one affects the version in the
/// images. An image of 200 packages, half of them listed, has about 110 vulnerabilities. None is critical. The second generation
/// adds a critical one for the marker, and all records have another time in it.
pub(crate) fn advisories(folder: &Path, generation: usize) {
    fs::create_dir_all(folder).unwrap();
    for package in 0..LISTED {
        for number in 0..10 {
            let id = format!("PYSEC-2026-{}", package * 10 + number);
            let fixed = format!("{number}.1.0");
            record(folder, generation, &id, &name(package), &fixed, "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:U/C:L/I:L/A:N");
        }
    }
    if generation > 1 {
        record(folder, generation, "PYSEC-2026-99999", "marker", "2.0", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H");
    }
}

fn record(folder: &Path, generation: usize, id: &str, package: &str, fixed: &str, score: &str) {
    let record = json!({
        "schema_version": "1.6.0", "id": id, "modified": format!("2026-01-{:02}T03:04:05Z", generation + 1),
        "published": "2026-01-01T00:00:00Z", "summary": "An error in the parser",
        "severity": [{"type": "CVSS_V3", "score": score}],
        "affected": [{
            "package": {"ecosystem": "PyPI", "name": package},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}]
        }]
    });
    fs::write(folder.join(format!("{id}.json")), record.to_string()).unwrap();
}
