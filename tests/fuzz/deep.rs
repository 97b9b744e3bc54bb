//! Deep and long documents.

use super::*;

/// Nesting uses up no stack, and length no time, in any reader of signatures and of what they are verified with.
#[test]
fn deep_and_long_documents_are_refused_in_time() {
    let begun = Instant::now();
    let deep = |open: &str| open.repeat(1_000_000 / open.len()).into_bytes();
    let long = |entry: &str| format!("{{\"signatures\":[{}0]}}", format!("{entry},").repeat(1_000_000 / entry.len()));
    let scopes = |statement: usize| -> Vec<_> { (0..20_000).map(|n| format!("a.io/{statement}/{n}")).collect() };
    let statements: Vec<_> = (0..2)
        .map(|number| {
            let mut statement = trust_policy()["trustPolicies"][0].clone();
            statement["name"] = json!(format!("s{number}"));
            statement["registryScopes"] = scopes(number).into();
            statement
        })
        .collect();
    let policy = json!({"version": "1.0", "trustPolicies": statements});
    let der = [&[0x30, 0x84, 0x00, 0x10, 0x00, 0x00][..], &[0x30, 0x80].repeat(500_000)].concat();
    let documents = [deep("["), deep("{\"critical\":"), deep("{\"a\":["), long("{}").into(), long("1").into(), der];
    for document in documents {
        read_payload(&document);
        assert!(TrustedRoot::from_json("root", &document).is_err());
        assert!(KeyRing::from_bytes(&document).is_err());
        assert!(X509Certificate::from_der(&document).is_err() && RevocationList::from_der(&document).is_err());
        assert!(read_trust_policy(document) > 0);
    }
    assert!(SignerKey::all_from_pem(&pem("PUBLIC KEY", &[0x30, 0x80].repeat(500_000))).is_err());
    read_trust_policy(policy.to_string().into());
    assert!(begun.elapsed() < MAX_TIME, "{:?}", begun.elapsed());
}
