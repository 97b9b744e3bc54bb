//! Docker Content Trust against a notary server in memory, which the test owns.

mod attacks;
mod fixtures;
mod recovery;
mod releases;
mod replays;
mod roles;
mod roots;
mod servers;

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
