//! Packages that Composer has installed: `vendor/composer/installed.json` (getcomposer.org/doc/04-schema.md for each
//! package). Composer 2 writes an object with a list, Composer 1 the list alone.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::inventory::Ecosystem;

use super::json::JsonList;
use super::{LanguagePackages, split_path};

#[derive(Deserialize)]
struct ComposerList {
    packages: JsonList<Box<RawValue>>,
}

#[derive(Deserialize)]
struct ComposerPackage {
    name: String,
    version: String,
    #[serde(default)]
    license: Option<serde_json::Value>,
}

/// Whether the file is Composer's. The directory above it may have any name.
pub(super) fn is_list(path: &str) -> bool {
    split_path(path).1 == "installed.json"
}

/// Reads the packages. A file outside a directory `composer` that has another format states none.
pub(super) fn read(path: &str, text: &str, found: &mut LanguagePackages) {
    let is_composer = split_path(split_path(path).0).1 == "composer";
    let list = match text.trim_start().starts_with('[') {
        true => serde_json::from_str(text),
        false => serde_json::from_str(text).map(|ComposerList { packages }| packages),
    };
    let JsonList(packages) = match list {
        Ok(packages) => packages,
        Err(_) if !is_composer => return,
        Err(_) => return found.problem("Composer's list of packages is damaged".to_owned()),
    };
    for package in packages {
        match serde_json::from_str(package.get()) {
            Ok(ComposerPackage { name, version, license }) if !name.is_empty() && !version.is_empty() => {
                let license = license.and_then(|license| choice(&license));
                found.add(Ecosystem::Composer, &name, &version, license.as_slice(), path);
            }
            _ if !is_composer => {}
            _ => found.problem("a Composer package has no name or no version".to_owned()),
        }
    }
}

/// The licence as one string. If there are several, the user of the package may choose one.
fn choice(license: &serde_json::Value) -> Option<String> {
    let texts: Vec<&str> = match license {
        serde_json::Value::String(text) => vec![text],
        serde_json::Value::Array(list) => list.iter().filter_map(serde_json::Value::as_str).collect(),
        _ => return None,
    };
    let in_brackets = |text: &&str| match texts.len() > 1 && text.contains(' ') && !text.starts_with('(') {
        true => format!("({text})"),
        false => (*text).to_owned(),
    };
    let texts: Vec<String> = texts.iter().filter(|text| !text.is_empty()).map(in_brackets).collect();
    (!texts.is_empty()).then(|| texts.join(" or "))
}
