//! Builds, files in different places, and limits.

use super::*;

#[test]
fn builds_of_red_hat_belong_to_the_layers_of_packages() {
    let rpm = |name: &str| format!("{name}\t1-1\t1\t1\tRed Hat\t(none)\t1\tx86_64\t0\t(none)\n");
    let manifest = |names: &[&str]| {
        file("var/lib/rpmmanifest/container-manifest-2", names.iter().map(|name| rpm(name)).collect::<String>())
    };
    let sets =
        |name: &str| file("root/buildinfo/content_manifests/x.json", format!(r#"{{"content_sets": ["{name}"]}}"#));
    let dockerfile = file(
        "root/buildinfo/Dockerfile-ubi8-8.5-218",
        "FROM x\nLABEL com.redhat.component=ubi8-container architecture=x86_64",
    );
    let base: &[_] = &[manifest(&["bash"])];
    let red_hat: &[_] = &[sets("baseos"), dockerfile, file("etc/x", "")];
    let customer: &[_] = &[manifest(&["bash", "curl"])];
    let inventory = image(&[base, red_hat, customer]);
    let builds: Vec<_> =
        inventory.packages.iter().map(|package| inventory.red_hat_builds[&package.layer.unwrap()].clone()).collect();
    assert_eq!(builds[0].content_sets, ["baseos"], "the base takes those of the layer above");
    assert_eq!(builds[0].images, ["ubi8-container-8.5-218-x86_64"]);
    assert_eq!(builds[1], builds[0], "the customer's layer takes those of the layer below");
    assert!(image(&[base, customer]).red_hat_builds.is_empty());
}

#[test]
fn a_layer_that_was_made_of_several_has_the_repositories_of_all() {
    let rpm = "bash\t1-1\t1\t1\tRed Hat\t(none)\t1\tx86_64\t0\t(none)\n";
    let sets = |path: &str, names: &str| file(path, format!(r#"{{"content_sets": [{names}]}}"#));
    let label = |name: &str| format!("FROM x\nLABEL com.redhat.component={name}-container architecture=x86_64");
    let squashed = image(&[&[
        file("var/lib/rpmmanifest/container-manifest-2", rpm),
        sets("root/buildinfo/content_manifests/ubi9.json", r#""baseos", "appstream""#),
        sets("root/buildinfo/content_manifests/z-product.json", r#""product", "baseos""#),
        sets("usr/share/buildinfo/content-sets.json", r#""other""#),
        file("root/buildinfo/Dockerfile-ubi9-9.4-1", label("ubi9")),
        file("root/buildinfo/Dockerfile-product-2-3", label("product")),
    ]]);
    let build = squashed.red_hat_builds.values().next().unwrap();
    assert_eq!(build.content_sets, ["appstream", "baseos", "other", "product"]);
    assert_eq!(build.images, ["product-container-2-3-x86_64", "ubi9-container-9.4-1-x86_64"]);
}

/// Package managers then read another database than the scanner.
#[test]
fn settings_that_move_a_database_are_gaps() {
    let places = |layers: &[&[SampleEntry]]| {
        let gaps = image(layers).gaps.into_iter();
        gaps.map(|gap| gap.place).collect::<Vec<_>>()
    };
    let dpkg = |text: &str| file("etc/dpkg/dpkg.cfg.d/x", text);
    let rpm = file("root/.rpmmacros", "%_dbpath /opt/db\n");
    let moved = [dpkg("admindir=/opt/db\n"), rpm];
    assert_eq!(places(&[&moved]), ["etc/dpkg/dpkg.cfg.d/x", "root/.rpmmacros"]);
    assert_eq!(places(&[&moved, &[dpkg("no-debsig\n"), file("root/.wh..rpmmacros", "")]]), [""; 0]);
    let usual = file("usr/lib/rpm/macros.d/macros.base", "%_dbpath %{_var}/lib/rpm\n");
    assert_eq!(places(&[&[dpkg("path-exclude=/usr/share/doc/*\n"), usual]]), [""; 0]);
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
    assert!(inventory.gaps.iter().any(|gap| gap.problem.contains("scanner's limits")), "{:?}", inventory.gaps);
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
