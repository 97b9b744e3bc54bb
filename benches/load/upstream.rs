//! The upstream: the sample registry in this process, whose CPU time is not counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use pullgate::oci::Digest;
use pullgate::runtime::Tasks;
use pullgate::sample::image::{Image, Layer, noise};
use pullgate::sample::{Fault, On, Registry};

/// The repository of all content.
pub(crate) const REPOSITORY: &str = "bench/app";

/// An image with one layer.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) repository: String,
    pub(crate) manifest: Digest,
    pub(crate) manifest_bytes: Bytes,
    pub(crate) layer: Digest,
    pub(crate) size: u64,
}

impl Content {
    pub(crate) fn manifest_path(&self) -> String {
        format!("{}/manifests/{}", self.repository, self.manifest)
    }

    pub(crate) fn blob_path(&self) -> String {
        format!("{}/blobs/{}", self.repository, self.layer)
    }
}

/// A sample registry that is listening.
pub(crate) struct Upstream {
    pub(crate) registry: Registry,
    pub(crate) url: String,
    base: Bytes,
    made: u64,
    _runtime: tokio::runtime::Runtime,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let registry = Registry::new();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listening = runtime.block_on(registry.bind(address, &Tasks::new())).unwrap();
        let url = listening.url();
        Self { registry, url, base: noise(1 << 20, 1), made: 0, _runtime: runtime }
    }

    /// Pushes a new, unique image with a layer of `size` bytes.
    pub(crate) fn push(&mut self, size: usize, repository: &str) -> Content {
        self.made += 1;
        let mut layer = Vec::with_capacity(size);
        layer.extend_from_slice(&self.made.to_be_bytes());
        while layer.len() < size {
            let rest = (size - layer.len()).min(self.base.len());
            layer.extend_from_slice(&self.base[..rest]);
        }
        let layer = Layer::of("application/vnd.oci.image.layer.v1.tar", Bytes::from(layer));
        // Real manifests have about two thousand bytes.
        let image = Image::linux_amd64().layer(layer).annotation("org.example.filler", &"x".repeat(1400)).build();
        self.registry.push(repository, Some(&format!("v{}", self.made)), &image);
        let (layer, bytes) = image.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
        Content {
            repository: repository.to_owned(),
            manifest: image.root,
            manifest_bytes: image.manifest().bytes.clone(),
            layer: *layer,
            size: bytes.len() as u64,
        }
    }

    /// Deletes a layer, so that memory does not grow with the rounds.
    pub(crate) fn drop_layer(&self, content: &Content) {
        self.registry.delete_blob(&content.repository, &content.layer);
    }

    /// The number of requests for a layer.
    pub(crate) fn gets(&self, content: &Content) -> usize {
        let path = format!("/blobs/{}", content.layer);
        self.registry.count(|request| request.is("GET", &path))
    }

    /// Limits every blob to this many bytes per second while the value exists.
    pub(crate) fn pace(&self, bytes_per_second: usize) -> Paced {
        let pause = Duration::from_millis(10);
        let piece = bytes_per_second / 100;
        Paced(Arc::new(self.registry.inject(On::blobs().method(Method::GET), Fault::Trickle { piece, pause })))
    }
}

/// Removes the limit when dropped.
pub(crate) struct Paced(Arc<pullgate::sample::Injected>);

impl Drop for Paced {
    fn drop(&mut self) {
        self.0.remove();
    }
}
