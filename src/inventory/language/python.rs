//! Core metadata of Python distributions (packaging.python.org, "Core metadata specifications"): header fields like
//! those of e-mail, then a description.

use crate::inventory::Ecosystem;
use crate::version::{VersionScheme, is_equal, is_valid};

use super::{LanguagePackages, split_path};

/// Whether the file states a distribution: `METADATA` or `PKG-INFO` in a directory `*.dist-info` (PEP 376) or
/// `*.egg-info`, or in a directory `EGG-INFO` of an unpacked egg, or a file `*.egg-info`. Python (`importlib.metadata`)
/// compares the endings of directories without regard to case.
pub(super) fn is_metadata(path: &str) -> bool {
    let (folder, name) = split_path(path);
    let in_folder = is_metadata_folder(split_path(folder).1) || (name == "METADATA" && folder.contains(".dist-info"));
    (is_metadata_file(name) && in_folder) || has_ending(name)
}

/// Whether a directory with this name contains the metadata of a distribution.
pub(super) fn is_metadata_folder(name: &str) -> bool {
    name.eq_ignore_ascii_case("EGG-INFO") || has_ending(name)
}

/// Whether a file with this name in such a directory states the distribution.
pub(super) fn is_metadata_file(name: &str) -> bool {
    matches!(name, "METADATA" | "PKG-INFO")
}

fn has_ending(name: &str) -> bool {
    stem(name).is_some()
}

/// The name without the ending.
fn stem(name: &str) -> Option<&str> {
    const ENDINGS: [&str; 2] = [".dist-info", ".egg-info"];
    let (stem, ending) = name.split_at_checked(name.rfind('.')?)?;
    ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending)).then_some(stem)
}

/// Reads the metadata of a distribution. The name of its directory also states a name and a version:
/// `NAME-VERSION.dist-info`, `NAME-VERSION-py3.9.egg-info`. They count if the metadata lacks them, as in pip, and if
/// they differ: Python finds a distribution by the name of its directory. Without a name and a version there is no
/// distribution.
pub(super) fn read(path: &str, text: &str, found: &mut LanguagePackages) {
    read_in(path, path, text, found);
}

/// Reads the metadata at `place` in the archive at `path`.
pub(super) fn read_in(path: &str, place: &str, text: &str, found: &mut LanguagePackages) {
    let fields = fields(text);
    let field = |name: &str| fields.iter().find(|(key, value)| key == name && !value.is_empty());
    let from_path = from_path(place);
    let name = field("name").map(|(_, name)| name.as_str()).or(from_path.map(|(name, _)| name));
    let version = field("version").map(|(_, version)| version.as_str()).or(from_path.map(|(_, version)| version));
    let (Some(name), Some(version)) = (name, version) else { return };
    // Setuptools publishes such a name with dashes for its spaces (`safe_name`); old versions wrote the spaces here.
    let name = name.replace(' ', "-");
    let name = name.as_str();
    let licenses = licenses(&fields);
    if let Some((other_name, other_version)) = from_path.filter(|other| differs((name, version), *other)) {
        found.add(Ecosystem::PyPi, other_name, other_version, &licenses, path);
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')) {
        found.problem("the name in the metadata is not one of a Python distribution".to_owned());
    }
    found.add(Ecosystem::PyPi, name, version, &licenses, path);
}

/// The name and version in the name of the directory or file.
fn from_path(path: &str) -> Option<(&str, &str)> {
    let stem = path.rsplit('/').find_map(stem)?;
    let (name, rest) = stem.split_once('-')?;
    let version = rest.split_once("-py").map_or(rest, |(version, _)| version);
    (!name.is_empty() && !version.is_empty()).then_some((name, version))
}

/// Whether the directory states another distribution, or another version of it. Text that is not a version (PEP 440) is
/// part of an unescaped name.
fn differs((name, version): (&str, &str), (other_name, other_version): (&str, &str)) -> bool {
    let normal = |name: &str| {
        let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join("-").to_ascii_lowercase()
    };
    let is_same = || is_equal(VersionScheme::Python, version, other_version).unwrap_or(false);
    is_valid(VersionScheme::Python, other_version) && (normal(name) != normal(other_name) || !is_same())
}

/// The header fields, with their names in lower case, as Python's `email.feedparser` reads them. They end at the first
/// empty line, and at a line that is not a field. A line that starts with a space or a tab continues the field before
/// it.
fn fields(text: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    let text = text.replace("\r\n", "\n");
    for line in text.split(['\n', '\r']) {
        let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_graphic());
        if line.starts_with([' ', '\t']) {
            let Some((_, value)) = fields.last_mut() else { continue };
            value.push(' ');
            value.push_str(line.trim());
        } else if let Some((name, value)) = line.split_once(':').filter(|(name, _)| is_name(name)) {
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        } else if !line.starts_with("From ") {
            break;
        }
    }
    fields.iter_mut().for_each(|(_, value)| value.truncate(value.trim_end().len()));
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
