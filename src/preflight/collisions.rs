//! Files that the gate writes must not be files that it reads, nor its other files.

use std::path::{Component, Path, PathBuf};

use super::PreflightFindings;
use crate::runtime::Secret;
use crate::upstream::Auth;
use crate::va::{self, AdapterAuth, ScannerKind};

/// What pullgate writes in a state directory besides the audit file and the socket. Files below are its own, too.
const STATE_FILES: [&str; 9] = [
    "advisories",
    "blobs",
    "lock",
    "next.sock",
    "pullgate.db",
    "pullgate.db-journal",
    "pullgate.db-shm",
    "pullgate.db-wal",
    "scans",
];

pub(super) fn check(found: &mut PreflightFindings<'_>) {
    let config = found.config;
    let (audit, socket) = (resolved(&config.audit.file), resolved(&config.admin.socket));
    let state = resolved(&config.state_dir);
    let mut reserved = reserved(found);
    let taken = reserved.iter().find(|(_, other)| state.starts_with(other));
    let is_state_taken = taken.is_some();
    if let Some((what, _)) = taken {
        let message = format!("{}: this is {what}", state.display());
        found.error("state_dir", &message, Some("give it a directory of its own"));
    }
    let own = |name: &str| (format!("pullgate's own {name}"), resolved(&state.join(name)));
    reserved.extend(STATE_FILES.map(own));
    for (key, path) in [("audit.file", &audit), ("admin.socket", &socket)] {
        // Below a state directory in the wrong place, the directory is the mistake.
        let is_reported = is_state_taken && path.starts_with(&state);
        let taken = reserved.iter().find(|(_, other)| !is_reported && path.starts_with(other));
        if let Some((what, _)) = taken {
            let message = format!("{}: this is {what}", path.display());
            found.error(key, &message, Some("name a file that is used for nothing else"));
        }
    }
    if audit == socket {
        let message = format!("{}: this is also admin.socket", audit.display());
        found.error("audit.file", &message, Some("name a file that is used for nothing else"));
    }
}

/// The files and directories that the gate reads, with what they are.
fn reserved(found: &PreflightFindings<'_>) -> Vec<(String, PathBuf)> {
    let config = found.config;
    let mut all = vec![("the configuration".to_owned(), PathBuf::from(config.places.file()))];
    all.push(("in policy.dir".to_owned(), config.policy_dir.clone()));
    let mut named = |key: &str, path: Option<&PathBuf>| all.extend(path.map(|path| (key.to_owned(), path.clone())));
    for tls in config.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        named("the certificate of a listener", Some(&tls.certificate));
        named("the key of a listener", Some(&tls.key));
        named("the client_ca of a listener", tls.client_ca.as_ref());
    }
    named("admin.token_file", config.admin.token_file.as_ref());
    named("events.secret_file", config.events.secret_file.as_ref());
    named("events.token_file", config.events.token_file.as_ref());
    named("events.ca", config.events.ca.as_ref());
    named("tracing.ca", config.tracing.ca.as_ref());
    config.policy.ignore_files.iter().for_each(|file| named("in va.ignore_files", Some(&file.into())));
    evidence(&config.va, &mut named);
    config.va.reports.iter().for_each(|reports| named("in va.reports", Some(reports)));
    named("trust.notary_root", config.notary_root.as_ref());
    for root in &config.policy.trusted_roots {
        named("in trust.trusted_roots", Some(&root.into()));
    }
    for upstream in &config.upstreams {
        named("the CA of an upstream", upstream.ca.as_ref());
        if let Auth::Basic { password: Secret::File(file), .. }
        | Auth::Iam { api_key: Secret::File(file) }
        | Auth::DockerConfig { file } = &upstream.auth
        {
            named("the credentials of an upstream", Some(file));
        }
    }
    all.into_iter().map(|(what, path)| (what, resolved(&path))).collect()
}

/// The files of the sources of vulnerability evidence, besides their reports.
fn evidence(va: &va::Config, named: &mut impl FnMut(&str, Option<&PathBuf>)) {
    named("va.database.ca", va.databases.as_ref().and_then(|databases| databases.sources.ca.as_ref()));
    if let Some(ibm) = &va.ibm {
        named("va.ibm.ca", ibm.ca.as_ref());
        if let Secret::File(file) = &ibm.api_key {
            named("va.ibm.api_key_file", Some(file));
        }
    }
    for scanner in &va.scanners {
        let ScannerKind::Adapter(adapter) = &scanner.kind else { continue };
        named("the CA of a scanner", adapter.ca.as_ref());
        let registries = adapter.registries.values().map(|registry| &registry.auth);
        for auth in registries.chain([&adapter.auth]) {
            if let AdapterAuth::ApiKey(Secret::File(file))
            | AdapterAuth::Basic { password: Secret::File(file), .. }
            | AdapterAuth::Bearer(Secret::File(file)) = auth
            {
                named("the credentials of a scanner", Some(file));
            }
        }
    }
}

/// The path without links and `..`, as far as it exists.
pub(super) fn resolved(path: &Path) -> PathBuf {
    if let Ok(whole) = path.canonicalize() {
        return whole;
    }
    let mut plain = PathBuf::new();
    for component in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components() {
        match component {
            Component::ParentDir => _ = plain.pop(),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    let folder = plain.parent().and_then(|parent| parent.canonicalize().ok());
    match (folder, plain.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => plain,
    }
}
