//! Documents of attackers, with and without keys.

use super::*;

#[tokio::test]
async fn attacks_on_signatures_are_refused() {
    let attacks: &[Attack] = &[
        ("targets", |value| value["signatures"] = json!([]), "it has no signature"),
        ("targets", |value| value["signed"]["x"] = 1.into(), "the signature does not verify"),
        ("snapshot", |value| value["signed"]["version"] = 7.into(), "the signature does not verify"),
        (
            "targets/releases",
            |value| value["signatures"][0]["method"] = "rsapss".into(),
            "not one for this kind of key",
        ),
        ("targets/releases", |value| value["signatures"][0]["method"] = "eddsa".into(), "not one for this kind of key"),
        ("targets/releases", |value| value["signatures"][0]["method"] = "none".into(), "not one for this kind of key"),
        ("targets", |value| value["signatures"][0]["sig"] = "AAAA".into(), "the signature does not verify"),
        ("targets", |value| value["signatures"][0]["sig"] = "?".into(), "not base64"),
        ("targets", |value| value["signatures"][0]["keyid"] = "00".into(), "is not a key of the role"),
        ("timestamp", |value| value["signed"]["version"] = json!(1.5), "not an integer"),
    ];
    for (role, change, part) in attacks {
        let mut world = World::new().await;
        world.sign("targets/releases", "v1", &image(1));
        world.publish();
        let trust = world.pinned();
        world.publish_changed(role, change);
        world.assert_refused(&trust, part).await;
    }
}

#[tokio::test]
async fn attacks_by_holders_of_keys_are_refused() {
    let attacks: &[Attack] = &[
        ("targets/releases", |value| value["_type"] = "Snapshot".into(), "its type is"),
        ("targets/releases", |value| value["targets"] = json!({"v1": {}}), "missing field"),
        ("snapshot", |value| drop(value["meta"].as_object_mut().unwrap().remove("root")), "it does not name root"),
        (
            "snapshot",
            |value| drop(value["meta"].as_object_mut().unwrap().remove("targets")),
            "it does not name targets",
        ),
        ("timestamp", |value| value["meta"] = json!({}), "it names no snapshot"),
        (
            "snapshot",
            |value| value["meta"]["targets"]["length"] = 1.into(),
            "its size or hash does not match the signed one",
        ),
        (
            "snapshot",
            |value| value["meta"]["targets"]["hashes"]["sha512"] = "AAAA".into(),
            "its size or hash does not match the signed one",
        ),
        ("snapshot", |value| value["meta"]["targets"]["hashes"] = json!({"md5": "AAAA"}), "SHA-256 hash is missing"),
        ("snapshot", |value| value["meta"]["targets"]["length"] = 9_000_000.into(), "larger than"),
        ("snapshot", |value| value["meta"]["root"]["length"] = 1.into(), "it names a root other than the trusted one"),
    ];
    refused_all(attacks).await;
}

#[tokio::test]
async fn delegations_that_make_no_sense_are_refused() {
    let attacks: &[Attack] = &[
        ("targets", |value| value["delegations"]["roles"][0]["threshold"] = 0.into(), "threshold of 0"),
        ("targets", |value| value["delegations"]["roles"][0]["name"] = "targets".into(), "not a role below targets"),
        (
            "targets",
            |value| value["delegations"]["roles"][0]["name"] = "targets/a/b".into(),
            "not a role below targets",
        ),
        ("targets", |value| value["delegations"]["roles"][0]["name"] = "snapshot".into(), "not a role below targets"),
        (
            "targets",
            |value| {
                let twice = value["delegations"]["roles"][0].clone();
                value["delegations"]["roles"].as_array_mut().unwrap().push(twice);
            },
            "delegates to targets/releases twice",
        ),
        (
            "targets",
            |value| {
                let keys = value["delegations"]["keys"].as_object_mut().unwrap();
                let key = keys.values().next().unwrap().clone();
                keys.insert("00".repeat(32), key);
            },
            "has the ID",
        ),
        (
            "targets/releases",
            |value| {
                value["delegations"] = json!({"keys": {}, "roles": [
                    {"name": "targets/releases", "keyids": [], "threshold": 1, "paths": [""]}
                ]});
            },
            "not a role below targets/releases",
        ),
    ];
    refused_all(attacks).await;
}

/// Asserts that what a role signs is refused after each change, with this reason.
async fn refused_all(attacks: &[Attack]) {
    for (role, change, part) in attacks {
        let mut world = World::new().await;
        world.sign("targets/releases", "v1", &image(1));
        world.publish();
        let trust = world.pinned();
        world.publish_signed(role, change);
        world.assert_refused(&trust, part).await;
    }
}

/// CVE-2020-6174 (python-tuf) and CVE-2020-15093 (tough): one key counts once, however often it is listed or signs.
#[tokio::test]
async fn cve_2020_6174_a_threshold_is_not_met_by_one_key_twice() {
    let mut world = World::new().await;
    let releases = &mut world.repository.delegations[0];
    releases.keys.push(NotaryKey::generate().unwrap());
    releases.threshold = 2;
    world.sign("targets/releases", "v1", &image(1));
    world.publish();
    let trust = world.pinned();
    world.assert_signed(&trust).await;
    world.pass();
    world.publish_changed("targets/releases", |value| value["signatures"][1] = value["signatures"][0].clone());
    world.assert_refused(&trust, "valid signatures by different keys: 1 of 2 required").await;
    // The same key with two IDs.
    world.pass();
    let id = world.repository.delegations[0].keys[0].id().to_owned();
    world.publish_signed("targets", |value| {
        let delegations = &mut value["delegations"];
        delegations["roles"][0]["keyids"] = json!([id, id]);
    });
    world.assert_refused(&trust, "valid signatures by different keys: 1 of 2 required").await;
}

#[tokio::test]
async fn a_delegation_signs_only_below_its_paths() {
    let mut world = World::new().await;
    world.repository.delegations[0].paths = vec!["release-".into()];
    world.sign("targets/releases", "v1", &image(1));
    world.sign("targets/releases", "release-1", &image(1));
    world.publish();
    let trust = world.pinned();
    world.assert_refused(&trust, "No valid trust data for v1").await;
    assert_eq!(world.pin(&trust, "release-1").await, Ok(Some(image(1).digest)));
    world.pass();
    world.repository.delegations[0].paths = vec![];
    world.publish();
    assert_eq!(world.pin(&trust, "release-1").await, Ok(None), "no paths, no tags");
    // A level below may sign what both levels may.
    let mut world = World::new().await;
    let mut team = SampleDelegation::new("targets/team").unwrap();
    team.paths = vec!["v".into()];
    let mut alice = SampleDelegation::new("targets/team/alice").unwrap();
    alice.paths = vec!["v1".into(), "w".into()];
    team.below.push(alice);
    world.repository.delegations.push(team);
    for role in ["targets", "targets/team/alice"] {
        for tag in ["v1", "v2", "w"] {
            world.sign(role, tag, &image(1));
        }
    }
    world.publish();
    let alice = signer("team/alice", &world.repository.delegations[1].below[0].keys[0]);
    let trust = NotaryTrust { signers: vec![alice], ..world.pinned() };
    world.assert_signed(&trust).await;
    for tag in ["v2", "w"] {
        assert_eq!(world.pin(&trust, tag).await, Ok(None), "{tag}");
    }
}

#[tokio::test]
async fn documents_of_two_repositories_are_not_mixed() {
    let mut world = World::signed().await;
    let trust = world.pinned();
    let mut other = World::signed().await;
    other.repository.version = 5;
    other.publish();
    for file in ["timestamp", "snapshot", "targets", "targets/releases"] {
        let documents = other.repository.documents.clone();
        world.repository.documents.insert(file.into(), documents[file].clone());
        let hash = Digest::sha256(&world.repository.documents[file]).hex();
        world.repository.documents.insert(format!("{file}.{hash}"), documents[file].clone());
    }
    world.server.put(&world.repository);
    world.assert_refused(&trust, "is not a key of the role").await;
}

#[tokio::test]
async fn broken_documents_are_refused() {
    for (bytes, part) in [
        (r#"{"signed":{},"signed":{}}"#.to_owned(), "duplicate key"),
        (r#"{"signed":{"version":1,"ver\u0073ion":2},"signatures":[]}"#.into(), "duplicate key"),
        (r#"{"Signed":{},"signatures":[]}"#.into(), "some clients read"),
        ("{".into(), "EOF"),
        ("[]".into(), "invalid"),
        (String::new(), "EOF"),
        (
            format!(
                r#"{{"signed":{{}},"signatures":[{}]}}"#,
                vec![r#"{"keyid":"","method":"","sig":""}"#; 65].join(",")
            ),
            "64 signatures",
        ),
    ] {
        let mut world = World::signed().await;
        let trust = world.pinned();
        world.repository.documents.insert("timestamp".into(), bytes.into());
        world.server.put(&world.repository);
        world.assert_refused(&trust, part).await;
    }
    let mut world = World::signed().await;
    let trust = world.pinned();
    world.repository.documents.insert("timestamp".into(), vec![b' '; 2 << 20].into());
    world.server.put(&world.repository);
    let outcome = world.outcome(&trust, "v1", &image(1)).await;
    assert!(matches!(&outcome, TrustOutcome::Unknown { temporary: false, .. }), "{outcome:?}");
}
