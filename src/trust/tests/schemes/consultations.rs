//! Authorities whose evidence is elsewhere.

use super::*;

#[tokio::test]
async fn consulted_authorities_need_no_search_and_keep_their_end() {
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let (trust, _dir) = trust(&clock).await;
    let mut registry = Registry::new(Api::Absent);
    registry.documents.insert("/a".into(), "alice".into());
    registry.failing = vec!["/c".into()];
    let registry = Arc::new(registry);
    let (a, b, c) = (shelved("/a"), shelved("/b"), shelved("/c"));
    let found = ask(&trust, &registry, &tag(), &[&a, &b, &c]).await;
    assert_verified(&found[0].value, "/a");
    assert_eq!(found[0].until, Timestamp::from_second(1000).ok());
    assert_eq!(found[1].value, TrustOutcome::Unverified { found: vec![] });
    assert_eq!(found[1].until, Some(clock.now() + Config::default().negative_ttl), "a negative ends sooner");
    assert_unknown(&found[2].value, "500", true);
    assert_eq!(asked(&registry), ["/a", "/b", "/c"], "nothing else is asked of the registry");
    ask(&trust, &registry, &tag(), &[&b, &a]).await;
    assert_eq!(asked(&registry).len(), 3, "what is known is not asked again");
    // A verified outcome ends when its scheme says.
    clock.advance(SignedDuration::from_secs(999));
    ask(&trust, &registry, &tag(), &[&a]).await;
    assert_eq!(asked(&registry).len(), 3);
    clock.advance(SignedDuration::from_secs(1));
    ask(&trust, &registry, &tag(), &[&a]).await;
    assert_eq!(asked(&registry).len(), 4);
}

/// The outcome for one tag says nothing about another one, where the scheme compares tags; everywhere else it does.
#[tokio::test]
async fn outcomes_are_kept_for_the_reference_only_where_they_depend_on_it() {
    let (trust, _dir) = trust(&Clock::manual(Timestamp::UNIX_EPOCH)).await;
    let mut registry = Registry::new(Api::Absent);
    registry.documents.insert("/any".into(), "alice".into());
    registry.documents.insert("/by:v1".into(), "alice".into());
    registry.documents.insert(format!("/by:{}", image().digest), "bob".into());
    let registry = Arc::new(registry);
    let (any, by) = (shelved("/any"), shelved("/by:"));
    let other = Reference::Digest(Digest::sha256(b"an index that lists the image"));
    for (reference, verified) in [("v1", true), ("v2", false), ("v1", true)]
        .map(|(tag, verified)| (Reference::Tag(tag.parse().unwrap()), verified))
    {
        let found = ask(&trust, &registry, &reference, &[&any, &by]).await;
        assert_verified(&found[0].value, "/any");
        assert_eq!(matches!(found[1].value, TrustOutcome::Verified { .. }), verified, "{reference}");
    }
    for reference in [by_digest(), other] {
        assert_verified(&ask(&trust, &registry, &reference, &[&by]).await[0].value, "/by:sha256:");
    }
    let asked = asked(&registry);
    let expected = ["/any".to_owned(), "/by:v1".into(), "/by:v2".into(), format!("/by:{}", image().digest)];
    assert_eq!(asked, expected, "each once: a reference by digest is that of the image");
}

#[tokio::test]
async fn concurrent_questions_share_a_consultation_of_the_same_reference() {
    let (trust, _dir) = trust(&Clock::manual(Timestamp::UNIX_EPOCH)).await;
    let registry = Arc::new(Registry::new(Api::Absent));
    let (any, by) = (&shelved("/any"), &shelved("/by:"));
    let (any, by) = (&[any], &[by]);
    let [v1, v2] = ["v1", "v2"].map(|tag| Reference::Tag(tag.parse().unwrap()));
    tokio::join!(
        ask(&trust, &registry, &v1, any),
        ask(&trust, &registry, &v2, any),
        ask(&trust, &registry, &v1, by),
        ask(&trust, &registry, &v1, by),
        ask(&trust, &registry, &v2, by),
    );
    let mut asked = asked(&registry);
    asked.sort();
    assert_eq!(asked, ["/any", "/by:v1", "/by:v2"]);
}

/// The search for attached signatures ends as early as without the consultation, and goes on where it has to.
#[tokio::test]
async fn a_consultation_runs_beside_the_search() {
    let signer = Signer::p256();
    for (path, is_shared) in [("/a", false), ("/shared", true)] {
        let (trust, _dir) = trust(&Clock::manual(Timestamp::UNIX_EPOCH)).await;
        let digest = image().digest;
        let mut registry = Registry::new(Api::Absent).with_classic(&digest, vec![signer.classic(&payload(&digest))]);
        registry.documents.insert("/a".into(), "alice".into());
        // The same signer as the first authority's, which may have another one.
        registry.documents.insert("/shared".into(), signer.key().fingerprint().to_string().into());
        // It is looked at last.
        let last = registry.bundle(&digest, &Signer::p256().bundle(&statement(&digest)));
        registry.manifests.insert(format!("sha256-{}", digest.hex()), index_json(std::slice::from_ref(&last)));
        let last = last["digest"].as_str().unwrap().to_owned();
        let registry = Arc::new(registry);
        let cosign = Arc::new(Authority::new("two", Scheme::cosign_keys(vec![signer.key(), Signer::rsa().key()])));
        let found = ask(&trust, &registry, &tag(), &[&cosign, &shelved(path)]).await;
        assert_verified(&found[0].value, "ECDSA");
        assert_verified(&found[1].value, path);
        assert_eq!(asked(&registry).contains(&last), is_shared, "{:?}", asked(&registry));
    }
}

/// An image that one signature admits does not wait for a place that does not answer. The search goes on, for whoever
/// needs more.
#[tokio::test]
async fn irrelevant_evidence_is_not_awaited() {
    let (signer, digest) = (Signer::p256(), image().digest);
    let (trust, _dir) = trust(&Clock::manual(Timestamp::UNIX_EPOCH)).await;
    let trust = Arc::new(trust);
    let registry = Registry::new(Api::Absent).with_classic(&digest, vec![signer.classic(&payload(&digest))]);
    let registry = Arc::new(registry);
    let authorities = [signer.authority(), shelved("/silent")];
    let ask = |needed: usize| {
        let (trust, registry, authorities) = (trust.clone(), registry.clone(), authorities.clone());
        async move {
            let signed = |evidence: &TrustEvidence| {
                evidence.iter().filter(|(_, one)| matches!(one.value, TrustOutcome::Verified { .. })).count()
            };
            let is_enough = |evidence: &TrustEvidence| signed(evidence) >= needed;
            let evidence =
                trust.evidence(&registry, &name(), &tag(), &Arc::new(image()), &authorities, is_enough).await;
            authorities.map(|authority| evidence.outcome(authority.id()).unwrap().value.clone())
        }
    };
    let begun = std::time::Instant::now();
    for _ in 0..2 {
        let [cosign, silent] = ask(1).await;
        assert_verified(&cosign, "ECDSA");
        assert_unknown(&silent, "not awaited", true);
    }
    let mut patient = Box::pin(ask(2));
    assert!(futures_util::poll!(&mut patient).is_pending());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    tokio::time::pause();
    let [cosign, silent] = patient.await;
    assert_verified(&cosign, "ECDSA");
    assert_unknown(&silent, "no answer", true);
    assert_eq!(asked(&registry).iter().filter(|what| what.ends_with(".sig")).count(), 1, "one search for all");
}
