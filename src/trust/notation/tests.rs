use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use serde_json::{Value, json};

use super::super::scheme::Sought;
use super::*;
use crate::oci::Digest;
use crate::policy::{CertificateSubject, PublicKey, RegistryScope, StoredCertificate, TimestampRule};
use crate::runtime::{Clock, Tasks};
use crate::trust::tests::sigstore::pem;
use crate::x509::DistinguishedName;
use crate::x509::tests::{MadeCertificate, authority, end_entity, key, revocation_list, signed_list, time_at};

mod known_attacks;
pub(super) mod made;

use super::timestamp::tests::authority::TimestampAuthority;
use made::{Making, RSA_2048, RSA_3072, RSA_4096, attached, image, keys, name, now, rsa_key};

const SUBJECT: &str = "C=US,ST=WA,O=Acme,CN=signer";

/// A root, an authority below it, and a signer.
pub(super) fn chain() -> Vec<MadeCertificate> {
    let root = MadeCertificate::root("C=US,ST=WA,O=Acme,CN=root");
    let below = root.issue(authority("C=US,ST=WA,O=Acme,CN=below"), key(&rcgen::PKCS_ECDSA_P384_SHA384));
    let signer = below.issue(end_entity(SUBJECT), key(&rcgen::PKCS_ECDSA_P256_SHA256));
    vec![signer, below, root]
}

fn stored(store: &str, made: &MadeCertificate) -> StoredCertificate {
    StoredCertificate { store: store.into(), certificate: made.certificate.clone() }
}

fn subject(name: &str) -> CertificateSubject {
    CertificateSubject::Named(DistinguishedName::parse(name).unwrap())
}

/// Level strict, with one `ca` trust store.
pub(super) fn strict(root: &MadeCertificate) -> NotationChecks {
    NotationChecks {
        level: "strict".into(),
        authenticity: CheckAction::Enforce,
        authentic_timestamp: CheckAction::Enforce,
        expiry: CheckAction::Enforce,
        revocation: CheckAction::Enforce,
        timestamps: TimestampRule::Always,
        authorities: vec![stored("ca:acme", root)],
        signing_authorities: vec![],
        timestamp_authorities: vec![],
        identities: vec![subject("C=US,ST=WA,O=Acme")],
    }
}

fn with(root: &MadeCertificate, change: impl FnOnce(&mut NotationChecks)) -> NotationChecks {
    let mut checks = strict(root);
    change(&mut checks);
    checks
}

fn authority_with(checks: Option<NotationChecks>, scope: RegistryScope, lists: Vec<RevocationFile>) -> Arc<Authority> {
    let statement = NotationStatement { name: "acme".into(), scope, checks };
    let trust = NotationTrust { statements: vec![statement], revocation_lists: lists };
    Arc::new(Authority::new("notary-project", Scheme::Notation(Box::new(trust))))
}

fn subject_image() -> ImageSubject {
    ImageSubject { name: name(), manifest: image(), now: now() }
}

/// The scheme without any online check.
fn scheme() -> Notation {
    let (clock, config) = (Clock::manual(now()), RevocationConfig { online: false, ..RevocationConfig::default() });
    let revocation = RevocationChecker::new(&config, clock, &Tasks::new()).unwrap();
    Notation { revocation }
}

/// The outcome for an authority of these signatures, and its end.
async fn judged(authority: &Arc<Authority>, found: &[Attached]) -> (TrustOutcome, Option<Timestamp>) {
    let sought = [Sought { authority: authority.clone(), known: vec![] }];
    let mut verification = scheme().verification(&subject_image(), &sought);
    verification.read(found);
    verification.confirm().await;
    let until = verification.verified_until(0, &Config::default(), now());
    (verification.outcome(0, &Notes::default()), until)
}

/// Why a signature does not count for a statement, or who signed.
async fn result(checks: &NotationChecks, signature: Attached) -> Result<Signatory, String> {
    let authority = authority_with(Some(checks.clone()), RegistryScope::All, vec![]);
    match judged(&authority, &[signature]).await.0 {
        TrustOutcome::Verified { by, .. } => Ok(by[0].clone()),
        TrustOutcome::Unverified { found } => Err(found[0].to_string()),
        TrustOutcome::Unknown { why, .. } => Err(format!("unknown: {why}")),
        TrustOutcome::NotRequired { why } => Err(format!("not required: {why}")),
    }
}

#[tokio::test]
async fn every_allowed_key_signs_in_both_forms() {
    let root = MadeCertificate::root("C=US,ST=WA,O=Acme,CN=root");
    for key in keys() {
        let signer = root.issue(end_entity(SUBJECT), key);
        for form in [EnvelopeForm::Jws, EnvelopeForm::Cose] {
            let signature = Making::new(&[signer.clone(), root.clone()]).form(form).attached();
            let signatory = result(&strict(&root), signature).await.unwrap();
            let expected = Digest::sha256(signer.certificate.subject_public_key_info()).to_string();
            // The same key as a key of cosign is the same signer.
            let key = pem("PUBLIC KEY", signer.certificate.subject_public_key_info());
            assert_eq!(PublicKey::from_pem(&key).unwrap().fingerprint().to_string(), expected);
            assert_eq!((signatory.id, &*signatory.identity), (expected, SUBJECT));
            assert_eq!(signatory.issuer.as_deref(), Some("C=US,ST=WA,O=Acme,CN=root"));
            assert!(signatory.description.contains("statement \"acme\", level strict"), "{}", signatory.description);
        }
    }
}

/// What `notation cert generate-test` makes: one certificate that signed itself and is in the trust store.
#[tokio::test]
async fn a_self_signed_signer_counts_if_it_is_in_the_trust_store() {
    let own = MadeCertificate::self_signed(end_entity(SUBJECT), key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let signature = || Making::new(std::slice::from_ref(&own)).attached();
    assert!(result(&strict(&own), signature()).await.is_ok());
    let other = MadeCertificate::self_signed(end_entity(SUBJECT), key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let error = result(&strict(&other), signature()).await.unwrap_err();
    assert!(error.contains("is in a ca trust store"), "{error}");
}

/// Any certificate of the chain may be the one in the store, but the chain goes on to its root.
#[tokio::test]
async fn the_chain_is_complete_and_one_of_it_is_trusted() {
    let chain = chain();
    let [signer, below, root] = &chain[..] else { panic!() };
    let other = MadeCertificate::root("C=US,ST=WA,O=Acme,CN=root");
    for (trusted, certificates, expected) in [
        (root, vec![signer, below, root], Ok(())),
        (below, vec![signer, below, root], Ok(())),
        (signer, vec![signer, below, root], Ok(())),
        (&other, vec![signer, below, root], Err("is in a ca trust store")),
        (root, vec![signer, below], Err("the chain must end with a self-signed root")),
        (below, vec![signer, below], Err("the chain must end with a self-signed root")),
        (root, vec![signer, root, below], Err("did not issue it")),
        (root, vec![signer, root], Err("did not issue it")),
        (root, vec![signer, below, other_root(&other)], Err("did not issue it")),
        (root, vec![signer, below, root, root], Err("only the last certificate")),
        (root, vec![signer], Err("the chain must end with a self-signed root")),
    ] {
        let certificates: Vec<_> = certificates.into_iter().cloned().collect();
        let result = result(&strict(trusted), Making::new(&certificates).attached()).await;
        match expected {
            Ok(()) => assert!(result.is_ok(), "{result:?}"),
            Err(part) => assert!(result.as_ref().is_err_and(|error| error.contains(part)), "{part}: {result:?}"),
        }
    }
}

fn other_root(made: &MadeCertificate) -> &MadeCertificate {
    made
}

#[tokio::test]
async fn certificates_for_another_use_do_not_sign_images() {
    type Change = fn(&mut CertificateParams);
    let leaf: [(Change, &str); 11] = [
        (|p| p.key_usages = vec![], "has no key usage"),
        (|p| p.key_usages = vec![KeyUsagePurpose::ContentCommitment], "lacks digitalSignature"),
        (|p| p.key_usages.push(KeyUsagePurpose::KeyEncipherment), "has keyEncipherment"),
        (|p| p.key_usages.push(KeyUsagePurpose::KeyAgreement), "has keyAgreement"),
        (|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign), "has keyCertSign"),
        (|p| p.key_usages.push(KeyUsagePurpose::CrlSign), "has cRLSign"),
        (|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth], "has serverAuth"),
        (|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection], "has emailProtection"),
        (|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::TimeStamping], "has timeStamping"),
        (
            |p| {
                p.extended_key_usages =
                    vec![ExtendedKeyUsagePurpose::CodeSigning, ExtendedKeyUsagePurpose::OcspSigning];
            },
            "has OCSPSigning",
        ),
        (|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), "is a certificate authority"),
    ];
    let root = MadeCertificate::root("C=US,ST=WA,O=Acme,CN=root");
    for (change, part) in leaf {
        let mut params = end_entity(SUBJECT);
        change(&mut params);
        let signer = root.issue(params, key(&rcgen::PKCS_ECDSA_P256_SHA256));
        let error = result(&strict(&root), Making::new(&[signer, root.clone()]).attached()).await.unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
    }
    let authorities: [(Change, &str); 4] = [
        (|p| p.is_ca = IsCa::NoCa, "must have critical basic constraints"),
        (|p| p.is_ca = IsCa::ExplicitNoCa, "is not a certificate authority"),
        (|p| p.key_usages = vec![KeyUsagePurpose::CrlSign], "critical key usage keyCertSign"),
        (|p| p.key_usages = vec![], "critical key usage keyCertSign"),
    ];
    for (change, part) in authorities {
        let mut params = authority("O=below");
        change(&mut params);
        let below = root.issue(params, key(&rcgen::PKCS_ECDSA_P256_SHA256));
        let signer = below.issue(end_entity(SUBJECT), key(&rcgen::PKCS_ECDSA_P256_SHA256));
        let making = Making::new(&[signer, below, root.clone()]);
        let error = result(&strict(&root), making.attached()).await.unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
    }
    let mut short = authority("O=short");
    short.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let short = MadeCertificate::self_signed(short, key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let below = short.issue(authority("O=below"), key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let signer = below.issue(end_entity(SUBJECT), key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let error = result(&strict(&short), Making::new(&[signer, below, short.clone()]).attached()).await.unwrap_err();
    assert!(error.contains("its path length does not allow the chain"), "{error}");
    // A key that is not allowed to sign, however valid its signature is.
    for weak in [key(&rcgen::PKCS_ED25519)] {
        let signer = root.issue(end_entity(SUBJECT), weak);
        let error = result(&strict(&root), Making::new(&[signer, root.clone()]).attached()).await.unwrap_err();
        assert!(error.contains("is not allowed"), "{error}");
    }
}

#[tokio::test]
async fn identities_are_part_of_the_signers_subject() {
    let chain = chain();
    let root = chain.last().unwrap();
    for (identities, expected) in [
        (vec![CertificateSubject::Any], true),
        (vec![subject("C=US,ST=WA,O=Acme")], true),
        (vec![subject("CN=signer,O=Acme,S=WA,C=US")], true),
        (vec![subject("C=DE,ST=BY,O=Acme"), subject("C=US,ST=WA,O=Acme,CN=signer")], true),
        (vec![subject("C=US,ST=WA,O=Acme,CN=root")], false),
        (vec![subject("C=US,ST=WA,O=Acme,OU=signer")], false),
        (vec![subject("C=US,ST=WA,O=Acme\\,CN=signer")], false),
        (vec![subject("C=US,ST=WA,O=Acm")], false),
        (vec![], false),
    ] {
        let checks = with(root, |checks| checks.identities = identities.clone());
        let result = result(&checks, Making::new(&chain).attached()).await;
        assert_eq!(result.is_ok(), expected, "{identities:?}: {result:?}");
    }
    // Subjects that could be read in two ways match no name, and every name of `*`.
    let strange = root.issue(end_entity("C=US,ST=WA,O=Acme,1.2.3.4=x"), key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let made = Making::new(&[strange, root.clone()]);
    let error = result(&strict(root), made.attached()).await.unwrap_err();
    assert!(error.contains("cannot be compared"), "{error}");
    let any = with(root, |checks| checks.identities = vec![CertificateSubject::Any]);
    assert!(result(&any, made.attached()).await.is_ok());
    // A value with a comma is one value.
    let comma = root.issue(end_entity("C=US,ST=WA,O=Evil"), key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let mut params = comma.params.clone();
    params.distinguished_name.push(rcgen::DnType::CommonName, "x,O=Acme");
    let comma = root.issue(params, key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let error = result(&strict(root), Making::new(&[comma, root.clone()]).attached()).await.unwrap_err();
    assert!(error.contains("which is not a trusted identity"), "{error}");
}

#[tokio::test]
async fn signing_authorities_have_separate_stores_and_times() {
    let chain = chain();
    let root = chain.last().unwrap();
    let signature = |at: &str| Making::new(&chain).signing_authority(at).attached();
    let checks = with(root, |checks| {
        checks.authorities.clear();
        checks.signing_authorities = vec![stored("signingAuthority:acme", root)];
    });
    let signatory = result(&checks, signature("2026-03-01T00:00:00Z")).await.unwrap();
    assert_eq!(signatory.signed_at, Some(time_at(2026, 3, 1)));
    let error = result(&strict(root), signature("2026-03-01T00:00:00Z")).await.unwrap_err();
    assert!(error.contains("is in a signingAuthority trust store"), "{error}");
    let error = result(&checks, signature("2025-03-01T00:00:00Z")).await.unwrap_err();
    assert!(error.contains("was not valid when it was signed"), "{error}");
    // The certificate has expired since, and the signature has not.
    let mut params = end_entity(SUBJECT);
    params.not_after = rcgen::date_time_ymd(2026, 4, 1);
    let expired = chain[1].issue(params, key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let chain = [expired, chain[1].clone(), chain[2].clone()];
    let signature = Making::new(&chain).signing_authority("2026-03-01T00:00:00Z").attached();
    assert!(result(&checks, signature).await.is_ok());
}

#[tokio::test]
async fn expired_signatures_do_not_count_at_level_strict() {
    let chain = chain();
    let root = chain.last().unwrap();
    let signed = |expiry: &str| Making::new(&chain).expiry(expiry).attached();
    for (expiry, counts) in [
        ("2026-06-15T11:59:59Z", false),
        ("2026-06-15T12:00:00Z", false),
        ("2026-06-15T12:00:01Z", true),
        ("2027-01-01T00:00:00Z", true),
    ] {
        let result = result(&strict(root), signed(expiry)).await;
        assert_eq!(result.is_ok(), counts, "{expiry}: {result:?}");
    }
    let mut params = end_entity(SUBJECT);
    params.not_after = rcgen::date_time_ymd(2026, 6, 1);
    let expired = chain[1].issue(params, key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let made = Making::new(&[expired, chain[1].clone(), chain[2].clone()]);
    let error = result(&strict(root), made.attached()).await.unwrap_err();
    assert!(error.contains("was not valid now"), "{error}");
}

#[tokio::test]
async fn a_verified_outcome_ends_with_its_evidence() {
    let chain = chain();
    let root = chain.last().unwrap();
    let ttl = now() + Config::default().ttl;
    let at = |signature: Attached, checks: NotationChecks| async move {
        judged(&authority_with(Some(checks), RegistryScope::All, vec![]), &[signature]).await.1
    };
    let soon: Timestamp = "2026-06-15T13:00:00Z".parse().unwrap();
    assert_eq!(at(Making::new(&chain).attached(), strict(root)).await, Some(ttl), "the certificate ends later");
    let expiring = || Making::new(&chain).expiry("2026-06-15T13:00:00Z").attached();
    assert_eq!(at(expiring(), strict(root)).await, Some(soon));
    let logged = with(root, |checks| checks.expiry = CheckAction::Log);
    assert_eq!(at(expiring(), logged).await, Some(ttl));
    let list = signed_list(&chain[1], &revocation_list(1, &[]));
    let list = RevocationFile { path: "a.crl".into(), list: crate::x509::RevocationList::from_der(&list).unwrap() };
    let authority = authority_with(Some(strict(root)), RegistryScope::All, vec![list]);
    assert_eq!(judged(&authority, &[Making::new(&chain).attached()]).await.1, Some(ttl));
}

#[tokio::test]
async fn levels_decide_what_is_enforced() {
    use CheckAction::{Enforce, Log};
    let chain = chain();
    let root = chain.last().unwrap();
    let stranger = MadeCertificate::self_signed(end_entity("O=stranger"), key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let level = |name: &str, authenticity, others| {
        with(root, |checks| {
            checks.level = name.into();
            checks.authenticity = authenticity;
            (checks.expiry, checks.authentic_timestamp, checks.revocation) = (others, others, others);
        })
    };
    let (permissive, audit) = (level("permissive", Enforce, Log), level("audit", Log, Log));
    let expired = || Making::new(&chain).expiry("2026-06-15T11:00:00Z").attached();
    let strange = || Making::new(std::slice::from_ref(&stranger)).attached();
    assert!(result(&strict(root), expired()).await.is_err());
    let signatory = result(&permissive, expired()).await.unwrap();
    assert!(signatory.description.contains("not enforced: expired at"), "{}", signatory.description);
    assert!(result(&permissive, strange()).await.is_err());
    let signatory = result(&audit, strange()).await.unwrap();
    assert!(signatory.description.contains("is in a ca trust store"), "{}", signatory.description);
    assert!(signatory.description.contains("revocation was not checked"), "{}", signatory.description);
    // Whoever is not trusted is nobody in particular, so that strangers cannot meet a threshold together.
    let authority = authority_with(Some(audit.clone()), RegistryScope::All, vec![]);
    assert!(authority.signers().contains(&signatory.id));
    // Integrity is always enforced.
    let mut broken = strange();
    broken.bytes =
        String::from_utf8(broken.bytes.to_vec()).unwrap().replacen("\"signature\":\"", "\"signature\":\"A", 1).into();
    assert!(result(&audit, broken).await.is_err());
    let foreign = Making::new(&chain).payload(&json!({"targetArtifact": {}})).attached();
    assert!(result(&audit, foreign).await.is_err());
}

#[tokio::test]
async fn the_statement_for_the_repository_decides() {
    let chain = chain();
    let signature = || Making::new(&chain).attached();
    let checks = || Some(strict(chain.last().unwrap()));
    let here = || RegistryScope::Repositories(vec![name()]);
    let elsewhere = || RegistryScope::Repositories(vec![ImageName { host: "other.io".parse().unwrap(), ..name() }]);
    let (outcome, _) = judged(&authority_with(checks(), here(), vec![]), &[signature()]).await;
    assert!(matches!(outcome, TrustOutcome::Verified { .. }));
    let (outcome, _) = judged(&authority_with(checks(), elsewhere(), vec![]), &[signature()]).await;
    let TrustOutcome::Unverified { found } = outcome else { panic!("{outcome:?}") };
    assert!(found[0].to_string().contains("no statement of the trust policy applies to"), "{found:?}");
    let (outcome, _) = judged(&authority_with(None, here(), vec![]), &[]).await;
    assert!(matches!(&outcome, TrustOutcome::NotRequired { why } if why.contains("level skip")), "{outcome:?}");
    for (authority, is_searched) in [
        (authority_with(checks(), here(), vec![]), true),
        (authority_with(checks(), elsewhere(), vec![]), false),
        (authority_with(None, here(), vec![]), false),
    ] {
        let sought = [Sought { authority, known: vec![] }];
        let verification = scheme().verification(&subject_image(), &sought);
        assert_eq!(!verification.possible(0).is_empty(), is_searched, "nothing is searched for in vain");
    }
}

#[tokio::test]
async fn one_broken_signature_beside_a_good_one_does_not_fail_the_image() {
    let chain = chain();
    let authority = authority_with(Some(strict(chain.last().unwrap())), RegistryScope::All, vec![]);
    let broken = attached(EnvelopeForm::Jws, b"{}".to_vec());
    let good = || Making::new(&chain).attached();
    let (outcome, _) = judged(&authority, &[broken.clone(), good(), good(), broken]).await;
    let TrustOutcome::Verified { by, found, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(by.len(), 1, "two signatures of one signer");
    assert!(found.iter().any(|one| one.to_string().contains("has no protected")), "{found:?}");
}
