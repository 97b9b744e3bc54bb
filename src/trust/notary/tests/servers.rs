//! Shared questions, roots of other repositories, and silence.

use super::*;

/// A pinned file need not have the bytes that the server has.
#[tokio::test]
async fn a_pinned_root_may_be_formatted() {
    let world = World::signed().await;
    let value: Value = serde_json::from_slice(&world.repository.documents["root"]).unwrap();
    let document = serde_json::to_vec_pretty(&value).unwrap();
    let fingerprint = Digest::sha256(&document);
    let root = Some(NotaryRoot::Document(PinnedRoot { document, fingerprint }));
    world.assert_signed(&NotaryTrust { root, ..NotaryTrust::default() }).await;
}

#[tokio::test]
async fn concurrent_questions_share_one_update() {
    let mut world = World::new().await;
    for tag in ["v1", "v2", "v3"] {
        world.sign("targets/releases", tag, &image(1));
    }
    world.publish();
    let trust = world.pinned();
    let image = image(1);
    let (a, b, c, pin) = tokio::join!(
        world.outcome(&trust, "v1", &image),
        world.outcome(&trust, "v2", &image),
        world.outcome(&trust, "v3", &image),
        world.pin(&trust, "v1"),
    );
    assert!([a, b, c].iter().all(|outcome| matches!(outcome, TrustOutcome::Verified { .. })));
    assert_eq!((pin, world.server.asked()), (Ok(Some(image.digest)), 4));
}

/// Clients use one private key for the roots of many repositories. The certificate says for which one a root is.
#[tokio::test]
async fn a_root_of_another_repository_is_not_followed() {
    let mut world = World::signed().await;
    let trust = world.pinned();
    world.assert_signed(&trust).await;
    let of_another = vec![NotaryKey::certificate("registry.acme.com/other").unwrap()];
    world.repository.old_root = std::mem::replace(&mut world.repository.root, of_another);
    world.repository.root_version += 1;
    world.publish();
    world.pass();
    world.assert_refused(&trust, "root:").await;
}

#[tokio::test]
async fn a_pinned_root_of_another_repository_is_refused() {
    let mut world = World::signed().await;
    let own = std::mem::replace(&mut world.repository, NotaryRepository::new("registry.acme.com/other").unwrap());
    world.repository.publish();
    let trust = world.pinned();
    world.repository = own;
    world.assert_refused(&trust, "the pinned root is not for").await;
}

/// A server that does not answer is down like one that refuses: for a short time, and then at once.
#[tokio::test]
async fn a_silent_server_is_down_and_is_not_waited_for_again_at_once() {
    let world = World::signed().await;
    let trust = world.pinned();
    let silent = |is_silent: bool| *world.server.is_silent.lock().unwrap() = is_silent;
    silent(true);
    let began = std::time::Instant::now();
    let error = world.pin(&trust, "v1").await.unwrap_err();
    assert!(
        matches!(&error, PinError::Unknown(why) if why.temporary && why.why.contains("no answer within 5 s")),
        "{error}"
    );
    let took = began.elapsed();
    assert!(took < std::time::Duration::from_secs(8), "{took:?}");
    let asked = world.server.asked();
    // Longer than a failure is remembered for the repository.
    world.clock.advance(SignedDuration::from_secs(3));
    let began = std::time::Instant::now();
    let error = world.pin(&trust, "v1").await.unwrap_err();
    assert!(matches!(&error, PinError::Unknown(why) if why.temporary && why.why.contains("recent request")), "{error}");
    let outcome = world.outcome(&trust, "v1", &image(1)).await;
    assert!(matches!(&outcome, TrustOutcome::Unknown { temporary: true, .. }), "{outcome:?}");
    assert!(began.elapsed() < std::time::Duration::from_secs(3));
    assert_eq!(world.server.asked(), asked, "it is left alone");
    silent(false);
    world.clock.advance(SignedDuration::from_secs(10));
    world.assert_signed(&trust).await;
    assert_eq!(world.pin(&trust, "v1").await, Ok(Some(image(1).digest)));
}
