mod limits;
mod observations;
mod owned;
mod tables;

use std::io::Cursor;

use super::*;
use crate::hardening::HardeningCheck;
use crate::inventory::sample::{
    SampleEntry, archive, directory, dpkg_status, file, hard_link, node_package, program, read, symlink, zip,
};
use crate::oci::Algorithm;

/// What a layer with these entries contains.
fn contents(entries: &[SampleEntry]) -> LayerInventory {
    read(&archive(entries)).contents
}

/// The names of all packages that files of the layer state, with the paths of the files.
fn packages(layer: &LayerInventory) -> Vec<String> {
    let mut found = Vec::new();
    for (path, index) in &layer.names {
        match &layer.files[*index as usize] {
            FileFacts::Packages { packages, .. } => {
                found.extend(packages.iter().map(|package| format!("{} {} in {path}", package.name, package.version)));
            }
            FileFacts::Unreadable(problem) => found.push(format!("{path}: {problem}")),
            FileFacts::HardLink(target) => found.push(format!("{path}: {target} of a layer below")),
            _ => {}
        }
    }
    found
}

#[test]
fn one_pass_yields_the_digest_and_the_contents() {
    let tar = archive(&[directory("etc"), file("etc/os-release", "ID=debian\n"), dpkg_status(&[("zlib1g", "1.2")])]);
    for bytes in [tar.clone(), crate::sample::image::Layer::gzip_of(&tar).bytes.to_vec()] {
        let reading = read(&bytes);
        assert_eq!(reading.diff_id, Ok(Digest::sha256(&tar)));
        assert_eq!(packages(&reading.contents), ["zlib1g 1.2 in var/lib/dpkg/status"]);
        assert!(reading.contents.problems.is_empty());
    }
}

#[test]
fn the_last_entry_of_a_path_counts() {
    let (one, two) = (node_package("app", "one", "1"), node_package("app", "two", "2"));
    assert_eq!(packages(&contents(&[one.clone(), two.clone()])), ["two 2 in app/package.json"]);
    assert_eq!(packages(&contents(&[one.clone(), symlink("app/package.json", "../x/package.json")])), [""; 0]);
    assert_eq!(packages(&contents(&[one.clone(), program("app")])), [""; 0], "a file replaces a directory");
    assert_eq!(packages(&contents(&[one.clone(), directory("app")])).len(), 1);
    assert_eq!(packages(&contents(&[two, one, directory("app/package.json")])), [""; 0]);
}

#[test]
fn links_of_the_same_layer_are_followed() {
    let database = file("lib/apk/db/installed", "P:musl\nV:1.2\n\n");
    assert_eq!(
        packages(&contents(&[symlink("lib", "usr/lib"), database.clone()])),
        ["musl 1.2 in usr/lib/apk/db/installed"]
    );
    assert_eq!(packages(&contents(&[database])), ["musl 1.2 in lib/apk/db/installed"]);
    let status = |path: &str| file(path, "Package: zlib1g\nVersion: 1\n");
    let anywhere = [dpkg_status(&[("zlib1g", "2")]), symlink("opt/l", "/var/lib/dpkg"), status("opt/l/status")];
    assert_eq!(packages(&contents(&anywhere)), ["zlib1g 1 in var/lib/dpkg/status"]);
    let folder = [symlink("a", "opt/x-1.dist-info"), file("a/METADATA", "")];
    assert_eq!(packages(&contents(&folder)), ["x 1 in opt/x-1.dist-info/METADATA"]);
    let replaced = [symlink("opt/l", "/var/lib/dpkg"), directory("opt/l"), status("opt/l/status")];
    assert_eq!(packages(&contents(&replaced)), [""; 0], "a directory replaces a link");
}

#[test]
fn paths_that_cannot_be_followed_are_gaps() {
    for (what, entries) in [
        ("a loop", [symlink("lib", "usr"), symlink("usr", "lib"), file("lib/apk/db/installed", "")]),
        ("a path that grows", [symlink("var", "var/x/x/x/x"), directory("x"), directory("var/y")]),
        ("a file above", [program("opt/l"), directory("x"), file("opt/l/status", "")]),
        ("names of a database elsewhere", [symlink("opt/l", "/var/lib/dpkg/status.d"), directory("x"), directory("y")]),
        ("a deleted link", [symlink("l/b", "/d"), file("l/.wh.b", ""), node_package("l/b", "x", "1")]),
        ("a link in a deleted folder", [symlink("l/b", "/d"), file(".wh.l", ""), node_package("l/b", "x", "1")]),
    ] {
        let layer = contents(&entries);
        assert!(!layer.problems.is_empty() || layer.names.contains_key("opt/l"), "{what}: {layer:?}");
    }
    let (link, mark) = (symlink("l/b", "/d"), file("l/.wh.b", ""));
    for entries in [vec![mark.clone(), link.clone()], vec![link.clone(), mark.clone(), link.clone()]] {
        let layer = contents(&[&entries[..], &[node_package("l/b", "x", "1")]].concat());
        assert_eq!((packages(&layer).len(), layer.problems.len()), (1, 0), "a link that follows the mark: {entries:?}");
    }
    let unused = contents(&[link, mark, node_package("l/c", "x", "1")]);
    assert_eq!((packages(&unused).len(), unused.problems.len()), (1, 0), "no path leads through it");
}

#[test]
fn links_that_give_files_another_name_are_gaps() {
    let metadata = "opt/x/METADATA";
    for (path, target) in [
        ("a/x-1.dist-info/METADATA", "/opt/x/METADATA"),
        ("a/x-1.dist-info", "/opt/x"),
        ("a/x-1.EGG-INFO", "/opt/x"),
        ("a/x.egg/EGG-INFO", "/opt/x"),
        ("a/x.jar", "x.bin"),
        ("a/package.json", "package.txt"),
        ("a/specifications", "/opt/x"),
        ("var/lib/dpkg/status.d/x", "/opt/x/status"),
    ] {
        let layer = contents(&[file(metadata, "Name: x\nVersion: 1\n"), symlink(path, target)]);
        assert!(packages(&layer)[0].contains("is not read under this name"), "{path}: {layer:?}");
    }
    for (path, target) in [
        ("a/x-1.dist-info", "/opt/x-1.dist-info"),
        ("a/package.json", "../b/package.json"),
        ("usr/share/java/x.jar", "x-1.2.jar"),
        ("bin/x", "busybox"),
        ("lib", "usr/lib"),
        ("var/lib/rpm", "../../usr/lib/sysimage/rpm"),
        ("var/lib/dpkg/info/x.md5sums", "y"),
    ] {
        let layer = contents(&[symlink(path, target)]);
        assert_eq!((packages(&layer), layer.problems.len()), (Vec::new(), 0), "{path}");
        assert!(layer.links.contains_key(path));
    }
}

/// A file with this record in front of it.
fn with_record(key: &str, value: &str, entry: SampleEntry) -> LayerInventory {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions([(key, value.as_bytes())]).unwrap();
    read(&[builder.into_inner().unwrap()[..1024].to_vec(), archive(&[entry])].concat()).contents
}

#[test]
fn records_that_change_the_view_of_runtimes_are_gaps() {
    for key in ["SCHILY.xattr.trusted.overlay.redirect", "SCHILY.xattr.user.overlay.opaque"] {
        assert_eq!(with_record(key, "/opt/hid", directory("var/lib/dpkg")).problems.len(), 1, "{key}");
    }
    assert!(with_record("SCHILY.xattr.security.capability", "x", program("bin/ping")).problems.is_empty());
    let sparse = with_record("GNU.sparse.x", "1", program("usr/bin/app"));
    assert_eq!(packages(&sparse), ["usr/bin/app: the file is stored as a sparse file"]);
}

/// Runtimes keep the bytes of names, and Linux allows any.
#[test]
fn names_that_are_not_utf_8_are_not_mistaken_for_others() {
    let mut header = tar::Header::new_gnu();
    let mut name = *b"v?/x-1.dist-info/METADATA";
    name[1] = 0xff;
    header.as_mut_bytes()[..name.len()].copy_from_slice(&name);
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    let other = archive(&[program(r"v\xff")]);
    let layer = read(&[header.as_bytes(), &other[..]].concat()).contents;
    assert_eq!(packages(&layer), [r"x 1 in v\xff/x-1.dist-info/METADATA"]);
    assert!(layer.problems.is_empty());
}

#[test]
fn hard_links_are_other_names_of_the_read_file() {
    let linked =
        contents(&[node_package("store/1", "one", "1"), hard_link("app/package.json", "store/1/package.json")]);
    assert_eq!(packages(&linked), ["one 1 in app/package.json", "one 1 in store/1/package.json"]);
    let elsewhere = contents(&[hard_link("var/lib/dpkg/status", "var/lib/dpkg/status-old")]);
    assert!(packages(&elsewhere)[0].contains("of a layer below"), "the target is in no layer, or in one below");
    let linked = contents(&[symlink("opt/s", "/opt/d"), hard_link("var/lib/dpkg", "opt/s")]);
    assert_eq!(linked.links["var/lib/dpkg"], "/opt/d", "a hard link to a link is a link");
    let unknown = contents(&[hard_link("var/lib/dpkg", "opt/s")]);
    assert!(packages(&unknown)[0].contains("of a layer below"));
    let programs = contents(&[program("bin/a"), hard_link("bin/b", "bin/a")]);
    assert!(programs.names.is_empty() && programs.replaced.contains("bin/b"));
}

/// What a file was read as under one name says nothing about another name that asks for something else.
#[test]
fn a_hard_link_of_another_kind_is_read_again() {
    let metadata = "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n";
    let path = "site-packages/evil-1.0.dist-info/METADATA";
    for target in ["opt/data.jar", "opt/package.json", "opt/x.egg", "usr/share/doc/x/copyright"] {
        let found = packages(&contents(&[file(target, metadata), hard_link(path, target)]));
        assert!(found.contains(&format!("evil 1.0 in {path}")), "{target}: {found:?}");
    }
}

/// `..` in the target of a link leads to the directory above where the link before it leads.
#[test]
fn links_whose_target_goes_back_are_gaps() {
    let metadata = file("opt/x.dist-info/METADATA", "Name: fine\nVersion: 1\n");
    let problem = |layer: &LayerInventory, path: &str| {
        let found = packages(layer);
        assert!(found.iter().any(|line| line.starts_with(path) && line.contains("leads through `..`")), "{found:?}");
    };
    let target = "../../opt/x.dist-info/link/../METADATA";
    let symbolic = [metadata.clone(), symlink("site-packages/evil-1.0.dist-info/METADATA", target)];
    problem(&contents(&symbolic), "site-packages/evil-1.0.dist-info/METADATA");
    problem(&contents(&[symlink("var/lib/rpm", "/opt/link/../../usr/lib/sysimage/rpm")]), "var/lib/rpm");
    let hard = contents(&[file("a/x.bin", ""), symlink("a/link", "../b/c"), hard_link("x.jar", "a/link/../x.bin")]);
    problem(&hard, "x.jar");
    let beneath = contents(&[symlink("app", "srv/a/../b"), node_package("app", "one", "1")]);
    assert!(beneath.problems.iter().any(|problem| problem.contains("leads through `..`")), "{:?}", beneath.problems);
    let usual =
        contents(&[symlink("var/lib/rpm", "../../usr/lib/sysimage/rpm"), symlink("usr/bin/x", "../lib/a/../x")]);
    assert_eq!(packages(&usual), [""; 0], "only what decides what is read matters");
}

#[test]
fn programs_and_archives_are_not_lists() {
    for path in ["root/buildinfo/Dockerfile-x", "usr/lib/fedora-release", "var/lib/dpkg/status.d/app"] {
        for content in [&b"MZ\x90\0"[..], b"PK\x03\x04"] {
            assert!(packages(&contents(&[file(path, content)]))[0].contains("a program or an archive"), "{path}");
        }
    }
    // Lists without which nothing is missed are not gaps, and hide nothing.
    let archive = zip("META-INF/maven/g/lib/pom.properties", b"groupId=g\nartifactId=lib\nversion=1\n");
    let hidden = contents(&[file("usr/share/doc/x/copyright", archive)]);
    assert_eq!(packages(&hidden), ["g:lib 1 in usr/share/doc/x/copyright"]);
}

/// A file comes before its hard links, whose names are those that decide: package managers link files from a store.
#[test]
fn files_are_read_under_the_names_of_hard_links() {
    let json = |name: &str| format!(r#"{{"name": "{name}", "version": "1"}}"#);
    let link = |path: &str| hard_link(path, "store/f00");
    let store = |name: &str| file("store/f00", json(name));
    assert_eq!(packages(&contents(&[store("one"), link("app/package.json")])), ["one 1 in app/package.json"]);
    let two = [store("one"), link("a/package.json"), link("b/package.json"), link("c/other")];
    assert_eq!(packages(&contents(&two)), ["one 1 in a/package.json", "one 1 in b/package.json"]);
    assert_eq!(packages(&contents(&[file("store/f00", "{}"), link("app/package.json")])), [""; 0], "no package");
    let database =
        [file("ostree/ab.file", "Package: zlib1g\nVersion: 1\n"), hard_link("var/lib/dpkg/status", "ostree/ab.file")];
    assert_eq!(packages(&contents(&database)), ["zlib1g 1 in var/lib/dpkg/status"]);
    let update = contents(&[file("ostree/ab.file", ""), hard_link("var/lib/dpkg/updates/0001", "ostree/ab.file")]);
    assert!(packages(&update)[0].contains("not applied"));
    // An archive that is recognised by its content has names of both kinds.
    let script = [file("store/f00", "#!/bin/sh\n"), link("x.jar"), link("app/package.json")];
    assert_eq!(packages(&contents(&script)), [""; 0]);
    // What the link names is the file at that time.
    let replaced = [store("one"), link("a/package.json"), store("two"), link("b/package.json")];
    assert_eq!(packages(&contents(&replaced)), ["one 1 in a/package.json", "two 1 in b/package.json"]);
    let gone = [store("one"), link("a/package.json"), directory("store/f00"), link("b/package.json")];
    let problem = "b/package.json: the file is a hard link to store/f00, which was not read";
    assert_eq!(packages(&contents(&gone)), ["one 1 in a/package.json", problem]);
    let many: Vec<_> = (0..70).map(|number| link(&format!("app/{number:02}/package.json"))).collect();
    let found = packages(&contents(&[&[store("one")][..], &many].concat()));
    assert_eq!(found.iter().filter(|line| line.contains("not read")).count(), 6);
}

/// The other packages of a database of RPM are kept.
#[test]
fn a_damaged_header_of_rpm_does_not_hide_the_other_packages() {
    let line = |name: &str, version: &str| format!("{name}\t{version}\t1\t1\tx\t(none)\t1\tnoarch\t0\tx-1-1.src.rpm\n");
    let text = line("one", "1-1") + &line("two", "1") + &line("three", "1-1");
    let layer = contents(&[file("var/lib/rpmmanifest/container-manifest-2", text)]);
    let FileFacts::Packages { packages, problems, .. } = &layer.files[0] else { panic!("{layer:?}") };
    assert_eq!((packages.len(), problems.len()), (2, 1));
    let database = crate::inventory::rpm::half_damaged();
    let layer = contents(&[file("var/lib/rpm/Packages.db", database)]);
    let FileFacts::Packages { packages, problems, .. } = &layer.files[0] else { panic!("{layer:?}") };
    assert_eq!((packages.len(), problems.len()), (1, 1));
}

#[test]
fn directories_without_an_entry_are_noted() {
    let package = |folder: &str| node_package(folder, "x", "1");
    let layer = contents(&[directory("a"), package("a/b"), package("c/d"), file("e/x", ""), directory("c")]);
    let implied = ["a", "a/b", "c", "c/d", "e"].map(|folder| layer.implied.contains(folder));
    assert_eq!(implied, [false, true, true, true, false], "an entry that follows the file does not count");
}

#[test]
fn deletions_are_noted() {
    let layer = contents(&[
        file("etc/.wh.os-release", ""),
        file(".wh.srv", ""),
        file("app/.wh..wh..opq", ""),
        file(".wh..wh..opq", ""),
        file(".wh..wh.plnk", ""),
        file("var/.wh..wh.orph", ""),
    ]);
    assert_eq!(layer.whiteouts, ["etc/os-release".to_owned(), "srv".to_owned()].into());
    assert_eq!(layer.opaque, ["app".to_owned()].into(), "runtimes differ about the root");
    assert!(layer.problems.is_empty());
    for name in ["a/.wh.", "a/.wh..", "a/.wh..."] {
        assert_eq!(contents(&[file(name, "")]).problems.len(), 1, "{name}");
    }
}

/// `java -jar` runs an archive whatever comes before it. What only holds other files is data.
#[test]
fn an_archive_behind_other_bytes_is_a_problem() {
    let commented = |name: &str, comment: &[u8]| {
        let length = u16::try_from(comment.len()).unwrap().to_le_bytes();
        let archive = zip(name, b"");
        [&archive[..archive.len() - 2], &length, comment].concat()
    };
    let archive = |name: &str| commented(name, b"");
    let entries = |count: u16, size: u32, offset: u32| {
        let count = count.to_le_bytes();
        [&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &size.to_le_bytes(), &offset.to_le_bytes(), b"\0\0"].concat()
    };
    let junk = b"junk".to_vec();
    let long = vec![b'x'; 200_000];
    let in_front = [&b"\0\0\0\0PK\x01\x02"[..], &long].concat();
    let mut uncounted = archive("org/A.class");
    let counts = uncounted.len() - 14;
    uncounted[counts..counts + 4].fill(0);
    let hidden = [&entries(3, 100_000, 4)[..20], &[0xff; 2], &[b'c'; 65_535]].concat();
    for (what, before, after, is_problem) in [
        ("a class", &junk, archive("org/A.class"), true),
        ("an archive in it", &long, archive("lib/a.jar"), true),
        ("a manifest", &long, commented("META-INF/MANIFEST.MF", b"a comment"), true),
        ("a package of Python", &junk, archive("x-1.dist-info/METADATA"), true),
        ("a directory in front of a long comment", &long, commented("org/A.class", &[b'c'; 65_535]), true),
        ("the same of other files", &long, commented("a.txt", &[b'c'; 65_535]), false),
        ("a directory that starts too early", &long, entries(3, 100_000, 0), true),
        ("an entry that is damaged", &junk, [b"PK\x01\x02".to_vec(), entries(1, 4, 0)].concat(), true),
        ("a larger record", &junk, entries(u16::MAX, 0, 0), true),
        ("an extension of a browser", &b"Cr24\x03".to_vec(), archive("manifest.json"), false),
        ("a model", &long, archive("labels.txt"), false),
        ("a directory in front", &in_front, entries(3, 100_000, 4), false),
        ("a directory in front, and one", &in_front, [archive("a.txt"), entries(3, 100_000, 4)].concat(), true),
        ("no directory", &long, entries(3, 100, 4), false),
        ("an archive that starts as one", &b"PK\x03\x04".to_vec(), archive("org/A.class"), false),
        ("no entries", &junk, entries(0, 0, 0), false),
        ("entries that are not counted", &junk, uncounted, true),
        ("a comment behind a directory in front", &in_front, hidden, true),
        ("bytes behind it", &junk, [archive("org/A.class"), b"x".to_vec()].concat(), true),
        ("bytes behind other files", &junk, [archive("a.txt"), b"x".to_vec()].concat(), false),
        ("a directory that starts too early, and more", &long, [entries(3, 100_000, 0), vec![0]].concat(), true),
        ("a signature in data", &long, [b"PK\x05\x06".to_vec(), vec![b'x'; 30]].concat(), false),
        ("a ZIP64 record", &junk, [&b"PK\x06\x06"[..], &[0; 72], &entries(0, 0, 0)].concat(), true),
        ("no archive", &long, Vec::new(), false),
        ("nothing", &Vec::new(), Vec::new(), false),
    ] {
        let layer =
            contents(&[file("opt/data.bin", [before.clone(), after].concat()), node_package("app", "one", "1")]);
        let is_one = |facts: &FileFacts| matches!(facts, FileFacts::Packages { problems, .. } if !problems.is_empty());
        assert_eq!(layer.files.iter().any(is_one), is_problem, "{what}");
        assert_eq!(packages(&layer), ["one 1 in app/package.json"], "what follows is read: {what}");
    }
}
