mod findings_of_files;
mod links;
mod places;

use proptest::prelude::*;

use super::*;
use crate::hardening::HardeningCheck;
use crate::inventory::InstalledPackage;
use crate::inventory::sample::{
    SampleEntry, device, directory, dpkg_status, file, hard_link, layer, md5_line, node_package, program, symlink, zip,
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
    let linked = [symlink("nix", "/data"), file("data/store/abc-openssl/lib/libssl.so", "")];
    assert_eq!(gaps(&[layer(&linked)]), ["nix", "opt/conda/conda-meta"]);
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
    let list = file("var/lib/dpkg/info/a.md5sums", md5_line("usr/share/java/a.jar", &jar));
    let owned = [list, dpkg_status(&[("a", "1")])];
    let owned = merge(&[layer(&[&owned[..], &[file("usr/share/java/a.jar", &jar)]].concat())]);
    assert!(owned.unnamed.is_empty(), "a file of the distribution");
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
