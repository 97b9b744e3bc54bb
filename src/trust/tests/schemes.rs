//! A scheme made for the test, in addition to those that are registered.

mod consultations;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, pending, ready};

use super::super::pin::{Pin, TagPins};
use super::super::scheme::{Attached, Consultation, ImageSubject, Origin, PinQuestion, SignatureScheme, Verification};
use super::*;
use crate::oci::Tag;
use crate::policy::{KeyRing, Kind, Requirement, Rule, SignatureStore, TrustFindings, Verdict, trust_verdict};

const MARK: &str = "application/x-mark";

/// An image is signed for an authority when the authority's server is written in a layer that is attached to it. A
/// server `pin DIGEST` has signed that digest for every tag; a server `silent …` never answers. To read a layer `stuck`
/// takes until the test is over. To confirm a signature for a server `slow` takes 20 seconds.
struct Marks;

/// Whether a layer `stuck` is being read, and whether the test is over.
static STUCK: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];

impl SignatureScheme for Marks {
    fn name(&self) -> &'static str {
        "marks"
    }

    fn recognises(&self, attached: &Manifest) -> Option<&'static str> {
        self.select(attached, Origin::Referrer).is_ok_and(|layers| !layers.is_empty()).then_some("a mark")
    }

    fn select(&self, attached: &Manifest, _: Origin) -> Result<Vec<usize>, String> {
        let Content::Image { layers, .. } = &attached.content else { return Ok(vec![]) };
        Ok((0..layers.len()).filter(|index| layers[*index].media_type == MARK).collect())
    }

    fn verification(&self, _: &ImageSubject, sought: &[Sought]) -> Box<dyn Verification> {
        let one = |sought: &Sought| (server(&sought.authority), sought.authority.signers(), vec![]);
        Box::new(Marked(sought.iter().map(one).collect()))
    }

    fn pin<'a>(&'a self, question: PinQuestion<'a>) -> Option<BoxFuture<'a, Result<Option<Pin>, SourceError>>> {
        let pinned = match server(question.authority).split_once(' ') {
            Some(("silent", _)) => return Some(Box::pin(pending())),
            Some(("pin", digest)) => Ok(Some(Pin { digest: digest.parse().unwrap(), until: Timestamp::MAX })),
            Some(_) => Err(SourceError::new("no answer", true)),
            None => Ok(None),
        };
        Some(Box::pin(ready(pinned)))
    }
}

fn server(authority: &Authority) -> String {
    let Scheme::Notary(NotaryTrust { server, .. }) = authority.scheme() else { panic!() };
    server.clone().unwrap_or_default()
}

struct Marked(Vec<(String, BTreeSet<String>, Vec<Signatory>)>);

impl Verification for Marked {
    fn read(&mut self, found: &[Attached]) {
        for Attached { layer, bytes, .. } in found {
            while *bytes == b"stuck"[..] && !STUCK[1].load(Ordering::SeqCst) {
                STUCK[0].store(true, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
            }
            for (server, signers, signed) in &mut self.0 {
                if layer.media_type == MARK && *bytes == server.as_bytes() && signed.is_empty() {
                    let key = PublicKey::for_test(server);
                    let id = signers.first().unwrap().clone();
                    signed.push(Signatory { id, ..Signatory::of_key(&key, "mark".into()) });
                }
            }
        }
    }

    fn confirm(&mut self) -> BoxFuture<'_, ()> {
        match self.0.iter().any(|(server, ..)| server == "slow") {
            true => Box::pin(tokio::time::sleep(Duration::from_secs(20))),
            false => Box::pin(ready(())),
        }
    }

    fn signed(&self, authority: usize) -> Vec<Signatory> {
        self.0[authority].2.clone()
    }

    fn possible(&self, authority: usize) -> BTreeSet<String> {
        self.0[authority].1.clone()
    }

    fn found(&self, _: usize) -> Vec<SignatureFinding> {
        Vec::new()
    }
}

/// An image is signed for an authority when its registry has a document at the path of the authority's store, with the
/// reference appended where the path ends in `:`. The store `/silent` never answers.
struct Shelves;

impl SignatureScheme for Shelves {
    fn name(&self) -> &'static str {
        "shelves"
    }

    fn depends_on_reference(&self, authority: &Authority) -> bool {
        shelf(authority).ends_with(':')
    }

    fn consult<'a>(&'a self, question: Consultation<'a>) -> Option<BoxFuture<'a, AuthorityResult>> {
        Some(Box::pin(async move {
            let Consultation { authority, name, reference, image, services } = question;
            assert_eq!(image.digest, super::image().digest);
            let path = match self.depends_on_reference(authority) {
                true => format!("{}{reference}", shelf(authority)),
                false => shelf(authority),
            };
            if path == "/silent" {
                tokio::time::sleep(Duration::from_secs(20)).await;
                return AuthorityResult { outcome: TrustOutcome::unknown("no answer", true), until: None };
            }
            let outcome = match services.document(&name.repository, ServiceAddress::Registry(&path), 100).await {
                Ok(Some(found)) => {
                    let id = String::from_utf8(found.bytes.to_vec()).unwrap();
                    let key = PublicKey::for_test(&id);
                    let by = vec![Signatory { id, ..Signatory::of_key(&key, path) }];
                    TrustOutcome::Verified { by, found: vec![], unseen: None }
                }
                Ok(None) => TrustOutcome::Unverified { found: vec![] },
                Err(SourceError { why, temporary, .. }) => TrustOutcome::unknown(why, temporary),
            };
            AuthorityResult { outcome, until: Timestamp::from_second(1000).ok() }
        }))
    }
}

fn shelf(authority: &Authority) -> String {
    let Scheme::Gpg(signer) = authority.scheme() else { panic!() };
    signer.store.as_ref().unwrap().base.path().to_owned()
}

fn schemes(services: &TrustServices) -> Schemes {
    Schemes { notary: Arc::new(Marks), gpg: Arc::new(Shelves), ..Schemes::new(&Config::default(), services) }
}

fn shelved(path: &str) -> Arc<Authority> {
    let (keyrings, identity) = (vec![KeyRing::for_test(b"ring").into()], SignedIdentity::MatchRepository);
    let store = Some(SignatureStore { base: format!("file://{path}").parse().unwrap(), credentials: None });
    Arc::new(Authority::new(path, Scheme::Gpg(Box::new(SimpleSigner { keyrings, identity, store }))))
}

fn marks(server: &str) -> Arc<Authority> {
    Arc::new(Authority::new(
        server,
        Scheme::Notary(NotaryTrust { server: Some(server.into()), ..NotaryTrust::default() }),
    ))
}

async fn trust(clock: &Clock) -> (Trust, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let services = services(&store, clock);
    (Trust::with_schemes(schemes(&services), Config::default(), services), dir)
}

fn tag() -> Reference {
    Reference::Tag(Tag::latest())
}

#[tokio::test]
async fn schemes_share_a_search_and_read_their_own_layers() {
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let ((trust, _dir), digest, signer) = (trust(&clock).await, image().digest, Signer::p256());
    let mut registry = Registry::new(Api::Absent);
    let mark = registry.push_blob(MARK, b"s".to_vec());
    let mark = registry.push(&manifest_json(&json!([mark]), Some(&digest)));
    let sbom = registry.push_blob("application/spdx+json", b"{}".to_vec());
    let sbom = registry.push(&manifest_json(&json!([sbom]), Some(&digest)));
    let strange = registry.bundle(&digest, &Signer::p256().bundle(&statement(&digest)));
    registry.api = Api::Pages(vec![vec![mark, sbom, strange]]);
    let registry = Arc::new(registry);
    let (cosign, signed, unsigned) = (signer.authority(), marks("s"), marks("t"));
    let authorities = [cosign.clone(), signed.clone(), unsigned.clone()];
    let evidence = trust.evidence(&registry, &name(), &by_digest(), &Arc::new(image()), &authorities, |_| false).await;
    let of = |authority: &Arc<Authority>| evidence.outcome(authority.id()).unwrap().clone();
    // Each scheme is told of its own signatures that failed; of another's it is told what they are; an SBOM is nothing.
    let TrustOutcome::Unverified { found } = of(&cosign).value else { panic!() };
    assert!(found.len() == 2 && found[0].to_string().contains("was not made by"), "{found:?}");
    assert!(found[1].to_string().contains("a mark, which this authority does not read"), "{found:?}");
    assert_eq!(of(&unsigned).value, TrustOutcome::Unverified { found: vec![] });
    // A scheme whose signatures do not hold on their own gives them an end.
    assert_eq!(of(&signed).until, Some(clock.now() + Config::default().ttl));
    assert!(matches!(of(&signed).value, TrustOutcome::Verified { .. }));
    let asked = registry.asked.lock().unwrap().clone();
    let once: BTreeSet<_> = asked.iter().collect();
    assert_eq!(once.len(), asked.len(), "everything is fetched once");
}

#[tokio::test]
async fn a_tag_is_pinned_to_the_digest_that_is_signed_for_it() {
    let (trust, _dir) = trust(&Clock::system()).await;
    let registry = Arc::new(Registry::new(Api::Absent));
    let (one, other) = (Digest::sha256(b"one"), Digest::sha256(b"other"));
    let pinned = |digest: &Digest| marks(&format!("pin {digest}"));
    let cosign = Signer::p256().authority();
    for (authorities, expected) in [
        (vec![], None),
        (vec![cosign.clone()], None),
        (vec![marks("nothing")], None),
        (vec![cosign.clone(), pinned(&one)], Some(one)),
        (vec![pinned(&one), marks("nothing"), pinned(&one)], Some(one)),
    ] {
        let pins = trust.pin(&registry, &name(), &tag(), &authorities).await.unwrap();
        assert_eq!(pins.pin.map(|pin| pin.digest), expected, "{authorities:?}");
        assert_eq!((pins.unknown, pins.again_at), (vec![], None), "{authorities:?}");
    }
    let by_digest = Reference::Digest(other);
    assert_eq!(trust.pin(&registry, &name(), &by_digest, &[pinned(&one)]).await, Ok(TagPins::default()));
    for authorities in [vec![pinned(&one), pinned(&other)], vec![pinned(&one), pinned(&other), marks("down now")]] {
        let error = trust.pin(&registry, &name(), &tag(), &authorities).await.unwrap_err();
        assert!(matches!(&error, PinError::Disagreement { .. }), "{error}");
    }
    // Who does not answer hides nothing that others have signed.
    let down = marks("down now");
    let pins = trust.pin(&registry, &name(), &tag(), &[pinned(&one), down.clone()]).await.unwrap();
    assert_eq!(pins.pin.map(|pin| pin.digest), Some(one));
    assert!(pins.unknown[0].0 == *down.id() && pins.unknown[0].1.temporary && pins.again_at.is_some(), "{pins:?}");
}

/// A server that never answers does not hold a pull forever.
#[tokio::test]
async fn a_pin_has_a_time_limit() {
    let (trust, _dir) = trust(&Clock::system()).await;
    let registry = Arc::new(Registry::new(Api::Absent));
    tokio::time::pause();
    let one = Digest::sha256(b"one");
    let authorities = [marks("silent now"), marks(&format!("pin {one}"))];
    let pins = trust.pin(&registry, &name(), &tag(), &authorities).await.unwrap();
    assert_eq!(pins.unknown, [(authorities[0].id().clone(), SourceError::new("no answer within 60 s", true))]);
    assert_eq!(pins.pin.map(|pin| pin.digest), Some(one));
}

async fn ask(
    trust: &Trust,
    registry: &Arc<Registry>,
    reference: &Reference,
    authorities: &[&Arc<Authority>],
) -> Vec<Observed<TrustOutcome>> {
    let owned: Vec<_> = authorities.iter().map(|authority| (*authority).clone()).collect();
    let evidence = trust.evidence(registry, &name(), reference, &Arc::new(image()), &owned, |_| false).await;
    owned.iter().map(|authority| evidence.outcome(authority.id()).unwrap().clone()).collect()
}

fn asked(registry: &Registry) -> Vec<String> {
    registry.asked.lock().unwrap().clone()
}

/// A responder that does not answer about one signature delays no other one, whether that is found with it or after it.
#[tokio::test]
async fn a_slow_confirmation_does_not_delay_other_findings() {
    let (signer, digest) = (Signer::p256(), image().digest);
    for is_classic in [true, false] {
        let (trust, _dir) = trust(&Clock::manual(Timestamp::UNIX_EPOCH)).await;
        let mut registry = Registry::new(Api::Absent);
        let mark = registry.push_blob(MARK, b"slow".to_vec());
        let mut listed = vec![registry.push(&manifest_json(&json!([mark]), Some(&digest)))];
        if is_classic {
            registry = registry.with_classic(&digest, vec![signer.classic(&payload(&digest))]);
        } else {
            listed.push(registry.bundle(&digest, &signer.bundle(&statement(&digest))));
        }
        registry.api = Api::Pages(vec![listed]);
        registry.documents.insert("/a".into(), "alice".into());
        let registry = Arc::new(registry);
        for other in [signer.authority(), shelved("/a")] {
            let authorities = [marks("slow"), other.clone()];
            let is_enough = |evidence: &TrustEvidence| {
                evidence.outcome(other.id()).is_some_and(|one| matches!(one.value, TrustOutcome::Verified { .. }))
            };
            let begun = std::time::Instant::now();
            let evidence =
                trust.evidence(&registry, &name(), &tag(), &Arc::new(image()), &authorities, is_enough).await;
            assert_verified(&evidence.outcome(other.id()).unwrap().value, "");
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        }
    }
}

/// A verification that does not end ends with the search all the same, and what was verified before it counts.
#[tokio::test]
async fn a_verification_ends_with_the_search() {
    let (dir, clock, digest) = (tempfile::tempdir().unwrap(), Clock::system(), image().digest);
    let schemes = schemes(&services(&Store::open(dir.path()).await.unwrap(), &clock));
    let mut registry = Registry::new(Api::Absent);
    let mut listed = Vec::new();
    for content in ["s", "1", "2", "3", "4", "5", "stuck"] {
        let mark = registry.push_blob(MARK, content.into());
        listed.push(registry.push(&manifest_json(&json!([mark]), Some(&digest))));
    }
    registry.api = Api::Pages(vec![listed]);
    let authorities = [marks("s"), marks("t")];
    tokio::time::pause();
    let tasks = Tasks::new();
    let passes = async {
        while !STUCK[0].load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(Duration::from_secs(61)).await;
    };
    let (name, image) = (name(), image());
    let found = verify(&registry, &schemes, &tasks, &name, &image, &authorities);
    let (found, ()) = tokio::join!(found, passes);
    STUCK[1].store(true, Ordering::SeqCst);
    assert!(
        matches!(&found[0].1, TrustOutcome::Verified { unseen: Some(unseen), .. } if unseen.temporary),
        "{found:?}"
    );
    assert_unknown(&found[1].1, "the search has not ended", true);
}

/// A key that is a subkey of an OpenPGP key is the same signer as that key. So the search for signatures is not over
/// when both have signed.
#[cfg(feature = "gpg")]
#[tokio::test]
async fn a_search_continues_if_an_openpgp_subkey_has_signed_in_another_scheme() {
    use sequoia_openpgp::packet::key::{Key4, PrimaryRole, SecretParts, SubordinateRole};
    use sequoia_openpgp::serialize::SerializeInto as _;
    use sequoia_openpgp::{Cert, Packet};

    let (seed, digest, another) = ([7; 32], image().digest, Signer::p256());
    let primary = Key4::<SecretParts, PrimaryRole>::import_secret_ed25519(&[1; 32], None).unwrap();
    let subkey = Key4::<SecretParts, SubordinateRole>::import_secret_ed25519(&seed, None).unwrap();
    let packets = [Packet::SecretKey(primary.into()), Packet::SecretSubkey(subkey.into())];
    let public = Cert::from_packets(packets.into_iter()).unwrap().strip_secret_key_material().to_vec().unwrap();
    let ring = KeyRing::from_bytes(&public).unwrap();
    let store = Some(SignatureStore { base: "file:///shelf".parse().unwrap(), credentials: None });
    let (keyrings, identity) = (vec![ring.into()], SignedIdentity::MatchRepository);
    let gpg = Arc::new(Authority::new("gpg", Scheme::Gpg(Box::new(SimpleSigner { keyrings, identity, store }))));
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
    let shared = Signer { kind: "Ed25519", spki, sign: Box::new(move |m| pair.sign(m).as_ref().to_vec()) };
    let cosign = Arc::new(Authority::new("cosign", Scheme::cosign_keys(vec![shared.key(), another.key()])));
    let primary = gpg.signers().first().unwrap().clone();

    let mut registry = Registry::new(Api::Absent).with_classic(&digest, vec![shared.classic(&payload(&digest))]);
    registry.documents.insert("/shelf".into(), primary.into());
    // It is looked at last.
    let bundle = registry.bundle(&digest, &another.bundle(&statement(&digest)));
    registry.manifests.insert(format!("sha256-{}", digest.hex()), index_json(&[bundle]));
    let (trust, _dir) = trust(&Clock::manual(Timestamp::UNIX_EPOCH)).await;
    let authorities = [gpg, cosign];
    let registry = Arc::new(registry);
    let evidence = trust.evidence(&registry, &name(), &by_digest(), &Arc::new(image()), &authorities, |_| false).await;
    let requirement = Requirement::AtLeast {
        count: 2,
        of: authorities.iter().map(|authority| Requirement::Authority(authority.clone())).collect(),
    };
    let rule = Rule { trust: Some(requirement), ..Rule::default() };
    let findings = TrustFindings { own: evidence, ..TrustFindings::default() };
    let verdicts = trust_verdict(&rule, Kind::Image, &findings, Timestamp::UNIX_EPOCH);
    assert!(matches!(&verdicts[0], Verdict::Pass(_)), "{verdicts:?}");
}
