//! Mutated bundles, annotations and trusted roots: none makes a parser panic, and none counts for anybody else.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::mutate::{Step, mutated, mutated_json};
use super::*;
use crate::policy::CosignAuthority;
use crate::trust::cosign::Cosign;
use crate::trust::notes::Notes;
use crate::trust::scheme::{Attached, ImageSubject, SignatureScheme};

/// What is mutated, made once.
struct Made {
    root: Value,
    authority: Arc<Authority>,
    bundles: Vec<Value>,
    payload: Vec<u8>,
    annotations: Vec<Value>,
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let instance = Instance::new();
    let leaf = instance.issue(&Subject::default());
    let (root, statement) = (instance.trusted_root(), statement(&image().digest));
    let payload = payload(&image().digest).to_string().into_bytes();
    let stamped = Witnessed { is_stamped: true, ..V1 };
    Made {
        authority: authority(keyless(&root)),
        bundles: [V1, V2].map(|witnessed| instance.bundle(&leaf, Signed::Statement(&statement), witnessed)).into(),
        annotations: vec![instance.classic_annotations(&leaf, &payload, stamped)],
        payload,
        root,
    }
});

/// The outcome for an image with this layer attached.
fn outcome(media_type: &str, bytes: Vec<u8>, annotations: &Value, authority: &Arc<Authority>) -> TrustOutcome {
    let digest = Digest::sha256(&bytes);
    let annotations: BTreeMap<&String, &str> =
        annotations.as_object().into_iter().flatten().filter_map(|(key, value)| Some((key, value.as_str()?))).collect();
    let layer = json!({"mediaType": media_type, "digest": digest, "size": bytes.len(), "annotations": annotations});
    let manifest = parse(&manifest_json(&json!([layer]), None));
    let Content::Image { layers, .. } = manifest.content else { panic!() };
    let subject = ImageSubject { name: name(), manifest: Arc::new(image()), now: Timestamp::UNIX_EPOCH };
    let sought = Sought { authority: authority.clone(), known: vec![] };
    let mut verification = Cosign::signatures().verification(&subject, &[sought]);
    let layer = layers.into_iter().next().unwrap();
    verification.read(&[Attached { layer, bytes: bytes.into(), place: "here".into() }]);
    verification.outcome(0, &Notes::default())
}

/// Nobody else's signature, and no other time, comes of a change.
#[track_caller]
fn assert_same_signer(outcome: &TrustOutcome) {
    if let TrustOutcome::Verified { by, .. } = outcome {
        assert_eq!((&*by[0].identity, by[0].issuer.as_deref()), (IDENTITY, Some(ISSUER)));
        assert_eq!(by[0].signed_at.unwrap().as_second(), SIGNED_AT);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<Step>(), 1..4)
}

#[test]
fn what_is_mutated_counts() {
    for bundle in &MADE.bundles {
        assert_verified(&outcome(BUNDLE_V03, bundle.to_string().into(), &json!({}), &MADE.authority), IDENTITY);
    }
    let classic = outcome(SIMPLE_SIGNING, MADE.payload.clone(), &MADE.annotations[0], &MADE.authority);
    assert_verified(&classic, IDENTITY);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn mutated_bundles_count_for_nobody_else(which in 0usize..2, steps in steps()) {
        let bundle = &MADE.bundles[which];
        let texts = [mutated(bundle.to_string().as_bytes(), &steps), mutated_json(bundle, &steps).to_string().into()];
        for bytes in texts {
            assert_same_signer(&outcome(BUNDLE_V03, bytes, &json!({}), &MADE.authority));
        }
    }

    /// Annotations are texts, and most of them are documents themselves.
    #[test]
    fn mutated_annotations_count_for_nobody_else(which in any::<prop::sample::Index>(), steps in steps()) {
        let mut annotations = MADE.annotations[0].clone();
        let members = annotations.as_object_mut().unwrap();
        let key = which.get(&members.keys().cloned().collect::<Vec<_>>()).clone();
        let text = members[&key].as_str().unwrap().to_owned();
        let mut changed = vec![String::from_utf8_lossy(&mutated(text.as_bytes(), &steps)).into_owned()];
        if let Ok(document @ Value::Object(_)) = serde_json::from_str(&text) {
            changed.push(mutated_json(&document, &steps).to_string());
        }
        for text in changed {
            annotations[&key] = text.into();
            assert_same_signer(&outcome(SIMPLE_SIGNING, MADE.payload.clone(), &annotations, &MADE.authority));
        }
    }

    #[test]
    fn mutated_trusted_roots_never_make_their_reader_panic(steps in steps()) {
        let bundle = || MADE.bundles[0].to_string().into();
        let texts = [mutated(MADE.root.to_string().as_bytes(), &steps), mutated_json(&MADE.root, &steps).to_string().into()];
        for text in texts {
            if let Ok(root) = TrustedRoot::from_json("trusted_root.json", &text) {
                let _ = (root.until(), root.newest_key());
                let cosign = CosignAuthority { roots: vec![root], ..keyless(&MADE.root) };
                assert_same_signer(&outcome(BUNDLE_V03, bundle(), &json!({}), &authority(cosign)));
            }
        }
    }
}

/// Nesting uses up no stack, and length no time.
#[test]
fn deep_and_long_bundles_are_refused_in_time() {
    let begun = std::time::Instant::now();
    for (open, count) in [("[", 1_000_000), ("{\"verificationMaterial\":", 40_000), ("{\"tlogEntries\":[", 50_000)] {
        let refused = outcome(BUNDLE_V03, open.repeat(count).into(), &json!({}), &MADE.authority);
        assert!(matches!(refused, TrustOutcome::Unverified { .. }), "{refused:?}");
    }
    let mut bundle = MADE.bundles[0].clone();
    let entries = bundle.pointer_mut("/verificationMaterial/tlogEntries").unwrap();
    *entries = vec![entries[0].clone(); 400].into();
    let refused = outcome(BUNDLE_V03, bundle.to_string().into(), &json!({}), &MADE.authority);
    assert!(matches!(refused, TrustOutcome::Unverified { .. }), "{refused:?}");
    for key in ["dev.sigstore.cosign/certificate", "dev.sigstore.cosign/chain", "dev.sigstore.cosign/bundle"] {
        let mut annotations = MADE.annotations[0].clone();
        let text = annotations[key].as_str().unwrap().repeat(300);
        annotations[key] = text.into();
        let refused = outcome(SIMPLE_SIGNING, MADE.payload.clone(), &annotations, &MADE.authority);
        assert_same_signer(&refused);
    }
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}
