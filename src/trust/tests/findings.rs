//! Who signed, and what was found.

use super::*;

#[tokio::test]
async fn any_key_of_an_authority_suffices() {
    let (digest, old, new) = (image().digest, Signer::p256(), Signer::ed25519());
    let registry = Registry::with_bundle(&old.bundle(&statement(&digest)));
    let by = |keys: Vec<PublicKey>| vec![Arc::new(Authority::new("a", Scheme::cosign_keys(keys)))];
    assert_verified(&registry.judge(&by(vec![new.key(), old.key()])).await[0], "ECDSA P-256");
    assert_unknown(&registry.judge(&by(vec![])).await[0], "the authority has no key", false);
}

/// Who signed is said by key, whatever the names; and everyone who may make a difference is looked for.
#[tokio::test]
async fn signers_are_keys_and_not_names() {
    let (digest, one, two) = (image().digest, Signer::p256(), Signer::ed25519());
    let registry = Registry::with_bundle(&one.bundle(&statement(&digest)))
        .with_classic(&digest, vec![two.classic(&payload(&digest))]);
    let ids = |outcome: &TrustOutcome| match outcome {
        TrustOutcome::Verified { by, unseen: None, .. } => by.iter().map(|signatory| signatory.id.clone()).collect(),
        other => panic!("{other:?}"),
    };
    let id = |signer: &Signer| signer.key().fingerprint().to_string();
    let copies = registry.judge(&[one.authority_called("a"), one.authority_called("b")]).await;
    assert_eq!(copies.iter().map(ids).collect::<Vec<Vec<_>>>(), [[id(&one)], [id(&one)]]);
    let pair = |name: &str, keys: [&Signer; 2]| {
        Arc::new(Authority::new(name, Scheme::cosign_keys(keys.iter().map(|signer| signer.key()).collect())))
    };
    let (a, b) = (pair("a", [&one, &two]), pair("b", [&one, &two]));
    for outcome in registry.judge(&[a.clone(), b]).await {
        assert_eq!(ids(&outcome).len(), 2, "both count, as one alone could not satisfy both");
    }
    // The key that both share signed; whether the others did is not known while a place is silent.
    let (third, fourth) = (Signer::p256(), Signer::p256());
    let (a, b) = (pair("a", [&one, &third]), pair("b", [&one, &fourth]));
    let mut silent = Registry::with_bundle(&one.bundle(&statement(&digest)));
    silent.failing.push(format!("sha256-{}", digest.hex()));
    for outcome in silent.judge(&[a, b]).await {
        let TrustOutcome::Verified { by, unseen: Some(unseen), .. } = &outcome else { panic!("{outcome:?}") };
        assert!(by.len() == 1 && unseen.temporary && unseen.why.contains("500"), "{outcome:?}");
    }
}

/// A signature is one wherever it is, and whatever the other places answer.
#[tokio::test]
async fn the_search_continues_after_failures() {
    let (digest, signer) = (image().digest, Signer::p256());
    let bundle = signer.bundle(&statement(&digest));
    let image = &*Box::leak(image_text().into_boxed_str());
    for body in ["<html>", "{}", "[]", "", "{\"errors\": []}", "{\"manifests\": null}", image] {
        for api in [Api::Answers(body), Api::Fails(true), Api::Fails(false), Api::Endless] {
            let mut registry = Registry::new(api);
            let descriptor = registry.bundle(&digest, &bundle);
            registry.manifests.insert(format!("sha256-{}", digest.hex()), index_json(&[descriptor]));
            assert_verified(&registry.judge_by(&signer).await, "(bundle)");
        }
    }
    let mut registry = Registry::new(Api::Absent);
    let sbom = registry.push_blob("application/spdx+json", b"{}".to_vec());
    let sbom = registry.push(&manifest_json(&json!([sbom]), Some(&digest)));
    let descriptor = registry.bundle(&digest, &bundle);
    let odd = [json!({"digest": format!("blake3:{}", "0".repeat(64))}), json!({}), json!(null), json!({"digest": 1})];
    registry.manifests.insert(format!("sha256-{}", digest.hex()), index_json(std::slice::from_ref(&descriptor)));
    registry.api = Api::Pages(vec![vec![sbom.clone()]]);
    assert_verified(&registry.judge_by(&signer).await, "(bundle)");
    registry.manifests.remove(&format!("sha256-{}", digest.hex()));
    assert_eq!(registry.judge_by(&signer).await, TrustOutcome::Unverified { found: vec![] });
    for odd in odd {
        registry.api = Api::Pages(vec![vec![odd.clone(), descriptor.clone()]]);
        assert_verified(&registry.judge_by(&signer).await, "(bundle)");
        registry.api = Api::Pages(vec![vec![odd, sbom.clone()]]);
        assert_unknown(&registry.judge_by(&signer).await, "1 entry cannot be read", false);
    }
    // A page that cannot be read hides no other.
    registry.api = Api::Pages(vec![vec![json!(null)], vec![descriptor]]);
    assert_verified(&registry.judge_by(&signer).await, "(bundle)");
    registry.api = Api::CutShort;
    assert_unknown(&registry.judge_by(&signer).await, "a page of the referrers list is missing", true);
}

/// GitLab answers the referrers tag with the image: that is not a list, and no trouble.
#[tokio::test]
async fn a_referrers_tag_that_is_the_image_lists_nothing() {
    let (digest, signer) = (image().digest, Signer::p256());
    let mut registry = Registry::new(Api::Absent);
    registry.manifests.insert(format!("sha256-{}", digest.hex()), image().bytes);
    assert_eq!(registry.judge_by(&signer).await, TrustOutcome::Unverified { found: vec![] });
    let signed = registry.with_classic(&digest, vec![signer.classic(&payload(&digest))]);
    assert_verified(&signed.judge_by(&signer).await, "(classic");
}

#[tokio::test]
async fn reasons_are_bounded() {
    let digest = image().digest;
    let registry = Registry::new(Api::Absent).with_classic(&digest, strangers(&digest, 150));
    let TrustOutcome::Unverified { found } = registry.judge_by(&Signer::p256()).await else { panic!() };
    assert_eq!((found.len(), &*found[20].to_string()), (21, "130 more: do not count"));
}

/// Each signature is listed with its place and its result. Broken ones next to a good one do not fail the image.
#[tokio::test]
async fn each_signature_has_a_finding() {
    let (digest, signer, stranger) = (image().digest, Signer::p256(), Signer::ed25519());
    let mut registry = Registry::new(Api::Absent);
    let broken = registry.bundle(&digest, &json!({"mediaType": "x"}));
    let strange = registry.bundle(&digest, &stranger.bundle(&statement(&digest)));
    let good = registry.bundle(&digest, &signer.bundle(&statement(&digest)));
    let place = |descriptor: &Value| format!("referrer {}", descriptor["digest"].as_str().unwrap());
    registry.api = Api::Pages(vec![vec![broken.clone(), strange.clone(), good.clone()]]);
    let outcome = registry.judge_by(&signer).await;
    assert_verified(&outcome, "(bundle)");
    let [verified, no_bundle, not_ours] = outcome.found() else { panic!("{outcome:?}") };
    assert_eq!(verified.signer(), Some(&*signer.key().fingerprint().to_string()));
    for (finding, descriptor) in [(verified, &good), (no_bundle, &broken), (not_ours, &strange)] {
        assert_eq!(finding.place, place(descriptor));
        assert!(finding.form.starts_with("bundle "), "{finding:?}");
    }
    let SignatureResult::Refused { why, hint: Some(hint) } = &not_ours.result else { panic!("{not_ours:?}") };
    assert!(why.contains("was not made by ECDSA P-256 key") && hint.contains("add the signer's key"), "{not_ours:?}");
    assert!(matches!(&no_bundle.result, SignatureResult::Refused { why, .. } if why.contains("not a Sigstore bundle")));
    // What was read is listed even if the outcome is unknown.
    registry.failing.push(format!("sha256-{}.sig", digest.hex()));
    let unknown = registry.judge_by(&Signer::p256()).await;
    assert_unknown(&unknown, "500 Internal Server Error", true);
    assert_eq!(unknown.found().len(), 3);
}

#[tokio::test]
async fn schemes_of_other_versions_are_unknown() {
    let notary = Scheme::Notary(NotaryTrust::default());
    let gpg = SimpleSigner { keyrings: vec![], identity: SignedIdentity::MatchExact, store: None };
    let [issuer, identity] = ["i", "x"].map(|text| TextPattern::Exact(text.into()));
    let keyless = CosignSigners::Keyless(Keyless { issuer, identity, claims: BTreeMap::new() });
    let keyless = Scheme::Cosign(CosignAuthority { signers: keyless, ..CosignAuthority::of_keys(vec![]) }.into());
    for (scheme, part) in [
        (keyless, "keyless"),
        (Scheme::Gpg(gpg.into()), "OpenPGP"),
        (notary, "no notary server is known for registry.acme.com"),
        (Scheme::Unusable { why: "secret a/b is missing".into() }, "secret a/b is missing"),
    ] {
        let registry = Registry::new(Api::Absent);
        let outcome = registry.judge(&[Arc::new(Authority::new("a", scheme))]).await.remove(0);
        assert_unknown(&outcome, part, false);
        assert!(registry.asked.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_manifest_named_by_sha512_is_found_by_that_name() {
    let signer = Signer::p256();
    let subject = image().named(Digest::of(Algorithm::Sha512, &image().bytes)).unwrap();
    let mut registry = Registry { subject: subject.digest, ..Registry::new(Api::Absent) };
    let mut statement = statement(&image().digest);
    statement["subject"] = json!([{"digest": {"sha512": subject.digest.hex()}}]);
    let descriptor = registry.bundle(&subject.digest, &signer.bundle(&statement));
    registry.manifests.insert(format!("sha512-{}", &subject.digest.hex()[..64]), index_json(&[descriptor]));
    let name = ImageName { host: "registry.acme.com".parse().unwrap(), repository: "team/app".parse().unwrap() };
    let outcomes = verify(&registry, &schemes().await, &Tasks::new(), &name, &subject, &[signer.authority()]).await;
    assert_verified(&outcomes[0].1, "(bundle)");
}

/// What cosign itself wrote: see tests/data/cosign/README.md.
#[tokio::test]
async fn what_cosign_writes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cosign");
    let authority = |name: &str| {
        let pem = std::fs::read_to_string(root.join(name).with_extension("pub")).unwrap();
        Arc::new(Authority::new(name, Scheme::cosign_keys(vec![PublicKey::from_pem(&pem).unwrap()])))
    };
    let authorities = ["p256", "p384", "ed25519", "stranger"].map(authority);
    let image = Manifest::parse(std::fs::read(root.join("image.json")).unwrap().into(), None).unwrap();
    for (case, form) in [("classic", "(classic, signed as"), ("bundle", "(bundle)")] {
        let registry = recorded(&root.join(case), image.digest);
        let name = ImageName { host: "registry.acme.com".parse().unwrap(), repository: registry.repository.clone() };
        let outcomes = verify(&registry, &schemes().await, &Tasks::new(), &name, &image, &authorities).await;
        outcomes[..3].iter().for_each(|(_, outcome)| assert_verified(outcome, form));
        assert!(matches!(&outcomes[3].1, TrustOutcome::Unverified { found } if found.len() == 3), "{outcomes:?}");
        for manifest in registry.manifests.values().map(|bytes| Manifest::parse(bytes.clone(), None).unwrap()) {
            let Content::Image { config, layers } = &manifest.content else { continue };
            let layers: Vec<_> = layers.iter().map(|layer| registry.blobs[&layer.digest].clone()).collect();
            assert_eq!(is_attachment(&manifest, &registry.blobs[&config.digest], &layers), Ok(()), "{case}");
        }
    }
}

/// A registry as it was recorded: `tag/NAME`, `manifest/…`, `blob/…`.
fn recorded(folder: &Path, subject: Digest) -> Registry {
    let files = |kind: &str| {
        let entries = std::fs::read_dir(folder.join(kind)).into_iter().flatten().map(|entry| entry.unwrap());
        entries
            .map(|entry| (entry.file_name().into_string().unwrap(), Bytes::from(std::fs::read(entry.path()).unwrap())))
            .collect::<Vec<_>>()
    };
    let mut registry = Registry { subject, ..Registry::new(Api::Absent) };
    registry.manifests.extend(files("tag"));
    registry.manifests.extend(files("manifest").into_iter().map(|(_, b)| (Digest::sha256(&b).to_string(), b)));
    registry.blobs.extend(files("blob").into_iter().map(|(_, bytes)| (Digest::sha256(&bytes), bytes)));
    registry
}
