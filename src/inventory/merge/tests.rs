use proptest::prelude::*;

use super::*;
use crate::hardening::HardeningCheck;
use crate::inventory::InstalledPackage;
use crate::inventory::sample::{
    SampleEntry, device, directory, dpkg_status, file, hard_link, layer, node_package, program, symlink, zip,
};

/// The inventory of an image with these layers.
fn image(layers: &[&[SampleEntry]]) -> Inventory {
    let layers: Vec<_> = layers.iter().map(|entries| layer(entries)).collect();
    merge(&layers)
}

/// Names, versions and paths of the packages.
fn packages(inventory: &Inventory) -> Vec<String> {
    let line = |package: &InstalledPackage| {
        let path = package.path.as_ref().map_or_else(String::new, |path| format!(" in {path}"));
        format!("{} {}{path}", package.name, package.version)
    };
    inventory.packages.iter().map(line).collect()
}

#[test]
fn the_last_database_counts() {
    let base: &[_] = &[dpkg_status(&[("bash", "5.1"), ("zlib1g", "1.2")]), file("etc/debian_version", "12.5\n")];
    let upgraded: &[_] = &[dpkg_status(&[("bash", "5.2"), ("zlib1g", "1.2")])];
    let inventory = image(&[base, upgraded]);
    assert_eq!(packages(&inventory), ["bash 5.2", "zlib1g 1.2"]);
    let layers = [layer(base).0, layer(upgraded).0];
    let origins: Vec<_> = inventory.packages.iter().map(|package| package.layer.unwrap()).collect();
    assert_eq!(origins, [layers[1], layers[0]], "a package belongs to the layer that installed it");
    assert_eq!(inventory.distribution.as_ref().unwrap().id, "debian");
    assert!(inventory.gaps.is_empty() && !inventory.is_opaque());
    assert!(image(&[&[program("app")]]).is_opaque());
}

#[test]
fn reading_licences_is_bounded() {
    let package = |number: usize| {
        let text = format!(r#"{{"name": "p{number}", "version": "1", "license": "{number}{}"}}"#, " MIT".repeat(200));
        file(&format!("app/{number}/package.json"), &text)
    };
    let packages: Vec<_> = (0..1500).map(package).collect();
    assert_eq!(image(&[&packages[..1000]]).gaps, []);
    let long = image(&[&packages]);
    assert_eq!((long.gaps.len(), long.licences.len()), (1, 0));
}

#[test]
fn licences_of_dpkg_are_those_in_the_directory_of_the_package() {
    let copyright = |name: &str, text: &str| file(&format!("usr/share/doc/{name}/copyright"), text);
    let status = dpkg_status(&[("gcc", "1"), ("libgcc", "1"), ("bash", "1"), ("none", "1"), ("gone", "1")]);
    let base: &[_] = &[
        status,
        copyright("gcc", "License: GPL-3+ with GCC exception\n"),
        symlink("usr/share/doc/libgcc", "gcc"),
        copyright("bash", "see /usr/share/common-licenses/GPL-3\n"),
        symlink("usr/share/doc/none/copyright", "../../common-licenses/GPL-2"),
        copyright("gone", "License: MIT\n"),
        copyright("large", &"x".repeat(2 << 20)),
    ];
    let inventory = image(&[base, &[file("usr/share/doc/.wh.gone", "")]]);
    let licenses: Vec<_> =
        inventory.packages.iter().map(|package| (&*package.name, package.licenses.join(", "))).collect();
    let of = |name, text: &str| (name, text.to_owned());
    let gcc = "GPL-3+ with GCC exception";
    assert_eq!(licenses, [of("bash", "GPL-3"), of("gcc", gcc), of("gone", ""), of("libgcc", gcc), of("none", "")]);
    assert_eq!(inventory.gaps, [], "a file with licences is no package");
    let expressions = [("GPL-3", "GPL-3.0-only"), (gcc, "GPL-3.0-or-later WITH GCC-exception-3.1")];
    assert_eq!(inventory.licences, expressions.map(|(text, known)| (text.to_owned(), known.to_owned())).into());
}

#[test]
fn packages_of_distroless_images_have_a_file_each() {
    let one = |name: &str| file(&format!("var/lib/dpkg/status.d/{name}"), format!("Package: {name}\nVersion: 1\n"));
    let inventory =
        image(&[&[one("base-files")], &[one("libc6")], &[file("var/lib/dpkg/status.d/.wh.base-files", "")]]);
    assert_eq!(packages(&inventory), ["libc6 1"]);
}

#[test]
fn deleted_and_replaced_files_state_nothing() {
    let base: &[_] = &[node_package("app", "one", "1"), node_package("app/deps", "two", "2")];
    let all = ["one 1 in app/package.json", "two 2 in app/deps/package.json"];
    for (what, upper, left) in [
        ("a whiteout", file("app/.wh.package.json", ""), &all[1..]),
        ("a whiteout of a directory", file(".wh.app", ""), &[]),
        ("an opaque directory", file("app/.wh..wh..opq", ""), &[]),
        ("an opaque root", file(".wh..wh..opq", ""), &all[..]),
        ("a program for a directory", program("app"), &[]),
        ("a link for a directory", symlink("app", "srv"), &[]),
        ("a directory", directory("app"), &all[..]),
        ("another file", program("bin/app"), &all[..]),
        ("a device", device("app/package.json"), &all[..]),
        ("a device for a directory", device("app"), &all[..]),
        ("a device as a whiteout", device("app/.wh.package.json"), &all[..]),
        ("a device as a whiteout of a directory", device(".wh.app"), &all[..]),
        ("a device as the mark of an opaque directory", device("app/.wh..wh..opq"), &all[..]),
        ("a file that is no package", file("app/package.json", "{}"), &all[1..]),
        ("a link for the file", symlink("app/package.json", "x"), &all[1..]),
    ] {
        assert_eq!(packages(&image(&[base, &[upper]])), left, "{what}");
    }
    let again = image(&[base, &[file(".wh.app", ""), node_package("app", "new", "3")]]);
    assert_eq!(packages(&again), ["new 3 in app/package.json"], "a deletion spares its own layer");
    let in_other_order = image(&[base, &[node_package("app", "new", "3"), file(".wh.app", "")]]);
    assert_eq!(packages(&in_other_order), ["new 3 in app/package.json"]);
}

/// Overlay file systems mark deletions in the unpacked layer.
#[test]
fn marks_of_deletions_can_be_lost() {
    let base: &[_] = &[node_package("app/x", "one", "1")];
    let hidden = file("app/.wh..wh..opq", "");
    for upper in [
        vec![file(".wh.app", ""), directory("app")],
        vec![hidden.clone(), symlink("app", "b"), directory("app")],
        vec![file("app/.wh.x", ""), file("app", ""), directory("app")],
        vec![symlink("b", "app"), file("b/.wh..wh..opq", "")],
    ] {
        assert_eq!(packages(&image(&[base, &upper])).len(), 1, "{upper:?}");
    }
    assert_eq!(packages(&image(&[base, &[directory("app"), hidden]])), [""; 0]);
    assert_eq!(packages(&image(&[base, &[file("app/.wh.x", ""), directory("app")]])), [""; 0]);
}

#[test]
fn hard_links_keep_a_deleted_file() {
    let base: &[_] = &[node_package("a", "one", "1"), hard_link("b/package.json", "a/package.json")];
    assert_eq!(packages(&image(&[base])), ["one 1 in a/package.json"], "stated once");
    assert_eq!(packages(&image(&[base, &[file(".wh.a", "")]])), ["one 1 in b/package.json"]);
}

#[test]
fn release_files_are_found_through_links() {
    let usr: &[_] = &[file("usr/lib/os-release", "ID=debian\nVERSION_ID=12\n")];
    let linked = image(&[usr, &[symlink("etc/os-release", "../usr/lib/os-release")]]);
    assert_eq!(linked.distribution.unwrap().version, "12");
    let replaced = image(&[usr, &[file("etc/os-release", "ID=debian\nVERSION_ID=13\n")]]);
    assert_eq!(replaced.distribution.unwrap().version, "13");
    let unread = image(&[&[symlink("etc/os-release", "/nix/store/os-release")]]);
    assert_eq!((unread.distribution, unread.gaps.len()), (None, 1));
    let fedora: &[_] =
        &[file("etc/rocky-release", "Rocky Linux release 9.3\n"), symlink("etc/redhat-release", "rocky-release")];
    assert_eq!(image(&[fedora]).distribution.unwrap().id, "rocky");
}

#[test]
fn databases_that_were_not_read_are_gaps() {
    let gaps = |layers: &[&[SampleEntry]]| image(layers).gaps.iter().map(|gap| gap.place.clone()).collect::<Vec<_>>();
    let both = ["var/lib/dpkg/status", "var/lib/dpkg/status.d/*"];
    assert_eq!(gaps(&[&[symlink("var/lib/dpkg", "/srv/packages")]]), both);
    assert_eq!(gaps(&[&[symlink("var/lib/dpkg", "/srv/dpkg")]]), [""; 0], "nothing is there");
    assert_eq!(gaps(&[&[symlink("var/lib/dpkg/status.d", "/srv/dpkg")]]), both[1..]);
    assert_eq!(gaps(&[&[symlink("var/lib/rpm", "../../usr/lib/sysimage/rpm")]]), [""; 0]);
    assert_eq!(gaps(&[&[file("var/lib/rpm/Packages", "not a database")]]), ["var/lib/rpm/Packages"]);
    assert_eq!(gaps(&[&[file("var/lib/rpm/Packages", "not a database")], &[file("var/.wh.lib", "")]]), [""; 0]);
    let database = file("var/lib/rpm/rpmdb.sqlite", "");
    let log = |content: &str| file("var/lib/rpm/rpmdb.sqlite-wal", content);
    assert_eq!(gaps(&[&[database.clone(), log("")]]), [""; 0]);
    assert_eq!(gaps(&[&[database, log("frames")]]), ["var/lib/rpm/rpmdb.sqlite-wal"]);
    assert_eq!(gaps(&[&[log("frames")]]), [""; 0]);
    let damaged = image(&[&[file("a/.wh.", "")]]);
    assert!(damaged.gaps[0].place.starts_with("sha256:"), "a problem of a layer");
}

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
    let owned = [link(), status("1"), file("usr/lib/sysimage/dpkg/info/a.md5sums", "00  app/package.json\n")];
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

/// What Nix, pacman and others have installed is not known, as long as a layer does not delete all of it.
#[test]
fn packages_of_other_package_managers_are_a_gap() {
    let debian = layer(&[file("etc/os-release", "ID=debian\nVERSION_ID=12\n"), dpkg_status(&[("a", "1")])]);
    let nix = || file("nix/store/abc-openssl/lib/libssl.so", "");
    let conda = layer(&[
        file("opt/conda/conda-meta/openssl-1-0.json", "{}"),
        file("opt/conda/conda-meta/zlib-1-0.json", "{}"),
        file("opt/conda/lib/python3/site-packages/x-1.dist-info/METADATA", "Name: x\nVersion: 1\n"),
    ]);
    let gaps = |above: &[(Digest, Arc<LayerInventory>)]| {
        let inventory = merge(&[&[debian.clone(), conda.clone()][..], above].concat());
        assert!(inventory.packages.iter().any(|package| package.name == "x"), "packages of languages are read");
        inventory.gaps.into_iter().map(|gap| gap.place).collect::<Vec<_>>()
    };
    assert_eq!(gaps(&[]), ["opt/conda/conda-meta"]);
    assert_eq!(gaps(&[layer(&[nix(), directory("nix/store")])]), ["nix/store", "opt/conda/conda-meta"]);
    assert_eq!(gaps(&[layer(&[file("opt/conda/conda-meta/.wh.openssl-1-0.json", "")])]), ["opt/conda/conda-meta"]);
    assert_eq!(gaps(&[layer(&[file("opt/conda/.wh.conda-meta", "")])]), [""; 0]);
    assert_eq!(gaps(&[layer(&[nix()]), layer(&[file(".wh.nix", ""), file("opt/conda/.wh.conda-meta", "")])]), [""; 0]);
}

#[test]
fn archives_without_a_name_have_the_place_of_their_file() {
    let jar = zip("org/A.class", b"");
    let war = zip("WEB-INF/lib/b.jar", &jar);
    let layers = [layer(&[file("srv/app.war", &war), file("opt/a.jar", &jar)])];
    let mut inventory = merge(&layers);
    inventory.unnamed.retain(|archive| !archive.is_optional);
    let found: Vec<_> = inventory.unnamed.iter().map(|archive| (&*archive.path, &*archive.file)).collect();
    assert_eq!(found, [("opt/a.jar", "opt/a.jar"), ("srv/app.war/WEB-INF/lib/b.jar", "srv/app.war")]);
    assert!(inventory.unnamed.iter().all(|archive| archive.layer == Some(layers[0].0)));
    assert_eq!(inventory.unnamed[0].sha1, inventory.unnamed[1].sha1, "the same bytes");
    assert!(inventory.gaps.is_empty(), "naming decides whether they are gaps: {:?}", inventory.gaps);
    let owned = [file("var/lib/dpkg/info/a.md5sums", "00  usr/share/java/a.jar\n"), dpkg_status(&[("a", "1")])];
    let owned = merge(&[layer(&[&owned[..], &[file("usr/share/java/a.jar", &jar)]].concat())]);
    assert!(owned.unnamed.is_empty(), "a file of the distribution");
}

#[test]
fn builds_of_red_hat_belong_to_the_layers_of_packages() {
    let rpm = |name: &str| format!("{name}\t1-1\t1\t1\tRed Hat\t(none)\t1\tx86_64\t0\t(none)\n");
    let manifest = |names: &[&str]| {
        file("var/lib/rpmmanifest/container-manifest-2", names.iter().map(|name| rpm(name)).collect::<String>())
    };
    let sets =
        |name: &str| file("root/buildinfo/content_manifests/x.json", format!(r#"{{"content_sets": ["{name}"]}}"#));
    let dockerfile =
        file("root/buildinfo/Dockerfile-ubi8-8.5-218", "LABEL com.redhat.component=ubi8-container architecture=x86_64");
    let base: &[_] = &[manifest(&["bash"])];
    let red_hat: &[_] = &[sets("baseos"), dockerfile, file("etc/x", "")];
    let customer: &[_] = &[manifest(&["bash", "curl"])];
    let inventory = image(&[base, red_hat, customer]);
    let builds: Vec<_> =
        inventory.packages.iter().map(|package| inventory.red_hat_builds[&package.layer.unwrap()].clone()).collect();
    assert_eq!(builds[0].content_sets, ["baseos"], "the base takes those of the layer above");
    assert_eq!(builds[0].nvr, "ubi8-container-8.5-218");
    assert_eq!(builds[1], builds[0], "the customer's layer takes those of the layer below");
    assert!(image(&[base, customer]).red_hat_builds.is_empty());
}

#[test]
fn files_that_runtimes_put_in_different_places_are_gaps() {
    let places = |upper: &[SampleEntry]| {
        let lower = [
            dpkg_status(&[("openssl", "2")]),
            symlink("opt/l", "/var/lib"),
            symlink("opt/d", "../srv/x-1.dist-info"),
            symlink("lib", "usr/lib"),
        ];
        let gaps = image(&[&lower, upper]).gaps;
        gaps.into_iter().map(|gap| gap.place).collect::<Vec<_>>()
    };
    for path in ["opt/l/dpkg/status", "opt/l/dpkg/status.d/x", "opt/d/METADATA", "lib/apk/db/installed"] {
        assert_eq!(places(&[file(path, "")]), [path], "{path}");
    }
    let status = "opt/l/dpkg/status";
    assert_eq!(places(&[symlink("opt/l/dpkg", "/srv")]), ["opt/l/dpkg"]);
    assert_eq!(places(&[symlink("opt/m", "l"), file("opt/m/dpkg/status", "")]), [status], "links of both layers");
    let declared = [directory("opt"), directory("opt/l"), directory("opt/l/dpkg")];
    assert_eq!(places(&[&declared[..], &[file(status, "")]].concat()), [""; 0], "a directory replaces the link");
    assert_eq!(places(&[&declared[..1], &[file(status, "")]].concat()), [status]);
    for path in ["lib/libx.so", "lib/status", "opt/l/x/status", "lib/x/package.json", "opt/x/METADATA"] {
        assert_eq!(places(&[file(path, "")]), [""; 0], "{path}");
    }
}

/// Runtimes that unpack a layer over the lower ones put a file below a link where the link leads: what removes the link
/// leaves it there.
#[test]
fn files_below_links_of_lower_layers_stay_where_the_links_lead() {
    let lower = [directory("real"), symlink("app", "real"), node_package("real/b", "b", "1")];
    let listed = |upper: &[&[SampleEntry]]| {
        let inventory = image(&[&[&lower[..]][..], upper].concat());
        assert_eq!(inventory.gaps, []);
        let mut listed = packages(&inventory);
        listed.retain(|package| package != "b 1 in real/b/package.json");
        listed.sort();
        listed
    };
    let one: &[_] = &[node_package("app/x", "x", "1")];
    let two = || node_package("app/x", "x", "2");
    let hidden = "x 1 in real/x/package.json";
    let both = ["x 1 in real/x/package.json", "x 2 in app/x/package.json"];
    assert_eq!(listed(&[one]), ["x 1 in app/x/package.json"], "stated once");
    assert_eq!(listed(&[one, &[file(".wh.app", "")]]), [hidden]);
    assert_eq!(listed(&[one, &[directory("app"), two()]]), both, "a directory in place of the link");
    assert_eq!(listed(&[one, &[two()]]), ["x 2 in app/x/package.json"], "replaced at both places");
    assert_eq!(listed(&[one, &[file("real/.wh.x", "")]]), ["x 1 in app/x/package.json"]);
    assert_eq!(listed(&[one, &[file(".wh.app", ""), program("real/x")]]), [""; 0]);
    assert_eq!(listed(&[one, &[file(".wh.app", ""), file("real/x/package.json", "{}")]]), [""; 0]);
    let declared: &[_] = &[directory("app"), node_package("app/x", "x", "1")];
    assert_eq!(listed(&[declared, &[file(".wh.app", "")]]), [""; 0], "the link is gone for all");
    let linked: &[_] = &[hard_link("app/c/package.json", "real/b/package.json")];
    assert_eq!(listed(&[linked, &[file(".wh.app", ""), file("real/.wh.b", "")]]), ["b 1 in real/c/package.json"]);
    let through_both: &[_] = &[symlink("real", "other"), node_package("app/x", "x", "1")];
    let gone: &[_] = &[file(".wh.app", ""), file(".wh.real", "")];
    let inventory = image(&[&[symlink("app", "real")], through_both, gone]);
    assert_eq!(inventory.gaps.len(), 1, "the order of the entries decides: {:?}", inventory.gaps);
}

#[test]
fn merging_is_bounded() {
    let deep = format!("{}/x", ["d"; 100].join("/"));
    let entries: Vec<_> = (0..2_000).map(|number| node_package(&format!("{deep}{number}"), "x", "1")).collect();
    let one = layer(&entries);
    let inventory = merge(&vec![one.clone(); 500]);
    assert!(inventory.gaps.iter().any(|gap| gap.problem.contains("too much")), "{:?}", inventory.gaps);
    assert_eq!(inventory.packages.len(), 2_000);
    assert!(merge(&vec![one; 20]).gaps.is_empty());
    // Short names below a link with a long target.
    let link = symlink("l", &vec!["d".repeat(250); 16].join("/"));
    let below: Vec<_> = (0..9_000).map(|number| node_package(&format!("l/{number}"), "x", "1")).collect();
    let inventory = image(&[&[link], &below]);
    assert!(inventory.gaps.iter().any(|gap| gap.problem.contains("below links")), "{:?}", inventory.gaps);
    let layers = [layer(&[symlink("l", "real")]), layer(&[node_package("l/x", "x", "1")])];
    let mut merged = MergedImage::new(&layers);
    merged.apply(0, &layers[0].1);
    merged.work_left = 1;
    merged.apply(1, &layers[1].1);
    assert_eq!(merged.work_left, 0, "looking up links is work");
    merged.apply(1, &layers[1].1);
    assert!(merged.gaps.iter().any(|gap| gap.problem.contains("too much work")), "{:?}", merged.gaps);
}

/// What a runtime has at a path after it has unpacked layers.
#[derive(Clone, Debug, PartialEq)]
enum SampleNode {
    Directory,
    Package(String),
    Link(String),
    Other,
}

type SampleTree = BTreeMap<String, SampleNode>;

fn remove(tree: &mut SampleTree, path: &str, with_itself: bool) {
    tree.retain(|found, _| !(found.starts_with(&format!("{path}/")) || with_itself && found == path));
}

/// Where a runtime puts an entry of the layer: links above it are followed.
fn placed(tree: &SampleTree, path: &str) -> String {
    let link_at = |above: &str| match tree.get(above) {
        Some(SampleNode::Link(target)) => Some(target.as_str()),
        _ => None,
    };
    follow_links(path, link_at).unwrap_or_else(|_| path.to_owned())
}

/// What replaces a directory replaces the marks in it.
fn forget_marks(path: &str, deleted: &mut Vec<String>, hidden: &mut Vec<String>) {
    let is_beneath = |mark: &String| mark.starts_with(&format!("{path}/"));
    deleted.retain(|mark| !is_beneath(mark));
    hidden.retain(|mark| mark != path && !is_beneath(mark));
}

/// Unpacks one layer next to the others, as an overlay file system keeps it.
fn unpack(entries: &[SampleEntry]) -> (SampleTree, Vec<String>, Vec<String>) {
    let (mut tree, mut deleted, mut hidden) = (SampleTree::new(), Vec::new(), Vec::new());
    for entry in entries {
        let (path, node) = match entry {
            SampleEntry::File(path, ..) if path.ends_with("/.wh..wh..opq") => {
                let placed = placed(&tree, path);
                if placed == *path {
                    hidden.push(parent(path).to_owned());
                }
                continue;
            }
            SampleEntry::File(path, ..) if path.contains(".wh.") => {
                let path = placed(&tree, path).replace(".wh.", "");
                forget_marks(&path, &mut deleted, &mut hidden);
                deleted.push(path);
                continue;
            }
            SampleEntry::File(path, _, content) if path.ends_with("package.json") => {
                (path, SampleNode::Package(String::from_utf8(content.clone()).unwrap()))
            }
            SampleEntry::File(path, ..) | SampleEntry::HardLink(path, _) | SampleEntry::Device(path) => {
                (path, SampleNode::Other)
            }
            SampleEntry::Symlink(path, target) => (path, SampleNode::Link(target.clone())),
            SampleEntry::Directory(path) => (path, SampleNode::Directory),
        };
        let path = &placed(&tree, path);
        match node {
            SampleNode::Directory => deleted.retain(|mark| mark != path),
            _ => forget_marks(path, &mut deleted, &mut hidden),
        }
        let keeps_content = node == SampleNode::Directory && tree.get(path) == Some(&SampleNode::Directory);
        if !keeps_content && node != SampleNode::Directory {
            remove(&mut tree, path, true);
        }
        tree.insert(path.clone(), node);
    }
    (tree, deleted, hidden)
}

/// All layers, each over those below.
fn overlay(layers: &[Vec<SampleEntry>]) -> Vec<String> {
    let mut image = SampleTree::new();
    for entries in layers {
        let (tree, deleted, hidden) = unpack(entries);
        deleted.iter().for_each(|path| remove(&mut image, path, true));
        hidden.iter().for_each(|path| remove(&mut image, path, false));
        let replacing = tree.iter().filter(|(_, node)| **node != SampleNode::Directory);
        replacing.for_each(|(path, _)| remove(&mut image, path, true));
        image.extend(tree);
    }
    let packages = image.into_iter().filter_map(|(path, node)| match node {
        SampleNode::Package(text) => Some(format!("{path} {text}")),
        _ => None,
    });
    packages.collect()
}

fn any_entry() -> impl Strategy<Value = SampleEntry> {
    let path = prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4).prop_map(|parts| parts.join("/"));
    (0..10_u8, path, 0..100_u8).prop_map(|(kind, path, version)| match kind {
        0..=3 => node_package(&path, "x", &version.to_string()),
        4 => directory(&path),
        5 => symlink(&path, "elsewhere"),
        6 => program(&path),
        7 => file(&format!("{path}/.wh..wh..opq"), ""),
        8 => file(&format!("{path}/.wh.package.json"), ""),
        _ => match path.rsplit_once('/') {
            Some((above, name)) => file(&format!("{above}/.wh.{name}"), ""),
            None => file(&format!(".wh.{path}"), ""),
        },
    })
}

proptest! {
    #[test]
    fn images_state_what_their_unpacked_files_do(
        layers in prop::collection::vec(prop::collection::vec(any_entry(), 0..8), 1..6),
    ) {
        let wanted = overlay(&layers);
        let slices: Vec<&[SampleEntry]> = layers.iter().map(Vec::as_slice).collect();
        let inventory = image(&slices);
        let mut found: Vec<_> = inventory
            .packages
            .iter()
            .map(|package| {
                let path = package.path.clone().unwrap();
                format!(r#"{path} {{"name": "x", "version": "{}"}}"#, package.version)
            })
            .collect();
        found.sort();
        for package in &wanted {
            let at = found.iter().position(|listed| listed == package);
            prop_assert!(at.is_some(), "{} is not in {:?}", package, found);
            found.remove(at.unwrap());
        }
        // Other runtimes have it where a link of a lower layer led.
        prop_assert!(found.iter().all(|package| package.contains("elsewhere/")), "{:?}", found);
    }
}

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
fn a_system_in_another_folder_is_a_gap() {
    let status = file("srv/root/var/lib/dpkg/status", "Package: zlib1g\nVersion: 1\n");
    let inventory = image(&[std::slice::from_ref(&status)]);
    let [gap] = &inventory.gaps[..] else { panic!("{inventory:?}") };
    assert!(gap.problem.contains("another system in srv/root") && inventory.packages.is_empty(), "{gap:?}");
    let own = image(&[&[status, symlink("var/lib/dpkg", "/srv/root/var/lib/dpkg")]]);
    assert_eq!(own.packages.len(), 1, "a link makes it the image's own");
}
