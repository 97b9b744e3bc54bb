//! Revocation, timestamps and known attacks.

use super::*;

/// Revoked is refused, and what cannot be found out is unknown.
#[tokio::test]
async fn revocation_by_files() {
    let root = MadeCertificate::root("C=US,ST=WA,O=Acme,CN=root");
    let mut params = end_entity(SUBJECT);
    params.crl_distribution_points = vec![rcgen::CrlDistributionPoint { uris: vec!["http://crl.test/a.crl".into()] }];
    let signer = root.issue(params, key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let signature = || Making::new(&[signer.clone(), root.clone()]).attached();
    let file = |der: Vec<u8>| RevocationFile {
        path: "crls/a.crl".into(),
        list: crate::x509::RevocationList::from_der(&der).unwrap(),
    };
    let clean = file(signed_list(&root, &revocation_list(1, &[])));
    let revoked = [(&signer, rcgen::RevocationReason::KeyCompromise)];
    let revoked = file(signed_list(&root, &revocation_list(2, &revoked)));
    let mut outdated = revocation_list(1, &[]);
    outdated.next_update = rcgen::date_time_ymd(2026, 6, 1);
    let outdated = file(signed_list(&root, &outdated));
    let foreign = file(signed_list(&MadeCertificate::root("C=US,ST=WA,O=Acme,CN=root"), &revocation_list(1, &[])));
    let checks = |action| with(&root, |checks| checks.revocation = action);
    for (action, lists, expected) in [
        (CheckAction::Enforce, vec![clean.clone()], Ok("")),
        (CheckAction::Enforce, vec![foreign.clone(), clean], Ok("")),
        (CheckAction::Enforce, vec![revoked.clone()], Err("is revoked (KeyCompromise)")),
        (CheckAction::Enforce, vec![], Err("unknown: JWS signature")),
        (CheckAction::Enforce, vec![], Err("online checks are off")),
        (CheckAction::Enforce, vec![outdated.clone()], Err("crls/a.crl: the revocation list of")),
        (CheckAction::Enforce, vec![foreign], Err("online checks are off")),
        (CheckAction::Log, vec![revoked.clone()], Ok("is revoked (KeyCompromise)")),
        (CheckAction::Log, vec![], Ok("online checks are off")),
        (CheckAction::Skip, vec![revoked], Ok("")),
    ] {
        let authority = authority_with(Some(checks(action)), RegistryScope::All, lists);
        let (outcome, _) = judged(&authority, &[signature()]).await;
        match (outcome, expected) {
            (TrustOutcome::Verified { by, .. }, Ok(part)) => assert!(by[0].description.contains(part), "{by:?}"),
            (TrustOutcome::Unverified { found }, Err(part)) => {
                assert!(found[0].to_string().contains(part), "{found:?}");
            }
            (TrustOutcome::Unknown { why, .. }, Err(part)) => {
                assert!(format!("unknown: {why}").contains(part), "{part}: {why}");
            }
            (outcome, expected) => panic!("{expected:?}: {outcome:?}"),
        }
    }
}

/// CVE-2023-33959: notation verified a signature without comparing the descriptor that it signed with what is served.
#[tokio::test]
async fn cve_2023_33959_the_signed_descriptor_is_that_of_the_served_manifest() {
    let chain = chain();
    let root = chain.last().unwrap();
    let served = image();
    let target = |change: &dyn Fn(&mut Value)| {
        let mut target = json!({
            "mediaType": served.media_type, "digest": served.digest.to_string(), "size": served.bytes.len()
        });
        change(&mut target);
        Making::new(&chain).payload(&json!({"targetArtifact": target})).attached()
    };
    assert!(result(&strict(root), target(&|_| {})).await.is_ok());
    assert!(result(&strict(root), target(&|t| t["annotations"] = json!({"Digest": "x"}))).await.is_ok());
    let other = Digest::sha256(b"other").to_string();
    for (key, value, part) in [
        ("digest", json!(other), "is for another image"),
        ("digest", json!("sha256:00"), "names no valid digest"),
        ("digest", Value::Null, "names no digest"),
        ("size", json!(served.bytes.len() + 1), "is for a manifest of"),
        ("size", json!(-1), "names no size"),
        ("size", json!(1.5), "names no size"),
        ("size", Value::Null, "names no size"),
        ("mediaType", json!("application/vnd.oci.image.manifest.v1+json"), "is for the media type"),
        ("mediaType", Value::Null, "names no mediaType"),
        ("Digest", json!(other), "as \"digest\", and others do not"),
    ] {
        let error = result(&strict(root), target(&|t| t[key] = value.clone())).await.unwrap_err();
        assert!(error.contains(part), "{key}: {error}");
    }
}

/// CVE-2024-23332: a registry that serves an old, expired signature again must not make an image count. Only a level
/// that does not enforce expiry lets it pass, and says so.
#[tokio::test]
async fn cve_2024_23332_an_expired_signature_is_not_accepted_again() {
    let chain = chain();
    let root = chain.last().unwrap();
    let old = || Making::new(&chain).expiry("2026-05-01T00:00:00Z").attached();
    let error = result(&strict(root), old()).await.unwrap_err();
    assert!(error.contains("expired at 2026-05-01T00:00:00Z"), "{error}");
    let permissive = with(root, |checks| checks.expiry = CheckAction::Log);
    assert!(result(&permissive, old()).await.unwrap().description.contains("not enforced: expired at"));
}

/// CVE-2023-33957 and CVE-2023-33958: many and endless signatures. The search bounds both (`discovery`), and what one
/// signature may make the verifier do is bounded here.
#[tokio::test]
async fn cve_2023_33957_cve_2023_33958_work_is_bounded_for_each_signature() {
    let chain = chain();
    let root = chain.last().unwrap();
    let many: Vec<_> = std::iter::repeat_n(chain[2].clone(), 20).collect();
    let error = result(&strict(root), Making::new(&[&chain[..2], &many].concat()).attached()).await.unwrap_err();
    assert!(error.contains("must have 1 to 16 certificates, and has 22"), "{error}");
    let large = json!({"targetArtifact": {"annotations": {"x": "y".repeat(300_000)}}});
    let error = result(&strict(root), Making::new(&chain).payload(&large).attached()).await.unwrap_err();
    assert!(error.contains("its payload is larger than 256 KiB"), "{error}");
    let authority = authority_with(Some(strict(root)), RegistryScope::All, vec![]);
    let broken: Vec<_> = (0..10_000).map(|n| attached(EnvelopeForm::Jws, format!("{{{n}").into_bytes())).collect();
    let TrustOutcome::Unverified { found } = judged(&authority, &broken).await.0 else { panic!() };
    assert_eq!(found.len(), 21);
    assert_eq!(found.last().unwrap().to_string(), "9980 more: do not count");
}

#[tokio::test]
async fn timestamps_prove_that_a_certificate_was_valid() {
    let chain = chain();
    let root = chain.last().unwrap();
    let mut params = end_entity(SUBJECT);
    params.not_after = rcgen::date_time_ymd(2026, 4, 1);
    let expired = [chain[1].issue(params, key(&rcgen::PKCS_ECDSA_P256_SHA256)), chain[1].clone(), chain[2].clone()];
    let tsa = TimestampAuthority::new(rsa_key(RSA_2048));
    let checks = |rule| {
        with(root, |checks| {
            checks.timestamps = rule;
            checks.timestamp_authorities = vec![stored("tsa:acme", tsa.root())];
        })
    };
    let signed = |chain: &[MadeCertificate], time: Option<&str>| {
        // RSA signatures are not the same twice, and neither are those on curves: sign once, then make the timestamp.
        Making::new(chain).timestamped(|signature| {
            let mut tsa = tsa.clone();
            tsa.set_time(time?);
            Some(tsa.token(signature))
        })
    };
    let (always, after) = (TimestampRule::Always, TimestampRule::AfterCertificateExpiry);
    let (valid, late) = (Some("20260301000000Z"), Some("20260401000001Z"));
    for (rule, chain, time, expected) in [
        (always, &chain[..], valid, Ok(())),
        (always, &chain[..], None, Err("has no timestamp, which the trust policy requires")),
        (always, &expired[..], valid, Ok(())),
        (always, &expired[..], late, Err("was not valid when it was signed, by its timestamp")),
        (always, &expired[..], None, Err("has no timestamp")),
        (after, &chain[..], None, Ok(())),
        (after, &expired[..], None, Err("has no timestamp")),
        (after, &expired[..], valid, Ok(())),
        (after, &expired[..], late, Err("was not valid when it was signed, by its timestamp")),
    ] {
        let result = result(&checks(rule), signed(chain, time)).await.map(drop);
        match expected {
            Ok(()) => assert_eq!(result, Ok(()), "{rule:?} {time:?}"),
            Err(part) => assert!(result.as_ref().is_err_and(|error| error.contains(part)), "{part}: {result:?}"),
        }
    }
    // A signature by an expired certificate without any tsa trust store does not count, whatever timestamp it has.
    let error = result(&strict(root), signed(&expired, valid)).await.unwrap_err();
    assert!(error.contains("was not valid now"), "{error}");
    // A verified timestamp is valid forever; only the configuration ends what rests on it.
    let authority = authority_with(Some(checks(always)), RegistryScope::All, vec![]);
    let (outcome, until) = judged(&authority, &[signed(&expired, valid)]).await;
    let TrustOutcome::Verified { by, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!((by[0].signed_at, until), (Some(time_at(2026, 3, 1)), None));
}

/// CVE-2024-56138: notation did not check whether the timestamping authority's certificates are revoked.
#[tokio::test]
async fn cve_2024_56138_timestamps_by_revoked_certificates_do_not_count() {
    let chain = chain();
    let root = MadeCertificate::root("O=tsa,CN=root");
    let tsa = TimestampAuthority::issued_by(&root, |params| {
        let uris = vec!["http://crl.test/tsa.crl".into()];
        params.crl_distribution_points = vec![rcgen::CrlDistributionPoint { uris }];
    });
    let checks = with(chain.last().unwrap(), |checks| {
        checks.timestamp_authorities = vec![stored("tsa:acme", &root)];
    });
    let signature = || Making::new(&chain).timestamped(|signature| Some(tsa.token(signature)));
    let list = |revoked: &[(&MadeCertificate, rcgen::RevocationReason)]| {
        let list = signed_list(&root, &revocation_list(1, revoked));
        RevocationFile { path: "tsa.crl".into(), list: crate::x509::RevocationList::from_der(&list).unwrap() }
    };
    let revoked = list(&[(&tsa.chain[0], rcgen::RevocationReason::KeyCompromise)]);
    let outcome = |lists| {
        let (authority, signature) = (authority_with(Some(checks.clone()), RegistryScope::All, lists), signature());
        async move { judged(&authority, &[signature]).await.0 }
    };
    assert!(matches!(outcome(vec![list(&[])]).await, TrustOutcome::Verified { .. }));
    let TrustOutcome::Unverified { found } = outcome(vec![revoked]).await else { panic!() };
    assert!(found[0].to_string().contains("O=tsa,CN=signer is revoked"), "{found:?}");
    assert!(matches!(outcome(vec![]).await, TrustOutcome::Unknown { .. }), "not known is not \"not revoked\"");
}

/// Sizes of RSA keys other than three are not allowed, although such keys verify.
#[test]
fn rsa_keys_of_other_sizes_have_no_algorithm() {
    for (size, expected) in [(RSA_2048, "PS256"), (RSA_3072, "PS384"), (RSA_4096, "PS512")] {
        let made = MadeCertificate::self_signed(end_entity(SUBJECT), rsa_key(size));
        let algorithm = algorithm::EnvelopeAlgorithm::of(&made.certificate);
        assert_eq!(algorithm.map(algorithm::EnvelopeAlgorithm::name), Some(expected));
    }
}
