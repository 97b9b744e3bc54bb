//! Named trust authorities: the one parser of the shape that `pullgate.io/v1` documents and the configuration share.

mod attestation;
mod cosign;
pub(super) mod gpg;
mod notary;
mod notation;

use std::sync::Arc;

use jiff::Timestamp;

use super::envelope::PolicyObject;
use super::secrets::Secrets;
use super::{Context, Materials, NOTARY, REJECT, lint, material, roots};
use crate::markup::Fields;
use crate::policy::rules::ruleset::DEFAULT_NAMESPACE;
use crate::policy::signatures::authority::{Authority, KeyValidity, PinnedKey, Scheme};

/// Reads the mapping of a scheme.
type SchemeReader = fn(&Fields<'_>, Lookup<'_>) -> Option<Scheme>;

/// The keys that say how an authority signs, with what reads them; each authority has one of them.
const SCHEMES: [(&str, SchemeReader); 4] =
    [("cosign", cosign::scheme), ("notation", notation::scheme), ("notary", notary::scheme), ("gpg", gpg::scheme)];

/// The keys that say where material is.
const PLACES: [(&str, MaterialPlace); 3] =
    [("file", MaterialPlace::File), ("data", MaterialPlace::Data), ("secret", MaterialPlace::Secret)];

/// The keys that limit the validity of a key.
const VALIDITY: [&str; 2] = ["validFrom", "validUntil"];

/// Where one material is.
#[derive(Clone, Copy, Eq, PartialEq)]
enum MaterialPlace {
    /// In the document.
    Data,
    File,
    Secret,
}

/// Where the material of an authority comes from.
#[derive(Clone, Copy)]
struct Lookup<'a> {
    materials: &'a dyn Materials,
    /// The secrets, and the namespace of those that name none. The configuration has no secrets.
    secrets: Option<(&'a Secrets<'a>, &'a str)>,
}

/// The authorities of a document, by the names that its entries use.
pub(super) fn of_document(spec: &Fields<'_>, policy: &PolicyObject<'_>, context: &Context<'_>) -> Vec<Arc<Authority>> {
    let mut known: Vec<Arc<Authority>> = Vec::new();
    let namespace = policy.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    let lookup = Lookup { materials: context.materials, secrets: Some((&context.secrets, namespace)) };
    for fields in spec.maps("authorities", "an authority") {
        fields.only(&[&["name"][..], &keys_of(&SCHEMES)[..]].concat());
        let read = |name| named(name, &fields, lookup).or_else(|| Authority::with_mistake(name));
        let Some(authority) = fields.required("name").and_then(read) else { continue };
        let name = authority.name();
        if known.iter().any(|other| other.name() == name) {
            fields.error(format!("duplicate authority {name:?}"));
        } else if context.authorities.iter().any(|other| other.name() == name) {
            let hint = "give one of them another name";
            fields.error_hint(format!("the configuration also has an authority {name:?}"), hint);
        }
        let authority = authority.with_notary_defaults(&context.settings.notary);
        let authority = roots::completed(&authority, &context.roots, fields.problems, fields.at);
        lint::validity(&authority, context.settings.now, fields.problems, fields.at);
        known.push(Arc::new(authority));
    }
    known
}

/// An authority of the configuration, whose name is the key of its mapping. It cannot name secrets.
pub(super) fn of_configuration(name: &str, fields: &Fields<'_>, materials: &dyn Materials) -> Option<Authority> {
    fields.only(&keys_of(&SCHEMES));
    named(name, fields, Lookup { materials, secrets: None })
}

fn named(name: &str, fields: &Fields<'_>, lookup: Lookup<'_>) -> Option<Authority> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    if !name.bytes().all(plain) || name.is_empty() || name.len() > 63 || [NOTARY, REJECT].contains(&name) {
        let hint =
            "letters, digits, dots, dashes and underscores, at most 63; \"notary\" and \"reject\" have a meaning";
        fields.error_hint(format!("{name:?} cannot be the name of an authority"), hint);
        return None;
    }
    Some(Authority::new(name, scheme(fields, lookup)?))
}

fn scheme(fields: &Fields<'_>, lookup: Lookup<'_>) -> Option<Scheme> {
    let (key, read) = one_of(fields, &SCHEMES)?;
    read(&fields.map(key)?, lookup)
}

/// The one of these choices whose key is present; reports none and several.
pub(super) fn one_of<'k, T: Copy>(fields: &Fields<'_>, choices: &[(&'k str, T)]) -> Option<(&'k str, T)> {
    let mut present = choices.iter().filter(|(key, _)| fields.get(key).is_some());
    match (present.next(), present.next()) {
        (Some(choice), None) => Some(*choice),
        _ => {
            fields.error(format!("exactly one of {} is needed here", keys_of(choices).join(", ")));
            None
        }
    }
}

/// The keys of these choices.
pub(super) fn keys_of<'k, T>(choices: &[(&'k str, T)]) -> Vec<&'k str> {
    choices.iter().map(|(key, _)| *key).collect()
}

fn required_map<'a>(fields: &Fields<'a>, key: &'a str) -> Option<Fields<'a>> {
    fields.needs(key)?;
    fields.map(key)
}

/// A list of materials, at least one.
fn materials<T>(fields: &Fields<'_>, key: &str, read: impl Fn(&Fields<'_>) -> Option<T>) -> Option<Vec<T>> {
    let list = fields.maps(key, "a list of keys");
    if list.is_empty() {
        fields.error(format!("{key} is missing or empty"));
        return None;
    }
    list.iter().map(read).collect()
}

/// Key material with the time in which it may be used: `{file: PATH, validFrom: TIME, validUntil: TIME}`. Both times
/// are optional and written as in RFC 3339.
fn pinned<T>(
    fields: &Fields<'_>,
    read: impl Fn(&[u8]) -> Result<T, String>,
    lookup: Lookup<'_>,
) -> Option<PinnedKey<T>> {
    let [from, until] = VALIDITY.map(|key| time(fields, key));
    Some(PinnedKey { key: material_beside(fields, &VALIDITY, read, lookup)?, validity: KeyValidity { from, until } })
}

/// A time as in RFC 3339.
pub(super) fn time(fields: &Fields<'_>, key: &str) -> Option<Timestamp> {
    let text = fields.text(key)?;
    let hint = "write date, time and offset as in RFC 3339: 2026-03-01T00:00:00Z";
    text.parse().map_err(|_| fields.error_hint(format!("{key} {text:?} is not a time"), hint)).ok()
}

/// `{file: PATH}`, `{data: TEXT}` or `{secret: {name, key, namespace}}`. Missing material is an error: an authority
/// that can never verify is never intended. The error of `read` describes the problem with the bytes.
fn material<T>(fields: &Fields<'_>, read: impl Fn(&[u8]) -> Result<T, String>, lookup: Lookup<'_>) -> Option<T> {
    material_beside(fields, &[], read, lookup)
}

/// The same in a mapping that also has other keys.
fn material_beside<T>(
    fields: &Fields<'_>,
    others: &[&str],
    read: impl Fn(&[u8]) -> Result<T, String>,
    lookup: Lookup<'_>,
) -> Option<T> {
    let has_secrets = lookup.secrets.is_some();
    let is_possible = |(_, place): &(&str, MaterialPlace)| has_secrets || *place != MaterialPlace::Secret;
    let places: Vec<_> = PLACES.into_iter().filter(is_possible).collect();
    fields.only(&[&keys_of(&places)[..], others].concat());
    let (key, place) = one_of(fields, &places)?;
    let (what, bytes) = match place {
        MaterialPlace::File => {
            let path = fields.required(key)?;
            (format!("file {path:?}"), lookup.materials.file(&fields.problems.name(fields.at.file), path))
        }
        MaterialPlace::Data => (key.to_owned(), Ok(fields.required(key)?.as_bytes().to_vec())),
        MaterialPlace::Secret => secret(&fields.map(key)?, lookup)?,
    };
    let reported = |why| fields.error(format!("{what}: {why}"));
    bytes.and_then(|bytes| read(&bytes)).map_err(reported).ok()
}

fn secret(fields: &Fields<'_>, lookup: Lookup<'_>) -> Option<(String, Result<Vec<u8>, String>)> {
    fields.only(&["name", "key", "namespace"]);
    let (secrets, default) = lookup.secrets?;
    let (name, key) = (fields.required("name")?, fields.required("key")?);
    let namespace = fields.text("namespace").unwrap_or(default);
    let value = match secrets.find(namespace, name) {
        None => Err("not found; add a Secret document, or a directory secrets/NAMESPACE/NAME".to_owned()),
        Some(data) => data.get(key).cloned().ok_or_else(|| format!("it has no {key:?}")),
    };
    Some((format!("secret {namespace}/{name}"), value))
}
