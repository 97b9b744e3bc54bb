//! Identifies packages for which the databases say the same.

use std::hash::{Hash, Hasher};

use crate::inventory::{Ecosystem, InstalledPackage};
use crate::oci::Digest;

/// A cryptographic hash of what advisories are found by, long enough that no two packages with the same one can be
/// made: the author of an image must not be able to give one package the findings of another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct PackageKey([u8; 32]);

impl Hash for PackageKey {
    /// A part of a hash is a hash.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from_le_bytes(self.0.first_chunk().copied().unwrap_or_default()));
    }
}

impl PackageKey {
    /// The key of a package: equal for packages that differ only in where they are.
    pub(super) fn of(package: &InstalledPackage) -> Self {
        let InstalledPackage { ecosystem, name, version, source, architecture, module, vendor, layer, .. } = package;
        let source = source.as_ref().map(|source| (&*source.name, &*source.version));
        // The products of Red Hat are those of a layer.
        let layer = layer.as_ref().filter(|_| *ecosystem == Ecosystem::Rpm).map(Digest::as_bytes);
        Self::of_parts(&[
            Some(&[*ecosystem as u8]),
            Some(name.as_bytes()),
            Some(version.as_bytes()),
            source.map(|source| source.0.as_bytes()),
            source.map(|source| source.1.as_bytes()),
            Some(architecture.as_bytes()),
            module.as_deref().map(str::as_bytes),
            vendor.as_deref().map(str::as_bytes),
            layer,
        ])
    }

    /// The key of a place in which packages are looked up.
    pub(super) fn of_place(names: &[&str]) -> Self {
        Self::of_parts(&names.iter().map(|name| Some(name.as_bytes())).collect::<Vec<_>>())
    }

    fn of_parts(parts: &[Option<&[u8]>]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        for part in parts {
            // With its length, and so that none differs from an empty one.
            bytes.extend(part.map_or(0, |part| part.len() as u64 + 1).to_le_bytes());
            bytes.extend_from_slice(part.unwrap_or_default());
        }
        let digest = Digest::sha256(&bytes);
        Self(digest.as_bytes().first_chunk().copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn packages_that_differ_in_anything_that_decides_have_other_keys() {
        let base = json!({"ecosystem": "rpm", "name": "bash", "version": "5-1", "layer": Digest::sha256(b"a")});
        let with = |key: &str, value: Value| {
            let mut package = base.clone();
            package[key] = value;
            package
        };
        let all = [
            base.clone(),
            with("ecosystem", json!("deb")),
            with("name", json!("bash5")),
            with("version", json!("-1")),
            with("source", json!({"name": "bash", "version": "5-1"})),
            with("source", json!({"name": "bash5", "version": "-1"})),
            with("architecture", json!("x86_64")),
            with("module", json!("")),
            with("vendor", json!("")),
            with("layer", json!(Digest::sha256(b"b"))),
        ];
        let key = |package: &Value| PackageKey::of(&serde_json::from_value(package.clone()).unwrap());
        for (index, package) in all.iter().enumerate() {
            assert!(all[..index].iter().all(|other| key(other) != key(package)), "{package}");
        }
        assert_eq!(key(&base), key(&with("path", json!("x"))), "a place decides nothing");
        assert_ne!(PackageKey::of_place(&["a", "b"]), PackageKey::of_place(&["ab"]));
    }
}
