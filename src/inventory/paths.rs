//! Paths in a layer: relative to the root, without `.` and `..`.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::oci::Digest;

/// A path of a tar entry, cleaned as Go's `path.Clean` does and without leading `/`.
pub(super) struct CleanPath {
    /// Empty for the root. Bytes that are not UTF-8 are escaped, so that different paths stay different.
    pub(super) text: String,
    /// Whether the path leads out of the root, where runtimes either keep it inside or refuse the layer.
    pub(super) escapes: bool,
}

impl CleanPath {
    pub(super) fn new(written: &[u8]) -> Self {
        let text = match std::str::from_utf8(written) {
            Ok(text) => text.to_owned(),
            Err(_) => written.escape_ascii().to_string(),
        };
        let (mut parts, mut escapes) = (Vec::new(), false);
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => escapes |= parts.pop().is_none() && !text.starts_with('/'),
                part => parts.push(part),
            }
        }
        Self { text: parts.join("/"), escapes }
    }
}

/// The path that a symbolic link at `link` leads to.
pub(super) fn target_of(link: &str, target: &str) -> String {
    let base = if target.starts_with('/') { "" } else { parent(link) };
    CleanPath::new(format!("/{base}/{target}").as_bytes()).text
}

/// The directory that contains the path; empty for the root.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The last part of the path.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The path and all directories above it, except the root.
pub(super) fn self_and_ancestors(path: &str) -> impl Iterator<Item = &str> {
    let slashes = path.match_indices('/').map(|(at, _)| &path[..at]);
    slashes.chain((!path.is_empty()).then_some(path))
}

/// A set of paths that can be asked but not listed: eight bytes for each path. The hash is cryptographic, so no layer can
/// be built whose paths are mistaken for those of another.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct PathSet(BTreeSet<u64>);

impl PathSet {
    pub(super) fn insert(&mut self, path: &str) {
        self.0.insert(Self::hash(path));
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&Self::hash(path))
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether the set contains a path with one of these hashes.
    pub(super) fn contains_any(&self, hashes: &[u64]) -> bool {
        !self.0.is_empty() && hashes.iter().any(|hash| self.0.contains(hash))
    }

    pub(super) fn hash(path: &str) -> u64 {
        let digest = Digest::sha256(path.as_bytes());
        digest.as_bytes().first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
    }
}

/// As one string in base 64: the hashes in ascending order.
impl Serialize for PathSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|hash| hash.to_be_bytes()).collect();
        serializer.serialize_str(&BASE64_STANDARD_NO_PAD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for PathSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD_NO_PAD.decode(text).map_err(serde::de::Error::custom)?;
        let (hashes, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(serde::de::Error::custom("a set of paths has eight bytes for each path"));
        }
        Ok(Self(hashes.iter().map(|hash| u64::from_be_bytes(*hash)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (written, text, escapes) in [
            ("etc/os-release", "etc/os-release", false),
            ("./etc//os-release/", "etc/os-release", false),
            ("/etc/./x/../os-release", "etc/os-release", false),
            ("./", "", false),
            ("/../etc", "etc", false),
            ("../etc", "etc", true),
            ("a/../../etc", "etc", true),
        ] {
            let clean = CleanPath::new(written.as_bytes());
            assert_eq!((&*clean.text, clean.escapes), (text, escapes), "{written}");
        }
        let (one, other) = (CleanPath::new(b"a\xff").text, CleanPath::new(b"a\xfe").text);
        assert_ne!(one, other);
    }

    #[test]
    fn links_lead_to_paths_below_the_root() {
        for (link, target, path) in [
            ("etc/os-release", "../usr/lib/os-release", "usr/lib/os-release"),
            ("etc/os-release", "/usr/lib/os-release", "usr/lib/os-release"),
            ("lib", "usr/lib", "usr/lib"),
            ("var/lib/rpm", "../../usr/lib/sysimage/rpm", "usr/lib/sysimage/rpm"),
            ("lib", "../../../x", "x"),
        ] {
            assert_eq!(target_of(link, target), path);
        }
    }

    #[test]
    fn sets_survive_serialisation() {
        let mut set = PathSet::default();
        set.insert("usr/bin/app");
        let text = serde_json::to_string(&set).unwrap();
        let back: PathSet = serde_json::from_str(&text).unwrap();
        assert!(back.contains("usr/bin/app") && !back.contains("usr/bin"));
        assert!(serde_json::from_str::<PathSet>("\"AAAA\"").is_err());
        assert_eq!(self_and_ancestors("a/b/c").collect::<Vec<_>>(), ["a", "a/b", "a/b/c"]);
    }
}
