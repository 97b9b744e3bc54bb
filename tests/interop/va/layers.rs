//! Layers that delete, replace and link what layers below contain, written by umoci from a file system that changes.

use std::path::Path;

use super::languages::pip_list;
use super::{Lab, distinct, sorted, write};

/// After each change, the image contains what its unpacked file system contains.
#[test]
fn an_image_of_layers_contains_what_its_file_system_contains() {
    let lab = Lab::new();
    let debian = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/debian/rootfs.tar");
    let debian = debian.display();
    let work = lab.new_dir("umoci");
    lab.shell(
        &work,
        "umoci init --layout layout; umoci new --image layout:image; umoci unpack --image layout:image bundle 2>&1",
    );
    let changes = [
        // The distribution, an application and its packages.
        format!(
            "tar --extract --file '{debian}' ./etc ./var/lib/dpkg ./usr/lib/os-release
pip install --quiet --no-deps --target srv/app django==3.2.0 requests==2.19.0 jinja2==2.10 2>&1
for name in one two three; do mkdir -p srv/node/$name; echo '{{\"name\":\"'$name'\",\"version\":\"1.0.0\"}}' >srv/node/$name/package.json; done
ln srv/node/one/package.json srv/package.json"
        ),
        // One name of a file with two, a directory, a package of three, and a package of the distribution.
        "rm -r srv/node/one srv/app/django srv/app/Django-*
dpkg --root=$PWD --force-all --log=/dev/null --purge tzdata >/dev/null 2>&1"
            .to_owned(),
        // Another version, a directory that became a link, a link that became a directory.
        "rm -r srv/app/requests*; pip install --quiet --no-deps --target srv/app requests==2.20.0 2>&1
mv srv/node/two srv/moved; ln -s ../moved srv/node/two; ln -s node srv/later"
            .to_owned(),
        "rm srv/later; mkdir -p srv/later/four; echo '{\"name\":\"four\",\"version\":\"2.0.0\"}' >srv/later/four/package.json
rm -r srv/node; mkdir -p srv/node/three; echo '{\"name\":\"three\",\"version\":\"3.0.0\"}' >srv/node/three/package.json"
            .to_owned(),
    ];
    let root = work.join("bundle/rootfs");
    for (index, change) in changes.iter().enumerate() {
        lab.shell(&root, change);
        let repository = format!("layers/{index}");
        let target = format!("docker://{}/{repository}:1", lab.registry.address());
        lab.shell(
            &work,
            &format!(
                "umoci repack --refresh-bundle --image layout:image bundle 2>&1
skopeo --insecure-policy copy --quiet --dest-tls-verify=false oci:layout:image {target}"
            ),
        );
        let scan = lab.scan_pushed(&repository);
        scan.assert_complete();
        assert_eq!(distinct(scan.rows("pypi", &["name", "version"])), pip_list(&lab, &root), "after change {index}");
        assert_eq!(distinct(scan.rows("npm", &["name", "version"])), distinct(node_packages(&lab, &root)), "{index}");
        let listed =
            lab.shell(&root, "dpkg-query --admindir=var/lib/dpkg --show --showformat='${Package} ${Version}\\n'");
        assert_eq!(scan.rows("deb", &["name", "version"]), sorted(listed.lines().map(str::to_owned)), "{index}");
    }
}

/// Reads all files `package.json`, whatever links lead to them.
fn node_packages(lab: &Lab, root: &Path) -> Vec<String> {
    let script = "find srv -name package.json -type f -exec cat '{}' +";
    let files = lab.shell(root, script);
    let package = |line: &str| {
        let package: serde_json::Value = serde_json::from_str(line).expect("a package.json");
        format!("{} {}", package["name"].as_str().expect("a name"), package["version"].as_str().expect("a version"))
    };
    files.lines().map(package).collect()
}

/// skopeo writes zstd:chunked. It is read as a tar; podman reads it by its table of contents, but only if the manifest has an
/// annotation. Then the table is compared with the tar.
#[test]
fn layers_for_lazy_pulling_are_read_if_their_table_is_the_one_that_the_manifest_names() {
    let lab = Lab::new();
    let root = lab.new_dir("root");
    write(&root.join("app/package.json"), r#"{"name": "lazy", "version": "1.0.0"}"#);
    write(&root.join("app/large"), &"large ".repeat(1_000_000));
    lab.scan("plain", &[&root]).assert_complete();
    let (work, registry) = (lab.new_dir("lazy"), lab.registry.address());
    let copy = "skopeo --insecure-policy copy --quiet --src-tls-verify=false --dest-tls-verify=false";
    let manifest = lab.shell(
        &work,
        &format!(
            "{copy} --dest-compress --dest-compress-format zstd:chunked docker://{registry}/plain:1 dir:image
cat image/manifest.json; {copy} dir:image docker://{registry}/named:1
sed --in-place 's/\\(manifest-checksum\":\"sha256:\\)......../\\100000000/' image/manifest.json
{copy} dir:image docker://{registry}/other:1
sed --in-place 's/,\"annotations\":{{[^}}]*}}//g' image/manifest.json; {copy} dir:image docker://{registry}/unnamed:1"
        ),
    );
    assert!(manifest.contains("zstd-chunked"), "{manifest}");
    let [named, other, unnamed] = ["named", "other", "unnamed"].map(|image| lab.scan_pushed(image));
    named.assert_complete();
    unnamed.assert_complete();
    for scan in [&named, &other, &unnamed] {
        assert_eq!(scan.rows("npm", &["name", "version"]), ["lazy 1.0.0"]);
    }
    let gaps = other.0["gaps"].to_string();
    assert!(gaps.contains("the manifest states the digest of another one"), "{gaps}");
}

/// umoci writes no opaque directories, but BuildKit and podman do.
#[test]
fn opaque_directories_hide_what_is_below_them() {
    let lab = Lab::new();
    let package = |root: &Path, path: &str, name: &str| {
        write(&root.join(path).join("package.json"), &format!(r#"{{"name": "{name}", "version": "1.0.0"}}"#));
    };
    let (lower, upper) = (lab.new_dir("lower"), lab.new_dir("upper"));
    package(&lower, "app", "hidden");
    package(&lower, "app/inner", "inner");
    package(&lower, "app-2", "beside");
    package(&upper, "app/other", "other");
    write(&upper.join("app/.wh..wh..opq"), "");
    let scan = lab.scan("opaque", &[&lower, &upper]);
    scan.assert_complete();
    assert_eq!(scan.rows("npm", &["name"]), ["beside", "other"]);
}
