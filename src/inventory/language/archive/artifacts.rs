//! Which artifact an archive is, and which were merged into it.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use crate::inventory::Ecosystem;

use super::super::{LanguagePackages, split_path};
use super::{ArchiveKind, MAVEN, is_placeholder, manifest, pom, within};

/// An artifact: group, name and version.
pub(super) type Artifact = (String, String, String);

/// Which artifact an archive itself is, apart from those that were merged into it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum OwnArtifact {
    /// The artifact on which the file name and one of Maven's files agree.
    Proven,
    /// Unknown: it may be a stated one or another one; or the archive has no code.
    Unproven,
    /// The archive contains classes and states no artifact.
    Unknown,
}

/// What one archive states about itself.
#[derive(Default)]
pub(super) struct Artifacts {
    /// Whether the archive contains classes other than those of an application.
    has_classes: bool,
    /// Whether it is a part of the Java runtime, which no advisories of Maven name.
    is_runtime: bool,
    from_maven: Vec<Artifact>,
    from_manifest: Option<Artifact>,
    projects: Vec<Project>,
    /// The length of the texts, in bytes.
    bytes: usize,
}

/// What a `pom.xml`, or a `pom.properties` that is not complete, states.
struct Project {
    group: String,
    name: String,
    /// Empty if not stated.
    version: String,
    licenses: Vec<String>,
}

impl Artifacts {
    pub(super) fn new(has_classes: bool) -> Self {
        Self { has_classes, ..Self::default() }
    }

    /// Reads a manifest or a `pom.properties`.
    pub(super) fn read(&mut self, path: &str, kind: &ArchiveKind, text: &str, max_bytes: usize) -> Result<(), String> {
        match kind {
            ArchiveKind::Properties => {
                let artifact = properties(text);
                let (group, name, version) = &artifact;
                self.count(group.len() + name.len() + version.len(), max_bytes)?;
                if [group, name, version].iter().all(|part| !part.is_empty()) {
                    self.from_maven.push(artifact);
                } else if let Some((group, name)) = path_of(path, "/pom.properties") {
                    self.count(path.len(), max_bytes)?;
                    self.projects.push(Project { group, name, version: artifact.2, licenses: Vec::new() });
                }
            }
            ArchiveKind::Manifest => {
                self.is_runtime |= manifest::is_runtime(text);
                if let Some(artifact) = manifest::artifact(text) {
                    self.count(artifact.0.len() + artifact.1.len() + artifact.2.len(), max_bytes)?;
                    self.from_manifest = Some(artifact);
                }
            }
            ArchiveKind::Archive
            | ArchiveKind::Distribution
            | ArchiveKind::Gem
            | ArchiveKind::Module
            | ArchiveKind::Pom => {}
        }
        Ok(())
    }

    /// Reads a `pom.xml`, whose path names the artifact.
    pub(super) fn pom(&mut self, path: &str, text: &str, max_bytes: usize) -> Result<(), String> {
        let Some((group, name)) = path_of(path, "/pom.xml") else { return Ok(()) };
        let (version, licenses) = (pom::version(text).unwrap_or_default(), pom::licenses(text));
        self.count(path.len() + version.len() + licenses.iter().map(String::len).sum::<usize>(), max_bytes)?;
        self.projects.push(Project { group, name, version, licenses });
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

    /// Adds the artifacts. Returns what is known about the archive's own one.
    pub(super) fn add(mut self, path: &str, found: &mut LanguagePackages) -> OwnArtifact {
        let from_name = from_file_name(split_path(path).1);
        let mut all = std::mem::take(&mut self.from_maven);
        let mut is_stated = !all.is_empty();
        // One of the two files about a project may state the version that the other lacks.
        self.projects.sort_by_key(|project| project.version.is_empty());
        for Project { group, name, version, .. } in &self.projects {
            if all.iter().any(|artifact| artifact.0 == *group && artifact.1 == *name) {
                continue;
            }
            let own = from_name.as_ref().filter(|own| own.0 == *name && version.is_empty()).map(|own| &own.1);
            match own.unwrap_or(version) {
                version if version.is_empty() => {
                    let problem = format!("the version of {group}:{name} is not stated");
                    self.problem(within(path, &problem), found);
                }
                version => all.push((group.clone(), name.clone(), version.clone())),
            }
            is_stated = true;
        }
        let is_own = |own: &(String, String)| all.iter().any(|(_, name, version)| *name == own.0 && *version == own.1);
        let is_proven = from_name.as_ref().is_some_and(is_own);
        if !is_proven {
            match (self.from_manifest.take(), from_name) {
                (Some(guess), _) => all.push(guess),
                (None, Some((name, version))) if all.is_empty() && self.has_classes => {
                    all.push((String::new(), name, version));
                }
                _ => {}
            }
        }
        self.add_all(all, path, found);
        match is_proven {
            true => OwnArtifact::Proven,
            false if self.has_classes && !is_stated && !self.is_runtime => OwnArtifact::Unknown,
            false => OwnArtifact::Unproven,
        }
    }

    /// Reports what hides which artifact the archive is, if it contains code.
    fn problem(&self, problem: String, found: &mut LanguagePackages) {
        if self.has_classes {
            found.problem(problem);
        }
    }

    /// Adds each artifact once. Two entries may state the same one; a trailing `.0` makes no difference.
    fn add_all(&self, all: Vec<Artifact>, path: &str, found: &mut LanguagePackages) {
        let mut seen = HashSet::new();
        for (group, name, version) in all {
            let of_artifact = |project: &&Project| project.group == group && project.name == name;
            let licenses = self.projects.iter().filter(of_artifact).map(|project| &*project.licenses);
            let licenses = licenses.max_by_key(|licenses| licenses.len()).unwrap_or_default();
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

/// Group and name in the path of a file that Maven writes: `META-INF/maven/GROUP/NAME/pom.xml`.
fn path_of(path: &str, file: &str) -> Option<(String, String)> {
    let (group, name) = path.strip_prefix(MAVEN)?.strip_suffix(file)?.split_once('/')?;
    (!group.is_empty() && !name.is_empty()).then(|| (group.to_owned(), name.to_owned()))
}

/// Reads `pom.properties`, as `java.util.Properties` does: `=`, `:` or a space is between key and value, with or
/// without spaces. Values that are missing, or that the build did not fill in, are empty.
fn properties(text: &str) -> Artifact {
    let mut artifact = Artifact::default();
    for line in text.split(['\n', '\r']).map(str::trim) {
        let Some((key, rest)) = line.find(['=', ':', ' ', '\t']).map(|end| line.split_at(end)) else { continue };
        let rest = rest.trim_start();
        let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start();
        let value = if is_placeholder(value) { "" } else { value };
        match key {
            "groupId" => value.clone_into(&mut artifact.0),
            "artifactId" => value.clone_into(&mut artifact.1),
            "version" => value.clone_into(&mut artifact.2),
            _ => {}
        }
    }
    artifact
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
            assert_eq!(properties(text), ("g".into(), "a".into(), "1".into()), "{text}");
        }
        for version in ["", "version=${revision}\n", "version=1.${minor}\n", "version=@version@\n"] {
            let without_version = properties(&format!("groupId=g\nartifactId=a\n{version}"));
            assert_eq!(without_version, ("g".into(), "a".into(), String::new()), "{version}");
        }
    }
}
