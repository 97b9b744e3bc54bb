//! Replayed and expired documents, and servers that fail.

use super::*;

/// TUF's rollback attack: the server, or somebody on the way, answers with what was valid before.
#[tokio::test]
async fn replayed_documents_are_refused_even_after_a_restart() {
    for role in ["timestamp", "snapshot", "targets", "targets/releases"] {
        let mut world = World::signed().await;
        let trust = world.pinned();
        world.publish();
        world.assert_signed(&trust).await;
        world.restart();
        world.pass();
        // Everything else is new: whoever replays holds the other keys.
        world.publish_signed(role, |value| value["version"] = 1.into());
        world
            .assert_refused(
                &trust,
                &format!(
                    "{role}: replay of an old document: version 1 is older than the previously verified version 2"
                ),
            )
            .await;
    }
    // All documents together, as an old mirror has them.
    let mut world = World::signed().await;
    let (trust, old) = (world.pinned(), world.repository.documents.clone());
    world.sign("targets/releases", "v1", &image(2));
    world.publish();
    assert_eq!(world.pin(&trust, "v1").await, Ok(Some(image(2).digest)));
    world.repository.documents = old;
    world.server.put(&world.repository);
    world.restart();
    world.pass();
    world.assert_refused(&trust, "replay of an old document").await;
}

#[tokio::test]
async fn expired_documents_are_refused_and_bound_the_evidence() {
    for role in ["root", "timestamp", "snapshot", "targets", "targets/releases"] {
        let mut world = World::new().await;
        world.sign("targets/releases", "v1", &image(1));
        world.repository.expires.insert(role.into(), "2026-01-01T00:00:30Z".into());
        world.publish();
        let trust = world.pinned();
        world.assert_signed(&trust).await;
        world.clock.advance(SignedDuration::from_secs(30));
        world.assert_refused(&trust, &format!("{role}: it expired at 2026-01-01T00:00:30Z")).await;
    }
}

#[tokio::test]
async fn a_server_that_errs_is_unknown_and_one_without_data_is_not() {
    let mut world = World::new().await;
    world.repository.publish();
    let trust = world.pinned();
    world.assert_refused(&trust, "notary.acme.com does not have trust data for registry.acme.com/team/app").await;
    world.server.down(true);
    world.pass();
    let outcome = world.outcome(&trust, "v1", &image(1)).await;
    let TrustOutcome::Unknown { why, temporary: true, .. } = &outcome else { panic!("{outcome:?}") };
    assert!(why.contains("unable to reach trust server at this time: ") && why.contains("connection refused"), "{why}");
    let pin = world.pin(&trust, "v1").await;
    assert!(matches!(&pin, Err(PinError::Unknown(error)) if error.temporary), "{pin:?}");
    // It is asked again soon.
    world.server.down(false);
    world.sign("targets/releases", "v1", &image(1));
    world.publish();
    world.clock.advance(SignedDuration::from_secs(3));
    world.assert_signed(&trust).await;
}
