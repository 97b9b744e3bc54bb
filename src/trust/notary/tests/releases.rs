//! Who releases a tag.

use super::*;

#[tokio::test]
async fn releases_take_precedence_and_other_delegations_do_not_release() {
    let mut world = World::new().await;
    world.repository.delegations.push(SampleDelegation::new("targets/alice").unwrap());
    world.sign("targets", "v1", &image(2));
    world.sign("targets/releases", "v1", &image(1));
    world.sign("targets/alice", "v2", &image(1));
    world.sign("targets", "v3", &image(3));
    world.publish();
    let trust = world.pinned();
    world.assert_signed(&trust).await;
    // What `targets` says about a released tag does not count, by tag or by digest.
    for (reference, image) in
        [("v1".to_owned(), image(2)), (image(2).digest.to_string(), image(2)), ("v2".into(), image(1))]
    {
        let outcome = world.outcome(&trust, &reference, &image).await;
        assert!(matches!(outcome, TrustOutcome::Unverified { .. }), "{reference}: {outcome:?}");
    }
    assert_eq!(world.pin(&trust, "v2").await, Ok(None), "signed by alice, released by nobody");
    assert_eq!(world.pin(&trust, "v3").await, Ok(Some(image(3).digest)));
}

#[tokio::test]
async fn all_named_signers_must_have_signed_the_same_digest_with_their_keys() {
    let mut world = World::new().await;
    for name in ["targets/alice", "targets/bob"] {
        world.repository.delegations.push(SampleDelegation::new(name).unwrap());
    }
    for role in ["targets/releases", "targets/alice"] {
        world.sign(role, "v1", &image(1));
    }
    world.publish();
    let [alice, bob] = [1, 2].map(|at| &world.repository.delegations[at].keys[0]);
    let stranger = NotaryKey::generate().unwrap();
    let by = |signers: Vec<Signer>| NotaryTrust { signers, ..world.pinned() };
    let (only_alice, both) = (by(vec![signer("alice", alice)]), by(vec![signer("alice", alice), signer("bob", bob)]));
    let (forged, absent) = (by(vec![signer("alice", &stranger)]), by(vec![signer("carol", &stranger)]));
    let TrustOutcome::Verified { by, .. } = world.outcome(&only_alice, "v1", &image(1)).await else { panic!() };
    assert_eq!((&*by[0].identity, &by[0].id), ("alice", &key_of(alice).key_fingerprint().to_string()));
    world.assert_refused(&both, "signer bob has not signed tag v1").await;
    world.assert_refused(&forged, "targets/alice is not signed with the policy's key for signer alice").await;
    world.assert_refused(&absent, "signer carol has signed nothing").await;
    world.pass();
    world.sign("targets/bob", "v1", &image(2));
    world.publish();
    world.assert_refused(&both, "Incompatible digest").await;
    world.pass();
    world.sign("targets/bob", "v1", &image(1));
    world.publish();
    world.assert_signed(&both).await;
    let by_digest = world.outcome(&both, &image(1).digest.to_string(), &image(1)).await;
    assert!(matches!(by_digest, TrustOutcome::Verified { .. }), "{by_digest:?}");
}
