//! Upstreams that require a password, and upstreams with a certificate from a private CA.

use crate::crane::Crane;
use crate::harness::{Client as _, Setup, Variant, World};

#[test]
fn with_a_password() {
    World::with(&Setup { upstream: Variant::Htpasswd, ..Setup::default() }).enforces(&Crane);
}

#[test]
fn with_a_private_ca() {
    World::with(&Setup { upstream: Variant::Tls, ..Setup::default() }).enforces(&Crane);
}

/// The message says that the upstream refused the gate, and blames no policy.
#[test]
fn without_the_password_the_upstream_is_named_as_the_cause() {
    let world = World::with(&Setup { upstream: Variant::Htpasswd, stranger: true, ..Setup::default() });
    let output = Crane.pull(&world, &world.admitted).refusal();
    assert!(output.contains("upstream") && !output.contains("ClusterImagePolicy"), "{output}");
}

/// A certificate from an unknown CA is rejected.
#[test]
fn without_the_ca_nothing_is_served() {
    let mut world = World::with(&Setup { upstream: Variant::Tls, stranger: true, ..Setup::default() });
    Crane.pull(&world, &world.admitted).refusal();
    assert_eq!(world.upstream.requests(), []);
}
