//! Ages of packages, and packages that are banned.

use super::*;

#[test]
fn cool_down() {
    let made = |created: &str| {
        let text = format!(r#"{{"issues":[],"image":{{"created":"{created}"}}}}"#);
        &*Box::leak(text.into_boxed_str())
    };
    let old = made("2026-01-01");
    let known = r#""history":{"known_since":"2026-11-20"}"#;
    let new = r#""history":{"known_since":"2026-11-25"}"#;
    let young =
        r#"{"issues":[],"packages":[{"name":"left-pad","version":"1.3.0","published":"2026-11-25"},{"name":"y"}]}"#;
    check_all(&[
        (line!(), "{coolDown: 3d}", old, known, Admit),
        (
            line!(),
            "{coolDown: 3d}",
            old,
            new,
            Deny(
                "coolDown: the image is 1 day old, and the policy requires 3 days; admitted from 2026-11-28T00:00:00Z",
            ),
        ),
        (line!(), "{coolDown: 3d}", made("2026-11-24"), known, Deny("coolDown: the image is 2 days old")),
        (line!(), "{coolDown: 3d}", made("2027-11-24"), known, Deny("not created yet")),
        (line!(), "{coolDown: 3d}", old, "", Deny("coolDown: this gate has not seen the image before")),
        (line!(), "{coolDown: 3d}", r#"{"issues":[]}"#, known, Admit),
        (line!(), "{coolDown: 3d, unscanned: allow}", "null", new, Deny("coolDown: the image is 1 day old")),
        (line!(), "{coolDown: 3d, unscanned: allow}", "null", known, Admit),
        (
            line!(),
            "{coolDown: 3d}",
            young,
            known,
            Deny(
                "coolDown: left-pad 1.3.0 was published 1 day ago; the policy requires 3 days; admitted from 2026-11-28",
            ),
        ),
        (line!(), "{coolDown: {image: 3d}}", young, known, Admit),
        (line!(), "{coolDown: {packages: 3d}}", young, "", Deny("coolDown: left-pad")),
        (line!(), "{coolDown: {packages: 1d}}", young, "", Admit),
        (line!(), "{coolDown: {packages: 3d}}", old, "", Deny("coolDown: the source of the report lists no packages")),
    ]);
}

#[test]
fn banned_packages() {
    let stream = r#"{"issues":[],"packages":[{"purl":"pkg:npm/event-stream@3.3.6"}]}"#;
    let unlisted =
        r#"{"issues":[{"id":"CVE-1","severity":"low","package":"evil","purl":"pkg:npm/evil@1.0.0"}],"packages":[]}"#;
    check_all(&[
        (
            line!(),
            "{severity: high, bannedPackages: ['pkg:npm/evil']}",
            unlisted,
            "",
            Deny("bannedPackages: the image contains evil"),
        ),
        (line!(), "{severity: high, bannedPackages: ['pkg:npm/event-stream']}", unlisted, "", Admit),
        (
            line!(),
            "{bannedPackages: ['pkg:npm/event-stream@3.3.6']}",
            stream,
            "",
            Deny("bannedPackages: the image contains event-stream 3.3.6, which pkg:npm/event-stream@3.3.6 bans"),
        ),
        (line!(), "{bannedPackages: ['pkg:npm/event-stream@>=3.3.0 <3.3.6']}", stream, "", Admit),
        (
            line!(),
            "{bannedPackages: ['pkg:npm/event-stream@vers:npm/>=3.3.0|<=3.3.6']}",
            stream,
            "",
            Deny("bannedPackages: "),
        ),
        (line!(), "{bannedPackages: ['pkg:pypi/event-stream']}", stream, "", Admit),
        (
            line!(),
            "{bannedPackages: ['pkg:npm/x']}",
            r#"{"issues":[]}"#,
            "",
            Deny("bannedPackages: the source of the report"),
        ),
    ]);
}

/// The list knows more about a package than an issue in it does.
#[test]
fn packages_that_issues_affect_are_banned_if_they_are_not_listed() {
    let of = |issue: &str, listed: &str| -> &'static str {
        let text = format!(r#"{{"issues":[{{"id":"CVE-1","severity":"low",{issue}}}],"packages":[{listed}]}}"#);
        Box::leak(text.into_boxed_str())
    };
    let openssl = r#"{"purl":"pkg:deb/debian/openssl@3"}"#;
    let perl = r#"{"purl":"pkg:rpm/fedora/perl-encode@3.19?upstream=perl%405.36"}"#;
    let encode = r#""package":"perl-encode","version":"3.19","purl":"pkg:rpm/fedora/perl-encode@3.19?upstream=perl""#;
    let evil = r#""package":"evil","purl":"pkg:npm/evil@1.0.0""#;
    let exempt = r#""package":"evil","purl":"pkg:npm/evil@1.0.0","exempt":true"#;
    let banned = "{severity: high, bannedPackages: ['pkg:npm/openssl', 'pkg:npm/evil', 'pkg:rpm/fedora/perl@<5.30']}";
    let openssl_4 = r#""package":"openssl","version":"4""#;
    check_all(&[
        (line!(), banned, of(r#""package":"openssl","version":"3""#, openssl), "", Admit),
        (line!(), banned, of(r#""package":"openssl""#, openssl), "", Admit),
        (line!(), banned, of(openssl_4, openssl), "", Deny("bannedPackages: the image contains openssl 4")),
        (line!(), banned, of(r#""package":"openssl""#, ""), "", Deny("bannedPackages: the image contains openssl")),
        (line!(), banned, of(encode, perl), "", Admit),
        (line!(), banned, of(encode, ""), "", Deny("bannedPackages: the image contains perl-encode 3.19")),
        (line!(), banned, of(evil, ""), "", Deny("bannedPackages: the image contains evil 1.0.0")),
        (line!(), banned, of(evil, r#"{"purl":"pkg:pypi/evil@1.0.0"}"#), "", Deny("which pkg:npm/evil bans")),
        (line!(), banned, of(exempt, ""), "", Admit),
    ]);
}

/// A ban of versions of a source package can be tried with the packages of an issue alone.
#[test]
fn the_source_of_an_affected_package_has_a_version() {
    let ban = "{severity: critical, bannedPackages: ['pkg:deb/debian/xz-utils@<5.6.2-1']}";
    let case = |version: &str, key: &str| {
        let purl = "pkg:deb/debian/liblzma5@9.0-1";
        format!(
            r#"{{"issues":[{{"id":"CVE-1","severity":"low","packages":[{{"purl":"{purl}","source":"xz-utils","{key}":"{version}"}}]}}],"packages":[]}}"#
        )
    };
    let in_issue = r#"{"issues":[{"id":"CVE-1","severity":"low","purl":"pkg:deb/debian/liblzma5@9.0-1","source":"xz-utils","source_version":"5.6.1-1"}],"packages":[]}"#;
    check_all(&[
        (line!(), ban, &case("5.6.1-1", "source_version"), "", Deny("bannedPackages: ")),
        (line!(), ban, &case("5.6.1-1", "sourceVersion"), "", Deny("bannedPackages: ")),
        (line!(), ban, &case("5.6.2-1", "source_version"), "", Admit),
        (line!(), ban, in_issue, "", Deny("bannedPackages: ")),
    ]);
}
