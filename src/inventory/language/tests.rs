use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::inventory::spool::ReadingTime;

mod archives;
mod bundles;
mod executables;
mod real;

const LIMITS: PackageLimits = PackageLimits { packages: 100_000, bytes: 8 << 20 };

/// Reads a file that must be recognised.
fn read(path: &str, content: &[u8]) -> LanguagePackages {
    let first_bytes = &content[..content.len().min(4096)];
    let file = language_file(path, first_bytes).unwrap_or_else(|| panic!("{path} is not recognised"));
    read_as(file, path, content, &std::env::temp_dir())
}

/// Reads a file of this kind. Temporary files are in `folder`.
fn read_as(file: LanguageFile, path: &str, content: &[u8], folder: &Path) -> LanguagePackages {
    read_within(file, path, content, content.len() as u64, LIMITS, folder)
}

/// Reads a file of this kind that has `size` bytes, as is claimed.
fn read_within(
    file: LanguageFile,
    path: &str,
    content: &[u8],
    size: u64,
    limits: PackageLimits,
    folder: &Path,
) -> LanguagePackages {
    let time = ReadingTime::new(Duration::from_secs(600));
    let by_content = LanguageFile::by_content(&content[..content.len().min(4096)]);
    file.read(path, by_content, &mut Cursor::new(content), size, limits, &Spool::new(folder, &time, u64::MAX))
}

/// The packages as `NAME VERSION`, `?` for each archive that must be named, and `!` for each problem.
fn names(found: &LanguagePackages) -> Vec<String> {
    let packages = found.packages.iter().map(|package| format!("{} {}", package.name, package.version));
    let unnamed = found.unnamed.iter().filter(|archive| !archive.is_optional).map(|_| "?".to_owned());
    packages.chain(unnamed).chain(found.problems.iter().map(|_| "!".to_owned())).collect()
}

#[test]
fn text_files_are_recognised_by_their_path() {
    for (path, expected) in [
        ("package.json", Some(LanguageFile::Npm)),
        ("app/node_modules/@babel/core/package.json", Some(LanguageFile::Npm)),
        ("app/package-lock.json", None),
        ("usr/lib/python3/dist-packages/six-1.16.0.egg-info", Some(LanguageFile::Python)),
        ("usr/lib/python3/dist-packages/six-1.16.0.egg-info/PKG-INFO", Some(LanguageFile::Python)),
        ("usr/lib/python3/dist-packages/six-1.16.0.egg-info/METADATA", Some(LanguageFile::Python)),
        ("usr/lib/python3/dist-packages/six-1.16.0.egg-info/top_level.txt", None),
        ("site-packages/six-1.16.0-py3.9.egg/EGG-INFO/PKG-INFO", Some(LanguageFile::Python)),
        ("site-packages/six-1.16.0.dist-info/METADATA", Some(LanguageFile::Python)),
        ("site-packages/six-1.16.0.dist-info/RECORD", None),
        ("site-packages/six-1.16.0.dist-info/PKG-INFO", Some(LanguageFile::Python)),
        ("site-packages/six-1.16.0.DIST-INFO/METADATA", Some(LanguageFile::Python)),
        ("site-packages/six-1.16.0-py3.9.egg/egg-info/PKG-INFO", Some(LanguageFile::Python)),
        ("site-packages/six-1.16.0.dist-info", Some(LanguageFile::Python)),
        ("src/PKG-INFO", None),
        ("src/METADATA", None),
        ("usr/lib/ruby/gems/3.1.0/specifications/rake-13.0.6.gemspec", Some(LanguageFile::Gem)),
        ("usr/lib/ruby/gems/3.1.0/specifications/default/json-2.6.1.gemspec", Some(LanguageFile::Gem)),
        ("usr/lib/ruby/gems/3.1.0/gems/rake-13.0.6/rake.gemspec", None),
        ("usr/local/bundle/ruby/3.2.0/bundler/gems/rails-abc1234/rails.gemspec", Some(LanguageFile::Gem)),
        ("usr/local/bundle/ruby/3.2.0/bundler/gems/rails-abc1234/a/b/b.gemspec", Some(LanguageFile::Gem)),
        ("usr/local/bundle/ruby/3.2.0/bundler/gems/rails-abc1234/test/a/b/b.gemspec", None),
        ("app/vendor/composer/installed.json", Some(LanguageFile::Composer)),
        ("app/composer.lock", None),
        ("app/App.deps.json", Some(LanguageFile::DotNet)),
        ("app/App.runtimeconfig.json", None),
    ] {
        assert_eq!(language_file(path, b""), expected, "{path}");
    }
}

#[test]
fn npm_packages_have_a_valid_name_and_a_version() {
    let found = read(
        "app/node_modules/@babel/core/package.json",
        br#"{"name": "@babel/core", "version": "7.24.0", "license": "MIT", "dependencies": {"a": "^1"}}"#,
    );
    assert_eq!(names(&found), ["@babel/core 7.24.0"]);
    let package = &found.packages[0];
    assert_eq!(package.ecosystem, Ecosystem::Npm);
    assert_eq!(package.licenses, ["MIT"]);
    assert_eq!(package.path.as_deref(), Some("app/node_modules/@babel/core/package.json"));

    for (json, expected) in [
        (r#"{"name": "a", "version": "1", "license": {"type": "ISC"}}"#, vec!["a 1"]),
        (r#"{"name": "a", "version": "1", "license": [{"type": "MIT"}, {"type": "ISC"}]}"#, vec!["a 1"]),
        // The last field counts, as in JavaScript.
        (r#"{"name": "a", "version": "1", "version": "2", "name": "b"}"#, vec!["b 2"]),
        // What follows the first value is ignored.
        (r#"{"name": "a", "version": "1"} }"#, vec!["a 1"]),
        ("\u{feff}{\"name\": \"a\", \"version\": \"1\"}", vec!["a 1"]),
        // Text that is not valid Unicode elsewhere in the file does not hide the package.
        (r#"{"\ud800": "\udfff", "name": "a", "version": "1", "keywords": ["\ud800"]}"#, vec!["a 1"]),
        (r#"{"name": "a"}"#, vec![]),
        (r#"{"version": "1"}"#, vec![]),
        (r#"{"name": "a b", "version": "1"}"#, vec![]),
        (r#"{"name": "@a", "version": "1"}"#, vec![]),
        (r#"{"name": "@a/b/c", "version": "1"}"#, vec![]),
        (r#"{"name": 1, "version": "1"}"#, vec![]),
        (r#"["name"]"#, vec![]),
        ("{", vec![]),
        ("", vec![]),
    ] {
        assert_eq!(names(&read("package.json", json.as_bytes())), expected, "{json}");
    }
    // npm and `require` know an installed package without a valid name by its directory.
    for (path, json, expected) in [
        ("app/node_modules/a/package.json", r#"{"version": "1"}"#, vec!["a 1"]),
        ("node_modules/@s/a/package.json", r#"{"version": "1"}"#, vec!["@s/a 1"]),
        ("node_modules/a/package.json", r#"{"name": "x/", "version": "1"}"#, vec!["a 1"]),
        ("node_modules/b/node_modules/a/package.json", r#"{"name": "", "version": "1"}"#, vec!["a 1"]),
        ("node_modules/a/package.json", r#"{"name": "b", "version": "1"}"#, vec!["b 1"]),
        ("node_modules/a/package.json", r#"{"type": "module"}"#, vec![]),
        ("node_modules/a/esm/package.json", r#"{"version": "1"}"#, vec![]),
        ("node_modules/package.json", r#"{"version": "1"}"#, vec![]),
        ("node_modules/.cache/package.json", r#"{"version": "1"}"#, vec![]),
        ("my_node_modules/a/package.json", r#"{"version": "1"}"#, vec![]),
        ("app/a/package.json", r#"{"version": "1"}"#, vec![]),
    ] {
        assert_eq!(names(&read(path, json.as_bytes())), expected, "{path} {json}");
    }
    let invalid_utf8 = b"{\"name\": \"a\", \"author\": \"\xff\xfe\", \"version\": \"1\"}";
    assert_eq!(names(&read("package.json", invalid_utf8)), ["a 1"]);
}

#[test]
fn json_of_any_depth_is_read_without_recursion() {
    let depth = 1_000_000;
    let nested = format!(
        r#"{{"x": {}{}, "name": "a", "license": {}{}, "version": "1"}}"#,
        "[".repeat(depth),
        "]".repeat(depth),
        "[".repeat(depth),
        "]".repeat(depth)
    );
    assert_eq!(names(&read("package.json", nested.as_bytes())), ["a 1"]);
}

#[test]
fn python_distributions_are_read_from_their_metadata() {
    let metadata = "Metadata-Version: 2.1\r\nName: PyYAML\r\nVersion: 6.0.1\r\nLicense: MIT\r\n\
                    Classifier: License :: OSI Approved :: MIT License\r\nClassifier: License :: OSI Approved\r\n\
                    Summary: first\r\n  Name: second\r\n\r\nName: body\r\n";
    let found = read("site-packages/PyYAML-6.0.1.dist-info/METADATA", metadata.as_bytes());
    assert_eq!(names(&found), ["PyYAML 6.0.1"]);
    assert_eq!(found.packages[0].ecosystem, Ecosystem::PyPi);
    assert_eq!(found.packages[0].licenses, ["MIT License"]);

    for (path, text, expected) in [
        // Fields are found whatever their case and order.
        ("a.egg-info", "version: 1\nNAME: a\n", vec!["a 1"]),
        // What is missing is in the name of the directory.
        ("foo_bar-1.2.dist-info/METADATA", "Summary: x\n", vec!["foo_bar 1.2"]),
        ("foo_bar-1.2-py3.9.egg-info/PKG-INFO", "Name: foo-bar\n", vec!["foo-bar 1.2"]),
        ("foo-1.2.dist-info/METADATA", "a line that is not a field\nName: b\nVersion: 2\n", vec!["foo 1.2"]),
        // Lines end where Python ends them, and a field may go on in an empty line.
        ("a.egg-info", "Metadata-Version: 2.1\rName: a\rVersion: 1\nName: b\nVersion: 2\n", vec!["a 1"]),
        ("a.egg-info", "Name: a\n \nVersion: 1\n", vec!["a 1"]),
        ("a.egg-info", "Version: 1\nna me: b\nName: b\n", vec![]),
        // Python also finds the distribution that the directory states.
        ("a-1.0.dist-info/METADATA", "Name: b\nVersion: 1.0\n", vec!["a 1.0", "b 1.0"]),
        ("a-1.0.dist-info/METADATA", "Name: a\nVersion: 2.0\n", vec!["a 1.0", "a 2.0"]),
        ("A_b-1.0.dist-info/METADATA", "Name: a.B\nVersion: 1.0.0\n", vec!["a.B 1.0.0"]),
        ("a-b-1.0.dist-info/METADATA", "Name: a-b\nVersion: 1.0\n", vec!["a-b 1.0"]),
        ("a-1.0.dist-info/METADATA", "Name: a\0\nVersion: 1.0\n", vec!["a 1.0", "a\0 1.0", "!"]),
        ("a.egg-info", "Name: my project\nVersion: 1\n", vec!["my-project 1"]),
        // Without both there is no distribution.
        ("setuptools.egg-info/PKG-INFO", "Name: a\n", vec![]),
        ("site-packages/x.egg-info", "", vec![]),
    ] {
        assert_eq!(names(&read(path, text.as_bytes())), expected, "{path} {text}");
    }
    let licensed = read("a.egg-info", b"Name: a\nVersion: 1\nLicense: BSD\nLicense-Expression: MIT OR ISC\n");
    assert_eq!(licensed.packages[0].licenses, ["MIT OR ISC"]);
}

#[test]
fn gems_are_read_from_their_specifications() {
    let specification = "# -*- encoding: utf-8 -*-\n# stub: rake 13.0.6 ruby lib\n\n\
        Gem::Specification.new do |s|\n  s.name = \"rake\".freeze\n  s.version = \"13.0.6\"\n\n\
        s.required_rubygems_version = Gem::Requirement.new(\">= 1.3.2\".freeze) if s.respond_to? :x\n\
        s.licenses = [\"MIT\".freeze, 'Ruby']\nend\n";
    let path = "usr/lib/ruby/gems/3.1.0/specifications/rake-13.0.6.gemspec";
    let found = read(path, specification.as_bytes());
    assert_eq!(names(&found), ["rake 13.0.6"]);
    assert_eq!(found.packages[0].licenses, ["MIT", "Ruby"]);

    let old = "Gem::Specification.new do |spec|\nspec.name = 'a'\nspec.version = Gem::Version.new(\"1.2\")\nend";
    assert_eq!(names(&read("x/specifications/a-1.2.gemspec", old.as_bytes())), ["a 1.2"]);
    // What is not a literal is in the name of the file.
    let computed = "Gem::Specification.new do |s|\ns.name = NAME\ns.version = VERSION\nend";
    let path = "x/specifications/net-http-2fa-0.4.1-x86_64-linux.gemspec";
    assert_eq!(names(&read(path, computed.as_bytes())), ["net-http-2fa 0.4.1"]);
    // RubyGems lists gems by the name of the file and the stub; which assignment counts is up to Ruby.
    let two =
        "# stub: c 3.0 ruby lib\nGem::Specification.new do |s|\ns.name = 'b'\ns.version = '2.0'\ns.name = 'a'\nend";
    assert_eq!(names(&read("x/specifications/a-1.2.gemspec", two.as_bytes())), ["a 1.2", "c 3.0", "b 2.0"]);
    let new = |arguments: &str| format!("Gem::Specification.new{arguments} do |s|\nend");
    for (text, expected) in [
        (new("(\"vuln\", \"1.0\")"), vec!["ok 3.0", "vuln 1.0"]),
        (new(" 'vuln', '1.0'"), vec!["ok 3.0", "vuln 1.0"]),
        (new("(%q{vuln}, VERSION)"), vec!["ok 3.0", "vuln 3.0"]),
        (new("(NAME, '1.0')"), vec!["ok 3.0"]),
        (new("()"), vec!["ok 3.0"]),
        ("Gem::Specification.new('vuln', '1.0')".to_owned(), vec!["ok 3.0", "vuln 1.0"]),
        (new("('vuln', '1.0')").replace("end", "s.name = 'ok'\ns.version = '3.0'"), vec!["ok 3.0"]),
        (new("").replace("end", "s.name = %q{vuln}\ns.version = %q<1.0>"), vec!["ok 3.0", "vuln 1.0"]),
        (new("").replace("end", "s.name = %(vuln)\ns.version = X % \"1.0\""), vec!["ok 3.0", "vuln 1.0"]),
        (new("").replace("end", "s.name = \"\"\ns.version = \"1.0"), vec!["ok 3.0"]),
    ] {
        assert_eq!(names(&read("x/specifications/ok-3.0.gemspec", text.as_bytes())), expected, "{text}");
    }
    // RubyGems would run this: what it states is unknown.
    assert_eq!(names(&read("x/specifications/a.gemspec", computed.as_bytes())), ["!"]);
}

#[test]
fn components_of_bitnami_are_those_of_their_package_urls() {
    let path = "opt/bitnami/redis/.spdx-redis.spdx";
    let document = |purls: &[&str]| {
        let package = |purl: &&str| {
            serde_json::json!({"name": "x", "licenseDeclared": "BSD-3-Clause", "externalRefs": [
                {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl},
                {"referenceCategory": "SECURITY", "referenceType": "cpe23Type", "referenceLocator": "cpe:2.3:*:x"}]})
        };
        serde_json::json!({"packages": purls.iter().map(package).collect::<Vec<_>>()}).to_string()
    };
    let text = document(&[
        "pkg:bitnami/redis@7.2.4-0?arch=amd64&distro=debian-12",
        "pkg:npm/x@1",
        "pkg:bitnami/a@1",
        "pkg:deb/debian/x@1",
    ]);
    let found = read(path, text.as_bytes());
    assert_eq!(names(&found), ["redis 7.2.4-0", "x 1", "a 1"]);
    assert_eq!((found.packages[1].ecosystem, &*found.packages[1].licenses[0]), (Ecosystem::Npm, "BSD-3-Clause"));
    assert_eq!((found.packages[0].ecosystem, &*found.packages[0].licenses[0]), (Ecosystem::Bitnami, "BSD-3-Clause"));
    assert_eq!(names(&read(path, document(&["pkg:bitnami/redis", "pkg:bitnami/a@1"]).as_bytes())), ["a 1", "!"]);
    assert_eq!(names(&read(path, b"SPDXVersion: SPDX-2.3")), ["!"]);
    for other in ["opt/other/.spdx-redis.spdx", "opt/bitnami/redis.spdx", "srv/opt/bitnami/redis/.spdx-redis.spdx"] {
        assert_eq!(language_file(other, b"{"), Some(LanguageFile::Sbom), "{other}");
    }
}

#[test]
fn lists_of_packages_name_those_of_programming_languages() {
    let reference = |purl: &str| serde_json::json!({"referenceType": "purl", "referenceLocator": purl});
    let spdx = serde_json::json!({"spdxVersion": "SPDX-2.3", "packages": [
        {"name": "ms", "versionInfo": "2.1.3", "licenseDeclared": "MIT", "externalRefs": [reference("pkg:npm/ms@2.1.3")]},
        {"name": "x", "licenseDeclared": "NOASSERTION",
         "externalRefs": [reference("pkg:maven/org.apache.commons/commons-text@1.9?type=jar")]},
        {"name": "github.com/Masterminds/semver", "versionInfo": "v1.5.0",
         "externalRefs": [reference("pkg:golang/github.com/masterminds/semver")]},
        {"name": "bash", "externalRefs": [reference("pkg:deb/debian/bash@5.2"), {"referenceType": "cpe23Type"}]},
        {"name": "nothing"}, {"name": "no version", "externalRefs": [reference("pkg:npm/no-version")]}]});
    let found = read("app/app.spdx.json", spdx.to_string().as_bytes());
    let expected = ["ms 2.1.3", "org.apache.commons:commons-text 1.9", "github.com/Masterminds/semver v1.5.0"];
    assert_eq!(names(&found), expected);
    assert_eq!((found.packages[0].ecosystem, &*found.packages[0].licenses), (Ecosystem::Npm, &["MIT".to_owned()][..]));
    assert_eq!(found.packages[1].licenses, [""; 0]);
    let cyclonedx = serde_json::json!({"bomFormat": "CycloneDX", "metadata": {"component": {"purl": "pkg:npm/root@1"}},
        "components": [
            {"type": "library", "group": "@babel", "name": "core", "purl": "pkg:npm/%40babel/core@7.24.0",
             "licenses": [{"license": {"id": "MIT"}}, {"expression": "ISC OR MIT"}, {"license": {"name": "Own"}}]},
            {"type": "application", "name": "app", "components": [
                {"name": "Django", "purl": "pkg:pypi/django@4.2"}, {"name": "Newtonsoft.Json", "version": "13.0.1",
                 "purl": "pkg:nuget/Newtonsoft.Json"}]},
            {"name": "musl", "purl": "pkg:apk/alpine/musl@1.2"}, {"purl": null}]});
    let found = read("srv/bom.cdx.json", cyclonedx.to_string().as_bytes());
    assert_eq!(names(&found), ["root 1", "@babel/core 7.24.0", "Django 4.2", "Newtonsoft.Json 13.0.1"]);
    assert_eq!(found.packages[1].licenses, ["MIT", "ISC OR MIT", "Own"]);
    let tags = "SPDXVersion: SPDX-2.3\nPackageName: ms\nPackageLicenseDeclared: NONE\n\
                ExternalRef: PACKAGE-MANAGER purl pkg:npm/ms@2.1.3\n\
                ExternalRef: SECURITY cpe23Type cpe:2.3:*\nPackageName: github.com/Masterminds/semver\n\
                PackageVersion: v1.5.0\nPackageLicenseDeclared: MIT\n\
                ExternalRef: PACKAGE_MANAGER purl pkg:golang/github.com/masterminds/semver\n";
    let found = read("opt/app.spdx", tags.as_bytes());
    assert_eq!(names(&found), ["ms 2.1.3", "github.com/Masterminds/semver v1.5.0"]);
    assert_eq!(found.packages[0].licenses, [""; 0]);
    assert_eq!(found.packages[1].licenses, ["MIT"]);
    let followed = format!("{cyclonedx}\n# signed");
    assert_eq!(read("srv/bom.cdx", followed.as_bytes()).packages.len(), 4, "what follows is ignored");
    for text in ["", "MIT", "{", "[]", "{\"packages\": []}", "{\"packages\": {}}", "SPDXVersion: SPDX-2.3"] {
        assert_eq!(names(&read("a.cdx", text.as_bytes())), [""; 0], "{text}");
    }
    for text in [
        r#"{"bomFormat": "CycloneDX", "components": 5}"#,
        r#"{"components": [{"purl": "pkg:npm/@1"}]}"#,
        r#"{"SPDXID": "x", "packages": ["#,
    ] {
        assert_eq!(names(&read("a.cdx", text.as_bytes())), ["!"], "{text}");
    }
    let archive = [&[b' '; 5000][..], b"PK\x03\x04\0"].concat();
    assert_eq!(names(&read("a.cdx.json", &archive)), ["!"], "an archive behind text");
    assert_eq!(language_file("a.cdx", b"VjCD0100\x04\0"), None, "a drawing");
    assert_eq!(language_file("a.spdx", b"#!/usr/bin/env python3\n"), Some(LanguageFile::Archive));
    assert_eq!(kind_of_link("a.cdx"), None, "a list that is elsewhere");
}

#[test]
fn packages_of_composer_are_those_of_its_list() {
    let path = "app/vendor/composer/installed.json";
    let two = br#"{"packages": [
        {"name": "symfony/http-kernel", "version": "v5.4.1", "version_normalized": "5.4.1.0", "license": ["MIT"]},
        {"name": "a/choice", "version": "1.0", "license": ["GPL-2.0-or-later", "MIT AND ISC", "(A or B)"]},
        {"name": "a/text", "version": "dev-main", "license": "LGPL-3.0", "require": {"php": ">=7"}},
        {"name": "a/dev", "version": "2"}], "dev": true, "dev-package-names": ["a/dev"]}"#;
    let found = read(path, two);
    assert_eq!(names(&found), ["symfony/http-kernel v5.4.1", "a/choice 1.0", "a/text dev-main", "a/dev 2"]);
    let licenses: Vec<_> = found.packages.iter().map(|package| package.licenses.join("|")).collect();
    assert_eq!(licenses, ["MIT", "GPL-2.0-or-later or (MIT AND ISC) or (A or B)", "LGPL-3.0", ""]);
    assert_eq!(found.packages[0].ecosystem, Ecosystem::Composer);
    for (json, in_composer, elsewhere) in [
        (r#" [{"name": "a/b", "version": "1"}]"#, vec!["a/b 1"], vec!["a/b 1"]),
        (r#"[{"name": "a/b", "version": "1"}, {"name": "a/c"}]"#, vec!["a/b 1", "!"], vec!["a/b 1"]),
        (r#"{"packages": [{"name": 1, "version": "1"}, 5]}"#, vec!["!"], vec![]),
        (r#"{"packages": {}}"#, vec!["!"], vec![]),
        (r#"{"other": []}"#, vec!["!"], vec![]),
        ("[{}", vec!["!"], vec![]),
        ("[]", vec![], vec![]),
    ] {
        assert_eq!(names(&read(path, json.as_bytes())), in_composer, "{json}");
        assert_eq!(names(&read("opt/installed.json", json.as_bytes())), elsewhere, "{json}");
    }
    let many = format!("[{}0]", "0,".repeat(1_000_000));
    assert_eq!(names(&read(path, many.as_bytes())), ["!"]);
}

#[test]
fn packages_of_dotnet_are_those_that_run() {
    let json = br#"{"runtimeTarget": {"name": ".NETCoreApp,Version=v8.0/linux-x64", "signature": ""},
        "targets": {".NETCoreApp,Version=v8.0": {}, ".NETCoreApp,Version=v8.0/linux-x64": {
            "App/1.0.0": {"dependencies": {"Newtonsoft.Json": "9.0.1"}, "runtime": {"App.dll": {}}},
            "Newtonsoft.Json/9.0.1": {"runtime": {"lib/netstandard1.0/Newtonsoft.Json.dll": {}}},
            "Only.To.Compile/2.0.0": {"dependencies": {}, "compile": {"x.dll": {}}},
            "Native/1.2.3": {"native": {"libx.so": {}}}, "Both/1.0": {"runtimeTargets": {"x": {}}},
            "runtimepack.Microsoft.NETCore.App.Runtime.linux-x64/8.0.1": {"runtime": {"x.dll": {}}}}},
        "libraries": {"App/1.0.0": {"type": "project"}, "Newtonsoft.Json/9.0.1": {"type": "Package", "sha512": "x"},
            "Only.To.Compile/2.0.0": {"type": "package"}, "Native/1.2.3": {"type": "package"},
            "Both/1.0": {"type": "package"}, "Not.Listed/3.0": {"type": "package"}, "x/1": {"type": "reference"},
            "runtimepack.Microsoft.NETCore.App.Runtime.linux-x64/8.0.1": {"type": "runtimepack"}}}"#;
    let found = read("app/App.deps.json", json);
    let runtime = "Microsoft.NETCore.App.Runtime.linux-x64 8.0.1";
    let expected = ["App 1.0.0", "Newtonsoft.Json 9.0.1", "Native 1.2.3", "Both 1.0", "Not.Listed 3.0", runtime];
    assert_eq!(names(&found), expected);
    assert_eq!(found.packages[0].ecosystem, Ecosystem::NuGet);
    for (json, expected) in [
        (r#"{"libraries": {"a/1": {"type": "package"}}}"#, vec!["a 1"]),
        (r#"{"libraries": {"a/1": {"type": "package"}}, "targets": {"x": {"a/1": {}}}}"#, vec!["a 1"]),
        // Used, if one of two entries says so.
        (
            r#"{"libraries": {"a/1": {"type": "package"}}, "runtimeTarget": {"name": "x"},
                "targets": {"x": {"a/1": {"native": {}}, "a/1": {}}}}"#,
            vec!["a 1"],
        ),
        (r#"{"libraries": {"a": {"type": "package"}, "b/1": {"type": "package"}}}"#, vec!["b 1", "!"]),
        (r#"{"other": 1}"#, vec![]),
        (r#"{"libraries": {"b/1": {"type": "package"}}} more"#, vec!["b 1"]),
        (r#"/* a comment */ {"libraries": {}}"#, vec!["!"]),
        ("", vec!["!"]),
    ] {
        assert_eq!(names(&read("App.deps.json", json.as_bytes())), expected, "{json}");
    }
}

#[test]
fn files_and_fields_that_are_too_long_are_problems() {
    let file = LanguageFile::Npm;
    let found = read_within(file, "package.json", b"", file.max_bytes() + 1, LIMITS, Path::new("/"));
    assert_eq!(names(&found), ["!"]);
    let found = read_within(file, "package.json", b"{}", 3, LIMITS, Path::new("/"));
    assert_eq!(names(&found), ["!"], "the content is shorter than stated");
    let long = format!(r#"{{"name": "{}", "version": "1"}}"#, "a".repeat(5000));
    assert_eq!(names(&read("package.json", long.as_bytes())), ["!"]);
}

#[test]
fn a_file_states_packages_within_limits() {
    let metadata = b"Name: a\nVersion: 1\n";
    for limits in [PackageLimits { packages: 0, ..LIMITS }, PackageLimits { bytes: 3, ..LIMITS }] {
        let file = LanguageFile::Python;
        let found = read_within(file, "a.egg-info", metadata, metadata.len() as u64, limits, Path::new("/"));
        assert_eq!(names(&found), ["!"]);
    }
}
