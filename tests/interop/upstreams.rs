//! Upstreams that ask for a password, and upstreams with a certificate that no public authority issued.

use crate::crane::Crane;
use crate::harness::{Client as _, Setup, Variant, World};

#[test]
fn behind_a_password() {
    World::with(&Setup { upstream: Variant::Htpasswd, ..Setup::default() }).enforces(&Crane);
}

#[test]
fn with_an_authority_of_its_own() {
    World::with(&Setup { upstream: Variant::Tls, ..Setup::default() }).enforces(&Crane);
}

/// The client reads that the upstream refused the gate, and no policy is blamed.
#[test]
fn a_gate_without_the_password_serves_nothing_and_says_whose_refusal_it_is() {
    let world = World::with(&Setup { upstream: Variant::Htpasswd, stranger: true, ..Setup::default() });
    let output = Crane.pull(&world, &world.admitted).refusal();
    assert!(output.contains("upstream") && !output.contains("ClusterImagePolicy"), "{output}");
}

/// A certificate of an unknown authority is no certificate.
#[test]
fn a_gate_that_does_not_know_the_authority_serves_nothing() {
    let mut world = World::with(&Setup { upstream: Variant::Tls, stranger: true, ..Setup::default() });
    Crane.pull(&world, &world.admitted).refusal();
    assert_eq!(world.upstream.requests(), []);
}
