//! `pullgate policy import`: a containers-policy.json(5), with its registries.d, as a document of this program.
//!
//! The document decides as containers/image does where both can express the same. Requirements that cannot be expressed
//! are denied and reported: an import never admits more than the policy did.

mod containers;
mod registries;
mod scope;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Value, json};
use url::Url;

use super::{EXIT_FAILURE, EXIT_OK, Streams};
use crate::policy;
use containers::{ContainersPolicy, ImportedRequirement};
use registries::{SignatureStores, default_store};
use scope::DockerScope;

/// The largest policy, in bytes.
const MAX_POLICY: u64 = 1024 * 1024;

/// `policy import FILE [--registries-d DIR]`: writes the document to `out`, and what differs to `err`. Exit codes: 0,
/// or 1 if a file cannot be read or is not valid.
///
/// # Errors
/// If the output cannot be written.
pub fn import(file: &Path, registries: Option<&Path>, streams: &mut Streams<'_>) -> io::Result<u8> {
    let read = || {
        let policy = read_policy(file).map_err(|why| format!("{}: {why}", file.display()))?;
        let stores = registries.map(SignatureStores::read).transpose()?.unwrap_or_default();
        let default = default_store(rustix::process::geteuid().is_root(), std::env::home_dir().as_deref());
        Ok::<_, String>(ImportedDocument::new(&policy, &stores, default.as_deref()))
    };
    match read() {
        Ok(document) => {
            document.notes.iter().try_for_each(|note| writeln!(streams.err, "note: {note}"))?;
            write!(streams.out, "{}", document.text)?;
            Ok(EXIT_OK)
        }
        Err(why) => {
            writeln!(streams.err, "pullgate: {why}")?;
            Ok(EXIT_FAILURE)
        }
    }
}

fn read_policy(file: &Path) -> Result<ContainersPolicy, String> {
    let mut bytes = Vec::new();
    let opened = File::open(file).and_then(|file| file.take(MAX_POLICY + 1).read_to_end(&mut bytes));
    opened.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_POLICY {
        return Err("is larger than 1 MiB".into());
    }
    ContainersPolicy::parse(&bytes)
}

/// A document of `pullgate.io/v1`.
struct ImportedDocument {
    text: String,
    notes: Vec<String>,
}

impl ImportedDocument {
    /// One entry for every scope of either file, because the requirements and the store of an image may come from
    /// different scopes. If no file names a store, `default` is used.
    fn new(policy: &ContainersPolicy, stores: &SignatureStores, default: Option<&str>) -> Self {
        let mut notes: BTreeSet<String> = policy.notes.iter().chain(&stores.notes).cloned().collect();
        let scopes: BTreeSet<&DockerScope> = policy.by_scope.keys().chain(stores.scopes()).collect();
        let mut authorities = AuthorityNames::default();
        let mut entries = String::new();
        for scope in scopes.into_iter().map(Some).chain([None]) {
            let name = scope.map_or("the default", DockerScope::as_str);
            let list = policy.of(scope);
            let named = stores.of(scope);
            let store = named.or(default).and_then(|url| store(url).map_err(|why| notes.insert(why)).ok());
            if let (None, Some(url), true) = (named, default, list.iter().any(ImportedRequirement::reads_store)) {
                notes.insert(format!(
                    "{name}: no lookaside is named, so signatures are read from {url}, the default of containers/image. \
                     The gate must be able to read this folder; create it if there is none"
                ));
            }
            let checks = match trust(list, store.as_ref(), &mut authorities) {
                Ok(None) => String::new(),
                Ok(Some(trust)) => format!(", policy: {{trust: {trust}}}"),
                Err(why) => {
                    notes.insert(format!("{name}: {why}. Images of this scope are denied"));
                    ", policy: {trust: reject}".into()
                }
            };
            let patterns = scope.map_or_else(|| vec!["*".to_owned()], DockerScope::patterns);
            let (patterns, others): (Vec<_>, Vec<_>) =
                patterns.into_iter().partition(|one| policy::can_be_an_image(one));
            if patterns.is_empty() && !others.is_empty() {
                notes.insert(format!("{name}: no image can have such a name, so the scope is omitted"));
            }
            for pattern in patterns {
                let _ = writeln!(entries, "  - {{name: {}{checks}}}", Value::from(pattern));
            }
        }
        Self {
            text: format!("{HEAD}{}  repositories:\n{entries}", authorities.text()),
            notes: notes.into_iter().collect(),
        }
    }
}

const HEAD: &str = "# Made by `pullgate policy import` from a containers-policy.json.
apiVersion: pullgate.io/v1
kind: ClusterImagePolicy
metadata: {name: containers-policy}
spec:
";

/// The names of the authorities by their schemes.
#[derive(Default)]
struct AuthorityNames(BTreeMap<String, String>);

impl AuthorityNames {
    fn name(&mut self, scheme: &Value) -> String {
        let kind = scheme.as_object().and_then(|scheme| scheme.keys().next()).map_or("signer", String::as_str);
        let name = format!("{kind}-{}", self.0.len() + 1);
        self.0.entry(scheme.to_string()).or_insert(name).clone()
    }

    fn text(&self) -> String {
        let mut lines: Vec<_> = self.0.iter().map(|(scheme, name)| (name, &scheme[1..])).collect();
        if lines.is_empty() {
            return String::new();
        }
        lines.sort_by_key(|(name, _)| (name.len(), (*name).clone()));
        let lines: String =
            lines.iter().map(|(name, scheme)| format!("  - {{\"name\": {}, {scheme}\n", json!(name))).collect();
        format!("  authorities:\n{lines}")
    }
}

/// What an entry requires as `trust`; `None` if it requires nothing.
///
/// # Errors
/// What cannot be expressed.
fn trust(
    list: &[ImportedRequirement],
    store: Option<&Value>,
    authorities: &mut AuthorityNames,
) -> Result<Option<String>, String> {
    if list.contains(&ImportedRequirement::Reject) {
        return Ok(Some("reject".into()));
    }
    let mut names = Vec::new();
    for requirement in list {
        match requirement {
            ImportedRequirement::Accept | ImportedRequirement::Reject => {}
            ImportedRequirement::Inexpressible(why) => return Err(why.clone()),
            ImportedRequirement::Authority(scheme) => {
                let mut scheme = scheme.clone();
                if let (Some(gpg), Some(store)) = (scheme.get_mut("gpg").and_then(Value::as_object_mut), store) {
                    gpg.insert("store".into(), store.clone());
                }
                let name = authorities.name(&scheme);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }
    Ok(match &*names {
        [] => None,
        [only] => Some(only.clone()),
        several => Some(format!("{{every: [{}]}}", several.join(", "))),
    })
}

/// A store of registries.d. An http URL is as explicit there as `insecure` is here.
///
/// # Errors
/// The URL cannot be used here.
fn store(text: &str) -> Result<Value, String> {
    let url = Url::parse(text).map_err(|_| format!("the store {text:?} is not a URL; it is ignored"))?;
    if !url.username().is_empty() || url.password().is_some() {
        let host = url.host_str().unwrap_or_default();
        return Err(format!(
            "the URL of the store at {host} contains credentials, which belong in a secret; it is ignored"
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("the store {text:?} has a query or a fragment; it is ignored"));
    }
    match url.scheme() {
        "http" => Ok(json!({"url": text, "insecure": true})),
        "https" | "file" => Ok(json!(text)),
        _ => Err(format!("the store {text:?} is not an https, http or file URL; it is ignored")),
    }
}

#[cfg(test)]
mod tests;
