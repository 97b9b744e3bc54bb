//! Archives that programs are loaded from: `jar`, `war`, `ear` and `par` of Java, eggs and programs in one file
//! (PEP 441) of Python, and the archives in them.
//!
//! What an archive of Java contains is stated by files `pom.properties` and `pom.xml`, which Maven writes: one for each
//! artifact, including those that were merged into it. If they are missing, the manifest or the file name
//! (`NAME-VERSION.jar`) suggest an artifact, whose advisories are found, but they prove nothing: such an archive of
//! classes has no name, and is kept by its checksum, by which published archives are known. The same applies to an
//! archive that only states artifacts other than its file name: they may have been merged into it. Packages of Node.js
//! count in the directory `node_modules/` of an archive: Yarn keeps each package in one. Distributions of Python count
//! in any archive: Jython loads them from jars.

use std::cell::Cell;
use std::collections::HashSet;

use crate::inventory::spool::Spool;
use crate::inventory::{ArchiveChecksum, ReadSeek};

use super::text::decode;
use super::window::read_up_to;
use super::zip::{self, ZipBudget, ZippedFile};
use super::{LanguagePackages, gem, npm, python, split_path};

use artifacts::{Artifacts, OwnArtifact};
pub(super) use behind::{MAX_END, ends_as_archive};

mod artifacts;
mod behind;
mod manifest;
mod pom;
mod runtime;

/// The depth of archives in archives that are read. Applications have 3: a library in a `war` in an `ear`.
const MAX_DEPTH: usize = 8;
/// The longest path of an archive in an archive, in bytes.
const MAX_PATH: usize = 4096;
/// The archives in one file.
const MAX_ARCHIVES: u32 = 10_000;
/// The entries of all archives in one file, and the bytes that are decompressed.
const MAX_ENTRIES: u64 = 2_000_000;
const MAX_BYTES: u64 = 4 << 30;
/// Decompressed bytes for each byte of the file, beyond the first ones. Programs compress to a third.
const MAX_RATIO: u64 = 100;
const FREE_BYTES: u64 = 64 << 20;
/// The size of a `pom.properties`, a manifest or metadata, in bytes. Manifests of signed archives list all files.
const MAX_TEXT: u64 = 16 << 20;

/// The extensions of files that are read as archives.
const EXTENSIONS: [&str; 8] = ["ear", "egg", "jar", "par", "pex", "pyz", "pyzw", "war"];
/// The extensions of archives of Java, which may be published whatever is in them.
const JAVA_EXTENSIONS: [&str; 11] = ["aar", "ear", "hpi", "jar", "jpi", "kar", "nar", "par", "rar", "sar", "war"];
/// The extensions of other archives that are read in archives, where they are libraries or plug-ins.
const INNER_EXTENSIONS: [&str; 10] = ["aar", "hpi", "jmod", "jpi", "kar", "nar", "rar", "sar", "whl", "zip"];

/// Whether this is an archive that programs are loaded from: by its extension, or an archive that starts with the entry
/// `META-INF/`, as the `jar` tool writes it, or `node_modules/`, as Yarn does, or has no extension, because Java loads
/// an archive whatever its name. A script may start the archive that follows it in the same file. JMOD files are not
/// loaded, but archives in them may be.
pub(super) fn is_archive(path: &str, first_bytes: &[u8]) -> bool {
    let is_loaded = || {
        let first_name = first_bytes.get(30..).unwrap_or_default();
        let is_known = [&b"META-INF/"[..], MODULES.as_bytes()].iter().any(|folder| first_name.starts_with(folder));
        is_known || !split_path(path).1.contains('.')
    };
    has_extension(path, &EXTENSIONS)
        || first_bytes.starts_with(b"#!")
        || runtime::is_jmod(first_bytes)
        || (first_bytes.starts_with(zip::FIRST_ENTRY) && is_loaded())
}

fn has_extension(path: &str, known: &[&str]) -> bool {
    let extension = split_path(path).1.rsplit_once('.').map(|(_, extension)| extension);
    extension.is_some_and(|extension| known.iter().any(|known| known.eq_ignore_ascii_case(extension)))
}

/// Reads the packages in an archive and in the archives in it.
pub(super) fn read(path: &str, content: &mut dyn ReadSeek, size: u64, spool: &Spool<'_>, found: &mut LanguagePackages) {
    if read_up_to(content, 0, 64).is_some_and(|start| start.starts_with(b"#!/bin/sh\nskip=")) {
        found.problem("a program compressed with gzexe, whose contents cannot be read".to_owned());
    }
    let bytes = MAX_BYTES.min(size.saturating_mul(MAX_RATIO).saturating_add(FREE_BYTES));
    let mut budget = ZipBudget { spool, archives: MAX_ARCHIVES, entries: MAX_ENTRIES, bytes };
    read_archive(path, content, size, &mut budget, 0, found, &mut HashSet::new());
}

/// Reads one archive. A problem in one entry does not hide the others.
fn read_archive(
    path: &str,
    content: &mut dyn ReadSeek,
    size: u64,
    budget: &mut ZipBudget<'_>,
    depth: usize,
    found: &mut LanguagePackages,
    paths: &mut HashSet<String>,
) {
    let first_bytes = read_up_to(content, 0, 4).unwrap_or_default();
    let classes = SeenClasses { of_runtime: runtime::folders(path, &first_bytes), ..SeenClasses::default() };
    let is_wanted = |name: &str| {
        classes.see(name);
        ArchiveKind::of(name).is_some()
    };
    let entries = match zip::entries(content, size, budget, is_wanted) {
        Ok(Some(entries)) => entries,
        Ok(None) => return,
        Err(problem) => return found.problem(within(path, &problem)),
    };
    let mut artifacts = Artifacts::new(classes.has_own() && !is_generated(path));
    for entry in &entries {
        let result = match ArchiveKind::of(&entry.name) {
            Some(ArchiveKind::Archive) if depth + 1 >= MAX_DEPTH => Err("archives are nested too deeply".to_owned()),
            Some(ArchiveKind::Archive) => read_inner(path, entry, (&mut *content, size), budget, depth, found, paths),
            Some(ArchiveKind::Pom) => {
                // A project file that cannot be read hides no package.
                let text = entry.read(content, budget, MAX_TEXT).unwrap_or_default();
                artifacts.pom(&entry.name, &decode(&text), found.limits.bytes)
            }
            Some(ArchiveKind::Module) => {
                entry.read(content, budget, MAX_TEXT).map(|text| npm::read(path, &decode(&text), found))
            }
            Some(ArchiveKind::Distribution) => entry
                .read(content, budget, MAX_TEXT)
                .map(|text| python::read_in(path, &entry.name, &decode(&text), found)),
            Some(ArchiveKind::Gem) => {
                entry.read(content, budget, MAX_TEXT).map(|text| gem::read_in(path, &entry.name, &decode(&text), found))
            }
            Some(kind) => entry
                .read(content, budget, MAX_TEXT)
                .and_then(|text| artifacts.read(&entry.name, &kind, &decode(&text), found.limits.bytes)),
            None => Ok(()),
        };
        if let Err(problem) = result {
            found.problem(within(path, &problem));
        }
    }
    let is_optional = match artifacts.add(path, found) {
        OwnArtifact::Unknown => false,
        OwnArtifact::Unproven if has_manifest(&entries) || has_extension(path, &JAVA_EXTENSIONS) => true,
        OwnArtifact::Unproven | OwnArtifact::Proven => return,
    };
    match ArchiveChecksum::of(content, || budget.spool.must_end()) {
        Some(sha1) => found.add_unnamed(path, sha1, is_optional),
        None => found.problem(within(path, zip::ENDED)),
    }
}

/// Whether a value names a property of the build, which did not replace it: `${revision}`, `@version@`.
fn is_placeholder(value: &str) -> bool {
    value.contains("${") || value.matches('@').count() > 1
}

fn has_manifest(entries: &[ZippedFile]) -> bool {
    entries.iter().any(|entry| matches!(ArchiveKind::of(&entry.name), Some(ArchiveKind::Manifest)))
}

/// Which classes were seen in an archive.
#[derive(Default)]
struct SeenClasses {
    /// The directories whose classes belong to Java's runtime.
    of_runtime: &'static [&'static str],
    is_spring_boot: Cell<bool>,
    has_loader: Cell<bool>,
    has_others: Cell<bool>,
}

impl SeenClasses {
    fn see(&self, name: &str) {
        self.is_spring_boot.set(self.is_spring_boot.get() || name.starts_with("BOOT-INF/"));
        let seen =
            if name.starts_with("org/springframework/boot/loader/") { &self.has_loader } else { &self.has_others };
        let is_own = !self.of_runtime.iter().any(|folder| name.starts_with(folder));
        seen.set(seen.get() || is_own && is_class(name));
    }

    /// Whether there are classes of the archive itself. The loader that Spring Boot adds does not count.
    fn has_own(&self) -> bool {
        self.has_others.get() || self.has_loader.get() && !self.is_spring_boot.get()
    }
}

/// Whether this is one of the archives that the build of Quarkus makes from the classes of the application and its
/// libraries, which are in archives of their own.
fn is_generated(path: &str) -> bool {
    let (folder, name) = split_path(path);
    matches!(name, "generated-bytecode.jar" | "transformed-bytecode.jar") && split_path(folder).1 == "quarkus"
}

/// Whether the entry is a class of the archive itself. Those of a web application or of Spring Boot are the
/// application's own, like loose files; descriptions of modules and packages are not code.
fn is_class(name: &str) -> bool {
    let is_described = matches!(split_path(name).1, "module-info.class" | "package-info.class");
    let is_application = ["WEB-INF/classes/", "BOOT-INF/classes/"].iter().any(|folder| name.starts_with(folder));
    name.ends_with(".class") && !is_described && !is_application
}

/// Reads an archive in an archive.
fn read_inner(
    path: &str,
    entry: &ZippedFile,
    (content, size): (&mut dyn ReadSeek, u64),
    budget: &mut ZipBudget<'_>,
    depth: usize,
    found: &mut LanguagePackages,
    paths: &mut HashSet<String>,
) -> Result<(), String> {
    let parts = entry.name.split(['/', '\\']).filter(|part| !part.is_empty() && *part != ".");
    let mut inner_path = parts.fold(path.to_owned(), |path, part| format!("{path}/{part}"));
    if inner_path.len() > MAX_PATH {
        return Err("the path of an archive in the archive is too long".to_owned());
    }
    // A name that was found by the checksum of one archive must not count for another archive at the same path.
    while !paths.insert(inner_path.clone()) {
        inner_path = format!("{inner_path} ({})", paths.len());
    }
    let (mut inner, inner_size) = entry.open(content, size, budget)?;
    read_archive(&inner_path, &mut *inner, inner_size, budget, depth + 1, found, paths);
    Ok(())
}

/// A problem, with the path of the archive.
fn within(path: &str, problem: &str) -> String {
    format!("{}: {problem}", split_path(path).1)
}

/// What an entry is read for.
enum ArchiveKind {
    Archive,
    /// The metadata of a distribution of Python.
    Distribution,
    /// The specification of a gem, which JRuby loads from an archive.
    Gem,
    Manifest,
    /// The `package.json` of a package of Node.js.
    Module,
    /// The project file of Maven: its path names the artifact.
    Pom,
    Properties,
}

impl ArchiveKind {
    fn of(name: &str) -> Option<Self> {
        match split_path(name).1 {
            "pom.properties" => Some(Self::Properties),
            // Files in other directories describe something else.
            "MANIFEST.MF" if name.eq_ignore_ascii_case("META-INF/MANIFEST.MF") => Some(Self::Manifest),
            "pom.xml" if name.starts_with(MAVEN) => Some(Self::Pom),
            "package.json" if name.starts_with(MODULES) => Some(Self::Module),
            _ if python::is_metadata(name) => Some(Self::Distribution),
            _ if gem::is_specification(name) => Some(Self::Gem),
            _ => {
                let is_archive = has_extension(name, &EXTENSIONS) || has_extension(name, &INNER_EXTENSIONS);
                is_archive.then_some(Self::Archive)
            }
        }
    }
}

/// The directory in which Yarn puts a package that Node.js loads from an archive (Plug'n'Play).
const MODULES: &str = "node_modules/";
/// The directory that Maven adds to archives: it contains `GROUP/NAME/pom.properties` and `GROUP/NAME/pom.xml`.
const MAVEN: &str = "META-INF/maven/";
