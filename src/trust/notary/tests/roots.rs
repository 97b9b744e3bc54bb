//! Roots: pinned, remembered, rotated.

use super::*;

#[tokio::test]
async fn without_a_pinned_root_the_reason_says_how_to_pin_one() {
    let world = World::signed().await;
    let outcome = world.outcome(&NotaryTrust::default(), "v1", &image(1)).await;
    let TrustOutcome::Unknown { why, temporary: false, .. } = &outcome else { panic!("{outcome:?}") };
    for part in ["no root is trusted for registry.acme.com/team/app", "notary: {root: {file: root.json}}", "first_use"]
    {
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(world.pin(&NotaryTrust::default(), "v1").await, Ok(None));
    assert_eq!(world.server.asked(), 0);
}

#[tokio::test]
async fn a_root_that_was_remembered_is_not_replaced() {
    let mut world = World::signed().await;
    let trust = NotaryTrust { first_use: Some(FirstUse::Remember), ..NotaryTrust::default() };
    world.assert_signed(&trust).await;
    // Somebody else's repository of the same name, newer in every way.
    let mut other = NotaryRepository::new(GUN).unwrap();
    (other.version, other.root_version) = (100, 100);
    other.sign("targets", "v1", image(1).digest, image(1).bytes.len() as u64);
    other.publish();
    world.server.put(&other);
    world.restart();
    world.pass();
    world.assert_refused(&trust, "root, by the keys of the root before it").await;
    // For another certificate, the first use is refused.
    let fresh = World::signed().await;
    let mut wrong = NotaryRepository::new(GUN).unwrap();
    wrong.root = vec![NotaryKey::certificate("registry.acme.com/team/other").unwrap()];
    wrong.publish();
    fresh.server.put(&wrong);
    fresh.assert_refused(&trust, "not for registry.acme.com/team/app").await;
}

#[tokio::test]
async fn pinned_keys_and_certificates_accept_their_roots_only() {
    let world = World::signed().await;
    let keys = |key: &NotaryKey| NotaryTrust {
        root: Some(NotaryRoot::Keys([key_of(key).key_fingerprint()].into())),
        ..NotaryTrust::default()
    };
    world.assert_signed(&keys(&world.repository.root[0])).await;
    world.assert_refused(&keys(&NotaryKey::generate().unwrap()), "none of its keys is trusted").await;
    // A prefix of the name in the certificate, another name, an expired certificate.
    for (certificate, part) in [
        (NotaryKey::certificate("registry.acme.com/team/*").unwrap(), None),
        (NotaryKey::certificate("registry.acme.com/te*").unwrap(), Some("not for")),
        (NotaryKey::certificate("registry.acme.com/team/app2").unwrap(), Some("not for")),
        (NotaryKey::certificate_until(GUN, 2025).unwrap(), Some("have expired")),
    ] {
        let mut world = World::new().await;
        world.sign("targets/releases", "v1", &image(1));
        world.repository.root = vec![certificate];
        world.publish();
        let trust = keys(&world.repository.root[0]);
        match part {
            None => world.assert_signed(&trust).await,
            Some(part) => world.assert_refused(&trust, part).await,
        }
    }
}

#[tokio::test]
async fn roots_are_rotated_by_old_and_new_keys() {
    let mut world = World::signed().await;
    let trust = world.pinned();
    world.assert_signed(&trust).await;
    // Two rotations, and new keys of every other role.
    for _ in 0..2 {
        world.repository.old_root =
            std::mem::replace(&mut world.repository.root, vec![NotaryKey::certificate(GUN).unwrap()]);
        world.repository.timestamp = NotaryKey::generate().unwrap();
        world.repository.snapshot = NotaryKey::generate().unwrap();
        world.repository.targets = NotaryKey::generate().unwrap();
        world.repository.root_version += 1;
        world.publish();
    }
    world.pass();
    world.assert_signed(&trust).await;
    world.restart();
    world.pass();
    world.assert_signed(&trust).await;
    assert!(!world.server.asked.lock().unwrap().last().unwrap().contains("root"), "the newest root is remembered");
    // A rotation that the old keys did not sign.
    world.repository.old_root.clear();
    world.repository.root = vec![NotaryKey::certificate(GUN).unwrap()];
    world.repository.root_version += 1;
    world.publish();
    world.pass();
    world.assert_refused(&trust, "root, by the keys of the root before it").await;
}

/// CVE-2020-15163 (python-tuf): a root that was refused is not trusted by the next update.
#[tokio::test]
async fn cve_2020_15163_a_refused_root_is_not_remembered() {
    let mut world = World::signed().await;
    let trust = world.pinned();
    world.assert_signed(&trust).await;
    let mut stolen = NotaryRepository::new(GUN).unwrap();
    (stolen.version, stolen.root_version) = (5, 2);
    stolen.sign("targets", "v1", image(2).digest, image(2).bytes.len() as u64);
    stolen.publish();
    world.server.put(&stolen);
    for _ in 0..2 {
        world.restart();
        world.pass();
        world.assert_refused(&trust, "root, by the keys of the root before it").await;
    }
    world.server.documents.lock().unwrap().clear();
    world.server.put(&world.repository);
    world.restart();
    world.pass();
    world.assert_signed(&trust).await;
}

#[tokio::test]
async fn an_old_root_is_not_accepted_again() {
    let mut world = World::signed().await;
    let (trust, first) = (world.pinned(), world.repository.documents.clone());
    world.repository.old_root =
        std::mem::replace(&mut world.repository.root, vec![NotaryKey::certificate(GUN).unwrap()]);
    world.repository.root_version = 2;
    world.publish();
    world.assert_signed(&trust).await;
    world.repository.documents = first;
    world.server.documents.lock().unwrap().clear();
    world.server.put(&world.repository);
    world.restart();
    world.pass();
    world.assert_refused(&trust, "replay of an old document").await;
}
