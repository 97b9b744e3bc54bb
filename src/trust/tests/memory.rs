//! What is remembered for each authority, and for how long.

use super::*;

/// Trust over a store, with a clock that the test moves.
struct World {
    trust: Trust,
    clock: Clock,
    store: Store,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let clock = Clock::manual(Timestamp::from_second(1_000_000).unwrap());
        let trust = Trust::new(Config::default(), services(&store, &clock));
        Self { trust, clock, store, _dir: dir }
    }

    /// The same store after a restart.
    fn restart(&mut self) {
        self.trust = Trust::new(Config::default(), services(&self.store, &self.clock));
    }

    async fn ask(&self, registry: &Arc<Registry>, authorities: &[&Arc<Authority>]) -> Vec<Observed<TrustOutcome>> {
        self.ask_in(&name(), registry, authorities).await
    }

    async fn ask_in(
        &self,
        name: &ImageName,
        registry: &Arc<Registry>,
        authorities: &[&Arc<Authority>],
    ) -> Vec<Observed<TrustOutcome>> {
        let owned: Vec<_> = authorities.iter().map(|authority| (*authority).clone()).collect();
        let evidence = self.trust.evidence(registry, name, &by_digest(), &Arc::new(image()), &owned, |_| false).await;
        assert_eq!(evidence.iter().count(), owned.len());
        owned.iter().map(|authority| evidence.outcome(authority.id()).unwrap().clone()).collect()
    }

    fn pass(&self, seconds: i64) {
        self.clock.advance(SignedDuration::from_secs(seconds));
    }

    fn in_seconds(&self, seconds: i64) -> Option<Timestamp> {
        Some(self.clock.now() + SignedDuration::from_secs(seconds))
    }
}

/// A registry that has classic signatures of the image by these signers.
fn signed_by(signers: &[&Signer]) -> Arc<Registry> {
    let digest = image().digest;
    let signatures = signers.iter().map(|signer| signer.classic(&payload(&digest))).collect::<Vec<_>>();
    match signatures.is_empty() {
        true => Arc::new(Registry::new(Api::Absent)),
        false => Arc::new(Registry::new(Api::Absent).with_classic(&digest, signatures)),
    }
}

/// A registry that answers nothing.
fn silent() -> Arc<Registry> {
    let digest = image().digest;
    let mut registry = Registry::new(Api::Fails(true));
    registry.failing = vec![format!("sha256-{}.sig", digest.hex()), format!("sha256-{}", digest.hex())];
    Arc::new(registry)
}

fn requests(registry: &Registry) -> usize {
    registry.asked.lock().unwrap().len()
}

fn authority(name: &str, keys: &[&Signer]) -> Arc<Authority> {
    Arc::new(Authority::new(name, Scheme::cosign_keys(keys.iter().map(|signer| signer.key()).collect())))
}

fn signatories(observed: &Observed<TrustOutcome>) -> usize {
    match &observed.value {
        TrustOutcome::Verified { by, .. } => by.len(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn another_authority_verifies_nothing_again() {
    let (world, one, other) = (World::new().await, Signer::p256(), Signer::ed25519());
    let (a, b) = (authority("a", &[&one]), authority("b", &[&other]));
    let before = world.ask(&signed_by(&[&one]), &[&a]).await.remove(0);
    world.pass(10);
    // The first signature is gone by now: what was verified holds all the same.
    let registry = signed_by(&[&other]);
    let both = world.ask(&registry, &[&a, &b]).await;
    assert_eq!(both[0], before);
    assert!(before.value.found()[0].signer().is_some(), "{before:?}");
    assert_verified(&both[1].value, "Ed25519");
    assert_eq!(both[1].at, world.clock.now());
    let asked = requests(&registry);
    for question in [&[&a][..], &[&b], &[&b, &a], &[&a, &b]] {
        world.ask(&registry, question).await;
    }
    assert_eq!(requests(&registry), asked, "everything is known");
}

#[tokio::test]
async fn a_short_lived_outcome_does_not_end_others() {
    let (world, one, other) = (World::new().await, Signer::p256(), Signer::p256());
    let (a, b) = (authority("a", &[&one]), authority("b", &[&other]));
    let first = world.ask(&signed_by(&[&one]), &[&a, &b]).await;
    assert_eq!((first[0].until, first[1].until), (None, world.in_seconds(60)));
    assert_refused(&first[1].value, "was not made by");
    world.pass(61);
    let second = world.ask(&signed_by(&[&other]), &[&a, &b]).await;
    assert_eq!(second[0], first[0]);
    assert_verified(&second[1].value, "ECDSA");
    // What a registry did not answer ends soonest, and for its own authority alone.
    let c = authority("c", &[&Signer::p256()]);
    let third = world.ask(&silent(), &[&a, &b, &c]).await;
    assert_eq!(third[..2], second[..]);
    assert_unknown(&third[2].value, "403 Forbidden", true);
    assert_eq!(third[2].until, world.in_seconds(2));
}

/// Signatures by keys hold without an end, but who else signed is searched for again where that may matter.
#[tokio::test]
async fn who_else_signed_is_searched_for_again_where_it_may_matter() {
    let (k, l) = (Signer::p256(), Signer::ed25519());
    for (authorities, searched_again) in [
        (vec![authority("a", &[&k, &l])], false),
        (vec![authority("a", &[&k]), authority("b", &[&k])], false),
        (vec![authority("a", &[&k, &l]), authority("b", &[&k])], true),
        (vec![authority("a", &[&k]), authority("b", &[&l])], true),
    ] {
        let (world, registry) = (World::new().await, signed_by(&[&k]));
        let asked: Vec<_> = authorities.iter().collect();
        let first = world.ask(&registry, &asked).await;
        let ends: Vec<_> = first.iter().filter_map(|one| one.until).collect();
        assert_eq!(ends, if searched_again { vec![world.in_seconds(60).unwrap()] } else { vec![] }, "{asked:?}");
        let before = requests(&registry);
        world.pass(59);
        world.ask(&registry, &asked).await;
        assert_eq!(requests(&registry), before, "{asked:?}");
        world.pass(2);
        // The other signature has come.
        let registry = signed_by(&[&k, &l]);
        let found = world.ask(&registry, &asked).await;
        assert_eq!(requests(&registry) > 0, searched_again, "{asked:?}");
        let keys: BTreeSet<String> = found
            .iter()
            .flat_map(|one| match &one.value {
                TrustOutcome::Verified { by, .. } => by.iter().map(|one| one.id.clone()).collect(),
                _ => vec![],
            })
            .collect();
        assert_eq!(keys.len(), if searched_again { 2 } else { 1 }, "{asked:?}");
    }
}

/// A search for one authority ends with its first signature. Together with another authority, a threshold may need the
/// second one.
#[tokio::test]
async fn a_sufficient_signature_is_completed_for_a_threshold() {
    let (digest, k, l) = (image().digest, Signer::p256(), Signer::ed25519());
    let (a, b) = (authority("a", &[&k, &l]), authority("b", &[&k]));
    let mut registry = Registry::new(Api::Absent).with_classic(&digest, vec![k.classic(&payload(&digest))]);
    let bundle = registry.bundle(&digest, &l.bundle(&statement(&digest)));
    registry.manifests.insert(format!("sha256-{}", digest.hex()), index_json(&[bundle]));
    let registry = Arc::new(registry);
    for mut world in [World::new().await, World::new().await] {
        assert_eq!(signatories(&world.ask(&registry, &[&a]).await[0]), 1, "the first suffices");
        world.restart();
        let both = world.ask(&registry, &[&a, &b]).await;
        assert_eq!((signatories(&both[0]), signatories(&both[1])), (2, 1));
        let signers: Vec<_> = both[0].value.found().iter().filter_map(SignatureFinding::signer).collect();
        assert_eq!(signers.len(), 2, "the signature of the first search is listed too: {signers:?}");
        // The other way round, nothing is missing for the first authority.
        let asked = requests(&registry);
        world.ask(&registry, &[&b, &a]).await;
        assert_eq!(requests(&registry), asked);
    }
}

/// What ended with the first signature does not end at once because another authority's search was complete.
#[tokio::test]
async fn a_complete_search_and_one_that_ended_early_hold_together() {
    let (world, k, m) = (World::new().await, Signer::p256(), Signer::ed25519());
    let (l, n) = (Signer::p256(), Signer::p256());
    let (a, b, c) = (authority("a", &[&k, &l]), authority("b", &[&k]), authority("c", &[&m, &n]));
    world.ask(&signed_by(&[&k]), &[&a, &b]).await;
    world.pass(10);
    let found = world.ask(&signed_by(&[&k, &m]), &[&a, &b, &c]).await;
    assert_eq!(found.iter().map(|one| one.until).collect::<Vec<_>>(), [world.in_seconds(50), None, None]);
}

#[tokio::test]
async fn evidence_is_bound_to_authority_repository_and_digest() {
    let (world, signer) = (World::new().await, Signer::p256());
    let a = authority("a", &[&signer]);
    assert_verified(&world.ask(&signed_by(&[&signer]), &[&a]).await[0].value, "ECDSA");
    let unsigned = signed_by(&[]);
    // The same key under another name, another key under the same name, more keys.
    for other in [authority("b", &[&signer]), authority("a", &[&Signer::p256()])] {
        let found = world.ask(&unsigned, &[&a, &other]).await;
        assert_verified(&found[0].value, "ECDSA");
        assert_eq!(found[1].value, TrustOutcome::Unverified { found: vec![] });
    }
    let host = ImageName { host: "evil.example".parse().unwrap(), ..name() };
    let repository = ImageName { repository: "team/other".parse().unwrap(), ..name() };
    for elsewhere in [host, repository] {
        let found = world.ask_in(&elsewhere, &unsigned, &[&a]).await;
        assert_eq!(found[0].value, TrustOutcome::Unverified { found: vec![] });
    }
    let platform = Arc::new(image().named(Digest::of(Algorithm::Sha512, &image().bytes)).unwrap());
    let registry = Arc::new(Registry { subject: platform.digest, ..Registry::new(Api::Absent) });
    let evidence =
        world.trust.evidence(&registry, &name(), &by_digest(), &platform, std::slice::from_ref(&a), |_| false).await;
    assert_eq!(evidence.outcome(a.id()).unwrap().value, TrustOutcome::Unverified { found: vec![] });
}

#[tokio::test]
async fn evidence_survives_a_restart_until_its_end() {
    let (mut world, one, other) = (World::new().await, Signer::p256(), Signer::p256());
    let (a, b, c) = (authority("a", &[&one]), authority("b", &[&other]), authority("c", &[&Signer::p256()]));
    let before = world.ask(&signed_by(&[&one]), &[&a, &b]).await;
    world.ask(&silent(), &[&c]).await;
    world.restart();
    assert_eq!(world.ask(&silent(), &[&a, &b]).await, before, "nothing is verified again");
    // What a registry failed to answer is not stored.
    assert_eq!(world.ask(&signed_by(&[]), &[&c]).await[0].value, TrustOutcome::Unverified { found: vec![] });
    for seconds in [60, -120] {
        world.pass(seconds);
        world.restart();
        let found = world.ask(&silent(), &[&a, &b]).await;
        assert_verified(&found[0].value, "ECDSA");
        assert_unknown(&found[1].value, "403 Forbidden", true);
    }
}

/// A registry that fails takes back nothing that was verified.
#[tokio::test]
async fn verified_evidence_survives_failures() {
    let (world, k, l) = (World::new().await, Signer::p256(), Signer::ed25519());
    let (a, b) = (authority("a", &[&k, &l]), authority("b", &[&l]));
    world.ask(&signed_by(&[&k]), &[&a]).await;
    let found = world.ask(&silent(), &[&a, &b]).await;
    let TrustOutcome::Verified { by, unseen: Some(unseen), .. } = &found[0].value else { panic!("{found:?}") };
    assert!(by.len() == 1 && unseen.temporary, "{found:?}");
    assert_unknown(&found[1].value, "403 Forbidden", true);
    world.pass(3);
    let found = world.ask(&signed_by(&[&k, &l]), &[&a, &b]).await;
    assert_eq!((signatories(&found[0]), signatories(&found[1])), (2, 1));
}

/// A search that found out nothing does not say that nobody else has signed: a threshold stays open.
#[tokio::test]
async fn after_a_failed_search_it_is_unknown_who_else_has_signed() {
    let (world, signer) = (World::new().await, Signer::p256());
    let by = vec![Signatory::of_key(&signer.key(), "k".into())];
    let outcome = TrustOutcome::Verified { by, found: vec![], unseen: None };
    let value = AuthorityFinding { outcome, searched_until: Timestamp::UNIX_EPOCH };
    let before = Observed { value, at: world.clock.now(), until: None };
    let unknown = TrustOutcome::unknown("the verification was interrupted", true);
    let failed = GatheredResult { result: AuthorityResult { outcome: unknown, until: None }, is_complete: false };
    let found = world.trust.inner.finding(failed, Some(&before));
    let TrustOutcome::Verified { by, unseen: Some(unseen), .. } = found.value.outcome else { panic!("{found:?}") };
    assert!(by.len() == 1 && unseen.temporary && unseen.why.contains("interrupted"), "{unseen:?}");
}

#[tokio::test]
async fn concurrent_questions_share_a_search() {
    let (world, one, other) = (World::new().await, Signer::p256(), Signer::p256());
    let (a, b) = (authority("a", &[&one]), authority("b", &[&other]));
    let registry = signed_by(&[&one, &other]);
    let questions = (0..8).map(|number| {
        let question = if number % 2 == 0 { [&a, &b] } else { [&b, &a] };
        let (world, registry) = (&world, &registry);
        async move { world.ask(registry, &question).await }
    });
    for found in futures_util::future::join_all(questions).await {
        found.iter().for_each(|one| assert_verified(&one.value, "ECDSA"));
    }
    let asked = registry.asked.lock().unwrap();
    let once: BTreeSet<_> = asked.iter().collect();
    assert_eq!(once.len(), asked.len(), "{asked:?}");
}

/// A row in the form of an older version must not speak for a threshold, nor lose who signed.
#[test]
fn rows_in_an_older_form_are_gathered_again() {
    let signer = Signatory::of_key(&PublicKey::for_test("k"), "d".into());
    let outcome = TrustOutcome::Verified { by: vec![signer], found: vec![], unseen: None };
    let finding = AuthorityFinding { outcome, searched_until: Timestamp::UNIX_EPOCH };
    let row = serde_json::to_value(&finding).unwrap();
    assert_eq!(serde_json::from_value::<AuthorityFinding>(row.clone()).unwrap(), finding);
    let old = [
        json!({"outcome": {"Unverified": {"found": ["a reason"]}}, "searched_until": "1970-01-01T00:00:00Z"}),
        json!({"8a": {"Verified": {"signer": "ECDSA P-256 key sha256:0123 (bundle)"}}}),
        json!({"8a": {"Verified": {"by": [{"id": "k", "description": "d"}], "unseen": null}}}),
        json!({"outcome": {"Verified": {"by": [{"id": "k", "description": "d"}], "unseen": null}},
               "searched_until": "1970-01-01T00:00:00Z"}),
        json!({"outcome": row["outcome"]}),
    ];
    for old in old {
        assert!(serde_json::from_value::<AuthorityFinding>(old.clone()).is_err(), "{old}");
    }
    let mut assumed = row;
    assumed["outcome"]["Verified"]["by"][0]["kind"] = "assumed".into();
    assert!(
        serde_json::from_value::<AuthorityFinding>(assumed).is_err(),
        "what a test of policies assumes is no evidence"
    );
}
