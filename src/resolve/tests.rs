//! Tests for references that are pinned to a signed digest.

use std::net::SocketAddr;

use super::*;
use crate::cache;
use crate::runtime::Metrics;
use crate::sample::Registry;
use crate::sample::image::{Built, raw};
use crate::store::Store;

const REPOSITORY: &str = "team/app";

fn image(number: u32) -> Built {
    let config = serde_json::json!({
        "mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::sha256(b"{}"), "size": 2
    });
    let body = serde_json::json!({
        "schemaVersion": 2, "mediaType": crate::oci::media_type::OCI_MANIFEST, "config": config, "layers": [],
        "annotations": {"number": number.to_string()}
    });
    raw(crate::oci::media_type::OCI_MANIFEST, &body)
}

/// A resolver of one registry.
struct Bed {
    registry: Registry,
    resolver: Resolver,
    upstream: Arc<Upstream>,
    store: Store,
    name: ImageName,
    _state: tempfile::TempDir,
}

impl Bed {
    async fn new(tag_ttl: Duration) -> Self {
        let (tasks, clock, readiness, metrics) = (Tasks::new(), Clock::system(), Readiness::new(), Metrics::default());
        let registry = Registry::new();
        let listening = registry.bind(SocketAddr::from(([127, 0, 0, 1], 0)), &tasks).await.unwrap();
        let state = tempfile::tempdir().unwrap();
        let store = Store::open(state.path()).await.unwrap();
        let (config, path) = (cache::Config::default(), state.path());
        let cache = Cache::new(config, path, store.clone(), tasks.clone(), clock.clone(), readiness.clone(), &metrics);
        let (cache, hour) = (Arc::new(cache.await.unwrap()), Duration::from_secs(3600));
        let facts = store.facts.clone();
        let resolver = Resolver::new(cache, facts, clock.clone(), &tasks, readiness.clone(), Epoch::new(), hour);
        let host: crate::oci::Host = "registry.acme.com".parse().unwrap();
        let mut config = upstream::Config::new(host.clone(), format!("http://{}", listening.address()));
        config.tag_ttl = tag_ttl;
        let upstreams = upstream::Upstreams::new(vec![config], None, (&tasks, &clock), &metrics, &readiness).unwrap();
        let upstream = upstreams.by_host(&host).unwrap().clone();
        let name = ImageName { host, repository: REPOSITORY.parse().unwrap() };
        Self { registry, resolver, upstream, store, name, _state: state }
    }
}

#[tokio::test]
async fn a_tag_is_not_stale_because_the_database_does_not_answer() {
    let bed = Bed::new(Duration::ZERO).await;
    let (image, tag) = (image(1), Reference::Tag("v1".parse().unwrap()));
    bed.registry.push(REPOSITORY, Some("v1"), &image);
    let resolve = async || bed.resolver.resolve(&bed.upstream, &bed.name, &tag, None).await.unwrap();
    let first = resolve().await;
    bed.resolver.admitted(&bed.name, &first.manifest, false).await;
    let held = bed.store.hold_writes().await;
    let mut again = std::pin::pin!(resolve());
    // The upstream has answered when its answer waits to be written.
    while !bed.resolver.inner.facts.has_due() {
        assert!(futures_util::poll!(&mut again).is_pending());
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    let resolved = again.await;
    assert_eq!((resolved.manifest.digest, resolved.stale), (image.root, None));
    drop(held);
}

#[tokio::test]
async fn pinned_tag_resolves_to_the_signed_digest() {
    let bed = Bed::new(Duration::from_secs(300)).await;
    let (signed, moved, absent) = (image(1), image(2), image(3));
    bed.registry.push(REPOSITORY, None, &signed);
    bed.registry.push(REPOSITORY, Some("v1"), &moved);
    let Bed { resolver, upstream, name, .. } = &bed;
    let tag = Reference::Tag("v1".parse().unwrap());

    let resolve = async |reference: &Reference, pin| {
        let resolved = resolver.resolve(upstream, name, reference, pin).await;
        resolved.map(|resolved| resolved.manifest.digest)
    };
    assert_eq!(resolve(&tag, Some(signed.root)).await.unwrap(), signed.root);
    let known = resolver.known_tags(name, signed.root).await.unwrap();
    assert_eq!(
        known.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["v1"],
        "rules for the tag apply to the digest"
    );
    assert_eq!(
        resolve(&tag, None).await.unwrap(),
        moved.root,
        "nothing is learned about the registry's tag from a pin"
    );
    assert_eq!(resolve(&tag, Some(signed.root)).await.unwrap(), signed.root);
    let missing = resolve(&tag, Some(absent.root)).await;
    assert!(matches!(missing, Err(ResolveError::NotFound(_))), "{missing:?}");
    let by_digest = Reference::Digest(moved.root);
    let other = resolve(&by_digest, Some(signed.root)).await;
    assert!(matches!(other, Err(ResolveError::Pin { temporary: false, .. })), "{other:?}");
    assert_eq!(resolve(&by_digest, Some(moved.root)).await.unwrap(), moved.root);
}
