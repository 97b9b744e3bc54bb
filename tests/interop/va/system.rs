//! Packages of distributions.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Lab, Scan, sorted, write};

/// The fields of a package of dpkg, and of its source package if that has another name or version.
const DPKG: [&str; 5] = ["name", "version", "architecture", "source.name", "source.version"];

/// The Debian system that `tests/tools` unpacks from the distribution's packages.
#[test]
fn packages_of_debian_are_those_of_dpkg_query() {
    let lab = Lab::new();
    let tar = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/debian/rootfs.tar");
    let root = lab.new_dir("debian");
    lab.shell(&root, &format!("tar --extract --file '{}' ./var/lib/dpkg", tar.display()));
    assert_debian(&lab, &root, &lab.scan("debian", &[&tar]));
}

/// Systems as debootstrap installs them.
#[test]
fn packages_of_whole_debian_systems_are_those_of_dpkg_query() {
    if std::env::var_os("PULLGATE_LONG").is_none() {
        eprintln!("note: whole Debian systems only with --long");
        return;
    }
    let lab = Lab::new();
    for suite in ["bookworm", "trixie"] {
        let root = lab.new_dir(suite);
        lab.shell(&root, &format!("debootstrap --variant=minbase {suite} . >&2"));
        let scan = lab.scan(suite, &[&root]);
        assert_eq!(scan.0["distribution"]["codename"], suite);
        assert_debian(&lab, &root, &scan);
        // What the distribution's own packages contain of languages is not listed apart from them.
        assert_eq!(scan.0["packages"].as_array().map(Vec::len), Some(scan.rows("deb", &DPKG).len()));
    }
}

/// The packages of this machine, with all states that its history left.
#[test]
fn packages_of_this_machine_are_those_of_dpkg_query() {
    let lab = Lab::new();
    let root = lab.new_dir("machine");
    lab.shell(&root, "mkdir -p etc var/lib/dpkg; cp /etc/os-release etc/; cp /var/lib/dpkg/status var/lib/dpkg/");
    assert_debian(&lab, &root, &lab.scan("machine", &[&root]));
}

#[track_caller]
fn assert_debian(lab: &Lab, root: &Path, scan: &Scan) {
    let format =
        r"${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n";
    let listed = lab.shell(root, &format!("dpkg-query --admindir=var/lib/dpkg --show --showformat='{format}'"));
    let row = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [state, name, version, architecture, source, source_version] = fields[..] else { panic!("{line}") };
        let (source, source_version) =
            if (source, source_version) == (name, version) { ("", "") } else { (source, source_version) };
        let is_installed = !matches!(state, "config-files" | "not-installed");
        is_installed.then(|| format!("{name} {version} {architecture} {source} {source_version}"))
    };
    let expected = sorted(listed.lines().filter_map(row));
    assert!(expected.len() > 10, "{listed}");
    scan.assert_complete();
    assert_eq!(scan.rows("deb", &DPKG), expected);
}

const RPM: [&str; 5] = ["name", "version", "architecture", "module", "vendor"];

/// An AlmaLinux of a few packages, built and installed by rpm: with an epoch, a package of another version than its source,
/// one of a module stream, `~` and `^` in versions, more text than fits a page, and an imported key.
pub(super) fn almalinux(lab: &Lab) -> PathBuf {
    let specs = lab.new_dir("specs");
    let head = |name: &str, version: &str, more: &str| {
        format!(
            "Name: {name}\nVersion: {version}\nSummary: x\nLicense: MIT\nVendor: AlmaLinux\n{more}\n%description\nx\n"
        )
    };
    let install = |path: &str, content: &str| {
        format!(
            "%install\nmkdir -p %{{buildroot}}/$(dirname {path})\nprintf '%b' '{content}' > %{{buildroot}}/{path}\n"
        )
    };
    let release = r#"NAME=AlmaLinux\nID="almalinux"\nVERSION_ID="9.0"\nPRETTY_NAME="AlmaLinux 9.0"\n"#;
    let openssl = head("openssl", "3.0.1", "Epoch: 1\nRelease: 41.el9_0")
        + "%package extra\nVersion: 9.9\nEpoch: 0\nSummary: x\n%description extra\nx\n"
        + &install("usr/bin/openssl", "x")
        + "%files\n/usr/bin/openssl\n%files extra\n";
    let stream =
        "Epoch: 1\nRelease: 5.module_el9.1.0+23\nBuildArch: noarch\nModularityLabel: nodejs:18:9010020221115:rhel9";
    let package = r#"{"name":"npm","version":"8.0.0"}"#;
    let nodejs = head("nodejs", "18.7.0", stream) + &install("usr/lib/node_modules/npm/package.json", package);
    let tilde = head("odd", "1.0~rc1^git2", "Release: 1.el9\nBuildArch: noarch");
    let large = tilde.replace("odd", "large") + &"A line of a long description.\n".repeat(4000);
    for (name, spec) in [
        ("openssl", openssl),
        ("nodejs", nodejs + "%files\n/usr/lib/node_modules\n"),
        (
            "release",
            head("almalinux-release", "9.0", "Release: 3.el9")
                + &install("etc/os-release", release)
                + "%files\n/etc/os-release\n",
        ),
        ("odd", tilde + "%files\n"),
        ("large", large + "%files\n"),
    ] {
        fs::write(specs.join(format!("{name}.spec")), spec).expect("a spec file");
    }
    let root = lab.new_dir("almalinux");
    let script = "rpmbuild -bb --quiet --define \"_topdir $PWD/build\" --define \"_rpmdir $PWD/built\" *.spec >&2
export GNUPGHOME=$PWD/gnupg; mkdir -m 700 gnupg
gpg --batch --quiet --passphrase '' --quick-gen-key key@example.test rsa2048 sign never 2>/dev/null
gpg --armor --export >key.asc";
    lab.shell(&specs, script);
    let rpm = format!("rpm --root '{}' --dbpath /var/lib/rpm", root.display());
    lab.shell(
        &specs,
        &format!("{rpm} --install --nodeps --noscripts --ignorearch built/*/*.rpm; {rpm} --import key.asc"),
    );
    root
}

#[test]
fn packages_of_an_rpm_system_are_those_of_rpm() {
    let lab = Lab::new();
    let root = almalinux(&lab);
    let scan = lab.scan("rpm/sqlite", &[&root]);
    scan.assert_complete();
    assert_eq!(scan.rows("rpm", &RPM), rpm_rows(&lab, &root, "sqlite"));
    assert_eq!(scan.rows("npm", &["name"]), [""; 0], "the file of a package of the distribution");
    assert_eq!(scan.0["distribution"]["id"], "almalinux");

    // Erased, in a layer above.
    let upper = lab.new_dir("upper");
    let copy =
        format!("cp -a '{}/.' . && rpm --root $PWD --dbpath /var/lib/rpm --erase --nodeps odd large", root.display());
    lab.shell(&upper, &copy);
    let scan = lab.scan("rpm/erased", &[&root, &upper]);
    assert_eq!(scan.rows("rpm", &RPM), rpm_rows(&lab, &upper, "sqlite"));

    // Where new releases keep it, with a link from the old place.
    let moved = lab.new_dir("moved");
    let script =
        "mkdir -p usr/lib/sysimage; mv var/lib/rpm usr/lib/sysimage/; ln -s ../../usr/lib/sysimage/rpm var/lib/rpm";
    lab.shell(&moved, &format!("cp -a '{}/.' .\n{script}", upper.display()));
    let scan = lab.scan("rpm/moved", &[&moved]);
    scan.assert_complete();
    assert_eq!(scan.rows("rpm", &RPM), rpm_rows(&lab, &upper, "sqlite"));
}

/// The database of CentOS 8 and earlier. rpm still reads it, but no longer writes it: Berkeley DB's own program does.
#[test]
fn packages_in_berkeley_db_are_those_of_rpm() {
    let lab = Lab::new();
    let root = almalinux(&lab);
    for page in [512, 4096, 65536] {
        let script = format!(
            "rm -f Packages; python3 - <<'END' | db5.3_load Packages
import sqlite3, struct
print('VERSION=3\\nformat=bytevalue\\ntype=hash\\ndb_pagesize={page}\\nHEADER=END')
rows = sqlite3.connect('rpmdb.sqlite').execute('select hnum, blob from Packages').fetchall()
for number, blob in [(0, struct.pack('<I', max(rows)[0]))] + rows:
    print('', struct.pack('<I', number).hex() + '\\n', blob.hex())
print('DATA=END')
END
mkdir -p '../../../../bdb/{page}/etc' '../../../../bdb/{page}/var/lib/rpm'
cp Packages '../../../../bdb/{page}/var/lib/rpm/'; cp ../../../etc/os-release '../../../../bdb/{page}/etc/'"
        );
        lab.shell(&root.join("var/lib/rpm"), &script);
        let copy = lab.new_dir("bdb").join(page.to_string());
        let scan = lab.scan(&format!("rpm/bdb{page}"), &[&copy]);
        scan.assert_complete();
        assert_eq!(scan.rows("rpm", &RPM), rpm_rows(&lab, &copy, "bdb_ro"), "pages of {page} bytes");
    }
}

fn rpm_rows(lab: &Lab, root: &Path, backend: &str) -> Vec<String> {
    let format = r"%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{ARCH}\t%{MODULARITYLABEL}\t%{VENDOR}\n";
    let query = format!("rpm --root $PWD --dbpath /var/lib/rpm --define '_db_backend {backend}' -qa --qf '{format}'");
    let row = |line: &str| line.split('\t').map(|field| field.replace("(none)", "")).collect::<Vec<_>>().join(" ");
    // An epoch of 0 makes no difference.
    let rows = sorted(lab.shell(root, &query).lines().map(|line| row(line).replace(" 0:", " ")));
    assert!(rows.len() > 4, "{rows:?}");
    rows
}

#[test]
fn an_image_without_packages_and_distribution_is_not_clean() {
    let lab = Lab::new();
    let root = lab.new_dir("nothing");
    write(&root.join("srv/file"), "x");
    let scan = lab.scan("nothing", &[&root]);
    assert_eq!(scan.0["packages"], serde_json::json!([]));
    assert_ne!(scan.0["status"], "OK");
}
