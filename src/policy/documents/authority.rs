//! Named trust authorities: the one parser of the shape that `pullgate.io/v1` documents and the configuration share.

pub(super) mod gpg;
mod notation;

use std::sync::Arc;

use super::envelope::PolicyObject;
use super::secrets::Secrets;
use super::{Context, Materials, NOTARY, REJECT, material};
use crate::markup::{Fields, Node, Value};
use crate::policy::authority::{Authority, Identity, Scheme, Signer};
use crate::policy::key;
use crate::policy::ruleset::DEFAULT_NAMESPACE;

/// The keys that say how an authority signs; each authority has one of them.
const SCHEMES: [&str; 4] = ["cosign", "notation", "notary", "gpg"];

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
        fields.only(&[&["name"][..], &SCHEMES].concat());
        let Some(authority) = fields.required("name").and_then(|name| named(name, &fields, lookup)) else { continue };
        let name = authority.name();
        if known.iter().any(|other| other.name() == name) {
            fields.error(format!("duplicate authority {name:?}"));
        } else if context.settings.authorities.iter().any(|other| other.name() == name) {
            let hint = "give one of them another name";
            fields.error_hint(format!("the configuration has an authority {name:?} too"), hint);
        }
        known.push(Arc::new(authority));
    }
    known
}

/// An authority of the configuration, whose name is the key of its mapping. It cannot name secrets.
pub(super) fn of_configuration(name: &str, fields: &Fields<'_>, materials: &dyn Materials) -> Option<Authority> {
    fields.only(&SCHEMES);
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
    match one_of(fields, &SCHEMES)? {
        "cosign" => cosign(&fields.map("cosign")?, lookup),
        "notation" => notation::scheme(&fields.map("notation")?, lookup),
        "notary" => notary(&fields.map("notary")?, lookup),
        _ => gpg::scheme(&fields.map("gpg")?, lookup),
    }
}

/// The one of these keys that is present; reports none and several.
pub(super) fn one_of<'k>(fields: &Fields<'_>, keys: &[&'k str]) -> Option<&'k str> {
    let mut present = keys.iter().filter(|key| fields.get(key).is_some());
    match (present.next(), present.next()) {
        (Some(key), None) => Some(key),
        _ => {
            fields.error(format!("exactly one of {} is needed here", keys.join(", ")));
            None
        }
    }
}

fn cosign(fields: &Fields<'_>, lookup: Lookup<'_>) -> Option<Scheme> {
    let ways = ["key", "keys", "keyless"];
    fields.only(&ways);
    match one_of(fields, &ways)? {
        "key" => Some(Scheme::CosignKey { keys: vec![material(&fields.map("key")?, material::public_key, lookup)?] }),
        "keys" => {
            let keys = materials(fields, "keys", material::public_key, lookup)?;
            let once = key::unique(&keys);
            if once.len() < keys.len() {
                fields.warn("duplicate key in keys", "remove one of them");
            }
            Some(Scheme::CosignKey { keys: once })
        }
        _ => keyless(&fields.map("keyless")?),
    }
}

fn keyless(fields: &Fields<'_>) -> Option<Scheme> {
    fields.only(&["identity", "issuer"]);
    let issuer = fields.required("issuer")?.to_owned();
    let node = fields.needs("identity")?;
    let identity = if let Value::Map(_) = node.value {
        let glob = fields.map("identity")?;
        glob.only(&["glob"]);
        Identity::Glob(glob.required("glob")?.to_owned())
    } else {
        Identity::Exact(fields.required("identity")?.to_owned())
    };
    match &identity {
        Identity::Exact(exact) if exact.contains('*') => {
            let hint = "write identity: {glob: …} for a pattern";
            fields.problems.error_hint(node.at, "an exact identity has no *", hint);
        }
        Identity::Exact(_) => {}
        Identity::Glob(glob) => warn_open_glob(glob, node, fields),
    }
    Some(Scheme::CosignKeyless { issuer, identity })
}

/// `https://github.com/acme*` also matches `https://github.com/acme-evil/…`.
fn warn_open_glob(glob: &str, node: &Node, fields: &Fields<'_>) {
    let before = glob.split('*').next().unwrap_or_default();
    if glob.contains('*') && !before.ends_with(['/', '@', ':']) {
        let hint = "end the part before the first * with a slash";
        fields.problems.warn(node.at, format!("the identity {glob:?} may match identities of others"), hint);
    }
}

fn notary(fields: &Fields<'_>, lookup: Lookup<'_>) -> Option<Scheme> {
    fields.only(&["server", "signers"]);
    let server = fields.text("server");
    if let Some(server) = server.filter(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
        fields.error_hint(format!("server {server:?} is not an http or https URL"), "write https://HOST");
    }
    let signer = |signer: Fields<'_>| {
        signer.only(&["name", "key"]);
        let name = signer.required("name")?.to_owned();
        Some(Signer { name, key: material(&required_map(&signer, "key")?, material::signer_key, lookup)? })
    };
    let signers = fields.maps("signers", "a signer").into_iter().map(signer).collect::<Option<_>>()?;
    Some(Scheme::Notary { server: server.map(str::to_owned), signers })
}

fn required_map<'a>(fields: &Fields<'a>, key: &'a str) -> Option<Fields<'a>> {
    fields.needs(key)?;
    fields.map(key)
}

/// Parses bytes; the error says what is wrong with them.
type MaterialReader<T> = fn(&[u8]) -> Result<T, String>;

/// A list of materials, at least one.
fn materials<T>(fields: &Fields<'_>, key: &str, read: MaterialReader<T>, lookup: Lookup<'_>) -> Option<Vec<T>> {
    let list = fields.maps(key, "a list of keys");
    if list.is_empty() {
        fields.error(format!("{key} is missing or empty"));
        return None;
    }
    list.iter().map(|one| material(one, read, lookup)).collect()
}

/// `{file: PATH}`, `{data: TEXT}` or `{secret: {name, key, namespace}}`. Missing material is an error: nobody means an
/// authority that can never verify.
fn material<T>(fields: &Fields<'_>, read: MaterialReader<T>, lookup: Lookup<'_>) -> Option<T> {
    let ways: &[&str] = if lookup.secrets.is_some() { &["file", "data", "secret"] } else { &["file", "data"] };
    fields.only(ways);
    let (what, bytes) = match one_of(fields, ways)? {
        "file" => {
            let path = fields.required("file")?;
            (format!("file {path:?}"), lookup.materials.file(&fields.problems.name(fields.at.file), path))
        }
        "data" => ("data".to_owned(), Ok(fields.required("data")?.as_bytes().to_vec())),
        _ => secret(&fields.map("secret")?, lookup)?,
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
        None => Err("not found; add a Secret document, or a folder secrets/NAMESPACE/NAME".to_owned()),
        Some(data) => data.get(key).cloned().ok_or_else(|| format!("it has no {key:?}")),
    };
    Some((format!("secret {namespace}/{name}"), value))
}
