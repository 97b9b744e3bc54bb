//! Programs that carry their packages in a file of their own: jlink's images, phars, single-file programs of .NET.

use super::archives::deflate;
use super::executables::elf;
use super::*;

/// An image of Java's runtime with one resource in each of these modules, in the byte order of the machine that made
/// it.
fn image(modules: &[&str], big_endian: bool) -> Vec<u8> {
    let number = |value: u32| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let (mut strings, mut locations, mut offsets) = (vec![0], Vec::new(), Vec::new());
    for module in modules {
        offsets.extend(number(u32::try_from(locations.len()).unwrap()));
        let [high, low] = u16::try_from(strings.len()).unwrap().to_be_bytes();
        // An attribute of another kind, the module in two bytes, and the end.
        locations.extend([5 << 3, 7, (1 << 3) | 1, high, low, 0]);
        strings.extend(module.bytes().chain([0]));
    }
    let count = u32::try_from(modules.len()).unwrap();
    let sizes = [count, count, u32::try_from(locations.len()).unwrap(), u32::try_from(strings.len()).unwrap()];
    let header = [0xcafe_dada, 1 << 16, 0].into_iter().chain(sizes).flat_map(number);
    header.chain(vec![0; 4 * modules.len()]).chain(offsets).chain(locations).chain(strings).chain(*b"classes").collect()
}

/// Java runs what jlink put into its runtime, and nothing says which version it is.
#[test]
fn modules_of_jlink_are_problems_unless_they_are_the_jdks() {
    let vendors = ["javafx.base", "org.graalvm.nativeimage", "com.azul.tooling", "com.azul.crs.client"];
    let jdk = [&["", "java.base", "jdk.net", "modules", "packages"], &vendors[..]].concat();
    for big_endian in [false, true] {
        assert_eq!(names(&read("opt/java/lib/modules", &image(&jdk, big_endian))), [""; 0]);
        let own = [&jdk[..], &["com.acme.app", "com.azul.app", "jdkx", "org.slf4j"]].concat();
        let found = read("opt/java/lib/modules", &image(&own, big_endian));
        let expected =
            "modules without a version in a Java runtime built by jlink: com.acme.app, com.azul.app, jdkx, +1";
        assert_eq!(found.problems, [expected]);
    }
    let whole = image(&["java.base", "com.acme.app"], false);
    assert!(language_file("opt/java/lib/modules", b"text").is_none());
    assert!(language_file("opt/java/lib/other", &whole).is_none(), "Java loads it under one name only");
    let index = whole.len() - b"classes".len();
    for length in 4..index {
        assert_eq!(names(&read("lib/modules", &whole[..length])), ["!"], "{length}");
    }
    let mut large = whole;
    large[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(names(&read("lib/modules", &large)), ["!"]);
}

const LIST: &str = r#"{"packages": [{"name": "acme/x", "version": "v1.2.3"}]}"#;

/// A program of PHP with these files: name, content, and whether it is compressed.
fn phar(stub: &str, end: &str, files: &[(&str, &str, bool)]) -> Vec<u8> {
    let number = |value: usize| u32::try_from(value).unwrap().to_le_bytes();
    let text = |text: &str| [&number(text.len())[..], text.as_bytes()].concat();
    let (mut entries, mut contents) = (Vec::new(), Vec::new());
    for (name, content, is_compressed) in files {
        let bytes = if *is_compressed { deflate(content.as_bytes()) } else { content.as_bytes().to_vec() };
        entries.extend(text(name));
        for value in [content.len(), 0, bytes.len(), 0, if *is_compressed { 0x1000 } else { 0 }, 0] {
            entries.extend(number(value));
        }
        contents.extend(bytes);
    }
    let manifest = [&number(files.len())[..], b"\x11\x00\0\0\0\0", &text("app.phar"), &text(""), &entries].concat();
    [format!("{stub}__HALT_COMPILER();{end}").as_bytes(), &number(manifest.len()), &manifest, &contents].concat()
}

#[test]
fn phars_state_the_packages_of_composer() {
    let (list, other) = (("vendor/composer/installed.json", LIST, false), ("src/a.php", "<?php a();", true));
    let compressed = (list.0, list.1, true);
    let script = "#!/usr/bin/env php\n<?php\n";
    for (path, stub, end, files, expected) in [
        ("usr/bin/composer", script, " ?>\r\n", &[other, list][..], "acme/x v1.2.3"),
        ("usr/bin/composer", script, "", &[list], "acme/x v1.2.3"),
        ("opt/app.phar", "<?php ", "\n?>\n", &[other, compressed, other], "acme/x v1.2.3"),
        ("opt/app.php", "<?php ", " ?>", &[compressed], "acme/x v1.2.3"),
        ("opt/app.PHAR", "<?php ", " ?>\n", &[other, ("vendor/x/y.php", "", false)], "!"),
    ] {
        let file = phar(stub, end, files);
        assert_eq!(names(&read(path, &file)), [expected], "{path} {end:?}");
    }
    // PHP's own tool has no libraries.
    assert_eq!(names(&read("usr/local/bin/phar.phar", &phar(script, " ?>\r\n", &[other]))), [""; 0]);
    // A long program before the archive, as PHPUnit's.
    let long = format!("{script}{}", "// x\n".repeat(40_000));
    let found = read("usr/bin/phpunit", &phar(&long, " ?>\n", &[list]));
    assert_eq!(found.packages[0].path.as_deref(), Some("usr/bin/phpunit/vendor/composer/installed.json"));
}

#[test]
fn other_scripts_are_not_phars_and_damaged_phars_are_problems() {
    for (path, content, expected) in [
        ("usr/bin/a", "#!/usr/bin/env php\n<?php echo 1;", &[][..]),
        ("usr/bin/a", "#!/bin/sh\necho __HALT_COMPILER();", &[]),
        ("opt/a.phar", "PK\u{3}\u{4}", &["!", "!"]),
        ("opt/a.phar", "<?php echo 1;", &["!"]),
    ] {
        assert_eq!(names(&read(path, content.as_bytes())), expected, "{content}");
    }
    assert!(language_file("opt/a.php", b"<?php echo 1;").is_none());
    let whole = phar("<?php ", " ?>\n", &[("vendor/composer/installed.json", LIST, false)]);
    let start = whole.windows(3).position(|part| part == b"?>\n").unwrap() + 3;
    for length in start..whole.len() {
        assert_eq!(names(&read("a.phar", &whole[..length])), ["!"], "{length}");
    }
}

/// A program of .NET in a single file, with this list of packages.
fn single_file(version: u32, list: &str) -> Vec<u8> {
    let at = |header: u64| elf(&[("data", [&vec![0; 100][..], &header.to_le_bytes(), MARKER].concat())]);
    let program = at(0);
    let list_at = program.len() as u64;
    let header_at = list_at + list.len() as u64;
    let id = b"AbCdEfGhIjKl";
    let place = [list_at.to_le_bytes(), (list.len() as u64).to_le_bytes(), [0; 8], [0; 8], [0; 8]].concat();
    let versions = [version.to_le_bytes(), [0; 4], 1_u32.to_le_bytes()].concat();
    [&at(header_at)[..], list.as_bytes(), &versions, &[12], id, &place].concat()
}

const MARKER: &[u8] = b"\x8b\x12\x02\xb9\x6a\x61\x20\x38\x72\x7b\x93\x02\x14\xd7\xa0\x32\
    \x13\xf5\xb9\xe6\xef\xae\x33\x18\xee\x3b\x2d\xce\x24\xb3\x6a\xae";

/// .NET runs the libraries that are packed into a program.
#[test]
fn programs_of_dotnet_in_a_single_file_state_their_packages() {
    let list = r#"{
        "runtimeTarget": {"name": "t"}, "targets": {"t": {"Acme.Lib/1.2.3": {"runtime": {"lib/net8.0/Acme.Lib.dll": {}}}}},
        "libraries": {"Acme.Lib/1.2.3": {"type": "package"}}
    }"#;
    for (version, list, expected) in [
        (2, list, &["Acme.Lib 1.2.3"][..]),
        (6, list, &["Acme.Lib 1.2.3"]),
        (1, list, &["!"]),
        (7, list, &["!"]),
        (6, "", &["!"]),
    ] {
        let file = single_file(version, list);
        assert_eq!(names(&read("app/server", &file)), expected, "version {version}");
        assert_eq!(names(&read("app/server", &file[..file.len() - 30])), ["!"], "its header ends early");
    }
    // Each program of .NET has the mark, also where its libraries are beside it.
    let without = elf(&[("data", [&vec![0; 2_000_000][..], MARKER].concat())]);
    assert_eq!(names(&read("app/server", &without)), [""; 0]);
    // Wherever it is among the pieces that are searched. The data starts at 256.
    for start in [(1 << 20) - 10, (1 << 20) + 4, (1 << 20) + 31, (1 << 20) + 40, (1 << 20) + 60] {
        let mut far = vec![0; start - 8 - 256];
        far.extend([&[9, 0, 0, 0, 0, 0, 0, 0][..], MARKER, &[0; 100]].concat());
        assert_eq!(names(&read("app/server", &elf(&[("data", far)]))), ["!"], "{start}");
    }
}
