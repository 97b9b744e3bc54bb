use std::fs;

use super::*;

fn order(scheme: VersionScheme, a: &str, b: &str) -> Ordering {
    compare(scheme, a, b).unwrap_or_else(|error| panic!("{a} {b}: {error}"))
}

/// Compares the pairs of a file of `../shared/vectors/versions`, in both directions. Returns how many there are. OSV
/// orders versions of Python that are not by PEP 440; here this is an error.
fn check(scheme: VersionScheme, name: &str) -> usize {
    let path = format!("{}/../shared/vectors/versions/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).unwrap();
    let (mut wrong, mut pairs) = (Vec::new(), 0);
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') || line.starts_with("//") {
            continue;
        }
        let [a, sign, b] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{path}: {line}") };
        let expected = match sign {
            "<" => Ordering::Less,
            "=" => Ordering::Equal,
            ">" => Ordering::Greater,
            _ => panic!("{path}: {line}"),
        };
        let got = (compare(scheme, a, b), compare(scheme, b, a));
        let is_outside = scheme == VersionScheme::Python && !(is_valid(scheme, a) && is_valid(scheme, b));
        if is_outside && got.0.is_err() && got.1.is_err() {
            continue;
        }
        if got != (Ok(expected), Ok(expected.reverse())) {
            wrong.push(format!("{line}: {got:?}"));
        }
        pairs += 1;
    }
    assert!(
        wrong.is_empty(),
        "{name}: {} of {pairs} pairs are wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    pairs
}

#[test]
#[ignore = "reads ../shared"]
fn orders_agree_with_the_vectors_of_osv_scalibr() {
    for (scheme, name) in [
        (VersionScheme::Apk, "alpine-versions.txt"),
        (VersionScheme::Apk, "alpine-versions-generated.txt"),
        (VersionScheme::Deb, "debian-versions.txt"),
        (VersionScheme::Deb, "debian-versions-generated.txt"),
        (VersionScheme::Gem, "rubygems-versions.txt"),
        (VersionScheme::Gem, "rubygems-versions-generated.txt"),
        (VersionScheme::Maven, "maven-versions.txt"),
        (VersionScheme::Maven, "maven-versions-generated.txt"),
        (VersionScheme::Npm, "semver-versions.txt"),
        (VersionScheme::Python, "pypi-versions.txt"),
        (VersionScheme::Python, "pypi-versions-generated.txt"),
        (VersionScheme::Rpm, "redhat-versions.txt"),
        (VersionScheme::Semver, "semver-versions.txt"),
    ] {
        assert!(check(scheme, name) > 20, "{name} has few pairs");
    }
}

/// Versions of PEP 440, ascending.
const PYTHON: &[&str] = &[
    "1.0.dev1",
    "1.0.dev20240131123456789012",
    "1.0a1.dev2",
    "1.0-ALPHA1",
    "1.0b2",
    "1.0c9",
    "1.0rc20240131123456789012",
    "v1.0",
    "1.0+abc",
    "1.0+abc.1",
    "1.0+5",
    "1.0+20240131123456789012",
    "1.0.post1.dev3",
    "1.0-1",
    "1.0.post99999999999999999999",
    "1.0.20240131123456789012",
    "1.1",
    "99999999999999999999999.0",
    "1!0.1",
    "99999999999999999999!1",
];

#[test]
fn versions_are_ordered_by_the_rules_of_their_ecosystem() {
    use VersionScheme::{Apk, Composer, Deb, Gem, Maven, Npm, NuGet, Python, Rpm, Semver};
    for (scheme, ascending) in [
        (
            Apk,
            &["1.2_alpha", "1.2_alpha2", "1.2_rc1", "1.2-r0", "1.2-r10", "1.2_git20240101-r0", "1.2a", "1.2.1", "1.10"]
                [..],
        ),
        (
            Composer,
            &[
                "1.0-dev",
                "1.0.0-alpha",
                "v1.0a2",
                "1.0-beta2",
                "1.0.0-BETA10",
                "1.0RC1-dev",
                "1.0.RC1",
                "1.0.0.0",
                "1.0-p1",
                "1.0.1",
                "1.0.x-dev",
                "1.1",
                "1.x-dev",
                "2.0.0-dev",
                "2",
            ],
        ),
        (Deb, &["0.9", "1.0~rc1-1", "1.0-0ubuntu1", "1.0-1~deb12u1", "1.0-1", "1.0-1+deb12u1", "1.0.1", "1:0.1"]),
        (Gem, &["1.0.a", "1.0.b1", "1", "1.0.1", "1.1.0.rc1", "1.1", "1.10"]),
        (Maven, &["1-alpha-1", "1-beta", "1-SNAPSHOT", "1.0", "1-sp", "1-foo", "1-1", "1.1"]),
        (Npm, &["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta", "1.0.0", "1.2.0", "1.10.0"]),
        (NuGet, &["1.0.0-Alpha", "1.0.0-alpha.2", "1.0.0-BETA", "1.0.0-beta.1", "1.0.0", "1.0.0.1", "1.1"]),
        (Python, PYTHON),
        (Rpm, &["1.0~rc1-1", "1.0", "1.0-1.el9", "1.0-2.el9", "1.0^git1-1", "1.0.1-1", "1.10-1", "1:0.1-1"]),
        (Semver, &["v1.0.0-rc.1", "v1.0.0", "1.0.1", "v1.2.3.4", "2", "99999999999999999999999"]),
    ] {
        for (index, a) in ascending.iter().enumerate() {
            for (other, b) in ascending.iter().enumerate() {
                assert_eq!(order(scheme, a, b), index.cmp(&other), "{scheme:?}: {a} {b}");
            }
        }
    }
}

/// What `packaging.version.Version` accepts, and what it refuses.
#[test]
fn python_versions_outside_of_pep_440_have_no_place_in_the_order() {
    use VersionScheme::Python;
    for (text, same) in [
        ("1.0", "v1"),
        ("1.0.0", " 1 "),
        ("1.0alpha", "1.0.a-0"),
        ("1.0preview.3", "1.0_rc3"),
        ("1.0-1", "1.0.rev-1"),
        ("1.0-r4.DEV", "1.post4dev0"),
        ("1.0a.dev", "1.0a0.dev0"),
        ("0!1.0", "1.0"),
        ("1.0+Abc-01", "1.0+abc.1"),
        ("010.0", "10"),
    ] {
        assert!(is_valid(Python, text), "{text}");
        assert_eq!(order(Python, text, same), Ordering::Equal, "{text} {same}");
    }
    for text in [
        "4.2.0-15-g1234abc",
        "4.2~rc1",
        "4.2-SNAPSHOT",
        "2004d",
        "latest",
        "not a version",
        "unfixed",
        "1.x",
        "1..0",
        "1.0+",
        "1.0+a..b",
        "1.0+\u{e9}",
        "1!",
        "v",
        "\u{ff12}.0",
        "99999999999999999999999.x",
    ] {
        assert!(!is_valid(Python, text), "{text}");
        for other in ["0", "1.0", "99999999999999999999999", "master"] {
            assert!(compare(Python, text, other).is_err(), "{text} {other}");
            assert!(compare(Python, other, text).is_err(), "{other} {text}");
            assert_eq!(is_equal(Python, text, other), Ok(false), "{text} {other}");
        }
        assert_eq!(compare(Python, text, &text.to_uppercase()), Ok(Ordering::Equal), "{text}");
    }
}

#[test]
fn nuget_prereleases_are_case_insensitive() {
    assert_eq!(order(VersionScheme::NuGet, "2.0.0-Preview.1", "2.0.0-preview.1"), Ordering::Equal);
    assert_eq!(order(VersionScheme::Semver, "2.0.0-Preview.1", "2.0.0-preview.1"), Ordering::Less);
    for range in ["= 2.0.0-RC1", "< 2.0.0-RC2", ">= 2.0.0-rc1, < 2.0.0"] {
        assert_eq!(
            VersionRange::parse(VersionScheme::NuGet, range).unwrap().contains("2.0.0-rc1"),
            Ok(true),
            "{range}"
        );
    }
}

#[test]
fn strings_that_apk_can_order_may_be_invalid_versions() {
    for version in ["0", "1.2_alpha2-r10", "1.2a", "1.2_git20240101-r0", "1.2.3~abcdef-r1"] {
        assert!(is_valid(VersionScheme::Apk, version), "{version}");
    }
    for text in ["999:9-r9", "unknown", "v1.2", "", "1.2-1", "1.2_foo", "1.2, 1.3"] {
        assert!(!is_valid(VersionScheme::Apk, text), "{text}");
    }
    assert!(is_valid(VersionScheme::Deb, "1:1.0-1") && !is_valid(VersionScheme::Deb, "a:1"));
}

#[test]
fn unreadable_versions_are_errors() {
    use VersionScheme::{Composer, Deb, Gem, Npm, Rpm, Semver};
    let long = "1".repeat(MAX_VERSION + 1);
    for (scheme, text) in [
        (Semver, "(devel)"),
        (Semver, ""),
        (Npm, "latest"),
        (Gem, "x1"),
        (Deb, "a:1"),
        (Composer, "dev-main"),
        (Composer, "1.0-foo"),
        (Composer, "1.x"),
        (Composer, "1..2"),
        (Rpm, " "),
        (Rpm, &long),
        (Semver, "1..2"),
    ] {
        let error = compare(scheme, text, "1.0").unwrap_err();
        assert!(matches!(error, UnreadableVersion::Version(shown) if shown.len() <= 64), "{scheme:?}: {text}");
        assert!(compare(scheme, "1.0", text).is_err(), "{scheme:?}: {text}");
    }
}

fn contains(scheme: VersionScheme, range: &str, version: &str) -> bool {
    VersionRange::parse(scheme, range)
        .and_then(|range| range.contains(version))
        .unwrap_or_else(|error| panic!("{range} {version}: {error}"))
}

#[test]
fn ranges_contain_versions_by_the_grammar_of_their_ecosystem() {
    use VersionScheme::{Gem, Maven, Npm, Python, Rpm, Semver};
    for (scheme, range, inside, outside) in [
        (Npm, "^1.2.3", &["1.2.3", "1.9.0", "2.0.0-beta"][..], &["1.2.2", "2.0.0", "1.2.3-rc.1"][..]),
        (Npm, "^0.2.3", &["0.2.3", "0.2.9"], &["0.3.0", "0.2.2"]),
        (Npm, "^0.0.3", &["0.0.3"], &["0.0.4"]),
        (Npm, "^0.0", &["0.0.9"], &["0.1.0"]),
        (Npm, "^0", &["0.9.9"], &["1.0.0"]),
        (Npm, "~1.2.3", &["1.2.9"], &["1.3.0", "1.2.2"]),
        (Npm, "~1", &["1.9.0"], &["2.0.0"]),
        (Npm, "1.2.x", &["1.2.0", "1.2.9"], &["1.3.0"]),
        (Npm, "1.x || >=3.0.0 <3.1.4", &["1.5.0", "3.1.3"], &["2.0.0", "3.1.4"]),
        (Npm, "1.2.3 - 2.3", &["1.2.3", "2.3.9"], &["1.2.2", "2.4.0"]),
        (Npm, "", &["0.0.1"], &[]),
        (Npm, "*", &["0.0.1"], &[]),
        (Npm, "<=1.2", &["1.2.9"], &["1.3.0"]),
        (Npm, ">1.2", &["1.3.0"], &["1.2.9"]),
        (Npm, "< 4.17.21", &["4.17.20", "4.17.21-rc.1"], &["4.17.21"]),
        (Semver, ">=1.2.0, <1.4.5", &["v1.2.0", "1.4.4", "1.4.5-0.20240101000000-abcdef123456"], &["1.4.5", "1.1.9"]),
        (
            Semver,
            "<0.0.0-20220412211240-33da011f77ad",
            &["0.0.0-20220101000000-000000000000"],
            &["v0.0.0-20230101000000-000000000000"],
        ),
        (Semver, "~> 1.2.3", &["1.2.9"], &["1.3.0"]),
        (Semver, "~1.2", &["1.2.9"], &["1.3.0"]),
        (Semver, "^0.3.1", &["0.3.9"], &["0.4.0"]),
        (Semver, "^0.0.0", &["0.0.0"], &["0.0.1", "2.0.0"]),
        (Semver, "!= 1.0", &["1.1"], &["1.0.0"]),
        (Gem, "~> 4.2.5, >= 4.2.5.1", &["4.2.5.1", "4.2.11"], &["4.2.5", "4.3.0"]),
        (Gem, "~> 1", &["1.9"], &["2.0", "0.9"]),
        (Gem, "~> 1.2.3.rc1", &["1.2.3", "1.2.9"], &["1.3.0.rc1", "1.3"]),
        (Maven, "[2.9.0,2.9.10.7)", &["2.9.0", "2.9.10.6"], &["2.9.10.7", "2.8"]),
        (Maven, "(,1.0],[1.2]", &["0.1", "1.0", "1.2"], &["1.1", "1.3"]),
        (Maven, "(1.0,) || [0.1]", &["1.1", "0.1"], &["1.0"]),
        (Maven, ">= 2.0.0, <= 2.9.10.3", &["2.9.10.3", "2.1-rc1"], &["2.9.10.4"]),
        (Python, ">= 1.0, < 2.0", &["1.0", "1.5+local", "2.0rc1"], &["2.0", "0.9"]),
        (Python, "== 1.2.*", &["1.2", "1.2.9", "1.2.0rc1"], &["1.3"]),
        (Python, "!= 1.2.*", &["1.3"], &["1.2.1"]),
        (Python, "~= 1.4.2", &["1.4.9"], &["1.5", "1.4.1"]),
        (Python, "== 1.0", &["1.0.0", "1.0+ubuntu1"], &["1.0.post1"]),
        (Python, "> 1.0", &["1.0.1"], &["1.0.post1", "1.0+local", "1.0"]),
        (Python, "<= 1.0", &["1.0+local"], &["1.0.post1"]),
        (Python, ">= 4.0, < 5.0", &["4.2.20240131123456789012"], &["5.20240131123456789012", "99999999999999999999!1"]),
        (Python, "== 20240131123456789012.*", &["20240131123456789012.1"], &["20240131123456789013"]),
        (Python, ">= 1.0+sp1, < 1.0+sp9", &["1.0+sp1", "1.0+sp2"], &["1.0", "1.0+sp9", "1.1"]),
        (Rpm, "< 1:2.0-3.el9", &["1:2.0-2.el9", "9.0-1"], &["1:2.0-3.el9"]),
    ] {
        for version in inside {
            assert!(contains(scheme, range, version), "{scheme:?} {range} lacks {version}");
        }
        for version in outside {
            assert!(!contains(scheme, range, version), "{scheme:?} {range} contains {version}");
        }
    }
}

/// `^` and `~` as Composer reads them; prereleases of the limit are in the range, as in Trivy.
#[test]
fn ranges_of_composer_contain_versions() {
    let contains = |range: &str, version: &str| contains(VersionScheme::Composer, range, version);
    for (range, inside, outside) in [
        (">=1.0.0,<1.2.3", &["v1.0.0", "1.2.3-RC1"][..], &["1.2.3", "1.2.3-p1", "1.0.0-dev"][..]),
        ("< 1.2 || = 2.0.0", &["1.1", "v2.0"], &["1.2"]),
        ("^1.2.3", &["1.2.3", "v1.9", "1.2.3-p1", "2.0.0-RC1"], &["1.2.2", "1.2.3-beta1", "2.0", "2.0.0-p1"]),
        ("^0.3", &["0.3", "0.3.9"], &["0.4", "0.2"]),
        ("^0.0.3", &["0.0.3", "0.0.3.9"], &["0.0.4"]),
        ("^0 || ^v9", &["0.9", "9.9"], &["1.0", "10.0"]),
        ("~1.2, !=1.5", &["1.2", "1.9"], &["1.1", "1.5", "2.0"]),
        ("~1.2.3", &["1.2.3", "1.2.9"], &["1.3", "1.2.2"]),
        ("~1", &["1", "1.9"], &["2", "0.9"]),
        ("~> 1.2.3.4", &["1.2.3.4", "1.2.3.9"], &["1.2.4"]),
    ] {
        for version in inside {
            assert!(contains(range, version), "{range} lacks {version}");
        }
        for version in outside {
            assert!(!contains(range, version), "{range} contains {version}");
        }
    }
}

#[test]
fn unreadable_ranges_are_errors() {
    use VersionScheme::{Gem, Maven, Npm, Python, Semver};
    let long = "1 ".repeat(40_000);
    for (scheme, range) in [
        (Semver, ""),
        (Semver, ">= 1.0,, < x"),
        (Semver, "<< 1.0"),
        (Semver, "1.0 || "),
        (Npm, "latest"),
        (Npm, "1.2.3.4"),
        (Npm, ">="),
        (Gem, "^ 1.0"),
        (Maven, "[1.0"),
        (Maven, "[1.0,2.0) and more"),
        (Python, "~= 1"),
        (Python, "< 1.*"),
        (Python, "< 1.0-foo"),
        (Semver, &long),
    ] {
        assert!(VersionRange::parse(scheme, range).is_err(), "{scheme:?}: {range:.40}");
    }
    let range = VersionRange::parse(Python, "< 1.0").unwrap();
    assert!(range.contains("2004d-final-x").is_err(), "versions before PEP 440 have no place in a range");
    assert!(VersionRange::parse(Semver, "< 1.0").unwrap().contains("(devel)").is_err());
}

proptest::proptest! {
    /// Whatever the text, nothing panics, and the orders are antisymmetric and reflexive.
    #[test]
    fn orders_are_consistent(a in "[-0-9a-zA-Z.~+_:^!é]{0,20}", b in "[-0-9a-c.~+_:^]{0,20}|\\PC{0,8}") {
        use VersionScheme::{Apk, Composer, Deb, Gem, Maven, Npm, Python, Rpm, Semver};
        for scheme in [Apk, Composer, Deb, Gem, Maven, Npm, Python, Rpm, Semver] {
            let (forward, backward) = (compare(scheme, &a, &b), compare(scheme, &b, &a));
            if let (Ok(forward), Ok(backward)) = (&forward, &backward) {
                assert_eq!(*forward, backward.reverse(), "{scheme:?}: {a:?} {b:?}");
            }
            assert_eq!(forward.is_ok(), backward.is_ok());
            assert!(compare(scheme, &a, &a).is_ok_and(Ordering::is_eq) || compare(scheme, &a, &a).is_err());
            if let Ok(range) = VersionRange::parse(scheme, &b) {
                let _ = range.contains(&a);
            }
        }
    }

    #[test]
    fn orders_are_transitive(list in proptest::collection::vec("[-0-2ab.~_:]{1,6}", 3)) {
        use VersionScheme::{Apk, Composer, Deb, Gem, Npm, Python, Rpm, Semver};
        for scheme in [Apk, Composer, Deb, Gem, Npm, Python, Rpm, Semver] {
            let order = |a: usize, b: usize| compare(scheme, &list[a], &list[b]).ok();
            if let (Some(first), Some(second), Some(both)) = (order(0, 1), order(1, 2), order(0, 2))
                && first.is_le()
                && second.is_le()
            {
                assert!(both.is_le(), "{scheme:?}: {list:?}");
            }
        }
    }
}
