//! Packages that suppliers rebuilt.

use super::*;

fn range(end: &str) -> Value {
    json!({"VulnerableVersions": [format!("<{end}")], "PatchedVersions": [end]})
}

#[test]
fn rebuilt_packages_are_looked_up_with_their_suppliers() {
    let rows = Rows::default()
        .source("root.io debian 12", "rootio")
        .row("debian 12", "openssl", "CVE-2026-1", json!({"FixedVersion": "3.0.15-1~deb12u1"}))
        .row("root.io debian 12", "openssl", "CVE-2026-1", range("3.0.15-1~deb12u1.root.io.2"))
        .row("root.io debian 12", "openssl", "CVE-2026-9", json!({"Severity": 3}))
        .row("seal debian", "seal-wget", "CVE-2026-2", range("1.21-1+deb11u1+sp9"))
        .row("rapidfort debian", "curl", "CVE-2026-3", range("7.88-1+rf.2"))
        .row("npm::x", "other", "CVE-2026-0", json!({"VulnerableVersions": ["<1"]}))
        .row("pip::x", "other", "CVE-2026-0", json!({"VulnerableVersions": ["<1"]}))
        .row("seal npm::x", "ejs", "CVE-2026-4", range("3.1.8-sp9"))
        .row(
            "seal pip::x",
            "seal-requests",
            "CVE-2026-5",
            json!({"VulnerableVersions": [">=2.14.2+sp1, <2.14.2+sp9"]}),
        );
    let deb = |name: &str, source: &str, version: &str| json!({"ecosystem": "deb", "name": name, "version": version, "source": {"name": source, "version": version}});
    let packages = [
        deb("libssl3", "openssl", "3.0.15-1~deb12u1.root.io.1"),
        deb("seal-wget", "seal-wget", "1.21-1+deb11u1+sp1"),
        deb("curl", "curl", "7.88-1+rf.1"),
        deb("libcurl", "curl", "7.88-1+rf.2"),
        json!({"ecosystem": "npm", "name": "ejs", "version": "3.1.8-sp1", "path": "x"}),
        json!({"ecosystem": "pypi", "name": "seal-requests", "version": "2.14.2+sp2", "path": "x"}),
    ];
    let inventory = inventory("debian", "12", &packages);
    expect(
        &rows,
        &inventory,
        &[
            "libssl3 CVE-2026-1 3.0.15-1~deb12u1.root.io.2",
            "libssl3 CVE-2026-9 Affected",
            "seal-wget CVE-2026-2 1.21-1+deb11u1+sp9",
            "curl CVE-2026-3 7.88-1+rf.2",
            "ejs CVE-2026-4 3.1.8-sp9",
            "seal-requests CVE-2026-5 2.14.2+sp9",
        ],
    );
    let found = findings(&rows, &inventory);
    let stated = found.matches.iter().find(|matched| &*matched.id == "CVE-2026-9").unwrap();
    assert_eq!((stated.severity, stated.severity_source.as_deref()), (Severity::High, Some("rootio")));
}

#[test]
fn a_rebuilt_package_of_an_unlisted_supplier_is_a_gap() {
    let rows = Rows::default()
        .row("debian 12", "bash", "CVE-2026-1", json!({}))
        .row("npm::x", "other", "CVE-2026-2", json!({}))
        .row("maven::x", "other", "CVE-2026-3", json!({}));
    let gaps = |package: Value| {
        let found = findings(&rows, &inventory("debian", "12", &[bash(), package]));
        found.gaps.into_iter().map(|gap| gap.problem).collect::<Vec<_>>()
    };
    for (ecosystem, name, version, supplier) in [
        ("deb", "openssl", "3.0.15-1.root.io.1", "Root.io"),
        ("deb", "seal-wget", "1.21-1+sp1", "Seal Security"),
        ("deb", "curl", "7.88-1+rf.1", "RapidFort"),
        ("npm", "@seal-security/ejs", "3.1.8", "Seal Security"),
        ("maven", "org.eclipse.jetty:jetty-http", "9.4.48+sp1", "Seal Security"),
    ] {
        let package = json!({"ecosystem": ecosystem, "name": name, "version": version});
        let problem = format!("{name} {version} was rebuilt by {supplier}, whose advisories no database has");
        assert_eq!(gaps(package), [problem]);
    }
    for (ecosystem, name, version) in [("npm", "ejs", "3.1.8-sp1"), ("maven", "org.jboss:x", "1.0-SP1")] {
        assert_eq!(gaps(json!({"ecosystem": ecosystem, "name": name, "version": version})), [""; 0], "{version}");
    }
}

fn bash() -> Value {
    json!({"ecosystem": "deb", "name": "bash", "version": "5.0-1"})
}

/// Root.io lists what it has not rebuilt, too. An image without its packages is another one's.
#[test]
fn one_package_of_root_io_makes_its_advisories_apply_to_all() {
    let rows = Rows::default().row("debian 12", "other", "CVE-2026-0", json!({})).row(
        "root.io debian 12",
        "bash",
        "CVE-2026-7",
        json!({"Severity": 3}),
    );
    let marked = json!({"ecosystem": "deb", "name": "openssl", "version": "3.0.15-1.root.io.1"});
    expect(&rows, &inventory("debian", "12", &[bash(), marked]), &["bash CVE-2026-7 Affected"]);
    expect(&rows, &inventory("debian", "12", &[bash()]), &[]);
}

/// What was found counts for all images of the same release, and for no other one.
#[test]
fn what_suppliers_say_about_a_package_is_looked_up_once() {
    let rows = Rows::default()
        .row("debian 12", "other", "CVE-2026-0", json!({}))
        .row("debian 13", "other", "CVE-2026-0", json!({}))
        .row("root.io debian 12", "bash", "CVE-2026-7", json!({"Severity": 3}))
        .row("root.io debian 13", "bash", "CVE-2026-8", json!({"Severity": 3}));
    let details = DetailCache::default();
    let lookups = Lookups { trivy: Some(&rows), osv: Vec::new(), details: Some(&details) };
    let marked = json!({"ecosystem": "deb", "name": "openssl", "version": "3.0.15-1.root.io.1"});
    for (release, id) in [("12", "CVE-2026-7"), ("13", "CVE-2026-8")] {
        let image = inventory("debian", release, &[bash(), marked.clone()]);
        let first = find_in(&lookups, &image, now());
        assert_eq!(listed(&first, &image), [format!("bash {id} Affected")]);
        let read = rows.reads.load(Ordering::Relaxed);
        assert_eq!(find_in(&lookups, &image, now()), first);
        assert_eq!(rows.reads.load(Ordering::Relaxed), read, "release {release}");
    }
}

#[test]
fn packages_of_repoforge_are_not_those_of_rapidfort() {
    let rows = Rows::default().row("Red Hat", "x", "CVE-2026-0", json!({}));
    for (version, is_marked) in [("1.0.3-1.el6.rf", false), ("1.2-3.rf", true), ("1.2-3.el9.rf1", true)] {
        let package = json!({"ecosystem": "rpm", "name": "x", "version": version});
        let found = findings(&rows, &inventory("rhel", "9", &[package]));
        let is_told = found.gaps.iter().any(|gap| gap.problem.contains("RapidFort"));
        assert_eq!(is_told, is_marked, "{version} {:?}", found.gaps);
    }
}
