//! Questions that are asked before an image is there.

use tokio::sync::mpsc;

use super::*;
use crate::trust::discovery::AheadAnswers;

async fn trust_with_store() -> (Trust, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    (Trust::new(Config::default(), services(&store, &Clock::manual(Timestamp::UNIX_EPOCH))), dir)
}

fn asked(registry: &Registry) -> Vec<String> {
    registry.asked.lock().unwrap().clone()
}

#[tokio::test]
async fn answers_requested_ahead_are_used_once_and_known_evidence_is_not_requested() {
    let (digest, signer) = (image().digest, Signer::p256());
    let (trust, _dir) = trust_with_store().await;
    let registry = Arc::new(Registry::with_bundle(&signer.bundle(&statement(&digest))));
    let authorities = [signer.authority()];
    let begun = trust.ask_ahead(&registry, &name(), &by_digest(), digest, &authorities).await;
    let evidence = trust.evidence(&registry, &name(), &by_digest(), &Arc::new(image()), &authorities, |_| false).await;
    assert_verified(&evidence.outcome(authorities[0].id()).unwrap().value, "(bundle)");
    let all = asked(&registry);
    let once: BTreeSet<_> = all.iter().collect();
    assert_eq!(once.len(), all.len(), "{all:?}");
    drop(begun);
    drop(trust.ask_ahead(&registry, &name(), &by_digest(), digest, &authorities).await);
    tokio::task::yield_now().await;
    assert_eq!(asked(&registry), all);
    // Evidence that is not attached to the image is not asked for ahead.
    let elsewhere = [Arc::new(Authority::new("gone", Scheme::Unusable { why: "gone".into() }))];
    drop(trust.ask_ahead(&registry, &name(), &by_digest(), digest, &elsewhere).await);
    tokio::task::yield_now().await;
    assert_eq!(asked(&registry), all);
}

/// Questions that ended without an answer, as when the gate stops, are no "not signed".
#[tokio::test]
async fn interrupted_questions_are_unknown() {
    let (signer, image) = (Signer::p256(), image());
    let registry = Registry::new(Api::Absent);
    for suffixes in [vec![".sig"], vec![".att"]] {
        let is_used = suffixes == [".sig"];
        let (_, answers) = mpsc::channel(1);
        let authority = signer.authority();
        let request = GatherRequest {
            name: name(),
            reference: by_digest(),
            image: Arc::new(image.clone()),
            place: name(),
            sought: vec![Sought { authority, known: Vec::new() }],
            others: Vec::new(),
            same: SameSigner::default(),
            ahead: Some(AheadAnswers { suffixes, answers }),
            now: Timestamp::UNIX_EPOCH,
        };
        let schemes = schemes().await;
        let results = gather(&registry, &Tasks::new(), &schemes, request, &Config::default(), &|_, _| {}).await;
        match is_used {
            true => assert_unknown(&results[0].result.outcome, "were interrupted", true),
            // Questions about other tags are asked again.
            false => assert_eq!(results[0].result.outcome, TrustOutcome::Unverified { found: vec![] }),
        }
    }
}
