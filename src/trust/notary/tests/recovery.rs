//! Versions that were verified before: in other processes, by stolen keys, and after keys were replaced.

use super::*;

const HIGHEST: u64 = i64::MAX as u64;

impl World {
    /// Publishes these roles with the highest version, as somebody with their keys can.
    fn fast_forward(&mut self, roles: &[&str]) {
        let forward = |role: &str, value: &mut Value| {
            if roles.contains(&role) {
                value["version"] = HIGHEST.into();
            }
        };
        self.repository.publish_with(&forward, &|_, _| {});
        self.server.put(&self.repository);
    }

    /// Publishes a root with new keys for these roles.
    fn replace_keys(&mut self, roles: &[&str]) {
        let repository = &mut self.repository;
        for role in roles {
            let key = match *role {
                "timestamp" => &mut repository.timestamp,
                "snapshot" => &mut repository.snapshot,
                _ => &mut repository.targets,
            };
            *key = NotaryKey::generate().unwrap();
        }
        repository.root_version += 1;
        self.publish();
    }
}

/// Another gate that shares the store has seen a newer snapshot. The old one is known to this gate, and not verified
/// again, but compared.
#[tokio::test]
async fn a_snapshot_that_is_known_is_compared_with_what_others_have_verified() {
    let mut world = World::signed().await;
    let trust = world.pinned();
    world.assert_signed(&trust).await;
    let old: Value = serde_json::from_slice(&world.repository.documents["timestamp"]).unwrap();
    world.sign("targets/releases", "v1", &image(2));
    world.publish();
    let other = trust_of(&world.store, &world.clock);
    let own = std::mem::replace(&mut world.trust, other);
    assert_eq!(world.pin(&trust, "v1").await, Ok(Some(image(2).digest)));
    world.trust = own;
    world.publish_signed("timestamp", |value| value["meta"] = old["signed"]["meta"].clone());
    world.pass();
    world
        .assert_refused(
            &trust,
            "snapshot: replay of an old document: version 1 is older than the previously verified version 2",
        )
        .await;
}

/// TUF specification, 5.3.11: the attacker is gone with the keys, and the version that nothing can exceed must go too.
#[tokio::test]
async fn keys_that_the_root_replaces_end_a_fast_forward_attack() {
    for (roles, replaced) in [
        (&["timestamp"][..], &["timestamp"][..]),
        (&["snapshot"], &["snapshot"]),
        (&["timestamp", "snapshot"], &["timestamp", "snapshot"]),
        (&["targets"], &["targets"]),
        (&["targets"], &["snapshot"]),
        (&["targets/releases"], &["snapshot"]),
    ] {
        let mut world = World::signed().await;
        let trust = world.pinned();
        world.fast_forward(roles);
        world.assert_signed(&trust).await;
        // Until then, everything older is a replay.
        world.publish();
        world.pass();
        world.assert_refused(&trust, "replay of an old document").await;
        world.replace_keys(replaced);
        world.pass();
        world.assert_signed(&trust).await;
        // What was forgotten stays forgotten, and what was verified since is remembered.
        world.publish();
        world.restart();
        world.pass();
        world.assert_signed(&trust).await;
        world.publish_signed(roles[0], |value| value["version"] = 2.into());
        world.pass();
        world.assert_refused(&trust, &format!("{}: replay of an old document", roles[0])).await;
    }
}

/// A pinned root that was replaced by a newer one in the configuration does the same.
#[tokio::test]
async fn a_newer_pinned_root_ends_a_fast_forward_attack() {
    let mut world = World::signed().await;
    let trust = world.pinned();
    world.fast_forward(&["timestamp"]);
    world.assert_signed(&trust).await;
    world.replace_keys(&["timestamp"]);
    let newer = world.pinned();
    world.pass();
    world.assert_signed(&newer).await;
}

/// Only the keys that were replaced make anything forgotten.
#[tokio::test]
async fn other_rotations_forget_nothing() {
    for (role, replaced) in [
        ("timestamp", &["snapshot", "targets"][..]),
        ("snapshot", &["timestamp", "targets"]),
        ("targets", &["timestamp"]),
        ("targets/releases", &["timestamp", "targets"]),
    ] {
        let mut world = World::signed().await;
        let trust = world.pinned();
        world.fast_forward(&[role]);
        world.assert_signed(&trust).await;
        world.replace_keys(replaced);
        world.pass();
        world.assert_refused(&trust, &format!("{role}: replay of an old document")).await;
    }
}

#[tokio::test]
async fn versions_that_could_not_be_compared_are_refused() {
    for version in [0, HIGHEST + 1, u64::MAX] {
        for role in ["timestamp", "snapshot", "targets", "targets/releases", "root"] {
            let mut world = World::signed().await;
            let trust = NotaryTrust { first_use: Some(FirstUse::Remember), ..NotaryTrust::default() };
            world.publish_signed(role, |value| value["version"] = version.into());
            world.assert_refused(&trust, &format!("{role}: its version is {version}")).await;
        }
    }
}

/// An update that began before another gate saw a newer root must not bring back what that gate has forgotten.
#[tokio::test]
async fn what_was_verified_under_an_older_root_is_not_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap().facts;
    let role = |role: &str, version| NotaryRole { role: role.into(), version, document: None };
    let record = |root_version, version, forgotten: &[&str]| NotaryRecord {
        root_version,
        roles: vec![role("root", root_version), role("timestamp", version)],
        forgotten: forgotten.iter().map(|role| (*role).to_owned()).collect(),
    };
    assert!(store.record_notary_roles("a", &record(1, HIGHEST, &[])).await.unwrap());
    assert!(store.record_notary_roles("a", &record(2, 5, &["timestamp"])).await.unwrap());
    assert!(!store.record_notary_roles("a", &record(1, HIGHEST, &[])).await.unwrap());
    // A second gate that forgets the same under the same root forgets nothing that was verified since.
    assert!(store.record_notary_roles("a", &record(2, 4, &["timestamp"])).await.unwrap());
    let mut roles = store.notary_roles("a").await.unwrap();
    roles.sort_by_key(|role| role.role.clone());
    assert_eq!(roles, [role("root", 2), role("timestamp", 5)]);
}

#[tokio::test]
async fn verification_does_not_run_on_async_threads() {
    let work = work::BlockingWork(crate::runtime::Tasks::new());
    let thread = work.run(|| Ok(std::thread::current().id())).await.unwrap();
    assert_ne!(thread, std::thread::current().id());
    let error = work.run::<()>(|| panic!("broken")).await.unwrap_err();
    assert!(matches!(&error, NotaryError::Unavailable(error) if error.temporary), "{error:?}");
}
