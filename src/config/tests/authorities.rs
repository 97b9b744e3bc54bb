//! Authorities and attestations.

use super::*;

/// The proxy of revocation requests is shown like every other one: without its password.
#[test]
fn the_proxy_of_revocation_is_shown() {
    let text = format!("{MINIMAL}[trust.revocation]\nproxy = \"http://u:hush@proxy.acme.com:3128\"\n");
    let shown = load(&text).unwrap().show();
    let (_, revocation) = shown.split_once("[trust.revocation]").unwrap();
    assert!(revocation.contains("proxy.acme.com:3128") && !shown.contains("hush"), "{shown}");
}

/// Authorities have the shape of those in documents, and are shown as they are written, with absolute paths.
#[test]
fn authorities_have_the_shape_of_documents() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.pub"), PEM).unwrap();
    let path = folder.path().join("pullgate.toml");
    let read = |authorities: &str| {
        std::fs::write(&path, format!("{MINIMAL}{authorities}")).unwrap();
        Config::load(Some(&path), std::iter::empty())
    };
    let config = read(&format!(
        "[trust.authority.release.cosign]\nkeys = [{{ file = \"a.pub\" }}, {{ data = {PEM:?} }}]\n\
         [trust.authority.ci.cosign.keyless]\nissuer = \"https://i\"\nidentity = {{ glob = \"https://github.com/acme*\" }}\n\
         [trust.authority.n.notary]\nserver = \"https://n\"\nsigners = [{{ name = \"al\", key = {{ file = \"a.pub\", validUntil = 2027-01-01T00:00:00Z }} }}]\n"
    ))
    .unwrap();
    assert_eq!(config.policy.authorities.len(), 3);
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("pullgate.toml:5:26: warning: trust.authority.release.cosign: duplicate key in keys"));
    assert!(warnings[1].contains("pullgate.toml:9:12: warning: the identity"), "{warnings:?}");
    let shown = config.show();
    assert!(shown.contains(&format!("\"file\" = \"{}\"", folder.path().join("a.pub").display())), "{shown}");
    std::fs::write(&path, &shown).unwrap();
    let again = Config::load(Some(&path), std::iter::empty()).unwrap();
    assert_eq!((again.show(), again.policy), (shown, config.policy));

    for (authority, wanted) in [
        ("cosign.key = { secret = { name = \"a\", key = \"b\" } }", "trust.authority.x.cosign.key.secret: unknown key"),
        (
            "cosign.key = { file = \"a.pub\", validUntil = 2026-01-01 }",
            "trust.authority.x.cosign.key: validUntil \"2026-01-01\" is not a time",
        ),
        ("cosign.key = { file = \"absent\" }", "trust.authority.x.cosign.key: file \"absent\": "),
        (
            "cosign.keyless = { issuer = \"i\", identity_glob = \"*\" }",
            "trust.authority.x.cosign.keyless.identity: is missing",
        ),
        ("notary = { server = \"n\" }", "trust.authority.x.notary: server \"n\" is not an http or https URL"),
        ("gpg = { keyring = { data = \"x\" } }", "trust.authority.x.gpg.keyring: data: no PGP PUBLIC KEY BLOCK"),
    ] {
        let problems = read(&format!("[trust.authority.x]\n{authority}\n")).unwrap_err();
        assert!(problems.iter().any(|problem| problem.to_string().contains(wanted)), "{wanted}\n{problems:#?}");
    }
}

#[test]
fn the_largest_attestation_has_limits() {
    let read =
        |size: &str| load_named("pullgate.toml", &format!("[trust]\nmax_attestation = \"{size}\"\n{MINIMAL}"), &[]);
    assert_eq!(read("256MiB").unwrap().trust.max_attestation, 256 << 20);
    for size in ["1023KiB", "257MiB", "0"] {
        let problems = read(size).unwrap_err();
        assert!(problems[0].to_string().contains("trust.max_attestation: must be from 1MiB to 256MiB"), "{problems:?}");
    }
}

/// An authority is renewed under the name of its file: a mounted Secret cannot have another one.
#[test]
fn the_content_of_a_file_of_authorities_is_a_part_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    let text = format!(
        "[events]\nca = {:?}\n[[upstream]]\nhost = \"x.test\"\nca = {:?}\n{}",
        path("events.crt"),
        path("registry.crt"),
        absolute()
    );
    write("events.crt", "one");
    write("registry.crt", "one");
    let used = load(&text).unwrap();
    let parts = used.places.parts();
    assert!(parts.contains(&path("events.crt")) && parts.contains(&path("registry.crt")), "{parts:?}");
    let again = load(&text).unwrap();
    assert!(used.equals(&again) && used.live_changes(&again).is_empty());
    // Larger than a configuration may be.
    write("registry.crt", &"two".repeat(1 << 20));
    let renewed = load(&text).unwrap();
    assert!(!used.equals(&renewed));
    assert_eq!(used.live_changes(&renewed), ["upstream x.test"]);
    assert!(used.fixed_changes(&renewed).is_empty());
    write("events.crt", "two");
    let both = load(&text).unwrap();
    assert!(!renewed.equals(&both) && renewed.live_changes(&both).is_empty());
    assert_eq!(renewed.fixed_changes(&both), ["events.ca"]);
}
