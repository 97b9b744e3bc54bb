use super::*;

/// `TYPE`, or `TYPE VALUE`, or `remapIdentity PREFIX SIGNED-PREFIX`.
fn identity(text: &str) -> SignedIdentity {
    let words: Vec<_> = text.split(' ').collect();
    match words[..] {
        ["matchRepoDigestOrExact"] => SignedIdentity::MatchRepoDigestOrExact,
        ["matchExact"] => SignedIdentity::MatchExact,
        ["matchRepository"] => SignedIdentity::MatchRepository,
        ["exactReference", reference] => SignedIdentity::ExactReference(reference.parse().unwrap()),
        ["exactRepository", name] => SignedIdentity::ExactRepository(name.parse::<ImageReference>().unwrap().name),
        ["remapIdentity", prefix, signed] => {
            SignedIdentity::Remap { prefix: prefix.to_owned(), signed_prefix: signed.to_owned() }
        }
        _ => panic!("{text}"),
    }
}

/// The cases of containers/image, `signature/policy_reference_match_test.go`, as far as both have the same names.
#[test]
fn identities_match_as_in_containers_image() {
    let digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let other = "@sha256:ffffffffffffffff0123456789abcdef0123456789abcdef0123456789abcdef";
    let at = |name: &str, digest: &str| format!("{name}{digest}");
    let (busybox, library) = (at("busybox", digest), at("docker.io/library/busybox", digest));
    // For each pulled and signed reference: whether an exact, a digest-or-exact and a repository match accept them.
    for (pulled, signed, [exact, digest_or_exact, repository]) in [
        ("busybox:latest", "docker.io/library/busybox:latest", [true, true, true]),
        ("busybox:latest", "busybox:latest", [true, true, true]),
        ("index.docker.io/busybox:latest", "busybox:latest", [true, true, true]),
        ("busybox:latest", "busybox:notlatest", [false, false, true]),
        ("busybox:latest", "notbusybox:latest", [false, false, false]),
        ("busybox:latest", "example.com/library/busybox:latest", [false, false, false]),
        ("busybox:latest", "busybox", [false, false, true]),
        ("busybox:latest", &busybox, [false, false, true]),
        (&busybox, "busybox:latest", [false, true, true]),
        (&busybox, "busybox:notlatest", [false, true, true]),
        (&busybox, &library, [true, true, true]),
        (&busybox, &at("busybox", other), [false, true, true]),
        (&busybox, "notbusybox:latest", [false, false, false]),
        (&busybox, "busybox", [false, false, true]),
        ("a.io:5000/b/c:v1", "a.io:5000/b/c:v1", [true, true, true]),
        ("a.io:5000/b/c:v1", "a.io/b/c:v1", [false, false, false]),
        ("a.io/b/c:v1", "a.io/b:v1", [false, false, false]),
        ("a.io/b/c:v1", "", [false, false, false]),
        ("a.io/b/c:v1", "A.io/B/c:v1", [false, false, false]),
        ("a.io/b/c:v1", "a.io/b/c:v1 ", [false, false, false]),
        ("a.io/b/c:v1", "a.io/b/c:v1\n", [false, false, false]),
        ("a.io/b/c:v1", "https://a.io/b/c:v1", [false, false, false]),
        ("a.io/b/c:v1", "a.io//b/c:v1", [false, false, false]),
    ] {
        let image: ImageReference = pulled.parse().unwrap();
        let accepts = |kind: &str| identity(kind).accepts(signed, &image.name, &image.reference());
        assert_eq!(accepts("matchExact"), exact, "{pulled} {signed:?}");
        assert_eq!(accepts("matchRepoDigestOrExact"), digest_or_exact, "{pulled} {signed:?}");
        assert_eq!(accepts("matchRepository"), repository, "{pulled} {signed:?}");
        // Remapping that does not apply changes nothing.
        assert_eq!(accepts("remapIdentity other.io docker.io"), digest_or_exact, "{pulled} {signed:?}");
    }
}

#[test]
fn identities_that_name_an_image_do_not_depend_on_the_pulled_one() {
    for (kind, signed, accepted) in [
        ("exactReference busybox:v1", "docker.io/library/busybox:v1", true),
        ("exactReference busybox:v1", "busybox:v2", false),
        ("exactReference busybox:v1", "busybox", false),
        ("exactReference a.io/b:v1", "busybox:v1", false),
        ("exactRepository busybox", "busybox:v1", true),
        ("exactRepository busybox", "busybox:v2", true),
        ("exactRepository busybox", "busybox", true),
        ("exactRepository busybox", "a.io/library/busybox:v1", false),
        ("exactRepository busybox", "busybox/more:v1", false),
    ] {
        for pulled in ["busybox:v1", "mirror.io/x/y:v7"] {
            let image: ImageReference = pulled.parse().unwrap();
            assert_eq!(identity(kind).accepts(signed, &image.name, &image.reference()), accepted, "{kind} {signed}");
        }
    }
}

#[test]
fn remapped_names_replace_whole_components() {
    for (prefix, signed_prefix, pulled, signed, accepted) in [
        ("mirror.io", "docker.io", "mirror.io/library/busybox:v1", "busybox:v1", true),
        ("mirror.io/hub", "docker.io/library", "mirror.io/hub/busybox:v1", "busybox:v1", true),
        ("mirror.io/hub", "docker.io/library", "mirror.io/hub/busybox:v1", "busybox:v2", false),
        ("mirror.io/hub", "docker.io/library", "mirror.io/hub/busybox:v1", "mirror.io/hub/busybox:v1", false),
        ("mirror.io/hub", "docker.io/library", "mirror.io/hubs/busybox:v1", "docker.io/librarys/busybox:v1", false),
        ("mirror.io/hub", "docker.io/library", "mirror.io/hubs/busybox:v1", "mirror.io/hubs/busybox:v1", true),
        ("mirror.io/a/b", "a.io/c", "mirror.io/a/b:v1", "a.io/c:v1", true),
        ("mirror.io/a/b", "a.io/c", "mirror.io/a/b/d:v1", "a.io/c/d:v1", true),
        ("mirror.io", "a.io", "mirror.io:5000/b:v1", "a.io:5000/b:v1", false),
        ("mirror.io/a", "a.io", "mirror.io/a:v1", "a.io:v1", false),
    ] {
        let identity = SignedIdentity::Remap { prefix: prefix.to_owned(), signed_prefix: signed_prefix.to_owned() };
        let image: ImageReference = pulled.parse().unwrap();
        assert_eq!(identity.accepts(signed, &image.name, &image.reference()), accepted, "{prefix} {pulled} {signed}");
        // By digest, any tag counts, and the repository is remapped as well.
        let digest = Reference::Digest(Digest::sha256(b"x"));
        let by_digest = identity.accepts(&signed.replace(":v2", ":v1"), &image.name, &digest);
        let same_but_tag = signed.ends_with(":v2");
        assert_eq!(by_digest, accepted || same_but_tag, "{prefix} {pulled} {signed}");
    }
}

proptest::proptest! {
    /// A signature never counts for another repository without remapping.
    #[test]
    fn only_the_same_repository_matches(signed in "[a-z.:/@]{0,40}", name in "(a|b|a/b|a/a)(:v)?") {
        let image: ImageReference = format!("h.io/{name}").parse().unwrap();
        for kind in ["matchExact", "matchRepoDigestOrExact", "matchRepository"] {
            if identity(kind).accepts(&signed, &image.name, &image.reference()) {
                let signed: ImageReference = signed.parse().unwrap();
                proptest::prop_assert_eq!(&signed.name, &image.name);
            }
        }
    }
}
