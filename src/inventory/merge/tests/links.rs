//! Databases and files behind links.

use super::*;

/// Wherever links lead to a database of the usual name, it is read, also from the files of several layers.
#[test]
fn databases_behind_links_to_other_places_are_read() {
    let status = |version: &str| file("usr/lib/sysimage/dpkg/status", format!("Package: a\nVersion: {version}\n"));
    let link = || symlink("var/lib/dpkg", "../../usr/lib/sysimage/dpkg");
    let listed = |layers: &[&[SampleEntry]]| {
        let inventory = image(layers);
        (packages(&inventory), inventory.gaps.iter().map(|gap| gap.place.clone()).collect::<Vec<_>>())
    };
    let both = |version: &str| (vec![format!("a {version}")], Vec::<String>::new());
    assert_eq!(listed(&[&[link(), status("1")]]), both("1"));
    assert_eq!(listed(&[&[status("1")], &[link()]]), both("1"));
    assert_eq!(listed(&[&[link(), status("1")], &[status("2")]]), both("2"), "changed where it is");
    assert_eq!(listed(&[&[status("1")]]), (Vec::new(), Vec::new()), "a system that is not the image's own");
    assert_eq!(listed(&[&[link(), status("1")], &[file("usr/lib/sysimage/dpkg/.wh.status", "")]]).0, [""; 0]);
    let twice = [symlink("var/lib/dpkg", "/srv/dpkg"), symlink("srv/dpkg", "data"), file("srv/data/status", "")];
    assert_eq!(listed(&[&twice]).1, ["var/lib/dpkg/status", "var/lib/dpkg/status.d/*"], "a link that is not followed");
    let single = [symlink("var/lib/dpkg", "/srv/dpkg"), symlink("srv/dpkg/status", "/srv/x")];
    assert_eq!(listed(&[&single]).1, ["var/lib/dpkg/status"], "a link in its place");
    let other = file("usr/lib/sysimage/dpkg/status", "no field");
    let wrong = listed(&[&[link(), other]]).1;
    assert!(wrong.iter().all(|place| place == "usr/lib/sysimage/dpkg/status") && !wrong.is_empty(), "{wrong:?}");
    let unpacked = file("usr/lib/sysimage/dpkg/updates/0001", "");
    assert_eq!(listed(&[&[link(), status("1"), unpacked]]).1, ["usr/lib/sysimage/dpkg/updates/0001"]);
    let program = SampleEntry::File("usr/lib/sysimage/dpkg/status".into(), 0o644, b"MZ\x90\0".repeat(20));
    let gaps = listed(&[&[link(), program]]).1;
    assert!(gaps.contains(&"var/lib/dpkg/status".to_owned()), "a program was not read as a database: {gaps:?}");
    let single: &[_] = &[
        symlink("var/lib/dpkg/status.d", "/srv/dpkg/status.d"),
        file("srv/dpkg/status.d/b", "Package: b\nVersion: 1\n"),
        symlink("lib/apk", "/opt/apk"),
        file("opt/apk/db/installed", "P:c\nV:1\n\n"),
        symlink("var/lib/rpm/Packages.db", "/srv/rpm/Packages.db"),
        file("srv/rpm/Packages.db", crate::inventory::rpm::half_damaged()),
    ];
    let (found, gaps) = listed(&[single]);
    assert_eq!((found.len(), gaps), (3, vec!["srv/rpm/Packages.db".to_owned()]), "{found:?}");
    assert_eq!(listed(&[&[symlink("var/lib/dpkg", "/srv/packages"), status("1")]]).1.len(), 2, "another name");
    // The files of packages in them are not left out: the layer does not say that it is the database.
    let list = md5_line("app/package.json", br#"{"name": "x", "version": "1"}"#);
    let owned = [link(), status("1"), file("usr/lib/sysimage/dpkg/info/a.md5sums", list)];
    assert_eq!(listed(&[&[&owned[..], &[node_package("app", "x", "1")]].concat()]).0.len(), 2);
}

/// containerd unpacks a layer over the lower ones, so its hard links may name their files.
#[test]
fn hard_links_to_files_of_lower_layers_are_read() {
    let listed = |layers: &[&[SampleEntry]]| {
        let inventory = image(layers);
        (packages(&inventory), inventory.gaps.iter().map(|gap| gap.place.clone()).collect::<Vec<_>>())
    };
    let base: &[_] = &[node_package("a", "one", "1"), program("bin/x"), file("a/store", "{}")];
    let link = || hard_link("b/package.json", "a/package.json");
    assert_eq!(listed(&[base, &[link()]]).0, ["one 1 in a/package.json"], "stated once");
    let moved = listed(&[base, &[link()], &[file("a/.wh.package.json", "")]]);
    assert_eq!(moved, (vec!["one 1 in b/package.json".to_owned()], Vec::new()));
    let unread = |entries: &[SampleEntry]| listed(&[base, entries]).1;
    assert_eq!(unread(&[hard_link("b/package.json", "a/store")]), ["b/package.json"], "not read as a package");
    assert_eq!(unread(&[hard_link("b/package.json", "a/missing")]), ["b/package.json"]);
    assert_eq!(unread(&[file("a/.wh.package.json", ""), link()]), ["b/package.json"], "deleted at the same time");
    assert_eq!(unread(&[hard_link("var/lib/dpkg/status", "a/package.json")]), ["var/lib/dpkg/status"]);
    assert_eq!(listed(&[&[link()], base]).1, ["b/package.json"], "not of a layer above");
    // The file in the same layer counts, although it states nothing under its own name.
    let other = [file("a/store", "{}"), hard_link("c/x", "a/store"), hard_link("b/package.json", "c/x")];
    assert_eq!(listed(&[&[node_package("c", "x", "1"), file("c/x", "{}")], &other]).1, ["b/package.json"]);
    // What only a link makes a database was not read as one.
    let store = SampleEntry::File("a/store".into(), 0o755, b"Package: z\nVersion: 1\n".to_vec());
    let hidden = [symlink("var/lib/dpkg", "/srv/dpkg"), hard_link("srv/dpkg/status", "a/store")];
    let gaps = image(&[&[store], &hidden]).gaps;
    assert!(gaps.iter().any(|gap| gap.place == "srv/dpkg/status"), "{gaps:?}");
}

/// Fedora and SUSE keep the database of RPM in `usr/lib/sysimage` and link to it.
#[test]
fn a_database_behind_the_link_of_another_layer_is_read_once_and_where_it_is() {
    let database = || file("usr/lib/sysimage/rpm/Packages.db", crate::inventory::rpm::half_damaged());
    let link = symlink("var/lib/rpm", "../../usr/lib/sysimage/rpm");
    let listed = |layers: &[&[SampleEntry]]| {
        let inventory = image(layers);
        let gaps: Vec<_> = inventory.gaps.iter().map(|gap| gap.place.clone()).collect();
        (packages(&inventory), gaps)
    };
    let place = "usr/lib/sysimage/rpm/Packages.db".to_owned();
    let expected = (vec!["one 1-1".to_owned()], vec![place.clone()]);
    assert_eq!(listed(&[&[link.clone(), database()]]), expected);
    assert_eq!(listed(&[std::slice::from_ref(&link), &[database()]]), expected);
    assert_eq!(listed(&[&[link.clone(), file(&place, "")], &[database()]]), expected);
    // What a later layer adds below the link is there for some runtimes, and where the link leads for others.
    let through = file("var/lib/rpm/Packages.db", crate::inventory::rpm::half_damaged());
    assert!(listed(&[std::slice::from_ref(&link), &[through]]).1.contains(&"var/lib/rpm/Packages.db".to_owned()));
    let replaced: &[_] =
        &[directory("var"), directory("var/lib"), directory("var/lib/rpm"), file("var/lib/rpm/Packages.db", "")];
    assert_eq!(listed(&[&[link, database()], replaced]), expected, "a directory in place of the link");
}

#[test]
fn links_through_the_directory_of_alternatives_lead_on_in_all_layers() {
    let gaps = |layers: &[&[SampleEntry]]| image(layers).gaps.iter().map(|gap| gap.place.clone()).collect::<Vec<_>>();
    let jar = "usr/share/java/servlet-api.jar";
    let link = || symlink(jar, "/etc/alternatives/servlet");
    let chosen = |target: &str| symlink("etc/alternatives/servlet", target);
    let good = "/usr/share/java/servlet-api-3.1.jar";
    assert_eq!(gaps(&[&[link(), chosen(good)]]), [""; 0]);
    assert_eq!(gaps(&[&[chosen(good)], &[link()]]), [""; 0], "the choice of a lower layer");
    assert_eq!(gaps(&[&[link(), chosen("/opt/x.bin")], &[chosen(good)]]), [""; 0], "another choice");
    assert_eq!(gaps(&[&[link(), chosen(good)], &[chosen("/opt/x.bin")]]), [jar], "a file with another name");
    assert_eq!(gaps(&[&[link(), chosen(good)], &[file("etc/alternatives/.wh.servlet", "")]]), [""; 0]);
    assert_eq!(gaps(&[&[link()]]), [""; 0], "a link to nothing");
    assert_eq!(gaps(&[&[link()], &[chosen("missing")]]), [""; 0], "two links to nothing");
    assert_eq!(gaps(&[&[link()], &[program("etc/alternatives/servlet")]]), [jar], "a program in place of the choice");
    let metadata = || symlink("usr/lib/python3/x-1.dist-info", "/etc/alternatives/servlet");
    assert_eq!(gaps(&[&[metadata()], &[file("etc/alternatives/servlet/METADATA", "")]]).len(), 1, "a directory");
    assert_eq!(gaps(&[&[metadata()], &[symlink("etc/alternatives/servlet/METADATA", "/srv/x")]]).len(), 1);
    assert_eq!(gaps(&[&[link(), file("etc/alternatives/servlet", "")]]), [jar], "a file in place of the choice");
    let twice = symlink("etc/alternatives/servlet", "other");
    assert_eq!(gaps(&[&[link(), twice, symlink("etc/alternatives/other", good)]]), [""; 0], "two links");
    assert_eq!(
        gaps(&[&[symlink("usr/bin/java", "/etc/alternatives/java")]]),
        [""; 0],
        "a program is read by its content"
    );
    assert_eq!(gaps(&[&[symlink("opt/x.jar", "/opt/hidden")]]), ["opt/x.jar"]);
}
