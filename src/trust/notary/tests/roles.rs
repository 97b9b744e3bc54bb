//! Attacks by whoever holds the keys of snapshot and timestamp, as a notary server usually does.

use super::*;

impl World {
    /// Publishes a snapshot that names the present document of one role as that of another role.
    fn serve_as(&mut self, own: &str, other: &str) {
        self.serve_as_with(own, other, &|_, _| {});
    }

    /// The same, with changes of what roles sign.
    fn serve_as_with(&mut self, own: &str, other: &str, change: crate::sample::Edit<'_>) {
        let documents = &mut self.repository.documents;
        let document = documents[own].clone();
        documents.insert(format!("{other}.{}", Digest::sha256(&document).hex()), document);
        let snapshot: Value = serde_json::from_slice(&documents["snapshot"]).unwrap();
        let named = &snapshot["signed"]["meta"][own];
        let change = |role: &str, value: &mut Value| {
            change(role, value);
            if role == "snapshot" {
                value["meta"][other] = named.clone();
            }
        };
        self.repository.publish_with(&change, &|_, _| {});
        self.server.put(&self.repository);
    }

    /// Publishes without this role in the snapshot, although it exists.
    fn leave_out(&mut self, role: &str) {
        self.publish_signed("snapshot", |value| drop(value["meta"].as_object_mut().unwrap().remove(role)));
    }
}

/// A world in which alice has signed `v1` for the second image, and `targets/releases` for the first one.
async fn with_alice() -> World {
    let mut world = World::new().await;
    world.repository.delegations.push(SampleDelegation::new("targets/alice").unwrap());
    world.sign("targets/releases", "v1", &image(1));
    world.sign("targets/alice", "v1", &image(2));
    world.publish();
    world
}

#[tokio::test]
async fn a_document_of_another_role_needs_the_keys_of_the_role() {
    let mut world = with_alice().await;
    let trust = world.pinned();
    world.assert_signed(&trust).await;
    for (own, other, part) in [
        ("targets/alice", "targets/releases", "targets/releases: valid signatures by different keys: 0 of 1 required"),
        ("targets/releases", "targets", "targets: valid signatures by different keys: 0 of 1 required"),
        ("targets", "targets/releases", "targets/releases: valid signatures by different keys: 0 of 1 required"),
        ("root", "targets", "targets: valid signatures by different keys: 0 of 1 required"),
    ] {
        world.publish();
        world.serve_as(own, other);
        world.pass();
        world.assert_refused(&trust, part).await;
    }
    // With a policy that names signers too: bob's document is not alice's, whatever the snapshot says.
    let mut world = with_alice().await;
    world.repository.delegations.push(SampleDelegation::new("targets/bob").unwrap());
    world.sign("targets/bob", "v1", &image(1));
    world.publish();
    let alice = signer("alice", &world.repository.delegations[1].keys[0]);
    let trust = NotaryTrust { signers: vec![alice], ..world.pinned() };
    world.serve_as("targets/bob", "targets/alice");
    world.assert_refused(&trust, "targets/alice: valid signatures by different keys: 0 of 1 required").await;
}

/// Docker lists the key of a signer in `targets/releases` too, so the signature alone does not tell the roles apart.
/// What the role may sign does.
#[tokio::test]
async fn a_key_of_two_roles_signs_the_paths_of_each_role() {
    let mut world = with_alice().await;
    world.repository.delegations[0].paths = vec!["release-".into()];
    world.sign("targets", "v1", &image(1));
    world.sign("targets/alice", "release-1", &image(3));
    world.publish();
    let alice = world.repository.delegations[1].keys[0].id().to_owned();
    let share = |role: &str, value: &mut Value| {
        if role == "targets" {
            value["delegations"]["roles"][0]["keyids"].as_array_mut().unwrap().push(alice.clone().into());
        }
    };
    world.serve_as_with("targets/alice", "targets/releases", &share);
    let trust = world.pinned();
    assert_eq!(world.pin(&trust, "v1").await, Ok(Some(image(1).digest)), "releases may not sign v1, whoever signed it");
    assert_eq!(world.pin(&trust, "release-1").await, Ok(Some(image(3).digest)), "alice may sign this as releases");
}

/// Otherwise the role `targets` would decide, which may have signed something old.
#[tokio::test]
async fn a_role_that_was_verified_cannot_be_left_out_of_the_snapshot() {
    let mut world = World::signed().await;
    world.sign("targets", "v1", &image(2));
    world.publish();
    let trust = world.pinned();
    world.assert_signed(&trust).await;
    for _ in 0..2 {
        world.restart();
        world.pass();
        world.leave_out("targets/releases");
        world.assert_refused(&trust, "it does not list targets/releases, which is delegated to").await;
    }
    world.pass();
    world.publish();
    world.assert_signed(&trust).await;
    // The owner of `targets` can end a delegation.
    world.pass();
    world.repository.delegations.clear();
    world.publish();
    assert_eq!(world.pin(&trust, "v1").await, Ok(Some(image(2).digest)));
}

#[tokio::test]
async fn a_role_in_which_nothing_was_published_leaves_the_word_to_targets() {
    let mut world = World::new().await;
    world.sign("targets", "v1", &image(1));
    world.leave_out("targets/releases");
    let trust = world.pinned();
    world.assert_signed(&trust).await;
    world.pass();
    world.assert_signed(&trust).await;
    assert_eq!(world.server.asked(), 5, "timestamp, snapshot, targets, no targets/releases, and the timestamp again");
    // Once it exists, it has the word.
    world.sign("targets/releases", "v1", &image(2));
    world.publish();
    world.pass();
    assert_eq!(world.pin(&trust, "v1").await, Ok(Some(image(2).digest)));
    world.pass();
    world.leave_out("targets/releases");
    world.assert_refused(&trust, "it does not list targets/releases").await;
}

/// The names of targets are what a signer wrote: other files than images can be signed, and texts of any length.
#[tokio::test]
async fn targets_whose_names_are_not_tags_mean_nothing() {
    let mut world = World::signed().await;
    let long = "x".repeat(129);
    for name in ["\u{1b}[2J", "a b", "a/b", "", "-v1", &long] {
        world.sign("targets/releases", name, &image(2));
        world.sign("targets", name, &image(2));
    }
    world.publish();
    let trust = world.pinned();
    world.assert_signed(&trust).await;
    let outcome = world.outcome(&trust, &image(2).digest.to_string(), &image(2)).await;
    let TrustOutcome::Unverified { found } = &outcome else { panic!("{outcome:?}") };
    let text = format!("{found:?}");
    assert!(text.contains("no tag is signed for") && text.len() < 600, "{text}");
}
