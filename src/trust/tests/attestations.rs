//! Attestations: what is signed about an image, and not the image itself.

use std::time::Duration;

use super::super::scheme::LARGEST_SIGNATURE;
use super::*;
use crate::policy::{AttestationRule, CosignAuthority};

const SLSA: &str = "https://slsa.dev/provenance/v1";
const VULN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

fn rule(predicate_type: &str) -> AttestationRule {
    AttestationRule { predicate_type: predicate_type.into(), max_age: None, condition: None }
}

/// An authority that must attest something with the key of this signer.
fn attesting(signer: &Signer, rule: AttestationRule) -> Arc<Authority> {
    let cosign = CosignAuthority { attestation: Some(rule), ..CosignAuthority::of_keys(vec![signer.key()]) };
    Arc::new(Authority::new("provenance", Scheme::Cosign(Box::new(cosign))))
}

fn attestation(digest: &Digest, predicate_type: &str, predicate: &Value) -> Value {
    let mut statement = statement(digest);
    statement["predicateType"] = predicate_type.into();
    statement["predicate"] = predicate.clone();
    statement
}

/// A registry with these envelopes as classic attestations.
fn with_att(digest: &Digest, envelopes: &[Value]) -> Registry {
    let mut registry = Registry::new(Api::Absent);
    let layer = |envelope: &Value| {
        let mut layer = registry.push_blob(ENVELOPE, envelope.to_string().into());
        layer["annotations"] = json!({"dev.cosignproject.cosign/signature": ""});
        layer
    };
    let layers: Vec<_> = envelopes.iter().map(layer).collect();
    let manifest = manifest_json(&layers.into(), None).to_string();
    registry.manifests.insert(format!("sha256-{}.att", digest.hex()), manifest.into());
    registry
}

async fn judge(registry: &Registry, authority: &Arc<Authority>) -> TrustOutcome {
    registry.judge(std::slice::from_ref(authority)).await.remove(0)
}

#[tokio::test]
async fn attestations_are_found_in_both_forms() {
    let (digest, signer) = (image().digest, Signer::p256());
    let bundle = signer.bundle(&attestation(&digest, SLSA, &json!({"x": 1})));
    let authority = attesting(&signer, rule(SLSA));
    assert_verified(&judge(&Registry::with_bundle(&bundle), &authority).await, "(bundle)");
    let classic = with_att(&digest, &[bundle["dsseEnvelope"].clone()]);
    assert_verified(&judge(&classic, &authority).await, "(classic attestation)");
    // The type is that of the rule, the key that of the authority, and the subject the image.
    for registry in [&Registry::with_bundle(&bundle), &classic] {
        assert_refused(&judge(registry, &attesting(&signer, rule(VULN))).await, "is an attestation of");
        assert_refused(&judge(registry, &attesting(&Signer::p256(), rule(SLSA))).await, "was not made by");
    }
    let elsewhere = signer.bundle(&attestation(&Digest::sha256(b"other"), SLSA, &json!({})));
    assert_refused(&judge(&Registry::with_bundle(&elsewhere), &authority).await, "is for another image");
}

/// "Some attestation is signed" and "some attestation has the wanted type" do not add up to an attestation of that type
/// that is signed.
#[tokio::test]
async fn cve_2022_35929_the_type_is_that_of_the_verified_statement() {
    let (digest, signer, stranger) = (image().digest, Signer::p256(), Signer::p256());
    let ours = signer.bundle(&attestation(&digest, VULN, &json!({})))["dsseEnvelope"].clone();
    let theirs = stranger.bundle(&attestation(&digest, SLSA, &json!({})))["dsseEnvelope"].clone();
    let authority = attesting(&signer, rule(SLSA));
    let outcome = judge(&with_att(&digest, &[ours.clone(), theirs.clone()]), &authority).await;
    let TrustOutcome::Unverified { found } = &outcome else { panic!("{outcome:?}") };
    let why: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(why.len() == 2 && why[0].contains("was not made by") && why[1].contains("is an attestation of"), "{why:?}");
    let mut both = ours;
    both["signatures"] = json!([both["signatures"][0], theirs["signatures"][0]]);
    assert_refused(&judge(&with_att(&digest, &[both]), &authority).await, "exactly one signature");
}

/// A signature is not an attestation, and an attestation is not a signature of the image.
#[tokio::test]
async fn signatures_and_attestations_do_not_replace_each_other() {
    let (digest, signer) = (image().digest, Signer::p256());
    let signature = Registry::with_bundle(&signer.bundle(&statement(&digest)));
    assert_refused(&judge(&signature, &attesting(&signer, rule(SLSA))).await, "is an attestation of");
    let classic = Registry::new(Api::Absent).with_classic(&digest, vec![signer.classic(&payload(&digest))]);
    assert_eq!(judge(&classic, &attesting(&signer, rule(SLSA))).await, TrustOutcome::Unverified { found: vec![] });
    let attested = Registry::with_bundle(&signer.bundle(&attestation(&digest, SLSA, &json!({}))));
    assert_refused(&judge(&attested, &signer.authority()).await, "is an attestation of");
    // One key can do both, and counts for each.
    let both = attesting(&signer, rule(SLSA));
    assert!(signer.authority().signers().is_disjoint(&both.signers()), "{both:?}");
    assert_eq!(attesting(&signer, rule(SLSA)).signers(), both.signers());
}

#[tokio::test]
async fn age_and_condition_are_judged_and_end_the_outcome() {
    let (digest, signer) = (image().digest, Signer::p256());
    // The search of these tests takes place in 1970.
    let scanned = json!({"metadata": {"scanFinishedOn": "1969-12-31T00:00:00Z"}, "critical": 0});
    let registry = Registry::with_bundle(&signer.bundle(&attestation(&digest, VULN, &scanned)));
    let with = |hours, condition: &str| AttestationRule {
        max_age: Some(SignedDuration::from_hours(hours)),
        condition: Some(AttestationRule::condition(condition).unwrap()),
        ..rule(VULN)
    };
    assert_verified(&judge(&registry, &attesting(&signer, with(48, "predicate.critical == 0"))).await, "(bundle)");
    for (rule, expected) in [
        (with(24, "true"), "is too old: it was made at 1969-12-31T00:00:00Z"),
        (with(48, "predicate.critical > 0"), "does not meet the condition"),
        (with(48, "predicate.absent == 0"), "cannot be evaluated"),
    ] {
        assert_refused(&judge(&registry, &attesting(&signer, rule)).await, expected);
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let trust = Trust::new(Config::default(), services(&store, &clock));
    let (authority, registry) = (attesting(&signer, with(48, "true")), Arc::new(registry));
    let ask = async || {
        let evidence = trust
            .evidence(&registry, &name(), &by_digest(), &Arc::new(image()), std::slice::from_ref(&authority), |_| false)
            .await;
        evidence.outcome(authority.id()).unwrap().clone()
    };
    let found = ask().await;
    assert_eq!(found.until, Some(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24)), "{found:?}");
    clock.advance(SignedDuration::from_hours(25));
    assert_refused(&ask().await.value, "is too old");
}

/// Lists of packages are large. They are read in both forms, whatever their descriptors state, and no signature is
/// searched for in them.
#[tokio::test]
async fn attestations_larger_than_signatures_are_read() {
    let (digest, signer) = (image().digest, Signer::p256());
    let bundle = signer.bundle(&attestation(&digest, SLSA, &json!({"packages": "a".repeat(2 << 20)})));
    let authority = attesting(&signer, rule(SLSA));
    assert_verified(&judge(&Registry::with_bundle(&bundle), &authority).await, "(bundle)");
    let classic = with_att(&digest, &[bundle["dsseEnvelope"].clone()]);
    assert_verified(&judge(&classic, &authority).await, "(classic attestation)");
    assert_refused(&judge(&classic, &attesting(&Signer::p256(), rule(SLSA))).await, "was not made by");
    for size in [0, 1, 3 << 20, 9 << 30] {
        let registry = with_stated_size(&bundle, size);
        assert_verified(&judge(&registry, &authority).await, "(bundle)");
    }
    // An authority that wants a signature reads none of it, alone or next to the other.
    let registry = Registry::with_bundle(&bundle);
    assert_refused(&registry.judge_by(&signer).await, "is larger than 1 MiB, too large for a signature");
    let [attested, signed] = &registry.judge(&[authority.clone(), signer.authority()]).await[..] else { panic!() };
    assert_verified(attested, "(bundle)");
    assert_refused(signed, "is larger than 1 MiB, too large for a signature");
    // Signatures come first: a large attestation keeps nobody from reading one.
    let mut both = Registry::with_bundle(&bundle);
    both = both.with_classic(&digest, vec![signer.classic(&payload(&digest))]);
    let outcomes = both.judge(&[authority, signer.authority()]).await;
    outcomes.iter().for_each(|outcome| assert!(matches!(outcome, TrustOutcome::Verified { .. }), "{outcome:?}"));
}

/// A bundle whose descriptor states this size.
fn with_stated_size(bundle: &Value, size: u64) -> Registry {
    let mut registry = Registry::new(Api::Absent);
    let mut layer = registry.push_blob(BUNDLE_V03, bundle.to_string().into());
    layer["size"] = size.into();
    let referrer = registry.push(&manifest_json(&json!([layer]), Some(&image().digest)));
    registry.api = Api::Pages(vec![vec![referrer]]);
    registry
}

/// What was not read because it is too large may be what the policy wants: it is named, and the outcome is unknown.
#[tokio::test]
async fn attestations_above_the_limit_are_named_and_not_absent() {
    let (digest, signer) = (image().digest, Signer::p256());
    let authority = attesting(&signer, rule(SLSA));
    let mut registry = Registry::new(Api::Absent);
    let layer = registry.push_blob(BUNDLE_V03, vec![b'a'; (16 << 20) + 1]);
    let large = registry.push(&manifest_json(&json!([layer]), Some(&digest)));
    registry.api = Api::Pages(vec![vec![large.clone()]]);
    let outcome = judge(&registry, &authority).await;
    assert_unknown(
        &outcome,
        "is too large: more than 16 MiB, the limit for attestations ([trust] max_attestation)",
        false,
    );
    let found = outcome.found();
    assert!(found.len() == 1 && found[0].place.starts_with("referrer sha256:"), "{found:?}");
    assert!(
        matches!(&found[0].result, SignatureResult::NotJudged { why } if why.contains("is too large")),
        "{found:?}"
    );
    assert_refused(&registry.judge_by(&signer).await, "is larger than 1 MiB, too large for a signature");
    // One that counts is enough.
    let good = registry.bundle(&digest, &signer.bundle(&attestation(&digest, SLSA, &json!({}))));
    registry.api = Api::Pages(vec![vec![large, good]]);
    assert_verified(&judge(&registry, &authority).await, "(bundle)");
    // More than a manifest states is not read either, because no memory was reserved for it.
    let bundle = signer.bundle(&attestation(&digest, SLSA, &json!({"packages": "a".repeat(3 << 20)})));
    let outcome = judge(&with_stated_size(&bundle, 2 << 20), &authority).await;
    assert_unknown(&outcome, "or more than its manifest states", false);
}

/// Members that nobody reads are not kept, and the others may take only a few times the size of the text.
#[tokio::test]
async fn unsigned_json_takes_little_memory() {
    let (digest, signer) = (image().digest, Signer::p256());
    let authority = attesting(&signer, rule(SLSA));
    let bundle = signer.bundle(&attestation(&digest, SLSA, &json!({})));
    let chain = (0..100).fold(json!(0), |inner, _| json!({ "": inner }));
    let junk = json!(vec![chain; 500]);
    let mut envelope = bundle["dsseEnvelope"].clone();
    envelope["x"] = junk.clone();
    assert_verified(&judge(&with_att(&digest, &[envelope.clone()]), &authority).await, "(classic attestation)");
    envelope["signatures"][0]["x"] = junk.clone();
    assert_refused(&judge(&with_att(&digest, &[envelope]), &authority).await, "too many values for its size");
    let mut extended = bundle.clone();
    extended["x"] = junk.clone();
    assert_verified(&judge(&Registry::with_bundle(&extended), &authority).await, "(bundle)");
    extended["verificationMaterial"]["x"] = junk;
    assert_refused(&judge(&Registry::with_bundle(&extended), &authority).await, "too many values for its size");
}

/// A registry that sends small things at once and never ends to send what is larger than a signature.
struct Stalling {
    registry: Registry,
    stalls: std::sync::atomic::AtomicBool,
}

impl RegistryServices for Stalling {
    fn document<'a>(
        &'a self,
        repository: &'a Repository,
        address: ServiceAddress<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<ServiceAnswer>, SourceError>> {
        self.registry.document(repository, address, limit)
    }
}

impl SignatureSource for Stalling {
    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<UnparsedManifest>, SourceError> {
        self.registry.manifest(repository, reference).await
    }

    async fn blob(&self, repository: &Repository, digest: &Digest, limit: usize) -> Result<Option<Bytes>, SourceError> {
        if limit > LARGEST_SIGNATURE {
            self.stalls.store(true, std::sync::atomic::Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        self.registry.blob(repository, digest, limit).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        page: &Page,
    ) -> Result<Option<(Bytes, Option<Page>)>, SourceError> {
        self.registry.referrers(repository, digest, page).await
    }
}

#[tokio::test]
async fn a_slow_registry_does_not_delay_others() {
    let (digest, signer, tasks, schemes) = (image().digest, Signer::p256(), Tasks::new(), schemes().await);
    let bundle = signer.bundle(&attestation(&digest, SLSA, &json!({"packages": "a".repeat(2 << 20)})));
    let authorities = [attesting(&signer, rule(SLSA))];
    let slow = Stalling { registry: with_stated_size(&bundle, 16 << 20), stalls: false.into() };
    let quick = Registry::with_bundle(&bundle);
    let slow_name = ImageName { host: "slow.acme.com".parse().unwrap(), ..name() };
    let image = image();
    let stalled = verify(&slow, &schemes, &tasks, &slow_name, &image, &authorities);
    let other = async {
        while !slow.stalls.load(std::sync::atomic::Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        tokio::time::timeout(Duration::from_secs(5), verify(&quick, &schemes, &tasks, &name(), &image, &authorities))
            .await
    };
    tokio::select! {
        outcomes = stalled => panic!("{outcomes:?}"),
        outcomes = other => assert_verified(&outcomes.expect("it waits for the other registry")[0].1, "(bundle)"),
    }
}
