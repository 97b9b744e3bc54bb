//! The `gpg` authority, and what it shares with `simple` of Portieris: `signedIdentity` and the store of signatures.

use url::Url;

use super::super::material;
use super::{Lookup, material as one_material, materials, one_of, pinned, required_map};
use crate::markup::{Fields, Value};
use crate::oci::{Host, ImageReference, may_get_credentials};
use crate::policy::signatures::authority::Scheme;
use crate::policy::signatures::authority::gpg::{SignatureStore, SignedIdentity, SimpleSigner, StoreCredentials};

/// A type of `signedIdentity`.
struct IdentityType {
    /// Its name in containers/image and in the documentation of Portieris.
    containers: &'static str,
    /// Its name in the code of Portieris.
    portieris: &'static str,
    /// Reads the mapping.
    read: fn(&Fields<'_>) -> Option<SignedIdentity>,
}

/// Every type.
const IDENTITIES: [IdentityType; 6] = [
    IdentityType {
        containers: "matchRepoDigestOrExact",
        portieris: "",
        read: |_| Some(SignedIdentity::MatchRepoDigestOrExact),
    },
    IdentityType { containers: "matchExact", portieris: "matchExact", read: |_| Some(SignedIdentity::MatchExact) },
    IdentityType {
        containers: "matchRepository",
        portieris: "matchRepository",
        read: |_| Some(SignedIdentity::MatchRepository),
    },
    IdentityType { containers: "exactReference", portieris: "matchExactReference", read: exact_reference },
    IdentityType { containers: "exactRepository", portieris: "matchExactRepository", read: exact_repository },
    IdentityType { containers: "remapIdentity", portieris: "remapIdentity", read: remapped },
];

/// `gpg: {keyring: …, signedIdentity: {type: …}, store: …}`.
pub(super) fn scheme(fields: &Fields<'_>, lookup: Lookup<'_>) -> Option<Scheme> {
    fields.only(&["keyring", "keyrings", "signedIdentity", "store"]);
    let (key, is_list) = one_of(fields, &[("keyring", false), ("keyrings", true)])?;
    let keyrings = if is_list {
        materials(fields, key, |one| pinned(one, material::key_ring, lookup))?
    } else {
        vec![pinned(&fields.map(key)?, material::key_ring, lookup)?]
    };
    let identity = identity(fields.map("signedIdentity"), Names::All)?;
    let store = match fields.get("store") {
        None => None,
        Some(node) if matches!(node.value, Value::Map(_)) => Some(store(&fields.map("store")?, lookup)?),
        Some(_) => Some(SignatureStore { base: store_url(fields, "store", false)?, credentials: None }),
    };
    Some(Scheme::Gpg(Box::new(SimpleSigner { keyrings, identity, store })))
}

/// `store: {url: …, insecure: true, username: …, password: {file: …}}`.
fn store(fields: &Fields<'_>, lookup: Lookup<'_>) -> Option<SignatureStore> {
    fields.only(&["url", "insecure", "username", "password"]);
    fields.needs("url")?;
    let base = store_url(fields, "url", fields.flag("insecure").unwrap_or(false))?;
    if fields.get("username").is_none() && fields.get("password").is_none() {
        return Some(SignatureStore { base, credentials: None });
    }
    let username = fields.required("username")?.to_owned();
    let password = one_material(&required_map(fields, "password")?, material::password, lookup)?;
    let credentials = Some(StoreCredentials { username, password });
    if !may_get_password(&base) {
        fields.error(format!("a password is sent only to an https store, and this one is {base}"));
        return None;
    }
    Some(SignatureStore { base, credentials })
}

/// Whether a password may be sent to a store: over TLS, or within this machine.
pub(in crate::policy::documents) fn may_get_password(base: &Url) -> bool {
    base.host_str().is_some_and(|host| may_get_credentials(base.scheme(), host))
}

/// The base URL of a store. Plain HTTP must be allowed explicitly: an attacker on the network can hide signatures
/// there.
fn store_url(fields: &Fields<'_>, key: &str, allows_http: bool) -> Option<Url> {
    let text = fields.text(key)?;
    match base_url(text) {
        Ok(url) if url.scheme() == "http" && !allows_http => {
            let hint = "use https, or write store: {url: …, insecure: true}";
            fields.error_hint(format!("the store {text:?} is not encrypted"), hint);
            None
        }
        Ok(url) => Some(url),
        Err(why) => {
            fields.error(format!("{key} {why}"));
            None
        }
    }
}

/// Parses the base URL of a store.
///
/// # Errors
/// What is wrong with it, as the end of a sentence. It does not quote the text, which may contain a password.
pub(in crate::policy::documents) fn base_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a URL; write https://HOST/PATH or file:///PATH")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("contains credentials, which belong in a secret");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a query or a fragment, because paths are appended to it");
    }
    match url.scheme() {
        "https" | "http" if url.has_host() => Ok(url),
        "file" if url.to_file_path().is_ok() => Ok(url),
        _ => Err("must be an https, http or file URL"),
    }
}

/// Which names of the types of `signedIdentity` are known.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(in crate::policy::documents) enum Names {
    /// Those of containers/image and those of Portieris.
    All,
    /// Those in the code of Portieris.
    Portieris,
}

/// `signedIdentity`. `None` after an error was reported. Only in Portieris may `type` be missing or empty
/// (`signedIdentity` is a structure there, and its zero value is the default); containers/image refuses that.
pub(in crate::policy::documents) fn identity(fields: Option<Fields<'_>>, names: Names) -> Option<SignedIdentity> {
    let Some(fields) = fields else { return Some(SignedIdentity::MatchRepoDigestOrExact) };
    let kind = match names {
        Names::All => fields.required("type")?,
        Names::Portieris => fields.text("type").unwrap_or_default(),
    };
    let is_known = |known: &&IdentityType| match names {
        Names::All => kind == known.containers || kind == known.portieris,
        Names::Portieris => kind == known.portieris,
    };
    let Some(known) = IDENTITIES.iter().find(is_known) else {
        unknown_identity(&fields, kind, names);
        return None;
    };
    fields.only(&["type", "dockerReference", "dockerRepository", "prefix", "signedPrefix"]);
    (known.read)(&fields)
}

fn exact_reference(fields: &Fields<'_>) -> Option<SignedIdentity> {
    let reference = image(fields, "dockerReference")?;
    if reference.tag.is_none() && reference.digest.is_none() {
        fields.error("dockerReference has neither a tag nor a digest");
        return None;
    }
    Some(SignedIdentity::ExactReference(reference))
}

fn exact_repository(fields: &Fields<'_>) -> Option<SignedIdentity> {
    let repository = image(fields, "dockerRepository")?;
    if repository.tag.is_some() || repository.digest.is_some() {
        fields.error("dockerRepository must not have a tag or a digest");
        return None;
    }
    Some(SignedIdentity::ExactRepository(repository.name))
}

fn remapped(fields: &Fields<'_>) -> Option<SignedIdentity> {
    let (prefix, signed_prefix) = (prefix(fields, "prefix"), prefix(fields, "signedPrefix"));
    prefix.zip(signed_prefix).map(|(prefix, signed_prefix)| SignedIdentity::Remap { prefix, signed_prefix })
}

fn unknown_identity(fields: &Fields<'_>, kind: &str, names: Names) {
    let portieris = IDENTITIES.iter().find(|known| known.containers == kind).map(|known| known.portieris);
    let hint = match portieris.filter(|_| names == Names::Portieris) {
        Some("") => "leave signedIdentity out: this is what happens without it".to_owned(),
        Some(portieris) => format!("Portieris' code calls it {portieris}"),
        None => {
            let known = IDENTITIES.iter().filter(|known| names == Names::All || !known.portieris.is_empty());
            let name = |known: &IdentityType| match names {
                Names::All => known.containers,
                Names::Portieris => known.portieris,
            };
            known.map(name).collect::<Vec<_>>().join(", ")
        }
    };
    fields.error_hint(format!("unknown type of signedIdentity {kind:?}"), hint);
}

fn image(fields: &Fields<'_>, key: &str) -> Option<ImageReference> {
    let text = fields.required(key)?;
    text.parse().map_err(|why| fields.error(format!("{key} {text:?}: {why}"))).ok()
}

/// A host, a namespace or a repository, with the host as [`Host`] writes it. Short names are not expanded, as in
/// containers/image.
fn prefix(fields: &Fields<'_>, key: &str) -> Option<String> {
    let text = fields.required(key)?;
    let (host, path) = text.split_once('/').map_or((text, None), |(host, path)| (host, Some(path)));
    let is_path = |path: &&str| path.parse::<crate::oci::Repository>().is_ok();
    match (host.parse::<Host>(), path) {
        (Ok(host), None) => Some(host.to_string()),
        (Ok(host), Some(path)) if is_path(&path) => Some(format!("{host}/{path}")),
        _ => {
            let hint = "write a host, a namespace or a repository in full: docker.io/library, registry.acme.com/team";
            fields.error_hint(format!("{key} {text:?} is not the beginning of a repository's name"), hint);
            None
        }
    }
}

#[cfg(test)]
mod tests;
