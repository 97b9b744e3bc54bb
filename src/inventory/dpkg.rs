//! Packages of dpkg: `var/lib/dpkg/status`, and one file for each package in distroless images.

use std::collections::{BTreeMap, BTreeSet};

use super::checksum::{FileChecksum, PackagedFile};
use super::text::lines;
use super::{Ecosystem, InstalledPackage, SourcePackage};

/// What a database of dpkg states.
#[derive(Debug, Default)]
pub(super) struct DpkgDatabase {
    pub(super) packages: Vec<InstalledPackage>,
    /// Why it may state more packages.
    pub(super) problems: BTreeSet<String>,
}

/// The fields that are read.
const FIELDS: [&str; 6] = ["architecture", "maintainer", "package", "source", "status", "version"];
/// The maximum number of files in a package's list.
const MAX_FILES: usize = 1_000_000;

/// Parses a database of dpkg (deb822(5), dpkg-query(1)). Packages of which only configuration files are left are not
/// installed. Entries without `Status` are, as in distroless images.
///
/// dpkg refuses a database in which an installed package has no name or no version, or a line is not a field. Here the
/// other entries are read, and the bad one is a problem: it may belong to an installed package.
///
/// # Errors
/// There are more than `limit` packages.
pub(super) fn database(content: &[u8], limit: usize) -> Result<DpkgDatabase, String> {
    let mut database = DpkgDatabase::default();
    let (mut fields, mut is_empty) = (BTreeMap::new(), true);
    for line in lines(content).chain(["".into()]) {
        if line.trim().is_empty() {
            if !std::mem::replace(&mut is_empty, true) {
                match package(&std::mem::take(&mut fields)) {
                    Ok(package) => database.packages.extend(package),
                    Err(problem) => drop(database.problems.insert(problem)),
                }
            }
            if database.packages.len() > limit {
                return Err("the database has too many packages".into());
            }
            continue;
        }
        is_empty = false;
        if line.starts_with([' ', '\t']) {
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            database.problems.insert("a line of the database is not a field".into());
            continue;
        };
        // Of a repeated field the first counts.
        if let Some(field) = FIELDS.iter().find(|field| field.eq_ignore_ascii_case(name.trim())) {
            fields.entry(*field).or_insert_with(|| value.trim().to_owned());
        }
    }
    Ok(database)
}

fn package(fields: &BTreeMap<&str, String>) -> Result<Option<InstalledPackage>, String> {
    let field = |name: &str| fields.get(name).filter(|value| !value.is_empty()).cloned();
    let state = field("status").and_then(|status| status.split_whitespace().nth(2).map(str::to_owned));
    if matches!(state.as_deref(), Some("not-installed" | "config-files")) {
        return Ok(None);
    }
    // dpkg reads names without regard to case.
    let name = field("package").ok_or("an installed package has no name")?.to_ascii_lowercase();
    let version = field("version").ok_or("an installed package has no version")?;
    let source = field("source").map(|source| match source.split_once([' ', '\t']) {
        Some((name, version)) => {
            let version = version.trim().trim_start_matches('(').trim_end_matches(')').trim();
            SourcePackage { name: name.to_ascii_lowercase(), version: version.to_owned() }
        }
        None => SourcePackage { name: source.to_ascii_lowercase(), version: String::new() },
    });
    let source = source.map(|source| match source.version.is_empty() {
        true => SourcePackage { version: version.clone(), ..source },
        false => source,
    });
    Ok(Some(InstalledPackage {
        source: source.filter(|source| source.name != name || source.version != version),
        architecture: field("architecture").unwrap_or_default(),
        vendor: field("maintainer"),
        ..InstalledPackage::new(Ecosystem::Deb, name, version)
    }))
}

/// Parses a list of a package's files (deb-md5sums(5)).
pub(super) fn files(content: &[u8]) -> Vec<PackagedFile> {
    let file = |line: std::borrow::Cow<'_, str>| {
        let (checksum, path) = line.split_once("  ")?;
        let path = path.trim_start_matches("./").to_owned();
        Some(PackagedFile { path, checksum: FileChecksum::from_hex(checksum) })
    };
    lines(content).filter_map(file).take(MAX_FILES).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn installed_packages_are_listed() {
        let status = b"Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\n\
            Source: openssl\nVersion: 3.0.11-1~deb12u2\nMaintainer: Debian <x@debian.org>\nDescription: Package: x\n\
            \x20Version: 9\n\n\n\
            Package: libgcc-s1\nStatus: hold ok installed\nArchitecture: amd64\nSource: gcc-12 (12.2.0-14)\nVersion: 1:12\n\n\
            Package: tab\nVersion: 2\nSource:\tTabs\t(1)\n\n\
            Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
            Package: never\nStatus: purge ok not-installed\n\n\
            Package: half\nStatus: install ok half-configured\nVersion: 2\n\n\
            Package: base-files\nVersion: 12.4\n";
        let found = database(status, 10).unwrap().packages;
        let short: Vec<_> = found
            .iter()
            .map(|package| {
                let source = package.source.as_ref().map(|source| format!("{} {}", source.name, source.version));
                format!("{} {} {} {}", package.name, package.version, package.architecture, source.unwrap_or_default())
            })
            .collect();
        assert_eq!(
            short,
            [
                "libssl3 3.0.11-1~deb12u2 amd64 openssl 3.0.11-1~deb12u2",
                "libgcc-s1 1:12 amd64 gcc-12 12.2.0-14",
                "tab 2  tabs 1",
                "half 2  ",
                "base-files 12.4  ",
            ]
        );
        assert!(database(status, 3).is_err());
        assert_eq!(database(b"", 10).unwrap().packages, []);
        let upper =
            database(b"Package: LibSSL3\nSource: OpenSSL (3.0.11-1A)\nVersion: 3.0.11-1B\n", 10).unwrap().packages;
        let source = upper[0].source.clone().unwrap();
        assert_eq!((&*upper[0].name, &*source.name, &*source.version), ("libssl3", "openssl", "3.0.11-1A"));
        let list = files(b"0123  usr/bin/x\n900150983cd24fb0d6963f7d28e17f72  ./usr/share/a b\nx\n");
        let found: Vec<_> = list.iter().map(|file| (&*file.path, file.checksum.is_some())).collect();
        assert_eq!(found, [("usr/bin/x", false), ("usr/share/a b", true)]);
    }

    #[test]
    fn a_damaged_entry_is_a_problem_and_does_not_hide_others() {
        let good = "Package: good\nStatus: install ok installed\nVersion: 1\n";
        for (entry, problems) in [
            ("Package: x\nStatus: install ok installed\n", 1),
            ("Package: x\n", 1),
            ("Package: x\nVersion:\n", 1),
            ("Package: x\nStatus: install ok half-installed\n", 1),
            ("Version: 1\n", 1),
            ("Other: 1\n", 1),
            ("Package x\n", 2),
            ("\0\0\0\0\n", 2),
            ("Package: x\nStatus: deinstall ok config-files\n", 0),
            ("Package: x\nStatus: purge ok not-installed\n", 0),
            ("Status: purge ok not-installed\n", 0),
        ] {
            for status in [format!("{entry}\n{good}"), format!("{good}\n{entry}"), format!("{good}\n{entry}\n{entry}")]
            {
                let found = database(status.as_bytes(), 10).unwrap();
                let names: Vec<_> = found.packages.iter().map(|package| package.name.as_str()).collect();
                assert_eq!((&names[..], found.problems.len()), (&["good"][..], problems), "{status}");
            }
        }
    }

    /// If dpkg is installed, compares with the packages that it lists.
    #[test]
    fn the_packages_of_this_machine_are_those_of_dpkg_query() {
        let format =
            "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n";
        let Ok(output) = Command::new("dpkg-query").args(["-W", "-f", format]).output() else { return };
        let status = std::fs::read("/var/lib/dpkg/status").unwrap();
        let mut theirs: Vec<String> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .filter(|(state, _)| !matches!(*state, "config-files" | "not-installed"))
            .map(|(_, line)| line.to_owned())
            .collect();
        let mut ours: Vec<String> = database(&status, 100_000)
            .unwrap()
            .packages
            .iter()
            .map(|package| {
                let own = SourcePackage { name: package.name.clone(), version: package.version.clone() };
                let source = package.source.as_ref().unwrap_or(&own);
                let InstalledPackage { name, version, architecture, .. } = package;
                format!("{name}\t{version}\t{architecture}\t{}\t{}", source.name, source.version)
            })
            .collect();
        theirs.sort();
        ours.sort();
        assert!(!ours.is_empty());
        assert_eq!(ours, theirs);
    }
}
