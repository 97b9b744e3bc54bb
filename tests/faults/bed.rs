//! One image of one large layer behind a gate, and the checks that every test ends with.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use pullgate::oci::Digest;
use pullgate::sample::image::{Built, Image, Layer, noise};
use pullgate::sample::{Fault, Injected, On};

use crate::harness::{ALLOW_ALL, Gate, TestGate};
use crate::kept;
use crate::support::{Answer, Exchange, TestRegistry, request, soon};

/// The layer's size in bytes, where nothing else is said.
pub(crate) const SIZE: usize = 1_200_000;
/// The repository.
pub(crate) const REPOSITORY: &str = "library/app";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image of one layer of this content.
pub(crate) fn image(content: &Bytes) -> Built {
    Image::linux_amd64().layer(Layer::of(LAYER, content.clone())).build()
}

/// A registry with the image, and a gate before it that has judged the manifest and asked for no blob.
pub(crate) struct Bed {
    pub(crate) registry: TestRegistry,
    pub(crate) gate: Gate,
    pub(crate) layer: Digest,
    pub(crate) content: Bytes,
}

impl Bed {
    /// With the defaults of the harness.
    pub(crate) async fn new() -> Self {
        Self::with(SIZE, |gate| gate).await
    }

    /// With a layer of so many bytes behind a gate that is changed before it starts.
    pub(crate) async fn with(size: usize, change: impl FnOnce(TestGate) -> TestGate) -> Self {
        let registry = TestRegistry::start().await;
        let content = noise(size, size as u64);
        registry.push(REPOSITORY, Some("1"), &image(&content));
        Self::behind(registry, content, change).await
    }

    /// With a registry that has an image of this content already.
    pub(crate) async fn behind(
        registry: TestRegistry,
        content: Bytes,
        change: impl FnOnce(TestGate) -> TestGate,
    ) -> Self {
        let gate = change(TestGate::new(&registry, ALLOW_ALL)).start().await;
        let bed = Self { layer: Digest::sha256(&content), registry, gate, content };
        assert_eq!(bed.gate.get(&format!("/{REPOSITORY}/manifests/1")).await.status, 200);
        bed
    }

    /// Downloads of the layer, as the upstream sees them.
    pub(crate) fn downloads(&self) -> On {
        On::path(&format!("*/blobs/{}", self.layer)).method(Method::GET)
    }

    /// Something goes wrong with downloads of the layer.
    pub(crate) fn inject(&self, fault: Fault) -> Injected {
        self.registry.inject(self.downloads(), fault)
    }

    /// How many downloads of the layer were begun at the upstream.
    pub(crate) fn gets(&self) -> usize {
        self.registry.count(|r| r.is("GET", &self.layer.to_string()))
    }

    /// The layer's path at the gate.
    pub(crate) fn path(&self) -> String {
        format!("/{REPOSITORY}/blobs/{}", self.layer)
    }

    /// Pulls the layer; true when it came whole. Nothing wrong is ever served.
    pub(crate) async fn pull(&self) -> bool {
        let answer = self.gate.get(&self.path()).await;
        self.judge(&answer)
    }

    /// Whether it is whole.
    pub(crate) fn judge(&self, answer: &Answer) -> bool {
        kept::judge(answer, &self.layer)
    }

    /// A pull whose body is read as the test wants it.
    pub(crate) async fn begin(&self, headers: &[(&str, &str)]) -> Exchange {
        Exchange::start("GET", &self.gate.url(&self.path()), headers).await
    }

    /// The state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.gate.file("state")
    }

    /// Waits until nothing is on its way, and looks at all that is kept.
    pub(crate) async fn at_rest(&self) -> Vec<Digest> {
        soon(async { while metric(&self.gate, "pullgate_cache_fills_in_flight").await > 0 {} }).await;
        assert_eq!(kept::partial(&self.state()), Vec::<String>::new(), "half a file is left at rest");
        kept::verified(&self.state())
    }

    /// Whether the layer is kept.
    pub(crate) async fn is_kept(&self) -> bool {
        self.at_rest().await.contains(&self.layer)
    }

    /// The end of every test: with the fault gone, what is kept is right, the next pull is right, and so is what it keeps.
    pub(crate) async fn recovers(&self) {
        self.registry.clear_faults();
        self.at_rest().await;
        assert!(self.pull().await, "the next pull fails although nothing is wrong any more");
        assert!(self.is_kept().await, "the next pull kept nothing");
        let gets = self.gets();
        assert!(self.pull().await, "what is kept cannot be pulled");
        assert_eq!(self.gets(), gets, "what is kept was downloaded again");
    }
}

/// The value of a metric without labels.
pub(crate) async fn metric(gate: &Gate, name: &str) -> u64 {
    let text = request("GET", &gate.admin_url("/metrics"), &[]).await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().expect("a number")
}

/// What `/readyz` says.
pub(crate) async fn ready(gate: &Gate) -> String {
    request("GET", &gate.admin_url("/readyz"), &[]).await.text()
}

/// Waits for something that no connection tells of.
pub(crate) async fn until(is_true: impl Fn() -> bool) {
    soon(async {
        while !is_true() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
