//! Files that belong to packages of the distribution.

use super::*;
use crate::inventory::rpm::{VendorFile, of_vendors};
use crate::inventory::sample::md5_line;

/// What a package of Node.js states, and its checksums.
const NPM: &str = r#"{"name": "npm", "version": "9"}"#;
const NPM_SHA1: &str = "Q1lG8+R/7vwcfHoxAf+hkCONYU+RE=";
const NPM_SHA256: &str = "1c925bdd5b9d36c88995df511fece22d055f7da3057622982802a94ca6c1ffc4";

fn npm(directory: &str) -> SampleEntry {
    file(&format!("{directory}/package.json"), NPM)
}

/// A list of dpkg with the file of Node.js in this directory.
fn list(name: &str, directory: &str) -> SampleEntry {
    let line = md5_line(&format!("{directory}/package.json"), NPM.as_bytes());
    file(&format!("var/lib/dpkg/info/{name}.md5sums"), line)
}

#[test]
fn files_of_the_distribution_are_left_out() {
    let directory = "usr/share/nodejs/npm";
    let owned = [npm(directory), list("npm", directory), dpkg_status(&[("npm", "9")])];
    assert_eq!(packages(&contents(&owned)), ["npm 9 in var/lib/dpkg/status"]);
    let multi_arch = [npm(directory), list("npm:amd64", directory), dpkg_status(&[("npm", "9")])];
    assert_eq!(packages(&contents(&multi_arch)).len(), 1);
    let not_installed = [npm(directory), list("npm", directory), dpkg_status(&[("other", "9")])];
    assert_eq!(packages(&contents(&not_installed)).len(), 2);
    // Nobody at Debian puts files there, or gives a package of somebody else a version without a revision.
    for local in ["opt/npm", "usr/local/lib/npm", "srv/npm", "home/app/npm"] {
        let layer = [npm(local), list("npm", local), dpkg_status(&[("npm", "9")])];
        assert_eq!(packages(&contents(&layer)).len(), 2, "{local}");
    }
    for (version, maintainer, found) in [
        ("9", "Somebody <x@example.org>", 2),
        ("9-1", "Somebody <x@example.org>", 1),
        ("9", "NodeSource <x@nodesource.com>", 2),
    ] {
        let status =
            format!("Package: npm\nStatus: install ok installed\nVersion: {version}\nMaintainer: {maintainer}\n");
        let layer = [npm(directory), list("npm", directory), file("var/lib/dpkg/status", status)];
        assert_eq!(packages(&contents(&layer)).len(), found, "{version} {maintainer}");
    }
}

/// A package manager of the language replaces files in place, and that of the distribution writes its whole database.
#[test]
fn only_files_that_are_as_they_were_installed_are_the_distributions() {
    let path = "usr/lib/npm/package.json";
    let apk = |checksum: &str| {
        file("lib/apk/db/installed", format!("P:npm\nV:9\nF:usr/lib/npm\nR:package.json\n{checksum}\n\n"))
    };
    let dpkg = |line: String| [file("var/lib/dpkg/info/npm.md5sums", line), dpkg_status(&[("npm", "9")])];
    let rpm = |digest: &'static str| {
        let (vendor, directory, name) = ("Rocky", "/usr/lib/npm/", "package.json");
        file("var/lib/rpm/Packages.db", of_vendors(&[VendorFile { vendor, directory, name, digest, target: "" }]))
    };
    let own = format!("Z:{NPM_SHA1}");
    for (what, database, is_left_out) in [
        ("apk", vec![apk(&own)], true),
        ("apk, another file", vec![apk("Z:Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0=")], false),
        ("apk, no checksum", vec![apk("a:0:0:644")], false),
        ("apk, an unknown checksum", vec![apk("Z:Q9x=")], false),
        ("dpkg", dpkg(md5_line(path, NPM.as_bytes())).to_vec(), true),
        ("dpkg, another file", dpkg(md5_line(path, b"{}")).to_vec(), false),
        ("dpkg, no checksum", dpkg(format!("0  {path}\n")).to_vec(), false),
        ("RPM", vec![rpm(NPM_SHA256)], true),
        ("RPM, another file", vec![rpm("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")], false),
        ("RPM, no checksum", vec![rpm("")], false),
    ] {
        for entries in
            [[&database[..], &[npm("usr/lib/npm")]].concat(), [&[npm("usr/lib/npm")][..], &database].concat()]
        {
            let found = packages(&contents(&entries));
            assert_eq!(found.contains(&format!("npm 9 in {path}")), !is_left_out, "{what}: {found:?}");
        }
    }
    // The last entry of a path counts.
    let replaced = [npm("usr/lib/npm"), apk(&own), node_package("usr/lib/npm", "npm", "1")];
    assert_eq!(packages(&contents(&replaced)).len(), 2);
    let restored = [node_package("usr/lib/npm", "npm", "1"), apk(&own), npm("usr/lib/npm")];
    assert_eq!(packages(&contents(&restored)).len(), 1);
}

#[test]
fn names_of_one_file_and_links_belong_to_packages() {
    let owned = |path: &str| list("npm", path);
    let status = || dpkg_status(&[("npm", "9")]);
    let linked =
        [file("usr/store", NPM), hard_link("usr/lib/npm/package.json", "usr/store"), owned("usr/lib/npm"), status()];
    assert_eq!(packages(&contents(&linked)).len(), 1, "a file that is read under the name of a link");
    let other =
        [file("usr/store", "{\"name\": \"a\", \"version\": \"1\"}"), linked[1].clone(), owned("usr/lib/npm"), status()];
    assert_eq!(packages(&contents(&other)).len(), 2);
    // A link to a file that is not read under its name is a gap, unless the distribution has it.
    let link = symlink("usr/share/java/x.jar", "abc");
    let apk =
        |checksum: &str| file("lib/apk/db/installed", format!("P:x\nV:9\nF:usr/share/java\nR:x.jar\nZ:{checksum}\n\n"));
    let rpm = |target: &'static str| {
        let (vendor, directory, name) = ("Rocky", "/usr/share/java/", "x.jar");
        file("var/lib/rpm/Packages.db", of_vendors(&[VendorFile { vendor, directory, name, digest: "", target }]))
    };
    for (what, database, is_owned) in [
        ("apk", apk("Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0="), true),
        ("apk, another target", apk(NPM_SHA1), false),
        ("RPM", rpm("abc"), true),
        ("RPM, another target", rpm("abd"), false),
    ] {
        let found = packages(&contents(&[link.clone(), database]));
        assert_eq!(found.iter().any(|line| line.contains("not read under this name")), !is_owned, "{what}: {found:?}");
    }
}

/// A vendor of another distribution is somebody else: EPEL's packages are Fedora's, and PowerShell is Microsoft's.
#[test]
fn files_of_rpm_are_left_out_if_the_vendor_of_the_distribution_built_them() {
    let of = |vendor, directory, name| VendorFile { vendor, directory, name, digest: NPM_SHA256, target: "" };
    let left = |path: &'static str, packages: &[VendorFile]| {
        let database = file("var/lib/rpm/Packages.db", of_vendors(packages));
        let found = self::packages(&contents(&[npm(path), database]));
        found.iter().filter(|line| line.starts_with("npm")).count()
    };
    let node = |vendor| of(vendor, "/usr/lib/npm/", "package.json");
    let release = |vendor| of(vendor, "/usr/lib/", "os-release");
    assert_eq!(left("usr/lib/npm", &[node("Rocky"), release("Rocky")]), 0);
    assert_eq!(left("usr/lib/npm", &[node("Rocky")]), 0, "the only vendor");
    for vendor in ["Fedora Project", "Microsoft Corporation", "Somebody"] {
        assert_eq!(left("usr/lib/npm", &[node(vendor), release("Rocky")]), 1, "{vendor}");
    }
    assert_eq!(left("usr/lib/npm", &[node("Rocky"), of("Fedora Project", "/usr/", "x")]), 1, "unknown which");
    assert_eq!(left("usr/lib/npm", &[node("SUSE LLC"), release("openSUSE")]), 0, "one family");
    assert_eq!(left("opt/npm", &[of("Rocky", "/opt/npm/", "package.json"), release("Rocky")]), 1);
    let apk = format!("P:npm\nV:9\nF:opt/npm\nR:package.json\nZ:{NPM_SHA1}\n\n");
    assert_eq!(packages(&contents(&[npm("opt/npm"), file("lib/apk/db/installed", apk)])).len(), 2);
}
