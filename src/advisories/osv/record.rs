//! Parses OSV records, schema 1.x. Unknown fields are ignored.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::super::{DamagedDatabase, OsvAffected, OsvDetail, OsvEvent, OsvRange, OsvSeverity};

/// The maximum length of an identifier, an ecosystem or a package name, in bytes.
const MAX_NAME: usize = 4096;

/// A record, taken apart.
#[derive(Debug)]
pub(super) struct OsvRecord {
    /// When the record was withdrawn, if it was.
    pub(super) withdrawn: Option<Timestamp>,
    /// The record without its references.
    pub(super) detail: OsvDetail,
    pub(super) references: Vec<String>,
    /// What it says about each package, by ecosystem and name.
    pub(super) packages: BTreeMap<(String, String), Vec<OsvAffected>>,
}

impl OsvRecord {
    /// Parses the JSON of a record.
    pub(super) fn parse(json: &[u8]) -> Result<Self, DamagedDatabase> {
        if json.trim_ascii_start().starts_with(b"[") {
            return Err(DamagedDatabase("it is a list, and each file is one record".to_owned()));
        }
        let written: WrittenRecord =
            serde_json::from_slice(json).map_err(|error| DamagedDatabase(error.to_string()))?;
        let mut packages: BTreeMap<_, Vec<_>> = BTreeMap::new();
        name(&written.id, "id")?;
        // In a schema with another major version, what is affected may be stated in another place.
        if let Some(schema) =
            written.schema_version.filter(|schema| !matches!(schema.split('.').next(), Some("1" | "")))
        {
            return Err(DamagedDatabase(format!("it has schema {schema:?}, and only 1.x is known")));
        }
        for affected in written.affected {
            // Records about source code that is in no ecosystem have commits only.
            let Some(package) = affected.package else { continue };
            let (ecosystem, package) = (name(&package.ecosystem, "ecosystem")?, name(&package.name, "name")?);
            let package = normalised(&ecosystem, &package).into_owned();
            packages.entry((ecosystem, package)).or_default().push(affected.versions.read()?);
        }
        let detail = OsvDetail {
            id: written.id,
            aliases: written.aliases,
            upstream: written.upstream,
            related: written.related,
            summary: written.summary.unwrap_or_default(),
            published: time(written.published.as_deref()),
            modified: time(written.modified.as_deref()),
            severity: written.severity,
            severity_word: written.database_specific.and_then(Specific::word),
            ..OsvDetail::default()
        };
        let references = written.references.into_iter().map(|reference| reference.url).collect();
        Ok(Self { withdrawn: time(written.withdrawn.as_deref()), detail, references, packages })
    }
}

/// The name under which a package is kept: NuGet and Composer ignore case, Python's installers also the kind of
/// separator (PEP 503).
pub(super) fn normalised<'a>(ecosystem: &str, name: &'a str) -> Cow<'a, str> {
    let is_separator = |character| matches!(character, '-' | '_' | '.');
    let is_upper = |character: char| character.is_ascii_uppercase();
    match ecosystem.split(':').next() {
        Some("NuGet" | "Packagist") if name.contains(is_upper) => return name.to_ascii_lowercase().into(),
        Some("PyPI") if name.contains(|character| is_upper(character) || is_separator(character)) => {}
        _ => return name.into(),
    }
    let mut out = String::with_capacity(name.len());
    for character in name.chars() {
        if !is_separator(character) {
            out.push(character.to_ascii_lowercase());
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    out.into()
}

fn name(text: &str, what: &str) -> Result<String, DamagedDatabase> {
    if text.is_empty() || text.len() > MAX_NAME {
        return Err(DamagedDatabase(format!("its {what} has {} bytes", text.len())));
    }
    Ok(text.to_owned())
}

/// A time, if it can be read: times do not decide whether a package is affected. A withdrawal at an unreadable time
/// does not count.
fn time(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

#[derive(Deserialize)]
struct WrittenRecord {
    id: String,
    /// 1.0.0 if it is missing.
    #[serde(default)]
    schema_version: Option<String>,
    #[serde(default)]
    withdrawn: Option<String>,
    #[serde(default)]
    published: Option<String>,
    #[serde(default)]
    modified: Option<String>,
    #[serde(default, deserialize_with = "or_null")]
    aliases: Vec<String>,
    #[serde(default, deserialize_with = "or_null")]
    upstream: Vec<String>,
    #[serde(default, deserialize_with = "or_null")]
    related: Vec<String>,
    #[serde(default)]
    summary: Option<String>,
    #[serde(default, deserialize_with = "or_null")]
    severity: Vec<OsvSeverity>,
    #[serde(default, deserialize_with = "or_null")]
    affected: Vec<WrittenAffected>,
    #[serde(default, deserialize_with = "or_null")]
    references: Vec<WrittenReference>,
    #[serde(default)]
    database_specific: Option<Specific>,
}

#[derive(Deserialize)]
struct WrittenReference {
    url: String,
}

#[derive(Deserialize)]
struct WrittenAffected {
    #[serde(default)]
    package: Option<WrittenPackage>,
    #[serde(flatten)]
    versions: WrittenVersions,
}

#[derive(Deserialize)]
struct WrittenPackage {
    ecosystem: String,
    name: String,
}

#[derive(Deserialize)]
struct WrittenVersions {
    #[serde(default, deserialize_with = "or_null")]
    ranges: Vec<OsvRange>,
    #[serde(default, deserialize_with = "or_null")]
    versions: Vec<String>,
    #[serde(default, deserialize_with = "or_null")]
    severity: Vec<OsvSeverity>,
    #[serde(default)]
    ecosystem_specific: Option<Specific>,
    #[serde(default)]
    database_specific: Option<Specific>,
}

impl WrittenVersions {
    fn read(self) -> Result<OsvAffected, DamagedDatabase> {
        let mut ranges = self.ranges;
        for range in &mut ranges {
            if range.kind == "GIT" {
                // Commits say nothing about versions; only the existence of such a range is kept.
                range.events.clear();
            } else if range.kind.is_empty() || range.events.is_empty() || !range.events.iter().all(is_event) {
                return Err(DamagedDatabase("a range has no kind, no events, or an unknown event".to_owned()));
            }
        }
        let severity_word = self.ecosystem_specific.and_then(Specific::word);
        let severity_word = severity_word.or_else(|| self.database_specific.and_then(Specific::word));
        Ok(OsvAffected { ranges, versions: self.versions, severity: self.severity, severity_word })
    }
}

fn is_event(event: &OsvEvent) -> bool {
    event.introduced.is_some() || event.fixed.is_some() || event.last_affected.is_some() || event.limit.is_some()
}

/// What a source adds to the schema. Only words for a severity are of interest.
#[derive(Deserialize)]
struct Specific {
    #[serde(default)]
    severity: Value,
    /// Debian.
    #[serde(default)]
    urgency: Value,
}

impl Specific {
    fn word(self) -> Option<String> {
        [self.severity, self.urgency].iter().find_map(Value::as_str).map(str::to_owned)
    }
}

/// Reads `null` as an empty list: Go writes both.
fn or_null<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serde reads the elements of a list as the fields, in their order.
    #[test]
    fn a_list_is_no_record() {
        for list in ["[]", " [\"A-1\"]", "[{\"id\": \"A-1\"}]"] {
            let error = OsvRecord::parse(list.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("each file is one record"), "{list}: {error}");
        }
        OsvRecord::parse(b" {\"id\": \"A-1\"}").unwrap();
    }
}
