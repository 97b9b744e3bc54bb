use super::super::super::{Document, NoMaterials, RuleSet, Settings};
use super::*;
use crate::oci::ImageReference;
use crate::policy::{Requirement, Selection, Subject};
use crate::scope::Scope;

/// An Ed25519 key that `gpg` made.
const RING: &str = include_str!("../../../../../tests/data/gpg/ring.asc");

/// The authority of a document, or all problems. `gpg` follows the key ring.
fn read(gpg: &str) -> Result<SimpleSigner, String> {
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: store, namespace: default}\nstringData: {password: \"p\\n\"}\n";
    let text = format!(
        "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: p}}\nspec:\n  authorities:\n  \
         - {{name: a, gpg: {{keyring: {{data: {RING:?}}}, {gpg}}}}}\n  repositories: [{{name: \"*\", policy: {{trust: a}}}}]\n---\n{secret}"
    );
    rule(&text).map(|found| match found {
        Requirement::Authority(authority) => signer(authority.scheme()),
        other => panic!("{other:?}"),
    })
}

/// The same for a document of Portieris with these keys of `simple`, in the namespace `default`.
fn read_portieris(simple: &str, requirement: &str, secrets: &[&str]) -> Result<Scheme, String> {
    let secret = |name: &str, data: &str| {
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: default}}\nstringData: {{{data}}}\n"
        )
    };
    let mut text = format!(
        "apiVersion: portieris.cloud.ibm.com/v1\nkind: ClusterImagePolicy\nmetadata: {{name: p}}\nspec:\n  repositories:\n  \
         - {{name: \"*\", policy: {{simple: {{{simple}, requirements: [{{type: signedBy, keySecret: key{requirement}}}]}}}}}}\n{}",
        secret("key", &format!("key: {RING:?}"))
    );
    secrets.iter().for_each(|data| text.push_str(&secret("store", data)));
    rule(&text).map(|found| match found {
        Requirement::AllOf(parts) => match &parts[..] {
            [Requirement::Authority(authority)] => authority.scheme().clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    })
}

fn rule(text: &str) -> Result<Requirement, String> {
    let document = Document { path: "p.yaml".into(), text: text.to_owned() };
    let parsed = RuleSet::parse(&[document], &NoMaterials, &Settings::default());
    let problems: String = parsed.problems.iter().map(|problem| format!("{problem}\n")).collect();
    let Some(rules) = parsed.rules else { return Err(problems) };
    let image: ImageReference = "a.io/b:v1".parse().unwrap();
    let reference = image.reference();
    let selection = rules.select(&Subject::new(image.name, reference, Scope::CLUSTER));
    let Selection::Entries { enforced, .. } = selection else { panic!("{selection:?}") };
    let rule = enforced[0].rule.clone().unwrap();
    Ok(rule.trust.clone().or(rule.simple.clone()).unwrap())
}

fn signer(scheme: &Scheme) -> SimpleSigner {
    match scheme {
        Scheme::Gpg(signer) => (**signer).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn identities_have_the_names_of_containers_image_and_of_portieris() {
    for (text, expected) in [
        ("{type: matchRepoDigestOrExact}", "matchRepoDigestOrExact"),
        ("{type: matchExact}", "matchExact"),
        ("{type: matchRepository}", "matchRepository"),
        ("{type: exactReference, dockerReference: 'busybox:v1'}", "exactReference docker.io/library/busybox:v1"),
        ("{type: matchExactReference, dockerReference: 'a.io/b:v1'}", "exactReference a.io/b:v1"),
        ("{type: exactRepository, dockerRepository: busybox}", "exactRepository docker.io/library/busybox"),
        ("{type: matchExactRepository, dockerRepository: a.io/b}", "exactRepository a.io/b"),
        (
            "{type: remapIdentity, prefix: 'Mirror.io:443/hub', signedPrefix: docker.io/library}",
            "remapIdentity mirror.io/hub to docker.io/library",
        ),
    ] {
        assert_eq!(read(&format!("signedIdentity: {text}")).unwrap().identity.to_string(), expected, "{text}");
    }
    for (text, reason) in [
        ("{}", "p.yaml:6:"),
        ("{}", "type of signedIdentity is missing"),
        ("{type: ''}", "type of signedIdentity is empty"),
        ("{prefix: a.io}", "type of signedIdentity is missing"),
        ("{type: matchNothing}", "unknown type of signedIdentity \"matchNothing\""),
        ("{type: exactReference}", "dockerReference of signedIdentity is missing"),
        ("{type: exactReference, dockerReference: a.io/b}", "neither a tag nor a digest"),
        ("{type: exactReference, dockerReference: '?'}", "dockerReference \"?\""),
        ("{type: exactRepository, dockerRepository: 'a.io/b:v1'}", "must not have a tag"),
        ("{type: remapIdentity, prefix: a.io}", "signedPrefix of signedIdentity is missing"),
        ("{type: remapIdentity, prefix: 'a.io/b:v1', signedPrefix: b.io}", "not the beginning of a repository's name"),
        ("{type: remapIdentity, prefix: a.io/, signedPrefix: b.io}", "not the beginning of a repository's name"),
        ("{type: matchExact, prefixes: a}", "unknown key"),
    ] {
        let error = read(&format!("signedIdentity: {text}")).unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
    let identity =
        |kind: &str| read_portieris("storeURL: 'https://s'", &format!(", signedIdentity: {{type: {kind}}}"), &[]);
    assert!(identity("exactReference").unwrap_err().contains("Portieris' code calls it matchExactReference"));
    assert!(identity("matchRepoDigestOrExact").unwrap_err().contains("leave signedIdentity out"));
    assert_eq!(signer(&identity("matchRepository").unwrap()).identity, SignedIdentity::MatchRepository);
    for default in ["", ", signedIdentity: {}", ", signedIdentity: {type: ''}"] {
        let scheme = read_portieris("storeURL: 'https://s'", default, &[]).unwrap();
        assert_eq!(signer(&scheme).identity, SignedIdentity::MatchRepoDigestOrExact, "{default}");
    }
    assert_eq!(
        read("signedIdentity: {type: matchRepoDigestOrExact}"),
        read("store: 'file:///s'").map(|signer| SimpleSigner { store: None, ..signer })
    );
}

#[test]
fn stores_are_directories_or_servers() {
    for (text, base, username) in [
        ("'https://s.example.com/base'", "https://s.example.com/base", None),
        ("'file:///var/lib/store'", "file:///var/lib/store", None),
        ("{url: 'https://s'}", "https://s/", None),
        ("{url: 'http://s', insecure: true}", "http://s/", None),
        ("{url: 'https://s', username: u, password: {data: p}}", "https://s/", Some("u")),
        ("{url: 'https://s', username: u, password: {secret: {name: store, key: password}}}", "https://s/", Some("u")),
        (
            "{url: 'http://127.0.0.1:80', insecure: true, username: u, password: {data: p}}",
            "http://127.0.0.1/",
            Some("u"),
        ),
    ] {
        let store = read(&format!("store: {text}")).unwrap().store.unwrap();
        assert_eq!(store.base.as_str(), base, "{text}");
        let credentials = store.credentials.map(|StoreCredentials { username, password }| (username, password));
        assert_eq!(credentials, username.map(|username| (username.to_owned(), "p".to_owned())), "{text}");
    }
    for (text, reason) in [
        ("'http://s'", "is not encrypted"),
        ("{url: 'http://s'}", "is not encrypted"),
        ("'s.example.com'", "store is not a URL"),
        ("'ftp://s'", "store must be an https, http or file URL"),
        ("'file://host/x'", "store must be an https, http or file URL"),
        ("'https://u:hush@s'", "store contains credentials"),
        ("'https://s/?a=b'", "must not have a query"),
        ("{insecure: true}", "url of store is missing"),
        ("{url: 'https://s', username: u}", "password of store is missing"),
        ("{url: 'https://s', password: {data: p}}", "username of store is missing"),
        ("{url: 'https://s', username: u, password: {data: ''}}", "empty"),
        ("{url: 'https://s', username: u, password: {data: \"a\\nb\"}}", "not one line"),
        ("{url: 'http://s', insecure: true, username: u, password: {data: p}}", "a password is sent only"),
        ("{url: 'https://s', user: u}", "unknown key"),
    ] {
        let error = read(&format!("store: {text}")).unwrap_err();
        assert!(error.contains(reason) && !error.contains("hush"), "{text}: {error}");
    }
}

#[test]
fn stores_of_portieris_have_a_secret() {
    let of = |scheme: Result<Scheme, String>| signer(&scheme.unwrap()).store.unwrap();
    let store = of(read_portieris("storeURL: 'https://s', storeSecret: store", "", &["username: u, password: p"]));
    let StoreCredentials { username, password } = store.credentials.unwrap();
    assert_eq!((&*username, &*password), ("u", "p"));
    assert_eq!(of(read_portieris("storeURL: 'http://s'", "", &[])).credentials, None);
    for (simple, secrets, reason) in [
        ("storeURL: 'https://s', storeSecret: store", &[][..], "could not get storeSecret from your cluster"),
        ("storeURL: 'https://s', storeSecret: store", &["username: u"], "it has no \"password\""),
        ("storeURL: 'https://s', storeSecret: store", &["username: '', password: p"], "username: it is empty"),
        ("storeURL: 'http://s', storeSecret: store", &["username: u, password: p"], "only to an https store"),
    ] {
        let Scheme::Unusable { why } = read_portieris(simple, "", secrets).unwrap() else { panic!("{simple}") };
        assert!(why.contains(reason), "{simple}: {why}");
    }
    assert!(read_portieris("storeURL: 'ftp://s'", "", &[]).unwrap_err().contains("storeURL must be"));
}

#[test]
fn several_rings_are_one_authority() {
    let data = format!("{{data: {RING:?}}}");
    let text = |rings: &str| {
        format!(
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: p}}\nspec:\n  authorities:\n  \
             - {{name: a, gpg: {{{rings}}}}}\n  repositories: [{{name: \"*\", policy: {{trust: a}}}}]\n"
        )
    };
    let Requirement::Authority(authority) = rule(&text(&format!("keyrings: [{data}, {data}]"))).unwrap() else {
        panic!()
    };
    assert_eq!((signer(authority.scheme()).keyrings.len(), authority.signers().len()), (2, 1));
    for (rings, reason) in [
        ("keyrings: []".to_owned(), "keyrings is missing or empty"),
        (format!("keyring: {data}, keyrings: [{data}]"), "exactly one of keyring, keyrings"),
        ("keyring: {data: x}".to_owned(), "no PGP PUBLIC KEY BLOCK"),
        ("keyring: {data: '-----BEGIN PGP PRIVATE KEY BLOCK-----'}".to_owned(), "private key"),
    ] {
        let error = rule(&text(&rings)).unwrap_err();
        assert!(error.contains(reason), "{rings}: {error}");
    }
}

/// `reject` is not the name of an authority: it denies everything.
#[test]
fn reject_denies_everything() {
    let text = |authority: &str| {
        format!(
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: p}}\nspec:\n  authorities: [{authority}]\n  \
             repositories: [{{name: \"*\", policy: {{trust: reject}}}}]\n"
        )
    };
    assert_eq!(rule(&text("")), Ok(Requirement::Reject));
    let error = rule(&text(&format!("{{name: reject, gpg: {{keyring: {{data: {RING:?}}}}}}}"))).unwrap_err();
    assert!(error.contains("\"reject\" cannot be the name of an authority"), "{error}");
}
