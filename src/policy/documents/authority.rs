//! Named trust authorities, as `pullgate.io/v1` documents and the configuration write them.

use std::sync::Arc;

use super::envelope::PolicyObject;
use super::fields::{Fields, text};
use super::material;
use super::secrets::Secrets;
use super::{Context, Materials, NOTARY, Settings, Source, read, simple};
use crate::policy::key;
use crate::policy::problem::{Problem, Problems, Reporter};
use crate::policy::rule::{Authority, Identity, Scheme, Signer};
use crate::policy::ruleset::DEFAULT_NAMESPACE;
use crate::policy::yaml::{Node, Position, Value};

/// The keys that say how an authority signs; each authority has one of them.
const SCHEMES: [&str; 4] = ["cosign", "notation", "notary", "gpg"];

/// The authorities of a document, by the names that its entries use.
pub(super) fn of_document(spec: &Fields<'_>, policy: &PolicyObject<'_>, context: &Context<'_>) -> Vec<Arc<Authority>> {
    let mut known: Vec<Arc<Authority>> = Vec::new();
    let place = Place { namespace: policy.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE), context };
    for node in spec.list("authorities") {
        let Some(fields) = Fields::of(node, "an authority", policy.report) else { continue };
        let Some(authority) = authority(&fields, place) else { continue };
        let name = authority.name();
        if known.iter().any(|other| other.name() == name) {
            fields.report.error(fields.at, format!("authority {name:?} stands twice"));
        } else if context.settings.authorities.iter().any(|other| other.name() == name) {
            let hint = "give one of them another name";
            fields.report.error_hint(fields.at, format!("the configuration has an authority {name:?} too"), hint);
        }
        known.push(Arc::new(authority));
    }
    known
}

/// An authority of the configuration: its table as JSON text, its name beside it.
///
/// # Errors
/// Everything that is wrong with it. The places are those of the text that was given.
pub(super) fn of_configuration(name: &str, text: &str, materials: &dyn Materials) -> Result<Authority, Vec<Problem>> {
    let problems = Problems::default();
    let file = format!("trust.authority.{name}");
    let source = Source { path: file.clone(), text: text.to_owned() };
    let roots = read(&source, &problems);
    let report = Reporter::new(&file, &problems);
    let settings = Settings::default();
    let context = Context { materials, secrets: Secrets::read(&[], materials), settings: &settings };
    let fields = roots.first().and_then(|root| Fields::of(root, "an authority", report));
    let authority = fields.and_then(|fields| {
        fields.only(&SCHEMES);
        named(name, &fields, Place { namespace: DEFAULT_NAMESPACE, context: &context })
    });
    match authority {
        Some(authority) if !problems.any_error() => Ok(authority),
        _ => {
            if !problems.any_error() {
                report.error(Position::default(), "an authority is empty");
            }
            Err(problems.into_sorted())
        }
    }
}

/// Where relative things are looked up.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// Of secrets that name none.
    pub(super) namespace: &'a str,
    pub(super) context: &'a Context<'a>,
}

/// One authority: `name` and one of the schemes.
fn authority(fields: &Fields<'_>, place: Place<'_>) -> Option<Authority> {
    let mut known = vec!["name"];
    known.extend(SCHEMES);
    fields.only(&known);
    named(fields.required("name")?, fields, place)
}

fn named(name: &str, fields: &Fields<'_>, place: Place<'_>) -> Option<Authority> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    if !name.bytes().all(plain) || name.len() > 63 || name == NOTARY {
        let hint = "letters, digits, dots, dashes and underscores, at most 63; \"notary\" is Docker Content Trust's";
        fields.report.error_hint(fields.at, format!("{name:?} cannot be the name of an authority"), hint);
        return None;
    }
    Some(Authority::new(name, scheme(fields, place)?))
}

fn scheme(fields: &Fields<'_>, place: Place<'_>) -> Option<Scheme> {
    match one_of(fields, &SCHEMES)? {
        "cosign" => cosign(&fields.map("cosign")?, place),
        "notation" => notation(&fields.map("notation")?, place),
        "notary" => notary(&fields.map("notary")?, place),
        _ => gpg(&fields.map("gpg")?, place),
    }
}

/// The one of these keys that is there; reports none and several.
pub(super) fn one_of<'k>(fields: &Fields<'_>, keys: &[&'k str]) -> Option<&'k str> {
    let mut present = keys.iter().filter(|key| fields.get(key).is_some());
    match (present.next(), present.next()) {
        (Some(key), None) => Some(key),
        _ => {
            fields.report.error(fields.at, format!("exactly one of {} is needed here", keys.join(", ")));
            None
        }
    }
}

fn cosign(fields: &Fields<'_>, place: Place<'_>) -> Option<Scheme> {
    let ways = ["key", "keys", "keyless"];
    fields.only(&ways);
    match one_of(fields, &ways)? {
        "key" => Some(Scheme::CosignKey { keys: vec![material(&fields.map("key")?, material::public_key, place)?] }),
        "keys" => {
            let keys = materials(fields, "keys", material::public_key, place)?;
            let once = key::unique(&keys);
            if once.len() < keys.len() {
                fields.report.warn(fields.at, "the same key stands twice in keys", "remove one of them");
            }
            Some(Scheme::CosignKey { keys: once })
        }
        _ => keyless(&fields.map("keyless")?),
    }
}

fn keyless(fields: &Fields<'_>) -> Option<Scheme> {
    fields.only(&["issuer", "identity"]);
    let issuer = fields.required("issuer")?.to_owned();
    let Some(node) = fields.get("identity") else {
        let hint = "without an identity anyone with an account at the issuer could sign";
        fields.report.error_hint(fields.at, "identity of keyless is missing", hint);
        return None;
    };
    let identity = match &node.value {
        Value::Map(_) => {
            let glob = Fields::of(node, "identity", fields.report)?;
            glob.only(&["glob"]);
            Identity::Glob(glob.required("glob")?.to_owned())
        }
        _ => Identity::Exact(text(node, "identity of keyless", fields.report)?.to_owned()),
    };
    warn_open_glob(&identity, node, fields.report);
    match &identity {
        Identity::Exact(exact) if exact.is_empty() => fields.report.error(node.at, "identity is empty"),
        Identity::Exact(exact) if exact.contains('*') => {
            let hint = "write identity: {glob: …} for a pattern";
            fields.report.error_hint(node.at, "an exact identity has no *", hint);
        }
        _ => {}
    }
    Some(Scheme::CosignKeyless { issuer, identity })
}

/// `https://github.com/acme*` reaches `https://github.com/acme-evil/…`.
fn warn_open_glob(identity: &Identity, node: &Node, report: Reporter<'_>) {
    let Identity::Glob(glob) = identity else { return };
    let before = glob.split('*').next().unwrap_or_default();
    if glob.contains('*') && !before.ends_with(['/', '@', ':']) {
        let hint = "end what stands before the first * with a slash";
        report.warn(node.at, format!("the identity {glob:?} may reach identities of others"), hint);
    }
}

fn notation(fields: &Fields<'_>, place: Place<'_>) -> Option<Scheme> {
    fields.only(&["certificates", "identities"]);
    let certificates = materials(fields, "certificates", material::certificates, place)?;
    let identities: Vec<_> = fields.texts("identities").into_iter().map(str::to_owned).collect();
    if identities.is_empty() {
        let hint = "write x509.subject: C=…, ST=…, O=…, or \"*\" for every certificate below the trusted ones";
        fields.report.error_hint(fields.at, "identities of notation is missing", hint);
    }
    for identity in identities.iter().filter(|identity| *identity != "*" && !identity.starts_with("x509.subject:")) {
        fields.report.error(fields.at, format!("identity {identity:?} begins neither with x509.subject: nor is it *"));
    }
    Some(Scheme::Notation { certificates, identities })
}

fn notary(fields: &Fields<'_>, place: Place<'_>) -> Option<Scheme> {
    fields.only(&["server", "signers"]);
    let server = fields.text("server");
    if let Some(server) = server.filter(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
        fields.report.error_hint(fields.at, format!("server {server:?} is no URL"), "write https://HOST");
    }
    let signer = |node| {
        let signer = Fields::of(node, "a signer", fields.report)?;
        signer.only(&["name", "key"]);
        let name = signer.required("name")?.to_owned();
        Some(Signer { name, public_key: material(&required_map(&signer, "key")?, material::signer_key, place)? })
    };
    let signers = fields.list("signers").iter().map(signer).collect::<Option<_>>()?;
    Some(Scheme::Notary { server: server.map(str::to_owned), signers })
}

fn gpg(fields: &Fields<'_>, place: Place<'_>) -> Option<Scheme> {
    fields.only(&["keyring", "keyrings", "signedIdentity", "store"]);
    let keyrings = match one_of(fields, &["keyring", "keyrings"])? {
        "keyring" => vec![material(&fields.map("keyring")?, material::key_ring, place)?],
        _ => materials(fields, "keyrings", material::key_ring, place)?,
    };
    let identity = simple::identity(fields.map("signedIdentity"))?;
    Some(Scheme::Gpg { keyrings, identity, store_url: fields.text("store").map(str::to_owned) })
}

fn required_map<'a>(fields: &Fields<'a>, key: &'a str) -> Option<Fields<'a>> {
    if fields.get(key).is_none() {
        fields.report.error(fields.at, format!("{key} is missing"));
    }
    fields.map(key)
}

/// How bytes become what they should be; the error says what is wrong with them.
type Reading<T> = fn(&[u8]) -> Result<T, String>;

/// A list of materials, at least one.
fn materials<T>(fields: &Fields<'_>, key: &str, read: Reading<T>, place: Place<'_>) -> Option<Vec<T>> {
    let list = fields.list(key);
    if list.is_empty() {
        fields.report.error(fields.at, format!("{key} is missing or empty"));
        return None;
    }
    list.iter().map(|node| material(&Fields::of(node, "a list of keys", fields.report)?, read, place)).collect()
}

/// `{file: PATH}`, `{data: TEXT}` or `{secret: {name, key, namespace}}`. What is missing is an error: an authority
/// that can never verify is not what anybody meant.
fn material<T>(fields: &Fields<'_>, read: Reading<T>, place: Place<'_>) -> Option<T> {
    let ways = ["file", "data", "secret"];
    fields.only(&ways);
    let (what, bytes) = match one_of(fields, &ways)? {
        "file" => {
            let path = fields.required("file")?;
            (format!("file {path:?}"), place.context.materials.file(path))
        }
        "data" => ("data".to_owned(), Ok(fields.required("data")?.as_bytes().to_vec())),
        _ => secret(&fields.map("secret")?, place)?,
    };
    match bytes.and_then(|bytes| read(&bytes)) {
        Ok(material) => Some(material),
        Err(why) => {
            fields.report.error(fields.at, format!("{what}: {why}"));
            None
        }
    }
}

fn secret(fields: &Fields<'_>, place: Place<'_>) -> Option<(String, Result<Vec<u8>, String>)> {
    fields.only(&["name", "key", "namespace"]);
    let (name, key) = (fields.required("name")?, fields.required("key")?);
    let namespace = fields.text("namespace").unwrap_or(place.namespace);
    let value = match place.context.secrets.find(namespace, name) {
        None => Err("not found; add a Secret document, or a folder secrets/NAMESPACE/NAME".to_owned()),
        Some(data) => data.get(key).cloned().ok_or_else(|| format!("it has no {key:?}")),
    };
    Some((format!("secret {namespace}/{name}"), value))
}
