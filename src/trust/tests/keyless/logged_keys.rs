//! Signatures by key that are logged.

use super::*;

#[tokio::test]
async fn signatures_by_key_can_be_required_to_be_logged() {
    let (instance, signer, stranger) = (Instance::new(), Signer::p256(), Signer::p256());
    let cosign = |signer: &Signer| CosignAuthority {
        log: TransparencyLog::Require,
        roots: vec![root_of(&instance.trusted_root())],
        ..CosignAuthority::of_keys(vec![signer.key()])
    };
    let statement = statement(&image().digest);
    let bundle =
        |witnessed, pem: &str| instance.bundle_by_key(&*signer.sign, pem, Signed::Statement(&statement), witnessed);
    for witnessed in [V1, V2] {
        let outcome = of_bundle(&bundle(witnessed, &signer.pem()), cosign(&signer)).await;
        assert_verified(&outcome, "ECDSA P-256");
        assert_refused(&of_bundle(&bundle(witnessed, &signer.pem()), cosign(&stranger)).await, "was not made by");
        // The entry of somebody else who has logged the same signature.
        assert_refused(&of_bundle(&bundle(witnessed, &stranger.pem()), cosign(&signer)).await, "does not match");
    }
    let unlogged = bundle(Witnessed { logging: Logging::None, ..V1 }, &signer.pem());
    assert_refused(&of_bundle(&unlogged, cosign(&signer)).await, "is not in a transparency log");
    assert_verified(&of_bundle(&unlogged, CosignAuthority::of_keys(vec![signer.key()])).await, "ECDSA P-256");

    let payload = payload(&image().digest).to_string();
    let logged = instance.bundle_by_key(&*signer.sign, &signer.pem(), Signed::Message(payload.as_bytes()), V1);
    let entry = logged.pointer("/verificationMaterial/tlogEntries/0").unwrap();
    let annotations = json!({
        "dev.cosignproject.cosign/signature": logged.pointer("/messageSignature/signature").unwrap(),
        "dev.sigstore.cosign/bundle": instance.classic_log_entry(entry).to_string()
    });
    assert_verified(&of_classic(payload.as_bytes(), &annotations, cosign(&signer)).await, "classic");
}

/// `cosign sign --key KEY --certificate CERTIFICATE` adds a certificate. The key decides, and the entry in the log must
/// name the key, or that certificate if it holds the key.
#[tokio::test]
async fn a_logged_signature_by_a_key_may_carry_a_certificate() {
    let instance = Instance::new();
    let [leaf, other] = [instance.issue(&Subject::default()), instance.issue(&Subject::default())];
    let key = |leaf: &Leaf| {
        let certificate = x509_cert::Certificate::from_der(&leaf.der).unwrap();
        pem("PUBLIC KEY", &certificate.tbs_certificate.subject_public_key_info.to_der().unwrap())
    };
    let cosign = CosignAuthority {
        log: TransparencyLog::Require,
        roots: vec![root_of(&instance.trusted_root())],
        ..CosignAuthority::of_keys(vec![PublicKey::from_pem(&key(&leaf)).unwrap()])
    };
    let payload = payload(&image().digest).to_string();
    let [own, foreign] = [&leaf, &other].map(|leaf| pem("CERTIFICATE", &leaf.der));
    // Whom the entry in the log names, and the certificate that the signature carries.
    for (logged, certificate, refused) in [
        (&key(&leaf), &own, None),
        (&key(&leaf), &foreign, None),
        (&own, &own, None),
        (&key(&other), &own, Some("does not match")),
        (&own, &foreign, Some("is for a certificate, not for the key")),
        (&foreign, &own, Some("does not match")),
        (&foreign, &foreign, Some("is for a certificate, not for the key")),
    ] {
        let sign = |message: &[u8]| leaf.sign(message);
        let bundle = instance.bundle_by_key(&sign, logged, Signed::Message(payload.as_bytes()), V1);
        let entry = bundle.pointer("/verificationMaterial/tlogEntries/0").unwrap();
        let annotations = json!({
            "dev.cosignproject.cosign/signature": bundle.pointer("/messageSignature/signature").unwrap(),
            "dev.sigstore.cosign/bundle": instance.classic_log_entry(entry).to_string(),
            "dev.sigstore.cosign/certificate": certificate,
        });
        let outcome = of_classic(payload.as_bytes(), &annotations, cosign.clone()).await;
        match refused {
            None => assert_verified(&outcome, "classic"),
            Some(part) => assert_refused(&outcome, part),
        }
    }
}
