//! Limits, and damage.

use super::*;

#[test]
fn nesting_and_decompression_are_bounded() {
    let mut nested = zip(&[maven("a", "a", "1")]);
    for _ in 0..100 {
        nested = zip(&[stored("a.jar", nested), maven("b", "b", "1")]);
    }
    let found = read("x.jar", &nested);
    assert_eq!(found.packages.len(), 8);
    assert_eq!(found.problems.len(), 1);

    let bomb = zip(&[item("META-INF/MANIFEST.MF", vec![0; 17 << 20])]);
    assert_eq!(names(&read("x.jar", &bomb)), ["!"]);
    let time = ReadingTime::new(Duration::from_secs(600));
    let spool = Spool::new(Path::new("/nonexistent"), &time, u64::MAX);
    let mut budget = zip::ZipBudget { spool: &spool, archives: 1, entries: 10, bytes: 1 << 20 };
    let inner = zip(&[item("a.jar", vec![0; 8 << 20])]);
    let mut content = Cursor::new(&inner);
    let entries = zip::entries(&mut content, inner.len() as u64, &mut budget, |_| true).expect("an archive");
    let entries = entries.expect("an archive");
    assert!(entries[0].open(&mut content, inner.len() as u64, &mut budget).is_err());
    assert_eq!(budget.bytes, 0);
    assert!(zip::entries(&mut content, inner.len() as u64, &mut budget, |_| true).is_err(), "one archive was allowed");
}

#[test]
fn distributions_in_eggs_are_read() {
    let egg = zip(&[item("EGG-INFO/PKG-INFO", "Name: six\nVersion: 1.16.0\n"), item("six.py", "")]);
    let found = read("site-packages/six-1.16.0-py3.9.egg", &egg);
    assert_eq!(names(&found), ["six 1.16.0"]);
    assert_eq!(paths(&found), ["site-packages/six-1.16.0-py3.9.egg"]);
    assert_eq!(names(&read("six.egg", &egg[..egg.len() - 40])), ["!"]);
    let program = zip(&[item(".deps/six.whl/six-1.16.0.dist-info/METADATA", "Name: six\nVersion: 1.16.0\n")]);
    assert_eq!(names(&read("app.pex", &[b"#!/usr/bin/env python3\n", &program[..]].concat())), ["six 1.16.0"]);
    let windows =
        zip(&[item("__main__.py", ""), item("six-1.16.0.dist-info/METADATA", "Name: six\nVersion: 1.16.0\n")]);
    assert_eq!(names(&read("app.pyzw", &windows)), ["six 1.16.0"]);
}

/// Warbler packs an application of JRuby with its gems.
#[test]
fn gems_in_archives_are_read() {
    let text = "Gem::Specification.new do |s|\n  s.name = \"rack\"\n  s.version = \"1.0\"\nend\n";
    let war = zip(&[item("WEB-INF/gems/specifications/rack-1.0.gemspec", text)]);
    let found = read("app.war", &war);
    assert_eq!((names(&found), paths(&found)), (vec!["rack 1.0".to_owned()], vec!["app.war"]));
}

/// Flips every byte, and cuts the file at every length: nothing panics, and what is found stays bounded.
#[test]
fn no_damage_panics() {
    let library = zip(&[maven("org.a", "core", "1.2")]);
    let large = Item { large: true, ..item("lib/b.jar", library.clone()) };
    let file = zip(&[item("META-INF/MANIFEST.MF", "Bundle-Name: a\n"), stored("lib/a.jar", library), large]);
    for at in 0..file.len() {
        for mask in [0xff, 0x80, 0x01] {
            let mut damaged = file.clone();
            damaged[at] ^= mask;
            let found = read_as(LanguageFile::Archive, "a.jar", &damaged, &std::env::temp_dir());
            assert!(found.packages.len() <= 8);
        }
        read_as(LanguageFile::Archive, "a.jar", &file[..at], &std::env::temp_dir());
    }
}

#[test]
fn archives_are_decompressed_in_proportion_to_their_size() {
    let inner = zip(&[item("a.jar", vec![0; 60 << 20]), item("b.jar", vec![0; 60 << 20])]);
    let found = read("x.jar", &zip(&[item("inner.jar", inner)]));
    assert!(found.problems.iter().any(|problem| problem.contains("too large")), "{:?}", found.problems);
}

#[test]
fn large_nested_archives_are_kept_in_the_given_directory() {
    let inner = zip(&[maven("g", "a", "1"), stored("x", vec![0; 17 << 20])]);
    let file = zip(&[item("inner.jar", inner)]);
    let read = |folder: &Path| read_as(LanguageFile::Archive, "x.jar", &file, folder);
    assert_eq!(names(&read(&std::env::temp_dir())), ["g:a 1"]);
    let unread = read(Path::new("/nonexistent"));
    assert!(unread.packages.is_empty() && !unread.problems.is_empty(), "{:?}", unread.problems);
}

/// Errors of the disk are not damage of the archive, and the bytes and the time of a layer hold for all its archives.
#[test]
fn archives_of_a_layer_share_its_limits() {
    let inner = zip(&[maven("g", "a", "1"), stored("x", vec![0; 17 << 20])]);
    let file = zip(&[item("inner.jar", inner)]);
    let read = |spool: &Spool<'_>| {
        let by_content = LanguageFile::by_content(&file);
        LanguageFile::Archive.read("x.jar", by_content, &mut Cursor::new(&file), file.len() as u64, LIMITS, spool)
    };
    let (time, folder) = (ReadingTime::new(Duration::from_secs(600)), std::env::temp_dir());
    let broken = Spool::new(Path::new("/nonexistent"), &time, u64::MAX);
    read(&broken);
    assert!(broken.must_end() && broken.take_failure().is_some());
    let spool = Spool::new(&folder, &time, 40 << 20);
    assert_eq!(
        [names(&read(&spool)), names(&read(&spool)), names(&read(&spool))],
        [vec!["g:a 1"], vec!["g:a 1"], vec!["!"]]
    );
    let over = ReadingTime::new(Duration::ZERO);
    assert_eq!(names(&read(&Spool::new(&folder, &over, u64::MAX))), ["!"]);
    assert!(over.was_over());
}
