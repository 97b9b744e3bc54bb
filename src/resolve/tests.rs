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

#[tokio::test]
async fn pinned_tag_resolves_to_the_signed_digest() {
    let (tasks, clock, readiness, metrics) = (Tasks::new(), Clock::system(), Readiness::new(), Metrics::default());
    let registry = Registry::new();
    let listening = registry.bind(SocketAddr::from(([127, 0, 0, 1], 0)), &tasks).await.unwrap();
    let (signed, moved, absent) = (image(1), image(2), image(3));
    registry.push(REPOSITORY, None, &signed);
    registry.push(REPOSITORY, Some("v1"), &moved);

    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let cache = cache::Config::default();
    let cache = Cache::new(cache, dir.path(), store.clone(), tasks.clone(), clock.clone(), readiness.clone(), &metrics);
    let cache = Arc::new(cache.await.unwrap());
    let resolver = Resolver::new(
        cache,
        store.facts,
        clock,
        &tasks,
        readiness.clone(),
        Epoch::new(),
        SignedDuration::from_hours(1),
    );
    let host: crate::oci::Host = "registry.acme.com".parse().unwrap();
    let config = upstream::Config::new(host.clone(), format!("http://{}", listening.address()));
    let upstreams =
        upstream::Upstreams::new(vec![config], None, (&tasks, &Clock::system()), &metrics, &readiness).unwrap();
    let upstream = upstreams.by_host(&host).unwrap().clone();
    let name = ImageName { host, repository: REPOSITORY.parse().unwrap() };
    let tag = Reference::Tag("v1".parse().unwrap());

    let resolve = async |reference: &Reference, pin| {
        let resolved = resolver.resolve(&upstream, &name, reference, pin).await;
        resolved.map(|resolved| resolved.manifest.digest)
    };
    assert_eq!(resolve(&tag, Some(signed.root)).await.unwrap(), signed.root);
    let known = resolver.known_tags(&name, signed.root).await.unwrap();
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
    assert!(matches!(missing, Err(ResolveError::NotFound)), "{missing:?}");
    let by_digest = Reference::Digest(moved.root);
    let other = resolve(&by_digest, Some(signed.root)).await;
    assert!(matches!(other, Err(ResolveError::Pin { temporary: false, .. })), "{other:?}");
    assert_eq!(resolve(&by_digest, Some(moved.root)).await.unwrap(), moved.root);
}
