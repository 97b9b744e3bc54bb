use std::collections::BTreeMap;

use super::*;

fn key(name: &str) -> PublicKey {
    PublicKey::for_test(name)
}

fn ring(body: &str) -> KeyRing {
    let label = "PGP PUBLIC KEY BLOCK";
    KeyRing::from_armor(&format!("-----BEGIN {label}-----\n\n{body}\n-----END {label}-----")).unwrap()
}

fn certificate(name: &str) -> Certificate {
    let pem = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem();
    Certificate::all_from_pem(&pem).unwrap().remove(0)
}

fn id(scheme: Scheme) -> AuthorityId {
    Authority::new("a", scheme).id().clone()
}

/// Every field of every scheme, changed one at a time.
fn different_schemes() -> Vec<Scheme> {
    let text = str::to_owned;
    let keyless = |issuer: &str, identity| Scheme::CosignKeyless { issuer: text(issuer), identity };
    let gpg = |rings: &[&str], identity, store: Option<&str>| Scheme::Gpg {
        keyrings: rings.iter().map(|body| ring(body)).collect(),
        identity,
        store_url: store.map(text),
    };
    let (one, other) = (certificate("one"), certificate("other"));
    let notation = |certificates: &[&Certificate], identities: &[CertificateSubject]| Scheme::Notation {
        certificates: certificates.iter().map(|one| (*one).clone()).collect(),
        identities: identities.to_vec(),
    };
    let signer = |name: &str, key| Signer { name: text(name), key };
    let notary = |server: Option<&str>, signers| Scheme::Notary { server: server.map(text), signers };
    let remap = |from: &str, to: &str| SignedIdentity::Remap { prefix: text(from), signed_prefix: text(to) };
    let named = |name: &str| CertificateSubject::Named(text(name));
    vec![
        Scheme::CosignKey { keys: vec![] },
        Scheme::CosignKey { keys: vec![key("k")] },
        Scheme::CosignKey { keys: vec![key("l")] },
        Scheme::CosignKey { keys: vec![key("k"), key("l")] },
        keyless("i", Identity::Exact(text("x"))),
        keyless("j", Identity::Exact(text("x"))),
        keyless("i", Identity::Exact(text("y"))),
        keyless("i", Identity::Glob(text("x"))),
        keyless("ix", Identity::Exact(text(""))),
        gpg(&["abc="], SignedIdentity::MatchExact, None),
        gpg(&["abg="], SignedIdentity::MatchExact, None),
        gpg(&["abc=", "abg="], SignedIdentity::MatchExact, None),
        gpg(&["abc="], SignedIdentity::MatchExact, Some("")),
        gpg(&["abc="], SignedIdentity::MatchExact, Some("https://s")),
        gpg(&["abc="], SignedIdentity::MatchRepository, None),
        gpg(&["abc="], SignedIdentity::MatchRepoDigestOrExact, None),
        gpg(&["abc="], SignedIdentity::ExactReference(text("r")), None),
        gpg(&["abc="], SignedIdentity::ExactReference(text("s")), None),
        gpg(&["abc="], SignedIdentity::ExactRepository(text("r")), None),
        gpg(&["abc="], remap("a", "b"), None),
        gpg(&["abc="], remap("b", "a"), None),
        gpg(&["abc="], remap("ab", ""), None),
        notation(&[&one], &[CertificateSubject::Any]),
        notation(&[&other], &[CertificateSubject::Any]),
        notation(&[&one, &other], &[CertificateSubject::Any]),
        notation(&[&one], &[]),
        notation(&[&one], &[named("*")]),
        notation(&[&one], &[named("C=DE"), named("C=US")]),
        notation(&[&one], &[named("C=DE, C=US")]),
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
    let seen: BTreeSet<_> =
        different_schemes().into_iter().map(|scheme| Authority::new("a", scheme).signers()).collect();
    assert_eq!(seen.len(), different_schemes().len());
}

#[test]
fn order_and_repetition_of_keys_do_not_change_the_id() {
    let (one, other) = (certificate("one"), certificate("other"));
    let signer = |name: &str| Signer { name: name.to_owned(), key: SignerKey::Key(key(name)) };
    let named = |name: &str| CertificateSubject::Named(name.to_owned());
    let keys = |names: &[&str]| Scheme::CosignKey { keys: names.iter().map(|name| key(name)).collect() };
    assert_eq!(id(keys(&["k", "l"])), id(keys(&["l", "k", "l"])));
    let rings = |bodies: [&str; 2]| Scheme::Gpg {
        keyrings: bodies.map(ring).to_vec(),
        identity: SignedIdentity::MatchExact,
        store_url: None,
    };
    assert_eq!(id(rings(["abc=", "abg="])), id(rings(["abg=", "abc="])));
    let notation = |certificates: [&Certificate; 2], names: [&str; 2]| Scheme::Notation {
        certificates: certificates.map(Clone::clone).to_vec(),
        identities: names.map(named).to_vec(),
    };
    assert_eq!(id(notation([&one, &other], ["C=DE", "C=US"])), id(notation([&other, &one], ["C=US", "C=DE"])));
    let notary = |names: [&str; 2]| Scheme::Notary { server: None, signers: names.map(signer).to_vec() };
    assert_eq!(id(notary(["s", "t"])), id(notary(["t", "s"])));
}

/// Stored evidence is keyed by this ID. If the encoding changes, all evidence is gathered again.
#[test]
fn encoding_does_not_change() {
    let scheme = Scheme::CosignKey { keys: vec![key("k")] };
    assert_eq!(id(scheme).to_string(), "bf516f9b41894f2d93cf9afa73e39f26");
    let (ab, c) = (Canonical::default().field("ab", "c"), Canonical::default().field("a", "bc"));
    assert_ne!(ab.0, c.0);
}
