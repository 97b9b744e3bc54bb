//! The second proof of an attachment: its configuration contains nothing that can be run.

use serde_json::Value;

use super::super::manifest::Descriptor;
use super::super::{json, sniff};

/// Keys of an image configuration, or of Docker's older form of it, that describe something to run (image-spec,
/// config.md; moby, image/spec). Other spellings that Go's case folding accepts for these are refused.
const KEYS: &[&str] = &[
    "ArgsEscaped",
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
    "architecture",
    "config",
    "container",
    "container_config",
    "created",
    "diff_ids",
    "fsLayers",
    "history",
    "layers",
    "manifests",
    "os",
    "os.features",
    "os.version",
    "rootfs",
    "schemaVersion",
    "variant",
];

/// Whether the configuration is one strict JSON object that no client could run: what cosign writes
/// (go-containerregistry's empty image with its layers as `diff_ids`), what BuildKit writes (`unknown` as platform), or
/// an object without any of the keys of an image.
pub(super) fn says_nothing_that_runs(bytes: &[u8], layers: &[Descriptor]) -> bool {
    let Ok(Value::Object(config)) = json::parse(bytes, KEYS, &[]) else { return false };
    let is_harmless = |(key, value): (&String, &Value)| match &**key {
        "architecture" | "os" => is_empty(value) || value == "unknown",
        "created" => value.is_string() || value.is_null(),
        "history" => is_empty_history(value),
        "rootfs" => is_empty(value) || is_rootfs_of(value, layers),
        key => !KEYS.contains(&key) || is_empty(value),
    };
    !sniff::holds_archive(bytes) && config.iter().all(is_harmless)
}

/// The values that Go uses for unset fields.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_u64() == Some(0),
        Value::String(value) => value.is_empty(),
        Value::Array(items) => items.iter().all(is_empty),
        Value::Object(members) => members.values().all(is_empty),
    }
}

/// One entry per layer, containing nothing but the creation time.
fn is_empty_history(value: &Value) -> bool {
    let is_date = |key: &str, value: &Value| key == "created" && value.is_string();
    let is_bare = |entry: &Value| match entry {
        Value::Object(members) => members.iter().all(|(key, value)| is_date(key, value) || is_empty(value)),
        other => is_empty(other),
    };
    value.as_array().map_or(value.is_null(), |entries| entries.iter().all(is_bare))
}

/// The layers under their own digests, because nothing is compressed here.
fn is_rootfs_of(value: &Value, layers: &[Descriptor]) -> bool {
    let is_own = |ids: &[Value]| {
        let digests = layers.iter().map(|layer| layer.digest.to_string());
        ids.len() == layers.len() && ids.iter().zip(digests).all(|(id, digest)| *id == *digest)
    };
    let is_harmless = |(key, value): (&String, &Value)| match &**key {
        "type" => value == "layers" || is_empty(value),
        "diff_ids" => is_empty(value) || value.as_array().is_some_and(|ids| is_own(ids)),
        _ => is_empty(value),
    };
    value.as_object().is_some_and(|rootfs| rootfs.iter().all(is_harmless))
}
