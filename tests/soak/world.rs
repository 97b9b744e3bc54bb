//! The images, the registry and the gate of the soak, and its results.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fastrand::Rng;
use pullgate::runtime::Tasks;
use pullgate::sample::image::{Built, Image, Layer, noise};
use pullgate::sample::{Listening, Registry};
use tokio::sync::Mutex;

use crate::harness::{TestGate, policy};
use crate::kept;
use crate::program::Program;
use crate::support::{TestRegistry, soon};

const IMAGES: usize = 60;
/// One in this many images is denied by policy.
const DENIED: usize = 6;
/// The size of the largest layer, in bytes.
const LARGEST: usize = 4_000_000;
/// Much less than all images together, so that they evict each other all the time. The memory limit is low, so that it
/// is reached soon and leaks become visible above it.
const CACHE: &str = "[cache]\nmax_size = \"24MiB\"\nmemory = \"4MiB\"\nsmall_object = \"64KiB\"";
/// Silent upstreams time out soon, because the stalls are short too.
const UPSTREAM: &str = "idle_timeout = \"2s\"\ntag_ttl = \"2s\"";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// State shared by all clients.
pub(crate) struct World {
    pub(crate) registry: TestRegistry,
    pub(crate) images: Vec<Pullable>,
    pub(crate) program: Program,
    pub(crate) counts: Counts,
    /// The registry's listener, which is closed and reopened during the run.
    listening: Mutex<Listening>,
    made_of: TestGate,
}

/// An image in its repository.
pub(crate) struct Pullable {
    pub(crate) repository: String,
    pub(crate) built: Built,
    pub(crate) denied: bool,
}

impl World {
    pub(crate) async fn new(rng: &mut Rng) -> Self {
        let registry = TestRegistry::start().await;
        let images = images(&registry, rng);
        let rules = "  - {name: \"registry.test/library/*\", policy: {}}\n  \
                     - {name: \"registry.test/denied/*\", policy: {trust: release}}\n";
        let made_of = TestGate::new(&registry, &policy(rules)).upstream(UPSTREAM).with(CACHE);
        let program = Program::start(&made_of).await;
        let listening = Mutex::new(registry.listening.clone());
        Self { registry, images, program, counts: Counts::default(), listening, made_of }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.made_of.path().join("state")
    }

    /// Closes all connections to the upstream, as its restart would.
    pub(crate) async fn restart_upstream(&self) {
        let mut listening = self.listening.lock().await;
        let address = listening.address();
        soon(listening.stop()).await;
        *listening = soon(bound(&self.registry, address)).await;
    }

    /// Stops the gate, which must exit cleanly, and verifies what it leaves behind.
    pub(crate) async fn end(self) {
        let (state, log) = (self.state(), self.program.log());
        let status = self.program.stop().await;
        assert!(status.success(), "{status}");
        assert!(!log.contains("panicked"), "{log}");
        kept::verified(&state);
        assert_eq!(kept::partial(&state), Vec::<String>::new());
    }
}

async fn bound(registry: &Registry, address: std::net::SocketAddr) -> Listening {
    loop {
        if let Ok(listening) = registry.bind(address, &Tasks::new()).await {
            return listening;
        }
        tokio::task::yield_now().await;
    }
}

/// Images that share layers, including denied ones with admitted ones.
fn images(registry: &Registry, rng: &mut Rng) -> Vec<Pullable> {
    let bases: Vec<Bytes> = (0..6).map(|_| noise(rng.usize(50_000..LARGEST / 2), rng.u64(..))).collect();
    let image = |number: usize| {
        let mut image = Image::linux_amd64();
        if rng.u8(..3) > 0 {
            image = image.layer(Layer::of(LAYER, bases[rng.usize(..bases.len())].clone()));
        }
        for _ in 0..rng.usize(1..=2) {
            // Many small layers and a few large ones.
            let size = (rng.f64().powi(3) * LARGEST as f64) as usize;
            image = image.layer(Layer::of(LAYER, noise(size.max(1), rng.u64(..))));
        }
        let denied = number.is_multiple_of(DENIED);
        let repository = format!("{}/{number}", if denied { "denied" } else { "library" });
        let built = image.build();
        registry.push(&repository, Some("1"), &built);
        Pullable { repository, built, denied }
    };
    (0..IMAGES).map(image).collect()
}

/// The results that clients observed.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) whole: AtomicU64,
    pub(crate) parts: AtomicU64,
    pub(crate) left: AtomicU64,
    pub(crate) cut: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) denied: AtomicU64,
    pub(crate) troubles: AtomicU64,
}

impl Counts {
    pub(crate) fn whole(&self) -> u64 {
        self.whole.load(Ordering::Relaxed)
    }
}

/// Increments a counter.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { whole, parts, left, cut, refused, denied, troubles } = self;
        let [whole, parts, left, cut, refused, denied, troubles] =
            [whole, parts, left, cut, refused, denied, troubles].map(|counter| counter.load(Ordering::Relaxed));
        write!(
            f,
            "{whole} blobs whole, {parts} parts, {left} left early, {cut} cut, {refused} refused for now, {denied} \
             denied, {troubles} troubles"
        )
    }
}
