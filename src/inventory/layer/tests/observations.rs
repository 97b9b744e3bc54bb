//! What is unsafe in files of a layer.

use super::*;

/// The checks of the observations about each path of a layer.
fn observed(entries: &[SampleEntry]) -> Vec<(String, Vec<HardeningCheck>)> {
    let reading = read(&archive(entries));
    assert_eq!(reading.contents.problems.len(), 0, "{:?}", reading.contents.problems);
    let check = |observed: &FileObservation| match observed {
        FileObservation::Unsafe { check, .. } => Some(*check),
        _ => None,
    };
    let all = reading.contents.observations.iter();
    all.map(|(path, observed)| (path.clone(), observed.iter().filter_map(check).collect())).collect()
}

fn setuid(path: &str) -> SampleEntry {
    SampleEntry::File(path.to_owned(), 0o4755, b"#!/bin/sh\n".to_vec())
}

#[test]
fn unsafe_files_are_observed() {
    use HardeningCheck as Check;
    let token = format!("ghp_{}", "aB3dE5gH7jK9".repeat(3));
    let found = observed(&[
        file("app/config.yaml", format!("token: {token}\n")),
        file("app/plain.txt", "nothing"),
        file("etc/ssh/sshd_config", "PermitRootLogin yes\n"),
        setuid("usr/local/bin/tool"),
        hard_link("usr/local/bin/other", "usr/local/bin/tool"),
        SampleEntry::File("etc/app.conf".into(), 0o666, b"x".to_vec()),
    ]);
    let expected = [
        ("app/config.yaml", Check::SecretGithub),
        ("etc/app.conf", Check::FilesWorldWritable),
        ("etc/ssh/sshd_config", Check::SshPermitRootLogin),
        ("usr/local/bin/other", Check::FilesSetuid),
        ("usr/local/bin/tool", Check::FilesSetuid),
    ];
    assert_eq!(found, expected.map(|(path, check)| (path.to_owned(), vec![check])));
}

#[test]
fn privileged_programs_and_keys_of_packages_are_not_observed() {
    let key = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", "aB3dE5gH7jK9".repeat(8));
    let status = || dpkg_status(&[("util-linux", "2.38")]);
    let list = |files: &str| file("var/lib/dpkg/info/util-linux.md5sums", files);
    let listed = "0123  bin/su\n4567  usr/bin/mount\n89ab  etc/x/test.key\n";
    let programs = [setuid("usr/bin/su"), setuid("usr/bin/mount"), file("etc/x/test.key", &key)];
    assert_eq!(observed(&[&[status(), list(listed)][..], &programs].concat()), []);
    assert_eq!(observed(&[&programs[..], &[status(), list(listed)]].concat()), [], "in any order");
    assert_eq!(observed(&programs).len(), 3, "without a list");
    let apk = file("lib/apk/db/installed", "P:busybox-suid\nV:1\nF:bin\nR:bbsuid\n\n");
    assert_eq!(observed(&[apk, setuid("bin/bbsuid")]), []);
    let config = file("etc/ssh/sshd_config", "PermitRootLogin yes\n");
    assert_eq!(observed(&[status(), list("0123  etc/ssh/sshd_config\n"), config]).len(), 1, "settings count anywhere");
}

#[test]
fn replaced_entries_lose_their_observations() {
    let token = format!("ghp_{}", "aB3dE5gH7jK9".repeat(3));
    assert_eq!(observed(&[setuid("app/a"), program("app/a")]), []);
    assert_eq!(observed(&[setuid("app/a"), directory("app/a")]), []);
    assert_eq!(observed(&[setuid("app/a/b"), file("app/a", "x")]), []);
    assert_eq!(observed(&[file("app/a", &token), file("app/a", "x")]).len(), 1, "the secret is still in the layer");
}

#[test]
fn observations_of_a_layer_are_bounded() {
    let many: Vec<_> = (0..3_000).map(|number| setuid(&format!("app/{number}"))).collect();
    let found = observed(&many);
    assert_eq!(found.len(), 2_001);
    let unchecked: Vec<_> = found.iter().filter(|(_, checks)| *checks == [HardeningCheck::FilesUnchecked]).collect();
    assert_eq!(unchecked.len(), 1);
}
