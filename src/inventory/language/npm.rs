//! `package.json` of Node.js (docs.npmjs.com, "package.json"). A file without a version is not a package, nor is one
//! without a name, unless it is installed: npm lists that by the name of its directory.

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::inventory::Ecosystem;

use super::LanguagePackages;

/// Reads a `package.json`. Node.js does not load a package whose file is not JSON, so such a file states no package;
/// many packages contain one as a test case.
pub(super) fn read(path: &str, text: &str, found: &mut LanguagePackages) {
    // One value is read, and what follows it is ignored, as Trivy does.
    let Some(Ok(PackageManifest { name, version, licenses })) =
        serde_json::Deserializer::from_str(text).into_iter::<PackageManifest>().next()
    else {
        return;
    };
    let name = Some(&*name).filter(|name| is_name(name)).or_else(|| installed_name(path));
    if let Some(name) = name.filter(|_| !version.is_empty()) {
        found.add(Ecosystem::Npm, name, &version, &licenses, path);
    }
}

/// The name by which `require` finds a package: that of its directory in `node_modules`, with the scope. Directories
/// such as `.cache` and `.bin` are those of tools.
fn installed_name(path: &str) -> Option<&str> {
    let directory = path.strip_suffix("/package.json")?;
    let at = directory.rfind("node_modules/").filter(|at| *at == 0 || directory[..*at].ends_with('/'))?;
    Some(&directory[at + "node_modules/".len()..]).filter(|name| is_name(name) && !name.starts_with('.'))
}

/// Whether this can be the name of a package: `NAME` or `@SCOPE/NAME`, of characters that need no escape in a URL.
fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    };
    match name.strip_prefix('@') {
        Some(scoped) => scoped.split_once('/').is_some_and(|(scope, name)| is_part(scope) && is_part(name)),
        None => is_part(name),
    }
}

/// The fields that are used. If a field occurs twice, the last one counts, as in JavaScript.
#[derive(Default)]
struct PackageManifest {
    name: String,
    version: String,
    licenses: Vec<String>,
}

impl<'de> Deserialize<'de> for PackageManifest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ManifestVisitor)
    }
}

struct ManifestVisitor;

impl<'de> Visitor<'de> for ManifestVisitor {
    type Value = PackageManifest;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PackageManifest, A::Error> {
        let (mut manifest, mut older) = (PackageManifest::default(), Vec::new());
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Name => manifest.name = text_of(map.next_value()?),
                Key::Version => manifest.version = text_of(map.next_value()?),
                Key::License => manifest.licenses = licenses(map.next_value()?),
                Key::Licenses => older = licenses(map.next_value()?),
                Key::Other => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        // Old packages have a list in `licenses`.
        if manifest.licenses.is_empty() {
            manifest.licenses = older;
        }
        Ok(manifest)
    }
}

/// The key of a field, read as bytes: a key may be text that is not valid Unicode (`"\ud800"`).
enum Key {
    License,
    Licenses,
    Name,
    Other,
    Version,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
                self.visit_bytes(key.as_bytes())
            }

            fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Key, E> {
                Ok(match key {
                    b"license" => Key::License,
                    b"licenses" => Key::Licenses,
                    b"name" => Key::Name,
                    b"version" => Key::Version,
                    _ => Key::Other,
                })
            }
        }
        deserializer.deserialize_bytes(KeyVisitor)
    }
}

/// The text of a value. Empty if it is not text.
fn text_of(value: &RawValue) -> String {
    serde_json::from_str(value.get()).unwrap_or_default()
}

/// The licences: `"MIT"`, `{"type": "MIT"}` or `[{"type": "MIT"}, …]`.
fn licenses(value: &RawValue) -> Vec<String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum License {
        Text(String),
        Object {
            #[serde(rename = "type")]
            kind: String,
        },
        List(Vec<Self>),
    }
    fn collect(license: License, into: &mut Vec<String>) {
        match license {
            License::Text(text) | License::Object { kind: text } if !text.is_empty() => into.push(text),
            License::List(list) => list.into_iter().for_each(|license| collect(license, into)),
            License::Text(_) | License::Object { .. } => {}
        }
    }
    let mut all = Vec::new();
    // serde_json refuses values nested deeper than 128, which bounds the recursion.
    if let Ok(license) = serde_json::from_str(value.get()) {
        collect(license, &mut all);
    }
    all
}
