//! The database of apk: `lib/apk/db/installed`.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::checksum::{FileChecksum, PackagedFile};
use super::text::lines;
use super::{Ecosystem, InstalledPackage, SourcePackage};

/// The maximum number of files that are kept, and the maximum length of a path, in bytes.
const MAX_FILES: usize = 1_000_000;
const MAX_PATH: usize = 4096;

/// What a database of apk states.
#[derive(Debug, Default)]
pub(super) struct ApkDatabase {
    pub(super) packages: Vec<InstalledPackage>,
    /// The files of the packages.
    pub(super) files: Vec<PackagedFile>,
    /// Why it may state more packages.
    pub(super) problems: BTreeSet<String>,
}

/// Parses a database of apk (apk-tools, `src/database.c`: one letter for each field). A line of fewer than two bytes
/// ends a package. Several packages with the same name are all installed. A package without a name or a version, and a
/// line that is not a field, are problems, and apk refuses the database; the other packages are read.
///
/// # Errors
/// There are more than `limit` packages.
pub(super) fn database(content: &[u8], limit: usize) -> Result<ApkDatabase, String> {
    let mut database = ApkDatabase::default();
    let mut entry = ApkEntry::default();
    let mut files = ApkFiles::default();
    for line in lines(content).chain(["".into()]) {
        let is_end = line.len() < 2;
        let is_field = matches!(line.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
        if !is_field && !line.is_empty() {
            database.problems.insert("a line of the database is not a field".into());
        }
        if is_end {
            let entry = std::mem::take(&mut entry);
            match Some(entry).filter(|entry| !entry.is_empty).map(ApkEntry::package) {
                Some(Ok(package)) => database.packages.push(package),
                Some(Err(problem)) => drop(database.problems.insert(problem)),
                None => {}
            }
            if database.packages.len() > limit {
                return Err("the database has too many packages".into());
            }
        }
        let Some((field, value)) = line.split_once(':').filter(|_| is_field) else { continue };
        entry.is_empty = false;
        match field {
            "P" => entry.name = value.to_owned(),
            "V" => entry.version = value.to_owned(),
            "o" => entry.origin = value.to_owned(),
            "A" => entry.architecture = value.to_owned(),
            "L" => entry.license = value.to_owned(),
            "t" => entry.built = value.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok()),
            _ => files.field(field, value),
        }
    }
    database.files = files.all;
    Ok(database)
}

/// The files of all packages.
#[derive(Default)]
struct ApkFiles {
    all: Vec<PackagedFile>,
    directory: String,
    /// Whether the file that the last lines are about is kept.
    is_kept: bool,
}

impl ApkFiles {
    /// Reads a field that is about a file.
    fn field(&mut self, field: &str, value: &str) {
        match field {
            "F" => (self.directory, self.is_kept) = (value.to_owned(), false),
            "R" => {
                // The findings in an omitted file may be reported twice, but are not missed.
                self.is_kept = self.all.len() < MAX_FILES && self.directory.len() + value.len() <= MAX_PATH;
                if self.is_kept {
                    let path = match &*self.directory {
                        "" => value.to_owned(),
                        directory => format!("{directory}/{value}"),
                    };
                    self.all.push(PackagedFile { path, checksum: None });
                }
            }
            "Z" => {
                let file = self.all.last_mut().filter(|_| self.is_kept);
                file.into_iter().for_each(|file| file.checksum = FileChecksum::from_apk(value));
            }
            _ => {}
        }
    }
}

struct ApkEntry {
    is_empty: bool,
    name: String,
    version: String,
    origin: String,
    architecture: String,
    license: String,
    built: Option<Timestamp>,
}

impl Default for ApkEntry {
    fn default() -> Self {
        let [name, version, origin, architecture, license] = Default::default();
        Self { is_empty: true, name, version, origin, architecture, license, built: None }
    }
}

impl ApkEntry {
    fn package(self) -> Result<InstalledPackage, String> {
        let Self { name, version, origin, architecture, license, built, .. } = self;
        if name.is_empty() || version.is_empty() {
            return Err("an installed package has no name or no version".into());
        }
        let has_other_source = !origin.is_empty() && origin != name;
        Ok(InstalledPackage {
            source: has_other_source.then(|| SourcePackage { name: origin, version: version.clone() }),
            architecture,
            built,
            licenses: Some(license).filter(|license| !license.is_empty()).into_iter().collect(),
            ..InstalledPackage::new(Ecosystem::Apk, name, version)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_and_files_are_listed() {
        let installed =
            b"C:Q1abc=\nP:libcrypto3\nV:3.1.4-r1\nA:x86_64\nS:1\nL:Apache-2.0\nt:1700000000\no:openssl\nD:so:libc.musl-x86_64.so.1\n\
            F:etc\nF:etc/ssl\nR:openssl.cnf\na:0:0:644\nZ:Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0=\n\n\
            P:py3-pip\nV:23.3.1-r0\nA:noarch\no:py3-pip\nF:\nR:x\n\n";
        let ApkDatabase { packages, files, problems } = database(installed, 10).unwrap();
        assert_eq!((packages.len(), problems.len()), (2, 0));
        assert_eq!(
            (&*packages[0].name, &*packages[0].version, &*packages[0].architecture),
            ("libcrypto3", "3.1.4-r1", "x86_64")
        );
        let source = packages[0].source.clone().unwrap();
        assert_eq!((&*source.name, &*source.version), ("openssl", "3.1.4-r1"));
        assert_eq!(packages[0].licenses, ["Apache-2.0"]);
        assert_eq!(packages[0].built.unwrap().as_second(), 1_700_000_000);
        assert_eq!((&*packages[1].name, &packages[1].source), ("py3-pip", &None));
        let paths: Vec<_> = files.iter().map(|file| (&*file.path, file.checksum.is_some())).collect();
        assert_eq!(paths, [("etc/ssl/openssl.cnf", true), ("x", false)]);
        assert_eq!(database(b"P:last\nV:1", 10).unwrap().packages.len(), 1);
        for (damaged, count) in [("P:a\nA:x86_64\n", 1), ("V:1\n", 1), ("C:x\n", 1), ("P:a\nV:\n", 1), ("Pa\n", 1)] {
            for text in [format!("{damaged}\nP:good\nV:1\n\n"), format!("P:good\nV:1\n\n{damaged}\n{damaged}")] {
                let found = database(text.as_bytes(), 10).unwrap();
                let names: Vec<_> = found.packages.iter().map(|package| package.name.as_str()).collect();
                assert_eq!((&names[..], found.problems.len()), (&["good"][..], count), "{text}");
            }
        }
        assert!(database(installed, 1).is_err());
        let long = format!("P:a\nV:1\nF:{}\nR:x\nF:usr\nR:x\n\n", "d".repeat(5000));
        let [file] = &database(long.as_bytes(), 10).unwrap().files[..] else { panic!("one file") };
        assert_eq!(file.path, "usr/x");
    }

    /// apk ends a package at every line of fewer than two bytes, and installs several packages with one name.
    #[test]
    fn entries_are_those_that_apk_reads() {
        for (text, expected, problems) in [
            ("P:a\nV:1\n\nP:b\nV:1\n\n", vec!["a 1", "b 1"], 0),
            ("P:a\nV:1\n:\nP:b\nV:1\n\n", vec!["a 1", "b 1"], 1),
            ("P:a\nV:1\nx\nP:b\nV:1\n\n", vec!["a 1", "b 1"], 1),
            ("P:a\nV:1\n::\nA:x\n\n", vec!["a 1"], 1),
            ("P:a\nV:1\nPP:b\n\n", vec!["a 1"], 1),
            ("P:a\nV:1\n:P:b\n\n", vec!["a 1"], 1),
            ("P:a\nV:1\nL:\nA:\n\n", vec!["a 1"], 0),
            ("P:a\nV:3\n\nP:a\nV:1\n\n", vec!["a 3", "a 1"], 0),
        ] {
            let found = database(text.as_bytes(), 10).unwrap();
            let names: Vec<_> =
                found.packages.iter().map(|package| format!("{} {}", package.name, package.version)).collect();
            assert_eq!(names, expected, "{text}");
            assert_eq!(found.problems.len(), problems, "{text}");
        }
    }

    #[test]
    fn checksums_belong_to_the_file_before_them() {
        let checksum = "Z:Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0=";
        let long = "f".repeat(5000);
        let lines = ["P:a\nV:1\nF:usr\nR:x", checksum, "R:y", &format!("R:{long}"), checksum, "F:bin", checksum, "R:z"];
        let text = format!("{}\na:0:0:644\n{checksum}\n\n", lines.join("\n"));
        let files = database(text.as_bytes(), 10).unwrap().files;
        let found: Vec<_> = files.iter().map(|file| (&*file.path, file.checksum.is_some())).collect();
        assert_eq!(found, [("usr/x", true), ("usr/y", false), ("bin/z", true)]);
    }
}
