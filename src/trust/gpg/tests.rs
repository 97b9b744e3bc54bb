use std::fs;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::ready;
use http::HeaderMap;
use proptest::prelude::*;
use sequoia_openpgp::Cert;
use serde_json::{Value, json};
use url::Url;

use super::sample::*;
use super::*;
use crate::oci::{Content, Digest, ImageName, Manifest, Reference, Repository, media_type};
use crate::policy::{KeyRing, KeyValidity, PinnedKey, SignatureStore, SignedIdentity};
use crate::trust::source::{RegistryServices, SourceError};
use crate::trust::tests::Silent;
use crate::upstream::{ServiceAddress, ServiceAnswer};

const SIGNED_AS: &str = "registry.acme.com/team/app:v1";

fn image() -> Manifest {
    let bytes = Bytes::from_static(b"{\"schemaVersion\": 2}");
    Manifest {
        digest: Digest::sha256(&bytes),
        bytes,
        media_type: media_type::OCI_INDEX.into(),
        content: Content::Index(Vec::new()),
        subject: None,
        artifact_type: None,
    }
}

/// A registry that serves these signatures, or does not answer.
struct Services(Result<Vec<Vec<u8>>, SourceError>);

impl RegistryServices for Services {
    fn document<'a>(
        &'a self,
        _: &'a Repository,
        _: ServiceAddress<'a>,
        _: usize,
    ) -> BoxFuture<'a, Result<Option<ServiceAnswer>, SourceError>> {
        use base64::Engine as _;
        let encode = |bytes: &Vec<u8>| base64::engine::general_purpose::STANDARD.encode(bytes);
        let answer = self.0.as_ref().map_err(Clone::clone).map(|all| {
            let list: Vec<_> = all
                .iter()
                .map(|bytes| json!({"schemaVersion": 2, "type": "atomic", "content": encode(bytes)}))
                .collect();
            let mut headers = HeaderMap::new();
            headers.insert("x-registry-supports-signatures", "1".parse().unwrap());
            Some(ServiceAnswer { headers, bytes: json!({"signatures": list}).to_string().into() })
        });
        ready(answer).boxed()
    }
}

fn authority(keys: &[&Cert], identity: SignedIdentity, store: Option<Url>) -> Arc<Authority> {
    let store = store.map(|base| SignatureStore { base, credentials: None });
    let keyrings = keys.iter().map(|key| ring(&[key]).into()).collect();
    Arc::new(Authority::new("release", Scheme::Gpg(Box::new(SimpleSigner { keyrings, identity, store }))))
}

async fn judge_in(services: &dyn RegistryServices, authority: &Authority, pulled: &str) -> AuthorityResult {
    let tasks = Tasks::new();
    let gpg = Gpg { clock: Clock::manual(day(2)), lookaside: LookasideReader::new(tasks.clone()), tasks };
    let name = ImageName { host: "registry.acme.com".parse().unwrap(), repository: "team/app".parse().unwrap() };
    let reference = pulled.parse::<Reference>().unwrap();
    let image = image();
    let question = Consultation { authority, name: &name, reference: &reference, image: &image, services };
    gpg.consult(question).unwrap().await
}

/// The outcome for `team/app:v1` with signatures that the registry serves.
async fn judge(signatures: &[Vec<u8>], authority: &Authority) -> TrustOutcome {
    judge_in(&Services(Ok(signatures.to_vec())), authority, "v1").await.outcome
}

#[track_caller]
fn signers(outcome: &TrustOutcome) -> Vec<String> {
    let TrustOutcome::Verified { by, .. } = outcome else { panic!("{outcome:?}") };
    by.iter().map(|signatory| signatory.id.clone()).collect()
}

#[track_caller]
fn assert_refused(outcome: &TrustOutcome, part: &str) {
    let TrustOutcome::Unverified { found } = outcome else { panic!("{part}: {outcome:?}") };
    assert!(found.len() == 1 && found[0].to_string().contains(part), "{part}: {found:?}");
}

fn signed(key: &Cert) -> Vec<u8> {
    sign(key, payload(&image().digest, SIGNED_AS).to_string().as_bytes())
}

/// Writes signatures of the image into a store.
fn put(store: &Path, signatures: &[Vec<u8>]) -> Url {
    let folder = store.join(format!("team/app@sha256={}", image().digest.hex()));
    fs::create_dir_all(&folder).unwrap();
    for (index, bytes) in signatures.iter().enumerate() {
        fs::write(folder.join(format!("signature-{}", index + 1)), bytes).unwrap();
    }
    Url::from_directory_path(store).unwrap()
}

/// The time in a signature is the signer's own, so that the current time decides whether its key may be used.
#[tokio::test]
async fn keys_count_within_their_limits() {
    let (key, other) = (key(), key());
    let services = Services(Ok(vec![signed(&key)]));
    // The search takes place on day 2.
    let limited = |rings: &[(&Cert, Option<i64>, Option<i64>)]| {
        let pinned = |(key, from, until): &(&Cert, Option<i64>, Option<i64>)| {
            let validity = KeyValidity { from: from.map(day), until: until.map(day) };
            PinnedKey { key: ring(&[key]), validity }
        };
        let keyrings = rings.iter().map(pinned).collect();
        let (identity, store) = (SignedIdentity::MatchExact, None);
        Authority::new("release", Scheme::Gpg(Box::new(SimpleSigner { keyrings, identity, store })))
    };
    for (rings, until) in [
        (&[(&key, Some(2), Some(3))][..], Some(day(3))),
        (&[(&key, Some(2), None)], None),
        // A ring with the key that counts is enough, and the last of them decides about the end.
        (&[(&key, Some(2), Some(3)), (&key, Some(1), Some(5)), (&key, Some(3), None)], Some(day(5))),
        (&[(&other, None, Some(1)), (&key, None, Some(3))], Some(day(3))),
    ] {
        let result = judge_in(&services, &limited(rings), "v1").await;
        assert_eq!(signers(&result.outcome).len(), 1);
        assert_eq!(result.until, until);
    }
    for (rings, part) in [
        (&[(&key, Some(3), None)][..], "its key is valid only from"),
        (&[(&key, None, Some(2))], "its key was valid only until"),
        (&[(&key, None, Some(2)), (&other, None, None)], "its key was valid only until"),
    ] {
        assert_refused(&judge_in(&services, &limited(rings), "v1").await.outcome, part);
    }
}

#[tokio::test]
async fn signatures_count_wherever_they_are() {
    let (key, dir) = (key(), tempfile::tempdir().unwrap());
    let store = put(dir.path(), &[signed(&key)]);
    let served = authority(&[&key], SignedIdentity::MatchExact, None);
    let stored = authority(&[&key], SignedIdentity::MatchExact, Some(store));
    let outcome = judge(&[signed(&key)], &served).await;
    let TrustOutcome::Verified { by, unseen: None, .. } = &outcome else { panic!("{outcome:?}") };
    let fingerprint = key.fingerprint().to_hex();
    let user = "Release <release@example.com>";
    assert_eq!(by[0].to_string(), format!("OpenPGP key {fingerprint} ({user}), signed as {SIGNED_AS:?}"));
    assert_eq!(signers(&judge(&[], &stored).await), signers(&outcome));
    // A registry that does not answer does not matter when the only key has signed.
    let silent = Services(Err(SourceError::new("no answer", true)));
    let beside = judge_in(&silent, &stored, "v1").await.outcome;
    assert!(matches!(&beside, TrustOutcome::Verified { unseen: None, .. }), "{beside:?}");
    assert_eq!(judge(&[], &served).await, TrustOutcome::Unverified { found: vec![] });
}

#[tokio::test]
async fn a_place_that_does_not_answer_is_unknown() {
    let (one, other) = (key(), key());
    let missing = Url::parse("file:///nonexistent/store").unwrap();
    let silent = Services(Err(SourceError::new("no answer", true)));
    let single = authority(&[&one], SignedIdentity::MatchExact, None);
    for (services, authority) in [
        (&silent, &single),
        (&Services(Ok(vec![])), &authority(&[&one], SignedIdentity::MatchExact, Some(missing.clone()))),
        (&Services(Ok(vec![signed(&other)])), &authority(&[&one], SignedIdentity::MatchExact, Some(missing.clone()))),
    ] {
        let outcome = judge_in(services, authority, "v1").await.outcome;
        assert!(matches!(outcome, TrustOutcome::Unknown { temporary: true, .. }), "{outcome:?}");
    }
    // One key has signed, and whether the other has is not known.
    let both = authority(&[&one, &other], SignedIdentity::MatchExact, Some(missing));
    let outcome = judge(&[signed(&one)], &both).await;
    assert!(matches!(&outcome, TrustOutcome::Verified { by, unseen: Some(_), .. } if by.len() == 1), "{outcome:?}");
}

/// A place that keeps the search waiting does not undo a signature that was found elsewhere.
#[tokio::test(start_paused = true)]
async fn a_slow_place_does_not_spoil_a_good_signature() {
    let (one, other, dir) = (key(), key(), tempfile::tempdir().unwrap());
    let store = put(dir.path(), &[signed(&one)]);
    let outcome = |authority: Arc<Authority>| async move {
        let limit = Duration::from_secs(25);
        tokio::time::timeout(limit, judge_in(&Silent, &authority, "v1")).await.unwrap().outcome
    };
    let verified = outcome(authority(&[&one, &other], SignedIdentity::MatchExact, Some(store.clone()))).await;
    assert_eq!(signers(&verified), [KeyRing::signer(&one)]);
    assert!(
        matches!(&verified, TrustOutcome::Verified { unseen: Some(unseen), .. } if unseen.temporary),
        "{verified:?}"
    );
    let unknown = outcome(authority(&[&other], SignedIdentity::MatchExact, Some(store))).await;
    assert!(matches!(&unknown, TrustOutcome::Unknown { temporary: true, .. }), "{unknown:?}");
}

/// The signature is valid, and is for something else.
#[tokio::test]
async fn signatures_of_other_images_do_not_count() {
    let key = key();
    let by_name = authority(&[&key], SignedIdentity::MatchRepoDigestOrExact, None);
    let digest = image().digest;
    for (digest, reference, reason) in [
        (digest, "registry.acme.com/team/other:v1", "is for the name \"registry.acme.com/team/other:v1\""),
        (digest, "registry.evil.com/team/app:v1", "does not match signedIdentity (matchRepoDigestOrExact)"),
        (digest, "registry.acme.com/team/app:v2", "is for the name"),
        (digest, "registry.acme.com/team/app", "is for the name"),
        (digest, "team/app:v1", "is for the name"),
        (digest, "", "is for the name"),
        (Digest::sha256(b"another image"), SIGNED_AS, "is for another image"),
        (Digest::of(crate::oci::Algorithm::Sha512, b"another image"), SIGNED_AS, "is for another image"),
    ] {
        let message = sign(&key, payload(&digest, reference).to_string().as_bytes());
        assert_refused(&judge(&[message], &by_name).await, reason);
    }
    // The same image by its other digest, and any name where only the repository matters.
    let other = Digest::of(crate::oci::Algorithm::Sha512, &image().bytes);
    let message = sign(&key, payload(&other, SIGNED_AS).to_string().as_bytes());
    assert_eq!(signers(&judge(&[message], &by_name).await).len(), 1);
    let any_tag = authority(&[&key], SignedIdentity::MatchRepository, None);
    let message = sign(&key, payload(&digest, "registry.acme.com/team/app:v2").to_string().as_bytes());
    assert_eq!(signers(&judge(&[message], &any_tag).await).len(), 1);
}

/// By digest, any tag of the repository counts, as in containers/image; by tag, only this one.
#[tokio::test]
async fn the_reference_as_pulled_is_compared() {
    let key = key();
    let services = Services(Ok(vec![signed(&key)]));
    let digest = image().digest.to_string();
    for (identity, by_v1, by_v2, by_digest) in [
        (SignedIdentity::MatchRepoDigestOrExact, true, false, true),
        (SignedIdentity::MatchExact, true, false, false),
        (SignedIdentity::MatchRepository, true, true, true),
        (SignedIdentity::ExactReference(SIGNED_AS.parse().unwrap()), true, true, true),
        (SignedIdentity::ExactReference("a.io/b:v1".parse().unwrap()), false, false, false),
    ] {
        let authority = authority(&[&key], identity, None);
        for (pulled, accepted) in [("v1", by_v1), ("v2", by_v2), (&*digest, by_digest)] {
            let outcome = judge_in(&services, &authority, pulled).await.outcome;
            assert_eq!(matches!(outcome, TrustOutcome::Verified { .. }), accepted, "{authority:?} {pulled}");
        }
    }
}

/// The payload is read as strictly as containers/image reads it.
#[tokio::test]
async fn payloads_that_can_be_read_in_two_ways_do_not_count() {
    let key = key();
    let authority = authority(&[&key], SignedIdentity::MatchRepository, None);
    let good = payload(&image().digest, SIGNED_AS);
    let text = good.to_string();
    let with = |change: fn(&mut Value)| {
        let mut value = good.clone();
        change(&mut value);
        value.to_string()
    };
    let again = format!("{}, \"optional\": {{}}}}", &text[..text.len() - 1]);
    for payload in [
        again,
        text.replacen("\"critical\":{", "\"critical\":{\"type\":\"atomic container signature\",", 1),
        text.replacen("\"image\":{", "\"Image\":{", 1),
        text.replacen("\"docker-reference\":", "\"docker-reference\":\"x\",\"docker-reference\":", 1),
        with(|value| value["critical"]["type"] = json!("cosign container image signature")),
        with(|value| value["critical"]["type"] = json!("Atomic container signature")),
        with(|value| value["critical"]["more"] = json!(1)),
        with(|value| value["critical"]["image"]["more"] = json!(1)),
        with(|value| value["critical"]["identity"]["more"] = json!(1)),
        with(|value| value["more"] = json!(1)),
        with(|value| value["optional"] = json!(null)),
        with(|value| value["optional"] = json!([])),
        with(|value| value["optional"]["creator"] = json!(1)),
        with(|value| value["optional"]["timestamp"] = json!(1.5)),
        with(|value| value["optional"]["timestamp"] = json!("1")),
        with(|value| drop(value.as_object_mut().unwrap().remove("optional"))),
        with(|value| value["critical"]["image"]["docker-manifest-digest"] = json!("sha256:../../x")),
        with(|value| value["critical"]["identity"]["docker-reference"] = json!(null)),
        format!("{text}{text}"),
        format!("{text}x"),
        "null".into(),
        String::new(),
    ] {
        let outcome = judge(&[sign(&key, payload.as_bytes())], &authority).await;
        assert!(matches!(&outcome, TrustOutcome::Unverified { found } if found.len() == 1), "{payload}: {outcome:?}");
    }
    for payload in [
        text.clone(),
        format!(" {text}\n"),
        with(|value| value["optional"] = json!({})),
        with(|value| value["optional"]["more"] = json!({"a": [1]})),
        with(|value| value["optional"]["timestamp"] = json!(1.0)),
    ] {
        signers(&judge(&[sign(&key, payload.as_bytes())], &authority).await);
    }
}

#[tokio::test]
async fn a_broken_signature_does_not_spoil_a_good_one() {
    let (key, stranger) = (key(), key());
    let authority = authority(&[&key], SignedIdentity::MatchExact, None);
    let many = [vec![], b"{}".to_vec(), signed(&stranger), vec![0x99; 1000], signed(&key), signed(&stranger)];
    assert_eq!(signers(&judge(&many, &authority).await), [KeyRing::signer(&key)]);
    let TrustOutcome::Unverified { found } = judge(&many[..4], &authority).await else { panic!() };
    assert_eq!(found.len(), 4);
    assert!(found[2].to_string().starts_with("signature 3: was made by the key "), "{found:?}");
}

#[tokio::test]
async fn ten_thousand_signatures_of_strangers_are_not_verified() {
    let key = key();
    let authority = authority(&[&key], SignedIdentity::MatchExact, None);
    let stranger = signed(&sample::key());
    let outcome = judge(&vec![stranger; 10_000], &authority).await;
    let TrustOutcome::Unknown { why, temporary: false, found } = outcome else { panic!() };
    assert!(why.contains("9872 more signatures"), "{why}");
    assert_eq!(found.last().unwrap().to_string(), "108 more: do not count");
}

/// A key that is in two rings, or that signs twice, is one signer, also with its subkeys.
#[tokio::test]
async fn a_key_counts_once() {
    let (one, other) = (key(), key());
    let both = authority(&[&one, &other], SignedIdentity::MatchExact, None);
    let again = authority(&[&one], SignedIdentity::MatchRepository, None);
    let twice = [signed(&one), signed(&one)];
    assert_eq!(signers(&judge(&twice, &both).await), [KeyRing::signer(&one)]);
    assert_eq!(signers(&judge(&twice, &again).await), [KeyRing::signer(&one)]);
    assert_eq!(signers(&judge(&[signed(&one), signed(&other)], &both).await).len(), 2);
    assert!(again.signers().is_subset(&both.signers()));
}

/// The evidence ends with the first signature or key that does.
#[tokio::test]
async fn evidence_ends_with_the_key() {
    let short = builder().set_validity_period(DAY * 20).add_signing_subkey().generate().unwrap().0;
    let authority = authority(&[&short, &key()], SignedIdentity::MatchExact, None);
    let result = judge_in(&Services(Ok(vec![signed(&short)])), &authority, "v1").await;
    assert_eq!(result.until, Some(day(20)));
    let result = judge_in(&Services(Ok(vec![])), &authority, "v1").await;
    assert_eq!(result.until, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_payload_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(crate::oci::payload::SimpleSigning::parse_openpgp(&bytes).is_err());
    }
}
