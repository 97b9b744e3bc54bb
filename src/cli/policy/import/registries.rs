//! registries.d: where signatures are stored (containers-registries.d(5)).

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use url::Url;

use super::scope::DockerScope;
use crate::markup::{Fields, Problems, read_yaml};

/// The largest file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The store that containers/image reads as root where registries.d names none (containers-registries.d(5), and
/// `builtinDefaultLookasideStorageDir` in its `docker/registries_d.go`).
const ROOT_STORE: &str = "/var/lib/containers/sigstore";
/// The same for another user, in the home directory.
const USER_STORE: &str = ".local/share/containers/sigstore";

/// The stores of all files together.
#[derive(Debug, Default)]
pub(super) struct SignatureStores {
    default: Option<String>,
    by_scope: BTreeMap<DockerScope, String>,
    /// What was ignored, and why.
    pub(super) notes: Vec<String>,
}

impl SignatureStores {
    /// Reads all `*.yaml` files of a directory.
    ///
    /// # Errors
    /// A file cannot be read, is not valid, or repeats a scope.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let failed = |path: &Path, why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let entries = fs::read_dir(folder).map_err(|error| failed(folder, &error))?;
        let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
        let paths = paths.as_mut().map_err(|error| failed(folder, error))?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        paths.sort();
        let mut stores = Self::default();
        for path in paths {
            let mut text = String::new();
            let file = fs::File::open(&path).map_err(|error| failed(path, &error))?;
            file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| failed(path, &error))?;
            if text.len() as u64 > MAX_FILE {
                return Err(failed(path, &"is larger than 1 MiB"));
            }
            stores.add(&path.display().to_string(), &text)?;
        }
        Ok(stores)
    }

    /// Adds the content of one file.
    ///
    /// # Errors
    /// The file is not valid, or repeats a scope of another one.
    pub(super) fn add(&mut self, name: &str, text: &str) -> Result<(), String> {
        let problems = Problems::default();
        let roots = read_yaml(text, problems.file(name), &problems);
        for root in &roots {
            let Some(fields) = Fields::of(root, "a file of registries.d", &problems) else { continue };
            fields.only(&["default-docker", "docker"]);
            if let Some(section) = fields.map("default-docker")
                && let Some(store) = lookaside(&section)
                && self.default.replace(store).is_some()
            {
                section.error("default-docker is defined twice");
            }
            for (scope, section) in fields.named_maps("docker") {
                let Some(store) = lookaside(&section) else { continue };
                match DockerScope::parse(scope) {
                    Ok(scope) if self.by_scope.insert(scope.clone(), store).is_some() => {
                        section.error(format!("{} is defined twice", scope.as_str()));
                    }
                    Ok(_) => {}
                    Err(why) => self.notes.push(format!("{name}: {scope:?} {why}; it is ignored")),
                }
            }
        }
        let errors: Vec<_> = problems.into_sorted().iter().map(ToString::to_string).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.join("\n")) }
    }

    pub(super) fn scopes(&self) -> impl Iterator<Item = &DockerScope> {
        self.by_scope.keys()
    }

    /// The URL of the store for a scope that is named in a file; `None` for the widest of all scopes.
    pub(super) fn of(&self, scope: Option<&DockerScope>) -> Option<&str> {
        let lineage = scope.map(DockerScope::lineage).unwrap_or_default();
        let found = lineage.iter().find_map(|one| self.by_scope.iter().find(|(scope, _)| scope.as_str() == one));
        found.map(|(_, store)| store).or(self.default.as_ref()).map(|store| &**store)
    }
}

/// The URL of the store that containers/image reads if no file names one: the system's store for root, otherwise that
/// of the importing user. `None` if the user has no home directory.
pub(super) fn default_store(is_root: bool, home: Option<&Path>) -> Option<String> {
    let folder = if is_root { ROOT_STORE.into() } else { home?.join(USER_STORE) };
    Some(Url::from_file_path(folder).ok()?.into())
}

/// Where signatures are read from. `sigstore` is the old name of `lookaside`. A section with neither is ignored, so the
/// section of a wider scope applies.
fn lookaside(section: &Fields<'_>) -> Option<String> {
    section.only(&["lookaside", "lookaside-staging", "sigstore", "sigstore-staging", "use-sigstore-attachments"]);
    let url = section.text("lookaside").or_else(|| section.text("sigstore"))?;
    (!url.is_empty()).then(|| url.to_owned())
}
