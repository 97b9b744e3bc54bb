//! Layers that some clients read by a table of contents, because the manifest names it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::inventory::LayerTable;
use crate::oci::layer_types::{is_lazy_annotation, is_read_lazily};
use crate::oci::{Descriptor, Digest, Manifest};

/// The digest of the table's text (stargz-snapshotter, estargz/types.go, `TOCJSONDigestAnnotation`). For
/// containers/storage, it is that of eStargz.
const TEXT: &str = "containerd.io/snapshot/stargz/toc.digest";
/// The digest of the compressed table of zstd:chunked (containers/storage, pkg/chunked/internal/minimal; the second one
/// of its first versions and of stargz-snapshotter).
const PACKED: [&str; 2] =
    ["io.github.containers.zstd-chunked.manifest-checksum", "io.containers.zstd-chunked.manifest-checksum"];
/// Where things are in the layer, and how large they are. They do not change what a client sees: the table is known by
/// its digest, and the contents by the digests in it.
const PLACES: [&str; 7] = [
    "io.containers.estargz.uncompressed-size",
    "io.containers.zstd-chunked.manifest-position",
    "io.containers.zstd-chunked.tarsplit-checksum",
    "io.containers.zstd-chunked.tarsplit-position",
    "io.github.containers.zstd-chunked.manifest-position",
    "io.github.containers.zstd-chunked.tarsplit-checksum",
    "io.github.containers.zstd-chunked.tarsplit-position",
];

/// The beginning of the annotations by which a manifest names tables of all its layers: soci-snapshotter takes paths,
/// kinds and places of files from these, and compares no digests of files (fs/fs.go, `findSociIndexDescAnnotation`).
const SOCI: &str = "com.amazon.soci.";

/// The annotations of a manifest. Its parser has refused what clients read differently.
#[derive(Deserialize)]
struct OwnAnnotations {
    #[serde(default)]
    annotations: Option<BTreeMap<String, IgnoredAny>>,
}

/// Why clients may see other files in the layers of a manifest, whatever its layers are; `None` if they do not.
pub(super) fn manifest_problem(manifest: &Manifest) -> Option<String> {
    let Ok(own) = serde_json::from_slice::<OwnAnnotations>(&manifest.bytes) else {
        return Some("its annotations cannot be read, so they may name another table of contents of its layers".into());
    };
    let named = own.annotations?.into_keys().find(|key| key.to_ascii_lowercase().starts_with(SOCI))?;
    Some(format!(
        "some clients read its layers by another table of contents, but what the annotation {named:?} makes them read was \
         not compared"
    ))
}

/// Why clients that read a layer by its table of contents may see other files than those of its archive; `None` if they
/// do not, or if no client reads it so. `table` is that of the layer, compared with its files.
pub(super) fn table_problem(layer: &Descriptor, table: Option<&LayerTable>) -> Option<String> {
    if !is_read_lazily(layer) {
        return None;
    }
    if let Some((unknown, _)) = layer.annotations.iter().find(|(key, _)| !is_known(key)) {
        return Some(format!("what the annotation {unknown:?} makes them read was not compared"));
    }
    let Some(table) = table else { return Some("it was not compared".into()) };
    let named = |keys: &[&str]| {
        let is_one = |key: &String| keys.contains(&key.as_str());
        let values = layer.annotations.iter().filter(|(key, _)| is_one(key)).map(|(_, value)| value.parse().ok());
        values.collect::<Vec<Option<Digest>>>()
    };
    let (by_text, packed) = (named(&[TEXT]), named(&PACKED));
    if by_text.is_empty() && packed.is_empty() {
        return Some("the manifest does not state its digest".into());
    }
    if let Some(difference) = &table.difference {
        return Some(difference.clone());
    }
    let is_other =
        |named: &[Option<Digest>], own: Option<Digest>| named.iter().any(|named| named.is_none() || *named != own);
    if is_other(&by_text, table.text) || is_other(&packed, table.packed) {
        return Some("the manifest states the digest of another one".into());
    }
    // Clients that know the table by its text compare chunks, the others whole files.
    table.chunks.clone().filter(|_| !by_text.is_empty())
}

/// Whether an annotation is known to make clients read nothing but the table.
fn is_known(key: &str) -> bool {
    let is_listed = key == TEXT || PACKED.contains(&key) || PLACES.contains(&key);
    is_listed || !is_lazy_annotation(key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn manifests_can_name_tables_that_are_not_compared() {
        for (annotations, is_found) in [
            (json!(null), false),
            (json!({"org.opencontainers.image.title": "associated"}), false),
            (json!({"com.amazon.soci.index-digest": "sha256:00"}), true),
        ] {
            let part = json!({"digest": Digest::sha256(b"part"), "size": 4});
            let text = json!({"schemaVersion": 2, "config": part, "layers": [part], "annotations": annotations});
            let found = manifest_problem(&Manifest::parse(text.to_string().into(), None).unwrap());
            assert_eq!(found.is_some(), is_found, "{text}");
            assert!(found.is_none_or(|found| found.contains("\"com.amazon.soci.index-digest\"")), "{text}");
        }
    }

    #[test]
    fn annotations_of_another_form_may_name_a_table() {
        let part = json!({"digest": Digest::sha256(b"part"), "size": 4});
        for annotations in [json!([]), json!("com.amazon.soci.index-digest")] {
            let text = json!({"schemaVersion": 2, "config": part, "layers": [part], "annotations": annotations});
            let found = manifest_problem(&Manifest::parse(text.to_string().into(), None).unwrap());
            assert!(found.is_some_and(|found| found.contains("cannot be read")), "{text}");
        }
    }

    #[test]
    fn tables_count_if_the_manifest_names_them() {
        let (text, packed) = (Digest::sha256(b"text"), Digest::sha256(b"packed"));
        let (other, long) = (Digest::sha256(b"other").to_string(), format!("sha512:{}", "0".repeat(128)));
        let (by_text, by_packed) = (text.to_string(), packed.to_string());
        let (other, long, by_text, by_packed) = (&*other, &*long, &*by_text, &*by_packed);
        let equal = LayerTable { text: Some(text), packed: Some(packed), ..LayerTable::default() };
        let unsure = LayerTable { chunks: Some("the chunks were not compared".into()), ..equal.clone() };
        let different = LayerTable { difference: Some("it differs".into()), ..equal.clone() };
        let gzip = LayerTable { packed: None, ..equal.clone() };
        let position = ("io.github.containers.zstd-chunked.manifest-position", "1:2:3:1");
        let [new, old] = PACKED;
        for (annotations, table, wanted) in [
            (vec![], None, None),
            (vec![("org.opencontainers.image.title", "x")], None, None),
            (vec![(TEXT, by_text)], Some(&equal), None),
            (vec![(TEXT, by_text), ("io.containers.estargz.uncompressed-size", "5")], Some(&gzip), None),
            (vec![(new, by_packed), position], Some(&equal), None),
            (vec![(old, by_packed), (TEXT, by_text)], Some(&equal), None),
            (vec![(TEXT, by_text)], None, Some("was not compared")),
            (vec![(TEXT, by_text)], Some(&different), Some("it differs")),
            (vec![(new, by_packed)], Some(&different), Some("it differs")),
            (vec![(TEXT, other)], Some(&equal), Some("the digest of another one")),
            (vec![(TEXT, long)], Some(&equal), Some("the digest of another one")),
            (vec![(TEXT, "none")], Some(&equal), Some("the digest of another one")),
            (vec![(TEXT, by_packed)], Some(&equal), Some("the digest of another one")),
            (vec![(new, by_text)], Some(&equal), Some("the digest of another one")),
            (vec![(new, by_packed)], Some(&gzip), Some("the digest of another one")),
            (vec![(new, by_packed), (old, other)], Some(&equal), Some("the digest of another one")),
            (vec![(new, by_packed), (TEXT, other)], Some(&equal), Some("the digest of another one")),
            (vec![(new, by_packed)], Some(&unsure), None),
            (vec![(TEXT, by_text)], Some(&unsure), Some("the chunks were not compared")),
            (vec![position], Some(&equal), Some("does not state its digest")),
            (vec![(TEXT, by_text), ("com.amazon.soci.span-size", "1")], Some(&equal), Some("com.amazon.soci")),
            (vec![("containerd.io/snapshot/stargz/TOC.digest", by_text)], Some(&equal), Some("TOC.digest")),
        ] {
            let layer = Descriptor {
                media_type: String::new(),
                digest: text,
                size: 1,
                platform: None,
                artifact_type: None,
                urls: Vec::new(),
                has_data: false,
                annotations: annotations.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            };
            let found = table_problem(&layer, table);
            match wanted {
                Some(wanted) => assert!(found.as_ref().is_some_and(|found| found.contains(wanted)), "{found:?}"),
                None => assert_eq!(found, None, "{annotations:?}"),
            }
        }
    }
}
