//! Java archives and eggs, written here entry by entry, with every kind of damage.

mod limits;
pub(super) mod readers;

use std::io::Write;

use super::*;

/// An entry to write, and what its headers claim.
#[derive(Clone)]
struct Item {
    name: String,
    content: Vec<u8>,
    method: u16,
    flags: u16,
    /// The name in the local header.
    local_name: String,
    /// The size that both headers state.
    stated_size: u64,
    /// Whether the directory states sizes and offset in the extra field.
    large: bool,
}

fn item(name: &str, content: impl Into<Vec<u8>>) -> Item {
    let content = content.into();
    let stated_size = content.len() as u64;
    let (name, local_name) = (name.to_owned(), name.to_owned());
    Item { name, content, method: 8, flags: 0, local_name, stated_size, large: false }
}

fn stored(name: &str, content: impl Into<Vec<u8>>) -> Item {
    Item { method: 0, ..item(name, content) }
}

fn maven(group: &str, name: &str, version: &str) -> Item {
    let text = format!("#Generated\r\ngroupId={group}\r\nartifactId={name}\r\nversion={version}\r\n");
    item(&format!("META-INF/maven/{group}/{name}/pom.properties"), text)
}

pub(super) fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

fn le(value: u64, length: usize) -> Vec<u8> {
    value.to_le_bytes()[..length].to_vec()
}

/// Writes an archive.
fn zip(items: &[Item]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for item in items {
        let offset = file.len() as u64;
        let data = if item.method == 8 { deflate(&item.content) } else { item.content.clone() };
        let mut checksum = flate2::Crc::new();
        checksum.update(&item.content);
        let has_descriptor = item.flags & 8 != 0;
        let common = |crc: u64, compressed: u64, size: u64, name: &str, extra: usize| {
            [
                le(20, 2),
                le(item.flags.into(), 2),
                le(item.method.into(), 2),
                le(0, 4),
                le(crc, 4),
                le(compressed, 4),
                le(size, 4),
                le(name.len() as u64, 2),
                le(extra as u64, 2),
            ]
            .concat()
        };
        let (crc, compressed) = (u64::from(checksum.sum()), data.len() as u64);
        file.extend(b"PK\x03\x04");
        file.extend(if has_descriptor {
            common(0, 0, 0, &item.local_name, 0)
        } else {
            common(crc, compressed, item.stated_size, &item.local_name, 0)
        });
        file.extend(item.local_name.bytes().chain(data));
        if has_descriptor {
            file.extend([b"PK\x07\x08".to_vec(), le(crc, 4), le(compressed, 4), le(item.stated_size, 4)].concat());
        }
        let extra = [le(1, 2), le(24, 2), le(item.stated_size, 8), le(compressed, 8), le(offset, 8)].concat();
        directory.extend([b"PK\x01\x02".to_vec(), le(20, 2)].concat());
        let max = u64::from(u32::MAX);
        directory.extend(if item.large {
            [common(crc, max, max, &item.name, extra.len()), vec![0; 10], le(max, 4)].concat()
        } else {
            [common(crc, compressed, item.stated_size, &item.name, 0), vec![0; 10], le(offset, 4)].concat()
        });
        directory.extend(item.name.bytes());
        directory.extend(if item.large { extra } else { Vec::new() });
    }
    let (start, size) = (file.len() as u64, directory.len() as u64);
    file.extend(&directory);
    let large = items.iter().any(|item| item.large);
    add_end(&mut file, items.len() as u64, size, start, large);
    file
}

/// Adds the end record.
fn add_end(file: &mut Vec<u8>, count: u64, size: u64, start: u64, large: bool) {
    if large {
        let at = file.len() as u64;
        file.extend(
            [b"PK\x06\x06".to_vec(), le(44, 8), le(45, 2), le(45, 2), le(0, 8), le(count, 8), le(count, 8)].concat(),
        );
        file.extend([le(size, 8), le(start, 8)].concat());
        file.extend([b"PK\x06\x07".to_vec(), le(0, 4), le(at, 8), le(1, 4)].concat());
        file.extend(
            [b"PK\x05\x06".to_vec(), le(0, 4), le(0xffff, 2), le(0xffff, 2), le(u64::MAX, 8), le(0, 2)].concat(),
        );
    } else {
        file.extend([b"PK\x05\x06".to_vec(), le(0, 4), le(count, 2), le(count, 2)].concat());
        file.extend([le(size, 4), le(start, 4), le(0, 2)].concat());
    }
}

fn paths(found: &LanguagePackages) -> Vec<&str> {
    found.packages.iter().filter_map(|package| package.path.as_deref()).collect()
}

#[test]
fn artifacts_are_read_from_archives_in_archives() {
    let library = zip(&[maven("org.a", "core", "1.2"), item("A.class", "x")]);
    let web = zip(&[item("WEB-INF/lib/core-1.2.jar", library.clone()), stored("WEB-INF/lib/copy.jar", library)]);
    let enterprise = zip(&[item("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n"), stored("./web.war", web)]);
    let found = read("opt/app.ear", &enterprise);
    assert_eq!(names(&found), ["org.a:core 1.2", "org.a:core 1.2"]);
    assert_eq!(
        paths(&found),
        ["opt/app.ear/web.war/WEB-INF/lib/core-1.2.jar", "opt/app.ear/web.war/WEB-INF/lib/copy.jar"]
    );
    assert_eq!(found.packages[0].ecosystem, Ecosystem::Maven);
}

#[test]
fn artifacts_without_maven_files_are_read_from_the_manifest_or_the_file_name() {
    let manifest = "Manifest-Version: 1.0\r\nBundle-SymbolicName: com.fasterxml.jackson.core.jackson-data\r\n \
        bind;singleton:=true\r\nBundle-Name: jackson-databind\r\nBundle-Version: 2.1\r\n\r\nName: x\r\nBundle-Version: 9\r\n";
    let own = [item("META-INF/MANIFEST.MF", manifest)];
    assert_eq!(names(&read("a-1.0.jar", &zip(&own))), ["com.fasterxml.jackson.core:jackson-databind 2.1"]);
    let free =
        "Implementation-Vendor: The Foundation\nImplementation-Title: Commons Text\nImplementation-Version: 1.9\n";
    let free = zip(&[item("META-INF/MANIFEST.MF", free), item("A.class", "")]);
    assert_eq!(names(&read("commons-text-1.9.jar", &free)), ["commons-text 1.9", "?"]);
    assert_eq!(names(&read("text.jar", &free)), ["?"]);
    let with_pom = zip(&[item("META-INF/maven/org.apache.commons/commons-text/pom.xml", "<project/>"), own[0].clone()]);
    assert_eq!(names(&read("commons-text-1.9.jar", &with_pom)), ["org.apache.commons:commons-text 1.9"]);
    // What was merged in does not hide the archive's own artifact, and its own pom.properties counts before the
    // manifest.
    let merged = zip(&[own[0].clone(), maven("org.b", "b", "2")]);
    assert_eq!(names(&read("x.jar", &merged)), ["org.b:b 2", "com.fasterxml.jackson.core:jackson-databind 2.1"]);
    assert_eq!(names(&read("b-2.jar", &merged)), ["org.b:b 2"]);
}

/// Without its own database of checksums, only what Maven writes says which artifact an archive of classes is.
#[test]
fn archives_of_classes_that_do_not_state_their_artifact_are_problems() {
    let class = item("org/evil/A.class", "");
    let manifest = |text: &str| item("META-INF/MANIFEST.MF", text);
    let guess = manifest("Implementation-Vendor-Id: g\nImplementation-Title: a\nImplementation-Version: 1\n");
    let unfilled = "Implementation-Vendor-Id: g\nImplementation-Title: a\nImplementation-Version: ${version}\n";
    let pom = |text: &str| item("META-INF/maven/org.evil/evil/pom.xml", text);
    let stated = "<project><parent><version>3</version></parent></project>";
    let half = |text: &str| item("META-INF/maven/org.evil/evil/pom.properties", text);
    let runtime =
        "Specification-Title: Java Platform API Specification\nImplementation-Title: Java Runtime Environment\n";
    for (what, name, items, expected) in [
        ("nothing", "evil.jar", vec![class.clone()], &["?"][..]),
        ("a file name", "evil-1.0.jar", vec![class.clone()], &["evil 1.0", "?"]),
        ("a manifest", "evil.jar", vec![class.clone(), guess.clone()], &["g:a 1", "?"]),
        ("pom.properties", "evil.jar", vec![class.clone(), maven("g", "b", "2")], &["g:b 2"]),
        ("pom.xml", "evil.jar", vec![class.clone(), pom(stated)], &["org.evil:evil 3"]),
        ("pom.xml and a file name", "evil-2.jar", vec![class.clone(), pom("<project/>")], &["org.evil:evil 2"]),
        ("pom.xml without a version", "evil.jar", vec![class.clone(), pom("<project/>")], &["!"]),
        ("pom.properties without a version", "evil.jar", vec![class.clone(), half("artifactId=evil\n")], &["!"]),
        (
            "pom.properties with a version only",
            "evil.jar",
            vec![class.clone(), half("version=4")],
            &["org.evil:evil 4"],
        ),
        ("both", "x.jar", vec![class.clone(), pom(stated), maven("org.evil", "evil", "4")], &["org.evil:evil 4"]),
        ("no version", "x.jar", vec![class.clone(), maven("org.evil", "evil", "${revision}")], &["!"]),
        (
            "a file name",
            "evil-1.jar",
            vec![class.clone(), maven("org.evil", "evil", "${revision}")],
            &["org.evil:evil 1"],
        ),
        ("pom.xml", "x.jar", vec![class.clone(), maven("org.evil", "evil", "@v@"), pom(stated)], &["org.evil:evil 3"]),
        ("a manifest without a version", "evil.jar", vec![class.clone(), manifest(unfilled)], &["?"]),
        ("an archive in it", "x.war", vec![item("lib/evil.jar", zip(std::slice::from_ref(&class)))], &["?"]),
        ("the Java runtime", "jrt-fs.jar", vec![class.clone(), manifest(runtime)], &[]),
        ("sources", "evil-1.0-sources.jar", vec![item("org/evil/A.java", "")], &[]),
        ("no code", "evil-1.0.jar", vec![item("module-info.class", ""), item("a.properties", "")], &[]),
        ("an application", "app.war", vec![item("WEB-INF/classes/org/app/A.class", ""), item("index.jsp", "")], &[]),
    ] {
        assert_eq!(names(&read(name, &zip(&items))), expected, "{what}");
    }
}

#[test]
fn the_same_entry_twice_states_both_artifacts() {
    let twice = zip(&[maven("a", "a", "1.0"), maven("a", "a", "2.0"), maven("a", "a", "1"), maven("a", "", "3")]);
    assert_eq!(names(&read("x.jar", &twice)), ["a:a 1.0", "a:a 2.0"]);
    let library = |version| zip(&[maven("b", "b", version)]);
    let twice = zip(&[item("lib/b.jar", library("1.1")), item("lib/b.jar", library("1.2"))]);
    assert_eq!(names(&read("x.jar", &twice)), ["b:b 1.1", "b:b 1.2"]);
    // One of them is named by its checksum, which says nothing about the other.
    let unnamed = zip(&[item("org/A.class", "x")]);
    let found = read("x.jar", &zip(&[item("lib/b.jar", library("1")), item("lib/./b.jar", unnamed)]));
    assert_eq!(names(&found), ["b:b 1", "?"]);
    let unnamed = found.unnamed.iter().find(|archive| !archive.is_optional).unwrap();
    assert_ne!(found.packages[0].path.as_deref(), Some(&*unnamed.path));
}

/// What the builds of Spring Boot and Quarkus add is no library of which something could be missing.
#[test]
fn archives_generated_by_frameworks_are_not_gaps() {
    let (loader, class) = ("org/springframework/boot/loader/launch/JarLauncher.class", "com/acme/App.class");
    let application = item("BOOT-INF/classes/a/App.class", "x");
    for (name, items, expected) in [
        ("app.jar", vec![item(loader, "x"), application.clone()], &[""; 0][..]),
        ("app.jar", vec![item(loader, "x"), application, item(class, "x")], &["?"]),
        ("spring-boot-loader.jar", vec![item(loader, "x")], &["?"]),
        ("work/quarkus/generated-bytecode.jar", vec![item(class, "x")], &[]),
        ("work/quarkus/transformed-bytecode.jar", vec![item(class, "x")], &[]),
        ("work/other/generated-bytecode.jar", vec![item(class, "x")], &["?"]),
        ("work/quarkus/other.jar", vec![item(class, "x")], &["?"]),
    ] {
        assert_eq!(names(&read(name, &zip(&items))), expected, "{name} {}", items.len());
    }
}

/// JMOD files and the archives of a JDK 8 state no artifact.
#[test]
fn archives_of_javas_runtime_without_other_classes_are_not_gaps() {
    let class = |name: &str| item(name, "x");
    let jmod =
        |item: Item| names(&read("opt/java/jmods/java.base.jmod", &[b"JM\x01\0".to_vec(), zip(&[item])].concat()));
    assert_eq!(jmod(class("classes/java/lang/Object.class")), [""; 0]);
    assert_eq!(jmod(class("org/evil/A.class")), ["?"]);
    assert_eq!(jmod(item("lib/a.jar", zip(&[maven("g", "a", "1")]))), ["g:a 1"]);
    for (name, known) in [
        ("lib/charsets.jar", "sun/nio/cs/ext/Big5.class"),
        ("lib/ext/cldrdata.jar", "sun/text/resources/cldr/FormatData.class"),
        ("lib/ct.sym", "META-INF/sym/rt.jar/java/lang/Object.class"),
        ("lib/ext/dnsns.jar", "sun/net/spi/nameservice/dns/DNSNameService.class"),
        ("lib/dt.jar", "javax/swing/JButtonBeanInfo.class"),
        ("lib/ext/jaccess.jar", "com/sun/java/accessibility/util/AWTEventMonitor.class"),
        ("lib/jconsole.jar", "sun/tools/jconsole/JConsole.class"),
        ("lib/ext/localedata.jar", "sun/text/resources/de/FormatData_de.class"),
        ("lib/ext/nashorn.jar", "jdk/nashorn/tools/Shell.class"),
        ("lib/sa-jdi.jar", "sun/jvm/hotspot/HSDB.class"),
        ("lib/tools.jar", "com/sun/tools/javac/Main.class"),
        ("lib/ext/zipfs.jar", "com/sun/nio/zipfs/ZipFileSystem.class"),
    ] {
        let only = zip(&[class(known)]);
        for folder in ["opt/java/jre/", ""] {
            assert_eq!(names(&read(&format!("{folder}{name}"), &only)), [""; 0], "{folder}{name}");
        }
        let more = zip(&[class(known), class("com/sun/jersey/A.class")]);
        assert_eq!(names(&read(&format!("jre/{name}"), &more)), ["?"], "{name} with another class");
        let elsewhere = format!("app/{}", split_path(name).1);
        assert_eq!(names(&read(&elsewhere, &only)), ["?"], "{elsewhere}");
        assert_eq!(names(&read("jre/lib/rt.jar", &only)), ["?"], "{name} under another name");
    }
}

/// What an archive contains does not say what it is: it is kept by its checksum, unless it and its file name agree.
#[test]
fn archives_that_do_not_prove_their_artifact_are_kept_by_their_checksum() {
    let (class, inner) = (item("org/A.class", "x"), maven("org.inner", "inner", "4"));
    let xml = item("META-INF/maven/org.inner/inner/pom.xml", "<project><version>4</version></project>");
    let manifest = item("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n");
    for (what, name, items, expected) in [
        ("an artifact in it", "all-2.jar", vec![class.clone(), inner.clone()], 1),
        ("a project in it", "all.jar", vec![class.clone(), xml.clone()], 1),
        ("no classes", "scripts.jar", vec![manifest.clone(), item("a.clj", "(ns a)")], 1),
        ("an application", "app.war", vec![item("WEB-INF/classes/A.class", "x")], 1),
        ("a manifest alone", "opt/app", vec![manifest, item("a.clj", "")], 1),
        ("its own artifact", "inner-4.jar", vec![class.clone(), inner], 0),
        ("its own project", "inner-4.jar", vec![class, xml], 0),
        ("Python", "app.pyz", vec![item("__main__.py", "")], 0),
        ("Node.js", "a.zip", vec![item("node_modules/a/package.json", "{}")], 0),
    ] {
        let found = read(name, &zip(&items));
        assert_eq!((found.unnamed.len(), found.problems.len()), (expected, 0), "{what}");
        assert!(found.unnamed.iter().all(|archive| archive.is_optional), "{what}");
    }
}

#[test]
fn archives_of_every_form_are_read() {
    let plain = [maven("a", "a", "1")];
    let with = |change: fn(&mut Item)| {
        let mut items = plain.clone();
        items.iter_mut().for_each(change);
        zip(&items)
    };
    let program = [b"#!/bin/sh\nexec java -jar $0\n".to_vec(), zip(&plain)].concat();
    let mut comment = zip(&plain);
    let length = comment.len();
    comment[length - 2] = 5;
    comment.extend(b"hello");
    for (what, file) in [
        ("a data descriptor", with(|item| item.flags = 8)),
        ("sizes of 64 bits", with(|item| item.large = true)),
        ("no compression", with(|item| item.method = 0)),
        ("a program in front", program),
        ("a comment", comment),
        ("bytes after the end", [zip(&plain), vec![0; 9]].concat()),
    ] {
        assert_eq!(names(&read("x.jar", &file)), ["a:a 1"], "{what}");
    }
    assert_eq!(names(&read("x.hpi", &zip(&[item("META-INF/", ""), plain[0].clone()]))), ["a:a 1"]);
    assert_eq!(names(&read("opt/app", &zip(&[item("BOOT-INF/", ""), plain[0].clone()]))), ["a:a 1"]);
    assert_eq!(language_file("template.xlsx", &zip(&[item("x", "")])), None);
    let script = [b"#!/bin/bash\nexec java -jar $0\n".to_vec(), zip(&plain)].concat();
    assert_eq!(names(&read("opt/app.run", &script)), ["a:a 1"], "a script that starts the archive");
    assert_eq!(names(&read("usr/bin/script", b"#!/bin/sh\nexit 0\n")), [""; 0]);
    let inner =
        [item("plugins.zip", zip(&plain)), item("x-1-py3-none-any.whl", zip(&[item("x-1.dist-info/METADATA", "")]))];
    assert_eq!(names(&read("x.war", &zip(&inner))), ["a:a 1", "x 1"]);
}

#[test]
fn ambiguous_or_unreadable_content_is_a_problem() {
    let plain = maven("a", "a", "1");
    let other = zip(&[maven("b", "b", "2")]);
    let mut two = zip(std::slice::from_ref(&plain));
    let length = two.len();
    two[length - 2..].copy_from_slice(&u16::try_from(other.len()).expect("small").to_le_bytes());
    two.extend(&other);
    for (what, file, expected) in [
        ("encrypted", zip(&[Item { flags: 1, ..plain.clone() }]), vec!["!"]),
        ("an unknown method", zip(&[Item { method: 14, ..plain.clone() }]), vec!["!"]),
        ("another local name", zip(&[Item { local_name: "pom.xml".to_owned(), ..plain.clone() }]), vec!["!"]),
        ("a smaller stated size", zip(&[Item { stated_size: 1, ..plain.clone() }]), vec!["!"]),
        ("a larger stated size", zip(&[Item { stated_size: 1 << 31, ..plain.clone() }]), vec!["!"]),
        ("two directories", two, vec!["!"]),
        ("no directory", zip(std::slice::from_ref(&plain))[..60].to_vec(), vec!["!"]),
        (
            "a damaged archive next to a good one",
            {
                let damaged = item("lib/b.jar", &other[..other.len() - 30]);
                zip(&[damaged, item("lib/c.jar", other.clone()), plain.clone()])
            },
            vec!["b:b 2", "a:a 1", "!"],
        ),
        ("no archive at all", b"text".to_vec(), vec![]),
        ("an empty file", Vec::new(), vec![]),
    ] {
        assert_eq!(names(&read("x.jar", &file)), expected, "{what}");
    }
}

#[test]
fn an_archive_is_read_behind_a_program_and_under_the_name_of_a_text() {
    let archive = zip(&[maven("org.example", "lib", "1.0")]);
    let program = executables::Elf { wide: true, big_endian: false, sections: &[] }.build();
    for (path, content) in [
        ("opt/server", [program.clone(), archive.clone()].concat()),
        ("opt/x/package.json", archive.clone()),
        ("x-1.egg-info", archive),
    ] {
        let found = names(&read(path, &content));
        assert!(found.contains(&"org.example:lib 1.0".to_owned()), "{path}: {found:?}");
    }
    assert_eq!(names(&read("opt/server", &program)), [""; 0]);
}

/// Yarn's Plug'n'Play: Node.js loads each package from an archive in `.yarn/cache`.
#[test]
fn packages_of_node_in_archives_of_yarn_are_read() {
    let json = r#"{"name": "lodash", "version": "4.17.20"}"#;
    let cached = zip(&[item("node_modules/lodash/package.json", json), item("node_modules/lodash/index.js", "")]);
    assert_eq!(names(&read(".yarn/cache/lodash-npm-4.17.20-6d3b.zip", &cached)), ["lodash 4.17.20"]);
    let other = zip(&[item("data/x.json", json)]);
    assert_eq!(language_file("data.zip", &other[..other.len().min(4096)]), None);
}
