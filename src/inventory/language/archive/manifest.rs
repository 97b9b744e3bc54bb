//! `META-INF/MANIFEST.MF` (Oracle, "JAR File Specification"): attributes of the whole archive, up to the first empty
//! line.

use super::artifacts::Artifact;
use super::is_placeholder;

/// The artifact that the manifest states, from the attributes that Trivy uses. Vendors write free text into them
/// (`The Apache Software Foundation`); only what can be the coordinates of an artifact counts.
pub(super) fn artifact(text: &str) -> Option<Artifact> {
    let attributes = attributes(text);
    let first = |names: &[&str]| {
        let values = names.iter().filter_map(|name| attributes.iter().rev().find(|(key, _)| key == name));
        values
            .map(|(_, value)| value.trim())
            .find(|value| !value.is_empty() && !value.starts_with('%') && !is_placeholder(value))
    };
    // The identifier of a bundle has parameters after its name: `org.example.name;singleton:=true`.
    let bundle = first(&["Bundle-SymbolicName"]).and_then(|name| name.split(';').next()).map(str::trim);
    let group_of_bundle = bundle.map(|name| name.rsplit_once('.').map_or(name, |(group, _)| group));
    let group = first(&["Implementation-Vendor-Id"])
        .or(group_of_bundle)
        .or(first(&["Implementation-Vendor", "Specification-Vendor"]))?;
    let name = first(&["Implementation-Title", "Specification-Title", "Bundle-Name"])?;
    let version = first(&["Implementation-Version", "Specification-Version", "Bundle-Version"])?;
    let is_coordinate = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    (is_coordinate(group) && is_coordinate(name)).then(|| (group.to_owned(), name.to_owned(), version.to_owned()))
}

/// Whether this is the manifest of an archive of the Java runtime, as OpenJDK's build writes it (`mainmanifest.mf`).
pub(super) fn is_runtime(text: &str) -> bool {
    let attributes = attributes(text);
    let has = |name: &str, value: &str| attributes.iter().any(|(key, found)| key == name && found == value);
    has("Implementation-Title", "Java Runtime Environment")
        && has("Specification-Title", "Java Platform API Specification")
}

/// The attributes of the main section. A line that starts with a space continues the one before it.
fn attributes(text: &str) -> Vec<(String, String)> {
    let mut attributes: Vec<(String, String)> = Vec::new();
    // Lines end with CR, LF or both.
    for line in text.replace("\r\n", "\n").replace('\r', "\n").lines() {
        if line.is_empty() {
            break;
        }
        if let Some(rest) = line.strip_prefix(' ') {
            if let Some((_, value)) = attributes.last_mut() {
                value.push_str(rest);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            attributes.push((name.to_owned(), value.strip_prefix(' ').unwrap_or(value).to_owned()));
        }
    }
    attributes
}
