//! Names the Java archives that do not prove which artifact they are.

use std::collections::HashSet;
use std::sync::Arc;

use super::Databases;
use super::java_db::{DATABASE, JavaArtifact, JavaDb};
use crate::inventory::{Ecosystem, Gap, InstalledPackage, Inventory, UnnamedArchive};

/// The inventory, with those archives named whose checksums are in a database of published Java archives. The guesses
/// from their manifests and file names are then dropped, unless they also state artifacts. An archive that stays
/// unknown is a gap and keeps its guesses; an optional one is not a gap.
///
/// Without a database, or with one that cannot be read, all of them stay unknown. An inventory without such archives is
/// returned as it is, and nothing is read.
pub fn name_archives(databases: Option<&Databases>, inventory: Arc<Inventory>) -> Arc<Inventory> {
    if inventory.unnamed.is_empty() {
        return inventory;
    }
    let mut inventory = Arc::unwrap_or_clone(inventory);
    let java = databases.and_then(Databases::java);
    let (mut named, mut gaps) = (Vec::new(), Vec::new());
    for archive in std::mem::take(&mut inventory.unnamed) {
        match java.map(|java| java.artifact(&archive.sha1)) {
            Some(Ok(Some(artifact))) => named.push((archive, artifact)),
            Some(Ok(None)) => gaps.extend(unknown(&archive, java)),
            Some(Err(error)) => {
                gaps.push(Gap { place: DATABASE.to_owned(), problem: error.to_string() });
                gaps.extend(unknown(&archive, None));
            }
            None => gaps.extend(unknown(&archive, None)),
        }
    }
    let without_statement = named.iter().filter(|(archive, _)| !archive.is_optional);
    let known: HashSet<&str> = without_statement.map(|(archive, _)| &*archive.path).collect();
    let is_guess = |package: &InstalledPackage| {
        package.ecosystem == Ecosystem::Maven && package.path.as_deref().is_some_and(|path| known.contains(path))
    };
    inventory.packages.retain(|package| !is_guess(package));
    inventory.packages.extend(named.into_iter().map(|(archive, artifact)| package(archive, artifact)));
    inventory.sort_packages();
    inventory.gaps.extend(gaps);
    inventory.gaps.sort_unstable();
    inventory.gaps.dedup();
    Arc::new(inventory)
}

fn package(archive: UnnamedArchive, JavaArtifact { name, version }: JavaArtifact) -> InstalledPackage {
    let UnnamedArchive { path, layer, .. } = archive;
    InstalledPackage { path: Some(path), layer, ..InstalledPackage::new(Ecosystem::Maven, name, version) }
}

/// The gap of an archive that stays unknown, if it is not optional.
fn unknown(archive: &UnnamedArchive, java: Option<&JavaDb>) -> Option<Gap> {
    let name = archive.path.rsplit('/').next().unwrap_or(&archive.path);
    let mut problem = format!("{name}: the archive contains classes and does not state which artifact it is");
    if java.is_some() {
        problem.push_str(", and no published archive has its checksum");
    }
    (!archive.is_optional).then(|| Gap { place: archive.file.clone(), problem })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::java_db::sample::{sha1, write};
    use super::super::{AdvisoryStore, ImportOptions, import};
    use super::*;

    /// A database that lists one archive, imported and opened.
    fn databases(folder: &std::path::Path) -> Databases {
        let source = folder.join("java-db");
        write(&source, "2026-05-01T00:00:00Z", &[("org.apache.tomcat", "catalina", "10.1.5", "tomcat")]);
        let store = AdvisoryStore::open(&folder.join("state")).unwrap();
        let options = ImportOptions::at("2026-06-01T00:00:00Z".parse().unwrap());
        import(&store, &source, &options, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
        store.load().unwrap()
    }

    fn inventory() -> Arc<Inventory> {
        let package =
            |name: &str, path: &str| json!({"ecosystem": "maven", "name": name, "version": "1", "path": path});
        let archive = |path: &str, text: &str| json!({"path": path, "file": "srv/app.war", "sha1": sha1(text)});
        let inventory = json!({
            "distribution": null, "gaps": [],
            "packages": [package("a guess", "srv/app.war/catalina.jar"), package("g:other", "srv/app.war/mine.jar")],
            "unnamed": [archive("srv/app.war/catalina.jar", "tomcat"), archive("srv/app.war/mine.jar", "mine")],
        });
        Arc::new(serde_json::from_value(inventory).unwrap())
    }

    fn listed(inventory: &Inventory) -> (Vec<String>, Vec<(&str, &str)>) {
        let packages = inventory.packages.iter().map(|package| format!("{} {}", package.name, package.version));
        let gaps = inventory.gaps.iter().map(|gap| (&*gap.place, &*gap.problem));
        (packages.collect(), gaps.collect())
    }

    #[test]
    fn archives_without_a_name_get_that_of_their_checksum_or_are_gaps() {
        let folder = tempfile::tempdir().unwrap();
        let databases = databases(folder.path());
        assert!(!databases.has_advisories(), "names of archives are not advisories");
        let named = name_archives(Some(&databases), inventory());
        let unknown = "mine.jar: the archive contains classes and does not state which artifact it is, and no published \
                       archive has its checksum";
        let packages = vec!["g:other 1".to_owned(), "org.apache.tomcat:catalina 10.1.5".to_owned()];
        assert_eq!(listed(&named), (packages, vec![("srv/app.war", unknown)]));
        assert_eq!(named.packages[1].path.as_deref(), Some("srv/app.war/catalina.jar"));
    }

    /// An artifact that was merged into an archive says nothing about the archive itself.
    #[test]
    fn optional_archives_are_also_named_by_checksum_and_are_not_gaps() {
        let folder = tempfile::tempdir().unwrap();
        let databases = databases(folder.path());
        let mut merged = Arc::unwrap_or_clone(inventory());
        merged.unnamed.iter_mut().for_each(|archive| archive.is_optional = true);
        let merged = Arc::new(merged);
        let named = name_archives(Some(&databases), merged.clone());
        let packages = ["a guess 1", "g:other 1", "org.apache.tomcat:catalina 10.1.5"].map(str::to_owned);
        assert_eq!(listed(&named), (packages.to_vec(), vec![]));
        assert!(named.unnamed.is_empty());
        assert_eq!(listed(&name_archives(None, merged)), (packages[..2].to_vec(), vec![]));
    }

    #[test]
    fn without_a_readable_database_all_of_them_are_gaps() {
        for databases in [None, Some(Databases::default())] {
            let named = name_archives(databases.as_ref(), inventory());
            let (packages, gaps) = listed(&named);
            assert_eq!((packages.len(), gaps.len()), (2, 2), "{gaps:?}");
            assert!(named.unnamed.is_empty());
        }
        let folder = tempfile::tempdir().unwrap();
        let databases = databases(folder.path());
        let manifest = databases.status()[0].generation.clone().unwrap();
        let path = folder.path().join("state/advisories/trivy-java-db").join(manifest.id()).join(DATABASE);
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_len(4096).unwrap();
        let named = name_archives(Some(&databases), inventory());
        let (_, gaps) = listed(&named);
        assert!(gaps.len() == 3 && gaps[2].0 == DATABASE, "{gaps:?}");
        assert!(gaps.iter().all(|gap| !gap.1.contains("no published archive")), "{gaps:?}");
    }
}
