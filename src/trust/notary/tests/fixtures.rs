//! Documents that notary 0.1 and 0.3 wrote in 2016 (tests/data/notary), at the time when they were valid.

use super::*;

/// The documents of one version, by role.
const NOTARY_0_1: [(&str, &[u8]); 4] = [
    ("root", include_bytes!("../../../../tests/data/notary/0.1/root.json")),
    ("snapshot", include_bytes!("../../../../tests/data/notary/0.1/snapshot.json")),
    ("targets", include_bytes!("../../../../tests/data/notary/0.1/targets.json")),
    ("timestamp", include_bytes!("../../../../tests/data/notary/0.1/timestamp.json")),
];
const NOTARY_0_3: [(&str, &[u8]); 5] = [
    ("root", include_bytes!("../../../../tests/data/notary/0.3/root.json")),
    ("snapshot", include_bytes!("../../../../tests/data/notary/0.3/snapshot.json")),
    ("targets", include_bytes!("../../../../tests/data/notary/0.3/targets.json")),
    ("targets/releases", include_bytes!("../../../../tests/data/notary/0.3/targets/releases.json")),
    ("timestamp", include_bytes!("../../../../tests/data/notary/0.3/timestamp.json")),
];

/// The digest that is signed for a tag, at a time.
async fn signed(
    gun: &'static str,
    documents: &[(&str, &[u8])],
    trust: &NotaryTrust,
    tag: &str,
    now: &str,
) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let server = Server { gun: Some(gun), ..Server::default() };
    for (role, bytes) in documents {
        let mut known = server.documents.lock().unwrap();
        for name in [(*role).to_owned(), format!("{role}.{}", Digest::sha256(bytes).hex())] {
            known.insert(format!("{SERVER}/v2/{gun}/_trust/tuf/{name}.json"), Bytes::copy_from_slice(bytes));
        }
    }
    let trust_in_2016 = trust_of(&store, &Clock::manual(now.parse().unwrap()));
    let (host, repository) = gun.split_once('/').unwrap();
    let name = ImageName { host: host.parse().unwrap(), repository: repository.parse().unwrap() };
    let pins = trust_in_2016.pin(&Arc::new(server), &name, &tag.parse().unwrap(), &[authority(trust)]).await.unwrap();
    assert_eq!(pins.unknown, []);
    pins.pin.map(|pin| pin.digest.hex())
}

fn first_use() -> NotaryTrust {
    NotaryTrust { first_use: Some(FirstUse::Remember), ..NotaryTrust::default() }
}

fn pinned(document: &[u8]) -> NotaryTrust {
    let pinned = PinnedRoot { document: document.to_vec(), fingerprint: Digest::sha256(document) };
    NotaryTrust { root: Some(NotaryRoot::Document(pinned)), ..NotaryTrust::default() }
}

#[tokio::test]
async fn documents_of_old_versions_of_notary_are_verified() {
    let (old, new) = ("docker.com/notary0.1/samplerepo", "docker.com/notary0.3/tst");
    let (march, july) = ("2016-03-01T00:00:00Z", "2016-08-01T00:00:00Z");
    let license = "9395bac6fccb26bcb55efb083d1b4b0fe72a1c25f959f056c016120b3bb56a62";
    let empty = Digest::sha256(b"").hex();
    for trust in [first_use(), pinned(NOTARY_0_1[0].1)] {
        let found = signed(old, &NOTARY_0_1, &trust, "LICENSE", march).await;
        assert_eq!(found.as_deref(), Some(license));
        assert_eq!(signed(old, &NOTARY_0_1, &trust, "other", march).await, None);
    }
    for trust in [first_use(), pinned(NOTARY_0_3[0].1)] {
        // `targets/releases` has signed the first, with RSA; `targets` the second.
        assert_eq!(signed(new, &NOTARY_0_3, &trust, "hello", july).await, Some(empty.clone()));
        assert!(signed(new, &NOTARY_0_3, &trust, "LICENSE", july).await.is_some());
        // The documents of another repository, and of the time after all of them.
        assert_eq!(signed(old, &NOTARY_0_3, &first_use(), "hello", july).await, None);
        assert_eq!(signed(new, &NOTARY_0_3, &trust, "hello", "2117-01-01T00:00:00Z").await, None);
    }
    // Its root certificate has ended since.
    assert_eq!(signed(new, &NOTARY_0_3, &first_use(), "hello", "2026-08-01T00:00:00Z").await, None);
}

/// Each signature is verified: a changed byte of what is signed, in any document.
#[tokio::test]
async fn a_changed_document_of_notary_is_refused() {
    for (changed, (role, bytes)) in NOTARY_0_3.iter().enumerate() {
        let text = std::str::from_utf8(bytes).unwrap().replacen("2116-07", "2116-08", 1);
        let mut documents = NOTARY_0_3;
        documents[changed].1 = text.as_bytes();
        let found = signed("docker.com/notary0.3/tst", &documents, &first_use(), "hello", "2016-08-01T00:00:00Z").await;
        assert_eq!(found, None, "{role}");
    }
}
