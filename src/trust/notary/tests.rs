//! Docker Content Trust against a notary server in memory, which the test owns.

mod fixtures;
mod recovery;
mod roles;

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::oci::{Digest, Manifest, Page, Reference, Repository};
use crate::policy::{FirstUse, KeyValidity, NotaryRoot, PinnedRoot, PublicKey, Signer, SignerKey};
use crate::runtime::Clock;
use crate::sample::{NotaryKey, NotaryRepository, SampleDelegation};
use crate::store::{NotaryRecord, NotaryRole, Store};
use crate::trust::source::{SignatureSource, UnparsedManifest};
use crate::trust::tests::services;
use crate::trust::{PinError, Trust};
use crate::upstream::{ServiceAddress, ServiceAnswer};

const GUN: &str = "registry.acme.com/team/app";
const SERVER: &str = "https://notary.acme.com";

/// A role, a change of its document, and a part of the reason for which that is refused.
type Attack = (&'static str, fn(&mut Value), &'static str);

/// A notary server. It has no registry.
#[derive(Default)]
struct Server {
    documents: Mutex<HashMap<String, Bytes>>,
    is_down: Mutex<bool>,
    is_silent: Mutex<bool>,
    /// [`GUN`], unless it is another one.
    gun: Option<&'static str>,
    asked: Mutex<Vec<String>>,
}

impl Server {
    fn put(&self, repository: &NotaryRepository) {
        let mut documents = self.documents.lock().unwrap();
        for (name, bytes) in &repository.documents {
            documents.insert(format!("{SERVER}/v2/{}/_trust/tuf/{name}.json", repository.gun), bytes.clone());
        }
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn down(&self, is_down: bool) {
        *self.is_down.lock().unwrap() = is_down;
    }
}

impl RegistryServices for Server {
    fn document<'a>(
        &'a self,
        _: &'a Repository,
        address: ServiceAddress<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<ServiceAnswer>, SourceError>> {
        let ServiceAddress::Beside { url, resource } = address else { panic!("{address:?}") };
        assert_eq!(resource, self.gun.unwrap_or(GUN));
        self.asked.lock().unwrap().push(url.to_string());
        if *self.is_silent.lock().unwrap() {
            return Box::pin(std::future::pending());
        }
        let answer = match self.documents.lock().unwrap().get(url.as_str()) {
            _ if *self.is_down.lock().unwrap() => Err(SourceError::new("connection refused", true)),
            Some(found) if found.len() > limit => Err(SourceError::new("larger than the limit", false)),
            found => Ok(found.map(|bytes| ServiceAnswer { headers: http::HeaderMap::new(), bytes: bytes.clone() })),
        };
        Box::pin(async move { answer })
    }

    fn notary_server(&self) -> Option<String> {
        Some(SERVER.into())
    }
}

impl SignatureSource for Server {
    async fn manifest(&self, _: &Repository, _: &Reference) -> Result<Option<UnparsedManifest>, SourceError> {
        panic!("the registry is not asked")
    }

    async fn blob(&self, _: &Repository, _: &Digest, _: usize) -> Result<Option<Bytes>, SourceError> {
        panic!("the registry is not asked")
    }

    async fn referrers(
        &self,
        _: &Repository,
        _: &Digest,
        _: &Page,
    ) -> Result<Option<(Bytes, Option<Page>)>, SourceError> {
        panic!("the registry is not asked")
    }
}

struct World {
    server: Arc<Server>,
    repository: NotaryRepository,
    trust: Trust,
    clock: Clock,
    store: Store,
    _dir: tempfile::TempDir,
}

impl World {
    /// A repository with `targets/releases` that has published nothing.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let mut repository = NotaryRepository::new(GUN).unwrap();
        repository.delegations.push(SampleDelegation::new("targets/releases").unwrap());
        let trust = trust_of(&store, &clock);
        Self { server: Arc::default(), repository, trust, clock, store, _dir: dir }
    }

    /// The same, with `v1` signed in `targets/releases` and published.
    async fn signed() -> Self {
        let mut world = Self::new().await;
        world.sign("targets/releases", "v1", &image(1));
        world.publish();
        world
    }

    fn sign(&mut self, role: &str, tag: &str, image: &Manifest) {
        self.repository.sign(role, tag, image.digest, image.bytes.len() as u64);
    }

    fn publish(&mut self) {
        self.repository.publish();
        self.server.put(&self.repository);
    }

    /// Publishes with a change of what a role signs.
    fn publish_signed(&mut self, role: &str, change: impl Fn(&mut Value)) {
        self.repository.publish_with(
            &|of, value| {
                if of == role {
                    change(value);
                }
            },
            &|_, _| {},
        );
        self.server.put(&self.repository);
    }

    /// Publishes with a change of a document after it was signed.
    fn publish_changed(&mut self, role: &str, change: impl Fn(&mut Value)) {
        self.repository.publish_with(&|_, _| {}, &|of, value| {
            if of == role {
                change(value);
            }
        });
        self.server.put(&self.repository);
    }

    fn pinned(&self) -> NotaryTrust {
        let document = self.repository.documents["root"].to_vec();
        let fingerprint = Digest::sha256(&document);
        let root = Some(NotaryRoot::Document(PinnedRoot { document, fingerprint }));
        NotaryTrust { root, ..NotaryTrust::default() }
    }

    fn restart(&mut self) {
        self.trust = trust_of(&self.store, &self.clock);
    }

    /// Lets what was learned from the server end.
    fn pass(&self) {
        self.clock.advance(SignedDuration::from_secs(61));
    }

    async fn outcome(&self, trust: &NotaryTrust, reference: &str, image: &Manifest) -> TrustOutcome {
        let authority = authority(trust);
        let asked = [authority.clone()];
        let reference = reference.parse().unwrap();
        let image = Arc::new(image.clone());
        let evidence = self.trust.evidence(&self.server, &name(), &reference, &image, &asked, |_| false).await;
        evidence.outcome(authority.id()).unwrap().value.clone()
    }

    async fn pin(&self, trust: &NotaryTrust, tag: &str) -> Result<Option<Digest>, PinError> {
        let pins = self.trust.pin(&self.server, &name(), &tag.parse().unwrap(), &[authority(trust)]).await?;
        match pins.unknown.first() {
            Some((_, error)) => Err(PinError::Unknown(error.clone())),
            None => Ok(pins.pin.map(|pin| pin.digest)),
        }
    }

    /// Asserts that `v1` is signed.
    #[track_caller]
    fn assert_signed(&self, trust: &NotaryTrust) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let outcome = self.outcome(trust, "v1", &image(1)).await;
            assert!(matches!(outcome, TrustOutcome::Verified { .. }), "{caller}: {outcome:?}");
        }
    }

    /// Asserts that `v1` is refused, with a reason that contains this text, and not pinned.
    #[track_caller]
    fn assert_refused(&self, trust: &NotaryTrust, part: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let outcome = self.outcome(trust, "v1", &image(1)).await;
            let TrustOutcome::Unverified { found } = &outcome else { panic!("{caller}: {outcome:?}") };
            assert!(format!("{found:?}").contains(part), "{caller}: {part}: {found:?}");
            let pin = self.pin(trust, "v1").await;
            assert_eq!(pin, Ok(None), "{caller}");
        }
    }
}

fn trust_of(store: &Store, clock: &Clock) -> Trust {
    Trust::new(Config::default(), services(store, clock))
}

fn authority(trust: &NotaryTrust) -> Arc<Authority> {
    Arc::new(Authority::new("notary", Scheme::Notary(trust.clone())))
}

fn name() -> ImageName {
    ImageName { host: "registry.acme.com".parse().unwrap(), repository: "team/app".parse().unwrap() }
}

fn image(number: u32) -> Manifest {
    let config = json!({
        "mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::sha256(b"{}"), "size": 2
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": crate::oci::media_type::OCI_MANIFEST, "config": config, "layers": [],
        "annotations": {"number": number.to_string()}
    });
    Manifest::parse(manifest.to_string().into(), None).unwrap()
}

fn key_of(key: &NotaryKey) -> SignerKey {
    SignerKey::from_pem(key.public_pem()).unwrap()
}

fn signer(name: &str, key: &NotaryKey) -> Signer {
    Signer { name: name.into(), key: key_of(key), validity: KeyValidity::default() }
}

/// Without named signers, whoever released the tag is identified by the key, as in every other scheme.
#[tokio::test]
async fn those_who_released_a_tag_are_identified_by_their_keys() {
    let world = World::signed().await;
    let TrustOutcome::Verified { by, .. } = world.outcome(&world.pinned(), "v1", &image(1)).await else { panic!() };
    let key = PublicKey::from_pem(world.repository.delegations[0].keys[0].public_pem()).unwrap();
    let ids: Vec<_> = by.iter().map(|signatory| signatory.id.clone()).collect();
    assert_eq!(ids, [key.fingerprint().to_string()]);
    assert_eq!(Authority::new("cosign", Scheme::cosign_keys(vec![key])).signers(), ids.into_iter().collect());
}

/// Outcome and pin end with the key of a signer.
#[tokio::test]
async fn keys_of_signers_count_within_their_limits() {
    let mut world = World::new().await;
    world.repository.delegations.push(SampleDelegation::new("targets/alice").unwrap());
    world.sign("targets/releases", "v1", &image(1));
    world.sign("targets/alice", "v1", &image(1));
    world.publish();
    let now = world.clock.now();
    let seconds = |after: i64| now + SignedDuration::from_secs(after);
    let limited = |from: Option<i64>, until: Option<i64>| {
        let validity = KeyValidity { from: from.map(seconds), until: until.map(seconds) };
        let alice = Signer { validity, ..signer("alice", &world.repository.delegations[1].keys[0]) };
        NotaryTrust { signers: vec![alice], ..world.pinned() }
    };
    let ends = limited(Some(0), Some(20));
    world.assert_signed(&ends).await;
    let evidence = world
        .trust
        .evidence(&world.server, &name(), &"v1".parse().unwrap(), &Arc::new(image(1)), &[authority(&ends)], |_| false)
        .await;
    assert_eq!(evidence.outcome(authority(&ends).id()).unwrap().until, Some(seconds(20)));
    let pin = world.trust.pin(&world.server, &name(), &"v1".parse().unwrap(), &[authority(&ends)]).await;
    assert_eq!(pin.unwrap().pin.unwrap().until, seconds(20));
    world.assert_refused(&limited(Some(1), None), "signer alice does not count: its key is valid only from").await;
    world.assert_refused(&limited(None, Some(0)), "signer alice does not count: its key was valid only until").await;
    world.clock.advance(SignedDuration::from_secs(20));
    world.assert_refused(&ends, "its key was valid only until").await;
}

#[tokio::test]
async fn a_tag_means_the_signed_digest() {
    let mut world = World::signed().await;
    let trust = world.pinned();
    let TrustOutcome::Verified { by, found, .. } = world.outcome(&trust, "v1", &image(1)).await else { panic!() };
    assert!(by.len() == 1 && by[0].description.contains("targets/releases"), "{by:?}");
    assert!(found[0].place.contains("https://notary.acme.com/v2/registry.acme.com/team/app"), "{found:?}");
    assert_eq!(world.pin(&trust, "v1").await, Ok(Some(image(1).digest)));
    // Another digest of the same tag, an unsigned tag of the same digest, another digest.
    for (reference, image, part) in [
        ("v1".to_owned(), image(2), "tag v1 is signed for"),
        ("v2".into(), image(1), "No valid trust data for v2"),
        (image(2).digest.to_string(), image(2), "No signed targets found"),
    ] {
        let outcome = world.outcome(&trust, &reference, &image).await;
        let TrustOutcome::Unverified { found } = &outcome else { panic!("{reference}: {outcome:?}") };
        assert!(format!("{found:?}").contains(part), "{found:?}");
    }
    let by_digest = world.outcome(&trust, &image(1).digest.to_string(), &image(1)).await;
    assert!(matches!(by_digest, TrustOutcome::Verified { .. }), "{by_digest:?}");
    // What was learned holds for a while, and then the timestamp says what is new.
    let asked = world.server.asked();
    assert_eq!(asked, 4, "timestamp, snapshot, targets, targets/releases: {:?}", world.server.asked.lock().unwrap());
    world.pass();
    world.assert_signed(&trust).await;
    assert_eq!(world.server.asked(), asked + 1, "the timestamp names the same snapshot");
    world.sign("targets/releases", "v1", &image(2));
    world.publish();
    world.assert_signed(&trust).await;
    world.pass();
    assert_eq!(world.pin(&trust, "v1").await, Ok(Some(image(2).digest)));
    world.assert_refused_but_pinned(&trust, image(2).digest).await;
}

impl World {
    async fn assert_refused_but_pinned(&self, trust: &NotaryTrust, digest: Digest) {
        let outcome = self.outcome(trust, "v1", &image(1)).await;
        assert!(matches!(outcome, TrustOutcome::Unverified { .. }), "{outcome:?}");
        assert_eq!(self.pin(trust, "v1").await, Ok(Some(digest)));
    }
}

#[tokio::test]
async fn releases_have_the_first_word_and_nobody_else_releases() {
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
    world.assert_refused(&forged, "targets/alice is not signed with the key of signer alice").await;
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
    world.assert_refused(&keys(&NotaryKey::generate().unwrap()), "none of its keys is one that is trusted").await;
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
    world.assert_refused(&trust, "old document is replayed").await;
}

/// TUF's rollback attack: the server, or somebody on the way, answers with what was valid before.
#[tokio::test]
async fn replayed_documents_are_refused_after_a_restart_too() {
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
            .assert_refused(&trust, &format!("{role}: an old document is replayed: version 1 is older than version 2"))
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
    world.assert_refused(&trust, "old document is replayed").await;
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
        ("snapshot", |value| value["meta"]["targets"]["length"] = 1.into(), "its size or hash is not the one"),
        (
            "snapshot",
            |value| value["meta"]["targets"]["hashes"]["sha512"] = "AAAA".into(),
            "its size or hash is not the one",
        ),
        ("snapshot", |value| value["meta"]["targets"]["hashes"] = json!({"md5": "AAAA"}), "SHA-256 hash is missing"),
        ("snapshot", |value| value["meta"]["targets"]["length"] = 9_000_000.into(), "larger than"),
        ("snapshot", |value| value["meta"]["root"]["length"] = 1.into(), "it names another root"),
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
    world.assert_refused(&trust, "1 of the 2 keys that must sign it").await;
    // The same key with two IDs.
    world.pass();
    let id = world.repository.delegations[0].keys[0].id().to_owned();
    world.publish_signed("targets", |value| {
        let delegations = &mut value["delegations"];
        delegations["roles"][0]["keyids"] = json!([id, id]);
    });
    world.assert_refused(&trust, "1 of the 2 keys that must sign it").await;
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
        (r#"{"Signed":{},"signatures":[]}"#.into(), "is read as"),
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
    assert!(matches!(&error, PinError::Unknown(why) if why.temporary && why.why.contains("a moment ago")), "{error}");
    let outcome = world.outcome(&trust, "v1", &image(1)).await;
    assert!(matches!(&outcome, TrustOutcome::Unknown { temporary: true, .. }), "{outcome:?}");
    assert!(began.elapsed() < std::time::Duration::from_secs(3));
    assert_eq!(world.server.asked(), asked, "it is left alone");
    silent(false);
    world.clock.advance(SignedDuration::from_secs(10));
    world.assert_signed(&trust).await;
    assert_eq!(world.pin(&trust, "v1").await, Ok(Some(image(1).digest)));
}
