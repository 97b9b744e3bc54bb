//! Keys that may be used for a limited time.

use super::sigstore::{Content as Signed, Instance, Logging, SIGNED_AT, Witnessed};
use super::*;
use crate::policy::{KeyValidity, PinnedKey, TransparencyLog, TrustedRoot};

const DAY: i64 = 86_400;
const UNWITNESSED: Witnessed = Witnessed { logging: Logging::None, is_stamped: false, at: SIGNED_AT };

fn at(days: i64) -> Timestamp {
    Timestamp::from_second(SIGNED_AT + days * DAY).unwrap()
}

/// From and until, in days after the signature.
fn days(from: Option<i64>, until: Option<i64>) -> KeyValidity {
    KeyValidity { from: from.map(at), until: until.map(at) }
}

fn limited(signer: &Signer, validity: KeyValidity) -> CosignAuthority {
    let signers = CosignSigners::Keys(vec![PinnedKey { key: signer.key(), validity }]);
    CosignAuthority { signers, ..CosignAuthority::of_keys(vec![]) }
}

fn with_root(instance: &Instance, cosign: CosignAuthority) -> CosignAuthority {
    let root = TrustedRoot::from_json("root", instance.trusted_root().to_string().as_bytes()).unwrap();
    CosignAuthority { roots: vec![root], ..cosign }
}

fn bundle(instance: &Instance, signer: &Signer, witnessed: Witnessed) -> Registry {
    let statement = statement(&image().digest);
    let bundle = instance.bundle_by_key(&*signer.sign, &signer.pem(), Signed::Statement(&statement), witnessed);
    Registry::with_bundle(&bundle)
}

/// What is known some days after the signature, by somebody who knew nothing before.
async fn judge(registry: Registry, cosign: CosignAuthority, after: i64) -> Observed<TrustOutcome> {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let trust = Trust::new(Config::default(), services(&store, &Clock::manual(at(after))));
    let authority = Arc::new(Authority::new("release", Scheme::Cosign(Box::new(cosign))));
    let (registry, asked) = (Arc::new(registry), [authority.clone()]);
    let evidence = trust.evidence(&registry, &name(), &by_digest(), &Arc::new(image()), &asked, |_| false).await;
    evidence.outcome(authority.id()).unwrap().clone()
}

/// Nothing proves when a signature was made, so the current time counts, and the evidence ends with the key.
#[tokio::test]
async fn without_a_proven_time_the_current_time_counts() {
    let (instance, signer) = (Instance::new(), Signer::p256());
    let window = days(Some(1), Some(3));
    for (after, refused) in [(0, Some("is valid only from")), (1, None), (2, None), (3, Some("was valid only until"))] {
        let classic =
            Registry::new(Api::Absent).with_classic(&image().digest, vec![signer.classic(&payload(&image().digest))]);
        for registry in [bundle(&instance, &signer, UNWITNESSED), classic] {
            let found = judge(registry, limited(&signer, window), after).await;
            match refused {
                Some(part) => {
                    assert_refused(&found.value, part);
                    let why = found.value.found()[0].to_string();
                    assert!(why.contains("the current time counts") && why.contains("ECDSA P-256 key"), "{why}");
                }
                None => {
                    assert_verified(&found.value, "ECDSA P-256");
                    assert_eq!(found.until, Some(at(3)));
                }
            }
        }
    }
    let unlimited = judge(bundle(&instance, &signer, UNWITNESSED), limited(&signer, days(None, None)), 2).await;
    assert_eq!(unlimited.until, None);
}

/// What was found out while the key was valid is not repeated after its end.
#[tokio::test]
async fn evidence_ends_with_the_key() {
    let (dir, clock, signer) = (tempfile::tempdir().unwrap(), Clock::manual(at(2)), Signer::p256());
    let store = Store::open(dir.path()).await.unwrap();
    let trust = Trust::new(Config::default(), services(&store, &clock));
    let cosign = limited(&signer, days(None, Some(3)));
    let authority = Arc::new(Authority::new("release", Scheme::Cosign(Box::new(cosign))));
    let registry = Arc::new(bundle(&Instance::new(), &signer, UNWITNESSED));
    let ask = async || {
        let asked = [authority.clone()];
        let evidence = trust.evidence(&registry, &name(), &by_digest(), &Arc::new(image()), &asked, |_| false).await;
        evidence.outcome(authority.id()).unwrap().value.clone()
    };
    assert_verified(&ask().await, "ECDSA P-256");
    clock.advance(SignedDuration::from_hours(24));
    assert_refused(&ask().await, "was valid only until");
}

/// A log or a time-stamping authority of a trusted root proves the time of signing, which counts then.
#[tokio::test]
async fn a_proven_time_of_signing_counts_instead() {
    let (instance, signer) = (Instance::new(), Signer::p256());
    let (logged, stamped) =
        (Witnessed { logging: Logging::V1, ..UNWITNESSED }, Witnessed { is_stamped: true, ..UNWITNESSED });
    let both = Witnessed { is_stamped: true, logging: Logging::V2, ..UNWITNESSED };
    for witnessed in [logged, stamped, both] {
        let later = async |cosign| judge(bundle(&instance, &signer, witnessed), with_root(&instance, cosign), 10).await;
        let found = later(limited(&signer, days(Some(-1), Some(1)))).await;
        assert_verified(&found.value, "ECDSA P-256");
        let TrustOutcome::Verified { by, .. } = &found.value else { panic!() };
        assert_eq!(by[0].signed_at, Some(at(0)));
        assert!(found.until.is_some_and(|until| until > at(10)), "{found:?}");
        for (window, part) in [
            (days(None, Some(0)), "was valid only until"),
            (days(Some(1), None), "is valid only from"),
            (days(Some(1), Some(20)), "it was signed at 2024-01-01T00:00:00Z"),
        ] {
            assert_refused(&later(limited(&signer, window)).await.value, part);
        }
        let required = CosignAuthority {
            log: TransparencyLog::Require,
            ..with_root(&instance, limited(&signer, days(Some(-1), Some(1))))
        };
        if witnessed.logging != Logging::None {
            let found = judge(bundle(&instance, &signer, witnessed), required, 10).await;
            assert_verified(&found.value, "ECDSA P-256");
        }
    }
}

/// Somebody who has the key after its end can make an instance, and state any time.
#[tokio::test]
async fn times_that_nobody_trusted_vouches_for_prove_nothing() {
    let (instance, stranger, signer) = (Instance::new(), Instance::new(), Signer::p256());
    let window = days(Some(-1), Some(1));
    for logging in [Logging::V1, Logging::None] {
        let witnessed = Witnessed { logging, is_stamped: true, ..UNWITNESSED };
        let forged = bundle(&stranger, &signer, witnessed);
        let found = judge(forged, with_root(&instance, limited(&signer, window)), 10).await;
        assert_refused(&found.value, "the current time counts");
        let unrooted = judge(bundle(&instance, &signer, witnessed), limited(&signer, window), 10).await;
        assert_refused(&unrooted.value, "the current time counts");
    }
    // A time stamp that the future will bring is no proof either.
    let early = bundle(&instance, &signer, Witnessed { is_stamped: true, ..UNWITNESSED });
    let found = judge(early, with_root(&instance, limited(&signer, window)), -5).await;
    assert_refused(&found.value, "the current time counts");
}

/// A time-stamping authority is trusted for the times that its trusted root, its certificate and the certificates above
/// it cover. Whoever has the key of an authority that ended cannot date a signature back to a time after that end.
#[tokio::test]
async fn a_time_stamp_counts_only_while_its_authority_is_valid() {
    let (signer, ended, later) = (Signer::p256(), SIGNED_AT - DAY, SIGNED_AT + DAY);
    for (until, root_until, window_end, counts) in [
        (later, later, None, true),
        (later, later, Some(later), true),
        (later, later, Some(ended), false),
        (ended, later, None, false),
        (later, ended, None, false),
    ] {
        let instance = Instance::new().with_stamper_until(until, root_until);
        let mut root = instance.trusted_root();
        if let Some(end) = window_end {
            root["timestampAuthorities"][0]["validFor"]["end"] =
                Timestamp::from_second(end).unwrap().to_string().into();
        }
        let roots = vec![TrustedRoot::from_json("root", root.to_string().as_bytes()).unwrap()];
        let stamped = Witnessed { is_stamped: true, ..UNWITNESSED };
        let cosign = CosignAuthority { roots, ..limited(&signer, days(None, Some(5))) };
        let found = judge(bundle(&instance, &signer, stamped), cosign, 10).await;
        match counts {
            true => assert_verified(&found.value, "ECDSA P-256"),
            false => assert_refused(&found.value, "the current time counts"),
        }
    }
}

/// One key takes over from the other, with a day on which both count.
#[tokio::test]
async fn keys_are_rotated_by_their_windows() {
    let (instance, old, new) = (Instance::new(), Signer::p256(), Signer::ed25519());
    let rotated = || {
        let keys = [(&old, days(None, Some(2))), (&new, days(Some(1), None))];
        let keys = keys.map(|(signer, validity)| PinnedKey { key: signer.key(), validity });
        CosignAuthority { signers: CosignSigners::Keys(keys.into()), ..CosignAuthority::of_keys(vec![]) }
    };
    for (after, [by_old, by_new]) in [(0, [true, false]), (1, [true, true]), (2, [false, true])] {
        for (signer, counts) in [(&old, by_old), (&new, by_new)] {
            let found = judge(bundle(&instance, signer, UNWITNESSED), rotated(), after).await;
            assert_eq!(matches!(found.value, TrustOutcome::Verified { .. }), counts, "{after}: {found:?}");
        }
    }
}
