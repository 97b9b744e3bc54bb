//! Annotations and names that are signed, and certificates that do not fit.

use super::*;

pub(super) async fn verify_at(registry: &Registry, authorities: &[Arc<Authority>], now: Timestamp) -> TrustOutcome {
    let sought = authorities.iter().map(|one| Sought { authority: one.clone(), known: Vec::new() }).collect();
    let (image, reference) = (Arc::new(image()), Reference::Digest(image().digest));
    let (others, same, ahead) = (Vec::new(), SameSigner::default(), None);
    let request = GatherRequest { name: name(), reference, image, place: name(), sought, others, same, ahead, now };
    let results = gather(registry, &Tasks::new(), &schemes().await, request, &Config::default(), &|_, _| {}).await;
    results.into_iter().next().unwrap().result.outcome
}

#[tokio::test]
async fn annotations_must_be_signed() {
    let signer = Signer::p256();
    let (digest, mut payload, mut statement) = (image().digest, payload(&image().digest), statement(&image().digest));
    payload["optional"] = json!({"env": "prod", "number": 1});
    statement["subject"][0]["annotations"] = json!({"env": "prod", "number": 1});
    let classic = Registry::new(Api::Absent).with_classic(&digest, vec![signer.classic(&payload)]);
    let bundle = Registry::with_bundle(&signer.bundle(&statement));
    let message = Registry::with_bundle(&signer.message_bundle(&image().bytes));
    for (wanted, part) in [
        (&[("env", "prod")][..], None),
        (&[("env", "dev")], Some("its annotation \"env\" is \"prod\", not \"dev\"")),
        (&[("env", "prod"), ("team", "a")], Some("has no annotation \"team\"")),
        (&[("number", "1")], Some("has no annotation \"number\"")),
    ] {
        let annotations = wanted.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let cosign = CosignAuthority { annotations, ..CosignAuthority::of_keys(vec![signer.key()]) };
        let authorities = [authority(cosign)];
        for registry in [&classic, &bundle] {
            let outcome = registry.judge(&authorities).await.remove(0);
            part.map_or_else(|| assert_verified(&outcome, "ECDSA"), |part| assert_refused(&outcome, part));
        }
        assert_refused(&message.judge(&authorities).await[0], "has no annotation");
    }
}

#[tokio::test]
async fn the_signed_name_can_be_compared() {
    let (digest, signer) = (image().digest, Signer::p256());
    let named = |reference: &str| {
        let mut payload = payload(&digest);
        payload["critical"]["identity"]["docker-reference"] = reference.into();
        Registry::new(Api::Absent).with_classic(&digest, vec![signer.classic(&payload)])
    };
    let remap = SignedIdentity::Remap { prefix: "registry.acme.com".into(), signed_prefix: "ghcr.io/acme".into() };
    let of = |text: &str| text.parse::<ImageReference>().unwrap();
    for (wanted, signed, counts) in [
        (SignedIdentity::MatchRepository, "registry.acme.com/team/app", true),
        (SignedIdentity::MatchRepository, "registry.acme.com/team/app:1", true),
        (SignedIdentity::MatchRepository, "registry.acme.com/team/apps", false),
        (SignedIdentity::MatchRepository, "evil.com/team/app", false),
        (SignedIdentity::MatchRepository, "", false),
        (SignedIdentity::ExactRepository(of("ghcr.io/acme/app").name), "ghcr.io/acme/app", true),
        (SignedIdentity::ExactRepository(of("ghcr.io/acme/app").name), "registry.acme.com/team/app", false),
        (SignedIdentity::ExactReference(of("ghcr.io/acme/app:1")), "ghcr.io/acme/app:1", true),
        (SignedIdentity::ExactReference(of("ghcr.io/acme/app:1")), "ghcr.io/acme/app:2", false),
        (SignedIdentity::MatchRepoDigestOrExact, "registry.acme.com/team/app", true),
        (SignedIdentity::MatchRepoDigestOrExact, "registry.acme.com/team/other", false),
        (remap.clone(), "ghcr.io/acme/team/app", true),
        (remap.clone(), "registry.acme.com/team/app", false),
    ] {
        let cosign = CosignAuthority { identity: Some(wanted), ..CosignAuthority::of_keys(vec![signer.key()]) };
        let outcome = named(signed).judge(&[authority(cosign)]).await.remove(0);
        if counts { assert_verified(&outcome, "ECDSA") } else { assert_refused(&outcome, "was made for") }
    }
    let cosign = CosignAuthority {
        identity: Some(SignedIdentity::MatchRepository),
        ..CosignAuthority::of_keys(vec![signer.key()])
    };
    assert_refused(&of_bundle(&signer.bundle(&statement(&digest)), cosign).await, "names no image");
}

#[tokio::test]
async fn certificate_expired_at_signing_time() {
    let instance = Instance::new();
    let root = instance.trusted_root();
    for (logging, is_stamped) in [(Logging::V1, false), (Logging::V1, true), (Logging::V2, true)] {
        let at = |seconds| Witnessed { logging, is_stamped, at: SIGNED_AT + seconds };
        let valid = of_bundle(&sign(&instance, &Subject::default(), at(599)), keyless(&root)).await;
        assert_verified(&valid, IDENTITY);
        let expired = of_bundle(&sign(&instance, &Subject::default(), at(601)), keyless(&root)).await;
        assert_refused(&expired, "its certificate had expired when it was signed");
    }
}

/// A time stamp by somebody else, or for another signature, does not make an expired certificate valid.
#[tokio::test]
async fn forged_time_stamp() {
    let (instance, stranger) = (Instance::new(), Instance::new());
    let late = sign(
        &instance,
        &Subject::default(),
        Witnessed { is_stamped: true, logging: Logging::V2, at: SIGNED_AT + 3600 },
    );
    let signature = late.pointer("/dsseEnvelope/signatures/0/sig").unwrap().as_str().unwrap();
    let signature = STANDARD.decode(signature).unwrap();
    let (root, in_time) = (instance.trusted_root(), SIGNED_AT + 60);
    assert_refused(&of_bundle(&late, keyless(&root)).await, "had expired");
    for token in [
        stranger.timestamp(&signature, in_time),
        instance.timestamp(b"another signature", in_time),
        instance.timestamp_by_leaf(&instance.issue(&Subject::default()), &signature, in_time),
    ] {
        let stamps = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";
        let forged = json!({"signedTimestamp": STANDARD.encode(token)});
        // Instead of the genuine one, and next to it.
        for keep in [false, true] {
            let mut bundle = late.clone();
            let all = bundle.pointer_mut(stamps).unwrap().as_array_mut().unwrap();
            all.truncate(usize::from(keep));
            all.push(forged.clone());
            assert_refused(&of_bundle(&bundle, keyless(&root)).await, if keep { "had expired" } else { "RFC3161" });
        }
    }
}

/// Old versions allow a log entry that nothing proves. A bundle gains nothing by calling itself one.
#[tokio::test]
async fn downgraded_bundle_version() {
    let (instance, _, bundle) = signed(V1);
    let root = instance.trusted_root();
    for version in ["0.1", "0.2"] {
        let mut old = bundle.clone();
        let certificate = old["verificationMaterial"].as_object_mut().unwrap().remove("certificate").unwrap();
        old["verificationMaterial"]["x509CertificateChain"] = json!({"certificates": [certificate]});
        old["mediaType"] = format!("application/vnd.dev.sigstore.bundle+json;version={version}").into();
        assert_verified(&of_bundle(&old, keyless(&root)).await, IDENTITY);
        let entry = old.pointer_mut("/verificationMaterial/tlogEntries/0").unwrap();
        entry.as_object_mut().unwrap().remove("inclusionProof").unwrap();
        assert_refused(&of_bundle(&old, keyless(&root)).await, "without a proof of inclusion");
    }
}

#[tokio::test]
async fn certificate_for_another_use() {
    let instance = Instance::new();
    for purpose in [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::TimeStamping,
        ExtendedKeyUsagePurpose::EmailProtection,
    ] {
        let subject = Subject { purpose, ..Subject::default() };
        let outcome = of_bundle(&sign(&instance, &subject, V1), keyless(&instance.trusted_root())).await;
        assert_refused(&outcome, "its certificate is not for signing code");
    }
}
