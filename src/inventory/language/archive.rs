//! Archives that programs are loaded from: `jar`, `war`, `ear` and `par` of Java, eggs and programs in one file (PEP 441) of
//! Python, and the archives in them.
//!
//! What an archive of Java contains is stated by files `pom.properties`, which Maven writes: one for each artifact, also for
//! those that were merged into it. Where the archive's own is missing, its manifest states a name, and else its file name
//! (`NAME-VERSION.jar`), with the group of its `META-INF/maven/GROUP/NAME/pom.xml`, if there is one. Trivy asks its database
//! of published artifacts by checksum instead; pullgate has no such database. Distributions of Python count in any archive:
//! Jython loads them from jars.

use std::sync::LazyLock;

use regex::Regex;

use crate::inventory::spool::Spool;
use crate::inventory::{Ecosystem, ReadSeek};

use super::text::decode;
use super::zip::{self, ZipBudget, ZippedFile};
use super::{LanguagePackages, python, split_path};

mod manifest;
mod pom;

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
const EXTENSIONS: [&str; 7] = ["ear", "egg", "jar", "par", "pex", "pyz", "war"];
/// The extensions of other archives that are read in archives, where they are libraries or plug-ins.
const INNER_EXTENSIONS: [&str; 10] = ["aar", "hpi", "jmod", "jpi", "kar", "nar", "rar", "sar", "whl", "zip"];

/// Whether this is an archive that programs are loaded from: by its extension, or an archive that starts with the entry
/// `META-INF/`, as the `jar` tool writes it, or has no extension, because Java loads an archive whatever its name. A script
/// may start the archive that follows it in the same file.
pub(super) fn is_archive(path: &str, first_bytes: &[u8]) -> bool {
    let is_jar = || {
        let has_manifest = first_bytes.get(30..).is_some_and(|name| name.starts_with(b"META-INF/"));
        has_manifest || !split_path(path).1.contains('.')
    };
    has_extension(path, &EXTENSIONS)
        || first_bytes.starts_with(b"#!")
        || (first_bytes.starts_with(b"PK\x03\x04") && is_jar())
}

fn has_extension(path: &str, known: &[&str]) -> bool {
    let extension = split_path(path).1.rsplit_once('.').map(|(_, extension)| extension);
    extension.is_some_and(|extension| known.iter().any(|known| known.eq_ignore_ascii_case(extension)))
}

/// Reads the packages in an archive and in the archives in it.
pub(super) fn read(path: &str, content: &mut dyn ReadSeek, size: u64, spool: &Spool<'_>, found: &mut LanguagePackages) {
    let bytes = MAX_BYTES.min(size.saturating_mul(MAX_RATIO).saturating_add(FREE_BYTES));
    let mut budget = ZipBudget { spool, archives: MAX_ARCHIVES, entries: MAX_ENTRIES, bytes };
    read_archive(path, content, size, &mut budget, 0, found);
}

/// Reads one archive. A problem in one entry does not hide the others.
fn read_archive(
    path: &str,
    content: &mut dyn ReadSeek,
    size: u64,
    budget: &mut ZipBudget<'_>,
    depth: usize,
    found: &mut LanguagePackages,
) {
    let is_wanted = |name: &str| ArchiveKind::of(name).is_some();
    let entries = match zip::entries(content, size, budget, is_wanted) {
        Ok(entries) => entries.unwrap_or_default(),
        Err(problem) => return found.problem(within(path, &problem)),
    };
    let mut artifacts = Artifacts::default();
    for entry in &entries {
        let result = match ArchiveKind::of(&entry.name) {
            Some(ArchiveKind::Archive) if depth + 1 >= MAX_DEPTH => Err("archives are nested too deeply".to_owned()),
            Some(ArchiveKind::Archive) => read_inner(path, entry, (&mut *content, size), budget, depth, found),
            Some(ArchiveKind::Pom) => {
                // A project file that cannot be read hides no package.
                let text = entry.read(content, budget, MAX_TEXT).unwrap_or_default();
                artifacts.pom(&entry.name, pom::licenses(&decode(&text)), found.limits.bytes)
            }
            Some(ArchiveKind::Distribution) => entry
                .read(content, budget, MAX_TEXT)
                .map(|text| python::read_in(path, &entry.name, &decode(&text), found)),
            Some(kind) => entry
                .read(content, budget, MAX_TEXT)
                .and_then(|text| artifacts.read(&kind, &decode(&text), found.limits.bytes)),
            None => Ok(()),
        };
        if let Err(problem) = result {
            found.problem(within(path, &problem));
        }
    }
    artifacts.add(path, found);
}

/// Reads an archive in an archive.
fn read_inner(
    path: &str,
    entry: &ZippedFile,
    (content, size): (&mut dyn ReadSeek, u64),
    budget: &mut ZipBudget<'_>,
    depth: usize,
    found: &mut LanguagePackages,
) -> Result<(), String> {
    let parts = entry.name.split(['/', '\\']).filter(|part| !part.is_empty() && *part != ".");
    let inner_path = parts.fold(path.to_owned(), |path, part| format!("{path}/{part}"));
    if inner_path.len() > MAX_PATH {
        return Err("the path of an archive in the archive is too long".to_owned());
    }
    let (mut inner, inner_size) = entry.open(content, size, budget)?;
    read_archive(&inner_path, &mut *inner, inner_size, budget, depth + 1, found);
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
    Manifest,
    /// The project file of Maven: its path names the artifact.
    Pom,
    Properties,
}

impl ArchiveKind {
    fn of(name: &str) -> Option<Self> {
        match split_path(name).1 {
            "pom.properties" => Some(Self::Properties),
            // Those of other folders describe something else.
            "MANIFEST.MF" if name.eq_ignore_ascii_case("META-INF/MANIFEST.MF") => Some(Self::Manifest),
            "pom.xml" if name.starts_with(MAVEN) => Some(Self::Pom),
            _ if python::is_metadata(name) => Some(Self::Distribution),
            _ => {
                let is_archive = has_extension(name, &EXTENSIONS) || has_extension(name, &INNER_EXTENSIONS);
                is_archive.then_some(Self::Archive)
            }
        }
    }
}

/// The folder that Maven adds to archives: it contains `GROUP/NAME/pom.properties` and `GROUP/NAME/pom.xml`.
const MAVEN: &str = "META-INF/maven/";

/// An artifact: group, name and version.
type Artifact = (String, String, String);

/// What one archive states about itself.
#[derive(Default)]
struct Artifacts {
    from_maven: Vec<Artifact>,
    from_manifest: Option<Artifact>,
    /// Group and name in the paths of `pom.xml`, with the licences that the file states.
    poms: Vec<(String, String, Vec<String>)>,
    /// The length of the texts, in bytes.
    bytes: usize,
}

impl Artifacts {
    fn read(&mut self, kind: &ArchiveKind, text: &str, max_bytes: usize) -> Result<(), String> {
        let artifact = match kind {
            ArchiveKind::Properties => properties(text),
            ArchiveKind::Manifest => manifest::artifact(text),
            ArchiveKind::Archive | ArchiveKind::Distribution | ArchiveKind::Pom => None,
        };
        let Some(artifact) = artifact else { return Ok(()) };
        self.count(artifact.0.len() + artifact.1.len() + artifact.2.len(), max_bytes)?;
        match kind {
            ArchiveKind::Manifest => self.from_manifest = Some(artifact),
            _ => self.from_maven.push(artifact),
        }
        Ok(())
    }

    /// Notes the artifact that the path of a `pom.xml` names.
    fn pom(&mut self, name: &str, licenses: Vec<String>, max_bytes: usize) -> Result<(), String> {
        let parts = name.strip_prefix(MAVEN).and_then(|rest| rest.strip_suffix("/pom.xml"));
        let Some((group, artifact)) = parts.and_then(|parts| parts.split_once('/')) else { return Ok(()) };
        self.count(name.len() + licenses.iter().map(String::len).sum::<usize>(), max_bytes)?;
        self.poms.push((group.to_owned(), artifact.to_owned(), licenses));
        Ok(())
    }

    /// Counts the bytes of texts that are kept.
    fn count(&mut self, bytes: usize, max_bytes: usize) -> Result<(), String> {
        self.bytes += bytes;
        if self.bytes > max_bytes {
            return Err("the archive states too many artifacts".to_owned());
        }
        Ok(())
    }

    /// Adds the artifacts. Two entries may state the same one; a trailing `.0` makes no difference.
    fn add(self, path: &str, found: &mut LanguagePackages) {
        let from_name = from_file_name(split_path(path).1);
        let is_own =
            |(_, name, version): &&Artifact| from_name.as_ref().is_some_and(|own| own.0 == *name && own.1 == *version);
        let has_own = self.from_maven.iter().any(|artifact| is_own(&artifact));
        let mut all = self.from_maven;
        if !has_own {
            let group = from_name.as_ref().and_then(|own| self.poms.iter().find(|(_, name, _)| *name == own.0));
            match (group, self.from_manifest, from_name) {
                (Some((group, ..)), _, Some((name, version))) => all.push((group.clone(), name, version)),
                (_, Some(artifact), _) => all.push(artifact),
                (_, None, Some((name, version))) if all.is_empty() => all.push((String::new(), name, version)),
                _ => {}
            }
        }
        let mut seen = std::collections::HashSet::new();
        for (group, name, version) in all {
            let pom = self.poms.iter().find(|(pom_group, pom_name, _)| *pom_group == group && *pom_name == name);
            let licenses = pom.map_or(&[][..], |(_, _, licenses)| licenses);
            let name = if group.is_empty() { name } else { format!("{group}:{name}") };
            let mut short = version.as_str();
            while let Some(shorter) = short.strip_suffix(".0") {
                short = shorter;
            }
            if seen.insert((name.clone(), short.to_owned())) {
                found.add(Ecosystem::Maven, &name, &version, licenses, path);
            }
        }
    }
}

/// Reads `pom.properties`, as `java.util.Properties` does: `=`, `:` or a space is between key and value, with or without
/// spaces. All three values are needed.
fn properties(text: &str) -> Option<Artifact> {
    let mut artifact = Artifact::default();
    for line in text.split(['\n', '\r']).map(str::trim) {
        let Some((key, rest)) = line.find(['=', ':', ' ', '\t']).map(|end| line.split_at(end)) else { continue };
        let rest = rest.trim_start();
        let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start();
        match key {
            "groupId" => value.clone_into(&mut artifact.0),
            "artifactId" => value.clone_into(&mut artifact.1),
            "version" => value.clone_into(&mut artifact.2),
            _ => {}
        }
    }
    (!artifact.0.is_empty() && !artifact.1.is_empty() && !artifact.2.is_empty()).then_some(artifact)
}

/// The name and version in `NAME-VERSION.jar`.
fn from_file_name(file: &str) -> Option<(String, String)> {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r"^([a-zA-Z0-9._-]*[^-*])-([0-9]\S*)\.(?:jar|war|ear|par)$";
        Regex::new(pattern).expect("a valid pattern")
    });
    let parts = PATTERN.captures(file)?;
    Some((parts[1].to_owned(), parts[2].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_as_java_does() {
        for text in ["groupId=g\nartifactId=a\nversion=1\n", "groupId = g\rartifactId: a\r\n version 1 \n#version=2\n"]
        {
            assert_eq!(properties(text), Some(("g".into(), "a".into(), "1".into())), "{text}");
        }
        assert_eq!(properties("groupId=g\nartifactId=a\n"), None);
    }
}
