use std::collections::BTreeMap;

use super::gpg::{SignatureStore, SignedIdentity, StoreCredentials};
use super::*;
use crate::oci::ImageReference;
use crate::policy::keys::keyring::KeyRing;
use crate::policy::keys::material::SignerKey;
use crate::policy::{Certificate, FulcioClaim, Settings};
use crate::x509::tests::{MadeCertificate, revocation_list, signed_list};
use crate::x509::{DistinguishedName, RevocationList};

fn key(name: &str) -> PublicKey {
    PublicKey::for_test(name)
}

fn ring(body: &str) -> KeyRing {
    KeyRing::for_test(body.as_bytes())
}

fn named(name: &str) -> CertificateSubject {
    CertificateSubject::Named(DistinguishedName::parse(name).unwrap())
}

/// A trust policy in which everything has its default.
fn checks(certificates: &[&MadeCertificate], identities: &[CertificateSubject]) -> NotationChecks {
    NotationChecks {
        level: "strict".into(),
        authenticity: CheckAction::Enforce,
        authentic_timestamp: CheckAction::Enforce,
        expiry: CheckAction::Enforce,
        revocation: CheckAction::Enforce,
        timestamps: TimestampRule::Always,
        authorities: certificates.iter().map(|one| stored(one)).collect(),
        signing_authorities: vec![],
        timestamp_authorities: vec![],
        identities: identities.to_vec(),
    }
}

fn stored(made: &MadeCertificate) -> StoredCertificate {
    StoredCertificate { store: "ca:a".into(), certificate: made.certificate.clone() }
}

fn notation(checks: NotationChecks) -> Scheme {
    let statement = NotationStatement { name: "s".into(), scope: RegistryScope::All, checks: Some(checks) };
    Scheme::Notation(Box::new(NotationTrust { statements: vec![statement], revocation_lists: vec![] }))
}

/// Every field of a trust policy, changed one at a time.
fn different_trust_policies(one: &MadeCertificate, other: &MadeCertificate) -> Vec<Scheme> {
    let any = || checks(&[one], &[CertificateSubject::Any]);
    let with = |change: &dyn Fn(&mut NotationTrust)| {
        let Scheme::Notation(mut trust) = notation(any()) else { panic!() };
        change(&mut trust);
        Scheme::Notation(trust)
    };
    let name = |name: &str| name.parse::<ImageReference>().unwrap().name;
    let scope = |names: &[&str]| RegistryScope::Repositories(names.iter().map(|one| name(one)).collect());
    let list = |number| {
        let der = signed_list(one, &revocation_list(number, &[]));
        RevocationFile { path: "a".into(), list: RevocationList::from_der(&der).unwrap() }
    };
    let with_checks = |change: &dyn Fn(&mut NotationChecks)| {
        let mut checks = any();
        change(&mut checks);
        notation(checks)
    };
    vec![
        notation(any()),
        notation(checks(&[other], &[CertificateSubject::Any])),
        notation(checks(&[one, other], &[CertificateSubject::Any])),
        notation(checks(&[one], &[])),
        notation(checks(&[one], &[named("C=DE"), named("C=US")])),
        notation(checks(&[one], &[named("C=DE\\, C=US")])),
        notation(checks(&[one], &[named("C=*")])),
        with(&|trust| trust.statements.clear()),
        with(&|trust| trust.statements[0].name = "t".into()),
        with(&|trust| trust.statements[0].checks = None),
        with(&|trust| trust.statements[0].scope = scope(&["a.io/b"])),
        with(&|trust| trust.statements[0].scope = scope(&["a.io/b", "a.io/c"])),
        with(&|trust| trust.revocation_lists = vec![list(1)]),
        with(&|trust| trust.revocation_lists = vec![list(2)]),
        with_checks(&|checks| checks.level = "x".into()),
        with_checks(&|checks| checks.authenticity = CheckAction::Log),
        with_checks(&|checks| checks.authentic_timestamp = CheckAction::Log),
        with_checks(&|checks| checks.expiry = CheckAction::Log),
        with_checks(&|checks| checks.revocation = CheckAction::Log),
        with_checks(&|checks| checks.revocation = CheckAction::Skip),
        with_checks(&|checks| checks.timestamps = TimestampRule::AfterCertificateExpiry),
        with_checks(&|checks| checks.signing_authorities = vec![stored(one)]),
        with_checks(&|checks| checks.timestamp_authorities = vec![stored(one)]),
    ]
}

fn certificate(name: &str) -> Certificate {
    let pem = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem();
    Certificate::all_from_pem(&pem).unwrap().remove(0)
}

fn root(url: &str) -> TrustedRoot {
    let key = key(url).to_pem().lines().filter(|line| !line.starts_with('-')).collect::<String>();
    let key = format!(r#"{{"rawBytes": "{key}", "keyDetails": "PKIX_ED25519"}}"#);
    let id = format!(r#"{{"keyId": "{}"}}"#, "A".repeat(43) + "=");
    let log = format!(r#"{{"baseUrl": "{url}", "hashAlgorithm": "SHA2_256", "publicKey": {key}, "logId": {id}}}"#);
    let media_type = "application/vnd.dev.sigstore.trustedroot+json;version=0.1";
    TrustedRoot::from_json(url, format!(r#"{{"mediaType": "{media_type}", "tlogs": [{log}]}}"#).as_bytes()).unwrap()
}

fn id(scheme: Scheme) -> AuthorityId {
    Authority::new("a", scheme).id().clone()
}

/// Every field of every scheme, changed one at a time.
fn different_schemes() -> Vec<Scheme> {
    let text = str::to_owned;
    let exact = |wanted: &str| TextPattern::Exact(text(wanted));
    let keyless = |issuer: &str, identity, claims: &[(&str, &str)]| {
        let claim = |(name, wanted): &(&str, &str)| (FulcioClaim::named(name).unwrap(), exact(wanted));
        let signers = Keyless { issuer: exact(issuer), identity, claims: claims.iter().map(claim).collect() };
        CosignAuthority { signers: CosignSigners::Keyless(signers), ..CosignAuthority::of_keys(vec![]) }
    };
    let with = |change: fn(&mut CosignAuthority), mut cosign: CosignAuthority| {
        change(&mut cosign);
        Scheme::Cosign(cosign.into())
    };
    let by_x = || keyless("i", exact("x"), &[]);
    let (one, other) = (certificate("one"), certificate("other"));
    let signer = |name: &str, key| Signer { name: text(name), key, validity: KeyValidity::default() };
    let notary = |server: Option<&str>, signers| {
        Scheme::Notary(NotaryTrust { server: server.map(text), signers, ..NotaryTrust::default() })
    };
    let mut schemes = different_trust_policies(&MadeCertificate::root("O=one"), &MadeCertificate::root("O=other"));
    schemes.extend(different_simple_signers());
    schemes.extend([
        Scheme::cosign_keys(vec![]),
        Scheme::cosign_keys(vec![key("k")]),
        Scheme::cosign_keys(vec![key("l")]),
        Scheme::cosign_keys(vec![key("k"), key("l")]),
        with(|_| (), by_x()),
        with(|_| (), keyless("j", exact("x"), &[])),
        with(|_| (), keyless("i", exact("y"), &[])),
        with(|_| (), keyless("i", TextPattern::Glob(text("x")), &[])),
        with(|_| (), keyless("i", TextPattern::Regex(AnchoredRegex::new("x").unwrap()), &[])),
        with(|_| (), keyless("ix", exact(""), &[])),
        with(|_| (), keyless("i", exact("x"), &[("ref", "x")])),
        with(|_| (), keyless("i", exact("x"), &[("sourceRepository", "x")])),
        with(|_| (), keyless("i", exact("x"), &[("ref", "y")])),
        with(|cosign| cosign.log = TransparencyLog::Require, by_x()),
        with(|cosign| cosign.roots = vec![root("a")], by_x()),
        with(|cosign| cosign.roots = vec![root("b")], by_x()),
        with(|cosign| cosign.annotations = [("a", "b")].map(|(k, v)| (k.into(), v.into())).into(), by_x()),
        with(|cosign| cosign.annotations = [("a", "c")].map(|(k, v)| (k.into(), v.into())).into(), by_x()),
        with(|cosign| cosign.repository = Some("a.io/b".parse::<ImageReference>().unwrap().name), by_x()),
        with(|cosign| cosign.identity = Some(SignedIdentity::MatchRepository), by_x()),
        notary(None, vec![]),
        notary(Some(""), vec![]),
        notary(Some("https://n"), vec![]),
        notary(None, vec![signer("s", SignerKey::Key(key("k")))]),
        notary(None, vec![signer("t", SignerKey::Key(key("k")))]),
        notary(None, vec![signer("s", SignerKey::Key(key("l")))]),
        notary(None, vec![signer("s", SignerKey::Certificate(one.clone()))]),
        notary(None, vec![signer("s", SignerKey::Certificate(other.clone()))]),
        notary(None, vec![signer("s", SignerKey::Key(key("k"))), signer("t", SignerKey::Key(key("l")))]),
        notary(None, vec![signer("t", SignerKey::Key(key("k"))), signer("s", SignerKey::Key(key("l")))]),
        Scheme::Unusable { why: text("a") },
        Scheme::Unusable { why: text("b") },
    ]);
    schemes
}

fn different_simple_signers() -> Vec<Scheme> {
    let text = str::to_owned;
    let gpg = |rings: &[&str], identity, store: Option<SignatureStore>| {
        let keyrings = rings.iter().map(|body| ring(body).into()).collect();
        Scheme::Gpg(Box::new(SimpleSigner { keyrings, identity, store }))
    };
    let store = |base: &str, login: Option<(&str, &str)>| {
        let credentials =
            login.map(|(username, password)| StoreCredentials { username: text(username), password: text(password) });
        Some(SignatureStore { base: base.parse().unwrap(), credentials })
    };
    let reference = |name: &str| SignedIdentity::ExactReference(name.parse().unwrap());
    let repository = |name: &str| SignedIdentity::ExactRepository(name.parse::<ImageReference>().unwrap().name);
    let remap = |from: &str, to: &str| SignedIdentity::Remap { prefix: text(from), signed_prefix: text(to) };
    vec![
        gpg(&["abc="], SignedIdentity::MatchExact, None),
        gpg(&["abg="], SignedIdentity::MatchExact, None),
        gpg(&["abc=", "abg="], SignedIdentity::MatchExact, None),
        gpg(&["abc="], SignedIdentity::MatchExact, store("file:///s", None)),
        gpg(&["abc="], SignedIdentity::MatchExact, store("https://s", None)),
        gpg(&["abc="], SignedIdentity::MatchExact, store("https://s", Some(("u", "p")))),
        gpg(&["abc="], SignedIdentity::MatchExact, store("https://s", Some(("u", "q")))),
        gpg(&["abc="], SignedIdentity::MatchExact, store("https://s", Some(("v", "p")))),
        gpg(&["abc="], SignedIdentity::MatchRepository, None),
        gpg(&["abc="], SignedIdentity::MatchRepoDigestOrExact, None),
        gpg(&["abc="], reference("r:v1"), None),
        gpg(&["abc="], reference("r:v2"), None),
        gpg(&["abc="], repository("r"), None),
        gpg(&["abc="], remap("a", "b"), None),
        gpg(&["abc="], remap("b", "a"), None),
        gpg(&["abc="], remap("ab", ""), None),
    ]
}

#[test]
fn authorities_that_differ_in_any_field_have_different_ids() {
    let mut seen: BTreeMap<AuthorityId, Authority> = BTreeMap::new();
    for scheme in different_schemes() {
        for name in ["a", "b"] {
            let authority = Authority::new(name, scheme.clone());
            let other = seen.insert(authority.id().clone(), authority.clone());
            assert!(other.is_none(), "{authority:?} and {other:?} have the same identity");
        }
    }
}

#[test]
fn different_schemes_have_different_signers() {
    let names_keys = |scheme: &Scheme| matches!(scheme, Scheme::Notary(trust) if !trust.signers.is_empty());
    let (named, others): (Vec<_>, Vec<_>) = different_schemes().into_iter().partition(names_keys);
    let mut rings: Vec<Vec<PinnedKey<KeyRing>>> = Vec::new();
    let schemes: Vec<_> = others
        .into_iter()
        .filter(|scheme| match scheme {
            Scheme::Gpg(signer) if rings.contains(&signer.keyrings) => false,
            Scheme::Gpg(signer) => {
                rings.push(signer.keyrings.clone());
                true
            }
            _ => true,
        })
        .collect();
    let count = schemes.len();
    let seen: BTreeSet<_> = schemes.into_iter().map(|scheme| Authority::new("a", scheme).signers()).collect();
    assert_eq!((seen.len(), rings.len()), (count, 3));
    // The signers of Docker Content Trust are known by their keys, as those of cosign.
    for scheme in named {
        let Scheme::Notary(trust) = &scheme else { unreachable!() };
        let keys: BTreeSet<_> = trust.signers.iter().map(|one| one.key.key_fingerprint().to_string()).collect();
        assert_eq!(Authority::new("a", scheme).signers(), keys);
    }
}

/// Signers are counted by key, so a key that is in two rings is one signer, whatever else the authorities say.
#[test]
fn equal_key_rings_have_equal_signers() {
    let gpg = |bodies: &[&str], identity| {
        let keyrings = bodies.iter().map(|body| ring(body).into()).collect();
        Authority::new("a", Scheme::Gpg(Box::new(SimpleSigner { keyrings, identity, store: None }))).signers()
    };
    let one = gpg(&["abc="], SignedIdentity::MatchExact);
    assert_eq!(one, gpg(&["abc="], SignedIdentity::MatchRepository));
    assert!(one.is_subset(&gpg(&["abg=", "abc="], SignedIdentity::MatchExact)));
}

#[test]
fn order_and_repetition_of_keys_do_not_change_the_id() {
    let (one, other) = (MadeCertificate::root("O=one"), MadeCertificate::root("O=other"));
    let validity = KeyValidity::default();
    let signer = |name: &str| Signer { name: name.to_owned(), key: SignerKey::Key(key(name)), validity };
    let keys = |names: &[&str]| Scheme::cosign_keys(names.iter().map(|name| key(name)).collect());
    assert_eq!(id(keys(&["k", "l"])), id(keys(&["l", "k", "l"])));
    let rings = |bodies: [&str; 2]| {
        let keyrings = bodies.map(|body| ring(body).into()).to_vec();
        Scheme::Gpg(Box::new(SimpleSigner { keyrings, identity: SignedIdentity::MatchExact, store: None }))
    };
    assert_eq!(id(rings(["abc=", "abg="])), id(rings(["abg=", "abc="])));
    let trust =
        |certificates: [&MadeCertificate; 2], names: [&str; 2]| notation(checks(&certificates, &names.map(named)));
    assert_eq!(id(trust([&one, &other], ["C=DE", "C=US"])), id(trust([&other, &one], ["C=US", "C=DE"])));
    let notary = |names: [&str; 2]| {
        Scheme::Notary(NotaryTrust { signers: names.map(signer).to_vec(), ..NotaryTrust::default() })
    };
    assert_eq!(id(notary(["s", "t"])), id(notary(["t", "s"])));
}

/// Evidence for a key must not be used again for the same key with other limits, or with another root that may prove
/// another time of signing.
#[test]
fn limits_of_keys_are_part_of_the_id() {
    let time = |year: i16| Some(format!("{year}-01-01T00:00:00Z").parse().unwrap());
    let validities = [
        (None, None),
        (time(2026), None),
        (time(2027), None),
        (None, time(2026)),
        (None, time(2027)),
        (time(2026), time(2027)),
        (time(2027), time(2026)),
    ]
    .map(|(from, until)| KeyValidity { from, until });
    let cosign = |validity| {
        let signers = CosignSigners::Keys(vec![PinnedKey { key: key("k"), validity }]);
        CosignAuthority { signers, ..CosignAuthority::of_keys(vec![]) }
    };
    let schemes = |validity| {
        let keyrings = vec![PinnedKey { key: ring("abc="), validity }];
        let signers = vec![Signer { name: "s".into(), key: SignerKey::Key(key("k")), validity }];
        [
            Scheme::Cosign(cosign(validity).into()),
            Scheme::Gpg(Box::new(SimpleSigner { keyrings, identity: SignedIdentity::MatchExact, store: None })),
            Scheme::Notary(NotaryTrust { signers, ..NotaryTrust::default() }),
        ]
    };
    let all: Vec<_> = validities.into_iter().flat_map(schemes).collect();
    let ids: BTreeSet<_> = all.iter().map(|scheme| id(scheme.clone())).collect();
    assert_eq!(ids.len(), all.len());
    let with_root =
        |validity, name| id(Scheme::Cosign(CosignAuthority { roots: vec![root(name)], ..cosign(validity) }.into()));
    assert_eq!(with_root(validities[0], "a"), with_root(validities[0], "b"));
    assert_ne!(with_root(validities[1], "a"), with_root(validities[1], "b"));
    // The signer is the same, whenever the key may be used.
    let signers = |scheme| Authority::new("a", scheme).signers();
    let [without, with] = [validities[0], validities[1]].map(|validity| schemes(validity).map(signers));
    assert_eq!(without, with);
}

/// What other modules ask about any scheme.
#[test]
fn trusted_roots_and_the_notary_server_of_the_registry_matter_for_some_schemes() {
    let cosign = |log, roots: &[&str]| {
        let roots = roots.iter().map(|name| root(name)).collect();
        Scheme::Cosign(CosignAuthority { log, roots, ..CosignAuthority::of_keys(vec![key("k")]) }.into())
    };
    let notary = |server: Option<&str>| {
        Scheme::Notary(NotaryTrust { server: server.map(str::to_owned), ..NotaryTrust::default() })
    };
    let gpg = SimpleSigner { keyrings: vec![], identity: SignedIdentity::MatchExact, store: None };
    let made = MadeCertificate::root("O=one");
    let count = |scheme: &Scheme| scheme.trusted_roots().len();
    for (scheme, own, with_another, needs_root, needs_notary) in [
        (cosign(TransparencyLog::Ignore, &[]), 0, None, false, false),
        (cosign(TransparencyLog::Ignore, &["a"]), 1, None, false, false),
        (cosign(TransparencyLog::Require, &[]), 0, Some(1), true, false),
        (cosign(TransparencyLog::Require, &["a", "b"]), 2, None, true, false),
        (Scheme::Gpg(gpg.into()), 0, None, false, false),
        (notation(checks(&[&made], &[CertificateSubject::Any])), 0, None, false, false),
        (notary(None), 0, None, false, true),
        (notary(Some("https://n")), 0, None, false, false),
        (Scheme::Unusable { why: "no secret".into() }, 0, None, false, false),
    ] {
        let completed = scheme.with_trusted_roots(&[root("c")]);
        assert_eq!((count(&scheme), completed.as_ref().map(count)), (own, with_another), "{scheme:?}");
        let needs = (scheme.needs_trusted_root(), scheme.needs_notary_of_registry());
        assert_eq!(needs, (needs_root, needs_notary), "{scheme:?}");
    }
}

/// Stored evidence is keyed by this ID. If the encoding changes, all evidence is gathered again.
#[test]
fn encoding_does_not_change() {
    let scheme = Scheme::cosign_keys(vec![key("k")]);
    assert_eq!(id(scheme).to_string(), "bf516f9b41894f2d93cf9afa73e39f26");
    let (ab, c) = (Canonical::default().field("ab", "c"), Canonical::default().field("a", "bc"));
    assert_ne!(ab.0, c.0);
}

/// The fingerprint of the rules contains it.
#[test]
fn other_settings_have_another_encoding() {
    let plain = Settings::default;
    let authority = |name: &str| Arc::new(Authority::new(name, Scheme::cosign_keys(vec![key(name)])));
    let different = [
        plain(),
        Settings { default_authorities: vec!["a".into()], ..plain() },
        Settings { authorities: vec![authority("a")], ..plain() },
        Settings { authorities: vec![authority("b")], ..plain() },
        Settings { trusted_roots: vec!["a".into()], ..plain() },
        Settings { ignore_files: vec!["a".into()], ..plain() },
        Settings { ibm_fixable_only: true, ..plain() },
        Settings {
            notary: NotaryTrust { server: Some("https://notary.test".into()), ..NotaryTrust::default() },
            ..plain()
        },
    ];
    let encodings: BTreeSet<Vec<u8>> = different.iter().map(Settings::encode).collect();
    assert_eq!(encodings.len(), different.len());
    assert_eq!(Settings { now: Some(Timestamp::UNIX_EPOCH), ..plain() }.encode(), plain().encode());
}
