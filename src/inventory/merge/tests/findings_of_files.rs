//! What is unsafe in the files of an image.

use super::*;

/// The checks that found something in an image with these layers, with the paths.
fn findings(layers: &[&[SampleEntry]]) -> Vec<String> {
    let name = |check: HardeningCheck| serde_json::to_value(check).unwrap().as_str().unwrap().to_owned();
    let line =
        |finding: &HardeningFinding| format!("{} {}", name(finding.check), finding.path.clone().unwrap_or_default());
    image(layers).findings.iter().map(line).collect()
}

#[test]
fn settings_of_the_topmost_file_count() {
    let config = |yes: &str| file("etc/ssh/sshd_config", format!("PermitRootLogin {yes}\n"));
    let bad = ["ssh_permit_root_login etc/ssh/sshd_config"];
    assert_eq!(findings(&[&[config("yes")]]), bad);
    assert_eq!(findings(&[&[config("yes")], &[config("no")]]), [""; 0]);
    assert_eq!(findings(&[&[config("no")], &[config("yes")]]), bad);
    assert_eq!(findings(&[&[config("yes")], &[file("etc/ssh/.wh.sshd_config", "")]]), [""; 0]);
    assert_eq!(findings(&[&[config("yes")], &[file("etc/ssh/.wh..wh..opq", "")]]), [""; 0]);
    assert_eq!(findings(&[&[config("yes")], &[file("etc/.wh.ssh", "")], &[config("yes")]]), bad);
    assert_eq!(findings(&[&[config("yes")], &[symlink("etc/ssh", "/opt/ssh")]]), [""; 0]);
    let tool = |mode| SampleEntry::File("usr/local/bin/tool".into(), mode, b"#!/bin/sh\n".to_vec());
    assert_eq!(findings(&[&[tool(0o4755)]]), ["files_setuid usr/local/bin/tool"]);
    assert_eq!(findings(&[&[tool(0o4755)], &[tool(0o755)]]), [""; 0]);
    let entry = |mode| SampleEntry::File("etc/x".into(), mode, b"x".to_vec());
    assert_eq!(findings(&[&[entry(0o666)], &[entry(0o644)]]), [""; 0]);
}

#[test]
fn a_deleted_secret_is_still_in_the_image() {
    let key = |letters: &str| {
        file("root/.ssh/id_rsa", format!("-----BEGIN RSA PRIVATE KEY-----\n{letters}\n-----END RSA PRIVATE KEY-----\n"))
    };
    let (one, other) = (&[key(&"aB3dE5gH7jK9".repeat(6))][..], &[key(&"xY3dE5gH7jK9".repeat(6))][..]);
    let (visible, deleted) = ("ssh_private_key root/.ssh/id_rsa", "secret_deleted_file root/.ssh/id_rsa");
    assert_eq!(findings(&[one]), [visible]);
    for removal in [file("root/.ssh/.wh.id_rsa", ""), file("root/.wh..wh..opq", ""), file("root/.ssh/id_rsa", "gone")] {
        assert_eq!(findings(&[one, std::slice::from_ref(&removal)]), [deleted], "{removal:?}");
    }
    assert_eq!(findings(&[one, one]), [visible], "the same file again");
    assert_eq!(findings(&[one, other]), [deleted, visible]);
    assert_eq!(findings(&[one, &[file(".wh.root", "")], one]), [visible]);
    let digests: Vec<_> = [one, other].map(|entries| layer(entries).0).into();
    let layers: Vec<_> = image(&[one, other]).findings.iter().map(|finding| finding.layer.unwrap()).collect();
    assert_eq!(layers, digests);
}

#[test]
fn superusers_are_those_of_the_topmost_file() {
    let passwd = |name: &str| file("etc/passwd", format!("root:x:0:0::/:\n{name}:x:0:0::/:\n"));
    let names = |layers: &[&[SampleEntry]]| image(layers).superusers.into_iter().collect::<Vec<_>>();
    assert_eq!(names(&[&[passwd("toor")]]), ["root", "toor"]);
    assert_eq!(names(&[&[passwd("toor")], &[passwd("admin")]]), ["admin", "root"]);
    assert_eq!(names(&[&[passwd("toor")], &[file("etc/.wh.passwd", "")]]), [""; 0]);
}

#[test]
fn links_enable_files_of_other_layers() {
    let (available, link) = ("etc/nginx/sites-available/app", "etc/nginx/sites-enabled/app");
    let site = || file(available, "autoindex on;\n");
    assert_eq!(findings(&[&[site()]]), [""; 0]);
    let enabled = &[symlink(link, "../sites-available/app")][..];
    assert_eq!(findings(&[&[site()], enabled]), [format!("nginx_autoindex {available}")]);
    assert_eq!(findings(&[&[site()], enabled, &[file("etc/nginx/sites-enabled/.wh.app", "")]]), [""; 0]);
}

#[test]
fn a_system_in_another_directory_is_a_gap() {
    let status = file("srv/root/var/lib/dpkg/status", "Package: zlib1g\nVersion: 1\n");
    let inventory = image(&[std::slice::from_ref(&status)]);
    let [gap] = &inventory.gaps[..] else { panic!("{inventory:?}") };
    assert!(gap.problem.contains("another system in srv/root") && inventory.packages.is_empty(), "{gap:?}");
    let own = image(&[&[status, symlink("var/lib/dpkg", "/srv/root/var/lib/dpkg")]]);
    assert_eq!(own.packages.len(), 1, "a link makes it the image's own");
    for path in ["srv/root/var/lib/dpkg/status.d/a", "srv/root/var/lib/rpmmanifest/container-manifest-2"] {
        let inventory = image(&[&[file(path, "Package: a\nVersion: 1\n")]]);
        let problem = inventory.gaps.first().map(|gap| &*gap.problem).unwrap_or_default();
        assert!(
            problem.contains("another system in srv/root") && inventory.packages.is_empty(),
            "{path}: {inventory:?}"
        );
    }
}

/// Such a link leads the places of all databases elsewhere, also of those that the image does not have.
#[test]
fn a_link_above_the_databases_leads_only_to_those_that_are_there() {
    let status = |place: &str| file(&format!("{place}/dpkg/status"), "Package: a\nVersion: 1\n");
    let links = [("var/lib", "../srv/lib", "srv/lib"), ("var", "data", "data/lib"), ("lib", "usr/lib", "var/lib")];
    for (link, target, place) in links {
        let inventory = image(&[&[symlink(link, target), status(place)]]);
        assert_eq!((packages(&inventory), inventory.gaps), (vec!["a 1".to_owned()], Vec::new()), "{link}");
    }
}
