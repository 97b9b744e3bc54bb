//! containers-policy.json(5), read as strictly as containers/image does: an unknown or repeated key is an error.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::scope::DockerScope;
use crate::oci::json;

/// A policy, as far as it is about registries.
#[derive(Debug)]
pub(super) struct ContainersPolicy {
    /// What is required where no scope matches.
    pub(super) default: Vec<ImportedRequirement>,
    pub(super) by_scope: BTreeMap<DockerScope, Vec<ImportedRequirement>>,
    /// What was ignored, and why.
    pub(super) notes: Vec<String>,
}

/// One requirement of a list, all of which must be met.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ImportedRequirement {
    Accept,
    Reject,
    /// The scheme of an authority, as in a document: `{"gpg": {…}}`.
    Authority(Value),
    /// It exists there, but not here.
    Inexpressible(String),
}

impl ImportedRequirement {
    /// Whether its signatures may be in a lookaside store.
    pub(super) fn reads_store(&self) -> bool {
        matches!(self, Self::Authority(scheme) if scheme.get("gpg").is_some())
    }
}

impl ContainersPolicy {
    /// # Errors
    /// What is wrong with the file. containers/image does not use such a file either.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value = json::parse(bytes, &[], &[]).map_err(|error| error.to_string())?;
        let root = object(&value, "the policy")?;
        only(root, &["default", "transports"], "the policy")?;
        let default = requirements(root.get("default").ok_or("default is missing")?, "default")?;
        let mut policy = Self { default, by_scope: BTreeMap::new(), notes: Vec::new() };
        let nothing = Value::Object(Map::new());
        for (transport, scopes) in object(root.get("transports").unwrap_or(&nothing), "transports")? {
            let scopes = object(scopes, &format!("transports.{transport}"))?;
            for (scope, list) in scopes {
                let list = requirements(list, &format!("transports.{transport}[{scope:?}]"))?;
                match (&**transport, &**scope) {
                    ("docker", "") => policy.default = list,
                    ("docker", scope) => policy.add(scope, list)?,
                    _ => {}
                }
            }
            if transport != "docker" {
                policy.notes.push(format!("transports.{transport} is not a registry transport; it is ignored"));
            }
        }
        Ok(policy)
    }

    fn add(&mut self, scope: &str, list: Vec<ImportedRequirement>) -> Result<(), String> {
        match DockerScope::parse(scope) {
            Ok(scope) if self.by_scope.contains_key(&scope) => {
                return Err(format!("{} occurs twice, because hosts are case-insensitive", scope.as_str()));
            }
            Ok(scope) => drop(self.by_scope.insert(scope, list)),
            Err(why) => self.notes.push(format!("the scope {scope:?} {why}; it is ignored")),
        }
        Ok(())
    }

    /// What is required for a scope; `None` for the widest of all.
    pub(super) fn of(&self, scope: Option<&DockerScope>) -> &[ImportedRequirement] {
        let lineage = scope.map(DockerScope::lineage).unwrap_or_default();
        let found = lineage.iter().find_map(|one| self.by_scope.iter().find(|(scope, _)| scope.as_str() == one));
        found.map_or(&self.default, |(_, list)| list)
    }
}

fn requirements(value: &Value, place: &str) -> Result<Vec<ImportedRequirement>, String> {
    let list = value.as_array().ok_or_else(|| format!("{place} is not a list"))?;
    if list.is_empty() {
        return Err(format!("{place} is empty"));
    }
    list.iter().enumerate().map(|(index, one)| requirement(one, &format!("{place}[{index}]"))).collect()
}

fn requirement(value: &Value, place: &str) -> Result<ImportedRequirement, String> {
    let fields = object(value, place)?;
    match fields.get("type").and_then(Value::as_str) {
        Some("insecureAcceptAnything") => only(fields, &["type"], place).map(|()| ImportedRequirement::Accept),
        Some("reject") => only(fields, &["type"], place).map(|()| ImportedRequirement::Reject),
        Some("signedBy") => signed_by(fields, place),
        Some("sigstoreSigned") => sigstore_signed(fields, place),
        Some("signedBaseLayer") => Ok(ImportedRequirement::Inexpressible("signedBaseLayer is not supported".into())),
        _ => Err(format!("{place} has no known type")),
    }
}

/// Simple signing: the keys of all files together are one ring.
fn signed_by(fields: &Map<String, Value>, place: &str) -> Result<ImportedRequirement, String> {
    only(fields, &["type", "keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"], place)?;
    if fields.get("keyType").and_then(Value::as_str) != Some("GPGKeys") {
        return Err(format!("{place}: keyType is not GPGKeys"));
    }
    let rings = keys(fields, &["keyPath", "keyPaths", "keyData"], armored, place)?;
    let identity = identity(fields.get("signedIdentity"), place)?;
    Ok(ImportedRequirement::Authority(json!({"gpg": {"keyrings": rings, "signedIdentity": identity}})))
}

/// A sigstore signature by a key. Transparency logs and certificate authorities are expressed differently here: by a
/// trusted root.
fn sigstore_signed(fields: &Map<String, Value>, place: &str) -> Result<ImportedRequirement, String> {
    let sources = ["keyPath", "keyPaths", "keyData", "keyDatas"];
    let logs = ["rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"];
    only(fields, &[&["type", "fulcio", "pki", "signedIdentity"][..], &sources, &logs].concat(), place)?;
    let identity = identity(fields.get("signedIdentity"), place)?;
    let inexpressible = |what: &str, instead: &str| {
        Ok(ImportedRequirement::Inexpressible(format!(
            "sigstoreSigned with {what} is written differently here: {instead}"
        )))
    };
    if fields.contains_key("fulcio") {
        return inexpressible("fulcio", "write cosign: {keyless: …} with a trusted root");
    }
    if fields.contains_key("pki") {
        return inexpressible("pki", "write cosign: {keyless: …} with a trusted root, or notation: …");
    }
    if let Some(log) = logs.iter().find(|log| fields.contains_key(**log)) {
        return inexpressible(log, "write cosign: {key: …, transparencyLog: require} with a trusted root");
    }
    let keys = keys(fields, &sources, text, place)?;
    // Here the tag in a cosign signature is not compared with the pulled one, so these would admit more.
    let kind = identity["type"].as_str().unwrap_or_default();
    if !["matchRepository", "exactRepository", "exactReference"].contains(&kind) {
        let what = format!("the signedIdentity {kind}");
        return inexpressible(
            &what,
            "tags in cosign signatures are not compared; write matchRepository if that is enough",
        );
    }
    Ok(ImportedRequirement::Authority(json!({"cosign": {"keys": keys, "signedIdentity": identity}})))
}

/// The keys of the only one of these members that is present, as materials of a document. `decoded` makes a text of
/// data.
fn keys(
    fields: &Map<String, Value>,
    sources: &[&str],
    decoded: fn(Vec<u8>) -> Result<String, &'static str>,
    place: &str,
) -> Result<Vec<Value>, String> {
    let present: Vec<_> = sources.iter().filter(|source| fields.contains_key(**source)).collect();
    let [source] = present[..] else {
        return Err(format!("{place}: exactly one of {} is needed", sources.join(", ")));
    };
    let wrong = |why: &str| format!("{place}.{source}: {why}");
    let values = match &fields[*source] {
        Value::String(text) => vec![text.as_str()],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is_list = source.ends_with('s');
    let expected = fields[*source].as_array().map_or(1, Vec::len);
    if values.is_empty() || values.len() != expected || fields[*source].is_array() != is_list {
        return Err(wrong(if is_list { "must be a list of texts" } else { "must be a text" }));
    }
    let material = |value: &&str| {
        if source.contains("Path") {
            return Ok(json!({"file": value}));
        }
        let bytes = STANDARD.decode(value).map_err(|_| wrong("is not base64"))?;
        Ok(json!({"data": decoded(bytes).map_err(wrong)?}))
    };
    values.iter().map(material).collect()
}

/// A key ring as text. A binary one is put into ASCII armour.
fn armored(bytes: Vec<u8>) -> Result<String, &'static str> {
    if bytes.first().is_none_or(|first| first & 0x80 == 0) {
        return text(bytes);
    }
    let encoded = STANDARD.encode(bytes);
    let lines = encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default());
    let body: Vec<_> = lines.collect();
    let label = "PGP PUBLIC KEY BLOCK";
    Ok(format!("-----BEGIN {label}-----\n\n{}\n-----END {label}-----\n", body.join("\n")))
}

fn text(bytes: Vec<u8>) -> Result<String, &'static str> {
    String::from_utf8(bytes).map_err(|_| "is not text")
}

/// `signedIdentity`, which has the same form here.
fn identity(value: Option<&Value>, place: &str) -> Result<Value, String> {
    let Some(value) = value else { return Ok(json!({"type": "matchRepoDigestOrExact"})) };
    let place = format!("{place}.signedIdentity");
    let fields = object(value, &place)?;
    let others: &[&str] = match fields.get("type").and_then(Value::as_str) {
        Some("matchExact" | "matchRepoDigestOrExact" | "matchRepository") => &[],
        Some("exactReference") => &["dockerReference"],
        Some("exactRepository") => &["dockerRepository"],
        Some("remapIdentity") => &["prefix", "signedPrefix"],
        _ => return Err(format!("{place} has no known type")),
    };
    only(fields, &[&["type"], others].concat(), &place)?;
    match others.iter().find(|key| !fields.get(**key).is_some_and(Value::is_string)) {
        Some(missing) => Err(format!("{place}: {missing} is missing")),
        None => Ok(value.clone()),
    }
}

fn object<'a>(value: &'a Value, place: &str) -> Result<&'a Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{place} is not an object"))
}

fn only(fields: &Map<String, Value>, known: &[&str], place: &str) -> Result<(), String> {
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => Err(format!("{place}: unknown key {unknown:?}")),
        None => Ok(()),
    }
}
