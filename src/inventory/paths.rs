//! Paths in a layer: relative to the root, without `.` and `..`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::oci::Digest;

/// The maximum number of parts of a path.
pub(super) const MAX_DEPTH: usize = 128;
/// The maximum length of a path as text, in bytes: Linux allows 4096 bytes, each of which may be escaped.
const MAX_TEXT: usize = 4 * 4096;
/// The maximum number of links that are followed. Linux follows 40, containerd 255.
const MAX_LINKS: usize = 40;

/// A path of a tar entry, cleaned as Go's `path.Clean` does and without leading `/`.
pub(super) struct CleanPath {
    /// Empty for the root. See [`path_text`].
    pub(super) text: String,
    /// Whether the path leads out of the root, where runtimes either keep it inside or refuse the layer.
    pub(super) escapes: bool,
}

impl CleanPath {
    pub(super) fn new(written: &[u8]) -> Self {
        Self::of_text(&path_text(written))
    }

    fn of_text(text: &str) -> Self {
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

/// A path as text. Bytes that are not UTF-8 are written as `\xff`, and a backslash as `\\`: different paths have
/// different texts.
pub(super) fn path_text(written: &[u8]) -> String {
    let mut text = String::with_capacity(written.len());
    for chunk in written.utf8_chunks() {
        for part in chunk.valid().split_inclusive('\\') {
            text.push_str(part);
            if part.ends_with('\\') {
                text.push('\\');
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// Why a link is not followed: see [`goes_back`].
pub(super) const GOES_BACK: &str = "the target of a link leads through `..`";

/// Whether `..` follows a directory in the target of a link. If that directory is a link itself, `..` is the directory
/// above where it leads (path_resolution(7)), and not the one above its name. No packager writes such links.
pub(super) fn goes_back(target: &str) -> bool {
    let mut parts = target.split('/').filter(|part| !matches!(*part, "" | ".")).skip_while(|part| *part == "..");
    parts.any(|part| part == "..")
}

/// The path that a symbolic link at `link` leads to. Both are texts of paths.
pub(super) fn target_of(link: &str, target: &str) -> String {
    let base = if target.starts_with('/') { "" } else { parent(link) };
    CleanPath::of_text(&format!("/{base}/{target}")).text
}

/// The path with symbolic links followed in the directories above it, or why they cannot be followed. `link_at` returns
/// the target of the link at a path.
pub(super) fn follow_links<'a>(path: &str, link_at: impl Fn(&str) -> Option<&'a str>) -> Result<String, &'static str> {
    let mut path = path.to_owned();
    for _ in 0..=MAX_LINKS {
        let link = self_and_ancestors(parent(&path)).find_map(|above| link_at(above).map(|target| (above, target)));
        let Some((above, target)) = link else { return Ok(path) };
        if goes_back(target) {
            return Err(GOES_BACK);
        }
        path = format!("{}{}", target_of(above, target), &path[above.len()..]).trim_start_matches('/').to_owned();
        if path.len() > MAX_TEXT || path.split('/').count() > MAX_DEPTH {
            return Err("a link leads to a path that is too long");
        }
    }
    Err("a path leads through too many links")
}

/// The directory that contains the path; empty for the root.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The last part of the path.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The range of all paths beneath a directory.
pub(super) fn beneath(path: &str) -> std::ops::Range<String> {
    // `/` + 1 is `0`: all paths that begin with `path/`.
    format!("{path}/")..format!("{path}0")
}

/// The path and all directories above it, except the root.
pub(super) fn self_and_ancestors(path: &str) -> impl Iterator<Item = &str> {
    let slashes = path.match_indices('/').map(|(at, _)| &path[..at]);
    slashes.chain((!path.is_empty()).then_some(path))
}

/// A set of paths that can be asked but not listed: sixteen bytes for each path. The hash is cryptographic and long
/// enough that no two paths with the same hash can be found, so no path of a layer can be mistaken for another.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct PathSet(BTreeSet<u128>);

impl PathSet {
    /// Adds a path. Returns whether it is new.
    pub(super) fn insert(&mut self, path: &str) -> bool {
        self.0.insert(Self::hash(path))
    }

    pub(super) fn extend<'p>(&mut self, paths: impl IntoIterator<Item = &'p str>) {
        self.0.extend(paths.into_iter().map(Self::hash));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        !self.is_empty() && self.0.contains(&Self::hash(path))
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether the set contains a path with one of these hashes.
    pub(super) fn contains_any(&self, hashes: &[u128]) -> bool {
        !self.is_empty() && hashes.iter().any(|hash| self.0.contains(hash))
    }

    pub(super) fn hash(path: &str) -> u128 {
        let digest = Digest::sha256(path.as_bytes());
        digest.as_bytes().first_chunk().map_or(0, |first| u128::from_be_bytes(*first))
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
            return Err(serde::de::Error::custom("a set of paths has sixteen bytes for each path"));
        }
        Ok(Self(hashes.iter().map(|hash| u128::from_be_bytes(*hash)).collect()))
    }
}

/// Whether a map has a path beneath this one.
pub(super) fn has_beneath<T>(map: &BTreeMap<&str, T>, path: &str) -> bool {
    let prefix = format!("{path}/");
    let mut after = map.range::<str, _>((Bound::Included(&*prefix), Bound::Unbounded));
    after.next().is_some_and(|(found, _)| found.starts_with(&prefix))
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
    }

    #[test]
    fn different_paths_have_different_texts() {
        let texts =
            [&b"a\xff"[..], b"a\xfe", b"a\\xff", b"a\\\\xff", b"a\\\xff", "a\u{fffd}".as_bytes(), "aÿ".as_bytes()];
        let all: BTreeSet<String> = texts.iter().map(|path| CleanPath::new(path).text).collect();
        assert_eq!(all.len(), texts.len(), "{all:?}");
        assert_eq!(path_text(b"v\xff/a\\b"), r"v\xff/a\\b");
        assert_eq!(target_of("etc/x", &path_text(b"a\\b\xff")), r"etc/a\\b\xff", "a target is escaped once");
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
    fn only_leading_steps_back_are_certain() {
        for target in ["../x", "../../usr/lib", "/../x", "./../x", "x", "/", "..", "a..b/c", ".../x"] {
            assert!(!goes_back(target), "{target}");
        }
        for target in ["x/..", "a/../b", "../a/../b", "/opt/link/../../usr", "a/./../b"] {
            assert!(goes_back(target), "{target}");
        }
    }

    #[test]
    fn links_are_followed_within_limits() {
        let follow = |path: &str, links: &[(&'static str, &'static str)]| {
            let links: BTreeMap<_, _> = links.iter().copied().collect();
            follow_links(path, |above| links.get(above).copied())
        };
        assert_eq!(follow("a/b/c", &[("a", "x"), ("x/b", "/y")]).as_deref(), Ok("y/c"));
        assert_eq!(follow("a", &[("a", "x")]).as_deref(), Ok("a"), "the last part is not followed");
        assert!(follow("a/b", &[("a", "b"), ("b", "a")]).is_err());
        assert!(follow("a/b", &[("a", "a/x/x/x/x")]).is_err());
        assert_eq!(follow("a/b", &[("a", "x/../y")]), Err(GOES_BACK), "x may be a link");
    }

    #[test]
    fn sets_survive_serialisation() {
        let mut set = PathSet::default();
        set.insert("usr/bin/app");
        let text = serde_json::to_string(&set).unwrap();
        let back: PathSet = serde_json::from_str(&text).unwrap();
        assert!(back.contains("usr/bin/app") && !back.contains("usr/bin"));
        assert!(serde_json::from_str::<PathSet>("\"AAAAAAAAAAA\"").is_err());
        assert_eq!(self_and_ancestors("a/b/c").collect::<Vec<_>>(), ["a", "a/b", "a/b/c"]);
    }
}
