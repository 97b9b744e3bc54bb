//! Packages of a .NET program: `PROGRAM.deps.json` (github.com/dotnet/sdk, "Runtime configuration files").

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::inventory::Ecosystem;

use super::LanguagePackages;
use super::json::JsonFields;

/// The start of the names of runtimes that are part of a program.
const RUNTIME: &str = "runtimepack.";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DotNetProgram {
    #[serde(default)]
    runtime_target: Option<DotNetTarget>,
    #[serde(default)]
    targets: JsonFields<JsonFields<UsedLibrary>>,
    #[serde(default)]
    libraries: JsonFields<DotNetLibrary>,
}

#[derive(Deserialize)]
struct DotNetTarget {
    #[serde(default)]
    name: String,
}

/// What of a library a target uses.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsedLibrary {
    #[serde(default)]
    runtime: Option<IgnoredAny>,
    #[serde(default)]
    runtime_targets: Option<IgnoredAny>,
    #[serde(default)]
    native: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct DotNetLibrary {
    #[serde(default, rename = "type")]
    kind: String,
}

/// Whether the file states the packages of a program.
pub(super) fn is_list(path: &str) -> bool {
    path.ends_with(".deps.json")
}

/// Reads the packages that the program uses when it runs. Those that were only needed to compile it are left out, as
/// are other kinds of libraries.
pub(super) fn read(path: &str, text: &str, found: &mut LanguagePackages) {
    // The host of .NET reads one value and ignores what follows.
    let first = serde_json::Deserializer::from_str(text).into_iter::<DotNetProgram>().next();
    let Some(Ok(DotNetProgram { runtime_target, targets, libraries })) = first else {
        return found.problem("the list of the program's packages is damaged".to_owned());
    };
    let is_target = |name: &String| runtime_target.as_ref().is_some_and(|target| target.name == *name);
    let of_target = targets.0.iter().filter(|(name, _)| is_target(name)).flat_map(|(_, libraries)| &libraries.0);
    // A library that the target does not list may be used.
    let mut is_used: HashMap<&str, bool> = HashMap::new();
    for (key, used) in of_target {
        let has_files = used.runtime.is_some() || used.runtime_targets.is_some() || used.native.is_some();
        *is_used.entry(key).or_default() |= has_files;
    }
    for (key, library) in &libraries.0 {
        let is_package =
            ["package", "project", "runtimepack"].iter().any(|kind| kind.eq_ignore_ascii_case(&library.kind));
        match key.split_once('/') {
            Some((name, version)) if is_package && is_used.get(key.as_str()) != Some(&false) => {
                let name = name.strip_prefix(RUNTIME).unwrap_or(name);
                found.add(Ecosystem::NuGet, name, version, &[], path);
            }
            None if is_package => found.problem(format!("the package {key} has no version")),
            _ => {}
        }
    }
}
