//! Core metadata of Python distributions (packaging.python.org, "Core metadata specifications"): header fields like those
//! of e-mail, then a description.

use crate::inventory::Ecosystem;

use super::{LanguagePackages, split_path};

/// Whether the file states a distribution: `METADATA` in a folder `*.dist-info` (PEP 376), and what setuptools wrote
/// before that: a file `*.egg-info`, a folder `*.egg-info`, a folder `EGG-INFO` in an unpacked egg.
pub(super) fn is_metadata(path: &str) -> bool {
    let (folder, name) = split_path(path);
    let in_egg = folder.ends_with(".egg-info") || split_path(folder).1 == "EGG-INFO";
    (name == "METADATA" && (in_egg || folder.contains(".dist-info")))
        || (name == "PKG-INFO" && in_egg)
        || name.ends_with(".egg-info")
}

/// Reads the metadata of a distribution. Where it lacks the name or the version, those in the name of its folder count:
/// `NAME-VERSION.dist-info`, `NAME-VERSION-py3.9.egg-info`, as pip does. Without both there is no distribution.
pub(super) fn read(path: &str, text: &str, found: &mut LanguagePackages) {
    let fields = fields(text);
    let field = |name: &str| fields.iter().find(|(key, value)| key == name && !value.is_empty());
    let (name, version) = match (field("name"), field("version")) {
        (Some((_, name)), Some((_, version))) => (name.as_str(), version.as_str()),
        (name, version) => {
            let Some((from_path, version_from_path)) = from_path(path) else { return };
            (name.map_or(from_path, |(_, name)| name), version.map_or(version_from_path, |(_, version)| version))
        }
    };
    found.add(Ecosystem::PyPi, name, version, &licenses(&fields), path);
}

/// The name and version in the name of the folder or file.
fn from_path(path: &str) -> Option<(&str, &str)> {
    let part = path.rsplit('/').find(|part| part.ends_with(".dist-info") || part.ends_with(".egg-info"))?;
    let stem = part.strip_suffix(".dist-info").or_else(|| part.strip_suffix(".egg-info"))?;
    let (name, rest) = stem.split_once('-')?;
    let version = rest.split_once("-py").map_or(rest, |(version, _)| version);
    (!name.is_empty() && !version.is_empty()).then_some((name, version))
}

/// The header fields, with their names in lower case. They end at the first empty line, and at a line that is no field, as
/// for Python's own reader. A line that starts with a space or a tab continues the field before it.
fn fields(text: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if line.starts_with([' ', '\t']) {
            let Some((_, value)) = fields.last_mut() else { continue };
            value.push(' ');
            value.push_str(line.trim());
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        } else {
            break;
        }
    }
    fields
}

/// The licences: the expression (PEP 639), else the classifiers, else the free text.
fn licenses(fields: &[(String, String)]) -> Vec<String> {
    let all = |name: &'static str| {
        fields.iter().filter(move |(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    };
    if let Some(expression) = all("license-expression").next() {
        return vec![expression.to_owned()];
    }
    // The group `OSI Approved` alone names no licence.
    let classifiers: Vec<String> = all("classifier")
        .filter_map(|classifier| classifier.strip_prefix("License :: "))
        .filter_map(|license| license.rsplit(" :: ").next())
        .filter(|license| *license != "OSI Approved")
        .map(str::to_owned)
        .collect();
    if classifiers.is_empty() { all("license").next().map(str::to_owned).into_iter().collect() } else { classifiers }
}
