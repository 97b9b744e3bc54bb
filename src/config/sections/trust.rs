//! `[trust]`: how long evidence holds, revocation, trusted roots, and the authorities of the configuration.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use crate::config::places::MAX_FOLDER;
use crate::config::read_bounded;
use crate::config::reader::{Reader, RootFiles, Table};
use crate::markup::{Node, Value};
use crate::policy::{Authority, Materials, NOTARY, NotaryRoot, NotaryTrust, Settings, TrustedRoot};
use crate::runtime::folder_names;
use crate::trust;

/// The limits of `max_attestation`, in bytes.
const ATTESTATIONS: RangeInclusive<usize> = 1 << 20..=256 << 20;

/// `[trust]`.
pub(super) struct TrustSections {
    pub(super) config: trust::Config,
    pub(super) revocation: trust::RevocationConfig,
    pub(super) policy: Settings,
    /// The authorities as they are written.
    pub(super) authorities: Vec<(String, Node)>,
    pub(super) notary_root: Option<PathBuf>,
}

/// The minimum time for which the answer of a notary server is used.
const MIN_REFRESH: SignedDuration = SignedDuration::from_secs(1);

/// What `[trust]` says about Docker Content Trust, and the file of the root.
fn notary(table: &mut Table<'_>) -> (NotaryTrust, Option<PathBuf>) {
    let file = table.file("notary_root");
    file.iter().for_each(|path| table.reader.add_part(path));
    let read = |path: &PathBuf| {
        let root = read_bounded(path).map_err(|error| error.to_string()).and_then(|bytes| NotaryRoot::read(&bytes));
        root.map_err(|why| format!("{}: {why}", path.display()))
    };
    let root = match file.as_ref().map(read) {
        Some(Ok(root)) => Some(root),
        Some(Err(why)) => {
            table.problem("notary_root", why, Some("it must be a root.json, or certificates or public keys in PEM"));
            None
        }
        None => None,
    };
    (
        NotaryTrust { root, first_use: Some(table.value("first_use").unwrap_or_default()), ..NotaryTrust::default() },
        file,
    )
}

/// The paths of the trusted roots of Sigstore. A root that cannot be used is a mistake: without it, nothing that needs
/// it is verified. They are read again with the policies.
fn trusted_roots(table: &mut Table<'_>) -> Vec<String> {
    let files: Vec<PathBuf> = table.files("trusted_roots").unwrap_or_default().into_iter().map(independent).collect();
    let names = files.iter().map(|path| path.display().to_string()).collect();
    for path in files.into_iter().filter(|_| table.reader.roots == RootFiles::Needed) {
        let name = path.display().to_string();
        let read = read_bounded(&path).map_err(|error| error.to_string());
        if let Err(why) = read.and_then(|bytes| TrustedRoot::from_json(&name, &bytes)) {
            let hint = "`pullgate trust update` writes such a file";
            table.problem("trusted_roots", format!("{name}: {why}"), Some(hint));
        }
    }
    names
}

pub(super) fn trust(mut table: Table<'_>) -> TrustSections {
    let default = trust::Config::default();
    let signed = |duration: Option<Duration>, default| {
        duration.map_or(default, |duration| SignedDuration::try_from(duration).unwrap_or(default))
    };
    let config = trust::Config {
        negative_ttl: signed(table.duration("negative_ttl"), default.negative_ttl),
        ttl: signed(table.duration("ttl"), default.ttl),
        notary_refresh: signed(table.duration("notary_refresh"), default.notary_refresh),
        max_attestation: max_attestation(&mut table, default.max_attestation),
    };
    if config.notary_refresh < MIN_REFRESH {
        table.problem("notary_refresh", "must be at least 1s, or every pull would ask the notary server", None);
    }
    let revocation = revocation(table.table("revocation"));
    let files = PolicyFiles { reader: table.reader };
    let (notary, notary_root) = notary(&mut table);
    let read = |(name, fields): (&str, _)| {
        let read = Authority::of_configuration(name, &fields, &files, &notary);
        read.or_else(|| Authority::with_mistake(name)).map(Arc::new)
    };
    let authorities: Vec<Arc<Authority>> = table.named_fields("authority").into_iter().filter_map(read).collect();
    let default_authorities = table.texts("default_authorities").unwrap_or_else(|| vec![NOTARY.into()]);
    for name in &default_authorities {
        if name != NOTARY && !authorities.iter().any(|authority| authority.name() == name) {
            let hint = format!("define [trust.authority.{name}]");
            table.problem("default_authorities", format!("no authority is called {name:?}"), Some(&hint));
        }
    }
    let trusted_roots = trusted_roots(&mut table);
    let written = table.tree("authority").map_or(&[][..], Node::members);
    let absolute = |node: &Node| absolute_files(node, &files.reader.folder);
    let written = written.iter().map(|member| (member.key.clone(), absolute(&member.node))).collect();
    table.finish();
    let policy = Settings { default_authorities, authorities, trusted_roots, notary, ..Settings::default() };
    TrustSections { config, revocation, policy, authorities: written, notary_root }
}

/// The largest attestation, in bytes.
fn max_attestation(table: &mut Table<'_>, default: usize) -> usize {
    let Some(size) = table.size("max_attestation") else { return default };
    match usize::try_from(size) {
        Ok(size) if ATTESTATIONS.contains(&size) => size,
        _ => {
            table.problem("max_attestation", "must be from 1MiB to 256MiB", None);
            default
        }
    }
}

fn revocation(mut table: Table<'_>) -> trust::RevocationConfig {
    let default = trust::RevocationConfig::default();
    let config = trust::RevocationConfig {
        online: table.flag("online").unwrap_or(default.online),
        private_hosts: table.texts("private_hosts").unwrap_or_default(),
        proxy: table.text("proxy"),
    };
    table.finish();
    config
}

/// The key files of authorities; relative paths begin at the directory of the configuration file.
struct PolicyFiles<'a> {
    reader: &'a Reader,
}

impl PolicyFiles<'_> {
    /// The path of a file or directory that an authority names.
    fn named(&self, what: &str, path: &str) -> PathBuf {
        let path = self.reader.folder.join(path);
        self.reader.reads(format!("a {what} of trust.authority"), path.clone());
        self.reader.add_part(&path);
        path
    }
}

impl Materials for PolicyFiles<'_> {
    fn file(&self, _: &str, path: &str) -> Result<Vec<u8>, String> {
        read_bounded(&self.named("file", path)).map_err(|error| error.to_string())
    }

    fn folder(&self, _: &str, path: &str) -> Result<Vec<OsString>, String> {
        folder_names(&self.named("folder", path), MAX_FOLDER).map_err(|error| error.to_string())
    }

    fn secret(&self, _: &str, _: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        None
    }

    fn secret_namespaces(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The path from the root: relative ones in documents begin at the directory of the policies, and that of the
/// configuration may be relative itself (`--config gate/pullgate.toml`).
pub(super) fn independent(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// An authority as it is written, with the paths of its key files made absolute.
fn absolute_files(node: &Node, folder: &Path) -> Node {
    let mut node = node.clone();
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| *item = absolute_files(item, folder)),
        Value::Map(members) => {
            for member in members {
                member.node = absolute_files(&member.node, folder);
                let is_path = ["file", "trustStore", "revocationLists"].contains(&&*member.key);
                if let (true, Value::Text(path)) = (is_path, &mut member.node.value) {
                    *path = independent(folder.join(&*path)).display().to_string();
                }
            }
        }
        _ => {}
    }
    node
}
