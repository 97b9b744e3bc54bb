//! A gate in front of an image with one large layer, and the checks that every test ends with.

use std::path::PathBuf;

use bytes::Bytes;
use http::Method;
use pullgate::oci::Digest;
use pullgate::sample::image::{Built, Image, Layer, noise};
use pullgate::sample::{Fault, Injected, On};

use crate::harness::{ALLOW_ALL, Gate, TestGate, metric};
use crate::kept;
use crate::support::{Answer, Exchange, TestRegistry, soon};

/// The default size of the layer, in bytes.
pub(crate) const SIZE: usize = 1_200_000;
/// The repository.
pub(crate) const REPOSITORY: &str = "library/app";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image with one layer with this content.
pub(crate) fn image(content: &Bytes) -> Built {
    Image::linux_amd64().layer(Layer::of(LAYER, content.clone())).build()
}

/// A registry with the image, and a gate that has judged the manifest but not requested any blob.
pub(crate) struct TestBed {
    pub(crate) registry: TestRegistry,
    pub(crate) gate: Gate,
    pub(crate) layer: Digest,
    pub(crate) content: Bytes,
}

impl TestBed {
    /// Uses the defaults of the harness.
    pub(crate) async fn new() -> Self {
        Self::with(SIZE, |gate| gate).await
    }

    /// Uses a layer of `size` bytes, and a gate that `change` configures.
    pub(crate) async fn with(size: usize, change: impl FnOnce(TestGate) -> TestGate) -> Self {
        let registry = TestRegistry::start().await;
        let content = noise(size, size as u64);
        registry.push(REPOSITORY, Some("1"), &image(&content));
        Self::behind(registry, content, change).await
    }

    /// Uses a registry that already has an image with this content.
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

    /// Matches downloads of the layer from the upstream.
    pub(crate) fn downloads(&self) -> On {
        On::path(&format!("*/blobs/{}", self.layer)).method(Method::GET)
    }

    /// Injects a fault into downloads of the layer.
    pub(crate) fn inject(&self, fault: Fault) -> Injected {
        self.registry.inject(self.downloads(), fault)
    }

    /// The number of downloads of the layer that started at the upstream.
    pub(crate) fn gets(&self) -> usize {
        self.registry.count(|r| r.is("GET", &self.layer.to_string()))
    }

    /// The path of the layer on the gate.
    pub(crate) fn path(&self) -> String {
        format!("/{REPOSITORY}/blobs/{}", self.layer)
    }

    /// Pulls the layer; returns true if it arrived complete. Fails if wrong content is served.
    pub(crate) async fn pull(&self) -> bool {
        let answer = self.gate.get(&self.path()).await;
        self.judge(&answer)
    }

    /// Whether the response is complete; fails if its content is wrong.
    pub(crate) fn judge(&self, answer: &Answer) -> bool {
        kept::judge(answer, &self.layer)
    }

    /// Starts a pull whose body the test reads.
    pub(crate) async fn begin(&self, headers: &[(&str, &str)]) -> Exchange {
        Exchange::start("GET", &self.gate.url(&self.path()), headers).await
    }

    /// The state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.gate.file("state")
    }

    /// Waits until nothing is in progress, and verifies all cached content.
    pub(crate) async fn at_rest(&self) -> Vec<Digest> {
        soon(async { while metric(&self.gate, "pullgate_cache_fills_in_flight").await > 0 {} }).await;
        assert_eq!(kept::partial(&self.state()), Vec::<String>::new(), "an incomplete file remains");
        kept::verified(&self.state())
    }

    /// Whether the layer is cached.
    pub(crate) async fn is_kept(&self) -> bool {
        self.at_rest().await.contains(&self.layer)
    }

    /// Ends every test: without the fault, cached content is correct, and so are the next pull and what it caches.
    pub(crate) async fn recovers(&self) {
        self.registry.clear_faults();
        self.at_rest().await;
        assert!(self.pull().await, "the next pull fails although the fault is gone");
        assert!(self.is_kept().await, "the next pull was not cached");
        let gets = self.gets();
        assert!(self.pull().await, "cached content cannot be pulled");
        assert_eq!(self.gets(), gets, "cached content was downloaded again");
    }
}
